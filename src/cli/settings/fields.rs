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
    /// Where to listen: at least one address.
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
    /// The server that the settings describe.
    pub(crate) fn builder(&self) -> IngestBuilder {
        let builder = Ingest::builder()
            .config(self.config.clone())
            .max_message(self.max_message)
            .framing(self.framing)
            .output_framing(self.output_framing)
            .oversize(self.oversize)
            .setting_names(flag::of_setting);
        let listen = self.listen.iter();
        listen.fold(builder, |builder, url| match url {
            ListenUrl::Tcp(address) => builder.listen(*address),
        })
    }

    /// What contradicts each other and is no setting of the library: listeners and files.
    pub(super) fn check_own(&self) -> Result<(), UsageError> {
        if let Some(twice) = self.listens_twice() {
            return Err(UsageError::contradiction(&format!(
                "invalid value '{twice}' for --listen: expected each address once, and no address beside \
                 the wildcard address of its family and port"
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

    /// Port 0 is another port each time.
    fn listens_twice(&self) -> Option<SocketAddr> {
        let addresses = self.listen.iter().filter_map(ListenUrl::address);
        let fixed: Vec<SocketAddr> = addresses.filter(|address| address.port() != 0).collect();
        let mut places = fixed.iter().enumerate();
        let twice = places.find(|(place, address)| {
            let mut before = fixed[..*place].iter();
            before.any(|other| overlap(other, address))
        });
        twice.map(|(_, address)| *address)
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
