//! Resident memory stays below the printed limit where every connection has a session at its worst:
//! a client's certificates as long as they may be, records as long as they may be, and replies or a
//! sink that nobody takes.
#![cfg(feature = "cli")]

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair, SanType};

use crate::authority::{Authority, Client, Pair, VERSIONS, config};
use crate::common::child::Drainline;
use crate::common::launch::Stdout;
use crate::common::proc;

const CONNECTIONS: usize = 200;

/// A certificate of 14 KiB: with its message it is as large as one record.
fn long(authority: &Authority) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let name = |n: usize| format!("{n:03}.{}.example", "a".repeat(50));
    params.subject_alt_names = (0..210)
        .map(|n| SanType::DnsName(name(n).try_into().unwrap()))
        .collect();
    authority.sign(params, key)
}

/// Connections, and what each has still to send.
type Senders<C> = Vec<(C, Vec<u8>)>;

/// Sends until nothing moves any more, and that not for want of a processor.
fn push<C>(pid: u32, senders: &mut Senders<C>, socket: fn(&mut C) -> &mut TcpStream) {
    let mut moved = Instant::now();
    while moved.elapsed() < Duration::from_millis(500) || !proc::is_asleep(pid) {
        for (sender, rest) in senders.iter_mut() {
            match socket(sender).write(rest) {
                Ok(sent) if sent > 0 => {
                    rest.drain(..sent);
                    moved = Instant::now();
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The peak of resident memory and the printed limit, both in bytes, of a server whose sink stands
/// still while `load` has its way.
fn measure(args: &[&str], load: impl FnOnce(&Drainline)) -> (u64, u64) {
    let connections = CONNECTIONS.to_string();
    let common = [
        "--max-connections",
        &connections,
        "--buffer-bytes",
        "1MiB",
        "--send-timeout",
        "1h",
        "--pause-after",
        "off",
        "--frame-timeout",
        "off",
        "--drain-timeout",
        "500ms",
    ];
    let mut child = Drainline::with(&[args, &common].concat())
        .stdout(Stdout::Unread)
        .start();
    load(&child);
    let figures = (
        proc::peak_rss_bytes(child.pid()),
        child.limits().memory_bytes,
    );
    child.close_stdout();
    child.terminate();
    figures
}

#[test]
fn sessions_at_their_worst_stay_below_what_the_limit_has_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let Pair { certificate, key } = servers.server();
    fs::write(path("cert.pem"), certificate + &key).unwrap();
    fs::write(path("ca.pem"), &clients.certificate).unwrap();
    let lines = b"0123456789abcde\n".repeat(40 << 10);
    let (plain_peak, plain_limit) = measure(&[], |child| {
        let connect = |_| {
            let stream = child.connect();
            stream.set_nonblocking(true).unwrap();
            (stream, lines.clone())
        };
        let mut senders = (0..CONNECTIONS).map(connect).collect();
        push(child.pid(), &mut senders, |stream| stream);
    });
    let (cert, ca) = (path("cert.pem"), path("ca.pem"));
    let args = [
        "--listen",
        "tls://127.0.0.1:0",
        "--tls-cert",
        &cert,
        "--tls-client-ca",
        &ca,
    ];
    let config = config(&servers, Some(&long(&clients)), &VERSIONS);
    let (peak, limit) = measure(&args, |child| {
        let connect = |_| {
            let mut client = Client::connect(child.addr(), &config);
            let records = client.seal(&lines);
            client.socket.set_nonblocking(true).unwrap();
            (client, records)
        };
        let mut senders = (0..CONNECTIONS).map(connect).collect();
        push(child.pid(), &mut senders, |client| &mut client.socket);
    });
    assert!(peak <= limit && plain_peak <= plain_limit);
    let (took, counted) = (peak - plain_peak, limit - plain_limit);
    let kib = |bytes: u64| bytes / 1024 / CONNECTIONS as u64;
    eprintln!("{} of {} KiB a session", kib(took), kib(counted));
    assert!(took <= counted, "{took} of {counted}");
    // And the limit says something.
    assert!(took >= counted / 4, "{took} of {counted}");
}
