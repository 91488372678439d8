//! Each program, as its clients see it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drainline::{BoxError, Config, EndReason, Server};
use drainline_programs::{ports, pubsub, resp, sqlite, statsd, tls, two_ports};
use rusqlite::Connection as Database;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

const DEADLINE: Duration = Duration::from_secs(60);

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends all, ends the stream, and reads to the other end.
fn ask(address: SocketAddr, text: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(text).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

#[test]
fn resp_answers_pipelined_commands_in_order() {
    let server = resp::start(anywhere(), Config::default()).unwrap();
    let address = server.local_addrs()[0];
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nbc\r\n";
    let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    let ping = b"*1\r\n$4\r\nPING\r\n".repeat(10_000);
    let answer = ask(address, &[&set[..], get, &ping].concat());
    let expected = [
        &b"+OK\r\n$5\r\na\r\nbc\r\n"[..],
        &b"+PONG\r\n".repeat(10_000),
    ]
    .concat();
    assert!(answer == expected);
    assert_eq!(ask(address, b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n"), b"$-1\r\n");
    // What is too long costs nothing and ends the connection.
    assert_eq!(ask(address, b"*2\r\n$99999999\r\n"), b"");
    assert_eq!(ask(address, get), b"$5\r\na\r\nbc\r\n");
}

#[test]
fn statsd_tells_its_sums_at_the_interval_and_at_the_end() {
    let (tell, told) = channel();
    let print = move |sums: &BTreeMap<String, f64>| tell.send(sums.clone()).unwrap();
    let server = statsd::start(anywhere(), Duration::from_millis(50), print).unwrap();
    ask(
        server.local_addrs()[0],
        b"hits:1|c\nhits:2|c\nload:3|g\nload:4|g\nwhat\n",
    );
    let (mut hits, mut load) = (0.0, 0.0);
    while (hits, load) != (3.0, 4.0) {
        let sums = told.recv_timeout(DEADLINE).unwrap();
        hits += sums.get("hits").copied().unwrap_or_default();
        load = sums.get("load").copied().unwrap_or(load);
    }
    assert!(server.shutdown(DEADLINE).is_balanced());
}

#[test]
fn sqlite_has_what_was_delivered() {
    let path = std::env::temp_dir().join(format!("drainline-programs-{}.db", std::process::id()));
    let server = sqlite::start(anywhere(), Database::open(&path).unwrap()).unwrap();
    let lines: String = (0..25_000).map(|n| format!("line {n}\n")).collect();
    ask(server.local_addrs()[0], lines.as_bytes());
    let report = server.shutdown(DEADLINE);
    assert!(!report.is_lossy(), "{report:?}");
    let database = Database::open(&path).unwrap();
    let rows: u64 = database
        .query_row("SELECT count(*) FROM lines", [], |row| row.get(0))
        .unwrap();
    assert_eq!((rows, report.stats.delivered), (25_000, 25_000));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_operator_lists_connections_and_ends_them() {
    let (tell, told) = channel();
    let print = move |line: &str| tell.send(line.to_owned()).unwrap();
    let server = two_ports::start(anywhere(), anywhere(), print).unwrap();
    let addresses = server.wait().local_addrs();
    let mut data = connect(addresses[0]);
    data.write_all(b"hello\n").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE).as_deref(), Ok("hello"));
    let list = String::from_utf8(ask(addresses[1], b"list\n")).unwrap();
    let own = list
        .lines()
        .find(|line| line.contains(" at data "))
        .unwrap();
    let id = own.split(' ').next().unwrap();
    let answer = ask(addresses[1], format!("end {id}\nend 99\n").as_bytes());
    let expected = format!("ended {id}\nthere is no connection 99\n");
    assert_eq!(String::from_utf8(answer).unwrap(), expected);
    assert!(matches!(data.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn every_subscriber_of_a_topic_is_sent_what_is_published() {
    let server = pubsub::start(anywhere()).unwrap();
    let address = server.local_addrs()[0];
    let subscribers = ["cats", "cats", "dogs"].map(|topic| {
        let mut stream = connect(address);
        // Its own message tells when it has subscribed.
        write!(stream, "sub {topic}\npub {topic} begin\n").unwrap();
        let mut reader = BufReader::new(stream);
        while line(&mut reader) != format!("{topic} begin\n") {}
        reader
    });
    ask(address, b"pub cats one two\npub dogs three\n");
    let mut got = subscribers.map(|mut reader| {
        let mut said = line(&mut reader);
        while said.ends_with(" begin\n") {
            said = line(&mut reader);
        }
        said
    });
    got.sort();
    assert_eq!(got, ["cats one two\n", "cats one two\n", "dogs three\n"]);
    assert!(server.shutdown(DEADLINE).is_balanced());
}

type Before = fn(TcpListener) -> std::io::Result<()>;
type After = fn(TcpListener) -> Result<Server, BoxError>;

/// Runs `check` against both, which must not differ.
fn both(before: Before, after: After, check: impl Fn(SocketAddr)) {
    let listener = || TcpListener::bind(anywhere()).unwrap();
    let std = listener();
    let address = std.local_addr().unwrap();
    std::thread::spawn(move || before(std));
    check(address);
    let server = after(listener()).unwrap();
    check(server.local_addrs()[0]);
    assert!(server.shutdown(DEADLINE).is_balanced());
}

#[test]
fn ports_of_std_servers_do_what_those_did() {
    both(
        ports::echo::before::serve,
        ports::echo::after::serve,
        |address| {
            assert_eq!(ask(address, b"hello"), b"hello");
        },
    );
    both(
        ports::http::before::serve,
        ports::http::after::serve,
        |address| {
            let page = ask(address, b"GET / HTTP/1.0\r\nHost: x\r\n\r\n");
            assert_eq!(
                page,
                b"HTTP/1.0 200 OK\r\nContent-Length: 14\r\n\r\n<h1>Hello</h1>"
            );
            assert!(ask(address, b"GET /x HTTP/1.0\r\n\r\n").starts_with(b"HTTP/1.0 404"));
        },
    );
    both(
        ports::chat::before::serve,
        ports::chat::after::serve,
        |address| {
            let mut listener = BufReader::new(connect(address));
            let mut heard = String::new();
            while heard.is_empty() {
                // The first may have come before the listener was there.
                ask(address, b"hello\n");
                listener
                    .get_ref()
                    .set_read_timeout(Some(Duration::from_millis(50)))
                    .unwrap();
                let _ = listener.read_line(&mut heard);
            }
            assert_eq!(heard, "hello\n");
        },
    );
}

/// Calls `round` until `is_done`, for as long as the deadline.
fn until(mut is_done: impl FnMut() -> bool, mut round: impl FnMut(), what: &str) {
    let end = Instant::now() + DEADLINE;
    while !is_done() {
        assert!(Instant::now() < end, "{what}");
        round();
    }
}

/// Half a command does not hold a connection for ever.
#[test]
fn resp_ends_whoever_does_not_finish_a_command() {
    let config = Config::default()
        .idle_timeout(DEADLINE * 2)
        .frame_timeout(Duration::from_millis(300));
    let server = resp::start(anywhere(), config).unwrap();
    let mut client = connect(server.local_addrs()[0]);
    client.write_all(b"*1\r\n$4\r\nPING\r\n*3\r\n$3").unwrap();
    // `Err` stands for a reset; a read that times out here is an error, too.
    let _ = client.read_to_end(&mut Vec::new());
    until(
        || server.stats().ended.get(EndReason::FrameTimeout) == 1,
        std::thread::yield_now,
        "the end by the frame timeout",
    );
}

/// Clients that come and go leave no writer behind, though nobody speaks.
#[test]
fn the_chat_keeps_no_writer_of_those_who_left() {
    let room = Arc::new(ports::chat::after::Room::default());
    let shared = Arc::clone(&room);
    let server = Server::builder()
        .listen(anywhere())
        .serve(move |stream| ports::chat::after::handle(stream, &shared))
        .unwrap();
    let address = server.local_addrs()[0];
    let visit = || assert_eq!(ask(address, b""), b"");
    (0..2000).for_each(|_| visit());
    // The last ones may have been open still when the next one came.
    until(|| room.lock().unwrap().len() <= 2, visit, "the room grows");
}

/// Neither clients that come and go nor one that repeats itself let the list grow, though nobody
/// publishes.
#[test]
fn pubsub_keeps_a_subscription_once_and_for_as_long_as_its_connection() {
    let subscribers = Arc::new(Mutex::new(pubsub::Subscribers::new()));
    let shared = Arc::clone(&subscribers);
    let server = Server::builder()
        .listen(anywhere())
        .start_each(pubsub::handle, move |request| {
            pubsub::consume(&mut shared.lock().unwrap(), request);
            Ok(())
        })
        .unwrap();
    let address = server.local_addrs()[0];
    assert_eq!(ask(address, &b"sub a\n".repeat(5000)), b"");
    let delivered = |count| {
        let is_done = || server.stats().delivered >= count;
        until(is_done, std::thread::yield_now, "the requests");
    };
    delivered(5000);
    let topics =
        |of: &pubsub::Subscribers| of.values().map(|(_, topics)| topics.len()).sum::<usize>();
    assert_eq!(topics(&subscribers.lock().unwrap()), 1);

    let many: String = (0..1000).map(|topic| format!("sub {topic}\n")).collect();
    let mut greedy = connect(address);
    greedy.write_all(many.as_bytes()).unwrap();
    delivered(6000);
    assert!(topics(&subscribers.lock().unwrap()) <= pubsub::MAX_TOPICS);
    drop(greedy);

    let visit = || assert_eq!(ask(address, b"sub b\n"), b"");
    (0..2000).for_each(|_| visit());
    until(
        || subscribers.lock().unwrap().len() <= 2,
        visit,
        "the list grows",
    );
}

/// A certificate for localhost, and a client that trusts it.
fn tls() -> (ServerConfig, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, Arc::new(client))
}

#[test]
fn tls_lines_are_answered_and_a_drain_ends_handshakes() {
    let (server, client) = tls();
    let (tell, told) = channel();
    let print = move |line: &str| tell.send(line.to_owned()).unwrap();
    let server = tls::start(anywhere(), server, print).unwrap();
    let address = server.local_addrs()[0];
    let connect = || {
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::clone(&client), name).unwrap();
        StreamOwned::new(tls, connect(address))
    };

    let mut one = connect();
    one.write_all(&b"a line\n".repeat(1000)).unwrap();
    one.conn.send_close_notify();
    one.flush().unwrap();
    let mut answers = String::new();
    // It ends with a close_notify, or this would be an error.
    one.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "ok\n".repeat(1000));
    assert_eq!(
        told.iter()
            .take(1000)
            .filter(|line| line == "a line")
            .count(),
        1000
    );

    // A line without an end is not gathered.
    let mut endless = connect();
    let sent = endless.write_all(&[b'x'; 100_000]);
    assert!(sent.is_err() || endless.read_to_end(&mut Vec::new()).is_err());
    // A drain ends a handshake that has only begun, and one who waits between two lines.
    let mut silent = TcpStream::connect(address).unwrap();
    silent.write_all(b"\x16\x03\x01").unwrap();
    let mut quiet = connect();
    quiet.write_all(b"the last\n").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE).as_deref(), Ok("the last"));
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced() && !report.timed_out);
    assert_eq!(report.stats.delivered, 1001);
}

/// What readers of the recipe copy is what runs here.
#[test]
fn the_recipe_for_tls_is_that_handler() {
    let recipes = include_str!("../../../src/docs/recipes.md");
    let (_, recipe) = recipes.split_once("## TLS").unwrap();
    let (_, recipe) = recipe.split_once("```rust,ignore\n").unwrap();
    let (recipe, _) = recipe.split_once("```").unwrap();
    assert!(include_str!("../src/tls.rs").contains(recipe), "{recipe}");
}
