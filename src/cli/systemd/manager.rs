//! The service manager that started this process, and how it is told something.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The variable that names the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The longest that a message waits for a manager whose queue is full.
const PATIENCE: Duration = Duration::from_secs(1);

/// Not by [`sd_notify::notify`], which opens a socket for each message: when no descriptor is left,
/// the manager would hear nothing any more, and end the process.
#[derive(Debug)]
pub(in crate::cli) struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Manager {
    /// Whether this process was started by one that is to be told something.
    pub(in crate::cli) fn is_there() -> bool {
        env::var_os(SOCKET).is_some()
    }

    /// `None`: there is none.
    ///
    /// # Errors
    /// Its socket has an address of another kind, or no descriptor is left.
    pub(in crate::cli) fn of_process() -> io::Result<Option<Manager>> {
        let Some(path) = env::var_os(SOCKET) else {
            return Ok(None);
        };
        Manager::at(path, sd_notify::watchdog_enabled()).map(Some)
    }

    /// The one whose socket is at `path`.
    pub(super) fn at(path: impl AsRef<OsStr>, watchdog: Option<Duration>) -> io::Result<Manager> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Manager {
            socket,
            address: address(path.as_ref())?,
            watchdog,
        })
    }

    /// The manager ends the process that has told it nothing for so long (WatchdogSec=).
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Blocks for at most a second.
    ///
    /// # Errors
    /// Nobody is at the socket, or its queue stays full.
    pub(super) fn tell(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        let sent = self.socket.send_to_addr(lines.as_bytes(), &self.address);
        sent.map(drop).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "it took nothing for a second")
            }
            _ => error,
        })
    }
}

/// A path, or a name without a file, which begins with `@` (unix(7)).
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{SOCKET} is neither a path nor a name that begins with @"),
        )),
    }
}
