//! Signals: one thread waits for the next signal, and for nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drainline::Server;
use log::Level;
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::OFlags;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator;

use super::document::Stamp;
#[cfg(feature = "tls")]
use super::reload::Reloader;
use super::report;
use super::stderr::{Lister, Stderr};
use super::systemd::Teller;
use super::values::ReportFormat;

/// A second request to stop within this time is the first one repeated: timeout(1), npm and service
/// managers signal the process and its group, and a terminal's Ctrl-C comes beside a SIGTERM.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Signals that the server catches.
const CAUGHT: [i32; 5] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGXFSZ];

/// Lets SIGTERM and SIGINT reach this process although its parent had blocked them: execve(2) keeps
/// the mask, and the signals that are pending behind it. To be called before any other thread is
/// started, since a thread inherits its creator's mask. Not for a server, which catches the signals
/// first ([`Signals::register`]): a pending signal arrives at this moment, and ends a process that
/// does not.
pub(crate) fn unblock_stops() {
    unblock(&[SIGTERM, SIGINT]);
}

/// Keeps the signals that a server catches until it does: uncaught, SIGHUP and SIGUSR1 would end
/// the process, and a start takes some 50 ms, in which the program executes itself again.
pub(super) fn hold_back() -> Held {
    let before = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::all());
    let held = CAUGHT.iter().filter_map(|&n| Signal::try_from(n).ok());
    let held = Held(held.filter(|&signal| !before.contains(signal)).collect());
    held.hold();
    held
}

/// The signals that this process blocks and its parent did not.
pub(crate) struct Held(SigSet);

impl Held {
    /// For a program that catches none of them.
    pub(crate) fn nothing() -> Held {
        Held(SigSet::empty())
    }

    pub(super) fn hold(&self) {
        let _ = self.0.thread_block();
    }

    pub(super) fn let_go(&self) {
        let _ = self.0.thread_unblock();
    }
}

fn unblock(signals: &[i32]) {
    // pthread_sigmask(3) fails for no set that can be written here.
    let _ = set_of(signals).thread_unblock();
}

fn set_of(signals: &[i32]) -> SigSet {
    let signals = signals.iter().filter_map(|&n| Signal::try_from(n).ok());
    signals.collect()
}

/// Requests to stop, as they come.
#[derive(Debug, Default)]
struct Stops {
    first: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    First,
    /// The first one once more.
    Same,
    /// A new request: the process is to end now.
    Again,
}

impl Stops {
    fn come(&mut self, now: Instant) -> Stop {
        match self.first {
            None => {
                self.first = Some(now);
                Stop::First
            }
            Some(first) if now.duration_since(first) < SAME_REQUEST => Stop::Same,
            Some(_) => Stop::Again,
        }
    }
}

/// For a tool: the first SIGINT or SIGTERM is kept for whoever looks. A later one that is not the
/// first one repeated ends the process at once.
#[derive(Debug)]
pub(crate) struct StopFlag {
    flag: Arc<AtomicBool>,
    number: Arc<AtomicI32>,
}

impl StopFlag {
    /// # Errors
    /// A signal could not be caught, or there is no thread to be had.
    pub(crate) fn register() -> io::Result<StopFlag> {
        let (flag, number) = (Arc::default(), Arc::default());
        let mut signals = iterator::Signals::new([SIGINT, SIGTERM])?;
        let (set, keep) = (Arc::clone(&flag), Arc::clone(&number));
        let body = move || {
            let mut stops = Stops::default();
            for signal in &mut signals {
                match stops.come(Instant::now()) {
                    Stop::First => {
                        let keep: &AtomicI32 = &keep;
                        let set: &AtomicBool = &set;
                        keep.store(signal, Relaxed);
                        set.store(true, Relaxed);
                    }
                    Stop::Same => {}
                    Stop::Again => std::process::exit(128 + signal),
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(body)?;
        Ok(StopFlag { flag, number })
    }

    /// Set by the first signal.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// The number of the first signal.
    pub(crate) fn caught(&self) -> Option<u8> {
        let number = u8::try_from(self.number.load(Relaxed)).ok()?;
        (number > 0).then_some(number)
    }
}

/// Signals that are caught and kept until somebody serves them.
pub(super) struct Signals {
    caught: iterator::Signals,
    terminal: Option<Terminal>,
}

/// What the thread of signals acts on.
pub(super) struct Hands {
    pub(super) server: Arc<Server>,
    pub(super) stderr: Arc<Stderr>,
    pub(super) lister: Lister,
    pub(super) teller: Teller,
    pub(super) drain_timeout: Duration,
    pub(super) format: ReportFormat,
    /// An output has a file by its name, which SIGHUP reopens.
    pub(super) has_file: bool,
    /// An output makes its connection anew at SIGHUP.
    pub(super) has_connection: bool,
    /// An output reads files of secrets, or of TLS, again at SIGHUP.
    pub(super) reads_secrets: bool,
    /// Where a listener speaks TLS.
    #[cfg(feature = "tls")]
    pub(super) reloader: Option<Reloader>,
    /// The configuration file, as it was read.
    pub(super) config: Option<(PathBuf, Stamp)>,
}

/// The thread that serves signals.
pub(super) struct Serving {
    close: iterator::Handle,
    thread: JoinHandle<()>,
}

impl Signals {
    /// Catches signals from now on, and those that came before and were blocked.
    pub(super) fn register() -> io::Result<Signals> {
        let terminal = Terminal::that_hangs_up();
        let caught = iterator::Signals::new(CAUGHT)?;
        unblock(&CAUGHT);
        Ok(Signals { caught, terminal })
    }

    /// SIGTERM and SIGINT drain; a second one that is not the first one repeated prints the report
    /// and ends the process at once. SIGHUP reopens the sink, or says that the terminal closed;
    /// SIGUSR1 prints the connections.
    pub(super) fn serve(self, hands: Hands) -> io::Result<Serving> {
        let Signals {
            mut caught,
            terminal,
        } = self;
        let close = caught.handle();
        let body = move || {
            let mut stops = Stops::default();
            for signal in &mut caught {
                match signal {
                    SIGHUP => hang_up(&hands, terminal.as_ref(), &mut stops),
                    SIGUSR1 => hands.lister.list(),
                    // A file that may grow no more (RLIMIT_FSIZE). Uncaught, the signal kills the
                    // process; caught, the write fails with EFBIG (setrlimit(2)), and the sink
                    // retries.
                    SIGXFSZ => {}
                    signal => match stops.come(Instant::now()) {
                        Stop::First => drain(&hands),
                        Stop::Same => {}
                        Stop::Again => {
                            hands.lister.give_way();
                            let ledger = report::write(&hands.server.report(), hands.format);
                            hands.stderr.say(&ledger);
                            std::process::exit(128 + signal);
                        }
                    },
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let thread = thread.spawn(body)?;
        Ok(Serving { close, thread })
    }
}

/// Reopens outputs. Without a file among them, a terminal that closed stops the server, which
/// nobody could stop from there any more; during a drain, closing the terminal changes nothing.
fn hang_up(hands: &Hands, terminal: Option<&Terminal>, stops: &mut Stops) {
    let asked = NotifyState::monotonic_usec_now();
    let say = |reason, text: &str| {
        let logger = hands.server.logger();
        logger.log_limited(reason, Level::Info, || text.to_owned());
    };
    let reads_tls = hands.read_tls();
    if hands.has_file {
        let text = match hands.has_connection {
            true => "SIGHUP: reopening files, and connecting outputs anew",
            false => "SIGHUP: reopening the file of the sink",
        };
        say("SIGHUP", text);
        hands.server.reopen();
    } else if terminal.is_some_and(Terminal::is_gone) {
        say(
            "SIGHUP, the terminal is gone",
            "SIGHUP: the terminal is gone; stopping",
        );
        if stops.come(Instant::now()) == Stop::First {
            drain(hands);
        }
        return;
    } else if hands.has_connection {
        say("SIGHUP", "SIGHUP: connecting the sink anew");
        hands.server.reopen();
    } else if hands.reads_secrets {
        say(
            "SIGHUP",
            "SIGHUP: reading what outputs log in with, and their files of TLS, again",
        );
        hands.server.reopen();
    } else if !reads_tls {
        say("SIGHUP", "SIGHUP: there is no file to reopen");
    }
    if let Some((path, stamp)) = &hands.config
        && stamp.has_changed(path)
    {
        let text = format!(
            "SIGHUP: {} has changed: restart drainline to use it",
            path.display()
        );
        say("SIGHUP, the configuration file has changed", &text);
    }
    // Or else it is told when the files of TLS have been read.
    if let (Ok(asked), false) = (asked, reads_tls) {
        hands.teller.reloaded(asked);
    }
}

impl Hands {
    /// Has the files of TLS read again, if there are any. The log says what becomes of it.
    #[cfg(feature = "tls")]
    fn read_tls(&self) -> bool {
        let is_reading = self.reloader.as_ref().map(Reloader::ask);
        if is_reading == Some(true) {
            let reason = "SIGHUP, TLS is being read";
            self.server.logger().log_limited(reason, Level::Warn, || {
                "SIGHUP: the files of TLS are still being read, and are read once more after that"
                    .to_owned()
            });
        }
        is_reading.is_some()
    }

    #[cfg(not(feature = "tls"))]
    fn read_tls(&self) -> bool {
        false
    }
}

fn drain(hands: &Hands) {
    hands.server.drain(hands.drain_timeout);
    hands.teller.is_draining();
}

impl Serving {
    pub(super) fn end(self) {
        self.close.close();
        let _ = self.thread.join();
    }
}

/// The controlling terminal at the start, kept open so that it can be looked at when no descriptor
/// is left.
#[derive(Debug)]
pub(super) struct Terminal(File);

impl Terminal {
    /// `None`: there is no terminal, or its end is not for us (SIGHUP is ignored: nohup(1)).
    pub(super) fn that_hangs_up() -> Option<Terminal> {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = std::fs::OpenOptions::new();
        let tty = options.read(true).custom_flags(flags).open("/dev/tty");
        tty.ok().filter(|_| !is_ignored(SIGHUP)).map(Terminal)
    }

    /// The terminal closed, or is this session's no more: EIO or ENOTTY (tcgetpgrp(3)).
    fn is_gone(&self) -> bool {
        rustix::termios::tcgetpgrp(&self.0).is_err()
    }
}

/// Whether a signal was ignored by whoever started this process.
fn is_ignored(signal: i32) -> bool {
    Masks::of_process().is_some_and(|masks| masks.ignored & bit(signal) != 0)
}

/// Where a signal stands in a mask.
pub(super) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// What execve(2) keeps of a process's signals, by proc_pid_status(5). Without those of glibc's own
/// (nptl(7)): they are ignored in a process that was started by posix_spawn(3), and in no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) blocked: u64,
    pub(super) ignored: u64,
}

impl Masks {
    pub(super) fn of_process() -> Option<Masks> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let mask = |name| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
            let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
            Some(mask & !(bit(32) | bit(33)))
        };
        Some(Masks {
            blocked: mask("SigBlk:")?,
            ignored: mask("SigIgn:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_within_a_second_of_the_first_is_the_same_and_a_later_one_is_another() {
        let begun = Instant::now();
        let mut stops = Stops::default();
        let outcomes = [0, 1, 999, 1_000, 1_500, 99_000]
            .map(|ms| stops.come(begun + Duration::from_millis(ms)));
        use Stop::{Again, First, Same};
        assert_eq!(outcomes, [First, Same, Same, Again, Again, Again]);
    }
}
