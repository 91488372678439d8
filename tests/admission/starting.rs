//! Clients between accept and the thread that serves them, seen through an embedder's spawner.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender as Giver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use crate::common::client;
use crate::common::handlers::{anywhere, drained, lines};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::{Server, ThreadBody};
use rustix::thread::gettid;

const LINE: &[u8] = b"a line\n";

/// A server that delivers lines, whose connections each have a thread of their own.
fn server(
    max_connections: usize,
    spawn: impl Fn(Builder, ThreadBody) -> io::Result<JoinHandle<()>> + Send + Sync + 'static,
) -> Server {
    let mut config = small::config();
    config.max_connections = Some(max_connections);
    config.reuse_threads = None;
    let server = small::server::<String>().config(config);
    let server = server.listen(anywhere()).spawner(spawn);
    server.start_each(lines, |_| Ok(())).unwrap()
}

fn send_line(server: &Server) -> TcpStream {
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(LINE).unwrap();
    client
}

/// A server whose spawner waits for a leave before each thread, or for the giver's end.
fn server_by_leave() -> (Server, Giver<()>) {
    let (give, leaves) = channel();
    let leaves = Mutex::new(leaves);
    let server = server(64, move |builder, body| {
        let _ = leaves.lock().unwrap().recv();
        builder.spawn(body)
    });
    (server, give)
}

#[test]
fn all_that_wait_in_the_kernel_are_accepted_before_the_next_thread_is_made() {
    const OTHERS: u64 = 20;
    let (server, leave) = server_by_leave();
    let _first = send_line(&server);
    wait_until("the first one's thread being made", DEADLINE, || {
        server.stats().starting == 1
    });
    let _others: Vec<_> = (0..OTHERS).map(|_| send_line(&server)).collect();
    leave.send(()).unwrap();
    wait_until("all others in the table", DEADLINE, || {
        let stats = server.stats();
        (stats.accepted, stats.starting) == (1, OTHERS)
    });
    assert!(server.stats().is_balanced());
    drop(leave);
    wait_until("everybody's line", DEADLINE, || {
        server.stats().delivered == 1 + OTHERS
    });
    assert_eq!(drained(server).stats.accepted, 1 + OTHERS);
}

#[test]
fn only_a_few_threads_are_made_at_once() {
    const CLIENTS: usize = 60;
    let (making, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let server = server(64, move |builder, body| {
        let now = making.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(now, Ordering::SeqCst);
        let begun = Arc::clone(&making);
        builder.spawn(move || {
            // Meanwhile others come, and the acceptor would make their threads.
            thread::sleep(Duration::from_millis(5));
            begun.fetch_sub(1, Ordering::SeqCst);
            body();
        })
    });
    let one_by_one = |_| {
        thread::sleep(Duration::from_micros(500));
        send_line(&server)
    };
    let _clients: Vec<_> = (0..CLIENTS).map(one_by_one).collect();
    wait_until("everybody's line", DEADLINE, || {
        server.stats().delivered == CLIENTS as u64
    });
    let processors = thread::available_parallelism().unwrap().get();
    let most = most.load(Ordering::SeqCst);
    assert!((1..=processors + 1).contains(&most), "{most}");
    drained(server);
}

#[test]
fn a_thread_that_has_left_before_its_handle_is_known_is_joined_all_the_same() {
    // With a single permit, a second client shows that the first one's came back.
    let server = server(1, |builder, body| {
        let handle = builder.spawn(body)?;
        while !handle.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(handle)
    });
    for _ in 0..3 {
        client::half_close(send_line(&server));
    }
    let stats = drained(server).stats;
    assert_eq!((stats.accepted, stats.delivered), (3, 3));
}

#[test]
fn a_thread_that_runs_though_its_spawner_refused_it_serves_nobody_twice() {
    let refused = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&refused);
    let server = server(1, move |builder, body| {
        let mut kept = kept.lock().unwrap();
        if kept.is_none() {
            *kept = Some(body);
            return Err(ErrorKind::WouldBlock.into());
        }
        builder.spawn(body)
    });
    let client = send_line(&server);
    wait_until("its line", DEADLINE, || server.stats().delivered == 1);
    let late: ThreadBody = refused.lock().unwrap().replace(Box::new(|| {})).unwrap();
    thread::spawn(late).join().unwrap();
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.open, stats.starting), (1, 1, 0));
    client::half_close(client);
    client::half_close(send_line(&server));
    let stats = drained(server).stats;
    assert_eq!((stats.accepted, stats.delivered), (2, 2));
}

#[test]
fn a_thread_that_began_though_its_spawner_refused_it_gives_its_permit_back() {
    let server = server(1, |builder, body| {
        let handle = builder.spawn(body)?;
        while !handle.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        Err(ErrorKind::WouldBlock.into())
    });
    for _ in 0..3 {
        client::half_close(send_line(&server));
    }
    let stats = drained(server).stats;
    assert_eq!((stats.accepted, stats.delivered), (3, 3));
    assert_eq!(stats.rejected.total(), 0);
}

#[test]
fn a_thread_whose_body_the_spawner_dropped_is_made_again() {
    let calls = AtomicUsize::new(0);
    // More often than threads are made at once.
    let dropped = thread::available_parallelism().unwrap().get() + 3;
    let server = server(8, move |builder, body| {
        if calls.fetch_add(1, Ordering::SeqCst) < dropped {
            drop(body);
            return builder.spawn(|| ());
        }
        builder.spawn(body)
    });
    let _clients: Vec<_> = (0..3).map(|_| send_line(&server)).collect();
    wait_until("everybody's line", DEADLINE, || {
        server.stats().delivered == 3
    });
    let stats = drained(server).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (3, 0));
}

#[test]
fn a_server_whose_spawner_keeps_its_bodies_ends_all_the_same() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let server = server(8, move |builder, body| {
        keep.lock().unwrap().push(body);
        builder.spawn(|| ())
    });
    let addr = server.local_addrs()[0];
    let _client = send_line(&server);
    wait_until("its thread being made", DEADLINE, || {
        !kept.lock().unwrap().is_empty()
    });
    let report = server.shutdown(Duration::from_millis(200));
    assert!(report.timed_out);
    wait_until("the port free", DEADLINE, || {
        TcpListener::bind(addr).is_ok()
    });
    // The late threads serve what was cut off, and end.
    let late: Vec<ThreadBody> = std::mem::take(&mut *kept.lock().unwrap());
    for body in late {
        thread::spawn(body).join().unwrap();
    }
}

#[test]
fn nobody_is_forgotten_where_a_thread_is_refused_while_another_is_being_made() {
    // The first call makes its thread and returns late. Until then, calls are refused.
    let is_late = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let (late, count) = (Arc::clone(&is_late), Arc::clone(&refused));
    let mut config = small::config();
    config.reuse_threads = None;
    let server = small::server::<String>().config(config);
    let server = server.listen(anywhere()).listen(anywhere());
    let server = server.spawner(move |builder, body| match late.load(Ordering::SeqCst) {
        0 => {
            let handle = builder.spawn(body)?;
            late.store(1, Ordering::SeqCst);
            wait_until("another call refused", DEADLINE, || {
                count.load(Ordering::SeqCst) > 0
            });
            late.store(2, Ordering::SeqCst);
            Ok(handle)
        }
        1 => {
            count.fetch_add(1, Ordering::SeqCst);
            Err(ErrorKind::WouldBlock.into())
        }
        _ => builder.spawn(body),
    });
    let server = server.start_each(lines, |_| Ok(())).unwrap();
    let _first = send_line(&server);
    wait_until("the first one's line", DEADLINE, || {
        server.stats().delivered == 1
    });
    let mut second = client::connect(server.local_addrs()[1]);
    second.write_all(LINE).unwrap();
    wait_until("the second one's line", DEADLINE, || {
        server.stats().delivered == 2
    });
    assert_eq!(drained(server).stats.accepted, 2);
}

#[test]
fn an_idle_thread_serves_the_client_whose_thread_is_refused() {
    // The second thread is refused once the first one is idle.
    let (refuse, refused) = channel::<()>();
    let refused = Mutex::new(refused);
    let calls = AtomicUsize::new(0);
    let mut config = small::config();
    config.reuse_threads = Some(Duration::from_secs(600));
    let server = small::server::<String>().config(config);
    let server = server.listen(anywhere()).spawner(move |builder, body| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            return builder.spawn(body);
        }
        let _ = refused.lock().unwrap().recv();
        Err(ErrorKind::WouldBlock.into())
    });
    let thread = Arc::new(AtomicI32::new(0));
    let serving = Arc::clone(&thread);
    let server = server
        .start_each(
            move |connection, out| {
                serving.store(gettid().as_raw_nonzero().get(), Ordering::SeqCst);
                lines(connection, out)
            },
            |_| Ok(()),
        )
        .unwrap();
    let first = send_line(&server);
    wait_until("the first one's line", DEADLINE, || {
        server.stats().delivered == 1
    });
    let _second = send_line(&server);
    wait_until("the second one's thread being made", DEADLINE, || {
        server.stats().starting == 1
    });
    client::half_close(first);
    wait_until("the first one's end", DEADLINE, || {
        server.stats().ended.total() == 1
    });
    let stat = format!("/proc/self/task/{}/stat", thread.load(Ordering::SeqCst));
    wait_until("its thread idle", DEADLINE, || {
        fs::read_to_string(&stat).unwrap().contains(") S ")
    });
    drop(refuse);
    wait_until("the second one's line", DEADLINE, || {
        server.stats().delivered == 2
    });
    let stats = drained(server).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (2, 0));
}

#[test]
fn threads_that_end_make_way_for_others_at_once() {
    const CLIENTS: u64 = 60;
    // A system that has one thread to give, and gives it first when all are there.
    let (leave, left) = channel::<()>();
    let left = Mutex::new(left);
    let running = Arc::new(AtomicBool::new(false));
    let server = server(64, move |builder, body| {
        let _ = left.lock().unwrap().recv();
        if running.swap(true, Ordering::SeqCst) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let running = Arc::clone(&running);
        builder.spawn(move || {
            body();
            running.store(false, Ordering::SeqCst);
        })
    });
    let send_all = |_| {
        let client = send_line(&server);
        client.shutdown(Shutdown::Write).unwrap();
        client
    };
    let mut clients: Vec<_> = (0..1).map(send_all).collect();
    wait_until("the first one's thread being made", DEADLINE, || {
        server.stats().starting == 1
    });
    clients.extend((1..CLIENTS).map(send_all));
    leave.send(()).unwrap();
    wait_until("all others in the table", DEADLINE, || {
        server.stats().starting == CLIENTS - 1
    });
    drop(leave);
    // Much longer than it takes, and much shorter than if each had to wait for a second.
    let report = server.shutdown(Duration::from_secs(4));
    assert_eq!(report.stats.accepted, CLIENTS);
    assert!(!report.timed_out, "{report:?}");
}
