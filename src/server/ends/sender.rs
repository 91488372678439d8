//! The sending end of the buffer, which a handler holds.

use std::cell::Cell;
use std::fmt;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel as channel;
use crossbeam_channel::SendTimeoutError;

use super::reply::{NoAnswer, Reply};
use super::weigh::{MAX_MESSAGES, Weigh};
use crate::policy::{Activity, Weight};
use crate::server::config::{Config, WhenFull};
use crate::server::error::{Ended, RequestError, SendError, TooHeavy, TrySendError};
use crate::server::ledger::{DropReason, EndReason};
use crate::server::limits::heap_bytes;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::quota::{Acquired, Quota, SendWait, Unavailable};

/// An item in the channel, with its weight and its listener. Boxed in the channel, so that a slot
/// is one word.
pub(crate) struct Envelope<T> {
    pub(crate) item: T,
    bytes: u64,
    /// [`MAX_MESSAGES`] at most.
    messages: u32,
    listener: u32,
}

impl<T> Envelope<T> {
    fn new(item: T, weight: Weight, listener: usize) -> Self {
        Envelope {
            item,
            bytes: weight.bytes,
            messages: weight.messages as u32,
            listener: listener as u32,
        }
    }

    pub(crate) fn weight(&self) -> Weight {
        Weight {
            messages: self.messages.into(),
            bytes: self.bytes,
        }
    }

    /// The index of the listener whose connection sent the item.
    pub(crate) fn listener(&self) -> usize {
        self.listener as usize
    }
}

/// The sending end of the buffer: sends a handler's messages to the consumer.
///
/// A sender can only send. It is neither `Clone` nor `Sync`, so a connection has at most one send
/// waiting, and the channel ends when the last handler has ended. This compiles:
///
/// ```
/// fn send(out: &drainline::Sender<String>) {
///     let _ = out.send(String::new());
/// }
/// ```
/// and none of these does:
/// ```compile_fail
/// fn twice(out: &drainline::Sender<String>) -> drainline::Sender<String> {
///     out.clone() // a &Sender: there is no other one to be had
/// }
/// ```
/// ```compile_fail
/// fn receive(out: &drainline::Sender<String>) {
///     let _ = out.recv(std::time::Duration::ZERO); // no such method
/// }
/// ```
/// ```compile_fail
/// fn is_shared<T: Sync>() {}
/// is_shared::<drainline::Sender<String>>();
/// ```
pub struct Sender<T> {
    channel: channel::Sender<Box<Envelope<T>>>,
    quota: Arc<Quota>,
    state: Arc<ConnectionState>,
    when_full: WhenFull,
    send_timeout: Duration,
    /// What the whole buffer holds.
    limit: Weight,
    /// With `WhenFull::Drop`: the last send gave up waiting, so the next send does not wait. The
    /// Cell also keeps the Sender from being Sync.
    given_up: Cell<bool>,
}

impl<T: Weigh> Sender<T> {
    pub(crate) fn new(
        channel: channel::Sender<Box<Envelope<T>>>,
        quota: Arc<Quota>,
        state: Arc<ConnectionState>,
        config: &Config,
    ) -> Self {
        Sender {
            channel,
            quota,
            state,
            when_full: config.when_full,
            send_timeout: config.send_timeout,
            limit: config.buffer_limit(),
            given_up: Cell::new(false),
        }
    }

    /// Sends one item to the consumer. The item is counted as received now, and as delivered when
    /// the consumer acknowledges it.
    ///
    /// Blocks while the buffer has too little space for the item, first come, first served: at most
    /// `send_timeout`, or as long as it takes if `when_full` is [`WhenFull::Block`]. Free space, an
    /// abort and a shutdown end the wait.
    ///
    /// # Errors
    /// The error returns the item, which is already counted as dropped. After [`SendError::Full`]
    /// and [`SendError::TooHeavy`] the handler may go on; after [`SendError::Aborted`] and
    /// [`SendError::Closed`] it should return.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let weight = weigh(&item);
        match self.quota.acquire(&self.state, weight, self.send_wait()) {
            Acquired::Granted => {
                self.given_up.set(false);
                self.put(item, weight)
            }
            Acquired::Refused(DropReason::Full) => {
                self.given_up.set(true);
                Err(SendError::Full(item))
            }
            Acquired::Refused(DropReason::Oversize) => {
                Err(SendError::TooHeavy(self.too_heavy(item, weight)))
            }
            Acquired::Refused(DropReason::ConnectionClosed) => Err(SendError::Aborted(item)),
            Acquired::Refused(_) => Err(SendError::Closed(item)),
        }
    }

    /// Sends one item if the buffer has space for it now and no other send waits. Never blocks.
    ///
    /// Sends that wait come first, so while others keep the buffer full, hardly a try succeeds
    /// however often it is made: beside eight handlers that sent 20,000 items, one of 11 million
    /// did. Use this for what may be lost or has another way out, such as a reply that the server
    /// is busy; a handler that has to get its items in calls [`send`](Sender::send).
    ///
    /// # Errors
    /// The error returns the item, which is not counted: send it later, or keep it.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let weight = weigh(&item);
        match self.quota.try_acquire(&self.state, weight) {
            Ok(()) => self
                .put(item, weight)
                .map_err(|error| TrySendError::Ended(error.into_inner())),
            Err(Unavailable::Busy) => Err(TrySendError::Full(item)),
            Err(Unavailable::TooHeavy) => Err(TrySendError::TooHeavy(self.too_heavy(item, weight))),
            Err(Unavailable::Ended) => Err(TrySendError::Ended(item)),
        }
    }

    /// Sends a message that asks for an answer, and waits for that answer. `make` is given the
    /// [`Reply`] to put into the message; whoever has the message answers.
    ///
    /// Blocks as [`send`](Sender::send) does, and then until the answer is there, the reply is
    /// dropped (also by a consumer that failed), or the connection ends: an abort and the handlers'
    /// deadline of a drain end the wait. Before that deadline, requests are answered during a drain
    /// as ever.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use drainline::ingest::{Framing, ReadMessages};
    /// use drainline::{Reply, Server, Weigh};
    ///
    /// struct Count { word: String, reply: Reply<usize> }
    ///
    /// impl Weigh for Count {
    ///     // A reply has a weight, too: the slot for the answer.
    ///     fn bytes(&self) -> usize { self.word.bytes() + self.reply.bytes() }
    /// }
    ///
    /// let mut words: Vec<String> = Vec::new();
    /// let server = Server::builder::<Count>()
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .start_each(
    ///         |conn, out| {
    ///             let mut words = conn.messages(Framing::Lines, 100);
    ///             while let Some(word) = words.next_message()? {
    ///                 let word = String::from_utf8(word)?;
    ///                 let count = out.request(|reply| Count { word, reply })?;
    ///                 writeln!(words, "{count}")?;
    ///             }
    ///             Ok(())
    ///         },
    ///         move |Count { word, reply }| {
    ///             words.push(word);
    ///             reply.send(words.len());
    ///             Ok(())
    ///         },
    ///     )?;
    ///
    /// let mut client = TcpStream::connect(server.local_addrs()[0])?;
    /// client.write_all(b"one\ntwo\n")?;
    /// client.shutdown(std::net::Shutdown::Write)?;
    /// let mut counts = String::new();
    /// client.read_to_string(&mut counts)?;
    /// assert_eq!(counts, "1\n2\n");
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    ///
    /// # Errors
    /// See [`RequestError`]. A request that could not be sent is counted as dropped.
    pub fn request<R>(&self, make: impl FnOnce(Reply<R>) -> T) -> Result<R, RequestError> {
        let (reply, answer) = Reply::new();
        let ended = |reason: Option<EndReason>| {
            RequestError::Ended(Ended(reason.unwrap_or(EndReason::Shutdown)))
        };
        match self.send(make(reply)) {
            Ok(()) => {}
            Err(SendError::Full(_)) => return Err(RequestError::Full),
            Err(SendError::TooHeavy(TooHeavy { weight, .. })) => {
                return Err(RequestError::TooHeavy(self.too_heavy((), weight)));
            }
            Err(_) => return Err(ended(self.state.ended())),
        }
        self.state.enter(Activity::Asking);
        let outcome = answer.wait(|| self.state.ended());
        self.state.enter(Activity::Working);
        outcome.map_err(|none| match none {
            NoAnswer::Dropped => RequestError::Unanswered,
            NoAnswer::Ended(reason) => ended(Some(reason)),
        })
    }

    /// Counts messages that the handler drops without sending them: as received, and as dropped for
    /// `reason`. At most 2^32 - 1 at a time.
    pub fn record_dropped(&self, reason: DropReason, messages: u64) {
        self.quota
            .dropped(&self.state, reason, messages.min(MAX_MESSAGES));
    }

    /// Counts messages that the handler still holds after a send that ended its connection: as
    /// received, and as dropped for the reason of that send. Locks once for all of them.
    pub(crate) fn record_dropped_after_end(&self, messages: u64) {
        self.quota
            .dropped_after(&self.state, messages.min(MAX_MESSAGES));
    }

    /// Puts an item whose capacity was granted into the channel. That never waits: every item
    /// counts as a message at least, and there are as many slots as messages. A timeout here would
    /// be a bug of this crate, and is counted.
    fn put(&self, item: T, weight: Weight) -> Result<(), SendError<T>> {
        let listener = self.state.listener.index();
        let envelope = Box::new(Envelope::new(item, weight, listener));
        match self.channel.send_timeout(envelope, self.send_timeout) {
            Ok(()) => {
                self.state.add_messages(weight.messages);
                Ok(())
            }
            Err(SendTimeoutError::Timeout(envelope)) => {
                self.quota.undo(listener, weight, DropReason::NoSlot);
                Err(SendError::Full(envelope.item))
            }
            Err(SendTimeoutError::Disconnected(envelope)) => {
                self.quota.undo(listener, weight, DropReason::Shutdown);
                Err(SendError::Closed(envelope.item))
            }
        }
    }

    fn too_heavy<I>(&self, item: I, weight: Weight) -> TooHeavy<I> {
        TooHeavy {
            item,
            weight,
            limit: self.limit,
        }
    }

    fn send_wait(&self) -> SendWait {
        match self.when_full {
            WhenFull::Abort => SendWait::AbortAfter(self.send_timeout),
            WhenFull::Drop if self.given_up.get() => SendWait::Never,
            WhenFull::Drop => SendWait::DropAfter(self.send_timeout),
            WhenFull::Block => SendWait::Forever,
        }
    }
}

fn weigh<T: Weigh>(item: &T) -> Weight {
    let envelope = heap_bytes(size_of::<Envelope<T>>()) as u64;
    Weight {
        messages: item.messages().clamp(1, MAX_MESSAGES),
        bytes: (item.bytes() as u64).saturating_add(envelope),
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("connection", &self.state.id)
            .finish_non_exhaustive()
    }
}
