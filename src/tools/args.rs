//! What the tools' flags share: where the report goes, and how many descriptors there are.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use crate::cli::flag::{Flag, Takes};
use crate::cli::usage::UsageError;
use crate::cli::values::FilePath;
use crate::cli::{files, print};

/// The file could not be written.
const NOT_WRITTEN: u8 = 1;

/// What `--json` accepts.
pub(super) const JSON: FilePath = FilePath {
    expected: "a path, or - for stdout",
    placeholder: "PATH|-",
};

/// The row of `--json`, which each tool has.
pub(super) const fn json<S>(takes: Takes<S>) -> Flag<S> {
    Flag {
        name: "json",
        group: "Output",
        purpose: "where to write JSON, - for stdout",
        help: "Writes the report as one JSON object to this file, beside the text on stdout. With - \
               the JSON goes to stdout, and there is no text.",
        takes,
    }
}

/// Where the report of a tool goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// The file of `--json`.
    pub(super) json: Option<PathBuf>,
}

impl Output {
    /// Says before a tool's work begins that its report could not be written.
    ///
    /// # Errors
    /// The file cannot be created or replaced.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        self.file().map_or(Ok(()), |path| {
            files::check_replaced(path).map_err(|error| not_written(path, &error))
        })
    }

    /// For a tool that reads or writes another file, which is called `what`: `--json` must not
    /// replace that one.
    ///
    /// # Errors
    /// The file is the other one.
    pub(super) fn check_keeps(&self, other: &Path, what: &str) -> Result<(), UsageError> {
        match self.file() {
            Some(file) if files::replaces(file, other) => {
                let text = format!("it would replace {what}: name another file");
                Err(not_written(file, &io::Error::other(text)))
            }
            _ => Ok(()),
        }
    }

    /// The file of `--json`, unless that is stdout.
    fn file(&self) -> Option<&Path> {
        self.json.as_deref().filter(|path| !is_stdout(path))
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

/// Whether the system lets this process have `needed` descriptors, for so many connections.
///
/// # Errors
/// The limit is lower.
pub(super) fn check_descriptors(connections: usize, needed: u64) -> Result<(), UsageError> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if needed > limit => Err(UsageError::contradiction(&format!(
            "--connections {connections}: {needed} descriptors are needed, the limit (ulimit -n) is {limit}"
        ))),
        _ => Ok(()),
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn not_written(path: &Path, error: &io::Error) -> UsageError {
    UsageError::new(NOT_WRITTEN, &format!("--json {}: {error}", path.display()))
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
