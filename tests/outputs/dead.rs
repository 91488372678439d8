//! Several outputs of the program of which some are dead: what is held, what is dropped, in whose
//! row, and with which exit code.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
#[cfg(feature = "http")]
use std::{thread, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::child::{Drainline, Stdout};
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::fifo;
#[cfg(feature = "http")]
use crate::common::http_peer::{HttpPeer, Reply};
use crate::common::port::free_port;
use crate::common::wait::{DEADLINE, wait_until};
use rustix::fs::OFlags;
use rustix::process::Signal;

const LINES: u64 = 300;
/// More of them than a pipe holds.
const LINE_BYTES: usize = 1000;

/// A directory with a FIFO that somebody has open and nobody reads, and a file.
struct Place {
    directory: TempDir,
    _reader: fs::File,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dead");
        fifo::make(&path);
        let mut options = fs::OpenOptions::new();
        let reader = options.read(true).write(true).open(path).unwrap();
        Place {
            directory,
            _reader: reader,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes to a FIFO until it takes no more.
    fn fill(&self, name: &str) {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true);
        let nonblock = OFlags::NONBLOCK.bits() as i32;
        let fifo = options.custom_flags(nonblock).open(self.path(name));
        let mut fifo = fifo.unwrap();
        while fifo.write(&[b'x'; 4096]).is_ok() {}
    }

    fn sink(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }

    /// A configuration of outputs: their names, their sinks, whether they are required.
    fn config(&self, outputs: &[(&str, &str, bool)]) -> String {
        let mut text = String::new();
        for (name, sink, is_required) in outputs {
            text += &format!("[[output]]\nname = \"{name}\"\nsink = \"{sink}\"\n");
            if !is_required {
                text += "required = false\nbuffer_bytes = \"64KiB\"\n";
            }
        }
        let path = self.path("config.toml");
        fs::write(&path, format!("max_message = \"1KiB\"\n{text}")).unwrap();
        path.display().to_string()
    }

    fn lines(&self, name: &str) -> u64 {
        lines_of(&self.path(name))
    }
}

fn lines_of(path: &Path) -> u64 {
    let read = fs::read(path).unwrap();
    read.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn send(server: &mut Drainline) {
    let mut client = server.connect();
    let line = "x".repeat(LINE_BYTES - 1) + "\n";
    client
        .write_all(line.repeat(LINES as usize).as_bytes())
        .unwrap();
    client::half_close(client);
    server.wait_until_all_ended();
}

/// The row of an output in a report or a status.
fn row(report: &Value, name: &str) -> Value {
    let outputs = report["outputs"].as_array().unwrap();
    outputs
        .iter()
        .find(|row| row["name"] == name)
        .unwrap()
        .clone()
}

/// Sends everything to outputs of which some are dead, and terminates.
#[track_caller]
fn run(outputs: &[(&str, &str, bool)], place: &Place, drain: &str) -> Exit {
    let config = place.config(outputs);
    let mut server = Drainline::start(&["--config", &config, "--drain-timeout", drain]);
    send(&mut server);
    let exit = server.terminate();
    assert_eq!(exit.report["balanced"], true, "{exit}");
    for (name, _, is_required) in outputs {
        let row = row(&exit.report, name);
        assert_eq!(
            (&row["balanced"], &row["received"], &row["required"]),
            (
                &Value::from(true),
                &Value::from(LINES),
                &Value::from(*is_required)
            ),
            "{exit}"
        );
    }
    exit
}

#[test]
fn a_required_output_that_is_dead_holds_what_it_has_not_and_the_others_get_all() {
    let place = Place::new();
    let outputs = [
        ("alive", &*place.sink("file"), true),
        ("dead", &*place.sink("dead"), true),
    ];
    let exit = run(&outputs, &place, "1s");
    exit.assert_code(4);
    assert_eq!(place.lines("file"), LINES);
    let (alive, dead) = (row(&exit.report, "alive"), row(&exit.report, "dead"));
    assert_eq!(alive["delivered"], LINES, "{exit}");
    assert!(exit.u64("delivered") < LINES, "{exit}");
    assert_eq!(dead["delivered"], exit.u64("delivered"), "{exit}");
    let lost = LINES - exit.u64("delivered");
    assert_eq!(dead["dropped"]["shutdown"], lost, "{exit}");
    assert_eq!(exit.u64("dropped.shutdown"), lost, "{exit}");
}

/// The number of messages that lines of the log tell of, between two texts.
fn told_of(exit: &Exit, before: &str, after: &str) -> u64 {
    let told = exit.stderr.lines().filter_map(|line| {
        let (_, rest) = line.split_once(before)?;
        let (count, rest) = rest.split_once(" message")?;
        let count = rest.contains(after).then(|| count.parse::<u64>());
        count.transpose().unwrap()
    });
    told.sum()
}

/// A drain of an hour, which the dead one does not hold up.
#[test]
fn a_best_effort_output_that_is_full_and_dead_drops_in_its_own_row_and_the_exit_code_is_0() {
    let place = Place::new();
    let dead_receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = format!("tcp://{}", dead_receiver.local_addr().unwrap());
    let refusing = format!("tcp://127.0.0.1:{}", free_port());
    place.fill("dead");
    let silent = "it has answered nothing for 1";
    for (dead, drain, why) in [
        (&*place.sink("dead"), "1h", silent),
        (&receiver, "1h", silent),
        (&refusing, "1h", "it has failed for 1."),
        (&place.sink("dead"), "2s", "the drain has no more time"),
    ] {
        let outputs = [("alive", &*place.sink("file"), true), ("dead", dead, false)];
        let exit = run(&outputs, &place, drain);
        exit.assert_code(0);
        assert_eq!(place.lines("file"), LINES);
        assert_eq!(exit.u64("delivered"), LINES, "{exit}");
        assert_eq!(exit.sum("dropped"), 0, "{exit}");
        let may_take_all = dead == receiver;
        let dead = row(&exit.report, "dead");
        let dropped = &dead["dropped"];
        // The log tells of each of them.
        let [full, unanswered] = ["full", "shutdown"].map(|reason| dropped[reason].as_u64());
        // The sockets of the receiver may have taken all.
        assert!(
            full > Some(0) && (may_take_all || unanswered > Some(0)),
            "{exit}"
        );
        let no_room = " (full): its buffer of 65536 bytes had no room";
        let told = told_of(&exit, "WARN  drainline] output dead has dropped ", no_room);
        assert_eq!(Some(told), full, "{exit}");
        let told = told_of(&exit, "WARN  drainline] output dead is given up with ", why);
        assert_eq!(told, unanswered.unwrap_or(0), "{exit}");
        let dropped: u64 = dropped
            .as_object()
            .unwrap()
            .values()
            .map(|it| it.as_u64().unwrap())
            .sum();
        assert_eq!(
            dead["delivered"].as_u64().unwrap() + dropped,
            LINES,
            "{exit}"
        );
        assert_eq!(
            (&dead["in_flight"], &dead["unanswered"]),
            (&0.into(), &0.into()),
            "{exit}"
        );
        fs::remove_file(place.path("file")).unwrap();
    }
}

#[test]
fn where_both_are_dead_the_required_one_decides() {
    let place = Place::new();
    let refusing = format!("tcp://127.0.0.1:{}", free_port());
    let outputs = [
        ("held", &*place.sink("dead"), true),
        ("dropped", &refusing, false),
    ];
    let exit = run(&outputs, &place, "1s");
    exit.assert_code(4);
    let (held, dropped) = (row(&exit.report, "held"), row(&exit.report, "dropped"));
    let lost = LINES - exit.u64("delivered");
    assert!(lost > 0, "{exit}");
    assert_eq!(held["dropped"]["shutdown"], lost, "{exit}");
    assert_eq!(dropped["delivered"], 0, "{exit}");
    assert!(dropped["dropped"]["full"].as_u64() > Some(0), "{exit}");
}

/// It has answered nothing for longer than one that fails may go on.
#[cfg(feature = "http")]
#[test]
fn a_best_effort_output_that_answers_late_loses_nothing_in_a_drain_that_has_the_time() {
    let peer = HttpPeer::start(|_| {
        thread::sleep(Duration::from_secs(2));
        Reply::ok()
    });
    let place = Place::new();
    let url = format!("{}?requests=1", peer.url());
    let outputs = [("alive", &*place.sink("file"), true), ("late", &url, false)];
    let exit = run(&outputs, &place, "1h");
    exit.assert_code(0);
    let late = row(&exit.report, "late");
    assert!(late["delivered"].as_u64() > Some(0), "{exit}");
    assert_eq!(late["dropped"]["shutdown"], Value::Null, "{exit}");
    assert!(!exit.stderr.contains("given up"), "{exit}");
}

/// Its `stop_timeout` is longer than that, too.
#[test]
fn a_command_that_nobody_waits_for_may_end_by_itself() {
    let place = Place::new();
    let ended = place.path("ended");
    let config = place.config(&[("alive", &*place.sink("file"), true)]);
    let table = format!(
        "[[output]]\nname = \"command\"\nrequired = false\nshell = true\n\
         sink = \"exec:cat >/dev/null; sleep 3; echo >{}\"\n",
        ended.display()
    );
    let text = fs::read_to_string(&config).unwrap() + &table;
    fs::write(&config, text).unwrap();
    let mut server = Drainline::start(&["--config", &config]);
    send(&mut server);
    let exit = server.terminate();
    exit.assert_code(0);
    assert!(!exit.stderr.contains("did not end in time"), "{exit}");
    assert!(ended.exists(), "{exit}");
}

/// One line for each in ten seconds, and not one for all.
#[test]
fn the_log_tells_of_every_dead_output_by_its_name() {
    let place = Place::new();
    let [one, two] = [free_port(), free_port()].map(|port| format!("tcp://127.0.0.1:{port}"));
    let outputs = [
        ("alive", &*place.sink("file"), true),
        ("one", &one, false),
        ("two", &two, false),
    ];
    let config = place.config(&outputs);
    let mut server = Drainline::start(&["--config", &config]);
    send(&mut server);
    for (name, url) in [("one", &one), ("two", &two)] {
        let told = format!("output {name}: the sink {url} failed: ");
        wait_until(&told, DEADLINE, || server.stderr_text().contains(&told));
        wait_until("more than one failure", DEADLINE, || {
            server.signal(Signal::USR1);
            let status = server.last_status();
            status.is_some_and(|status| row(&status, name)["sink_failures"].as_u64() > Some(1))
        });
    }
    let exit = server.terminate();
    exit.assert_code(0);
    for name in ["one", "two"] {
        let (name, others) = (format!("output {name}: "), "similar message");
        let mut lines = exit.stderr.lines();
        let is_told = lines.any(|line| line.contains(&name) && line.contains(others));
        assert!(is_told, "{exit}");
    }
}

/// Nobody reads stdout any more: it never works again.
#[test]
fn an_output_that_fails_for_good_ends_the_server_only_where_it_is_required() {
    for (is_required, code) in [(true, 1), (false, 0)] {
        let place = Place::new();
        let outputs = [
            ("gone", "stdout", is_required),
            ("alive", &*place.sink("file"), true),
        ];
        let config = place.config(&outputs);
        let mut server = Drainline::with(&["--config", &config])
            .stdout(Stdout::Unread)
            .start();
        server.close_stdout();
        let exit = match is_required {
            true => {
                // It is noticed within a second, or by the first write.
                let _ = TcpStream::connect(server.addr()).map(|mut to| to.write_all(b"one\n"));
                server.wait()
            }
            false => {
                send(&mut server);
                server.terminate()
            }
        };
        exit.assert_code(code);
        let gone = row(&exit.report, "gone");
        assert_eq!(exit.report["balanced"], true, "{exit}");
        let error = gone["last_error"].as_str().unwrap_or_default();
        assert!(error.contains("reader") || error.contains("ipe"), "{exit}");
        assert_eq!(exit.report["error"].is_string(), is_required, "{exit}");
        if !is_required {
            assert_eq!(place.lines("file"), LINES);
            let [failed, full] =
                ["sink_failed", "full"].map(|reason| gone["dropped"][reason].as_u64());
            assert_eq!(failed.unwrap_or(0) + full.unwrap_or(0), LINES, "{exit}");
        }
    }
}

/// What an operator asks for while it lasts, in both forms.
#[test]
fn how_each_output_stands_is_told_by_sigusr1_and_in_the_end() {
    let place = Place::new();
    let [refusing, spare] =
        [free_port(), free_port()].map(|port| format!("tcp://127.0.0.1:{port}"));
    let outputs = [
        ("held", &*place.sink("dead"), true),
        ("refused", &refusing, true),
        ("spare", &spare, false),
    ];
    let config = place.config(&outputs);
    for format in ["json", "text"] {
        let args = [
            "--config",
            &config,
            "--drain-timeout",
            "1s",
            "--report",
            format,
        ];
        let mut server = Drainline::start(&args);
        let mut client = server.connect();
        let line = "x".repeat(LINE_BYTES - 1) + "\n";
        client
            .write_all(line.repeat(LINES as usize).as_bytes())
            .unwrap();
        if format == "text" {
            wait_until("both in the list", DEADLINE, || {
                server.signal(Signal::USR1);
                let text = server.stderr_text();
                let told = |of: &str, parts: &[&str]| {
                    let mut lines = text.lines().filter(|line| line.starts_with(of));
                    lines.any(|line| parts.iter().all(|part| line.contains(part)))
                };
                let held = [
                    ": required; received 300 = ",
                    "; buffer ",
                    "; busy with one write for ",
                ];
                let refused = [
                    ": required; received 300 = ",
                    "; retrying for ",
                    "Connection refused",
                ];
                let spare = [": best effort; received 300 = ", " of 65536 bytes; "];
                // The server's own line.
                let server = ["; output held has been busy with one write for "];
                told("1 connection; ", &server)
                    && told("output held", &held)
                    && told("output refused", &refused)
                    && told("output spare", &spare)
            });
            drop(client);
            server.terminate().assert_code(4);
            continue;
        }
        let status = server.wait_for_status("how both stand", |status| {
            let (held, refused) = (row(status, "held"), row(status, "refused"));
            held["busy_seconds"].as_f64() > Some(0.0)
                && held["unanswered"].as_u64() > Some(0)
                && refused["retrying_seconds"].as_f64() > Some(0.0)
                && refused["in_flight"] == LINES
        });
        let (held, refused) = (row(&status, "held"), row(&status, "refused"));
        let buffered = refused["buffered_bytes"].as_u64().unwrap();
        assert!(buffered >= LINES * LINE_BYTES as u64, "{status}");
        let capacity = |name| row(&status, name)["buffer_bytes"].as_u64();
        assert_eq!(
            (capacity("held"), capacity("spare")),
            (None, Some(64 << 10))
        );
        assert!(refused["unanswered"].as_u64() > Some(0), "{status}");
        assert_eq!(held["last_error"], Value::Null, "{status}");
        let error = refused["last_error"].as_str().unwrap();
        assert!(error.contains("Connection refused"), "{status}");
        drop(client);
        let exit = server.terminate();
        exit.assert_code(4);
        let last = row(&exit.report, "refused");
        assert_eq!(last["dropped"]["shutdown"], LINES, "{exit}");
        assert!(last["sink_failures"].as_u64() > Some(0), "{exit}");
        assert!(last["last_error"].is_string(), "{exit}");
    }
}
