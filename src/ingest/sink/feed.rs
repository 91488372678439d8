//! Where a sink's batches come from: the server's buffer, or who hands them out to several outputs.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel as channel;
use crossbeam_channel::{TryRecvError, select};

use super::share::{LaneState, Share};
use crate::ingest::batch::Batch;
use crate::ingest::batch::pool::Pool;
use crate::server::{Delivery, Logger, Noticed, Notices, Received, Receiver};

/// A batch that came.
#[derive(Debug)]
pub(super) enum Item {
    /// For one output alone.
    Own(Delivery<Batch>),
    Shared(Share),
}

/// What a look, or a wait, brought.
// Taken apart where it comes: a box would be an allocation for each batch.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Taken {
    Item(Item),
    Nothing,
    /// A sender waits for the buffer.
    RoomWanted,
    Notice,
    Closed,
}

#[derive(Debug)]
pub(in crate::ingest) enum Feed<'a> {
    Receiver(&'a mut Receiver<Batch>),
    Lane(LaneFeed),
}

/// What is handed to one of several outputs.
#[derive(Debug)]
pub(in crate::ingest) struct LaneFeed {
    pub(super) shares: channel::Receiver<Share>,
    pub(super) state: Arc<LaneState>,
}

impl Item {
    pub(super) fn get(&self) -> &Batch {
        match self {
            Item::Own(delivery) => delivery.get(),
            Item::Shared(share) => share.get(),
        }
    }

    pub(super) fn remaining(&self) -> u64 {
        match self {
            Item::Own(delivery) => delivery.remaining(),
            Item::Shared(share) => share.remaining(),
        }
    }

    pub(super) fn ack_first(&mut self, messages: u64) {
        match self {
            Item::Own(delivery) => delivery.ack_first(messages),
            Item::Shared(share) => share.ack_first(messages),
        }
    }

    pub(super) fn refuse_first(&mut self, messages: u64) {
        match self {
            Item::Own(delivery) => delivery.refuse_first(messages),
            Item::Shared(share) => share.refuse_first(messages),
        }
    }

    /// What remains is accepted.
    pub(super) fn leave(self, pool: &Pool) {
        match self {
            Item::Own(delivery) => pool.put(delivery.ack().into_buffer()),
            Item::Shared(share) => share.leave(pool),
        }
    }
}

impl From<Received<Batch>> for Taken {
    fn from(received: Received<Batch>) -> Taken {
        match received {
            Received::Message(delivery) => Taken::Item(Item::Own(delivery)),
            Received::Timeout => Taken::Nothing,
            Received::RoomWanted => Taken::RoomWanted,
            Received::Closed => Taken::Closed,
        }
    }
}

impl From<Noticed<Batch>> for Taken {
    fn from(noticed: Noticed<Batch>) -> Taken {
        match noticed {
            Noticed::Received(received) => received.into(),
            Noticed::Notice => Taken::Notice,
        }
    }
}

impl Feed<'_> {
    pub(super) fn try_recv(&mut self) -> Taken {
        match self {
            Feed::Receiver(receiver) => receiver.try_recv().into(),
            Feed::Lane(lane) => lane.try_recv(),
        }
    }

    pub(super) fn recv_or_notice(&mut self, timeout: Duration, notices: &Notices) -> Taken {
        match self {
            Feed::Receiver(receiver) => receiver.recv_or_notice(timeout, notices).into(),
            Feed::Lane(lane) => lane.recv_or(timeout, notices.receiver()),
        }
    }

    pub(super) fn wait_for_notice(&mut self, timeout: Duration, notices: &Notices) -> bool {
        match self {
            Feed::Receiver(receiver) => receiver.wait_for_notice(timeout, notices),
            Feed::Lane(lane) => {
                let assistant = lane.state.assistant();
                assistant.waits();
                let is_given = notices.receiver().recv_timeout(timeout).is_ok();
                assistant.works();
                is_given
            }
        }
    }

    pub(super) fn wait(&mut self, duration: Duration) -> bool {
        match self {
            Feed::Receiver(receiver) => receiver.wait(duration),
            Feed::Lane(lane) => {
                let state = &lane.state;
                state.assistant().wait(duration, || state.is_over())
            }
        }
    }

    pub(super) fn is_timed_out(&self) -> bool {
        match self {
            Feed::Receiver(receiver) => receiver.is_timed_out(),
            Feed::Lane(lane) => lane.state.is_over(),
        }
    }

    pub(super) fn time_left(&self, cap: Duration) -> Duration {
        match self {
            Feed::Receiver(receiver) => receiver.time_left(cap),
            Feed::Lane(lane) => lane.state.assistant().time_left(cap),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        match self {
            Feed::Receiver(receiver) => receiver.is_closing(),
            Feed::Lane(lane) => lane.state.assistant().is_closing(),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        match self {
            Feed::Receiver(receiver) => receiver.is_draining(),
            Feed::Lane(lane) => lane.state.assistant().is_draining(),
        }
    }

    pub(super) fn is_room_wanted(&self) -> bool {
        match self {
            Feed::Receiver(receiver) => receiver.is_room_wanted(),
            Feed::Lane(lane) if lane.state.is_required() => lane.state.assistant().is_room_wanted(),
            Feed::Lane(lane) => lane.state.is_half_full(),
        }
    }

    pub(super) fn logger(&self) -> &Logger {
        match self {
            Feed::Receiver(receiver) => receiver.logger(),
            Feed::Lane(lane) => lane.state.assistant().logger(),
        }
    }

    /// The name under which the watchdog knows the consumer. A lane has the name of its output.
    pub(super) fn set_name(&self, name: &str) {
        if let Feed::Receiver(receiver) = self {
            receiver.set_name(name);
        }
    }
}

impl LaneFeed {
    fn try_recv(&mut self) -> Taken {
        if self.state.is_over() {
            return Taken::Closed;
        }
        match self.shares.try_recv() {
            Ok(share) => Taken::Item(Item::Shared(share)),
            Err(TryRecvError::Empty) => Taken::Nothing,
            Err(TryRecvError::Disconnected) => Taken::Closed,
        }
    }

    /// Waits for a share, at most `timeout`.
    pub(super) fn recv(&mut self, timeout: Duration) -> Taken {
        self.recv_or(timeout, &channel::never())
    }

    fn recv_or(&mut self, timeout: Duration, notices: &channel::Receiver<()>) -> Taken {
        let assistant = self.state.assistant();
        assistant.waits();
        let taken = select! {
            recv(self.shares) -> share => match share {
                Ok(share) => Taken::Item(Item::Shared(share)),
                Err(_) => Taken::Closed,
            },
            recv(notices) -> _ => Taken::Notice,
            default(timeout) => Taken::Nothing,
        };
        assistant.works();
        match taken {
            // A share that came too late is lost with the others.
            Taken::Item(_) | Taken::Nothing | Taken::Notice if self.state.is_over() => {
                Taken::Closed
            }
            taken => taken,
        }
    }
}
