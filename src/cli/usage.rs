//! What is wrong with the command line, in one line.

use std::fmt;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{hidden, renamed};

/// A file or an address could not be opened: that may pass.
#[cfg(feature = "tls")]
pub(crate) const NOT_STARTED: u8 = 1;

/// One value cannot be read or is out of range.
pub(crate) const BAD_VALUE: u8 = 2;

/// Values contradict each other (EX_CONFIG of sysexits.h).
pub(crate) const CONTRADICTION: u8 = 78;

/// The command without a name of its own, which serves.
const SERVER: &str = "drainline";

/// The other commands.
pub(crate) const COMMANDS: [&str; 6] = ["check", "config", "load", "verify", "lab", "plan"];

/// Why nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageError {
    /// One line for stderr: the flag, the value and what is expected.
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
    pub(crate) fn bad_value(flag: &str, value: &str, expected: &str) -> Self {
        let written = format!("'{value}'");
        Self::new(BAD_VALUE, &invalid(flag, flag, value, &written, expected))
    }

    /// Values that are each sound and not together.
    pub(crate) fn contradiction(line: &str) -> Self {
        Self::new(CONTRADICTION, line)
    }

    /// `line` in one line, behind the program's name.
    pub(crate) fn new(code: u8, line: &str) -> Self {
        UsageError {
            line: format!("drainline: {}", hidden::in_line(&one_line(line))),
            code,
        }
    }

    /// What clap tells in several lines; `expected` says what a flag accepts.
    pub(crate) fn from_clap(
        error: &clap::Error,
        command: &Command,
        expected: impl Fn(&str) -> Option<String>,
    ) -> Self {
        // clap names a flag as `--send-timeout <TIME>`.
        let full = context(error, ContextKind::InvalidArg);
        let flag = full.split(' ').next().unwrap_or_default();
        let value = context(error, ContextKind::InvalidValue);
        let line = match error.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                return Self::bad_value(flag, &value, &expected(flag).unwrap_or_default());
            }
            ErrorKind::TooManyValues => {
                format!(
                    "invalid value '{value}' for {flag}: expected {flag} alone, without a value"
                )
            }
            ErrorKind::ArgumentConflict => {
                format!("{flag} is given more than once: expected one value")
            }
            ErrorKind::UnknownArgument => unknown(error, command, flag),
            ErrorKind::InvalidUtf8 => {
                "a value is not UTF-8: expected UTF-8 everywhere but in paths".to_owned()
            }
            _ => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                first.trim_start_matches("error: ").to_owned()
            }
        };
        Self::new(BAD_VALUE, &line)
    }
}

fn unknown(error: &clap::Error, command: &Command, flag: &str) -> String {
    let suggested = context(error, ContextKind::SuggestedArg);
    let name = command.get_name();
    if !flag.starts_with('-') {
        let argument = command.get_positionals().find(|arg| !arg.is_last_set());
        let expected = match argument {
            None if name == SERVER => return unknown_command(flag),
            None => "only flags".to_owned(),
            Some(argument) => {
                let name = argument.get_id().as_str().to_uppercase();
                format!("one {name} and flags")
            }
        };
        format!("unexpected argument '{flag}': expected {expected}; {name} -h lists them")
    } else if let Some(now) = renamed::flag_now(name, flag) {
        format!("unknown flag {flag}: use {now} instead")
    } else if suggested.is_empty() {
        format!("unknown flag {flag}: {name} -h lists the flags")
    } else {
        format!("unknown flag {flag}: did you mean {suggested}?")
    }
}

/// A word where the server takes flags alone: perhaps a command, mistyped or not the first word.
fn unknown_command(word: &str) -> String {
    let commands = Command::new(SERVER)
        .disable_help_subcommand(true)
        .subcommands(COMMANDS.map(Command::new));
    let error = commands.try_get_matches_from([SERVER, word]).err();
    let nearest = error.as_ref().and_then(|error| {
        // clap has the nearest last.
        match error.get(ContextKind::SuggestedSubcommand)? {
            ContextValue::Strings(names) => names.last(),
            _ => None,
        }
    });
    let commands = COMMANDS.join(", ");
    match nearest {
        Some(nearest) => format!(
            "unexpected argument '{word}': did you mean {SERVER} {nearest}? The commands are {commands}"
        ),
        None => format!(
            "unexpected argument '{word}': expected flags, or as the first word a command \
             ({commands}); {SERVER} -h lists the flags"
        ),
    }
}

/// How like a key a word has to be to be taken for it.
const SIMILAR: f64 = 0.8;

/// The key that is most like `name`.
pub(crate) fn nearest<'a>(name: &str, keys: &'a [String]) -> Option<&'a str> {
    let name = name.replace('-', "_").to_lowercase();
    let likeness = keys.iter().map(|key| (strsim::jaro(&name, key), key));
    let like = likeness.filter(|(likeness, _)| *likeness > SIMILAR);
    let nearest = like.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.map(|(_, key)| key.as_str())
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// `value` of a flag is not accepted; an empty one is missing. It is told as it was `written`, of
/// the setting as it is `named` where it was given.
pub(crate) fn invalid(
    flag: &str,
    named: &str,
    value: &str,
    written: &str,
    expected: &str,
) -> String {
    match (value, renamed::value_now(flag, value)) {
        ("", _) => format!("missing value for {named}: expected {expected}"),
        (_, None) => format!("invalid value {written} for {named}: expected {expected}"),
        (_, Some(now)) => format!("invalid value {written} for {named}: use {now} instead"),
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
