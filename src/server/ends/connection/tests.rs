#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::server::{Config, EndReason, Server};

/// Longer than any machine takes to end a sleep, and shorter than the sleep.
const SOON: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(60);

/// A server whose handler reports when it is about to sleep before its next read, and when it woke.
fn start() -> (Server, TcpStream, Receiver<bool>) {
    let (say, said) = mpsc::channel();
    let config = Config {
        max_read_delay: Some(LONGEST),
        ..Config::default()
    };
    let server = Server::builder::<String>()
        .config(config)
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .start_each(
            move |connection, _| {
                let mut line = String::new();
                BufReader::new(&mut *connection).read_line(&mut line)?;
                say.send(true)?;
                while connection.delay_read() {
                    say.send(false)?;
                    BufReader::new(&mut *connection).read_line(&mut line)?;
                }
                Ok(())
            },
            |_| Ok(()),
        )
        .unwrap();
    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
    let mut delayed = false;
    while !delayed {
        std::thread::sleep(Duration::from_millis(1));
        server.shared.table.for_each(|state| {
            state.set_read_delay(Some(LONGEST));
            delayed = true;
        });
    }
    client.write_all(b"line\n").unwrap();
    assert_eq!(said.recv_timeout(SOON), Ok(true));
    (server, client, said)
}

fn wait_for_end(server: &Server, reason: EndReason) -> Duration {
    let began = Instant::now();
    while server.stats().ended.get(reason) == 0 && began.elapsed() < LONGEST * 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    began.elapsed()
}

#[test]
fn an_abort_ends_the_sleep_before_a_read() {
    let (server, _client, _said) = start();
    assert!(server.abort(1));
    assert!(wait_for_end(&server, EndReason::Aborted) < SOON);
}

#[test]
fn a_drain_ends_the_sleep_before_a_read() {
    let (server, _client, _said) = start();
    server.drain(LONGEST * 4);
    assert!(wait_for_end(&server, EndReason::Shutdown) < SOON);
}
