//! What may be said of how requests are made.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::dialect::Dialect;
use crate::TlsClient;

/// Makes options anew.
pub(super) type Renew = dyn Fn() -> io::Result<HttpOptions> + Send + Sync;

/// An address of HTTP, and how messages are sent there: [`Http::to`](super::Http::to).
#[derive(Clone)]
pub struct HttpOptions {
    pub(super) url: String,
    pub(super) name: Option<String>,
    pub(super) dialect: Dialect,
    pub(super) requests: usize,
    pub(super) body_bytes: usize,
    pub(super) linger: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
    pub(super) query: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) login: Option<(String, String)>,
    pub(super) token: Option<String>,
    pub(super) token_scheme: Option<String>,
    pub(super) tls: TlsClient,
    pub(super) refused: Option<(PathBuf, u64)>,
    pub(super) renew: Option<Arc<Renew>>,
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
            name: None,
            dialect: Dialect::NdJson,
            requests: Self::DEFAULT_REQUESTS,
            body_bytes: Self::DEFAULT_BODY_BYTES,
            linger: Self::DEFAULT_LINGER,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            timeout: Self::DEFAULT_TIMEOUT,
            gzip: false,
            query: None,
            headers: Vec::new(),
            login: None,
            token: None,
            token_scheme: None,
            tls: TlsClient::new(),
            refused: None,
            renew: None,
        }
    }

    /// What the log calls the sink. Default: the URL of its requests without the query.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
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

    /// What is added to the query, escaped as it has to be: `pipeline=logs`. It may hold a token:
    /// it is shown in no log.
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

    /// Where credentials come from that may be replaced while the sink runs: `renew` makes the
    /// options anew. Of these the query, the headers, the login, the token and TLS are taken, and
    /// nothing else. `renew` is called by [`Server::reopen`](crate::Server::reopen), after which
    /// certificates are read again, too, and when a request was answered with 401 or 403, before
    /// messages are sent again. While it fails, the sink goes on with what it has, and the log
    /// says why. It runs on the thread of the sink, which waits for it. Default: what was given is
    /// used until the end.
    #[must_use]
    pub fn renewed_by(
        mut self,
        renew: impl Fn() -> io::Result<HttpOptions> + Send + Sync + 'static,
    ) -> Self {
        self.renew = Some(Arc::new(renew));
        self
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
