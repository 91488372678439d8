//! A system that has no descriptor or no thread to give: nobody is lost without being counted,
//! nothing spins, and when there is something again, clients are served again.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Counted;
use crate::common::ledger::assert_closes;
use crate::common::proc;
use crate::common::root::is_root;
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use drainline::{Connection, Sender};
use rustix::process::{Resource, Signal};

const SIZE: usize = 120;
const EACH: u64 = 5;
/// Clients that come while there is nothing to give.
const STARVED: u32 = 6;

/// Takes away every descriptor that is not in use. Returns the soft limit before, and the clients
/// that fill the gaps.
fn take_descriptors(server: &mut Drainline) -> (Option<u64>, Vec<TcpStream>) {
    let pid = server.pid();
    // What the server opened has low numbers. What it was started with may have any.
    let low = || {
        let mut numbers = proc::descriptor_numbers(pid);
        numbers.retain(|&number| number < 64);
        numbers
    };
    let limit = low().last().unwrap() + 1;
    let mut idle = Vec::new();
    while (low().len() as u64) < limit {
        let before = low().len();
        idle.push(server.connect());
        wait_until("one more descriptor", DEADLINE, || low().len() > before);
    }
    (server.limit(Resource::Nofile, Some(limit)), idle)
}

/// Sets how many threads that user may have, as that user, who needs no privilege for it. `false`:
/// it cannot be done here.
fn limit_threads(server: &Drainline, uid: u32, soft: u64) -> bool {
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--pid={}", server.pid()))
        .arg(format!("--nproc={soft}:"));
    command
        .uid(uid)
        .status()
        .is_ok_and(|status| status.success())
}

fn lines(stream: &mut TcpStream, connection: u32, sent: &mut Counted) {
    let lines = Tagged::new(connection)
        .send(stream, 0..EACH, SIZE, Cut::Once)
        .all();
    sent.add(lines.messages, lines.bytes as usize);
}

/// A server that has delivered the lines of its first client, which is still there.
fn with_one_client(args: &[&str]) -> (Drainline, TcpStream, Counted) {
    let server = Drainline::start(args);
    let mut sent = Counted::default();
    let mut held = server.connect();
    lines(&mut held, 0, &mut sent);
    wait_until("the first client's lines", DEADLINE, || {
        server.checker().seen(0) == EACH
    });
    (server, held, sent)
}

/// A server that starves has nothing to do: it takes next to no time on a processor.
fn assert_does_not_spin(pid: u32) {
    const LOOKED_AT_FOR: Duration = Duration::from_secs(1);
    let before = proc::cpu_time(pid);
    thread::sleep(LOOKED_AT_FOR);
    let taken = proc::cpu_time(pid) - before;
    assert!(
        taken < LOOKED_AT_FOR / 3,
        "{taken:?} of processor time in {LOOKED_AT_FOR:?}"
    );
}

/// Comes again as a new client until one is served: the server may still be waiting before it asks
/// the system again. Returns the connections tried.
fn come_until_served(server: &Drainline, first: u32, sent: &mut Counted) -> u32 {
    let mut next = first;
    wait_for("a new client served", DEADLINE, || {
        let mut stream = client::try_connect(server.addr(), DEADLINE).ok()?;
        // Turned away, it may fail in the middle; how much of it was taken is known all the same.
        let taken = Tagged::new(next).send(&mut stream, 0..EACH, SIZE, Cut::Once);
        sent.add(taken.messages, taken.bytes as usize);
        next += 1;
        client::half_close(stream);
        let checker = server.checker();
        (first..next)
            .any(|connection| checker.seen(connection) == EACH)
            .then_some(next)
    })
}

#[test]
fn without_descriptors_clients_wait_in_the_backlog_and_are_served_when_there_are_some() {
    let (mut server, held, mut sent) = with_one_client(&["--max-connections", "128"]);
    let pid = server.pid();
    let (limit, idle) = take_descriptors(&mut server);
    let floor = proc::descriptors(pid);
    let mut waiting = Vec::new();
    for connection in 1..=STARVED {
        let mut stream = server.connect();
        lines(&mut stream, connection, &mut sent);
        waiting.push(stream);
    }
    wait_until("the want told", DEADLINE, || {
        server.stderr_text().contains("no_descriptor")
    });
    assert_does_not_spin(pid);
    assert_eq!(
        (server.checker().total(), proc::descriptors(pid)),
        (EACH, floor)
    );

    server.limit(Resource::Nofile, limit);
    let last = STARVED + 1;
    let mut stream = server.connect();
    lines(&mut stream, last, &mut sent);
    waiting.push(stream);
    waiting.into_iter().for_each(|stream| {
        client::half_close(stream);
    });
    wait_until("descriptors back at the floor", DEADLINE, || {
        proc::descriptors(pid) <= floor
    });
    drop((idle, held));
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&sent, &server.stdout_bytes());
    server.checker().expect_exact(
        &(0..=last)
            .map(|connection| (connection, EACH))
            .collect::<Vec<_>>(),
    );
    assert_eq!(exit.sum("connections.rejected"), 0, "{exit}");
}

#[test]
fn without_descriptors_clients_are_closed_where_that_is_the_policy_and_served_when_there_are_some()
{
    let (mut server, held, mut sent) =
        with_one_client(&["--max-connections", "128", "--on-overload", "close"]);
    let pid = server.pid();
    let (limit, idle) = take_descriptors(&mut server);
    for connection in 1..=STARVED {
        let mut stream = server.connect();
        let taken = Tagged::new(connection).send(&mut stream, 0..EACH, SIZE, Cut::Once);
        sent.add(taken.messages, taken.bytes as usize);
        client::wait_for_close(&mut stream);
    }
    assert_does_not_spin(pid);
    assert_eq!(server.checker().total(), EACH);

    server.limit(Resource::Nofile, limit);
    let next = come_until_served(&server, STARVED + 1, &mut sent);
    client::half_close(held);
    drop(idle);
    let exit = server.terminate();
    exit.assert_at_most(&sent, &server.stdout_bytes());
    server.checker().expect_prefix(
        &(0..next)
            .map(|connection| (connection, EACH))
            .collect::<Vec<_>>(),
    );
    let rejected = exit.u64("connections.rejected.no_descriptor");
    assert_eq!(rejected, exit.sum("connections.rejected"), "{exit}");
    assert!(
        (STARVED.into()..u64::from(next - 1)).contains(&rejected),
        "{exit}"
    );
    assert_eq!(
        exit.u64("unread_bytes") == 0,
        exit.code == Some(0),
        "{exit}"
    );
}

/// Clients that connected and sent while there was nothing to accept them with, not even the
/// descriptor in reserve: the server may use no descriptor but the three that it was started with.
fn without_any_descriptor(
    on_overload: &str,
    drain: &str,
) -> (Drainline, Option<u64>, Vec<TcpStream>) {
    let args = ["--on-overload", on_overload, "--drain-timeout", drain];
    let mut server = Drainline::start(&[&args[..], &["--max-connections", "8"]].concat());
    let limit = server.limit(Resource::Nofile, Some(3));
    let connect = |_| {
        let mut client = server.connect();
        client.write_all(b"hello\n").unwrap();
        client
    };
    let clients = (0..4).map(connect).collect();
    (server, limit, clients)
}

fn are_told_and_counted(on_overload: &str) {
    const DRAIN: Duration = Duration::from_secs(1);
    let (mut server, _, clients) = without_any_descriptor(on_overload, "1s");
    wait_until("the want told", DEADLINE, || {
        server.stderr_text().contains("no_descriptor")
    });
    let told = server.stderr_text();
    assert!(
        told.contains("; new clients wait\n"),
        "{on_overload}: {told}"
    );
    for client in &clients {
        client::wait_unread(client, 6);
    }
    // The end of a stream stands in the system's table as a byte, and is none.
    clients[0].shutdown(Shutdown::Write).unwrap();
    client::wait_unread(&clients[0], 7);
    let begun = Instant::now();
    let exit = server.terminate();
    let is_in_time = begun.elapsed() < DRAIN;
    // It waited for a descriptor for as long as handlers have.
    exit.assert_code(4);
    assert_eq!(exit.u64("connections.rejected.shutdown"), 4, "{exit}");
    // What the clients have sent stands in the table of all sockets, which is long beside other
    // tests. At the end of the drain the table is read no further, so what is known then is a lower
    // bound.
    let unread = exit.u64("unread.rejected.shutdown");
    assert!(unread == 24 || (!is_in_time && unread < 24), "{exit}");
    let told = "rejected 4 clients in the queue of 127.0.0.1:";
    assert!(exit.stderr.contains(told), "{exit}");
}

#[test]
fn clients_that_never_get_a_descriptor_are_told_and_counted_when_the_server_stops() {
    for on_overload in ["backlog", "close", "refuse"] {
        are_told_and_counted(on_overload);
    }
}

#[test]
fn a_descriptor_that_comes_back_while_the_server_stops_serves_whoever_waited_for_one() {
    for on_overload in ["backlog", "close", "refuse"] {
        let (mut server, limit, clients) = without_any_descriptor(on_overload, "1h");
        server.signal(Signal::TERM);
        wait_until("the drain", DEADLINE, || {
            server.stderr_text().contains("draining")
        });
        server.limit(Resource::Nofile, limit);
        let exit = server.wait();
        exit.assert_code(0);
        assert_eq!(server.stdout_bytes(), b"hello\n".repeat(4), "{exit}");
        assert_eq!(exit.sum("connections.rejected"), 0, "{exit}");
        drop(clients);
    }
}

#[test]
fn without_descriptors_clients_that_are_refused_too_late_are_counted() {
    let mut server = Drainline::start(&["--max-connections", "128", "--on-overload", "refuse"]);
    let (_, idle) = take_descriptors(&mut server);
    // The first one shows the want. It has connected by then, and one beside it may have.
    let mut connected = Vec::new();
    let (tell, told) = mpsc::channel();
    let refused = wait_for("a connect refused", DEADLINE, || {
        let (addr, tell) = (server.addr(), tell.clone());
        thread::spawn(move || tell.send(client::try_connect(addr, DEADLINE)));
        // The server has the kernel ignore connects while it shuts the port. A client that met this
        // asks again after one second, two, four; the next client need not wait for that.
        match told.recv_timeout(Duration::from_secs(1)) {
            Ok(Ok(client)) => {
                connected.push(client);
                None
            }
            Ok(Err(refused)) => Some(refused),
            Err(_) => None,
        }
    });
    drop(tell);
    connected.extend(told.into_iter().flatten());
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    wait_until("the want told", DEADLINE, || {
        server.stderr_text().contains("; new clients are refused\n")
    });
    for client in &mut connected {
        client::wait_for_close(client);
    }
    drop(idle);
    let exit = server.terminate();
    let rejected = exit.sum("connections.rejected");
    assert_eq!(rejected, connected.len() as u64, "{exit}");
    assert_eq!(exit.u64("connections.rejected.no_descriptor"), rejected);
}

#[test]
fn without_threads_an_accepted_client_waits_and_is_rejected_and_the_next_is_served_when_there_are_some()
 {
    let name = "without_threads_an_accepted_client_waits_and_is_rejected_and_the_next_is_served_when_there_are_some";
    if !is_root("run a process as a user of its own") {
        return;
    }
    // A user that has no other process, since RLIMIT_NPROC counts them all.
    let uid = 1_000_000_000 + std::process::id();
    let mut server = Drainline::with(&["--max-connections", "128"])
        .uid(uid)
        .start();
    let pid = server.pid();
    let mut sent = Counted::default();
    let mut held = server.connect();
    lines(&mut held, 0, &mut sent);
    wait_until("the first client's lines", DEADLINE, || {
        server.checker().seen(0) == EACH
    });
    let threads = proc::threads(pid);
    if !limit_threads(&server, uid, threads) {
        eprintln!("skipped: {name}: prlimit(1) cannot limit a process of user {uid}");
        return;
    }
    // The first shows that there is no thread, and waits for one. The others stay in the backlog.
    let mut waiting = Vec::new();
    for connection in 1..=STARVED {
        let mut stream = server.connect();
        lines(&mut stream, connection, &mut sent);
        waiting.push(stream);
        wait_until("the want told", DEADLINE, || {
            let told = server.stderr_text();
            told.contains("no_thread")
                && told.contains("; waiting for a thread, at most 10s: 1 accepted client")
        });
    }
    assert_does_not_spin(pid);
    client::wait_for_close(&mut waiting.remove(0));
    assert_eq!(
        (server.checker().total(), proc::threads(pid)),
        (EACH, threads)
    );

    assert!(limit_threads(&server, uid, threads + 16));
    let next = come_until_served(&server, STARVED + 1, &mut sent);
    client::half_close(held);
    let exit = server.terminate();
    exit.assert_at_most(&sent, &server.stdout_bytes());
    server.checker().expect_prefix(
        &(0..next)
            .map(|connection| (connection, EACH))
            .collect::<Vec<_>>(),
    );
    assert_eq!(exit.u64("connections.rejected.no_thread"), 1, "{exit}");
    assert!(exit.u64("unread_bytes") > 0, "{exit}");
}

fn forward(connection: &mut Connection, out: &Sender<Vec<u8>>) -> Result<(), drainline::BoxError> {
    use std::io::BufRead;
    for line in io::BufReader::new(connection).split(b'\n') {
        out.send(line?)?;
    }
    Ok(())
}

/// Clients one after the other before a spawner that fails where `fails` says so, for its n-th
/// call. Each waits until there is a thread, and is served.
fn with_spawner(clients: u32, fails: impl Fn(u64) -> bool + Send + Sync + 'static) {
    let (calls, failures) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let failed = Arc::clone(&failures);
    let seen = Arc::new(Mutex::new(Checker::default()));
    let counted = Arc::clone(&seen);
    let mut config = small::config();
    // A permit that did not come back would be missed.
    config.max_connections = Some(2);
    // A spawn for each.
    config.reuse_threads = None;
    let server = small::server()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .spawner(move |builder, body| {
            if fails(calls.fetch_add(1, Ordering::Relaxed)) {
                failed.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            builder.spawn(body)
        })
        .start_each(forward, move |line| {
            counted.lock().unwrap().message(&line);
            Ok(())
        })
        .unwrap();
    let mut sent = Counted::default();
    for connection in 0..clients {
        let mut stream = client::connect(server.local_addrs()[0]);
        let taken = Tagged::new(connection).send(&mut stream, 0..EACH, SIZE, Cut::Once);
        sent.add(taken.messages, taken.bytes as usize);
        client::half_close(stream);
    }
    let stats = server.shutdown(DEADLINE).stats;
    assert_closes(&stats);
    let failures = failures.load(Ordering::Relaxed);
    assert!(failures > 0, "{stats:?}");
    assert_eq!(stats.accept_failures, failures, "{stats:?}");
    assert_eq!(stats.rejected.total(), 0, "{stats:?}");
    assert_eq!(stats.accepted, u64::from(clients), "{stats:?}");
    assert_eq!(stats.delivered, stats.accepted * EACH, "{stats:?}");
    seen.lock().unwrap().expect_exact(
        &(0..clients)
            .map(|connection| (connection, EACH))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_spawn_that_fails_now_and_then_costs_nobody() {
    with_spawner(40, |call| call % 3 == 1);
}

#[test]
fn spawns_that_fail_for_a_while_cost_nobody() {
    with_spawner(10, |call| (2..7).contains(&call));
}

#[test]
fn no_client_waits_while_the_kernel_doubles_its_table_of_descriptors() {
    let server = Drainline::start(&["--max-connections", "3000"]);
    // The kernel's table has 64 places at first, or as many as the parent's.
    assert!(proc::descriptor_table(server.pid()) > 3000);
}

#[test]
fn a_drain_without_descriptors_serves_the_queue_as_fast_as_they_come_back() {
    const CLIENTS: u32 = 300;
    let (mut server, held, mut sent) =
        with_one_client(&["--max-connections", "128", "--drain-timeout", "8s"]);
    let (_, idle) = take_descriptors(&mut server);
    let crowd: Vec<_> = (1..=CLIENTS)
        .map(|connection| {
            let mut stream = server.connect();
            lines(&mut stream, connection, &mut sent);
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        })
        .collect();
    // The few that the drain ends give their descriptors, for one client after the other.
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&sent, &server.stdout_bytes());
    drop((crowd, held, idle));
}
