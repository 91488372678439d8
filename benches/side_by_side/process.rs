//! A server as a child process: started, waited for, ended, and what it said of what it did.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::owned::Owned;
use crate::{Outcome, proc};

const START_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(45);

#[derive(Debug)]
pub(crate) struct Running {
    child: Owned,
    pub(crate) address: SocketAddr,
    /// Where it listens instead.
    socket: Option<PathBuf>,
    log: PathBuf,
}

/// How a server ended that was told to.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The last JSON object that it printed, if there is one.
    pub(crate) report: Option<Value>,
    pub(crate) took: Duration,
    /// Its exit code was 0.
    pub(crate) is_clean: bool,
}

impl Running {
    pub(crate) fn start(
        mut command: Command,
        address: SocketAddr,
        folder: &Path,
    ) -> Outcome<Running> {
        let log = folder.join("log");
        let file = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = Owned::new(command.spawn()?);
        Ok(Running {
            child,
            address,
            socket: None,
            log,
        })
    }

    /// It listens by a Unix socket.
    pub(crate) fn at(mut self, socket: Option<PathBuf>) -> Running {
        self.socket = socket;
        self
    }

    /// Where it listens, as the load is told.
    pub(crate) fn target(&self) -> String {
        match &self.socket {
            Some(path) => format!("unix:{}", path.display()),
            None => self.address.to_string(),
        }
    }

    fn is_listening(&self) -> Outcome<bool> {
        match &self.socket {
            Some(path) => Ok(UnixStream::connect(path).is_ok()),
            None => Ok(proc::is_listening(self.address)?),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn wait_until_listening(&mut self) -> Outcome<()> {
        self.wait_until("listen", |running| {
            Ok(running.is_listening()?.then_some(()))
        })
    }

    /// The first line that it prints.
    pub(crate) fn wait_for_line(&mut self) -> Outcome<String> {
        self.wait_until("say anything", |running| {
            let log = running.log();
            Ok(log.split_once('\n').map(|(line, _)| line.to_owned()))
        })
    }

    fn wait_until<T>(
        &mut self,
        does: &str,
        mut done: impl FnMut(&Running) -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let begun = Instant::now();
        loop {
            if let Some(done) = done(self)? {
                return Ok(done);
            }
            if self.child.status()?.is_some() {
                return Err(format!("it ended: {}", self.log().trim()).into());
            }
            if begun.elapsed() > START_WITHIN {
                return Err(format!("it does not {does}: {}", self.log().trim()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it for its status, as drainline gives it, and waits for that.
    pub(crate) fn status(&self) -> Outcome<Value> {
        let printed = fs::metadata(&self.log)?.len();
        self.child.signal(Signal::USR1);
        let begun = Instant::now();
        loop {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(printed))?;
            let mut log = String::new();
            file.read_to_string(&mut log)?;
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(status) = whole.lines().find(|line| line.starts_with('{')) {
                return Ok(serde_json::from_str(status)?);
            }
            if begun.elapsed() > START_WITHIN {
                return Err(format!("it does not tell its status: {}", self.log().trim()).into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it by SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.end_by(Signal::KILL)?;
        Ok(())
    }

    /// Ends it by SIGTERM.
    pub(crate) fn stop(mut self) -> Outcome<Ended> {
        let begun = Instant::now();
        let status = self.end_by(Signal::TERM)?;
        let took = begun.elapsed();
        let log = self.log();
        let report = log.lines().rev().find(|line| line.starts_with('{'));
        Ok(Ended {
            report: report.map(serde_json::from_str).transpose()?,
            took,
            is_clean: status.success(),
        })
    }

    fn end_by(&mut self, signal: Signal) -> Outcome<ExitStatus> {
        self.child.signal(signal);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.status()? {
                return Ok(status);
            }
            if begun.elapsed() > END_WITHIN {
                return Err(format!("it does not end: {}", self.log().trim()).into());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// An address to listen on. Its port is none that the kernel gives to clients (ip_local_port_range
/// begins at 32768).
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 10_000;
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no port is free".into())
}
