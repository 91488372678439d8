//! What a handler reads and writes with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use drainline::{EndReason, Ended, Server};

use super::builder;
use super::common::client::{self, Closed};
use super::common::wait::{DEADLINE, wait_until, within};

const SOON: Duration = Duration::from_millis(200);

#[test]
fn a_shared_reference_reads_and_writes_as_that_of_a_stream_does() {
    let server = builder(|_| {})
        .serve(|conn| {
            for line in BufReader::new(&*conn).lines() {
                writeln!(&*conn, "you said {}", line?)?;
            }
            Ok(())
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"one\ntwo\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (answer, closed) = client::read_to_end(&mut client);
    assert_eq!(answer, b"you said one\nyou said two\n");
    assert_eq!(closed, Closed::Clean);
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.stats.ended.get(EndReason::Eof), 1);
}

#[test]
fn a_read_within_a_time_brings_bytes_the_end_or_nothing() {
    let (tell, told) = channel();
    let server = builder(|_| {})
        .serve(move |conn| {
            let mut buffer = [0; 10];
            loop {
                let read = conn.read_within(&mut buffer, Duration::from_millis(20))?;
                tell.send(read)?;
                if read == Some(0) {
                    return Ok(());
                }
            }
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(None));
    client.write_all(b"abc").unwrap();
    let next = || loop {
        if let Some(read) = told.recv_timeout(DEADLINE).unwrap() {
            return read;
        }
    };
    assert_eq!(next(), 3);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(), 0);
}

/// The frame and idle deadlines count this wait, as they do every other for the peer.
#[test]
fn a_read_within_a_time_is_ended_by_a_drain() {
    let (tell, told) = channel();
    let server = builder(|_| {})
        .serve(move |conn| {
            tell.send(None)?;
            let read = conn.read_within(&mut [0; 10], DEADLINE * 10);
            tell.send(Some(read.map_err(|error| Ended::reason_of(&error))))?;
            Ok(())
        })
        .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(None));
    server.drain(DEADLINE);
    let ended = told.recv_timeout(DEADLINE).unwrap();
    assert_eq!(ended, Some(Err(Some(EndReason::Shutdown))));
}

#[test]
fn after_an_idle_timeout_a_goodbye_can_still_be_written() {
    let server = builder(|config| config.idle_timeout = Some(SOON))
        .serve(|conn| {
            let error = conn.read(&mut [0; 10]).unwrap_err();
            let reason = Ended::reason_of(&error);
            writeln!(conn, "421 {}", reason.unwrap())?;
            Err(error.into())
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let (goodbye, closed) = client::read_to_end(&mut client);
    assert_eq!(goodbye, b"421 idle_timeout\n");
    assert_eq!(closed, Closed::Clean);
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.stats.ended.get(EndReason::IdleTimeout), 1);
}

/// Nobody watches a connection that has timed out, so its goodbyes must not wait.
#[test]
fn a_goodbye_that_nobody_takes_ends_the_handler_all_the_same() {
    let server = builder(|config| {
        config.idle_timeout = Some(SOON);
        config.write_timeout = None;
    })
    .serve(|conn| {
        let error = conn.read(&mut [0; 10]).unwrap_err();
        // More than the kernel holds for a peer that reads nothing.
        while conn.write_all(&[b'x'; 1 << 20]).is_ok() {}
        Err(error.into())
    })
    .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    wait_until("its end", DEADLINE, || {
        server.stats().ended.get(EndReason::IdleTimeout) == 1
    });
}

#[test]
fn our_side_of_the_stream_ends_alone() {
    let server = builder(|_| {})
        .serve(|conn| {
            conn.write_all(b"that is all")?;
            conn.shutdown_write()?;
            let mut rest = String::new();
            conn.read_to_string(&mut rest)?;
            assert_eq!(rest, "and here is the rest");
            Ok(())
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let (said, closed) = client::read_to_end(&mut client);
    assert_eq!((&said[..], closed), (&b"that is all"[..], Closed::Clean));
    client.write_all(b"and here is the rest").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert_eq!(report.stats.ended.get(EndReason::Eof), 1);
}

#[test]
fn the_socket_can_be_given_options_of_ones_own() {
    let server = builder(|_| {})
        .serve(|conn| {
            let socket = conn.as_fd();
            rustix::net::sockopt::set_tcp_nodelay(socket, false)?;
            assert!(!rustix::net::sockopt::tcp_nodelay(socket)?);
            Ok(writeln!(conn, "{}", conn.peer())?)
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let own = client.local_addr().unwrap();
    let (said, _) = client::read_to_end(&mut client);
    assert_eq!(String::from_utf8(said).unwrap(), format!("{own}\n"));
}

/// The rate limit goes by the messages that were sent, or by the frames that were reported.
#[test]
fn a_rate_limit_holds_back_a_handler_that_only_replies() {
    const LINES: u32 = 60;
    let server = builder(|config| config.rate_limit = Some(20))
        .serve(|conn| {
            let mut reader = BufReader::with_capacity(8, &*conn);
            let mut line = String::new();
            while reader.read_line(&mut line)? > 0 {
                conn.frame_progress(1, false);
                (&mut &*conn).write_all(line.as_bytes())?;
                line.clear();
            }
            Ok(())
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let begun = Instant::now();
    for _ in 0..LINES {
        client.write_all(b"ping\n").unwrap();
    }
    let mut answer = [0; LINES as usize * 5];
    client.read_exact(&mut answer).unwrap();
    // 60 at 20 a second, less the burst and a read's worth.
    assert!(begun.elapsed() > Duration::from_millis(1_500));
}

/// A client that asks again as soon as it has its reply, until its connection ends or it has asked
/// so often: then its handler most likely looks for bytes, and does not sleep.
fn ask_at_once(client: &mut TcpStream, times: u64) -> u64 {
    let mut asked = 0;
    while asked < times && client.write_all(b"a").is_ok() && matches!(client.read(&mut [0]), Ok(1))
    {
        asked += 1;
    }
    asked
}

#[test]
fn whoever_looks_for_bytes_notices_an_abort_a_drain_and_a_deadline() {
    const TIMES: u64 = 500;
    type End = fn(&Server);
    let ends: [(EndReason, End); 3] = [
        (EndReason::Aborted, |server| assert!(server.abort(1))),
        (EndReason::Shutdown, |server| server.drain(DEADLINE)),
        (EndReason::IdleTimeout, |_| {}),
    ];
    for busy_poll in [true, false] {
        for (reason, end) in ends {
            let server = builder(|config| {
                config.busy_poll = busy_poll;
                config.idle_timeout = (reason == EndReason::IdleTimeout).then_some(SOON);
            })
            .serve(|conn| Ok(std::io::copy(&mut &*conn, &mut &*conn).map(drop)?))
            .unwrap();
            let mut client = client::connect(server.local_addrs()[0]);
            assert_eq!(ask_at_once(&mut client, TIMES), TIMES);
            let asking = thread::spawn(move || match reason {
                // Says nothing more, and waits for the end.
                EndReason::IdleTimeout => drop(client.read(&mut [0])),
                _ => drop(ask_at_once(&mut client, u64::MAX)),
            });
            end(&server);
            wait_until("the end", DEADLINE, || {
                server.stats().ended.get(reason) == 1
            });
            let report = server.shutdown(DEADLINE);
            assert!(report.stats.is_balanced(), "{report:?}");
            asking.join().unwrap();
        }
    }
}
