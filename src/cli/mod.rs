//! The command line: what was typed, what it means, the serving, and how it is told.
//!
//! In the order data flows: `settings` has the flags, a row each, takes their values from the
//! command line, the environment and a configuration file, and holds them against each other;
//! `flag` says what a row is, `command` reads a command line by its rows, and `document` a file,
//! which may be `piped`; `units`, `kinds`, `values` and `listen` read one value each, `outputs` has
//! what a sink may be, `files` checks the paths, `addresses` the addresses, and
//! `loops` whether an output leads back. `usage` makes any error one line, with the new names of
//! what was `renamed`, and with what is secret `hidden`; `help` prints the rows. `execution`
//! starts the program once more where `malloc` or `signal_stacks` has something to change that
//! only a start can; `start_memory` asks what all that took. Then `serve` starts the server, on
//! sockets that `systemd` passed, where there are any; `signals` passes on what the system asks,
//! `systemd` is told, `report` says how the server ended, `stderr` writes that.

mod addresses;
pub(crate) mod command;
mod document;
pub(crate) mod execution;
pub(crate) mod files;
pub(crate) mod flag;
pub(crate) mod help;
mod hidden;
pub(crate) mod kinds;
pub(crate) mod listen;
mod loops;
mod malloc;
pub(crate) mod outputs;
mod piped;
#[cfg(feature = "tls")]
mod reload;
mod renamed;
mod report;
pub(crate) mod serve;
pub(crate) mod settings;
mod signal_stacks;
pub(crate) mod signals;
mod start_memory;
mod stderr;
mod systemd;
pub(crate) mod units;
pub(crate) mod usage;
pub(crate) mod values;

#[cfg(test)]
pub(crate) mod tests;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use command::Parsed;
use flag::Flag;
use help::Page;
pub(crate) use stderr::say;

/// Serves; `args` begin with the program's name.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if let Some(command) = args.get_mut(1) {
        match command.to_str() {
            Some("check") => *command = "--check".into(),
            Some("config") => return config(args),
            _ => {}
        }
    }
    let outcome = match settings::parse_in(args, |name| env::var_os(name)) {
        Ok(Parsed::Print(text)) => {
            signals::unblock_stops();
            return print(&text);
        }
        Ok(Parsed::Run(settings)) => {
            let held = match settings.check {
                true => signals::Held::nothing(),
                false => signals::hold_back(),
            };
            match settings.has_piped_config() {
                true => execution::ensure_with_piped_config(&held),
                false => execution::ensure(&held),
            }
            match settings.check {
                true => {
                    signals::unblock_stops();
                    serve::check(&settings).map(|text| print(&text))
                }
                false => serve::serve(&settings, |_| Ok(())),
            }
        }
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| {
        say(&error.line);
        ExitCode::from(error.code)
    })
}

/// Prints a configuration file of every default; `args` begin with the program's name.
fn config(args: Vec<OsString>) -> ExitCode {
    signals::unblock_stops();
    let flags: [Flag<()>; 1] = [Flag::help("Help")];
    match command::parse(&CONFIG, &flags, args.into_iter().skip(1)) {
        Ok(Parsed::Run(_)) => print(&settings::template()),
        Ok(Parsed::Print(text)) => print(&text),
        Err(error) => {
            say(&error.line);
            ExitCode::from(error.code)
        }
    }
}

const CONFIG: Page = Page {
    name: "drainline config",
    title: "print a configuration file",
    about: "Prints a configuration file with every setting, what it does and its default. Every line is a comment: \
            remove the # before a setting to change it",
    usage: "drainline config > drainline.toml",
    after: "",
    short_after: "",
};

/// Prints a help or a report to stdout; a reader that stops reading is no failure. A stdout that
/// was closed at the start is the null device by now, just as when only the exit code is wanted.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("drainline: cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
