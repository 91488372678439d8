//! One arena for malloc and no caches of threads, so that the memory limit holds.
//!
//! glibc's malloc makes an arena for each thread, up to eight for each processor, and gives back to
//! the system only what is free at an arena's top. A connection that filled the buffer and then
//! holds part of a message there keeps a whole buffer's memory from the system and from all other
//! threads; the next connection does so in another arena. In a single arena, what one connection
//! freed is what the next one takes. Each thread also keeps for itself the last pieces that it
//! freed of every small size, 235 KiB in all, which a client that sends messages of all sizes can
//! fill.
//!
//! malloc reads both settings from the environment, before `main`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use drainline::{Malloc, MallocSetting};

const ARENA_MAX: &str = "MALLOC_ARENA_MAX";
pub(super) const TUNABLES: &str = "GLIBC_TUNABLES";
const NO_THREAD_CACHES: &str = "glibc.malloc.tcache_count=0";

/// The variables that the memory limit needs in the environment, with their values. Empty where
/// somebody has set them, or they would have no effect.
pub(super) fn missing() -> Vec<(&'static str, OsString)> {
    let malloc = Malloc::of_process();
    let mut missing = Vec::new();
    if matches!(malloc.arenas_max, MallocSetting::Default(_)) {
        missing.push((ARENA_MAX, OsString::from("1")));
    }
    if matches!(malloc.thread_cache_bytes, MallocSetting::Default(_)) {
        let tunables = Malloc::tunables();
        // Else it is set already, and ignored: the tunables that somebody set are ill-formed.
        if !tunables.as_bytes().ends_with(NO_THREAD_CACHES.as_bytes()) {
            missing.push((TUNABLES, with_another(tunables)));
        }
    }
    missing
}

fn with_another(mut tunables: OsString) -> OsString {
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(NO_THREAD_CACHES);
    tunables
}
