//! The sending end of the channel: what a handler holds.

use std::cell::Cell;
use std::fmt;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};

use crate::policy::Weight;
use crate::server::config::{Config, WhenFull};
use crate::server::error::SendError;
use crate::server::ledger::DropReason;
use crate::server::state::connection_state::Record;
use crate::server::state::quota::{Budget, Patience, Room};

/// An item that says it holds more messages is counted as if it held these: sums must not overflow.
const MOST_MESSAGES: u64 = u32::MAX as u64;

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
pub(crate) struct Parcel<T> {
    pub(crate) item: T,
    pub(crate) weight: Weight,
}

/// The sending end: a handler's way to the consumer.
///
/// It can only send. It is neither `Clone` nor `Sync`, so a connection has at most one send waiting, and
/// the end of the handlers is the end of the channel. This compiles:
///
/// ```
/// fn send(out: &drainline::Outbox<String>) {
///     let _ = out.send(String::new());
/// }
/// ```
/// and none of these does:
/// ```compile_fail
/// fn twice(out: &drainline::Outbox<String>) -> drainline::Outbox<String> {
///     out.clone() // a &Outbox: there is no other one to be had
/// }
/// ```
/// ```compile_fail
/// fn receive(out: &drainline::Outbox<String>) {
///     let _ = out.recv(std::time::Duration::ZERO); // no such method
/// }
/// ```
/// ```compile_fail
/// fn is_shared<T: Sync>() {}
/// is_shared::<drainline::Outbox<String>>();
/// ```
pub struct Outbox<T> {
    sender: Sender<Box<Parcel<T>>>,
    budget: Arc<Budget>,
    record: Arc<Record>,
    when_full: WhenFull,
    send_timeout: Duration,
    /// `WhenFull::Drop`: the last send found no room, so the next one does not wait. The Cell also keeps
    /// the Outbox from being Sync.
    given_up: Cell<bool>,
}

impl<T: Weigh> Outbox<T> {
    pub(crate) fn new(
        sender: Sender<Box<Parcel<T>>>,
        budget: Arc<Budget>,
        record: Arc<Record>,
        config: &Config,
    ) -> Self {
        Outbox {
            sender,
            budget,
            record,
            when_full: config.when_full,
            send_timeout: config.send_timeout,
            given_up: Cell::new(false),
        }
    }

    /// Sends one item to the consumer. It is booked as received now; it is delivered when the consumer
    /// says so.
    ///
    /// Blocks while the buffer has no room for it, first come, first served: at most `send_timeout`, or as
    /// long as it takes where `when_full` is [`WhenFull::Wait`]. Room, an abort and a shutdown end the
    /// wait.
    ///
    /// # Errors
    /// The item comes back, already booked as dropped. [`SendError::Full`]: go on.
    /// [`SendError::Aborted`] and [`SendError::Closed`]: return from the handler.
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let weight = Weight {
            messages: item.messages().clamp(1, MOST_MESSAGES),
            bytes: (item.bytes() as u64).saturating_add(heap_bytes(size_of::<Parcel<T>>()) as u64),
        };
        match self.budget.enter(&self.record, weight, self.patience()) {
            Room::Granted => {
                self.given_up.set(false);
                self.put(item, weight)
            }
            Room::Refused(DropReason::Full) => {
                self.given_up.set(true);
                Err(SendError::Full(item))
            }
            // An item that could never fit says nothing about whether there is room.
            Room::Refused(DropReason::Oversize) => Err(SendError::Full(item)),
            Room::Refused(DropReason::Aborted) => Err(SendError::Aborted(item)),
            Room::Refused(_) => Err(SendError::Closed(item)),
        }
    }

    /// Books messages that the handler drops before they reach a send: received, and dropped for `reason`. At
    /// most 2^32 - 1 at a time.
    pub fn dropped(&self, reason: DropReason, messages: u64) {
        self.budget.dropped(reason, messages.min(MOST_MESSAGES));
    }

    /// Books messages that the handler has in hand after a send that ended its connection: received, and dropped for
    /// the reason of that send. One lock for all of them.
    pub(crate) fn dropped_after_end(&self, messages: u64) {
        self.budget
            .dropped_after(&self.record, messages.min(MOST_MESSAGES));
    }

    /// The wait is over: with room granted there is a slot, since every item weighs a message and there are
    /// as many slots as messages. A timeout here would be a bug of ours; it is counted, not hidden.
    fn put(&self, item: T, weight: Weight) -> Result<(), SendError<T>> {
        let parcel = Box::new(Parcel { item, weight });
        match self.sender.send_timeout(parcel, self.send_timeout) {
            Ok(()) => {
                self.record.add_messages(weight.messages);
                Ok(())
            }
            Err(SendTimeoutError::Timeout(parcel)) => {
                self.budget.undo(weight, DropReason::NoSlot);
                Err(SendError::Full(parcel.item))
            }
            Err(SendTimeoutError::Disconnected(parcel)) => {
                self.budget.undo(weight, DropReason::Shutdown);
                Err(SendError::Closed(parcel.item))
            }
        }
    }

    fn patience(&self) -> Patience {
        match self.when_full {
            WhenFull::Abort => Patience::Abort(self.send_timeout),
            WhenFull::Drop if self.given_up.get() => Patience::None,
            WhenFull::Drop => Patience::Drop(self.send_timeout),
            WhenFull::Wait => Patience::Endless,
        }
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("connection", &self.record.id)
            .finish_non_exhaustive()
    }
}
