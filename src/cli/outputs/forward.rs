//! `tcp://HOST:PORT`, `tls://HOST:PORT` and `unix:PATH`: another server.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::Sink;
use drainline::ingest::sink::{self, ForwardTo, Target};
#[cfg(feature = "tls")]
use drainline::{TlsClient, TlsVersion};

use super::scheme::{Checked, Common, Contradiction, Form, GROUP, Opened, Scheme};
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Choices, NotAccepted, choice, time, unset};
use crate::cli::stderr::Stderr;
use crate::cli::values::{Name, PATH};

/// The largest of what may be waited for.
const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// Whether only TLS 1.3 is spoken.
const VERSIONS: Choices<bool> = &[("1.2", false), ("1.3", true)];

#[derive(Clone, Debug)]
pub(super) struct Forward {
    targets: Vec<Target>,
    connect_timeout: Duration,
    return_after: Duration,
    ack_timeout: Option<Duration>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_server_name: Option<String>,
    tls_min_version: bool,
}

impl Default for Forward {
    fn default() -> Self {
        Forward {
            targets: Vec::new(),
            connect_timeout: ForwardTo::DEFAULT_CONNECT_TIMEOUT,
            return_after: ForwardTo::DEFAULT_RETURN_AFTER,
            ack_timeout: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls_server_name: None,
            tls_min_version: false,
        }
    }
}

impl Forward {
    fn speaks_tls(&self) -> bool {
        let is_tls = |target: &Target| matches!(target, Target::Tls { .. });
        self.targets.iter().any(is_tls)
    }

    fn to(&self) -> io::Result<ForwardTo> {
        let mut targets = self.targets.iter().cloned();
        let first = targets.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut to = sink::Forward::to(first)
            .connect_timeout(self.connect_timeout)
            .return_after(self.return_after);
        to = targets.fold(to, ForwardTo::failover);
        if let Some(timeout) = self.ack_timeout {
            to = to.ack_timeout(timeout);
        }
        self.with_tls(to)
    }

    #[cfg(feature = "tls")]
    fn with_tls(&self, to: ForwardTo) -> io::Result<ForwardTo> {
        let mut tls = TlsClient::new();
        if self.tls_min_version {
            tls = tls.min_version(TlsVersion::V1_3);
        }
        if let Some(ca) = &self.tls_ca {
            tls = tls.ca_file(ca);
        }
        if let Some((cert, key)) = self.tls_cert.as_ref().zip(self.tls_key.as_ref()) {
            tls = tls.certificate_files(cert, key);
        }
        if let Some(name) = &self.tls_server_name {
            tls = tls.server_name(name).map_err(io::Error::other)?;
        }
        Ok(to.tls(tls))
    }

    #[cfg(not(feature = "tls"))]
    fn with_tls(&self, to: ForwardTo) -> io::Result<ForwardTo> {
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
        Form {
            prefix: "unix:",
            place: "PATH",
            has_options: false,
        },
    ];
    const HELP: &'static str = "Passes messages on to another server, at most once: what a server that dies has not \
         read is lost. Several HOST:PORT with commas are an order of preference. unix:PATH takes any \
         path as it is, and options only in an [[output]]. SIGHUP connects anew, and reads the files \
         of TLS again.";

    fn rows() -> Vec<Flag<Self>> {
        let path = || unset(PATH);
        vec![
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
            Flag {
                name: "tls-ca",
                group: GROUP,
                purpose: "authorities that are trusted",
                help: "A PEM file of the authorities whose certificates a tls:// server may show. \
                       Without it, those of the system.",
                takes: field!(path(), Forward.tls_ca),
            },
            Flag {
                name: "tls-cert",
                group: GROUP,
                purpose: "the client certificate",
                help: "A PEM file of the certificate that is shown to a tls:// server which asks for \
                       one, with those that vouch for it.",
                takes: field!(path(), Forward.tls_cert),
            },
            Flag {
                name: "tls-key",
                group: GROUP,
                purpose: "the key of the client certificate",
                help: "A PEM file.",
                takes: field!(path(), Forward.tls_key),
            },
            Flag {
                name: "tls-server-name",
                group: GROUP,
                purpose: "whom the server's certificate is for",
                help: "The name, or the address, that the certificate of a tls:// server must be for. \
                       Without it, the HOST of the URL.",
                takes: field!(unset(Name), Forward.tls_server_name),
            },
            Flag {
                name: "tls-min-version",
                group: GROUP,
                purpose: "oldest version of TLS",
                help: "The oldest version that is spoken to a tls:// server.",
                takes: field!(choice(VERSIONS), Forward.tls_min_version),
            },
        ]
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        if form.prefix == "unix:" {
            // A path need not be UTF-8.
            let target = sink::Target::unix_path(place);
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

    fn contradiction(&self) -> Option<Contradiction> {
        let told = |row, expected: &str| {
            let expected = expected.to_owned();
            Some(Contradiction { row, expected })
        };
        let of_tls = [
            ("tls-ca", self.tls_ca.is_some()),
            ("tls-cert", self.tls_cert.is_some()),
            ("tls-key", self.tls_key.is_some()),
            ("tls-server-name", self.tls_server_name.is_some()),
            ("tls-min-version", self.tls_min_version),
        ];
        let given = of_tls.iter().find(|(_, is_given)| *is_given);
        match (given, &self.tls_cert, &self.tls_key) {
            (Some((row, _)), ..) if !self.speaks_tls() => told(row, "a tls:// server"),
            (_, Some(_), None) => told("tls-cert", "a tls_key beside it"),
            (_, None, Some(_)) => told("tls-key", "a tls_cert beside it"),
            _ => None,
        }
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

    fn reopens(&self) -> bool {
        true
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
        assert_eq!(read("tcp://a:1,b:2").expect("a URL").targets.len(), 2);
        let many = format!("tcp://a:1{}", ",a:1".repeat(16));
        for typed in [
            "tcp://a",
            "tcp://",
            "tcp://a:1,",
            "tcp://a:1/x",
            "unix:",
            &many,
        ] {
            assert!(read(typed).is_err(), "{typed}");
        }
    }
}
