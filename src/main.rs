//! The program: [`drainline`] as a command. It sees nothing of the library but what everybody sees.

use std::ffi::OsString;
use std::process::ExitCode;

mod cli;
mod tools;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    cli::execution::resume(&args)
        .or_else(|| tools::run(&args))
        .unwrap_or_else(|| cli::run(args))
}
