//! `drainline verify`: what a sink wrote of a tagged load, held against what was sent.
//!
//! `args` declares the flags; `splitter` splits the input into messages; `sequence_check` follows
//! each connection; `report` tells.

mod args;
mod report;
mod sequence_check;
mod splitter;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::command::{self as command_line, Parsed};
use crate::cli::print;
use crate::cli::usage::UsageError;

use args::{Args, PAGE};
use sequence_check::{SequenceCheck, Torn};
use splitter::Piece;

/// Something is missing or damaged, or could not be read.
const DAMAGED: u8 = 1;

/// Runs `drainline verify`; `args` begin with `verify`.
///
/// # Errors
/// Nothing was verified.
pub(super) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let args = match command_line::parse(&PAGE, &args::flags(), args.iter().cloned())? {
        Parsed::Print(text) => return Ok(print(&text)),
        Parsed::Run(args) => args,
    };
    let file = &args.file;
    args.output.check()?;
    args.output.check_keeps(file, "the file that is verified")?;
    let failed = |error: io::Error| {
        let line = format!("verify {}: {error}", file.display());
        UsageError::new(DAMAGED, &line)
    };
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(failed)?)
    };
    let check = read(input, &args).map_err(failed)?;
    args.output.write(
        || report::text(&check, args.show),
        || report::json(&check, args.show),
    )?;
    Ok(match check.total().is_clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DAMAGED),
    })
}

fn read(input: impl Read, args: &Args) -> io::Result<SequenceCheck> {
    let mut check = SequenceCheck::new(args.connections, args.messages, args.show);
    splitter::read(input, args.framing, |piece| match piece {
        Piece::Whole(tag) => check.arrived(tag.connection, tag.seq),
        Piece::Torn { offset, bytes, why } => {
            check.torn(Torn::new(offset, bytes, why));
            Ok(())
        }
    })?;
    check.finish();
    Ok(check)
}
