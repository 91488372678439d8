//! How requests are made.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST,
    TRANSFER_ENCODING,
};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::Http;
use super::aside::Aside;
use super::client::{Target, Trust};
use super::dialect::Dialect;
use crate::TlsClient;

/// Headers that are made of what is sent.
const OWN: [HeaderName; 8] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TRANSFER_ENCODING,
];

/// An address of HTTP, and how messages are sent there: [`Http::to`].
#[derive(Clone)]
pub struct HttpOptions {
    url: String,
    pub(super) dialect: Dialect,
    pub(super) requests: usize,
    pub(super) body_bytes: usize,
    pub(super) linger: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
    pub(super) authorization: Option<HeaderValue>,
    /// What may not be shown.
    pub(super) secrets: Vec<String>,
    query: Option<String>,
    headers: Vec<(String, String)>,
    login: Option<(String, String)>,
    token: Option<String>,
    token_scheme: Option<String>,
    pub(super) tls: TlsClient,
    refused: Option<(PathBuf, u64)>,
}

impl HttpOptions {
    /// Requests at once where nothing is said.
    pub const DEFAULT_REQUESTS: usize = 4;
    /// The most bytes of a body where nothing is said.
    pub const DEFAULT_BODY_BYTES: usize = 1 << 20;
    /// How long a body waits for more messages where nothing is said.
    pub const DEFAULT_LINGER: Duration = Duration::from_millis(20);
    /// How long connecting may take where nothing is said.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// How long a request may take where nothing is said.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
    /// The most requests at once.
    pub const MAX_REQUESTS: usize = 64;
    /// The least and the most bytes of a body.
    pub const BODY_BYTES_RANGE: (usize, usize) = (1 << 10, 64 << 20);
    /// The longest linger.
    pub const MAX_LINGER: Duration = Duration::from_secs(1);
    /// The shortest and the longest timeout, of either kind.
    pub const TIMEOUT_RANGE: (Duration, Duration) =
        (Duration::from_millis(100), Duration::from_secs(600));
    /// The most bytes of a file of refused messages, by default.
    pub const DEFAULT_REFUSED_BYTES: u64 = 100 << 20;

    pub(super) fn new(url: &str) -> Self {
        HttpOptions {
            url: url.to_owned(),
            dialect: Dialect::NdJson,
            requests: Self::DEFAULT_REQUESTS,
            body_bytes: Self::DEFAULT_BODY_BYTES,
            linger: Self::DEFAULT_LINGER,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            timeout: Self::DEFAULT_TIMEOUT,
            gzip: false,
            authorization: None,
            secrets: Vec::new(),
            query: None,
            headers: Vec::new(),
            login: None,
            token: None,
            token_scheme: None,
            tls: TlsClient::new(),
            refused: None,
        }
    }

    /// What bodies look like and how answers are judged. Default: [`Dialect::NdJson`]. A URL
    /// without a path gets the dialect's.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Requests at once, each on a thread and a connection of its own: 1 to
    /// [`MAX_REQUESTS`](HttpOptions::MAX_REQUESTS), 4 by default. With more than one, messages
    /// may arrive in another order than they came in.
    #[must_use]
    pub fn requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// The most bytes of a body, before it is compressed: 1 KiB to 64 MiB, 1 MiB by default. The
    /// most messages of one are 10,000. A message that alone makes a longer body is refused.
    #[must_use]
    pub fn body_bytes(mut self, bytes: usize) -> Self {
        self.body_bytes = bytes;
        self
    }

    /// How long a body that is not full waits for more messages: 0 to 1 s, 20 ms by default. It
    /// does not wait while a sender waits for the buffer, or when the server closes.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long connecting may take, TLS included: 100 ms to 10 min, 5 s by default. To find the
    /// address of a name takes as long as the system takes.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take on an open connection, from its first byte to the last one of
    /// its answer: 100 ms to 10 min, 15 s by default. What is not answered in time is sent again,
    /// and may then be there twice.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether bodies are compressed. Default: not.
    #[must_use]
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.gzip = gzip;
        self
    }

    /// What is added to the query, escaped as it has to be: `pipeline=logs`.
    #[must_use]
    pub fn query(mut self, query: impl Into<String>) -> Self {
        self.query = Some(query.into());
        self
    }

    /// A header of each request; repeatable. Its value is shown in no log, but is no secret where
    /// configurations are shown: see [`token`](HttpOptions::token).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// `Authorization: Basic`.
    #[must_use]
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }

    /// `Authorization: Bearer`, or `Splunk` to Splunk, with this token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Another word than `Bearer` before the token: `ApiKey`.
    #[must_use]
    pub fn token_scheme(mut self, scheme: impl Into<String>) -> Self {
        self.token_scheme = Some(scheme.into());
        self
    }

    /// How servers are believed, and which certificate they are shown. Default: by the system's
    /// authorities, and none.
    #[must_use]
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.tls = tls;
        self
    }

    /// Appends what is refused to a file, a line each, instead of dropping it, until the file has
    /// `max_bytes`. The file is made with mode 0640 (before the umask), and opened anew by
    /// [`Server::reopen`](crate::Server::reopen).
    #[must_use]
    pub fn refused_to(mut self, path: impl Into<PathBuf>, max_bytes: u64) -> Self {
        self.refused = Some((path.into(), max_bytes));
        self
    }

    /// Checks all of it, reads certificates, and opens the file for what is refused. Connects to
    /// nobody: whether there is somebody shows with the first messages.
    ///
    /// # Errors
    /// A value is out of range or of the wrong form ([`io::ErrorKind::InvalidInput`]), or a file
    /// cannot be read or opened: one line says what.
    pub fn open(mut self) -> io::Result<Http> {
        self.check_ranges()?;
        self.dialect.check()?;
        let uri = self.uri()?;
        self.authorization = self.authorization()?;
        let headers = self.header_map()?;
        let trust = self.trust(&uri)?;
        let aside = match &self.refused {
            Some((path, max_bytes)) => Some(Aside::open(path, *max_bytes)?),
            None => None,
        };
        let target = Target::new(uri, &self, headers);
        Ok(Http::new(self, target, trust, aside))
    }

    /// As [`open`](HttpOptions::open), and leaves no trace: the file for what is refused is not
    /// made, and not opened.
    ///
    /// # Errors
    /// As [`open`](HttpOptions::open), as far as that can be said.
    pub fn check(mut self) -> io::Result<()> {
        self.refused = None;
        self.open().map(drop)
    }

    fn check_ranges(&self) -> io::Result<()> {
        let (least, most) = Self::BODY_BYTES_RANGE;
        let (shortest, longest) = Self::TIMEOUT_RANGE;
        let is_timeout = |timeout| shortest <= timeout && timeout <= longest;
        if !(1..=Self::MAX_REQUESTS).contains(&self.requests) {
            return Err(wrong("requests is not from 1 to 64"));
        }
        if !(least..=most).contains(&self.body_bytes) {
            return Err(wrong("body_bytes is not from 1 KiB to 64 MiB"));
        }
        if self.linger > Self::MAX_LINGER {
            return Err(wrong("linger is longer than 1 s"));
        }
        if !is_timeout(self.connect_timeout) || !is_timeout(self.timeout) {
            return Err(wrong("a timeout is not from 100 ms to 10 min"));
        }
        Ok(())
    }

    fn uri(&self) -> io::Result<Uri> {
        let no_url = |why: &str| wrong(&format!("no URL to send messages to: {why}"));
        let uri: Uri = self
            .url
            .parse()
            .map_err(|error| no_url(&format!("{error}")))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(|authority| authority.as_str());
        let Some(authority) = authority.filter(|_| matches!(scheme, "http" | "https")) else {
            return Err(no_url("expected http://HOST or https://HOST"));
        };
        if authority.contains('@') {
            return Err(no_url("a user and a password are given by basic_auth"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(no_url("it has no host"));
        }
        let path = match uri.path() {
            "" | "/" => self.dialect.path(),
            path => path,
        };
        let own = self.dialect.query();
        let typed = [uri.query(), self.query.as_deref(), Some(&own)];
        let typed = typed.into_iter().flatten().filter(|part| !part.is_empty());
        let query = typed.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let whole = format!("{scheme}://{authority}{path}{mark}{query}");
        whole.parse().map_err(|error| no_url(&format!("{error}")))
    }

    fn authorization(&mut self) -> io::Result<Option<HeaderValue>> {
        let text = match (&self.login, &self.token) {
            (Some(_), Some(_)) => return Err(wrong("a password and a token are one too many")),
            (None, None) => return Ok(None),
            (Some((user, password)), None) => {
                if user.contains(':') {
                    return Err(wrong("a user's name has no colon"));
                }
                let login = base64(format!("{user}:{password}").as_bytes());
                self.secrets.extend([login.clone(), password.clone()]);
                format!("Basic {login}")
            }
            (None, Some(token)) => {
                self.secrets.push(token.clone());
                let own = self.dialect.token_scheme();
                let scheme = self.token_scheme.as_deref().unwrap_or(own);
                format!("{scheme} {token}")
            }
        };
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| {
            wrong("a token, or its scheme, has a character that no header may have")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn header_map(&self) -> io::Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed: HeaderName = name
                .parse()
                .map_err(|_| wrong(&format!("{name:?} is no name of a header")))?;
            if OWN.contains(&parsed) {
                let instead = if parsed == AUTHORIZATION {
                    ": give a token"
                } else {
                    ""
                };
                return Err(wrong(&format!("the header {name} is made here{instead}")));
            }
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                wrong(&format!(
                    "the header {name} has a character that no header may have"
                ))
            })?;
            value.set_sensitive(true);
            map.append(parsed, value);
        }
        Ok(map)
    }

    fn trust(&self, uri: &Uri) -> io::Result<Option<Trust>> {
        if uri.scheme_str() != Some("https") {
            return Ok(None);
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name: ServerName<'static> = self.tls.name_of(host).map_err(io::Error::other)?;
        let config = self.tls.load().map_err(io::Error::other)?;
        Ok(Some(Trust { config, name }))
    }
}

/// Without secrets.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("dialect", &self.dialect)
            .field("requests", &self.requests)
            .field("body_bytes", &self.body_bytes)
            .field("linger", &self.linger)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

pub(super) fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_owned())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for nth in 0..4 {
            match nth <= chunk.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * nth)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let all = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
