//! `probe://`: a scheme of the tests, which has what any may have.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use drainline::ingest::sink;

use super::option::{Contradiction, GROUP};
use super::scheme::{Checked, Common, Form, Opened, Scheme};
use super::secret::{PASSWORD, SecretSource, secret_rows};
use super::url::authority;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Count, NotAccepted, unset};
use crate::cli::stderr::Stderr;

#[derive(Clone, Debug)]
pub(crate) struct Probe {
    hosts: String,
    pub(crate) window: u32,
    max_len: Option<u64>,
    pub(crate) password: SecretSource,
}

impl Default for Probe {
    fn default() -> Self {
        Probe {
            hosts: String::new(),
            window: 64,
            max_len: None,
            password: SecretSource::default(),
        }
    }
}

impl Scheme for Probe {
    const FORMS: &'static [Form] = &[Form {
        prefix: "probe://",
        place: "HOST",
        has_options: true,
    }];
    const HELP: &'static str = "Probes.";

    fn rows() -> Vec<Flag<Self>> {
        let mut rows = vec![
            Flag {
                name: "window",
                group: GROUP,
                purpose: "most answers awaited",
                help: "Waits for this many answers at once.",
                takes: field!(Count(1..=1000), Probe.window),
            },
            Flag {
                name: "max-len",
                group: GROUP,
                purpose: "most entries",
                help: "Keeps this many entries.",
                takes: field!(unset(Count(1..=u64::MAX)), Probe.max_len),
            },
        ];
        rows.extend(secret_rows!(Probe.password, "password", "the password"));
        rows
    }

    fn read(_: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let authority = authority(place)?;
        Ok(Probe {
            hosts: authority.hosts,
            password: SecretSource {
                text: authority.password,
                ..SecretSource::default()
            },
            ..Probe::default()
        })
    }

    fn url(&self) -> String {
        format!("probe://{}", self.hosts)
    }

    fn contradiction(&self) -> Option<Contradiction> {
        self.password.contradiction(PASSWORD)
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        self.password.read().map(|_| Checked::default())
    }

    fn open(&self, _: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        Ok(Opened::new(sink::Null))
    }
}
