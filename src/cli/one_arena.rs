//! One arena for malloc, so that the bound holds.
//!
//! glibc's malloc makes an arena for each thread, up to eight for each processor, and gives back to the system only what
//! is free at an arena's top. A connection that filled the buffer and then holds a part of a message there keeps a whole
//! buffer's memory from the system and from all other threads; the next one does so in another arena. In a single arena
//! what one connection freed is what the next one takes.
//!
//! malloc reads the number from the environment, before `main`: so the program sets it and executes itself once more. That
//! keeps its process, its descriptors, its ignored signals and its mask of signals.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use drainline::MallocArenas;
use nix::unistd::execve;

const ONE_ARENA: &[u8] = b"MALLOC_ARENA_MAX=1";

/// Starts this program anew with one arena, unless somebody has set a number or none would count. Call it before any
/// thread is made and anything is opened. Where it cannot be done, as when the program's file was deleted, the process
/// goes on with what it has, and its bound says so.
///
/// It comes back in the process that it makes: there, a number is set.
pub(crate) fn ensure() {
    if matches!(MallocArenas::of_process(), MallocArenas::Default(_)) {
        let _ = execute_again();
    }
}

/// Not by `/proc/self/exe`, by which ps(1) and pidof(8) would call it `exe`. And not by std's `Command`, which leaves
/// SIGPIPE at its default where it fails.
fn execute_again() -> Option<Infallible> {
    let program = c_string(env::current_exe().ok()?.into_os_string())?;
    let args: Option<Vec<CString>> = env::args_os().map(c_string).collect();
    let inherited = env::vars_os().map(|(mut entry, value)| {
        entry.push("=");
        entry.push(value);
        c_string(entry)
    });
    let one_arena = std::iter::once(CString::new(ONE_ARENA).ok());
    let environment: Option<Vec<CString>> = inherited.chain(one_arena).collect();
    execve(&program, &args?, &environment?).ok()
}

fn c_string(text: OsString) -> Option<CString> {
    CString::new(text.into_vec()).ok()
}
