//! What is wrong with the command line, in one line.

use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use drainline::ConfigError;

/// What each flag of a command accepts, by its id. Choices tell it themselves.
pub(crate) type Accepted = &'static [(&'static str, &'static str)];

/// One value cannot be read or is out of range.
const BAD_VALUE: u8 = 2;

/// Values contradict each other (EX_CONFIG of sysexits.h).
pub(crate) const CONTRADICTION: u8 = 78;

/// Why nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageError {
    /// One line for stderr: the flag, the value and what is accepted.
    pub(crate) line: String,
    /// The exit code.
    pub(crate) code: u8,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for UsageError {}

impl UsageError {
    /// `value` of `flag` cannot be read or is out of range.
    pub(crate) fn bad_value(flag: &str, value: &str, accepted: &str) -> Self {
        let line = if value.is_empty() {
            format!("{flag}: a value is missing: accepted is {accepted}")
        } else {
            format!("{flag} {value}: accepted is {accepted}")
        };
        Self::new(BAD_VALUE, &line)
    }

    /// The same, and why it was not accepted.
    pub(super) fn unreadable(
        command: &Command,
        table: Accepted,
        id: &str,
        value: &str,
        why: &str,
    ) -> Self {
        let accepted = accepted_of(command, table, &flag(id));
        Self::bad_value(&flag(id), value, &format!("{accepted} ({why})"))
    }

    /// Values that are each sound and not together.
    pub(crate) fn contradiction(line: &str) -> Self {
        Self::new(CONTRADICTION, line)
    }

    /// `line` in one line, behind the program's name.
    pub(crate) fn new(code: u8, line: &str) -> Self {
        UsageError {
            line: format!("drainline: {}", one_line(line)),
            code,
        }
    }

    /// A setting that the library refuses, in the words of the command line.
    pub(super) fn from_setting(
        error: &ConfigError,
        command: &Command,
        table: Accepted,
        matches: &ArgMatches,
    ) -> Self {
        let flag = flag(error.setting);
        let typed = typed(matches, error.setting).unwrap_or_else(|| error.value.clone());
        if error.is_contradiction {
            let accepted = with_flags(&error.accepted, command);
            let line = format!("{flag} {typed}: accepted is {accepted}");
            return Self::new(CONTRADICTION, &line);
        }
        Self::bad_value(&flag, &typed, &accepted_of(command, table, &flag))
    }

    /// What clap tells in several lines.
    pub(crate) fn from_clap(error: &clap::Error, command: &Command, table: Accepted) -> Self {
        // clap names a flag as `--send-timeout <TIME>`.
        let full = context(error, ContextKind::InvalidArg);
        let flag = full.split(' ').next().unwrap_or_default();
        let value = context(error, ContextKind::InvalidValue);
        match error.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                Self::bad_value(flag, &value, &accepted_of(command, table, flag))
            }
            ErrorKind::TooManyValues => {
                let line = format!("{flag} {value}: accepted is {flag} alone, without a value");
                Self::new(BAD_VALUE, &line)
            }
            ErrorKind::ArgumentConflict => {
                let line = format!("{flag}: given more than once: accepted is one value");
                Self::new(BAD_VALUE, &line)
            }
            ErrorKind::UnknownArgument => Self::new(BAD_VALUE, &unknown(error, command, flag)),
            ErrorKind::InvalidUtf8 => Self::new(
                BAD_VALUE,
                "a value is not UTF-8: accepted is UTF-8, except in --port-file and --sink file:PATH",
            ),
            _ => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                Self::new(BAD_VALUE, first.trim_start_matches("error: "))
            }
        }
    }
}

fn unknown(error: &clap::Error, command: &Command, flag: &str) -> String {
    let suggested = context(error, ContextKind::SuggestedArg);
    let name = command.get_name();
    if !flag.starts_with('-') {
        let alone = match command.get_positionals().next() {
            None => "flags alone".to_owned(),
            Some(one) => format!("one {} and flags", one.get_id().as_str().to_uppercase()),
        };
        format!("{flag}: accepted are {alone}: {name} -h lists them")
    } else if suggested.is_empty() {
        format!("{flag}: no such flag: {name} -h lists them")
    } else {
        format!("{flag}: no such flag: did you mean {suggested}?")
    }
}

/// What `arg` accepts; `None` where there is no value.
pub(super) fn accepted(arg: &Arg, table: Accepted) -> Option<String> {
    if !takes_value(arg) {
        return None;
    }
    let told = table.iter().find(|(id, _)| *id == arg.get_id().as_str());
    if let Some((_, text)) = told {
        return Some((*text).to_owned());
    }
    let choices = arg.get_possible_values();
    let names: Vec<&str> = choices.iter().map(|choice| choice.get_name()).collect();
    let (last, others) = names.split_last()?;
    Some(format!("{} or {last}", others.join(", ")))
}

pub(crate) fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn accepted_of(command: &Command, table: Accepted, flag: &str) -> String {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == flag.strip_prefix("--"))
        .and_then(|arg| accepted(arg, table))
        .unwrap_or_default()
}

/// `send_timeout` is set by `--send-timeout`.
fn flag(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}

/// The value as it was typed, where the flag has one.
fn typed(matches: &ArgMatches, id: &str) -> Option<String> {
    let mut values = matches.try_get_raw(id).ok()??;
    let first = values.next()?;
    match values.next() {
        None => Some(first.to_string_lossy().into_owned()),
        Some(_) => None,
    }
}

/// Replaces settings of more than one word by their flags.
fn with_flags(text: &str, command: &Command) -> String {
    let known = |word: &str| {
        word.contains('_')
            && command
                .get_arguments()
                .any(|arg| arg.get_id().as_str() == word)
    };
    text.split(' ')
        .map(|word| {
            if known(word) {
                flag(word)
            } else {
                word.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// A value may hold anything; a line holds no control character.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
