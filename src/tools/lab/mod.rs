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
use strategy::Strategy;

/// Runs `drainline lab`; `args` begin with `lab`.
///
/// # Errors
/// Nothing was started, or a server could not be.
pub(super) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let typed = match command_line::parse(&PAGE, &args::flags(), args.iter().cloned())? {
        Parsed::Print(text) => return Ok(print(&text)),
        Parsed::Run(typed) => typed,
    };
    serve::raise_descriptor_limit();
    let experiment = typed.experiment()?;
    typed.output.check()?;
    if let Some(path) = &typed.html {
        typed.output.check_keeps(path, "the page of --html")?;
        // What cannot be written is said now, and not when all is done.
        files::check_replaced(path)
            .map_err(|error| failed(&format!("--html {}: {error}", path.display())))?;
    }
    let signals =
        StopFlag::register().map_err(|error| failed(&format!("cannot handle signals: {error}")))?;
    let mut findings = Findings {
        load: experiment.load,
        workload: experiment.workload,
        command: outcome::command(args.iter().map(|word| word.to_string_lossy())),
        outcomes: Vec::new(),
    };
    let ended = run_all(
        &experiment.strategies,
        typed.simulate,
        &signals,
        &mut findings,
    );
    if let Some(signal) = signals.caught() {
        // As a shell counts a process that a signal ended.
        return Ok(ExitCode::from(128 + signal));
    }
    // What was found until a failure is told all the same.
    let text = || table::table(&findings, typed.charts);
    let printed = match findings.outcomes.is_empty() {
        true => ExitCode::SUCCESS,
        false => typed.output.write(text, || json::json(&findings))?,
    };
    if let Some(path) = &typed.html {
        files::write_whole(path, &html::write(&findings))
            .map_err(|error| failed(&format!("--html {}: {error}", path.display())))?;
    }
    ended.map(|()| printed)
}

/// Puts the load to each strategy in turn. Ends at a signal, and at the first that fails.
fn run_all(
    strategies: &[Strategy],
    with_simulation: bool,
    signals: &StopFlag,
    findings: &mut Findings,
) -> Result<(), UsageError> {
    let each = findings.workload.duration.as_millis() as u64;
    let bar = Bar::new(each * strategies.len() as u64);
    let mut ended = Ok(());
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
        match run::run(strategy, &findings.workload, signals.flag(), &mut watch) {
            _ if signals.caught().is_some() => break,
            Ok(mut outcome) => {
                if with_simulation {
                    outcome.simulated = simulated::metrics(&findings.workload, &outcome);
                }
                findings.outcomes.push(outcome);
            }
            Err(error) => {
                ended = Err(failed(&format!("{}: {error}", strategy.name())));
                break;
            }
        }
    }
    bar.clear();
    ended
}

fn failed(what: &str) -> UsageError {
    UsageError::new(1, &format!("lab: {what}"))
}

#[cfg(test)]
mod tests;
