//! The two helps, both made from the declared flags, so that neither can be out of date.

use clap::{Arg, Command};

use super::usage::{self, Accepted};

const SHORT_WIDTH: usize = 80;
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

/// One screen: every flag by group, with its default or its choices.
fn short(command: &Command, page: &Page) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    let flags = command.get_arguments().filter(|arg| !arg.is_positional());
    for arg in flags {
        let heading = arg.get_help_heading().unwrap_or_default();
        let item = item(arg);
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, items)) => items.push(item),
            None => groups.push((heading, vec![item])),
        }
    }
    let indent = 2 + groups.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!(
        "{} {}: {}\n\
         Usage: {}\n\n\
         Each flag is shown with its choices, the default first, or with its default:\n",
        command.get_name(),
        env!("CARGO_PKG_VERSION"),
        page.title,
        page.usage
    );
    for (name, items) in groups {
        let mut line = format!("{name:indent$}");
        for (place, item) in items.iter().enumerate() {
            if place > 0 && line.len() + item.len() > SHORT_WIDTH {
                text.push_str(line.trim_end());
                text.push('\n');
                line = " ".repeat(indent);
            }
            line.push_str(item);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(page.short_after);
    text += &format!(
        "What each flag does, accepts and costs: {} --help",
        command.get_name()
    );
    text
}

fn item(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    match (arg.get_short(), value(arg)) {
        (Some(short), _) => format!("-{short}, --{long}"),
        (None, Some(value)) => format!("--{long} {value}"),
        (None, None) => format!("--{long}"),
    }
}

/// The choices, the default, or what kind of value it is.
fn value(arg: &Arg) -> Option<String> {
    if !usage::takes_value(arg) {
        return None;
    }
    let name = arg.get_value_names()?.first()?.to_string();
    if name.contains('|') {
        return Some(name);
    }
    Some(default(arg).unwrap_or(name))
}

fn default(arg: &Arg) -> Option<String> {
    let value = arg.get_default_values().first()?;
    Some(value.to_string_lossy().into_owned())
}

/// Every flag in whole sentences, with its default and what it accepts.
fn long(command: Command, page: &Page) -> String {
    command
        .mut_args(|arg| {
            let does = arg.get_long_help().or(arg.get_help());
            // clap takes the last full stop from a doc comment of one paragraph.
            let does = does.map(|does| format!("{does}.")).unwrap_or_default();
            let Some(accepted) = usage::accepted(&arg, page.accepted) else {
                return arg.long_help(does);
            };
            let default = default(&arg).map_or_else(String::new, |it| format!("Default: {it}. "));
            arg.long_help(format!("{does}\n{default}Accepted: {accepted}."))
                .hide_default_value(true)
                .hide_possible_values(true)
        })
        .override_usage(page.usage)
        .after_long_help(page.after)
        .max_term_width(LONG_WIDTH)
        .render_long_help()
        .to_string()
}
