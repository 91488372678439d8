//! `drainline load` against a server: what it says that it sent is what the server received, in
//! every way of sending.

use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::common::child::Drainline;
use crate::common::tool::{load, run, verify};
use serde_json::Value;
use tempfile::TempDir;

/// A server whose sink is a file.
struct Server {
    directory: TempDir,
    child: Drainline,
}

impl Server {
    fn start(flags: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let sink = format!("file:{}", directory.path().join("messages").display());
        let child = Drainline::start(&[&["--sink", &sink], flags].concat());
        Server { directory, child }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("messages")
    }

    /// Loads it, waiting for each close, and ends it. The counts on both sides are the same.
    #[track_caller]
    fn load(mut self, flags: &[&str]) -> (Value, Written) {
        let report = load(&self.child, &[&["--wait-close"], flags].concat());
        let exit = self.child.terminate();
        exit.assert_code(0);
        exit.assert_balanced();
        assert_eq!(report["messages"], exit.report["received"], "{report}");
        assert_eq!(report["bytes"], exit.report["bytes_read"], "{report}");
        assert_eq!(exit.u64("unterminated"), 0);
        for error in [
            "connect_errors",
            "write_errors",
            "unsent",
            "partial",
            "closed_early",
        ] {
            assert_eq!(report[error], 0, "{report}");
        }
        let path = self.path();
        let written = Written {
            accepted: exit.u64("connections.accepted"),
            _directory: self.directory,
            path,
        };
        (report, written)
    }
}

struct Written {
    /// Connections that the server accepted.
    accepted: u64,
    _directory: TempDir,
    path: PathBuf,
}

impl Written {
    #[track_caller]
    fn assert_clean(&self, flags: &[&str]) {
        let (code, report) = verify(&self.path, flags);
        assert_eq!(code, Some(0), "{report}");
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(&self.path).unwrap();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| line[..line.len() - 1].to_vec()).collect()
    }
}

#[test]
fn every_framing_arrives_whole() {
    for framing in ["lines", "nul", "octet-counted", "length-prefixed"] {
        let server = Server::start(&["--framing", framing, "--output-framing", framing]);
        let flags = [
            "--numbered",
            "--connections=5",
            "--messages=300",
            "--size=32-900",
        ];
        let (report, written) = server.load(&[&flags[..], &["--framing", framing]].concat());
        assert_eq!(report["messages"], 1500);
        written.assert_clean(&["--framing", framing, "--connections=5", "--messages=300"]);
    }
}

#[test]
fn untagged_messages_have_the_size_that_was_asked_for() {
    let (report, written) = Server::start(&[]).load(&["--connections=3", "--messages=2000"]);
    assert_eq!(
        (&report["messages"], &report["bytes"]),
        (&6000.into(), &(6000 * 129).into())
    );
    let lines = written.lines();
    assert_eq!(lines.len(), 6000);
    assert!(lines.iter().all(|line| line.len() == 128));
    let sizes = |seed: &str| {
        let flags = ["--messages=500", "--size=10-1000", "--seed", seed];
        let (_, written) = Server::start(&[]).load(&flags);
        written.lines().iter().map(Vec::len).collect::<Vec<_>>()
    };
    let drawn = sizes("5");
    assert!(drawn.iter().all(|size| (10..=1000).contains(size)));
    assert_eq!(drawn, sizes("5"));
    assert_ne!(drawn, sizes("6"));
}

#[test]
fn small_and_large_writes_arrive_whole() {
    for tagged in [&["--numbered"][..], &[]] {
        for size in ["1", "7", "200", "1MiB"] {
            let flags = ["--connections=2", "--messages=300", "--write-size", size];
            let (_, written) = Server::start(&[]).load(&[&flags, tagged].concat());
            assert_eq!(written.lines().len(), 600);
            assert!(written.lines().iter().all(|line| line.len() == 128));
            if !tagged.is_empty() {
                written.assert_clean(&["--connections=2", "--messages=300"]);
            }
        }
    }
}

#[test]
fn a_connection_is_replaced_after_its_messages() {
    let flags = [
        "--numbered",
        "--connections=4",
        "--messages=90",
        "--reconnect-every=30",
    ];
    let (report, written) = Server::start(&[]).load(&flags);
    assert_eq!(
        (&report["messages"], &report["connects"]),
        (&360.into(), &12.into())
    );
    assert_eq!(written.accepted, 12);
    assert_eq!(report["connect_us"]["count"], 12);
    written.assert_clean(&["--connections=12", "--messages=30"]);
    // What is left over is the last one's.
    let flags = ["--numbered", "--messages=100", "--reconnect-every=30"];
    let (report, written) = Server::start(&[]).load(&flags);
    assert_eq!(
        (&report["messages"], &report["connects"]),
        (&100.into(), &4.into())
    );
    assert_eq!(written.lines().len(), 100);
    written.assert_clean(&["--connections=4"]);
}

#[test]
fn short_lived_connections_go_on_for_the_duration() {
    let flags = [
        "--numbered",
        "--connections=4",
        "--duration=500ms",
        "--reconnect-every=1",
    ];
    let (report, written) = Server::start(&[]).load(&flags);
    let count = |what: &str| report[what].as_u64().unwrap();
    let (messages, connects) = (count("messages"), count("connects"));
    assert!(messages > 4, "{report}");
    // When the time is over, each may have made one that sends nothing, or be about to.
    assert!((messages..=messages + 4).contains(&connects), "{report}");
    assert!(
        (connects..=messages + 8).contains(&written.accepted),
        "{report}"
    );
    written.assert_clean(&["--connections", &messages.to_string(), "--messages=1"]);
}

#[test]
fn a_unix_socket_is_loaded_as_a_port_is() {
    const CONNECTIONS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let reader = std::thread::spawn(move || {
        let clients = listener.incoming().take(CONNECTIONS);
        let read = |client: std::io::Result<UnixStream>| {
            let mut all = Vec::new();
            client.unwrap().read_to_end(&mut all).unwrap();
            all.len() as u64
        };
        clients.map(read).sum::<u64>()
    });
    let address = format!("unix:{}", path.display());
    let flags = "--connections 4 --messages 50 --reconnect-every 10 --wait-close --json -";
    let flags = flags.split(' ');
    let args = ["load", &address].into_iter().chain(flags);
    let (exit, stdout) = run(&args.collect::<Vec<_>>());
    exit.assert_code(0);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&report["messages"], &report["connects"]),
        (&200.into(), &20.into())
    );
    assert_eq!(report["bytes"], reader.join().unwrap());
}

#[test]
fn a_rate_is_kept_to_the_message() {
    for (connections, duration, messages) in [("4", "1s", 200), ("3", "500ms", 75)] {
        let flags = [
            "--rate=50",
            "--connections",
            connections,
            "--duration",
            duration,
        ];
        let (report, _) = Server::start(&[]).load(&flags);
        assert_eq!(report["messages"], messages);
        assert_eq!(report["late_us"]["count"], messages);
    }
    // Not before their time: the last of 30 is due 29/50 s after the first.
    let (report, _) = Server::start(&[]).load(&["--rate=50", "--messages=30"]);
    assert_eq!(report["messages"], 30);
    assert!(report["seconds"].as_f64().unwrap() >= 0.58, "{report}");
    // More than goes into one write between two looks at the clock.
    let flags = [
        "--rate=20000",
        "--duration=200ms",
        "--write-size=50",
        "--size=300",
    ];
    let (report, _) = Server::start(&[]).load(&flags);
    assert_eq!(report["messages"], 4000);
}

/// Else one message in a load that lasts would be thousands in a second.
#[test]
fn a_load_takes_as_long_as_it_lasts() {
    for (flags, least) in [
        (&["--rate=1", "--duration=900ms"][..], 0.9),
        (&["--duration=300ms", "--reconnect-every=100"], 0.3),
    ] {
        let server = Server::start(&[]);
        let report = load(&server.child, flags);
        assert!(
            report["seconds"].as_f64() >= Some(least),
            "{flags:?}: {report}"
        );
    }
}

#[test]
fn a_rate_goes_on_over_new_connections() {
    let flags = [
        "--numbered",
        "--rate=200",
        "--messages=100",
        "--connections=3",
    ];
    let server = Server::start(&[]);
    let (report, written) = server.load(&[&flags[..], &["--reconnect-every=5"]].concat());
    assert_eq!(
        (&report["messages"], &report["connects"]),
        (&300.into(), &60.into())
    );
    written.assert_clean(&["--connections=60", "--messages=5"]);
}

/// The stamps of a file of lines, each behind it.
fn stamps(path: &Path) -> Vec<u128> {
    let text = fs::read_to_string(path).unwrap();
    let stamp = |line: &str| {
        let (digits, _) = line.split_once(' ').unwrap();
        assert_eq!(digits.len(), 19, "{line}");
        digits.parse().unwrap()
    };
    text.lines().map(stamp).collect()
}

#[test]
fn stamps_are_the_time_of_sending() {
    let nanos = || {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos()
    };
    for flags in [&["--messages=2000"][..], &["--messages=50", "--rate=200"]] {
        let before = nanos();
        let (_, written) =
            Server::start(&[]).load(&[flags, &["--timestamped", "--size=60"]].concat());
        let stamps = stamps(&written.path);
        assert!(stamps.is_sorted() && stamps[0] >= before && *stamps.last().unwrap() <= nanos());
    }
}

#[test]
fn many_connections_share_few_threads() {
    let flags = [
        "--numbered",
        "--connections=400",
        "--messages=20",
        "--threads=2",
    ];
    let (report, written) = Server::start(&[]).load(&flags);
    assert_eq!(
        (&report["messages"], &report["connects"]),
        (&8000.into(), &400.into())
    );
    written.assert_clean(&["--connections=400", "--messages=20"]);
}

#[test]
fn the_text_says_what_the_json_does() {
    let server = Server::start(&[]);
    let address = server.child.addr().to_string();
    let (exit, told) = run(&["load", &address, "--messages=10", "--connections=2"]);
    exit.assert_code(0);
    assert!(
        told.starts_with("sent 20 messages, 2580 bytes in "),
        "{told}"
    );
    assert!(told.contains("\n2 connections made, "), "{told}");
    assert!(told.contains("\nconnect: p50 "), "{told}");
}

#[test]
fn the_short_helps_fit_a_screen_and_the_long_ones_fit_100_columns() {
    for tool in ["load", "verify", "lab", "plan"] {
        for (word, columns) in [("-h", 80), ("--help", 100)] {
            let (exit, told) = run(&[tool, word]);
            exit.assert_code(0);
            assert!(told.starts_with("drainline ") || word == "--help", "{told}");
            assert!(
                told.lines().all(|line| line.chars().count() <= columns),
                "{told}"
            );
            assert!(word == "--help" || told.lines().count() <= 30, "{told}");
        }
    }
}
