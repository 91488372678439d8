//! What is between a session that encrypts and the stream below it.

use std::io;

/// The longest name of a peer, in bytes: DNS has none that is longer.
pub(crate) const MAX_PEER_NAME: usize = 253;

/// Hands bytes to the kernel.
pub(crate) trait SendNow {
    /// Hands over what the kernel takes at once, and returns how many bytes that were.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// What is below a session: the raw stream.
pub(crate) trait Wire: SendNow {
    /// Reads into `buf`, which is not empty. Waits only where `waits` says so.
    ///
    /// # Errors
    /// The stream is over, and stays so.
    fn receive(&self, buf: &mut [u8], waits: bool) -> io::Result<Received>;

    /// Shows how many records came, and whether one has begun that is not whole: before each wait
    /// for the peer.
    fn show(&self, records: u32, is_inside: bool);

    /// Waits until the kernel takes bytes again, or for a moment.
    ///
    /// # Errors
    /// As [`receive`](Wire::receive).
    fn wait_writable(&self) -> io::Result<()>;
}

/// What a read of the raw stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes(usize),
    /// There is nothing now.
    Nothing,
    /// The peer has closed its half of the connection.
    End,
}

/// What a read of the session brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Bytes(usize),
    /// There is nothing now.
    Nothing,
    /// The peer has ended its stream, and said so under the protection of the session.
    End,
    /// The connection was closed without that: whoever is in between could have cut the stream.
    Unclosed,
}

/// Why a session does not begin, or cannot go on.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The raw stream is over.
    Ended(io::Error),
    /// The peer has gone before it sent anything.
    Silent,
    /// The peer has gone inside the handshake.
    Gone,
    /// The peer has broken the protocol, in words.
    Peer(String),
    /// The peer does not go on, as it says by an alert, in words.
    Refused(String),
    /// The peer may not stay, in words.
    NotAllowed(String),
}
