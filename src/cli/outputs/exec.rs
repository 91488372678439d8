//! `exec:COMMAND`: the stdin of a command.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drainline::ingest::sink::{self, split_words};
use rustix::fs::{Access, access};

use super::option::GROUP;
use super::scheme::{Checked, Common, Form, Opened, Scheme};
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{NotAccepted, TrueOrFalse, time};
use crate::cli::stderr::Stderr;
use crate::cli::units;

#[derive(Clone, Debug)]
pub(super) struct Exec {
    line: String,
    shell: bool,
    stop_timeout: Duration,
}

impl Default for Exec {
    fn default() -> Self {
        Exec {
            line: String::new(),
            shell: false,
            stop_timeout: sink::Exec::DEFAULT_STOP_TIMEOUT,
        }
    }
}

impl Exec {
    fn words(&self) -> io::Result<Vec<String>> {
        match self.shell {
            true => Ok(["/bin/sh", "-c", &self.line].map(str::to_owned).to_vec()),
            false => split_words(&self.line).map_err(io::Error::other),
        }
    }

    /// A word that is meant for a shell, where there is none: it begins with a redirection or a
    /// pipe, or ends a command, and is not quoted.
    fn operator(&self) -> Option<&str> {
        let words = split_words(&self.line).unwrap_or_default();
        let is_one = |word: &&str| {
            let begin = word.trim_start_matches(|c: char| c.is_ascii_digit());
            begin.starts_with(['>', '<', '|', '&']) || word.ends_with(';')
        };
        let mut typed = self.line.split_ascii_whitespace();
        // Quoted, or in a word that is, the same text is no word of its own.
        let found = typed.find(|word| is_one(word) && words.iter().any(|known| known == word));
        found.filter(|_| !self.shell)
    }

    /// Its words, of which the first is there to be run.
    fn found_words(&self) -> io::Result<Vec<String>> {
        let words = self.words()?;
        find(&words[0]).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot run {:?}: {error}", words[0]))
        })?;
        Ok(words)
    }
}

impl Scheme for Exec {
    const FORMS: &'static [Form] = &[Form {
        prefix: "exec:",
        place: "COMMAND",
        has_options: false,
    }];
    const HELP: &'static str = "Starts a command and writes to its stdin, at most once: what a command that ends has not \
         read is lost, and it is started anew. Words are parted by spaces and quoted with '...' or \
         \"...\"; there is no shell. Its stdout is drainline's, its stderr goes to the log. At the \
         end its stdin is closed and it is waited for. Variables that outputs read passwords and \
         tokens from are not in its environment. Options are given in an [[output]].";

    fn rows() -> Vec<Flag<Self>> {
        vec![
            Flag {
                name: "shell",
                group: GROUP,
                purpose: "the command is a line of a shell",
                help: "Has /bin/sh -c run the command: with variables, pipes and redirections.",
                takes: field!(TrueOrFalse, Exec.shell),
            },
            Flag {
                name: "stop-timeout",
                group: GROUP,
                purpose: "how long a command has to end",
                help: "At the end, the time from the last message and the end of its stdin until \
                       SIGTERM, within what is left of the drain. SIGKILL follows after 2s.",
                takes: field!(
                    time(Duration::ZERO..=Duration::from_secs(86_400), "10s"),
                    Exec.stop_timeout
                ),
            },
        ]
    }

    fn read(_: &'static Form, place: &OsStr) -> Result<Self, NotAccepted> {
        let line = place.to_str();
        let line = line.ok_or_else(|| NotAccepted::because("not UTF-8"))?;
        if line.contains('\0') {
            return Err(NotAccepted::because("a NUL"));
        }
        // Whatever a shell makes of it, quotes are closed there, too.
        let words = split_words(line);
        let words = words.map_err(|error| NotAccepted::because(error.to_string()))?;
        if words.first().is_none_or(String::is_empty) {
            return Err(NotAccepted::because("no command"));
        }
        Ok(Exec {
            line: line.to_owned(),
            ..Exec::default()
        })
    }

    fn url(&self) -> String {
        format!("exec:{}", self.line)
    }

    /// As the sink is called.
    fn label(&self) -> String {
        let words = self.words().unwrap_or_default();
        let command = words.into_iter().next().unwrap_or_default();
        format!("exec:{command}")
    }

    fn notes(&self, common: Common<'_>) -> Vec<String> {
        let operator = self.operator().map(|operator| {
            format!(
                "{} {} passes {operator} to the command as it stands, since there is no shell: that \
                 takes shell = true in an [[output]]",
                common.named,
                self.label()
            )
        });
        let stop = common.shorter_drain("stop-timeout", self.stop_timeout);
        let stop = stop.map(|drain| {
            format!(
                "{} {} has {} to end (stop_timeout), which is longer than drain_timeout ({drain}): a \
                 drain sends SIGTERM then",
                common.named,
                self.label(),
                units::print_duration(self.stop_timeout),
            )
        });
        operator.into_iter().chain(stop).collect()
    }

    fn check(&self, _: Common<'_>) -> io::Result<Checked> {
        self.found_words()?;
        Ok(Checked {
            // Its stdin and its stderr.
            not_open: 2,
            resources: sink::Exec::RESOURCES,
            ..Checked::default()
        })
    }

    fn open(&self, common: Common<'_>, _: &Arc<Stderr>) -> io::Result<Opened> {
        let sink = sink::Exec::open_without(self.found_words()?, common.hidden)?;
        Ok(Opened::new(sink.stop_timeout(self.stop_timeout)))
    }
}

/// Looks for a command as execvp(3) does.
fn find(command: &str) -> io::Result<()> {
    if command.contains('/') {
        return may_run(Path::new(command));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let is_there = |folder: &Path| may_run(&folder.join(command)).is_ok();
    match env::split_paths(&path).any(|folder| is_there(&folder)) {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "it is not in PATH")),
    }
}

/// To execute a directory is to enter it.
fn may_run(path: &Path) -> io::Result<()> {
    access(path, Access::EXEC_OK)?;
    match path.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_as_it_is_and_its_quotes_are_closed() {
        let read = |typed: &str| super::super::read(typed.as_ref());
        for typed in ["exec:cat", "exec:a 'b c' \"d?e=f\" %3F", "exec: x"] {
            let destination = read(typed).expect("a command").destination;
            assert_eq!(destination.to_string(), typed);
            assert!(destination.get::<Exec>().is_some());
        }
        for typed in ["exec:", "exec: ", "exec:a 'b", "exec:a \\", "exec:'' a"] {
            assert!(read(typed).is_err(), "{typed}");
        }
        for (line, operator) in [
            ("cat > /tmp/x", Some(">")),
            ("cat >>/tmp/x", Some(">>/tmp/x")),
            ("cat 2>&1", Some("2>&1")),
            ("grep a | wc", Some("|")),
            ("a; b", Some("a;")),
            ("a && b", Some("&&")),
            ("awk '$1 > 3'", None),
            ("grep '>' \\| \"a; b\"", None),
            ("curl http://h/?a=b&c=d", None),
        ] {
            let exec = Exec {
                line: line.to_owned(),
                ..Exec::default()
            };
            assert_eq!(exec.operator(), operator, "{line}");
            let exec = Exec {
                shell: true,
                ..exec
            };
            assert_eq!(exec.operator(), None, "{line}");
        }
        assert!(find("sh").is_ok() && find("/bin/sh").is_ok());
        assert!(find("nosuch-command").is_err() && find("/nosuch").is_err());
        assert!(find("/").is_err() && find("/bin/").is_err());
    }
}
