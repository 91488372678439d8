//! The server's side of the lab: a process of its own, so that its threads, memory and descriptors
//! are its own.
//!
//! `drainline lab-server server FLAGS` is the program itself with a voice; `drainline lab-server
//! naive` and the like are what people write first. Their messages go to stdout, what they tell
//! goes to stderr. They listen on loopback and end with the lab.

mod simple;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cli::command::Parsed;
use crate::cli::signals::Held;
use crate::cli::usage::UsageError;
use crate::cli::{execution, say, serve, settings};

use super::outcome::Point;
use super::sample::{inside, line, listening};
use super::strategy::Strategy;

/// Between two samples.
pub(super) const EVERY: Duration = Duration::from_millis(50);

/// Runs `drainline lab-server`; `args` begin with that name.
///
/// # Errors
/// It did not start.
pub(crate) fn command(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let failed = |what: &str| UsageError::new(1, &format!("lab-server: {what}"));
    // Whatever becomes of the lab, nothing of it is left behind.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed(&format!("cannot be ended with the lab: {error}")))?;
    let lab = args
        .get(1)
        .and_then(|pid| pid.to_str()?.parse::<i32>().ok());
    if lab != getppid().map(|pid| pid.as_raw_nonzero().get()) {
        // It ended before the signal was asked for, or this was started by hand.
        return Err(failed("it is a part of `drainline lab`"));
    }
    let args = &args[1..];
    let way = args.get(1).and_then(|way| way.to_str()).unwrap_or_default();
    if way == "server" {
        return serve_flags(&args[1..]);
    }
    let Some(strategy) = Strategy::named(way) else {
        return Err(failed("it is a part of `drainline lab`"));
    };
    serve::raise_descriptor_limit();
    simple::serve(&strategy).map_err(|error| failed(&error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// The program, as started with these flags.
fn serve_flags(args: &[OsString]) -> Result<ExitCode, UsageError> {
    let settings = match settings::parse(args.iter().cloned())? {
        Parsed::Run(settings) => settings,
        Parsed::Print(text) => return Ok(crate::cli::print(&text)),
    };
    execution::ensure(&Held::nothing());
    serve::serve(&settings, |handle| {
        let port = handle
            .local_addrs()
            .first()
            .map_or(0, |address| address.port());
        let handle = Arc::downgrade(handle);
        tell(port, move || {
            Some(inside(&handle.upgrade()?.report().stats))
        })
    })
}

/// Says the port, and from then on how things stand, for as long as there is something to say.
fn tell(port: u16, mut sample: impl FnMut() -> Option<Point> + Send + 'static) -> io::Result<()> {
    let body = move || {
        say(&listening(port));
        while let Some(sample) = sample() {
            say(&line(&sample));
            thread::sleep(EVERY);
        }
    };
    let thread = thread::Builder::new().name("samples".to_owned());
    thread.spawn(body).map(drop)
}
