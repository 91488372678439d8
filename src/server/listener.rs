//! The listeners of a server, from the builder to their acceptors.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use socket2::Socket;

use super::config::{Config, FirstByteTimeout, OnOverload};
use super::error::{ConfigError, StartError};
use super::limits::{SettingNames, TlsMemory};
use super::listener_settings::ListenerSettings;
use super::peer::Address;
use super::peers::Peers;
use super::ranges;
use super::state::Shared;
use super::state::connection_state::ListenerName;
use super::state::handler_thread::Serve;
use super::state::listener::{self, BoundListener};
use super::state::listener_state::ListenerState;
use super::state::socket_file::Access;
use super::state::waker::Waker;
use super::threads::acceptor::Acceptor;

/// A listener for a [`Builder`](crate::server::Builder): an address, a path or a bound socket, a
/// name, and settings of its own, each of which stands in for that of the [`Config`].
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use drainline::{Config, Listener, Server};
///
/// let server = Server::builder()
///     .config(Config::default().max_connections(100))
///     .listener(Listener::on("127.0.0.1:0".parse()?).named("sensors"))
///     .listener(
///         Listener::on("127.0.0.1:0".parse()?)
///             .named("operators")
///             .max_connections(4)
///             .frame_timeout(None)
///             .idle_timeout(Duration::from_secs(600)),
///     )
///     .serve(|_| Ok(()))?;
/// assert_eq!(server.local_addrs().len(), 2);
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Debug)]
#[must_use = "a listener does nothing until a builder has it"]
pub struct Listener {
    source: Source,
    name: Option<String>,
    is_shared: bool,
    unix_mode: Option<u32>,
    unix_owner: Option<(Option<u32>, Option<u32>)>,
    settings: ListenerSettings,
}

/// Any local user may connect, as to a port on 127.0.0.1, and as systemd, syslog-ng, rsyslog and
/// nginx have it. What the umask leaves, mostly 755, would let nobody but the owner in.
const DEFAULT_MODE: u32 = 0o666;

impl Listener {
    /// Listens on an address. Port 0 stands for any free port, which
    /// [`Server::local_addrs`](crate::Server::local_addrs) returns.
    pub fn on(address: SocketAddr) -> Self {
        Source::Address(address).into()
    }

    /// Listens on a stream socket at `path` (unix(7)), whose file it makes. A relative path is one
    /// of the current directory.
    ///
    /// If a socket is there already on which nobody listens, as a killed process leaves it, that is
    /// replaced. Otherwise the start fails: a socket that answers and anything that is no socket
    /// stay. To find out, a start connects once; whoever listens there sees a client that leaves
    /// without a byte. Starts at the same time take turns by a file beside the socket, which is
    /// there for a moment only (`.NAME.drainline-start`).
    ///
    /// The file is removed when a drain begins, so that the next server can have the path, and
    /// only if it is still the one that was made. From then on connects fail; who is in the queue
    /// by then is served.
    ///
    /// [`Config::keepalive`](crate::Config::keepalive) does not apply: the kernel knows when the
    /// peer is gone. Nor does
    /// [`max_connections_per_ip`](crate::Config::max_connections_per_ip): who may connect is up to
    /// the file's [mode](Listener::unix_mode) and [owner](Listener::unix_owner).
    /// [`OnOverload::Refuse`] closes clients here, as
    /// [`OnOverload::Close`] does, since a Unix socket that was shut down cannot listen again.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Shutdown;
    /// use std::os::unix::net::UnixStream;
    /// use drainline::{Listener, Server};
    ///
    /// # let folder = std::env::temp_dir().join(format!("drainline-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("echo.sock");
    /// let server = Server::builder()
    ///     .listener(Listener::unix(&path).unix_mode(0o600))
    ///     .serve(|conn| Ok(std::io::copy(&mut &*conn, &mut &*conn).map(drop)?))?;
    ///
    /// let mut client = UnixStream::connect(&path)?;
    /// client.write_all(b"hello")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let mut echo = String::new();
    /// client.read_to_string(&mut echo)?;
    /// assert_eq!(echo, "hello");
    /// # drop(server);
    /// # assert!(!path.exists());
    /// # std::fs::remove_dir(folder)?;
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Source::Path(path.into()).into()
    }

    /// The permissions of a Unix socket's file, whatever the umask is: connecting needs the
    /// permission to write. Default: 0o666, so any local user may connect. Range: 0 to 0o777.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = Some(mode);
        self
    }

    /// The user and the group of a Unix socket's file, by their ids (chown(2)). Default, and for
    /// `None`: those of the process.
    pub fn unix_owner(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.unix_owner = Some((uid, gid));
        self
    }

    /// Names the listener, for [`Connection::listener`](crate::Connection::listener),
    /// [`ConnectionInfo`](crate::ConnectionInfo) and the log: 1 to 255 bytes. No other listener of
    /// the server may have the name. Default: its address.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Says that somebody else keeps this socket open and hands it to the next server, as a service
    /// manager does. Then a drain, once it has served whoever was in the kernel's queue as it
    /// began, leaves later clients there for that server. Otherwise they are accepted, counted as
    /// rejected and closed, since the kernel resets, uncounted, whoever is in the queue of a socket
    /// that nobody holds. Has no effect on an address. Default: nobody else has it.
    pub fn shared(mut self) -> Self {
        self.is_shared = matches!(self.source, Source::Inherited(_));
        self
    }

    /// The most connections of this listener that are served at once, within
    /// [`Config::max_connections`]: 1 to that. A limit and no reservation: what keeps connections
    /// free for this listener are the limits of the others. At its limit the listener is not
    /// accepting ([`NotAcceptingReason::MaxConnections`](crate::NotAcceptingReason)), new clients
    /// meet [`Config::on_overload`] there, and the other listeners go on. A connection counts until
    /// its thread may serve another or was joined. Default: no limit but the common one.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.max_connections = Some(connections);
        self
    }

    /// As [`Config::rate_limit`], for connections of this listener. `None`: off, whatever the
    /// server's is.
    pub fn rate_limit(mut self, rate: impl Into<Option<u64>>) -> Self {
        self.settings.rate_limit = Some(rate.into());
        self
    }

    /// As [`Config::frame_timeout`], for connections of this listener. `None`: off, whatever the
    /// server's is.
    pub fn frame_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.frame_timeout = Some(timeout.into());
        self
    }

    /// As [`Config::idle_timeout`], for connections of this listener. `None`: off, whatever the
    /// server's is.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = Some(timeout.into());
        self
    }

    /// As [`Config::first_byte_timeout`], for connections of this listener. With
    /// [`FirstByteTimeout::Auto`], its silent connections give way to clients that the common
    /// `max_connections` keeps out, and to those that its own does.
    pub fn first_byte_timeout(mut self, timeout: FirstByteTimeout) -> Self {
        self.settings.first_byte_timeout = Some(timeout);
        self
    }

    /// As [`Config::handshake_timeout`], for connections of this listener.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = Some(timeout);
        self
    }

    /// As [`Config::allow`], for this listener. Nobody: everybody may connect, whatever the
    /// server's list is. A list of a listener's own takes memory of its own.
    pub fn allow<P: Into<Peers>>(mut self, peers: impl IntoIterator<Item = P>) -> Self {
        self.settings.allow = Some(peers.into_iter().map(P::into).collect());
        self
    }

    /// As [`Config::proxy_from`], for this listener. Nobody: connections begin with their bytes,
    /// whatever the server's list is.
    ///
    /// ```
    /// use drainline::{IpNet, Listener, Peers};
    ///
    /// let balancers: IpNet = "10.0.0.0/8".parse()?;
    /// let _ = Listener::on("0.0.0.0:514".parse()?).proxy_from([balancers]);
    /// // And by a Unix socket, from processes of root.
    /// let _ = Listener::on("0.0.0.0:515".parse()?).proxy_from([balancers.into(), Peers::Uid(0)]);
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    pub fn proxy_from<P: Into<Peers>>(mut self, balancers: impl IntoIterator<Item = P>) -> Self {
        self.settings.proxy_from = Some(balancers.into_iter().map(P::into).collect());
        self
    }

    /// Whether two more sockets are to keep its port while connects are refused.
    pub(super) fn may_refuse(&self) -> bool {
        matches!(self.source, Source::Address(_))
    }

    fn access(&self) -> Access {
        let (uid, gid) = self.unix_owner.unwrap_or_default();
        Access {
            mode: self.unix_mode.unwrap_or(DEFAULT_MODE),
            uid,
            gid,
        }
    }

    /// Checks what only a path can have.
    fn check_access(&self) -> Result<(), ConfigError> {
        let mode = self
            .unix_mode
            .map(|mode| ("unix_mode", format!("{mode:04o}")));
        let owner = self
            .unix_owner
            .map(|owner| ("unix_owner", printed_owner(owner)));
        if let Some((setting, value)) = mode.clone().or(owner)
            && !matches!(self.source, Source::Path(_))
        {
            let expected = "it only for the path of a Unix socket".to_owned();
            return Err(ConfigError::out_of_range(setting, value, expected));
        }
        match (self.unix_mode, mode) {
            (Some(bits), Some((setting, value))) if !ranges::UNIX_MODE.contains(&bits) => {
                let expected = "0000 to 0777".to_owned();
                Err(ConfigError::out_of_range(setting, value, expected))
            }
            _ => Ok(()),
        }
    }

    /// Speaks TLS with the clients of this listener. A handler reads and writes plaintext; what
    /// counts bytes counts those of the plaintext, but for what a drain lets through and what
    /// nobody reads, which are bytes of the wire. Default: plain bytes.
    ///
    /// The handshake has [`handshake_timeout`](Config::handshake_timeout). A client that ends it
    /// in another way is counted as [`HandshakeFailed`](crate::EndReason::HandshakeFailed), and
    /// one that closes without having sent anything as [`NoData`](crate::EndReason::NoData).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: super::tls::Tls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// Whether its connections begin with a head of the PROXY protocol.
    pub(super) fn expects_proxy(&self, common: &Config) -> bool {
        !self.settings.over(common).proxy_from.is_empty()
    }

    /// What the operator should know about its certificate.
    pub(super) fn tls_note(&self) -> Option<String> {
        let tls = self.settings.tls.as_ref()?;
        tls.note(SystemTime::now())
    }

    /// What its sessions take, if it has TLS.
    pub(super) fn tls_memory(&self) -> Option<TlsMemory> {
        let tls = self.settings.tls.as_ref()?;
        let own = self.settings.max_connections;
        Some(TlsMemory {
            bytes: tls.connection_bytes(),
            connections: own.map_or(u64::MAX, |own| own as u64),
            loaded_bytes: tls.loaded_bytes(),
        })
    }

    /// What its own lists take of memory, in bytes.
    pub(super) fn list_bytes(&self) -> u64 {
        self.settings.list_bytes()
    }

    /// What its name and its address take, in bytes, where ledger and connections are told: in
    /// JSON, in which a control character takes six bytes, and in the copies of that.
    pub(super) fn told_bytes(&self) -> u64 {
        const MAX_ADDRESS: usize = 120;
        const IN_JSON: usize = 6;
        const COPIES: usize = 4;
        let name = self.name.as_ref().map_or(0, String::len);
        let bytes = name.saturating_add(MAX_ADDRESS);
        bytes.saturating_mul(IN_JSON * COPIES) as u64
    }

    /// Whether it has the same TLS as another.
    pub(super) fn shares_tls(&self, other: &Listener) -> bool {
        let (own, other) = (&self.settings.tls, &other.settings.tls);
        matches!((own, other), (Some(own), Some(other)) if own.is_same(other))
    }

    /// The listener in an error of its settings: its name, or its address.
    pub(crate) fn label(&self) -> String {
        match (&self.name, &self.source) {
            (Some(name), _) => name.clone(),
            (None, Source::Address(address)) => address.to_string(),
            (None, Source::Path(path)) => Address::Unix(path.clone()).to_string(),
            (None, Source::Inherited(socket)) => Address::of(socket).map_or_else(
                |_| "without a name".to_owned(),
                |address| address.to_string(),
            ),
        }
    }
}

/// As chown(1) has it: `USER:GROUP`, of which either may be left out.
fn printed_owner((uid, gid): (Option<u32>, Option<u32>)) -> String {
    let printed = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
    format!("{}:{}", printed(uid), printed(gid))
}

/// Whether the listeners' own settings hold, beside those of the server, which were checked.
pub(super) fn check_all<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    common: &Config,
) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for (index, listener) in listeners.enumerate() {
        let checked = listener.settings.check(common);
        let checked = checked.and_then(|()| listener.check_access());
        checked.map_err(|error| error.of_listener(index, &listener.label()))?;
        if let Some(length) = listener.name.as_ref().map(String::len)
            && !ranges::LISTENER_NAME.contains(&length)
        {
            let (least, most) = ranges::LISTENER_NAME.into_inner();
            let (value, expected) = (format!("{length} bytes"), format!("{least} to {most}"));
            return Err(ConfigError::out_of_range("name", value, expected));
        }
        if let Some(name) = &listener.name
            && !names.insert(name)
        {
            let expected = "a name that no other listener has".to_owned();
            return Err(ConfigError::out_of_range("name", name.clone(), expected));
        }
    }
    Ok(())
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Listener::on(address)
    }
}

/// Takes over a socket that is bound and listens already, and makes it non-blocking.
impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Source::Inherited(listener.into()).into()
    }
}

/// Takes over a socket that is bound and listens already, and makes it non-blocking. Its file stays
/// when the server ends.
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Source::Inherited(OwnedFd::from(listener).into()).into()
    }
}

impl From<Source> for Listener {
    fn from(source: Source) -> Self {
        Listener {
            source,
            name: None,
            is_shared: false,
            unix_mode: None,
            unix_owner: None,
            settings: ListenerSettings::default(),
        }
    }
}

#[derive(Debug)]
enum Source {
    Address(SocketAddr),
    Path(PathBuf),
    Inherited(Socket),
}

impl Source {
    /// The listener's IPv4 port, unless it is any free port.
    fn v4_port(&self) -> Option<u16> {
        let address = match self {
            Source::Address(address) => *address,
            Source::Path(_) => return None,
            Source::Inherited(socket) => Address::of(socket).ok()?.socket_addr()?,
        };
        let is_v4 = address.ip().to_canonical().is_ipv4();
        (is_v4 && address.port() != 0).then_some(address.port())
    }
}

/// The bound listeners of a server that is being started.
pub(super) struct BoundListeners {
    listeners: Vec<(BoundListener, Arc<Waker>)>,
    settings: Vec<ListenerSettings>,
    inherited: usize,
    unguarded: Vec<SocketAddr>,
}

impl BoundListeners {
    pub(super) fn all(listens: Vec<Listener>, config: &Config) -> Result<Self, StartError> {
        // `[::]` accepts IPv4 clients, too, and could not be bound to a port of an IPv4 listener.
        let v4_ports: Vec<u16> = listens
            .iter()
            .filter_map(|listen| listen.source.v4_port())
            .collect();
        let mut listeners = Vec::new();
        let mut names = Vec::new();
        let mut settings = Vec::new();
        let mut inherited = 0;
        for listen in listens {
            let access = listen.access();
            let Listener {
                source,
                name,
                is_shared,
                settings: own,
                ..
            } = listen;
            names.push(name);
            settings.push(own);
            listeners.push(match source {
                Source::Address(address) => {
                    let is_v6 = address.ip().to_canonical().is_ipv6();
                    let only_v6 = is_v6 && v4_ports.contains(&address.port());
                    BoundListener::bind(address, only_v6, config)
                        .map_err(|error| cannot_listen(address.into(), error))?
                }
                Source::Path(path) => BoundListener::bind_unix(&path, access, config)
                    .map_err(|error| cannot_listen(Address::Unix(path), error))?,
                Source::Inherited(socket) => {
                    inherited += 1;
                    BoundListener::inherit(socket, is_shared, config)
                        .map_err(system("an inherited listener"))?
                }
            });
        }
        let unguarded = listener::guard_other_families(&mut listeners);
        let count = listeners.len();
        for (index, (listener, name)) in listeners.iter_mut().zip(names).enumerate() {
            listener.name = ListenerName::new(index, count, name.as_deref(), &listener.address);
        }
        let listeners = listeners
            .into_iter()
            .map(|listener| Ok((listener, Arc::new(Waker::new()?))))
            .collect::<io::Result<_>>()
            .map_err(system("an eventfd"))?;
        Ok(BoundListeners {
            listeners,
            settings,
            inherited,
            unguarded,
        })
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        let addresses = self.listeners.iter().map(|(listener, _)| &listener.address);
        addresses.cloned().collect()
    }

    /// The state of each, by index.
    pub(super) fn states(&self, config: &Config, is_one_way: bool) -> Vec<ListenerState> {
        let listeners = self.listeners.iter().zip(&self.settings);
        listeners
            .map(|((listener, _), own)| {
                let (name, address) = (listener.name.clone(), listener.address.clone());
                ListenerState::new(name, address, own, config, is_one_way)
            })
            .collect()
    }

    pub(super) fn wakers(&self) -> Vec<Arc<Waker>> {
        let listeners = self.listeners.iter();
        listeners.map(|(_, waker)| Arc::clone(waker)).collect()
    }

    /// What the operator should know about the listeners.
    pub(super) fn notes(&self, config: &Config, names: SettingNames) -> Vec<String> {
        let on_overload = names.of("on_overload");
        let mut notes = Vec::new();
        let all_tls = self.settings.iter().filter_map(|own| own.tls.as_ref());
        notes.extend(all_tls.filter_map(|tls| tls.note(SystemTime::now())));
        if self.inherited > 0 && config.on_overload == OnOverload::Refuse {
            notes.push(format!(
                "{on_overload} refuse does not work for an inherited listener, which could not be opened \
                 again: drainline accepts and closes new clients there instead"
            ));
        }
        if config.on_overload == OnOverload::Refuse {
            let own = self.listeners.iter().filter(|(own, _)| own.has_file());
            notes.extend(own.map(|(own, _)| {
                let address = &own.address;
                format!(
                    "{on_overload} refuse does not work for {address}: a Unix socket that was shut down \
                     cannot listen again; drainline accepts and closes new clients there instead"
                )
            }));
        }
        notes.extend(self.unguarded.iter().map(|address| {
            let port = address.port();
            format!(
                "{on_overload} refuse does not work for {address}: another program has port {port} in the \
                 other address family, and could take it; drainline accepts and closes new clients there \
                 instead"
            )
        }));
        notes
    }

    pub(super) fn acceptors(
        self,
        shared: &Arc<Shared>,
        handlers: Vec<Arc<dyn Serve>>,
    ) -> Result<Vec<Acceptor>, StartError> {
        let listeners = self.listeners.into_iter().zip(handlers);
        let acceptors = listeners.map(|((listener, waker), handler)| {
            Acceptor::new(listener, waker, Arc::clone(shared), handler)
        });
        acceptors
            .collect::<io::Result<_>>()
            .map_err(system("a descriptor in reserve"))
    }
}

fn cannot_listen(address: Address, source: io::Error) -> StartError {
    StartError::Listen { address, source }
}

pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
