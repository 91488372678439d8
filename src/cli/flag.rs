//! What a flag is: one row, of which the parser, both helps, the errors and `--check` are made.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::kinds::{Kind, NotAccepted};
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
    fn expected(&self) -> String;
    fn placeholder(&self) -> String;
    fn is_list(&self) -> bool;
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

impl<S, K: Kind> Setting<S> for Field<S, K> {
    fn apply(&self, settings: &mut S, typed: &OsStr) -> Result<(), NotAccepted> {
        (self.set)(settings, self.kind.read_os(typed)?);
        Ok(())
    }

    fn print(&self, settings: &S) -> Option<String> {
        self.kind.print(&(self.get)(settings))
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

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        self.kind.cases()
    }
}

impl<S: Default> Flag<S> {
    /// `--send-timeout`
    pub(crate) fn long(&self) -> String {
        format!("--{}", self.name)
    }

    /// `send_timeout`: the name of the library's setting, where there is one.
    pub(crate) fn setting(&self) -> String {
        self.name.replace('-', "_")
    }

    pub(crate) fn value(&self) -> Option<&dyn Setting<S>> {
        match &self.takes {
            Takes::Value(value) => Some(&**value),
            Takes::Nothing(_) | Takes::Help | Takes::Version => None,
        }
    }

    /// The flag as clap sees it. clap finds the words; the row reads them.
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .help_heading(self.group)
            .help(self.purpose);
        match &self.takes {
            Takes::Value(value) => {
                let default = value.print(&S::default());
                let told = default
                    .as_ref()
                    .map(|default| format!("Default: {default}. "));
                let (told, expected) = (told.unwrap_or_default(), value.expected());
                let arg = match default {
                    Some(default) => arg.default_value(default).hide_default_value(true),
                    None => arg,
                };
                arg.value_name(value.placeholder())
                    .long_help(format!("{}\n{told}Expects {expected}.", self.help))
                    .value_parser(clap::value_parser!(OsString))
                    // `-5s` after a flag is a bad value of that flag, not a flag of its own. A path
                    // is left out: no value of it is bad, so a flag whose value was forgotten would
                    // become a file.
                    .allow_hyphen_values(value.placeholder() != "PATH")
                    .action(match value.is_list() {
                        true => ArgAction::Append,
                        false => ArgAction::Set,
                    })
            }
            Takes::Nothing(_) => arg.long_help(self.help).action(ArgAction::SetTrue),
            Takes::Help => arg.long_help(self.help).short('h').action(ArgAction::Help),
            Takes::Version => arg
                .long_help(self.help)
                .short('V')
                .action(ArgAction::Version),
        }
    }

    fn apply(&self, settings: &mut S, matches: &ArgMatches) -> Result<(), UsageError> {
        match &self.takes {
            Takes::Value(value) => {
                let is_typed =
                    matches.value_source(self.name) == Some(clap::parser::ValueSource::CommandLine);
                let words: Vec<OsString> = match matches.get_many::<OsString>(self.name) {
                    Some(words) if is_typed => words.cloned().collect(),
                    _ => return Ok(()),
                };
                let typed = words.join(OsStr::new(","));
                value.apply(settings, &typed).map_err(|refused| {
                    let part = refused.part.unwrap_or(typed);
                    let mut expected = value.expected();
                    if let Some(why) = refused.why {
                        expected += &format!(": {why}");
                    }
                    UsageError::bad_value(&self.long(), &part.to_string_lossy(), &expected)
                })
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
}

/// `command` with the flags that the rows describe.
pub(crate) fn add_to<S: Default>(command: Command, flags: &[Flag<S>]) -> Command {
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(flags.iter().map(Flag::arg))
}

/// The settings that were typed, and the defaults of all others.
///
/// # Errors
/// The first value that a flag does not accept.
pub(crate) fn read<S: Default>(flags: &[Flag<S>], matches: &ArgMatches) -> Result<S, UsageError> {
    let mut settings = S::default();
    for flag in flags {
        flag.apply(&mut settings, matches)?;
    }
    Ok(settings)
}

/// What a flag, by its long name, accepts.
pub(crate) fn expected<S: Default>(flags: &[Flag<S>], long: &str) -> Option<String> {
    let flag = flags.iter().find(|flag| flag.long() == long)?;
    flag.value().map(|value| value.expected())
}

/// The flag of one of the library's settings: `max_connections` is `--max-connections`.
pub(crate) fn of_setting(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}
