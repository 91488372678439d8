//! Threads without a signal stack: half of the memory mappings, and less processor time (the
//! tuning page says how much).
//!
//! std maps a stack for signals beside each thread's stack, so that its handler of SIGSEGV and
//! SIGBUS can say that a stack overflowed. Where neither signal has its default action when the
//! program starts, std installs no handler and maps no such stack. An ignored signal stays ignored
//! in an executed program (execve(2)), and to ignore one takes sigaction(2), which no safe function
//! offers: so a shell does it. A fault still ends the process by its signal, with a core file:
//! the kernel takes a signal that it forces on a thread for one with the default action.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::process::{getegid, geteuid, getgid, getuid};
use signal_hook::consts::{SIGBUS, SIGSEGV};

use super::signals::{Masks, bit};

const BOTH: u64 = bit(SIGSEGV) | bit(SIGBUS);

/// The variable by which threads keep their signal stacks, and its value.
const VARIABLE: &str = "DRAINLINE_SIGNAL_STACKS";
const WANTED: &str = "on";

/// Whether a start with both signals ignored would change anything and nobody objects. A shell
/// gives up the privileges of a set-user-ID program, and is none of its business.
pub(super) fn can_be_left_out() -> bool {
    let is_wanted = env::var_os(VARIABLE).is_some_and(|value| value == WANTED);
    let is_privileged = getuid() != geteuid() || getgid() != getegid();
    !are_left_out() && !is_wanted && !is_privileged
}

/// The entry of an environment that keeps signal stacks.
pub(super) fn wanted() -> OsString {
    format!("{VARIABLE}={WANTED}").into()
}

/// Whether this entry of an environment says whether signal stacks are kept.
pub(super) fn is_switch(entry: &OsStr) -> bool {
    let value = entry.as_bytes().strip_prefix(VARIABLE.as_bytes());
    value.is_some_and(|value| value.starts_with(b"="))
}

pub(super) fn are_left_out() -> bool {
    Masks::of_process().is_some_and(|masks| masks.ignored & BOTH == BOTH)
}

/// The signals that are blocked and ignored, in numbers for [`compare`] in another process:
/// there, those of this one and both of these are ignored.
pub(super) fn to_be_told() -> Option<String> {
    let Masks { blocked, ignored } = Masks::of_process()?;
    Some(format!("{blocked} {}", ignored | BOTH))
}

/// Whether the blocked and the ignored signals are as told.
pub(super) fn compare(told: &OsStr) -> Option<[bool; 2]> {
    let Masks { blocked, ignored } = Masks::of_process()?;
    let (told_blocked, told_ignored) = told.to_str()?.split_once(' ')?;
    Some([
        told_blocked == blocked.to_string(),
        told_ignored == ignored.to_string(),
    ])
}
