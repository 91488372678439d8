//! The real binary as a child process.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout};
use std::time::Duration;

use rustix::process::{Pid, Resource, Signal, getrlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::checker::Checker;
use super::client;
#[allow(unused_imports)] // not every test file names it
pub use super::embedded::reexec;
use super::exit::Exit;
use super::guard::{Collector, Guarded, fill_pipe};
#[allow(unused_imports)]
pub use super::launch::{BINARY, Launch, Stderr, Stdout};
use super::proc;
use super::wait::{DEADLINE, try_wait_for, wait_for, wait_until};

/// A running `drainline`. Drop kills it.
#[derive(Debug)]
pub struct Drainline {
    pub(super) guarded: Guarded,
    pub(super) unread_stdout: Option<ChildStdout>,
    pub(super) unread_stderr: Option<ChildStderr>,
    pub(super) stdout: Option<Collector>,
    pub(super) stderr: Option<Collector>,
    pub(super) file: Option<PathBuf>,
    pub(super) port_file: PathBuf,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) _directory: TempDir,
}

impl Drainline {
    /// How it is to be started; [`Launch::start`] or [`Launch::spawn`] does so.
    pub fn with<A: AsRef<OsStr>>(args: &[A]) -> Launch {
        Launch::new(args)
    }

    /// Starts it with everything collected; see [`Launch::start`].
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(args: &[A]) -> Drainline {
        Drainline::with(args).start()
    }

    /// Blocks until it listens, for at most [`DEADLINE`]; [`Launch::start`] has done so.
    #[track_caller]
    pub fn wait_until_listening(&mut self) {
        let listening = try_wait_for(DEADLINE, || {
            if let Ok(text) = fs::read_to_string(&self.port_file) {
                return Some(Some(text));
            }
            self.guarded.ended().is_some().then_some(None)
        });
        match listening {
            Some(Some(text)) => {
                assert!(!text.is_empty(), "the port file is empty");
                self.addrs = text
                    .lines()
                    // The name of a listener may follow.
                    .map(|line| line.split(' ').next().unwrap())
                    .filter(|address| !address.starts_with("unix:"))
                    .map(|address| address.parse().unwrap())
                    .collect()
            }
            Some(None) => panic!("drainline ended instead of listening: {}", self.wait()),
            None => panic!(
                "drainline does not listen after {DEADLINE:?}; stderr:\n{}",
                self.stderr_text()
            ),
        }
    }

    /// The first TCP address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Every TCP address it listens on, in the order of the port file.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Where it writes the addresses it listens on.
    pub fn port_file(&self) -> &Path {
        &self.port_file
    }

    /// A new connection to it; see [`client::connect`].
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        client::connect(self.addr())
    }

    pub fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// # Panics
    /// When the child has ended.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.guarded.signal(signal);
    }

    /// Sends a signal, and blocks until the thread that serves them has taken it and sleeps again,
    /// for at most [`DEADLINE`].
    #[track_caller]
    pub fn signal_served(&mut self, signal: Signal) {
        let pid = self.pid();
        let thread = wait_for("the thread that serves signals", DEADLINE, || {
            proc::thread_id(pid, "signals")
        });
        let slept = proc::switches(pid, thread);
        self.signal(signal);
        wait_until("a signal served", DEADLINE, || {
            proc::switches(pid, thread) > slept
        });
    }

    /// Sets the soft limit of a resource of the running child, and returns the one before.
    pub fn limit(&mut self, resource: Resource, soft: Option<u64>) -> Option<u64> {
        assert!(
            self.guarded.ended().is_none(),
            "a limit for a child that has ended"
        );
        // The hard limit is inherited and stays, so that it can be raised again.
        let mut limit = getrlimit(resource);
        limit.current = soft;
        prlimit(Some(Pid::from_child(&self.guarded.0)), resource, limit)
            .unwrap()
            .current
    }

    /// The last answer to SIGUSR1 in its stderr; `--report json` has to be set.
    pub fn last_status(&self) -> Option<Value> {
        let told = self.stderr_text();
        let (whole, _) = told.rsplit_once('\n')?;
        let mut lines = whole.lines().rev().filter(|line| line.starts_with('{'));
        lines.find_map(|line| {
            let told: Value = serde_json::from_str(line).ok()?;
            told["connections"].is_array().then_some(told)
        })
    }

    /// Blocks until an answer to SIGUSR1 is what is waited for, for at most [`DEADLINE`], and
    /// returns that answer.
    #[track_caller]
    pub fn wait_for_status(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, DEADLINE, || {
            self.signal(Signal::USR1);
            self.last_status().filter(&is_it)
        })
    }

    /// Blocks until it has read `bytes` of a connection, by its own word (SIGUSR1), for at most
    /// [`DEADLINE`].
    #[track_caller]
    pub fn wait_until_read(&mut self, of: &TcpStream, bytes: usize) {
        let peer = of.local_addr().unwrap().to_string();
        self.wait_for_status("bytes of a connection read", |status| {
            status["connections"]
                .as_array()
                .unwrap()
                .iter()
                .any(|connection| connection["peer"] == *peer && connection["bytes"] == bytes)
        });
    }

    /// Blocks until everybody who has connected was accepted, and no connection is open, by its own
    /// word (SIGUSR1), for at most twice [`DEADLINE`]. An end that is on its way when a drain
    /// begins is not the peer's.
    #[track_caller]
    pub fn wait_until_all_ended(&mut self) {
        // Between accept(2) and the list of connections a client is in neither of the two, and an
        // acceptor awake.
        wait_until("everybody accepted", DEADLINE, || {
            let mut tcp = self.addrs.iter().filter(|addr| addr.is_ipv4());
            tcp.all(|addr| proc::queued_at(addr.port()) == 0) && proc::is_asleep(self.pid())
        });
        self.wait_for_status("every connection's end", |status| {
            status["connections"] == Value::Array(Vec::new())
        });
    }

    /// Has it ended? Does not block.
    pub fn has_ended(&mut self) -> bool {
        self.guarded.ended().is_some()
    }

    /// Blocks until it ends, for at most [`DEADLINE`].
    ///
    /// # Panics
    /// With its stderr, when it has not ended by then; it is killed.
    #[track_caller]
    pub fn wait(&mut self) -> Exit {
        self.wait_within(DEADLINE)
    }

    /// As [`wait`](Drainline::wait), with a deadline of the test's own.
    #[track_caller]
    pub fn wait_within(&mut self, deadline: Duration) -> Exit {
        let status = self.guarded.wait(deadline);
        for collector in [&self.stdout, &self.stderr].into_iter().flatten() {
            collector.finish();
        }
        let stderr = self.stderr_text();
        match status {
            Some(status) => Exit::new(status.code(), status.signal(), stderr),
            None => panic!(
                "drainline has not ended after {deadline:?} and was killed; stderr:\n{stderr}"
            ),
        }
    }

    /// Asks for a drain (SIGTERM), then [`wait`](Drainline::wait)s.
    #[track_caller]
    pub fn terminate(&mut self) -> Exit {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// What stands in its stdout so far: everything, once it was waited for. Nothing when stdout is
    /// unread or was given.
    pub fn stdout_bytes(&self) -> Vec<u8> {
        match &self.file {
            Some(path) => fs::read(path).unwrap(),
            None => self.stdout.as_ref().map_or_else(Vec::new, Collector::bytes),
        }
    }

    /// How many bytes stand in its stdout so far; cheap enough to be asked in a loop.
    pub fn stdout_len(&self) -> u64 {
        match &self.file {
            Some(path) => fs::metadata(path).unwrap().len(),
            None => self
                .stdout
                .as_ref()
                .map_or(0, |stdout| stdout.with(<[u8]>::len) as u64),
        }
    }

    /// Does `needle` stand in its collected stdout, behind the first `from` bytes?
    pub fn stdout_contains(&self, from: u64, needle: &[u8]) -> bool {
        let found = |bytes: &[u8]| memchr::memmem::find(&bytes[from as usize..], needle).is_some();
        self.stdout
            .as_ref()
            .is_some_and(|stdout| stdout.with(found))
    }

    /// A checker that has read [`stdout_bytes`](Drainline::stdout_bytes).
    pub fn checker(&self) -> Checker {
        Checker::read(&self.stdout_bytes())
    }

    /// Its stderr so far.
    pub fn stderr_text(&self) -> String {
        self.stderr
            .as_ref()
            .map_or_else(String::new, Collector::text)
    }

    /// Begins to read a stdout that was unread: the sink heals.
    pub fn collect_stdout(&mut self) {
        self.stdout = self
            .unread_stdout
            .take()
            .map(Collector::start)
            .or(self.stdout.take());
    }

    /// Closes the reading end of a stdout that was unread: the next write fails with EPIPE.
    pub fn close_stdout(&mut self) {
        self.unread_stdout = None;
    }

    /// Closes the reading end of a stderr that was unread.
    pub fn close_stderr(&mut self) {
        self.unread_stderr = None;
    }

    /// Begins to read a stderr that was unread.
    pub fn collect_stderr(&mut self) {
        self.stderr = self
            .unread_stderr
            .take()
            .map(Collector::start)
            .or(self.stderr.take());
    }

    /// Fills the pipe of an unread stderr, so that the child's next write to it blocks. Returns how
    /// many bytes it took; they end with a LF.
    pub fn fill_stderr(&mut self) -> usize {
        assert!(
            self.unread_stderr.is_some(),
            "stderr is being read: it cannot be filled"
        );
        fill_pipe(self.pid(), 2)
    }
}
