//! The limit: so many connections in all, a permit that comes back when a thread was joined, and
//! the rate of accepts.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::{self, Closed};
use crate::common::echo::{self, ANY};
use crate::common::embedded::{self, Embedded};
use crate::common::port::free_port;
use crate::common::proc;
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_for, wait_until, wait_until_prompt};
use drainline::{
    Config, EndReason, NotAcceptingReason, OnOverload, RejectReason, Server, StartError, Stats,
};

/// The watchdog's.
const TICK: Duration = Duration::from_millis(100);
/// Longer than it takes to see what is not to happen.
const A_WHILE: Duration = Duration::from_millis(300);
/// How often a rate is looked at.
const LOOK: Duration = Duration::from_millis(5);

fn at_most(max_connections: usize) -> Config {
    let mut config = small::config();
    config.max_connections = Some(max_connections);
    config
}

/// A server whose handlers return at once.
#[track_caller]
fn start_closing(config: Config, addrs: &[&str]) -> Server {
    let mut builder = small::server::<Vec<u8>>().config(config);
    for addr in addrs {
        builder = builder.listen(addr.parse().unwrap());
    }
    builder.start_each(|_, _| Ok(()), |_| Ok(())).unwrap()
}

/// Ends a connection when the server has. A client that does so before may send its reset on
/// another processor than the end of its handshake, and the kernel may receive that first: then no
/// server ever hears of the connection.
fn hang_up_second(mut client: TcpStream) {
    let _ = client.read(&mut [0]);
    // Leaves nothing in the kernel's table of sockets, which the server reads.
    client::reset(client);
}

#[track_caller]
fn assert_rejected(stats: &Stats, reason: RejectReason, clients: u64) {
    assert_eq!(
        (stats.rejected.get(reason), stats.rejected.total()),
        (clients, clients),
        "{stats:?}"
    );
}

#[test]
fn the_client_over_the_limit_waits_and_is_served_when_one_leaves() {
    let server = echo::start(at_most(3), &[ANY]);
    let addr = server.local_addrs()[0];
    let mut served: Vec<_> = (0..3).map(|_| echo::connect_served(addr)).collect();
    let mut waiting = client::connect(addr);
    echo::assert_waits(&mut waiting);
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.open), (3, 3));

    drop(served.pop());
    echo::assert_served(&mut waiting);
    served.iter_mut().for_each(echo::assert_served);
    let stats = server.shutdown(DEADLINE).stats;
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.accepted, stats.threads_peak), (4, 5 + 3));
    assert_rejected(&stats, RejectReason::MaxConnections, 0);
}

#[test]
fn whoever_leaves_wakes_the_acceptor() {
    let server = echo::start(at_most(1), &[ANY]);
    let addr = server.local_addrs()[0];
    let mut served = echo::connect_served(addr);
    // Unwoken it would find out with the watchdog's tick.
    wait_until_prompt(TICK, || {
        let mut next = client::connect(addr);
        wait_until("somebody is seen to wait", DEADLINE, || {
            server.stats().not_accepting.is_some()
        });
        let left = Instant::now();
        drop(std::mem::replace(&mut served, next.try_clone().unwrap()));
        echo::assert_served(&mut next);
        left.elapsed()
    });
}

#[test]
fn a_crowd_is_served_to_the_last_and_never_more_at_once_than_the_limit() {
    let server = echo::start(at_most(4), &[ANY]);
    let addr = server.local_addrs()[0];
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..8).for_each(|_| drop(echo::connect_served(addr))));
        }
    });
    echo::wait_until_joined(&server, 5);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (16 * 8, 0));
    assert!(stats.threads_peak <= 5 + 4, "{stats:?}");
}

#[test]
fn under_close_the_client_over_the_limit_is_closed_and_counted() {
    let mut config = at_most(2);
    config.on_overload = OnOverload::Close;
    let server = echo::start(config, &[ANY]);
    let addr = server.local_addrs()[0];
    let mut served: Vec<_> = (0..2).map(|_| echo::connect_served(addr)).collect();
    for _ in 0..5 {
        assert_eq!(
            client::wait_for_close(&mut client::connect(addr)),
            Closed::Clean
        );
    }
    assert_rejected(&server.stats(), RejectReason::MaxConnections, 5);
    served.iter_mut().for_each(echo::assert_served);

    drop(served.pop());
    wait_until("somebody else let in", DEADLINE, || {
        echo::is_served(&mut client::connect(addr), DEADLINE)
    });
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!(stats.accepted, 3);
    let rejected = stats.rejected.get(RejectReason::MaxConnections);
    assert!(rejected >= 5 && rejected == stats.rejected.total());
}

#[test]
fn under_refuse_the_client_over_the_limit_cannot_connect_until_one_leaves() {
    let mut config = at_most(1);
    config.on_overload = OnOverload::Refuse;
    let server = echo::start(config, &[ANY]);
    let addr = server.local_addrs()[0];
    let served = echo::connect_served(addr);
    wait_until("a connect refused", DEADLINE, || {
        client::try_connect(addr, DEADLINE).is_err()
    });
    drop(served);
    // Who came in the moment before was rejected.
    wait_until("served again", DEADLINE, || {
        client::try_connect(addr, DEADLINE)
            .is_ok_and(|mut client| echo::is_served(&mut client, DEADLINE))
    });
    server.shutdown(DEADLINE);
}

/// The kernel resets whoever is in its queue when a port is shut down, and tells nobody.
#[test]
fn under_refuse_whoever_has_connected_is_accepted_or_counted_as_rejected() {
    const LISTENERS: usize = 8;
    /// For each of them a port or more is shut down.
    const SERVED: u64 = 50;
    let mut config = at_most(1);
    config.on_overload = OnOverload::Refuse;
    let server = start_closing(config, &[ANY; LISTENERS]);
    let connected = AtomicU64::new(0);
    thread::scope(|scope| {
        for &addr in server.local_addrs() {
            let (server, connected) = (&server, &connected);
            scope.spawn(move || {
                while server.stats().accepted < SERVED {
                    if let Ok(client) = client::try_connect(addr, DEADLINE) {
                        connected.fetch_add(1, Relaxed);
                        hang_up_second(client);
                    }
                }
            });
        }
    });
    let stats = server.shutdown(DEADLINE).stats;
    assert!(stats.is_balanced(), "{stats:?}");
    let booked = stats.accepted + stats.rejected.total();
    assert_eq!(booked, connected.into_inner(), "{stats:?}");
}

/// The kernel resets whoever is in its queue when a listener is closed, too.
#[test]
fn whoever_has_connected_before_a_listener_is_closed_is_accepted_or_counted_as_rejected() {
    const STOPS: usize = 6;
    const LISTENERS: usize = 8;
    /// No other server of the machine's tests listens there. A connect whose first SYN is dropped
    /// as the port is closed is tried again after a second, when the port may be another server's.
    const ALONE: &str = "127.77.0.1:0";
    for _ in 0..STOPS {
        let server = start_closing(at_most(100), &[ALONE; LISTENERS]);
        let connected = AtomicU64::new(0);
        let (connected, addrs) = (&connected, server.local_addrs().to_vec());
        let stats = thread::scope(|scope| {
            for addr in addrs {
                scope.spawn(move || {
                    while let Ok(client) = client::try_connect(addr, DEADLINE) {
                        connected.fetch_add(1, Relaxed);
                        hang_up_second(client);
                    }
                });
            }
            wait_until("clients", DEADLINE, || server.stats().accepted > 200);
            server.shutdown(DEADLINE).stats
        });
        assert!(stats.is_balanced(), "{stats:?}");
        let booked = stats.accepted + stats.rejected.total();
        assert_eq!(booked, connected.load(Relaxed), "{stats:?}");
    }
}

#[test]
fn the_wildcards_of_ipv4_and_ipv6_share_a_port_in_any_order_with_what_is_handed_in_too() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let serves = |server: &Server, port: u16| {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let _both = [v4, v6].map(echo::connect_served);
        let peers = server.connections();
        assert_eq!(
            peers
                .iter()
                .filter(|info| info.peer.ip().is_some_and(|ip| ip.is_ipv4()))
                .count(),
            1
        );
    };
    for on_overload in [OnOverload::Backlog, OnOverload::Refuse] {
        for order in [
            ["0.0.0.0", "[::]"],
            ["[::]", "0.0.0.0"],
            ["127.0.0.1", "[::]"],
        ] {
            let port = free_port();
            let mut config = small::config();
            config.on_overload = on_overload;
            let addrs = order.map(|host| format!("{host}:{port}"));
            let server = echo::start(config, &addrs.each_ref().map(String::as_str));
            serves(&server, port);
            server.shutdown(DEADLINE);
        }
    }
    let port = free_port();
    let inherited = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let server = small::server::<Vec<u8>>()
        .listener(inherited)
        .listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        .start_each(echo::echo, |_| Ok(()))
        .unwrap();
    serves(&server, port);
    server.shutdown(DEADLINE);
}

#[test]
fn servers_of_one_process_meet_the_limits_together_and_give_back_what_they_promised() {
    embedded::alone(
        "limit::servers_of_one_process_meet_the_limits_together_and_give_back_what_they_promised",
        || {
            let start = |max_connections: usize| {
                let builder = small::server::<Vec<u8>>().config(at_most(max_connections));
                let builder = builder.listen(ANY.parse().unwrap());
                builder.start_each(echo::echo, |_| Ok(()))
            };
            let Err(StartError::Limit(limit)) = start(1_000_000) else {
                eprintln!("skipped: this system holds a million connections");
                return;
            };
            // Each alone, and not both.
            let most = limit.fits / 3 * 2;
            let first = start(most).unwrap();
            match start(most) {
                Err(StartError::Limit(limit)) => assert!(limit.fits < most, "{limit}"),
                started => panic!("both started: {started:?}"),
            }
            first.shutdown(DEADLINE);
            let second = wait_for("what the first had promised", DEADLINE, || start(most).ok());
            second.shutdown(DEADLINE);
        },
    );
}

/// One at the limit, and the state that an operator sees: for each policy.
#[test]
fn at_the_limit_the_first_client_that_is_kept_out_is_seen_and_the_time_is_counted() {
    for on_overload in [OnOverload::Backlog, OnOverload::Close, OnOverload::Refuse] {
        let mut config = at_most(1);
        config.on_overload = on_overload;
        let server = echo::start(config, &[ANY]);
        let addr = server.local_addrs()[0];
        let served = echo::connect_served(addr);
        if on_overload != OnOverload::Refuse {
            stays("nobody is kept out", A_WHILE, || {
                server.stats().not_accepting.is_none()
            });
        }
        let _kept_out = client::try_connect(addr, DEADLINE);
        let limit = NotAcceptingReason::MaxConnections;
        wait_until("not accepting", DEADLINE, || {
            let stats = server.stats();
            let seconds = stats.not_accepting_seconds;
            stats
                .not_accepting
                .is_some_and(|state| state.reason == limit)
                && seconds.get(limit) >= Duration::from_millis(500)
        });
        drop(served);
        wait_until("accepting", DEADLINE, || {
            server.stats().not_accepting.is_none()
        });
        let before = server.stats().not_accepting_seconds.get(limit);
        stays("no time is counted", A_WHILE, || {
            server.stats().not_accepting_seconds.get(limit) == before
        });
        server.shutdown(DEADLINE);
    }
}

thread_local! {
    /// Its destructor runs when the handler's thread ends, after the handler returned.
    static SLOW_TO_END: RefCell<Option<SlowToEnd>> = const { RefCell::new(None) };
}

struct SlowToEnd(mpsc::Receiver<()>);

impl Drop for SlowToEnd {
    fn drop(&mut self) {
        let _ = self.0.recv_timeout(DEADLINE);
    }
}

#[test]
fn a_permit_comes_back_when_its_thread_was_joined_and_not_before() {
    let (let_go, held) = mpsc::channel();
    let held = Mutex::new(Some(held));
    let mut config = at_most(1);
    config.reuse_threads = None;
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen(ANY.parse().unwrap())
        .start_each(
            move |conn, out| {
                if let Some(held) = held.lock().unwrap().take() {
                    SLOW_TO_END.set(Some(SlowToEnd(held)));
                }
                echo::echo(conn, out)
            },
            |_| Ok(()),
        )
        .unwrap();
    let addr = server.local_addrs()[0];
    drop(echo::connect_served(addr));
    wait_until("the handler's end", DEADLINE, || server.stats().open == 0);
    let mut next = client::connect(addr);
    echo::assert_waits(&mut next);
    assert_eq!(
        server.stats().threads,
        5 + 1,
        "its thread is not joined: the permit is out"
    );

    let_go.send(()).unwrap();
    echo::assert_served(&mut next);
    drop(next);
    echo::wait_until_joined(&server, 5);
    server.shutdown(DEADLINE);
}

#[test]
fn threads_that_are_joined_together_wait_for_none_that_hangs() {
    // The first and the last of three threads hang as they end, and the one between does not.
    let ((let_first_go, first), (let_last_go, last)) = (mpsc::channel(), mpsc::channel());
    let held = Mutex::new([Some(first), None, Some(last)].into_iter());
    let mut config = at_most(3);
    config.reuse_threads = None;
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen(ANY.parse().unwrap())
        .start_each(
            move |conn, out| {
                if let Some(Some(held)) = held.lock().unwrap().next() {
                    SLOW_TO_END.set(Some(SlowToEnd(held)));
                }
                echo::echo(conn, out)
            },
            |_| Ok(()),
        )
        .unwrap();
    let addr = server.local_addrs()[0];
    let clients: Vec<_> = (0..3).map(|_| echo::connect_served(addr)).collect();
    for (client, open) in clients.into_iter().zip([2, 1, 0]) {
        drop(client);
        wait_until("its end", DEADLINE, || server.stats().open == open);
    }
    wait_until("all of them wait to be joined", DEADLINE, || {
        server.connections().len() == 3
    });
    let_first_go.send(()).unwrap();
    echo::wait_until_joined(&server, 5 + 1);
    let_last_go.send(()).unwrap();
    echo::wait_until_joined(&server, 5);
    server.shutdown(DEADLINE);
}

#[test]
fn a_permit_comes_back_however_a_handler_ends() {
    let server = small::server::<Vec<u8>>()
        .config(at_most(1))
        .listen(ANY.parse().unwrap())
        .start_each(
            |conn, out| {
                let mut how = [0];
                conn.read_exact(&mut how)?;
                match how[0] {
                    b'p' => panic!("as asked"),
                    b'e' => Err("as asked".into()),
                    b'r' => Ok(()),
                    _ => echo::echo(conn, out),
                }
            },
            |_| Ok(()),
        )
        .unwrap();
    let addr = server.local_addrs()[0];
    let ends = [
        (b'p', EndReason::HandlerPanicked),
        (b'e', EndReason::HandlerError),
        (b'r', EndReason::HandlerReturned),
        (b'a', EndReason::Aborted),
        (b'x', EndReason::Reset),
    ];
    for (how, reason) in ends {
        // With one permit, each of these is served because the one before gave its own back.
        let mut client = client::connect(addr);
        client.write_all(&[how]).unwrap();
        if reason == EndReason::Aborted || reason == EndReason::Reset {
            echo::assert_served(&mut client);
        }
        if reason == EndReason::Aborted {
            assert!(server.abort(server.connections()[0].id));
        }
        if reason == EndReason::Reset {
            client::reset(client);
        } else {
            client::wait_for_close(&mut client);
        }
        wait_until("its end counted", DEADLINE, || {
            server.stats().ended.get(reason) == 1
        });
    }
    echo::wait_until_joined(&server, 5);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.ended.total()), (5, 5));
    assert!(stats.is_balanced(), "{stats:?}");
}

#[test]
fn the_accept_rate_slows_clients_down_and_turns_nobody_away() {
    const RATE: u64 = 20;
    const CLIENTS: u64 = 30;
    let mut config = small::config();
    config.accept_rate = Some(RATE);
    // Over all listeners together.
    let server = echo::start(config, &[ANY, ANY]);
    let began = Instant::now();
    let mut clients: Vec<_> = (0..CLIENTS as usize)
        .map(|at| client::connect(server.local_addrs()[at % 2]))
        .collect();
    let mut readings = 0;
    loop {
        // Asked before the clock is read: what is accepted meanwhile only makes the bound wider.
        let accepted = server.stats().accepted;
        let most = RATE as f64 * began.elapsed().as_secs_f64() + RATE as f64 / 10.0 + 2.0;
        assert!(
            accepted as f64 <= most,
            "{accepted} accepted, {most} at most"
        );
        readings += 1;
        if accepted == CLIENTS {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{accepted} accepted");
        thread::sleep(LOOK);
    }
    assert!(readings > 10);
    clients.iter_mut().for_each(echo::assert_served);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (CLIENTS, 0));
    let waited = stats
        .not_accepting_seconds
        .get(NotAcceptingReason::AcceptRate);
    assert!(waited >= Duration::from_millis(500), "{stats:?}");
}

#[test]
fn without_an_accept_rate_nobody_waits() {
    let server = echo::start(at_most(300), &[ANY]);
    let addr = server.local_addrs()[0];
    let began = Instant::now();
    // As above, at a rate of 20 a second, it would take 14 s.
    for mut client in client::connect_many(addr, 300) {
        echo::assert_served(&mut client);
    }
    assert!(began.elapsed() < Duration::from_secs(14));
    server.shutdown(DEADLINE);
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("two listeners, one permit") => {
            let server = echo::start(at_most(1), &[ANY, ANY]);
            let addrs = server.local_addrs();
            embedded::tell(&format!("addrs {} {}", addrs[0], addrs[1]));
            while embedded::hear().is_some() {}
        }
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

#[test]
fn listeners_share_one_limit_in_turn_and_do_not_spin_while_nobody_is_accepted() {
    const SHUT_FOR: Duration = Duration::from_millis(800);
    let mut child = Embedded::start("limit::child_entry", "two listeners, one permit", &[]);
    let told = child.wait_line("addrs ");
    let addrs: Vec<_> = told.split(' ').map(|addr| addr.parse().unwrap()).collect();
    let mut served = echo::connect_served(addrs[0]);
    // Somebody waits at both.
    let mut waiting: Vec<_> = [0, 1, 0, 1].map(|at| client::connect(addrs[at])).into();
    waiting.iter_mut().for_each(echo::assert_waits);

    let before = proc::cpu_time(child.pid());
    thread::sleep(SHUT_FOR);
    let spent = proc::cpu_time(child.pid()) - before;
    assert!(spent < SHUT_FOR / 4, "{spent:?} of {SHUT_FOR:?}");

    // One leaves, and somebody else has its place: until all were served, at whichever listener.
    echo::assert_served(&mut served);
    drop(served);
    while !waiting.is_empty() {
        let at = wait_for("a client served", DEADLINE, || {
            // It was asked with a byte above.
            waiting.iter_mut().position(echo::is_answered)
        });
        drop(waiting.remove(at));
    }
    assert_eq!(child.end(), Some(0), "{}", child.told());
}
