//! Whether the server accepts new clients, why not, and the seconds spent in each reason.
//!
//! Acceptors publish why they keep a client out; the watchdog looks once a tick. So a client that
//! waits for less than a tick is not reported, and a server that is always at its limit needs no
//! clock and no lock for each client.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::admission::KeptOut;
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

/// Why an acceptor keeps clients out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) reason: NotAcceptingReason,
    /// It is the listener's own limit, and others may go on accepting.
    pub(crate) is_own: bool,
}

impl Hold {
    /// Of a listener's own limit.
    const OWN: u8 = 0x10;

    /// The reason's index, and whether the limit is the listener's own, in less than 32.
    fn code(self) -> u8 {
        self.reason.index() as u8 | if self.is_own { Hold::OWN } else { 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Accepting {
    listeners: Vec<AtListener>,
    /// The last error of the system that had no descriptor or no thread to give.
    error: Mutex<String>,
    states: Mutex<States>,
}

/// What one acceptor publishes.
#[derive(Debug, Default)]
struct AtListener {
    /// What happens to new clients, a [`NewClients`].
    new_clients: AtomicU8,
    /// Why clients are kept out now: the hold's code + 1, or 0 while they are accepted.
    holds: AtomicU8,
    /// Why a client was kept out since the last tick, one bit per code.
    noted: AtomicU32,
}

impl AtListener {
    fn is_held(&self, hold: Hold) -> bool {
        self.holds.load(Ordering::Relaxed) == hold.code() + 1
    }
}

#[derive(Debug)]
struct States {
    server: State,
    /// By the index of the listener.
    listeners: Vec<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// Why nobody was accepted since the last tick, if so.
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

/// Why nobody is accepted, if so, and the total time spent in each reason.
type Reading = (Option<NotAccepting>, Spans<NotAcceptingReason>);

impl Accepting {
    pub(crate) fn new(listeners: usize) -> Self {
        Accepting {
            listeners: (0..listeners).map(|_| AtListener::default()).collect(),
            error: Mutex::new(String::new()),
            states: Mutex::new(States {
                server: State::default(),
                listeners: (0..listeners).map(|_| State::default()).collect(),
            }),
        }
    }

    /// Publishes why the acceptor of this index keeps clients out from now on, and what happens to
    /// them.
    pub(crate) fn hold(&self, index: usize, hold: Option<Hold>, new_clients: NewClients) {
        let listener = &self.listeners[index];
        let code = hold.map_or(0, |hold| hold.code() + 1);
        listener
            .new_clients
            .store(new_clients as u8, Ordering::Relaxed);
        listener.holds.store(code, Ordering::Relaxed);
        if let Some(hold) = hold.filter(|hold| hold.reason != NotAcceptingReason::AcceptRate) {
            listener.noted.fetch_or(1 << hold.code(), Ordering::Relaxed);
        }
    }

    /// What happens to new clients at one listener, or at any, for a log line: `wait`, or `wait or
    /// are closed`.
    pub(crate) fn new_clients(&self, listener: Option<usize>) -> String {
        let listeners = match listener {
            Some(index) => &self.listeners[index..=index],
            None => &self.listeners,
        };
        let is_met = |new_clients: &NewClients| {
            let mut met = listeners
                .iter()
                .map(|listener| listener.new_clients.load(Ordering::Relaxed));
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

    /// One tick. `log` is called where a log line is due: about the server, or about the listener
    /// of an index that has reached its own limit.
    ///
    /// A listener at its own limit does not make the server one that is not accepting, unless no
    /// listener accepts.
    pub(crate) fn step(
        &self,
        now: Duration,
        is_paused: bool,
        mut log: impl FnMut(Option<usize>, NotAccepting),
    ) {
        let mut states = self.states.lock();
        let mut of_server = is_paused.then_some(NotAcceptingReason::Paused);
        let mut is_common = is_paused;
        let mut of_all = Vec::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let noted = listener.noted.swap(0, Ordering::Relaxed);
            let holds = |reason, is_own| {
                let hold = Hold { reason, is_own };
                noted & (1 << hold.code()) != 0 || listener.is_held(hold)
            };
            let common = first(|reason| {
                (reason == NotAcceptingReason::Paused && is_paused) || holds(reason, false)
            });
            let own = first(|reason| holds(reason, true));
            if let Some(reason) = common {
                is_common = true;
                of_server = first(|other| other == reason || Some(other) == of_server);
            }
            let seen = common.or(own);
            of_all.extend(seen);
            if let Some(due) = states.listeners[index].step(now, seen, common.is_none()) {
                log(Some(index), due);
            }
        }
        if !is_common && of_all.len() == self.listeners.len() {
            of_server = first(|reason| of_all.contains(&reason));
        }
        if let Some(due) = states.server.step(now, of_server, is_common) {
            log(None, due);
        }
    }

    /// Whether an acceptor keeps clients out at this moment because of the common
    /// `max_connections`.
    pub(crate) fn is_at_max_connections(&self) -> bool {
        let hold = Hold {
            reason: NotAcceptingReason::MaxConnections,
            is_own: false,
        };
        self.listeners.iter().any(|listener| listener.is_held(hold))
    }

    /// Whether this listener keeps clients out at this moment because of its own
    /// `max_connections`.
    pub(crate) fn is_at_own_max_connections(&self, index: usize) -> bool {
        self.listeners[index].is_held(Hold {
            reason: NotAcceptingReason::MaxConnections,
            is_own: true,
        })
    }

    pub(crate) fn drain(&self, now: Duration) {
        let mut states = self.states.lock();
        states.server.drain(now);
        states
            .listeners
            .iter_mut()
            .for_each(|state| state.drain(now));
    }

    /// How the server stands, and each of its listeners.
    pub(crate) fn read(&self, now: Duration) -> (Reading, Vec<Reading>) {
        let states = self.states.lock();
        let listeners = states.listeners.iter().map(|state| state.read(now));
        (states.server.read(now), listeners.collect())
    }
}

/// The reason that is reported of those that hold.
fn first(holds: impl Fn(NotAcceptingReason) -> bool) -> Option<NotAcceptingReason> {
    BY_WEIGHT.into_iter().find(|&reason| holds(reason))
}

impl State {
    /// Charges the time since the last tick to the reason that this tick has seen. Returns what a
    /// log line is due about, if one `may_log`.
    fn step(
        &mut self,
        now: Duration,
        seen: Option<NotAcceptingReason>,
        may_log: bool,
    ) -> Option<NotAccepting> {
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
        let is_logged = may_log
            && !matches!(
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

    fn read(&self, now: Duration) -> Reading {
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

impl From<KeptOut> for Hold {
    fn from(kept_out: KeptOut) -> Self {
        Hold {
            reason: kept_out.reason.into(),
            is_own: kept_out.is_own,
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
            lines += usize::from(state.step(TICK * tick, seen, true).is_some());
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
            state.step(TICK * tick, seen, true);
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
        assert!(state.step(TICK, rate, true).is_none());
        state.drain(TICK * 2);
        assert!(
            state
                .step(TICK * 3, Some(NotAcceptingReason::Paused), true)
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
