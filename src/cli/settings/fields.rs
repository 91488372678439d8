//! Everything that the flags set, and what does not hold together.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use drainline::Config;
use drainline::ingest::{
    DEFAULT_MAX_MESSAGE, Framing, Ingest, IngestBuilder, OutputFraming, Oversize,
};
use log::LevelFilter;

use crate::cli::listen::ListenUrl;
use crate::cli::systemd::Passed;
use crate::cli::usage::UsageError;
use crate::cli::values::{ReportFormat, SinkSpec};
use crate::cli::{files, flag};

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
    /// Where to listen: at least one place.
    pub(crate) listen: Vec<ListenUrl>,
    /// Where the messages go.
    pub(crate) sink: SinkSpec,
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
    /// The values that were typed, word for word, by the flag's name.
    pub(crate) typed: HashMap<&'static str, String>,
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
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5140)).into()],
            sink: SinkSpec::Stdout,
            terminal_escape: true,
            report: ReportFormat::Text,
            port_file: None,
            check: false,
            log_level: None,
            typed: HashMap::new(),
        }
    }
}

impl Settings {
    /// The server that the settings describe, to be checked: a socket that a service manager would
    /// pass counts as any other.
    pub(crate) fn builder(&self) -> IngestBuilder {
        let listen = self.listen.iter().map(|listen| match listen {
            ListenUrl::Tcp(address) => *address,
            ListenUrl::Systemd(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        });
        listen.fold(self.without_listeners(), IngestBuilder::listen)
    }

    /// The server that the settings describe, on the sockets that were `passed`.
    ///
    /// # Errors
    /// A socket that is named was not passed, or is no listener.
    pub(in crate::cli) fn builder_on(
        &self,
        passed: &mut Passed,
    ) -> Result<IngestBuilder, UsageError> {
        let mut builder = self.without_listeners();
        for listen in &self.listen {
            builder = match listen {
                ListenUrl::Tcp(address) => builder.listen(*address),
                ListenUrl::Systemd(name) => passed
                    .listeners(name)?
                    .into_iter()
                    .fold(builder, IngestBuilder::listener),
            };
        }
        Ok(builder)
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

    /// What contradicts each other and is no setting of the library: listeners and files.
    pub(super) fn check_own(&self) -> Result<(), UsageError> {
        if let Some(twice) = self.listens_twice() {
            let expected = match twice {
                ListenUrl::Tcp(_) => {
                    "each address once, and no address beside the wildcard address of its family and port"
                }
                ListenUrl::Systemd(_) => "each name once, and no name beside systemd:",
            };
            return Err(UsageError::contradiction(&format!(
                "invalid value '{twice}' for --listen: expected {expected}"
            )));
        }
        if let (SinkSpec::File(sink), Some(port_file)) = (&self.sink, &self.port_file)
            && files::replaces(port_file, sink)
        {
            return Err(UsageError::contradiction(&format!(
                "invalid value '{}' for --port-file: expected a file other than that of --sink, which it \
                 would replace",
                port_file.display()
            )));
        }
        Ok(())
    }

    fn listens_twice(&self) -> Option<&ListenUrl> {
        let all = self.listen.iter().enumerate();
        all.map(|(place, listen)| (&self.listen[..place], listen))
            .find(|(before, listen)| before.iter().any(|other| is_twice(other, listen)))
            .map(|(_, listen)| listen)
    }
}

/// Whether two of them want the same. Port 0 is another port each time.
fn is_twice(one: &ListenUrl, other: &ListenUrl) -> bool {
    match (one, other) {
        (ListenUrl::Tcp(one), ListenUrl::Tcp(other)) => other.port() != 0 && overlap(one, other),
        (ListenUrl::Systemd(one), ListenUrl::Systemd(other)) => {
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
