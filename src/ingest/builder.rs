//! Putting an ingest server together.

mod outputs;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use log::Level;

use super::batch::buffer::{MAPPED_FROM, PAGE, message_overhead_bytes};
use super::batch::builder::BatchFormat;
use super::batch::pool::Pool;
use super::batch::{Batch, BatchLimit};
use super::framing::{
    DEFAULT_MAX_MESSAGE, Decoder, Framing, OutputFraming, Oversize, check_max_message,
};
use super::handler;
use super::ledger::ByteLedger;
use super::listener::{IngestListener, OwnSettings};
use super::output::Output;
use super::shared::{Input, Shared};
use super::sink::{Sink, SinkState};
use crate::server::{
    BoxError, BufferMemory, Builder, Config, ConfigError, Connection, Contradiction, Listener,
    ResourceLimits, Server, StartError, ThreadBody,
};

/// A read buffer's size: a usual message, and free bytes behind it to read into.
const READ_BYTES: usize = 72 << 10;
/// Free bytes that a read has at least, with what stands before a counted message.
const MIN_FREE_BYTES: usize = 8 << 10;

/// A server that turns streams of bytes into messages for a sink.
///
/// ```
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::time::Duration;
/// use drainline::ingest::{Ingest, sink};
///
/// let dir = std::env::temp_dir().join(format!("drainline-doc-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// let server = Ingest::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .start(sink::File::open(dir.join("messages.log"))?)?;
///
/// TcpStream::connect(server.local_addrs()[0])?.write_all(b"first\nsecond\n")?;
/// while server.report().stats.delivered < 2 {
///     std::thread::sleep(Duration::from_millis(5));
/// }
/// let report = server.shutdown(Duration::from_secs(5));
/// assert!(report.is_balanced());
/// assert_eq!(std::fs::read_to_string(dir.join("messages.log"))?, "first\nsecond\n");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Ingest;

impl Ingest {
    /// Begins a server of lines of up to 64 KiB, with the default [`Config`] and no listener.
    pub fn builder() -> IngestBuilder {
        IngestBuilder {
            server: Server::builder(),
            framing: Framing::default(),
            output_framing: OutputFraming::default(),
            max_message: DEFAULT_MAX_MESSAGE,
            oversize: Oversize::default(),
            outputs: Vec::new(),
            inputs: Vec::new(),
        }
    }
}

fn kept_buffers(config: &Config) -> usize {
    Pool::worth(READ_BYTES, config.buffer_bytes)
}

/// How the streams of one listener's connections become messages.
#[derive(Clone, Copy)]
struct Effective {
    framing: Framing,
    max_message: usize,
    oversize: Oversize,
}

/// The settings of an ingest server, its framings and its listeners.
#[must_use = "a builder does nothing until it is started"]
pub struct IngestBuilder {
    server: Builder<Batch>,
    framing: Framing,
    output_framing: OutputFraming,
    max_message: usize,
    oversize: Oversize,
    outputs: Vec<Output>,
    /// By the index of the listener. `None`: it has a handler of its own.
    inputs: Vec<Option<InputSettings>>,
}

/// A listener whose connections bring messages.
struct InputSettings {
    /// Its name, or its address.
    label: String,
    own: OwnSettings,
    /// The outputs that its messages go to, by name. `None`: all.
    to: Option<Vec<String>>,
}

impl IngestBuilder {
    /// Replaces the server's settings. `handler_bytes` follows from `max_message`, and what is set
    /// here matters only to the handlers of [`listener_with`](IngestBuilder::listener_with).
    ///
    /// The printed memory counts `buffer_bytes` twice, the second time up to 144 MiB: as much may
    /// lie free in the allocator's memory, or is kept of read buffers while many bytes flow. Where
    /// `max_message` is above 64 KiB, all of `buffer_bytes` counts twice, and up to 72 MiB of read
    /// buffers beside.
    pub fn config(mut self, config: Config) -> Self {
        self.server = self.server.config(config);
        self
    }

    /// How messages are told apart in a stream, unless its listener has a
    /// [framing of its own](IngestListener::framing). Default: lines.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// How messages are framed where they are written to. Default: lines. Where a message may hold
    /// the output's delimiter ([`OutputFraming::can_tear`]), the log says so at start.
    pub fn output_framing(mut self, framing: OutputFraming) -> Self {
        self.output_framing = framing;
        self
    }

    /// Adds an output: a sink of a name, and the form in which it gets messages.
    pub fn output(mut self, output: Output) -> Self {
        self.outputs.push(output);
        self
    }

    /// The longest message, in bytes without its framing: 1 byte to 1 GiB. Default 64 KiB. With
    /// [`message_overhead_bytes`] it must fit into `buffer_bytes`. Enforced while reading: a
    /// connection never holds more of an unfinished message.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// What happens to a longer message. Default: it is truncated.
    pub fn oversize(mut self, oversize: Oversize) -> Self {
        self.oversize = oversize;
        self
    }

    /// As [`Builder::listen`].
    pub fn listen(self, address: SocketAddr) -> Self {
        self.listener(address)
    }

    /// Adds a listener that has a name, settings of its own, or is bound already: a [`Listener`],
    /// or an [`IngestListener`] if its streams become messages in another way than the others'.
    /// [`Batch::listener`] returns the listener's name.
    pub fn listener(mut self, listener: impl Into<IngestListener>) -> Self {
        let IngestListener {
            listener,
            settings,
            to,
        } = listener.into();
        self.inputs.push(Some(InputSettings {
            label: listener.label(),
            own: settings,
            to,
        }));
        self.server = self.server.listener(listener);
        self
    }

    /// Adds a listener whose connections have a handler of their own: an operator's port, or a
    /// health check. It sends nothing to the sink, and what it reads is not part of
    /// [`Report::bytes`](crate::Report::bytes). All share the limits; set `handler_bytes` to what
    /// this handler allocates, if that is more than an ingest connection holds.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use drainline::Listener;
    /// use drainline::ingest::{Ingest, sink};
    ///
    /// let server = Ingest::builder()
    ///     .listener(Listener::on("127.0.0.1:0".parse()?).named("syslog"))
    ///     .listener_with(
    ///         Listener::on("127.0.0.1:0".parse()?).named("health"),
    ///         |conn| Ok(writeln!(&*conn, "up")?),
    ///     )
    ///     .start(sink::Null)?;
    ///
    /// let mut answer = String::new();
    /// TcpStream::connect(server.local_addrs()[1])?.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "up\n");
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    pub fn listener_with(
        mut self,
        listener: impl Into<Listener>,
        handler: impl Fn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.server = (self.server).listener_with(listener, move |conn, _| handler(conn));
        self.inputs.push(None);
        self
    }

    /// As [`Builder::spawner`].
    pub fn spawner(
        mut self,
        spawn: impl Fn(std::thread::Builder, ThreadBody) -> io::Result<JoinHandle<()>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.server = self.server.spawner(spawn);
        self
    }

    /// As [`Builder::reserve`].
    pub fn reserve(mut self, threads: u64, descriptors: u64) -> Self {
        self.server = self.server.reserve(threads, descriptors);
        self
    }

    /// As [`Builder::reserve_memory`].
    pub fn reserve_memory(mut self, bytes: u64) -> Self {
        self.server = self.server.reserve_memory(bytes);
        self
    }

    /// As [`Builder::setting_names`].
    pub fn setting_names(mut self, name: fn(&str) -> String) -> Self {
        self.server = self.server.setting_names(name);
        self
    }

    /// As [`Builder::check`].
    ///
    /// # Errors
    /// As [`start`](IngestBuilder::start).
    pub fn check(&self) -> Result<(ResourceLimits, Vec<String>), StartError> {
        let (config, needs) = (self.server_config()?, self.output_needs());
        let (limits, mut notes) = self.server.check_with(&config, self.memory(), needs)?;
        notes.extend(self.tear_warnings());
        Ok((limits, notes))
    }

    /// The label of each listener whose connections bring messages, and how they do.
    fn inputs(&self) -> impl Iterator<Item = (&str, Effective)> {
        let inputs = self.inputs.iter().flatten();
        inputs.map(|input| (input.label.as_str(), self.effective(&input.own)))
    }

    fn effective(&self, own: &OwnSettings) -> Effective {
        Effective {
            framing: own.framing.unwrap_or(self.framing),
            max_message: own.max_message.unwrap_or(self.max_message),
            oversize: own.oversize.unwrap_or(self.oversize),
        }
    }

    /// The longest message of any listener: every connection may be one of that listener.
    fn longest_message(&self) -> usize {
        let longest = self.inputs().map(|(_, input)| input.max_message).max();
        longest.unwrap_or(self.max_message)
    }

    /// Starts the server with one more output, a sink in the common form, called as the sink is.
    ///
    /// # Errors
    /// As [`start_outputs`](IngestBuilder::start_outputs).
    pub fn start(self, sink: impl Sink) -> Result<Server, StartError> {
        self.output(Output::new(sink.name(), sink)).start_outputs()
    }

    /// Starts the server with the outputs that were added.
    ///
    /// # Errors
    /// As [`Builder::start`]; and a `max_message` out of range, or one that does not fit into
    /// `buffer_bytes`; no output, or outputs that contradict each other.
    pub fn start_outputs(self) -> Result<Server, StartError> {
        let config = self.server_config()?;
        self.check_outputs()?;
        let shared = Arc::new(self.shared(&config));
        self.start_with(config, shared)
    }

    pub(super) fn shared(&self, config: &Config) -> Shared {
        let inputs = self.inputs.iter();
        let several = self.outputs.len() > 1;
        let states = self.outputs.iter().map(|output| {
            let (name, is_named) = (&output.name, output.is_named);
            Arc::new(SinkState::new(name, is_named, output.own_buffer(), several))
        });
        Shared {
            inputs: inputs
                .map(|input| self.input(input.as_ref(), config))
                .collect(),
            has_exact_times: self.outputs.iter().any(Output::has_exact_times),
            pool: Arc::new(Pool::new(READ_BYTES, kept_buffers(config))),
            ledger: ByteLedger::new(self.server.listener_count()),
            outputs: states.collect(),
        }
    }

    /// Where a listener has a handler of its own, nobody asks for its input.
    fn input(&self, input: Option<&InputSettings>, config: &Config) -> Input {
        let own = input.map(|input| input.own).unwrap_or_default();
        let Effective {
            framing,
            max_message,
            oversize,
        } = self.effective(&own);
        Input {
            decoder: Decoder::new(framing, max_message, oversize),
            format: self.format(framing, config),
            max_message,
        }
    }

    pub(super) fn start_with(
        mut self,
        config: Config,
        shared: Arc<Shared>,
    ) -> Result<Server, StartError> {
        let (promises, warnings) = (self.promises(), self.tear_warnings());
        let (memory, needs) = (self.memory(), self.output_needs());
        let consumer = self.consumer(&shared, &config);
        let builder = self.server.one_way().config(config).buffer_memory(memory);
        let handler = handler::new(Arc::clone(&shared));
        let server = builder.output_needs(needs).start(handler, consumer)?;
        for promise in promises {
            server.logger().log(Level::Info, promise);
        }
        for warning in warnings {
            server.logger().log(Level::Warn, warning);
        }
        Ok(server.below(shared))
    }

    /// The server's settings, with what a reader holds; `max_message` is in range and fits.
    fn server_config(&self) -> Result<Config, ConfigError> {
        self.check_max_message()?;
        let settings = self.server.settings();
        let index_bytes = |framing| self.format(framing, settings).index_bytes();
        let indexes = self.inputs().map(|(_, input)| index_bytes(input.framing));
        let ingest = self.input_bytes() + self.batch_bytes() + indexes.max().unwrap_or(0);
        let own = match self.inputs.iter().any(Option::is_none) {
            true => settings.handler_bytes,
            false => 0,
        };
        Ok(Config {
            handler_bytes: ingest.max(own),
            ..settings.clone()
        })
    }

    /// Whether the settings hold, each for itself and beside the others. Asks nothing of the
    /// system.
    ///
    /// # Errors
    /// The first setting that does not hold.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn check_settings(&self) -> Result<(), ConfigError> {
        self.server.check_settings_with(self.server.settings())?;
        self.check_max_message()?;
        match self.outputs.is_empty() {
            true => Ok(()),
            false => self.check_outputs(),
        }
    }

    fn check_max_message(&self) -> Result<(), ConfigError> {
        self.check_longest(self.max_message)?;
        for (index, input) in self.inputs.iter().enumerate() {
            if let Some(input) = input
                && let Some(max_message) = input.own.max_message
            {
                let checked = self.check_longest(max_message);
                checked.map_err(|error| error.of_listener(index, &input.label))?;
            }
        }
        Ok(())
    }

    fn check_longest(&self, max_message: usize) -> Result<(), ConfigError> {
        let buffer_bytes = self.server.settings().buffer_bytes;
        check_max_message(max_message)?;
        let overhead = message_overhead_bytes(max_message) + self.server.tls_name_bytes();
        if max_message + overhead > buffer_bytes {
            return Err(ConfigError {
                setting: "max_message",
                value: max_message.to_string(),
                expected: format!("at least {overhead} bytes less than"),
                contradicts: Some(Box::new(Contradiction {
                    setting: "buffer_bytes",
                    value: buffer_bytes.to_string(),
                    why: "or such a message could never be buffered",
                })),
                listener: None,
                listener_index: None,
            });
        }
        Ok(())
    }

    /// Bytes that are read and not in a batch yet are in one of the pool's buffers, or, for a
    /// longer message, in a buffer that grows by half each time. While that grows there is the
    /// smaller one, too, but no batch.
    fn input_bytes(&self) -> usize {
        let longest = self.longest_message();
        if longest + MIN_FREE_BYTES <= READ_BYTES {
            return READ_BYTES;
        }
        let grown = longest.saturating_mul(3) / 2 + MIN_FREE_BYTES;
        grown.max(MAPPED_FROM).next_multiple_of(PAGE)
    }

    /// A batch is in one of the pool's buffers, or has a buffer of its own for one message.
    fn batch_bytes(&self) -> usize {
        let alone = self.longest_message() + OutputFraming::MAX_BYTES;
        alone.max(READ_BYTES).next_multiple_of(PAGE)
    }

    fn format(&self, framing: Framing, config: &Config) -> BatchFormat {
        BatchFormat {
            limit: BatchLimit::of(config),
            input: framing,
            framing: self.batch_framing(),
            is_indexed: self.batch_framing().can_tear(framing),
        }
    }

    /// Bytes and mappings that the limits count beside the server's own.
    fn memory(&self) -> BufferMemory {
        let (input, buffered) = (self.input_bytes(), self.server.settings().buffer_bytes);
        let is_large = input >= MAPPED_FROM;
        let kept = kept_buffers(self.server.settings()) * READ_BYTES;
        // The buffer's bytes count once more: memory of the allocator that held them may lie free
        // below a small allocation that lives long, while mappings hold what is buffered now. The
        // pool's buffers are then in use and not kept.
        let kept_bytes = match is_large {
            true => kept.saturating_add(buffered),
            false => kept.max(buffered.min(Pool::MAX_MAPPED * READ_BYTES)),
        };
        BufferMemory {
            setting: "max_message",
            kept_bytes: kept_bytes as u64,
            mappings: (Pool::MAX_MAPPED + if is_large { buffered / MAPPED_FROM } else { 0 }) as u64,
            // What is read, what it grows to, and a batch.
            mappings_per_connection: if is_large { 3 } else { 0 },
        }
    }
}

impl fmt::Debug for IngestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestBuilder")
            .field("server", &self.server)
            .field("framing", &self.framing)
            .field("max_message", &self.max_message)
            .field("oversize", &self.oversize)
            .finish_non_exhaustive()
    }
}
