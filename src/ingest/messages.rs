//! Whole messages for a handler of your own, within a limit.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use memchr::memchr;

use super::batch::buffer::{MAPPED_FROM, PAGE};
use super::batch::pool::Pool;
use super::framing::{
    Decoder, End, Event, Framing, MAX_MESSAGE, Oversize, Seen, Take, Violation, check_max_message,
};
use super::incoming::{Incoming, MIN_READ};
use super::stream_end::{PeerError, log_incomplete, log_oversize};
use crate::server::{ConfigError, Connection, DropReason, heap_bytes, sealed};

/// The buffer that bulk is read into, where messages are not longer.
const READ_BYTES: usize = 16 << 10;
/// What a decoder leaves of an unfinished message beside its `max_message` bytes, at most: a count
/// before them, or a CR or the rest of a character behind them.
const BESIDE_MESSAGE: usize = 16;
/// Replies that are gathered while more whole messages are there.
const REPLY_BYTES: usize = 4 << 10;
/// The memory of few replies, which a connection keeps while it waits.
const FEW_REPLY_BYTES: usize = 256;

/// Whole messages from a [`Connection`], for any handler.
///
/// This trait is sealed: [`Connection`] alone has it, and methods may be added.
pub trait ReadMessages: sealed::Sealed {
    /// Splits what the peer sends into messages of at most `max_message` bytes: 1 byte to 1 GiB,
    /// without their framing. A longer message ends the connection, unless
    /// [`oversize`](Messages::oversize) says otherwise.
    ///
    /// What the iterator holds on the heap is part of [`Config::handler_bytes`](crate::Config),
    /// which must be at least [`messages_bytes`]`(max_message)` and what else the handler
    /// allocates. The default of 64 KiB is enough for messages of up to 24 KiB. Where
    /// `handler_bytes` is too small or `max_message` is out of range, the first item is an error
    /// that says so, before the peer is waited for: each connection ends at once, and the log names
    /// both numbers. A program can compare the two at start.
    fn messages(&mut self, framing: Framing, max_message: usize) -> Messages<'_>;
}

impl sealed::Sealed for Connection {}

impl ReadMessages for Connection {
    fn messages(&mut self, framing: Framing, max_message: usize) -> Messages<'_> {
        Messages {
            connection: self,
            framing,
            max_message,
            pool: Pool::of_nothing(READ_BYTES),
            incoming: Incoming::new(
                Decoder::new(framing, max_message, Oversize::Close),
                max_capacity(max_message),
            ),
            found: Found::default(),
            is_truncated: false,
            replies: Vec::new(),
            has_replied: false,
            state: State::Unchecked,
        }
    }
}

/// The heap that [`messages`](ReadMessages::messages) holds at most, in bytes: what
/// [`Config::handler_bytes`](crate::Config) must be, beside what the handler allocates itself. The
/// message that was returned last is counted in.
///
/// ```
/// use drainline::{Config, ingest::messages_bytes};
///
/// let mut config = Config::default();
/// config.handler_bytes = messages_bytes(1 << 20) + (64 << 10);
/// assert!(messages_bytes(1 << 20) < (2 << 20) + (32 << 10));
/// assert!(messages_bytes(24 << 10) < Config::default().handler_bytes);
/// ```
pub fn messages_bytes(max_message: usize) -> usize {
    let buffer = match max_capacity(max_message).max(READ_BYTES) {
        small if small < MAPPED_FROM => heap_bytes(small),
        mapped => mapped.next_multiple_of(PAGE),
    };
    // A buffer and the larger one that replaces it; or a buffer and a message that is handed out.
    2 * buffer + heap_bytes(FEW_REPLY_BYTES) + heap_bytes(REPLY_BYTES)
}

/// What the buffer of unfinished messages may grow to.
fn max_capacity(max_message: usize) -> usize {
    max_message.min(MAX_MESSAGE) + BESIDE_MESSAGE + MIN_READ
}

/// The messages of one connection, in order: made by [`messages`](ReadMessages::messages).
///
/// # Reading
/// An iterator of whole messages without their framing; a handler that replies asks for each by
/// [`next_message`](Messages::next_message). Both block until a message is there, as
/// [`Connection`]'s read does, and what ends that read ends the wait: a deadline, a drain, an
/// abort. While a message is unfinished the [frame deadline](crate::Config::frame_timeout) runs, so
/// that a peer which sends a byte now and then cannot stay for ever. Never more than one unfinished
/// message and a read buffer are held, whatever the peer sends; and only a small buffer while
/// nothing comes.
///
/// `None` is the end of the stream, where a last line without its LF is a message like any other,
/// and half a counted message is not returned (the log says so). After an error there is no further
/// message. A peer that breaks the framing ends the connection, counted as
/// [`EndReason::ProtocolError`](crate::EndReason), if the handler returns the error as `?` does.
///
/// Until the first reply, reads may be delayed while the server is busy
/// ([`Connection::delay_read`]).
///
/// # Replies
/// `Messages` is [`Write`], too. What is written is gathered while more whole messages are there, 4
/// KiB at most, and is sent before the peer is waited for: a burst of pipelined requests costs a
/// few system calls. [`flush`](Write::flush) sends at once: for a handler that waits for something
/// else after a reply. Dropping the `Messages` sends the rest; an error is lost then. A write
/// blocks as [`Connection`]'s does, at most `write_timeout` for each 64 KiB.
///
/// # Examples
/// One way: each line goes to the consumer.
/// ```
/// use drainline::ingest::{Framing, ReadMessages};
/// use drainline::{BoxError, Connection, Sender};
///
/// fn handle(conn: &mut Connection, out: &Sender<String>) -> Result<(), BoxError> {
///     for line in conn.messages(Framing::Lines, 16 << 10) {
///         out.send(String::from_utf8(line?)?)?;
///     }
///     Ok(())
/// }
/// ```
///
/// Requests and replies:
/// ```
/// use std::io::{BufRead, BufReader, Write};
/// use std::net::TcpStream;
/// use std::time::Duration;
/// use drainline::ingest::{Framing, ReadMessages};
/// use drainline::Server;
///
/// let server = Server::builder::<String>()
///     .listen("127.0.0.1:0".parse()?)
///     .start_each(
///         |conn, out| {
///             let mut lines = conn.messages(Framing::Lines, 1024);
///             while let Some(line) = lines.next_message()? {
///                 let line = String::from_utf8(line)?;
///                 writeln!(lines, "{} bytes", line.len())?;
///                 out.send(line)?;
///             }
///             Ok(())
///         },
///         |_line| Ok(()),
///     )?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[0])?;
/// client.write_all(b"one\nthree\n")?;
/// let mut replies = BufReader::new(client).lines();
/// assert_eq!(replies.next().transpose()?.as_deref(), Some("3 bytes"));
/// assert_eq!(replies.next().transpose()?.as_deref(), Some("5 bytes"));
/// assert!(server.shutdown(Duration::from_secs(5)).is_balanced());
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[must_use = "messages are read when they are asked for"]
pub struct Messages<'c> {
    connection: &'c mut Connection,
    framing: Framing,
    max_message: usize,
    pool: Pool,
    incoming: Incoming,
    found: Found,
    /// The last message that was handed out is the beginning of a longer one.
    is_truncated: bool,
    replies: Vec<u8>,
    has_replied: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whether the limits hold such messages is not known yet.
    Unchecked,
    Open,
    /// The peer ended its stream: what was found is the last.
    AtEnd,
    /// The end or an error was handed out.
    Over,
}

impl Messages<'_> {
    /// What happens to a message that is longer than `max_message`. Default: [`Oversize::Close`],
    /// since a handler that replies would answer half a request. [`Oversize::Drop`] books it as
    /// received and dropped. To be called before the first message is asked for.
    pub fn oversize(mut self, oversize: Oversize) -> Self {
        self.incoming.decoder = Decoder::new(self.framing, self.max_message, oversize);
        self
    }

    /// Whether the last message that was handed out is the beginning of a longer one, as
    /// [`Oversize::Truncate`] makes it.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The connection: who it is, and the server's log.
    pub fn connection(&self) -> &Connection {
        self.connection
    }

    /// The next message, or `None` at the end of the stream: as [`next`](Iterator::next), in the
    /// order in which `?` reads it. Blocks as that does.
    ///
    /// # Errors
    /// What ended the connection, once: after an error there is `None`.
    pub fn next_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.state == State::Over {
            return Ok(None);
        }
        let next = self.advance();
        if !matches!(next, Ok(Some(_))) {
            self.state = State::Over;
        }
        next
    }

    /// What was read behind the last message that was returned: at most a read buffer. Sends the
    /// replies that are gathered, whose error is lost; [`flush`](Write::flush) first to hear of it.
    ///
    /// For a protocol that goes on in another way, such as a head of lines and a body: read this,
    /// then from the connection. The frame deadline does not run on, unless the handler reports
    /// [progress](Connection::frame_progress) of its own. Whoever drops the `Messages` instead
    /// loses these bytes.
    ///
    /// ```
    /// use std::io::Read;
    /// use drainline::ingest::{Framing, ReadMessages};
    /// use drainline::{BoxError, Connection};
    ///
    /// /// A line that says how long the body is, and the body.
    /// fn body(conn: &mut Connection) -> Result<Vec<u8>, BoxError> {
    ///     let mut lines = conn.messages(Framing::Lines, 100);
    ///     let length = lines.next_message()?.ok_or("no length")?;
    ///     let length: u16 = String::from_utf8(length)?.parse()?;
    ///     let rest = lines.into_rest();
    ///     let mut body = vec![0; length.into()];
    ///     rest.chain(&*conn).read_exact(&mut body)?;
    ///     Ok(body)
    /// }
    /// ```
    pub fn into_rest(mut self) -> Vec<u8> {
        self.connection.frame_progress(0, false);
        let start = match self.found.messages {
            0 => self.incoming.start,
            _ => self.found.bytes.start,
        };
        std::mem::take(&mut self.incoming.pending)[start..].to_vec()
    }

    /// This, borrowed, for the adapters of [`Iterator`], such as `by_ref().take(2)`. ([`Write`] has
    /// a method of this name, too.)
    pub fn by_ref(&mut self) -> &mut Self {
        self
    }

    fn advance(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.state == State::Unchecked {
            self.check_limits().map_err(io::Error::other)?;
            self.state = State::Open;
        }
        loop {
            if let Some(message) = self.found.next(&self.incoming.pending) {
                self.is_truncated = self.found.is_truncated;
                return Ok(Some(self.incoming.pending[message].to_vec()));
            }
            if let Some(violation) = self.found.violation.take() {
                let error = PeerError::broke_protocol(violation, &self.incoming);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if self.state == State::AtEnd {
                return Ok(None);
            }
            if self.decode() {
                continue;
            }
            self.flush()?;
            if self.read()? == 0 {
                log_incomplete(self.connection, &self.incoming);
                self.state = State::AtEnd;
                self.decode_end();
            }
        }
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        check_max_message(self.max_message)?;
        let (counted, needed) = (
            self.connection.handler_bytes(),
            messages_bytes(self.max_message),
        );
        if counted < needed {
            let max = self.max_message;
            return Err(ConfigError::out_of_range(
                "handler_bytes",
                counted.to_string(),
                format!("{needed} or more, for messages of up to {max} bytes"),
            ));
        }
        Ok(())
    }

    /// Looks for the next messages in what is pending. Says whether something was found.
    fn decode(&mut self) -> bool {
        self.find(|decoder, rest, finder| decoder.decode(rest, finder))
    }

    /// Looks for the last message where the stream has ended.
    fn decode_end(&mut self) {
        self.find(|decoder, rest, finder| {
            decoder.finish(rest, End::Eof, finder);
            rest.len()
        });
    }

    /// Has what is pending decoded, as far as `decode` says, and books what was found.
    fn find(&mut self, decode: impl FnOnce(&mut Decoder, &[u8], &mut Finder<'_>) -> usize) -> bool {
        let Incoming {
            decoder,
            pending,
            start,
            ..
        } = &mut self.incoming;
        let mut finder = Finder::new(&mut self.found, self.framing, pending, *start);
        *start += decode(decoder, &pending[*start..], &mut finder);
        self.book()
    }

    /// Tells the server and the log what was found, and says whether something was.
    fn book(&mut self) -> bool {
        let dropped = std::mem::take(&mut self.found.dropped);
        if dropped > 0 {
            let reason = DropReason::Oversize;
            self.connection.record_dropped(reason, dropped);
        }
        if let Some(begins) = self.found.oversize.take() {
            let (incoming, max_message) = (&self.incoming, self.max_message);
            log_oversize(
                self.connection,
                incoming,
                max_message,
                dropped,
                Some(begins),
            );
        }
        let finished = self.found.messages + dropped;
        self.connection
            .frame_progress(finished, self.incoming.is_inside());
        self.found.messages > 0 || self.found.violation.is_some()
    }

    /// Reads more behind what is left of an unfinished message.
    fn read(&mut self) -> io::Result<usize> {
        let start = std::mem::take(&mut self.incoming.start);
        self.incoming.pending.remove_front(start);
        let may_delay = !self.has_replied;
        self.incoming
            .read(self.connection, &self.pool, may_delay)
            .map_err(
                |error| match PeerError::deadline_passed(&error, &self.incoming) {
                    Some(inside) => io::Error::new(error.kind(), inside),
                    None => error,
                },
            )
    }

    /// Sends all replies, and keeps no memory of many.
    fn send_replies(&mut self) -> io::Result<()> {
        let sent = self.connection.write_all(&self.replies);
        self.replies.clear();
        self.replies.shrink_to(FEW_REPLY_BYTES);
        sent
    }
}

impl Iterator for Messages<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.next_message().transpose()
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

/// Replies to the peer.
impl Write for Messages<'_> {
    fn write(&mut self, reply: &[u8]) -> io::Result<usize> {
        self.has_replied = true;
        if self.replies.len() + reply.len() > REPLY_BYTES {
            self.send_replies()?;
        }
        if reply.len() > REPLY_BYTES {
            return self.connection.write(reply);
        }
        let len = self.replies.len() + reply.len();
        if len > self.replies.capacity() {
            let capacity = match len {
                0..=FEW_REPLY_BYTES => FEW_REPLY_BYTES,
                _ => REPLY_BYTES,
            };
            self.replies.reserve_exact(capacity - self.replies.len());
        }
        self.replies.extend_from_slice(reply);
        Ok(reply.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        self.send_replies()
    }
}

/// The last replies are sent; nobody hears of it if they cannot be.
impl Drop for Messages<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.flush();
        }
    }
}

/// Without the bytes: payloads stay out of logs.
impl fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("connection", &self.connection)
            .field("framing", &self.framing)
            .field("max_message", &self.max_message)
            .finish_non_exhaustive()
    }
}

/// Messages that a decoder found and nobody has taken yet: a single one, or a run of messages.
#[derive(Debug, Default)]
struct Found {
    /// How many.
    messages: u64,
    /// Where these messages are in the pending bytes.
    bytes: Range<usize>,
    /// What ends each message of a run. `None`: a single message, which ends where `bytes` ends.
    delimiter: Option<u8>,
    is_truncated: bool,
    /// The first message that was too long, where that does not end the connection.
    oversize: Option<Seen>,
    dropped: u64,
    /// What the peer did wrong behind these messages.
    violation: Option<Violation>,
}

impl Found {
    /// Takes the next message.
    fn next(&mut self, pending: &[u8]) -> Option<Range<usize>> {
        self.messages = self.messages.checked_sub(1)?;
        let Range { start, end } = self.bytes.clone();
        let len = self
            .delimiter
            .and_then(|delimiter| memchr(delimiter, &pending[start..end]));
        match len {
            Some(len) => {
                self.bytes.start = start + len + 1;
                Some(start..start + len)
            }
            None => Some(start..end),
        }
    }
}

/// Takes one message or one run from a decoder.
struct Finder<'a> {
    found: &'a mut Found,
    framing: Framing,
    pending: &'a [u8],
    /// Where the next event's bytes are.
    at: usize,
}

impl<'a> Finder<'a> {
    fn new(found: &'a mut Found, framing: Framing, pending: &'a [u8], at: usize) -> Self {
        Finder {
            found,
            framing,
            pending,
            at,
        }
    }

    fn find(&mut self, len: usize, messages: u64, delimiter: Option<u8>) {
        self.found.bytes = self.at..self.at + len;
        self.found.messages = messages;
        self.found.delimiter = delimiter;
        self.found.is_truncated = false;
        self.at += len;
    }

    /// The message that begins here is too long.
    fn see(&mut self) {
        let (message, framing) = (&self.pending[self.at..], self.framing);
        let seen = || Seen::of_too_long(message, framing);
        self.found.oversize.get_or_insert_with(seen);
    }
}

impl Take for Finder<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Message { len, is_truncated } => {
                if is_truncated {
                    self.see();
                }
                self.find(len, 1, None);
                self.found.is_truncated = is_truncated;
            }
            Event::Run {
                len,
                messages,
                delimiter,
            } => self.find(len, messages, Some(delimiter)),
            Event::Framing { len } | Event::Discard { len, .. } => self.at += len,
            Event::Dropped => {
                self.see();
                self.found.dropped += 1;
            }
            Event::Unterminated => {}
            Event::Violation(violation) => self.found.violation = Some(violation),
        }
    }

    fn can_take(&mut self, _: usize) -> bool {
        self.found.messages == 0
    }

    fn take_run(&mut self, len: usize, messages: u64, delimiter: u8) -> usize {
        if self.found.messages > 0 {
            return 0;
        }
        self.find(len, messages, Some(delimiter));
        len
    }
}
