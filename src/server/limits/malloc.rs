//! What an allocation takes of glibc's malloc, how much free memory malloc may keep, and which
//! setting decides that.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use super::processors::processors;

/// The settings of glibc's malloc that decide how much free memory it does not return to the
/// system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malloc {
    /// The most arenas, by default eight per processor. malloc makes an arena for each thread until
    /// there are so many. Free memory of an arena is returned to the system from its top only, so a
    /// small allocation that lives long keeps all that is free below. Set by `MALLOC_ARENA_MAX` or
    /// `glibc.malloc.arena_max`.
    pub arenas_max: MallocSetting,
    /// The most bytes that a thread keeps of what it freed, for itself alone and until it ends: the
    /// set number of pieces in each of 64 sizes up to 1 KiB. Set by `glibc.malloc.tcache_count`; 0
    /// turns the cache off.
    pub thread_cache_bytes: MallocSetting,
}

/// The value of a malloc setting, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MallocSetting {
    /// glibc's default.
    Default(u64),
    /// Set by an environment variable, `GLIBC_TUNABLES` or an older one.
    Set(u64),
    /// Not settable: malloc is not glibc's, or the process has more privileges than whoever started
    /// it (a set-user-ID program, or one with file capabilities), so that the environment is
    /// ignored (secure-execution mode in ld.so(8)).
    Fixed(u64),
}

impl MallocSetting {
    /// The number.
    pub fn value(self) -> u64 {
        match self {
            MallocSetting::Default(value)
            | MallocSetting::Set(value)
            | MallocSetting::Fixed(value) => value,
        }
    }

    fn map(self, change: impl Fn(u64) -> u64) -> Self {
        match self {
            MallocSetting::Default(value) => MallocSetting::Default(change(value)),
            MallocSetting::Set(value) => MallocSetting::Set(change(value)),
            MallocSetting::Fixed(value) => MallocSetting::Fixed(change(value)),
        }
    }
}

impl Malloc {
    /// The settings of this process, by its environment as it is now; malloc has read it before
    /// `main`. A program's own allocator is not detected.
    pub fn of_process() -> Malloc {
        if cfg!(not(target_env = "gnu")) {
            return Malloc {
                arenas_max: MallocSetting::Fixed(1),
                thread_cache_bytes: MallocSetting::Fixed(0),
            };
        }
        let processors = processors();
        if is_privileged() {
            let unset = Environment::default().malloc(processors);
            return Malloc {
                arenas_max: MallocSetting::Fixed(unset.arenas_max.value()),
                thread_cache_bytes: MallocSetting::Fixed(unset.thread_cache_bytes.value()),
            };
        }
        Environment::of_process().malloc(processors)
    }

    /// `GLIBC_TUNABLES` as the process was started with, or empty. Older versions of ld.so write a
    /// NUL after each tunable that they take, so that getenv(3) finds only the first; the others
    /// are read from `/proc/self/environ`.
    pub fn tunables() -> OsString {
        let first = env::var_os(TUNABLES).unwrap_or_default();
        let is_variable = |entry: &[u8]| {
            env::vars_os().any(|(name, value)| {
                let value = value.as_bytes();
                entry
                    .strip_prefix(name.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"="))
                    == Some(value)
            })
        };
        let environ = fs::read("/proc/self/environ").unwrap_or_default();
        uncut(&environ, first.as_bytes(), is_variable).map_or(first, OsString::from_vec)
    }
}

/// The variables that malloc reads.
#[derive(Clone, Debug, Default)]
struct Environment {
    tunables: String,
    arena_max: Option<String>,
    arena_test: Option<String>,
}

impl Environment {
    fn of_process() -> Environment {
        let told = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Environment {
            tunables: Malloc::tunables().to_string_lossy().into_owned(),
            arena_max: told("MALLOC_ARENA_MAX"),
            arena_test: told("MALLOC_ARENA_TEST"),
        }
    }

    fn malloc(&self, processors: u64) -> Malloc {
        const ARENA_TEST: u64 = 8;
        const TCACHE_COUNT: u64 = 7;
        // malloc counts the processors only when there is one arena more than `arena_test`.
        let test = self.said("arena_test", self.arena_test.as_deref(), ARENA_TEST, |_| {
            true
        });
        let unasked = test.value().saturating_add(1);
        let by_default = processors.saturating_mul(8).max(unasked);
        let pieces = self.said("tcache_count", None, TCACHE_COUNT, |count| {
            count <= TCACHE_COUNT_MAX
        });
        let largest = self.said("tcache_max", None, TCACHE_MAX, |_| true).value();
        Malloc {
            arenas_max: self.said("arena_max", self.arena_max.as_deref(), by_default, |max| {
                max > 0
            }),
            thread_cache_bytes: pieces.map(|pieces| thread_cache_bytes(pieces, largest)),
        }
    }

    /// The value of one setting. The last tunable that malloc takes counts, and the older variable
    /// only without such a tunable. A value that malloc does not take leaves the default, but
    /// counts as set.
    fn said(
        &self,
        name: &str,
        older: Option<&str>,
        by_default: u64,
        is_taken: impl Fn(u64) -> bool,
    ) -> MallocSetting {
        let of_tunables = entries(&self.tunables).filter_map(|entry| {
            let (full_name, value) = entry.split_once('=')?;
            (full_name.strip_prefix("glibc.malloc.")? == name).then_some(value)
        });
        let values: Vec<&str> = older.into_iter().chain(of_tunables).collect();
        let numbers = values.iter().rev().filter_map(|value| number(value));
        let mut numbers = numbers.map(|number| match number {
            Number::Whole(value) => value,
            Number::Begins(value) => value.max(by_default),
        });
        match (numbers.find(|&number| is_taken(number)), values.is_empty()) {
            (Some(number), _) => MallocSetting::Set(number),
            (None, false) => MallocSetting::Set(by_default),
            (None, true) => MallocSetting::Default(by_default),
        }
    }
}

const TUNABLES: &str = "GLIBC_TUNABLES";

/// Puts `GLIBC_TUNABLES` together again: entries of `environ` that follow the variable and are no
/// variables themselves are pieces of it.
fn uncut(environ: &[u8], first: &[u8], is_variable: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let environ = environ.strip_suffix(b"\0")?;
    let mut entries = environ.split(|byte| *byte == 0);
    entries.find(|entry| {
        let value = entry.strip_prefix(TUNABLES.as_bytes());
        value.and_then(|value| value.strip_prefix(b"=")) == Some(first)
    })?;
    let rest = entries.take_while(|entry| !is_variable(entry));
    let all: Vec<&[u8]> = std::iter::once(first).chain(rest).collect();
    Some(all.join(&b':'))
}

/// The largest `glibc.malloc.tcache_count` that malloc takes.
const TCACHE_COUNT_MAX: u64 = u16::MAX as u64;
/// The default of `glibc.malloc.tcache_max`, in bytes.
const TCACHE_MAX: u64 = 1032;

/// The most bytes in a thread's cache. A chunk of malloc has at least 32 bytes, and sizes are 16
/// apart. Newer versions (glibc 2.42) can be set to keep larger chunks, each size twice the one
/// before.
fn thread_cache_bytes(pieces: u64, largest: u64) -> u64 {
    const SIZES: u64 = 64;
    let small = SIZES * 32 + 16 * (SIZES * (SIZES - 1) / 2);
    let large = match largest > TCACHE_MAX {
        true => largest
            .checked_next_power_of_two()
            .unwrap_or(u64::MAX)
            .saturating_mul(2),
        false => 0,
    };
    pieces.saturating_mul(small.saturating_add(large))
}

/// The tunables, which are separated by colons. Newer versions (glibc 2.39) ignore all tunables if
/// one has two equals signs or the last has none.
fn entries(tunables: &str) -> impl Iterator<Item = &str> {
    let last = tunables.rsplit(':').next().unwrap_or_default();
    let is_ill_formed = |entry: &str| entry.matches('=').count() > 1;
    let all_ignored =
        tunables.split(':').any(is_ill_formed) || (!last.is_empty() && !last.contains('='));
    let taken = if all_ignored { "" } else { tunables };
    taken.split(':')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Whole(u64),
    /// Something follows the number: older versions take the number, newer ones the default.
    Begins(u64),
}

/// Reads a number as ld.so does: decimal, hexadecimal after 0x, octal after 0.
fn number(value: &str) -> Option<Number> {
    let value = value.trim_start();
    let (digits, radix) = match (value.strip_prefix("0x"), value.starts_with('0')) {
        (Some(digits), _) => (digits, 16),
        (None, true) => (value, 8),
        (None, false) => (value, 10),
    };
    let end = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() {
        return None;
    }
    // malloc takes a number that is too large for size_t as the largest.
    let value = u64::from_str_radix(digits, radix).unwrap_or(u64::MAX);
    match rest.is_empty() {
        true => Some(Number::Whole(value)),
        false => Some(Number::Begins(value)),
    }
}

/// Whether the process runs in secure-execution mode, by AT_SECURE (getauxval(3)). A process that
/// may not read its own auxv is privileged.
fn is_privileged() -> bool {
    match fs::read("/proc/self/auxv") {
        Ok(auxv) => at_secure(&auxv),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// Looks for AT_SECURE in the auxv: pairs of a key and a value, each as long as an address.
fn at_secure(auxv: &[u8]) -> bool {
    const AT_SECURE: usize = 23;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().map(usize::from_ne_bytes).unwrap_or(0);
    let mut pairs = auxv.chunks_exact(2 * WORD);
    pairs.any(|pair| word(&pair[..WORD]) == AT_SECURE && word(&pair[WORD..]) != 0)
}

/// The heap memory that an allocation of `bytes` takes, in bytes: glibc's malloc adds 8 bytes,
/// rounds up to a multiple of 16, and takes at least 32 (malloc(3) and its `malloc_usable_size`). 0
/// for 0, since a vector without capacity allocates nothing.
pub fn heap_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => bytes.saturating_add(8 + 15).max(32) & !15,
    }
}

/// The heap memory of a shared list, in bytes, without what its entries hold on the heap.
pub(in crate::server) fn shared_bytes<T>(list: &Arc<[T]>) -> u64 {
    let counts = 2 * size_of::<usize>();
    match list.is_empty() {
        true => 0,
        false => heap_bytes(size_of_val(&**list) + counts) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::MallocSetting::{Default, Set};
    use super::*;

    fn told(tunables: &str, arena_max: Option<&str>, arena_test: Option<&str>) -> Malloc {
        let environment = Environment {
            tunables: tunables.to_owned(),
            arena_max: arena_max.map(str::to_owned),
            arena_test: arena_test.map(str::to_owned),
        };
        environment.malloc(2)
    }

    #[track_caller]
    fn arenas(tunables: &str, arena_max: Option<&str>, expected: MallocSetting) {
        assert_eq!(told(tunables, arena_max, None).arenas_max, expected);
    }

    #[track_caller]
    fn cache(tunables: &str, expected: MallocSetting) {
        assert_eq!(told(tunables, None, None).thread_cache_bytes, expected);
    }

    #[test]
    fn a_number_of_either_variable_counts_and_the_tunable_above_the_other() {
        arenas("", None, Default(16));
        arenas("", Some("1"), Set(1));
        arenas("", Some("4"), Set(4));
        arenas("glibc.malloc.arena_max=2", None, Set(2));
        arenas("glibc.malloc.arena_max=2", Some("1"), Set(2));
        arenas("glibc.malloc.arena_test=2", None, Default(16));
        let twice = "a.b.c=1:glibc.malloc.arena_max=3:glibc.malloc.arena_max=5";
        arenas(twice, None, Set(5));
    }

    #[test]
    fn what_malloc_does_not_take_leaves_the_default_and_is_somebodys_will() {
        arenas("", Some("0"), Set(16));
        arenas("", Some(""), Set(16));
        arenas("", Some("one"), Set(16));
        arenas("", Some("0x0"), Set(16));
        arenas("glibc.malloc.arena_max=0", Some("2"), Set(2));
        cache("glibc.malloc.tcache_count=70000", Set(7 * SMALL));
    }

    #[test]
    fn malloc_asks_how_many_processors_there_are_when_it_has_more_arenas_than_the_test() {
        let arenas = |tunables, variable| told(tunables, None, variable).arenas_max;
        assert_eq!(arenas("", Some("100")), Default(101));
        assert_eq!(
            arenas("glibc.malloc.arena_test=50", Some("100")),
            Default(51)
        );
        assert_eq!(arenas("", Some("0")), Default(16));
        let alone = Environment::default().malloc(1);
        assert_eq!(alone.arenas_max, Default(9));
    }

    /// Bytes of one piece of each size, with malloc's overhead: 32, 48, .. 1040.
    const SMALL: u64 = 34_304;

    #[test]
    fn a_threads_cache_has_so_many_pieces_of_each_size() {
        cache("", Default(7 * SMALL));
        cache("glibc.malloc.tcache_count=0", Set(0));
        cache("glibc.malloc.tcache_count=100", Set(100 * SMALL));
        // A size is not a count: the count is still glibc's own.
        cache("glibc.malloc.tcache_max=100", Default(7 * SMALL));
        let all = 2048 + 4096 + 8192 + 16_384 + 32_768;
        let cached = told("glibc.malloc.tcache_max=20000", None, None).thread_cache_bytes;
        assert!(cached.value() >= 7 * (SMALL + all), "{cached:?}");
    }

    #[test]
    fn tunables_that_a_newer_glibc_ignores_set_nothing() {
        let of = "glibc.malloc.tcache_count=0";
        for ignored in [
            format!("{of}:glibc.malloc.check"),
            format!("glibc.malloc.check=1=2:{of}"),
        ] {
            cache(&ignored, Default(7 * SMALL));
        }
        for taken in [format!("{of}:"), format!("check:{of}"), format!(":{of}")] {
            cache(&taken, Set(0));
        }
    }

    #[test]
    fn numbers_are_read_as_ld_so_reads_them() {
        use Number::{Begins, Whole};
        for (value, expected) in [
            ("12", Some(Whole(12))),
            (" 12", Some(Whole(12))),
            ("0x10", Some(Whole(16))),
            ("010", Some(Whole(8))),
            ("0", Some(Whole(0))),
            ("99999999999999999999", Some(Whole(u64::MAX))),
            ("3x", Some(Begins(3))),
            ("09", Some(Begins(0))),
            ("0x", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(number(value), expected, "{value}");
        }
        arenas("", Some("3x"), Set(16));
        arenas("", Some("30x"), Set(30));
    }

    #[test]
    fn tunables_that_were_cut_behind_each_are_whole_again() {
        let is_variable = |entry: &[u8]| entry.starts_with(b"HOME=");
        let whole = |environ: &[u8]| uncut(environ, b"a=1", is_variable).map(String::from_utf8);
        let all = "a=1:b=2:c:d=3";
        let cut = b"PATH=/\0GLIBC_TUNABLES=a=1\0b=2\0c:d=3\0HOME=/root\0";
        assert_eq!(whole(cut), Some(Ok(all.to_owned())));
        let last = b"PATH=/\0GLIBC_TUNABLES=a=1\0b=2\0c:d=3\0";
        assert_eq!(whole(last), Some(Ok(all.to_owned())));
        let alone = b"GLIBC_TUNABLES=a=1\0HOME=/root\0";
        assert_eq!(whole(alone), Some(Ok("a=1".to_owned())));
        // The program has changed the variable since, or /proc is not there.
        assert_eq!(whole(b"GLIBC_TUNABLES=b=1\0"), None);
        assert_eq!(whole(b""), None);
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
