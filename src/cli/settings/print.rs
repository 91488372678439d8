//! The settings as a configuration file: as they are for `drainline check`, and as they are by
//! default for `drainline config`.

use super::Settings;
use super::file::has_key;
use super::flags;
use super::listeners::{self, ListenerSettings};
use super::origin::Origins;
use super::outputs::{self, OutputSettings};
use crate::cli::flag::{Flag, Setting};
use crate::cli::kinds::{InFile, quoted};
use crate::cli::outputs::SCHEMES;

impl Settings {
    /// Every setting that has a value, as a configuration file has it, with what set it. The lines
    /// are such a file. Names are resolved and units in full. What a listener has of the common
    /// settings stands in its table as comments.
    pub(crate) fn effective(&self) -> String {
        let mut text = String::new();
        for flag in flags().iter().filter(|flag| has_key(flag)) {
            let is_in_tables = match flag.name {
                "listen" => self.listen.is_empty(),
                // Every output is printed as a table.
                name => name == outputs::SINK,
            };
            if !is_in_tables {
                text += &line(flag, self, &self.given);
            }
        }
        for listener in &self.listeners {
            text += "[[listener]]";
            if let Some(table) = &listener.table {
                text += &format!("  # {}", table.line());
            }
            text += "\n";
            for row in listeners::rows() {
                text += &match listener.has(row.name) {
                    true => line(&row, listener, &listener.given),
                    false => self.inherited(&row, listener),
                };
            }
        }
        for output in self.all_outputs() {
            text += "[[output]]";
            if let Some(table) = &output.table {
                text += &format!("  # {}", table.line());
            }
            text += "\n";
            let rows = output.rows().into_iter();
            let bare = output.without_secrets();
            for row in rows.filter(|row| !output.is_idle(row.name)) {
                text += &self.of_output(&row, output, &bare);
            }
        }
        text
    }
}

impl Settings {
    /// The line of a row of an output, or of what holds there of the common settings. A secret is
    /// a comment, since the line would not be the setting, and so is what goes with it: `bare` is
    /// the output without both.
    fn of_output(
        &self,
        row: &Flag<OutputSettings>,
        output: &OutputSettings,
        bare: &OutputSettings,
    ) -> String {
        let flags = flags();
        let flag = outputs::common_flag(row.name);
        let common = flags.iter().find(|common| Some(common.name) == flag);
        let (value, told, is_setting) = match common {
            Some(common) if !output.has(row.name) => {
                let value = common.value().and_then(|value| value.print_in_file(self));
                (value, self.given.told(common), false)
            }
            _ => {
                let print = |of| row.value().and_then(|value| value.print_in_file(of));
                let (value, without, told) = (print(output), print(bare), output.told(row));
                match row.value().is_some_and(Setting::is_secret) {
                    true => (
                        value,
                        format!("{told}; not shown, so it is missing here"),
                        false,
                    ),
                    false if value == without => (value, told, true),
                    false => {
                        // A URL is left, without its user.
                        let without = without.map(|it| format!("{} = {it}\n", row.key()));
                        let value = value.unwrap_or_default();
                        return format!(
                            "# {} = {value}  # {told}; with a secret, which is missing here\n{}",
                            row.key(),
                            without.unwrap_or_default()
                        );
                    }
                }
            }
        };
        let sign = if is_setting { "" } else { "# " };
        value.map_or_else(String::new, |value| {
            format!("{sign}{} = {value}  # {told}\n", row.key())
        })
    }

    /// What holds for a listener by a row that its table does not set.
    fn inherited(&self, row: &Flag<ListenerSettings>, listener: &ListenerSettings) -> String {
        let flags = flags();
        let flag = flags.iter().find(|flag| flag.name == row.name);
        let line = match flag {
            Some(flag) if listener.inherits(row.name) => line(flag, self, &self.given),
            _ => return String::new(),
        };
        match line.is_empty() {
            true => line,
            false => format!("# {line}"),
        }
    }
}

fn line<S: Default>(row: &Flag<S>, settings: &S, given: &Origins) -> String {
    let value = row.value().and_then(|value| value.print_in_file(settings));
    value.map_or_else(String::new, |value| {
        format!("{} = {value}  # {}\n", row.key(), given.told(row))
    })
}

/// The widest line of a comment.
const WIDTH: usize = 96;

/// The beginning of the printed file, and the words of a table.
const HEAD: &str = "\
The settings of drainline {version}, each with its default. To change one, remove the # before it. \
A flag of the same name (--send-timeout) stands above a variable of the environment \
(DRAINLINE_SEND_TIMEOUT), and that above this file. `drainline check --config FILE` says whether a \
start with the file would succeed, and where each value comes from. A running drainline does not \
read the file again.";

const LISTENERS: &str = "\
Each [[listener]] listens beside what listen says in this file, and may have a name and settings \
of its own. The flag and the variable of listen stand in for all of them. Tables stand at the end \
of the file.";

const OUTPUTS: &str = "\
Each [[output]] is an output beside what sink says in this file, and may have a name and settings \
of its own. The flag and the variable of sink stand in for all of them. What a table takes depends \
on its sink; each key below a sink is also an option of the URL, as in \
sink = \"file:///PATH?framing=nul\".";

/// A configuration file of every setting with its default, commented out, and what it does.
pub(crate) fn template() -> String {
    let flags: Vec<Flag<Settings>> = flags().into_iter().filter(has_key).collect();
    let keys = |text: &str| in_keys(text, &flags);
    let mut text = comment(&HEAD.replace("{version}", env!("CARGO_PKG_VERSION")));
    let mut group = "";
    for flag in &flags {
        if group != flag.group {
            group = flag.group;
            text += &format!("\n\n### {group}\n");
        }
        text += "\n";
        text += &described(flag, keys);
        // A space stands before what is no setting as it is.
        text += &match default_line(flag) {
            Some(line) => format!("#{line}"),
            None => format!("# Without a default, such as\n# {}", example_line(flag)),
        };
    }
    text += &format!(
        "\n\n### Listeners with settings of their own\n\n{}",
        comment(LISTENERS)
    );
    text += "#\n# [[listener]]\n";
    for row in listeners::rows() {
        text += "#\n";
        text += &described(&row, keys);
        let line = default_line(&row).or_else(|| common_line(&row, &flags));
        text += &format!("# {}", line.unwrap_or_else(|| example_line(&row)));
    }
    text += &format!(
        "\n\n### Outputs with settings of their own\n\n{}",
        comment(OUTPUTS)
    );
    text += "#\n# [[output]]\n";
    for row in outputs::common_rows() {
        text += &of_table(&row, &OutputSettings::default(), keys);
    }
    for entry in SCHEMES {
        let urls = entry.urls().join(" or ");
        let Some(default) = entry.default() else {
            text += &format!("#\n{}", comment(&format!("{urls} takes {}.", entry.help)));
            continue;
        };
        text += &format!(
            "#\n{}",
            comment(&keys(&format!("With {urls}: {}", entry.help)))
        );
        let default = OutputSettings::from(default);
        for row in outputs::rows_of(entry) {
            text += &of_table(&row, &default, keys);
        }
    }
    text
}

/// A row of an output's table, as a comment.
fn of_table(
    row: &Flag<OutputSettings>,
    default: &OutputSettings,
    keys: impl Fn(&str) -> String,
) -> String {
    let value = row.value().and_then(|value| value.print_in_file(default));
    let line = match value {
        Some(value) => format!("{} = {value}\n", row.key()),
        None => example_line(row),
    };
    format!("#\n{}# {line}", described(row, keys))
}

/// What a row does and accepts.
fn described<S: Default>(row: &Flag<S>, keys: impl Fn(&str) -> String) -> String {
    let expected = row.value().map(Setting::expected).unwrap_or_default();
    comment(&keys(&format!("{}\nExpects {expected}.", row.help)))
}

fn default_line<S: Default>(row: &Flag<S>) -> Option<String> {
    let default = row.value()?.print_in_file(&S::default())?;
    Some(format!("{} = {default}\n", row.key()))
}

/// What a listener has by default, which is what all have, where it can be said of one.
fn common_line(row: &Flag<ListenerSettings>, flags: &[Flag<Settings>]) -> Option<String> {
    let flag = flags.iter().find(|flag| flag.name == row.name)?;
    let mut own = ListenerSettings::default();
    let default = flag.value()?.print(&Settings::default())?;
    row.value()?.apply(&mut own, default.as_ref()).ok()?;
    default_line(flag)
}

fn example_line<S: Default>(row: &Flag<S>) -> String {
    let value = row
        .value()
        .map(|value| (value.in_file(), value.placeholder()));
    let example = match value.unwrap_or((InFile::Text, String::new())) {
        (InFile::Number | InFile::Bool, placeholder) => placeholder,
        (_, placeholder) => quoted(&placeholder),
    };
    format!("{} = {example}\n", row.key())
}

/// Names flags as the file does: `send_timeout` for `--send-timeout`.
fn in_keys(text: &str, flags: &[Flag<Settings>]) -> String {
    let mut flags: Vec<&Flag<Settings>> = flags.iter().collect();
    // A longer name may begin with a shorter one.
    flags.sort_by_key(|flag| std::cmp::Reverse(flag.name.len()));
    flags.iter().fold(text.to_owned(), |text, flag| {
        text.replace(&flag.long(), &flag.key())
    })
}

fn comment(text: &str) -> String {
    let options = textwrap::Options::new(WIDTH)
        .initial_indent("# ")
        .subsequent_indent("# ");
    let lines = text.lines().flat_map(|line| textwrap::wrap(line, &options));
    lines.map(|line| line.into_owned() + "\n").collect()
}
