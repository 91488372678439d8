//! Messages in the bodies of requests of HTTP.

pub(super) mod dialect;

mod options;

mod opening;

mod target;

mod sending;

mod parts;

mod body;

mod json;

mod renewal;

mod threads;

mod client;

mod wire;

mod answer;

mod place;

mod items;

mod answers;

mod date;

mod aside;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use self::aside::Aside;
use self::body::MAX_MESSAGES;
use self::client::{CLIENT_BYTES, Client, GZIP_BYTES};
use self::dialect::Dialect;
pub use self::options::HttpOptions;
use self::parts::Part;
use self::target::Target;
use self::threads::Threads;
use super::batches::Batches;
use super::contract::{AT_LEAST_ONCE, Resources, Sink, SinkError};
use super::lookup::Lookup;

/// Descriptors of a request at once: a connection, and what the system's resolver opens.
const DESCRIPTORS: u64 = 4;
/// While credentials or certificates are read again: a file, and a folder of them.
const RENEWAL_DESCRIPTORS: u64 = 2;

/// Sends messages in the bodies of HTTP requests (POST), several at once, over connections that are
/// kept open. Delivered means that the server has answered the request with 2xx, and nothing in the
/// answer speaks against it: what it has promised with that is said in its own documentation. At
/// least once: a request whose answer did not come whole, within its timeout, is sent again,
/// and may have been taken before.
///
/// A request that fails is sent again, with the sink's back-off ([`Backoff`](super::Backoff)), one
/// at a time until one succeeds. That is the case of a connection that cannot be made or breaks,
/// a timeout, an answer that is no HTTP or not whole, and of every status but these:
/// - 2xx: delivered; of `_bulk`, what the answer says of each document.
/// - 413, 400 and 422: a message in it is too large, or is refused. The messages are sent again in
///   two halves, until each one that is refused stands alone: no other one is refused with it. A
///   server that answers everything so gets two requests for each message, and refuses all.
///
/// What fails otherwise is sent again as it was: a server that is busy, or takes so many requests a
/// second, is served worse by smaller ones. For one that fails for each body of a size,
/// [`body_bytes`](HttpOptions::body_bytes) have to be fewer.
///
/// An answer in gzip is read, though `identity` is asked for. One in any other encoding counts for
/// nothing, as does one of 2xx to `_bulk` that tells nothing of the documents. That is an error in
/// the log, and if the answer was 2xx the next try is a minute later: it may be a copy.
///
/// With `Retry-After` nothing is sent before that time, seconds or a date, a minute at most. 3xx,
/// 401, 403, 404 and any other 4xx say that something is wrong with the place or the right to
/// enter, and not with the messages: they are held and sent again, and the log says as an error
/// that somebody has to mend it.
///
/// What is refused is dropped ([`Refused`](crate::DropReason::Refused)), or appended to a file
/// ([`HttpOptions::refused_to`]), and counted as delivered then. The log says why.
///
/// Passwords, tokens, headers and the query are in no line that it logs. ureq, by which it sends,
/// logs for itself (targets `ureq` and `ureq_proto`), and below info has headers of answers and
/// messages in that: a program that shows these levels keeps these targets out.
///
/// Redirects are not followed, and no proxy is used. A name is resolved for each new connection,
/// and resolving it is all that may outlast the sink, on a thread that nothing waits for, as long
/// as the system takes.
/// Anything else ends a tenth of a second after the server's last deadline.
///
/// Each request takes a thread, a connection, and the memory of a body, twice if it is compressed:
/// [`Sink::resources`] tells them.
///
/// ```no_run
/// use drainline::ingest::Ingest;
/// use drainline::ingest::sink::{BulkAction, Dialect, Http};
///
/// let bulk = Dialect::Bulk {
///     index: Some("logs".to_owned()),
///     action: BulkAction::Create,
/// };
/// let sink = Http::to("https://search.example:9200")
///     .dialect(bulk)
///     .basic_auth("drainline", std::fs::read_to_string("/etc/drainline/password")?.trim_end())
///     .gzip(true)
///     .open()?;
/// let server = Ingest::builder().listen("127.0.0.1:5140".parse()?).start(sink)?;
/// # Ok::<(), drainline::BoxError>(())
/// ```
pub struct Http {
    options: HttpOptions,
    target: Arc<Target>,
    name: String,
    /// Started with the first messages.
    threads: Option<Threads>,
    is_over: Arc<AtomicBool>,
    /// The memory of bodies that are not on their way.
    free: Vec<Vec<u8>>,
    on_their_way: usize,
    /// Messages that are sent again, together where they were.
    again: VecDeque<Vec<Part>>,
    /// The first message that was not sent: its batch's number, and its place there.
    next: (u64, u64),
    /// Messages that were sent.
    sequence: u64,
    /// Since when messages have been waiting for company.
    waiting_since: Option<Instant>,
    /// The last request has failed: one at a time is sent until one succeeds.
    is_failing: bool,
    failed_at: Option<Instant>,
    /// Nothing is sent before.
    held_until: Option<Instant>,
    /// The drain's beginning has shortened that.
    has_hurried: bool,
    aside: Option<Aside>,
    /// Why credentials could not be read again, as the log was told.
    renew_failure: Option<String>,
}

impl Http {
    /// How messages are to be sent to a URL, `http://` or `https://`, from the defaults on. Its
    /// query may be given with it. A user and a password in it are an error:
    /// [`HttpOptions::basic_auth`].
    pub fn to(url: &str) -> HttpOptions {
        HttpOptions::new(url)
    }

    fn new(options: HttpOptions, target: Target, aside: Option<Aside>) -> Http {
        let uri = &target.uri;
        let name = options.name.clone().unwrap_or_else(|| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let scheme = uri.scheme_str().unwrap_or_default();
            format!("{scheme}://{authority}{}", uri.path())
        });
        Http {
            target: Arc::new(target),
            name,
            threads: None,
            is_over: Arc::default(),
            free: Vec::new(),
            on_their_way: 0,
            again: VecDeque::new(),
            next: (0, 0),
            sequence: 0,
            waiting_since: None,
            is_failing: false,
            failed_at: None,
            held_until: None,
            has_hurried: false,
            aside,
            renew_failure: None,
            options,
        }
    }

    /// Starts the threads, the first time.
    fn start(&mut self, batches: &Batches<'_>) -> io::Result<()> {
        if self.threads.is_some() {
            return Ok(());
        }
        let client = |_| {
            let (target, is_over) = (Arc::clone(&self.target), Arc::clone(&self.is_over));
            Client::new(target, is_over, Arc::<Lookup>::default())
        };
        let clients = (0..self.options.requests).map(client).collect();
        // Those that were started before one was refused end with `is_over`.
        let is_over = Arc::clone(&self.is_over);
        let threads = Threads::start(clients, &batches.notifier(), is_over);
        self.threads = Some(threads.inspect_err(|_| self.is_over = Arc::default())?);
        let limit = self.options.body_bytes;
        self.free = (0..self.options.requests)
            .map(|_| Vec::with_capacity(limit))
            .collect();
        Ok(())
    }
}

impl Sink for Http {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn delivered_means(&self) -> String {
        let what = match self.options.dialect {
            Dialect::Bulk { .. } => "the server's answer to _bulk says that it took the document",
            Dialect::Splunk(_) | Dialect::SplunkRaw(_) => {
                "Splunk's collector has answered 2xx, and may not have indexed it yet"
            }
            _ => "the server has answered its request with 2xx",
        };
        let aside = match &self.aside {
            Some(aside) => format!(", or that it was set aside in {}", aside.path().display()),
            None => String::new(),
        };
        format!("{what}{aside} ({AT_LEAST_ONCE})")
    }

    fn resources(&self) -> Resources {
        let requests = self.options.requests as u64;
        let body = self.options.body_bytes as u64;
        let compressed = match self.options.gzip {
            true => body + body / 64 + 1024 + GZIP_BYTES,
            false => 0,
        };
        // On their way, and to be sent again; a list that has grown may have twice its length.
        let parts = 4 * MAX_MESSAGES * std::mem::size_of::<Part>() as u64;
        let each = body + compressed + CLIENT_BYTES + parts;
        let trust = self.target.trust.as_ref();
        let tls = trust.map_or(0, |_| self.options.tls.loaded_bytes());
        let renewal = self.options.renew.as_ref();
        Resources {
            threads: requests,
            descriptors: requests * DESCRIPTORS + renewal.map_or(0, |_| RENEWAL_DESCRIPTORS),
            memory_bytes: requests * each + tls,
        }
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.start(batches).map_err(SinkError::Retry)?;
        while batches.first().is_some() {
            if let Some(failure) = self.take_answers(batches) {
                batches.is_lasting = failure.is_lasting;
                batches.next_try_at = self.held_until;
                return Err(SinkError::Retry(io::Error::other(failure.why)));
            }
            let wait = self.send(batches).map_err(SinkError::Retry)?;
            if batches.first().is_none() {
                break;
            }
            let window = match self.again.len() > self.options.requests {
                // What is held is enough to be sent.
                true => 0,
                false => Batches::MAX_WINDOW,
            };
            if !batches.more(window, wait) {
                break;
            }
        }
        Ok(())
    }

    fn uses_output_framing(&self) -> bool {
        false
    }

    fn reopen(&mut self) -> io::Result<bool> {
        // What fails of both keeps nobody from the other.
        let aside = self.aside.as_mut().map_or(Ok(()), Aside::reopen);
        self.renew(true)?;
        aside?;
        Ok(self.aside.is_some() || self.options.renew.is_some())
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
