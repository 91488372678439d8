//! Words, and words beside values of another kind.

use std::ffi::{OsStr, OsString};

#[cfg(test)]
use super::kind::cases;
use super::kind::{InFile, Kind, NotAccepted, or, quoted};

/// `true` or `false`.
pub(crate) struct TrueOrFalse;

impl Kind for TrueOrFalse {
    type Value = bool;

    fn read(&self, typed: &str) -> Result<bool, NotAccepted> {
        typed.parse().map_err(|_| NotAccepted::default())
    }

    fn print(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn print_in_file(&self, value: &bool) -> Option<String> {
        self.print(value)
    }

    fn in_file(&self) -> InFile {
        InFile::Bool
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn placeholder(&self) -> String {
        "true|false".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(&["true", "false"], &["yes", "True", "1"])
    }
}

/// The words of a flag and what each stands for.
pub(crate) type Choices<T> = &'static [(&'static str, T)];

pub(crate) fn print_choice<T: PartialEq>(choices: Choices<T>, value: &T) -> String {
    choices
        .iter()
        .find(|(_, known)| known == value)
        .map_or_else(String::new, |(word, _)| (*word).to_owned())
}

/// One of some words.
pub(crate) struct Choice<T: 'static> {
    words: Choices<T>,
    /// What stands for the words in the helps, where they are too many to be listed; else empty.
    placeholder: &'static str,
}

/// One of some words, listed in the helps.
pub(crate) const fn choice<T>(words: Choices<T>) -> Choice<T> {
    Choice {
        words,
        placeholder: "",
    }
}

impl<T> Choice<T> {
    /// With `placeholder` for the words in the helps, where they are too many to be listed.
    pub(crate) const fn shown_as(mut self, placeholder: &'static str) -> Choice<T> {
        self.placeholder = placeholder;
        self
    }
}

impl<T: PartialEq + Clone> Kind for Choice<T> {
    type Value = T;

    fn read(&self, typed: &str) -> Result<T, NotAccepted> {
        let found = self.words.iter().find(|(word, _)| *word == typed);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(NotAccepted::default)
    }

    fn print(&self, value: &T) -> Option<String> {
        Some(print_choice(self.words, value))
    }

    fn expected(&self) -> String {
        let names: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        or(&names)
    }

    fn placeholder(&self) -> String {
        let names: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        match self.placeholder {
            "" => names.join("|"),
            placeholder => placeholder.to_owned(),
        }
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let names: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        let first = names[0].to_uppercase();
        let cut = &names[0][1..];
        // Numbers have no capitals.
        let first = if first == names[0] { "reject" } else { &first };
        cases(&names, &[first, cut, "on", "reject"])
    }
}

/// A value of another kind, or a word that stands for something else.
pub(crate) struct Words<K: Kind, T: 'static, const N: usize> {
    pub(crate) words: [(&'static str, T); N],
    pub(crate) kind: K,
    /// A value of the other kind as a `T`.
    pub(crate) wrap: fn(K::Value) -> T,
    /// And the other way, unless the `T` is that of a word.
    pub(crate) unwrap: fn(&T) -> Option<K::Value>,
}

/// `off`, which is `None`, or a value.
pub(crate) const fn off<K: Kind>(kind: K) -> Words<K, Option<K::Value>, 1>
where
    K::Value: Clone,
{
    optional([("off", None)], kind)
}

/// `auto`, which is `None`, or a value.
pub(crate) const fn auto<K: Kind>(kind: K) -> Words<K, Option<K::Value>, 1>
where
    K::Value: Clone,
{
    optional([("auto", None)], kind)
}

/// A value that has no default: `None` where the flag is not given.
pub(crate) const fn unset<K: Kind>(kind: K) -> Words<K, Option<K::Value>, 0>
where
    K::Value: Clone,
{
    optional([], kind)
}

const fn optional<K: Kind, const N: usize>(
    words: [(&'static str, Option<K::Value>); N],
    kind: K,
) -> Words<K, Option<K::Value>, N>
where
    K::Value: Clone,
{
    Words {
        words,
        kind,
        wrap: Some,
        unwrap: Option::clone,
    }
}

impl<K: Kind, T: Clone + PartialEq, const N: usize> Kind for Words<K, T, N> {
    type Value = T;

    fn read(&self, typed: &str) -> Result<T, NotAccepted> {
        self.read_os(typed.as_ref())
    }

    fn read_os(&self, typed: &OsStr) -> Result<T, NotAccepted> {
        let word = self.words.iter().find(|(word, _)| typed == *word);
        if let Some((_, value)) = word {
            return Ok(value.clone());
        }
        let read = self.kind.read_os(typed).map(self.wrap);
        // A word among other values is wrong by what stands beside it.
        let is_word = |part: &OsString| self.words.iter().any(|(word, _)| part == word);
        read.map_err(|error| NotAccepted {
            part: error.part.filter(|part| !is_word(part)),
            ..error
        })
    }

    fn print(&self, value: &T) -> Option<String> {
        let word = self.words.iter().find(|(_, known)| known == value);
        match word {
            Some((word, _)) => Some((*word).to_owned()),
            None => (self.unwrap)(value).and_then(|value| self.kind.print(&value)),
        }
    }

    fn print_in_file(&self, value: &T) -> Option<String> {
        let word = self.words.iter().find(|(_, known)| known == value);
        match word {
            Some((word, _)) => Some(quoted(word)),
            None => (self.unwrap)(value).and_then(|value| self.kind.print_in_file(&value)),
        }
    }

    fn in_file(&self) -> InFile {
        self.kind.in_file()
    }

    fn expected(&self) -> String {
        let other = self.kind.expected();
        let words = self.words.iter().map(|(word, _)| *word);
        let all: Vec<&str> = words.chain([&*other]).collect();
        or(&all)
    }

    /// One word beside a value is mostly the default, which is shown, too.
    fn placeholder(&self) -> String {
        let other = self.kind.placeholder();
        match N {
            0 | 1 => other,
            _ => {
                let words = self.words.iter().map(|(word, _)| *word);
                words.chain([&*other]).collect::<Vec<_>>().join("|")
            }
        }
    }

    fn is_list(&self) -> bool {
        self.kind.is_list()
    }

    fn separator(&self) -> &'static str {
        self.kind.separator()
    }

    fn entry(&self, text: String) -> String {
        self.kind.entry(text)
    }

    fn is_secret(&self) -> bool {
        self.kind.is_secret()
    }

    fn names_secret(&self) -> bool {
        self.kind.names_secret()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (mut good, bad) = self.kind.cases();
        good.extend(self.words.iter().map(|(word, _)| (*word).to_owned()));
        (good, bad)
    }
}
