//! What was typed.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser};
use drainline::ingest::OutputFraming;

use crate::cli::help::Page;
use crate::cli::units;
use crate::cli::usage::UsageError;
use crate::cli::values;

use super::super::args::{JSON, Output, within};
use super::sequence_check::MAX_CONNECTIONS;

const MAX_MESSAGES: u64 = 10_000_000_000;
const MAX_SHOWN: usize = 100_000;

/// Reads what a sink wrote of messages that drainline load --numbered sent, and says for each
/// connection which are missing, arrived more than once, or after a later one, and which are torn.
/// It reads a file of any size once, in little memory.
#[derive(Debug, Parser)]
#[command(
    name = "drainline verify",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Args {
    /// The file that the sink wrote, or - for stdin.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// how messages are delimited
    ///
    /// How messages are delimited in the input: ended by LF or NUL, or preceded by their length, in
    /// decimal and a space (RFC 6587) or in four bytes, big-endian; the server's --output-framing.
    /// After a damaged length, reading goes on at the next whole message.
    #[arg(long, value_name = "FRAMING", default_value = "lines")]
    #[arg(value_parser = values::choice(values::OUTPUT_FRAMING), help_heading = "Messages")]
    pub(super) framing: OutputFraming,

    /// connections to expect
    ///
    /// Expects the connections 0 to N-1 and no others: as many as the load made, if each of them
    /// sent something. Without it those below the highest number that was seen are expected.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(units::count::<u32>, 1..=MAX_CONNECTIONS), help_heading = "Expected")]
    pub(super) connections: Option<u32>,

    /// messages to expect of each
    ///
    /// Expects the messages 0 to N-1 of each connection and no others. Without it those below the
    /// highest number that was seen are expected, so the loss of the last ones of a connection
    /// cannot be told.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(units::count::<u64>, 1..=MAX_MESSAGES), help_heading = "Expected")]
    pub(super) messages: Option<u64>,

    /// most damages to list
    ///
    /// Shows at most this many damaged connections, and as many torn messages; the rest is counted.
    #[arg(long, value_name = "N", default_value = "20")]
    #[arg(value_parser = within(units::count::<usize>, 0..=MAX_SHOWN), help_heading = "Output")]
    pub(super) show: usize,

    #[command(flatten)]
    pub(super) output: Output,

    /// print help
    ///
    /// Prints help: a line for each flag with -h, every flag and its cost with --help.
    #[arg(short, long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
}

pub(super) const PAGE: Page = Page {
    title: "finds what is missing or damaged in what a sink wrote",
    usage: "drainline verify FILE [FLAG VALUE]...",
    after: AFTER,
    short_after: "",
    accepted: &[
        ("file", "a path, or - for stdin"),
        ("connections", "1 to 4000000"),
        ("messages", "1 to 10000000000"),
        ("show", "0 to 100000"),
        JSON,
    ],
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

impl Args {
    /// # Errors
    /// No file is named.
    pub(super) fn file(&self) -> Result<&Path, UsageError> {
        let line = "missing file for verify: expected a path, or - for stdin";
        let missing = || UsageError::new(2, line);
        self.file.as_deref().ok_or_else(missing)
    }
}
