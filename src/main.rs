//! The program: [`drainline`] as a command. It sees nothing of the library but what everybody sees.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
