//! Programs that use a server: `load` sends to one, `verify` reads what came out of it, `lab` shows
//! what becomes of it under a load, `plan` finds settings for one. `lab` and `plan` share the
//! `workload`, and the `simulation` of it.
//!
//! Each has its flags, its engine, and its report. They see of the library what everybody sees, and
//! share with the server's command line how flags are read and told.

mod args;
mod bar;
mod chart;
mod lab;
mod load;
mod metrics;
mod plan;
mod proc;
mod simulation;
mod tag;
mod verify;
mod words;
mod workload;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::say;
use crate::cli::signals;
use crate::cli::usage::UsageError;

/// Runs the command that `args`, the program's name first, begin with. `None`: they name none.
pub(crate) fn run(args: &[OsString]) -> Option<ExitCode> {
    let command: fn(&[OsString]) -> Result<ExitCode, UsageError> = match args.get(1)?.to_str()? {
        "load" => load::command,
        "verify" => verify::command,
        "lab" => lab::command,
        "lab-server" => lab::server_command,
        "plan" => plan::command,
        _ => return None,
    };
    signals::unblock_stops();
    Some(command(&args[1..]).unwrap_or_else(|error| {
        say(&error.line);
        ExitCode::from(error.code)
    }))
}
