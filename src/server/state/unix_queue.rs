//! How many clients are in the queue of a Unix listener, by the kernel's socket diagnostics
//! (sock_diag(7)): neither /proc nor FIONREAD tells.

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, Socket, Type};

// From linux/netlink.h, linux/sock_diag.h and linux/unix_diag.h.
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_UNIX: u8 = 1;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
/// Of a message (nlmsghdr), of the request (unix_diag_req) and of its answer (unix_diag_msg).
const HEAD: usize = 16;
const REQUEST: usize = 24;
const ANSWER: usize = 16;
/// Of an attribute (nlattr).
const ATTRIBUTE_HEAD: usize = 4;

/// A socket to ask by, opened at start: the queue matters most when no descriptor is left.
#[derive(Debug)]
pub(crate) struct UnixQueue(Socket);

impl UnixQueue {
    /// `None` if the system has no such socket.
    pub(crate) fn open() -> Option<UnixQueue> {
        let (family, protocol) = (Domain::from(AF_NETLINK), Protocol::from(NETLINK_SOCK_DIAG));
        Socket::new(family, Type::DGRAM, Some(protocol))
            .ok()
            .map(UnixQueue)
    }

    /// The number of clients in the queue of the listener with this inode. `None` if the kernel
    /// does not tell.
    pub(crate) fn length(&self, inode: u64) -> Option<usize> {
        let request = request(u32::try_from(inode).ok()?);
        rustix::net::send(&self.0, &request, SendFlags::DONTWAIT).ok()?;
        let mut answer = [0; 256];
        // The kernel has answered before send(2) returns.
        let (_, read) = rustix::net::recv(&self.0, &mut answer, RecvFlags::DONTWAIT).ok()?;
        length(&answer[..read])
    }
}

fn request(inode: u32) -> [u8; HEAD + REQUEST] {
    const ANY_STATE: u32 = u32::MAX;
    const NO_COOKIE: u32 = u32::MAX;
    let mut request = [0; HEAD + REQUEST];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((HEAD + REQUEST) as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(HEAD, &[AF_UNIX]);
    put(HEAD + 4, &ANY_STATE.to_ne_bytes());
    put(HEAD + 8, &inode.to_ne_bytes());
    put(HEAD + 12, &UDIAG_SHOW_RQLEN.to_ne_bytes());
    put(HEAD + 16, &NO_COOKIE.to_ne_bytes());
    put(HEAD + 20, &NO_COOKIE.to_ne_bytes());
    request
}

fn length(answer: &[u8]) -> Option<usize> {
    if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEAD + ANSWER..)?;
    loop {
        let size = usize::from(u16_at(rest, 0)?);
        if u16_at(rest, 2)? == UNIX_DIAG_RQLEN {
            let clients = rest.get(ATTRIBUTE_HEAD..ATTRIBUTE_HEAD + 4)?;
            return Some(u32::from_ne_bytes(clients.try_into().ok()?) as usize);
        }
        // Attributes begin at multiples of four.
        rest = rest.get(size.max(ATTRIBUTE_HEAD).next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Shutdown;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn the_queue_is_as_long_as_clients_wait_also_once_it_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        let queue = UnixQueue::open().unwrap();
        assert_eq!(queue.length(inode), Some(0));
        let clients: Vec<_> = (0..3)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        assert_eq!(queue.length(inode), Some(3));
        drop(clients);
        assert_eq!(
            queue.length(inode),
            Some(3),
            "who has left is accepted, too"
        );
        listener.accept().unwrap();
        let listener = Socket::from(std::os::fd::OwnedFd::from(listener));
        listener.shutdown(Shutdown::Read).unwrap();
        assert_eq!(queue.length(inode), Some(2));
        assert_eq!(queue.length(1), None, "no such socket");
    }

    #[test]
    fn an_answer_that_is_cut_short_says_nothing() {
        let mut answer = [0; HEAD + ANSWER + 11];
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        // An attribute of no length, and the one that counts.
        answer[HEAD + ANSWER + 4..][..2].copy_from_slice(&8u16.to_ne_bytes());
        answer[HEAD + ANSWER + 6..][..2].copy_from_slice(&UNIX_DIAG_RQLEN.to_ne_bytes());
        assert_eq!(length(&answer), None, "a byte is missing");
        for end in 0..answer.len() {
            assert_eq!(length(&answer[..end]), None);
        }
    }
}
