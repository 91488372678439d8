//! What the command line, the environment and the configuration file mean together: every value
//! read, in its range, and none against another.
//!
//! `flags` are the rows, `listeners` those of one listener, `outputs` those of one output, with its
//! `envelope`; `routes` holds both against each other. `fields` are what the rows set, `tls` those
//! of TLS, which `tls_listeners` holds against the listeners. `file` reads a configuration file by
//! the rows, each value in the `words` of a flag. `origin` keeps what gave a value, for errors and
//! for what `print` says of the settings.

mod envelope;
mod fields;
mod file;
mod flags;
mod listeners;
mod origin;
mod outputs;
mod print;
mod routes;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_listeners;
mod words;

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::ArgMatches;
use drainline::ConfigError;

use super::command::{self, Parsed};
use super::document::Document;
use super::flag::Flag;
use super::help::Page;
use super::piped;
use super::usage::UsageError;

pub(super) use fields::Given;
pub(crate) use fields::Settings;
pub(super) use flags::flags;
#[cfg(test)]
pub(super) use listeners::rows as listener_rows;
pub(crate) use origin::Named;
use origin::Origin;
pub(crate) use outputs::OutputSettings;
pub(super) use print::template;

/// The flag that names the configuration file.
const CONFIG: &str = "config";

/// Reads a command line, the program's name first, as [`std::env::args_os`] gives it, and the
/// configuration file that it names. The environment sets nothing.
///
/// # Errors
/// As [`parse_in`].
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<Settings>, UsageError> {
    parse_in(args, |_| None)
}

/// Reads a command line, the environment, by the name of a variable, and the configuration file. A
/// flag stands above a variable, and a variable above the file.
///
/// A name in `--listen` is resolved here, which may take as long as the system's resolver does.
///
/// # Errors
/// The first thing that is wrong, in one line, with its exit code. Nothing has been started.
pub(crate) fn parse_in(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Parsed<Settings>, UsageError> {
    let flags = flags();
    let matches = match command::find(&PAGE, &flags, args)? {
        Parsed::Run(matches) => matches,
        Parsed::Print(text) => return Ok(Parsed::Print(text)),
    };
    let mut settings = Settings::default();
    for flag in flags.iter().filter(|flag| flag.name == CONFIG) {
        set(flag, &mut settings, &matches, &environment)?;
    }
    if let Some(typed) = settings.config_file.take() {
        let path = piped::path(&typed);
        let document = Document::read(path, &settings.named(CONFIG).to_string())?;
        file::apply(&document, &mut settings)?;
        settings.config_stamp = document.stamp();
        settings.config_file = Some(path.to_owned());
    }
    for flag in flags.iter().filter(|flag| flag.name != CONFIG) {
        set(flag, &mut settings, &matches, &environment)?;
    }
    settings.settle_listeners();
    settings.settle_outputs();
    settings.check_own()?;
    #[cfg(feature = "tls")]
    settings.check_tls()?;
    let checked = settings.builder_without_files().check_settings();
    checked.map_err(|error| settings.explain(&error))?;
    Ok(Parsed::Run(Box::new(settings)))
}

/// Sets what the environment and the command line say of a flag.
fn set(
    flag: &Flag<Settings>,
    settings: &mut Settings,
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<(), UsageError> {
    if let Some(value) = flag.value() {
        // Where a variable is set to nothing, nothing is meant: `DRAINLINE_SINK=${SINK:-}`.
        let words = environment(&flag.variable()).filter(|words| !words.is_empty());
        if let Some(words) = words {
            value.apply(settings, &words).map_err(|refused| {
                Named::new(flag, Some(&Origin::Variable)).refuses(value, &words, refused)
            })?;
            settings.given.set(
                flag.name,
                Origin::Variable,
                words.to_string_lossy().into_owned(),
            );
        }
    }
    flag.apply(settings, matches)?;
    if let Some(words) = flag.typed(matches) {
        settings.given.set(
            flag.name,
            Origin::Flag,
            words.to_string_lossy().into_owned(),
        );
    }
    Ok(())
}

impl Settings {
    /// The listeners of the file give way to those of a variable or a flag, and the default to
    /// those of the file.
    fn settle_listeners(&mut self) {
        match self.given.origin("listen") {
            Some(Origin::Variable | Origin::Flag) => {
                self.unused_tables = std::mem::take(&mut self.listeners).len();
            }
            None if !self.listeners.is_empty() => self.listen.clear(),
            _ => {}
        }
    }

    /// The same of outputs. Each of a flag, a variable or a key knows where it comes from.
    fn settle_outputs(&mut self) {
        let origin = self.given.origin("sink").cloned();
        match &origin {
            Some(Origin::Variable | Origin::Flag) => {
                self.unused_outputs = std::mem::take(&mut self.outputs).len();
            }
            None if !self.outputs.is_empty() => self.sinks.clear(),
            _ => {}
        }
        if let Some(origin) = origin {
            for output in &mut self.sinks {
                output.book_url(&origin);
            }
        }
    }

    /// What the library refuses, in the words of whoever gave the values: a setting is a flag, a
    /// variable or a key, with its value as it was given, or as its default could be.
    pub(super) fn explain(&self, error: &ConfigError) -> UsageError {
        let flags = flags();
        let Some((named, value)) = self.refused(error, &flags) else {
            return UsageError::contradiction(&error.to_string());
        };
        let Some(other) = &error.contradicts else {
            return named.invalid(&value, &error.expected);
        };
        let (name, other_value) = match flags.iter().find(|flag| flag.setting() == other.setting) {
            Some(flag) => {
                let name = self.given.named_beside(flag, &named);
                let line = name.place.map(|place| format!(", {}", place.line()));
                let value = match self.given.value(flag, self) {
                    // A word does not say what was compared.
                    word if word == "auto" => format!("auto: {}", other.value),
                    value => value,
                };
                (name.name, value + &line.unwrap_or_default())
            }
            None => (other.setting.to_owned(), other.value.clone()),
        };
        let expected = format!("{} {name} ({other_value}), {}", error.expected, other.why);
        named.contradiction(&value, &expected)
    }

    /// The setting that the library refuses, the server's or a listener's, and its value.
    fn refused(&self, error: &ConfigError, flags: &[Flag<Settings>]) -> Option<(Named, String)> {
        let Some(index) = error.listener_index else {
            let flag = flags.iter().find(|flag| flag.setting() == error.setting)?;
            return Some((self.given.named(flag), self.given.value(flag, self)));
        };
        let rows = listeners::rows();
        let row = rows.iter().find(|row| row.setting() == error.setting)?;
        let listeners = self.all_listeners();
        let listener = listeners.get(index).filter(|it| it.has(row.name))?;
        Some((
            listener.given.named(row),
            listener.given.value(row, listener),
        ))
    }
}

/// What the helps say beside the flags.
pub(super) static PAGE: LazyLock<Page> = LazyLock::new(|| Page {
    name: "drainline",
    title: "a TCP message server that cannot leak",
    about: "A TCP message server that cannot leak: a thread per connection, limited in threads, \
            memory and descriptors, with a report that accounts for every message",
    usage: "drainline [FLAG VALUE]...",
    after: &ALL_AFTER,
    short_after: "Commands: drainline check, config, load, verify, lab, plan (each has a -h)\n",
});

static ALL_AFTER: LazyLock<String> = LazyLock::new(|| AFTER.to_owned() + &outputs::help());

/// The end of the long help, in lines that are not wrapped.
pub(super) const AFTER: &str = "\
Durations are written as 500ms, 30s or 1m30s, sizes as 64KiB (1,024 bytes each) or 64KB (1,000).

Signals:
  SIGTERM, SIGINT  deliver the messages that have arrived, print the report and exit; a second
                   signal exits at once (within a second of the first it is the same request)
  SIGHUP           reopens the files of outputs, connects to other servers (tcp://, tls://, unix:)
                   anew, and reads files of TLS, passwords and tokens again; without a file of an
                   output, drainline stops when the terminal that it was started on closes,
                   unless it was started with nohup
  SIGUSR1          prints every connection with its state to stderr, in the form of --report

Exit codes:
  0      drainline lost nothing. Data that a peer framed wrongly, left incomplete, reset, or lost
         by a timeout of its own is in the report, by reason; drainline did not lose it
  1      an address or a file could not be opened, or the sink failed for good
  2      a value on the command line cannot be read or is out of range; nothing was started
  3      drainline ended in time, but lost something: messages dropped or truncated, connections
         ended by --send-timeout, or by the shutdown inside a message or with unread bytes, or
         clients rejected with unread bytes. The report says what
  4      the shutdown needed more time than --drain-timeout, and cut something: a connection, or
         what the sink had not taken (messages dropped as shutdown). Whatever else was lost, it is 4
  78     values contradict each other, or exceed the system's limits, or a value in the
         environment or the file is invalid; nothing was started
  128+N  ended by a second signal N

Settings: each flag with a value is also a variable of the environment (DRAINLINE_SEND_TIMEOUT) and
a key of the file of --config (send_timeout). A flag stands above a variable, a variable above the
file. An empty variable counts as unset, and so does one that is no setting. Where several values
may be given, they have commas between (but not those of --sink), or the flag is repeated, or the
file has an array.

Commands, each with its own --help:
  drainline check         the same as --check: checks and prints the settings, and starts nothing
  drainline config        prints a configuration file with every setting and its default
  drainline load ADDRESS  sends messages to a server, at the rate and in the number you ask for
  drainline verify FILE   reports which of those messages are missing or damaged in a sink's output
  drainline lab           shows the leak, and compares the remedies under the same load
  drainline plan          finds the settings for your rate, your sink and its longest stall

To try it, in two terminals:
  drainline
  echo hello | ncat --send-only 127.0.0.1 5140
  logger --server 127.0.0.1 --port 5140 --tcp hello
";
