//! Where a value comes from, and what it is called there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::{self, Display};

#[cfg(feature = "tls")]
use drainline::{TlsError, TlsErrorKind};

use crate::cli::document::Place;
use crate::cli::flag::{Flag, Setting};
use crate::cli::hidden;
use crate::cli::kinds::NotAccepted;
use crate::cli::usage::{self, UsageError};

/// What sets a value. A later one stands above an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration file.
    File(Place),
    /// A variable of the environment.
    Variable,
    /// The command line.
    Flag,
}

/// A value that was given.
#[derive(Clone, Debug)]
struct Given {
    origin: Origin,
    words: String,
}

/// What was given, by the row's name. Everything else is as by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(HashMap<&'static str, Given>);

impl Origins {
    /// `words` are the value as it was given: an error that is found later says it so, but for what
    /// may be a password in a URL.
    pub(super) fn set(&mut self, row: &'static str, origin: Origin, words: String) {
        let words = words
            .split('\0')
            .map(hidden::of_url)
            .collect::<Vec<_>>()
            .join("\0");
        self.0.insert(row, Given { origin, words });
    }

    pub(super) fn origin(&self, row: &str) -> Option<&Origin> {
        self.0.get(row).map(|given| &given.origin)
    }

    pub(super) fn is_of_variable(&self, row: &str) -> bool {
        self.origin(row) == Some(&Origin::Variable)
    }

    /// A row's value in the words in which it was given, or as its default could be typed.
    pub(super) fn value<S: Default>(&self, row: &Flag<S>, settings: &S) -> String {
        let words = self.0.get(row.name).map(|given| given.words.clone());
        words
            .or_else(|| row.value()?.print(settings))
            .unwrap_or_default()
    }

    /// A row as whoever gave its value knows it; as a flag where nobody did.
    pub(super) fn named<S: Default>(&self, row: &Flag<S>) -> Named {
        Named::new(row, self.origin(row.name))
    }

    /// The same beside another setting: where nobody gave the row's value, it is called by its key
    /// if the other is.
    pub(super) fn named_beside<S: Default>(&self, row: &Flag<S>, beside: &Named) -> Named {
        let mut named = self.named(row);
        if self.origin(row.name).is_none() && beside.place.is_some() {
            named.name = row.key();
        }
        named
    }

    /// What set a value, for `--check`.
    pub(super) fn told<S: Default>(&self, row: &Flag<S>) -> String {
        match self.origin(row.name) {
            None => "default".to_owned(),
            Some(Origin::Flag) => row.long(),
            Some(Origin::Variable) => row.variable(),
            Some(Origin::File(place)) => place.line(),
        }
    }
}

impl Origin {
    fn place(&self) -> Option<&Place> {
        match self {
            Origin::File(place) => Some(place),
            Origin::Variable | Origin::Flag => None,
        }
    }
}

/// What a setting is called where its value was given: `--sink`, `DRAINLINE_SINK`, or the key
/// `sink` at its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(super) name: String,
    pub(super) place: Option<Place>,
    /// The flag, by which a renamed value is found.
    long: String,
    /// A value that is wrong by itself was typed with the command.
    is_typed: bool,
}

impl Named {
    pub(super) fn new<S: Default>(row: &Flag<S>, origin: Option<&Origin>) -> Named {
        Named {
            name: match origin {
                None | Some(Origin::Flag) => row.long(),
                Some(Origin::Variable) => row.variable(),
                Some(Origin::File(_)) => row.key(),
            },
            place: origin.and_then(Origin::place).cloned(),
            long: row.long(),
            is_typed: matches!(origin, None | Some(Origin::Flag)),
        }
    }

    /// What a URL, or an option of it, says can never be.
    pub(crate) fn refuses_url(&self, url: impl Display, why: impl Display) -> UsageError {
        self.unfit(&format!("{self} {url}: {why}"))
    }

    /// What a value names is wrong by itself, as `line` says.
    fn unfit(&self, line: &str) -> UsageError {
        let code = match self.is_typed {
            true => usage::BAD_VALUE,
            false => usage::CONTRADICTION,
        };
        UsageError::new(code, line)
    }

    /// Files of TLS that the value names cannot be used, as `line` says.
    #[cfg(feature = "tls")]
    pub(crate) fn refuses_tls(&self, line: &str, error: &TlsError) -> UsageError {
        match error.error_kind() {
            TlsErrorKind::Invalid => self.unfit(line),
            TlsErrorKind::Unreadable => UsageError::new(usage::NOT_STARTED, line),
            _ => UsageError::contradiction(line),
        }
    }

    /// A value cannot be read or is out of range; an empty one is missing.
    pub(super) fn invalid(&self, value: &str, expected: &str) -> UsageError {
        let quoted = match value {
            "" => "",
            value => &format!("'{value}'"),
        };
        self.invalid_as_written(value, quoted, expected)
    }

    /// What a setting said of words that were given for it.
    pub(super) fn refuses<S>(
        &self,
        setting: &dyn Setting<S>,
        words: &OsStr,
        refused: NotAccepted,
    ) -> UsageError {
        let value = refused.part.as_deref().unwrap_or(words).to_string_lossy();
        self.invalid(&value, &refused.told(|| setting.expected()))
    }

    /// The same of a value that is told as it stands in the file.
    pub(super) fn invalid_as_written(
        &self,
        value: &str,
        written: &str,
        expected: &str,
    ) -> UsageError {
        let line = usage::invalid(&self.long, &self.name, value, written, expected);
        self.unfit(&self.at(&line))
    }

    /// A value contradicts another.
    pub(super) fn contradiction(&self, value: &str, expected: &str) -> UsageError {
        let line = format!(
            "invalid value '{value}' for {}: expected {expected}",
            self.name
        );
        UsageError::contradiction(&self.at(&line))
    }

    /// A sentence behind the place.
    fn at(&self, line: &str) -> String {
        match &self.place {
            Some(place) => format!("{place}: {line}"),
            None => line.to_owned(),
        }
    }
}

/// With its place.
impl Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at(&self.name))
    }
}
