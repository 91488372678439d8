//! Names of receivers are looked up for each new connection and for no other, by the program in a
//! mount namespace of its own, whose /etc/hosts the test writes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common::child::Drainline;
use crate::common::client;
#[cfg(feature = "http")]
use crate::common::http_peer::{HttpPeer, Reply};
use crate::common::mount::attempt;
use crate::common::port::free_port;
#[cfg(feature = "redis")]
use crate::common::redis::Commands;
use crate::common::root::is_root;
use crate::common::wait::DEADLINE;
#[cfg(feature = "http")]
use crate::common::wait::wait_until;
use tempfile::TempDir;

/// What stands for /etc/hosts in the namespace: a file that is written in place, since the mount is
/// of this file.
struct Hosts {
    path: PathBuf,
    _directory: TempDir,
}

impl Hosts {
    /// `None`, and said, where this machine does not let us.
    fn new() -> Option<Hosts> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]);
        if !is_root("replace /etc/hosts") || !attempt(&mut unshare) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        Some(Hosts {
            path: directory.path().join("hosts"),
            _directory: directory,
        })
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }

    /// The program with this output.
    fn start(&self, sink: &str) -> Drainline {
        let line = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
        let path = self.path.to_str().unwrap();
        let by = ["unshare", "--mount", "sh", "-c", line, path];
        Drainline::with(&["--sink", sink]).by(&by).start()
    }
}

/// A request over a connection that is open waits for no server of names.
#[cfg(feature = "http")]
#[test]
fn a_name_of_an_http_server_is_looked_up_for_a_new_connection_alone() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    hosts.write("127.0.0.1 store.test\n");
    let peer = HttpPeer::start(|_| Reply::ok());
    let port = peer.address.port();
    let mut server = hosts.start(&format!(
        "http://store.test:{port}?dialect=ndjson&requests=1"
    ));
    let mut stream = server.connect();
    for nth in 0..3 {
        if nth == 1 {
            // No name stands in it any more.
            hosts.write("");
        }
        stream.write_all(b"message\n").unwrap();
        wait_until("a request", DEADLINE, || peer.requests().len() > nth);
    }
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("sink_failures"), 0, "{exit}");
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_name_of_a_receiver_is_looked_up_for_each_connection() {
    moves("tcp://store.test:PORT", |mut stream| {
        let line = read_until(&mut stream, b"\n");
        (line, stream)
    });
}

#[cfg(feature = "redis")]
#[test]
fn a_name_of_a_redis_server_is_looked_up_for_each_connection() {
    moves("redis://store.test:PORT/stream", |mut stream| {
        let mut commands = Commands::of(&stream);
        loop {
            let words = commands.next_command().unwrap().concat();
            if words.starts_with(b"XADD") {
                stream.write_all(b"$3\r\n1-1\r\n").unwrap();
                return (String::from_utf8(words).unwrap(), stream);
            }
            stream.write_all(b"+OK\r\n").unwrap();
        }
    });
}

#[cfg(feature = "http")]
#[test]
fn a_name_of_an_http_server_is_looked_up_for_each_connection() {
    moves("http://store.test:PORT?requests=1", |mut stream| {
        let head = read_until(&mut stream, b"\r\n\r\n");
        let body = read_until(&mut stream, b"\n");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).unwrap();
        (head + &body, stream)
    });
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        read.extend(byte);
    }
    String::from_utf8(read).unwrap()
}

/// Takes a message of a new connection, and gives the connection back, which is still open.
type Take = fn(TcpStream) -> (String, TcpStream);
type Taken = Receiver<(String, TcpStream)>;

/// Two receivers, of which the name is the first one's as long as its connection is open. That
/// ends, the first one listens on, and what comes next is at the second one.
fn moves(sink: &str, take: Take) {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let port = free_port();
    let [first, second] = ["127.0.0.2", "127.0.0.3"].map(|address| receiver(address, port, take));
    let taken = |at: &Taken| at.recv_timeout(DEADLINE).unwrap();
    hosts.write("127.0.0.2 store.test\n");
    let mut server = hosts.start(&sink.replace("PORT", &port.to_string()));
    let mut stream = server.connect();
    stream.write_all(b"one\n").unwrap();
    let (message, connection) = taken(&first);
    assert!(message.contains("one"), "{message}");
    hosts.write("127.0.0.3 store.test\n");
    drop(connection);
    stream.write_all(b"two\n").unwrap();
    let (message, _connection) = taken(&second);
    assert!(message.contains("two"), "{message}");
    client::half_close(stream);
    server.wait_until_all_ended();
    server.terminate().assert_code(0);
}

/// Its thread ends with the test's process.
fn receiver(address: &str, port: u16, take: Take) -> Taken {
    let listener = TcpListener::bind((address, port)).unwrap();
    let (tell, taken) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = tell.send(take(stream.unwrap()));
        }
    });
    taken
}
