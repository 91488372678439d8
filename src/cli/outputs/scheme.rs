//! What a scheme is: one way to put messages somewhere, by its URLs.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Debug, Display};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::{Batches, Resources, Sink, SinkError};
use log::Level;

use super::option::Contradiction;
use super::url;
use crate::cli::flag::Flag;
use crate::cli::kinds::NotAccepted;
use crate::cli::stderr::Stderr;
use crate::cli::units;

/// One form of a scheme's URLs.
#[derive(Debug)]
pub(crate) struct Form {
    /// What such a URL begins with: `redis://`.
    pub(crate) prefix: &'static str,
    /// What follows, in a word: `HOST/STREAM`. Empty where nothing follows.
    pub(crate) place: &'static str,
    /// Whether `?` begins options. Otherwise the place may have any character, and options are
    /// given in an `[[output]]`.
    pub(crate) has_options: bool,
}

impl Form {
    /// Whether a user and a password may stand in it.
    fn is_of_peer(&self) -> bool {
        self.prefix.ends_with("://") && !["file://", "unix://"].contains(&self.prefix)
    }

    /// What stands behind the prefix, where `typed` is of this form.
    fn rest<'a>(&self, typed: &'a OsStr) -> Option<&'a OsStr> {
        let rest = typed.as_bytes().strip_prefix(self.prefix.as_bytes())?;
        let is_whole = rest.is_empty() || rest.starts_with(b"?");
        (!self.place.is_empty() || is_whole).then(|| OsStr::from_bytes(rest))
    }
}

/// `redis://HOST/STREAM`.
impl Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.place)
    }
}

/// What a scheme may need beside what is its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common<'a> {
    /// What gave the URL, for what is told of it: `--sink`, or a key at its place in the file.
    pub(crate) named: &'a str,
    /// Whether terminals are shown control characters escaped.
    pub(crate) terminal_escape: bool,
    /// The longest message that comes, in bytes.
    pub(crate) longest_message: usize,
    pub(crate) drain_timeout: Duration,
    /// Variables of the environment that outputs read secrets from: commands do not get them.
    pub(crate) hidden: &'a [String],
    /// The rows of the output that were given: of what nobody has asked for, little is told.
    pub(crate) given: &'a [&'static str],
}

impl Common<'_> {
    /// A row of the scheme, called `key`, takes no message of more than `most` bytes, and longer
    /// ones come, of which `fate` says what becomes of them.
    #[allow(dead_code, reason = "for schemes that have a largest message")]
    pub(crate) fn note_of_longest(
        &self,
        url: &str,
        fate: &str,
        key: &str,
        most: usize,
    ) -> Option<String> {
        let longest = self.longest_message;
        (longest > most).then(|| {
            format!(
                "{} {url} {fate} what is longer than {key} ({}): max_message is {}",
                self.named,
                units::print_size(most),
                units::print_size(longest)
            )
        })
    }

    /// An answer is waited for as long as a row of the scheme says, which is longer than a drain.
    /// Whoever makes the drain short without a word of the row has chosen what a drain gives up.
    #[allow(dead_code, reason = "for schemes that have answers")]
    pub(crate) fn note_of_drain(&self, url: &str, row: &str, wait: Duration) -> Option<String> {
        let drain = self.shorter_drain(row, wait)?;
        Some(format!(
            "{} {url} may wait for an answer for {} ({}), which is longer than drain_timeout \
             ({drain}): a drain gives it up then, and its messages are dropped, though they may have \
             arrived",
            self.named,
            units::print_duration(wait),
            row.replace('-', "_"),
        ))
    }

    /// The time of a drain, where it is shorter than what a row was given.
    pub(super) fn shorter_drain(&self, row: &str, wait: Duration) -> Option<String> {
        let is_shorter = self.given.contains(&row) && wait > self.drain_timeout;
        is_shorter.then(|| units::print_duration(self.drain_timeout))
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// What may hinder a start, in whole sentences.
    pub(crate) notes: Vec<String>,
    /// Descriptors that a start has open and this check has not.
    pub(crate) not_open: u64,
    /// What the sink takes beside that ([`Sink::resources`]).
    pub(crate) resources: Resources,
    /// What is open as in a start, as long as this lives.
    pub(crate) holds: Option<Box<dyn Any>>,
}

/// What SIGHUP does at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reopens {
    /// A file is opened by its name again.
    File,
    /// A connection is made anew.
    Connection,
}

/// What stands in for a sink where limits are counted and nothing is opened.
pub(crate) struct StandIn {
    pub(crate) is_framed: bool,
    pub(crate) resources: Resources,
}

impl Sink for StandIn {
    fn name(&self) -> String {
        String::new()
    }

    fn write(&mut self, _: &mut Batches<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn uses_output_framing(&self) -> bool {
        self.is_framed
    }

    fn resources(&self) -> Resources {
        self.resources
    }
}

/// An output that is open.
pub(crate) struct Opened {
    pub(crate) sink: Box<dyn Sink>,
    /// What the operator should know.
    pub(crate) remarks: Vec<(Level, String)>,
}

impl Opened {
    pub(crate) fn new(sink: impl Sink) -> Opened {
        Opened {
            sink: Box::new(sink),
            remarks: Vec::new(),
        }
    }
}

impl Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.sink.name();
        f.debug_struct("Opened").field("sink", &name).finish()
    }
}

/// One kind of place that messages go to: its URLs, its options, and how it is opened. The value is
/// one such place. [`Default`] is what the options of a URL without options are.
pub(crate) trait Scheme: Any + Clone + Debug + Default + Send + Sync {
    /// Its URLs.
    const FORMS: &'static [Form];
    /// What it does and costs, in whole sentences.
    const HELP: &'static str;
    /// Whether messages are delimited as the output's framing says.
    const IS_FRAMED: bool = true;

    /// Its options, as rows.
    fn rows() -> Vec<Flag<Self>> {
        Vec::new()
    }

    /// Reads what stands between the prefix of a URL and its options.
    ///
    /// # Errors
    /// It is no such place.
    fn read(form: &'static Form, place: &OsStr) -> Result<Self, NotAccepted>;

    /// The URL without its options and without secrets, as it is shown everywhere.
    fn url(&self) -> String;

    /// The same without what is not for the log, where the URL has that: what an output without a
    /// name is called.
    fn label(&self) -> String {
        self.url()
    }

    /// Options that do not go together.
    fn contradiction(&self) -> Option<Contradiction> {
        None
    }

    /// What a row, which was given, needs beside it and has not, where it has no effect without.
    fn lacks(&self, row: &str) -> Option<&'static str> {
        let _ = row;
        None
    }

    /// What can be, and is hardly meant, in whole sentences: for `check` and for the log at start.
    fn notes(&self, common: Common<'_>) -> Vec<String> {
        let _ = common;
        Vec::new()
    }

    /// Looks whether [`open`](Scheme::open) would succeed, without a trace.
    ///
    /// # Errors
    /// It would fail: what may pass.
    fn check(&self, common: Common<'_>) -> io::Result<Checked>;

    /// Opens the place.
    ///
    /// # Errors
    /// It cannot be opened now: what may pass.
    fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened>;

    /// The file that is written, where there is one.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// The file of what is refused, and the row that names it, where there is one.
    fn set_aside(&self) -> Option<(&Path, &'static str)> {
        None
    }

    /// What a reopen does there, if anything.
    fn reopens(&self) -> Option<Reopens> {
        self.file().map(|_| Reopens::File)
    }

    /// Whether a reopen reads files of secrets or of TLS again.
    fn reads_again(&self) -> bool {
        false
    }

    /// Whether the row has no effect on this place, whatever its value is.
    fn is_idle(&self, row: &str) -> bool {
        let _ = row;
        false
    }

    /// What is left where nobody is told the secrets that were typed: a place that can be had,
    /// without what goes with them, such as a user whose password is missing.
    fn without_secrets(&self) -> Self {
        self.clone()
    }
}

/// A [`Scheme`] whose type is not known.
trait AnyScheme: Any + Debug + Send + Sync {
    fn cloned(&self) -> Box<dyn AnyScheme>;
    fn url(&self) -> String;
    fn label(&self) -> String;
    fn contradiction(&self) -> Option<Contradiction>;
    fn lacks(&self, row: &str) -> Option<&'static str>;
    fn notes(&self, common: Common<'_>) -> Vec<String>;
    fn check(&self, common: Common<'_>) -> io::Result<Checked>;
    fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened>;
    fn file(&self) -> Option<&Path>;
    fn set_aside(&self) -> Option<(&Path, &'static str)>;
    fn reopens(&self) -> Option<Reopens>;
    fn reads_again(&self) -> bool;
    fn is_idle(&self, row: &str) -> bool;
    fn without_secrets(&self) -> Box<dyn AnyScheme>;
}

impl<S: Scheme> AnyScheme for S {
    fn cloned(&self) -> Box<dyn AnyScheme> {
        Box::new(self.clone())
    }

    fn url(&self) -> String {
        Scheme::url(self)
    }

    fn label(&self) -> String {
        Scheme::label(self)
    }

    fn contradiction(&self) -> Option<Contradiction> {
        Scheme::contradiction(self)
    }

    fn lacks(&self, row: &str) -> Option<&'static str> {
        Scheme::lacks(self, row)
    }

    fn notes(&self, common: Common<'_>) -> Vec<String> {
        Scheme::notes(self, common)
    }

    fn check(&self, common: Common<'_>) -> io::Result<Checked> {
        Scheme::check(self, common)
    }

    fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened> {
        Scheme::open(self, common, stderr)
    }

    fn file(&self) -> Option<&Path> {
        Scheme::file(self)
    }

    fn set_aside(&self) -> Option<(&Path, &'static str)> {
        Scheme::set_aside(self)
    }

    fn reopens(&self) -> Option<Reopens> {
        Scheme::reopens(self)
    }

    fn reads_again(&self) -> bool {
        Scheme::reads_again(self)
    }

    fn is_idle(&self, row: &str) -> bool {
        Scheme::is_idle(self, row)
    }

    fn without_secrets(&self) -> Box<dyn AnyScheme> {
        Box::new(Scheme::without_secrets(self))
    }
}

/// A scheme among the others.
pub(crate) struct Entry {
    pub(crate) forms: &'static [Form],
    pub(crate) help: &'static str,
    pub(crate) is_framed: bool,
    read: fn(&'static Entry, &'static Form, &OsStr) -> Result<Destination, NotAccepted>,
    /// `None`: this program is built without it.
    built: Option<Built>,
}

/// What an entry has of a scheme that this program has.
#[derive(Clone, Copy)]
struct Built {
    rows: fn() -> Vec<Flag<Destination>>,
    /// A place that has the defaults of the options.
    default: fn(&'static Entry) -> Destination,
}

impl Entry {
    pub(super) const fn of<S: Scheme>() -> Entry {
        Entry {
            forms: S::FORMS,
            help: S::HELP,
            is_framed: S::IS_FRAMED,
            read: |entry, form, place| Ok(Destination::new(entry, S::read(form, place)?)),
            built: Some(Built {
                rows: || {
                    let rows = S::rows().into_iter();
                    let row =
                        |row: Flag<S>| row.within(Destination::get::<S>, Destination::get_mut::<S>);
                    rows.filter_map(row).collect()
                },
                default: |entry| Destination::new(entry, S::default()),
            }),
        }
    }

    /// A scheme that this program is built without; `help` says how it is had.
    #[allow(dead_code, reason = "a program may be built with all features")]
    pub(super) const fn left_out(forms: &'static [Form], help: &'static str) -> Entry {
        Entry {
            forms,
            help,
            is_framed: false,
            read: |entry, _, _| {
                Err(NotAccepted {
                    expected: Some(entry.help.to_owned()),
                    ..NotAccepted::default()
                })
            },
            built: None,
        }
    }

    /// Whether this program has it.
    pub(crate) fn is_built(&self) -> bool {
        self.built.is_some()
    }

    /// Its options.
    pub(crate) fn rows(&self) -> Vec<Flag<Destination>> {
        self.built.map_or_else(Vec::new, |built| (built.rows)())
    }

    /// A place with the defaults of its options.
    pub(crate) fn default(&'static self) -> Option<Destination> {
        self.built.map(|built| (built.default)(self))
    }

    /// What its URLs look like.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.forms.iter().map(Form::to_string).collect()
    }
}

impl Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("forms", &self.forms)
            .finish_non_exhaustive()
    }
}

/// A URL as it is read: the place, and its options in the words of their rows.
pub(crate) struct Read {
    pub(crate) destination: Destination,
    pub(crate) options: Vec<(String, OsString)>,
}

/// Reads a URL by the scheme that it begins with; `None` where there is none of these.
pub(super) fn read(entries: &'static [Entry], typed: &OsStr) -> Option<Result<Read, NotAccepted>> {
    let forms = entries
        .iter()
        .flat_map(|entry| entry.forms.iter().map(move |form| (entry, form)));
    let found = forms.filter_map(|(entry, form)| Some((entry, form, form.rest(typed)?)));
    // `file://` begins like `file:`.
    let (entry, form, rest) = found.max_by_key(|(_, form, _)| form.prefix.len())?;
    Some(read_rest(entry, form, rest))
}

fn read_rest(
    entry: &'static Entry,
    form: &'static Form,
    rest: &OsStr,
) -> Result<Read, NotAccepted> {
    let (place, query) = match form.has_options {
        true => url::split(rest),
        false => (rest, None),
    };
    if place.is_empty() && !form.place.is_empty() {
        return Err(NotAccepted {
            expected: Some(form.to_string()),
            ..NotAccepted::default()
        });
    }
    if let Some(query) = query.filter(|_| form.is_of_peer())
        && query.as_bytes().contains(&b'@')
        && !place.as_bytes().contains(&b'@')
    {
        // What stands before may be half a password: no part is told.
        return Err(NotAccepted {
            expected: Some(form.to_string()),
            ..NotAccepted::because("? and @ in a password, and @ in an option, are %3F and %40")
        });
    }
    let destination = (entry.read)(entry, form, place);
    let destination = destination.map_err(|refused| NotAccepted {
        expected: refused.expected.or_else(|| Some(form.to_string())),
        ..refused
    })?;
    Ok(Read {
        destination,
        options: query.map_or_else(|| Ok(Vec::new()), url::options)?,
    })
}

/// Where messages go: a place of some scheme.
#[derive(Debug)]
pub(crate) struct Destination {
    entry: &'static Entry,
    place: Box<dyn AnyScheme>,
}

impl Destination {
    pub(super) fn new(entry: &'static Entry, place: impl Scheme) -> Destination {
        Destination {
            entry,
            place: Box::new(place),
        }
    }

    /// The place, if it is of this scheme.
    pub(crate) fn get<S: Scheme>(&self) -> Option<&S> {
        let place: &dyn Any = &*self.place;
        place.downcast_ref()
    }

    fn get_mut<S: Scheme>(&mut self) -> Option<&mut S> {
        let place: &mut dyn Any = &mut *self.place;
        place.downcast_mut()
    }

    pub(crate) fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// As [`Scheme::label`].
    pub(crate) fn label(&self) -> String {
        self.place.label()
    }

    /// Options that do not go together.
    pub(crate) fn contradiction(&self) -> Option<Contradiction> {
        self.place.contradiction()
    }

    /// As [`Scheme::lacks`].
    pub(crate) fn lacks(&self, row: &str) -> Option<&'static str> {
        self.place.lacks(row)
    }

    /// As [`Scheme::notes`].
    pub(crate) fn notes(&self, common: Common<'_>) -> Vec<String> {
        self.place.notes(common)
    }

    /// As [`Scheme::check`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn check(&self, common: Common<'_>) -> io::Result<Checked> {
        self.place.check(common)
    }

    /// As [`Scheme::open`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open(&self, common: Common<'_>, stderr: &Arc<Stderr>) -> io::Result<Opened> {
        self.place.open(common, stderr)
    }

    /// The file that is written, where there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.place.file()
    }

    /// As [`Scheme::set_aside`].
    pub(crate) fn set_aside(&self) -> Option<(&Path, &'static str)> {
        self.place.set_aside()
    }

    /// As [`Scheme::reopens`].
    pub(crate) fn reopens(&self) -> Option<Reopens> {
        self.place.reopens()
    }

    /// As [`Scheme::reads_again`].
    pub(crate) fn reads_again(&self) -> bool {
        self.place.reads_again()
    }

    /// As [`Scheme::is_idle`].
    pub(crate) fn is_idle(&self, row: &str) -> bool {
        self.place.is_idle(row)
    }

    /// As [`Scheme::without_secrets`].
    pub(crate) fn without_secrets(&self) -> Destination {
        Destination {
            entry: self.entry,
            place: self.place.without_secrets(),
        }
    }
}

impl Clone for Destination {
    fn clone(&self) -> Self {
        Destination {
            entry: self.entry,
            place: self.place.cloned(),
        }
    }
}

/// The URL without its options and without secrets.
impl Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place.url())
    }
}
