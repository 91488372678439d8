//! Which handlers may look for bytes before they sleep: few at a time, and nobody in a crowd.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::policy::max_lookers;

/// How many handlers look, and whether any may.
#[derive(Debug)]
pub(crate) struct BusyPolling {
    max_lookers: usize,
    lookers: AtomicUsize,
    is_crowded: AtomicBool,
}

/// A handler looks while this exists.
#[must_use = "dropped, it lets another handler look"]
pub(crate) struct Looker<'a>(&'a AtomicUsize);

impl Drop for Looker<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BusyPolling {
    /// For the processors that the process may use: affinity and the quota of a cgroup count.
    pub(crate) fn new(is_on: bool) -> Self {
        let processors = thread::available_parallelism().map_or(1, |count| count.get());
        BusyPolling::of_at_most(if is_on { max_lookers(processors) } else { 0 })
    }

    pub(crate) fn of_at_most(max_lookers: usize) -> Self {
        BusyPolling {
            max_lookers,
            lookers: AtomicUsize::new(0),
            is_crowded: AtomicBool::new(max_lookers == 0),
        }
    }

    /// 0 if no handler ever looks.
    pub(crate) fn max_lookers(&self) -> usize {
        self.max_lookers
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    pub(crate) fn set_crowded(&self, is_crowded: bool) {
        self.is_crowded
            .store(is_crowded || self.max_lookers == 0, Ordering::Relaxed);
    }

    /// Lets the caller look, unless enough others do.
    pub(crate) fn try_look(&self) -> Option<Looker<'_>> {
        let before = self.lookers.fetch_add(1, Ordering::Relaxed);
        let looker = Looker(&self.lookers);
        (before < self.max_lookers).then_some(looker)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::{Duration, Instant};

    use crate::server::Server;

    /// Asks once on each connection.
    fn ask(clients: &mut [TcpStream]) {
        for client in clients {
            client.write_all(b"a").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn the_watchdog_lets_nobody_look_while_more_connections_are_active_than_may() {
        let server = Server::builder()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .serve(|conn| Ok(std::io::copy(&mut &*conn, &mut &*conn).map(drop)?))
            .unwrap();
        let polling = &server.shared.busy_polling;
        let Some(few) = Some(polling.max_lookers()).filter(|&few| few > 0) else {
            return assert!(polling.is_crowded(), "with one processor, always");
        };
        let connect = |_| TcpStream::connect(server.local_addrs()[0]).unwrap();
        let mut clients: Vec<TcpStream> = (0..=few).map(connect).collect();
        let end = Instant::now() + Duration::from_secs(60);
        for active in [few + 1, few, few + 1, 0] {
            while polling.is_crowded() != (active > few) {
                ask(&mut clients[..active]);
                std::thread::yield_now();
                assert!(Instant::now() < end, "{active} are active");
            }
        }
    }
}
