//! Damage of each kind is counted for what it is, however the input comes in pieces; in
//! `sequence_check`, how it is followed and told.

mod sequence_check;

use std::ffi::OsString;
use std::io::{self, Read};

use drainline::ingest::OutputFraming;

use super::super::tag::Tag;
use super::args::{Args, PAGE, flags};
use super::sequence_check::{SequenceCheck, Total};
use super::splitter;
use super::{read, splitter::Piece};
use crate::cli::command::{Parsed, parse};
use crate::cli::usage::UsageError;

const FRAMINGS: [OutputFraming; 4] = [
    OutputFraming::Lines,
    OutputFraming::Nul,
    OutputFraming::OctetCounted,
    OutputFraming::LengthPrefixed,
];

fn typed(words: &[&str]) -> Result<Args, UsageError> {
    let words = ["verify"].iter().chain(words).map(OsString::from);
    match parse(&PAGE, &flags(), words)? {
        Parsed::Run(args) => Ok(*args),
        Parsed::Print(text) => panic!("{text}"),
    }
}

fn settings(words: &[&str]) -> Args {
    typed(&[&["-"], words].concat()).expect("settings")
}

fn message(connection: u32, seq: u64) -> Vec<u8> {
    let mut message = Vec::new();
    let tag = Tag {
        connection,
        seq,
        stamp: None,
    };
    tag.append(&mut message, 40 + (seq % 60) as usize);
    message
}

fn framed(framing: OutputFraming, message: &[u8]) -> Vec<u8> {
    let before = match framing {
        OutputFraming::OctetCounted => format!("{} ", message.len()).into_bytes(),
        OutputFraming::LengthPrefixed => (message.len() as u32).to_be_bytes().to_vec(),
        _ => Vec::new(),
    };
    let after: Vec<u8> = framing.delimiter().into_iter().collect();
    [&before, message, &after].concat()
}

/// One byte at a read, or a few.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}

fn total(framing: OutputFraming, input: &[u8], piece: usize) -> (Total, SequenceCheck) {
    let mut settings = settings(&[]);
    settings.framing = framing;
    let check = read(Pieces(input, piece), &settings).expect("no I/O, no error");
    (check.total(), check)
}

/// Two connections with 20 messages each, in turn.
fn frames(framing: OutputFraming) -> Vec<Vec<u8>> {
    let turns = (0..20).flat_map(|seq| [message(0, seq), message(1, seq)]);
    turns.map(|message| framed(framing, &message)).collect()
}

#[test]
fn each_kind_of_damage_is_found_in_each_framing() {
    for framing in FRAMINGS {
        for piece in [1, 7, 1 << 20] {
            let clean = Total {
                connections: 2,
                messages: 40,
                ..Total::default()
            };
            let damaged = |what: &str, damage: fn(&mut Vec<Vec<u8>>), expected: Total| {
                let mut frames = frames(framing);
                damage(&mut frames);
                let found = total(framing, &frames.concat(), piece).0;
                assert_eq!(found, expected, "{framing}: {what}");
            };
            let of = |messages, missing, torn| Total {
                messages,
                missing,
                torn,
                ..clean
            };
            damaged("nothing", |_| {}, clean);
            assert!(clean.is_clean());
            let deleted = |frames: &mut Vec<Vec<u8>>| drop(frames.remove(10));
            damaged("deleted", deleted, of(39, 1, 0));
            let repeated = Total {
                messages: 41,
                duplicated: 1,
                ..clean
            };
            let repeat = |frames: &mut Vec<Vec<u8>>| frames.insert(11, frames[10].clone());
            damaged("repeated", repeat, repeated);
            let misordered = Total {
                misordered: 1,
                ..clean
            };
            damaged("swapped", |frames| frames.swap(10, 12), misordered);
            // 13 bytes from the middle of a message: it is torn, and the next is whole.
            let tear = |frames: &mut Vec<Vec<u8>>| drop(frames[10].drain(22..35));
            damaged("torn", tear, of(39, 1, 1));
            // The end of one message and the beginning of the next are gone.
            let join = |frames: &mut Vec<Vec<u8>>| {
                frames[10].truncate(30);
                frames[11].drain(..9);
            };
            damaged("joined", join, of(38, 2, 1));
            damaged("changed", |frames| frames[10][30] ^= 1, of(39, 1, 1));
            // That the last message is missing cannot be told, that it is torn can.
            let end = |frames: &mut Vec<Vec<u8>>| {
                frames[39].pop();
            };
            damaged("ended", end, of(39, 0, 1));
        }
    }
}

#[test]
fn a_torn_message_is_told_with_its_place_and_connection() {
    for framing in FRAMINGS {
        let mut frames = frames(framing);
        frames[10].drain(35..38);
        let offset = frames[..10].concat().len() as u64;
        let (total, check) = total(framing, &frames.concat(), 1000);
        assert_eq!(total.torn, 1);
        let torn = &check.first_torn()[0];
        assert_eq!(
            (torn.offset, torn.connection),
            (offset, Some(0)),
            "{torn:?}"
        );
        let damage: Vec<_> = check.damaged().collect();
        assert_eq!(damage.len(), 1);
        assert_eq!(
            (damage[0].0, damage[0].1.torn, damage[0].1.missing()),
            (0, 1, 1)
        );
    }
}

#[test]
fn noise_between_counted_messages_is_one_torn_message() {
    for framing in [OutputFraming::OctetCounted, OutputFraming::LengthPrefixed] {
        for noise in [
            &b"\0\0\0\x05"[..],
            b"99 c",
            b"12345678901 ",
            b"\xff\xff\xff\xff",
            b"x",
        ] {
            let input = [
                framed(framing, &message(0, 0)),
                noise.to_vec(),
                framed(framing, &message(0, 1)),
            ]
            .concat();
            let (total, _) = total(framing, &input, 3);
            assert_eq!(
                (total.messages, total.torn, total.missing),
                (2, 1, 0),
                "{noise:?}"
            );
        }
    }
}

#[test]
fn what_is_expected_and_never_came_is_missing() {
    let lines = |list: &[(u32, u64)]| -> Vec<u8> {
        let framed = list
            .iter()
            .map(|&(connection, seq)| message(connection, seq));
        framed.flat_map(|message| framed_line(&message)).collect()
    };
    let of = |words: &[&str], list: &[(u32, u64)]| {
        read(&lines(list)[..], &settings(words))
            .expect("read")
            .total()
    };
    let list = [(0, 0), (0, 1), (2, 0)];
    let known = Total {
        connections: 2,
        messages: 3,
        ..Total::default()
    };
    assert_eq!(of(&[], &list), Total { absent: 1, ..known });
    assert_eq!(
        of(&["--connections=3"], &list),
        Total { absent: 1, ..known }
    );
    assert_eq!(
        of(&["--connections=5"], &list),
        Total { absent: 3, ..known }
    );
    assert_eq!(
        of(&["--messages=3", "--connections=3"], &list),
        Total {
            absent: 1,
            missing: 1 + 3 + 2,
            ..known
        }
    );
    let strangers = Total {
        connections: 1,
        unexpected: 1,
        ..known
    };
    assert_eq!(of(&["--connections=1"], &list), strangers);
    let beyond = Total {
        absent: 1,
        missing: 1,
        unexpected: 1,
        ..known
    };
    assert_eq!(of(&["--messages=1"], &list), beyond);
    assert!(!of(&["--messages=1"], &[(0, 0), (0, 1)]).is_clean());
    assert!(of(&["--messages=2"], &[(0, 0), (0, 1)]).is_clean());
    assert!(of(&[], &[]).is_nothing() && !of(&[], &[]).is_clean());
    assert!(!of(&["--connections=1"], &[]).is_clean());
}

fn framed_line(message: &[u8]) -> Vec<u8> {
    framed(OutputFraming::Lines, message)
}

#[test]
fn an_endless_line_is_one_torn_message_in_bounded_memory() {
    let endless = io::repeat(b'x').take(200 << 20);
    let input = endless.chain(&b"\n"[..]);
    let whole = framed_line(&message(0, 0));
    let mut found = Vec::new();
    splitter::read(input.chain(&whole[..]), OutputFraming::Lines, |piece| {
        found.push(match piece {
            Piece::Whole(tag) => Ok(tag.seq),
            Piece::Torn { offset, why, .. } => Err((offset, why)),
        });
        Ok(())
    })
    .expect("read");
    assert_eq!(found, [Err((0, "longer than any message")), Ok(0)]);
}

#[test]
fn a_connection_too_many_is_an_error() {
    let line = framed_line(&message(4_000_000, 0));
    let error = read(&line[..], &settings(&[])).expect_err("too many");
    assert!(error.to_string().contains("at most 4000000"), "{error}");
}
