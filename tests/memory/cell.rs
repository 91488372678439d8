//! One cell: a server with its settings, what is done to it, and what it took of memory.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use tempfile::TempDir;

use super::driver::{Group, Script, Sink};
use super::peers::{self, Serve};
use super::sessions::{self, Left};
use crate::common::child::{Drainline, Stdout};
use crate::common::proc::{self, Watch};

/// So long nothing has to move, nor a processor be used, before it counts as settled.
const SETTLED: Duration = Duration::from_millis(150);
const ROUND: Duration = Duration::from_millis(2);
/// Between two looks at what the server has not read: whoever looks all the time keeps the server
/// from its processor.
const LOOK: Duration = Duration::from_micros(100);
/// The longest that filling takes; what does not settle by then goes on with the next step, as
/// below.
const FILLING: Duration = Duration::from_secs(15);
/// The longest that it takes piece by piece: on a busy machine a round waits for the server.
const TRICKLING: Duration = Duration::from_secs(90);
/// The longest that emptying takes. Behind a buffer of few messages the kernel's may hold hours of
/// them.
const EMPTYING: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone)]
pub enum Step {
    /// So many more connect. Those that were there stay, and send no more.
    Connect(usize, Arc<Script>),
    /// As [`Connect`](Step::Connect), to the listener of this index.
    ConnectAt(usize, usize, Arc<Script>),
    /// As [`Connect`](Step::Connect), to [`SOCKET`].
    ConnectUnix(usize, Arc<Script>),
    /// So many more connect over TLS, and are left there.
    ConnectTls(usize, Left),
    /// The latest send something else.
    Send(Arc<Script>),
    /// The latest send until nothing moves any more.
    Push,
    /// As [`Push`](Step::Push), but a connection sends its next piece when the one before was read:
    /// each is a read of its own.
    Trickle,
    /// The latest send for so long.
    Flow(Duration),
    /// The sink takes what comes, from now on.
    Open,
    /// The sink takes nothing, from now on.
    Shut,
    /// Waits until the sink has taken all there is.
    Settle,
}

/// What stands for a folder of the cell's own in its arguments. There are the files of a server
/// that speaks TLS.
pub const FOLDER: &str = "FOLDER";
/// The address of a Unix socket in that folder.
pub const SOCKET: &str = "unix:FOLDER/socket";

pub type Prepare = Arc<dyn Fn(&Path) + Send + Sync>;

#[derive(Clone)]
pub struct Cell {
    pub name: String,
    pub args: Vec<String>,
    /// The configuration file, where there are several listeners.
    pub file: Option<String>,
    /// Who is at the port that `PEER` stands for in that file.
    pub peer: Option<Serve>,
    /// What is made in the folder before.
    pub prepare: Option<Prepare>,
    pub buffer_bytes: u64,
    /// Made when they are needed: what they send is large.
    pub steps: Arc<dyn Fn() -> Vec<Step> + Send + Sync>,
}

/// Resident memory against the bound.
#[derive(Debug, Clone)]
pub struct Figure {
    pub name: String,
    pub buffer_bytes: u64,
    pub bound_bytes: u64,
    pub peak_bytes: u64,
    /// Those of the process, and what is printed. Looked at where there are outputs.
    pub threads: (u64, u64),
    pub descriptors: (u64, u64),
}

impl Figure {
    pub fn is_above(&self) -> bool {
        let is_above = |(peak, bound)| peak > bound;
        is_above((self.peak_bytes, self.bound_bytes))
            || is_above(self.threads)
            || is_above(self.descriptors)
    }

    pub fn ratio(&self) -> f64 {
        self.peak_bytes as f64 / self.bound_bytes as f64
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.3}  {:9.1} of {:9.1} MiB  {}",
            self.ratio(),
            mib(self.peak_bytes),
            mib(self.bound_bytes),
            self.name
        )?;
        match self.threads.0 {
            0 => Ok(()),
            _ => {
                let (threads, descriptors) = (self.threads, self.descriptors);
                write!(f, "; {threads:?} threads, {descriptors:?} descriptors")
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Sending {
    Nothing,
    Freely,
    PieceByPiece,
}

/// What runs while a cell does.
struct Running {
    child: Drainline,
    sink: Sink,
    groups: Vec<Group>,
    peak_bytes: u64,
    folder: TempDir,
}

impl Cell {
    /// Blocks for as long as its steps take.
    pub fn run(&self) -> Figure {
        let (reader, writer) = io::pipe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let args: Vec<String> = (self.args.iter())
            .map(|arg| arg.replace(FOLDER, &path))
            .collect();
        if let Some(prepare) = &self.prepare {
            prepare(folder.path());
        }
        if self.args.iter().any(|arg| arg.starts_with("tls://")) {
            sessions::write_files(folder.path());
        }
        let launch = match &self.file {
            None => Drainline::with(&args),
            Some(text) => {
                let (file, ports) = (folder.path().join("toml"), folder.path().join("ports"));
                let peer = self.peer.map(peers::start).unwrap_or_default();
                let text = text.replace(FOLDER, &path);
                let text = text.replace("PEER", &peer.to_string());
                let text = text.replace("NOBODY", &peers::nobody().to_string());
                fs::write(&file, text).unwrap();
                let [file, ports] = [file, ports].map(|path| path.display().to_string());
                let more = ["--config", &file, "--port-file", &ports].map(str::to_owned);
                Drainline::with(&[&args[..], &more].concat()).bare()
            }
        };
        let child = launch.stdout(Stdout::Given(writer.into())).start();
        let limits = child.limits();
        let has_outputs = self.peer.is_some() || self.args.iter().any(|arg| arg == "--sink");
        let watch = has_outputs.then(|| Watch::start(child.pid()));
        let mut running = Running {
            child,
            sink: Sink::start(reader),
            groups: Vec::new(),
            peak_bytes: 0,
            folder,
        };
        for step in (self.steps)() {
            running.step(&step);
        }
        running.drain();
        let peak = watch.map(Watch::stop).unwrap_or_default();
        Figure {
            name: self.name.clone(),
            buffer_bytes: self.buffer_bytes,
            bound_bytes: limits.memory_bytes,
            peak_bytes: running.peak_bytes,
            threads: (peak.threads, limits.threads),
            descriptors: (peak.descriptors, limits.descriptors),
        }
    }
}

impl Running {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Connect(connections, script) => {
                self.connect(0, *connections, script);
            }
            Step::ConnectAt(listener, connections, script) => {
                self.connect(*listener, *connections, script);
            }
            Step::ConnectUnix(connections, script) => {
                let path = self.folder.path().join("socket");
                let group = Group::connect_unix(&path, *connections, script);
                self.groups.push(group);
            }
            Step::ConnectTls(connections, left) => {
                let addr = self.child.addr();
                let connect = |_| sessions::connect(addr, *left);
                self.groups.push(Group::of((0..*connections).map(connect)));
            }
            Step::Send(script) => self.groups.last_mut().unwrap().send(script),
            Step::Push => self.until_settled(Sending::Freely, FILLING),
            Step::Trickle => self.until_settled(Sending::PieceByPiece, TRICKLING),
            Step::Flow(time) => self.until_settled(Sending::Freely, *time),
            Step::Open => self.sink.set_open(true),
            Step::Shut => self.sink.set_open(false),
            Step::Settle => self.until_settled(Sending::Nothing, EMPTYING),
        }
        assert!(!self.child.has_ended(), "{}", self.child.stderr_text());
        self.peak_bytes = proc::peak_rss_bytes(self.child.pid());
    }

    fn connect(&mut self, listener: usize, connections: usize, script: &Arc<Script>) {
        let addr = self.child.addrs()[listener];
        self.groups.push(Group::connect(addr, connections, script));
    }

    fn until_settled(&mut self, sending: Sending, patience: Duration) {
        let begun = Instant::now();
        let (mut moved_at, mut cpu, mut taken) = (begun, Duration::ZERO, 0);
        while begun.elapsed() < patience {
            if moved_at.elapsed() >= SETTLED {
                // On a busy machine the server may have come to sleep only now, and take more.
                if proc::is_asleep(self.child.pid()) && self.push(sending) == 0 {
                    break;
                }
                moved_at = Instant::now();
            }
            if self.push(sending) > 0 {
                moved_at = Instant::now();
                continue;
            }
            let (cpu_now, taken_now) = (proc::cpu_time(self.child.pid()), self.sink.taken());
            // A tick of the processor's clock is 10 ms.
            if cpu_now > cpu || taken_now > taken {
                moved_at = Instant::now();
            }
            (cpu, taken) = (cpu_now, taken_now);
            thread::sleep(ROUND);
        }
    }

    /// Returns how many bytes the kernel took.
    fn push(&mut self, sending: Sending) -> usize {
        let Some(group) = self.groups.last_mut() else {
            return 0;
        };
        match sending {
            Sending::Nothing => 0,
            Sending::Freely => group.push(),
            Sending::PieceByPiece => {
                let begun = Instant::now();
                while proc::unread_at(self.child.addr()) > 0 {
                    // The server has stopped reading: its buffer is full.
                    if begun.elapsed() > ROUND {
                        return 0;
                    }
                    thread::sleep(LOOK);
                }
                group.push()
            }
        }
    }

    /// By SIGTERM: a drain may take memory, too.
    fn drain(&mut self) {
        self.sink.set_open(true);
        self.child.signal(Signal::TERM);
        let begun = Instant::now();
        while !self.child.has_ended() && begun.elapsed() < 2 * EMPTYING {
            if let Some(peak) = proc::last_peak_rss_bytes(self.child.pid()) {
                self.peak_bytes = self.peak_bytes.max(peak);
            }
            thread::sleep(ROUND);
        }
    }
}
