//! The flags of `drainline verify`.

use std::path::PathBuf;

use drainline::ingest::OutputFraming;

use crate::cli::flag::{Flag, Takes, field, setting};
use crate::cli::help::Page;
use crate::cli::kinds::{Count, Required, choice, unset};
use crate::cli::values::{self, FilePath};

use super::super::args::{JSON, Output, json};
use super::sequence_check::MAX_CONNECTIONS;

const MAX_MESSAGES: u64 = 10_000_000_000;
const MAX_SHOWN: usize = 100_000;

/// What is held against what.
#[derive(Clone, Debug)]
pub(super) struct Args {
    pub(super) file: PathBuf,
    pub(super) framing: OutputFraming,
    /// `None`: those below the highest number that was seen.
    pub(super) connections: Option<u32>,
    /// Of each connection. `None`: those below the highest number that was seen.
    pub(super) messages: Option<u64>,
    pub(super) show: usize,
    pub(super) output: Output,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            file: PathBuf::new(),
            framing: OutputFraming::Lines,
            connections: None,
            messages: None,
            show: 20,
            output: Output::default(),
        }
    }
}

pub(super) fn flags() -> Vec<Flag<Args>> {
    const FILE: FilePath = FilePath {
        expected: "a path, or - for stdin",
        placeholder: "FILE",
    };
    vec![
        Flag {
            name: "file",
            group: "",
            purpose: "what the sink wrote",
            help: "The file that the sink wrote, or - for stdin.",
            takes: Takes::Argument(setting!(Required(FILE), Args.file)),
        },
        Flag {
            name: "framing",
            group: "Messages",
            purpose: "how messages are delimited",
            help: "How messages are delimited in the input: ended by LF or NUL, or preceded by their \
                   length, in decimal and a space (RFC 6587) or in four bytes, big-endian; the server's \
                   --output-framing. After a damaged length, reading goes on at the next whole message.",
            takes: field!(
                choice(values::OUTPUT_FRAMING).shown_as("FRAMING"),
                Args.framing
            ),
        },
        Flag {
            name: "connections",
            group: "Expected",
            purpose: "connections to expect",
            help: "Expects the connections 0 to N-1 and no others: as many as the load made, if each of \
                   them sent something. Without it those below the highest number that was seen are \
                   expected.",
            takes: field!(unset(Count(1..=MAX_CONNECTIONS)), Args.connections),
        },
        Flag {
            name: "messages",
            group: "Expected",
            purpose: "messages to expect of each",
            help: "Expects the messages 0 to N-1 of each connection and no others. Without it those \
                   below the highest number that was seen are expected, so the loss of the last ones of \
                   a connection cannot be told.",
            takes: field!(unset(Count(1..=MAX_MESSAGES)), Args.messages),
        },
        Flag {
            name: "show",
            group: "Output",
            purpose: "most damages to list",
            help: "Shows at most this many damaged connections, and as many torn messages; the rest is \
                   counted.",
            takes: field!(Count(0..=MAX_SHOWN), Args.show),
        },
        json(field!(unset(JSON), Args.output.json)),
        Flag::help("Output"),
    ]
}

pub(super) const PAGE: Page = Page {
    name: "drainline verify",
    title: "finds what is missing or damaged in what a sink wrote",
    about: "Reads what a sink wrote of messages that drainline load --numbered sent, and says for \
            each connection which are missing, arrived more than once, or after a later one, and \
            which are torn. It reads a file of any size once, in little memory.",
    usage: "drainline verify FILE [FLAG VALUE]...",
    after: AFTER,
    short_after: "",
};

const AFTER: &str = "\
Exit codes:
  0  every message that was expected is there, once, whole, and in the order of its connection
  1  something is missing or damaged, there is nothing to verify, or the file cannot be read
  2  one value cannot be read or is out of range

Example, with a server in another terminal (drainline --sink file:/tmp/out):
  drainline load 127.0.0.1:5140 --numbered --connections 8 --messages 1000 --wait-close
  drainline verify /tmp/out --connections 8 --messages 1000
";
