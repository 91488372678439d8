//! One batch before a sink, and who is told what becomes of its messages.

use std::sync::Arc;

use parking_lot::Mutex;

use super::feed::Item;
use super::render::Renderer;
use crate::ingest::batch::Batch;
use crate::ingest::batch::pool::Pool;
use crate::server::Weigh;

#[derive(Debug)]
pub(super) struct Held(Kind);

#[derive(Debug)]
enum Kind {
    /// As it came.
    Whole(Item),
    /// Rendered from a part of a delivery, which leaves with the last of its pieces.
    Piece {
        batch: Batch,
        /// Messages that are not answered.
        rest: u64,
        source: Arc<Mutex<Item>>,
    },
}

impl Held {
    pub(super) fn whole(item: Item) -> Held {
        Held(Kind::Whole(item))
    }

    pub(super) fn piece(batch: Batch, source: Arc<Mutex<Item>>) -> Held {
        Held(Kind::Piece {
            rest: Weigh::messages(&batch),
            batch,
            source,
        })
    }

    pub(super) fn batch(&self) -> &Batch {
        match &self.0 {
            Kind::Whole(item) => item.get(),
            Kind::Piece { batch, .. } => batch,
        }
    }

    /// Messages that are not answered.
    pub(super) fn remaining(&self) -> u64 {
        match &self.0 {
            Kind::Whole(item) => item.remaining(),
            Kind::Piece { rest, .. } => *rest,
        }
    }

    /// `messages` of what remains, and no more than that, are accepted.
    pub(super) fn ack_first(&mut self, messages: u64) {
        match &mut self.0 {
            Kind::Whole(item) => item.ack_first(messages),
            Kind::Piece { rest, source, .. } => {
                *rest -= messages;
                source.lock().ack_first(messages);
            }
        }
    }

    /// `messages` of what remains, and no more than that, are refused.
    pub(super) fn refuse_first(&mut self, messages: u64) {
        match &mut self.0 {
            Kind::Whole(item) => item.refuse_first(messages),
            Kind::Piece { rest, source, .. } => {
                *rest -= messages;
                source.lock().refuse_first(messages);
            }
        }
    }

    /// What remains is accepted, and its memory is free again.
    pub(super) fn leave(mut self, pool: &Pool, renderer: Option<&mut Renderer>) {
        self.ack_rest_of_piece();
        match self.0 {
            Kind::Whole(item) => item.leave(pool),
            Kind::Piece { batch, source, .. } => {
                if let Some(renderer) = renderer {
                    renderer.has_left(&batch);
                }
                pool.put(batch.into_buffer());
                // The last one of a delivery that is rendered to its end.
                if let Some(source) = Arc::into_inner(source) {
                    source.into_inner().leave(pool);
                }
            }
        }
    }

    fn ack_rest_of_piece(&mut self) {
        if let Kind::Piece { rest: 1.., .. } = self.0 {
            self.ack_first(self.remaining());
        }
    }
}
