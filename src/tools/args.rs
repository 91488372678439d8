//! How a tool's command line is read.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};

use crate::cli::help::{self, Page};
use crate::cli::usage::{self, UsageError};

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Typed<T> {
    /// Run with these arguments.
    Args(T),
    /// Print this to stdout and end with 0.
    Print(String),
}

/// Reads the arguments of a tool, its name first.
///
/// # Errors
/// The first thing that is wrong, in one line, with its exit code.
pub(super) fn read<T: CommandFactory + FromArgMatches>(
    args: &[OsString],
    page: &Page,
) -> Result<Typed<T>, UsageError> {
    let mut command = command::<T>(page);
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Typed::Print(error.to_string()));
        }
        Err(error) => return Err(UsageError::from_clap(&error, &command, page.accepted)),
    };
    T::from_arg_matches(&matches)
        .map(Typed::Args)
        .map_err(|error| UsageError::from_clap(&error, &command, page.accepted))
}

/// The flags as clap sees them. `-5s` after one is a bad value of it, not a flag of its own.
pub(super) fn command<T: CommandFactory>(page: &Page) -> Command {
    let command = T::command().mut_args(|arg| {
        let takes_value = usage::takes_value(&arg) && !arg.is_positional();
        arg.allow_hyphen_values(takes_value)
    });
    help::install(command, page)
}

/// Each flag of a tool is in both of its helps.
#[cfg(test)]
pub(super) fn assert_every_flag_is_in_both_helps<T: CommandFactory + FromArgMatches>(
    tool: &str,
    page: &Page,
) {
    for word in ["-h", "--help"] {
        let words = [OsString::from(tool), OsString::from(word)];
        let Ok(Typed::Print(text)) = read::<T>(&words, page) else {
            panic!("{word} prints nothing");
        };
        for arg in command::<T>(page).get_arguments() {
            if let Some(long) = arg.get_long() {
                assert!(
                    text.contains(&format!("--{long}")),
                    "{long} is not in {word}"
                );
            }
        }
    }
}
