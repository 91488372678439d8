//! A crowd that leaves at once, or is sent away: how soon its server is rid of it.

use std::thread;
use std::time::{Duration, Instant};

use super::{Site, Turn};
use crate::crowd::Crowd;
use crate::figures::{Figures, Metric};
use crate::{Outcome, proc};

/// Between two looks at the server, and more than a look costs it.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// What a server still clears away after its threads are gone.
const AFTER: Duration = Duration::from_millis(300);
/// Between what the crowd's arrival leaves to be done and its end.
const QUIET: Duration = Duration::from_millis(500);

/// What a server holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: u64,
    threads: u64,
}

impl Held {
    fn by(site: &Site) -> Outcome<Held> {
        let pid = site.server.pid();
        Ok(Held {
            descriptors: proc::open_descriptors(pid)?,
            threads: proc::threads(pid)?,
        })
    }
}

/// All connections are closed at once: their process is killed.
pub(super) fn leaving(turn: Turn<'_>, connections: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let floor = Held::by(&site)?;
    let crowd = gathered(&site, connections)?;

    let (before, begun) = (site.cpu()?, Instant::now());
    drop(crowd);
    let has_thread_each = turn.entrant.peer.has_thread_each();
    let mut left = Figures::default();
    loop {
        let held = Held::by(&site)?;
        let seconds = begun.elapsed().as_secs_f64();
        if held.descriptors <= floor.descriptors {
            left.set_first(Metric::ClosedSeconds, seconds);
        }
        if has_thread_each && held.threads <= floor.threads {
            left.set_first(Metric::JoinedSeconds, seconds);
        }
        let is_joined = !has_thread_each || left.get(Metric::JoinedSeconds).is_some();
        if is_joined && left.get(Metric::ClosedSeconds).is_some() {
            break;
        }
        if begun.elapsed() > GONE_WITHIN {
            return Err(format!("it began with {floor:?} and still has {held:?}").into());
        }
        thread::sleep(LOOK_EVERY);
    }
    thread::sleep(AFTER);
    let cpu = site.cpu()? - before;
    left.set(Metric::CpuNs, cpu.as_nanos() as f64 / connections as f64);

    let (figures, _) = site.finish(connections as u64, 0)?;
    Ok(figures.and(left))
}

/// SIGTERM, while all connections are open and quiet.
pub(super) fn draining(turn: Turn<'_>, connections: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let _crowd = gathered(&site, connections)?;
    let (figures, _, ended) = site.end(connections as u64, 0)?;
    Ok(figures
        .with(Metric::ExitSeconds, ended.took.as_secs_f64())
        .with(Metric::CleanExits, if ended.is_clean { 1.0 } else { 0.0 }))
}

/// A crowd of which each has had its line delivered.
fn gathered(site: &Site, connections: usize) -> Outcome<Crowd> {
    let mut crowd = Crowd::start(site.server.address, connections)?;
    crowd.call()?;
    crowd.arrival()?;
    site.fifo()?.wait_for_lines(connections as u64);
    thread::sleep(QUIET);
    Ok(crowd)
}
