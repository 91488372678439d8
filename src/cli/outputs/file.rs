//! `file:PATH`, and `file://PATH` with options: a file that is appended to.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::Resources;
use drainline::ingest::sink::{self, FileOptions, Fsync};

use super::option::{Contradiction, GROUP};
use super::scheme::{Checked, Common, Form, Opened, Scheme};
use super::stdout::escape_remark;
use super::url;
use crate::cli::files;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Count, NotAccepted, TrueOrFalse, Words, choice, size, time, unset};
use crate::cli::stderr::{Between, Stderr};
use crate::cli::values::{AUTO_OR_OFF, Owner, UnixMode, UnixOwner};

/// A path as it is, whatever is in it.
const LITERAL: Form = Form {
    prefix: "file:",
    place: "PATH",
    has_options: false,
};

/// A path in which `%` and `?` mean something, and options.
const URL: Form = Form {
    prefix: "file://",
    place: "/PATH",
    has_options: true,
};

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    path: PathBuf,
    /// It was written as `file://PATH`.
    is_url: bool,
    /// The path is one of now; this is what it is made of.
    pattern: Option<String>,
    fsync: Fsync,
    rotate_size: Option<usize>,
    rotate_every: Option<Duration>,
    keep: Option<usize>,
    gzip: bool,
    mode: Option<u32>,
    owner: Option<UnixOwner>,
    terminal_escape: Option<bool>,
}

impl Scheme for File {
    const FORMS: &'static [Form] = &[LITERAL, URL];
    const HELP: &'static str = "Appends to a file, which is created with mode 0640 less the umask; SIGHUP \
         reopens it. file:PATH takes any path as it is, and options only in an [[output]]. In \
         file:///PATH ? begins options, %3F is a question mark (% and two hexadecimal digits of \
         which the first is 0 to 7), %% is a percent sign, and %Y-%m-%d and the other conversions \
         of strftime(3) are the date, in local time: when that changes, another file is written, in \
         directories that are made. Such a file is not rotated otherwise.";

    fn rows() -> Vec<Flag<Self>> {
        let sizes = FileOptions::ROTATE_SIZES;
        let sizes = *sizes.start() as usize..=*sizes.end() as usize;
        let fsync = Words {
            words: [("off", Fsync::Off), ("batch", Fsync::Batch)],
            kind: time(Fsync::INTERVALS, "1s"),
            wrap: Fsync::Interval,
            unwrap: |fsync| match fsync {
                Fsync::Interval(interval) => Some(*interval),
                _ => None,
            },
        };
        let every = time(FileOptions::ROTATE_TIMES, "24h");
        vec![
            Flag {
                name: "fsync",
                group: GROUP,
                purpose: "when the file is synced",
                help: "Says what a crash of the machine may lose. With off, what the system has not written \
                       to the disk yet, some 30 s of messages. With a time, what was delivered in that \
                       time, and about a second more. With batch, nothing: a message is delivered when \
                       fdatasync(2) has returned, one sync for all that has come meanwhile; a sync that \
                       fails has its messages written again, which may stand there twice.",
                takes: field!(fsync, File.fsync),
            },
            Flag {
                name: "rotate-size",
                group: GROUP,
                purpose: "size at which the file is rotated",
                help: "Renames the file before it has more bytes than that, and goes on in a new one: to \
                       NAME-20261129T130500.123Z, with the time of the rotation in UTC, so that old files \
                       sort by age. No message is lost or in two files. The directory has to be writable.",
                takes: field!(unset(size(sizes, "100MiB")), File.rotate_size),
            },
            Flag {
                name: "rotate-every",
                group: GROUP,
                purpose: "time at which the file is rotated",
                help: "Renames the file, as rotate_size does, whenever the time in UTC is a multiple of \
                       this: 1h is each full hour, 24h is midnight UTC. An empty file is left alone.",
                takes: field!(unset(every), File.rotate_every),
            },
            Flag {
                name: "keep",
                group: GROUP,
                purpose: "old files that stay",
                help: "Deletes the oldest of the old files at each rotation, until so many are left. Without \
                       it all stay.",
                takes: field!(unset(Count(FileOptions::KEEP)), File.keep),
            },
            Flag {
                name: "gzip",
                group: GROUP,
                purpose: "compress old files",
                help: "Compresses old files to NAME.gz, on a thread of its own. An old file is deleted when \
                       its compressed one is whole and synced.",
                takes: field!(TrueOrFalse, File.gzip),
            },
            Flag {
                name: "mode",
                group: GROUP,
                purpose: "permissions of files that are made",
                help: "Gives files that drainline makes these permissions, whatever the umask is. Without \
                       it they get 0640 less the umask. A file that is there keeps its own.",
                takes: field!(unset(UnixMode), File.mode),
            },
            Flag {
                name: "owner",
                group: GROUP,
                purpose: "user and group of files that are made",
                help: "Gives files that drainline makes this user and this group, each by its name or id; \
                       either may be left out. A file that is there keeps its own. A user other than \
                       its own, and a group that its own user is not in, take root.",
                takes: field!(unset(Owner), File.owner),
            },
            super::terminal_escape(field!(unset(choice(AUTO_OR_OFF)), File.terminal_escape)),
        ]
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let is_url = form.prefix == URL.prefix;
        let (path, pattern) = match is_url {
            true => path_of_url(place)?,
            false => (place.into(), None),
        };
        Ok(File {
            path,
            is_url,
            pattern,
            ..File::default()
        })
    }

    fn url(&self) -> String {
        if let Some(pattern) = &self.pattern {
            return URL.prefix.to_owned() + &pattern.replace('?', "%3F");
        }
        let path = self.path.display().to_string();
        match self.is_url {
            true => URL.prefix.to_owned() + &path.replace('%', "%%").replace('?', "%3F"),
            false => LITERAL.prefix.to_owned() + &path,
        }
    }

    fn contradiction(&self) -> Option<Contradiction> {
        let told = |row, expected: &str| Some(Contradiction::new(row, expected));
        let rotates = self.rotate_size.is_some() || self.rotate_every.is_some();
        if self.keep.is_some() && !rotates {
            return told("keep", "rotate_size or rotate_every beside it");
        }
        if self.pattern.is_some() && rotates {
            let row = match self.rotate_size {
                Some(_) => "rotate-size",
                None => "rotate-every",
            };
            return told(row, "a path without a date, which is a rotation of its own");
        }
        if self.gzip && !cfg!(feature = "gzip") {
            return told("gzip", "a drainline with the feature gzip");
        }
        if self.gzip && !rotates {
            return told("gzip", "rotate_size or rotate_every beside it");
        }
        None
    }

    fn notes(&self, common: Common<'_>) -> Vec<String> {
        let note = self.literal_date().map(|date| {
            format!(
                "{} {} takes {date} as it stands: a date in the path takes file:///PATH",
                common.named,
                self.url()
            )
        });
        note.into_iter().collect()
    }

    fn check(&self, common: Common<'_>) -> io::Result<Checked> {
        let mut notes = Vec::new();
        if files::is_fifo(&self.path) {
            let (named, url) = (common.named, self.url());
            notes.push(format!(
                "{named} {url} is a FIFO: a start fails unless something reads it"
            ));
        }
        self.check_path()?;
        self.options().check_at(&self.path)?;
        Ok(Checked {
            notes,
            not_open: 1,
            resources: self.resources(),
            ..Checked::default()
        })
    }

    fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened> {
        let escape = self.terminal_escape.unwrap_or(common.terminal_escape);
        let sink = self.open_sink()?.terminal_escape(escape);
        let remark = escape_remark(&self.url(), sink.escapes());
        let opened = match stderr.is_file(&self.path) {
            true => Opened::new(Between::new(sink, Arc::clone(stderr))),
            false => Opened::new(sink),
        };
        Ok(Opened {
            remarks: remark.into_iter().collect(),
            ..opened
        })
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

impl File {
    /// A conversion of strftime(3), all of which end with a letter, in a path that is taken as it
    /// is.
    fn literal_date(&self) -> Option<String> {
        let path = self.path.to_str().filter(|_| !self.is_url)?;
        let mut rest = path.split('%').skip(1);
        let letter = rest.find_map(|rest| rest.chars().next().filter(char::is_ascii_alphabetic))?;
        Some(format!("%{letter}"))
    }

    fn open_sink(&self) -> io::Result<sink::File> {
        #[cfg(feature = "strftime")]
        if let Some(pattern) = &self.pattern {
            return self.options().open_dated(pattern);
        }
        self.options().open(&self.path)
    }

    fn check_path(&self) -> io::Result<()> {
        #[cfg(feature = "strftime")]
        if let Some(pattern) = &self.pattern {
            sink::File::check_links(&self.path)?;
            std::fs::metadata(FileOptions::folder_without_date(pattern))?;
            let is_new = |path: &&Path| std::fs::metadata(path).is_err();
            // Folders are made where a file could be.
            let new = self.path.ancestors().take_while(is_new).last();
            return files::check_sink(new.unwrap_or(&self.path));
        }
        files::check_sink(&self.path)
    }

    fn resources(&self) -> Resources {
        #[cfg(feature = "strftime")]
        if self.pattern.is_some() {
            return self.options().resources_dated();
        }
        self.options().resources()
    }

    fn options(&self) -> FileOptions {
        let mut options = sink::File::options().fsync(self.fsync);
        if let Some(size) = self.rotate_size {
            options = options.rotate_size(size as u64);
        }
        if let Some(every) = self.rotate_every {
            options = options.rotate_every(every);
        }
        if let Some(keep) = self.keep {
            options = options.keep(keep);
        }
        #[cfg(feature = "gzip")]
        {
            options = options.gzip(self.gzip);
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        if let Some(owner) = self.owner {
            options = options.owner(owner.uid, owner.gid);
        }
        options
    }
}

/// The path of `file://PATH`, and what it is made of, if a date is in it. strftime(3) has no
/// conversion that begins with a digit, and the escape of an ASCII character begins with one, so
/// that both can stand in one path.
fn path_of_url(place: &OsStr) -> Result<(PathBuf, Option<String>), NotAccepted> {
    if !place.as_bytes().starts_with(b"/") {
        let why = "a file has no host: file:///PATH, or file:PATH for a path from here";
        return Err(NotAccepted::because(why));
    }
    let (mut path, mut pattern, mut is_dated) = (Vec::new(), Vec::new(), false);
    let mut rest = place.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let mut byte = *first;
        if byte == b'%' {
            let escape = url::escaped(tail).filter(|(byte, _)| (1..0x80).contains(byte));
            if let Some(tail) = tail.strip_prefix(b"%") {
                rest = tail;
            } else if let Some((escaped, tail)) = escape {
                (byte, rest) = (escaped, tail);
            } else {
                is_dated = true;
                pattern.push(byte);
                continue;
            }
        }
        path.push(byte);
        pattern.extend([byte].repeat(if byte == b'%' { 2 } else { 1 }));
    }
    if !is_dated {
        return Ok((OsString::from_vec(path).into(), None));
    }
    let pattern = String::from_utf8(pattern)
        .map_err(|_| NotAccepted::because("a path with a date in it is UTF-8"))?;
    let path = path_now(&pattern).map_err(|error| {
        NotAccepted::because(format!(
            "a percent sign is %%, and %3F a question mark: {error}"
        ))
    })?;
    Ok((path, Some(pattern)))
}

#[cfg(feature = "strftime")]
fn path_now(pattern: &str) -> io::Result<PathBuf> {
    FileOptions::path_now(pattern)
}

#[cfg(not(feature = "strftime"))]
fn path_now(_: &str) -> io::Result<PathBuf> {
    Err(io::Error::other(
        "a date takes a drainline with the feature strftime",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Option<File> {
        let read = super::super::read(typed.as_ref()).ok()?;
        read.destination.get::<File>().cloned()
    }

    #[test]
    fn a_path_is_taken_as_it_is_and_in_a_url_it_has_escapes() {
        for (typed, path) in [
            ("file:/a?b%c", "/a?b%c"),
            ("file:a%%?x=y", "a%%?x=y"),
            ("file:/a%3Fb", "/a%3Fb"),
            ("file:///a/b", "/a/b"),
            ("file:///a%3Fb%%c%20", "/a?b%c "),
            ("file:///a%25d", "/a%d"),
            ("file:///\u{e9}", "/\u{e9}"),
        ] {
            let file = read(typed).unwrap_or_else(|| panic!("{typed} is refused"));
            assert_eq!(file.path, Path::new(path), "{typed}");
            let again = read(&file.url()).expect("what is printed is read");
            assert_eq!((again.path, again.is_url), (file.path, file.is_url));
        }
        for (typed, pattern) in [
            ("file:///%Y-%m-%d.log", "/%Y-%m-%d.log"),
            ("file:///a%3F%%%25/%H", "/a?%%%%/%H"),
            ("file:///%%%Y", "/%%%Y"),
        ] {
            if !cfg!(feature = "strftime") {
                assert!(read(typed).is_none(), "{typed}");
                continue;
            }
            let file = read(typed).unwrap_or_else(|| panic!("{typed} is refused"));
            assert_eq!(file.pattern.as_deref(), Some(pattern), "{typed}");
            let again = read(&file.url()).expect("what is printed is read");
            assert_eq!(again.pattern, file.pattern);
        }
        for typed in [
            "file:",
            "file://",
            "file://a/b",
            "file:///a%",
            "file:///%00",
            "file:///%é",
        ] {
            assert!(read(typed).is_none(), "{typed}");
        }
    }
}
