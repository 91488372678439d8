//! The promises of all servers in this process: what their limits let them use and they do not use
//! yet. A server only starts if the system can meet all promises together.
//!
//! The list of promises is the library's only process-wide state.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::table::Table;
use crate::server::error::LimitError;
use crate::server::limits::{
    DESCRIPTORS_PER_LISTENER, FittedLimits, OWN_THREADS, Requirements, System, descriptors_without,
    new_threads,
};

static SERVERS: Mutex<Vec<Promised>> = Mutex::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

struct Promised {
    id: u64,
    max_connections: u64,
    /// Threads that are not handlers'.
    threads: u64,
    descriptors: u64,
    mappings: u64,
    mappings_per_connection: u64,
    mappings_per_thread: u64,
    /// Includes the memory that malloc may keep after it was freed.
    memory_bytes: u64,
    /// Bytes of address space that a thread reserves.
    addresses_per_thread: u64,
    /// Tells how much of the promise is in use already and therefore measured with the process.
    /// `None` until the server has started: nothing is in use yet.
    table: Option<Weak<Table>>,
    listeners: u64,
}

/// A server's entry in the list of promises, removed on drop: held for as long as the server may
/// use what it promised.
#[derive(Debug)]
pub(in crate::server) struct Promise(u64);

impl Promise {
    /// Lets `fit` compare the requirements with what the system has left after all other promises,
    /// and enters the limits that `fit` returned as a promise.
    pub(in crate::server) fn take(
        requirements: &Requirements,
        fit: impl FnOnce(&System) -> Result<FittedLimits, LimitError>,
    ) -> Result<(FittedLimits, Promise), LimitError> {
        // Locked until the promise is entered: two servers that start at once must not both count
        // on the same capacity.
        let mut servers = SERVERS.lock();
        let system = with_promised(&servers, System::read());
        let fit = fit(&system)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        servers.push(Promised::new(id, &fit, requirements));
        Ok((fit, Promise(id)))
    }

    /// From now on, what the server uses is measured with the process and not counted as promised.
    pub(in crate::server) fn has_started(&self, table: Weak<Table>) {
        let mut servers = SERVERS.lock();
        if let Some(server) = servers.iter_mut().find(|server| server.id == self.0) {
            server.table = Some(table);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        SERVERS.lock().retain(|server| server.id != self.0);
    }
}

/// The system, with what other servers of this process may still take counted as in use.
pub(in crate::server) fn system() -> System {
    let servers = SERVERS.lock();
    with_promised(&servers, System::read())
}

fn with_promised(servers: &[Promised], mut system: System) -> System {
    for server in servers {
        let (threads, connections) = server.in_use();
        let threads_left = (server.threads + server.max_connections).saturating_sub(threads);
        let descriptors = server.descriptors + server.max_connections;
        let mappings = server.mappings + server.max_connections * server.mappings_per_connection;
        system.own_threads += threads_left;
        system.all_threads += threads_left;
        system.open_descriptors += descriptors.saturating_sub(connections);
        system.mappings += mappings.saturating_sub(threads * server.mappings_per_thread);
        let reserved = server.memory_bytes + threads_left * server.addresses_per_thread;
        system.address_space += reserved;
        system.data += reserved;
        if let Some(pids) = &mut system.pids {
            pids.used += threads_left;
        }
        if let Some(memory) = &mut system.memory {
            memory.max = memory.max.saturating_sub(server.memory_bytes);
        }
    }
    system
}

impl Promised {
    fn new(id: u64, fit: &FittedLimits, requirements: &Requirements) -> Self {
        let limits = &fit.limits;
        let nothing = System::default();
        let threads = new_threads(requirements);
        Promised {
            id,
            max_connections: limits.max_connections as u64,
            threads,
            descriptors: descriptors_without(requirements, &nothing),
            mappings: threads * fit.mappings_per_thread + requirements.memory.mappings,
            mappings_per_connection: fit.mappings_per_thread
                + requirements.memory.mappings_per_connection,
            mappings_per_thread: fit.mappings_per_thread,
            memory_bytes: limits.memory_with_malloc_bytes(),
            addresses_per_thread: fit.addresses_per_thread,
            table: None,
            listeners: requirements.listeners as u64,
        }
    }

    /// The server's threads and descriptors that exist already, and are measured with the process.
    fn in_use(&self) -> (u64, u64) {
        let Some(table) = self.table.as_ref().and_then(Weak::upgrade) else {
            return (0, 0);
        };
        let (threads, connections) = table.in_use();
        let own_threads = self.listeners + OWN_THREADS;
        let of_listeners = DESCRIPTORS_PER_LISTENER * self.listeners;
        (
            own_threads + threads as u64,
            of_listeners + connections as u64,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::server::Server;
    use crate::server::limits::Level;

    fn promised(table: Option<&Arc<Table>>) -> Promised {
        Promised {
            id: 0,
            max_connections: 10,
            threads: 5,
            descriptors: 7,
            mappings: 30,
            mappings_per_connection: 6,
            mappings_per_thread: 3,
            memory_bytes: 1_000,
            addresses_per_thread: 100,
            table: table.map(Arc::downgrade),
            listeners: 1,
        }
    }

    fn level(max: u64, used: u64) -> Option<Level> {
        Some(Level {
            limit: "a limit".to_owned(),
            max,
            used,
        })
    }

    fn used_up_to(servers: &[Promised]) -> System {
        let system = System {
            open_descriptors: 1,
            own_threads: 2,
            all_threads: 3,
            pids: level(9_999, 4),
            mappings: 5,
            memory: level(9_999, 0),
            address_space: 6,
            data: 7,
            ..System::default()
        };
        with_promised(servers, system)
    }

    #[test]
    fn what_each_server_may_still_take_counts_in_every_limit() {
        let expected = System {
            open_descriptors: 1 + 2 * (7 + 10),
            own_threads: 2 + 2 * (5 + 10),
            all_threads: 3 + 2 * (5 + 10),
            pids: level(9_999, 4 + 2 * (5 + 10)),
            mappings: 5 + 2 * (30 + 10 * 6),
            memory: level(9_999 - 2 * 1_000, 0),
            address_space: 6 + 2 * (1_000 + (5 + 10) * 100),
            data: 7 + 2 * (1_000 + (5 + 10) * 100),
            ..System::default()
        };
        assert_eq!(used_up_to(&[promised(None), promised(None)]), expected);
    }

    #[test]
    fn what_a_server_has_taken_is_not_counted_twice() {
        // Three clients have threads. For another there is none: it takes a descriptor alone.
        let threads_left = AtomicU64::new(3);
        let server = Server::builder::<Vec<u8>>()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .spawner(move |builder, body| {
                let take = |left: u64| left.checked_sub(1);
                let is_left = threads_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
                is_left.map_err(|_| ErrorKind::WouldBlock)?;
                builder.spawn(body)
            })
            .start_each(
                |connection, _| Ok(std::io::copy(connection, &mut std::io::sink()).map(drop)?),
                |_| Ok(()),
            )
            .unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let mut clients = Vec::new();
        for (open, starting) in [(1, 0), (2, 0), (3, 0), (3, 1)] {
            clients.push(TcpStream::connect(server.local_addrs()[0]).unwrap());
            while (server.stats().open, server.stats().starting) != (open, starting) {
                assert!(Instant::now() < end);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let table = &server.shared.table;
        // One thread of the listener, the server's own, and the connections'.
        let threads = 1 + OWN_THREADS + 3;
        let descriptors = DESCRIPTORS_PER_LISTENER + 4;
        let expected = System {
            open_descriptors: 1 + (7 + 10) - descriptors,
            own_threads: 2 + (5 + 10) - threads,
            all_threads: 3 + (5 + 10) - threads,
            pids: level(9_999, 4 + (5 + 10) - threads),
            mappings: 5 + (30 + 10 * 6) - threads * 3,
            memory: level(9_999 - 1_000, 0),
            address_space: 6 + 1_000 + ((5 + 10) - threads) * 100,
            data: 7 + 1_000 + ((5 + 10) - threads) * 100,
            ..System::default()
        };
        assert_eq!(used_up_to(&[promised(Some(table))]), expected);
    }
}
