//! Starts the server that the settings ask for, and waits for its end.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use drainline::ingest::IngestBuilder;
use drainline::{Address, ResourceLimits, Server, StartError};
use env_logger::WriteStyle;
use log::{Level, LevelFilter, Metadata, Record};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
#[cfg(feature = "tls")]
use sd_notify::NotifyState;

use super::addresses::{self, Bindable};
use super::listen::SocketSpec;
use super::outputs::Unfit;
use super::outputs::scheme::{Reopens, StandIn};
#[cfg(feature = "tls")]
use super::reload::Reloader;
use super::settings::{Given, Named, OutputSettings, Settings};
use super::signals::{Hands, Signals, Terminal};
use super::stderr::{Lister, Stderr};
use super::systemd::{self, Manager, Notifier, Passed};
use super::usage::UsageError;
use super::{files, loops, report, start_memory, values};

/// Threads beside the server's: `signals` and `lister`.
pub(crate) const THREADS: u64 = 2;
/// With TLS: `reloader`, and the file that it reads.
const FOR_TLS: u64 = 1;
/// Descriptors beside the server's: stderr, the terminal, the file of a sink, and two more while
/// that file is reopened; the pipe of signals.
pub(crate) const DESCRIPTORS: u64 = 7;
/// Two for each further file that is reopened.
const FOR_REOPEN: u64 = 2;

/// What a start has open when descriptors are counted, beside stderr, the terminal and stdout: the
/// pipe of signals.
const PIPE_OF_SIGNALS: u64 = 2;

/// Serves until a signal or a failure ends the server. Calls `started` when all threads run.
///
/// # Errors
/// The server did not start, or `started` failed.
pub(crate) fn serve(
    settings: &Settings,
    started: impl FnOnce(&Arc<Server>) -> io::Result<()>,
) -> Result<ExitCode, UsageError> {
    let mut passed = Passed::take();
    let manager = Manager::of_process();
    let stderr = Stderr::open();
    start_log(settings.log_level, &stderr);
    raise_descriptor_limit();
    // Before the server, so that a signal that comes while it starts finds somebody.
    let signals =
        Signals::register().map_err(|error| failed(&format!("cannot handle signals: {error}")))?;
    if let Some(path) = &settings.port_file {
        files::check_replaced(path).map_err(|error| port_file_failed(settings, path, &error))?;
    }
    let start_memory = start_memory::beyond_ordinary();
    let (builder, given) = settings.builder_on(&mut passed)?;
    let builder = builder.reserve_memory(start_memory);
    let server = Arc::new(start(builder, settings, &stderr)?);
    let bound: Vec<Bound> = server.addresses().iter().cloned().zip(given).collect();
    let log = |text: String| server.logger().log(Level::Warn, text);
    passed.unused().into_iter().for_each(log);
    drop(passed);
    let manager = manager.unwrap_or_else(|error| {
        log(format!("cannot tell the service manager anything: {error}"));
        None
    });
    let no_thread = |error| failed(&format!("cannot start a thread for signals: {error}"));
    let notifier = manager
        .map(|manager| Notifier::start(manager, Arc::clone(&server)))
        .transpose()
        .map_err(no_thread)?;
    let teller = notifier.as_ref().map(Notifier::teller).unwrap_or_default();
    let (lister, lists) = Lister::start(Arc::clone(&server), Arc::clone(&stderr), settings.report)
        .map_err(no_thread)?;
    let hands = Hands {
        server: Arc::clone(&server),
        stderr: Arc::clone(&stderr),
        lister: lister.clone(),
        teller: teller.clone(),
        drain_timeout: settings.config.drain_timeout,
        format: settings.report,
        has_file: reopened(settings, Reopens::File).next().is_some(),
        has_connection: reopened(settings, Reopens::Connection).next().is_some(),
        reads_secrets: settings
            .all_outputs()
            .any(|output| output.destination.reads_again()),
        #[cfg(feature = "tls")]
        reloader: reloader(settings, &server, &teller).map_err(no_thread)?,
        config: settings.config_file.clone().zip(settings.config_stamp),
    };
    let signals = signals.serve(hands).map_err(no_thread)?;
    std::panic::set_hook(server.logger().panic_hook());
    if let Some(path) = &settings.port_file {
        let text = port_file(&bound);
        files::write_whole(path, &text).map_err(|error| {
            server.shutdown(Duration::ZERO);
            port_file_failed(settings, path, &error)
        })?;
    }
    stderr.say(&banner(settings, &server, &bound));
    teller.serves(format!("listening on {}", listed_with_tls(&bound)));
    started(&server).map_err(|error| failed(&error.to_string()))?;
    let report = server.wait_before_exit();
    if let Some(notifier) = notifier {
        notifier.end();
    }
    signals.end();
    lister.give_way();
    let _ = lists.join();
    let mut last = String::new();
    if let Some(error) = &report.error {
        last += &format!("drainline: {error}\n");
    }
    stderr.say(&(last + &report::write(&report, settings.report)));
    Ok(ExitCode::from(report::exit_code(&report)))
}

/// Checks the settings; returns their effective values, the limits, and notes.
///
/// # Errors
/// The error of a start: the system cannot hold the settings, an address cannot be bound, or a file
/// cannot be opened. Two errors are only notes, because the check would disturb whoever is there:
/// an address in use, which may be the running server's, and a FIFO without a reader.
pub(super) fn check(settings: &Settings) -> Result<String, UsageError> {
    let start_memory = start_memory::beyond_ordinary();
    raise_descriptor_limit();
    // Open as they are in a start, which counts them.
    let _stderr = Stderr::open();
    let _terminal = Terminal::that_hangs_up();
    let mut text = String::new();
    if let Some(path) = &settings.config_file {
        text += &format!("# {} {}\n", settings.named("config"), path.display());
    }
    text += &settings.effective();
    if let Some(path) = &settings.port_file {
        files::check_replaced(path).map_err(|error| port_file_failed(settings, path, &error))?;
    }
    let mut notes = Vec::new();
    let (mut held, mut outputs) = (Vec::new(), Vec::new());
    let mut not_open = PIPE_OF_SIGNALS;
    let hidden = settings.secret_variables();
    for output in settings.all_outputs() {
        let named = output.named_sink().to_string();
        let common = settings.common(&named, &hidden);
        let checked = output.destination.check(common);
        let checked = checked.map_err(|error| sink_failed(output, &error))?;
        notes.extend(output.notes(common));
        notes.extend(checked.notes);
        held.push(checked.holds);
        not_open += checked.not_open;
        outputs.push(output.of(StandIn {
            is_framed: output.destination.entry().is_framed,
            resources: checked.resources,
        }));
    }
    let listeners = settings.all_listeners().into_iter();
    let passed =
        listeners.filter(|listener| matches!(listener.address.socket, SocketSpec::Systemd(_)));
    let manager = if Manager::is_there() {
        systemd::DESCRIPTORS
    } else {
        0
    };
    let not_open = not_open + passed.count() as u64 + manager;
    let builder = settings
        .builder()?
        .reserve(threads(settings), descriptors(settings) + not_open)
        .reserve_memory(start_memory);
    let builder = outputs.into_iter().fold(builder, IngestBuilder::output);
    let checked = builder.check();
    let (limits, more_notes) = checked.map_err(|error| not_started(&error, settings))?;
    drop(held);
    text += &format!("limits: {limits}\n");
    notes.extend(settings.notes_of_unused_tables());
    notes.extend(settings.notes_of_modes());
    notes.extend(loops::notes(settings));
    notes.extend(notes_of_addresses(settings)?);
    notes.extend(kernel_note(&limits));
    notes.extend(more_notes);
    for note in notes {
        text += &format!("note: {note}\n");
    }
    Ok(text)
}

/// Which addresses are in use.
///
/// # Errors
/// An address cannot be listened on, whoever has it.
fn notes_of_addresses(settings: &Settings) -> Result<Vec<String>, UsageError> {
    let mut notes = Vec::new();
    for listener in settings.all_listeners() {
        let named = settings.named_address(&listener);
        let url = &listener.address;
        let Some(address) = url.address() else {
            notes.push(format!(
                "{named} {url}: a start fails unless the service manager passes a listening socket"
            ));
            continue;
        };
        let failed = |error| listen_failed(&named, &address, &error);
        match addresses::check(&address).map_err(failed)? {
            Bindable::Free => {}
            Bindable::InUse => notes.push(format!(
                "{named} {address} is in use: a start fails unless whoever listens there ends first"
            )),
            Bindable::Exists => notes.push(format!(
                "{named} {address} is there: a start takes it over if nobody listens on it, and fails otherwise"
            )),
        }
    }
    Ok(notes)
}

/// Whether the system holds a server of these settings; starts nothing.
///
/// # Errors
/// The line and the exit code of a start.
pub(crate) fn check_start(settings: &Settings) -> Result<(), UsageError> {
    builder(settings)?
        .check()
        .map(drop)
        .map_err(|error| not_started(&error, settings))
}

fn builder(settings: &Settings) -> Result<IngestBuilder, UsageError> {
    let builder = settings.builder()?;
    Ok(builder.reserve(threads(settings), descriptors(settings)))
}

fn threads(settings: &Settings) -> u64 {
    let notifier = match Manager::is_there() {
        true => systemd::THREADS,
        false => 0,
    };
    THREADS + notifier + for_tls(settings)
}

fn descriptors(settings: &Settings) -> u64 {
    let files = reopened(settings, Reopens::File).count() as u64;
    DESCRIPTORS + files.saturating_sub(1) * FOR_REOPEN + for_tls(settings)
}

/// The outputs at which SIGHUP does this.
fn reopened(settings: &Settings, how: Reopens) -> impl Iterator<Item = &OutputSettings> {
    let is_one = move |output: &&OutputSettings| output.destination.reopens() == Some(how);
    settings.all_outputs().filter(is_one)
}

fn for_tls(settings: &Settings) -> u64 {
    match settings.has_tls() {
        true => FOR_TLS,
        false => 0,
    }
}

/// Reads the files of TLS again when SIGHUP asks for it.
#[cfg(feature = "tls")]
fn reloader(
    settings: &Settings,
    server: &Arc<Server>,
    teller: &systemd::Teller,
) -> io::Result<Option<Reloader>> {
    if !settings.has_tls() {
        return Ok(None);
    }
    let (server, teller) = (Arc::clone(server), teller.clone());
    Reloader::start(move || {
        let asked = NotifyState::monotonic_usec_now();
        server.reload_tls();
        if let Ok(asked) = asked {
            teller.reloaded(asked);
        }
    })
    .map(Some)
}

fn start(
    builder: IngestBuilder,
    settings: &Settings,
    stderr: &Arc<Stderr>,
) -> Result<Server, UsageError> {
    let builder = builder.reserve(threads(settings), descriptors(settings));
    let notes = settings.notes_of_unused_tables().into_iter();
    let notes = notes.chain(settings.notes_of_modes());
    let notes = notes.chain(loops::notes(settings));
    let mut remarks: Vec<(Level, String)> = notes.map(|note| (Level::Warn, note)).collect();
    let mut builder = builder;
    let hidden = settings.secret_variables();
    // Before the first is opened: a start that is refused leaves no file behind.
    for output in settings.all_outputs() {
        let named = output.named_sink().to_string();
        let common = settings.common(&named, &hidden);
        let checked = output.destination.check(common);
        checked.map_err(|error| sink_failed(output, &error))?;
        let notes = output.notes(common).into_iter();
        remarks.extend(notes.map(|note| (Level::Warn, note)));
    }
    for output in settings.all_outputs() {
        let named = output.named_sink().to_string();
        let opened = output
            .destination
            .open(settings.common(&named, &hidden), stderr);
        let opened = opened.map_err(|error| sink_failed(output, &error))?;
        remarks.extend(opened.remarks);
        builder = builder.output(output.of(opened.sink));
    }
    let server = builder.start_outputs();
    let server = server.map_err(|error| not_started(&error, settings))?;
    for (level, text) in remarks {
        server.logger().log(level, text);
    }
    Ok(server)
}

/// What the kernel may hold is no memory of the process, and no limit of drainline's.
fn kernel_note(limits: &ResourceLimits) -> Option<String> {
    let bytes = limits.kernel_memory_bytes;
    (bytes > 0).then(|| {
        format!(
            "the kernel's socket buffers are not part of the limits: they would come to {} if every \
             client filled them (net.ipv4.tcp_rmem and tcp_wmem), and net.ipv4.tcp_mem caps them for the \
             whole machine",
            ByteSize(bytes).display().iec()
        )
    })
}

fn listen_failed(named: &Named, address: &Address, error: &io::Error) -> UsageError {
    failed(&format!("{named} {address}: {error}"))
}

fn sink_failed(output: &OutputSettings, error: &io::Error) -> UsageError {
    let (named, url) = (output.named_sink(), &output.place());
    #[cfg(feature = "tls")]
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return named.refuses_tls(&format!("{named} {url}: {error}"), tls);
    }
    let hint = output.literal_option();
    let hint = hint.map_or_else(String::new, |what| format!("; the sink {what}"));
    match Unfit::is(error) {
        true => named.refuses_url(url, format!("{error}{hint}")),
        false => failed(&format!("{named} {url}: {error}{hint}")),
    }
}

fn port_file_failed(settings: &Settings, path: &Path, error: &io::Error) -> UsageError {
    let named = settings.named("port-file");
    failed(&format!("{named} {}: {error}", path.display()))
}

fn not_started(error: &StartError, settings: &Settings) -> UsageError {
    match error {
        StartError::Config(error) => settings.explain(error),
        StartError::Limit(error) => {
            let named = settings.named("max-connections").to_string();
            UsageError::contradiction(&error.naming(&named))
        }
        StartError::Listen { address, source } => {
            let mut listeners = settings.all_listeners().into_iter();
            let listener = listeners.find(|it| it.address.address().as_ref() == Some(address));
            let named = listener.map_or_else(
                || settings.named("listen"),
                |listener| settings.named_address(&listener),
            );
            listen_failed(&named, address, source)
        }
        _ => failed(&error.to_string()),
    }
}

fn failed(what: &str) -> UsageError {
    UsageError::new(1, what)
}

fn start_log(level: Option<LevelFilter>, stderr: &Arc<Stderr>) {
    let mut log = env_logger::Builder::new();
    log.target(stderr.log_target());
    // env_logger looks for a terminal only where it writes to stderr itself.
    log.write_style(match stderr.takes_colours() {
        true => WriteStyle::Always,
        false => WriteStyle::Never,
    });
    match level {
        Some(level) => log.filter_level(level),
        None => log.filter_level(LevelFilter::Info).parse_default_env(),
    };
    let log = log.build();
    log::set_max_level(log.filter());
    // Nobody else sets one.
    let _ = log::set_boxed_logger(Box::new(Log(log)));
}

/// The program's log, whatever `RUST_LOG` asks for: without what ureq writes at trace, each byte of
/// requests and answers, and at debug, headers in which a server may repeat what it was asked.
/// Passwords, tokens, messages are in these.
struct Log(env_logger::Logger);

impl log::Log for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_shown = metadata.level() <= Level::Info || !metadata.target().starts_with("ureq");
        is_shown && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// The soft limit is for programs that use select(2) (getrlimit(2)); this one does not.
pub(crate) fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
    }
}

/// Where a listener listens, and what it was given.
type Bound = (Address, Given);

/// The address of each listener and its name, if it has one.
fn port_file(bound: &[Bound]) -> String {
    let lines = bound.iter().map(|(address, given)| match &given.name {
        Some(name) => format!("{address} {name}\n"),
        None => format!("{address}\n"),
    });
    lines.collect()
}

/// The same in one line.
fn listed(bound: &[Bound]) -> String {
    let listed = bound.iter().map(|(address, given)| match &given.name {
        Some(name) => format!("{name} at {address}"),
        None => address.to_string(),
    });
    listed.collect::<Vec<_>>().join(", ")
}

/// As [`listed`], with what speaks TLS.
fn listed_with_tls(bound: &[Bound]) -> String {
    let each = bound.iter().map(|one| {
        let over = if one.1.speaks_tls { " (TLS)" } else { "" };
        listed(std::slice::from_ref(one)) + over
    });
    each.collect::<Vec<_>>().join(", ")
}

/// A client of a listener, to be typed: ncat(1), or s_client of openssl(1), which shows a
/// certificate, and which speaks TLS over a Unix socket.
fn client_of((address, given): &Bound) -> Option<String> {
    let s_client = |to: String| {
        let shown = match given.wants_certificate {
            true => " -cert client.pem -key client.key",
            false => "",
        };
        format!("openssl s_client -quiet -no_ign_eof{shown} {to}")
    };
    match address {
        Address::Tcp(address) => {
            let mut to = *address;
            if to.ip().is_unspecified() {
                to.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            if given.wants_certificate {
                return Some(s_client(format!("-connect {to}")));
            }
            let ssl = if given.speaks_tls { "--ssl " } else { "" };
            Some(format!("ncat {ssl}--send-only {} {}", to.ip(), to.port()))
        }
        Address::Unix(path) if given.speaks_tls => {
            Some(s_client(format!("-unix {}", path.display())))
        }
        Address::Unix(path) => Some(format!("ncat --send-only -U {}", path.display())),
        _ => None,
    }
}

/// As [`listed`], each run of listeners behind the framing that they have, and that they speak TLS:
/// `lines from 127.0.0.1:5140, syslog over TLS from devices at 0.0.0.0:6514`.
fn listed_by_framing(bound: &[Bound]) -> String {
    let is_as = |one: &Given, next: &Given| {
        (one.framing, one.speaks_tls) == (next.framing, next.speaks_tls)
    };
    let runs = bound.chunk_by(|(_, one), (_, next)| is_as(one, next));
    let runs = runs.map(|run| {
        let (_, given) = &run[0];
        let framing = values::print_choice(values::FRAMING, &given.framing);
        let over = if given.speaks_tls { " over TLS" } else { "" };
        format!("{framing}{over} from {}", listed(run))
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn banner(settings: &Settings, server: &Server, bound: &[Bound]) -> String {
    let outputs = settings.all_outputs().map(|output| output.place());
    let mut text = format!(
        "drainline {}: {} to {}",
        env!("CARGO_PKG_VERSION"),
        listed_by_framing(bound),
        outputs.collect::<Vec<_>>().join(", "),
    );
    let sources = settings.sources();
    if !sources.is_empty() {
        text += &format!("\nsettings: {}", sources.join(", "));
    }
    text += &format!("\nlimits: {}", server.limits());
    // Whom an allow list or a balancer keeps out cannot try it.
    if let Some(open) = bound.iter().find(|(_, given)| given.is_open)
        && let Some(client) = client_of(open)
    {
        let hello = open.1.framing.hello();
        text += &format!("\ntry: {hello} | {client}");
    }
    text
}
