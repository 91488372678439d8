//! How other threads wake a consumer that waits for their answers, too.

use std::fmt;

use crossbeam_channel as channel;

/// Wakes a consumer that waits for messages or for answers to what it has sent, from any thread:
/// answers have come. Clones wake the same consumer.
#[derive(Clone)]
pub struct Notifier(channel::Sender<()>);

impl Notifier {
    /// Ends the wait that is under way, or the next one. Never blocks, and is never lost: what was
    /// done before this call is seen by the consumer when its wait returns. Several calls before
    /// that end one wait. Does nothing once the consumer's server is over.
    pub fn notify(&self) {
        // The one slot is full: a notice that nobody has taken yet stands for this one, too.
        let _ = self.0.try_send(());
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notifier")
    }
}

/// The other end: the notices that a consumer waits for.
#[derive(Debug)]
pub(crate) struct Notices {
    notices: channel::Receiver<()>,
    notifier: Notifier,
}

impl Notices {
    pub(crate) fn new() -> Self {
        let (notify, notices) = channel::bounded(1);
        Notices {
            notices,
            notifier: Notifier(notify),
        }
    }

    pub(crate) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    pub(crate) fn receiver(&self) -> &channel::Receiver<()> {
        &self.notices
    }

    /// Takes the notice that was given since the last look, if any.
    pub(crate) fn take(&self) {
        let _ = self.notices.try_recv();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Each round is one chance to lose a notice: the other side waits, or is about to, or looks.
    #[test]
    fn who_looks_after_each_wait_sees_all_that_was_done_before_a_notice() {
        const ROUNDS: u64 = 20_000;
        let notices = Notices::new();
        let (done, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (notifier, doing, looked) = (notices.notifier(), Arc::clone(&done), Arc::clone(&seen));
        let other = thread::spawn(move || {
            for round in 1..=ROUNDS {
                // Several at once are one.
                for _ in 0..=round % 3 {
                    doing.fetch_add(1, Ordering::Relaxed);
                    notifier.notify();
                }
                while looked.load(Ordering::Relaxed) < doing.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
            doing.store(u64::MAX, Ordering::Relaxed);
            notifier.notify();
        });
        while seen.load(Ordering::Relaxed) < u64::MAX {
            let notice = notices.receiver().recv_timeout(Duration::from_secs(60));
            notice.unwrap();
            seen.store(done.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        other.join().unwrap();
    }
}
