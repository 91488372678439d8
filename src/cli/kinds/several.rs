//! Several values, and one that there must be.

use std::ffi::OsStr;

use drainline::ranges;

use super::kind::{InFile, Kind, NotAccepted};

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
