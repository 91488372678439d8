//! Waiting for a condition, with a deadline and a name.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine: whoever waits this long has met a bug.
pub const DEADLINE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Blocks until `condition` holds, asking every 10 ms.
///
/// # Panics
/// With `what`, when `deadline` has passed.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Blocks until `value` is there, asking every 10 ms, and returns it.
///
/// # Panics
/// With `what`, when `deadline` has passed.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, value: impl FnMut() -> Option<T>) -> T {
    match try_wait_for(deadline, value) {
        Some(value) => value,
        None => panic!("waited {deadline:?} in vain: {what}"),
    }
}

/// Lets `time` pass and asks all along, every 10 ms: what is not to happen has not. A slow machine
/// asks less often and sees less, and does not fail.
///
/// # Panics
/// With `what`, when `condition` does not hold.
#[track_caller]
pub fn stays(what: &str, time: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    loop {
        let is_last = Instant::now() >= end;
        assert!(condition(), "{what} no more");
        if is_last {
            return;
        }
        thread::sleep(POLL);
    }
}

/// Blocks until what somebody is woken for was prompt 18 times of 20: well within `unwoken`, the
/// time after which they would look by themselves. A machine that stumbles is given more rounds,
/// for at most [`DEADLINE`]; whoever is not woken is too late every other time.
///
/// # Panics
/// With the times of the last round, when none was prompt.
#[track_caller]
pub fn wait_until_prompt(unwoken: Duration, mut time_one: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    let prompt = try_wait_for(DEADLINE, || {
        times = (0..20).map(|_| time_one()).collect();
        let prompt = times.iter().filter(|time| **time < unwoken / 2);
        (prompt.count() >= 18).then_some(())
    });
    assert!(prompt.is_some(), "not woken within {unwoken:?}: {times:?}");
}

/// As [`wait_for`], but `None` when `deadline` has passed. It asks at least once.
pub fn try_wait_for<T>(deadline: Duration, mut value: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        // The clock is read before the question: a condition that came true during a long pause is
        // still seen.
        let late = Instant::now() >= end;
        if let Some(value) = value() {
            return Some(value);
        }
        if late {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Runs `work` on a thread of its own and returns what it returned. One that has not ended by
/// `deadline` is left behind, so that the test fails instead of waiting with it.
///
/// # Panics
/// With `what`, when `deadline` has passed; when `work` panicked.
#[track_caller]
pub fn within<R: Send + 'static>(
    what: &str,
    deadline: Duration,
    work: impl FnOnce() -> R + Send + 'static,
) -> R {
    let thread = thread::spawn(work);
    wait_until(what, deadline, || thread.is_finished());
    thread.join().unwrap()
}
