//! How many handlers' threads end at once. Each end unmaps a stack, and thousands that do so in one moment queue
//! for the kernel's lock on the process's mappings, each with a wake-up of its own: whoever needs memory meanwhile,
//! a new client's thread first of all, waits behind them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::worker::{Job, Order, Worker};

/// Threads that end at once beside those that have a processor to do so: while one is joined the next is under way.
const MORE_THAN_PROCESSORS: usize = 2;

/// Whoever has waited this long goes: the reaper is held up in a join, and nothing is gained by waiting for it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Threads that wait, in the order in which they came.
#[derive(Default)]
struct Waiting {
    /// Those that may serve a client instead.
    fit: VecDeque<Arc<Worker>>,
    spent: VecDeque<Arc<Worker>>,
}

struct Inner {
    at_once: usize,
    /// Let go and not joined.
    ending: usize,
    waiting: Waiting,
}

/// Where threads wait for their turn to end. They have neither a socket nor a share of an address, and keep their
/// permits until they are joined.
pub(super) struct Exits {
    inner: Mutex<Inner>,
}

impl Exits {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Exits {
            inner: Mutex::new(Inner {
                at_once: processors + MORE_THAN_PROCESSORS,
                ending: 0,
                waiting: Waiting::default(),
            }),
        }
    }

    /// Blocks this thread, the worker's, until it may end: then the reaper must be told of it next. One that is
    /// `fit` may be handed a client instead, once `waits` was called.
    pub(super) fn wait_for_turn(
        &self,
        worker: &Arc<Worker>,
        fit: bool,
        waits: impl FnOnce(),
    ) -> Option<Job> {
        {
            let mut inner = self.inner.lock();
            if inner.ending < inner.at_once {
                inner.ending += 1;
                return None;
            }
            inner.waiting.list(fit).push_back(Arc::clone(worker));
        }
        waits();
        worker.wait_for_order(LONGEST_WAIT, || self.give_up(worker, fit))
    }

    /// Whether somebody waits who may serve a client.
    pub(super) fn has_fit(&self) -> bool {
        !self.inner.lock().waiting.fit.is_empty()
    }

    /// Takes off a thread that may serve a client: it must be given an order. The one that has waited longest would
    /// end next.
    pub(super) fn take_fit(&self) -> Option<Arc<Worker>> {
        self.inner.lock().waiting.fit.pop_back()
    }

    /// A thread that was taken off waits on.
    pub(super) fn put_back(&self, worker: Arc<Worker>) {
        let mut inner = self.inner.lock();
        if inner.ending < inner.at_once {
            inner.ending += 1;
            drop(inner);
            worker.give(Order::Leave);
        } else {
            inner.waiting.fit.push_back(worker);
        }
    }

    /// A thread that was let go is joined: the next one may end.
    pub(super) fn joined(&self) {
        let next = {
            let mut inner = self.inner.lock();
            let next = match inner.waiting.spent.pop_front() {
                None => inner.waiting.fit.pop_front(),
                next => next,
            };
            if next.is_none() {
                inner.ending -= 1;
            }
            next
        };
        if let Some(worker) = next {
            worker.give(Order::Leave);
        }
    }

    /// From now on nobody waits.
    pub(super) fn open(&self) {
        let waiting = {
            let mut inner = self.inner.lock();
            inner.at_once = usize::MAX;
            let waiting = std::mem::take(&mut inner.waiting);
            inner.ending += waiting.fit.len() + waiting.spent.len();
            waiting
        };
        for worker in waiting.fit.into_iter().chain(waiting.spent) {
            worker.give(Order::Leave);
        }
    }

    /// `false`: it was taken off meanwhile, and its order is on its way.
    fn give_up(&self, worker: &Arc<Worker>, fit: bool) -> bool {
        let mut inner = self.inner.lock();
        let list = inner.waiting.list(fit);
        let place = list.iter().position(|other| Arc::ptr_eq(other, worker));
        let has_left = place.and_then(|place| list.remove(place)).is_some();
        inner.ending += usize::from(has_left);
        has_left
    }
}

impl Waiting {
    fn list(&mut self, fit: bool) -> &mut VecDeque<Arc<Worker>> {
        if fit { &mut self.fit } else { &mut self.spent }
    }
}
