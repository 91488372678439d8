//! A command line as its rows read it: settings, a help, or one line that says what is wrong.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use super::flag::Flag;
use super::help::{self, Page};
use super::usage::UsageError;

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed<S> {
    /// Run with these settings.
    Run(Box<S>),
    /// Print this to stdout and end with 0.
    Print(String),
}

/// Reads the command line of a command: its name, and what was typed behind. What was not typed is
/// as by default.
///
/// # Errors
/// The first thing that is wrong, in one line, with its exit code.
pub(crate) fn parse<S: Default>(
    page: &Page,
    flags: &[Flag<S>],
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<S>, UsageError> {
    let matches = match find(page, flags, args)? {
        Parsed::Run(matches) => matches,
        Parsed::Print(text) => return Ok(Parsed::Print(text)),
    };
    let mut settings = S::default();
    for flag in flags {
        flag.apply(&mut settings, &matches)?;
    }
    // What is wrong is said before what is missing.
    for flag in flags {
        flag.require(&matches)?;
    }
    Ok(Parsed::Run(Box::new(settings)))
}

/// Finds the words of a command line by its rows, and reads none of them.
pub(crate) fn find<S: Default>(
    page: &Page,
    flags: &[Flag<S>],
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<ArgMatches>, UsageError> {
    let mut command = clap(page, flags);
    command
        .try_get_matches_from_mut(args)
        .map(|matches| Parsed::Run(Box::new(matches)))
        .or_else(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Parsed::Print(error.to_string()))
            }
            _ => Err(UsageError::from_clap(&error, &command, |long| {
                expected(flags, long)
            })),
        })
}

/// Every flag as clap sees it, for completions and manual pages, too.
pub(crate) fn clap<S: Default>(page: &Page, flags: &[Flag<S>]) -> Command {
    let command = Command::new(page.name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(page.about)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(flags.iter().map(Flag::arg));
    help::install(command, page, flags)
}

/// What a flag, by its long name, accepts.
fn expected<S: Default>(flags: &[Flag<S>], long: &str) -> Option<String> {
    let flag = flags.iter().find(|flag| flag.long() == long)?;
    flag.value().map(|value| value.expected())
}
