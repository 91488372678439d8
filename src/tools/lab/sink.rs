//! The other end of the server's stdout: it takes messages at a rate, or none at all.

use std::io::Read;
use std::process::ChildStdout;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memchr_iter;

use super::super::workload::Workload;

/// The pipe holds no more than this: what is in it counts as delivered for the server and not yet
/// for us. A page is the least (F_SETPIPE_SZ of fcntl(2)).
const PIPE_BYTES: usize = 16 << 10;
/// A sink that was ahead of its messages may take so much time's worth of them at once.
const SLACK: Duration = Duration::from_millis(20);
/// A stall looks this often whether the server has ended.
const LOOK: Duration = Duration::from_millis(10);

/// What the sink and the lab share.
#[derive(Debug, Default)]
pub(super) struct Taken {
    messages: AtomicU64,
    /// Nothing more is asked of the server: the sink takes what is left as fast as it comes.
    is_over: AtomicBool,
    /// The load has ended while the sink was dead for good, and so has the server: it need not wait
    /// any longer.
    is_ended: AtomicBool,
}

impl Taken {
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// From now on stalls are over and there is no rate, except for a sink that is dead for good.
    pub(super) fn hurry(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// The server has ended.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Relaxed);
    }
}

/// Takes messages as the workload, which began at `start`, says, until the server closes its end. A
/// message of fewer than `whole` bytes is the half of one that a client left, and is not counted.
pub(super) fn take(
    mut pipe: ChildStdout,
    workload: &Workload,
    start: Instant,
    whole: usize,
    taken: &Taken,
) {
    // Where that is not allowed, a little more is in the pipe.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES);
    let pace = &workload.sink;
    let mut buffer = vec![0; PIPE_BYTES];
    let (mut next, mut line) = (start, 0);
    loop {
        wait_out_stalls(workload, start, taken);
        let now = Instant::now();
        if let Some(rate) = pace.rate
            && !taken.is_over.load(Relaxed)
        {
            next = next.max(now.checked_sub(SLACK).unwrap_or(now));
            if next > now {
                thread::sleep((next - now).min(LOOK));
                continue;
            }
            // No more than a hundredth of a second takes, or a few short messages.
            let most = (rate as usize).saturating_mul(4).clamp(256, PIPE_BYTES);
            buffer.truncate(most);
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let (mut messages, mut begin) = (0, 0);
                for end in memchr_iter(b'\n', &buffer[..read]) {
                    messages += u64::from(line + (end - begin) >= whole);
                    (line, begin) = (0, end + 1);
                }
                line += read - begin;
                taken.messages.fetch_add(messages, Relaxed);
                if let Some(rate) = pace.rate {
                    next += Duration::from_secs(messages) / u32::try_from(rate).unwrap_or(u32::MAX);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn wait_out_stalls(workload: &Workload, start: Instant, taken: &Taken) {
    for stall in &workload.sink.stalls {
        let end = stall.end();
        let is_for_good = end >= workload.duration;
        loop {
            let at = start.elapsed();
            let is_over = at >= end || taken.is_over.load(Relaxed);
            if at < stall.at || (is_over && !is_for_good) || taken.is_ended.load(Relaxed) {
                break;
            }
            thread::sleep(LOOK);
        }
    }
}
