//! The addresses that the command line names: whether they can be bound, found out without
//! listening.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use drainline::Address;
use rustix::fs::{Access, access};
use socket2::{Domain, Protocol, Socket, Type};

/// Whether an address can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bindable {
    Free,
    /// The server that is checked may be the one that listens there.
    InUse,
    /// A socket is there, on which somebody may listen.
    Exists,
}

/// The error of listening on an address, but that somebody listens there.
pub(super) fn check(address: &Address) -> io::Result<Bindable> {
    match address {
        Address::Tcp(address) => check_tcp(*address),
        Address::Unix(path) => check_unix(path),
        _ => Ok(Bindable::Free),
    }
}

/// Does not ask who listens: that takes a connect, which a running server would count.
fn check_unix(path: &Path) -> io::Result<Bindable> {
    let in_the_way = |what: &str| Err(io::Error::other(format!("{what} is in the way")));
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => return Ok(Bindable::Exists),
        Ok(found) if found.is_dir() => return in_the_way("a directory"),
        Ok(found) if found.is_symlink() => return in_the_way("a symbolic link"),
        Ok(_) => return in_the_way("a file that is no socket"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(Bindable::Free),
        Err(rustix::io::Errno::NOENT) => {
            let text = format!("there is no directory {}", folder.display());
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// The error of listening on an address, but that the address is in use. The socket takes the port
/// from nobody: with SO_REUSEADDR and without listen(2), another server can still bind and listen
/// (socket(7)), and one that listens already is not disturbed.
fn check_tcp(address: SocketAddr) -> io::Result<Bindable> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        Ok(()) => Ok(Bindable::Free),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Bindable::InUse),
        Err(error) => Err(error),
    }
}
