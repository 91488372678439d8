//! The limit of a listener: of the common permits its clients have so many and no more, at any
//! moment, and whoever waits there holds up nobody at another listener.

use std::cell::RefCell;
use std::env;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::{self, Closed};
use crate::common::echo::{self, ANY};
use crate::common::embedded::{self, Embedded};
use crate::common::handlers::{LONG, lines};
use crate::common::proc;
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_until, wait_until_prompt};
use drainline::{
    Config, EndReason, FirstByteTimeout, Listener, OnOverload, Peers, RejectReason, Server,
};

/// The watchdog's.
const TICK: Duration = Duration::from_millis(100);
/// Time for a crowd to come and go.
const LOOK: Duration = Duration::from_millis(20);

fn on(name: &str) -> Listener {
    Listener::on(ANY.parse().unwrap()).named(name)
}

fn config(max_connections: usize, on_overload: OnOverload) -> Config {
    let mut config = small::config();
    config.max_connections = Some(max_connections);
    config.on_overload = on_overload;
    config
}

/// An echo server: `own` of its connections may be of the first listener, and any of the second.
#[track_caller]
fn start(config: Config, own: usize) -> (Server, [SocketAddr; 2]) {
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listener(on("limited").max_connections(own))
        .listener(on("free"))
        .start_each(echo::echo, |_| Ok(()))
        .unwrap();
    let addresses = [0, 1].map(|at| server.local_addrs()[at]);
    (server, addresses)
}

fn connect_served(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| echo::connect_served(address)).collect()
}

fn open_at(server: &Server, name: &str) -> usize {
    let connections = server.connections();
    let at = connections.iter().filter(|conn| &*conn.listener == name);
    at.count()
}

#[test]
fn at_its_own_limit_a_listener_keeps_its_clients_waiting_and_the_other_goes_on() {
    let (server, [limited, free]) = start(config(5, OnOverload::Backlog), 2);
    let mut served = connect_served(limited, 2);
    let mut waiting = client::connect(limited);
    echo::assert_waits(&mut waiting);
    // All permits but those of the first listener.
    let mut others = connect_served(free, 3);
    assert!(server.stats().is_balanced());
    drop(served.pop());
    echo::assert_served(&mut waiting);
    others.iter_mut().for_each(echo::assert_served);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (6, 0));
    assert!(stats.is_balanced(), "{stats:?}");
}

#[test]
fn within_its_own_limit_a_listener_waits_for_the_common_one() {
    let (server, [limited, free]) = start(config(3, OnOverload::Backlog), 2);
    let mut others = connect_served(free, 3);
    let mut waiting = client::connect(limited);
    echo::assert_waits(&mut waiting);
    drop(others.pop());
    echo::assert_served(&mut waiting);
    server.shutdown(DEADLINE);
}

#[test]
fn at_its_own_limit_it_closes_or_refuses_its_clients_and_the_other_none() {
    for on_overload in [OnOverload::Close, OnOverload::Refuse] {
        let (server, [limited, free]) = start(config(6, on_overload), 1);
        let served = echo::connect_served(limited);
        match on_overload {
            OnOverload::Close => {
                let mut closed = client::connect(limited);
                assert_eq!(client::wait_for_close(&mut closed), Closed::Clean);
            }
            _ => wait_until("a connect refused", DEADLINE, || {
                client::try_connect(limited, DEADLINE).is_err()
            }),
        }
        let mut others = connect_served(free, 5);
        drop(served);
        // Who came in the moment before was rejected.
        wait_until("served again", DEADLINE, || {
            client::try_connect(limited, DEADLINE)
                .is_ok_and(|mut client| echo::is_served(&mut client, DEADLINE))
        });
        others.iter_mut().for_each(echo::assert_served);
        let stats = server.shutdown(DEADLINE).stats;
        let rejected = stats.rejected.get(RejectReason::MaxConnections);
        assert_eq!(rejected, stats.rejected.total(), "{stats:?}");
        assert!(stats.is_balanced(), "{stats:?}");
    }
}

#[test]
fn whoever_leaves_a_listener_at_its_own_limit_wakes_its_acceptor() {
    let (server, [limited, _]) = start(config(10, OnOverload::Backlog), 1);
    let mut served = echo::connect_served(limited);
    // Unwoken it would find out with the watchdog's tick.
    wait_until_prompt(TICK, || {
        let mut next = client::connect(limited);
        echo::assert_waits(&mut next);
        let left = Instant::now();
        drop(std::mem::replace(&mut served, next.try_clone().unwrap()));
        echo::assert_served(&mut next);
        left.elapsed()
    });
    server.shutdown(DEADLINE);
}

/// Ends a storm, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waves of short connections, whose threads wait idle with their permits or are being joined, and
/// a queue that is never empty.
#[test]
fn a_storm_at_one_listener_takes_no_permit_of_the_other_beyond_its_limit() {
    const OWN: usize = 3;
    const OTHERS: usize = 3;
    for reuse_threads in [None, small::config().reuse_threads] {
        let mut config = config(OWN + OTHERS, OnOverload::Backlog);
        config.reuse_threads = reuse_threads;
        let (server, [limited, free]) = start(config, OWN);
        let is_over = AtomicBool::new(false);
        let storm = || {
            while !is_over.load(Ordering::Relaxed) {
                drop(echo::connect_served(limited));
                // One that is gone before it is served.
                client::reset(client::connect(limited));
            }
        };
        thread::scope(|scope| {
            (0..3 * OWN).for_each(|_| drop(scope.spawn(storm)));
            let _over = Over(&is_over);
            // Nobody here ever waits for somebody there to leave.
            for _ in 0..20 {
                stays("the limit", LOOK, || open_at(&server, "limited") <= OWN);
                let mut served = connect_served(free, OTHERS);
                assert!(open_at(&server, "limited") <= OWN);
                served.iter_mut().for_each(echo::assert_served);
            }
        });
        let stats = server.shutdown(DEADLINE).stats;
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(stats.rejected.total(), 0, "{stats:?}");
    }
}

/// Who waits for a thread has a permit of the listener already.
#[test]
fn no_more_clients_than_its_limit_wait_for_threads() {
    let (leave, leaves) = channel();
    let leaves = Mutex::new(leaves);
    let server = small::server::<String>()
        .listener(on("limited").max_connections(2))
        .listener(on("free"))
        .spawner(move |builder, body| {
            let _ = leaves.lock().unwrap().recv();
            builder.spawn(body)
        })
        .start_each(lines, |_| Ok(()))
        .unwrap();
    let limited = client::connect_many(server.local_addrs()[0], 6);
    let _free = client::connect_many(server.local_addrs()[1], 3);
    let came = || {
        let stats = server.stats();
        stats.starting + stats.accepted
    };
    // An acceptor that finds its queue empty for a moment makes threads, and waits in the spawner.
    wait_until("clients", DEADLINE, || came() >= 1);
    stays("no more of the first", TICK * 5, || came() <= 2 + 3);
    (0..5).for_each(|_| leave.send(()).unwrap());
    wait_until("threads", DEADLINE, || server.stats().accepted == 2 + 3);
    stays("no more of the first", TICK * 5, || came() == 2 + 3);
    drop(leave);
    for mut client in limited {
        client.write_all(b"a line\n").unwrap();
        client::half_close(client);
    }
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.delivered), (6 + 3, 6));
    assert!(stats.is_balanced(), "{stats:?}");
}

thread_local! {
    /// Its destructor runs when the handler's thread ends, after the handler returned.
    static SLOW_TO_END: RefCell<Option<SlowToEnd>> = const { RefCell::new(None) };
}

/// Ends when the test's end of the channel is dropped.
struct SlowToEnd(Receiver<()>);

impl Drop for SlowToEnd {
    fn drop(&mut self) {
        let _ = self.0.recv_timeout(DEADLINE);
    }
}

/// A thread has its permit until it was joined, and so it has its listener's.
#[test]
fn threads_that_are_slow_to_end_use_up_the_permits_of_their_own_listener() {
    let (let_go, held): (Vec<_>, Vec<_>) = (0..2).map(|_| channel::<()>()).unzip();
    let held = Mutex::new(held);
    let mut config = config(4, OnOverload::Backlog);
    config.reuse_threads = None;
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listener(on("limited").max_connections(2))
        .listener(on("free"))
        .start_each(
            move |conn, out| {
                if conn.listener_index() == 0 {
                    let held = held.lock().unwrap().pop();
                    SLOW_TO_END.set(held.map(SlowToEnd));
                }
                echo::echo(conn, out)
            },
            |_| Ok(()),
        )
        .unwrap();
    let [limited, free] = [0, 1].map(|at| server.local_addrs()[at]);
    drop(connect_served(limited, 2));
    wait_until("their end", DEADLINE, || server.stats().open == 0);
    let mut next = client::connect_many(limited, 2);
    next.iter_mut().for_each(echo::assert_waits);
    let mut others = connect_served(free, 2);
    drop(let_go);
    next.iter_mut().for_each(echo::assert_served);
    others.iter_mut().for_each(echo::assert_served);
    let stats = server.shutdown(DEADLINE).stats;
    assert!(stats.is_balanced(), "{stats:?}");
}

/// Threads whose connections ended well are free for everybody, whoever had them.
#[test]
fn idle_threads_use_up_no_permit_of_a_listener() {
    let mut config = config(4, OnOverload::Backlog);
    config.reuse_threads = Some(DEADLINE);
    let (server, [limited, free]) = start(config, 2);
    for _ in 0..3 {
        drop(connect_served(limited, 2));
        wait_until("their end", DEADLINE, || server.stats().open == 0);
        drop(connect_served(free, 4));
        wait_until("their end", DEADLINE, || server.stats().open == 0);
    }
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.threads_peak), (3 * 6, 6 + 4));
}

/// Two limits that hold at once, each with a wake-up of its own (haproxy/haproxy#2476: a frontend
/// at its limit of sessions a second and of connections was never woken again).
#[test]
fn with_an_accept_rate_beside_its_own_limit_a_listener_serves_everybody() {
    let mut config = config(10, OnOverload::Backlog);
    config.accept_rate = Some(20);
    let (server, [limited, free]) = start(config, 1);
    thread::scope(|scope| {
        for address in [limited, limited, limited, free] {
            scope.spawn(move || (0..6).for_each(|_| drop(echo::connect_served(address))));
        }
    });
    assert_eq!(server.shutdown(DEADLINE).stats.accepted, 24);
}

/// A connection that fails before its handler is called returns its permit, too
/// (helidon-io/helidon#11944: what a malformed PROXY head had taken was gone for good).
#[test]
fn a_connection_that_never_reaches_its_handler_returns_the_listeners_permit() {
    let balancers: [Peers; 1] = ["127.0.0.1".parse().unwrap()];
    let limited = on("limited").max_connections(1).proxy_from(balancers);
    let limited = limited.handshake_timeout(TICK);
    let server = small::server::<Vec<u8>>()
        .listener(limited)
        .start_each(echo::echo, |_| Ok(()))
        .unwrap();
    let address = server.local_addrs()[0];
    for nth in 0..12 {
        let mut client = client::connect(address);
        match nth % 3 {
            0 => _ = client.write_all(b"no head at all\r\n"),
            // Nothing, until the deadline.
            1 => {}
            _ => drop(client.shutdown(Shutdown::Write)),
        }
        client::wait_for_close(&mut client);
    }
    // Whoever is slower than the deadline, as on a busy machine, comes again.
    let mut tries = 0;
    wait_until("a client served", DEADLINE, || {
        tries += 1;
        let mut client = client::connect(address);
        let head = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
        client.write_all(head).is_ok() && echo::is_served(&mut client, DEADLINE)
    });
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!(stats.accepted, 12 + tries, "{stats:?}");
}

/// With its own limit reached, its own silent connections give way, the oldest first and only as
/// many as are needed, and none of another listener, however long that has been silent.
#[test]
fn at_its_own_limit_the_oldest_of_its_own_silent_connections_gives_way_after_a_minute() {
    if env::var_os("DRAINLINE_LONG").is_none() {
        eprintln!("skipped: it takes a minute; DRAINLINE_LONG=1 runs it");
        return;
    }
    let never = on("never").max_connections(1);
    let never = never.first_byte_timeout(FirstByteTimeout::Off);
    let server = small::server::<Vec<u8>>()
        .listener(on("limited").max_connections(2))
        .listener(on("free"))
        .listener(never)
        .start_each(echo::echo, |_| Ok(()))
        .unwrap();
    let addrs = server.local_addrs();
    let others = client::connect_many(addrs[1], 3);
    let mut silent = client::connect_many(addrs[0], 1);
    let never = client::connect_many(addrs[2], 2);
    wait_until("all but one", DEADLINE, || server.stats().open == 5);
    silent.push(client::connect(addrs[0]));
    wait_until("all", DEADLINE, || server.stats().open == 6);
    let mut kept_out = client::connect(addrs[0]);
    wait_until("the end of one of the silent", DEADLINE * 2, || {
        client::is_closed(&silent[0])
    });
    echo::assert_served(&mut kept_out);
    stays("nobody else gives way", DEADLINE / 6, || {
        let all = silent[1..].iter().chain(&others).chain(&never);
        !all.into_iter().any(client::is_closed)
    });
    let ended = server.shutdown(DEADLINE).stats.ended;
    assert_eq!(ended.get(EndReason::FirstByteTimeout), 1, "{ended:?}");
}

/// A drain serves who is in the queue, by the listener's permits as they come back, and rejects who
/// gets none in its time.
#[test]
fn a_drain_goes_by_the_limit_too() {
    let (leave, leaves) = channel::<()>();
    let leaves = Mutex::new(leaves);
    let server = small::server::<()>()
        .listener(on("limited").max_connections(1))
        .start_each(
            move |_, _| {
                let _ = leaves.lock().unwrap().recv();
                Ok(())
            },
            |()| Ok(()),
        )
        .unwrap();
    let _clients = client::connect_many(server.local_addrs()[0], 4);
    wait_until("the first", DEADLINE, || server.stats().open == 1);
    server.drain(LONG);
    for served in 1..3 {
        stays("the others wait", TICK, || {
            server.stats().accepted == served
        });
        leave.send(()).unwrap();
        wait_until("the next", DEADLINE, || {
            server.stats().accepted == served + 1
        });
    }
    server.drain(TICK);
    wait_until("the last rejected", DEADLINE, || {
        server.stats().rejected.get(RejectReason::Shutdown) == 1
    });
    drop(leave);
    let stats = server.wait().stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (3, 1));
    assert!(stats.is_balanced(), "{stats:?}");
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("at its own limit") => {
            let (server, [limited, free]) = start(config(3, OnOverload::Backlog), 1);
            embedded::tell(&format!("addrs {limited} {free}"));
            while embedded::hear().is_some() {}
            server.shutdown(DEADLINE);
        }
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

#[test]
fn at_its_own_limit_an_acceptor_does_not_spin_though_others_come_and_go_elsewhere() {
    const SHUT_FOR: Duration = Duration::from_millis(800);
    let mut child = Embedded::start("listeners::child_entry", "at its own limit", &[]);
    let told = child.wait_line("addrs ");
    let addrs: Vec<_> = told.split(' ').map(|addr| addr.parse().unwrap()).collect();
    let served = echo::connect_served(addrs[0]);
    let mut waiting = client::connect(addrs[0]);
    echo::assert_waits(&mut waiting);
    drop(echo::connect_served(addrs[1]));
    let before = proc::cpu_time(child.pid());
    thread::sleep(SHUT_FOR);
    let spent = proc::cpu_time(child.pid()) - before;
    assert!(spent < SHUT_FOR / 4, "{spent:?} of {SHUT_FOR:?}");
    drop(served);
    echo::assert_served(&mut waiting);
    assert_eq!(child.end(), Some(0), "{}", child.told());
}
