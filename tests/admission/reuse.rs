//! Threads that serve one connection after another: whose may, what they hold while they wait, and
//! that a client never misses one.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::common::client::{self, Closed};
use crate::common::echo::{self, ANY};
use crate::common::embedded;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::{BoxError, Config, Connection, EndReason, OnOverload, Sender, Server};
use memmap2::{Advice, MmapMut};
use rustix::process::Pid;
use rustix::thread::gettid;

/// The server's threads beside handlers, with one listener.
const FIXED: usize = 5;
/// How often a thread that is held looks whether it may go.
const LOOK: Duration = Duration::from_millis(1);
/// The watchdog's tick.
const TICK: Duration = Duration::from_millis(100);
/// A client came lately until so many ticks have ended.
const LATELY: u32 = 4;
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(600);

fn config(max_connections: usize, reuse_threads: Option<Duration>) -> Config {
    let mut config = small::config();
    config.max_connections = Some(max_connections);
    config.reuse_threads = reuse_threads;
    config
}

/// Which thread served which connection, in the order in which they came.
type Served = Arc<Mutex<Vec<(u64, ThreadId)>>>;

/// A server whose clients say how their handler ends: `p` panics, `e` is an error, anything else is
/// echoed.
fn start(config: Config) -> (Server, Served) {
    let served = Served::default();
    let seen = Arc::clone(&served);
    let handler = move |conn: &mut Connection, out: &Sender<Vec<u8>>| -> Result<(), BoxError> {
        seen.lock()
            .unwrap()
            .push((conn.id(), thread::current().id()));
        let mut how = [0];
        match conn.read(&mut how)? {
            0 => Ok(()),
            _ if how[0] == b'p' => panic!("as asked"),
            _ if how[0] == b'e' => Err("as asked".into()),
            _ => {
                conn.write_all(&how)?;
                echo::echo(conn, out)
            }
        }
    };
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen(ANY.parse().unwrap())
        .start_each(handler, |_| Ok(()))
        .unwrap();
    (server, served)
}

/// A connection from its begin to an end that was seen by the server.
#[track_caller]
fn serve_one(server: &Server, addr: SocketAddr) {
    let ended = server.stats().ended.total();
    let client = echo::connect_served(addr);
    assert_eq!(client::half_close(client), Closed::Clean);
    wait_until("its end", DEADLINE, || server.stats().ended.total() > ended);
}

/// How long all ticks took that the watchdog has ended.
fn ticks_took(server: &Server) -> Duration {
    server.stats().overload_seconds.total()
}

fn wait_for_tick(server: &Server) {
    let before = ticks_took(server);
    wait_until("a tick", DEADLINE, || ticks_took(server) > before);
}

fn threads(served: &Served) -> HashSet<ThreadId> {
    let served = served.lock().unwrap();
    served.iter().map(|(_, thread)| *thread).collect()
}

#[test]
fn connections_one_after_the_other_share_a_thread_and_nothing_else() {
    let (server, served) = start(config(1, Some(FOR_EVER)));
    for _ in 0..50 {
        serve_one(&server, server.local_addrs()[0]);
    }
    assert_eq!(threads(&served).len(), 1);
    let ids: Vec<_> = served.lock().unwrap().iter().map(|(id, _)| *id).collect();
    assert!(ids.into_iter().eq(1..=50));
    // Its earlier connections are over, whoever has kept their numbers.
    let mut client = echo::connect_served(server.local_addrs()[0]);
    assert!((1..=50).all(|id| !server.abort(id)));
    echo::assert_served(&mut client);
    let connections = server.connections();
    assert_eq!((connections.len(), connections[0].id), (1, 51));
    assert_eq!(connections[0].bytes, 2);
    drop(client);
    let stats = server.shutdown(DEADLINE).stats;
    assert!(stats.is_balanced());
    assert_eq!((stats.accepted, stats.threads_peak), (51, FIXED + 1));
}

#[test]
fn switched_off_each_connection_has_a_thread_of_its_own() {
    let (server, served) = start(config(1, None));
    for _ in 0..10 {
        serve_one(&server, server.local_addrs()[0]);
    }
    assert_eq!(threads(&served).len(), 10);
    echo::wait_until_joined(&server, FIXED);
    server.shutdown(DEADLINE);
}

/// pthread_join(3) returns a moment before the kernel has taken a thread off its list, where
/// whatever limits threads counts it. That moment is long while somebody changes the process's
/// mappings.
#[test]
fn a_thread_is_off_the_kernels_list_before_its_permit_serves_another() {
    embedded::alone(
        "reuse::a_thread_is_off_the_kernels_list_before_its_permit_serves_another",
        || {
            const CONNECTIONS: usize = 2_000;
            const MAPPED: usize = 64 << 20;
            /// The thread of the connection before, and how often it was still on the list.
            static BEFORE: Mutex<(Option<Pid>, usize)> = Mutex::new((None, 0));
            let is_listed = |thread: Pid| {
                let path = format!("/proc/self/task/{}", thread.as_raw_nonzero());
                Path::new(&path).exists()
            };
            let server = small::server::<Vec<u8>>()
                .config(config(1, None))
                .listen(ANY.parse().unwrap())
                .start_each(
                    move |_, _| {
                        let mut before = BEFORE.lock().unwrap();
                        before.1 += usize::from(before.0.replace(gettid()).is_some_and(is_listed));
                        Ok(())
                    },
                    |_| Ok(()),
                )
                .unwrap();
            let addr = server.local_addrs()[0];
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut memory = MmapMut::map_anon(MAPPED).unwrap();
                    memory.advise(Advice::NoHugePage).unwrap();
                    memory.fill(1);
                    while !is_over.load(Relaxed) {
                        memory = memory.make_read_only().unwrap().make_mut().unwrap();
                    }
                });
                for _ in 0..CONNECTIONS {
                    drop(client::connect(addr));
                }
                wait_until("all ended", DEADLINE, || {
                    server.stats().ended.total() == CONNECTIONS as u64
                });
                is_over.store(true, Relaxed);
            });
            assert_eq!(BEFORE.lock().unwrap().1, 0, "threads beside the one permit");
        },
    );
}

#[test]
fn with_every_permit_held_by_an_idle_thread_one_more_client_is_served() {
    const ALL: usize = 8;
    for on_overload in [OnOverload::Backlog, OnOverload::Close, OnOverload::Refuse] {
        let mut config = config(ALL, Some(FOR_EVER));
        config.on_overload = on_overload;
        let (server, served) = start(config);
        let addr = server.local_addrs()[0];
        let clients: Vec<TcpStream> = (0..ALL).map(|_| echo::connect_served(addr)).collect();
        drop(clients);
        wait_until("all of them ended", DEADLINE, || server.stats().open == 0);
        assert_eq!(server.stats().threads, FIXED + ALL);
        // Under `refuse` the listener was away while all were served, and comes back within a tick.
        wait_until("one more client", DEADLINE, || {
            client::try_connect(addr, DEADLINE)
                .is_ok_and(|mut client| echo::is_served(&mut client, DEADLINE))
        });
        for _ in 0..3 {
            serve_one(&server, addr);
        }
        assert_eq!(threads(&served).len(), ALL);
        let report = server.shutdown(DEADLINE);
        assert_eq!(report.stats.threads_peak, FIXED + ALL);
        assert!(report.stats.is_balanced(), "{report:?}");
        // None was taken off for a client that did not come, and forgotten.
        assert!(!report.timed_out, "{report:?}");
    }
}

#[test]
fn when_a_crowd_leaves_a_few_of_its_threads_wait_and_the_others_end() {
    const CROWD: usize = 100;
    const MAX_IDLE: usize = 64;
    let (server, served) = start(config(2 * CROWD, Some(FOR_EVER)));
    let addr = server.local_addrs()[0];
    let clients: Vec<TcpStream> = (0..CROWD).map(|_| echo::connect_served(addr)).collect();
    // Until the crowd did not come lately.
    (0..=LATELY).for_each(|_| wait_for_tick(&server));
    drop(clients);
    echo::wait_until_joined(&server, FIXED + MAX_IDLE);
    // A crowd as large as what waits needs no new thread.
    let clients: Vec<TcpStream> = (0..MAX_IDLE).map(|_| echo::connect_served(addr)).collect();
    assert_eq!(threads(&served).len(), CROWD);
    drop(clients);
    assert!(server.shutdown(DEADLINE).stats.is_balanced());
}

#[test]
fn waves_of_short_connections_share_their_threads() {
    const WAVE: usize = 80;
    // With two permits more than clients, threads may always be made: nearly all are reused because
    // they may wait, and not because there is no other way.
    const SPARE: usize = 2;
    let (server, served) = start(config(WAVE + SPARE, Some(FOR_EVER)));
    let addr = server.local_addrs()[0];
    let come = || -> Vec<TcpStream> { (0..WAVE).map(|_| echo::connect_served(addr)).collect() };
    let leave = |wave: Vec<TcpStream>| {
        let gone = server.stats().ended.total() + wave.len() as u64;
        for client in wave {
            assert_eq!(client::half_close(client), Closed::Clean);
        }
        wait_until("their ends", DEADLINE, || {
            server.stats().ended.total() == gone
        });
    };
    wait_until("two waves within few ticks", DEADLINE, || {
        let began = ticks_took(&server);
        leave(come());
        let before = threads(&served).len();
        let second = come();
        let made = threads(&served).len() - before;
        let took = ticks_took(&server) - began;
        leave(second);
        let is_quick = took < TICK * LATELY / 2;
        assert!(!is_quick || made <= SPARE, "{made} threads made");
        is_quick
    });
    assert!(server.shutdown(DEADLINE).stats.is_balanced());
}

#[test]
fn a_client_that_waits_for_a_permit_gets_the_thread_that_becomes_idle() {
    let (server, served) = start(config(1, Some(FOR_EVER)));
    let addr = server.local_addrs()[0];
    let first = echo::connect_served(addr);
    let mut next = client::connect(addr);
    echo::assert_waits(&mut next);
    drop(first);
    echo::assert_served(&mut next);
    assert_eq!(threads(&served).len(), 1);
    server.shutdown(DEADLINE);
}

#[test]
fn a_thread_waits_no_longer_than_it_is_told() {
    let (server, _) = start(config(4, Some(Duration::from_millis(1))));
    for _ in 0..20 {
        serve_one(&server, server.local_addrs()[0]);
        echo::wait_until_joined(&server, FIXED);
    }
    assert!(server.shutdown(DEADLINE).stats.is_balanced());
}

#[test]
fn a_handler_that_did_not_end_well_takes_its_thread_along() {
    let mut config = config(1, Some(FOR_EVER));
    config.idle_timeout = Some(Duration::from_millis(300));
    let (server, served) = start(config);
    let addr = server.local_addrs()[0];
    let ends: [(&[u8], EndReason); 4] = [
        (b"p", EndReason::HandlerPanicked),
        (b"e", EndReason::HandlerError),
        (b"a", EndReason::Aborted),
        (b"i", EndReason::IdleTimeout),
    ];
    for (said, reason) in ends {
        let mut client = client::connect(addr);
        client.write_all(said).unwrap();
        if reason == EndReason::Aborted {
            wait_until("it is served", DEADLINE, || echo::is_answered(&mut client));
            let id = served.lock().unwrap().last().unwrap().0;
            assert!(server.abort(id));
        }
        wait_until("its end", DEADLINE, || {
            server.stats().ended.get(reason) == 1
        });
        echo::wait_until_joined(&server, FIXED);
    }
    assert_eq!(threads(&served).len(), ends.len());
    server.shutdown(DEADLINE);
}

#[test]
fn an_idle_thread_holds_no_share_of_an_address() {
    // With one permit, the next client can only come to the thread that becomes idle.
    let mut config = config(1, Some(FOR_EVER));
    config.max_connections_per_ip = Some(1);
    let (server, served) = start(config);
    for _ in 0..10 {
        serve_one(&server, server.local_addrs()[0]);
    }
    assert_eq!(threads(&served).len(), 1);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (10, 0));
}

#[test]
fn a_shutdown_does_not_wait_for_idle_threads() {
    let (server, _) = start(config(8, Some(FOR_EVER)));
    let addr = server.local_addrs()[0];
    let clients: Vec<TcpStream> = (0..8).map(|_| echo::connect_served(addr)).collect();
    drop(clients);
    wait_until("all of them ended", DEADLINE, || server.stats().open == 0);
    let report = server.shutdown(DEADLINE);
    assert!(!report.timed_out && report.stuck.is_empty(), "{report:?}");
    assert_eq!(report.stats.threads, 0);
}

#[test]
fn clients_that_come_and_go_on_two_listeners_are_all_served() {
    const CLIENTS: usize = 6;
    const EACH: usize = 200;
    const REUSED_FOR: Duration = Duration::from_millis(1);
    // Fewer permits than clients, and a patience so short that threads leave while clients come.
    let config = config(3, Some(REUSED_FOR));
    let server = echo::start(config, &[ANY, ANY]);
    let addrs = server.local_addrs().to_vec();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let addr = addrs[client % addrs.len()];
            scope.spawn(move || {
                for round in 0..EACH {
                    drop(echo::connect_served(addr));
                    if round % 16 == client {
                        // Longer than a thread waits for a client.
                        thread::sleep(REUSED_FOR * 2);
                    }
                }
            });
        }
    });
    wait_until("all of them ended", DEADLINE, || server.stats().open == 0);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!(stats.accepted, (CLIENTS * EACH) as u64);
    assert!(stats.threads_peak <= FIXED + 1 + 3, "{stats:?}");
    assert!(stats.is_balanced());
}

/// Threads in a thread_local's destructor, and whether they may leave it.
static LEAVING: Mutex<(usize, bool)> = Mutex::new((0, false));

/// As long as it takes to end a thread.
struct SlowEnd;

impl Drop for SlowEnd {
    fn drop(&mut self) {
        LEAVING.lock().unwrap().0 += 1;
        while !LEAVING.lock().unwrap().1 {
            thread::sleep(LOOK);
        }
        LEAVING.lock().unwrap().0 -= 1;
    }
}

thread_local! {
    static SLOW_END: SlowEnd = const { SlowEnd };
}

#[test]
fn a_batch_of_threads_ends_at_once_and_those_that_wait_for_it_serve_clients() {
    const AT_ONCE: usize = 64;
    const MANY: usize = AT_ONCE + 40;
    let server = small::server::<Vec<u8>>()
        .config(config(MANY, Some(Duration::from_millis(1))))
        .listen(ANY.parse().unwrap())
        .start_each(
            |conn, out| {
                SLOW_END.with(|_| ());
                echo::echo(conn, out)
            },
            |_| Ok(()),
        )
        .unwrap();
    let addr = server.local_addrs()[0];
    let clients: Vec<_> = (0..MANY).map(|_| echo::connect_served(addr)).collect();
    for client in clients {
        assert_eq!(client::half_close(client), Closed::Clean);
    }
    wait_until("all ended", DEADLINE, || {
        server.stats().ended.total() == MANY as u64
    });
    wait_until("somebody leaves", DEADLINE, || {
        LEAVING.lock().unwrap().0 > 0
    });
    // All permits are out, and none comes back: who is served is served by a thread that was to
    // end.
    let mut client = echo::connect_served(addr);
    assert!(LEAVING.lock().unwrap().0 <= AT_ONCE);
    assert_eq!(server.stats().threads, FIXED + MANY);
    echo::assert_served(&mut client);
    assert_eq!(client::half_close(client), Closed::Clean);

    // Threads that hang hold up nobody else's end for good.
    wait_until("the others leave, too", DEADLINE, || {
        LEAVING.lock().unwrap().0 == MANY
    });
    LEAVING.lock().unwrap().1 = true;
    let report = server.shutdown(DEADLINE);
    assert!(!report.timed_out, "{report:?}");
    assert_eq!((report.stats.threads, report.stuck.len()), (0, 0));
}
