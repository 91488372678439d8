//! `drainline lab`: one load, a row of servers, and what became of each.
//!
//! In the order in which it goes: `args` reads the load, one of the `presets` or one's own, within
//! `limits`, and the `strategy`s; `run` has each one's `process` serve the load's `clients` and its
//! `sink`, and keeps what it sees from outside and the `sample`s that the `child` tells; that comes
//! to `metrics`, and with a sentence to the `outcome`. `table`, `json` and `html` tell it, in the
//! same `columns`.

mod args;
mod child;
mod clients;
mod columns;
#[cfg(test)]
mod fake;
mod html;
mod json;
mod limits;
mod metrics;
mod outcome;
mod presets;
mod process;
mod run;
mod sample;
mod simulated;
mod sink;
mod strategy;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::command::{self as command_line, Parsed};
use crate::cli::files;
use crate::cli::print;
use crate::cli::serve;
use crate::cli::signals::StopFlag;
use crate::cli::usage::UsageError;

use super::bar::Bar;
use args::PAGE;
pub(super) use child::command as server_command;
use outcome::{Findings, Point};

/// Runs `drainline lab`; `args` begin with `lab`.
///
/// # Errors
/// Nothing was started, or a server could not be.
pub(super) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let typed = match command_line::parse(&PAGE, &args::flags(), args.iter().cloned())? {
        Parsed::Print(text) => return Ok(print(&text)),
        Parsed::Run(typed) => typed,
    };
    let failed = |what: &str| UsageError::new(1, &format!("lab: {what}"));
    serve::raise_descriptor_limit();
    let experiment = typed.experiment()?;
    typed.output.check()?;
    if let Some(path) = &typed.html {
        // What cannot be written is said now, and not when all is done.
        files::check_replaced(path)
            .map_err(|error| failed(&format!("--html {}: {error}", path.display())))?;
    }
    let signals =
        StopFlag::register().map_err(|error| failed(&format!("cannot handle signals: {error}")))?;
    let strategies = &experiment.strategies;
    let each = experiment.workload.duration.as_millis() as u64;
    let bar = Bar::new(each * strategies.len() as u64);
    // What was found until then is told all the same.
    let mut failure = None;
    let mut outcomes = Vec::new();
    for (nth, strategy) in strategies.iter().enumerate() {
        let mut watch = |point: &Point| {
            let done = each * nth as u64 + each.min(point.at.as_millis() as u64);
            bar.show(done, || {
                format!(
                    "{}: {} threads, {} MiB, {} messages in the buffer, {} delivered",
                    strategy.name(),
                    point.threads,
                    point.memory_bytes >> 20,
                    point.buffered,
                    point.delivered
                )
            });
        };
        let outcome = run::run(strategy, &experiment.workload, signals.flag(), &mut watch);
        if let Some(signal) = signals.caught() {
            bar.clear();
            // As a shell counts a process that a signal ended.
            return Ok(ExitCode::from(128 + signal));
        }
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                failure = Some(failed(&format!("{}: {error}", strategy.name())));
                break;
            }
        };
        if typed.simulate {
            outcome.simulated = simulated::metrics(&experiment.workload, &outcome);
        }
        outcomes.push(outcome);
    }
    bar.clear();
    let findings = Findings {
        load: experiment.load,
        workload: experiment.workload,
        command: outcome::command(args.iter().map(|word| word.to_string_lossy())),
        outcomes,
    };
    let text = || table::table(&findings, typed.charts);
    let printed = match findings.outcomes.is_empty() {
        true => ExitCode::SUCCESS,
        false => typed.output.write(text, || json::json(&findings))?,
    };
    if let Some(path) = &typed.html {
        files::write_whole(path, &html::write(&findings))
            .map_err(|error| failed(&format!("--html {}: {error}", path.display())))?;
    }
    failure.map_or(Ok(printed), Err)
}

#[cfg(test)]
mod tests;
