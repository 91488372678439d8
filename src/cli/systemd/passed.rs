//! The sockets that a service manager passes.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use drainline::Listener;
use listenfd::ListenFd;
use socket2::{Domain, Socket, Type};

use crate::cli::listen::SocketSpec;
use crate::cli::settings::Named;
use crate::cli::usage::UsageError;

/// The sockets that this process was passed and that nothing has been made of yet. Those that are
/// left when this is dropped are closed.
#[derive(Debug, Default)]
pub(in crate::cli) struct Passed {
    sockets: Vec<Given>,
    /// Why there may be others: what announces them is not as it should be.
    error: Option<io::Error>,
}

/// One of them, with the name that its unit gives it (FileDescriptorName=).
#[derive(Debug)]
struct Given {
    name: String,
    /// `None`: no socket of a kind that is known.
    socket: Option<Socket>,
}

/// The kinds of sockets that can be taken over, if only to say what they are. The first is that of
/// IPv6, too.
const KINDS: [(Domain, Type); 5] = [
    (Domain::IPV4, Type::STREAM),
    (Domain::UNIX, Type::STREAM),
    (Domain::IPV4, Type::DGRAM),
    (Domain::UNIX, Type::DGRAM),
    (Domain::UNIX, Type::SEQPACKET),
];

/// More than any unit has. Who looks at all that are announced collects them first, however many
/// there are.
const MAX_PASSED: usize = 1024;

impl Passed {
    /// Takes them over, to be closed in processes that this one starts. To be called before
    /// anything else is opened, which a number that was not passed after all would name, and
    /// before any thread is started.
    pub(in crate::cli) fn take() -> Passed {
        let announced = std::env::var("LISTEN_FDS").map(|count| count.trim().parse::<usize>());
        if let Ok(Ok(MAX_PASSED..)) = announced {
            let text = format!("expected fewer than {MAX_PASSED} of them");
            return Passed {
                sockets: Vec::new(),
                error: Some(io::Error::new(io::ErrorKind::InvalidInput, text)),
            };
        }
        // In this order: the last one removes the variables. The names alone say nothing, where the
        // rest is meant for another process.
        let named = sd_notify::listen_fds().and_then(|descriptors| match descriptors.len() {
            0 => Ok(Vec::new()),
            _ => Ok(sd_notify::listen_fds_with_names()?.collect()),
        });
        let mut descriptors = ListenFd::from_env();
        let (named, error) = match named {
            Ok(named) => (named, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let sockets = named.into_iter().enumerate().map(|(index, (_, name))| {
            let of_kind = |(domain, kind): (Domain, Type)| {
                let taken = descriptors.take_custom(index, domain.into(), kind.into(), "socket");
                taken.ok().flatten()
            };
            let socket = KINDS.into_iter().find_map(of_kind);
            Given { name, socket }
        });
        Passed {
            sockets: sockets.collect(),
            error,
        }
    }

    /// The listeners of this name, or of all names where it is empty: at least one.
    ///
    /// `named` is the setting that names them.
    ///
    /// # Errors
    /// No socket has the name, or one is not a stream socket that listens.
    pub(in crate::cli) fn listeners(
        &mut self,
        name: &str,
        named: &Named,
    ) -> Result<Vec<Listener>, UsageError> {
        let is_meant = |given: &Given| name.is_empty() || given.name == name;
        let failed = |what: &str| {
            let listen = SocketSpec::Systemd(name.to_owned());
            UsageError::contradiction(&format!("{named} {listen}: {what}"))
        };
        if let Some(error) = &self.error {
            let what = "the sockets that LISTEN_FDS and LISTEN_FDNAMES announce";
            return Err(failed(&format!("cannot take over {what}: {error}")));
        }
        if !self.sockets.iter().any(is_meant) {
            return Err(failed(&self.to_string()));
        }
        let (meant, others) = self.sockets.drain(..).partition(is_meant);
        self.sockets = others;
        let meant: Vec<Given> = meant;
        meant
            .into_iter()
            .map(|given| given.listener().map_err(&failed))
            .collect()
    }

    /// What nobody has taken, and nobody will answer, for the log.
    pub(in crate::cli) fn unused(&self) -> Option<String> {
        let names = self.names()?;
        Some(format!(
            "the service manager passed sockets that no --listen names ({names}): nobody is served \
             there; --listen systemd:NAME takes the socket of that name"
        ))
    }

    fn names(&self) -> Option<String> {
        let names: Vec<&str> = self.sockets.iter().map(|given| &*given.name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// Which sockets there are, where the one that is looked for is not among them.
impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            Some(names) => write!(
                f,
                "no socket of this name was passed, only {names}: expected FileDescriptorName= of the \
                 socket unit"
            ),
            None => f.write_str(
                "no socket was passed: expected a start by a socket unit, or by systemd-socket-activate",
            ),
        }
    }
}

impl Given {
    /// What the unit should say instead, where it is no listener.
    fn listener(self) -> Result<Listener, &'static str> {
        let Some(socket) = self.socket else {
            return Err("what was passed is no socket: expected ListenStream= in the socket unit");
        };
        if socket.r#type().ok() != Some(Type::STREAM) {
            return Err(
                "what was passed is no stream socket: expected ListenStream= in the socket unit",
            );
        }
        if !socket.is_listener().unwrap_or(false) {
            return Err(match socket.peer_addr() {
                Ok(_) => "what was passed is a connection: expected Accept=no in the socket unit",
                Err(_) => "what was passed does not listen: expected a listening socket",
            });
        }
        let listener = match socket.domain().ok() == Some(Domain::UNIX) {
            true => Listener::from(UnixListener::from(OwnedFd::from(socket))),
            false => Listener::from(TcpListener::from(socket)),
        };
        Ok(listener.shared())
    }
}
