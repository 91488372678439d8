//! Sends requests: one at a time, over one connection that it keeps open.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ureq::http::Response;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use ureq::{Agent, Body, Error, SendBody};

use super::answer::{Failure, Head, Verdict, judge_encoded};
use super::target::Target;
use super::wire::{Counted, Lent, NoNames, Watch, Wires};
use crate::ingest::sink::lookup::Lookup;

/// What a connection reads of an answer at once, and what ureq has to write a body into.
const INPUT_BYTES: usize = 32 << 10;
const OUTPUT_BYTES: usize = 64 << 10;
const MAX_HEADER_BYTES: usize = 32 << 10;
/// A connection that was not used for so long is not used again.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// What a client takes, beside bodies: its buffers, those of TLS, what an answer needs, and 96 KiB
/// to decompress one.
pub(super) const CLIENT_BYTES: u64 = (INPUT_BYTES + OUTPUT_BYTES) as u64 + (384 << 10);
/// What compression takes beside its output.
pub(super) const GZIP_BYTES: u64 = 512 << 10;

#[derive(Debug)]
pub(super) struct Client {
    target: Arc<Target>,
    agent: Agent,
    watch: Arc<Watch>,
    is_over: Arc<AtomicBool>,
    lookup: Arc<Lookup>,
    /// The body, compressed.
    compressed: Vec<u8>,
}

impl Client {
    pub(super) fn new(target: Arc<Target>, is_over: Arc<AtomicBool>, lookup: Arc<Lookup>) -> Self {
        let watch = Arc::new(Watch::default());
        let all = target.connect_timeout.saturating_add(target.timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // What the environment says of proxies is meant for other programs.
            .proxy(None)
            .user_agent(concat!("drainline/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .accept_encoding("identity")
            .timeout_connect(Some(target.connect_timeout))
            .timeout_global(Some(all))
            .input_buffer_size(INPUT_BYTES)
            .output_buffer_size(OUTPUT_BYTES)
            .max_response_header_size(MAX_HEADER_BYTES)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(MAX_IDLE)
            .build();
        let wires = Wires {
            target: Arc::clone(&target),
            watch: Arc::clone(&watch),
            is_over: Arc::clone(&is_over),
            lookup: Arc::clone(&lookup),
        };
        Client {
            target,
            agent: Agent::with_parts(config, wires, NoNames),
            watch,
            is_over,
            lookup,
            compressed: Vec::new(),
        }
    }

    /// Where its thread tells that it looks a name up.
    pub(super) fn lookup(&self) -> Arc<Lookup> {
        Arc::clone(&self.lookup)
    }

    /// Sends a body and waits for the answer, within the timeouts.
    pub(super) fn post(
        &mut self,
        target: &Arc<Target>,
        body: &mut Vec<u8>,
        messages: u64,
    ) -> Verdict {
        if !Arc::ptr_eq(&self.target, target) {
            // The connection that is kept open was made with what has been replaced.
            let (is_over, lookup) = (Arc::clone(&self.is_over), self.lookup());
            *self = Client {
                compressed: std::mem::take(&mut self.compressed),
                ..Client::new(Arc::clone(target), is_over, lookup)
            };
        }
        if !self.target.gzip {
            return self.send(body, messages);
        }
        let mut compressed = compress(std::mem::take(&mut self.compressed), body);
        let verdict = self.send(&mut compressed, messages);
        self.compressed = compressed;
        verdict
    }

    fn send(&self, body: &mut Vec<u8>, messages: u64) -> Verdict {
        let target = &*self.target;
        let lent = Lent::new(&self.watch, body);
        loop {
            self.watch.begin();
            let outcome = self.request(target, &lent);
            let is_new = self.watch.is_new.load(Ordering::Relaxed);
            let has_answer = self.watch.has_answer.load(Ordering::Relaxed);
            let is_over = self.is_over.load(Ordering::Relaxed);
            let verdict = match outcome {
                // The server had closed the connection that was kept open: no failure of its own,
                // and a new one may serve.
                Err(error) if !is_new && !has_answer && !is_over && is_closed(&error) => continue,
                Err(error) => Verdict::Again(Failure::passing(words(&error, target))),
                Ok(response) => self.judge(target, response, messages),
            };
            return hide(target, verdict);
        }
    }

    fn request(&self, target: &Target, lent: &Lent<'_>) -> Result<Response<Body>, Error> {
        let mut request = self.agent.post(target.uri.clone());
        if let Some(headers) = request.headers_mut() {
            headers.extend(target.headers.clone());
            headers.insert(CONTENT_LENGTH, lent.bytes().into());
        }
        request.send(SendBody::from_reader(&mut Counted::new(lent)))
    }

    fn judge(&self, target: &Target, response: Response<Body>, messages: u64) -> Verdict {
        let (parts, body) = response.into_parts();
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let head = Head {
            status: parts.status.as_u16(),
            reason: parts.status.canonical_reason().unwrap_or_default(),
            retry_after: text(RETRY_AFTER),
            location: text(LOCATION),
            secrets: &target.secrets,
        };
        let (dialect, encoding) = (&target.dialect, text(CONTENT_ENCODING));
        let verdict = judge_encoded(dialect, &head, encoding, body.into_reader(), messages);
        let is_cut_short = self.watch.is_cut_short.load(Ordering::Relaxed);
        match verdict {
            Verdict::Accepted | Verdict::Each(..) if is_cut_short => {
                let why = "it has answered and closed before it had the whole request";
                Verdict::Again(Failure::passing(why))
            }
            verdict => verdict,
        }
    }
}

/// Into the memory of `to`, which has room for what cannot be compressed.
fn compress(mut to: Vec<u8>, body: &[u8]) -> Vec<u8> {
    to.clear();
    to.reserve_exact(body.len() + body.len() / 64 + 1024);
    let mut encoder = GzEncoder::new(to, Compression::fast());
    // Nothing that writes to memory fails.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn is_closed(error: &Error) -> bool {
    let Error::Io(error) = error else {
        return false;
    };
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}

fn words(error: &Error, target: &Target) -> String {
    match error {
        Error::Timeout(ureq::Timeout::Connect) => {
            let limit = target.connect_timeout;
            format!("no connection within {limit:?} (connect_timeout)")
        }
        Error::Timeout(_) => format!("no whole answer within {:?} (timeout)", target.timeout),
        Error::HostNotFound => "its name has no address".to_owned(),
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            format!("it has closed the connection before its answer was whole: {error}")
        }
        Error::Io(error) => error.to_string(),
        error => format!("its answer is no use: {error}"),
    }
}

/// What ureq says of an answer that is none may have a part of it.
fn hide(target: &Target, verdict: Verdict) -> Verdict {
    let secrets = &target.secrets;
    let hidden = |failure: Failure| Failure {
        why: secrets.hide(&failure.why),
        ..failure
    };
    match verdict {
        Verdict::Accepted => Verdict::Accepted,
        Verdict::Each(fates, failure) => Verdict::Each(fates, hidden(failure)),
        Verdict::Refused(why) => Verdict::Refused(secrets.hide(&why)),
        Verdict::RefusedAt(at, why) => Verdict::RefusedAt(at, secrets.hide(&why)),
        Verdict::TooLarge(why) => Verdict::TooLarge(secrets.hide(&why)),
        Verdict::Again(failure) => Verdict::Again(hidden(failure)),
    }
}
