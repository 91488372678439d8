//! One entrant's turn in a round: its server is started anew, warmed up, measured and ended.

mod bulk;
mod churn;
mod crowd_in;
mod crowd_out;
mod dialogue;
mod far;
mod herd;
mod idle;
mod limits;
mod paced;
mod stall;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;
use crate::busy::Busy;
use crate::destination::Destination;
use crate::fifo::Fifo;
use crate::figures::{Figures, Metric};
use crate::peer::Peer;
use crate::proc::{self, MachineTime, ThreadWatch};
use crate::process::{Ended, Running, free_address};
use crate::provision::{self, Program};
use crate::scenario::{Batches, Entrant, Scenario, Sink};
use crate::servers::Start;

/// What a turn is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) entrant: &'a Entrant,
    /// The entrant's program.
    pub(crate) program: &'a Path,
    /// Whether others want every processor meanwhile.
    pub(crate) is_busy: bool,
}

/// Has it measured.
pub(crate) fn run(turn: Turn<'_>) -> Outcome<Figures> {
    let before = MachineTime::now()?;
    let busy = turn.is_busy.then(Busy::start).transpose()?;
    let figures = measure(turn)?;
    drop(busy);
    Ok(figures.with(Metric::Others, MachineTime::others_since(before)?))
}

fn measure(turn: Turn<'_>) -> Outcome<Figures> {
    match (turn.entrant.peer, turn.scenario.work) {
        (Peer::Iperf3, Batches::Bulk { .. }) => limits::iperf3(turn),
        (Peer::WriteCall, Batches::Bulk { .. }) => limits::write_call(turn),
        (Peer::WriteAndSync(group_bytes), Batches::Bulk { .. }) => {
            limits::write_and_sync(turn, group_bytes)
        }
        (Peer::RedisBenchmark, Batches::Bulk { message_bytes, .. }) => {
            limits::redis_benchmark(turn, message_bytes)
        }
        (
            Peer::KafkaLoop,
            Batches::Bulk {
                message_bytes,
                duration,
                ..
            },
        ) => limits::kafka_loop(turn, message_bytes, duration),
        (
            Peer::UreqLoop,
            Batches::Bulk {
                message_bytes,
                duration,
                ..
            },
        ) => limits::ureq_loop(turn, message_bytes, duration),
        (
            _,
            Batches::Bulk {
                message_bytes,
                duration,
                ..
            },
        ) => bulk::run(turn, message_bytes, duration),
        (
            _,
            Batches::Far {
                rate, round_trip, ..
            },
        ) => far::run(turn, rate, round_trip),
        (_, Batches::Paced { rate, .. }) => paced::run(turn, rate),
        (_, Batches::Churn { clients }) => churn::run(turn, clients),
        (_, Batches::CrowdIn { connections }) => crowd_in::run(turn, connections),
        (_, Batches::CrowdOut { connections }) => crowd_out::leaving(turn, connections),
        (_, Batches::CrowdDrain { connections }) => crowd_out::draining(turn, connections),
        (_, Batches::Herd { connections }) => herd::run(turn, connections),
        (_, Batches::Idle { connections, burst }) => idle::run(turn, connections, burst),
        (_, Batches::Dialogue { clients }) => dialogue::run(turn, clients),
        (_, Batches::Stall { connections }) => stall::run(turn, connections),
    }
}

/// A server with its sink, in a folder of its own that goes with it.
#[derive(Debug)]
struct Site {
    server: Running,
    destination: Option<Destination>,
    fifo: Option<Fifo>,
    file: Option<PathBuf>,
    is_by_ledger: bool,
    threads: ThreadWatch,
    folder: TempDir,
}

impl Turn<'_> {
    fn connections(&self) -> usize {
        let usual = self.scenario.work.connections();
        self.entrant.connections.unwrap_or(usual)
    }

    /// What sends to it.
    fn load_program(&self) -> Program {
        match self.entrant.is_over_tls {
            true => provision::tls_load(),
            false => Ok(provision::DRAINLINE.into()),
        }
    }

    /// Where its messages go: some write to files alone, some nowhere.
    fn sink(&self) -> Sink {
        let wanted = self.entrant.sink.unwrap_or(self.scenario.sink);
        match self.entrant.peer {
            Peer::Rsyslog | Peer::SyslogNg if wanted == Sink::Null => Sink::Tmpfs,
            Peer::Floor if wanted == Sink::Fifo => Sink::Null,
            Peer::FloorTls => Sink::Null,
            Peer::Iperf3 | Peer::Library => Sink::Null,
            _ => wanted,
        }
    }

    fn folder(&self) -> Outcome<TempDir> {
        let folder = match self.sink() {
            Sink::Disk => provision::disk_folder(),
            _ => Path::new("/dev/shm"),
        };
        Ok(tempfile::Builder::new()
            .prefix("side-by-side-")
            .tempdir_in(folder)?)
    }

    /// Starts the server.
    fn start(&self) -> Outcome<Site> {
        self.start_at_distance(None)
    }

    /// The same, with such a round trip to where messages go.
    fn start_at_distance(&self, round_trip: Option<Duration>) -> Outcome<Site> {
        let folder = self.folder()?;
        let destination = Destination::start(self.sink(), round_trip)?;
        let (fifo, file) = match self.sink() {
            Sink::Fifo => (Some(Fifo::create(&folder.path().join("fifo"))?), None),
            Sink::Tmpfs | Sink::Disk => (None, Some(folder.path().join("messages"))),
            Sink::Null | Sink::Drainline | Sink::Redis | Sink::Http | Sink::Kafka => (None, None),
        };
        let sink = fifo.as_ref().map(Fifo::path).or(file.as_deref());
        let to = destination.as_ref();
        let mut server = self.launch(free_address()?, sink, to, folder.path())?;
        server.wait_until_listening()?;
        let threads = ThreadWatch::start(server.pid());
        Ok(Site {
            server,
            destination,
            fifo,
            file,
            is_by_ledger: self.entrant.is_by_ledger || self.sink() == Sink::Kafka,
            threads,
            folder,
        })
    }

    /// Starts the server, and does not wait until it listens.
    fn launch(
        &self,
        address: SocketAddr,
        sink: Option<&Path>,
        to: Option<&Destination>,
        folder: &Path,
    ) -> Outcome<Running> {
        self.entrant.peer.start(&Start {
            entrant: self.entrant,
            program: self.program,
            address,
            sink,
            to,
            connections: self.connections(),
            is_echo: matches!(self.scenario.work, Batches::Dialogue { .. }),
            is_bulk: matches!(
                self.scenario.work,
                Batches::Bulk { .. } | Batches::Stall { .. }
            ),
            folder,
        })
    }
}

impl Site {
    fn fifo(&self) -> Outcome<&Fifo> {
        let fifo = self.fifo.as_ref();
        Ok(fifo.ok_or("the lines of this scenario are counted in a FIFO")?)
    }

    /// Starts a server that was killed, at its address and with its sink. Whoever connects will
    /// notice when it listens.
    fn start_again(&mut self, turn: Turn<'_>) -> Outcome<()> {
        let sink = self.fifo.as_ref().map(Fifo::path).or(self.file.as_deref());
        let to = self.destination.as_ref();
        self.server = turn.launch(self.server.address, sink, to, self.folder.path())?;
        self.threads = ThreadWatch::start(self.server.pid());
        Ok(())
    }

    fn cpu(&self) -> Outcome<Duration> {
        proc::cpu_time(self.server.pid())
    }

    /// Waits until what was sent is where it goes to. `sent`: messages, `bytes`: of them as lines.
    /// Nothing to wait for where nobody but the server knows.
    fn wait_for_sink(&self, sent: u64, bytes: u64) -> Outcome<()> {
        if self.is_by_ledger {
            let delivered = || {
                let in_flight = self.server.status()?["in_flight"].as_u64();
                Ok(sent.saturating_sub(in_flight.ok_or("no in_flight")?))
            };
            wait_for(sent, Duration::from_millis(2), delivered)
        } else if let Some(destination) = &self.destination {
            wait_for(sent, Duration::from_millis(2), || destination.messages())
        } else if let Some(file) = &self.file {
            let size = || Ok(file.metadata().map_or(0, |file| file.len()));
            wait_for(bytes, Duration::from_micros(500), size)
        } else {
            Ok(())
        }
    }

    /// Ends the server. `sent`: messages, `bytes`: of them as lines; what came of them, with memory
    /// and threads.
    fn finish(self, sent: u64, bytes: u64) -> Outcome<(Figures, Vec<u64>)> {
        let (figures, latencies, _) = self.end(sent, bytes)?;
        Ok((figures, latencies))
    }

    /// The same, and how the server ended.
    fn end(self, sent: u64, bytes: u64) -> Outcome<(Figures, Vec<u64>, Ended)> {
        let pid = self.server.pid();
        let mut figures = Figures::default()
            .with(Metric::PeakBytes, proc::peak_resident_bytes(pid)? as f64)
            .with(Metric::Threads, self.threads.most() as f64);
        // Before the server ends: a destination may know of open connections alone.
        let got = match self.is_by_ledger {
            true => None,
            false => self.destination.as_ref().map(Destination::messages),
        };
        let got = got.transpose()?;
        let ended = self.server.stop()?;
        let report = ended.report.as_ref();
        let said = |key: &str| report.and_then(|report| report[key].as_f64());
        let mut latencies = Vec::new();
        let arrived = if let Some(got) = got {
            Some(got as f64 / sent as f64)
        } else if let Some(fifo) = self.fifo {
            let share = fifo.lines() as f64 / sent as f64;
            latencies = fifo.finish()?;
            Some(share)
        } else if let Some(file) = self.file.filter(|_| !self.is_by_ledger) {
            Some(file.metadata()?.len() as f64 / bytes as f64)
        } else {
            let messages = said("delivered").or(said("messages"));
            let share = messages.map(|messages| messages / sent as f64);
            share.or(said("bytes").map(|got| got / bytes as f64))
        };
        if let Some(share) = arrived {
            figures.set(Metric::Delivered, share);
        }
        Ok((figures, latencies, ended))
    }
}

/// Waits until there are `wanted`, or nothing more has come for some time: what is missing then is
/// lost.
fn wait_for(wanted: u64, pause: Duration, there: impl Fn() -> Outcome<u64>) -> Outcome<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = there()?;
        if now >= wanted || (now == last && since.elapsed() > PATIENCE) {
            return Ok(());
        }
        if now != last {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(pause);
    }
}

/// Waits for the rest of a time that began with `begun`.
fn sleep_until(begun: Instant, after: Duration) {
    thread::sleep(after.saturating_sub(begun.elapsed()));
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
