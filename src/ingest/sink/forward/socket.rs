//! What is asked of a socket to a receiver: nothing here waits but [`poll_for`]
//! and [`poll_once`].

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::Socket;

/// The most that is read at one look of what a receiver sends: it must not keep us from writing.
pub(super) const MAX_DISCARDED: u64 = 64 << 10;

/// Waits for events, at most `wait`. The peer's end of the stream is always one.
pub(super) fn poll_for(fd: impl AsFd, events: PollFlags, wait: Duration) -> io::Result<PollFlags> {
    poll_once(fd, events | PollFlags::RDHUP, wait)
}

/// The same of these events alone.
pub(super) fn poll_once(fd: impl AsFd, events: PollFlags, wait: Duration) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(&fd, events)];
    let wait = Timespec::try_from(wait).unwrap_or_default();
    match poll(&mut fds, Some(&wait)) {
        Ok(_) => Ok(fds[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

/// Throws away what is there, up to a limit, and returns how much that was.
///
/// # Errors
/// The stream has ended, or failed.
pub(super) fn discard(socket: &Socket) -> io::Result<u64> {
    let mut discarded = 0;
    let mut buf = [0; 4096];
    while discarded < MAX_DISCARDED {
        match take(socket, &mut buf) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => discarded += bytes as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(discarded)
}

/// Reads what is there.
pub(super) fn take(socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(socket, &mut *buf, RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => return Ok(bytes),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hands over what the kernel takes at once; `None` if nothing.
pub(super) fn send_now(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        let mut nothing = SendAncillaryBuffer::default();
        match rustix::net::sendmsg(socket, slices, &mut nothing, flags) {
            Ok(written) => return Ok(Some(written)),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
