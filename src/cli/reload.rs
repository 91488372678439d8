//! What SIGHUP reads again, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use crossbeam_channel::{Sender, bounded};

/// Reads files again when it is asked to, one time after the other. A file may be on a file system
/// that does not answer, and the thread that asks is the one that serves SIGTERM: it never waits.
///
/// The thread ends once this is dropped and nothing is being read. Nobody joins it, since that may
/// be never, and the end of the process does not have to wait for it.
#[derive(Debug)]
pub(super) struct Reloader {
    ask: Sender<()>,
    is_reading: Arc<AtomicBool>,
}

impl Reloader {
    pub(super) fn start(reload: impl Fn() + Send + 'static) -> io::Result<Reloader> {
        // Whoever asks while files are being read may have renewed them just now: one more time
        // follows, for however many asked.
        let (ask, asked) = bounded(1);
        let is_reading = Arc::new(AtomicBool::new(false));
        let is_busy = Arc::clone(&is_reading);
        let body = move || {
            for () in asked {
                is_busy.store(true, Release);
                reload();
                is_busy.store(false, Release);
            }
        };
        thread::Builder::new()
            .name("reloader".to_owned())
            .spawn(body)?;
        Ok(Reloader { ask, is_reading })
    }

    /// Has everything read once more, after what is being read now. Returns whether something is.
    pub(super) fn ask(&self) -> bool {
        let is_reading = self.is_reading.load(Acquire);
        // A full channel holds a request that nobody has begun with.
        let _ = self.ask.try_send(());
        is_reading
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// Three requests while one is served, which does not end, wait for nothing and are one more.
    #[test]
    fn asking_waits_for_nothing_and_what_came_meanwhile_is_read_once_more() {
        let (begun, begins) = bounded(0);
        let (end, ended) = bounded::<()>(0);
        let reload = move || {
            let _ = begun.send(());
            let _ = ended.recv();
        };
        let reloader = Reloader::start(reload).expect("a thread");
        assert!(!reloader.ask());
        begins.recv_timeout(DEADLINE).expect("the first begins");
        for _ in 0..3 {
            assert!(reloader.ask());
        }
        let early = begins.recv_timeout(Duration::from_millis(50));
        assert!(early.is_err(), "two at once");
        end.send_timeout((), DEADLINE).expect("the first ends");
        begins.recv_timeout(DEADLINE).expect("one more begins");
        end.send_timeout((), DEADLINE).expect("it ends");
        let more = begins.recv_timeout(Duration::from_millis(50));
        assert!(more.is_err(), "a third");
    }
}
