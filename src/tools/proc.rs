//! What /proc says about a process and about sockets (proc(5)). The benches and the tests of this
//! crate include this file, so it needs nothing of the crate.
#![allow(
    dead_code,
    reason = "the program, the benches and the tests each use a part of it"
)]

use std::fs;
use std::io;
use std::net::SocketAddr;

use memchr::{memchr, memmem, memrchr};

/// Threads that the kernel still lists. A joined thread stays on the list for a moment.
pub(crate) fn threads(pid: u32) -> io::Result<u64> {
    status(pid, "Threads:")
}

/// Resident memory. A process that has ended and is not waited for has none, which is an error.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    Ok(status(pid, "VmRSS:")? << 10)
}

/// The most resident memory since the process began.
pub(crate) fn peak_resident_bytes(pid: u32) -> io::Result<u64> {
    Ok(status(pid, "VmHWM:")? << 10)
}

/// Open descriptors.
pub(crate) fn descriptors(pid: u32) -> io::Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// The number after `key` in the status of a process.
pub(crate) fn status(pid: u32, key: &str) -> io::Result<u64> {
    number(&format!("/proc/{pid}/status"), key)
}

/// The number after `key` in a file of lines.
pub(crate) fn number(path: &str, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let first = line.and_then(|line| line.split_whitespace().next());
    let missing = || io::Error::other(format!("no number after {key} in {path}: {text}"));
    first
        .and_then(|first| first.parse().ok())
        .ok_or_else(missing)
}

/// The state of a socket that listens (TCP_LISTEN).
pub(crate) const LISTEN: &str = "0A";

/// A row of the system's table of IPv4 sockets (proc_net_tcp in the kernel's documentation).
/// Addresses and ports stand in the table as hexadecimal numbers.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) state: String,
    /// Bytes that the kernel holds and that nobody has read yet; of one that listens, the clients
    /// in its queue.
    pub(crate) unread: u64,
}

/// Sockets whose own port is this one. Thousands of rows may be others', so only rows that have
/// the port somewhere are read.
pub(crate) fn sockets_at(number: u16) -> io::Result<Vec<Socket>> {
    let table = fs::read("/proc/net/tcp")?;
    let port = port(number);
    let mut sockets = Vec::new();
    let mut rest = &table[..];
    while let Some(found) = memmem::find(rest, port.as_bytes()) {
        let begin = memrchr(b'\n', &rest[..found]).map_or(0, |end| end + 1);
        let end = memchr(b'\n', &rest[found..]).map_or(rest.len(), |end| found + end);
        let row = str::from_utf8(&rest[begin..end]).ok().and_then(socket);
        sockets.extend(row.filter(|socket| socket.local.ends_with(&port)));
        rest = &rest[end..];
    }
    Ok(sockets)
}

fn socket(row: &str) -> Option<Socket> {
    let mut columns = row.split_ascii_whitespace().skip(1).map(str::to_owned);
    let mut next = || columns.next();
    let (local, remote, state) = (next()?, next()?, next()?);
    let queues = next()?;
    let (_, unread) = queues.split_once(':')?;
    Some(Socket {
        local,
        remote,
        state,
        unread: u64::from_str_radix(unread, 16).ok()?,
    })
}

/// A port as it ends an address in the table.
pub(crate) fn port(port: u16) -> String {
    format!(":{port:04X}")
}

/// Whether a socket of this machine listens on this IPv4 address. Asks without connecting.
pub(crate) fn is_listening(address: SocketAddr) -> io::Result<bool> {
    let SocketAddr::V4(address) = address else {
        return Err(io::Error::other(format!("{address} is not IPv4")));
    };
    // The address as the machine's own number of those four bytes, the port as a number.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let local = format!("{ip:08X}{}", port(address.port()));
    let listens = |socket: &Socket| socket.local == local && socket.state == LISTEN;
    Ok(sockets_at(address.port())?.iter().any(listens))
}
