//! Messages to the stdin of a command.

mod child;
mod stderr;
mod words;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use rustix::io::Errno;
use rustix::process::Signal;

use self::child::{Running, Start};
pub use self::words::{WordsError, split_words};
use super::batches::Batches;
use super::contract::{Resources, Sink, SinkError};
use super::cursor::Cursor;
use crate::server::Logger;

/// How long one poll(2) waits before the server's deadline is looked at.
const SLICE: Duration = Duration::from_millis(100);
/// Batches that are held at once: as many as go into one write.
const WINDOW: usize = 64;
/// A command that ends sooner, once it was given a message, is not started anew at once, and the
/// next one has to live for as long before it is given any.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// How long a command has to live before it is given a message: one that does not understand its
/// arguments has ended by then.
const TRIAL: Duration = Duration::from_millis(100);
/// The time between two looks at a command that is on trial.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a command has after SIGTERM, before SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(2);
/// The same once the server's last deadline has passed: the server waits for 250 ms more.
const LATE_PATIENCE: Duration = Duration::from_millis(100);
/// How long a command that closes its stdin has to end, before it is ended, and what a
/// command that has ended leaves behind.
const DEAF_PATIENCE: Duration = Duration::from_secs(1);

/// Writes messages, in the output framing, to the stdin of a command, which runs as long as the
/// server does.
///
/// **Delivered means that the pipe took the message's last byte.** A message reaches the command
/// **at most once**: what it has not read when it dies, 64 KiB at most, is lost (pipe(7)). A
/// message that was begun is begun anew, whole, with the next command; what the last one got of it
/// is half a message.
///
/// **The command** is started by [`open`](Exec::open), without a shell unless it is one
/// ([`shell`](Exec::shell)). When it ends, or closes its stdin, the log says how, and it is started
/// anew for the next message: at once if it has lived for a second with messages, or else after
/// 100 ms to 5 s. A command that reads nothing holds up the sink, and so the buffer.
///
/// **A command that cannot work** mostly ends at once. So each is given its first message when it
/// has lived for 100 ms, and for a second if the last one had a shorter life: until then messages
/// are held. A server's log says that the sink takes messages again when a command has had some for
/// a second.
///
/// - **stdout** is the server's own.
/// - **stderr** goes to the log line by line, at level info: 10 lines a second, 1,024 bytes of
///   each.
/// - **The environment** is the server's, without `NOTIFY_SOCKET`, `LISTEN_*`, `WATCHDOG_*` and
///   `DRAINLINE_*`, and without what [`open_without`](Exec::open_without) says. No descriptor but
///   the three is inherited.
/// - **The process group** is its own, so that Ctrl-C in a terminal is for the server, which then
///   drains into it.
///
/// A reopen does nothing to it.
///
/// **The end.** When the last message is written, its stdin is closed, and it has
/// [`stop_timeout`](Exec::stop_timeout) to end, within what is left of the drain, with all that it
/// has started in its process group. Then the group gets SIGTERM, and SIGKILL 2 s later; at the
/// drain's deadline both within 100 ms. So does what a command leaves behind that ends by itself,
/// before the next one is started. The command is always waited for, so no zombie is left of it.
///
/// # Drop
/// As at the drain's deadline, if it still runs. Blocks for a quarter of a second at most.
#[derive(Debug)]
pub struct Exec {
    name: String,
    start: Start,
    stop_timeout: Duration,
    cursor: Cursor,
    /// How long the next command has to live before it is given a message.
    trial: Duration,
    running: Option<Running>,
    logger: Option<Logger>,
}

impl Exec {
    /// What the sink takes beside a command that runs: its [`resources`](Sink::resources).
    pub const RESOURCES: Resources = Resources {
        threads: 0,
        // Its pipes, both ends while it is started, and one that tells of an error.
        descriptors: 6,
        memory_bytes: 16 << 10,
    };

    /// How long the command has to end by itself where nothing is said.
    pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

    /// Starts a command: its name or path, and its arguments.
    ///
    /// # Errors
    /// There is no word, no such command, or it cannot be started.
    pub fn open(words: impl IntoIterator<Item = impl Into<String>>) -> io::Result<Exec> {
        Exec::open_without(words, [""; 0])
    }

    /// The same, without some variables of the environment: those that have a secret which is not
    /// for the command. What runs as the same user can read the server's own environment all the
    /// same (proc_pid_environ(5)), if it looks for it.
    ///
    /// # Errors
    /// As [`open`](Exec::open).
    pub fn open_without(
        words: impl IntoIterator<Item = impl Into<String>>,
        variables: impl IntoIterator<Item = impl Into<String>>,
    ) -> io::Result<Exec> {
        let start = Start {
            words: words.into_iter().map(Into::into).collect(),
            without: variables.into_iter().map(Into::into).collect(),
        };
        let running = start.start()?;
        Ok(Exec {
            // Arguments may hold what is not for the log.
            name: format!("exec:{}", start.words[0]),
            start,
            stop_timeout: Self::DEFAULT_STOP_TIMEOUT,
            cursor: Cursor::default(),
            trial: TRIAL,
            running: Some(running),
            logger: None,
        })
    }

    /// Starts a line of a shell, `/bin/sh -c LINE`.
    ///
    /// # Errors
    /// As [`open`](Exec::open).
    pub fn shell(line: impl Into<String>) -> io::Result<Exec> {
        Exec::open(["/bin/sh".to_owned(), "-c".to_owned(), line.into()])
    }

    /// How long the command has to end by itself, once its stdin was closed. Default 10 s.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> Exec {
        self.stop_timeout = timeout;
        self
    }

    /// The number of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// The command has ended, or is to: how, if it was not of use for long.
    fn lost(&mut self, batches: &Batches<'_>) -> io::Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        self.cursor.begin_anew(batches);
        // What is waited for below is not its life.
        let life = running.used.unwrap_or(running.begun).elapsed();
        let logger = batches.logger();
        let unread = running.unread();
        running.close_stdin();
        let mut goes_on = |wait| {
            thread::sleep(wait);
            !batches.is_timed_out()
        };
        let name = &self.name;
        let mut ended = running.wait(DEAF_PATIENCE, name, logger, &mut goes_on);
        let has_left_some = ended.is_some() && running.is_left();
        if running.is_left() {
            running.signal(Signal::TERM);
            ended = running.wait(TERM_PATIENCE, name, logger, &mut goes_on);
        }
        running.finish_stderr(name, logger);
        let mut how = match ended {
            Some(status) => format!("it has ended with {status}"),
            None => "it has closed its stdin, and was killed".to_owned(),
        };
        if has_left_some {
            how += "; what it had started and left behind was ended";
        }
        if unread > 0 {
            how += &format!("; {unread} bytes that it has not read are lost");
        }
        if life < SHORT_LIFE {
            self.trial = SHORT_LIFE;
            return Err(io::Error::other(how));
        }
        self.trial = TRIAL;
        logger.log_limited("command ended", Level::Warn, || {
            format!("the sink {name} is started anew: {how}")
        });
        Ok(())
    }

    /// Whether the command may yet turn out to be no better than the last one.
    fn is_on_trial(&self) -> bool {
        let used = self.running.as_ref().and_then(|running| running.used);
        self.trial == SHORT_LIFE && used.is_none_or(|used| used.elapsed() < SHORT_LIFE)
    }

    fn write_once(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let Some(running) = &mut self.running else {
            self.running = Some(self.start.start().map_err(SinkError::Retry)?);
            return Ok(());
        };
        running.log_stderr(&self.name, batches.logger());
        if running.used.is_none() && running.begun.elapsed() < self.trial {
            if running.is_deaf() || running.ended().is_some() {
                return self.lost(batches).map_err(SinkError::Retry);
            }
            batches.wait(LOOK_EVERY);
            return Ok(());
        }
        match running.write_some(&self.cursor.gather(batches)) {
            Ok(Some(written)) => {
                running.used.get_or_insert_with(Instant::now);
                self.cursor.advance(batches, written);
                Ok(())
            }
            Ok(None) => {
                running.wait_writable(SLICE);
                // One of its own children may still have the pipe.
                match running.ended() {
                    None => Ok(()),
                    Some(_) => self.lost(batches).map_err(SinkError::Retry),
                }
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PIPE) => {
                self.lost(batches).map_err(SinkError::Retry)
            }
            Err(error) => Err(SinkError::Retry(error)),
        }
    }

    /// Ends the command by force. `goes_on` says for how long it is waited for.
    fn kill(&mut self, patience: Duration, goes_on: impl FnMut(Duration) -> bool) {
        let (Some(mut running), Some(logger)) = (self.running.take(), &self.logger) else {
            return;
        };
        let name = &self.name;
        running.close_stdin();
        let had_ended = running.ended().is_some();
        running.signal(Signal::TERM);
        let ended = running.wait(patience, name, logger, goes_on);
        running.finish_stderr(name, logger);
        let who = match had_ended {
            true => "what the command of the sink has started, and left behind,",
            false => "the command of the sink",
        };
        let how = match ended {
            _ if running.is_left() => format!("SIGTERM, and SIGKILL after {patience:?}"),
            Some(status) if !had_ended => format!("SIGTERM: it has ended with {status}"),
            _ => "SIGTERM".to_owned(),
        };
        let text = format!("{name}: {who} did not end in time, and got {how}");
        logger.log(Level::Warn, text);
    }
}

impl Sink for Exec {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn delivered_means(&self) -> String {
        "the pipe to the command took the message's last byte: it arrives at most once, and up to \
         64 KiB are lost if the command dies"
            .to_owned()
    }

    fn resources(&self) -> Resources {
        Exec::RESOURCES
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.logger.get_or_insert_with(|| batches.logger().clone());
        while batches.first().is_some() {
            self.write_once(batches)?;
            batches.set_on_trial(self.is_on_trial());
            // A look at the deadline, and whether the sink is to be looked after.
            if batches.first().is_some() && !batches.more(WINDOW, Duration::ZERO) {
                break;
            }
        }
        Ok(())
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.logger.get_or_insert_with(|| batches.logger().clone());
        batches.set_on_trial(self.is_on_trial());
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.log_stderr(&self.name, batches.logger());
        match running.is_deaf() || running.ended().is_some() {
            true => self.lost(batches).map_err(SinkError::Retry),
            false => Ok(()),
        }
    }

    fn finish(&mut self, batches: &mut Batches<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.close_stdin();
        let (name, logger) = (self.name.clone(), batches.logger().clone());
        let patience = self.stop_timeout;
        let ended = running.wait(patience, &name, &logger, |wait| batches.wait(wait));
        let is_left = running.is_left();
        if let Some(status) = ended {
            running.finish_stderr(&name, &logger);
            if !status.success() {
                let text = format!("the command of the sink {name} has ended with {status}");
                logger.log(Level::Warn, text);
            }
        }
        match is_left {
            false => self.running = None,
            true if batches.is_timed_out() => self.kill(LATE_PATIENCE, sleep),
            true => self.kill(TERM_PATIENCE, |wait| batches.wait(wait)),
        }
    }

    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        self.running.is_some() && self.cursor.is_inside_message(batches)
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.kill(LATE_PATIENCE, sleep);
    }
}

fn sleep(wait: Duration) -> bool {
    thread::sleep(wait);
    true
}
