//! `drainline verify`: what a sink wrote of a tagged load, held against what was sent.
//!
//! `args` declares the flags; `splitter` splits the input into messages; `sequence_check` follows each connection; `report` tells.

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

use crate::cli::print;
use crate::cli::usage::UsageError;

use super::args::{self as command_line, Typed};
use args::{Args, PAGE, Settings};
use sequence_check::{SequenceCheck, Torn};
use splitter::Piece;

/// Something is missing or damaged, or could not be read.
const DAMAGED: u8 = 1;

/// Runs `drainline verify`; `args` begin with `verify`.
///
/// # Errors
/// Nothing was verified.
pub(super) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let settings = match command_line::read::<Args>(args, &PAGE)? {
        Typed::Print(text) => return Ok(print(&text)),
        Typed::Args(args) => args.settings()?,
    };
    let failed = |error: io::Error| {
        let line = format!("verify {}: {error}", settings.file.display());
        UsageError::new(DAMAGED, &line)
    };
    let input: Box<dyn Read> = if settings.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&settings.file).map_err(failed)?)
    };
    let sequence_check = read(input, &settings).map_err(failed)?;
    print(&report::write(&sequence_check, &settings));
    Ok(match sequence_check.total().is_clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DAMAGED),
    })
}

fn read(input: impl Read, settings: &Settings) -> io::Result<SequenceCheck> {
    let mut sequence_check =
        SequenceCheck::new(settings.connections, settings.messages, settings.show);
    splitter::read(input, settings.framing, |piece| match piece {
        Piece::Whole(tag) => sequence_check.arrived(tag.connection, tag.seq),
        Piece::Torn { offset, bytes, why } => {
            sequence_check.torn(Torn::new(offset, bytes, why));
            Ok(())
        }
    })?;
    sequence_check.finish();
    Ok(sequence_check)
}
