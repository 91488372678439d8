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
//! malloc reads both settings from the environment, before `main`: so the program sets them and
//! executes itself once more. That keeps its process, its descriptors, its ignored signals and its
//! mask of signals.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use drainline::{Malloc, MallocSetting};
use nix::unistd::execve;

const ARENA_MAX: &str = "MALLOC_ARENA_MAX";
const TUNABLES: &str = "GLIBC_TUNABLES";
const NO_THREAD_CACHES: &str = "glibc.malloc.tcache_count=0";

/// Executes this program once more with the settings that the memory limit needs, unless somebody
/// has set them or they would have no effect. To be called before any thread is started and
/// anything is opened. Where that is impossible, as when the program's file was deleted, the
/// process goes on with the settings it has, and its limits say so.
///
/// Returns in the executed program, where all is set.
pub(crate) fn ensure() {
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
    if !missing.is_empty() {
        let _ = execute_again(&missing);
    }
}

fn with_another(mut tunables: OsString) -> OsString {
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(NO_THREAD_CACHES);
    tunables
}

/// Not by `/proc/self/exe`, under which ps(1) and pidof(8) would show `exe`. And not by std's
/// `Command`, which leaves SIGPIPE at its default where the call fails.
fn execute_again(settings: &[(&str, OsString)]) -> Option<Infallible> {
    let program = c_string(env::current_exe().ok()?.into_os_string())?;
    let args: Option<Vec<CString>> = env::args_os().map(c_string).collect();
    let is_inherited = |name: &OsStr| settings.iter().all(|(set, _)| name != *set);
    let inherited = env::vars_os().filter(|(name, _)| is_inherited(name));
    let set = settings
        .iter()
        .map(|(name, value)| (OsString::from(name), value.clone()));
    let entry = |(mut entry, value): (OsString, OsString)| {
        entry.push("=");
        entry.push(value);
        c_string(entry)
    };
    let environment: Option<Vec<CString>> = inherited.chain(set).map(entry).collect();
    execve(&program, &args?, &environment?).ok()
}

fn c_string(text: OsString) -> Option<CString> {
    CString::new(text.into_vec()).ok()
}
