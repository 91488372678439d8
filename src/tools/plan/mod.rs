//! `drainline plan`: the settings for a load, and what they are good for.
//!
//! In the order data flows: `args` declares the flags and makes the `inputs` of them; `settings`
//! decides each setting, `buffer` the largest of them, and says why in a `decision`; `machines`
//! holds them against the system and finds how many machines it takes, `measure` what one takes;
//! `what_if` simulates what they come to, and what lies one step beyond, each an `outlook`; the
//! `report` is all of that, and tells it.

mod args;
mod buffer;
mod decision;
pub(crate) mod inputs;
mod machines;
mod measure;
mod outlook;
mod report;
pub(crate) mod settings;
mod what_if;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::command::{self as command_line, Parsed};
use crate::cli::signals::Held;
use crate::cli::usage::UsageError;
use crate::cli::{execution, print, serve};

use args::{Args, PAGE};
use decision::Promise;
use inputs::Inputs;
use report::Plan;

/// Runs `drainline plan`; `args` begin with `plan`.
///
/// # Errors
/// There is no plan.
pub(super) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let args = match command_line::parse(&PAGE, &args::flags(), args.iter().cloned())? {
        Parsed::Print(text) => return Ok(print(&text)),
        Parsed::Run(args) => args,
    };
    let inputs = args.inputs()?;
    args.output.check()?;
    // As the server itself does before it counts.
    execution::ensure(&Held::nothing());
    serve::raise_descriptor_limit();
    let plan = Plan::new(inputs, &args)?;
    args.output.write(
        || report::text(&plan, args.simulate),
        || report::json(&plan, args.simulate),
    )
}

impl Plan {
    fn new(inputs: Inputs, args: &Args) -> Result<Plan, UsageError> {
        let measured = match args.measure {
            true => {
                let alone = settings::settings(&inputs, None);
                Some(measure::measure(&inputs, &alone)?)
            }
            false => None,
        };
        let capacity = args
            .capacity
            .or(measured.map(|measured| measured.per_second));
        let mut machine = machines::find(&inputs, capacity)?;
        let expected = what_if::expected(&machine.share, &machine.settings);
        let lost = expected.simulated.lost();
        if machine.settings.promise.loses_nothing() && lost > 0 {
            machine.settings.promise = Promise::Unkept { lost };
        }
        // What was computed takes each message for as heavy as one can be; the simulation weighs
        // them.
        if let Promise::Lossless { held } = &mut machine.settings.promise {
            let waits = expected.simulated.longest_wait();
            let is_whole = expected.simulated.metrics.stopped_at.is_none();
            if held.is_zero() || (waits.is_zero() && is_whole) {
                *held = waits;
            }
        }
        Ok(Plan {
            expected,
            what_if: what_if::what_if(&machine.share, &machine.settings),
            inputs,
            capacity,
            measured,
            machine,
        })
    }
}
