//! An output: a sink, and the form in which it gets messages.

use std::fmt;

use super::batch::buffer::message_overhead_bytes;
use super::envelope::Envelope;
use super::framing::OutputFraming;
use super::sink::{Form, Sink};
use crate::server::{ConfigError, ranges};

/// Where messages go, for an [`IngestBuilder`](super::IngestBuilder): a [`Sink`], and how it gets
/// them. What is not set here is as in the builder.
///
/// ```
/// use drainline::ingest::{Envelope, Ingest, Output, OutputFraming, sink};
///
/// let dir = std::env::temp_dir().join(format!("drainline-output-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// let server = Ingest::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .output(Output::new("log", sink::File::open(dir.join("log"))?).envelope(Envelope::Json))
///     .start_outputs()?;
/// # drop(server);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[must_use = "an output does nothing until a builder has it"]
pub struct Output {
    pub(super) name: String,
    /// Whether somebody has named it so.
    pub(super) is_named: bool,
    pub(super) sink: Box<dyn Sink>,
    pub(super) framing: Option<OutputFraming>,
    pub(super) envelope: Envelope,
    pub(super) is_required: bool,
    pub(super) buffer_bytes: Option<usize>,
}

impl Output {
    /// The buffer of an output that is not required, in bytes, unless it has
    /// [another](Output::buffer_bytes): 16 MiB.
    pub const DEFAULT_BUFFER_BYTES: usize = 16 << 20;

    /// An output of a name, by which the ledger and the log know it: not empty, without control
    /// characters, and another one than that of any other output of the server.
    pub fn new(name: impl Into<String>, sink: impl Sink) -> Self {
        Output {
            name: name.into(),
            is_named: true,
            sink: Box::new(sink),
            framing: None,
            envelope: Envelope::Raw,
            is_required: true,
            buffer_bytes: None,
        }
    }

    /// Nobody gave it its name: where it is the only output, the log's lines have that of the sink
    /// alone.
    // Hidden: for the program, outside semver.
    #[doc(hidden)]
    pub fn unnamed(mut self) -> Self {
        self.is_named = false;
        self
    }

    /// As [`IngestBuilder::output_framing`](super::IngestBuilder::output_framing), for this output.
    /// Batches that the handlers made in another framing are copied, on the thread that drives the
    /// sink.
    pub fn framing(mut self, framing: OutputFraming) -> Self {
        self.framing = Some(framing);
        self
    }

    /// What the output writes for each message. Default: the message alone. Any other envelope is
    /// made on the thread that drives the sink, up to 4 MiB ahead of it; the printed memory counts
    /// a longest message in its worst expansion.
    pub fn envelope(mut self, envelope: Envelope) -> Self {
        self.envelope = envelope;
        self
    }

    /// Whether a message is delivered only when this output has accepted it. Default: `true`.
    ///
    /// **Required** outputs hold the pace: while one takes nothing, the buffer fills up, and
    /// senders wait. A message that one of them refuses is dropped (`refused`), whatever the others
    /// did. One that fails for good ends the server; the others have a quarter of the
    /// `drain_timeout` for what they were handed.
    ///
    /// **An output that is not** has a buffer of its own, and nobody waits for it: what finds no
    /// room there is dropped, and what it drops, or refuses, is counted in its own
    /// [row](crate::OutputRow) alone, and is no loss of the server's. One that fails for good is
    /// logged, and drops from then on. At the end, once all that are required are over, it may go
    /// on within the drain's deadline while it is given answers; it is given up when it has had
    /// none for 10 s, or for one second while it fails, which is logged with what it loses.
    ///
    /// Each listener's messages need one required output at least.
    pub fn required(mut self, is_required: bool) -> Self {
        self.is_required = is_required;
        self
    }

    /// The buffer of an output that is not required, in bytes: batches that were handed to it and
    /// that it has not answered. A longest message must fit, and an output that is required
    /// has none of its own: a start that finds otherwise fails. Default:
    /// [`DEFAULT_BUFFER_BYTES`](Output::DEFAULT_BUFFER_BYTES).
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// The bytes of its own buffer, where it has one.
    pub(super) fn own_buffer(&self) -> Option<usize> {
        let bytes = self.buffer_bytes.unwrap_or(Self::DEFAULT_BUFFER_BYTES);
        (!self.is_required).then_some(bytes)
    }

    /// What is wrong with it by itself, where messages have `longest` bytes at most.
    pub(super) fn check(&self, longest: usize) -> Result<(), ConfigError> {
        let name = &self.name;
        if name.is_empty() || name.contains(char::is_control) {
            let expected = "a name of one character at least, and none that is a control character";
            let value = name.escape_debug().to_string();
            return Err(ConfigError::out_of_range(
                "name",
                value,
                expected.to_owned(),
            ));
        }
        let least = longest.saturating_add(message_overhead_bytes(longest));
        let expected = match self.buffer_bytes {
            None => None,
            Some(_) if self.is_required => Some(format!(
                "none for output {name}: what is required has no buffer of its own"
            )),
            Some(bytes) if bytes < least => Some(format!(
                "at least {least} for output {name}: a message of max_message ({longest}) would \
                 never fit"
            )),
            Some(bytes) if !ranges::BUFFER_BYTES.contains(&bytes) => Some(format!(
                "{} to {} for output {name}",
                ranges::BUFFER_BYTES.start(),
                ranges::BUFFER_BYTES.end()
            )),
            Some(_) => None,
        };
        if let Some(expected) = expected {
            let value = self.buffer_bytes.unwrap_or_default().to_string();
            return Err(ConfigError::out_of_range("buffer_bytes", value, expected));
        }
        self.sink
            .check()
            .map_err(|expected| ConfigError::out_of_range("sink", name.clone(), expected))
    }

    pub(super) fn form(&self, common: OutputFraming) -> Form {
        Form {
            envelope: self.envelope.clone(),
            framing: self.framing.unwrap_or(common),
        }
    }

    pub(super) fn has_exact_times(&self) -> bool {
        self.envelope.has_time() || self.sink.needs_exact_times()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("name", &self.name)
            .field("framing", &self.framing)
            .field("envelope", &self.envelope)
            .finish_non_exhaustive()
    }
}
