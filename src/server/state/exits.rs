//! Limits how many handlers' threads end at once. Each thread unmaps its stack as it ends, and
//! thousands that do so at once queue for the kernel's lock on the process's mappings, each with a
//! wake-up of its own. Whoever needs memory meanwhile, such as a new client's thread, waits behind
//! them.
//!
//! Threads end in batches. If each join let one more thread go, the reaper and the ending threads
//! would wait for each other to be scheduled thousands of times in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::crowd_lock::CrowdLock;
use super::handler_thread::{Command, HandlerThread, Job};

/// The most threads that end at once.
const AT_ONCE: usize = 64;
/// The next batch may go when no more than this many threads of the last one are left, so that some
/// thread is always ending.
const LEFT: usize = 8;

/// A thread that has waited this long ends anyway: the reaper blocks in a join, and nothing is
/// gained by waiting for it.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Threads that wait for their turn to end, in the order in which they came.
#[derive(Default)]
struct Waiting {
    /// Threads that may serve another client instead of ending.
    reusable: VecDeque<Arc<HandlerThread>>,
    /// Threads that serve nobody any more.
    finished: VecDeque<Arc<HandlerThread>>,
}

struct Inner {
    at_once: usize,
    /// Threads that may end and are not joined yet.
    ending: usize,
    waiting: Waiting,
}

/// Where handlers' threads wait for their turn to end. A waiting thread holds no socket and no
/// address permit, but keeps its permit until it is joined.
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

    /// Whether the calling thread may end now, which it must announce to the reaper next. If not,
    /// it is listed as one that waits for its [turn](Exits::wait_for_turn); a `reusable` thread may
    /// be handed a client from then on.
    pub(crate) fn may_end(&self, thread: &Arc<HandlerThread>, reusable: bool) -> bool {
        let mut inner = self.inner.lock();
        let may_go = inner.may_go();
        if may_go {
            inner.ending += 1;
        } else {
            inner.waiting.list(reusable).push_back(Arc::clone(thread));
        }
        may_go
    }

    /// Blocks the calling thread, which is listed, until it may end. Returns the client that it was
    /// handed instead, if so.
    pub(crate) fn wait_for_turn(&self, thread: &Arc<HandlerThread>, reusable: bool) -> Option<Job> {
        match thread.wait_for_command(MAX_WAIT) {
            Some(command) => command.job(),
            None if self.give_up(thread, reusable) => None,
            // An acceptor or the reaper has just taken the thread off the list.
            None => thread.next_command().job(),
        }
    }

    /// Whether a thread waits here that may serve another client.
    pub(crate) fn has_reusable(&self) -> bool {
        !self.inner.lock().waiting.reusable.is_empty()
    }

    /// Takes off a thread that may serve another client, and that must then be given a command or
    /// put back. Takes the one that came last, since the one that came first is to end next.
    pub(crate) fn take_reusable(&self) -> Option<Arc<HandlerThread>> {
        self.inner.lock().waiting.reusable.pop_back()
    }

    /// Puts back a thread that was taken off and given no command.
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

    /// Must be called when so many threads that were let go have been joined. Lets the next batch
    /// go if only few of the last one are left.
    pub(crate) fn joined(&self, threads: usize) {
        let next = {
            let mut inner = self.inner.lock();
            inner.ending -= threads;
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

    /// From now on threads end without waiting for a turn, and those that wait go at once.
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

    /// Takes a thread off the list because it ends without its turn. `false` if an acceptor or the
    /// reaper has taken it off already, and its command is on its way.
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
    /// Whether a thread may end at once: not while others wait, who came before it.
    fn may_go(&self) -> bool {
        self.ending < self.at_once && self.waiting.is_empty()
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.reusable.is_empty() && self.finished.is_empty()
    }

    /// Takes off up to `most` threads, those first that serve nobody any more.
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
    use super::*;

    /// A whole batch has been let go, and these threads wait behind it: the finished, then the
    /// reusable.
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
        let command = thread.wait_for_command(Duration::ZERO);
        assert!(!matches!(command, Some(Command::Serve(_))));
        command.is_some()
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
            exits.joined(1);
            assert_eq!(told(&threads), 0);
        }
        exits.joined(1);
        assert_eq!(told(&threads[..batch]), batch, "those that came first");
        assert_eq!(told(&threads[batch..]), 0);
        for _ in 0..batch {
            exits.joined(1);
        }
        assert_eq!(told(&threads[batch..]), batch);
    }

    #[test]
    fn nobody_goes_before_those_that_wait_and_all_go_once_it_is_open() {
        let (exits, threads) = with_waiting(0, 3);
        (0..20).for_each(|_| exits.joined(1));
        let taken = exits.take_reusable().expect("one that may serve");
        exits.put_back(Arc::clone(&taken));
        assert!(!is_told_to_leave(&taken), "two others wait");
        exits.open();
        assert_eq!(told(&threads), 3);
        let late = HandlerThread::new(3);
        assert!(exits.may_end(&late, true));
        // Every thread that was let go is joined in the end.
        (0..AT_ONCE - 20 + 3 + 1).for_each(|_| exits.joined(1));
        assert_eq!(exits.inner.lock().ending, 0);
    }
}
