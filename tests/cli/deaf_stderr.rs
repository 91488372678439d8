//! A stderr that nobody reads, or whose reader is gone, holds up nothing: not the lines, not a
//! panic, not the end.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::child::{Drainline, Stderr};
use crate::common::client;
use crate::common::embedded::{self, Embedded};
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use drainline::{EndReason, Server};
use rustix::process::Signal;

const SIZE: usize = 120;

#[test]
fn a_stderr_that_nobody_reads_holds_up_neither_lines_nor_the_end() {
    // Each client that is rejected is worth a line of the log.
    let mut server = Drainline::with(&["--max-connections-per-ip", "1"])
        .stderr(Stderr::Unread)
        .start();
    assert!(server.fill_stderr() > 0);
    let mut stream = server.connect();
    let tagged = Tagged::new(0);
    let _ = tagged.send(&mut stream, 0..10, SIZE, Cut::Once).all();
    wait_until("the first lines", DEADLINE, || {
        server.checker().total() == 10
    });
    for _ in 0..20 {
        client::wait_for_close(&mut server.connect());
    }
    let _ = tagged.send(&mut stream, 10..20, SIZE, Cut::Once).all();
    client::half_close(stream);
    server.signal(Signal::USR1);
    let exit = server.terminate();
    exit.assert_code(0);
    server.checker().expect_exact(&[(0, 20)]);
}

#[test]
fn a_list_that_nobody_reads_holds_up_no_stop() {
    // The list is given up after a second: so long the stop would wait, were both served by one
    // thread. A machine may stumble now and then, but not always.
    wait_until("a stop that is not held up", DEADLINE, || {
        let mut server = Drainline::with(&["--sink", "null"])
            .stderr(Stderr::Unread)
            .start();
        let mut stream = server.connect();
        assert!(server.fill_stderr() > 0);
        // Of two signals that are pending together the stop may be the first to be served.
        server.signal_served(Signal::USR1);
        server.signal(Signal::TERM);
        let asked = Instant::now();
        client::wait_for_close(&mut stream);
        let wait = asked.elapsed();
        server.wait().assert_code(0);
        wait < Duration::from_millis(500)
    });
}

#[test]
fn a_stderr_whose_reader_is_gone_costs_no_line() {
    let mut server = Drainline::with(&["--max-connections-per-ip", "1"])
        .stderr(Stderr::Unread)
        .start();
    server.close_stderr();
    let mut stream = server.connect();
    let tagged = Tagged::new(0);
    let _ = tagged.send(&mut stream, 0..10, SIZE, Cut::Once).all();
    wait_until("the first lines", DEADLINE, || {
        server.checker().total() == 10
    });
    client::wait_for_close(&mut server.connect());
    let _ = tagged.send(&mut stream, 10..20, SIZE, Cut::Once).all();
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    server.checker().expect_exact(&[(0, 20)]);
}

/// Writes to stderr, as loggers do, and waits for it.
struct ToStderr;

impl log::Log for ToStderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{}", record.args());
    }

    fn flush(&self) {}
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("panics") => serve_panics(),
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

/// Passes lines on, panics when told to, and at the end tells how it was.
fn serve_panics() {
    log::set_logger(&ToStderr).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let server = Server::builder::<Vec<u8>>()
        .listen("127.0.0.1:0".parse().unwrap())
        .start_each(
            |connection, out| {
                for line in BufReader::new(connection).split(b'\n') {
                    let line = line?;
                    assert!(line != b"panic", "as told");
                    out.send(line)?;
                }
                Ok(())
            },
            |line| {
                embedded::tell(&format!("line {}", String::from_utf8_lossy(&line)));
                Ok(())
            },
        )
        .unwrap();
    std::panic::set_hook(server.logger().panic_hook());
    embedded::tell(&format!("addr {}", server.local_addrs()[0]));
    embedded::hear();
    let begun = Instant::now();
    let stats = server.shutdown(DEADLINE).stats;
    let took = begun.elapsed().as_millis();
    let panicked = stats.ended.get(EndReason::HandlerPanicked);
    embedded::tell(&format!(
        "end panicked {panicked} delivered {} open {} balanced {}",
        stats.delivered,
        stats.open,
        stats.is_balanced()
    ));
    embedded::tell(&format!("took {took}"));
}

#[test]
fn handlers_that_panic_before_a_full_stderr_end_and_the_server_goes_on() {
    // More than the logger's queue holds would not block anybody either; each reason speaks once in
    // ten seconds anyway.
    const PANICS: usize = 40;
    let mut child = Embedded::start_deaf("deaf_stderr::child_entry", "panics");
    let addr: SocketAddr = child.wait_line("addr ").parse().unwrap();
    child.fill_stderr();
    for _ in 0..PANICS {
        let mut stream = client::connect(addr);
        stream.write_all(b"panic\n").unwrap();
        client::wait_for_close(&mut stream);
    }
    let mut stream = client::connect(addr);
    stream.write_all(b"still here\n").unwrap();
    assert_eq!(child.wait_line("line "), "still here");
    client::half_close(stream);
    child.say("end");
    assert_eq!(
        child.wait_line("end "),
        format!("panicked {PANICS} delivered 1 open 0 balanced true")
    );
    // The logger is given a second, and then left where it is.
    let took: u64 = child.wait_line("took ").parse().unwrap();
    assert!(took < 15_000, "the shutdown took {took} ms");
    assert_eq!(child.end(), Some(0), "{}", child.told());
}
