//! A handler's look for bytes before its read sleeps.

use std::cell::Cell;
use std::hint;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::policy::{BusyPoll, MAX_READS_PER_LOOK};
use crate::server::state::busy_polling::BusyPolling;
use crate::server::state::connection_state::ConnectionState;

/// Looks for bytes as far as one connection's last looks have paid.
#[derive(Debug, Default)]
pub(super) struct BusyRead {
    policy: Cell<BusyPoll>,
}

impl BusyRead {
    /// What a read that does not wait brings within a moment: bytes, the end of the stream, or an
    /// error, which the kernel tells only once. `None`: the read is to sleep.
    ///
    /// No bytes are looked for on a connection whose reads are delayed: its peer waits for no
    /// reply.
    pub(super) fn look(
        &self,
        state: &ConnectionState,
        polling: &BusyPolling,
        buf: &mut [u8],
    ) -> Option<Result<usize, Errno>> {
        if polling.is_crowded() || state.read_delay().is_some() {
            return None;
        }
        self.look_with(polling, || {
            match recv(&state.socket, &mut *buf, RecvFlags::DONTWAIT) {
                Err(Errno::WOULDBLOCK) => None,
                got => Some(got.map(|(_, read)| read)),
            }
        })
    }

    /// Calls `read_now` until it brings something, as often as the policy allows.
    fn look_with<T>(
        &self,
        polling: &BusyPolling,
        mut read_now: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut policy = self.policy.get();
        let may_look = policy.may_look();
        self.policy.set(policy);
        if !may_look {
            return None;
        }
        // What is there already says nothing about looks, and costs no more than a read that could
        // sleep.
        if let Some(got) = read_now() {
            return Some(got);
        }
        let _looker = polling.try_look()?;
        let got = (0..MAX_READS_PER_LOOK).find_map(|_| {
            // Not sched_yield(2): a busy thread of another program would run for milliseconds.
            hint::spin_loop();
            read_now()
        });
        match got {
            Some(_) => policy.found(),
            None => policy.found_nothing(),
        }
        self.policy.set(policy);
        got
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::server::state::connection_state::ListenerName;

    /// Its next read looks.
    fn looking() -> BusyRead {
        let mut policy = BusyPoll::default();
        while !policy.may_look() {}
        BusyRead {
            policy: Cell::new(policy),
        }
    }

    /// A connection and its peer.
    fn connection() -> (ConnectionState, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let state = ConnectionState::new(1, peer.into(), stream.into(), ListenerName::default());
        (state, client)
    }

    /// Looks for what is there at so many reads. Returns what the look brought, and how many reads
    /// there were.
    fn look(read: &BusyRead, polling: &BusyPolling, there_at: u32) -> (Option<u32>, u32) {
        let mut reads = 0;
        let got = read.look_with(polling, || {
            reads += 1;
            (reads == there_at).then_some(reads)
        });
        (got, reads)
    }

    #[test]
    fn a_look_that_finds_something_is_followed_by_another() {
        let (read, polling) = (looking(), BusyPolling::of_at_most(1));
        for there_at in [2, 100, MAX_READS_PER_LOOK + 1] {
            let found = look(&read, &polling, there_at);
            assert_eq!(found, (Some(there_at), there_at));
        }
    }

    #[test]
    fn a_look_in_vain_ends_and_the_next_reads_sleep_at_once() {
        let (read, polling) = (looking(), BusyPolling::of_at_most(1));
        let never = u32::MAX;
        assert_eq!(look(&read, &polling, never), (None, MAX_READS_PER_LOOK + 1));
        for _ in 0..15 {
            assert_eq!(look(&read, &polling, never), (None, 0));
        }
        assert_eq!(look(&read, &polling, 2), (Some(2), 2));
    }

    #[test]
    fn what_is_there_already_earns_nothing() {
        let (read, polling) = (looking(), BusyPolling::of_at_most(1));
        let before = read.policy.get();
        assert_eq!(look(&read, &polling, 1), (Some(1), 1));
        assert_eq!(read.policy.get(), before);
    }

    #[test]
    fn who_finds_enough_others_looking_sleeps_at_once_and_is_charged_nothing() {
        let (read, polling) = (looking(), BusyPolling::of_at_most(1));
        let before = read.policy.get();
        let other = polling.try_look();
        assert!(other.is_some() && polling.try_look().is_none());
        assert_eq!(look(&read, &polling, 2), (None, 1));
        assert_eq!(read.policy.get(), before);
        drop(other);
        assert_eq!(look(&read, &polling, 2), (Some(2), 2));
    }

    #[test]
    fn nobody_looks_in_a_crowd_with_one_processor_or_where_reads_are_delayed() {
        let crowded = BusyPolling::of_at_most(1);
        crowded.set_crowded(true);
        let single = BusyPolling::of_at_most(0);
        single.set_crowded(false);
        let free = BusyPolling::of_at_most(1);
        for (polling, delay) in [
            (&crowded, None),
            (&single, None),
            (&free, Some(Duration::from_millis(1))),
        ] {
            let ((state, mut client), read) = (connection(), BusyRead::default());
            state.set_read_delay(delay);
            for _ in 0..100 {
                client.write_all(b"a").unwrap();
                assert_eq!(read.look(&state, polling, &mut [0]), None);
            }
            assert_eq!(read.policy.get(), BusyPoll::default(), "{polling:?}");
        }
    }

    #[test]
    fn a_reset_that_a_look_finds_is_returned_and_not_read_past() {
        let ((state, client), polling) = (connection(), BusyPolling::of_at_most(1));
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        let got = looking().look(&state, &polling, &mut [0]);
        assert_eq!(got, Some(Err(Errno::CONNRESET)));
    }

    #[test]
    fn a_shutdown_of_the_socket_ends_a_look() {
        let ((state, _client), polling) = (connection(), BusyPolling::of_at_most(1));
        state.stop_reading();
        assert_eq!(looking().look(&state, &polling, &mut [0]), Some(Ok(0)));
    }
}
