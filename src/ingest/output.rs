//! An output: a sink, and the form in which it gets messages.

use std::fmt;

use super::envelope::Envelope;
use super::framing::OutputFraming;
use super::sink::{Form, Sink};

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
    pub(super) sink: Box<dyn Sink>,
    pub(super) framing: Option<OutputFraming>,
    pub(super) envelope: Envelope,
}

impl Output {
    /// An output of a name, by which the ledger and the log know it. No two outputs of a server may
    /// have one name.
    pub fn new(name: impl Into<String>, sink: impl Sink) -> Self {
        Output {
            name: name.into(),
            sink: Box::new(sink),
            framing: None,
            envelope: Envelope::Raw,
        }
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
