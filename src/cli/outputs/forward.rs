//! `tcp://HOST:PORT`, `tls://HOST:PORT`, and `unix:PATH` or `unix:///PATH`: another server.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::Sink;
use drainline::ingest::sink::{self, ForwardTo, Target};

#[cfg(feature = "tls")]
use super::option::Contradiction;
use super::option::GROUP;
use super::scheme::{Checked, Common, Form, Opened, Reopens, Scheme};
#[cfg(feature = "tls")]
use super::tls::ClientTls;
use super::url;
#[cfg(feature = "tls")]
use crate::cli::flag::part_rows;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{NotAccepted, time, unset};
use crate::cli::stderr::Stderr;

/// The largest of what may be waited for.
const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// A path as it is, whatever is in it.
const UNIX: Form = Form {
    prefix: "unix:",
    place: "PATH",
    has_options: false,
};

/// A path with escapes, and options.
const UNIX_URL: Form = Form {
    prefix: "unix://",
    place: "/PATH",
    has_options: true,
};

#[derive(Clone, Debug)]
pub(crate) struct Forward {
    targets: Vec<Target>,
    connect_timeout: Duration,
    return_after: Duration,
    ack_timeout: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: ClientTls,
}

impl Default for Forward {
    fn default() -> Self {
        Forward {
            targets: Vec::new(),
            connect_timeout: ForwardTo::DEFAULT_CONNECT_TIMEOUT,
            return_after: ForwardTo::DEFAULT_RETURN_AFTER,
            ack_timeout: None,
            #[cfg(feature = "tls")]
            tls: ClientTls::default(),
        }
    }
}

impl Forward {
    /// The receivers, in the order of preference.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    #[cfg(feature = "tls")]
    fn speaks_tls(&self) -> bool {
        let is_tls = |target: &Target| matches!(target, Target::Tls { .. });
        self.targets.iter().any(is_tls)
    }

    fn to(&self) -> io::Result<ForwardTo> {
        let mut targets = self.targets.iter().cloned();
        let first = targets.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut to = sink::Forward::to(first)
            .named(self.url())
            .connect_timeout(self.connect_timeout)
            .return_after(self.return_after);
        to = targets.fold(to, ForwardTo::failover);
        if let Some(timeout) = self.ack_timeout {
            to = to.ack_timeout(timeout);
        }
        #[cfg(feature = "tls")]
        let to = to.tls(self.tls.client()?);
        Ok(to)
    }
}

impl Scheme for Forward {
    const FORMS: &'static [Form] = &[
        Form {
            prefix: "tcp://",
            place: "HOST:PORT",
            has_options: true,
        },
        Form {
            prefix: "tls://",
            place: "HOST:PORT",
            has_options: true,
        },
        UNIX,
        UNIX_URL,
    ];
    const HELP: &'static str = "Passes messages on to another server, at most once: what a server that dies has not \
         read is lost. Several HOST:PORT with commas are an order of preference. unix:PATH takes any \
         path as it is, and options only in an [[output]]; in unix:///PATH ? begins options, and %3F \
         is a question mark. SIGHUP connects anew, and reads the files \
         of TLS again.";

    fn rows() -> Vec<Flag<Self>> {
        #[allow(unused_mut, reason = "for the rows of a feature")]
        let mut rows = vec![
            Flag {
                name: "connect-timeout",
                group: GROUP,
                purpose: "longest wait for a server to answer",
                help: "How long each address of a server has to answer, and as long again for the \
                       handshake of TLS. How long a name takes is the system's (resolv.conf).",
                takes: field!(time(MS..=DAY, "10s"), Forward.connect_timeout),
            },
            Flag {
                name: "return-after",
                group: GROUP,
                purpose: "how often preferred servers are tried",
                help: "While another server than the first is in use, those before it are tried this \
                       often, and used again once one of them is there.",
                takes: field!(time(MS..=DAY, "30s"), Forward.return_after),
            },
            Flag {
                name: "ack-timeout",
                group: GROUP,
                purpose: "end a connection that takes nothing",
                help: "A server whose kernel has acknowledged or taken nothing for this long is given \
                       up, with what our kernel held for it. Without it, that is 60s with several \
                       servers, and with one it is left to the system: some 15 minutes where nothing \
                       answers, and never where the server is only slow.",
                takes: field!(unset(time(MS..=DAY, "60s")), Forward.ack_timeout),
            },
        ];
        #[cfg(feature = "tls")]
        rows.extend(part_rows!(Forward.tls, ClientTls::rows()));
        rows
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        if [UNIX.prefix, UNIX_URL.prefix].contains(&form.prefix) {
            // A path need not be UTF-8.
            let path = match form.has_options {
                true => path_of_url(place)?,
                false => place.to_owned(),
            };
            let target = sink::Target::unix_path(path);
            let target = target.map_err(|error| NotAccepted::because(error.to_string()))?;
            return Ok(Forward {
                targets: vec![target],
                ..Forward::default()
            });
        }
        if cfg!(not(feature = "tls")) && form.prefix == "tls://" {
            return Err(NotAccepted::because(
                "this drainline is built without TLS (cargo install --path . --features tls)",
            ));
        }
        let place = place.to_str();
        let place = place.ok_or_else(|| NotAccepted::because("not UTF-8"))?;
        if place.contains('@') {
            // Before the commas are told apart: a password may have one.
            return Err(NotAccepted::because("there is no user to log in as"));
        }
        if place.contains("://") {
            let why = format!("{} stands once, before the first of all hosts", form.prefix);
            return Err(NotAccepted::because(why));
        }
        let targets = place.split(',').map(|each| {
            let parsed = format!("{}{each}", form.prefix).parse();
            parsed.map_err(|error: sink::TargetParseError| NotAccepted::because(error.to_string()))
        });
        let targets: Vec<Target> = targets.collect::<Result<_, _>>()?;
        match targets.len() <= ForwardTo::MAX_TARGETS {
            true => Ok(Forward {
                targets,
                ..Forward::default()
            }),
            false => Err(NotAccepted::because("more than 16 servers")),
        }
    }

    fn url(&self) -> String {
        let mut urls = self.targets.iter().map(Target::to_string);
        let first = urls.next().unwrap_or_default();
        let without_scheme = |url: String| match url.split_once("://") {
            Some((_, place)) => format!(",{place}"),
            None => url,
        };
        urls.fold(first, |all, url| all + &without_scheme(url))
    }

    #[cfg(feature = "tls")]
    fn contradiction(&self) -> Option<Contradiction> {
        self.tls.contradiction(self.speaks_tls(), "a tls:// server")
    }

    fn lacks(&self, row: &str) -> Option<&'static str> {
        let is_alone = self.targets.len() == 1 && row == "return-after";
        is_alone.then_some("another server to return from, behind a comma")
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        let sink = self.to()?.open()?;
        Ok(Checked {
            resources: sink.resources(),
            ..Checked::default()
        })
    }

    fn open(&self, _: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        Ok(Opened::new(self.to()?.open()?))
    }

    fn reopens(&self) -> Option<Reopens> {
        Some(Reopens::Connection)
    }

    fn is_idle(&self, row: &str) -> bool {
        #[cfg(feature = "tls")]
        if !self.speaks_tls() && ClientTls::has_row(row) {
            return true;
        }
        self.lacks(row).is_some()
    }
}

/// The path of `unix://PATH`.
fn path_of_url(place: &OsStr) -> Result<OsString, NotAccepted> {
    match place.as_bytes().starts_with(b"/") {
        true => url::decode(place.as_bytes()).map(OsString::from_vec),
        false => {
            let why = "a socket has no host: unix:///PATH, or unix:PATH for a path from here";
            Err(NotAccepted::because(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Result<Forward, NotAccepted> {
        let read = super::super::read(typed.as_ref())?;
        Ok(read.destination.get::<Forward>().expect("forward").clone())
    }

    #[test]
    fn servers_are_printed_as_they_are_read() {
        for typed in [
            "tcp://a:1",
            "tcp://a:1,[::1]:2,10.0.0.1:3",
            "unix:/a?b%c",
            "unix:a",
        ] {
            let forward = read(typed).expect("a URL");
            assert_eq!(forward.url(), typed);
            assert!(forward.contradiction().is_none());
        }
        for (typed, printed) in [
            ("unix:///a/b", "unix:/a/b"),
            ("unix:///a%3Fb%25", "unix:/a?b%"),
        ] {
            assert_eq!(read(typed).expect("a URL").url(), printed);
        }
        assert_eq!(read("tcp://a:1,b:2").expect("a URL").targets.len(), 2);
        let many = format!("tcp://a:1{}", ",a:1".repeat(16));
        for typed in [
            "tcp://a",
            "tcp://",
            "tcp://a:1,",
            "tcp://a:1/x",
            "unix:",
            "unix://",
            "unix://a",
            "unix:///a%",
            &many,
        ] {
            assert!(read(typed).is_err(), "{typed}");
        }
    }
}
