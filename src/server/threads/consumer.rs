//! The one consumer thread. If the embedder's consumer fails or returns too early, the server
//! drains, and this thread empties the buffer and counts what it drops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::server::ends::receiver::{Received, Receiver};
use crate::server::error::{BoxError, ServerError, panic_message};
use crate::server::ledger::DropReason;
use crate::server::state::Shared;

/// The body of the consumer's thread.
pub(crate) fn run<T>(
    shared: &Arc<Shared>,
    mut receiver: Receiver<T>,
    consumer: impl FnOnce(&mut Receiver<T>) -> Result<(), BoxError>,
) {
    // The receiver is only lent, so that it outlives a panic. The error's text is made in here,
    // because an error's Display and Drop are user code, too.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        consumer(&mut receiver).map_err(|error| ServerError::ConsumerFailed {
            message: error.to_string(),
            source: error.into(),
        })
    }));
    let error = match outcome {
        Ok(Ok(())) => match receiver.try_recv() {
            Received::Closed => None,
            Received::Message(_) | Received::Timeout | Received::RoomWanted => {
                Some(ServerError::ConsumerLeft)
            }
        },
        Ok(Err(error)) => Some(error),
        Err(payload) => Some(ServerError::ConsumerPanicked(panic_message(payload))),
    };
    if let Some(error) = error {
        shared.quota.close(DropReason::SinkFailed);
        shared.fail(error);
    }
    while drain_one(&mut receiver) {}
    shared.lifecycle.consumer_ended();
}

/// Receives one message and drops it without an ack, which counts it, even if the message's own
/// Drop panics. Returns whether more messages may come.
fn drain_one<T>(receiver: &mut Receiver<T>) -> bool {
    let drained = catch_unwind(AssertUnwindSafe(|| {
        match receiver.recv(Duration::from_secs(1)) {
            Received::Closed => false,
            received => {
                drop(received);
                true
            }
        }
    }));
    drained.unwrap_or(true)
}
