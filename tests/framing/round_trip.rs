//! Messages of any bytes come out as they went in, whatever the two framings: through a real
//! server, in batches that its buffer splits, and by a sink that takes them a part at a time.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use crate::common::client;
use crate::common::echo::ANY;
use crate::common::fifo;
use crate::common::small;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::Server;
use drainline::ingest::sink::File;
use drainline::ingest::{Framing, OutputFraming, Sink};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::OFlags;

use crate::streams::encode;

const OUTPUTS: [OutputFraming; 4] = [
    OutputFraming::Lines,
    OutputFraming::Nul,
    OutputFraming::OctetCounted,
    OutputFraming::LengthPrefixed,
];
/// With it the smallest buffer that a server may have takes several batches, and the longest
/// message.
const MAX: usize = BUFFER_BYTES - 256;
const BUFFER_BYTES: usize = 4 << 10;
const BUFFER_MESSAGES: usize = 64;

/// With a buffer that is so many times the smallest.
fn start(from: Framing, to: OutputFraming, times: usize, sink: impl Sink) -> Server {
    let mut config = small::config();
    config.buffer_messages = BUFFER_MESSAGES * times;
    config.buffer_bytes = BUFFER_BYTES * times;
    let builder = small::ingest()
        .config(config)
        .framing(from)
        .output_framing(to)
        .max_message(MAX)
        .listen(ANY.parse().unwrap());
    builder.start(sink).unwrap()
}

/// Bytes among which the ones that end messages, and that counts are made of, are frequent.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => any::<u8>(),
        1 => proptest::sample::select(b"\n\r\0 0123<".to_vec()),
    ];
    let len = prop_oneof![
        2 => Just(0),
        8 => 0usize..16,
        2 => 100usize..600,
        1 => MAX - 2..=MAX,
        1 => Just(MAX),
    ];
    (vec(byte, 1..40), len)
        .prop_map(|(bytes, len)| bytes.iter().copied().cycle().take(len).collect())
}

/// What the framing can carry of a message; the others carry any.
fn carried(framing: Framing, message: &[u8]) -> Vec<u8> {
    let without = |ends: &[u8]| {
        message
            .iter()
            .copied()
            .filter(|byte| !ends.contains(byte))
            .collect::<Vec<u8>>()
    };
    match framing {
        // A LF or CRLF after a NUL is framing.
        Framing::Nul => without(b"\0")
            .into_iter()
            .skip_while(|byte| b"\r\n".contains(byte))
            .collect(),
        Framing::Lines => without(b"\n\r"),
        Framing::Syslog => [&b"-"[..], &without(b"\n\r")[..]]
            .concat()
            .into_iter()
            .take(MAX)
            .collect(),
        _ => message.to_vec(),
    }
}

/// Sends messages in writes of these lengths, and compares what comes out.
fn check(from: Framing, to: OutputFraming, messages: &[Vec<u8>], write: usize) {
    let messages: Vec<_> = messages
        .iter()
        .map(|message| carried(from, message))
        .collect();
    let valve = Valve::keeping_messages();
    let server = start(from, to, 1, valve.sink());
    let mut client = client::connect(server.local_addrs()[0]);
    let sent: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode::input(from, message))
        .collect();
    for part in sent.chunks(write) {
        client.write_all(part).unwrap();
    }
    client::half_close(client);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    let stats = report.stats;
    assert_eq!(
        stats.delivered,
        messages.len() as u64,
        "{from} to {to}: {stats:?}"
    );
    assert!(
        valve.messages() == messages,
        "{from} to {to}: other messages"
    );
    let written: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode::output(to, message))
        .collect();
    assert!(valve.bytes() == written, "{from} to {to}: other bytes");
    let is_small = |batch: &Vec<Vec<u8>>| batch.len() <= BUFFER_MESSAGES / 8;
    assert!(
        valve.batches().iter().all(is_small),
        "{from} to {to}: a large batch"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_pair_of_framings_carries_any_bytes(
        messages in vec(message(), 1..60),
        write in prop_oneof![1usize..2000, Just(usize::MAX)],
    ) {
        for &from in Framing::ALL {
            for to in OUTPUTS {
                check(from, to, &messages, write);
            }
        }
    }
}

#[test]
fn empty_messages_and_longest_ones_are_carried() {
    let messages: Vec<Vec<u8>> = (0..24_u8)
        .map(|n| vec![n.wrapping_mul(11); if n % 3 == 0 { MAX } else { 0 }])
        .collect();
    for &from in Framing::ALL {
        for to in OUTPUTS {
            check(from, to, &messages, usize::MAX);
        }
    }
}

/// A pipe that holds a page, in a directory of its own.
struct Pipe {
    dir: tempfile::TempDir,
    reader: std::fs::File,
}

impl Pipe {
    const BYTES: usize = 4 << 10;

    fn new() -> Pipe {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        fifo::make(&path);
        let reader = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)
            .unwrap();
        rustix::pipe::fcntl_setpipe_size(&reader, Pipe::BYTES).unwrap();
        Pipe { dir, reader }
    }

    /// What is in it.
    fn len(&self) -> usize {
        rustix::io::ioctl_fionread(&self.reader).unwrap() as usize
    }
}

/// The writes end wherever the reader left capacity: inside messages, headers and runs of empty
/// ones.
fn check_partial_writes(from: Framing, to: OutputFraming) {
    let lens = [0, 0, 1, 700, 0, 13, 3000, 2, 0, 99]
        .into_iter()
        .cycle()
        .take(60);
    let messages: Vec<Vec<u8>> = lens
        .enumerate()
        .map(|(nth, len)| carried(from, &b"a\nb\0 7"[nth % 3..].repeat(len / 3 + 1)[..len]))
        .collect();
    let written: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode::output(to, message))
        .collect();
    let ends: Vec<usize> = messages
        .iter()
        .scan(0, |end, message| {
            *end += encode::output(to, message).len();
            Some(*end)
        })
        .collect();
    let mut pipe = Pipe::new();
    // One batch is many times what the pipe holds.
    let server = start(
        from,
        to,
        128,
        File::open(pipe.dir.path().join("pipe")).unwrap(),
    );
    let mut client = client::connect(server.local_addrs()[0]);
    let sent: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode::input(from, message))
        .collect();
    let sender = thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client::half_close(client);
    });
    let mut read = Vec::new();
    for take in [1, 7, 100, 1023, 2, 3001].into_iter().cycle() {
        // What ends in what the pipe took is delivered, no more and no less.
        wait_until(
            &format!("{from} to {to}: as many delivered as written"),
            DEADLINE,
            || {
                let there = read.len() + pipe.len();
                let whole = ends.iter().filter(|&&end| end <= there).count() as u64;
                let is_something_to_read = pipe.len() > 0 || there == written.len();
                is_something_to_read && server.report().stats.delivered == whole
            },
        );
        if read.len() == written.len() {
            break;
        }
        let mut part = vec![0; take];
        let len = pipe.reader.read(&mut part).unwrap();
        read.extend_from_slice(&part[..len]);
    }
    sender.join().unwrap();
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.delivered, messages.len() as u64);
    assert!(read == written, "{from} to {to}: other bytes");
}

#[test]
fn a_sink_that_takes_parts_counts_each_message_once() {
    for to in OUTPUTS {
        for from in [Framing::OctetCounted, Framing::Lines, Framing::Nul] {
            check_partial_writes(from, to);
        }
    }
}
