//! A server embedded through the library, in a process of its own: the test executable runs itself
//! again.
//!
//! Threads, descriptors and memory are counted per process, so a test that counts them needs a
//! process in which nothing else runs. A test file that wants one has an entry beside its tests,
//! which does nothing unless it was asked for:
//!
//! ```text
//! #[test]
//! fn child_entry() {
//!     match embedded::role().as_deref() {
//!         Some("stalled") => {                        // in the child
//!             let server = ...;                       // start the server
//!             embedded::tell(&format!("addr {}", server.local_addrs()[0]));
//!             // None: the test is done, or gone.
//!             while let Some(word) = embedded::hear() { ... }
//!         }
//!         Some(other) => panic!("no such role: {other}"),
//!         None => {}                                  // an ordinary test run
//!     }
//! }
//!
//! #[test]
//! fn threads_stay_below_the_bound() {
//!     let mut child = Embedded::start("child_entry", "stalled", &[]);
//!     let addr: SocketAddr = child.wait_line("addr ").parse().unwrap();
//!     ... proc::threads(child.pid()) ...
//!     child.say("heal");
//!     assert_eq!(child.end(), Some(0));
//! }
//! ```
//!
//! It works under `cargo test` and `cargo nextest run`. The child tells by stderr, because the test
//! runner writes to stdout; one whose stderr nobody reads tells by stdout all the same. A panic in
//! the child ends it with code 101. The runner has a thread or two of its own there: take a floor
//! before the load.

use std::env;
use std::io::{self, Write};
use std::process::{ChildStderr, ChildStdin, Command, Stdio};

use super::guard::{Collector, Guarded, fill_pipe};
use super::wait::{DEADLINE, try_wait_for};

const ROLE: &str = "DRAINLINE_CHILD";
const ALONE: &str = "alone";
const DEAF: &str = "DRAINLINE_CHILD_STDERR_IS_UNREAD";

/// A command that runs this very test executable, in it only the test `test_name` (with its
/// modules, as `cargo test` lists it), and there [`role`] says `role`.
pub fn reexec(test_name: &str, role: &str, envs: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test_name, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).envs(envs.iter().copied());
    command
}

/// In the child: what it is to be. `None` in an ordinary test run.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Runs the body of a test in a process of its own, where nobody else meets what it does to its
/// process. `test_name` is the test's own, with its modules.
#[track_caller]
pub fn alone(test_name: &str, body: impl FnOnce()) {
    if role().is_some() {
        tell(ALONE);
        return body();
    }
    let mut child = Embedded::start(test_name, ALONE, &[]);
    // It did run: a name that no test has runs none, and ends well.
    child.wait_line(ALONE);
    let code = child.end();
    assert_eq!(code, Some(0), "{}", child.told());
}

/// In the child: says a line to the test.
#[allow(clippy::print_stdout)] // the test runner's own stream
pub fn tell(line: &str) {
    if env::var_os(DEAF).is_some() {
        // The runner's own line about this test is not ended yet.
        println!("\n{line}");
    } else {
        eprintln!("{line}");
    }
}

/// In the child: blocks for the test's next line; `None` when it has no more to say or is gone.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line).unwrap_or(0);
    (read > 0).then(|| line.trim_end().to_owned())
}

/// In the test: the child. Drop kills it; should the test be killed, the child's [`hear`] says
/// `None`.
#[derive(Debug)]
pub struct Embedded {
    guarded: Guarded,
    stdin: Option<ChildStdin>,
    stdout: Collector,
    stderr: Option<Collector>,
    unread_stderr: Option<ChildStderr>,
}

impl Embedded {
    /// Starts the child; see [`reexec`].
    pub fn start(test_name: &str, role: &str, envs: &[(&str, &str)]) -> Embedded {
        let mut child = Embedded::spawn(reexec(test_name, role, envs));
        child.stderr = child.unread_stderr.take().map(Collector::start);
        child
    }

    /// Starts the child with a stderr that nobody reads: a pipe that
    /// [`fill_stderr`](Embedded::fill_stderr) fills.
    pub fn start_deaf(test_name: &str, role: &str) -> Embedded {
        Embedded::spawn(reexec(test_name, role, &[(DEAF, "yes")]))
    }

    fn spawn(mut command: Command) -> Embedded {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut guarded = Guarded(command.spawn().unwrap());
        let stdin = guarded.0.stdin.take();
        let stdout = Collector::start(guarded.0.stdout.take().unwrap());
        let unread_stderr = guarded.0.stderr.take();
        Embedded {
            guarded,
            stdin,
            stdout,
            stderr: None,
            unread_stderr,
        }
    }

    /// Fills the pipe of an unread stderr, so that the child's next write to it blocks.
    pub fn fill_stderr(&mut self) {
        assert!(
            self.unread_stderr.is_some(),
            "stderr is being read: it cannot be filled"
        );
        fill_pipe(self.pid(), 2);
    }

    /// What the child tells by.
    fn voice(&self) -> &Collector {
        self.stderr.as_ref().unwrap_or(&self.stdout)
    }

    pub fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// Says a line to the child.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}")
            .unwrap_or_else(|error| panic!("the child does not listen: {error}"));
    }

    /// The first line that the child told with this prefix, without it. Blocks until there is one,
    /// for at most [`DEADLINE`].
    ///
    /// # Panics
    /// With what it told instead, when there is none or the child has ended.
    #[track_caller]
    pub fn wait_line(&mut self, prefix: &str) -> String {
        self.wait_lines(prefix, 1).remove(0)
    }

    /// The first `count` lines that the child told with this prefix, as by
    /// [`wait_line`](Embedded::wait_line).
    #[track_caller]
    pub fn wait_lines(&mut self, prefix: &str, count: usize) -> Vec<String> {
        let lines = try_wait_for(DEADLINE, || {
            // Asked first: what was told before the end has then been collected.
            let ended = self.guarded.ended().is_some();
            if ended {
                self.voice().finish();
            }
            let told = self.voice().text();
            // The part after the last LF may be the start of a line.
            let whole = told.rfind('\n').map_or("", |at| &told[..at]);
            let lines: Vec<String> = whole
                .lines()
                .filter_map(|line| line.strip_prefix(prefix))
                .take(count)
                .map(str::to_owned)
                .collect();
            (lines.len() == count || ended).then_some(lines)
        });
        match lines {
            Some(lines) if lines.len() == count => lines,
            _ => panic!(
                "the child did not tell {count} times {prefix:?}, but:\n{}",
                self.told()
            ),
        }
    }

    /// All that the child wrote so far.
    pub fn told(&self) -> String {
        let stderr = self
            .stderr
            .as_ref()
            .map_or_else(String::new, Collector::text);
        format!("{}{stderr}", self.stdout.text())
    }

    /// Has no more to say, and blocks until the child ends, for at most [`DEADLINE`]. Returns its
    /// exit code; `None` when a signal ended it.
    ///
    /// # Panics
    /// With what it told, when it has not ended by then; it is killed.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        self.stdin = None;
        let status = self.guarded.wait(DEADLINE);
        [Some(&self.stdout), self.stderr.as_ref()]
            .into_iter()
            .flatten()
            .for_each(Collector::finish);
        status
            .unwrap_or_else(|| {
                panic!(
                    "the child has not ended after {DEADLINE:?}; it told:\n{}",
                    self.told()
                )
            })
            .code()
    }
}
