//! The ledger closes whenever the end comes: in full flow, with half lines in flight, with clients
//! in the kernel's queue.

use std::io::Write;
use std::thread;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Counted;
use crate::common::tagged::{Cut, Sent, Tagged};
use crate::common::wait::{DEADLINE, wait_until};

const SIZE: usize = 120;

#[test]
fn a_shutdown_in_full_flow_delivers_a_prefix_of_each_connection_and_no_half_line() {
    let mut server = Drainline::start(&["--drain-timeout", "10s"]);
    let addr = server.addr();
    let senders: Vec<_> = (0..)
        .zip(client::connect_many(addr, 8))
        .map(|(connection, mut stream)| {
            thread::spawn(move || -> Sent {
                // Far more than is sent before the end comes.
                let sent =
                    Tagged::new(connection).send(&mut stream, 0..10_000_000, SIZE, Cut::Blocks);
                client::wait_for_close(&mut stream);
                sent
            })
        })
        .collect();
    wait_until("a full flow", DEADLINE, || server.stdout_len() > 2 << 20);
    let exit = server.terminate();
    let sent: Vec<Sent> = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .collect();

    assert!(sent.iter().all(|sent| sent.error.is_some()), "{sent:?}");
    assert!(matches!(exit.code, Some(0 | 3)), "{exit}");
    exit.assert_at_most(&sent.iter().collect(), &server.stdout_bytes());
    let counts: Vec<_> = (0..).zip(sent.iter().map(|sent| sent.messages)).collect();
    server.checker().expect_prefix(&counts);
    assert_eq!(exit.u64("delivered"), server.checker().total(), "{exit}");
    assert_eq!(exit.u64("connections.ended.shutdown"), 8, "{exit}");
}

#[test]
fn half_lines_in_flight_are_discarded_and_not_delivered() {
    let mut server = Drainline::start(&[] as &[&str]);
    let mut sent = Counted::default();
    let mut halves = 0;
    let mut streams = Vec::new();
    let mut lone = server.connect();
    lone.write_all(b"no end").unwrap();
    // What a drain finds unread is not discarded.
    server.wait_until_read(&lone, 6);
    sent.add(0, 6);
    for connection in 0..8 {
        let tagged = Tagged::new(connection);
        let whole = tagged.lines(0..3, SIZE);
        let half = &tagged.line(3, SIZE)[..20 + connection as usize];
        let mut stream = server.connect();
        stream.write_all(&[&whole, half].concat()).unwrap();
        sent.add(3, whole.len() + half.len());
        halves += half.len() as u64;
        streams.push(stream);
    }
    wait_until("whole lines in the sink", DEADLINE, || {
        server.checker().total() == 24
    });
    let exit = server.terminate();
    exit.assert_code(3);
    exit.assert_whole(&sent, &server.stdout_bytes());
    server
        .checker()
        .expect_exact(&(0..8).map(|connection| (connection, 3)).collect::<Vec<_>>());
    assert_eq!(exit.u64("discarded.shutdown"), halves + 6, "{exit}");
    assert_eq!(
        (exit.sum("discarded"), exit.u64("unterminated")),
        (halves + 6, 0),
        "{exit}"
    );
    streams.iter_mut().for_each(|stream| {
        client::wait_for_close(stream);
    });
}

#[test]
fn clients_in_the_kernels_queue_are_served_before_the_end() {
    let mut server = Drainline::start(&["--max-connections", "1"]);
    let mut served = server.connect();
    let mut sent: Counted = [Tagged::new(0)
        .send(&mut served, 0..3, SIZE, Cut::Once)
        .all()]
    .iter()
    .collect();
    wait_until("the served client's lines", DEADLINE, || {
        server.checker().total() == 3
    });
    let mut queued = Vec::new();
    for connection in 1..5 {
        let mut stream = server.connect();
        let lines = Tagged::new(connection)
            .send(&mut stream, 0..3, SIZE, Cut::Once)
            .all();
        sent.add(lines.messages, lines.bytes as usize);
        queued.push(stream);
    }
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&sent, &server.stdout_bytes());
    server
        .checker()
        .expect_exact(&[0, 1, 2, 3, 4].map(|connection| (connection, 3)));
    assert_eq!(exit.sum("connections.rejected"), 0, "{exit}");
    queued.iter_mut().for_each(|stream| {
        client::wait_for_close(stream);
    });
}
