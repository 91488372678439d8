//! `http://HOST/PATH` and `https://HOST/PATH`: requests of HTTP.

mod dialect;
mod kinds;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::Sink;
use drainline::ingest::sink::{self, HttpOptions};

use self::dialect::DialectOptions;
use self::kinds::{Pairs, SecretPairs, TEXT};
use super::option::{Contradiction, GROUP, Unfit};
use super::scheme::{Checked, Common, Form, Opened, Reopens, Scheme};
use super::secret::{PASSWORD, SecretSource, SecretText, secret_rows};
use super::tls::ClientTls;
use super::url;
use crate::cli::files;
use crate::cli::flag::{Flag, field, part_rows};
use crate::cli::hidden::HIDDEN;
use crate::cli::kinds::{Count, NotAccepted, TrueOrFalse, size, time, unset};
use crate::cli::stderr::Stderr;
use crate::cli::values::PATH;

const HEADERS: Pairs = Pairs {
    sign: ':',
    example: "X-Scope-OrgID:tenant",
};
const MAX_REQUESTS: u32 = HttpOptions::MAX_REQUESTS as u32;

#[derive(Clone, Debug)]
pub(super) struct Http {
    is_secure: bool,
    hosts: String,
    /// Behind the first slash, decoded.
    path: String,
    dialect: DialectOptions,
    /// May hold a token.
    query: SecretSource,
    /// A line for each. They may have keys.
    headers: SecretSource,
    requests: u32,
    body_bytes: usize,
    linger: Duration,
    connect_timeout: Duration,
    timeout: Duration,
    gzip: bool,
    user: Option<String>,
    password: SecretSource,
    token: SecretSource,
    token_scheme: Option<String>,
    tls: ClientTls,
    refused: Option<PathBuf>,
    refused_max: usize,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            is_secure: false,
            hosts: String::new(),
            path: String::new(),
            dialect: DialectOptions::default(),
            query: SecretSource::default(),
            headers: SecretSource::default(),
            requests: HttpOptions::DEFAULT_REQUESTS as u32,
            body_bytes: HttpOptions::DEFAULT_BODY_BYTES,
            linger: HttpOptions::DEFAULT_LINGER,
            connect_timeout: HttpOptions::DEFAULT_CONNECT_TIMEOUT,
            timeout: HttpOptions::DEFAULT_TIMEOUT,
            gzip: false,
            user: None,
            password: SecretSource::default(),
            token: SecretSource::default(),
            token_scheme: None,
            tls: ClientTls::default(),
            refused: None,
            refused_max: HttpOptions::DEFAULT_REFUSED_BYTES as usize,
        }
    }
}

impl Http {
    fn scheme(&self) -> &'static str {
        match self.is_secure {
            true => "https://",
            false => "http://",
        }
    }

    /// Splunk takes nothing without a token, which may stand in other places, too.
    fn note_of_token(&self) -> Option<&'static str> {
        let is_given = |source: &SecretSource| *source != SecretSource::default();
        let is_known = self.user.is_some() || is_given(&self.token) || is_given(&self.query);
        let is_missing = self.dialect.is_of_splunk() && !is_known;
        is_missing
            .then_some("has no token, which Splunk requires: token_file or token_env names one")
    }

    fn headers(&self) -> io::Result<Vec<(String, String)>> {
        let Some(lines) = self.headers.read()? else {
            return Ok(Vec::new());
        };
        let lines = lines
            .reveal()
            .lines()
            .filter(|line| !line.trim().is_empty());
        let pair = |line| {
            HEADERS.pair(line).ok_or_else(|| {
                let text = "expected headers as NAME:VALUE, a line for each";
                Unfit::of(io::Error::new(io::ErrorKind::InvalidInput, text))
            })
        };
        lines.map(pair).collect()
    }

    /// With where credentials are read again from.
    fn lasting_options(&self) -> io::Result<HttpOptions> {
        let options = self.options()?;
        if !Scheme::reads_again(self) {
            return Ok(options);
        }
        let again = self.clone();
        Ok(options.renewed_by(move || again.options()))
    }

    fn options(&self) -> io::Result<HttpOptions> {
        let url = format!("{}{}/{}", self.scheme(), self.hosts, escaped(&self.path));
        let mut options = sink::Http::to(&url)
            .named(self.url())
            .dialect(self.dialect.dialect())
            .requests(self.requests as usize)
            .body_bytes(self.body_bytes)
            .linger(self.linger)
            .connect_timeout(self.connect_timeout)
            .timeout(self.timeout)
            .gzip(self.gzip)
            .tls(self.tls.client()?);
        if let Some(query) = self.query.read()? {
            options = options.query(query.reveal());
        }
        for (name, value) in self.headers()? {
            options = options.header(name, value);
        }
        if let Some(user) = &self.user {
            let password = self.password.read()?;
            options = options.basic_auth(user, password.as_ref().map_or("", |it| it.reveal()));
        }
        if let Some(token) = self.token.read()? {
            options = options.token(token.reveal());
        }
        if let Some(scheme) = &self.token_scheme {
            options = options.token_scheme(scheme);
        }
        if let Some(path) = &self.refused {
            options = options.refused_to(path, self.refused_max as u64);
        }
        Ok(options)
    }
}

impl Scheme for Http {
    const FORMS: &'static [Form] = &[
        Form {
            prefix: "http://",
            place: "HOST/PATH",
            has_options: true,
        },
        Form {
            prefix: "https://",
            place: "HOST/PATH",
            has_options: true,
        },
    ];
    const HELP: &'static str = "Sends messages in the bodies of HTTP requests, at least once: to what \
         takes lines of JSON, to Elasticsearch or OpenSearch, to Loki, or to Splunk. Without a PATH, the \
         dialect's is taken. A query of the server's own is given by query. What the server can never accept is dropped, or set aside in a file.";
    const IS_FRAMED: bool = false;

    fn rows() -> Vec<Flag<Self>> {
        let mut rows = part_rows!(Http.dialect, DialectOptions::rows());
        rows.extend(query_rows());
        rows.extend(header_rows());
        rows.extend(request_rows());
        rows.push(Flag {
            name: "user",
            group: GROUP,
            purpose: "who drainline says it is",
            help: "The user of basic authentication, with a password beside it.",
            takes: field!(unset(TEXT), Http.user),
        });
        rows.extend(secret_rows!(Http.password, "password", "the password"));
        rows.extend(secret_rows!(Http.token, "token", "the token"));
        rows.push(Flag {
            name: "token-scheme",
            group: GROUP,
            purpose: "the word before the token",
            help: "The word before the token in the header Authorization. Without it, that is Splunk for \
                   dialect splunk and splunk-raw, and Bearer for the others; an API key of \
                   Elasticsearch needs ApiKey.",
            takes: field!(unset(TEXT), Http.token_scheme),
        });
        rows.extend(part_rows!(Http.tls, ClientTls::rows()));
        rows
    }

    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let authority = url::authority(place)?;
        if authority.hosts.contains(',') {
            return Err(NotAccepted::because("more than one host"));
        }
        url::host_and_port(&authority.hosts, 80)?;
        if let Some((before, _)) = authority.path.split_once('?') {
            // What follows may be a token, and a path is shown everywhere.
            let (prefix, hosts, before) = (form.prefix, &authority.hosts, escaped(before));
            return Err(NotAccepted {
                part: Some(format!("{prefix}{hosts}/{before}%3F{HIDDEN}").into()),
                expected: Some(
                    "a PATH without a question mark: a query is given by query=".to_owned(),
                ),
                ..NotAccepted::default()
            });
        }
        let http = Http {
            is_secure: form.prefix == "https://",
            hosts: authority.hosts,
            path: authority.path,
            user: authority.user,
            password: SecretSource {
                text: authority.password,
                ..SecretSource::default()
            },
            ..Http::default()
        };
        match http.user.is_none() && http.password.text.is_some() {
            true => Err(NotAccepted::because("a password and no user")),
            false => Ok(http),
        }
    }

    fn url(&self) -> String {
        let path = escaped(&self.path);
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{}{}{slash}{path}", self.scheme(), self.hosts)
    }

    fn contradiction(&self) -> Option<Contradiction> {
        let told = |row, expected: &str| Some(Contradiction::new(row, expected));
        let is_given = |source: &SecretSource| *source != SecretSource::default();
        let (has_password, has_token) = (is_given(&self.password), is_given(&self.token));
        let tokens = ["token", "token-file", "token-env"];
        let headers = ["headers", "headers-file", "headers-env"];
        let queries = ["query", "query-file", "query-env"];
        let found = (self.password.contradiction(PASSWORD))
            .or_else(|| self.token.contradiction(tokens))
            .or_else(|| self.query.contradiction(queries))
            .or_else(|| self.headers.contradiction(headers))
            .or_else(|| self.dialect.contradiction())
            .or_else(|| self.tls.contradiction(self.is_secure, "an https:// server"));
        if found.is_some() {
            return found;
        }
        match (&self.user, has_password, has_token) {
            (Some(_), _, true) => told("user", "no token beside it"),
            (Some(_), false, _) => told("user", "a password beside it"),
            (None, true, _) => told("password", "a user beside it"),
            (None, ..) if self.token_scheme.is_some() && !has_token => {
                told("token-scheme", "a token beside it")
            }
            _ => None,
        }
    }

    fn lacks(&self, row: &str) -> Option<&'static str> {
        let is_without_file = self.refused.is_none() && row == "refused-max";
        is_without_file.then_some("a refused beside it")
    }

    fn notes(&self, common: Common<'_>) -> Vec<String> {
        let url = self.url();
        let of_dialect = [
            self.dialect.note_of_path(&self.path),
            self.dialect.note_of_index(&self.path).map(str::to_owned),
            self.note_of_token().map(str::to_owned),
        ];
        let of_dialect = of_dialect.into_iter().flatten();
        let fate = match self.refused {
            Some(_) => "sets aside, in refused, and does not send",
            None => "drops, as refused,",
        };
        let notes = [
            common.note_of_longest(&url, fate, "body_bytes", self.body_bytes),
            common.note_of_drain(&url, "timeout", self.timeout),
        ];
        let mut notes: Vec<String> = notes.into_iter().flatten().collect();
        notes.extend(of_dialect.map(|note| format!("{} {url} {note}", common.named)));
        notes
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        let without_file = Http {
            refused: None,
            ..self.clone()
        };
        let resources = without_file
            .lasting_options()?
            .open()
            .map_err(Unfit::of)?
            .resources();
        if let Some(path) = &self.refused {
            check_aside(path).map_err(|error| {
                let path = path.display();
                let text = format!("refused messages cannot be written to {path}: {error}");
                io::Error::new(error.kind(), text)
            })?;
        }
        Ok(Checked {
            not_open: u64::from(self.refused.is_some()),
            resources,
            ..Checked::default()
        })
    }

    fn open(&self, _: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        let options = self.lasting_options()?;
        Ok(Opened::new(options.open().map_err(Unfit::of)?))
    }

    fn set_aside(&self) -> Option<(&Path, &'static str)> {
        self.refused.as_deref().map(|path| (path, "refused"))
    }

    fn reopens(&self) -> Option<Reopens> {
        self.refused.as_ref().map(|_| Reopens::File)
    }

    fn reads_again(&self) -> bool {
        let sources = [&self.query, &self.headers, &self.password, &self.token];
        self.is_secure || sources.into_iter().any(SecretSource::is_in_file)
    }

    fn is_idle(&self, row: &str) -> bool {
        let is_without_tls = !self.is_secure && ClientTls::has_row(row);
        is_without_tls || self.lacks(row).is_some() || self.dialect.is_idle(row)
    }

    fn without_secrets(&self) -> Self {
        let mut bare = self.clone();
        bare.query.text = None;
        bare.headers.text = None;
        if bare.password.text.take().is_some() {
            bare.user = None;
        }
        if bare.token.text.take().is_some() {
            bare.token_scheme = None;
        }
        bare
    }
}

/// What is there has to be a file: refused messages are cut off its end where the disk is full.
fn check_aside(path: &Path) -> io::Result<()> {
    let there = std::fs::metadata(path);
    match there.is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        true => Err(io::Error::other("not a regular file")),
        false => files::check_sink(path),
    }
}

fn query_rows() -> impl IntoIterator<Item = Flag<Http>> {
    let [query, file, variable] = secret_rows!(Http.query, "query", "the query of requests");
    let query = Flag {
        purpose: "query of the server's own",
        help: "Added to the URL of requests behind a ?, such as pipeline=logs. In a URL here, & in it is \
               %26. It may hold a token: it is shown nowhere, but ps(1) shows what is typed.",
        takes: field!(unset(SecretText), Http.query.text),
        ..query
    };
    [query, file, variable]
}

fn header_rows() -> impl IntoIterator<Item = Flag<Http>> {
    let [headers, file, variable] =
        secret_rows!(Http.headers, "headers", "headers of each request");
    let headers = Flag {
        help: "Headers as NAME:VALUE, with commas between, and \\, for a comma of a VALUE. They may have \
               keys: they are shown nowhere, but ps(1) shows what is typed.",
        takes: field!(unset(SecretPairs(HEADERS)), Http.headers.text),
        ..headers
    };
    let file = Flag {
        help: "Reads headers of each request from this file, NAME:VALUE in a line each.",
        ..file
    };
    let variable = Flag {
        help: "Reads headers of each request from this variable, NAME:VALUE in a line each.",
        ..variable
    };
    [headers, file, variable]
}

fn request_rows() -> Vec<Flag<Http>> {
    let (least, most) = HttpOptions::BODY_BYTES_RANGE;
    let (shortest, longest) = HttpOptions::TIMEOUT_RANGE;
    vec![
        Flag {
            name: "requests",
            group: GROUP,
            purpose: "most requests at once",
            help: "Each has a thread, a connection and a body. With more than one, messages may arrive \
                   in another order.",
            takes: field!(Count(1..=MAX_REQUESTS), Http.requests),
        },
        Flag {
            name: "body-bytes",
            group: GROUP,
            purpose: "largest body",
            help: "Before it is compressed. A message that alone makes a larger one is dropped, as \
                   refused. The most messages of one are 10,000.",
            takes: field!(size(least..=most, "1MiB"), Http.body_bytes),
        },
        Flag {
            name: "linger",
            group: GROUP,
            purpose: "how long a body may wait to be filled",
            help: "It does not wait while a sender waits for the buffer.",
            takes: field!(
                time(Duration::ZERO..=HttpOptions::MAX_LINGER, "20ms"),
                Http.linger
            ),
        },
        Flag {
            name: "connect-timeout",
            group: GROUP,
            purpose: "longest wait for a connection",
            help: "TLS included. How long a name takes is the system's (resolv.conf).",
            takes: field!(time(shortest..=longest, "5s"), Http.connect_timeout),
        },
        Flag {
            name: "timeout",
            group: GROUP,
            purpose: "longest wait for an answer",
            help: "From the first byte of a request to the last of its answer. What has no answer by \
                   then is sent again, and may be there twice.",
            takes: field!(time(shortest..=longest, "15s"), Http.timeout),
        },
        Flag {
            name: "gzip",
            group: GROUP,
            purpose: "compress bodies",
            help: "Compresses bodies.",
            takes: field!(TrueOrFalse, Http.gzip),
        },
        Flag {
            name: "refused",
            group: GROUP,
            purpose: "file for what is refused",
            help: "Appends messages that the server can never accept to this file, a line each, and \
                   counts them as delivered, instead of dropping them. SIGHUP reopens it.",
            takes: field!(unset(PATH), Http.refused),
        },
        Flag {
            name: "refused-max",
            group: GROUP,
            purpose: "largest size of that file",
            help: "What is refused then is dropped.",
            takes: field!(size(1..=1 << 40, "100MiB"), Http.refused_max),
        },
    ]
}

/// A path as a URL has it.
fn escaped(path: &str) -> String {
    let mut escaped = String::new();
    for c in path.chars() {
        match c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@".contains(c) {
            true => escaped.push(c),
            false => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    escaped += &format!("%{byte:02X}");
                }
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Result<Http, NotAccepted> {
        let read = super::super::read(typed.as_ref())?;
        let mut destination = read.destination;
        let rows = destination.entry().rows();
        for (key, value) in &read.options {
            let row = rows.iter().find(|row| row.key() == *key);
            let row = row.and_then(Flag::value).ok_or_else(NotAccepted::default)?;
            row.apply(&mut destination, value)?;
        }
        Ok(destination.get::<Http>().expect("http").clone())
    }

    #[test]
    fn urls_are_printed_as_they_are_read_without_secrets() {
        for (typed, printed) in [
            ("http://host", "http://host"),
            ("http://host:9200/", "http://host:9200"),
            (
                "https://[::1]:1/a/b%23c=d%20e",
                "https://[::1]:1/a/b%23c=d%20e",
            ),
            ("http://user:hunter2@host/x", "http://host/x"),
            ("http://host/x?token=hunter2&gzip=true", "http://host/x"),
            ("http://host/x?query=key=hunter2", "http://host/x"),
        ] {
            let http = read(typed).expect("a URL");
            assert_eq!(http.url(), printed, "{typed}");
            assert!(!format!("{http:?}").contains("hunter2"));
            let again = read(printed).expect("what is printed is read");
            assert_eq!((again.hosts, again.path), (http.hosts, http.path));
        }
        for typed in [
            "http://",
            "http:///path",
            "http://a,b/",
            "http://a:b/",
            "http://:secret@host/",
            "http://host/?nosuch=1",
            "http://host/?dialect=xml",
            "http://host/?requests=65",
            "http://host/?body_bytes=1",
            "http://host/?linger=2s",
            "http://host/?timeout=1ms",
            "http://host/?headers=x",
            "http://host/?labels=x",
            "http://host/?gzip=yes",
            "http://host/?index=",
            "http://host/?query=",
            "http://host/a%3Fb=c",
        ] {
            assert!(read(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_told() {
        for (options, row) in [
            ("index=a", "index"),
            ("dialect=loki&index=a", "index"),
            ("action=index", "action"),
            ("labels=a=b", "labels"),
            ("dialect=elasticsearch&source=a", "source"),
            ("sourcetype=a", "sourcetype"),
            ("event_host=a", "event-host"),
            ("user=a", "user"),
            ("user=a&password=b&token=c", "user"),
            ("password=a", "password"),
            ("token=a&token_file=b", "token-file"),
            ("query=a&query_env=b", "query-env"),
            ("token_scheme=a", "token-scheme"),
            ("tls_ca=a", "tls-ca"),
        ] {
            let http = read(&format!("http://host/?{options}")).expect("a URL");
            let contradiction = http.contradiction();
            assert_eq!(contradiction.map(|told| told.row), Some(row), "{options}");
        }
        for options in ["tls_cert=a", "tls_key=a"] {
            let http = read(&format!("https://host/?{options}")).expect("a URL");
            assert!(http.contradiction().is_some(), "{options}");
        }
        for fine in [
            "http://u:p@host/",
            "http://host/?dialect=elasticsearch&index=a&action=index",
            "http://host/?dialect=loki&labels=a={host}",
            "http://host/?dialect=splunk&index=a&source=b&sourcetype=c&event_host=d&token=e",
            "https://host/?tls_ca=a&token_env=B&token_scheme=ApiKey",
        ] {
            assert!(
                read(fine).expect("a URL").contradiction().is_none(),
                "{fine}"
            );
        }
    }
}
