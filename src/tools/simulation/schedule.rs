//! When the messages of a crowd are due.

use std::time::Duration;

use super::super::workload::{ClientPace, Crowd};

const SECOND: u128 = 1_000_000_000;

/// The messages of all clients of a crowd together are one even stream, in which they take turns,
/// as those of `drainline load` are. So one number says how much each of them was to send so far.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    clients: u64,
    /// Messages a second, of all.
    rate: u64,
    from: Duration,
    /// Messages that are due at any time.
    total: u64,
    /// Messages that are due by now.
    due: u64,
}

impl Schedule {
    /// Nothing is ever due from clients that have no rate.
    pub(super) fn new(crowd: &Crowd) -> Self {
        let clients = crowd.connections as u64;
        let rate = match crowd.pace {
            ClientPace::Rate(rate) => rate.saturating_mul(clients),
            ClientPace::Greedy | ClientPace::Drip => 0,
        };
        let mut schedule = Schedule {
            clients: clients.max(1),
            rate,
            from: crowd.from,
            total: u64::MAX,
            due: 0,
        };
        // Due before the end, not at it.
        let until = crowd.until.saturating_sub(Duration::from_nanos(1));
        schedule.total = match crowd.until > crowd.from {
            true => schedule.due_by(until),
            false => 0,
        };
        schedule
    }

    /// Messages that will be due at `now`.
    pub(super) fn due_by(&self, now: Duration) -> u64 {
        let Some(elapsed) = now.checked_sub(self.from) else {
            return 0;
        };
        let due = ((elapsed.as_nanos() + 1) * u128::from(self.rate)).div_ceil(SECOND);
        u64::try_from(due).unwrap_or(u64::MAX).min(self.total)
    }

    /// When the next message is due, and whose it is.
    pub(super) fn next(&self) -> Option<(Duration, usize)> {
        (self.due < self.total).then(|| (self.due_at(self.due), (self.due % self.clients) as usize))
    }

    pub(super) fn clients(&self) -> usize {
        self.clients as usize
    }

    /// Messages that are due by now.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Moves on to where `due` messages are due.
    pub(super) fn advance(&mut self, due: u64) {
        self.due = self.due.max(due);
    }

    /// How many of the first `due` messages are of this client.
    pub(super) fn share(&self, due: u64, client: usize) -> u64 {
        (due + self.clients - 1 - client as u64) / self.clients
    }

    /// What this client was to send by now.
    pub(super) fn due_of(&self, client: usize) -> u64 {
        self.share(self.due, client)
    }

    /// When the `nth` message of a client is due.
    pub(super) fn due_time(&self, client: usize, nth: u64) -> Duration {
        self.due_at(
            nth.saturating_mul(self.clients)
                .saturating_add(client as u64),
        )
    }

    fn due_at(&self, message: u64) -> Duration {
        let nanos = u128::from(message) * SECOND / u128::from(self.rate.max(1));
        self.from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(connections: usize, rate: u64) -> Schedule {
        let until = Duration::from_millis(1_500);
        Schedule::new(&Crowd {
            from: Duration::from_millis(500),
            ..Crowd::new(connections, 1, ClientPace::Rate(rate), until)
        })
    }

    #[test]
    fn a_message_is_due_when_its_time_comes_and_not_before() {
        for (connections, rate) in [(1, 1), (3, 7), (1000, 3), (7, 1_000_000)] {
            let mut schedule = schedule(connections, rate);
            let all = connections as u64 * rate;
            assert_eq!(schedule.total, all);
            for _ in 0..all.min(1000) {
                let (at, client) = schedule.next().expect("one more");
                assert!(schedule.due_by(at) > schedule.due, "{at:?}");
                let before = at.saturating_sub(Duration::from_nanos(1));
                assert!(schedule.due_by(before) <= schedule.due, "{at:?}");
                assert_eq!(schedule.due_time(client, schedule.due_of(client)), at);
                schedule.advance(schedule.due + 1);
            }
            schedule.advance(all);
            assert_eq!(schedule.next(), None);
            let shares: u64 = (0..connections).map(|client| schedule.due_of(client)).sum();
            assert_eq!(shares, all);
        }
    }

    #[test]
    fn silent_clients_are_never_due() {
        let schedule = schedule(5, 0);
        assert_eq!((schedule.total, schedule.next()), (0, None));
        assert_eq!(schedule.due_by(Duration::from_secs(9)), 0);
    }
}
