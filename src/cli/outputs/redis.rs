//! `redis://HOST/STREAM`, and `rediss://` over TLS: a stream of Redis.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::{Sink, sink};

use super::scheme::{Checked, Common, Contradiction, Form, GROUP, Opened, Scheme};
use super::secret::{SecretSource, secret_rows};
use super::url;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Count, NotAccepted, size, time, unset};
use crate::cli::stderr::Stderr;
use crate::cli::values::Name;
#[cfg(feature = "tls")]
use crate::cli::values::PATH;

const PLAIN: Form = Form {
    prefix: "redis://",
    place: "HOST/STREAM",
    has_options: true,
};

#[cfg(feature = "tls")]
const OVER_TLS: Form = Form {
    prefix: "rediss://",
    place: "HOST/STREAM",
    has_options: true,
};

#[derive(Clone, Debug)]
pub(super) struct Redis {
    host: String,
    port: u16,
    stream: String,
    user: Option<String>,
    password: SecretSource,
    database: u32,
    client_name: Option<String>,
    field: String,
    max_len: Option<u64>,
    window: usize,
    connect_timeout: Duration,
    answer_timeout: Duration,
    #[cfg(feature = "tls")]
    tls: Tls,
}

#[cfg(feature = "tls")]
#[derive(Clone, Debug, Default)]
struct Tls {
    is_spoken: bool,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Default for Redis {
    fn default() -> Self {
        Redis {
            host: String::new(),
            port: sink::Redis::DEFAULT_PORT,
            stream: String::new(),
            user: None,
            password: SecretSource::default(),
            database: 0,
            client_name: None,
            field: sink::Redis::DEFAULT_FIELD.to_owned(),
            max_len: None,
            window: sink::Redis::DEFAULT_WINDOW,
            connect_timeout: sink::Redis::DEFAULT_CONNECT_TIMEOUT,
            answer_timeout: sink::Redis::DEFAULT_ANSWER_TIMEOUT,
            #[cfg(feature = "tls")]
            tls: Tls::default(),
        }
    }
}

impl Scheme for Redis {
    #[cfg(feature = "tls")]
    const FORMS: &'static [Form] = &[PLAIN, OVER_TLS];
    #[cfg(not(feature = "tls"))]
    const FORMS: &'static [Form] = &[PLAIN];
    const HELP: &'static str = "Adds each message to a stream of Redis, as the value of one field of an entry, and waits \
         for the answer while it sends more. HOST may have a user and a password before it, and a \
         port behind it (default: 6379). A server that is away, loads its data, has no memory or \
         refuses the login is tried again, for ever. rediss:// is TLS.";
    const IS_FRAMED: bool = false;

    fn rows() -> Vec<Flag<Self>> {
        let timeouts = || sink::Redis::TIMEOUT_RANGE;
        let mut rows = vec![
            Flag {
                name: "database",
                group: GROUP,
                purpose: "the database's number",
                help: "Selects this database of the server.",
                takes: field!(Count(0..=u32::MAX), Redis.database),
            },
            Flag {
                name: "field",
                group: GROUP,
                purpose: "the field with the message",
                help: "Names the field of an entry that has the message.",
                takes: field!(Name, Redis.field),
            },
            Flag {
                name: "max-len",
                group: GROUP,
                purpose: "entries to keep",
                help: "Keeps about this many entries in the stream (MAXLEN ~): the server deletes \
                       older ones, whether somebody has read them or not. Without it the stream \
                       grows until the server has no more memory.",
                takes: field!(unset(Count(1..=u64::MAX)), Redis.max_len),
            },
            Flag {
                name: "client-name",
                group: GROUP,
                purpose: "name of the connection",
                help: "Names the connection in the server's CLIENT LIST. Without it that is \
                       drainline.",
                takes: field!(unset(Name), Redis.client_name),
            },
            Flag {
                name: "window",
                group: GROUP,
                purpose: "bytes without an answer",
                help: "Sends this many bytes of commands without an answer, at most. A command has \
                       some 60 bytes beside its message. A long round trip needs a large window; \
                       after a lost connection as much may be in the stream twice.",
                takes: field!(size(sink::Redis::WINDOW_RANGE, "4MiB"), Redis.window),
            },
            Flag {
                name: "connect-timeout",
                group: GROUP,
                purpose: "longest wait for a connection",
                help: "Gives a connection this long to be open: for all addresses of the host, TLS \
                       and the login.",
                takes: field!(time(timeouts(), "5s"), Redis.connect_timeout),
            },
            Flag {
                name: "answer-timeout",
                group: GROUP,
                purpose: "longest wait for an answer",
                help: "Gives a connection up when nothing at all is answered for this long.",
                takes: field!(time(timeouts(), "10s"), Redis.answer_timeout),
            },
        ];
        rows.extend(secret_rows!(Redis.password, "password", "the password"));
        #[cfg(feature = "tls")]
        rows.extend(tls_rows());
        rows
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let authority = url::authority(place)?;
        let default = sink::Redis::DEFAULT_PORT;
        let (host, port) = url::host_and_port(&authority.hosts, default)?;
        if authority.path.is_empty() {
            return Err(NotAccepted::because("no stream"));
        }
        let _ = form;
        Ok(Redis {
            host,
            port,
            stream: authority.path,
            user: authority.user,
            password: SecretSource {
                text: authority.password,
                ..SecretSource::default()
            },
            #[cfg(feature = "tls")]
            tls: Tls {
                is_spoken: form.prefix == OVER_TLS.prefix,
                ..Tls::default()
            },
            ..Redis::default()
        })
    }

    fn url(&self) -> String {
        #[cfg(feature = "tls")]
        let prefix = match self.tls.is_spoken {
            true => OVER_TLS.prefix,
            false => PLAIN.prefix,
        };
        #[cfg(not(feature = "tls"))]
        let prefix = PLAIN.prefix;
        let user = self.user.as_deref().map(|user| escaped(user) + "@");
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let port = match self.port {
            sink::Redis::DEFAULT_PORT => String::new(),
            port => format!(":{port}"),
        };
        let (user, stream) = (user.unwrap_or_default(), escaped(&self.stream));
        format!("{prefix}{user}{host}{port}/{stream}")
    }

    fn contradiction(&self) -> Option<Contradiction> {
        #[cfg(feature = "tls")]
        if let Some(found) = self.tls.contradiction() {
            return Some(found);
        }
        self.password
            .contradiction(["password", "password-file", "password-env"])
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        Ok(Checked {
            resources: self.sink()?.resources(),
            ..Checked::default()
        })
    }

    fn open(&self, _: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        self.sink().map(Opened::new)
    }
}

impl Redis {
    fn sink(&self) -> io::Result<sink::Redis> {
        let mut sink = sink::Redis::new(&self.host, self.port, &self.stream)
            .database(self.database)
            .field(&self.field)
            .window(self.window)
            .connect_timeout(self.connect_timeout)
            .answer_timeout(self.answer_timeout);
        if let Some(name) = &self.client_name {
            sink = sink.client_name(name);
        }
        if let Some(max_len) = self.max_len {
            sink = sink.max_len(max_len);
        }
        match (self.password.read()?, &self.user) {
            (Some(password), user) => sink = sink.login(user.as_deref(), password.reveal()),
            (None, Some(user)) => {
                let text = format!("the user {user} has no password: give a password_file");
                return Err(io::Error::other(text));
            }
            (None, None) => {}
        }
        #[cfg(feature = "tls")]
        if self.tls.is_spoken {
            sink = sink.tls(self.tls.client()?);
        }
        Ok(sink)
    }
}

#[cfg(feature = "tls")]
impl Tls {
    fn contradiction(&self) -> Option<Contradiction> {
        let given = [
            ("tls-ca", &self.ca),
            ("tls-cert", &self.cert),
            ("tls-key", &self.key),
        ];
        let found = given.into_iter().find(|(_, path)| path.is_some());
        let (row, _) = found?;
        let expected = match (self.is_spoken, &self.cert, &self.key) {
            (false, ..) => "rediss://, which is TLS",
            (true, Some(_), None) => return contradicts("tls-cert", "a tls_key beside it"),
            (true, None, Some(_)) => return contradicts("tls-key", "a tls_cert beside it"),
            (true, ..) => return None,
        };
        contradicts(row, expected)
    }

    fn client(&self) -> io::Result<drainline::TlsClient> {
        let mut client = drainline::TlsClient::new();
        if let Some(ca) = &self.ca {
            client = client.ca_file(ca);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            client = client.certificate_files(cert, key);
        }
        client.check().map_err(io::Error::other)?;
        Ok(client)
    }
}

#[cfg(feature = "tls")]
fn contradicts(row: &'static str, expected: &str) -> Option<Contradiction> {
    Some(Contradiction {
        row,
        expected: expected.to_owned(),
    })
}

#[cfg(feature = "tls")]
fn tls_rows() -> [Flag<Redis>; 3] {
    [
        Flag {
            name: "tls-ca",
            group: GROUP,
            purpose: "authorities to trust",
            help: "Trusts the certificates in this PEM file, and not the system's. The server's \
                   certificate has to be for HOST.",
            takes: field!(unset(PATH), Redis.tls.ca),
        },
        Flag {
            name: "tls-cert",
            group: GROUP,
            purpose: "certificate to show",
            help: "Shows the certificate in this PEM file, with those that vouch for it behind it. \
                   Redis asks for one unless tls-auth-clients is no.",
            takes: field!(unset(PATH), Redis.tls.cert),
        },
        Flag {
            name: "tls-key",
            group: GROUP,
            purpose: "key of the certificate",
            help: "Is the key of the certificate of tls_cert, in a PEM file.",
            takes: field!(unset(PATH), Redis.tls.key),
        },
    ]
}

/// Text as a URL has it, so that it is read as the same text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '%' | '?' | '@' | '/' | ':' | '#' | ' ' | '\x00'..='\x1f' | '\x7f' => {
                let _ = write!(escaped, "%{:02X}", u32::from(char));
            }
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Option<Redis> {
        let read = super::super::read(typed.as_ref()).ok()?;
        read.destination.get::<Redis>().cloned()
    }

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_password() {
        for (typed, shown, host, port, stream, user) in [
            ("redis://a/s", "redis://a/s", "a", 6379, "s", None),
            ("redis://a:1/s", "redis://a:1/s", "a", 1, "s", None),
            ("redis://[::1]/s", "redis://[::1]/s", "::1", 6379, "s", None),
            (
                "redis://u:hunter2@a/logs%3Aall",
                "redis://u@a/logs%3Aall",
                "a",
                6379,
                "logs:all",
                Some("u"),
            ),
            (
                "redis://:hunter2@a/b/c",
                "redis://a/b%2Fc",
                "a",
                6379,
                "b/c",
                None,
            ),
        ] {
            let redis = read(typed).unwrap_or_else(|| panic!("{typed} is refused"));
            let read_again = read(&redis.url()).expect("what is shown is read");
            assert_eq!(redis.url(), shown);
            for redis in [&redis, &read_again] {
                let parts = (
                    &*redis.host,
                    redis.port,
                    &*redis.stream,
                    redis.user.as_deref(),
                );
                assert_eq!(parts, (host, port, stream, user), "{typed}");
            }
            assert!(!format!("{redis:?}").contains("hunter2"));
        }
        for typed in [
            "redis://",
            "redis:///s",
            "redis://a",
            "redis://a/",
            "redis://a:b/s",
        ] {
            assert!(read(typed).is_none(), "{typed}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn files_of_tls_are_for_tls() {
        let with = |url: &str, set: fn(&mut Tls)| {
            let mut redis = read(url).expect("a URL");
            set(&mut redis.tls);
            redis.contradiction().map(|found| found.row)
        };
        let ca: fn(&mut Tls) = |tls| tls.ca = Some("ca".into());
        let cert: fn(&mut Tls) = |tls| tls.cert = Some("cert".into());
        assert_eq!(with("redis://a/s", ca), Some("tls-ca"));
        assert_eq!(with("rediss://a/s", ca), None);
        assert_eq!(with("rediss://a/s", cert), Some("tls-cert"));
        assert_eq!(
            read("rediss://a/s").map(|redis| redis.url()),
            Some("rediss://a/s".into())
        );
    }
}
