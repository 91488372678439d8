//! Whether the server accepts new clients, why not, and the seconds spent in each reason.
//!
//! Acceptors publish why they keep a client out; the watchdog looks once a tick. So a client that
//! waits for less than a tick is not reported, and a server that is always at its limit needs no
//! clock and no lock for each client.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::server::ledger::{NotAcceptingReason, Reason, RejectReason, Spans};
use crate::server::report::NotAccepting;

/// Clients that are kept out no further apart than this belong to one period of not accepting,
/// whose start is reported with it.
const CALM: Duration = Duration::from_secs(1);
/// At most one log line per reason in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Which reason is reported where several hold: first what the system lacks, then what the sink
/// holds up, then what was configured.
const BY_WEIGHT: [NotAcceptingReason; 5] = [
    NotAcceptingReason::NoDescriptor,
    NotAcceptingReason::NoThread,
    NotAcceptingReason::Paused,
    NotAcceptingReason::MaxConnections,
    NotAcceptingReason::AcceptRate,
];

/// What happens to new clients while the server is not accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewClients {
    Wait,
    Closed,
    Refused,
}

impl NewClients {
    const ALL: [NewClients; 3] = [NewClients::Wait, NewClients::Closed, NewClients::Refused];

    fn as_str(self) -> &'static str {
        match self {
            NewClients::Wait => "wait",
            NewClients::Closed => "are closed",
            NewClients::Refused => "are refused",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Accepting {
    /// What happens to new clients at each acceptor, a [`NewClients`].
    new_clients: Vec<AtomicU8>,
    /// Why each acceptor keeps clients out now: the reason's index + 1, or 0 while it accepts.
    holds: Vec<AtomicU8>,
    /// Reasons for which a client was kept out since the last tick, one bit per reason.
    noted: AtomicU32,
    /// The last error of the system that had no descriptor or no thread to give.
    error: Mutex<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// Why the server has not accepted since the last tick, if so.
    holding: Option<NotAcceptingReason>,
    last: Duration,
    spans: Spans<NotAcceptingReason>,
    said: [Option<Duration>; NotAcceptingReason::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Current {
    reason: NotAcceptingReason,
    since: Duration,
    seen: Duration,
}

impl Accepting {
    pub(crate) fn new(acceptors: usize) -> Self {
        Accepting {
            new_clients: (0..acceptors)
                .map(|_| AtomicU8::new(NewClients::Wait as u8))
                .collect(),
            holds: (0..acceptors).map(|_| AtomicU8::new(0)).collect(),
            noted: AtomicU32::new(0),
            error: Mutex::new(String::new()),
            state: Mutex::new(State::default()),
        }
    }

    /// Publishes why the acceptor of this index keeps clients out from now on, and what happens to
    /// them.
    pub(crate) fn hold(
        &self,
        index: usize,
        reason: Option<NotAcceptingReason>,
        new_clients: NewClients,
    ) {
        self.new_clients[index].store(new_clients as u8, Ordering::Relaxed);
        let code = reason.map_or(0, |reason| reason.index() as u8 + 1);
        self.holds[index].store(code, Ordering::Relaxed);
        if let Some(reason) = reason.filter(|&reason| reason != NotAcceptingReason::AcceptRate) {
            self.noted.fetch_or(1 << reason.index(), Ordering::Relaxed);
        }
    }

    /// What happens to new clients at any acceptor, for a log line: `wait`, or `wait or are
    /// closed`.
    pub(crate) fn new_clients(&self) -> String {
        let is_met = |new_clients: &NewClients| {
            let mut met = self
                .new_clients
                .iter()
                .map(|met| met.load(Ordering::Relaxed));
            met.any(|met| met == *new_clients as u8)
        };
        let met = NewClients::ALL
            .into_iter()
            .filter(is_met)
            .map(NewClients::as_str);
        let met: Vec<_> = met.collect();
        met.join(" or ")
    }

    /// Stores the error of a system that has no descriptor or no thread to give.
    pub(crate) fn set_error(&self, error: String) {
        *self.error.lock() = error;
    }

    pub(crate) fn error(&self) -> String {
        self.error.lock().clone()
    }

    /// One tick. Returns why the server is not accepting if a log line about that is due.
    pub(crate) fn step(&self, now: Duration, is_paused: bool) -> Option<NotAccepting> {
        let noted = self.noted.swap(0, Ordering::Relaxed);
        let holds = |reason: NotAcceptingReason| {
            let code = reason.index() as u8 + 1;
            (reason == NotAcceptingReason::Paused && is_paused)
                || noted & (1 << reason.index()) != 0
                || self
                    .holds
                    .iter()
                    .any(|held| held.load(Ordering::Relaxed) == code)
        };
        let seen = BY_WEIGHT.into_iter().find(|&reason| holds(reason));
        self.state.lock().step(now, seen)
    }

    /// Whether an acceptor keeps clients out at this moment because of `max_connections`.
    pub(crate) fn is_at_max_connections(&self) -> bool {
        let code = NotAcceptingReason::MaxConnections.index() as u8 + 1;
        let mut held = self.holds.iter().map(|held| held.load(Ordering::Relaxed));
        held.any(|held| held == code)
    }

    pub(crate) fn drain(&self, now: Duration) {
        self.state.lock().drain(now);
    }

    /// Why the server is not accepting, if so, and the total time spent in each reason.
    pub(crate) fn read(&self, now: Duration) -> (Option<NotAccepting>, Spans<NotAcceptingReason>) {
        self.state.lock().read(now)
    }
}

impl State {
    /// Charges the time since the last tick to the reason that this tick has seen.
    fn step(&mut self, now: Duration, seen: Option<NotAcceptingReason>) -> Option<NotAccepting> {
        let is_draining = self.holding == Some(NotAcceptingReason::Draining);
        let seen = if is_draining { self.holding } else { seen };
        let elapsed = now.saturating_sub(self.last);
        let before = std::mem::replace(&mut self.last, now);
        self.holding = seen;
        let Some(reason) = seen else {
            self.current = self
                .current
                .filter(|current| now.saturating_sub(current.seen) < CALM);
            return None;
        };
        self.spans.add(reason, elapsed);
        let current = match self.current {
            Some(current) if current.reason == reason => Current {
                seen: now,
                ..current
            },
            _ => Current {
                reason,
                since: before,
                seen: now,
            },
        };
        self.current = Some(current);
        let said = &mut self.said[reason.index()];
        let is_due = said.is_none_or(|said| now.saturating_sub(said) >= QUIET);
        let is_logged = !matches!(
            reason,
            NotAcceptingReason::AcceptRate | NotAcceptingReason::Draining
        );
        (is_logged && is_due).then(|| {
            *said = Some(now);
            current.report(now)
        })
    }

    /// Draining is the reason from now on, until the server is over.
    fn drain(&mut self, now: Duration) {
        if let Some(reason) = self.holding.replace(NotAcceptingReason::Draining) {
            self.spans.add(reason, now.saturating_sub(self.last));
        }
        self.last = now;
        self.current = Some(Current {
            reason: NotAcceptingReason::Draining,
            since: now,
            seen: now,
        });
    }

    fn read(&self, now: Duration) -> (Option<NotAccepting>, Spans<NotAcceptingReason>) {
        let mut spans = self.spans;
        if let Some(reason) = self.holding {
            spans.add(reason, now.saturating_sub(self.last));
        }
        let holds = |current: &Current| self.holding == Some(current.reason);
        let current = self.current.filter(holds);
        (current.map(|current| current.report(now)), spans)
    }
}

impl Current {
    fn report(&self, now: Duration) -> NotAccepting {
        NotAccepting {
            reason: self.reason,
            lasted: now.saturating_sub(self.since),
        }
    }
}

impl From<RejectReason> for NotAcceptingReason {
    fn from(reason: RejectReason) -> Self {
        match reason {
            RejectReason::Paused => NotAcceptingReason::Paused,
            RejectReason::NoDescriptor => NotAcceptingReason::NoDescriptor,
            RejectReason::NoThread => NotAcceptingReason::NoThread,
            RejectReason::Shutdown => NotAcceptingReason::Draining,
            RejectReason::MaxConnections | RejectReason::PerAddress | RejectReason::NotAllowed => {
                NotAcceptingReason::MaxConnections
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    #[test]
    fn a_client_kept_out_now_and_then_is_one_state_with_its_own_ticks_and_a_line_in_ten_seconds() {
        let mut state = State::default();
        let mut lines = 0;
        for tick in 1..=300 {
            let seen = (tick % 3 == 0).then_some(NotAcceptingReason::MaxConnections);
            lines += usize::from(state.step(TICK * tick, seen).is_some());
        }
        let (now, spans) = state.read(TICK * 300);
        let now = now.expect("not accepting");
        assert_eq!(lines, 3);
        assert_eq!(
            (now.reason, now.lasted),
            (NotAcceptingReason::MaxConnections, TICK * 298)
        );
        assert_eq!(spans.get(NotAcceptingReason::MaxConnections), TICK * 100);
        let mut lasted_at = |tick: u32, seen: bool| {
            let seen = seen.then_some(NotAcceptingReason::MaxConnections);
            state.step(TICK * tick, seen);
            state.read(TICK * tick).0.map(|now| now.lasted)
        };
        assert_eq!(
            lasted_at(301, false),
            None,
            "nobody is kept out at this tick"
        );
        assert_eq!(lasted_at(302, true), Some(TICK * 300));
        for tick in 303..=312 {
            assert_eq!(lasted_at(tick, false), None);
        }
        assert_eq!(lasted_at(313, true), Some(TICK), "a calm second ended it");
    }

    #[test]
    fn the_rates_waits_are_counted_without_a_line_and_a_drain_ends_all_other_reasons() {
        let mut state = State::default();
        let rate = Some(NotAcceptingReason::AcceptRate);
        assert!(state.step(TICK, rate).is_none());
        state.drain(TICK * 2);
        assert!(
            state
                .step(TICK * 3, Some(NotAcceptingReason::Paused))
                .is_none()
        );
        let (now, spans) = state.read(TICK * 5);
        assert_eq!(
            now.map(|now| now.reason),
            Some(NotAcceptingReason::Draining)
        );
        assert_eq!(spans.get(NotAcceptingReason::AcceptRate), TICK * 2);
        assert_eq!(spans.get(NotAcceptingReason::Draining), TICK * 3);
        assert_eq!(spans.total(), TICK * 5);
    }
}
