//! Long lists of peers and of names: what they hold, and what reading them takes, is in the limit.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use super::cell::Figure;
use super::sessions;
use crate::common::child::Drainline;
use crate::common::proc;
use crate::common::wait::{DEADLINE, wait_for};

/// A server that takes next to nothing else.
const SMALL: [&str; 11] = [
    "--max-connections=1",
    "--buffer-bytes=4KiB",
    "--buffer-messages=16",
    "--max-message=1KiB",
    "--stack-size=64KiB",
    "--sink=null",
    "--report=json",
    "--log-level=info",
    "--keepalive=off",
    "--first-byte-timeout=off",
    "--coalesce=off",
];

/// How a list is given.
#[derive(Debug, Clone, Copy)]
enum Given {
    /// By a flag, with commas: as much as fits into one word, several times.
    Commas,
    /// By a flag for each entry.
    Repeated,
    /// By the configuration file, for all listeners.
    InCommon,
    /// By the configuration file, where each listener has its part.
    Apart,
}

#[derive(Debug, Clone, Copy)]
enum Lists {
    /// Of clients' certificates.
    Names,
    /// Of networks that may connect.
    Allow,
    /// Of networks, by every flag that takes them.
    Every,
}

impl Lists {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Lists::Names => &["tls_client_names"],
            Lists::Allow => &["allow"],
            Lists::Every => &["allow", "proxy_from", "per_ip_exempt"],
        }
    }

    fn entry(self, n: usize) -> String {
        match self {
            Lists::Names => format!("{n:06}.example"),
            Lists::Allow | Lists::Every => {
                format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 0xff, n & 0xff)
            }
        }
    }

    fn url(self) -> &'static str {
        match self {
            Lists::Names => "tls://127.0.0.1:0",
            Lists::Allow | Lists::Every => "127.0.0.1:0",
        }
    }
}

struct Case {
    given: Given,
    lists: Lists,
    listeners: usize,
}

impl Case {
    /// The entries of all lists together: nearly all that a command line may have (execve(2)), and
    /// the largest file.
    fn entries(&self) -> usize {
        match self.given {
            Given::Commas => 60_000,
            Given::Repeated => 20_000,
            Given::InCommon | Given::Apart => 3_200,
        }
    }

    fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = Vec::new();
        for _ in 0..self.listeners {
            flags.push(format!("--listen={}", self.lists.url()));
        }
        let keys = self.lists.keys();
        for key in keys {
            let flag = format!("--{}", key.replace('_', "-"));
            let entries = (0..self.entries() / keys.len()).map(|n| self.lists.entry(n));
            let entries: Vec<String> = entries.collect();
            let in_a_word = match self.given {
                Given::Commas => 6_000,
                _ => 1,
            };
            let words = entries.chunks(in_a_word);
            flags.extend(words.flat_map(|word| [flag.clone(), word.join(",")]));
        }
        flags
    }

    fn file(&self) -> String {
        let (keys, url) = (self.lists.keys(), self.lists.url());
        let list = |key: &str, from: usize, entries: usize| {
            let entries: Vec<String> = (from..from + entries)
                .map(|n| format!("\"{}\"", self.lists.entry(n)))
                .collect();
            format!("{key}=[{}]\n", entries.join(","))
        };
        let of_each = self.entries() / keys.len();
        let (mut text, mut tables) = (String::new(), String::new());
        for at in 0..self.listeners {
            tables += &format!("[[listener]]\naddress=\"{url}\"\n");
            let own = keys.iter().filter(|key| **key != "per_ip_exempt");
            if let Given::Apart = self.given {
                let part = of_each / self.listeners;
                tables.extend(own.map(|key| list(key, at * part, part)));
            }
        }
        if let Given::InCommon = self.given {
            text.extend(keys.iter().map(|key| list(key, 0, of_each)));
        }
        text + &tables
    }

    fn run(&self) -> Figure {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut args: Vec<String> = SMALL.map(str::to_owned).to_vec();
        args.push(format!("--port-file={}", path("ports")));
        if let Lists::Names = self.lists {
            sessions::write_files(folder.path());
            args.push(format!("--tls-cert={}", path("server.pem")));
            args.push(format!("--tls-client-ca={}", path("clients.pem")));
        }
        match self.given {
            Given::Commas | Given::Repeated => args.extend(self.flags()),
            Given::InCommon | Given::Apart => {
                fs::write(path("toml"), self.file()).unwrap();
                args.push(format!("--config={}", path("toml")));
            }
        }
        let mut child = Drainline::with(&args).bare().start();
        let bound_bytes = child.limits().memory_bytes;
        if let Lists::Names = self.lists {
            read_again(&mut child, folder.path());
        }
        Figure {
            name: format!(
                "{:?}, {:?}, {} listeners",
                self.lists, self.given, self.listeners
            ),
            buffer_bytes: 0,
            bound_bytes,
            peak_bytes: proc::peak_rss_bytes(child.pid()),
            threads: (0, 0),
            descriptors: (0, 0),
        }
    }
}

/// The files of TLS are read once more, with as much as the limit has room for.
fn read_again(child: &mut Drainline, folder: &Path) {
    let file = folder.join("clients.pem");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + &"#\n".repeat(8 << 10)).unwrap();
    child.signal(Signal::HUP);
    wait_for("a reload", DEADLINE, || {
        child
            .stderr_text()
            .contains("read its TLS files again")
            .then_some(())
    });
}

/// Promise 2 of the design, for what an operator gives and not what a peer sends. Listeners once
/// had a copy each of the common lists, and nothing counted them, nor the words that they were read
/// from: 112,000 networks and 20 listeners took 57 MB under a limit of 12.
#[test]
fn lists_of_peers_and_names_and_reading_them_stay_below_the_printed_limit() {
    let mut figures = Vec::new();
    for given in [
        Given::Commas,
        Given::Repeated,
        Given::InCommon,
        Given::Apart,
    ] {
        for lists in [Lists::Names, Lists::Allow, Lists::Every] {
            for listeners in [1, 30] {
                let case = Case {
                    given,
                    lists,
                    listeners,
                };
                figures.push(case.run());
            }
        }
    }
    figures.sort_by(|one, other| other.ratio().total_cmp(&one.ratio()));
    let table: String = figures.iter().map(|figure| format!("{figure}\n")).collect();
    eprintln!("{table}");
    assert!(
        figures.iter().all(|it| it.peak_bytes <= it.bound_bytes),
        "{table}"
    );
}
