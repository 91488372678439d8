//! A configuration file: read within limits, and where in it what stands.

use std::fmt::{self, Display};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::usage::{CONTRADICTION, UsageError};
use super::{files, piped, units};

/// The largest configuration file in bytes. Parsing takes up to fifty times as much memory, which
/// is within the limits of the smallest server.
const MAX_BYTES: u64 = 64 << 10;

/// A configuration file as it was read.
pub(super) struct Document {
    path: Arc<Path>,
    text: String,
    /// `None`: what came through a pipe, and does not change.
    stamp: Option<Stamp>,
}

/// What shows whether a file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp {
            file: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }

    /// Whether the file of that name has changed since, or is gone. Needs no descriptor.
    pub(super) fn has_changed(self, path: &Path) -> bool {
        fs::metadata(path).map_or(true, |now| Stamp::of(&now) != self)
    }
}

/// A place in a file, as editors count: lines and columns from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    path: Arc<Path>,
    line: usize,
    column: usize,
}

impl Place {
    /// `FILE:LINE`
    pub(super) fn line(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }
}

/// `FILE:LINE:COLUMN`
impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line(), self.column)
    }
}

/// A value of a key in one line, written without quotes.
pub(super) struct Unquoted<'d> {
    /// The table that it stands in; `None`: above the first.
    pub(super) table: Option<&'d str>,
    pub(super) key: &'d str,
    pub(super) value: &'d str,
    /// Where the value begins.
    pub(super) begins: usize,
}

/// The table that a line begins.
fn table(line: &str) -> Option<&str> {
    let named = line.trim_start().strip_prefix('[')?;
    let named = named.trim_start_matches('[');
    Some(named.split(']').next().unwrap_or(named).trim())
}

impl Document {
    /// Reads a file. Waits for nothing, since a FIFO is not opened, but for at most 10 s for a pipe
    /// that was handed to this process ([`piped`]).
    ///
    /// `named` is what named the file.
    ///
    /// # Errors
    /// It cannot be read (exit code 1), or it is no text of a size that is read.
    pub(super) fn read(path: &Path, named: &str) -> Result<Document, UsageError> {
        let what = format!("{named} {}", path.display());
        let failed = |error: io::Error| UsageError::new(1, &format!("{what}: {error}"));
        let (bytes, stamp) = match piped::read(path, MAX_BYTES).map_err(failed)? {
            Some(bytes) => (bytes, None),
            None => read_bounded(path)
                .map(|(bytes, stamp)| (bytes, Some(stamp)))
                .map_err(failed)?,
        };
        if bytes.len() as u64 > MAX_BYTES {
            let limit = units::print_size(MAX_BYTES as usize);
            let line = format!("{what}: expected a file of at most {limit}");
            return Err(UsageError::new(CONTRADICTION, &line));
        }
        let path: Arc<Path> = path.into();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Document { path, text, stamp }),
            Err(error) => {
                let readable = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(&error.as_bytes()[..readable]).into_owned();
                let document = Document { path, text, stamp };
                Err(document.wrong(readable, "expected UTF-8"))
            }
        }
    }

    /// `None`: it came through a pipe.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Its keys and values, with their places.
    ///
    /// # Errors
    /// The file is no TOML: where, and what the parser says.
    pub(super) fn parse(&self) -> Result<DeTable<'_>, (usize, String)> {
        let parsed = DeTable::parse(&self.text).map(Spanned::into_inner);
        parsed.map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (at, error.message().to_owned())
        })
    }

    /// The value at a place that is no TOML, if it is one without quotes.
    pub(super) fn unquoted(&self, at: usize) -> Option<Unquoted<'_>> {
        let before = self.text.get(..at)?;
        let line_begins = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_begins..].lines().next()?;
        let (key, rest) = line.split_once('=')?;
        let value = rest.trim_start();
        let begins = line_begins + line.len() - value.len();
        let value = value.split('#').next()?.trim_end();
        let is_of_toml = value.starts_with(['"', '\'', '[', '{']);
        (at >= begins && !value.is_empty() && !is_of_toml).then(|| Unquoted {
            table: before[..line_begins].lines().rev().find_map(table),
            key: key.trim().trim_start_matches('\u{feff}'),
            value,
            begins,
        })
    }

    /// What stands behind another key of the table that a place is in, without its quotes, as far
    /// as lines show that.
    pub(super) fn beside(&self, at: usize, key: &str) -> Option<&str> {
        let (before, behind) = self.text.split_at_checked(at)?;
        let begins = before.rfind("\n[").unwrap_or(0);
        let ends = at + behind.find("\n[").unwrap_or(behind.len());
        let mut lines = self.text[begins..ends].lines();
        let value = lines.find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim())
        })?;
        let mut chars = value.chars();
        let quote = chars.next().filter(|first| matches!(first, '"' | '\''))?;
        chars.as_str().split(quote).next()
    }

    /// What stands there, word for word.
    pub(super) fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        let mut before = self.text.get(..offset).unwrap_or(&self.text);
        // A byte order mark is no character of the first line.
        before = before.strip_prefix('\u{feff}').unwrap_or(before);
        let line_begins = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            path: Arc::clone(&self.path),
            line: before.matches('\n').count() + 1,
            column: before[line_begins..].chars().count() + 1,
        }
    }

    /// Something is wrong at a place in the file.
    pub(super) fn wrong(&self, offset: usize, what: &str) -> UsageError {
        UsageError::new(CONTRADICTION, &format!("{}: {what}", self.place(offset)))
    }
}

/// A file's bytes, one more than allowed where there are more. Only a regular file can be read once
/// more: the program is executed a second time, and reads it again.
fn read_bounded(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let file = files::open_regular(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes, stamp))
}
