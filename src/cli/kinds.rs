//! How a flag's value is read and printed, and what it accepts: numbers, times, sizes, words.
//!
//! A kind reads back what it printed, as the same value.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use drainline::ranges;

use super::units;

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
    pub(super) fn because(why: impl Into<String>) -> Self {
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

    fn of(self, part: &str) -> Self {
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

    /// The value is told to nobody.
    fn is_secret(&self) -> bool {
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
pub(super) fn cases(good: &[&str], bad: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    (owned(good), owned(bad))
}

/// A string of TOML.
pub(super) fn quoted(text: &str) -> String {
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

pub(super) fn in_range<T: PartialOrd>(
    value: T,
    range: &RangeInclusive<T>,
) -> Result<T, NotAccepted> {
    match range.contains(&value) {
        true => Ok(value),
        false => Err(NotAccepted::default()),
    }
}

/// A whole number.
pub(crate) struct Count<T>(pub(crate) RangeInclusive<T>);

impl<T: FromStr + Display + PartialOrd> Kind for Count<T> {
    type Value = T;

    fn read(&self, typed: &str) -> Result<T, NotAccepted> {
        let value = typed.parse().map_err(|_| NotAccepted::default())?;
        in_range(value, &self.0)
    }

    fn print(&self, value: &T) -> Option<String> {
        Some(value.to_string())
    }

    fn print_in_file(&self, value: &T) -> Option<String> {
        self.print(value)
    }

    fn in_file(&self) -> InFile {
        InFile::Number
    }

    fn expected(&self) -> String {
        let (least, most) = (self.0.start(), self.0.end().to_string());
        match most == u64::MAX.to_string() {
            true => format!("a number of {least} or more"),
            false => format!("a number from {least} to {most}"),
        }
    }

    fn placeholder(&self) -> String {
        "N".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (least, most) = (self.0.start().to_string(), self.0.end().to_string());
        let beyond =
            |edge: &str, step: i128| (edge.parse::<i128>().expect("a number") + step).to_string();
        let bad = [&beyond(&least, -1), &beyond(&most, 1), "-5", "many", "1k"];
        cases(&[&least, &most], &bad)
    }
}

/// A duration, as [`units::duration`] reads it.
pub(crate) struct Time {
    range: RangeInclusive<Duration>,
    example: &'static str,
}

pub(crate) const fn time(range: RangeInclusive<Duration>, example: &'static str) -> Time {
    Time { range, example }
}

impl Kind for Time {
    type Value = Duration;

    fn read(&self, typed: &str) -> Result<Duration, NotAccepted> {
        let value = units::duration(typed).map_err(|_| NotAccepted::default())?;
        in_range(value, &self.range)
    }

    fn print(&self, value: &Duration) -> Option<String> {
        Some(units::print_duration(*value))
    }

    fn expected(&self) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        let (least, most) = (units::print_duration(least), units::print_limit(most));
        format!(
            "a duration from {least} to {most}, such as {}",
            self.example
        )
    }

    fn placeholder(&self) -> String {
        "TIME".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        const STEP: Duration = Duration::from_nanos(1);
        let (least, most) = (*self.range.start(), *self.range.end());
        let print = units::print_duration;
        let below = least.checked_sub(STEP).map_or("-1s".to_owned(), print);
        let bad = [&below, &print(most + STEP), "5x", "5", "soon", "-5s"];
        cases(&[&print(least), &print(most), self.example], &bad)
    }
}

/// A number of bytes, as [`units::size`] reads it.
pub(crate) struct Size {
    range: RangeInclusive<usize>,
    example: &'static str,
}

pub(crate) const fn size(range: RangeInclusive<usize>, example: &'static str) -> Size {
    Size { range, example }
}

impl Kind for Size {
    type Value = usize;

    fn read(&self, typed: &str) -> Result<usize, NotAccepted> {
        let value = units::size(typed).map_err(|_| NotAccepted::default())?;
        in_range(value, &self.range)
    }

    fn print(&self, value: &usize) -> Option<String> {
        Some(units::print_size(*value))
    }

    fn in_file(&self) -> InFile {
        InFile::Either
    }

    fn expected(&self) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        let (least, most) = (units::print_size(least), units::print_size(most));
        format!("a size from {least} to {most}, such as {}", self.example)
    }

    fn placeholder(&self) -> String {
        "SIZE".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (least, most) = (*self.range.start(), *self.range.end());
        let (below, above) = ((least - 1).to_string(), (most + 1).to_string());
        let good = [least, most].map(units::print_size);
        cases(
            &[&good[0], &good[1], self.example],
            &[&below, &above, "64XiB", "99999999999999999999TiB", "big"],
        )
    }
}

/// So many a second, as [`units::rate`] reads it.
pub(crate) struct Rate {
    range: RangeInclusive<u64>,
    example: &'static str,
}

pub(crate) const fn rate(range: RangeInclusive<u64>, example: &'static str) -> Rate {
    Rate { range, example }
}

impl Kind for Rate {
    type Value = u64;

    fn read(&self, typed: &str) -> Result<u64, NotAccepted> {
        let value = units::rate(typed).map_err(|_| NotAccepted::default())?;
        in_range(value, &self.range)
    }

    fn print(&self, value: &u64) -> Option<String> {
        Some(units::print_rate(*value))
    }

    fn in_file(&self) -> InFile {
        InFile::Either
    }

    fn expected(&self) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        let least = units::print_rate(least);
        let range = match most {
            u64::MAX => format!("of {least} or more"),
            most => format!("from {least} to {}", units::print_rate(most)),
        };
        format!("a rate {range}, such as {}", self.example)
    }

    fn placeholder(&self) -> String {
        "RATE".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (least, most) = (*self.range.start(), *self.range.end());
        let below = format!("{}/s", least - 1);
        let above = (u128::from(most) + 1).to_string();
        cases(
            &[&least.to_string(), &units::print_rate(most), self.example],
            &[&below, &above, "10/m", "fast"],
        )
    }
}

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

    fn placeholder(&self) -> String {
        self.kind.placeholder()
    }

    fn is_list(&self) -> bool {
        self.kind.is_list()
    }

    fn separator(&self) -> &'static str {
        self.kind.separator()
    }

    fn is_secret(&self) -> bool {
        self.kind.is_secret()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (mut good, bad) = self.kind.cases();
        good.extend(self.words.iter().map(|(word, _)| (*word).to_owned()));
        (good, bad)
    }
}

/// A value that the command needs; no value is set by default.
pub(crate) struct Required<K>(pub(crate) K);

impl<K: Kind> Kind for Required<K> {
    type Value = K::Value;

    fn read(&self, typed: &str) -> Result<K::Value, NotAccepted> {
        self.0.read(typed)
    }

    fn read_os(&self, typed: &OsStr) -> Result<K::Value, NotAccepted> {
        self.0.read_os(typed)
    }

    fn print(&self, _: &K::Value) -> Option<String> {
        None
    }

    fn in_file(&self) -> InFile {
        self.0.in_file()
    }

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn placeholder(&self) -> String {
        self.0.placeholder()
    }

    fn is_required(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        self.0.cases()
    }
}

/// `a, b or c`
pub(super) fn or(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

/// Values with commas between.
pub(crate) struct List<K> {
    pub(crate) kind: K,
    /// In the plural: `networks such as 10.0.0.0/8`; empty where one value tells it.
    pub(crate) expected: &'static str,
}

/// Values with commas between, of which one tells what is expected.
pub(crate) const fn list<K>(kind: K) -> List<K> {
    List { kind, expected: "" }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, typed: &str) -> Result<Vec<K::Value>, NotAccepted> {
        let (entries, most) = (typed.split(',').count(), *ranges::LIST_ENTRIES.end());
        if entries > most {
            let begin = typed.split(',').next().unwrap_or_default();
            let why = format!("{entries} are given, and {most} are the most");
            return Err(NotAccepted::because(why).of(&format!("{begin},...")));
        }
        // A line break is no space between values: it would be lost from a path.
        let parts = typed.split(',').map(|part| part.trim_matches([' ', '\t']));
        parts
            .map(|part| self.kind.read(part).map_err(|error| error.of(part)))
            .collect()
    }

    fn print(&self, values: &Vec<K::Value>) -> Option<String> {
        let texts: Option<Vec<String>> = values.iter().map(|it| self.kind.print(it)).collect();
        texts.map(|texts| texts.join(","))
    }

    fn print_in_file(&self, values: &Vec<K::Value>) -> Option<String> {
        let values = values.iter().map(|it| self.kind.print_in_file(it));
        let values: Option<Vec<String>> = values.collect();
        values.map(|values| format!("[{}]", values.join(", ")))
    }

    fn in_file(&self) -> InFile {
        self.kind.in_file()
    }

    fn expected(&self) -> String {
        match self.expected {
            "" => format!("{}, several with commas", self.kind.expected()),
            expected => expected.to_owned(),
        }
    }

    fn placeholder(&self) -> String {
        self.kind.placeholder()
    }

    fn is_list(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (mut good, bad) = self.kind.cases();
        good.push(good[..2].join(","));
        (good, bad)
    }
}
