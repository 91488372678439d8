//! The two helps, both made from the rows, so that neither can be out of date.

use clap::Command;

use super::flag::{Flag, Setting, Takes};

const LONG_WIDTH: usize = 100;

/// What a command's helps say beside its flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// As the command is typed.
    pub(crate) name: &'static str,
    /// In a few words, what the command is.
    pub(crate) title: &'static str,
    /// The beginning of the long help.
    pub(crate) about: &'static str,
    pub(crate) usage: &'static str,
    /// The end of the long help.
    pub(crate) after: &'static str,
    /// The last lines but one of the short help.
    pub(crate) short_after: &'static str,
}

/// `command` with both helps in place of clap's own.
pub(super) fn install<S: Default>(command: Command, page: &Page, flags: &[Flag<S>]) -> Command {
    let long = long(command.clone(), page, flags);
    // clap gives before_help to -h and before_long_help to --help.
    command
        .before_help(short(page, flags))
        .before_long_help(long)
        .help_template("{before-help}")
        .max_term_width(LONG_WIDTH)
}

/// A line for each flag, by group: what it takes, what it is for, and its default.
fn short<S: Default>(page: &Page, flags: &[Flag<S>]) -> String {
    let mut text = format!(
        "{} {}: {}\nUsage: {}\n",
        page.name,
        env!("CARGO_PKG_VERSION"),
        page.title,
        page.usage
    );
    let flags: Vec<&Flag<S>> = flags.iter().filter(|flag| flag.is_flag()).collect();
    let items: Vec<String> = flags.iter().map(|flag| item(flag)).collect();
    let indent = items.iter().map(String::len).max().unwrap_or(0) + 2;
    let mut group = "";
    for (flag, item) in flags.iter().zip(items) {
        if group != flag.group {
            group = flag.group;
            text += &format!("{group}:\n");
        }
        text += &format!("  {item:indent$}{}", flag.purpose);
        if let Some(default) = flag.default() {
            text += &format!(" [{default}]");
        }
        text += "\n";
    }
    text + page.short_after
        + &format!(
            "What each flag does, accepts and costs: {} --help",
            page.name
        )
}

fn item<S: Default>(flag: &Flag<S>) -> String {
    let long = flag.long();
    match &flag.takes {
        Takes::Value(value) => format!("{long} {}", value.placeholder()),
        Takes::Help => format!("-h, {long}"),
        Takes::Version => format!("-V, {long}"),
        Takes::Argument(_) | Takes::Rest(_) | Takes::Nothing(_) => long,
    }
}

/// Every flag in whole sentences, with its default and what it accepts.
fn long<S: Default>(command: Command, page: &Page, flags: &[Flag<S>]) -> String {
    let is_required = |flag: &&Flag<S>| flag.value().is_some_and(Setting::is_required);
    let required = flags.iter().filter(is_required);
    // In the help alone: clap would say that an argument is missing before it says what is wrong
    // with another.
    let command = required.fold(command, |command, flag| {
        command.mut_arg(flag.name, |arg| arg.required(true))
    });
    command
        .override_usage(page.usage)
        .after_long_help(page.after)
        .max_term_width(LONG_WIDTH)
        .render_long_help()
        .to_string()
}
