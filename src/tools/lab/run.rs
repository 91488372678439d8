//! One strategy under the load: a server, its clients, its sink, and somebody who watches.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use drainline::policy::OverloadLevel;

use crate::cli::command::Parsed;
use crate::cli::settings;

use super::super::workload::Workload;
use super::child;
use super::clients;
use super::limits;
use super::metrics;
use super::outcome::{self, Metrics, Outcome, Point};
use super::process::Process;
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

/// One run: the server, who watches it, and what was seen so far.
struct Run<'a> {
    server: Process,
    /// Whether the server is this program, not one that the lab alone has.
    is_ours: bool,
    workload: &'a Workload,
    taken: &'a Taken,
    start: Instant,
    stop: &'a AtomicBool,
    watch: &'a mut dyn FnMut(&Point),
    timeline: Vec<Point>,
    metrics: Metrics,
}

/// Puts the workload to a strategy's server. `watch` is called about twenty times a second. Blocks
/// for the load's duration and the time that the server takes to settle; `stop` ends the run early,
/// and leaves nothing running.
///
/// # Errors
/// The server did not start, or the system gives no thread or process.
pub(super) fn run(
    strategy: &Strategy,
    workload: &Workload,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&Point),
) -> io::Result<Outcome> {
    let flags = strategy.flags(workload);
    let (mut server, stdout) = Process::start(&arguments(strategy, flags.as_deref()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port(START)?));
    let threads_before = server.threads_at_rest(START);
    let (taken, clients_stop) = (Taken::default(), AtomicBool::new(false));
    let whole = shortest_whole(workload, flags.as_deref());
    let start = Instant::now();
    let mut run = Run {
        server,
        is_ours: flags.is_some(),
        workload,
        taken: &taken,
        start,
        stop,
        watch,
        timeline: Vec::new(),
        metrics: Metrics {
            threads_before,
            peak_threads: threads_before,
            ..Metrics::default()
        },
    };
    let sent = thread::scope(|scope| {
        let (taken, clients_stop) = (&taken, &clients_stop);
        let take = move || sink::take(stdout, workload, start, whole, taken);
        let send = move || clients::run(address, workload, start, clients_stop);
        let name = |name: &str| thread::Builder::new().name(name.to_owned());
        let sink = name("sink").spawn_scoped(scope, take);
        let clients = name("clients").spawn_scoped(scope, send);
        let sent = match (sink, clients) {
            (Ok(_), Ok(clients)) => {
                run.observe(|| clients.is_finished());
                clients_stop.store(true, Relaxed);
                let panicked = |_| Err(io::Error::other("the clients' thread panicked"));
                let sent = clients.join().unwrap_or_else(panicked);
                taken.hurry();
                run.settle();
                sent
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        clients_stop.store(true, Relaxed);
        run.end()?;
        sent
    })?;
    let metrics = Metrics {
        sent: sent.messages,
        held_up_p99: sent.held_up.quantile(0.99),
        recovery: metrics::recovery(workload, &run.timeline),
        ..run.metrics
    };
    Ok(Outcome {
        strategy: strategy.name().to_owned(),
        sentence: outcome::sentence(strategy, workload, &metrics),
        flags,
        simulated: None,
        timeline: run.timeline,
        metrics,
    })
}

impl Run<'_> {
    /// Looks until the clients have gone or a ceiling is reached.
    fn observe(&mut self, is_over: impl Fn() -> bool) {
        let end = self.start + self.workload.duration + END;
        while !is_over() && !self.is_stopped() && Instant::now() < end {
            let Some(point) = self.look() else { return };
            if let Some(reached) = limits::ceiling_reached(&point) {
                self.metrics.stopped_at = Some(reached);
                return;
            }
            thread::sleep(child::EVERY);
        }
    }

    /// Looks until nothing of the load is left in the server, or there is no more time.
    fn settle(&mut self) {
        let end = Instant::now() + settle_time(self.workload);
        let mut calm = 0;
        while self.metrics.stopped_at.is_none() && !self.is_stopped() && Instant::now() < end {
            let Some(point) = self.look() else { return };
            let level = point.level.unwrap_or(OverloadLevel::Normal);
            let threads_left = point.threads > self.metrics.threads_before;
            // A server that has just begun to accept again has clients waiting.
            calm = match level == OverloadLevel::Normal && point.buffered == 0 && !threads_left {
                true => calm + 1,
                false => 0,
            };
            if calm == CALM_LOOKS {
                return;
            }
            thread::sleep(child::EVERY);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Keeps how things stand. `None`: the server has ended.
    fn look(&mut self) -> Option<Point> {
        let point = Point {
            at: self.start.elapsed(),
            delivered: self.taken.messages(),
            ..self.server.look()?
        };
        let peak_memory_bytes = self.server.peak_memory_bytes();
        let metrics = &mut self.metrics;
        metrics.peak_threads = metrics.peak_threads.max(point.threads);
        metrics.peak_memory_bytes = metrics.peak_memory_bytes.max(peak_memory_bytes);
        metrics.peak_descriptors = metrics.peak_descriptors.max(point.descriptors);
        metrics.peak_buffered = metrics.peak_buffered.max(point.buffered);
        self.timeline.push(point);
        (self.watch)(&point);
        Some(point)
    }

    /// Ends the server: this program in good order, the others as people end them.
    fn end(&mut self) -> io::Result<()> {
        self.metrics.threads_after = self.server.look().unwrap_or_default().threads;
        if let Some(how) = self.server.ending()? {
            (self.metrics.died, self.metrics.threads_after) = (Some(how), 0);
        }
        let mut within = Duration::ZERO;
        if self.is_ours {
            self.server.ask_to_end();
            within = END;
        }
        let ended = self.server.end(within);
        self.taken.end();
        self.metrics.delivered = self.taken.messages();
        if self.is_ours {
            metrics::keep_ledger(&mut self.metrics, self.server.ledger());
        }
        ended.map(drop)
    }
}

/// For how long a server may go on when the load is over.
pub(super) fn settle_time(workload: &Workload) -> Duration {
    MIN_SETTLE.max(workload.duration / 2)
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
