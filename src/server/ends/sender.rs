//! The sending end of the channel: what a handler holds.

use std::cell::Cell;
use std::fmt;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel as channel;
use crossbeam_channel::SendTimeoutError;

use crate::policy::Weight;
use crate::server::config::{Config, WhenFull};
use crate::server::error::SendError;
use crate::server::ledger::DropReason;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::quota::{Acquired, Patience, Quota};

/// An item that says it holds more messages is counted as if it held these: sums must not overflow.
const MAX_MESSAGES: u64 = u32::MAX as u64;

/// What an item counts against the buffer's two bounds. Asked once, when it is sent.
pub trait Weigh {
    /// Messages that the item holds. An item that says 0 counts as 1, one that says more than 2^32 - 1 as that.
    fn messages(&self) -> u64 {
        1
    }

    /// Heap that the item holds, in bytes: [`heap_bytes`] of each allocation's capacity, not of its length. The item
    /// itself is added to it.
    fn bytes(&self) -> usize;
}

/// What an allocation of `bytes` takes of the heap: glibc's malloc puts 8 bytes before it, hands out multiples of 16, and
/// at least 32 (malloc(3) and its `malloc_usable_size`). A vector of no capacity allocates nothing.
pub fn heap_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => bytes.saturating_add(8).next_multiple_of(16).max(32),
    }
}

impl Weigh for Vec<u8> {
    fn bytes(&self) -> usize {
        heap_bytes(self.capacity())
    }
}

impl Weigh for String {
    fn bytes(&self) -> usize {
        heap_bytes(self.capacity())
    }
}

/// An item in the channel, with what it was weighed at. Boxed, so that a slot is one word.
pub(crate) struct Envelope<T> {
    pub(crate) item: T,
    pub(crate) weight: Weight,
}

/// The sending end: a handler's way to the consumer.
///
/// It can only send. It is neither `Clone` nor `Sync`, so a connection has at most one send waiting, and
/// the end of the handlers is the end of the channel. This compiles:
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
    /// `WhenFull::Drop`: the last send found no room, so the next one does not wait. The Cell also keeps
    /// the Sender from being Sync.
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
            given_up: Cell::new(false),
        }
    }

    /// Sends one item to the consumer. It is booked as received now; it is delivered when the consumer
    /// says so.
    ///
    /// Blocks while the buffer has no room for it, first come, first served: at most `send_timeout`, or as
    /// long as it takes where `when_full` is [`WhenFull::Block`]. Room, an abort and a shutdown end the
    /// wait.
    ///
    /// # Errors
    /// The item comes back, already booked as dropped. [`SendError::Full`]: go on.
    /// [`SendError::Aborted`] and [`SendError::Closed`]: return from the handler.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let weight = Weight {
            messages: item.messages().clamp(1, MAX_MESSAGES),
            bytes: (item.bytes() as u64)
                .saturating_add(heap_bytes(size_of::<Envelope<T>>()) as u64),
        };
        match self.quota.acquire(&self.state, weight, self.patience()) {
            Acquired::Granted => {
                self.given_up.set(false);
                self.put(item, weight)
            }
            Acquired::Refused(DropReason::Full) => {
                self.given_up.set(true);
                Err(SendError::Full(item))
            }
            // An item that could never fit says nothing about whether there is room.
            Acquired::Refused(DropReason::Oversize) => Err(SendError::Full(item)),
            Acquired::Refused(DropReason::ConnectionClosed) => Err(SendError::Aborted(item)),
            Acquired::Refused(_) => Err(SendError::Closed(item)),
        }
    }

    /// Books messages that the handler drops before they reach a send: received, and dropped for `reason`. At
    /// most 2^32 - 1 at a time.
    pub fn dropped(&self, reason: DropReason, messages: u64) {
        self.quota.dropped(reason, messages.min(MAX_MESSAGES));
    }

    /// Books messages that the handler has in hand after a send that ended its connection: received, and dropped for
    /// the reason of that send. One lock for all of them.
    pub(crate) fn dropped_after_end(&self, messages: u64) {
        self.quota
            .dropped_after(&self.state, messages.min(MAX_MESSAGES));
    }

    /// The wait is over: with room granted there is a slot, since every item weighs a message and there are
    /// as many slots as messages. A timeout here would be a bug of ours; it is counted, not hidden.
    fn put(&self, item: T, weight: Weight) -> Result<(), SendError<T>> {
        let envelope = Box::new(Envelope { item, weight });
        match self.channel.send_timeout(envelope, self.send_timeout) {
            Ok(()) => {
                self.state.add_messages(weight.messages);
                Ok(())
            }
            Err(SendTimeoutError::Timeout(envelope)) => {
                self.quota.undo(weight, DropReason::NoSlot);
                Err(SendError::Full(envelope.item))
            }
            Err(SendTimeoutError::Disconnected(envelope)) => {
                self.quota.undo(weight, DropReason::Shutdown);
                Err(SendError::Closed(envelope.item))
            }
        }
    }

    fn patience(&self) -> Patience {
        match self.when_full {
            WhenFull::Abort => Patience::Abort(self.send_timeout),
            WhenFull::Drop if self.given_up.get() => Patience::None,
            WhenFull::Drop => Patience::Drop(self.send_timeout),
            WhenFull::Block => Patience::Endless,
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("connection", &self.state.id)
            .finish_non_exhaustive()
    }
}
