//! The clients of a load, by the engine of `drainline load`.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::super::load::engine::{self, LoadError};
use super::super::load::histogram::Histogram;
use super::super::load::plan::{Plan, Sizes};
use super::super::workload::{ClientPace, Crowd, Workload};

const LOOK: Duration = Duration::from_millis(20);
/// For a message that has begun when the time is over. A server that takes nothing does not hold up
/// the lab.
const FINISH: Duration = Duration::from_millis(100);
/// Between two bytes of a slow loris, and how long its connect may take.
const BETWEEN_BYTES: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_millis(100);

/// What the clients know.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// Whole messages that their kernels took.
    pub(super) messages: u64,
    /// Each time that one was held up: its socket was full, or the server had ended or refused its
    /// connection.
    pub(super) held_up: Histogram,
}

/// Runs all crowds from `start` on. Blocks until the last has gone, or `stop` is set.
///
/// # Errors
/// The system has no thread or no descriptor for them.
pub(super) fn run(
    address: SocketAddr,
    workload: &Workload,
    start: Instant,
    stop: &AtomicBool,
) -> io::Result<Sent> {
    let crowds = workload.crowds.iter().zip(workload.seed..);
    thread::scope(|scope| {
        let spawn = |(crowd, seed)| {
            let body = move || run_crowd(address, crowd, seed, start, stop);
            let thread = thread::Builder::new().name("crowd".to_owned());
            thread.spawn_scoped(scope, body)
        };
        let threads: Vec<_> = crowds.map(spawn).collect();
        let mut all = Sent::default();
        for thread in threads {
            let panicked = |_| Err(io::Error::other("a client's thread panicked"));
            let sent = thread?.join().unwrap_or_else(panicked)?;
            all.messages += sent.messages;
            all.held_up.merge(&sent.held_up);
        }
        Ok(all)
    })
}

fn run_crowd(
    address: SocketAddr,
    crowd: &Crowd,
    seed: u64,
    start: Instant,
    stop: &AtomicBool,
) -> io::Result<Sent> {
    while start.elapsed() < crowd.from && !stop.load(Relaxed) {
        thread::sleep(LOOK.min(crowd.from.saturating_sub(start.elapsed())));
    }
    let rate = match crowd.pace {
        ClientPace::Rate(rate) => Some(rate),
        ClientPace::Greedy => None,
        ClientPace::Drip => {
            run_slow_lorises(address, crowd.connections, start + crowd.until, stop);
            return Ok(Sent::default());
        }
    };
    let plan = Plan {
        duration: Some(crowd.until - crowd.from),
        rate,
        sizes: Sizes::new(crowd.size, crowd.size, seed),
        reconnect_after: crowd.reconnect,
        finish: FINISH,
        ..Plan::new(address, crowd.connections)
    };
    let mut counts = match engine::run(&plan, stop, |_| {}) {
        Ok(summary) => summary.counts,
        // A server that lets nobody in is a finding, not a failure.
        Err(LoadError::Unreachable(_)) => return Ok(Sent::default()),
        Err(LoadError::System(error)) => return Err(error),
    };
    counts.stall.merge(&counts.apart);
    Ok(Sent {
        messages: counts.messages,
        held_up: counts.stall,
    })
}

/// Keeps `connections` open until `until`, each sending a byte a second; one that is ended comes
/// back within that second.
fn run_slow_lorises(address: SocketAddr, connections: usize, until: Instant, stop: &AtomicBool) {
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    streams.resize_with(connections, || None);
    let mut due = Instant::now();
    let is_over = || stop.load(Relaxed) || Instant::now() >= until;
    while !is_over() {
        for stream in &mut streams {
            if is_over() {
                return;
            }
            if stream.is_none() {
                *stream = connect(address);
            }
            if stream.as_ref().is_some_and(|stream| !drip(stream)) {
                *stream = None;
            }
        }
        due += BETWEEN_BYTES;
        while Instant::now() < due && !is_over() {
            thread::sleep(LOOK);
        }
    }
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// `false`: the connection is over.
fn drip(mut stream: &TcpStream) -> bool {
    match stream.write_all(b"x") {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
