//! The one consumer thread. A consumer that dies does not leave a server behind that accepts and drains
//! nothing: the same thread drains on, and books what it drains.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::server::ends::receiver::{Inbox, Received};
use crate::server::error::{BoxError, ServerError, panic_message};
use crate::server::ledger::DropReason;
use crate::server::state::Shared;

/// The body of the consumer's thread.
pub(crate) fn run<T>(
    shared: &Arc<Shared>,
    mut inbox: Inbox<T>,
    consumer: impl FnOnce(&mut Inbox<T>) -> Result<(), BoxError>,
) {
    // The inbox is borrowed, so that whatever the consumer does it is still here.
    // What its error says, and does as it is dropped, is its code, too.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        consumer(&mut inbox).map_err(|error| error.to_string())
    }));
    let error = match outcome {
        Ok(Ok(())) => match inbox.try_recv() {
            Received::Closed => None,
            Received::Item(_) | Received::Tick => Some(ServerError::ConsumerLeft),
        },
        Ok(Err(error)) => Some(ServerError::ConsumerFailed(error)),
        Err(payload) => Some(ServerError::ConsumerPanicked(panic_message(payload))),
    };
    if let Some(error) = error {
        shared.budget.close(DropReason::SinkFailed);
        shared.fail(error);
    }
    while !matches!(drain_one(&mut inbox), Received::Closed) {}
    shared.lifecycle.consumer_ended();
}

/// Lets go of one item undone, which books it. An item whose own drop panics is booked all the same.
fn drain_one<T>(inbox: &mut Inbox<T>) -> Received<()> {
    let drained = catch_unwind(AssertUnwindSafe(|| {
        match inbox.recv(Duration::from_secs(1)) {
            Received::Item(delivery) => {
                drop(delivery);
                Received::Tick
            }
            Received::Tick => Received::Tick,
            Received::Closed => Received::Closed,
        }
    }));
    drained.unwrap_or(Received::Tick)
}
