//! How a tool reads its command line, and where its report goes.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};
use serde_json::Value;

use crate::cli::help::{self, Page};
use crate::cli::units::Unreadable;
use crate::cli::usage::{self, UsageError};
use crate::cli::{files, print};

/// What `--json` accepts.
pub(super) const JSON: (&str, &str) = ("json", "a path, or - for stdout");

/// The file could not be written.
const NOT_WRITTEN: u8 = 1;

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
        Err(error) => return Err(usage_error(&error, &command, page)),
    };
    T::from_arg_matches(&matches)
        .map(Typed::Args)
        .map_err(|error| usage_error(&error, &command, page))
}

fn usage_error(error: &clap::Error, command: &Command, page: &Page) -> UsageError {
    UsageError::from_clap(error, command, |flag| {
        usage::accepted_of(command, page.accepted, flag)
    })
}

/// The flags as clap sees them. `-5s` after one is a bad value of it, not a flag of its own.
pub(super) fn command<T: CommandFactory>(page: &Page) -> Command {
    let command = T::command().mut_args(|arg| {
        let takes_value = usage::takes_value(&arg) && !arg.is_positional();
        arg.allow_hyphen_values(takes_value)
    });
    help::install(help::complete(command, page), page)
}

/// Reads what `read` reads, and refuses a value outside `range`; `off` and `auto` are in any range.
pub(super) fn within<T: PartialOrd + Clone, V: Clone + Into<Option<T>>>(
    read: impl Fn(&str) -> Result<V, Unreadable> + Clone,
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<V, Unreadable> + Clone {
    move |text| {
        let value = read(text)?;
        let number: Option<T> = value.clone().into();
        match number.is_none_or(|number| range.contains(&number)) {
            true => Ok(value),
            false => Err("out of range".to_owned()),
        }
    }
}

/// The `--json FILE|-` of each tool.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Output {
    /// where to write JSON, - for stdout
    ///
    /// Writes the report as one JSON object to this file, beside the text on stdout. With - the
    /// JSON goes to stdout, and there is no text.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    json: Option<PathBuf>,
}

impl Output {
    /// Says before a tool's work begins that its report could not be written.
    ///
    /// # Errors
    /// The file cannot be created or replaced.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        let file = self.json.as_deref().filter(|path| !is_stdout(path));
        file.map_or(Ok(()), |path| {
            files::check_replaced(path).map_err(|error| not_written(path, &error))
        })
    }

    /// Prints `text` and writes `json` to its file, or prints `json` alone. Both end with LF.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(
        &self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<ExitCode, UsageError> {
        let Some(path) = &self.json else {
            return Ok(print(&text()));
        };
        let json = format!("{}\n", json());
        if is_stdout(path) {
            return Ok(print(&json));
        }
        let printed = print(&text());
        files::write_whole(path, &json).map_err(|error| not_written(path, &error))?;
        Ok(printed)
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn not_written(path: &Path, error: &std::io::Error) -> UsageError {
    UsageError::new(NOT_WRITTEN, &format!("--json {}: {error}", path.display()))
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

/// Each line of `table` is the exit code, what is typed, `=>`, and a part of the one line that is
/// said.
#[cfg(test)]
#[track_caller]
pub(super) fn assert_refused<T>(table: &str, typed: impl Fn(&[&str]) -> Result<T, UsageError>) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (words, part) = line.split_once("=>").expect(line);
        let words: Vec<&str> = words.split_whitespace().collect();
        let Err(error) = typed(&words[1..]) else {
            panic!("not refused: {line}");
        };
        assert_eq!(error.code.to_string(), words[0], "{line}: {error}");
        assert!(error.line.starts_with("drainline: "), "{line}: {error}");
        assert!(!error.line.contains('\n'), "{line}: {error}");
        assert!(error.line.contains(part.trim()), "{line}: {error}");
    }
}
