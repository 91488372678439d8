//! Names that are looked up on threads of a sink, which the end of the sink does not wait for.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;
/// What std puts before what getaddrinfo(3) says.
const OF_STD: &str = "failed to lookup address information: ";

/// The addresses of a name or of an address, one at least. Takes as long as the resolver does.
///
/// # Errors
/// Why there is none, as a log says it, with the name.
pub(super) fn addresses_of(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| {
        let error = error.to_string();
        let why = error.strip_prefix(OF_STD).unwrap_or(&error);
        format!("{host} could not be resolved: {why}")
    })?;
    let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
    match addresses.is_empty() {
        true => Err(format!("{host} could not be resolved: it has no address")),
        false => Ok(addresses),
    }
}

/// Whether a thread is in the system's resolver, which nothing can cut short (resolv.conf(5): 5 s
/// for each server and try by default).
#[derive(Debug, Default)]
pub(super) struct Lookup {
    is_running: AtomicBool,
}

impl Lookup {
    /// Asks the resolver. What follows has to look whether the sink is over: nobody waits for the
    /// thread then.
    pub(super) fn run<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.is_running.store(true, Ordering::Release);
        let found = ask();
        self.is_running.store(false, Ordering::Release);
        found
    }

    /// Waits for the end of a thread that has been told to end, until `until`, and not while the
    /// thread is in the resolver: it ends by itself when that returns, and does nothing more.
    pub(super) fn join(&self, thread: JoinHandle<()>, until: Instant) {
        while !thread.is_finished() {
            if self.is_running.load(Ordering::Acquire) || Instant::now() >= until {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_channel::bounded;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_name_without_an_address_is_told_in_one_way() {
        let found = addresses_of("127.0.0.1", 7);
        assert_eq!(found, Ok(vec![SocketAddr::from(([127, 0, 0, 1], 7))]));
        let why = addresses_of("nosuch.invalid", 7).expect_err("no such name");
        assert!(
            why.starts_with("nosuch.invalid could not be resolved: ") && !why.contains(OF_STD),
            "{why}"
        );
    }

    /// A resolver that answers only once the end is over.
    #[test]
    fn a_thread_in_the_resolver_is_not_waited_for_and_any_other_is() {
        let lookup = Arc::new(Lookup::default());
        let (begun, begins) = bounded(0);
        let (over, is_over) = bounded::<()>(1);
        let (tell, told) = bounded(1);
        let thread = thread::spawn({
            let lookup = Arc::clone(&lookup);
            move || {
                let answered = lookup.run(|| {
                    let _ = begun.send(());
                    is_over.recv_timeout(LONG / 4)
                });
                let _ = tell.send(answered);
            }
        });
        begins.recv_timeout(LONG).expect("it asks");
        lookup.join(thread, Instant::now() + LONG);
        over.send(()).expect("room");
        let answered = told.recv_timeout(LONG).expect("the thread goes on");
        assert_eq!(answered, Ok(()), "the end has waited for the resolver");

        let (tell, told) = bounded(1);
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let _ = tell.send(());
        });
        lookup.join(thread, Instant::now() + LONG);
        assert_eq!(told.try_recv(), Ok(()), "it has not been waited for");
    }
}
