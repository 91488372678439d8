//! What is asked of a broker: all in-sync replicas, an idempotent producer, and the compression
//! that was chosen.

use std::collections::HashMap;

use super::gate::{Gate, Written};
use super::*;
use crate::common::child::Drainline;

const COUNT: usize = 200;

/// What a program asks for that writes lines to the sink, which are in the topic then.
fn written(options: &str, lines: &[String]) -> Vec<Written> {
    let cluster = single();
    let gate = Gate::before(&cluster);
    let sink = format!("kafka://{}/{TOPIC}?linger=50ms{options}", gate.address());
    let mut drainline = Drainline::start(&["--sink", &sink]);
    let mut stream = drainline.connect();
    for line in lines {
        writeln!(stream, "{line}").unwrap();
    }
    client::half_close(stream);
    let mut found = messages(&cluster.bootstrap_servers(), lines.len());
    let exit = drainline.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), lines.len() as u64);
    let mut sent: Vec<_> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    found.sort();
    sent.sort();
    assert!(found == sent, "{} messages, or others", found.len());
    gate.written()
}

#[test]
fn each_batch_is_of_an_idempotent_producer_and_asks_for_all_replicas() {
    let lines: Vec<_> = (0..COUNT).map(|nth| format!("0-{nth}")).collect();
    let written = written("&key=host", &lines);
    let mut next = HashMap::new();
    for batch in &written {
        assert_eq!(batch.acks, -1, "{batch:?}");
        assert!(batch.producer >= 0, "{batch:?}");
        assert_eq!(batch.producer, written[0].producer, "{batch:?}");
        // Without a gap: so a broker knows what it has.
        let next = next.entry(batch.partition).or_insert(0);
        assert_eq!(batch.sequence, *next, "{batch:?}");
        *next += batch.count;
    }
    assert_eq!(next.values().sum::<i32>(), COUNT as i32);
}

#[test]
fn records_are_compressed_as_was_chosen_and_else_not() {
    let lines: Vec<_> = (0..COUNT)
        .map(|nth| format!("{nth} {}", "of many like it ".repeat(40)))
        .collect();
    let sent: usize = lines.iter().map(String::len).sum();
    for (options, codec) in [
        ("", 0),
        ("&compression=none", 0),
        ("&compression=snappy", 2),
        ("&compression=lz4", 3),
    ] {
        let written = written(options, &lines);
        let bytes: usize = written.iter().map(|batch| batch.records.len()).sum();
        assert!(
            written.iter().all(|batch| batch.codec == codec),
            "{options}: {:?}",
            written.iter().map(|batch| batch.codec).collect::<Vec<_>>()
        );
        match codec {
            0 => assert!(bytes > sent, "{options}: {bytes} of {sent}"),
            _ => assert!(bytes < sent / 2, "{options}: {bytes} of {sent}"),
        }
    }
}
