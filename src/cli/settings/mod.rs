//! What the command line means: every value read, in its range, and none against another.

mod fields;
mod flags;

use std::ffi::OsString;

use drainline::ConfigError;

use super::command::{self, Parsed};
use super::flag::{self, Flag};
use super::help::Page;
use super::usage::UsageError;

pub(crate) use fields::Settings;
pub(super) use flags::flags;

/// Reads a command line, the program's name first, as [`std::env::args_os`] gives it.
///
/// A name in `--listen` is resolved here, which may take as long as the system's resolver does.
///
/// # Errors
/// The first thing that is wrong, in one line, with its exit code. Nothing has been started.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<Settings>, UsageError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut parsed = command::parse(&PAGE, &flags(), args.iter().cloned())?;
    if let Parsed::Run(settings) = &mut parsed {
        settings.typed = command::typed(&PAGE, &flags(), args);
        let checked = settings.builder().check_settings();
        checked.map_err(|error| settings.in_flags(&error))?;
        settings.check_own()?;
    }
    Ok(parsed)
}

impl Settings {
    /// What the library refuses, in the words of the command line: a setting is a flag, with its
    /// value as it was typed, or as its default could be.
    pub(super) fn in_flags(&self, error: &ConfigError) -> UsageError {
        let flags = flags();
        let typed = |setting: &str, value: &str| {
            let flag = flags.iter().find(|flag| flag.setting() == setting);
            let typed = flag.and_then(|flag| match self.typed.get(flag.name) {
                Some(typed) => Some(typed.clone()),
                None => flag.value()?.print(self),
            });
            typed.unwrap_or_else(|| value.to_owned())
        };
        let name = flag::of_setting(error.setting);
        let value = typed(error.setting, &error.value);
        let Some(other) = &error.contradicts else {
            return UsageError::bad_value(&name, &value, &error.expected);
        };
        UsageError::contradiction(&format!(
            "invalid value '{value}' for {name}: expected {} {} ({}), {}",
            error.expected,
            flag::of_setting(other.setting),
            typed(other.setting, &other.value),
            other.why
        ))
    }

    /// Every flag that decides how the server works, with its value as it can be typed: names
    /// resolved, units in full. Left out are `--log-level` and `--port-file` where they were not
    /// given.
    pub(crate) fn effective(&self) -> Vec<(String, String)> {
        let print = |flag: Flag<Settings>| {
            let value = flag.value()?.print(self)?;
            Some((flag.long(), value))
        };
        flags().into_iter().filter_map(print).collect()
    }
}

/// What the helps say beside the flags.
pub(super) const PAGE: Page = Page {
    name: "drainline",
    title: "a TCP message server that cannot leak",
    about: "A TCP message server that cannot leak: a thread per connection, limited in threads, \
            memory and descriptors, with a report that accounts for every message",
    usage: "drainline [FLAG VALUE]...",
    after: AFTER,
    short_after: "Commands: drainline load, verify, lab, plan (each has a -h)\n",
};

/// The end of the long help, in lines that are not wrapped.
pub(super) const AFTER: &str = "\
Durations are written as 500ms, 30s or 1m30s, sizes as 64KiB (1,024 bytes each) or 64KB (1,000).

Signals:
  SIGTERM, SIGINT  deliver the messages that have arrived, print the report and exit; a second
                   signal exits at once (within a second of the first it is the same request)
  SIGHUP           reopens the file of --sink file:PATH; without such a file, drainline stops when
                   the terminal that it was started on closes, unless it was started with nohup
  SIGUSR1          prints every connection with its state to stderr, in the form of --report

Exit codes:
  0      drainline lost nothing. Data that a peer framed wrongly, left incomplete, reset, or lost
         by a timeout of its own is in the report, by reason; drainline did not lose it
  1      an address or a file could not be opened, or the sink failed for good
  2      a value cannot be read or is out of range; nothing was started
  3      drainline ended in order, but lost something: messages dropped or truncated, connections
         ended by --send-timeout or the shutdown, or clients rejected with unread bytes. The report
         says what
  4      the shutdown took longer than --drain-timeout
  78     values contradict each other, or exceed the system's limits; nothing was started
  128+N  ended by a second signal N

Commands, each with its own --help:
  drainline load ADDRESS  sends messages to a server, at the rate and in the number you ask for
  drainline verify FILE   reports which of those messages are missing or damaged in a sink's output
  drainline lab           shows the leak, and compares the remedies under the same load
  drainline plan          finds the settings for your rate, your sink and its longest stall

To try it, in two terminals:
  drainline
  echo hello | ncat --send-only 127.0.0.1 5140
  logger --server 127.0.0.1 --port 5140 --tcp hello
";
