//! A command line as its rows read it: settings, a help, or one line that says what is wrong.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::error::ErrorKind;

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
    let mut command = clap(page, flags);
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Parsed::Print(error.to_string()))
                }
                _ => Err(UsageError::from_clap(&error, &command, |long| {
                    expected(flags, long)
                })),
            };
        }
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

/// What was typed for each flag that takes a value, word for word, by the flag's name: errors found
/// after the reading say a value as it was given. Empty where the command line cannot be read.
pub(crate) fn typed<S: Default>(
    page: &Page,
    flags: &[Flag<S>],
    args: impl IntoIterator<Item = OsString>,
) -> HashMap<&'static str, String> {
    let Ok(matches) = clap(page, flags).try_get_matches_from(args) else {
        return HashMap::new();
    };
    let valued = flags.iter().filter(|flag| flag.value().is_some());
    let typed = valued.filter_map(|flag| {
        let words: Vec<OsString> = matches.get_many(flag.name)?.cloned().collect();
        let words = words.join(OsStr::new(","));
        Some((flag.name, words.to_string_lossy().into_owned()))
    });
    typed.collect()
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
