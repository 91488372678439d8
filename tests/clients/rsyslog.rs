//! A real rsyslogd whose `omfwd` sends to the real binary, in both its framings, and what is left
//! of its messages when either of the two is restarted in the middle.

use std::fs;
use std::ops::Range;

use crate::common::exit::Exit;
use crate::common::rsyslog::{BATCH, PRIORITY, SIZE, Site};
use crate::common::tagged::Tagged;

/// omfwd gathers so many bytes before it writes.
const BUFFER: u64 = 16 * 1024;

// ---- at rest

/// Lets rsyslog forward so many messages, and ends both when the last one is there.
#[track_caller]
fn send_all(site: &Site, ours: &str, messages: u64) -> Exit {
    site.write(0..messages);
    let mut drainline = site.drainline(ours);
    let rsyslog = site.rsyslog();
    site.wait_for(messages - 1);
    rsyslog.terminate();
    drainline.wait_until_all_ended();
    let exit = drainline.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    exit
}

#[track_caller]
fn omfwd_sends(framing: &str, ours: &str) {
    const MESSAGES: u64 = 5_000;
    let Some(site) = Site::new(framing) else {
        return;
    };
    let exit = send_all(&site, ours, MESSAGES);
    assert!(site.arrived().into_iter().eq(0..MESSAGES));
    assert_eq!(exit.u64("received"), MESSAGES);
    assert_eq!(exit.u64("connections.ended.eof"), 1);
    assert_eq!((exit.sum("discarded"), exit.u64("unread_bytes")), (0, 0));
}

#[test]
fn omfwd_in_lines() {
    omfwd_sends("traditional", "lines");
}

#[test]
fn omfwd_in_lines_as_syslog() {
    omfwd_sends("traditional", "syslog");
}

#[test]
fn omfwd_counted() {
    omfwd_sends("octet-counted", "octet-counted");
}

#[test]
fn omfwd_counted_as_syslog() {
    omfwd_sends("octet-counted", "syslog");
}

/// rsyslog's own templates end in a LF, and octet counting counts it.
#[test]
fn omfwd_counted_with_a_standard_template_as_syslog() {
    const MESSAGES: u64 = 500;
    let Some(site) = Site::new("octet-counted") else {
        return;
    };
    let configuration = fs::read_to_string(site.path("configuration")).unwrap();
    let standard = "template=\"RSYSLOG_SyslogProtocol23Format\"";
    let configuration = configuration.replace("template=\"bare\"", standard);
    fs::write(site.path("configuration"), configuration).unwrap();
    let exit = send_all(&site, "syslog", MESSAGES);
    assert_eq!(exit.u64("received"), MESSAGES);
    let sink = site.sink();
    let lines: Vec<_> = sink
        .strip_suffix(b"\n")
        .unwrap()
        .split(|byte| *byte == b'\n')
        .collect();
    assert_eq!(lines.len() as u64, MESSAGES);
    assert!(
        lines.iter().all(|line| line.starts_with(b"<")),
        "a blank line"
    );
}

// ---- restarted in the middle

/// How often something is restarted, and how many messages are sent before the first time, between
/// two and after the last.
const RESTARTS: u64 = 3;
const PART: u64 = 200_000 / (RESTARTS + 1);
const ALL: u64 = PART * (RESTARTS + 1);

/// Every message arrived, and each connection's are in the order in which omfwd sent them. The
/// batch that an rsyslog was at when it ended it may send again, or later than others.
#[track_caller]
fn restarts_rsyslog(framing: &str) {
    let Some((site, relay)) = Site::with_relay(framing) else {
        return;
    };
    let mut drainline = site.drainline("syslog");
    for part in 0..RESTARTS {
        site.write(part * PART..(part + 1) * PART);
        let rsyslog = site.rsyslog();
        site.wait_for_more(PART / 2);
        rsyslog.terminate();
    }
    site.write(RESTARTS * PART..ALL);
    let rsyslog = site.rsyslog();
    site.wait_for(ALL - 1);
    rsyslog.terminate();
    let sent = relay.finish();
    drainline.wait_until_all_ended();
    let exit = drainline.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!((exit.sum("discarded"), exit.u64("unread_bytes")), (0, 0));
    assert_eq!(exit.u64("connections.ended.eof"), sent.len() as u64);
    assert!(sent.len() as u64 > RESTARTS, "{exit}");

    let sent = match framing {
        "octet-counted" => uncounted(&sent.concat()),
        _ => sent.concat(),
    };
    assert!(sent == site.sink(), "the file differs from what was sent");
    let mut arrived = site.arrived();
    let total = arrived.len() as u64;
    assert_eq!(exit.u64("delivered"), total);
    arrived.sort_unstable();
    arrived.dedup();
    assert!(arrived.into_iter().eq(0..ALL), "some are missing");
    assert!(total - ALL <= RESTARTS * BATCH, "{total} arrived");
}

/// The messages of a stream of counted ones, each with a LF.
fn uncounted(mut stream: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(stream.len());
    while !stream.is_empty() {
        let digits = stream.iter().position(|byte| *byte == b' ').unwrap();
        let (count, rest) = stream.split_at(digits);
        let count = str::from_utf8(count).unwrap().parse().unwrap();
        let (message, rest) = rest[1..].split_at(count);
        lines.extend_from_slice(message);
        lines.push(b'\n');
        stream = rest;
    }
    lines
}

#[test]
fn nothing_is_missing_when_rsyslog_restarts_in_lines() {
    restarts_rsyslog("traditional");
}

#[test]
fn nothing_is_missing_when_rsyslog_restarts_counted() {
    restarts_rsyslog("octet-counted");
}

/// What arrived of a connection, whose messages `omfwd` numbers from `first`: those up to `last`,
/// in order and with none left out. After a reconnect it sends what it has gathered of a batch, and
/// then the batch again from its beginning; nothing else is repeated.
#[derive(Debug)]
struct Stretch {
    first: u64,
    last: u64,
}

impl Stretch {
    #[track_caller]
    fn of(numbers: &[u64]) -> Stretch {
        let follows = |pair: &[u64]| pair[1] == pair[0] + 1;
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        if let Some(at) = numbers.windows(2).position(|pair| !follows(pair)) {
            let (once, again) = numbers.split_at(at + 1);
            let (end, begin) = (once[at] + 1, again[0]);
            assert!(
                (end.saturating_sub(BATCH)..=first).contains(&begin),
                "{begin} after {first}..{end}"
            );
            assert!(again.windows(2).all(follows), "from {begin} to {last}");
            assert!(wire("traditional", first..end) <= BUFFER + SIZE as u64);
        }
        Stretch { first, last }
    }
}

/// What these messages come to on the way, in bytes.
fn wire(framing: &str, messages: Range<u64>) -> u64 {
    let length = |seq| {
        let message = PRIORITY.len() + Tagged::new(1).line(seq, SIZE).len();
        match framing {
            "octet-counted" => message.to_string().len() + 1 + message,
            _ => message + 1,
        }
    };
    messages.map(|seq| length(seq) as u64).sum()
}

/// The most that the kernel holds for a sender: tcp(7), tcp_wmem.
fn most_unsent() -> u64 {
    let sizes = fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap();
    sizes.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// What arrived is whole and in order. What is missing lies in one gap at each restart: it is what
/// our kernel held, which the ledger knows, and what the sender's kernel held, which nobody knows
/// but that it is bounded.
#[track_caller]
fn restarts_drainline(framing: &str) {
    let Some(site) = Site::new(framing) else {
        return;
    };
    let mut exits = Vec::new();
    let mut drainline = site.drainline("syslog");
    let rsyslog = site.rsyslog();
    for part in 0..RESTARTS {
        site.write(part * PART..(part + 1) * PART);
        site.wait_for_more(PART / 2);
        exits.push(drainline.terminate());
        drainline = site.drainline("syslog");
    }
    site.write(RESTARTS * PART..ALL);
    site.wait_for(ALL - 1);
    rsyslog.terminate();
    exits.push(drainline.terminate());

    let arrived = site.arrived();
    let mut rest = &arrived[..];
    let mut stretches = Vec::new();
    for exit in &exits {
        exit.assert_closes();
        // omfwd may connect once more as it resumes, and leave its first connection open.
        let accepted = exit.u64("connections.accepted");
        assert!((1..=2).contains(&accepted), "{exit}");
        assert_eq!(exit.u64("received"), exit.u64("delivered"), "{exit}");
        let (these, others) = rest.split_at(exit.u64("delivered") as usize);
        stretches.push(Stretch::of(these));
        rest = others;
    }
    assert_eq!(rest, [0; 0], "in the file and not in the ledgers");
    assert_eq!((stretches[0].first, stretches[3].last), (0, ALL - 1));

    for (pair, exit) in stretches.windows(2).zip(&exits) {
        let (end, next) = (pair[0].last + 1, pair[1].first);
        let known = exit.u64("unread_bytes") + exit.u64("discarded.shutdown");
        exit.assert_code(if known > 0 { 3 } else { 0 });
        let missing = wire(framing, end..next);
        eprintln!(
            "{framing}: {} messages ({missing} bytes) are missing, {} came again; the ledger knows of {known} bytes",
            next.saturating_sub(end),
            end.saturating_sub(next)
        );
        assert!(missing <= known + most_unsent(), "{pair:?}: {exit}");
        // Whatever it was in the middle of, omfwd begins again.
        assert!(end.saturating_sub(next) <= BATCH, "{pair:?}: {exit}");
        assert!(
            known <= wire(framing, end..next + BATCH),
            "{pair:?}: {exit}"
        );
    }
}

#[test]
fn little_is_missing_when_drainline_restarts_in_lines() {
    restarts_drainline("traditional");
}

#[test]
fn little_is_missing_when_drainline_restarts_counted() {
    restarts_drainline("octet-counted");
}
