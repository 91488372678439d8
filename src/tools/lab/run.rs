//! One strategy under the load: a server, its clients, its sink, and somebody who watches.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use drainline::policy::OverloadLevel;

use crate::cli::settings::{self, Parsed};

use super::super::workload::Workload;
use super::child;
use super::clients::{self, Sent};
use super::limits::Ceiling;
use super::metrics::{self, Seen};
use super::outcome::{Outcome, Point};
use super::process::Process;
use super::sentence;
use super::sink::{self, Taken};
use super::strategy::Strategy;

const START: Duration = Duration::from_secs(10);
/// A drain of a server that cannot deliver ends after this.
const DRAIN: &str = "1s";
const END: Duration = Duration::from_secs(5);
/// What it is given at least when the load is over, with a sink that now takes all there is: until
/// nothing is in it and its threads are gone.
const MIN_SETTLE: Duration = Duration::from_secs(2);

/// So many looks in a row find nothing left to do.
const CALM_LOOKS: usize = 5;

/// Runs it. `watch` is called about twenty times a second. Blocks for the load's duration and the
/// time it takes to settle; `stop` ends it early, and nothing of it is left running.
///
/// # Errors
/// The server did not start, or the system gives no thread or process.
pub(super) fn run(
    strategy: &Strategy,
    workload: &Workload,
    ceiling: &Ceiling,
    stop: &AtomicBool,
    mut watch: impl FnMut(&Point),
) -> io::Result<Outcome> {
    let flags = strategy.flags(workload);
    let (mut server, stdout) = Process::start(&arguments(strategy, flags.as_deref()))?;
    let port = server.port(START)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let before = server.at_rest(START);
    let (taken, clients_stop) = (Taken::default(), AtomicBool::new(false));
    let mut seen = Seen {
        threads_before: before.threads,
        ..Seen::default()
    };
    let whole = shortest_whole(workload, flags.as_deref());
    let start = Instant::now();
    thread::scope(|scope| {
        let (taken, clients_stop, duration) = (&taken, &clients_stop, workload.duration);
        let sink = move || sink::take(stdout, &workload.sink, (start, duration), whole, taken);
        let send = move || clients::run(address, workload, start, clients_stop);
        let name = |name: &str| thread::Builder::new().name(name.to_owned());
        let sink = name("sink").spawn_scoped(scope, sink);
        let clients = name("clients").spawn_scoped(scope, send);
        let outcome = match (sink, clients) {
            (Ok(_), Ok(clients)) => {
                let is_over = || stop.load(Relaxed) || clients.is_finished();
                observe(
                    &server,
                    workload,
                    (start, taken),
                    ceiling,
                    &mut seen,
                    is_over,
                    &mut watch,
                );
                clients_stop.store(true, Relaxed);
                let sent = clients
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the clients' thread panicked")));
                taken.hurry();
                if seen.stopped_at.is_none() && !stop.load(Relaxed) {
                    settle(
                        &server,
                        workload,
                        (start, taken),
                        &mut seen,
                        stop,
                        &mut watch,
                    );
                }
                sent
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        clients_stop.store(true, Relaxed);
        seen.threads_after = server.usage().unwrap_or_default().threads;
        if let Some(how) = server.ending()? {
            (seen.died, seen.threads_after) = (Some(how), 0);
        }
        end(&mut server, flags.is_some(), taken)?;
        outcome
    })
    .map(|sent: Sent| {
        seen.ledger = server.ledger();
        seen.delivered = taken.messages();
        seen.has_ledger = flags.is_some();
        let metrics = metrics::metrics(workload, &seen, &sent);
        Outcome {
            strategy: strategy.name().to_owned(),
            sentence: sentence::sentence(strategy, workload, &metrics),
            flags,
            simulated: None,
            timeline: seen.timeline,
            metrics,
        }
    })
}

/// The shortest message that is one: a server may truncate them.
fn shortest_whole(workload: &Workload, flags: Option<&[String]>) -> usize {
    let shortest = workload.crowds.iter().map(|crowd| crowd.size).min();
    let longest = match flags.map(|flags| settings::parse(server_arguments(flags))) {
        Some(Ok(Parsed::Run(settings))) => settings.max_message,
        _ => usize::MAX,
    };
    shortest.unwrap_or(0).min(longest)
}

fn arguments(strategy: &Strategy, flags: Option<&[String]>) -> Vec<OsString> {
    match flags {
        None => vec![strategy.name().into()],
        Some(flags) => server_arguments(flags),
    }
}

/// The flags that the lab sets: it has to know where the server listens, and to read what it
/// delivers and says.
pub(super) const OWN_FLAGS: [(&str, &str); 5] = [
    ("--listen", "127.0.0.1:0"),
    ("--sink", "stdout"),
    ("--report", "json"),
    ("--log-level", "warn"),
    ("--drain-timeout", DRAIN),
];

/// What the program is started with: what the lab needs, and `flags`.
pub(super) fn server_arguments(flags: &[String]) -> Vec<OsString> {
    let own = OWN_FLAGS.iter().flat_map(|(flag, value)| [*flag, *value]);
    let words = ["server"].into_iter().chain(own).map(OsString::from);
    words.chain(flags.iter().map(OsString::from)).collect()
}

/// Looks until the clients have gone or a ceiling is reached.
fn observe(
    server: &Process,
    workload: &Workload,
    (start, taken): (Instant, &Taken),
    ceiling: &Ceiling,
    seen: &mut Seen,
    is_over: impl Fn() -> bool,
    watch: &mut impl FnMut(&Point),
) {
    while !is_over() && start.elapsed() < workload.duration + END {
        let Some(point) = look(server, (start, taken), seen) else {
            return;
        };
        watch(&point);
        if let Some(reached) = ceiling.reached(&point) {
            seen.stopped_at = Some(reached);
            return;
        }
        thread::sleep(child::EVERY);
    }
}

/// For how long a server may go on when the load is over.
pub(super) fn settle_time(workload: &Workload) -> Duration {
    MIN_SETTLE.max(workload.duration / 2)
}

/// Looks until nothing of the load is left in the server, or there is no more time.
fn settle(
    server: &Process,
    workload: &Workload,
    (start, taken): (Instant, &Taken),
    seen: &mut Seen,
    stop: &AtomicBool,
    watch: &mut impl FnMut(&Point),
) {
    let end = Instant::now() + settle_time(workload);
    let mut calm = 0;
    while Instant::now() < end && !stop.load(Relaxed) {
        let Some(point) = look(server, (start, taken), seen) else {
            return;
        };
        watch(&point);
        let is_open = point
            .level
            .is_none_or(|level| level == OverloadLevel::Normal);
        let is_calm = is_open && point.buffered == 0 && point.threads <= seen.threads_before;
        // A server that has just begun to accept again has clients waiting.
        calm = if is_calm { calm + 1 } else { 0 };
        if calm == CALM_LOOKS {
            return;
        }
        thread::sleep(child::EVERY);
    }
}

/// Keeps how things stand. `None`: the server has ended.
fn look(server: &Process, (start, taken): (Instant, &Taken), seen: &mut Seen) -> Option<Point> {
    let usage = server.usage()?;
    let inside = server.sample();
    let point = Point {
        at: start.elapsed(),
        threads: usage.threads,
        memory_bytes: usage.memory_bytes,
        descriptors: usage.descriptors,
        buffered: inside.buffered,
        longest_wait: inside.longest_wait,
        delivered: taken.messages(),
        lost: inside.lost,
        rejected: inside.rejected,
        level: inside.level,
    };
    seen.peak_memory_bytes = seen.peak_memory_bytes.max(usage.peak_memory_bytes);
    seen.timeline.push(point);
    Some(point)
}

/// Ends the server: ours in good order, the others as people end them.
fn end(server: &mut Process, is_ours: bool, taken: &Taken) -> io::Result<()> {
    let within = if is_ours {
        server.ask_to_end();
        END
    } else {
        Duration::ZERO
    };
    let ended = server.end(within);
    taken.end();
    ended.map(drop)
}
