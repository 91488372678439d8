//! A command that runs: its stdin, its stderr, and its end.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};

use super::stderr::Stderr;
use crate::server::Logger;

/// The time between two looks whether a command that is to end has.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The same between two looks at all processes, which cost some milliseconds where there are many.
const LOOK_AT_ALL_EVERY: Duration = Duration::from_millis(100);
/// What of our environment is not for a command: it would tell our service manager that we are
/// ready, take our sockets, or, where it is a drainline, take our settings.
const NOT_PASSED: [&str; 7] = [
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How a command is started.
#[derive(Debug)]
pub(super) struct Start {
    /// Its name or path, and its arguments.
    pub(super) words: Vec<String>,
    /// Variables of the environment that it does not get.
    pub(super) without: Vec<String>,
}

/// A child process, and what it starts, in a process group of its own. The group is killed on drop,
/// and the child reaped, if they have not ended before.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// `None`: it has been told that nothing follows.
    stdin: Option<ChildStdin>,
    stderr: Stderr,
    pub(super) begun: Instant,
    /// When it was given the first of its messages.
    pub(super) used: Option<Instant>,
    /// How it has ended.
    status: Option<ExitStatus>,
    /// When all processes were looked at last, in search of those of its group.
    looked: Option<Instant>,
    /// Nobody is left in its group, whose number may be another's.
    is_over: bool,
}

impl Start {
    /// # Errors
    /// There is no such command, or the system refuses a process.
    pub(super) fn start(&self) -> io::Result<Running> {
        let [program, arguments @ ..] = &self.words[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: it is to get what we drain first.
            .process_group(0);
        for name in NOT_PASSED {
            command.env_remove(name);
        }
        for name in &self.without {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"DRAINLINE_") {
                command.env_remove(name);
            }
        }
        let mut child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot run {program:?}: {error}"))
        })?;
        let ends = child.stdin.take().zip(child.stderr.take());
        let Some((stdin, stderr)) = ends else {
            return Err(io::Error::other("no pipes"));
        };
        let running = Running {
            child,
            stderr: Stderr::new(stderr),
            stdin: Some(stdin),
            begun: Instant::now(),
            used: None,
            status: None,
            looked: None,
            is_over: false,
        };
        // These are our ends of the pipes: the command's still block.
        rustix::io::ioctl_fionbio(&running.stderr.pipe, true)?;
        if let Some(stdin) = &running.stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        Ok(running)
    }
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hands over what the pipe takes at once; `None` if nothing.
    ///
    /// # Errors
    /// EPIPE: nobody reads it any more.
    pub(super) fn write_some(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let Some(stdin) = &self.stdin else {
            return Err(Errno::PIPE.into());
        };
        match rustix::io::writev(stdin, slices) {
            Ok(written) => Ok(Some(written)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits, at most `wait`, until the pipe takes something, nobody reads it any more, or there is
    /// something in stderr.
    pub(super) fn wait_writable(&self, wait: Duration) {
        let Some(stdin) = &self.stdin else {
            return;
        };
        let mut fds = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT),
            PollFd::from_borrowed_fd(self.stderr.pipe.as_fd(), PollFlags::IN),
        ];
        let wait = Timespec::try_from(wait).ok();
        let woken = poll(&mut fds, wait.as_ref());
        // A stderr that was closed is ready for ever.
        if woken.is_ok() && fds[0].revents().is_empty() && fds[1].revents() == PollFlags::HUP {
            thread::sleep(LOOK_EVERY);
        }
    }

    /// What it was given and has not read, in bytes. The kernel counts that also when the reader
    /// has gone, as long as our end is open (pipe(7), FIONREAD).
    pub(super) fn unread(&self) -> u64 {
        let stdin = self.stdin.as_ref();
        stdin.map_or(0, |stdin| rustix::io::ioctl_fionread(stdin).unwrap_or(0))
    }

    /// Whether nobody reads its stdin any more.
    pub(super) fn is_deaf(&self) -> bool {
        let Some(stdin) = &self.stdin else {
            return true;
        };
        let mut fds = [PollFd::new(stdin, PollFlags::empty())];
        let now = Timespec::default();
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    pub(super) fn log_stderr(&mut self, name: &str, logger: &Logger) {
        self.stderr.take(name, logger);
    }

    /// How it has ended, if it has. Reaps it, and of its group what has become this process's own
    /// child, which happens where this process is the first of a container (pid_namespaces(7)).
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        while !self.is_over
            && let Some(group) = self.group()
            && let Ok(Some((pid, status))) = waitpgid(group, WaitOptions::NOHANG)
        {
            if pid == group {
                self.status = Some(ExitStatus::from_raw(status.as_raw()));
            }
        }
        self.status
    }

    /// Whether it runs, or something that it has started and that is in its group still.
    pub(super) fn is_left(&mut self) -> bool {
        if self.ended().is_none() || self.is_over {
            return !self.is_over;
        }
        let is_due = self
            .looked
            .is_none_or(|at| at.elapsed() >= LOOK_AT_ALL_EVERY);
        self.is_over = match self.group() {
            Some(group) if test_kill_process_group(group) != Err(Errno::SRCH) => {
                is_due && !is_any_alive(group)
            }
            _ => true,
        };
        if is_due {
            self.looked = Some(Instant::now());
        }
        !self.is_over
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Tells it that nothing follows.
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has ended and what it has started with it, at most `patience`, and while
    /// `goes_on` says so.
    pub(super) fn wait(
        &mut self,
        patience: Duration,
        name: &str,
        logger: &Logger,
        mut goes_on: impl FnMut(Duration) -> bool,
    ) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            self.stderr.take(name, logger);
            if !self.is_left() || Instant::now() >= until || !goes_on(LOOK_EVERY) {
                return self.status;
            }
        }
    }

    /// Logs the last of its stderr.
    pub(super) fn finish_stderr(&mut self, name: &str, logger: &Logger) {
        self.stderr.finish(name, logger);
    }

    /// Sends a signal to it and those of its group, as long as one is left.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.is_over
            && let Some(group) = self.group()
        {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_left() {
            self.signal(Signal::KILL);
            // It cannot be put off, but for what is in a system call that does not end.
            let until = Instant::now() + Duration::from_millis(100);
            while self.ended().is_none() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Whether one of a group is alive. Those that have ended stay in their group for as long as nobody
/// reaps them, which is for ever where the first process of a container does not.
fn is_any_alive(group: Pid) -> bool {
    // Where there is no /proc, the group alone tells.
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    processes.flatten().any(|process| {
        let stat = fs::read(process.path().join("stat")).unwrap_or_default();
        is_alive_in(&String::from_utf8_lossy(&stat), group)
    })
}

/// `4711 (a name) S 1 4711 ...`: behind the name, which may have anything in it, the state, the
/// parent and the group (proc_pid_stat(5)).
fn is_alive_in(stat: &str, group: Pid) -> bool {
    let (_, behind) = stat.rsplit_once(") ").unwrap_or_default();
    let mut fields = behind.split(' ');
    let is_alive = fields
        .next()
        .is_some_and(|state| !matches!(state, "Z" | "X"));
    let of = fields.nth(1).and_then(|field| field.parse().ok());
    is_alive && of == Some(group.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alive_in_a_group_is_told_by_its_state_and_not_by_its_name() {
        let is_alive = |stat: &str| Pid::from_raw(20).is_some_and(|group| is_alive_in(stat, group));
        assert!(is_alive("21 (a) S 1 20 7 0"));
        assert!(is_alive("21 (a) Z 1 20) R 1 20 7 0"));
        for other in ["21 (a) Z 1 20 7", "21 (a) S 20 21 7", "21 (S 1 20", ""] {
            assert!(!is_alive(other), "{other}");
        }
    }
}
