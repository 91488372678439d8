//! The ledger closes whatever peers do: half messages, resets, random bytes, more than the buffer
//! takes.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::common::child::{Drainline, Stdout};
use crate::common::client;
use crate::common::exit::Counted;
use crate::common::tagged::{Cut, Sent, Tagged, XorShift};
use crate::common::wait::{DEADLINE, wait_until};

const SIZE: usize = 120;

/// A buffer that is soon full, before a sink that nobody reads.
fn stalled(flags: &[&str]) -> Drainline {
    let mut args =
        "--buffer-messages 64 --buffer-bytes 64KiB --max-message 1KiB --send-timeout 200ms \
                    --pause-after off"
            .split(' ')
            .collect::<Vec<_>>();
    args.extend(flags);
    Drainline::with(&args).stdout(Stdout::Unread).start()
}

/// Senders at full speed, one a thread; each ends with its messages or when it is disconnected.
fn flood(server: &Drainline, senders: u32, messages: u64) -> Vec<thread::JoinHandle<Sent>> {
    let addr = server.addr();
    let send = move |connection| {
        let mut stream = client::connect(addr);
        let sent = Tagged::new(connection).send(&mut stream, 0..messages, SIZE, Cut::Blocks);
        if sent.error.is_none() {
            client::half_close(stream);
        }
        sent
    };
    (0..senders)
        .map(|connection| thread::spawn(move || send(connection)))
        .collect()
}

fn join(senders: Vec<thread::JoinHandle<Sent>>) -> Vec<Sent> {
    senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .collect()
}

fn pairs(sent: &[Sent]) -> Vec<(u32, u64)> {
    (0..).zip(sent.iter().map(|sent| sent.messages)).collect()
}

#[test]
fn without_a_fault_it_is_what_the_clients_counted_and_the_sink_holds() {
    let mut server = Drainline::start(&["--max-message", "4KiB"]);
    let mut sent = Counted::default();
    for connection in 0..8 {
        let mut stream = server.connect();
        let cut = Cut::Random {
            seed: connection.into(),
            most: 700,
        };
        let lines = Tagged::new(connection)
            .send(&mut stream, 0..300, SIZE, cut)
            .all();
        sent.add(lines.messages, lines.bytes as usize);
        // Every other one ends inside its last message, which is delivered as it is.
        if connection % 2 == 0 {
            let last = Tagged::new(connection).line(300, SIZE);
            stream.write_all(&last).unwrap();
            sent.add(1, last.len());
        }
        client::half_close(stream);
    }
    let exit = server.terminate();
    exit.assert_code(0);
    let sink = server.stdout_bytes();
    exit.assert_whole(&sent, &sink);
    assert_eq!(exit.u64("unterminated"), 4, "{exit}");
    assert_eq!(
        exit.u64("message_bytes") + exit.u64("delivered"),
        sink.len() as u64,
        "{exit}"
    );
    let counts: Vec<_> = (0..8)
        .map(|connection| (connection, 301 - u64::from(connection % 2)))
        .collect();
    server.checker().expect_exact(&counts);
}

#[test]
fn random_bytes_nul_bytes_and_blank_lines_are_messages_like_any_other() {
    let mut server = Drainline::start(&[] as &[&str]);
    let mut random = XorShift::new(7);
    let mut bytes = b"\n\n\r\n\0\n\0\0\0\nplain\n\xff\xfe\xc3\x28\n\xed\xa0\x80\n \n".to_vec();
    for _ in 0..2000 {
        let noise = (0..random.up_to(60)).map(|_| random.next() as u8);
        bytes.extend(noise.filter(|byte| *byte != b'\n'));
        bytes.push(b'\n');
    }
    let mut stream = server.connect();
    stream.write_all(&bytes).unwrap();
    client::half_close(stream);

    let exit = server.terminate();
    exit.assert_code(0);
    // One CR before a LF is framing; everything else is the message.
    let (mut expected, mut carriage_returns) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = &line[..line.len() - 1];
        let message = line.strip_suffix(b"\r").unwrap_or(line);
        carriage_returns += (line.len() - message.len()) as u64;
        expected.extend_from_slice(message);
        expected.push(b'\n');
    }
    assert!(
        carriage_returns > 1,
        "the random bytes have CRs at the end of lines"
    );
    assert!(
        server.stdout_bytes() == expected,
        "the sink holds other bytes: {exit}"
    );
    let messages = expected.iter().filter(|byte| **byte == b'\n').count() as u64;
    exit.assert_whole(
        &Counted {
            messages,
            bytes: bytes.len() as u64,
        },
        &expected,
    );
    assert_eq!(
        exit.u64("framing_bytes"),
        messages + carriage_returns,
        "{exit}"
    );
}

#[test]
fn a_reset_mid_message_costs_that_message_alone() {
    let mut server = Drainline::start(&[] as &[&str]);
    let mut sent = Counted::default();
    let mut halves = 0;
    let mut streams = Vec::new();
    for connection in 0..8 {
        let tagged = Tagged::new(connection);
        let mut bytes = tagged.lines(0..20, SIZE);
        let half = &tagged.line(20, SIZE)[..50];
        bytes.extend_from_slice(half);
        let mut stream = server.connect();
        stream.write_all(&bytes).unwrap();
        sent.add(20, bytes.len());
        halves += half.len() as u64;
        streams.push(stream);
    }
    // All is there before the resets: what our kernel had acknowledged must not be lost to them.
    wait_until("whole lines in the sink", DEADLINE, || {
        server.checker().total() == 160
    });
    streams.into_iter().for_each(client::reset);

    // And some that are reset at any moment, in full flow.
    let flow: Vec<_> = (8..16)
        .map(|connection| {
            let mut stream = server.connect();
            let sent = Tagged::new(connection)
                .send(&mut stream, 0..2000, SIZE, Cut::Blocks)
                .all();
            client::reset(stream);
            sent
        })
        .collect();
    let in_flow: Counted = flow.iter().collect();
    sent.add(in_flow.messages, in_flow.bytes as usize);
    // Served once the resets have been seen: whatever they left behind is over.
    server.wait_until_all_ended();

    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_at_most(&sent, &server.stdout_bytes());
    assert!(exit.u64("discarded.reset") >= halves, "{exit}");
    assert_eq!(exit.u64("connections.ended.reset"), 16, "{exit}");
    let checker = server.checker();
    let mut counts: Vec<_> = (0..8).map(|connection| (connection, 20)).collect();
    counts.extend((8..16).map(|connection| (connection, 2000)));
    checker.expect_prefix(&counts);
    (0..8).for_each(|connection| assert_eq!(checker.seen(connection), 20, "of {connection}"));
}

#[test]
fn a_stalled_sink_costs_aborted_senders_what_they_had_in_hand() {
    let mut server = stalled(&[]);
    let sent = join(flood(&server, 12, 100_000));
    assert!(sent.iter().all(|sent| sent.error.is_some()), "{sent:?}");

    server.collect_stdout();
    // Until there is room a new client waits, and may be disconnected like the others.
    server.wait_for_status("an empty buffer", |status| status["in_flight"] == 0);
    let mut stream = server.connect();
    let last = Tagged::new(12)
        .send(&mut stream, 0..1, SIZE, Cut::Once)
        .all();
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(3);
    let mut counts = pairs(&sent);
    counts.push((12, 1));
    server.checker().expect_prefix(&counts);
    assert_eq!(
        server.checker().seen(12),
        1,
        "the healed server is deaf: {exit}"
    );
    exit.assert_at_most(
        &sent.iter().chain([&last]).collect(),
        &server.stdout_bytes(),
    );
    assert_eq!(exit.u64("connections.ended.send_timeout"), 12, "{exit}");
    assert_eq!(
        exit.u64("dropped.connection_closed"),
        exit.sum("dropped"),
        "{exit}"
    );
    assert!(
        exit.u64("dropped.connection_closed") > 0 && exit.u64("unread_bytes") > 0,
        "{exit}"
    );
}

#[test]
fn a_stalled_sink_costs_senders_that_drop_exactly_what_is_dropped() {
    let mut server = stalled(&["--when-full", "drop"]);
    let senders = flood(&server, 6, 10_000);
    // Nobody is disconnected: each sends all it has, however little of it is kept.
    let sent = join(senders);
    let counts = pairs(&sent);
    let sent: Counted = sent
        .into_iter()
        .map(Sent::all)
        .collect::<Vec<_>>()
        .iter()
        .collect();
    server.collect_stdout();
    let exit = server.terminate();
    exit.assert_code(3);
    exit.assert_whole(&sent, &server.stdout_bytes());
    server.checker().expect_ordered(&counts);
    assert_eq!(exit.u64("dropped.full"), exit.sum("dropped"), "{exit}");
    assert!(exit.u64("dropped.full") > 0, "{exit}");
}

#[test]
fn a_stalled_sink_costs_senders_that_wait_nothing() {
    const STALL: Duration = Duration::from_millis(500);
    let mut server = stalled(&["--when-full", "block"]);
    let senders = flood(&server, 6, 2_000);
    // Held up for longer than send_timeout, which says nothing here.
    server.wait_for_status("senders that wait", |status| status["senders_waiting"] == 6);
    thread::sleep(STALL);
    server.collect_stdout();
    let sent = join(senders);
    let counts = pairs(&sent);
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&sent.iter().collect(), &server.stdout_bytes());
    server.checker().expect_exact(&counts);
}
