//! How many machines it takes, and what one of them holds.

use drainline::ingest::Ingest;
use drainline::{ResourceLimits, StartError};

use crate::cli::usage::UsageError;
use crate::cli::{flag, serve};

use super::buffer::{MIB, least_buffer};
use super::decision::Settings;
use super::inputs::Inputs;
use super::settings;

/// A machine is planned to be used to this part, in percent: what comes unevenly needs the rest.
const USED_PERCENT: u64 = 70;
/// No plan is made for more.
const MAX_MACHINES: u64 = 10_000;

/// One machine of as many as it takes.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) count: u64,
    /// As many as its capacity asks for, where that is known.
    pub(super) by_rate: Option<u64>,
    /// As many as its limits ask for, and the limit that does.
    pub(super) by_connections: Option<(u64, String)>,
    pub(super) share: Inputs,
    pub(super) settings: Settings,
    pub(super) limits: ResourceLimits,
    pub(super) notes: Vec<String>,
}

/// Finds out with how many machines like this one each of them holds its share. `capacity`:
/// messages a second that one takes.
///
/// # Errors
/// None holds it, however many they are.
pub(super) fn find(inputs: &Inputs, capacity: Option<u64>) -> Result<Machine, UsageError> {
    let by_rate = capacity.map(|capacity| {
        let used = u128::from(capacity) * u128::from(USED_PERCENT) / 100;
        u64::try_from(u128::from(inputs.rate).div_ceil(used.max(1))).unwrap_or(u64::MAX)
    });
    let mut by_connections = None;
    let mut count = by_rate.unwrap_or(1);
    while count <= MAX_MACHINES {
        match fit(inputs.share(count), count)? {
            Fit::Holds(machine) => {
                return Ok(Machine {
                    by_rate,
                    by_connections,
                    ..*machine
                });
            }
            Fit::Of {
                wanted,
                fits,
                limit,
            } => {
                let more = (wanted as u64 * count).div_ceil(fits as u64).max(count + 1);
                by_connections = Some((more, limit));
                count = more;
            }
        }
    }
    Err(UsageError::contradiction(&format!(
        "plan: {count} machines would be needed: no plan is made for more than {MAX_MACHINES}"
    )))
}

enum Fit {
    Holds(Box<Machine>),
    /// Of the connections that are wanted, so many fit.
    Of {
        wanted: usize,
        fits: usize,
        limit: String,
    },
}

fn fit(share: Inputs, count: u64) -> Result<Fit, UsageError> {
    let mut settings = settings::settings(&share, None);
    if let Some(memory) = share.memory {
        let limits_with = |buffer| check(&settings::settings(&share, Some(buffer)));
        // Its slots, and what is lost in rounding to whole MiB, are in it.
        let mut least = least_buffer(&share) / 4 * 5 + MIB;
        let is_too_much = match limits_with(least) {
            Ok((limits, _)) => limits.memory_with_malloc_bytes() > memory,
            Err(error) => return not_held(error),
        };
        if is_too_much {
            let line = format!(
                "--memory {}: {} connections take all of it, and leave nothing for a buffer",
                crate::cli::units::print_size(memory as usize),
                share.connections
            );
            return Err(UsageError::contradiction(&line));
        }
        // The largest that fits, to a hundredth: what the server keeps beside its buffer depends on
        // the buffer, too.
        let mut too_much = memory.max(least + 1);
        while too_much - least > memory / 100 {
            let half = least + (too_much - least) / 2;
            match limits_with(half) {
                Ok((limits, _)) if limits.memory_with_malloc_bytes() <= memory => least = half,
                _ => too_much = half,
            }
        }
        settings = settings::settings(&share, Some(least));
    }
    if count > 1 {
        settings::refuse_clients(&mut settings);
    }
    match check(&settings) {
        Ok((limits, notes)) => Ok(Fit::Holds(Box::new(Machine {
            count,
            by_rate: None,
            by_connections: None,
            share,
            settings,
            limits,
            notes,
        }))),
        Err(error) => not_held(error),
    }
}

fn not_held(error: StartError) -> Result<Fit, UsageError> {
    match error {
        StartError::Limit(limit) if limit.fits > 0 => Ok(Fit::Of {
            wanted: limit.max_connections,
            fits: limit.fits,
            limit: limit.limit,
        }),
        other => Err(UsageError::contradiction(&format!("plan: {other}"))),
    }
}

/// The limits of a server with these settings on this machine, as it would print them at start.
fn check(settings: &Settings) -> Result<(ResourceLimits, Vec<String>), StartError> {
    Ingest::builder()
        .config(settings.config.clone())
        .max_message(settings.max_message)
        .listen(([127, 0, 0, 1], 5140).into())
        .reserve(serve::THREADS, serve::DESCRIPTORS)
        .setting_names(flag::of_setting)
        .check()
}
