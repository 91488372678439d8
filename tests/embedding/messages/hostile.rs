//! Peers that send without an end, and the printed limits: each server in a process of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::common::client;
use crate::common::embedded::{self, Embedded};
use crate::common::handlers::anywhere;
use crate::common::proc;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use drainline::ingest::{Framing, Oversize, ReadMessages, messages_bytes};
use drainline::{BoxError, Config, Connection, EndReason, Sender, Server};

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
    let (_, handler) = include_str!("hostile.rs").split_once("fn readme(").unwrap();
    let (_, body) = handler.split_once("{\n").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let (_, example) = include_str!("../../../README.md")
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
    let mut child = Embedded::start("messages::hostile::child_entry", role, &[]);
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
    let mut child = Embedded::start("messages::hostile::child_entry", "hoarding", &[]);
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
