//! How many handlers' threads end at once. Each end unmaps a stack, and thousands that do so in one moment queue
//! for the kernel's lock on the process's mappings, each with a wake-up of its own: whoever needs memory meanwhile,
//! a new client's thread first of all, waits behind them.
//!
//! They go in batches. Where each that is joined let the next one go, every end would wait for the reaper to get a
//! processor, and the reaper for every end: thousands of times in turn, each a slice of whatever else runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::crowd_lock::CrowdLock;
use super::handler_thread::{Command, HandlerThread, Job};

/// Threads that end at once, at most.
const AT_ONCE: usize = 64;
/// The next ones go when no more than these are left of them: so that some are always on their way.
const LEFT: usize = 8;

/// Whoever has waited this long goes: the reaper is held up in a join, and nothing is gained by waiting for it.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Threads that wait, in the order in which they came.
#[derive(Default)]
struct Waiting {
    /// Those that may serve a client instead.
    reusable: VecDeque<Arc<HandlerThread>>,
    finished: VecDeque<Arc<HandlerThread>>,
}

struct Inner {
    at_once: usize,
    /// Let go and not joined.
    ending: usize,
    waiting: Waiting,
}

/// Where threads wait for their turn to end. They have neither a socket nor a share of an address, and keep their
/// permits until they are joined.
pub(crate) struct Exits {
    inner: CrowdLock<Inner>,
}

impl Exits {
    pub(crate) fn new() -> Self {
        Exits {
            inner: CrowdLock::new(Inner {
                at_once: AT_ONCE,
                ending: 0,
                waiting: Waiting::default(),
            }),
        }
    }

    /// Blocks this thread, the thread's, until it may end: then the reaper must be told of it next. One that is
    /// `reusable` may be handed a client instead, once `waits` was called.
    pub(crate) fn wait_for_turn(
        &self,
        thread: &Arc<HandlerThread>,
        reusable: bool,
        waits: impl FnOnce(),
    ) -> Option<Job> {
        {
            let mut inner = self.inner.lock();
            if inner.may_go() {
                inner.ending += 1;
                return None;
            }
            inner.waiting.list(reusable).push_back(Arc::clone(thread));
        }
        waits();
        thread.wait_for_command(MAX_WAIT, || self.give_up(thread, reusable))
    }

    /// Whether somebody waits who may serve a client.
    pub(crate) fn has_reusable(&self) -> bool {
        !self.inner.lock().waiting.reusable.is_empty()
    }

    /// Takes off a thread that may serve a client: it must be given an order. The one that has waited longest would
    /// end next.
    pub(crate) fn take_reusable(&self) -> Option<Arc<HandlerThread>> {
        self.inner.lock().waiting.reusable.pop_back()
    }

    /// A thread that was taken off waits on.
    pub(crate) fn put_back(&self, thread: Arc<HandlerThread>) {
        let mut inner = self.inner.lock();
        if inner.may_go() {
            inner.ending += 1;
            drop(inner);
            thread.give(Command::Exit);
        } else {
            inner.waiting.reusable.push_back(thread);
        }
    }

    /// A thread that was let go is joined. If few are left of those that were, the next ones may end.
    pub(crate) fn joined(&self) {
        let next = {
            let mut inner = self.inner.lock();
            inner.ending -= 1;
            if inner.ending > LEFT {
                return;
            }
            let more = inner.at_once - inner.ending;
            let next = inner.waiting.take(more);
            inner.ending += next.len();
            next
        };
        for thread in next {
            thread.give(Command::Exit);
        }
    }

    /// From now on nobody waits.
    pub(crate) fn open(&self) {
        let waiting = {
            let mut inner = self.inner.lock();
            inner.at_once = usize::MAX;
            let waiting = inner.waiting.take(usize::MAX);
            inner.ending += waiting.len();
            waiting
        };
        for thread in waiting {
            thread.give(Command::Exit);
        }
    }

    /// `false`: it was taken off meanwhile, and its order is on its way.
    fn give_up(&self, thread: &Arc<HandlerThread>, reusable: bool) -> bool {
        let mut inner = self.inner.lock();
        let list = inner.waiting.list(reusable);
        let index = list.iter().position(|other| Arc::ptr_eq(other, thread));
        let has_left = index.and_then(|index| list.remove(index)).is_some();
        inner.ending += usize::from(has_left);
        has_left
    }
}

impl Inner {
    /// Whoever comes while others wait does not go before them.
    fn may_go(&self) -> bool {
        self.ending < self.at_once && self.waiting.is_empty()
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.reusable.is_empty() && self.finished.is_empty()
    }

    /// Takes off so many, those first that serve nobody any more.
    fn take(&mut self, most: usize) -> Vec<Arc<HandlerThread>> {
        let finished = self.finished.len().min(most);
        let reusable = self.reusable.len().min(most - finished);
        let finished = self.finished.drain(..finished);
        finished.chain(self.reusable.drain(..reusable)).collect()
    }

    fn list(&mut self, reusable: bool) -> &mut VecDeque<Arc<HandlerThread>> {
        if reusable {
            &mut self.reusable
        } else {
            &mut self.finished
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A whole batch was let go, and behind it wait so many threads: finished ones, then reusable ones.
    fn with_waiting(finished: usize, reusable: usize) -> (Exits, Vec<Arc<HandlerThread>>) {
        let exits = Exits::new();
        let threads: Vec<_> = (0..finished + reusable)
            .map(|number| HandlerThread::new(number as u64))
            .collect();
        {
            let mut inner = exits.inner.lock();
            inner.ending = AT_ONCE;
            inner
                .waiting
                .finished
                .extend(threads[..finished].iter().cloned());
            inner
                .waiting
                .reusable
                .extend(threads[finished..].iter().cloned());
        }
        (exits, threads)
    }

    fn is_told_to_leave(thread: &Arc<HandlerThread>) -> bool {
        let has_no_command = Cell::new(false);
        let next = thread.wait_for_command(Duration::ZERO, || {
            has_no_command.set(true);
            true
        });
        assert!(next.is_none());
        !has_no_command.get()
    }

    fn told(threads: &[Arc<HandlerThread>]) -> usize {
        threads
            .iter()
            .filter(|thread| is_told_to_leave(thread))
            .count()
    }

    #[test]
    fn threads_are_let_go_in_batches_and_not_one_for_each_that_is_joined() {
        let (exits, threads) = with_waiting(10, 2 * AT_ONCE);
        let batch = AT_ONCE - LEFT;
        for _ in 1..batch {
            exits.joined();
            assert_eq!(told(&threads), 0);
        }
        exits.joined();
        assert_eq!(told(&threads[..batch]), batch, "those that came first");
        assert_eq!(told(&threads[batch..]), 0);
        for _ in 0..batch {
            exits.joined();
        }
        assert_eq!(told(&threads[batch..]), batch);
    }

    #[test]
    fn nobody_goes_before_those_that_wait_and_all_go_once_it_is_open() {
        let (exits, threads) = with_waiting(0, 3);
        (0..20).for_each(|_| exits.joined());
        let taken = exits.take_reusable().expect("one that may serve");
        exits.put_back(Arc::clone(&taken));
        assert!(!is_told_to_leave(&taken), "two others wait");
        exits.open();
        assert_eq!(told(&threads), 3);
        let late = HandlerThread::new(3);
        assert!(exits.wait_for_turn(&late, true, || ()).is_none());
        // As many as were let go come to be joined.
        (0..AT_ONCE - 20 + 3 + 1).for_each(|_| exits.joined());
        assert_eq!(exits.inner.lock().ending, 0);
    }
}
