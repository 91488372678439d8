//! A stream of Redis, by `XADD`.
//!
//! The sink's thread encodes commands and writes them without waiting; a thread of its own opens
//! each connection and reads the answers. In the order of a message:
//!
//! - `command`: the commands, encoded
//! - `in_flight`: what is sent and not answered
//! - `wire`: bytes to and from the server, over TLS or not
//! - `connection`: the thread, by `opening` and `reading`; `target` says where to
//! - `password`: what it logs in with, read again where that may change
//! - `exchange`: what both threads share
//! - `answer`: what an answer means

mod command;
mod in_flight;

mod wire;

mod connection;
mod password;
mod target;

mod opening;

mod reading;

mod exchange;

mod answer;

use std::fmt::Write;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::answer::Answer;
use self::command::{CHUNK, Encoder};
use self::connection::Connection;
use self::exchange::{MAX_RUNS, Run, Stage};
use self::in_flight::InFlight;
use self::password::Password;
use self::target::Target;
use self::wire::{Outgoing, Wire};
use super::batches::Batches;
use super::contract::{AT_LEAST_ONCE, Resources, Sink, SinkError};
use super::retry::Backoff;

/// How long the sink waits for a notice before it looks at the time.
const SLICE: Duration = Duration::from_millis(100);
/// How long the sink waits for a socket that takes no more, without a look at the answers.
const SOCKET_SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Adds each message to a stream of Redis, as the value of one field of an entry.
///
/// **Delivered** means that the server answered the message's `XADD` with the entry's ID. Whether
/// that survives a crash of the server is the server's (`appendfsync`), and whether it survives a
/// failover, too (`min-replicas-to-write`). A message is there **at least once**: what is
/// unanswered when a connection is lost is sent again over the next one, and may have arrived
/// before. For the same reason, what is unanswered at the end is booked as dropped though it may be
/// there. Order is kept on a connection; what has to be sent again comes behind what was accepted
/// meanwhile.
///
/// Commands are sent one behind the other, up to [`window`](Redis::window) bytes without an answer,
/// in RESP2: Redis from 5.0 on, and what speaks its protocol.
///
/// **Errors of the server.** One that is about a message, which is too long for it, is
/// [refused](crate::DropReason::Refused), once. All others may pass, also `OOM`, `LOADING`,
/// `READONLY`, `MOVED`, a wrong password, a missing permission or a key of another type: somebody
/// can mend them while messages wait. What failed is sent again over a new connection, for ever,
/// and the log and [`last_error`](crate::OutputStats::last_error) say why. The address is looked up
/// anew for each connection, so a failover by name or by address is followed; redirections of a
/// cluster are not.
///
/// **Time.** A connection is opened in [`connect_timeout`](Redis::connect_timeout), and given up
/// after [`answer_timeout`](Redis::answer_timeout) without any answer. Both are far below the time
/// that a drain has by default, and its end ends every wait; only the system's resolver cannot be
/// ended, on a thread that then does nothing more. The first connection is opened soon after the
/// start, without waiting for a message.
#[derive(Debug)]
pub struct Redis {
    target: Arc<Target>,
    stream: String,
    name: Option<String>,
    field: String,
    max_len: Option<u64>,
    window: usize,
    answer_timeout: Duration,
    encoder: Option<Encoder>,
    outgoing: Outgoing,
    in_flight: InFlight,
    connection: Option<Connection>,
    /// Answers that the sink has taken from the connection; empty but for a moment.
    runs: Vec<Run>,
    /// The first error of this connection that may pass: nothing more is sent, and what is out is
    /// waited for.
    failure: Option<String>,
    /// Writing failed: why the connection is over is for the reading end to say.
    is_broken: bool,
    /// How long nothing was answered. Counted in steps, so that it stands still while the process
    /// does.
    unanswered_for: Duration,
    looked_at: Instant,
    /// Of tries to connect while there are no messages.
    idle: Backoff,
    idle_until: Instant,
}

impl Redis {
    /// The port of a server that does not say otherwise.
    pub const DEFAULT_PORT: u16 = 6379;
    /// The field of an entry that has the message.
    pub const DEFAULT_FIELD: &str = "message";
    /// Bytes of commands without an answer, at most.
    pub const DEFAULT_WINDOW: usize = 4 << 20;
    /// What [`window`](Redis::window) may be.
    pub const WINDOW_RANGE: RangeInclusive<usize> = 64 << 10..=256 << 20;
    /// The longest wait for a connection.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// The longest wait for an answer.
    pub const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
    /// What timeouts may be.
    pub const TIMEOUT_RANGE: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(3600);

    /// A sink that adds to `stream` on the server at `host` and `port`, none of which may be empty
    /// or 0. Nothing is connected yet, and the name is not looked up.
    pub fn new(host: impl Into<String>, port: u16, stream: impl Into<String>) -> Self {
        Redis {
            target: Arc::new(Target::new(host.into(), port)),
            stream: stream.into(),
            name: None,
            field: Self::DEFAULT_FIELD.to_owned(),
            max_len: None,
            window: Self::DEFAULT_WINDOW,
            answer_timeout: Self::DEFAULT_ANSWER_TIMEOUT,
            encoder: None,
            outgoing: Outgoing::default(),
            in_flight: InFlight::default(),
            connection: None,
            runs: Vec::new(),
            failure: None,
            is_broken: false,
            unanswered_for: Duration::ZERO,
            looked_at: Instant::now(),
            idle: Backoff::new(),
            idle_until: Instant::now(),
        }
    }

    /// What the log calls the sink. Default: its URL, `redis://HOST:PORT/STREAM`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Logs in by a password, and as a user of the server's ACL if there is one (Redis from 6.0
    /// on). The password is shown nowhere. Default: no login.
    #[must_use]
    pub fn login(mut self, user: Option<&str>, password: impl Into<String>) -> Self {
        let target = self.target_mut();
        target.user = user.map(str::to_owned);
        target.password = Some(Password::fixed(password.into()));
        self
    }

    /// As [`login`](Redis::login), with a password that may be replaced while the sink runs: `read`
    /// is called for each connection, on a thread of its own, and by
    /// [`Server::reopen`](crate::Server::reopen), on the thread of the sink. While it fails, what
    /// was read last is used, and the log says why.
    #[must_use]
    pub fn login_by(
        mut self,
        user: Option<&str>,
        read: impl Fn() -> io::Result<String> + Send + Sync + 'static,
    ) -> Self {
        let target = self.target_mut();
        target.user = user.map(str::to_owned);
        target.password = Some(Password::read_by(read));
        self
    }

    /// Whether the password is read again.
    fn reads_password(&self) -> bool {
        let password = self.target.password.as_ref();
        password.is_some_and(Password::is_read)
    }

    /// The database by its number. Default: 0.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.target_mut().database = number;
        self
    }

    /// What the connection is called in the server's `CLIENT LIST`: visible characters of ASCII,
    /// and no spaces. A server on which the user may not name connections is served all the same.
    /// Default: `drainline`.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.target_mut().client_name = name.into();
        self
    }

    /// The field that has the message. Default: [`DEFAULT_FIELD`](Redis::DEFAULT_FIELD).
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// Keeps about this many entries in the stream (`MAXLEN ~`): the server deletes older ones,
    /// whether somebody has read them or not. Default: all.
    #[must_use]
    pub fn max_len(mut self, entries: u64) -> Self {
        self.max_len = Some(entries);
        self
    }

    /// Bytes of commands that may be without an answer, within
    /// [`WINDOW_RANGE`](Redis::WINDOW_RANGE); a value outside becomes the nearest inside. A command
    /// has some 60 bytes beside its message. A larger window keeps a connection with a long round
    /// trip busy; after a lost connection as much may be in the stream twice. Default:
    /// [`DEFAULT_WINDOW`](Redis::DEFAULT_WINDOW), 4 MiB.
    #[must_use]
    pub fn window(mut self, bytes: usize) -> Self {
        self.window = bytes.clamp(*Self::WINDOW_RANGE.start(), *Self::WINDOW_RANGE.end());
        self
    }

    /// How long a connection may take to be open: connecting to all addresses of the name, TLS and
    /// the login, within [`TIMEOUT_RANGE`](Redis::TIMEOUT_RANGE). Default: 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.target_mut().connect_timeout = in_range(timeout);
        self
    }

    /// How long nothing at all may be answered before the connection is given up, within
    /// [`TIMEOUT_RANGE`](Redis::TIMEOUT_RANGE). Default: 10 s.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = in_range(timeout);
        self
    }

    /// Speaks TLS with the server, whose certificate has to be for the host's name. Files are read
    /// anew for each connection.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::server::TlsClient) -> Self {
        self.target_mut().tls = Some(tls);
        self
    }

    fn target_mut(&mut self) -> &mut Target {
        Arc::make_mut(&mut self.target)
    }

    // ---- one turn

    /// Takes answers and sends what may be sent.
    fn turn(&mut self, batches: &mut Batches<'_>) -> Result<Wait, SinkError> {
        let stage = match &self.connection {
            Some(connection) => connection.take(&mut self.runs),
            None => self.open(batches)?,
        };
        self.take_answers(batches)?;
        let wire = match stage {
            Stage::Open(wire) => wire,
            Stage::Opening => return Ok(Wait::Notice),
            Stage::Ended(why) => return Err(self.lost(&why)),
        };
        if self.failure.is_some() && self.in_flight.is_empty() {
            return Err(self.lost("it was given up"));
        }
        self.check_time()?;
        if self.is_broken {
            return Ok(Wait::Notice);
        }
        match self.send(&wire, batches) {
            Ok(true) if self.has_room() => Ok(Wait::Batch),
            Ok(true) => Ok(Wait::Notice),
            Ok(false) => Ok(Wait::Socket(wire)),
            Err(_) => {
                self.is_broken = true;
                Ok(Wait::Notice)
            }
        }
    }

    fn open(&mut self, batches: &Batches<'_>) -> Result<Stage, SinkError> {
        let (notifier, logger) = (batches.notifier(), batches.logger().clone());
        let opened = Connection::open(&self.target, notifier, logger);
        let connection = opened.map_err(|error| {
            let text = format!("no thread for its connection: {error}");
            SinkError::Retry(io::Error::new(error.kind(), text))
        })?;
        self.connection = Some(connection);
        Ok(Stage::Opening)
    }

    fn take_answers(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        for run in std::mem::take(&mut self.runs) {
            self.unanswered_for = Duration::ZERO;
            let mut left = run.count;
            while left > 0 {
                let Some(piece) = self.in_flight.answered(left) else {
                    return Err(self.lost("the server answers what nobody has asked"));
                };
                let messages = piece.messages.end - piece.messages.start;
                left -= messages;
                match &run.answer {
                    Answer::Accepted => batches.ack_at(piece.number, messages),
                    Answer::Refused(why) => {
                        batches.refuse_at(piece.number, messages);
                        self.log_refused(why, batches);
                    }
                    Answer::Failed(why) => {
                        self.failure.get_or_insert_with(|| why.clone());
                        self.in_flight.failed(piece);
                    }
                }
            }
        }
        Ok(())
    }

    fn log_refused(&self, why: &str, batches: &Batches<'_>) {
        let name = self.name();
        batches.logger().log_limited("refused", Level::Error, || {
            format!("a message is dropped, because the sink {name} can never accept it: {why}")
        });
    }

    /// Writes what the socket takes. `false`: it takes no more for now.
    fn send(&mut self, wire: &Wire, batches: &Batches<'_>) -> io::Result<bool> {
        let (stream, field, max_len) = (&self.stream, &self.field, self.max_len);
        let encoder = self
            .encoder
            .get_or_insert_with(|| Encoder::new(stream, field, max_len));
        loop {
            if self.outgoing.is_empty() {
                self.outgoing.clear();
                if self.in_flight.is_empty() {
                    self.unanswered_for = Duration::ZERO;
                }
                let out = &mut self.outgoing.plain;
                out.reserve(encoder.max_bytes());
                let to_end = self.failure.is_some();
                let batch_of = |number| batches.get(number);
                encoder.fill(out, &mut self.in_flight, self.window, to_end, batch_of);
                if out.is_empty() {
                    // So that an idle TLS session answers what its server asks of it, too.
                    return wire.send(&mut self.outgoing);
                }
            }
            if !wire.send(&mut self.outgoing)? {
                return Ok(false);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.failure.is_none() && self.in_flight.bytes() < self.window
    }

    /// Gives the connection up if nothing was answered for too long.
    fn check_time(&mut self) -> Result<(), SinkError> {
        let now = Instant::now();
        let since = now - std::mem::replace(&mut self.looked_at, now);
        if self.in_flight.is_empty() {
            return Ok(());
        }
        self.unanswered_for += since.min(SLICE * 2);
        match self.unanswered_for > self.answer_timeout {
            true => Err(self.lost(&format!("no answer for {:?}", self.answer_timeout))),
            false => Ok(()),
        }
    }

    /// The connection is over: what is not answered will be sent again.
    fn lost(&mut self, why: &str) -> SinkError {
        let unanswered = self.in_flight.messages();
        self.end_connection();
        let mut text = self.failure.take().unwrap_or_else(|| why.to_owned());
        if unanswered > 0 {
            let _ = write!(
                text,
                "; {unanswered} unanswered messages will be sent again"
            );
        }
        SinkError::Retry(io::Error::other(text))
    }

    fn end_connection(&mut self) {
        self.connection = None;
        self.runs.clear();
        self.outgoing.clear();
        if let Some(encoder) = &mut self.encoder {
            encoder.is_over(&mut self.in_flight);
        }
        self.in_flight.is_over();
        self.unanswered_for = Duration::ZERO;
        self.is_broken = false;
    }

    /// An idle connection that its server has closed (`timeout`) is no failure: nothing was out.
    fn forget_idle_end(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        let is_over = self.in_flight.is_empty() && connection.has_ended_well();
        if is_over {
            self.end_connection();
        }
    }
}

/// What the sink waits for.
enum Wait {
    /// More to send, or an answer.
    Batch,
    /// An answer, or that the connection is open.
    Notice,
    /// That the socket takes more.
    Socket(Arc<Wire>),
}

impl Wait {
    /// `false`: the sink has to return.
    fn on(self, batches: &mut Batches<'_>) -> bool {
        match self {
            Wait::Batch => batches.more(Batches::MAX_WINDOW, SLICE),
            Wait::Notice => batches.more(0, SLICE),
            Wait::Socket(wire) => {
                let mut sockets = [PollFd::new(&*wire.socket, PollFlags::OUT)];
                let _ = poll(&mut sockets, Some(&SOCKET_SLICE));
                batches.more(0, Duration::ZERO)
            }
        }
    }
}

impl Sink for Redis {
    fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let Target { host, port, .. } = &*self.target;
        let scheme = match self.target.speaks_tls() {
            true => "rediss",
            false => "redis",
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        format!("{scheme}://{host}:{port}/{}", self.stream)
    }

    fn check(&self) -> Result<(), String> {
        let Target {
            host,
            port,
            client_name,
            ..
        } = &*self.target;
        let is_visible = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic());
        let expected = if host.is_empty() || host.contains(|c: char| c.is_whitespace()) {
            "a host of Redis that is not empty and has no spaces"
        } else if *port == 0 {
            "a port of Redis that is not 0"
        } else if self.stream.is_empty() {
            "a stream of Redis that is not empty"
        } else if !is_visible(client_name) {
            "a client_name of visible characters of ASCII without spaces"
        } else {
            return Ok(());
        };
        Err(expected.to_owned())
    }

    fn delivered_means(&self) -> String {
        format!("Redis answered the message's XADD ({AT_LEAST_ONCE})")
    }

    fn resources(&self) -> Resources {
        let strings = self.stream.len() + self.field.len();
        let outgoing = CHUNK + strings + MAX_HEAD;
        // Runs of answers, with the longest text each, here and at the other end.
        let answers = 2 * MAX_RUNS * MAX_RUN_BYTES;
        // Where every second command fails, two lists have an entry for each of these.
        let lists = self.window;
        Resources {
            threads: 1,
            // While a name is looked up there are files and sockets of the resolver instead.
            // Beside these, the file of a password.
            descriptors: 4 + u64::from(self.reads_password()),
            memory_bytes: (outgoing + answers + lists) as u64
                + FIXED_BYTES
                + self.target.tls_bytes(),
        }
    }

    fn uses_output_framing(&self) -> bool {
        false
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.forget_idle_end();
        self.looked_at = Instant::now();
        while batches.first().is_some() {
            let wait = self.turn(batches)?;
            if batches.first().is_some() && !wait.on(batches) {
                break;
            }
        }
        Ok(())
    }

    /// A connection that is open stays: who is logged in stays so.
    fn reopen(&mut self) -> io::Result<bool> {
        if let Some(password) = &self.target.password {
            password.renew()?;
        }
        self.idle_until = Instant::now();
        Ok(self.reads_password())
    }

    /// While there are no messages: has a connection, so that a wrong password or a missing server
    /// is told before the first one comes.
    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        if batches.first().is_some() || batches.is_closing() {
            return Ok(());
        }
        self.forget_idle_end();
        let stage = match &self.connection {
            Some(connection) => connection.take(&mut self.runs),
            None if Instant::now() < self.idle_until => return Ok(()),
            None => self.open(batches)?,
        };
        match stage {
            Stage::Opening => Ok(()),
            Stage::Open(_) => {
                self.idle.reset();
                Ok(())
            }
            Stage::Ended(why) => {
                self.idle_until = Instant::now() + self.idle.next_wait();
                Err(self.lost(&why))
            }
        }
    }
}

/// The command without its strings.
const MAX_HEAD: usize = 256;
/// A run of answers with an error of the longest text.
const MAX_RUN_BYTES: usize = 1 << 10;
/// The parser's buffer, pieces in flight, the resolver's and the handshake's stack.
const FIXED_BYTES: u64 = 1 << 20;

fn in_range(timeout: Duration) -> Duration {
    timeout.clamp(*Redis::TIMEOUT_RANGE.start(), *Redis::TIMEOUT_RANGE.end())
}
