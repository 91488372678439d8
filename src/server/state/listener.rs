//! A listening socket: binding, accepting, and refusing connects for a while with the port kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, TcpKeepalive, Type};

use super::accept_queue::{Queued, SocketTable};
use super::connection_state::ListenerName;
use super::socket_file::{Access, SocketFile};
use super::unix_queue::UnixQueue;
use crate::server::config::{Config, OnOverload};
use crate::server::deadline::Deadline;
use crate::server::peer::{Address, Peer};

/// A socket filter that drops segments with SYN and passes all others. The filter of a TCP socket
/// begins at the TCP header (socket(7), SO_ATTACH_FILTER), whose 14th byte has the flags (RFC 9293,
/// section 3.1).
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

/// A bound, listening, non-blocking socket.
#[derive(Debug)]
pub(crate) struct BoundListener {
    /// Of a Unix socket that was bound here. Before the socket: dropped first.
    file: Option<SocketFile>,
    socket: Socket,
    pub(crate) address: Address,
    pub(crate) name: ListenerName,
    backlog: i32,
    /// The socket was handed in by an embedder or a supervisor, who may go on using it. So
    /// drainline never shuts it down, and never changes its backlog.
    pub(crate) is_inherited: bool,
    /// Whoever handed the socket in keeps it open for the next server, and with it the queue.
    pub(crate) is_shared: bool,
    /// Keeps others from taking the port while this socket is shut down: see [`guard`].
    guard: Option<Socket>,
    /// Keeps others from taking the port in the other address family: see
    /// [`BoundListener::guard_other_family`].
    other_family: Option<Socket>,
    pub(crate) is_shut_down: bool,
    ignores_connects: bool,
    /// `None` if the system does not show how many clients are in the queue.
    queue: Option<Queue>,
}

/// Where the system shows how many clients are in a listener's queue.
#[derive(Debug)]
enum Queue {
    Tcp(SocketTable),
    Unix(UnixQueue),
}

impl Queue {
    fn of(address: &Address) -> Option<Queue> {
        match address {
            Address::Tcp(address) => SocketTable::open(*address).map(Queue::Tcp),
            Address::Unix(_) => UnixQueue::open().map(Queue::Unix),
        }
    }
}

/// The outcome of one accept(2).
#[derive(Debug)]
pub(crate) enum Accepted {
    Client(Socket, Peer),
    /// The kernel's queue is empty.
    Nobody,
    /// The client was gone before it was accepted, or a network error was pending on its socket
    /// (accept(2), "Error handling"). The next client can be accepted at once.
    Gone,
    /// The system has no descriptor or no memory. The client stays in the queue.
    Starved(io::Error),
}

impl BoundListener {
    /// Binds and listens, with the options that accepted sockets inherit on Linux (tcp(7)), so that
    /// keepalive and TCP_NODELAY cost nothing per connection.
    ///
    /// A socket bound to port 0 would listen on another port after a shutdown(2). So one socket
    /// finds a port, and a second socket is bound to that port by number. A port that may be shut
    /// down is one that is free in both address families, so that it can be kept in both.
    ///
    /// `only_v6` leaves IPv4 clients of `[::]` to another listener on the port (ipv6(7),
    /// IPV6_V6ONLY).
    pub(crate) fn bind(
        address: SocketAddr,
        only_v6: bool,
        config: &Config,
    ) -> io::Result<BoundListener> {
        let refuses = config.on_overload == OnOverload::Refuse;
        let found = match address.port() {
            0 if refuses => Some(bind_both_families().or_else(|_| bind(address, only_v6))?),
            0 => Some(bind(address, only_v6)?),
            _ => None,
        };
        let mut bound = address;
        if let Some(found) = &found {
            bound.set_port(port_of(found)?);
        }
        let socket = bind(bound, only_v6)?;
        let backlog = backlog(config);
        set_inherited_options(&socket, config)?;
        let guard = match refuses {
            true => Some(guard(bound, only_v6)?),
            false => None,
        };
        listen(&socket, guard.as_ref(), backlog)?;
        Ok(BoundListener {
            backlog,
            guard,
            ..BoundListener::of(socket, bound.into())
        })
    }

    /// Binds a Unix socket and listens. The sockets that it accepts inherit no options, and need
    /// none: nothing is delayed, and the kernel knows when a peer is gone.
    pub(crate) fn bind_unix(
        path: &Path,
        access: Access,
        config: &Config,
    ) -> io::Result<BoundListener> {
        let backlog = backlog(config);
        let (socket, file) = SocketFile::listen(path, access, backlog)?;
        Ok(BoundListener {
            file: Some(file),
            backlog,
            ..BoundListener::of(socket, Address::Unix(path.to_owned()))
        })
    }

    /// Whether it is a Unix socket that was made here.
    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    fn is_unix(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Keeps others from taking the port in the other address family. Must be called when all
    /// listeners are bound.
    ///
    /// A process that has the port in the other family alone, with SO_REUSEPORT, may then bind the
    /// port in both families: the kernel compares only the user and the wildcard address of the
    /// socket that it let in last (`sk_reuseport_match` in net/ipv4/inet_connection_sock.c), and
    /// does not look for conflicts with our socket, which does not listen while it is shut down.
    ///
    /// # Errors
    /// Another listener of this server has the port in that family, or another process had it
    /// before.
    fn guard_other_family(&mut self, own: SocketAddr) -> io::Result<()> {
        let others: IpAddr = match is_v4(own) {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let others = SocketAddr::new(others, own.port());
        self.other_family = Some(guard(others, others.is_ipv6())?);
        Ok(())
    }

    /// Whether connects can be refused for a while without losing the port.
    pub(crate) fn can_refuse(&self) -> bool {
        self.guard.is_some()
    }

    /// Takes over a socket that is bound and listens already.
    ///
    /// # Errors
    /// The socket does not listen, or is no stream.
    pub(crate) fn inherit(
        socket: Socket,
        is_shared: bool,
        config: &Config,
    ) -> io::Result<BoundListener> {
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            let text = "it is no stream socket that listens";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        socket.set_nonblocking(true)?;
        let address = Address::of(&socket)?;
        if matches!(address, Address::Tcp(_)) {
            set_inherited_options(&socket, config)?;
        }
        Ok(BoundListener {
            is_inherited: true,
            is_shared,
            ..BoundListener::of(socket, address)
        })
    }

    /// A socket that listens and has nothing of its own beside: no file, no guard.
    fn of(socket: Socket, address: Address) -> BoundListener {
        BoundListener {
            file: None,
            queue: Queue::of(&address),
            socket,
            address,
            name: ListenerName::default(),
            backlog: 0,
            is_inherited: false,
            is_shared: false,
            guard: None,
            other_family: None,
            is_shut_down: false,
            ignores_connects: false,
        }
    }

    /// Accepts one client without blocking. The only place that decides what an error of accept(2)
    /// means.
    ///
    /// # Errors
    /// The listener itself does not work any more.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        let error = match self.socket.accept() {
            Ok((socket, address)) => {
                if self.is_unix() {
                    // As for TCP, but a Unix socket inherits it from no listener.
                    let _ = socket.set_out_of_band_inline(true);
                }
                let peer = Peer::of(&socket, &address);
                return Ok(Accepted::Client(socket, peer));
            }
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
            // EMFILE, ENFILE, ENOBUFS, ENOMEM. After an error unknown today, too, accept(2) must
            // not be called again at once.
            _ => Ok(Accepted::Starved(error)),
        }
    }

    /// Keeps the kernel's queue from growing, and returns how many clients are in it. `None` if the
    /// queue is not empty and the system does not show its length.
    pub(crate) fn close_queue(&self) -> Option<usize> {
        // Whoever handed a listener in may go on using it with its own backlog. And where connects
        // are ignored, those that have begun need a place in the queue.
        if !self.is_inherited && !self.is_shut_down && !self.ignores_connects {
            let _ = rustix::net::listen(&self.socket, 0);
        }
        // Mostly the queue is empty, and the table lists every socket of the machine.
        if !self.is_closed_unix() && !self.has_client() {
            return Some(0);
        }
        self.queue_length()
    }

    /// A Unix socket that takes no more clients: poll(2) reports the shutdown(2) as a client.
    fn is_closed_unix(&self) -> bool {
        self.is_unix() && self.ignores_connects
    }

    fn queue_length(&self) -> Option<usize> {
        let inode = self.inode()?;
        match self.queue.as_ref()? {
            Queue::Tcp(table) => table.length(inode),
            Queue::Unix(queue) => queue.length(inode),
        }
    }

    /// How many clients are in the kernel's queue and what they have sent, without accepting them.
    /// One client where the queue is not empty and the system does not show its length. What they
    /// have sent is a lower bound if that takes longer than until the deadline.
    pub(crate) fn queued(&self, until: Deadline) -> Queued {
        if !self.has_client() {
            return Queued::default();
        }
        let told = match &self.queue {
            Some(Queue::Tcp(table)) => self.inode().and_then(|inode| table.queued(inode, until)),
            // What they have sent, nothing tells.
            Some(Queue::Unix(_)) => self.queue_length().map(|clients| Queued {
                clients,
                unread_bytes: 0,
            }),
            None => None,
        };
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

    /// Whether a client is in the kernel's queue.
    pub(crate) fn has_client(&self) -> bool {
        if self.is_shut_down {
            return false;
        }
        if self.is_closed_unix() {
            return self.queue_length().is_some_and(|clients| clients > 0);
        }
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// From now on the kernel drops the SYN of new connects, whose senders try again, first after a
    /// second. Connects that have begun go on. Returns whether that is new. Does nothing to a
    /// listener that was handed in.
    ///
    /// A Unix socket loses its name, so that the next server can have it, and new connects are
    /// refused, by whatever name. Clients in the queue stay there, but for good: such a socket does
    /// not listen again.
    pub(crate) fn ignore_connects(&mut self) -> io::Result<bool> {
        let is_new = !self.ignores_connects && !self.is_shut_down && !self.is_inherited;
        if is_new {
            if self.is_unix() {
                self.file = None;
                self.socket.shutdown(Shutdown::Read)?;
            } else {
                self.socket.attach_filter(NO_SYN)?;
            }
            self.ignores_connects = true;
        }
        Ok(is_new)
    }

    pub(crate) fn stop_ignoring_connects(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.ignores_connects) {
            self.socket.detach_filter()?;
        }
        Ok(())
    }

    /// Whether a connect has begun and has neither failed nor reached the queue; such a client may
    /// consider itself connected. `false`, too, if the system does not show that by the deadline.
    pub(crate) fn has_half_open(&self, until: Deadline) -> bool {
        let half_open = match &self.queue {
            Some(Queue::Tcp(table)) => {
                let port = self.address.socket_addr().map(|address| address.port());
                let place = self.inode().zip(port);
                place.and_then(|(inode, port)| table.half_open(inode, port, until))
            }
            // A connect to a Unix socket is in the queue, or has not begun.
            Some(Queue::Unix(_)) | None => None,
        };
        half_open.is_some_and(|clients| clients > 0)
    }

    /// From now on connects are refused (shutdown(2) on a listening socket). Clients in the
    /// kernel's queue, or on their way to it, are reset.
    pub(crate) fn shut_down(&mut self) -> io::Result<()> {
        if !self.is_shut_down {
            rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both)?;
            self.is_shut_down = true;
        }
        self.stop_ignoring_connects()
    }

    /// Must be called before the listener is closed, when no more clients are to come. Closing
    /// alone does not end the listening while somebody has a copy of the socket, such as a process
    /// that another thread has just forked and that has not executed its program yet: clients would
    /// go on to connect, and the next server could not listen. Does nothing to a listener that was
    /// handed in.
    pub(crate) fn end_listening(&self) {
        if !self.is_inherited {
            // Fails if it does not listen any more.
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
    }

    /// Listens again on the same port. `false` if another socket has the port for now.
    pub(crate) fn listen_again(&mut self) -> io::Result<bool> {
        self.stop_ignoring_connects()?;
        if self.is_shut_down {
            match listen(&self.socket, self.guard.as_ref(), self.backlog) {
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

/// Keeps others from taking, in the other address family, the ports of listeners that may be shut
/// down. A listener whose port another process has there already closes clients instead of refusing
/// them; returns the addresses of such listeners.
pub(crate) fn guard_other_families(listeners: &mut [BoundListener]) -> Vec<SocketAddr> {
    let mut unguarded = Vec::new();
    for index in 0..listeners.len() {
        let listener = &mut listeners[index];
        let Some(own) = listener.address.socket_addr() else {
            continue;
        };
        if listener.guard.is_none() {
            continue;
        }
        let is_taken = match listener.guard_other_family(own) {
            Ok(()) => false,
            // On a system without IPv6 nobody can take the port there.
            Err(error) => error.kind() == io::ErrorKind::AddrInUse,
        };
        if is_taken && !has_other_family(listeners, index, own) {
            listeners[index].guard = None;
            unguarded.push(own);
        }
    }
    unguarded
}

/// Whether this server has the port in both families: the listener takes both, or another listener
/// has the port in the other family or guards it.
fn has_other_family(listeners: &[BoundListener], index: usize, own: SocketAddr) -> bool {
    let takes_both = || listeners[index].socket.only_v6().is_ok_and(|only| !only);
    let is_wildcard_v6 = own.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let has_it = |other: &BoundListener| {
        other.address.socket_addr().is_some_and(|address| {
            address.port() == own.port()
                && (is_v4(address) != is_v4(own) || other.other_family.is_some())
        })
    };
    is_wildcard_v6 && takes_both() || listeners.iter().any(has_it)
}

fn is_v4(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv4()
}

impl AsFd for BoundListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The kernel limits the backlog to net.core.somaxconn (listen(2)).
fn backlog(config: &Config) -> i32 {
    config.backlog.map_or(i32::MAX, |backlog| {
        i32::try_from(backlog).unwrap_or(i32::MAX)
    })
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

/// A socket on a port that nobody has in either address family.
fn bind_both_families() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    Ok(socket)
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.ok_or(io::ErrorKind::AddrNotAvailable)?.port())
}

/// A second socket on the port, which keeps others out while the first is shut down. A socket with
/// SO_REUSEADDR that does not listen lets any user bind the port; a socket without the option lets
/// nobody. The guard is bound with SO_REUSEADDR, beside the first socket and beside what an earlier
/// server left in TIME_WAIT, and the option is turned off afterwards.
///
/// SO_REUSEPORT instead of SO_REUSEADDR would keep others out, too. But then a second server of the
/// same user would start, and none would beside a TIME_WAIT of a server that had SO_REUSEADDR.
/// Turning SO_REUSEADDR off and on at the first socket itself would leave a moment before each
/// listen(2) in which anybody can take the port.
fn guard(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = bind(address, only_v6)?;
    socket.set_reuse_address(false)?;
    Ok(socket)
}

/// Calls listen(2), which fails beside the guard unless both sockets have SO_REUSEPORT and one
/// owner. Both have the option for this one call only, so that no other process of the same user
/// can listen beside this server later.
fn listen(socket: &Socket, guard: Option<&Socket>, backlog: i32) -> io::Result<()> {
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

fn set_inherited_options(socket: &Socket, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Keeps an urgent byte in the stream. Outside the stream, FIONREAD would not count what comes
    // after the urgent byte, and a drain would leave that unread and uncounted.
    socket.set_out_of_band_inline(true)?;
    // Turned off as well as on: a socket that was handed in may have keepalive.
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
