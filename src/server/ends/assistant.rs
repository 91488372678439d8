//! What a thread has that works for the consumer: how the server stands, and its own name before
//! the watchdog.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::server::ends::receiver::{Delivery, Receiver};
use crate::server::state::consumer_state::ConsumerState;
use crate::server::state::logger::Logger;
use crate::server::state::quota::Quota;

/// How often a wait looks for the end of the server.
const SLICE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct Assistant {
    quota: Arc<Quota>,
    state: Arc<ConsumerState>,
    logger: Logger,
}

impl<T> Receiver<T> {
    /// What another thread needs that works for this consumer. The watchdog names that thread as it
    /// does the consumer: while it [works](Assistant::works) and [finishes](Assistant::finished)
    /// nothing.
    pub(crate) fn assistant(&self, name: &str) -> Assistant {
        let state = Arc::new(ConsumerState::new());
        state.set_name(name);
        self.state.add_assistant(Arc::clone(&state));
        Assistant {
            quota: Arc::clone(&self.quota),
            state,
            logger: self.logger().clone(),
        }
    }
}

impl Assistant {
    /// The thread waits for something that is not its own.
    pub(crate) fn waits(&self) {
        self.state.waits();
    }

    pub(crate) fn works(&self) {
        self.state.works();
    }

    /// The thread has finished so many messages.
    pub(crate) fn finished(&self, messages: u64) {
        self.state.finished(messages);
    }

    /// For how long the thread has worked without finishing anything, as of the last tick.
    pub(crate) fn busy_for(&self) -> Duration {
        self.state.busy_for()
    }

    /// As [`Receiver::is_closing`].
    pub(crate) fn is_closing(&self) -> bool {
        self.quota.is_closed()
    }

    /// As [`Receiver::is_draining`].
    pub(crate) fn is_draining(&self) -> bool {
        self.quota.is_draining()
    }

    /// As [`Receiver::is_timed_out`].
    pub(crate) fn is_timed_out(&self) -> bool {
        self.quota.is_timed_out()
    }

    /// As [`Receiver::time_left`].
    pub(crate) fn time_left(&self, cap: Duration) -> Duration {
        self.quota.time_left(cap)
    }

    /// As [`Receiver::is_room_wanted`], whoever holds the deliveries.
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.quota.waits_for_consumer()
    }

    pub(crate) fn logger(&self) -> &Logger {
        &self.logger
    }

    /// As [`Receiver::wait`], until `is_over`, too.
    pub(crate) fn wait(&self, duration: Duration, is_over: impl Fn() -> bool) -> bool {
        self.waits();
        let until = Instant::now().checked_add(duration);
        let phase = || (self.is_draining(), self.is_closing());
        let begun_in = phase();
        while !is_over() && phase() == begun_in {
            let left = until.map_or(SLICE, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(SLICE));
        }
        self.works();
        !is_over()
    }
}

impl fmt::Debug for Assistant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assistant")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<T> Delivery<T> {
    /// The item, and what is told of its messages: for several who have to take the item.
    pub(crate) fn split(self) -> (T, Delivery<()>) {
        let Delivery { item, receipt } = self;
        (item, Delivery { item: (), receipt })
    }
}
