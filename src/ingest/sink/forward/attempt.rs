//! A try to connect, on a thread of its own: getaddrinfo(3) blocks for as long as it likes, and the
//! sink's thread must not.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::PollFlags;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::Plan;
use super::connection::{Connection, SLICE};
use super::session::Session;
use super::socket::poll_for;
use super::target::Target;
use crate::ingest::sink::lookup::addresses_of;
use crate::server::Notifier;

/// A receiver that speaks TLS 1.3 may refuse our certificate after we are through with the
/// handshake, and what was sent by then would be lost. So long is waited for its alert, or for
/// anything else that it sends.
const SETTLE: Duration = Duration::from_millis(250);
/// Unsent bytes that the kernel takes beyond what is under way. What it holds is lost if the
/// receiver dies, and more would not make it faster.
const MAX_UNSENT: u32 = 256 << 10;

/// A try under way. Dropped, it ends within a tenth of a second, unless it is in getaddrinfo(3).
#[derive(Debug)]
pub(super) struct Attempt {
    outcome: Receiver<Result<Connection, String>>,
    is_cancelled: Arc<AtomicBool>,
    /// How many of the targets are tried.
    pub(super) targets: usize,
    /// Joined when it has ended, so that there is never more than one.
    thread: Option<JoinHandle<()>>,
}

impl Attempt {
    /// Tries `targets` receivers, in order from `first` on and behind the last one from the
    /// beginning, and tells `notifier` when it is over.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(
        plan: Arc<Plan>,
        first: usize,
        targets: usize,
        notifier: Option<Notifier>,
    ) -> io::Result<Attempt> {
        let (tell, outcome) = bounded(1);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&is_cancelled);
        let thread = thread::Builder::new()
            .name("connector".to_owned())
            .spawn(move || run(&plan, first, targets, &cancelled, &tell, notifier))?;
        Ok(Attempt {
            outcome,
            is_cancelled,
            targets,
            thread: Some(thread),
        })
    }

    /// What became of it, once it is over.
    pub(super) fn outcome(&mut self) -> Option<Result<Connection, String>> {
        let is_over = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        match self.outcome.try_recv() {
            Ok(outcome) => {
                self.join();
                Some(outcome)
            }
            // It has panicked.
            Err(_) if is_over => {
                self.join();
                Some(Err("the connector's thread has failed".to_owned()))
            }
            Err(_) => None,
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

fn run(
    plan: &Plan,
    first: usize,
    targets: usize,
    is_cancelled: &AtomicBool,
    tell: &Sender<Result<Connection, String>>,
    notifier: Option<Notifier>,
) {
    let mut failures = Vec::new();
    let in_order = plan.targets.iter().enumerate().cycle();
    for (index, target) in in_order.skip(first).take(targets) {
        match (Try { plan, is_cancelled }).connect(index, target) {
            Ok(connection) => {
                let _ = tell.send(Ok(connection));
                break;
            }
            Err(why) => failures.push(match targets {
                1 => why,
                _ => format!("{target}: {why}"),
            }),
        }
    }
    if failures.len() == targets {
        let _ = tell.send(Err(failures.join("; ")));
    }
    if let Some(notifier) = notifier {
        notifier.notify();
    }
}

struct Try<'p> {
    plan: &'p Plan,
    is_cancelled: &'p AtomicBool,
}

impl Try<'_> {
    fn connect(&self, index: usize, target: &Target) -> Result<Connection, String> {
        let (host, port) = match target {
            Target::Unix(path) => return self.connect_unix(index, path),
            Target::Tcp { host, port } | Target::Tls { host, port } => (host, *port),
        };
        let mut failures = Vec::new();
        for address in addresses_of(host, port)? {
            if self.is_cancelled() {
                break;
            }
            let domain = Domain::for_address(address);
            let connected = self
                .open(domain, &address.into())
                .map_err(|error| format!("cannot connect to {address}: {error}"))
                .and_then(|socket| self.secure(socket, target));
            match connected {
                Ok((socket, session)) => {
                    let label = match host.parse::<std::net::IpAddr>() {
                        Ok(_) => target.to_string(),
                        Err(_) => format!("{target} ({address})"),
                    };
                    return Ok(Connection::new(socket, session, index, label));
                }
                Err(why) => failures.push(why),
            }
        }
        Err(failures.join("; "))
    }

    fn connect_unix(&self, index: usize, path: &Path) -> Result<Connection, String> {
        let open = |address| self.open(Domain::UNIX, &address);
        let socket = SockAddr::unix(path).and_then(open);
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        let label = format!("unix:{}", path.display());
        Ok(Connection::new(socket, None, index, label))
    }

    fn open(&self, domain: Domain, address: &SockAddr) -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if domain != Domain::UNIX {
            self.set_options(&socket)?;
        }
        let until = Instant::now() + self.plan.connect_timeout;
        loop {
            match socket.connect(address) {
                Ok(()) => return Ok(socket),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INPROGRESS) => break,
                    Some(Errno::INTR) => {}
                    // The queue of a Unix socket is full (connect(2)).
                    Some(Errno::AGAIN) => {
                        self.check(until)?;
                        thread::sleep(SLICE);
                    }
                    _ => return Err(error),
                },
            }
        }
        while !poll_for(&socket, PollFlags::OUT, SLICE)?.intersects(PollFlags::OUT | PollFlags::ERR)
        {
            self.check(until)?;
        }
        match socket.take_error()? {
            None => Ok(socket),
            Some(error) => Err(error),
        }
    }

    fn set_options(&self, socket: &Socket) -> io::Result<()> {
        // Messages are gathered already, and what is written is to go out.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
        let keepalive = &self.plan.keepalive;
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(self.plan.ack_timeout())
    }

    /// Shakes hands where TLS is spoken.
    #[cfg(feature = "tls")]
    fn secure(&self, socket: Socket, target: &Target) -> Result<(Socket, Option<Session>), String> {
        let (Some(host), Some(tls)) = (target.tls_host(), &self.plan.tls) else {
            return Ok((socket, None));
        };
        let name = tls
            .client
            .name_of(host)
            .map_err(|error| error.to_string())?;
        let session = Session::new(Arc::clone(&tls.config), name);
        let mut session = session.map_err(|error| error.to_string())?;
        let shaken = self.shake_hands(&socket, &mut session);
        shaken.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "it has closed during the TLS handshake".to_owned(),
            _ => format!("TLS: {error}"),
        })?;
        Ok((socket, Some(session)))
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self, socket: Socket, _: &Target) -> Result<(Socket, Option<Session>), String> {
        Ok((socket, None))
    }

    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    fn shake_hands(&self, socket: &Socket, session: &mut Session) -> io::Result<()> {
        let until = Instant::now() + self.plan.connect_timeout;
        while session.is_handshaking() {
            let wanted = match session.flush(socket)? {
                true => PollFlags::IN,
                false => PollFlags::IN | PollFlags::OUT,
            };
            if session.is_handshaking() {
                poll_for(socket, wanted, SLICE)?;
                session.discard(socket)?;
                self.check(until)?;
            }
        }
        if session.may_be_refused() {
            let until = Instant::now() + SETTLE;
            while Instant::now() < until && !self.is_cancelled() {
                let left = until.saturating_duration_since(Instant::now()).min(SLICE);
                if !poll_for(socket, PollFlags::IN, left)?.is_empty() {
                    session.discard(socket)?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The time is over, or the sink has lost interest.
    fn check(&self, until: Instant) -> io::Result<()> {
        if self.is_cancelled() {
            return Err(ErrorKind::Interrupted.into());
        }
        match Instant::now() < until {
            true => Ok(()),
            false => {
                let limit = self.plan.connect_timeout;
                let text = format!("no answer within {limit:?} (connect_timeout)");
                Err(io::Error::new(ErrorKind::TimedOut, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;
    use crate::server::Keepalive;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    /// What the kernel has of a connection that was made with `ack_timeout`, to the first of so
    /// many receivers.
    fn user_timeout(ack_timeout: Option<Duration>, receivers: usize) -> Option<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::tcp("127.0.0.1", address.port());
        let plan = Plan {
            targets: vec![target; receivers],
            connect_timeout: SECONDS(60),
            keepalive: Keepalive::default(),
            ack_timeout,
            #[cfg(feature = "tls")]
            tls: None,
        };
        let is_cancelled = &AtomicBool::new(false);
        let attempt = Try {
            plan: &plan,
            is_cancelled,
        };
        let socket = attempt.open(Domain::IPV4, &address.into()).unwrap();
        socket.tcp_user_timeout().unwrap()
    }

    /// A machine that vanishes acknowledges nothing, and resets nothing.
    #[test]
    fn the_kernel_gives_up_a_receiver_that_acknowledges_nothing_for_the_timeout() {
        assert_eq!(user_timeout(Some(SECONDS(7)), 1), Some(SECONDS(7)));
        assert_eq!(user_timeout(Some(SECONDS(7)), 2), Some(SECONDS(7)));
        assert_eq!(user_timeout(None, 2), Some(SECONDS(60)));
        assert_eq!(user_timeout(None, 1), None);
    }
}
