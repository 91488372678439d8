//! `null`: nowhere.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use drainline::ingest::sink;

use super::scheme::{Checked, Common, Form, Opened, Scheme};
use crate::cli::kinds::NotAccepted;
use crate::cli::stderr::Stderr;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Null;

impl Scheme for Null {
    const FORMS: &'static [Form] = &[Form {
        prefix: "null",
        place: "",
        has_options: true,
    }];
    const HELP: &'static str = "Discards all messages, and is meant for measurements.";
    const IS_FRAMED: bool = false;

    fn read(_: &'static Form, _: &OsStr) -> Result<Self, NotAccepted> {
        Ok(Null)
    }

    fn url(&self) -> String {
        "null".to_owned()
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        Ok(Checked::default())
    }

    fn open(&self, _: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        Ok(Opened::new(sink::Null))
    }
}
