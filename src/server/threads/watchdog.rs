//! The watchdog: deadlines, the overload level, peers that are gone, and log lines about what is
//! stuck.
//!
//! Ten times a second the watchdog reads what all threads publish, asks the policy, and acts: it
//! shuts sockets down, pauses accepting and queues log lines. It blocks on nothing but its tick.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use rustix::process::{Resource, getrlimit};

use crate::policy::{
    Activity, Breach, Change, Coalesce, Crowding, Eviction, Finding, Lateness, Observation,
    Overload, OverloadLevel, OverloadSettings, Sample, Watch,
};
use crate::server::config::{FirstByteTimeout, TICK};
use crate::server::ledger::{DropReason, EndReason, NotAcceptingReason, Spans, counted};
use crate::server::report::{ConnectionInfo, NotAccepting};
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::consumer_state::ConsumerState;
use crate::server::state::lifecycle::DrainStep;
use crate::server::state::listener_state::ListenerState;
use crate::server::state::quota::Counts;
use crate::server::state::table::starting::MAX_STARTING;
use crate::server::state::{OverloadSnapshot, Shared};

/// How often the watchdog asks the kernel whether the peers of waiting senders are gone, in ticks.
const GONE_EVERY: u32 = 10;

pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    overload: Overload,
    coalesce: Option<Coalesce>,
    crowding: Crowding,
    evictions: Evictions,
    lateness: Lateness,
    ticks: u32,
    consumer: ConsumerWatch,
    /// Of the threads that work for the consumer, in their order.
    assistants: Vec<ConsumerWatch>,
    /// Since certificates were looked at.
    since_certificates: Duration,
}

/// Which silent connections give way where `first_byte_timeout` is auto: to whom the common
/// `max_connections` keeps out, and at each listener to whom its own does.
struct Evictions {
    common: Eviction,
    /// By the index of the listener.
    own: Vec<Eviction>,
}

impl Evictions {
    fn begin_tick(&mut self, shared: &Shared) {
        let is_kept_out = shared.accepting.is_at_max_connections();
        let leaving = match is_kept_out {
            true => shared.table.leaving_threads(),
            false => 0,
        };
        self.common.begin_tick(is_kept_out, leaving);
        for (index, own) in self.own.iter_mut().enumerate() {
            let is_kept_out = shared.accepting.is_at_own_max_connections(index);
            let leaving = match is_kept_out {
                true => shared.table.leaving_connections(index),
                false => 0,
            };
            own.begin_tick(is_kept_out, leaving);
        }
    }

    /// As [`Eviction::judge`], for a connection of one listener.
    fn judge(
        &mut self,
        (index, listener): (usize, &ListenerState),
        finding: Finding,
        watch: &Watch,
        now: &Sample,
    ) -> Finding {
        if listener.first_byte_timeout != FirstByteTimeout::Auto {
            return finding;
        }
        let finding = self.own[index].judge(finding, watch, now);
        self.common.judge(finding, watch, now)
    }
}

/// How long the consumer has been in its own code without finishing anything: the consumer's
/// counterpart to [`Watch`].
#[derive(Default)]
struct ConsumerWatch {
    turns: u64,
    finished: u64,
    busy_for: Duration,
    warned: bool,
}

impl ConsumerWatch {
    fn step(&mut self, shared: &Shared, state: &ConsumerState, finished: u64, elapsed: Duration) {
        let (is_working, turns) = state.sample();
        if !is_working || turns != self.turns || finished != self.finished {
            *self = ConsumerWatch {
                turns,
                finished,
                ..ConsumerWatch::default()
            };
            return;
        }
        self.busy_for += elapsed.min(TICK * 2);
        if self.busy_for >= shared.config.warn_after && !self.warned {
            self.warned = true;
            let counts = shared.quota.counts();
            let (name, busy_for) = (state.name(), self.busy_for.as_secs_f64());
            shared.logger.log(
                Level::Warn,
                format!(
                    "{name} has finished nothing for {busy_for:.1} s: {} in flight, {} waiting",
                    counted(counts.in_flight, "message"),
                    counted(counts.waiting as u64, "sender")
                ),
            );
        }
    }
}

impl Watchdog {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let settings = OverloadSettings {
            tick: TICK,
            pause_after: config.effective_pause_after(),
        };
        let overload = Overload::new(settings, shared.now());
        let coalesce = config
            .max_read_delay
            .map(|delay| Coalesce::new(delay, config.busy_reads as f64));
        let crowding = Crowding::new(shared.busy_polling.max_lookers());
        let evictions = Evictions {
            common: Eviction::default(),
            own: vec![Eviction::default(); shared.listeners.len()],
        };
        Watchdog {
            shared,
            overload,
            coalesce,
            crowding,
            evictions,
            lateness: Lateness::default(),
            ticks: 0,
            consumer: ConsumerWatch::default(),
            assistants: Vec::new(),
            since_certificates: Duration::ZERO,
        }
    }

    /// The body of the watchdog's thread; `is_over` is checked once a tick and after an unpark.
    pub(crate) fn run(mut self, is_over: impl Fn() -> bool) {
        let mut last = Instant::now();
        while !is_over() {
            std::thread::park_timeout(TICK);
            let now = Instant::now();
            let elapsed = now.duration_since(last);
            if elapsed >= TICK {
                last = now;
                self.tick(elapsed);
            }
        }
    }

    fn tick(&mut self, elapsed: Duration) {
        self.ticks = self.ticks.wrapping_add(1);
        self.shared.quota.tick();
        self.shared.tick_time.tick();
        self.shared.admission.end_tick();
        let longest_wait = self.watch_connections(elapsed);
        self.watch_consumer(elapsed);
        self.log_first_nack();
        self.log_old_certificates(elapsed);
        self.step_overload(longest_wait);
        match self
            .shared
            .lifecycle
            .due_step(|| self.shared.table.has_no_connections())
        {
            DrainStep::None => {}
            DrainStep::EndLeaves => self.shared.end_leaves(),
            DrainStep::DisconnectHandlers => self.shared.disconnect_handlers(),
            DrainStep::CloseReceiver => self.shared.time_out_consumer(),
        }
        // Last: it says that the tick has had every lock that it needs.
        self.shared.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Once a day.
    fn log_old_certificates(&mut self, elapsed: Duration) {
        const DAY: Duration = Duration::from_secs(86_400);
        self.since_certificates += elapsed;
        if self.since_certificates < DAY {
            return;
        }
        self.since_certificates = Duration::ZERO;
        let listeners = self.shared.listeners.iter();
        for tls in listeners.filter_map(|listener| listener.tls.as_ref()) {
            if let Some(note) = tls.note(SystemTime::now()) {
                self.shared.logger.log(Level::Warn, note);
            }
        }
    }

    /// Logged once, because an embedder's consumer that forgets to acknowledge would otherwise only
    /// show in the ledger.
    fn log_first_nack(&self) {
        let shared = &self.shared;
        if shared.lifecycle.error().is_none() && shared.quota.is_first_nack() {
            shared.logger.log(
                Level::Warn,
                "the consumer dropped a delivery without an ack: it is counted as dropped (sink_failed)",
            );
        }
    }

    fn watch_connections(&mut self, elapsed: Duration) -> Duration {
        let shared = &self.shared;
        let looks_for_gone =
            self.ticks.is_multiple_of(GONE_EVERY) && !shared.lifecycle.is_stopping();
        let mut longest = Duration::ZERO;
        let may_pass = self.lateness.may_pass(elapsed);
        self.evictions.begin_tick(shared);
        let visit = |state: &Arc<ConnectionState>, sample: Sample, watch: &Watch, finding| {
            longest = longest.max(watch.waiting());
            self.crowding.step(state.take_new_reads(), elapsed);
            let looks = match sample.activity {
                Activity::Sending => looks_for_gone,
                // Its rate limit slows down nobody any more.
                Activity::Pausing => !shared.lifecycle.is_stopping(),
                _ => false,
            };
            if looks && !state.peer_gone() && state.poll_peer_gone() {
                state.set_peer_gone();
                state.unpark();
            }
            let index = state.listener.index();
            let listener = (index, &shared.listeners[index]);
            let finding = match may_pass {
                true => self.evictions.judge(listener, finding, watch, &sample),
                false => finding,
            };
            match finding {
                Finding::DeadlinePassed(breach) if may_pass => {
                    expire(shared, state, sample, breach);
                }
                Finding::Fine | Finding::DeadlinePassed(_) => {}
                Finding::Stuck => log_stuck(shared, state, sample, watch),
            }
        };
        let log_unjoined = |ended: &ConnectionInfo| {
            shared.logger.log_limited("not joined", Level::Warn, || {
                format!("the thread of connection {ended} has not ended; until it does, no other thread can be joined")
            });
        };
        shared.table.watch(
            elapsed,
            &shared.listeners,
            shared.config.warn_after,
            self.coalesce.as_mut(),
            visit,
            log_unjoined,
        );
        let is_crowded = self.crowding.end_tick();
        shared.busy_polling.set_crowded(is_crowded);
        longest
    }

    fn watch_consumer(&mut self, elapsed: Duration) {
        let shared = &self.shared;
        let finished = finished(&shared.quota.counts());
        self.consumer
            .step(shared, &shared.consumer, finished, elapsed);
        let assistants = shared.consumer.assistants();
        self.assistants
            .resize_with(assistants.len(), ConsumerWatch::default);
        for (watch, state) in self.assistants.iter_mut().zip(assistants) {
            watch.step(shared, &state, state.finished_by_assistant(), elapsed);
            state.set_busy_for(watch.busy_for);
        }
    }

    fn step_overload(&mut self, longest_wait: Duration) {
        let counts = self.shared.quota.counts();
        let seen = Observation {
            longest_wait,
            lost: counts.lost_to_full,
            finished: finished(&counts),
            empty: counts.used.messages == 0,
        };
        let change = self.overload.step(self.shared.now(), seen);
        // Before the snapshot: whoever reads there that the server is paused can rely on it.
        let is_paused = self.overload.is_paused();
        self.shared.admission.set_paused(is_paused);
        if is_paused != self.shared.snapshot.lock().is_paused {
            self.shared.logger.log_debug(|| {
                let what = if is_paused { "begins" } else { "ends" };
                let waiting = counted(counts.waiting as u64, "sender");
                let in_flight = counted(counts.in_flight, "message");
                let seconds = longest_wait.as_secs_f64();
                format!(
                    "a pause {what}: {waiting} waiting, the longest for {seconds:.1} s, {in_flight} in flight"
                )
            });
        }
        let now = self.shared.now();
        self.shared
            .accepting
            .step(now, is_paused, |listener, state| match listener {
                None => log_not_accepting(&self.shared, state),
                Some(index) => log_own_limit(&self.shared, index, state),
            });
        *self.shared.snapshot.lock() = OverloadSnapshot {
            level: self.overload.level(),
            is_paused: self.overload.is_paused(),
            seconds: Spans::of(&self.overload.overload_seconds()),
            longest_wait,
            consumer_busy_for: self.consumer.busy_for,
        };
        if let Some(change) = change {
            log_change(&self.shared, change, self.overload.is_paused());
        }
    }
}

/// Messages that the consumer has acknowledged, refused or dropped.
fn finished(counts: &Counts) -> u64 {
    let dropped = |reason| counts.dropped.get(reason);
    counts.delivered + dropped(DropReason::SinkFailed) + dropped(DropReason::Refused)
}

/// Ends a connection that missed a deadline. Its handler's thread logs that, with what the handler
/// knows about what was read.
fn expire(shared: &Shared, state: &ConnectionState, sample: Sample, breach: Breach) {
    let reason = match breach {
        Breach::Frame => EndReason::FrameTimeout,
        Breach::Idle => EndReason::IdleTimeout,
        Breach::FirstByte => EndReason::FirstByteTimeout,
        Breach::Write => EndReason::WriteTimeout,
        Breach::Handshake => EndReason::HandshakeTimeout,
    };
    if !shared.quota.expire(state, reason, breach, &sample) {
        return;
    }
    match reason {
        EndReason::IdleTimeout => state.stop_reading(),
        _ => state.disconnect(),
    }
}

fn log_stuck(shared: &Shared, state: &ConnectionState, sample: Sample, watch: &Watch) {
    let gone = if state.peer_gone() {
        ", and its peer is gone"
    } else {
        ""
    };
    let waited = watch.in_activity().as_secs_f64();
    let (key, what) = match sample.activity {
        Activity::Sending => ("sender waiting", "has waited for the buffer"),
        Activity::Asking => ("request unanswered", "has waited for the consumer's answer"),
        Activity::Starting => ("no thread yet", "has waited for its thread"),
        _ => ("handler stuck", "has been in its handler's code"),
    };
    shared.logger.log_limited(key, Level::Warn, || {
        format!(
            "{} {what} for {waited:.1} s{gone} ({} read)",
            state.label(),
            counted(sample.bytes, "byte")
        )
    });
}

/// Logs why the server is not accepting, with the limit and its value.
fn log_not_accepting(shared: &Shared, state: NotAccepting) {
    let config = &shared.config;
    let why = match state.reason {
        NotAcceptingReason::Paused => {
            let limit = config.effective_pause_after().unwrap_or_default();
            format!("a sender has waited pause_after ({limit:?}) for the buffer")
        }
        NotAcceptingReason::MaxConnections => {
            let limit = shared.limits.max_connections;
            let busiest = busiest(shared, None);
            format!("max_connections ({limit}) reached{busiest}")
        }
        NotAcceptingReason::NoDescriptor => {
            let limit = getrlimit(Resource::Nofile).current;
            let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
            let open = shared.table.counts().connections.open;
            let error = shared.accepting.error();
            let open = counted(open, "connection");
            format!("{error}; RLIMIT_NOFILE (ulimit -n) is {limit}, {open} open")
        }
        _ => {
            let threads = shared.table.counts().unjoined;
            let error = shared.accepting.error();
            let threads = counted(threads as u64, "thread");
            format!("{error}; {threads} of connections running")
        }
    };
    let new_clients = shared.accepting.new_clients(None);
    // A client is accepted before the system is asked for its thread.
    let but = match (state.reason, shared.table.counts().connections.starting) {
        (NotAcceptingReason::NoThread, starting @ 1..) => {
            let clients = counted(starting, "accepted client");
            format!("; waiting for a thread, at most {MAX_STARTING:?}: {clients}")
        }
        _ => String::new(),
    };
    shared.logger.log(
        Level::Warn,
        format!(
            "not accepting ({}) for {:.1} s: {why}; new clients {new_clients}{but}",
            state.reason,
            state.lasted.as_secs_f64()
        ),
    );
}

/// Logs that a listener has reached its own limit.
fn log_own_limit(shared: &Shared, index: usize, state: NotAccepting) {
    let listener = &shared.listeners[index];
    let (reason, name) = (state.reason, listener.name.name());
    let limit = listener.max_connections.unwrap_or_default();
    let busiest = busiest(shared, Some(index));
    let new_clients = shared.accepting.new_clients(Some(index));
    shared.logger.log(
        Level::Warn,
        format!(
            "listener {name} is not accepting ({reason}) for {:.1} s: its max_connections ({limit}) reached{busiest}; \
             new clients there {new_clients}",
            state.lasted.as_secs_f64()
        ),
    );
}

/// For a text: which address has the most connections, of one listener or in all.
fn busiest(shared: &Shared, listener: Option<usize>) -> String {
    let busiest = shared.table.busiest(listener).map(|(address, count)| {
        format!(
            "; {address} has {count} of them, which max_connections_per_ip \
             (--max-connections-per-ip) can limit"
        )
    });
    busiest.unwrap_or_default()
}

/// Logs a change of the overload level, with how long the level before it lasted and what was lost.
fn log_change(shared: &Shared, change: Change, is_paused: bool) {
    let level = if change.to == OverloadLevel::Normal {
        Level::Info
    } else {
        Level::Warn
    };
    let paused = if is_paused {
        "; not accepting (paused)"
    } else {
        ""
    };
    shared.logger.log_limited(change.to.name(), level, || {
        format!(
            "overload: {} -> {} after {:.1} s; longest wait {:.1} s, {} lost meanwhile{paused}",
            change.from.name(),
            change.to.name(),
            change.lasted.as_secs_f64(),
            change.longest_wait.as_secs_f64(),
            change.lost
        )
    });
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::server::{Listener, Server, Tls};

    static LINES: parking_lot::Mutex<Vec<String>> = parking_lot::Mutex::new(Vec::new());

    struct Collect;

    impl log::Log for Collect {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}", record.level(), record.args());
            LINES.lock().push(line);
        }

        fn flush(&self) {}
    }

    #[test]
    fn the_end_of_a_certificate_is_told_at_start_and_once_a_day() {
        log::set_logger(&Collect).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let tls = Tls::from_files(&cert, &key).unwrap();
        let listener = Listener::on(([127, 0, 0, 1], 0).into()).tls(tls);
        let server = Server::builder()
            .listener(listener)
            .serve(|_| Ok(()))
            .unwrap();

        let mut watchdog = Watchdog::new(Arc::clone(&server.shared));
        let day = Duration::from_secs(86_400);
        for told in 1..4 {
            watchdog.tick(day - Duration::from_secs(1));
            // One line at start, and one for each day before. Others come behind it in the queue.
            let marker = format!("day {told} of {}", cert.display());
            server.logger().log(Level::Warn, &*marker);
            let begun = Instant::now();
            while !LINES.lock().iter().any(|line| line.ends_with(&marker)) {
                assert!(begun.elapsed() < Duration::from_secs(60));
                std::thread::sleep(Duration::from_millis(1));
            }
            let begins = format!("WARN TLS certificate {} expired ", cert.display());
            let lines = LINES.lock();
            let found = lines.iter().filter(|line| line.starts_with(&begins));
            assert_eq!(found.count(), told, "{lines:?}");
            drop(lines);
            watchdog.tick(Duration::from_secs(1));
        }
    }
}
