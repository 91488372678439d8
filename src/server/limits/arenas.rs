//! The arenas of glibc's malloc: how many there may be, and who says so.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::system::text;

/// The most arenas that glibc's malloc makes in this process, and what decides it.
///
/// It makes one more for a thread that has none, until there are so many. What lies free in an arena goes back to the
/// system from its top only, so a small thing that lives long keeps all that is free below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MallocArenas {
    /// malloc is not glibc's, and makes none.
    NotGlibc,
    /// Eight for each processor: nobody has said how many.
    Default(u64),
    /// By MALLOC_ARENA_MAX or `glibc.malloc.arena_max` in GLIBC_TUNABLES.
    Set(u64),
    /// Eight for each processor, whatever is set: the process has more privileges than whoever started it (a set-user-ID
    /// program, or one with file capabilities), and the environment does not count (secure-execution mode in ld.so(8)).
    Fixed(u64),
}

impl MallocArenas {
    /// What holds for this process, by the environment as it is now: malloc has read it before `main`.
    pub fn of_process() -> MallocArenas {
        if cfg!(not(target_env = "gnu")) {
            return MallocArenas::NotGlibc;
        }
        let by_default = eight_for_each_processor(&text(Path::new("/proc/stat")));
        if is_privileged() {
            return MallocArenas::Fixed(by_default);
        }
        let told = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        said(told("GLIBC_TUNABLES"), told("MALLOC_ARENA_MAX"), by_default)
    }

    /// How many; 1 is the one that every process has.
    pub fn max(self) -> u64 {
        match self {
            MallocArenas::NotGlibc => 1,
            MallocArenas::Default(max) | MallocArenas::Set(max) | MallocArenas::Fixed(max) => max,
        }
    }
}

/// The last tunable counts, and the older variable only without one. A value that malloc does not take leaves the default.
fn said(tunables: Option<String>, arena_max: Option<String>, by_default: u64) -> MallocArenas {
    let tunables = tunables.unwrap_or_default();
    let of_tunables = tunables
        .split(':')
        .filter_map(|entry| entry.strip_prefix("glibc.malloc.arena_max="));
    let values: Vec<&str> = arena_max
        .as_deref()
        .into_iter()
        .chain(of_tunables)
        .collect();
    let taken = values
        .iter()
        .rev()
        .filter_map(|value| leading_number(value));
    match (taken.clone().find(|&max| max > 0), values.is_empty()) {
        (Some(max), _) => MallocArenas::Set(max),
        (None, false) => MallocArenas::Set(by_default),
        (None, true) => MallocArenas::Default(by_default),
    }
}

/// As ld.so reads one: decimal, or after 0x hexadecimal, or after 0 octal; what follows does not matter.
fn leading_number(value: &str) -> Option<u64> {
    let value = value.trim_start();
    let (digits, radix) = match (value.strip_prefix("0x"), value.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) => (digits, 8),
        (None, None) => (value, 10),
    };
    let end = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], radix).ok()
}

/// proc_stat(5) has a line for each processor.
pub(super) fn eight_for_each_processor(stat: &str) -> u64 {
    let is_processor = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let processors = stat.lines().filter(is_processor).count();
    (processors.max(1) as u64).saturating_mul(8)
}

/// By AT_SECURE (getauxval(3)). A privileged process may be kept from that file itself.
fn is_privileged() -> bool {
    match fs::read("/proc/self/auxv") {
        Ok(auxv) => at_secure(&auxv),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// Pairs of a key and a value, each as long as an address.
fn at_secure(auxv: &[u8]) -> bool {
    const AT_SECURE: usize = 23;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or(0);
    let mut pairs = auxv.chunks_exact(2 * WORD);
    pairs.any(|pair| word(&pair[..WORD]) == AT_SECURE && word(&pair[WORD..]) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(tunables: Option<&str>, arena_max: Option<&str>, expected: MallocArenas) {
        let owned = |value: Option<&str>| value.map(str::to_owned);
        assert_eq!(said(owned(tunables), owned(arena_max), 16), expected);
    }

    #[test]
    fn a_number_of_either_variable_counts_and_the_tunable_above_the_other() {
        use MallocArenas::{Default, Set};
        says(None, None, Default(16));
        says(None, Some("1"), Set(1));
        says(None, Some("4"), Set(4));
        says(Some("glibc.malloc.arena_max=2"), None, Set(2));
        says(Some("glibc.malloc.arena_max=2"), Some("1"), Set(2));
        says(Some("glibc.malloc.arena_test=2"), None, Default(16));
        says(
            Some("a.b.c=1:glibc.malloc.arena_max=3:glibc.malloc.arena_max=5"),
            None,
            Set(5),
        );
    }

    #[test]
    fn what_malloc_does_not_take_leaves_the_default_and_is_somebodys_will() {
        use MallocArenas::Set;
        says(None, Some("0"), Set(16));
        says(None, Some(""), Set(16));
        says(None, Some("one"), Set(16));
        says(None, Some("0x0"), Set(16));
        says(Some("glibc.malloc.arena_max=0"), Some("2"), Set(2));
    }

    #[test]
    fn numbers_are_read_as_ld_so_reads_them() {
        for (value, number) in [
            ("12", Some(12)),
            (" 12", Some(12)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("3x", Some(3)),
            ("0", None),
            ("x", None),
        ] {
            assert_eq!(leading_number(value), number, "{value}");
        }
    }

    #[test]
    fn a_privileged_process_is_told_by_its_auxiliary_vector() {
        let auxv = |pairs: &[[usize; 2]]| -> Vec<u8> {
            let words = pairs.iter().flatten();
            words.flat_map(|word| word.to_ne_bytes()).collect()
        };
        assert!(at_secure(&auxv(&[[6, 4096], [23, 1], [0, 0]])));
        assert!(!at_secure(&auxv(&[[6, 23], [23, 0], [0, 0]])));
        assert!(!at_secure(&[]));
    }
}
