//! What a flag is: one row, of which the parser, both helps, the errors and `--check` are made.
//! Every command has its rows, the server and the tools alike.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches};

use super::kinds::{InFile, Kind, NotAccepted};
use super::usage::UsageError;

/// A flag of a command whose settings are `S`.
pub(crate) struct Flag<S> {
    /// The name, without the dashes.
    pub(crate) name: &'static str,
    /// The heading under which the helps list the flag.
    pub(crate) group: &'static str,
    /// What the flag is for, in a few words.
    pub(crate) purpose: &'static str,
    /// What the flag does and costs, in whole sentences. What it accepts and its default are
    /// added.
    pub(crate) help: &'static str,
    pub(crate) takes: Takes<S>,
}

/// What stands behind a flag.
pub(crate) enum Takes<S> {
    Value(Box<dyn Setting<S>>),
    /// A word without a flag before: the row is no flag, but an argument such as `ADDRESS`.
    Argument(Box<dyn Setting<S>>),
    /// Every word after `--`.
    Rest(fn(&mut S, Vec<String>)),
    /// Nothing: the flag switches something on.
    Nothing(fn(&mut S)),
    /// Nothing: the help is printed.
    Help,
    /// Nothing: the version is printed.
    Version,
}

/// A setting as a flag sees it.
pub(crate) trait Setting<S> {
    /// Reads what was typed and sets it. Occurrences of a flag that may be repeated come together.
    fn apply(&self, settings: &mut S, typed: &OsStr) -> Result<(), NotAccepted>;
    /// The value as it can be typed; `None` where there is none to be typed.
    fn print(&self, settings: &S) -> Option<String>;
    /// The value as a configuration file has it, in TOML; `None` where there is none to be written.
    fn print_in_file(&self, settings: &S) -> Option<String>;
    fn in_file(&self) -> InFile;
    fn expected(&self) -> String;
    fn placeholder(&self) -> String;
    fn is_list(&self) -> bool;
    fn separator(&self) -> &'static str;
    fn entry(&self, text: String) -> String;
    fn is_secret(&self) -> bool;
    fn names_secret(&self) -> bool;
    fn is_required(&self) -> bool;
    /// Values that are accepted, and values that are not.
    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>);
}

/// A kind of value, and the place in the settings where it belongs.
pub(crate) struct Field<S, K: Kind> {
    pub(crate) kind: K,
    pub(crate) get: fn(&S) -> K::Value,
    pub(crate) set: fn(&mut S, K::Value),
}

/// The setting behind a field: `setting!(Count(1..=9), Settings.config.backlog)`.
macro_rules! setting {
    ($kind:expr, $settings:ident.$($field:ident).+) => {
        Box::new($crate::cli::flag::Field {
            kind: $kind,
            get: |settings: &$settings| settings.$($field).+.clone(),
            set: |settings: &mut $settings, value| settings.$($field).+ = value,
        })
    };
}

/// A value of a kind, which belongs into a field: `field!(Count(1..=9), Settings.config.backlog)`.
macro_rules! field {
    ($kind:expr, $settings:ident.$($field:ident).+) => {
        $crate::cli::flag::Takes::Value($crate::cli::flag::setting!($kind, $settings.$($field).+))
    };
}

/// The rows of a part, as those of the whole: `part_rows!(Http.tls, ClientTls::rows())`.
#[allow(unused_macros, reason = "no scheme of this build has parts")]
macro_rules! part_rows {
    ($whole:ident.$($field:ident).+, $rows:expr) => {{
        let of_whole = $rows.into_iter().filter_map(|row| {
            row.within(
                |whole: &$whole| Some(&whole.$($field).+),
                |whole| Some(&mut whole.$($field).+),
            )
        });
        of_whole.collect::<Vec<_>>()
    }};
}

#[allow(unused_imports, reason = "no scheme of this build has parts")]
pub(crate) use part_rows;
pub(crate) use {field, setting};

impl<S, K: Kind> Setting<S> for Field<S, K> {
    fn apply(&self, settings: &mut S, typed: &OsStr) -> Result<(), NotAccepted> {
        (self.set)(settings, self.kind.read_os(typed)?);
        Ok(())
    }

    fn print(&self, settings: &S) -> Option<String> {
        self.kind.print(&(self.get)(settings))
    }

    fn print_in_file(&self, settings: &S) -> Option<String> {
        self.kind.print_in_file(&(self.get)(settings))
    }

    fn in_file(&self) -> InFile {
        self.kind.in_file()
    }

    fn expected(&self) -> String {
        self.kind.expected()
    }

    fn placeholder(&self) -> String {
        self.kind.placeholder()
    }

    fn is_list(&self) -> bool {
        self.kind.is_list()
    }

    fn separator(&self) -> &'static str {
        self.kind.separator()
    }

    fn entry(&self, text: String) -> String {
        self.kind.entry(text)
    }

    fn is_secret(&self) -> bool {
        self.kind.is_secret()
    }

    fn names_secret(&self) -> bool {
        self.kind.names_secret()
    }

    fn is_required(&self) -> bool {
        self.kind.is_required()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        self.kind.cases()
    }
}

/// A setting of a part of the settings.
struct Within<S, P> {
    of_part: Box<dyn Setting<P>>,
    /// The part, where the settings have it now.
    get: fn(&S) -> Option<&P>,
    get_mut: fn(&mut S) -> Option<&mut P>,
}

impl<S, P> Setting<S> for Within<S, P> {
    fn apply(&self, settings: &mut S, typed: &OsStr) -> Result<(), NotAccepted> {
        match (self.get_mut)(settings) {
            Some(part) => self.of_part.apply(part, typed),
            None => Ok(()),
        }
    }

    fn print(&self, settings: &S) -> Option<String> {
        self.of_part.print((self.get)(settings)?)
    }

    fn print_in_file(&self, settings: &S) -> Option<String> {
        self.of_part.print_in_file((self.get)(settings)?)
    }

    fn in_file(&self) -> InFile {
        self.of_part.in_file()
    }

    fn expected(&self) -> String {
        self.of_part.expected()
    }

    fn placeholder(&self) -> String {
        self.of_part.placeholder()
    }

    fn is_list(&self) -> bool {
        self.of_part.is_list()
    }

    fn separator(&self) -> &'static str {
        self.of_part.separator()
    }

    fn entry(&self, text: String) -> String {
        self.of_part.entry(text)
    }

    fn is_secret(&self) -> bool {
        self.of_part.is_secret()
    }

    fn names_secret(&self) -> bool {
        self.of_part.names_secret()
    }

    fn is_required(&self) -> bool {
        self.of_part.is_required()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        self.of_part.cases()
    }
}

impl<P: 'static> Flag<P> {
    /// The row of a value of a part, as one of the whole; no other row is one.
    pub(crate) fn within<S: 'static>(
        self,
        get: fn(&S) -> Option<&P>,
        get_mut: fn(&mut S) -> Option<&mut P>,
    ) -> Option<Flag<S>> {
        let Takes::Value(of_part) = self.takes else {
            return None;
        };
        Some(Flag {
            name: self.name,
            group: self.group,
            purpose: self.purpose,
            help: self.help,
            takes: Takes::Value(Box::new(Within {
                of_part,
                get,
                get_mut,
            })),
        })
    }
}

impl<S: Default> Flag<S> {
    /// `-h` and `--help`, which each command has.
    pub(crate) const fn help(group: &'static str) -> Flag<S> {
        Flag {
            name: "help",
            group,
            purpose: "this list; --help has the details",
            help: "Prints help: -h lists the flags, --help says what each does and costs.",
            takes: Takes::Help,
        }
    }

    /// `--send-timeout`, or `ADDRESS` of an argument.
    pub(crate) fn long(&self) -> String {
        match self.takes {
            Takes::Argument(_) => self.name.to_uppercase(),
            _ => format!("--{}", self.name),
        }
    }

    /// Whether the row is a flag, and not a word that stands alone.
    pub(crate) fn is_flag(&self) -> bool {
        !matches!(self.takes, Takes::Argument(_) | Takes::Rest(_))
    }

    /// `send_timeout`: the name of the library's setting, where there is one.
    pub(crate) fn setting(&self) -> String {
        self.name.replace('-', "_")
    }

    /// `DRAINLINE_SEND_TIMEOUT`: the variable of the environment.
    pub(crate) fn variable(&self) -> String {
        format!("DRAINLINE_{}", self.setting().to_uppercase())
    }

    /// `send_timeout`: the key in the configuration file.
    pub(crate) fn key(&self) -> String {
        self.setting()
    }

    pub(crate) fn value(&self) -> Option<&dyn Setting<S>> {
        match &self.takes {
            Takes::Value(value) | Takes::Argument(value) => Some(&**value),
            Takes::Rest(_) | Takes::Nothing(_) | Takes::Help | Takes::Version => None,
        }
    }

    /// The value of the flag that is not typed, as it could be typed.
    pub(super) fn default(&self) -> Option<String> {
        self.value()?.print(&S::default())
    }

    /// The flag as clap sees it. clap finds the words; the row reads them.
    pub(super) fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).help(self.purpose).long_help(self.help);
        let arg = match self.is_flag() {
            true => arg.long(self.name).help_heading(self.group),
            false => arg,
        };
        match &self.takes {
            // `-5s` after a flag is a bad value of that flag, not a flag of its own. A path is left
            // out: no value of it is bad, so a flag whose value was forgotten would become a file.
            Takes::Value(value) => self
                .arg_of_value(arg, &**value)
                .allow_hyphen_values(!value.placeholder().starts_with("PATH")),
            Takes::Argument(value) => self.arg_of_value(arg, &**value),
            Takes::Rest(_) => arg
                .last(true)
                .num_args(1..)
                .value_name(self.name.to_uppercase()),
            Takes::Nothing(_) => arg.action(ArgAction::SetTrue),
            Takes::Help => arg.short('h').action(ArgAction::Help),
            Takes::Version => arg.short('V').action(ArgAction::Version),
        }
    }

    fn arg_of_value(&self, arg: Arg, value: &dyn Setting<S>) -> Arg {
        let default = self.default();
        let told = default
            .as_ref()
            .map(|default| format!("Default: {default}. "));
        let (told, expected) = (told.unwrap_or_default(), value.expected());
        arg.value_name(value.placeholder())
            .long_help(format!("{}\n{told}Expects {expected}.", self.help))
            .value_parser(clap::value_parser!(OsString))
            .action(match value.is_list() {
                true => ArgAction::Append,
                false => ArgAction::Set,
            })
    }

    /// Sets what was typed.
    ///
    /// # Errors
    /// The value is not accepted.
    pub(super) fn apply(&self, settings: &mut S, matches: &ArgMatches) -> Result<(), UsageError> {
        match &self.takes {
            Takes::Value(value) | Takes::Argument(value) => match self.typed(matches) {
                Some(typed) => self.read(&**value, settings, typed),
                None => Ok(()),
            },
            Takes::Rest(set) => {
                let words = matches.get_many::<String>(self.name);
                set(settings, words.into_iter().flatten().cloned().collect());
                Ok(())
            }
            Takes::Nothing(switch) => {
                if matches.get_flag(self.name) {
                    switch(settings);
                }
                Ok(())
            }
            Takes::Help | Takes::Version => Ok(()),
        }
    }

    /// What was typed for the flag's value, all occurrences together.
    pub(super) fn typed(&self, matches: &ArgMatches) -> Option<OsString> {
        let separator = self.value()?.separator();
        let words: Vec<OsString> = matches.get_many(self.name)?.cloned().collect();
        Some(words.join(OsStr::new(separator)))
    }

    /// # Errors
    /// The command needs the value, which was not typed.
    pub(super) fn require(&self, matches: &ArgMatches) -> Result<(), UsageError> {
        let is_required = self.value().is_some_and(Setting::is_required);
        match is_required && !matches.contains_id(self.name) {
            true => {
                let expected = self.value().map_or_else(String::new, Setting::expected);
                Err(self.bad_value(OsStr::new(""), &expected))
            }
            false => Ok(()),
        }
    }

    fn read(
        &self,
        value: &dyn Setting<S>,
        settings: &mut S,
        typed: OsString,
    ) -> Result<(), UsageError> {
        value.apply(settings, &typed).map_err(|refused| {
            let typed = refused.part.as_ref().unwrap_or(&typed);
            self.bad_value(typed, &refused.told(|| value.expected()))
        })
    }

    /// `typed` is not accepted; an empty word is a missing one.
    fn bad_value(&self, typed: &OsStr, expected: &str) -> UsageError {
        UsageError::bad_value(&self.long(), &typed.to_string_lossy(), expected)
    }
}

/// The flag of one of the library's settings: `max_connections` is `--max-connections`.
pub(crate) fn of_setting(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}
