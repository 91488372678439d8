//! `drainline load`: messages for a server, as many and as fast as asked for.
//!
//! The engine is for anybody: a [`Plan`], [`engine::run`], a [`Summary`]. In the order data flows:
//! `args` has the flags, a row each, and makes a `plan` of them; `message` renders what is
//! sent; a `worker` drives many `lane`s by the schedule of its `pacer`; `counts` and `histogram`
//! count; `report` tells.

mod args;
mod counts;
pub(super) mod engine;
pub(super) mod histogram;
mod lane;
mod message;
mod pacer;
pub(super) mod plan;
mod report;
mod shared;
mod worker;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::command::{self as command_line, Parsed};
use crate::cli::signals::StopFlag;
use crate::cli::units::counted;
use crate::cli::usage::UsageError;
use crate::cli::{print, say, serve};

use super::bar::Bar;
use args::PAGE;
use plan::Plan;
use shared::Progress;

/// A server that takes nothing for so long is told.
const STILL: Duration = Duration::from_secs(5);
/// Something could not be sent.
const NOT_ALL_SENT: u8 = 1;

/// Runs `drainline load`; `args` begin with `load`.
///
/// # Errors
/// Nothing was sent.
pub(super) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let args = match command_line::parse(&PAGE, &args::flags(), args.iter().cloned())? {
        Parsed::Print(text) => return Ok(print(&text)),
        Parsed::Run(args) => args,
    };
    let plan = args.plan()?;
    args.output.check()?;
    serve::raise_descriptor_limit();
    plan.check_system()?;
    let failed = |what: &str| UsageError::new(NOT_ALL_SENT, what);
    let stop = StopFlag::register()
        .map_err(|error| failed(&format!("load: cannot handle signals: {error}")))?;
    let way = Way::of(&plan);
    let bar = Bar::new(match way {
        Way::Messages(all) | Way::Millis(all) => all,
    });
    let mut told_hold = false;
    let mut still_for = None;
    let outcome = engine::run(&plan, stop.flag(), |progress| {
        tell_still(&mut still_for, &progress, &bar);
        if plan.hold.is_zero() || !progress.holds {
            show(&bar, way, &progress);
        } else if !told_hold {
            told_hold = true;
            bar.clear();
            say(&report::holding(&plan));
        }
    });
    bar.clear();
    let summary = outcome.map_err(|error| failed(&format!("load {}: {error}", plan.address)))?;
    // It may have gone on and been done between two looks.
    if let Some(after) = still_for.filter(|_| !summary.was_stopped && !summary.has_failed()) {
        say(&report::moves(after));
    }
    let (text, json) = (|| report::text(&summary), || report::json(&summary));
    args.output.write(text, json)?;
    Ok(match summary.has_failed() {
        true => ExitCode::from(NOT_ALL_SENT),
        false => ExitCode::SUCCESS,
    })
}

/// What a load has to go: messages, or time where that ends the load.
#[derive(Clone, Copy)]
enum Way {
    Messages(u64),
    Millis(u64),
}

impl Way {
    fn of(plan: &Plan) -> Way {
        match (plan.duration, plan.messages) {
            (None, Some(each)) => Way::Messages(each.saturating_mul(plan.connections as u64)),
            (duration, _) => Way::Millis(duration.unwrap_or_default().as_millis() as u64),
        }
    }
}

fn show(bar: &Bar, way: Way, progress: &Progress) {
    let Some(start) = progress.start else {
        return bar.show(0, || "connecting".to_owned());
    };
    let elapsed = start.elapsed();
    let done = match way {
        Way::Messages(_) => progress.messages,
        Way::Millis(all) => all.min(elapsed.as_millis() as u64),
    };
    bar.show(done, || {
        let rate = progress.messages as f64 / elapsed.as_secs_f64().max(1e-3);
        format!(
            "{}, {rate:.0}/s, {} through",
            counted(progress.messages, "message"),
            counted(progress.through, "connection")
        )
    });
}

/// Says once that the server takes nothing, and once that it goes on.
fn tell_still(still_for: &mut Option<Duration>, progress: &Progress, bar: &Bar) {
    if progress.still >= STILL {
        if still_for.replace(progress.still).is_none() {
            bar.say_above(|| say(&report::still(progress)));
        }
    } else if let Some(after) = still_for.take()
        && !progress.holds
    {
        bar.say_above(|| say(&report::moves(after)));
    }
}
