//! `stdout`: standard output.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use drainline::ingest::sink;
use log::Level;

use super::scheme::{Checked, Common, Form, Opened, Scheme};
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{NotAccepted, choice, unset};
use crate::cli::stderr::{Between, Stderr};
use crate::cli::values::AUTO_OR_OFF;

#[derive(Clone, Debug, Default)]
pub(super) struct Stdout {
    terminal_escape: Option<bool>,
}

impl Stdout {
    fn sink(&self, common: Common<'_>) -> io::Result<sink::Stdout> {
        let escape = self.terminal_escape.unwrap_or(common.terminal_escape);
        sink::Stdout::open().map(|sink| sink.terminal_escape(escape))
    }
}

impl Scheme for Stdout {
    const FORMS: &'static [Form] = &[Form {
        prefix: "stdout",
        place: "",
        has_options: true,
    }];
    const HELP: &'static str = "Writes to standard output: a pipe, a file or a terminal.";

    fn rows() -> Vec<Flag<Self>> {
        let kind = unset(choice(AUTO_OR_OFF));
        vec![super::terminal_escape(field!(kind, Stdout.terminal_escape))]
    }

    fn read(_: &'static Form, _: &OsStr) -> Result<Self, NotAccepted> {
        Ok(Stdout::default())
    }

    fn url(&self) -> String {
        "stdout".to_owned()
    }

    fn check(&self, common: Common<'_>) -> io::Result<Checked> {
        let sink = self.sink(common)?;
        Ok(Checked {
            notes: remarks(&sink).into_iter().map(|(_, text)| text).collect(),
            holds: Some(Box::new(sink)),
            ..Checked::default()
        })
    }

    fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened> {
        let sink = self.sink(common)?;
        let remarks = remarks(&sink);
        let opened = match stderr.is_stdout() {
            true => Opened::new(Between::new(sink, Arc::clone(stderr))),
            false => Opened::new(sink),
        };
        Ok(Opened { remarks, ..opened })
    }
}

fn remarks(sink: &sink::Stdout) -> Vec<(Level, String)> {
    let escape = escape_remark("stdout", sink.escapes());
    let overwrite = sink.is_overwriting().then(|| {
        let text = "stdout is a file opened without append: if something truncates it (logrotate's copytruncate), it will begin with NUL bytes; redirect with >> instead of >";
        (Level::Warn, text.to_owned())
    });
    escape.into_iter().chain(overwrite).collect()
}

/// What whoever looks at a terminal should know.
pub(super) fn escape_remark(sink: &str, escapes: bool) -> Option<(Level, String)> {
    escapes.then(|| {
        let text = format!(
            "{sink} is a terminal: control characters in messages are shown as \\x1b and the like (--terminal-escape off shows messages as they are)"
        );
        (Level::Info, text)
    })
}
