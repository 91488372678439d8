//! `conn.messages(..)`: whole messages for any handler, in every framing, within the printed
//! limits whatever the peer sends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::client::{self, Closed};
use crate::common::embedded::{self, Embedded};
use crate::common::handlers::{anywhere, drained};
use crate::common::proc;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use crate::encode;
use drainline::ingest::{Framing, Oversize, ReadMessages, messages_bytes};
use drainline::policy::Activity;
use drainline::{
    BoxError, Config, Connection, DropReason, EndReason, Ended, Sender, Server, Stats,
};

const FRAMINGS: [Framing; 5] = [
    Framing::Lines,
    Framing::Nul,
    Framing::OctetCounted,
    Framing::Syslog,
    Framing::LengthPrefixed,
];
const MAX: usize = 1000;

type Handler = fn(&mut Connection, &Sender<Vec<u8>>) -> Result<(), BoxError>;

/// A server whose handler sends whole messages to a channel.
fn start(
    mut config: Config,
    handler: impl Fn(&mut Connection, &Sender<Vec<u8>>) -> Result<(), BoxError> + Send + Sync + 'static,
) -> (Server, mpsc::Receiver<Vec<u8>>) {
    // Small: the servers of a process promise their limits together.
    config.max_connections = Some(10);
    let (seen, messages) = mpsc::channel();
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen(anywhere())
        .start_each(handler, move |message| Ok(seen.send(message)?))
        .unwrap();
    (server, messages)
}

fn connect(server: &Server) -> TcpStream {
    client::connect(server.local_addrs()[0])
}

/// Sends each message to the consumer.
fn pass_on(
    framing: Framing,
    oversize: Oversize,
) -> impl Fn(&mut Connection, &Sender<Vec<u8>>) -> Result<(), BoxError> {
    move |conn, out| {
        for message in conn.messages(framing, MAX).oversize(oversize) {
            out.send(message?)?;
        }
        Ok(())
    }
}

/// Replies to each line with itself.
fn echo_lines(conn: &mut Connection, _: &Sender<Vec<u8>>) -> Result<(), BoxError> {
    let mut lines = conn.messages(Framing::Lines, MAX);
    while let Some(line) = lines.next().transpose()? {
        lines.write_all(&line)?;
        lines.write_all(b"\n")?;
    }
    Ok(())
}

fn ended(stats: &Stats, reason: EndReason) -> u64 {
    stats.ended.get(reason)
}

/// Messages of many lengths, the longest and empty ones among them.
fn samples() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 7, 512, 999, MAX, 3, MAX, 0, 250];
    let samples = lengths.iter().cycle().take(200).enumerate();
    samples
        .map(|(nth, &len)| vec![b'a' + (nth % 26) as u8; len])
        .collect()
}

#[test]
fn messages_come_whole_and_in_order_in_every_framing_however_the_stream_is_split() {
    for framing in FRAMINGS {
        let (server, messages) = start(small::config(), pass_on(framing, Oversize::Close));
        let samples = samples();
        let encoded = samples.iter().map(|sample| encode::input(framing, sample));
        let stream: Vec<u8> = encoded.flatten().collect();
        // One write, writes around the sizes of both reads, and a byte at a time.
        for part in [stream.len(), 511, 4096, 5000, 1] {
            let stream = if part == 1 {
                &stream[..4096]
            } else {
                &stream[..]
            };
            let mut client = connect(&server);
            client.set_nodelay(true).unwrap();
            for part in stream.chunks(part) {
                client.write_all(part).unwrap();
            }
            client::half_close(client);
            let whole = samples.iter().scan(0, |at, sample| {
                *at += encode::input(framing, sample).len();
                (*at <= stream.len()).then_some(sample)
            });
            for sample in whole {
                assert_eq!(
                    &messages.recv_timeout(DEADLINE).unwrap(),
                    sample,
                    "{framing} {part}"
                );
            }
            // The rest of a line is one, too.
            if part == 1 && !matches!(framing, Framing::OctetCounted | Framing::LengthPrefixed) {
                assert!(messages.recv_timeout(DEADLINE).is_ok(), "{framing}");
            }
        }
        let report = drained(server);
        assert_eq!(ended(&report.stats, EndReason::Eof), 5, "{framing}");
        assert_eq!(messages.try_recv().ok(), None, "{framing}");
    }
}

#[test]
fn a_burst_of_pipelined_requests_is_answered_in_order() {
    const REQUESTS: usize = 10_000;
    for framing in FRAMINGS {
        let (server, _messages) = start(small::config(), move |conn, _| {
            let mut requests = conn.messages(framing, MAX);
            while let Some(request) = requests.next().transpose()? {
                writeln!(requests, "re {}", String::from_utf8(request)?)?;
            }
            Ok(())
        });
        let burst: Vec<u8> = (0..REQUESTS)
            .flat_map(|nth| encode::input(framing, nth.to_string().as_bytes()))
            .collect();
        let mut client = connect(&server);
        client.write_all(&burst).unwrap();
        let mut replies = BufReader::new(client.try_clone().unwrap()).lines();
        for nth in 0..REQUESTS {
            let reply = replies.next().unwrap().unwrap();
            assert_eq!(reply, format!("re {nth}"), "{framing}");
        }
        assert_eq!(client::half_close(client), Closed::Clean);
        drained(server);
    }
}

#[test]
fn a_reply_longer_than_what_is_gathered_keeps_its_place() {
    let (server, _messages) = start(small::config(), |conn, _| {
        let mut lines = conn.messages(Framing::Lines, MAX);
        while let Some(line) = lines.next().transpose()? {
            let len: usize = String::from_utf8(line)?.parse()?;
            lines.write_all(&vec![b'a' + (len % 26) as u8; len])?;
        }
        // Sent as the messages are dropped.
        Ok(lines.write_all(b"bye")?)
    });
    let lengths = [1, 4095, 4096, 4097, 5, 100_000, 2, 300, 4000];
    let requests: String = lengths.iter().map(|len| format!("{len}\n")).collect();
    let replies = lengths
        .iter()
        .map(|&len| vec![b'a' + (len % 26) as u8; len]);
    let expected = [replies.flatten().collect(), b"bye".to_vec()].concat();
    let mut client = connect(&server);
    client.write_all(requests.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (replies, closed) = client::read_to_end(&mut client);
    assert!(replies == expected, "{} bytes", replies.len());
    assert_eq!(closed, Closed::Clean);
    drained(server);
}

#[test]
fn what_is_framed_wrongly_ends_the_connection_as_a_protocol_error() {
    let cases: [(Framing, &[u8]); 4] = [
        (Framing::OctetCounted, b"3 abcxyz"),
        (Framing::Syslog, b"9999999 <1>"),
        (Framing::LengthPrefixed, b"\0\0\0\x03abc\xff\xff\xff\xff"),
        (Framing::Lines, &[b'x'; MAX + 2]),
    ];
    for (framing, stream) in cases {
        let (server, messages) = start(small::config(), pass_on(framing, Oversize::Close));
        let mut client = connect(&server);
        client.write_all(stream).unwrap();
        client::wait_for_close(&mut client);
        let report = drained(server);
        assert_eq!(
            ended(&report.stats, EndReason::ProtocolError),
            1,
            "{framing}"
        );
        let whole: Vec<_> = messages.try_iter().collect();
        let expected = matches!(framing, Framing::OctetCounted | Framing::LengthPrefixed);
        assert_eq!(whole.contains(&b"abc".to_vec()), expected, "{framing}");
    }
}

#[test]
fn what_is_too_long_is_truncated_or_dropped_as_the_handler_chose() {
    let long = vec![b'x'; 5 * MAX];
    for framing in FRAMINGS {
        let sent = [&b"one"[..], &long, b"two", &long, b"three"];
        let stream: Vec<u8> = sent
            .iter()
            .flat_map(|message| encode::input(framing, message))
            .collect();
        for oversize in [Oversize::Drop, Oversize::Truncate] {
            let (server, messages) = start(small::config(), pass_on(framing, oversize));
            let mut client = connect(&server);
            client.write_all(&stream).unwrap();
            assert_eq!(client::half_close(client), Closed::Clean);
            let report = drained(server);
            let messages: Vec<_> = messages.try_iter().collect();
            let dropped = report.stats.dropped.get(DropReason::Oversize);
            if oversize == Oversize::Drop {
                assert_eq!(messages, [&b"one"[..], b"two", b"three"], "{framing}");
                assert_eq!((report.stats.received, dropped), (5, 2), "{framing}");
            } else {
                let cut = &long[..MAX];
                assert_eq!(
                    messages,
                    [&b"one"[..], cut, b"two", cut, b"three"],
                    "{framing}"
                );
                assert_eq!((report.stats.received, dropped), (5, 0), "{framing}");
            }
        }
    }
}

#[test]
fn a_truncated_message_says_so() {
    let (server, messages) = start(small::config(), |conn, out| {
        let mut lines = conn
            .messages(Framing::Lines, 3)
            .oversize(Oversize::Truncate);
        while let Some(line) = lines.next().transpose()? {
            let mark = if lines.is_truncated() { b'+' } else { b'.' };
            out.send([&line[..], &[mark]].concat())?;
        }
        Ok(())
    });
    let mut client = connect(&server);
    client.write_all(b"abc\nabcd\r\nab\nabcdef").unwrap();
    client::half_close(client);
    drained(server);
    let messages: Vec<_> = messages.try_iter().collect();
    assert_eq!(messages, [&b"abc."[..], b"abc+", b"ab.", b"abc+"]);
}

#[test]
fn after_its_end_and_after_an_error_there_is_no_further_message() {
    let (server, _messages) = start(small::config(), |conn, _| {
        let mut messages = conn.messages(Framing::OctetCounted, MAX);
        let ended: Vec<_> = (&mut messages).map(|message| message.is_ok()).collect();
        let is_over = messages.next().is_none() && messages.next().is_none();
        Ok(write!(messages, "{ended:?} {is_over}")?)
    });
    for (stream, expected) in [("1 a", "[true] true"), ("1 ax", "[true, false] true")] {
        let mut client = connect(&server);
        client.write_all(stream.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, expected);
    }
    drained(server);
}

#[test]
fn limits_that_do_not_count_such_messages_are_an_error_at_the_first() {
    let first_error = |config: Config, max_message: usize| {
        let (tell, told) = mpsc::channel();
        let (server, _messages) = start(config, move |conn, _| {
            let first = conn.messages(Framing::Lines, max_message).next();
            let error = first.and_then(Result::err).map(|error| error.to_string());
            Ok(tell.send(error.unwrap_or_default())?)
        });
        let mut client = connect(&server);
        client.write_all(b"a line\n").unwrap();
        let told = told.recv_timeout(DEADLINE).unwrap();
        drop(server);
        told
    };
    let default = small::config().handler_bytes;
    let needed = messages_bytes(100_000);
    let mut enough = small::config();
    enough.handler_bytes = needed;
    assert_eq!(
        first_error(small::config(), 100_000),
        format!(
            "invalid value '{default}' for handler_bytes: expected {needed} or more, for messages of up to \
             100000 bytes"
        )
    );
    assert_eq!(first_error(enough, 100_000), "");
    assert_eq!(first_error(small::config(), 24 << 10), "");
    let range = "expected 1 to 1073741824";
    assert_eq!(
        first_error(small::config(), 0),
        format!("invalid value '0' for max_message: {range}")
    );
    let above = (1 << 30) + 1;
    assert_eq!(
        first_error(small::config(), above),
        format!("invalid value '{above}' for max_message: {range}")
    );
}

#[test]
fn a_drain_and_a_deadline_end_the_wait_with_their_reason_and_no_half_message() {
    let (tell, told) = mpsc::channel();
    let mut config = small::config();
    config.frame_timeout = Some(Duration::from_millis(100));
    let (server, messages) = start(config, move |conn, out| {
        for message in conn.messages(Framing::Lines, MAX) {
            match message {
                Ok(message) => out.send(message)?,
                Err(error) => tell.send(Ended::reason_of(&error))?,
            }
        }
        Ok(())
    });
    let mut late = connect(&server);
    late.write_all(b"whole\nhalf of o").unwrap();
    client::wait_for_close(&mut late);
    assert_eq!(
        told.recv_timeout(DEADLINE).unwrap(),
        Some(EndReason::FrameTimeout)
    );
    // One who is between messages is not timed, and a drain ends that wait.
    let mut quiet = connect(&server);
    quiet.write_all(b"whole\n").unwrap();
    assert_eq!(
        messages.iter().take(2).collect::<Vec<_>>(),
        [b"whole", b"whole"]
    );
    let report = drained(server);
    assert_eq!(
        told.recv_timeout(DEADLINE).unwrap(),
        Some(EndReason::Shutdown)
    );
    assert_eq!(ended(&report.stats, EndReason::FrameTimeout), 1);
    assert_eq!(messages.try_iter().count(), 0);
}

/// A handler's connection while the server is busy, as far as its state shows: whether it was ever
/// delayed before a read in `lines` lines.
fn is_delayed(handler: Handler, lines: u64) -> bool {
    /// Between two lines, each of which is a read of its own.
    const GAP: Duration = Duration::from_millis(5);
    let mut config = small::config();
    config.busy_reads = 1;
    config.max_read_delay = Some(Duration::from_millis(200));
    let (server, _messages) = start(config, handler);
    let mut client = connect(&server);
    let replies = client.try_clone().unwrap();
    let reads = thread::spawn(move || io::copy(&mut &replies, &mut io::sink()));
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let sends = scope.spawn(|| {
            for _ in 0..lines {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                client.write_all(b"a line\n").unwrap();
                thread::sleep(GAP);
            }
        });
        let mut seen = false;
        while !seen && !sends.is_finished() {
            let connections = server.connections();
            seen = connections.iter().any(|one| one.state == Activity::Delayed);
            thread::sleep(GAP / 50);
        }
        is_over.store(true, Ordering::Relaxed);
        seen
    });
    client::half_close(client);
    let _ = reads.join();
    drained(server);
    seen
}

#[test]
fn reads_are_delayed_until_the_first_reply() {
    let one_way: Handler = |conn, out| {
        for line in conn.messages(Framing::Lines, MAX) {
            out.send(line?)?;
        }
        Ok(())
    };
    assert!(is_delayed(one_way, 5000));
    assert!(!is_delayed(echo_lines, 200));
}

/// The handler of the README's first example.
fn readme(conn: &mut Connection, out: &Sender<String>) -> Result<(), BoxError> {
    for line in conn.messages(Framing::Lines, 16 << 10) {
        out.send(String::from_utf8(line?)?)?;
    }
    Ok(())
}

/// The lines of code in `text`, one behind the other.
fn code(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.starts_with("//")).collect()
}

/// What the server is flooded with below is what readers are told to write.
#[test]
fn the_readmes_first_example_is_that_handler() {
    let (_, handler) = include_str!("messages.rs")
        .split_once("fn readme(")
        .unwrap();
    let (_, body) = handler.split_once("{\n").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let (_, example) = include_str!("../../README.md")
        .split_once("```rust\n")
        .unwrap();
    let (example, _) = example.split_once("```\n").unwrap();
    let handler = format!("|conn, out| {{{}}},", code(body));
    assert!(code(example).contains(&handler), "{handler}");
}

/// The same, for whom a longer line is not the end.
fn truncating(conn: &mut Connection, out: &Sender<String>) -> Result<(), BoxError> {
    for line in conn
        .messages(Framing::Lines, 16 << 10)
        .oversize(Oversize::Truncate)
    {
        out.send(String::from_utf8(line?)?)?;
    }
    Ok(())
}

/// In the child: a server of this handler, until the test is done.
fn serve(
    frame_timeout: Option<Duration>,
    handler: impl Fn(&mut Connection, &Sender<String>) -> Result<(), BoxError> + Send + Sync + 'static,
) {
    let mut config = small::config();
    config.max_connections = Some(16);
    config.frame_timeout = frame_timeout;
    let server = small::server::<String>()
        .config(config)
        .listen(anywhere())
        .start_each(handler, |_| Ok(()))
        .unwrap();
    embedded::tell(&format!("limit {}", server.limits().memory_bytes));
    embedded::tell(&format!("addr {}", server.local_addrs()[0]));
    while embedded::hear().is_some() {}
    let report = server.shutdown(DEADLINE);
    let ended = |reason| report.stats.ended.get(reason);
    embedded::tell(&format!(
        "protocol_error {}",
        ended(EndReason::ProtocolError)
    ));
    embedded::tell(&format!("frame_timeout {}", ended(EndReason::FrameTimeout)));
    embedded::tell(&format!("balanced {}", report.stats.is_balanced()));
}

/// Connections that each hold the longest unfinished message, and its length.
const HOARDERS: usize = 60;
const HOARDED: usize = 256 << 10;

/// In the child: a server whose handlers wait for the end of a long line. It tells how much it has
/// read as often as it is asked.
fn hoard() {
    let mut config = Config::default();
    config.max_connections = Some(HOARDERS);
    config.buffer_bytes = 64 << 10;
    config.handler_bytes = messages_bytes(HOARDED);
    let server = Server::builder()
        .config(config)
        .listen(anywhere())
        .serve(|conn| {
            for line in conn.messages(Framing::Lines, HOARDED) {
                drop(line?);
            }
            Ok(())
        })
        .unwrap();
    embedded::tell(&format!("limit {}", server.limits().memory_bytes));
    embedded::tell(&format!("addr {}", server.local_addrs()[0]));
    while embedded::hear().is_some() {
        let read: u64 = server.connections().iter().map(|one| one.bytes).sum();
        embedded::tell(&format!("read {read}"));
    }
    let report = server.shutdown(DEADLINE);
    embedded::tell(&format!("balanced {}", report.stats.is_balanced()));
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("readme") => serve(Some(Duration::from_secs(1)), readme),
        // A flood of one line may take its time.
        Some("truncating") => serve(None, truncating),
        Some("hoarding") => hoard(),
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

/// Sends `bytes` without a line's end on each of four connections, as far as the server takes them.
/// Returns how much it took of all.
fn flood(addr: SocketAddr, bytes: usize) -> usize {
    let block = vec![b'x'; 1 << 20];
    let clients = (0..4).map(|_| {
        let block = block.clone();
        thread::spawn(move || {
            let mut client = client::connect(addr);
            let mut taken = 0;
            while taken < bytes {
                match client.write(&block[..block.len().min(bytes - taken)]) {
                    Ok(written) => taken += written,
                    Err(_) => break,
                }
            }
            taken
        })
    });
    let clients: Vec<_> = clients.collect();
    clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum()
}

/// Starts a server in a process of its own and floods it with 800 MiB that have no line's end.
/// Returns how much of that it took.
fn flooded(role: &'static str) -> (Embedded, SocketAddr, usize) {
    let mut child = Embedded::start("messages::child_entry", role, &[]);
    let addr: SocketAddr = child.wait_line("addr ").parse().unwrap();
    let taken = within("the flood", DEADLINE, move || flood(addr, 200 << 20));
    (child, addr, taken)
}

/// Ends the server and holds what it took against its limits.
#[track_caller]
fn assert_within_limits(child: &mut Embedded) {
    let limit: u64 = child.wait_line("limit ").parse().unwrap();
    let peak = proc::peak_rss_bytes(child.pid());
    assert!(
        peak <= limit,
        "{peak} bytes were resident, {limit} are the limit"
    );
    assert_eq!(child.end(), Some(0));
    assert_eq!(child.wait_line("balanced "), "true");
}

#[test]
fn a_line_without_an_end_costs_the_readmes_server_no_memory_and_a_slow_loris_is_ended() {
    let (mut child, addr, _) = flooded("readme");
    let mut loris = client::connect(addr);
    client::trickle(&mut loris, &[b'x'; 600], Duration::from_millis(100));
    assert_within_limits(&mut child);
    assert_eq!(child.wait_line("protocol_error "), "4");
    assert_eq!(child.wait_line("frame_timeout "), "1");
}

#[test]
fn where_lines_are_truncated_800_mib_without_an_end_cost_no_memory_either() {
    let (mut child, _, taken) = flooded("truncating");
    assert_eq!(taken, 800 << 20);
    assert_within_limits(&mut child);
    assert_eq!(child.wait_line("protocol_error "), "0");
}

#[test]
fn unfinished_messages_on_every_connection_stay_within_the_limits() {
    let mut child = Embedded::start("messages::child_entry", "hoarding", &[]);
    let addr: SocketAddr = child.wait_line("addr ").parse().unwrap();
    let mut hoarders = client::connect_many(addr, HOARDERS);
    // In turns, so that every buffer grows through all its sizes.
    for part in vec![b'x'; HOARDED].chunks(10_000) {
        for hoarder in &mut hoarders {
            hoarder.write_all(part).unwrap();
        }
    }
    let all = format!("read {}\n", HOARDERS * HOARDED);
    wait_until("all of it was read", DEADLINE, || {
        child.say("how much?");
        child.told().contains(&all)
    });
    let peak = proc::peak_rss_bytes(child.pid());
    assert!(peak > (HOARDERS * HOARDED) as u64, "{peak}");
    drop(hoarders);
    assert_within_limits(&mut child);
}
