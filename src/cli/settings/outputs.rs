//! The settings of one output, a row each, as an `[[output]]` table of the configuration file has
//! them, and as the options of a URL. What is not set there is as for every output.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use drainline::ingest::{Output, OutputFraming, Sink as IngestSink, message_overhead_bytes};
use drainline::ranges;

use super::envelope::{EnvelopeKind, EnvelopeText};
use super::origin::{Named, Origin, Origins};
use crate::cli::document::Place;
use crate::cli::files;
use crate::cli::flag::{Field, Flag, Setting, Takes, field};
use crate::cli::hidden::HIDDEN;
#[cfg(test)]
use crate::cli::kinds::cases;
use crate::cli::kinds::{Kind, NotAccepted, TrueOrFalse, choice, or, quoted, size, unset};
use crate::cli::outputs::option::GROUP;
use crate::cli::outputs::{self, Common, Destination, Entry, Read, SCHEMES};
use crate::cli::units;
use crate::cli::usage::{UsageError, nearest};
use crate::cli::values::{self, Name};

/// The row whose value every table has.
pub(super) const SINK: &str = "sink";
pub(super) const NAME: &str = "name";
pub(super) const REQUIRED: &str = "required";
const FRAMING: &str = "framing";
/// The row that only an output has that is not required.
const BUFFER_BYTES: &str = "buffer-bytes";

/// The flag that is a row for all outputs.
pub(super) fn common_flag(row: &str) -> Option<&'static str> {
    match row {
        "framing" => Some("output-framing"),
        "terminal-escape" => Some("terminal-escape"),
        _ => None,
    }
}

/// One output. [`Default`] stands for what a table leaves out, which no table does with the sink.
#[derive(Clone, Debug)]
pub(crate) struct OutputSettings {
    pub(crate) name: Option<String>,
    pub(crate) destination: Destination,
    pub(super) required: bool,
    framing: Option<OutputFraming>,
    envelope: EnvelopeText,
    buffer_bytes: usize,
    /// The rows that are set by options of the URL.
    in_url: Vec<&'static str>,
    pub(super) given: Origins,
    /// Where its table begins; `None` for an output of `sink`.
    pub(super) table: Option<Place>,
}

impl Default for OutputSettings {
    fn default() -> Self {
        Destination::default().into()
    }
}

impl From<Destination> for OutputSettings {
    fn from(destination: Destination) -> Self {
        OutputSettings {
            name: None,
            destination,
            required: true,
            framing: None,
            envelope: EnvelopeText::default(),
            buffer_bytes: Output::DEFAULT_BUFFER_BYTES,
            in_url: Vec::new(),
            given: Origins::default(),
            table: None,
        }
    }
}

impl OutputSettings {
    /// Every row of its table: those of any output, and those of its scheme.
    pub(super) fn rows(&self) -> Vec<Flag<OutputSettings>> {
        common_rows()
            .into_iter()
            .chain(rows_of(self.destination.entry()))
            .collect()
    }

    /// How its messages are delimited, if in a way of its own.
    #[cfg(test)]
    pub(crate) fn framing(&self) -> Option<OutputFraming> {
        self.framing
    }

    /// Whether an option of its URL sets a row.
    pub(super) fn is_in_url(&self, row: &str) -> bool {
        self.in_url.contains(&row)
    }

    /// What its table or its URL sets.
    fn given_rows(&self) -> Vec<&'static str> {
        let names = self.rows().into_iter().map(|row| row.name);
        names.filter(|row| self.has(row)).collect()
    }

    /// Whether its table or its URL sets a row.
    pub(super) fn has(&self, row: &str) -> bool {
        self.given.origin(row).is_some()
    }

    /// What the output is called: its name, or else its URL, of which a command has no arguments.
    pub(crate) fn label(&self) -> String {
        let name = self.name.clone();
        name.unwrap_or_else(|| self.place())
    }

    /// Where its messages go, for the log.
    pub(crate) fn place(&self) -> String {
        without_controls(&self.destination.label())
    }

    /// The output of a sink that is open.
    pub(crate) fn of(&self, sink: impl IngestSink) -> Output {
        let output = Output::new(self.label(), sink)
            .required(self.required)
            .envelope(self.envelope.envelope.clone());
        let output = match self.name {
            Some(_) => output,
            None => output.unnamed(),
        };
        let output = match self.required {
            true => output,
            false => output.buffer_bytes(self.buffer_bytes),
        };
        match self.framing {
            Some(framing) => output.framing(framing),
            None => output,
        }
    }

    /// The variables of the environment that its secrets are read from.
    pub(super) fn secret_variables(&self) -> impl Iterator<Item = String> {
        let of_row = |row: Flag<OutputSettings>| {
            let setting = row.value()?;
            setting.names_secret().then(|| setting.print(self))?
        };
        self.rows().into_iter().filter_map(of_row)
    }

    /// What a row is called where it was given; an option of a URL is called as the URL is.
    pub(super) fn named(&self, row: &str) -> Named {
        let is_own = self.has(row) && !self.is_in_url(row);
        self.given.named(&self.row(if is_own { row } else { SINK }))
    }

    /// What named the place.
    pub(crate) fn named_sink(&self) -> Named {
        self.named(SINK)
    }

    /// What is told of an option behind a `?` that is a part of the place, as any text is there.
    pub(crate) fn literal_option(&self) -> Option<String> {
        let url = self.destination.to_string();
        // Options that were read are not in what is printed.
        let literal = url
            .split_once('?')
            .filter(|(place, _)| !place.contains("://"));
        let mut keys = literal
            .into_iter()
            .flat_map(|(_, rest)| rest.split('&'))
            .filter_map(|option| option.split_once('='));
        let rows = self.rows();
        let (key, _) = keys.find(|(key, _)| rows.iter().any(|row| row.key() == *key))?;
        let scheme = url.split(':').next().unwrap_or_default();
        Some(format!(
            "takes ?{key}= as it stands: {key} of {scheme}: is a key of an [[output]]"
        ))
    }

    /// What can be, and is hardly meant.
    pub(crate) fn notes(&self, common: Common<'_>) -> Vec<String> {
        let given = &self.given_rows()[..];
        let mut notes = self.destination.notes(Common { given, ..common });
        let literal = self.literal_option();
        let place = self.destination.label();
        notes.extend(literal.map(|what| format!("{} {place} {what}", common.named)));
        notes
    }

    /// What can be printed as it is: without secrets, and what goes with them.
    pub(super) fn without_secrets(&self) -> OutputSettings {
        OutputSettings {
            destination: self.destination.without_secrets(),
            ..self.clone()
        }
    }

    /// Whether a row of the output has no effect.
    pub(super) fn is_idle(&self, row: &str) -> bool {
        let is_unframed = !self.destination.entry().is_framed && row == FRAMING;
        let is_of_place = !self.has(row) && self.destination.is_idle(row);
        self.required && row == BUFFER_BYTES || is_unframed || is_of_place
    }

    /// What set a row, for `check`.
    pub(super) fn told(&self, row: &Flag<OutputSettings>) -> String {
        match self.is_before_host(row) || self.is_in_url(row.name) {
            true => self.given.told(&self.row(SINK)),
            false => self.given.told(row),
        }
    }

    /// Whether the URL has the value without a key: a user, and a password.
    fn is_before_host(&self, row: &Flag<OutputSettings>) -> bool {
        let print = |output: &OutputSettings| row.value().and_then(|value| value.print(output));
        let default = self.destination.entry().default().map(OutputSettings::from);
        self.given.origin(row.name).is_none()
            && default.is_some_and(|default| print(&default) != print(self))
    }

    /// The value of a row, as a contradiction tells it: with the key, where it stands in a URL. A
    /// user stands there, too, without a key; what is lacking is told of the URL.
    pub(super) fn words(&self, row: &str) -> String {
        let row = self.row(row);
        let is_own = self.has(row.name) && !self.is_in_url(row.name);
        let words = self.given.value(&row, self);
        match is_own || row.name == SINK {
            true => words,
            false if words.is_empty() => self.destination.to_string(),
            false => format!("{}={words}", row.key()),
        }
    }

    fn row(&self, name: &str) -> Flag<OutputSettings> {
        let mut rows = self.rows().into_iter();
        rows.find(|row| row.name == name)
            .expect("the name of a row")
    }

    /// Books what the URL sets, which came from `origin`.
    pub(super) fn book_url(&mut self, origin: &Origin) {
        let url = self.destination.to_string();
        self.given.set(SINK, origin.clone(), url);
        for row in self.rows() {
            if self.is_in_url(row.name) {
                let words = row.value().and_then(|value| value.print(self));
                self.given
                    .set(row.name, origin.clone(), words.unwrap_or_default());
            }
        }
    }

    /// Whether the output can be had beside others, and told apart, and its options go together.
    pub(super) fn check(&self, others: &[&OutputSettings]) -> Result<(), UsageError> {
        if let Some(found) = self.destination.contradiction() {
            return Err(self.contradicts(found.row, &found.expected));
        }
        let given = self.given_rows().into_iter();
        let mut lacking = given.filter_map(|row| Some((row, self.destination.lacks(row)?)));
        if let Some((row, expected)) = lacking.next() {
            return Err(self.contradicts(row, expected));
        }
        if others.iter().any(|other| other.label() == self.label()) {
            return Err(match self.name {
                Some(_) => self.contradicts(NAME, "a name that no other output has"),
                None => {
                    let label = self.label();
                    let expected =
                        format!("a name beside it, since another output is called {label}, too");
                    self.contradicts(SINK, &expected)
                }
            });
        }
        if let Some(row) = others.iter().find_map(|other| self.same_place(other)) {
            return Err(self.contradicts(row, "each file once, and stdout once"));
        }
        if !self.destination.entry().is_framed && self.has(FRAMING) {
            let expected =
                "a sink of one stream, such as file:PATH: each message is by itself here";
            return Err(self.contradicts(FRAMING, expected));
        }
        if self.required && self.has(BUFFER_BYTES) {
            let expected = "required = false beside it: what is required has no buffer of its own";
            return Err(self.contradicts(BUFFER_BYTES, expected));
        }
        Ok(())
    }

    /// Whether its buffer, where it has one, holds a longest message.
    pub(super) fn check_holds(&self, longest: usize) -> Result<(), UsageError> {
        let least = longest.saturating_add(message_overhead_bytes(longest));
        match self.required || self.buffer_bytes >= least {
            true => Ok(()),
            false => {
                let longest = units::print_size(longest);
                let expected = format!(
                    "at least {least} bytes, or a message of max_message ({longest}) would never fit"
                );
                Err(self.contradicts(BUFFER_BYTES, &expected))
            }
        }
    }

    /// The value of a row does not go with the rest.
    pub(super) fn contradicts(&self, row: &str, expected: &str) -> UsageError {
        let (mut named, words) = (self.named(row), self.words(row));
        let is_own = row == SINK || self.has(row) && !self.is_in_url(row);
        if !is_own && words != self.destination.to_string() {
            // Of several URLs on a command line, each is called --sink.
            named.name += &format!(" {}", self.place());
        }
        named.contradiction(&words, expected)
    }

    /// The files that it writes, and the rows that name them.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let file = self.destination.file().map(|file| (file, SINK));
        file.into_iter().chain(self.destination.set_aside())
    }

    /// The row that names a place where messages of both would be mixed up.
    fn same_place(&self, other: &OutputSettings) -> Option<&'static str> {
        let is_others = |file: &Path| other.files().any(|(other, _)| files::replaces(file, other));
        let stdout = OutputSettings::default().destination.to_string();
        let is_stdout = |it: &OutputSettings| it.destination.to_string() == stdout;
        match is_stdout(self) && is_stdout(other) {
            true => Some(SINK),
            false => self
                .files()
                .find_map(|(file, row)| is_others(file).then_some(row)),
        }
    }

    #[cfg(test)]
    pub(super) fn forget_origins(&mut self) {
        self.given = Origins::default();
        self.table = None;
        self.in_url.clear();
    }
}

/// A path may have characters that would be a line of their own in the log.
fn without_controls(url: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    url.chars().map(shown).collect()
}

/// The rows of a scheme.
pub(crate) fn rows_of(entry: &Entry) -> impl Iterator<Item = Flag<OutputSettings>> {
    entry.rows().into_iter().filter_map(|row| {
        row.within(
            |output: &OutputSettings| Some(&output.destination),
            |output| Some(&mut output.destination),
        )
    })
}

/// The keys of a table with this sink.
pub(super) fn rows_at(sink: &str) -> Option<Vec<Flag<OutputSettings>>> {
    let read = outputs::read(sink.as_ref()).ok()?;
    Some(OutputSettings::from(read.destination).rows())
}

/// The keys of any `[[output]]` table, whatever its scheme is.
pub(super) fn all_rows() -> Vec<Flag<OutputSettings>> {
    let of_schemes = SCHEMES.iter().flat_map(rows_of);
    common_rows().into_iter().chain(of_schemes).collect()
}

/// The keys of every `[[output]]` table.
pub(crate) fn common_rows() -> Vec<Flag<OutputSettings>> {
    vec![
        Flag {
            name: SINK,
            group: GROUP,
            purpose: "where its messages go",
            help: "Where the output's messages go, as one value of sink. Every table has it. The \
                   options of the URL are keys of the table, too, and each is given once.",
            takes: Takes::Value(Box::new(Field {
                kind: Sink,
                get: |output: &OutputSettings| output.clone(),
                set: |output: &mut OutputSettings, read| *output = read,
            })),
        },
        Flag {
            name: NAME,
            group: GROUP,
            purpose: "name of the output",
            help: "Names the output in the log, the ledger and the first lines at start. Without a name \
                   it is called by its URL, and a command without its arguments.",
            takes: field!(unset(Name), OutputSettings.name),
        },
        Flag {
            name: REQUIRED,
            group: GROUP,
            purpose: "whether messages wait for it",
            help: "Whether a message is delivered only when this output has it, too, so that a slow or \
                   dead one slows the senders down. One that is not required is best effort: it has a \
                   buffer of its own, and what does not fit is dropped there and counted in its own row. \
                   At the end it has the drain's time while it is given answers; without one for 10s, \
                   or for 1s while it fails, it is given up.",
            takes: field!(TrueOrFalse, OutputSettings.required),
        },
        Flag {
            name: FRAMING,
            group: GROUP,
            purpose: "how it delimits messages",
            help: "As --output-framing, for this output.",
            takes: field!(
                unset(choice(values::OUTPUT_FRAMING)),
                OutputSettings.framing
            ),
        },
        Flag {
            name: "envelope",
            group: GROUP,
            purpose: "what it writes for each message",
            help: "What the output writes for each message. raw: the message alone. json: an object of \
                   received (the time), listener, peer, name (of its certificate), connection and message, \
                   or message_base64 where that is not UTF-8. Anything else is a text with fields: \
                   {message}, {received}, {listener}, {peer}, {name}, {connection}, and {{ and }} for \
                   braces. Costs a copy of each message, and up to 4 MiB.",
            takes: field!(EnvelopeKind, OutputSettings.envelope),
        },
        Flag {
            name: BUFFER_BYTES,
            group: GROUP,
            purpose: "most memory of its buffer",
            help: "Where the output is not required, lets this much wait for it.",
            takes: field!(
                size(ranges::BUFFER_BYTES, "16MiB"),
                OutputSettings.buffer_bytes
            ),
        },
    ]
}

/// A URL of an output with its options.
struct Sink;

impl Kind for Sink {
    type Value = OutputSettings;

    fn read(&self, typed: &str) -> Result<OutputSettings, NotAccepted> {
        self.read_os(typed.as_ref())
    }

    fn read_os(&self, typed: &OsStr) -> Result<OutputSettings, NotAccepted> {
        if typed.is_empty() {
            return Err(NotAccepted::default());
        }
        let Read {
            destination,
            options,
        } = outputs::read(typed)?;
        let mut output = OutputSettings::from(destination);
        let rows = output.rows();
        for (key, value) in options {
            let row = rows.iter().find(|row| row.key() == key && row.name != SINK);
            let Some((row, setting)) = row.and_then(|row| Some((row, row.value()?))) else {
                return Err(unknown_option(&key, &output, &rows));
            };
            let shown = match setting.is_secret() {
                true => HIDDEN.into(),
                false => value.to_string_lossy(),
            };
            let part = OsString::from(format!("{key}={shown}"));
            let is_of_user = setting.is_secret() && setting.print(&output).is_some();
            if is_of_user || output.is_in_url(row.name) {
                return Err(NotAccepted {
                    part: Some(part),
                    expected: Some("each option once".to_owned()),
                    ..NotAccepted::default()
                });
            }
            setting
                .apply(&mut output, &value)
                .map_err(|refused| NotAccepted {
                    part: Some(part),
                    expected: Some(refused.told(|| setting.expected())),
                    why: None,
                })?;
            output.in_url.push(row.name);
        }
        Ok(output)
    }

    fn print(&self, value: &OutputSettings) -> Option<String> {
        Some(value.destination.to_string())
    }

    fn expected(&self) -> String {
        let built = SCHEMES.iter().filter(|entry| entry.is_built());
        let urls: Vec<String> = built.flat_map(Entry::urls).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        or(&urls)
    }

    fn placeholder(&self) -> String {
        "URL".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &[
                "stdout",
                "null",
                "file:/tmp/out",
                "file:/tmp/a?b%c",
                "file:///tmp/out",
                "stdout?framing=nul&name=a",
            ],
            &[
                "/tmp/out",
                "kafka",
                "stdout:",
                "nullx",
                "STDOUT",
                "tcpx://127.0.0.1:1",
            ],
        )
    }
}

/// What to do about an option that there is not.
fn unknown_option(
    key: &str,
    output: &OutputSettings,
    rows: &[Flag<OutputSettings>],
) -> NotAccepted {
    let keys: Vec<String> = rows
        .iter()
        .filter(|row| row.name != SINK)
        .map(Flag::key)
        .collect();
    let what = match nearest(key, &keys) {
        Some(key) => format!("did you mean {key}?"),
        None => keys.join(", "),
    };
    NotAccepted {
        part: Some(key.into()),
        expected: Some(format!("an option of {}: {what}", output.destination)),
        ..NotAccepted::default()
    }
}

/// Several of them. Whatever else could separate them may stand in a path.
pub(super) struct Sinks;

impl Kind for Sinks {
    type Value = Vec<OutputSettings>;

    fn read(&self, typed: &str) -> Result<Vec<OutputSettings>, NotAccepted> {
        self.read_os(typed.as_ref())
    }

    fn read_os(&self, typed: &OsStr) -> Result<Vec<OutputSettings>, NotAccepted> {
        let urls = typed.as_bytes().split(|&byte| byte == 0);
        urls.map(|url| Sink.read_os(OsStr::from_bytes(url)))
            .collect()
    }

    fn print(&self, value: &Vec<OutputSettings>) -> Option<String> {
        let urls = value.iter().map(|output| output.destination.to_string());
        Some(urls.collect::<Vec<_>>().join("\0"))
    }

    fn print_in_file(&self, value: &Vec<OutputSettings>) -> Option<String> {
        let urls: Vec<String> = value
            .iter()
            .map(|output| quoted(&output.destination.to_string()))
            .collect();
        Some(match &urls[..] {
            [url] => url.clone(),
            urls => format!("[{}]", urls.join(", ")),
        })
    }

    fn expected(&self) -> String {
        Sink.expected()
    }

    fn placeholder(&self) -> String {
        Sink.placeholder()
    }

    fn is_list(&self) -> bool {
        true
    }

    fn separator(&self) -> &'static str {
        "\0"
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        Sink.cases()
    }
}

/// How wide the end of the long help is, which nothing wraps.
const WIDTH: usize = 100;

/// Every URL and every option, for the end of the long help.
pub(super) fn help() -> String {
    let mut text = "\nOutputs, by the URL of --sink. Options stand behind it, as in \
                    stdout?framing=nul&name=all, with\n%26 for & and %25 for % in a value, or are \
                    keys of an [[output]] in the file.\n  any output\n"
        .to_owned();
    for row in common_rows().iter().filter(|row| row.name != SINK) {
        text += &option(row, &OutputSettings::default());
    }
    for entry in SCHEMES {
        let what = match entry.is_built() {
            true => entry.help.to_owned(),
            false => format!("Takes {}.", entry.help),
        };
        let indent = textwrap::Options::new(WIDTH)
            .initial_indent("  ")
            .subsequent_indent("      ");
        text += &textwrap::fill(&format!("{}: {what}", entry.urls().join(", ")), indent);
        text += "\n";
        if let Some(default) = entry.default().map(OutputSettings::from) {
            for row in rows_of(entry) {
                text += &option(&row, &default);
            }
        }
    }
    text
}

/// A line of the help.
fn option(row: &Flag<OutputSettings>, default: &OutputSettings) -> String {
    let placeholder = row.value().map_or_else(String::new, Setting::placeholder);
    let default = row.value().and_then(|value| value.print(default));
    let default = default.map_or_else(String::new, |default| format!(" [{default}]"));
    let option = format!("{}={placeholder}", row.key());
    format!("      {option:32} {}{default}\n", row.purpose)
}
