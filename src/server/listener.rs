//! One listener and its acceptor: poll, accept in bursts, back off, and what clients meet while the gate
//! is shut.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::bell::Bell;
use super::config::{Config, OnPause, TICK};
use super::error::ServerError;
use super::gate::Permit;
use super::ledger::RejectReason;
use super::record::{Record, unread_bytes};
use super::shared::{Shared, ThreadBody};
use super::table::NotAdmitted;

/// Accepts in one go before the state is looked at again.
const BURST: usize = 256;
/// A refusal for want of descriptors or threads is tried again after this, doubling up to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// A bound socket, listening.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    pub(super) address: SocketAddr,
    backlog: i32,
    /// Bound by us to an explicit port, so it can be shut down and come back.
    can_refuse: bool,
}

impl Listener {
    /// Binds and listens, with the options that accepted sockets inherit on Linux (tcp(7)): keepalive and
    /// TCP_NODELAY cost nothing per connection that way.
    ///
    /// A socket bound to port 0 that is shut down comes back on another port. So the port is found with one
    /// socket, and a second one is bound to it by number.
    pub(super) fn bind(address: SocketAddr, config: &Config) -> io::Result<Listener> {
        let first = bind(address)?;
        let bound = first
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = if address.port() == 0 {
            bind(bound)?
        } else {
            first
        };
        // The kernel cuts it to net.core.somaxconn (listen(2)).
        let backlog = config.backlog.map_or(i32::MAX, |backlog| {
            i32::try_from(backlog).unwrap_or(i32::MAX)
        });
        set_inherited_options(&socket, config)?;
        socket.listen(backlog)?;
        Ok(Listener {
            socket: socket.into(),
            address: bound,
            backlog,
            can_refuse: true,
        })
    }

    /// Takes over a listener that is bound and listens already.
    pub(super) fn inherit(socket: TcpListener, config: &Config) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        set_inherited_options(&SockRef::from(&socket), config)?;
        let address = socket.local_addr()?;
        Ok(Listener {
            socket,
            address,
            backlog: 0,
            can_refuse: false,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn set_inherited_options(socket: &Socket, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = config.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Makes the body of a connection's thread.
pub(super) type MakeHandler = Arc<dyn Fn(Arc<Record>) -> ThreadBody + Send + Sync>;

/// The body of a listener's thread.
pub(super) struct Acceptor {
    listener: Listener,
    bell: Arc<Bell>,
    shared: Arc<Shared>,
    make_handler: MakeHandler,
    on_pause: OnPause,
    /// Given up for a moment to accept and close a client where the system has no descriptor left.
    reserve: Option<File>,
    starved: Option<Starved>,
    refuses: bool,
}

/// The system had nothing to give; not to be asked again for a while.
#[derive(Clone, Copy, Debug)]
struct Starved {
    reason: RejectReason,
    backoff: Duration,
    until: Duration,
}

/// What ended a burst.
enum Burst {
    /// Nobody is left in the kernel's queue.
    Quiet,
    /// Look at the state again.
    Again,
    /// The accept rate holds the next client back this long.
    Wait(Duration),
}

impl Acceptor {
    pub(super) fn new(
        listener: Listener,
        bell: Arc<Bell>,
        shared: Arc<Shared>,
        make_handler: MakeHandler,
    ) -> io::Result<Self> {
        let on_pause = match shared.config.on_pause {
            OnPause::Refuse if !listener.can_refuse => OnPause::Close,
            on_pause => on_pause,
        };
        let reserve = match on_pause {
            OnPause::Close => Some(open_reserve()?),
            OnPause::Backlog | OnPause::Refuse => None,
        };
        let (starved, refuses) = (None, false);
        Ok(Acceptor {
            listener,
            bell,
            shared,
            make_handler,
            on_pause,
            reserve,
            starved,
            refuses,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            self.bell.silence();
            if self.shared.lifecycle.is_stopping() {
                break;
            }
            if let Err(error) = self.turn() {
                let (address, error) = (self.listener.address, error.to_string());
                self.shared
                    .fail(ServerError::ListenerFailed { address, error });
                break;
            }
        }
        // Closing a listener resets every client that it has not accepted, half-closed ones too.
        let _ = self.empty_queue(RejectReason::Shutdown);
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.lifecycle.acceptor_ended();
    }

    /// One look at the gate, and what follows from it.
    fn turn(&mut self) -> io::Result<()> {
        let shut = self.starving().or_else(|| self.shared.gate.shut());
        let Some(reason) = shut else {
            if !self.listen_again()? || !self.wait(true, None)? {
                return Ok(());
            }
            return match self.admit_burst()? {
                Burst::Quiet | Burst::Again => Ok(()),
                Burst::Wait(wait) => self.wait(false, Some(wait)).map(drop),
            };
        };
        let retry = self
            .starving()
            .and(self.starved)
            .map(|starved| starved.until.saturating_sub(self.shared.now()));
        match self.on_pause {
            OnPause::Backlog => self.wait(false, retry).map(drop),
            OnPause::Close => {
                if self.wait(true, retry)? {
                    self.reject_burst(reason)?;
                }
                Ok(())
            }
            OnPause::Refuse => {
                self.refuse(reason)?;
                // Its state changes at most once a tick.
                std::thread::park_timeout(TICK);
                self.wait(false, retry).map(drop)
            }
        }
    }

    /// Waits for the bell, for a client if `for_clients`, or for `timeout`. Says whether a client is there.
    /// A listener that is held or shut down is not polled: poll would say POLLHUP at once, for ever.
    fn wait(&self, for_clients: bool, timeout: Option<Duration>) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&*self.bell, PollFlags::IN),
            PollFd::new(&self.listener.socket, PollFlags::IN),
        ];
        let watched = if for_clients { 2 } else { 1 };
        // Rounded up: a wait that ends early would only look and wait again.
        let timeout = timeout.map(|wait| wait.saturating_add(Duration::from_micros(1)));
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut fds[..watched], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(for_clients && !fds[1].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    fn admit_burst(&mut self) -> io::Result<Burst> {
        for _ in 0..BURST {
            if self.shared.lifecycle.is_stopping() {
                return Ok(Burst::Again);
            }
            let wait = self.shared.gate.accept_wait(self.shared.now());
            if !wait.is_zero() {
                return Ok(Burst::Wait(wait));
            }
            // The permit comes first: who does not come in must stay in the kernel's queue.
            let Ok(permit) = self.shared.gate.enter() else {
                return Ok(Burst::Again);
            };
            match self.listener.socket.accept() {
                Ok((stream, peer)) => {
                    self.shared.gate.accepted(self.shared.now());
                    if !self.admit(stream, peer, permit) {
                        return Ok(Burst::Again);
                    }
                }
                Err(error) => match Refusal::of(&error) {
                    Refusal::NobodyThere => return Ok(Burst::Quiet),
                    Refusal::ClientGone => {}
                    Refusal::Starved => {
                        self.starve(RejectReason::NoDescriptor, &error);
                        return Ok(Burst::Again);
                    }
                    Refusal::Broken => return Err(error),
                },
            }
        }
        Ok(Burst::Again)
    }

    /// Gives a client its thread, or turns it away. `false`: the system has no thread to give.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, mut permit: Permit) -> bool {
        let shared = Arc::clone(&self.shared);
        if !shared.gate.claim(&mut permit, peer) {
            self.reject(&stream, RejectReason::PerAddress, Some(peer));
            return true;
        }
        let admitted = shared.table.admit(stream, peer, permit, |record| {
            let mut builder = std::thread::Builder::new().name(format!("handler-{}", record.id));
            if let Some(bytes) = shared.config.stack_size {
                builder = builder.stack_size(bytes);
            }
            (shared.spawner)(builder, (self.make_handler)(record))
        });
        match admitted {
            Ok(()) => {
                self.starved = None;
                true
            }
            Err(NotAdmitted::Closed(stream)) => {
                self.reject(&stream, RejectReason::Shutdown, Some(peer));
                true
            }
            Err(NotAdmitted::NoThread(error, record)) => {
                let unread = record.unread_bytes();
                shared.table.rejected(RejectReason::NoThread, unread);
                self.starve(RejectReason::NoThread, &error);
                false
            }
        }
    }

    // ---- turning clients away

    fn reject(&self, stream: &TcpStream, reason: RejectReason, peer: Option<SocketAddr>) {
        self.shared.table.rejected(reason, unread_bytes(stream));
        let limits = &self.shared.config;
        self.shared.journal.say_once(reason_key(reason), Level::Warn, || {
            let peer = peer.map_or_else(|| "a client".to_owned(), |peer| peer.to_string());
            match reason {
                RejectReason::PerAddress => {
                    let max = limits.max_connections_per_ip.unwrap_or_default();
                    format!("{peer} is turned away: its address has max_connections_per_ip = {max} already")
                }
                RejectReason::MaxConnections => {
                    let max = self.shared.bound.max_connections;
                    format!("{peer} is turned away: max_connections = {max} are being served")
                }
                reason => format!("{peer} is turned away: {reason}"),
            }
        });
    }

    /// Accepts and closes clients while the gate is shut.
    fn reject_burst(&mut self, reason: RejectReason) -> io::Result<()> {
        for _ in 0..BURST {
            match self.listener.socket.accept() {
                Ok((stream, peer)) => self.reject(&stream, reason, Some(peer)),
                Err(error) => match Refusal::of(&error) {
                    Refusal::NobodyThere => return Ok(()),
                    Refusal::ClientGone => {}
                    Refusal::Starved => return self.reject_with_reserve(),
                    Refusal::Broken => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// The descriptor kept in reserve turns one client away; another thread may be quicker to take it, and
    /// then the client stays in the kernel's queue until the next try.
    fn reject_with_reserve(&mut self) -> io::Result<()> {
        drop(self.reserve.take());
        if let Ok((stream, peer)) = self.listener.socket.accept() {
            self.reject(&stream, RejectReason::NoDescriptor, Some(peer));
        }
        self.reserve = open_reserve().ok();
        self.wait(false, Some(FIRST_BACKOFF)).map(drop)
    }

    /// Accepts whoever is in the kernel's queue, and turns them away.
    fn empty_queue(&mut self, reason: RejectReason) -> io::Result<()> {
        loop {
            match self.listener.socket.accept() {
                Ok((stream, peer)) => self.reject(&stream, reason, Some(peer)),
                Err(error) => match Refusal::of(&error) {
                    Refusal::NobodyThere => return Ok(()),
                    Refusal::ClientGone => {}
                    Refusal::Starved | Refusal::Broken => return Err(error),
                },
            }
        }
    }

    // ---- refuse: the listener goes away and comes back

    fn refuse(&mut self, reason: RejectReason) -> io::Result<()> {
        if self.refuses {
            return Ok(());
        }
        // Who comes between this and the shutdown is reset by the kernel, uncounted: nobody can see them.
        let _ = self.empty_queue(reason);
        rustix::net::shutdown(&self.listener.socket, rustix::net::Shutdown::Both)?;
        self.refuses = true;
        Ok(())
    }

    /// Whether the listener listens.
    fn listen_again(&mut self) -> io::Result<bool> {
        if !self.refuses {
            return Ok(true);
        }
        match rustix::net::listen(&self.listener.socket, self.listener.backlog) {
            Ok(()) => {
                self.refuses = false;
                Ok(true)
            }
            // Somebody else took the port meanwhile; it may come back.
            Err(Errno::ADDRINUSE) => {
                let address = self.listener.address;
                self.shared.journal.say_once("address in use", Level::Warn, || {
                    format!("cannot listen on {address} again: another socket has the port; trying on")
                });
                self.wait(false, Some(TICK)).map(|_| false)
            }
            Err(error) => Err(error.into()),
        }
    }

    // ---- when the system has nothing to give

    fn starve(&mut self, reason: RejectReason, error: &io::Error) {
        let backoff = match self.starved {
            Some(starved) => (starved.backoff * 2).min(LONGEST_BACKOFF),
            None => FIRST_BACKOFF,
        };
        self.starved = Some(Starved {
            reason,
            backoff,
            until: self.shared.now() + backoff,
        });
        let address = self.listener.address;
        self.shared.journal.say_once(reason_key(reason), Level::Warn, || {
            let open = self.shared.table.traffic().open;
            format!("nobody is accepted on {address} for now ({reason}): {error}; {open} connections are open")
        });
    }

    fn starving(&self) -> Option<RejectReason> {
        let starved = self.starved?;
        (self.shared.now() < starved.until).then_some(starved.reason)
    }
}

/// What an error of accept(2) means; told apart here and nowhere else.
enum Refusal {
    NobodyThere,
    /// The client was gone before it was accepted, or a network error that was pending on it (accept(2),
    /// "Error handling"): the next one may do.
    ClientGone,
    /// No descriptor or no memory: the client stays in the queue.
    Starved,
    /// The listener itself does not work any more.
    Broken,
}

impl Refusal {
    fn of(error: &io::Error) -> Refusal {
        match Errno::from_io_error(error) {
            Some(Errno::WOULDBLOCK) => Refusal::NobodyThere,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Refusal::Starved,
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) | None => {
                Refusal::Broken
            }
            Some(_) => Refusal::ClientGone,
        }
    }
}

fn reason_key(reason: RejectReason) -> &'static str {
    use super::ledger::Reason;
    reason.name()
}

fn open_reserve() -> io::Result<File> {
    File::open("/dev/null")
}
