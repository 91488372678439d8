//! Who takes part: how each is had, and how it is started.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::destination::Destination;
use crate::peer::Peer;
use crate::process::Running;
use crate::provision::{self, Certificate};
use crate::scenario::Entrant;

/// As drainline has them by default: what a body has at most, and how many are on their way.
pub(crate) const BODY_BYTES: &str = "1048576";
const REQUESTS: &str = "4";

/// What a server is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) entrant: &'a Entrant,
    pub(crate) program: &'a Path,
    pub(crate) address: SocketAddr,
    /// A file or a FIFO; `None` is the null sink, if there is no server to send to either.
    pub(crate) sink: Option<&'a Path>,
    /// A server that messages go on to.
    pub(crate) to: Option<&'a Destination>,
    pub(crate) connections: usize,
    pub(crate) is_echo: bool,
    /// Most of what it gets is large: read buffers that are given by hand may be large, too.
    pub(crate) is_bulk: bool,
    /// A folder of its own.
    pub(crate) folder: &'a Path,
}

impl Peer {
    /// Starts it, and does not wait until it listens.
    pub(crate) fn start(self, start: &Start<'_>) -> Outcome<Running> {
        let address = start.address;
        let mut command = Command::new(start.program);
        let listen = address.to_string();
        let sink = start.sink.map(|path| path.display().to_string());
        let is_over_unix = start.entrant.is_over_unix;
        let socket = is_over_unix.then(|| start.folder.join("socket"));
        let read_buffer = if start.is_bulk { "65536" } else { "4096" };
        match self {
            Peer::Drainline => {
                let listen = match (&socket, start.entrant.is_over_tls) {
                    (Some(path), _) => format!("unix:{}", path.display()),
                    (None, true) => format!("tls://{listen}"),
                    (None, false) => listen,
                };
                let connections = (start.connections + 64).max(1024).to_string();
                command.args(["--listen", &listen, "--report", "json"]);
                for nth in 1..=start.entrant.outputs {
                    command.args(["--sink", &output(start, nth)]);
                }
                command.args(["--max-connections", &connections]);
                command.args(["--framing", start.entrant.framing]);
                if start.entrant.is_over_tls {
                    give_certificate(&mut command)?;
                }
            }
            Peer::Library => {
                command.args([crate::echo::ARGUMENT, &listen]);
            }
            Peer::Go => {
                command.args(["-listen", &listen, "-read-buffer", read_buffer]);
                command.args(["-sink", sink.as_deref().unwrap_or("null")]);
                command.args(start.is_echo.then_some("-echo"));
                if start.entrant.is_over_tls {
                    let Certificate { chain, key } = provision::certificate()?;
                    command.arg("-tls-cert").arg(chain);
                    command.arg("-tls-key").arg(key);
                }
            }
            Peer::Tokio | Peer::TokioOneThread => {
                command.args(["--listen", &listen, "--read-buffer", read_buffer]);
                command.args(["--sink", sink.as_deref().unwrap_or("null")]);
                command.args(start.is_echo.then_some("--echo"));
                match self {
                    Peer::Tokio => command.args(["--workers", "2"]),
                    _ => command.arg("--current-thread"),
                };
            }
            Peer::Floor => {
                command.args(["--listen", &listen]);
                if let Some(sink) = &sink {
                    command.args(["--sink", sink]);
                }
                if let Some(to) = start.to {
                    command.args(["--forward", &to.server.address.to_string()]);
                }
            }
            Peer::FloorTls => {
                command.args(["--listen", &listen]);
                give_certificate(&mut command)?;
            }
            Peer::Rsyslog => {
                let text = match start.entrant.is_over_tls {
                    true => include_str!("../peers/rsyslog/tls.conf"),
                    false => include_str!("../peers/rsyslog/rsyslog.conf"),
                };
                let configuration = configure(text, address, start)?;
                command.arg("-n").arg("-f").arg(configuration);
                command.arg("-i").arg(start.folder.join("rsyslog.pid"));
            }
            Peer::SyslogNg => {
                let text = include_str!("../peers/syslog-ng/syslog-ng.conf");
                let configuration = configure(text, address, start)?;
                command
                    .args(["--foreground", "--no-caps", "--cfgfile"])
                    .arg(configuration);
                for (flag, name) in [
                    ("persist-file", "persist"),
                    ("pidfile", "pid"),
                    ("control", "control"),
                ] {
                    let path = start.folder.join(format!("syslog-ng.{name}"));
                    command.arg(format!("--{flag}={}", path.display()));
                }
            }
            Peer::Iperf3 => {
                let port = address.port().to_string();
                command.args(["--server", "--bind", "127.0.0.1", "--port", &port]);
            }
            Peer::LinesToBulk => {
                let to = start.to.ok_or("it sends over HTTP alone")?;
                command.args(["--listen", &listen, "--to", &to.url()]);
                command.args(["--body-bytes", BODY_BYTES, "--requests", REQUESTS]);
            }
            Peer::WriteCall
            | Peer::WriteAndSync(_)
            | Peer::RedisBenchmark
            | Peer::UreqLoop
            | Peer::KafkaLoop => {
                return Err("it is no server".into());
            }
        }
        command.args(known_flags(start.program, start.entrant.flags));
        Ok(Running::start(command, address, start.folder)?.at(socket))
    }
}

/// Where drainline's messages go: the `nth` of its outputs.
fn output(start: &Start<'_>, nth: usize) -> String {
    let mut options = start.entrant.options.to_owned();
    let mut place = start.sink.map(|path| path.display().to_string());
    if nth > 1 {
        let and = if options.is_empty() { "" } else { "&" };
        options += &format!("{and}name=output-{nth}");
        place = place.map(|path| format!("{path}-{nth}"));
    }
    let url = match (start.to, place) {
        (Some(to), _) => to.url(),
        // Without options, also an older build knows it.
        (None, Some(path)) if options.is_empty() => return format!("file:{path}"),
        (None, Some(path)) => format!("file://{path}"),
        (None, None) => "null".to_owned(),
    };
    match &*options {
        "" => url,
        options => format!("{url}?{options}"),
    }
}

/// As drainline and the floor take it.
fn give_certificate(command: &mut Command) -> Outcome<()> {
    let Certificate { chain, key } = provision::certificate()?;
    command.arg("--tls-cert").arg(chain);
    command.arg("--tls-key").arg(key);
    Ok(())
}

/// An entrant's flags, each with its value, if its program knows them: another build may be older.
pub(crate) fn known_flags(program: &Path, flags: &[&'static str]) -> Vec<&'static str> {
    if flags.is_empty() {
        return Vec::new();
    }
    let help = Command::new(program).arg("--help").output();
    let help = help.map_or(Vec::new(), |output| output.stdout);
    let help = String::from_utf8_lossy(&help);
    let pairs = flags.chunks(2);
    let known = pairs.filter(|pair| help.contains(&format!("{} ", pair[0])));
    known.flatten().copied().collect()
}

/// Fills in what stands in braces.
fn configure(text: &str, address: SocketAddr, start: &Start<'_>) -> Outcome<PathBuf> {
    let sink = start.sink.ok_or("it writes to files alone")?;
    let connections = start.connections + 16;
    let certificate = match start.entrant.is_over_tls {
        true => provision::certificate()?,
        false => Certificate::default(),
    };
    let filled = text
        .replace("{folder}", &start.folder.display().to_string())
        .replace("{sink}", &sink.display().to_string())
        .replace("{ip}", &address.ip().to_string())
        .replace("{port}", &address.port().to_string())
        .replace("{certificate}", &certificate.chain.display().to_string())
        .replace("{key}", &certificate.key.display().to_string())
        .replace("{connections}", &connections.to_string())
        .replace("{window}", &(connections * 1000).max(100_000).to_string());
    let path = start.folder.join("configuration");
    fs::write(&path, filled)?;
    Ok(path)
}
