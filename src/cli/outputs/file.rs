//! `file:PATH`, and `file://PATH` with options: a file that is appended to.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drainline::ingest::sink;

use super::scheme::{Checked, Common, Form, Opened, Scheme};
use super::stdout::escape_remark;
use super::url;
use crate::cli::files;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{NotAccepted, choice, unset};
use crate::cli::stderr::{Between, Stderr};
use crate::cli::values::AUTO_OR_OFF;

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
    terminal_escape: Option<bool>,
}

impl Scheme for File {
    const FORMS: &'static [Form] = &[LITERAL, URL];
    const HELP: &'static str = "Appends to a file, which is created with mode 0640 less the umask; SIGHUP \
         reopens it. file:PATH takes any path as it is, and options only in an [[output]]. In \
         file:///PATH ? begins options, %3F is a question mark (% and two hexadecimal digits of \
         which the first is 0 to 7), and %% is a percent sign.";

    fn rows() -> Vec<Flag<Self>> {
        let kind = unset(choice(AUTO_OR_OFF));
        vec![super::terminal_escape(field!(kind, File.terminal_escape))]
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let is_url = form.prefix == URL.prefix;
        Ok(File {
            path: match is_url {
                true => path_of_url(place)?,
                false => place.into(),
            },
            is_url,
            ..File::default()
        })
    }

    fn url(&self) -> String {
        let path = self.path.display().to_string();
        match self.is_url {
            true => URL.prefix.to_owned() + &path.replace('%', "%%").replace('?', "%3F"),
            false => LITERAL.prefix.to_owned() + &path,
        }
    }

    fn check(&self, common: Common<'_>) -> io::Result<Checked> {
        let mut notes = Vec::new();
        if files::is_fifo(&self.path) {
            let (named, url) = (common.named, self.url());
            notes.push(format!(
                "{named} {url} is a FIFO: a start fails unless something reads it"
            ));
        }
        files::check_sink(&self.path)?;
        Ok(Checked {
            notes,
            not_open: 1,
            holds: None,
        })
    }

    fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened> {
        let escape = self.terminal_escape.unwrap_or(common.terminal_escape);
        let sink = sink::File::open(&self.path)?.terminal_escape(escape);
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

/// The path of `file://PATH`. strftime(3) has no conversion that begins with a digit, and the
/// escape of an ASCII character begins with one, so that both can stand in one path.
fn path_of_url(place: &OsStr) -> Result<PathBuf, NotAccepted> {
    if !place.as_bytes().starts_with(b"/") {
        let why = "a file has no host: file:///PATH, or file:PATH for a path from here";
        return Err(NotAccepted::because(why));
    }
    let mut path = Vec::new();
    let mut rest = place.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            path.push(*first);
        } else if let Some(tail) = tail.strip_prefix(b"%") {
            path.push(b'%');
            rest = tail;
        } else {
            let byte = url::escaped(tail).filter(|(byte, _)| (1..0x80).contains(byte));
            let (byte, tail) = byte.ok_or_else(|| {
                NotAccepted::because("a percent sign is %%, and %3F a question mark")
            })?;
            path.push(byte);
            rest = tail;
        }
    }
    Ok(OsString::from_vec(path).into())
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
        for typed in [
            "file:",
            "file://",
            "file://a/b",
            "file:///a%",
            "file:///%00",
            "file:///%zz",
        ] {
            assert!(read(typed).is_none(), "{typed}");
        }
    }
}
