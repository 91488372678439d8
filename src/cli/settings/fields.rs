//! Everything that the flags set, and what does not hold together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use drainline::ingest::{
    DEFAULT_MAX_MESSAGE, Framing, Ingest, IngestBuilder, OutputFraming, Oversize,
};
use drainline::{Address, Config, Listener, Peers};
use log::LevelFilter;

use super::listeners::{self, ListenerSettings};
use super::origin::{Named, Origins};
use super::outputs::OutputSettings;
use super::routes;
#[cfg(feature = "tls")]
use super::tls::TlsSettings;
#[cfg(feature = "tls")]
use super::tls_listeners::LoadedTls;
use crate::cli::document::Stamp;
use crate::cli::flag::Flag;
use crate::cli::listen::{ListenUrl, SocketSpec};
use crate::cli::systemd::Passed;
use crate::cli::usage::UsageError;
use crate::cli::values::{ReportFormat, UnixOwner};
use crate::cli::{files, flag, outputs};

#[cfg(not(feature = "tls"))]
type LoadedTls = [(); 0];

/// Everything that the command line sets.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The server's own settings.
    pub(crate) config: Config,
    /// The longest message in bytes, without its framing.
    pub(crate) max_message: usize,
    /// How messages are delimited in the input.
    pub(crate) framing: Framing,
    /// How messages are delimited in the output.
    pub(crate) output_framing: OutputFraming,
    /// What happens to a longer message.
    pub(crate) oversize: Oversize,
    /// Where to listen without settings of a listener's own.
    pub(crate) listen: Vec<ListenUrl>,
    /// The listeners of the configuration file that have a table.
    pub(crate) listeners: Vec<ListenerSettings>,
    /// How many tables gave way to a flag or a variable.
    pub(super) unused_tables: usize,
    /// The permissions of Unix sockets, and whose they are.
    pub(crate) unix_mode: u32,
    pub(crate) unix_owner: Option<UnixOwner>,
    /// What listeners speak TLS with, where they have nothing of their own.
    #[cfg(feature = "tls")]
    pub(super) tls: TlsSettings,
    /// Where the messages go without a table.
    pub(crate) sinks: Vec<OutputSettings>,
    /// The outputs of the configuration file that have a table.
    pub(crate) outputs: Vec<OutputSettings>,
    /// How many tables gave way to a flag or a variable.
    pub(super) unused_outputs: usize,
    /// Whether a terminal is shown control characters of messages escaped.
    pub(crate) terminal_escape: bool,
    /// How the ledger is written at the end.
    pub(crate) report: ReportFormat,
    /// Where the bound addresses are written.
    pub(crate) port_file: Option<PathBuf>,
    /// Whether to check and print only.
    pub(crate) check: bool,
    /// `None`: RUST_LOG decides, else info.
    pub(crate) log_level: Option<LevelFilter>,
    /// The configuration file.
    pub(crate) config_file: Option<PathBuf>,
    /// That file as it was read.
    pub(crate) config_stamp: Option<Stamp>,
    /// What was given, and where.
    pub(crate) given: Origins,
}

impl Default for Settings {
    fn default() -> Self {
        let mut config = Config::default();
        config.stack_size = Some(256 << 10);
        Settings {
            config,
            max_message: DEFAULT_MAX_MESSAGE,
            framing: Framing::Lines,
            output_framing: OutputFraming::Lines,
            oversize: Oversize::Truncate,
            listen: vec![ListenUrl::default()],
            listeners: Vec::new(),
            unused_tables: 0,
            unix_mode: 0o666,
            unix_owner: None,
            #[cfg(feature = "tls")]
            tls: TlsSettings::default(),
            sinks: vec![OutputSettings::default()],
            outputs: Vec::new(),
            unused_outputs: 0,
            terminal_escape: true,
            report: ReportFormat::Text,
            port_file: None,
            check: false,
            log_level: None,
            config_file: None,
            config_stamp: None,
            given: Origins::default(),
        }
    }
}

/// What a listener was given: its name, how its messages are told apart, and what its clients need.
pub(in crate::cli) struct Given {
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) framing: Framing,
    pub(in crate::cli) speaks_tls: bool,
    /// A certificate that its clients have to show.
    pub(in crate::cli) wants_certificate: bool,
    /// Whether anybody may connect, and nothing stands before the messages.
    pub(in crate::cli) is_open: bool,
}

impl Settings {
    /// Every listener, those without a table first.
    pub(crate) fn all_listeners(&self) -> Vec<ListenerSettings> {
        let plain = self.listen.iter().cloned().map(ListenerSettings::from);
        plain.chain(self.listeners.iter().cloned()).collect()
    }

    /// Every output, those without a table first.
    pub(crate) fn all_outputs(&self) -> impl Iterator<Item = &OutputSettings> {
        self.sinks.iter().chain(&self.outputs)
    }

    /// What schemes of outputs need.
    pub(crate) fn common<'a>(&self, named: &'a str, hidden: &'a [String]) -> outputs::Common<'a> {
        outputs::Common {
            named,
            terminal_escape: self.terminal_escape,
            longest_message: self.longest_message(),
            drain_timeout: self.config.drain_timeout,
            hidden,
            given: &[],
        }
    }

    /// The variables of the environment that outputs read secrets from.
    pub(crate) fn secret_variables(&self) -> Vec<String> {
        let outputs = self.all_outputs();
        outputs.flat_map(OutputSettings::secret_variables).collect()
    }

    /// What the operator should know who wrote tables that are not used: the limits of listeners
    /// and their lists of peers hold for nobody.
    pub(crate) fn notes_of_unused_tables(&self) -> Vec<String> {
        let note = |flag: &str, table: &str, unused: usize| {
            (unused > 0).then(|| {
                let tables = match unused {
                    1 => format!("the [[{table}]] table"),
                    count => format!("the {count} [[{table}]] tables"),
                };
                let (named, all) = (self.named(flag), "and all that they set");
                format!("{named} stands in for {tables} of the configuration file, {all}")
            })
        };
        let listeners = note("listen", "listener", self.unused_tables);
        let outputs = note("sink", "output", self.unused_outputs);
        listeners.into_iter().chain(outputs).collect()
    }

    /// Whether the configuration came through a pipe, and stays on stdin.
    pub(crate) fn has_piped_config(&self) -> bool {
        self.config_file.is_some() && self.config_stamp.is_none()
    }

    /// Whether any listener speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        let listeners = self.all_listeners();
        listeners.iter().any(|listener| listener.address.speaks_tls)
    }

    /// The server that the settings describe, to be checked: a socket that a service manager would
    /// pass counts as any other. Reads no file.
    pub(super) fn builder_without_files(&self) -> IngestBuilder {
        let listeners = self.all_listeners().into_iter();
        listeners.fold(self.without_listeners(), |builder, settings| {
            let listener = self.listener_on(&settings.address.socket);
            builder.listener(settings.of(listener, settings.name.as_deref()))
        })
    }

    /// As [`builder_without_files`](Settings::builder_without_files), with what files say of the
    /// listeners.
    ///
    /// # Errors
    /// A file is missing, or cannot be used.
    pub(crate) fn builder(&self) -> Result<IngestBuilder, UsageError> {
        let mut builder = self.without_listeners();
        let mut loaded = LoadedTls::default();
        for settings in self.all_listeners() {
            let listener = self.listener_on(&settings.address.socket);
            let listener = self.with_files(listener, &settings, &mut loaded)?;
            builder = builder.listener(settings.of(listener, settings.name.as_deref()));
        }
        Ok(builder)
    }

    /// Who may connect to a listener; empty: everybody.
    fn allow<'a>(&'a self, listener: &'a ListenerSettings) -> &'a [Peers] {
        listener.allow().unwrap_or(&self.config.allow)
    }

    /// Who names the clients of a listener; empty: nobody.
    fn proxy_from<'a>(&'a self, listener: &'a ListenerSettings) -> &'a [Peers] {
        listener.proxy_from().unwrap_or(&self.config.proxy_from)
    }

    #[cfg(not(feature = "tls"))]
    fn wants_certificate(&self, _: &ListenerSettings) -> bool {
        false
    }

    #[cfg(feature = "tls")]
    fn with_files(
        &self,
        listener: Listener,
        settings: &ListenerSettings,
        loaded: &mut LoadedTls,
    ) -> Result<Listener, UsageError> {
        Ok(match self.load_tls(settings, loaded)? {
            Some(tls) => listener.tls(tls),
            None => listener,
        })
    }

    #[cfg(not(feature = "tls"))]
    fn with_files(
        &self,
        listener: Listener,
        _: &ListenerSettings,
        _: &mut LoadedTls,
    ) -> Result<Listener, UsageError> {
        Ok(listener)
    }

    /// A listener, in place of one that is passed an address of any kind.
    fn listener_on(&self, socket: &SocketSpec) -> Listener {
        match socket {
            SocketSpec::Tcp(address) => Listener::on(*address),
            SocketSpec::Unix(path) => self.unix(path),
            SocketSpec::Systemd(_) => Listener::on((Ipv4Addr::LOCALHOST, 0).into()),
        }
    }

    /// The server that the settings describe, on the sockets that were `passed`, and what each of
    /// its listeners was given.
    ///
    /// # Errors
    /// A socket that is named was not passed, or is no listener.
    pub(in crate::cli) fn builder_on(
        &self,
        passed: &mut Passed,
    ) -> Result<(IngestBuilder, Vec<Given>), UsageError> {
        let mut builder = self.without_listeners();
        let mut given = Vec::new();
        let mut loaded = LoadedTls::default();
        for settings in self.all_listeners() {
            let listeners = match &settings.address.socket {
                SocketSpec::Systemd(name) => {
                    passed.listeners(name, &self.named_address(&settings))?
                }
                socket => vec![self.listener_on(socket)],
            };
            for (index, listener) in listeners.into_iter().enumerate() {
                let listener = self.with_files(listener, &settings, &mut loaded)?;
                let mut name = settings.name.clone();
                // No two listeners have the same name.
                if let (Some(name), 1..) = (&mut name, index) {
                    *name += &format!(".{}", index + 1);
                }
                builder = builder.listener(settings.of(listener, name.as_deref()));
                given.push(Given {
                    name,
                    framing: settings.framing().unwrap_or(self.framing),
                    speaks_tls: settings.address.speaks_tls,
                    wants_certificate: self.wants_certificate(&settings),
                    is_open: self.allow(&settings).is_empty()
                        && self.proxy_from(&settings).is_empty(),
                });
            }
        }
        Ok((builder, given))
    }

    fn unix(&self, path: &Path) -> Listener {
        let listener = Listener::unix(path).unix_mode(self.unix_mode);
        match self.unix_owner {
            Some(owner) => listener.unix_owner(owner.uid, owner.gid),
            None => listener,
        }
    }

    fn without_listeners(&self) -> IngestBuilder {
        Ingest::builder()
            .config(self.config.clone())
            .max_message(self.max_message)
            .framing(self.framing)
            .output_framing(self.output_framing)
            .oversize(self.oversize)
            .setting_names(flag::of_setting)
    }

    /// Of Unix sockets that let nobody in.
    pub(in crate::cli) fn notes_of_modes(&self) -> impl Iterator<Item = String> {
        let listeners = self.all_listeners().into_iter();
        listeners.filter_map(|listener| {
            let SocketSpec::Unix(path) = &listener.address.socket else {
                return None;
            };
            let (named, mode) = match listener.unix_mode {
                Some(mode) => (listener.named("unix-mode"), mode),
                None => (self.named("unix-mode"), self.unix_mode),
            };
            (mode & 0o222 == 0).then(|| {
                let path = path.display();
                format!("{named} {mode:04o} lets nobody but root connect to {path}: a client has to be allowed to write to it")
            })
        })
    }

    /// Whether there is a Unix socket to whose file the common mode and owner go: whoever asks for
    /// them must not find out later that they keep nobody out. A value that is the default asks for
    /// nothing, as in the file that `drainline config` prints.
    fn check_unix(&self, listeners: &[ListenerSettings]) -> Result<(), UsageError> {
        let is_made = |it: &ListenerSettings| matches!(it.address.socket, SocketSpec::Unix(_));
        if listeners.iter().any(is_made) {
            return Ok(());
        }
        let default = Settings::default();
        let row = match self {
            _ if self.unix_mode != default.unix_mode => "unix-mode",
            _ if self.unix_owner.is_some() => "unix-owner",
            _ => return Ok(()),
        };
        let expected = "a Unix socket beside it that drainline makes, such as unix:/run/a.sock";
        Err(self.named(row).contradiction(&self.words(row), expected))
    }

    /// What contradicts each other and is no setting of the library: listeners, outputs and files.
    pub(super) fn check_own(&self) -> Result<(), UsageError> {
        let listeners = self.all_listeners();
        self.check_unix(&listeners)?;
        for (index, listener) in listeners.iter().enumerate() {
            self.check_apart(listener, &listeners[..index])?;
            self.check_peers(listener)?;
        }
        let outputs: Vec<&OutputSettings> = self.all_outputs().collect();
        for (index, output) in outputs.iter().enumerate() {
            output.check(&outputs[..index])?;
        }
        let in_file = match self.unused_outputs {
            0 => None,
            _ => Some(self.named("sink").to_string()),
        };
        routes::check(&listeners, &outputs, in_file.as_deref())?;
        for output in outputs {
            output.check_holds(self.longest_message())?;
        }
        self.check_files()
    }

    /// The longest message that a listener takes, in bytes.
    fn longest_message(&self) -> usize {
        let listeners = self.all_listeners();
        let own = |it: &ListenerSettings| it.max_message().unwrap_or(self.max_message);
        listeners.iter().map(own).max().unwrap_or(self.max_message)
    }

    /// Whether no file is written over another.
    fn check_files(&self) -> Result<(), UsageError> {
        let config = self.config_file.as_deref();
        let is_config = |path: &Path| config.is_some_and(|config| files::replaces(path, config));
        let not_config = "a file other than the configuration file";
        for output in self.all_outputs() {
            if let Some((_, row)) = output.files().find(|(file, _)| is_config(file)) {
                return Err(output.contradicts(row, not_config));
            }
        }
        let Some(port_file) = &self.port_file else {
            return Ok(());
        };
        let refused = |expected: &str| {
            let port_file = port_file.display().to_string();
            Err(self.named("port-file").contradiction(&port_file, expected))
        };
        if is_config(port_file) {
            return refused(not_config);
        }
        let is_replaced = |file: &Path| files::replaces(port_file, file);
        let mut outputs = self.all_outputs();
        let row = |output: &OutputSettings| {
            let mut files = output.files();
            let found = files.find(|(file, _)| is_replaced(file));
            found.map(|(_, row)| output.named(row).name)
        };
        match outputs.find_map(row) {
            Some(other) => refused(&format!(
                "a file other than that of {other}, which it would replace"
            )),
            None => Ok(()),
        }
    }

    /// What the settings come from beside the command line: the file, and variables.
    pub(crate) fn sources(&self) -> Vec<String> {
        let file = self
            .config_file
            .iter()
            .map(|path| path.display().to_string());
        let flags = super::flags();
        let is_of_variable = |flag: &&Flag<Settings>| self.given.is_of_variable(flag.name);
        let variables = flags.iter().filter(is_of_variable).map(Flag::variable);
        file.chain(variables).collect()
    }

    /// Whether a listener can be had beside others, and told apart.
    fn check_apart(
        &self,
        listener: &ListenerSettings,
        others: &[ListenerSettings],
    ) -> Result<(), UsageError> {
        let has_name =
            |other: &&ListenerSettings| listener.name.is_some() && other.name == listener.name;
        if let (Some(name), Some(_)) = (&listener.name, others.iter().find(has_name)) {
            let expected = "a name that no other [[listener]] has";
            return Err(listener
                .named(listeners::NAME)
                .contradiction(name, expected));
        }
        let expected = match listener.address.socket {
            SocketSpec::Unix(_) => "each path once, however it is spelled",
            SocketSpec::Systemd(_) => "each name once, and no name beside systemd:",
            SocketSpec::Tcp(_) => {
                "each address once, and no address beside the wildcard address of its family and port"
            }
        };
        let is_twice = |other: &ListenerSettings| is_twice(&other.address, &listener.address);
        match others.iter().any(is_twice) {
            true => Err(self
                .named_address(listener)
                .contradiction(&listener.address.to_string(), expected)),
            false => Ok(()),
        }
    }

    /// Whether a list of peers would keep everybody out.
    fn check_peers(&self, listener: &ListenerSettings) -> Result<(), UsageError> {
        let socket = &listener.address.socket;
        let (balancers, allow) = (self.proxy_from(listener), self.allow(listener));
        if !balancers.is_empty() && !socket.has_peer_of(balancers) {
            return Err(self.keeps_all_out("proxy-from", listener));
        }
        // A balancer's clients are of networks, whatever its own way here is.
        let is_network = |peers: &Peers| matches!(peers, Peers::Network(_));
        let is_met = match balancers {
            [] => socket.has_peer_of(allow),
            _ => socket.has_peer_of(allow) || allow.iter().any(is_network),
        };
        match allow.is_empty() || is_met {
            true => Ok(()),
            false => Err(self.keeps_all_out("allow", listener)),
        }
    }

    fn keeps_all_out(&self, row: &str, listener: &ListenerSettings) -> UsageError {
        let (peers, url) = (listener.address.socket.peers(), &listener.address);
        let expected = format!("{peers} in it, since nobody else connects to {url}");
        match listener.has(row) {
            true => {
                let expected = format!("off, or {expected}");
                let words = listener.words(row);
                listener.named(row).contradiction(&words, &expected)
            }
            false => {
                let key = row.replace('-', "_");
                let expected = format!("{expected}, or an {key} of its own in a [[listener]]");
                self.named(row).contradiction(&self.words(row), &expected)
            }
        }
    }

    /// Where a listener's address was given.
    pub(crate) fn named_address(&self, listener: &ListenerSettings) -> Named {
        match listener.table {
            Some(_) => listener.named(listeners::ADDRESS),
            None => self.named("listen"),
        }
    }

    /// The values alone: two files may say the same.
    #[cfg(test)]
    pub(crate) fn forget_origins(&mut self) {
        (self.config_file, self.config_stamp) = (None, None);
        self.given = Origins::default();
        for listener in &mut self.listeners {
            listener.forget_origins();
        }
        // An output of its own table is as one of a flag.
        self.sinks.append(&mut self.outputs);
        for output in &mut self.sinks {
            output.forget_origins();
        }
    }

    /// Whether somebody set a flag.
    #[cfg(feature = "tls")]
    pub(super) fn has(&self, flag: &str) -> bool {
        self.given.origin(flag).is_some()
    }

    /// The value of a flag, as it was given.
    pub(super) fn words(&self, flag: &str) -> String {
        let flags = super::flags();
        let found = flags.iter().find(|row| row.name == flag);
        found.map_or_else(String::new, |row| self.given.value(row, self))
    }

    /// What a flag is called where its value was given.
    pub(crate) fn named(&self, flag: &str) -> Named {
        let flags = super::flags();
        let found = flags.iter().find(|row| row.name == flag);
        self.given.named(found.expect("the name of a flag"))
    }
}

/// Whether two of them want the same. Port 0 is another port each time.
fn is_twice(one: &ListenUrl, other: &ListenUrl) -> bool {
    if let (Some(Address::Tcp(one)), Some(Address::Tcp(other))) = (one.address(), other.address()) {
        return other.port() != 0 && overlap(&one, &other);
    }
    match (&one.socket, &other.socket) {
        (SocketSpec::Unix(one), SocketSpec::Unix(other)) => files::is_same_entry(one, other),
        (SocketSpec::Systemd(one), SocketSpec::Systemd(other)) => {
            one == other || one.is_empty() || other.is_empty()
        }
        _ => false,
    }
}

/// Whether the system would refuse one of two addresses. IPv4 and IPv6 do not meet: `[::]` leaves
/// IPv4 to whoever has it.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port()
        && a.is_ipv4() == b.is_ipv4()
        && (one == other || a.is_unspecified() || b.is_unspecified() || a.is_ipv4() && a == b)
}
