//! `redis://HOST/STREAM`, and `rediss://` over TLS: a stream of Redis.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::{Sink, sink};

use super::option::{Contradiction, GROUP};
use super::scheme::{Checked, Common, Form, Opened, Scheme};
use super::secret::{PASSWORD, SecretSource, secret_rows};
#[cfg(feature = "tls")]
use super::tls::ClientTls;
use super::url;
#[cfg(feature = "tls")]
use crate::cli::flag::part_rows;
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Count, NotAccepted, size, time, unset};
use crate::cli::stderr::Stderr;
use crate::cli::values::Name;

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

/// The largest number of Redis.
const MAX_LEN: u64 = i64::MAX as u64;

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
    speaks_tls: bool,
    #[cfg(feature = "tls")]
    tls: ClientTls,
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
            speaks_tls: false,
            #[cfg(feature = "tls")]
            tls: ClientTls::default(),
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
         refuses the login is tried again, for ever. rediss:// is TLS. A number as STREAM is \
         refused, since it is a database elsewhere (here: database); %30 is a stream 0.";
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
                takes: field!(unset(Count(1..=MAX_LEN)), Redis.max_len),
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
        rows.extend(part_rows!(Redis.tls, ClientTls::rows()));
        rows
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let authority = url::authority(place)?;
        if authority.hosts.contains(',') {
            return Err(NotAccepted::because("more than one host"));
        }
        let default = sink::Redis::DEFAULT_PORT;
        let (host, port) = url::host_and_port(&authority.hosts, default)?;
        if authority.path.is_empty() {
            return Err(NotAccepted::because("no stream"));
        }
        // Other clients know redis://HOST/0 as database 0.
        let path = place.to_str().and_then(|place| place.split_once('/'));
        if path.is_some_and(|(_, path)| is_number(path)) {
            return Err(NotAccepted::because(format!(
                "a database is given by database={path}, and a stream of that name as {stream}",
                path = authority.path,
                stream = escaped(&authority.path),
            )));
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
            speaks_tls: form.prefix == OVER_TLS.prefix,
            ..Redis::default()
        })
    }

    fn url(&self) -> String {
        #[cfg(feature = "tls")]
        let prefix = match self.speaks_tls {
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
        if let Some(found) = (self.tls).contradiction(self.speaks_tls, "rediss://, which is TLS") {
            return Some(found);
        }
        let lacks_password = self.user.is_some() && self.password == SecretSource::default();
        let lacking = || Contradiction {
            row: "password-file",
            expected: "a password_file beside its user".to_owned(),
        };
        let twice = self.password.contradiction(PASSWORD);
        twice.or_else(|| lacks_password.then(lacking))
    }

    fn notes(&self, common: Common<'_>) -> Vec<String> {
        let note = common.note_of_drain(&self.url(), "answer-timeout", self.answer_timeout);
        note.into_iter().collect()
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

    fn reads_again(&self) -> bool {
        self.password.is_in_file()
    }

    #[cfg(feature = "tls")]
    fn is_idle(&self, row: &str) -> bool {
        !self.speaks_tls && ClientTls::has_row(row)
    }

    fn without_secrets(&self) -> Self {
        let mut bare = self.clone();
        if bare.password.text.take().is_some() {
            bare.user = None;
        }
        bare
    }
}

impl Redis {
    fn sink(&self) -> io::Result<sink::Redis> {
        let mut sink = sink::Redis::new(&self.host, self.port, &self.stream)
            .named(self.url())
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
        let user = self.user.as_deref();
        match self.password.read()? {
            Some(_) if self.password.is_in_file() => {
                let source = self.password.clone();
                let read = move || {
                    let password = source.read()?.ok_or(io::ErrorKind::NotFound)?;
                    Ok(password.reveal().to_owned())
                };
                sink = sink.login_by(user, read);
            }
            Some(password) => sink = sink.login(user, password.reveal()),
            None => {}
        }
        #[cfg(feature = "tls")]
        if self.speaks_tls {
            let client = self.tls.client()?;
            client.check().map_err(io::Error::other)?;
            sink = sink.tls(client);
        }
        Ok(sink)
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Text as a URL has it, so that it is read as the same text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    let mut is_escaped = is_number(text);
    for char in text.chars() {
        match char {
            // A bare number is refused.
            char if std::mem::take(&mut is_escaped) => {
                let _ = write!(escaped, "%{:02X}", u32::from(char));
            }
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
            ("redis://a/%30", "redis://a/%30", "a", 6379, "0", None),
            ("redis://a/%31%32", "redis://a/%312", "a", 6379, "12", None),
            ("redis://a/0/x", "redis://a/0%2Fx", "a", 6379, "0/x", None),
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
            "redis://a/0",
            "redis://u:p@a:1/12?window=1MiB",
        ] {
            assert!(read(typed).is_none(), "{typed}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn files_of_tls_are_for_tls() {
        let with = |url: &str, key: &str| {
            let mut destination = super::super::read(url.as_ref()).ok()?.destination;
            let rows = destination.entry().rows();
            let row = rows.iter().find(|row| row.key() == key)?;
            row.value()?.apply(&mut destination, "1.3".as_ref()).ok()?;
            destination.contradiction().map(|found| found.row)
        };
        for (key, row) in [
            ("tls_ca", "tls-ca"),
            ("tls_cert", "tls-cert"),
            ("tls_key", "tls-key"),
            ("tls_server_name", "tls-server-name"),
            ("tls_min_version", "tls-min-version"),
        ] {
            assert_eq!(with("redis://a/s", key), Some(row));
            // Of a certificate and its key, none is without the other.
            let alone = matches!(key, "tls_cert" | "tls_key").then_some(row);
            assert_eq!(with("rediss://a/s", key), alone);
        }
        assert_eq!(
            read("rediss://a/s").map(|redis| redis.url()),
            Some("rediss://a/s".into())
        );
    }
}
