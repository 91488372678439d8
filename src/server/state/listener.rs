//! A listening socket: how it is bound, what accepting from it can mean, and how it goes away and comes
//! back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};

use super::accept_queue::{Queued, SocketTable};
use super::connection_state::ListenerName;
use crate::server::config::{Config, OnOverload};
use crate::server::deadline::Deadline;

/// Drops a segment with SYN, and keeps all others whole: a filter of a TCP socket begins at the TCP header (socket(7),
/// SO_ATTACH_FILTER), whose 14th byte has the flags (RFC 9293, section 3.1).
const NO_SYN: &[SockFilter] = {
    const LOAD_BYTE: u16 = 0x30;
    const SKIP_UNLESS_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    &[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(SKIP_UNLESS_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
};

/// A bound socket, listening. It never blocks.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) name: ListenerName,
    backlog: i32,
    /// Whoever handed it in may go on with it, and it may not come back when it was shut down.
    pub(crate) is_inherited: bool,
    /// Keeps the port ours while this socket is shut down: see [`guard`].
    guard: Option<Socket>,
    /// Keeps the same port of the other family from everybody: see [`Listener::guard_other_family`].
    other_family: Option<Socket>,
    pub(crate) is_shut_down: bool,
    ignores_connects: bool,
    /// Where there is none, nobody knows how many are in its queue.
    table: Option<SocketTable>,
}

/// What became of one accept(2).
#[derive(Debug)]
pub(crate) enum Accepted {
    Client(TcpStream, SocketAddr),
    /// Nobody is left in the kernel's queue.
    Nobody,
    /// The client was gone before it was accepted, or a network error was pending on it (accept(2),
    /// "Error handling"): the next one may do.
    Gone,
    /// The system has no descriptor or no memory: the client stays in the queue.
    Starved(io::Error),
}

impl Listener {
    /// Binds and listens, with the options that accepted sockets inherit on Linux (tcp(7)): keepalive and
    /// TCP_NODELAY cost nothing per connection that way.
    ///
    /// A socket bound to port 0 that is shut down comes back on another port. So the port is found with one
    /// socket, and a second one is bound to it by number.
    ///
    /// `only_v6`: IPv4 clients of `[::]` belong to another listener on the port (ipv6(7), IPV6_V6ONLY).
    pub(crate) fn bind(
        address: SocketAddr,
        only_v6: bool,
        config: &Config,
    ) -> io::Result<Listener> {
        let first = bind(address, only_v6)?;
        let bound = first
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = if address.port() == 0 {
            bind(bound, only_v6)?
        } else {
            first
        };
        // The kernel cuts it to net.core.somaxconn (listen(2)).
        let backlog = config.backlog.map_or(i32::MAX, |backlog| {
            i32::try_from(backlog).unwrap_or(i32::MAX)
        });
        set_inherited_options(&socket, config)?;
        let guard = match config.on_overload {
            OnOverload::Refuse => Some(guard(bound, only_v6)?),
            OnOverload::Backlog | OnOverload::Close => None,
        };
        listen(&SockRef::from(&socket), guard.as_ref(), backlog)?;
        Ok(Listener {
            socket: socket.into(),
            address: bound,
            name: ListenerName::new(0, ""),
            backlog,
            is_inherited: false,
            guard,
            other_family: None,
            is_shut_down: false,
            ignores_connects: false,
            table: SocketTable::open(bound),
        })
    }

    /// Whoever has the port in the other family alone, with SO_REUSEPORT, is then allowed to bind it in both: the kernel
    /// takes the user and the wildcard address for those that it has last let in (`sk_reuseport_match` in
    /// net/ipv4/inet_connection_sock.c), and does not look for conflicts with our socket, which is not listening while it is
    /// shut down. So that port is ours, too. Call it when all listeners are bound: it fails where another one of ours has
    /// the port in that family, or somebody else who was there before.
    fn guard_other_family(&mut self) -> io::Result<()> {
        let others: IpAddr = match self.is_v4() {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let others = SocketAddr::new(others, self.address.port());
        self.other_family = Some(guard(others, others.is_ipv6())?);
        Ok(())
    }

    fn is_v4(&self) -> bool {
        self.address.ip().to_canonical().is_ipv4()
    }

    /// It can be shut down and come back, and meanwhile the port is ours.
    pub(crate) fn can_refuse(&self) -> bool {
        self.guard.is_some()
    }

    /// Takes over a listener that is bound and listens already.
    pub(crate) fn inherit(socket: TcpListener, config: &Config) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        set_inherited_options(&SockRef::from(&socket), config)?;
        let address = socket.local_addr()?;
        Ok(Listener {
            socket,
            address,
            name: ListenerName::new(0, ""),
            backlog: 0,
            is_inherited: true,
            guard: None,
            other_family: None,
            is_shut_down: false,
            ignores_connects: false,
            table: SocketTable::open(address),
        })
    }

    /// Accepts one client; what an error means is told apart here and nowhere else.
    ///
    /// # Errors
    /// The listener itself does not work any more.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        let error = match self.socket.accept() {
            Ok((stream, peer)) => return Ok(Accepted::Client(stream, canonical(peer))),
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::WOULDBLOCK) => Ok(Accepted::Nobody),
            Some(
                Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NONET
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH,
            ) => Ok(Accepted::Gone),
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) => Err(error),
            // EMFILE, ENFILE, ENOBUFS, ENOMEM; and whatever nobody has heard of must not be asked for again
            // at once.
            _ => Ok(Accepted::Starved(error)),
        }
    }

    /// Keeps the kernel's queue from growing, and says how many clients are in it. `None`: somebody is, and the system
    /// does not tell how many.
    pub(crate) fn close_queue(&self) -> Option<usize> {
        // Whoever handed a listener in may go on with it, with its own backlog. And where connects are ignored, those that
        // have begun need room in it.
        if !self.is_inherited && !self.is_shut_down && !self.ignores_connects {
            let _ = rustix::net::listen(&self.socket, 0);
        }
        // Most listeners have nobody waiting, and the table lists every socket of the machine.
        if !self.has_client() {
            return Some(0);
        }
        self.table.as_ref()?.length(self.inode()?)
    }

    /// Who is in the kernel's queue, without accepting them. Where the system does not tell how many, it is one at least.
    pub(crate) fn queued(&self) -> Queued {
        if !self.has_client() {
            return Queued::default();
        }
        let told = self.table.as_ref().zip(self.inode());
        let told = told.and_then(|(table, inode)| table.queued(inode));
        let Queued {
            clients,
            unread_bytes,
        } = told.unwrap_or_default();
        Queued {
            clients: clients.max(1),
            unread_bytes,
        }
    }

    fn inode(&self) -> Option<u64> {
        rustix::fs::fstat(&self.socket).ok().map(|stat| stat.st_ino)
    }

    /// Somebody is in the kernel's queue.
    pub(crate) fn has_client(&self) -> bool {
        if self.is_shut_down {
            return false;
        }
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// From now on the kernel drops the packet that begins a connect: its sender tries again, first after a second. Connects
    /// that have begun go on. Says whether that is new. A listener that was handed in goes on as it is.
    pub(crate) fn ignore_connects(&mut self) -> io::Result<bool> {
        let is_new = !self.ignores_connects && !self.is_shut_down && !self.is_inherited;
        if is_new {
            SockRef::from(&self.socket).attach_filter(NO_SYN)?;
            self.ignores_connects = true;
        }
        Ok(is_new)
    }

    pub(crate) fn stop_ignoring_connects(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.ignores_connects) {
            SockRef::from(&self.socket).detach_filter()?;
        }
        Ok(())
    }

    /// Somebody's connect has begun, and has neither failed nor come to the queue: to themselves they may look connected.
    /// As far as the system tells, and tells by this deadline.
    pub(crate) fn has_half_open(&self, until: Deadline) -> bool {
        let table = self.table.as_ref().zip(self.inode());
        let half_open = table.and_then(|(table, inode)| table.half_open(inode, until));
        half_open.is_some_and(|clients| clients > 0)
    }

    /// From now on connects are refused (shutdown(2) on a listening socket). Whoever was in the kernel's
    /// queue, or on the way to it, is reset.
    pub(crate) fn shut_down(&mut self) -> io::Result<()> {
        if !self.is_shut_down {
            rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both)?;
            self.is_shut_down = true;
        }
        self.stop_ignoring_connects()
    }

    /// Listens again on the same port. `false`: another socket has it now; it may come back.
    pub(crate) fn listen_again(&mut self) -> io::Result<bool> {
        self.stop_ignoring_connects()?;
        if self.is_shut_down {
            let socket = SockRef::from(&self.socket);
            match listen(&socket, self.guard.as_ref(), self.backlog) {
                Ok(()) => self.is_shut_down = false,
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRINUSE) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Keeps the ports of those that may be shut down from everybody in the other family, too. Where somebody else has that
/// already, they close clients instead of refusing them; returns their addresses.
pub(crate) fn guard_other_families(listeners: &mut [Listener]) -> Vec<SocketAddr> {
    let mut unguarded = Vec::new();
    for index in 0..listeners.len() {
        let listener = &mut listeners[index];
        if listener.guard.is_none() {
            continue;
        }
        let is_taken = match listener.guard_other_family() {
            Ok(()) => false,
            // A system without IPv6 has nobody there.
            Err(error) => error.kind() == io::ErrorKind::AddrInUse,
        };
        if is_taken && !has_other_family(listeners, index) {
            listeners[index].guard = None;
            unguarded.push(listeners[index].address);
        }
    }
    unguarded
}

/// The port is ours in both families: this one takes both, or another one has the other, or guards it.
fn has_other_family(listeners: &[Listener], index: usize) -> bool {
    let own = &listeners[index];
    let takes_both = || SockRef::from(&own.socket).only_v6().is_ok_and(|only| !only);
    let is_wildcard_v6 = own.address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let mut others = listeners.iter().filter(|other| {
        other.address.port() == own.address.port()
            && (other.is_v4() != own.is_v4() || other.other_family.is_some())
    });
    is_wildcard_v6 && takes_both() || others.next().is_some()
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A second socket on the port, for as long as the first may be shut down. A socket with SO_REUSEADDR that
/// does not listen lets any user bind the port; one without it lets nobody. It is bound with the option, to come
/// in beside the first and beside what an earlier server left in TIME_WAIT, and then goes without it.
///
/// SO_REUSEPORT instead of SO_REUSEADDR would keep others out, too, but a second server of the same user would
/// start, and none beside a TIME_WAIT of a server that had SO_REUSEADDR. To turn SO_REUSEADDR off and on at the
/// first socket itself leaves a moment before each listen(2) in which the port is anybody's.
fn guard(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = bind(address, only_v6)?;
    socket.set_reuse_address(false)?;
    Ok(socket)
}

/// listen(2) is refused beside the guard unless both have SO_REUSEPORT, and one owner: they have it for this one
/// call. So nobody else of the same user listens beside us later.
fn listen(socket: &SockRef<'_>, guard: Option<&Socket>, backlog: i32) -> io::Result<()> {
    let Some(guard) = guard else {
        return socket.listen(backlog);
    };
    socket.set_reuse_port(true)?;
    guard.set_reuse_port(true)?;
    let listens = socket.listen(backlog);
    socket.set_reuse_port(false)?;
    guard.set_reuse_port(false)?;
    listens
}

/// An IPv4 client of an IPv6 socket is told, counted and limited as what it is.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        // An IPv6 address keeps its scope.
        IpAddr::V6(_) => peer,
        v4 => SocketAddr::new(v4, peer.port()),
    }
}

fn set_inherited_options(socket: &Socket, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // An urgent byte is a byte of the stream. Taken out of it, FIONREAD would count no further than to where it was, and
    // a drain would leave the rest unread and untold.
    socket.set_out_of_band_inline(true)?;
    // An inherited listener may come with it.
    socket.set_keepalive(config.keepalive.is_some())?;
    if let Some(keepalive) = config.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}
