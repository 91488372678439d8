//! The two helps, both made from the declared flags, so that neither can be out of date.

use clap::{Arg, Command};

use super::usage::{self, Accepted};

/// What a line of the short help has room for.
const MAX_PURPOSE: usize = 45;
const LONG_WIDTH: usize = 100;

/// What a command's helps say beside its flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// In a few words, what it is.
    pub(crate) title: &'static str,
    pub(crate) usage: &'static str,
    /// The end of the long help.
    pub(crate) after: &'static str,
    /// The last lines but one of the short help.
    pub(crate) short_after: &'static str,
    pub(crate) accepted: Accepted,
}

/// `command` with both helps in place of clap's own.
pub(crate) fn install(command: Command, page: &Page) -> Command {
    let short = short(&command, page);
    let long = long(command.clone(), page);
    // clap gives before_help to -h and before_long_help to --help.
    command
        .before_help(short)
        .before_long_help(long)
        .help_template("{before-help}")
        .max_term_width(LONG_WIDTH)
}

/// A line for each flag, by group: what it takes, what it is for, and its default.
fn short(command: &Command, page: &Page) -> String {
    let mut text = format!(
        "{} {}: {}\nUsage: {}\n",
        command.get_name(),
        env!("CARGO_PKG_VERSION"),
        page.title,
        page.usage
    );
    let flags: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional())
        .collect();
    let indent = flags.iter().map(|arg| item(arg).len()).max().unwrap_or(0) + 2;
    let mut heading = None;
    for arg in flags {
        if heading != arg.get_help_heading() {
            heading = arg.get_help_heading();
            text += &format!("{}:\n", heading.unwrap_or_default());
        }
        let line = format!("  {:indent$}{}", item(arg), purpose(arg));
        text += &format!("{}\n", line.trim_end());
    }
    text + page.short_after
        + &format!(
            "What each flag does, accepts and costs: {} --help",
            command.get_name()
        )
}

fn item(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let value_name = arg.get_value_names().and_then(<[_]>::first);
    match (arg.get_short(), value_name) {
        (Some(short), _) => format!("-{short}, --{long}"),
        (None, Some(value)) if usage::takes_value(arg) => format!("--{long} {value}"),
        (None, _) => format!("--{long}"),
    }
}

/// What the flag is for, where it is said in a few words, and its default.
fn purpose(arg: &Arg) -> String {
    let few_words = arg.get_help().map(ToString::to_string);
    let default = default(arg).map(|default| format!("[{default}]"));
    let few_words = few_words.filter(|words| words.len() <= MAX_PURPOSE);
    let parts = [few_words, default];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn default(arg: &Arg) -> Option<String> {
    let value = arg.get_default_values().first()?;
    Some(value.to_string_lossy().into_owned())
}

/// Every flag in whole sentences, with its default and what it accepts.
fn long(command: Command, page: &Page) -> String {
    command
        .override_usage(page.usage)
        .after_long_help(page.after)
        .max_term_width(LONG_WIDTH)
        .render_long_help()
        .to_string()
}

/// The flags of a tool, with their defaults and what they accept in the long help.
pub(crate) fn complete(command: Command, page: &Page) -> Command {
    command.mut_args(|arg| {
        let does = arg.get_long_help().or(arg.get_help());
        let does = does.map(ToString::to_string).unwrap_or_default();
        // A first paragraph of a few words is for the short help.
        let does = does.split_once("\n\n").map_or(&*does, |(_, rest)| rest);
        // clap takes the last full stop from a doc comment of one paragraph.
        let does = format!("{}.", does.trim_end_matches('.'));
        let Some(accepted) = usage::accepted(&arg, page.accepted) else {
            return arg.long_help(does);
        };
        let default = default(&arg).map_or_else(String::new, |it| format!("Default: {it}. "));
        arg.long_help(format!("{does}\n{default}Expects {accepted}."))
            .hide_default_value(true)
            .hide_possible_values(true)
    })
}
