//! What a kind of value is.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;

/// What was typed and is not accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NotAccepted {
    /// The part that is not accepted, if it is not the whole.
    pub(crate) part: Option<OsString>,
    /// Why, where what is accepted does not tell it.
    pub(crate) why: Option<String>,
    /// What that part would have to be, where it is not of the kind of the whole.
    pub(crate) expected: Option<String>,
}

impl NotAccepted {
    pub(in crate::cli) fn because(why: impl Into<String>) -> Self {
        NotAccepted {
            why: Some(why.into()),
            ..NotAccepted::default()
        }
    }

    /// What was expected, where `of_whole` is what is expected of the whole value.
    pub(crate) fn told(&self, of_whole: impl FnOnce() -> String) -> String {
        let expected = self.expected.clone().unwrap_or_else(of_whole);
        match &self.why {
            Some(why) => format!("{expected}: {why}"),
            None => expected,
        }
    }

    pub(super) fn of(self, part: &str) -> Self {
        NotAccepted {
            part: Some(part.into()),
            ..self
        }
    }
}

/// What a configuration file holds for a value that is no word of its own, such as `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFile {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// A string with a unit, or a whole number without.
    Either,
    /// `true` or `false`, without quotes.
    Bool,
}

/// A kind of value.
pub(crate) trait Kind {
    type Value;

    fn read(&self, typed: &str) -> Result<Self::Value, NotAccepted>;

    /// As [`Kind::read`]; a path need not be UTF-8.
    fn read_os(&self, typed: &OsStr) -> Result<Self::Value, NotAccepted> {
        let typed = typed.to_str();
        self.read(typed.ok_or_else(|| NotAccepted::because("not UTF-8"))?)
    }

    /// In one word that needs no quotes in a shell, but for a path; `None` where there is no value.
    fn print(&self, value: &Self::Value) -> Option<String>;

    /// As a configuration file has it, in TOML; `None` where there is no value.
    fn print_in_file(&self, value: &Self::Value) -> Option<String> {
        self.print(value).map(|text| quoted(&text))
    }

    fn in_file(&self) -> InFile {
        InFile::Text
    }

    /// What is accepted: `a duration from 1ms to 24h, such as 5s`.
    fn expected(&self) -> String;

    /// What stands for a value in the helps.
    fn placeholder(&self) -> String;

    /// Several values may be given, with the separator between or by repeating the flag.
    fn is_list(&self) -> bool {
        false
    }

    /// What stands between the values of a list.
    fn separator(&self) -> &'static str {
        ","
    }

    /// An entry of an array of a file as it stands among others where it is typed.
    fn entry(&self, text: String) -> String {
        text
    }

    /// The value is told to nobody.
    fn is_secret(&self) -> bool {
        false
    }

    /// The value names a variable of the environment that has a secret.
    fn names_secret(&self) -> bool {
        false
    }

    /// The command needs the value.
    fn is_required(&self) -> bool {
        false
    }

    /// Values that are accepted, and values that are not.
    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>);
}

#[cfg(test)]
pub(in crate::cli) fn cases(good: &[&str], bad: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    (owned(good), owned(bad))
}

/// A string of TOML.
pub(in crate::cli) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

pub(in crate::cli) fn in_range<T: PartialOrd>(
    value: T,
    range: &RangeInclusive<T>,
) -> Result<T, NotAccepted> {
    match range.contains(&value) {
        true => Ok(value),
        false => Err(NotAccepted::default()),
    }
}

/// `a, b or c`
pub(in crate::cli) fn or(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}
