//! What is behind a second output: a receiver, or a command that writes what it gets to files.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::answering::Taken;
use super::beside::{Act, Beside};
use super::common::certificates::Certificates;
use super::common::tagged::XorShift;
use super::common::wait::{DEADLINE, wait_until};
use super::receiver::{Came, Receiver};

pub enum Beyond {
    Receiver(Receiver),
    Command(Command),
}

impl Beyond {
    /// A receiver at this path, where it is a Unix socket.
    pub fn start(
        beside: &Beside,
        path: &Path,
        certificates: &Certificates,
        dice: XorShift,
    ) -> Beyond {
        if beside.is_command {
            return Beyond::Command(Command::new());
        }
        Beyond::Receiver(Receiver::start(beside, path, certificates, dice))
    }

    /// As an output is told.
    pub fn url(&self) -> String {
        match self {
            Beyond::Receiver(receiver) => receiver.url.clone(),
            Beyond::Command(command) => command.url(),
        }
    }

    /// The server that it belongs to runs.
    pub fn wait_until_met(&self, server: u32) {
        match self {
            Beyond::Receiver(receiver) => receiver.wait_until_met(),
            Beyond::Command(command) => command.wait_until_begun(server),
        }
    }

    pub fn tell(&self, act: Act) {
        match self {
            Beyond::Receiver(receiver) => receiver.tell(act),
            Beyond::Command(command) => command.meet(act),
        }
    }

    /// Once the server is over.
    pub fn end(self) -> Came {
        match self {
            Beyond::Receiver(receiver) => receiver.end(),
            Beyond::Command(command) => command.came(),
        }
    }
}

/// A command that writes to a file, another one each time that it is started: what was killed
/// inside a message leaves half of it. A file's name is when that was, and the number of the
/// process.
pub struct Command {
    folder: TempDir,
    server: OnceLock<u32>,
    was_killed: AtomicBool,
}

impl Command {
    fn new() -> Command {
        Command {
            folder: tempfile::tempdir().unwrap(),
            server: OnceLock::new(),
            was_killed: AtomicBool::new(false),
        }
    }

    fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("exec:exec cat > {folder}/$(date +%s%N).$$")
    }

    fn wait_until_begun(&self, server: u32) {
        self.server.set(server).unwrap();
        wait_until("the command", DEADLINE, || self.running().is_some());
    }

    /// The files' names, by age.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The last one that was started, if it is still there, and still this server's.
    fn running(&self) -> Option<Pid> {
        let last = self.names().pop()?;
        let (_, number) = last.split_once('.')?;
        let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
        let parent = format!("PPid:\t{}\n", self.server.get()?);
        let is_ours = status.contains(&parent) && !status.contains("State:\tZ");
        Pid::from_raw(number.parse().ok()?).filter(|_| is_ours)
    }

    fn meet(&self, act: Act) {
        let Some(pid) = self.running() else {
            return;
        };
        // It may end meanwhile, and is waited for by the server alone.
        let _ = match act {
            Act::Stall | Act::Slow(_) => kill_process(pid, Signal::STOP),
            Act::Die => {
                self.was_killed.store(true, Ordering::Relaxed);
                kill_process(pid, Signal::KILL)
            }
            _ => kill_process(pid, Signal::CONT),
        };
    }

    fn came(self) -> Came {
        let read = |name: &String| fs::read(self.folder.path().join(name)).unwrap();
        Came {
            streams: self.names().iter().map(read).collect(),
            taken: Taken::default(),
            was_reset: self.was_killed.into_inner(),
        }
    }
}
