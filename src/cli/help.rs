//! The two helps, both made from the declared flags, so that neither can be out of date.

use clap::{Arg, Command};

use super::usage;

const SHORT_WIDTH: usize = 80;
const LONG_WIDTH: usize = 100;

const AFTER: &str = "\
Durations are written as 500ms, 30s or 1m30s, sizes as 64KiB (1,024 bytes each) or 64KB (1,000).

Signals:
  SIGTERM, SIGINT  deliver what has arrived, print the ledger and end; a second one ends at once
  SIGHUP           reopens the file of --sink file:PATH
  SIGUSR1          lists every connection with its state on stderr

Exit codes:
  0      nothing was lost
  1      an address or a file could not be opened, or the sink failed for good
  2      one value cannot be read or is out of range; nothing was started
  3      a clean end, but something was dropped, truncated or left unread: the ledger says what
  4      the drain did not end within --drain-timeout
  78     values contradict each other, or the system cannot hold them; nothing was started
  128+N  ended by a second signal N

A first try, in two terminals:
  drainline
  echo hello | ncat --send-only 127.0.0.1 5140
  logger --server 127.0.0.1 --port 5140 --tcp hello
";

/// `command` with both helps in place of clap's own.
pub(super) fn install(command: Command) -> Command {
    let short = short(&command);
    let long = long(command.clone());
    // clap gives before_help to -h and before_long_help to --help.
    command
        .before_help(short)
        .before_long_help(long)
        .help_template("{before-help}")
        .max_term_width(LONG_WIDTH)
}

/// One screen: every flag by group, with its default or its choices.
fn short(command: &Command) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for arg in command.get_arguments() {
        let heading = arg.get_help_heading().unwrap_or_default();
        let item = item(arg);
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, items)) => items.push(item),
            None => groups.push((heading, vec![item])),
        }
    }
    let indent = 2 + groups.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!(
        "drainline {}: a TCP message server that cannot leak\n\
         Usage: drainline [FLAG VALUE]...\n\n\
         Each flag is shown with its choices, the default first, or with its default:\n",
        command.get_version().unwrap_or_default()
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
    text.push_str("\nWhat each flag does, accepts and costs: drainline --help");
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
fn long(command: Command) -> String {
    command
        .mut_args(|arg| {
            let does = arg.get_long_help().or(arg.get_help());
            // clap takes the last full stop from a doc comment of one paragraph.
            let does = does.map(|does| format!("{does}.")).unwrap_or_default();
            let Some(accepted) = usage::accepted(&arg) else {
                return arg.long_help(does);
            };
            let default = default(&arg).map_or_else(String::new, |it| format!("Default: {it}. "));
            arg.long_help(format!("{does}\n{default}Accepted: {accepted}."))
                .hide_default_value(true)
                .hide_possible_values(true)
        })
        .override_usage("drainline [FLAG VALUE]...")
        .after_long_help(AFTER)
        .max_term_width(LONG_WIDTH)
        .render_long_help()
        .to_string()
}
