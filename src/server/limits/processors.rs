//! The number of processors, as malloc counts them.

use std::fs;
use std::thread;

/// malloc takes the processors that are online by the first of these files that it can read, else
/// those that the process may run on, else two. This takes the largest of these numbers, which is
/// never too small.
pub(super) fn processors() -> u64 {
    let allowed = thread::available_parallelism().map_or(0, |count| count.get() as u64);
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let online = online(&text("/sys/devices/system/cpu/online"));
    let running = lines_of_processors(&text("/proc/stat"));
    [2, allowed, online, running].into_iter().fold(0, u64::max)
}

/// Counts a list of numbers and ranges such as `0-3,6`.
fn online(list: &str) -> u64 {
    let count = |range: &str| -> Option<u64> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let counts = list.trim().split(',').filter_map(count);
    counts.fold(0, u64::saturating_add)
}

/// Counts the lines of proc_stat(5), which has one for each processor.
fn lines_of_processors(stat: &str) -> u64 {
    let is_processor = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    stat.lines().filter(is_processor).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_whatever_can_be_read() {
        assert_eq!(online("0-3,6\n"), 5);
        assert_eq!(online("0\n"), 1);
        assert_eq!(online(""), 0);
        assert_eq!(online("0-x,3-1,0-18446744073709551615"), 0);
        assert_eq!(lines_of_processors("cpu  1 2\ncpu0 1\ncpu1 2\nintr 5\n"), 2);
        assert_eq!(lines_of_processors(""), 0);
        assert!(processors() >= 2);
    }
}
