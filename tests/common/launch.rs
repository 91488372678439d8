//! How a child process of the real binary is started.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::child::Drainline;
use super::guard::Guarded;

/// The real binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_drainline");

/// Where the child's stdout goes.
#[derive(Debug, Default)]
pub enum Stdout {
    /// A pipe, collected by a thread.
    #[default]
    Collected,
    /// A pipe that nobody reads, until [`Drainline::collect_stdout`]. The kernel holds 64 KiB of
    /// it.
    Unread,
    /// A file, made anew.
    File(PathBuf),
    /// Whatever the test has at hand.
    Given(Stdio),
}

/// Where the child's stderr goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stderr {
    /// A pipe, collected by a thread.
    #[default]
    Collected,
    /// A pipe that nobody reads, until [`Drainline::collect_stderr`].
    Unread,
}

/// How to start the binary. Unless the arguments hold them already, `--listen 127.0.0.1:0`,
/// `--report json` and a `--port-file` of its own are added.
#[derive(Debug)]
pub struct Launch {
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    stdout: Stdout,
    stderr: Stderr,
    shell: Option<String>,
    by: Vec<OsString>,
    passed: Option<OwnedFd>,
    uid: Option<u32>,
    bare: bool,
}

impl Launch {
    pub(super) fn new<A: AsRef<OsStr>>(args: &[A]) -> Launch {
        Launch {
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            envs: Vec::new(),
            stdout: Stdout::default(),
            stderr: Stderr::default(),
            shell: None,
            by: Vec::new(),
            passed: None,
            uid: None,
            bare: false,
        }
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Launch {
        self.envs
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn stdout(mut self, stdout: Stdout) -> Launch {
        self.stdout = stdout;
        self
    }

    pub fn stderr(mut self, stderr: Stderr) -> Launch {
        self.stderr = stderr;
        self
    }

    /// Runs a line of sh first, in the process that becomes the child: `ulimit -n 64`, `exec
    /// >>file`.
    pub fn shell(mut self, line: impl Into<String>) -> Launch {
        self.shell = Some(line.into());
        self
    }

    /// Has another program execute it: its name and its arguments, which the child's follow.
    pub fn by<A: AsRef<OsStr>>(mut self, program: &[A]) -> Launch {
        self.by = program.iter().map(|arg| arg.as_ref().to_owned()).collect();
        self
    }

    /// Passes it a descriptor under a name, as a service manager does (sd_listen_fds(3)).
    pub fn passing(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Launch {
        self.passed = Some(descriptor.into());
        self.shell(format!(
            "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}"
        ))
    }

    /// Runs it as another user, which takes root.
    pub fn uid(mut self, uid: u32) -> Launch {
        self.uid = Some(uid);
        self
    }

    /// Adds no argument.
    pub fn bare(mut self) -> Launch {
        self.bare = true;
        self
    }

    /// Starts it and blocks until it listens, for at most [`DEADLINE`](super::wait::DEADLINE).
    ///
    /// # Panics
    /// With its stderr, when it ended instead.
    #[track_caller]
    pub fn start(self) -> Drainline {
        let mut child = self.spawn();
        child.wait_until_listening();
        child
    }

    /// Starts it and waits for nothing: for a child that is not to listen, as with `--help` or a
    /// bad flag.
    pub fn spawn(self) -> Drainline {
        let directory = tempfile::tempdir().unwrap();
        let mut port_file = directory.path().join("ports");
        let mut args = self.args;
        if !self.bare {
            let defaults = [
                ("--listen", OsString::from("127.0.0.1:0")),
                ("--report", OsString::from("json")),
                ("--port-file", port_file.clone().into()),
            ];
            for (flag, default) in defaults {
                if value_of(&args, flag).is_none() {
                    args.extend([flag.into(), default]);
                }
            }
        }
        if let Some(given) = value_of(&args, "--port-file") {
            port_file = given.into();
        }
        let collected = matches!(self.stdout, Stdout::Collected);
        let (stdout, file) = match self.stdout {
            Stdout::Collected | Stdout::Unread => (Stdio::piped(), None),
            Stdout::File(path) => (File::create(&path).unwrap().into(), Some(path)),
            Stdout::Given(stdio) => (stdio, None),
        };
        let binary = File::open(BINARY).unwrap();
        // Open already, so that no folder on the way to it has to let that user pass.
        let opened = format!("/proc/self/fd/{}", binary.as_raw_fd());
        let mut command = match (self.shell, self.uid) {
            (None, None) => match self.by.split_first() {
                None => Command::new(BINARY),
                Some((program, args)) => {
                    let mut command = Command::new(program);
                    command.args(args).arg(BINARY);
                    command
                }
            },
            (Some(line), _) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("{line}; exec \"$0\" \"$@\""), BINARY]);
                command
            }
            (None, Some(_)) => Command::new(opened),
        };
        if let Some(uid) = self.uid {
            chown(directory.path(), Some(uid), None).unwrap();
            command.uid(uid);
        }
        command.args(&args).env_remove("RUST_LOG").envs(self.envs);
        command
            .stdin(self.passed.map_or_else(Stdio::null, Stdio::from))
            .stdout(stdout)
            .stderr(Stdio::piped());
        let mut guarded = Guarded(command.spawn().unwrap());
        let (unread_stdout, unread_stderr) = (guarded.0.stdout.take(), guarded.0.stderr.take());
        let mut child = Drainline {
            guarded,
            unread_stdout,
            unread_stderr,
            stdout: None,
            stderr: None,
            file,
            port_file,
            addrs: Vec::new(),
            _directory: directory,
        };
        if collected {
            child.collect_stdout();
        }
        if self.stderr == Stderr::Collected {
            child.collect_stderr();
        }
        child
    }
}

/// The last value of a flag, written `--flag value` or `--flag=value`.
fn value_of(args: &[OsString], flag: &str) -> Option<OsString> {
    let glued = format!("{flag}=");
    args.iter().enumerate().rev().find_map(|(at, arg)| {
        let text = arg.to_str()?;
        if text == flag {
            args.get(at + 1).cloned()
        } else {
            text.strip_prefix(&glued).map(OsString::from)
        }
    })
}
