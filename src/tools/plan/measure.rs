//! What this machine takes: a server and a load in this very process, for a moment.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use drainline::ingest::{Ingest, sink};
use rustix::time::{ClockId, clock_gettime};

use crate::cli::usage::UsageError;

use super::super::load::engine;
use super::super::load::plan::{Plan, Sizes};
use super::decision::Settings;
use super::inputs::Inputs;

const DURATION: Duration = Duration::from_secs(2);
const MAX_CONNECTIONS: usize = 500;
/// With fewer messages a second the process's own ticking would be what is measured.
const MIN_RATE: u64 = 5_000;
const FAILED: u8 = 1;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Messages a second that all processors of this machine take, sending them included.
    pub(super) per_second: u64,
    pub(super) connections: usize,
    /// On each of them.
    pub(super) rate: u64,
}

/// Sends messages of the planned size to a server of these settings, at the rate of one of its
/// connections, and takes what that costs of the processors. What sending costs is in it, so a
/// machine that only receives takes more.
///
/// # Errors
/// The server did not start, or nothing arrived.
pub(super) fn measure(inputs: &Inputs, settings: &Settings) -> Result<Measured, UsageError> {
    let failed = |why: String| UsageError::new(FAILED, &format!("--measure: {why}"));
    let connections = inputs.connections.min(MAX_CONNECTIONS);
    let rate = inputs.rate.div_ceil(inputs.connections as u64);
    let rate = rate.max(MIN_RATE.div_ceil(connections as u64));
    let mut config = settings.config.clone();
    config.max_connections = Some(connections);
    let server = Ingest::builder()
        .config(config)
        .max_message(settings.max_message)
        .listen((Ipv4Addr::LOCALHOST, 0).into())
        .start(sink::Null)
        .map_err(|error| failed(error.to_string()))?;
    let address = server.local_addrs().first().copied();
    let address = address.ok_or_else(|| failed("the server has no address".to_owned()))?;
    let plan = Plan {
        duration: Some(DURATION),
        rate: Some(rate),
        sizes: Sizes::new(inputs.size, inputs.size, 1),
        wait_close: true,
        finish: Duration::from_secs(1),
        ..Plan::new(address, connections)
    };
    let before = processor_time();
    engine::run(&plan, &AtomicBool::new(false), |_| {})
        .map_err(|error| failed(error.to_string()))?;
    let used = processor_time().saturating_sub(before).as_secs_f64();
    let report = server.shutdown(DURATION);
    let delivered = report.stats.delivered;
    if delivered == 0 || used <= 0.0 {
        return Err(failed("nothing arrived".to_owned()));
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Measured {
        per_second: (delivered as f64 / used * processors as f64) as u64,
        connections,
        rate,
    })
}

/// Of this process, on all processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
