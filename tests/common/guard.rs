//! A child process that cannot outlive its test, and a thread that collects what it writes.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::wait::{DEADLINE, try_wait_for, wait_until};

/// A child process. Drop kills it and waits for it.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Guarded {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// # Panics
    /// When the child has ended: its id may be another's by now.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        assert!(
            self.ended().is_none(),
            "{signal:?} for a child that has ended"
        );
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Its status, if it has ended. Does not block.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Blocks until the child ends, for at most `deadline`; one that has not ended by then is
    /// killed, and the answer is `None`.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let status = try_wait_for(deadline, || self.ended());
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// Ends the child as a service manager does, and well. Blocks for at most [`DEADLINE`].
    #[track_caller]
    pub fn terminate(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait(DEADLINE);
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }

    fn kill(&mut self) {
        // Both fail only for a child that was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Fills the pipe that is a process's descriptor `number`, so that its next write to it blocks.
/// Returns how many bytes it took; they end with a LF.
pub fn fill_pipe(pid: u32, number: u32) -> usize {
    // Opening a pipe by /proc gives a file description of our own, whose O_NONBLOCK is not the
    // process's.
    let mut pipe = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(format!("/proc/{pid}/fd/{number}"))
        .unwrap();
    let mut filled = 0;
    // Whole pages first, single bytes last: a write of up to PIPE_BUF (4,096) bytes is taken whole
    // or not at all.
    for block in [&[b'\n'; 4096][..], b"\n"] {
        loop {
            match pipe.write(block) {
                Ok(taken) => filled += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("filling a pipe: {error}"),
            }
        }
    }
    filled
}

/// A thread that reads a pipe to its end and keeps what it read. It ends with the pipe's last
/// writer.
#[derive(Debug)]
pub struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    pub fn start(mut pipe: impl Read + Send + 'static) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let thread = thread::Builder::new()
            .name("collector".to_owned())
            .spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                }
            });
        Collector {
            bytes,
            thread: thread.unwrap(),
        }
    }

    /// Lends what was read so far. The pipe is not read meanwhile.
    pub fn with<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.bytes.lock().unwrap())
    }

    /// A copy of what was read so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }

    /// What was read so far, as text.
    pub fn text(&self) -> String {
        self.with(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Blocks until the pipe has ended, for at most [`DEADLINE`], so that nothing more can come.
    ///
    /// # Panics
    /// When somebody still holds the pipe's other end by then.
    #[track_caller]
    pub fn finish(&self) {
        wait_until("the end of a pipe whose writer has ended", DEADLINE, || {
            self.thread.is_finished()
        });
    }
}
