//! How a connection is opened: name, address, TLS, login.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{ServerErrorKind, Value};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::answer::told;
use super::exchange::Shared;
use super::reading::Reading;
use super::target::Target;
use super::wire::{Outgoing, Wire};
use crate::ingest::sink::lookup::addresses_of;
use crate::ingest::sink::secrets::Secrets;
use crate::server::Logger;

/// When an idle connection is first asked whether its server is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects, also over TLS. What is waited for after that is still limited, until
/// [`greet`].
///
/// # Errors
/// Why it failed, as a log says it.
pub(super) fn open(target: &Target, shared: &Shared) -> Result<Wire, String> {
    let Target { host, port, .. } = target;
    let addresses = (shared.lookup).run(|| addresses_of(host, *port))?;
    let deadline = Instant::now() + target.connect_timeout;
    let mut why = String::new();
    for (nth, address) in addresses.iter().enumerate() {
        // An address that does not answer leaves time for the others.
        let share = left(deadline) / (addresses.len() - nth) as u32;
        match connect(address, share, target, shared) {
            Ok(socket) => return secure(target, socket, deadline),
            Err(error) => why = format!("connecting to {address} failed: {error}"),
        }
        if shared.is_over() {
            break;
        }
    }
    Err(why)
}

fn left(deadline: Instant) -> Duration {
    // A timeout of zero would be none.
    let left = deadline.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

fn connect(
    address: &SocketAddr,
    wait: Duration,
    target: &Target,
    shared: &Shared,
) -> Result<Arc<Socket>, String> {
    let opened = || {
        let socket = Socket::new(
            Domain::for_address(*address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        io::Result::Ok(Arc::new(socket))
    };
    let socket = opened().map_err(|error| error.to_string())?;
    shared.has_socket(&socket)?;
    let connected = socket.connect_timeout(&SockAddr::from(*address), wait);
    connected.map_err(|error| target.in_words(&error))?;
    Ok(socket)
}

#[cfg(not(feature = "tls"))]
fn secure(_: &Target, socket: Arc<Socket>, deadline: Instant) -> Result<Wire, String> {
    limit(&socket, deadline).map_err(|error| error.to_string())?;
    Ok(Wire { socket })
}

#[cfg(feature = "tls")]
fn secure(target: &Target, socket: Arc<Socket>, deadline: Instant) -> Result<Wire, String> {
    limit(&socket, deadline).map_err(|error| error.to_string())?;
    let Some(tls) = &target.tls else {
        return Ok(Wire {
            socket,
            session: None,
        });
    };
    let name = tls.name_of(&target.host).map_err(|it| it.to_string())?;
    let config = tls.load().map_err(|error| error.to_string())?;
    let session = rustls::ClientConnection::new(config, name);
    let mut session = session.map_err(|error| error.to_string())?;
    // What a lost write costs is sent again, so it is bounded as all else is.
    session.set_buffer_limit(Some(super::command::CHUNK));
    while session.is_handshaking() {
        limit(&socket, deadline).map_err(|error| error.to_string())?;
        let mut stream = &*socket;
        let handshake = (|| {
            while session.wants_write() {
                session.write_tls(&mut stream)?;
            }
            if session.is_handshaking() && session.read_tls(&mut stream)? == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            Ok(())
        })();
        handshake
            .map_err(|error| format!("the TLS handshake failed: {}", target.in_words(&error)))?;
        if let Err(error) = session.process_new_packets() {
            // So that the server learns why.
            let _ = session.write_tls(&mut stream);
            let words = crate::server::server_words(&error);
            return Err(format!("the server {words}"));
        }
    }
    Ok(Wire {
        socket,
        session: Some(parking_lot::Mutex::new(session)),
    })
}

/// Whatever waits for the socket does so until then.
fn limit(socket: &Socket, deadline: Instant) -> io::Result<()> {
    socket.set_read_timeout(Some(left(deadline)))?;
    socket.set_write_timeout(Some(left(deadline)))
}

/// Says who we are. RESP2, the older protocol, needs no greeting, and every server speaks it.
struct Greeting {
    commands: Vec<u8>,
    /// What each is for.
    parts: Vec<Part>,
}

#[derive(Clone, Copy)]
enum Part {
    Auth,
    Name,
    Select,
}

impl Greeting {
    fn of(target: &Target, password: Option<&str>) -> Greeting {
        let mut greeting = Greeting {
            commands: Vec::new(),
            parts: Vec::new(),
        };
        if let Some(password) = password {
            let mut command = redis::cmd("AUTH");
            // Servers before 6 know no users.
            command.arg(target.user.as_deref());
            greeting.add(Part::Auth, command.arg(password));
        }
        // Always there: without it nobody would be told that a password is missing, or that the
        // server takes no more clients, before messages are sent.
        let mut command = redis::cmd("CLIENT");
        greeting.add(Part::Name, command.arg("SETNAME").arg(&target.client_name));
        if target.database != 0 {
            let mut command = redis::cmd("SELECT");
            greeting.add(Part::Select, command.arg(target.database));
        }
        greeting
    }

    fn add(&mut self, part: Part, command: &redis::Cmd) {
        self.parts.push(part);
        command.write_packed_command(&mut self.commands);
    }
}

impl Part {
    /// Whether the connection is of no use after this answer, and why.
    fn judge(self, value: Value, target: &Target, secrets: &Secrets) -> Result<(), String> {
        let Value::ServerError(error) = value else {
            return Ok(());
        };
        // Who may not name the connection may write all the same, and so it is with a proxy that
        // knows no names.
        let is_of_no_matter = error.kind() == Some(ServerErrorKind::NoPerm)
            || error.details().is_some_and(|it| it.starts_with("unknown"));
        match self {
            Part::Name if is_of_no_matter => Ok(()),
            Part::Auth => Err(format!("the login failed: {}", told(&error, secrets))),
            Part::Select => Err(format!(
                "selecting database {} failed: {}",
                target.database,
                told(&error, secrets)
            )),
            Part::Name => Err(told(&error, secrets)),
        }
    }
}

/// Logs in, says its name and selects the database.
///
/// # Errors
/// Why the connection is of no use, as a log says it.
pub(super) fn greet(
    target: &Target,
    wire: &Wire,
    reading: &mut Reading<'_>,
    logger: &Logger,
) -> Result<(), String> {
    let password = target.password.as_ref();
    let password = password.map(|password| password.of_connection(&target.host, logger));
    let password = password.transpose()?;
    let Greeting { commands, parts } = Greeting::of(target, password.as_deref());
    // They fit into the socket's buffer, which is empty.
    let mut outgoing = Outgoing::of(commands);
    let sent = wire
        .send(&mut outgoing)
        .map_err(|error| target.in_words(&error))?;
    if !sent {
        return Err("the server takes no command".to_owned());
    }
    let secrets = Secrets::new(password.as_slice());
    for part in parts {
        let answer = reading.next()?;
        part.judge(answer, target, &secrets)?;
    }
    let waits = wire.socket.set_read_timeout(None);
    waits.map_err(|error| error.to_string())
}
