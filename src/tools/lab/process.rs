//! A server in a process of its own, seen from outside.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::super::proc;
use super::outcome::Point;
use super::sample::Said;

const LOOK: Duration = Duration::from_millis(5);
/// Log lines that are kept, for when it does not start.
const MAX_LINES: usize = 20;

/// The process. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    listener: Option<JoinHandle<()>>,
}

/// What it said so far.
#[derive(Debug, Default)]
struct Heard {
    port: Option<u16>,
    inside: Option<Point>,
    ledger: Option<Value>,
    log: Vec<String>,
}

impl Process {
    /// Starts `drainline lab-server` with these arguments. Returns it with its stdout.
    pub(super) fn start(args: &[OsString]) -> io::Result<(Process, ChildStdout)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("lab-server")
            .arg(std::process::id().to_string())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C on the terminal is for the lab; it ends its servers itself.
            .process_group(0)
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut process = Process {
            child,
            heard: Arc::clone(&heard),
            listener: None,
        };
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let listen = move || listen(stderr, &heard);
        process.listener = Some(
            thread::Builder::new()
                .name("listener".to_owned())
                .spawn(listen)?,
        );
        Ok((process, stdout))
    }

    /// The port, once it listens.
    ///
    /// # Errors
    /// It ended, with its last words, or it took too long.
    pub(super) fn port(&mut self, within: Duration) -> io::Result<u16> {
        let port = wait(within, || {
            let port = self.heard.lock().port;
            if port.is_none() && self.child.try_wait()?.is_some() {
                self.join();
                let last = self.heard.lock().log.pop();
                return Err(io::Error::other(last.unwrap_or("it ended".to_owned())));
            }
            Ok(port)
        })?;
        port.ok_or(io::ErrorKind::TimedOut.into())
    }

    /// Its threads before the first client: all of them run once it has told how things stand.
    pub(super) fn threads_at_rest(&self, within: Duration) -> u64 {
        let _ = wait(within, || Ok(self.heard.lock().inside));
        self.look().unwrap_or_default().threads
    }

    /// How it stands, as /proc has it and as it told last. `None`: the process has ended.
    pub(super) fn look(&self) -> Option<Point> {
        let pid = self.child.id();
        Some(Point {
            threads: proc::threads(pid).ok()?,
            memory_bytes: proc::resident_bytes(pid).ok()?,
            descriptors: proc::descriptors(pid).ok()?,
            ..self.heard.lock().inside.unwrap_or_default()
        })
    }

    /// The most memory that it had so far; 0: the process has ended.
    pub(super) fn peak_memory_bytes(&self) -> u64 {
        proc::peak_resident_bytes(self.child.id()).unwrap_or(0)
    }

    pub(super) fn ledger(&self) -> Option<Value> {
        self.heard.lock().ledger.clone()
    }

    /// How it ended, if it has.
    pub(super) fn ending(&mut self) -> io::Result<Option<String>> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(None);
        };
        self.join();
        let last = self.heard.lock().log.last().cloned();
        Ok(Some(last.map_or_else(
            || status.to_string(),
            |last| format!("{status}; {last}"),
        )))
    }

    /// Asks it to end, in good order.
    pub(super) fn ask_to_end(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // It is not waited for yet, so the number is its own.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end, and ends it after this long. What it said last has then been heard.
    pub(super) fn end(&mut self, within: Duration) -> io::Result<ExitStatus> {
        let status = match wait(within, || self.child.try_wait())? {
            Some(status) => status,
            None => {
                self.child.kill()?;
                self.child.wait()?
            }
        };
        self.join();
        Ok(status)
    }

    fn join(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join();
    }
}

/// Waits for what `look` finds, for so long at most.
fn wait<T>(
    within: Duration,
    mut look: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    let end = Instant::now() + within;
    loop {
        let found = look()?;
        if found.is_some() || Instant::now() > end {
            return Ok(found);
        }
        thread::sleep(LOOK);
    }
}

/// Until it closes its stderr.
fn listen(stderr: ChildStderr, heard: &Mutex<Heard>) {
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { return };
        let said = Said::read(&line);
        let mut heard = heard.lock();
        match said {
            Said::Listening(port) => heard.port = Some(port),
            Said::Sample(inside) => heard.inside = Some(inside),
            Said::Ledger(ledger) => heard.ledger = Some(ledger),
            Said::Log(line) => {
                if heard.log.len() == MAX_LINES {
                    heard.log.remove(0);
                }
                heard.log.push(line);
            }
        }
    }
}
