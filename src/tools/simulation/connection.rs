//! A connection, from the kernel's queue to its end.

use std::time::Duration;

use drainline::policy::{Ticket, TokenBucket, Watch, Weight};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    pub(super) crowd: usize,
    /// Its number in the crowd.
    pub(super) place: usize,
    /// Whole messages that the kernel took, on the connections that it has left.
    pub(super) sent: u64,
    pub(super) connection: Option<usize>,
    /// Grows with each connection, and when it goes: what was planned before is out of date.
    pub(super) epoch: u32,
    /// Attempts in a row that failed.
    pub(super) failures: u32,
}

/// What a handler does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HandlerState {
    /// The connection has no handler yet: the kernel holds it.
    #[default]
    Queued,
    /// The handler has read all there was and waits for more. Its client is there.
    Idle,
    /// The handler is at work.
    Reading,
    Sending(Ticket),
    /// Held back by its rate limit.
    Pausing,
    Over,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) crowd: usize,
    pub(super) state: HandlerState,
    /// What its client had sent on earlier ones.
    pub(super) base: u64,
    /// Messages read. Not kept while it is idle: then it is all that is due.
    pub(super) read: u64,
    /// All that was sent, once the client has hung up.
    pub(super) end: Option<u64>,
    /// Messages that its sockets had taken when they were full. The client sends nothing until it
    /// is told of room.
    pub(super) full_at: Option<u64>,
    /// Read, and not yet in the buffer.
    pub(super) held: u64,
    /// What waits in line.
    pub(super) offered: Weight,
    pub(super) is_eager: bool,
    /// The last send found no room, and nothing has found room since.
    pub(super) given_up: Option<u64>,
    pub(super) turns: u32,
    pub(super) watch: Watch,
    pub(super) bucket: Option<TokenBucket>,
    /// When the client connected; of one that sends as fast as it can, when it was told of room
    /// last.
    pub(super) since: Duration,
}
