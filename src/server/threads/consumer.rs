//! The one consumer thread. A consumer that dies does not leave a server behind that accepts and drains
//! nothing: the same thread drains on, and books what it drains.

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
    // The receiver is borrowed, so that whatever the consumer does it is still here.
    // What its error says, and does as it is dropped, is its code, too.
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

/// Lets go of one message without an ack, which books it. One whose own drop panics is booked all the same. Says
/// whether more may come.
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
