//! The addresses that the command line names: whether they can be bound, found out without
//! listening.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Whether an address can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bindable {
    Free,
    /// The server that is checked may be the one that listens there.
    InUse,
}

/// The error of listening on an address, but that the address is in use. The socket takes the port
/// from nobody: with SO_REUSEADDR and without listen(2), another server can still bind and listen
/// (socket(7)), and one that listens already is not disturbed.
pub(super) fn check(address: SocketAddr) -> io::Result<Bindable> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        Ok(()) => Ok(Bindable::Free),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Bindable::InUse),
        Err(error) => Err(error),
    }
}
