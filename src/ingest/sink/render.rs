//! Batches in the form of one output: pieces of what came, rendered when the sink has room for
//! them.

use std::sync::Arc;

use memchr::memchr;
use parking_lot::Mutex;

use super::feed::Item;
use crate::ingest::batch::Batch;
use crate::ingest::batch::buffer::Buffer;
use crate::ingest::batch::pool::Pool;
use crate::ingest::envelope::{Around, Envelope};
use crate::ingest::framing::OutputFraming;
use crate::server::{Weigh, heap_bytes};

/// Messages in one piece: what says where each ends is never as large as what it holds.
const MAX_MESSAGES: usize = 4096;
/// From so many bytes on that lie rendered before the sink, no more are.
const ENOUGH_BYTES: usize = 4 << 20;

/// The form in which an output writes messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest) struct Form {
    pub(in crate::ingest) envelope: Envelope,
    pub(in crate::ingest) framing: OutputFraming,
}

impl Form {
    /// Whether batches that came in `framing` can be written as they are.
    pub(in crate::ingest) fn is_as_it_came(&self, framing: OutputFraming) -> bool {
        self.envelope == Envelope::Raw && self.framing == framing
    }

    /// The most memory that rendering takes, in bytes, where messages have `message` bytes and
    /// names of listeners `name` bytes at most: what is enough, the piece that went beyond it, and
    /// the buffer of the next one; and once more what the allocator may keep of many small ones.
    pub(in crate::ingest) fn rendered_bytes(
        &self,
        message: usize,
        name: usize,
        pool: usize,
    ) -> u64 {
        let alone = self.envelope.max_bytes(message, name);
        let alone = alone.saturating_add(OutputFraming::MAX_BYTES + 4096);
        let index = heap_bytes(MAX_MESSAGES * size_of::<u32>());
        let bytes = [2 * ENOUGH_BYTES, alone, alone.max(pool), 2 * index];
        bytes.into_iter().fold(0, usize::saturating_add) as u64
    }
}

/// Cuts what came into pieces of an output's form.
#[derive(Debug)]
pub(super) struct Renderer {
    form: Form,
    cut: Option<Cut>,
    /// What the pieces before the sink weigh.
    bytes: usize,
    /// Where each message of the piece that is being made ends.
    ends: Vec<u32>,
}

/// What is left to be rendered of a delivery.
#[derive(Debug)]
struct Cut {
    source: Arc<Mutex<Item>>,
    around: Around,
    /// Messages that are rendered.
    messages: u64,
    /// The bytes that these take in the batch.
    offset: usize,
}

impl Renderer {
    pub(super) fn new(form: Form) -> Self {
        Renderer {
            form,
            cut: None,
            bytes: 0,
            ends: Vec::with_capacity(MAX_MESSAGES),
        }
    }

    /// Whether a delivery is still to be rendered to its end: no other one must be begun.
    pub(super) fn is_cutting(&self) -> bool {
        self.cut.is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= ENOUGH_BYTES
    }

    /// Begins a delivery.
    pub(super) fn begin(&mut self, item: Item) {
        self.cut = Some(Cut {
            around: self.form.envelope.around(item.get()),
            source: Arc::new(Mutex::new(item)),
            messages: 0,
            offset: 0,
        });
    }

    /// The next piece of the delivery that was begun, and what is told of its messages.
    pub(super) fn next_piece(&mut self, pool: &Pool) -> Option<(Batch, Arc<Mutex<Item>>)> {
        let mut cut = self.cut.take()?;
        let source = Arc::clone(&cut.source);
        let piece = {
            let item = source.lock();
            self.render(&mut cut, item.get(), pool)
        };
        if !cut.is_over(source.lock().get()) {
            self.cut = Some(cut);
        }
        self.bytes += weight_of(&piece);
        Some((piece, source))
    }

    fn render(&mut self, cut: &mut Cut, batch: &Batch, pool: &Pool) -> Batch {
        let Form { framing, .. } = self.form;
        let mut bytes = pool.take();
        let (mut messages, mut has_delimiter) = (0, false);
        self.ends.clear();
        for (message, end) in batch.messages_from(cut.messages, cut.offset) {
            let len = cut.around.len_of(message);
            if len + OutputFraming::MAX_BYTES > bytes.capacity() - bytes.len() {
                if messages > 0 {
                    break;
                }
                // A message alone may be longer.
                pool.put(bytes);
                bytes = Buffer::with_capacity(len + OutputFraming::MAX_BYTES);
            }
            let mut space = [0; OutputFraming::MAX_BYTES];
            bytes.append(framing.header(len, &mut space));
            let start = bytes.len();
            cut.around.append(message, &mut bytes);
            if let Some(delimiter) = framing.delimiter() {
                has_delimiter |=
                    cut.around.may_hold_delimiter() && memchr(delimiter, &bytes[start..]).is_some();
                bytes.append(&[delimiter]);
            }
            // A piece is at most a buffer, or one message: below 2^32 but for one, which has no
            // other end.
            self.ends.push((bytes.len() - 1) as u32);
            messages += 1;
            (cut.messages, cut.offset) = (cut.messages + 1, end);
            if self.ends.len() == MAX_MESSAGES {
                break;
            }
        }
        if bytes.len() < bytes.capacity() / 2 {
            bytes = pool.right_sized(bytes);
        }
        let ends = match has_delimiter {
            true => self.ends.clone(),
            false => Vec::new(),
        };
        let mut piece = Batch::new(bytes, messages, framing, ends);
        piece.set_origin(batch.origin().clone());
        piece
    }

    /// A piece has left.
    pub(super) fn has_left(&mut self, piece: &Batch) {
        self.bytes -= weight_of(piece);
    }
}

impl Cut {
    fn is_over(&self, batch: &Batch) -> bool {
        self.messages == Weigh::messages(batch)
    }
}

fn weight_of(piece: &Batch) -> usize {
    Weigh::bytes(piece) + size_of::<Batch>()
}
