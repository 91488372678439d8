//! Stdout that is a terminal, or a terminal by its name: it shows what came, obeys none of it, and
//! may go away.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::child::BINARY;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::guard::{Collector, Guarded};
use crate::common::programs::is_installed;
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// More than a terminal holds.
fn plenty() -> Vec<u8> {
    b"a line of thirty bytes or so..\n".repeat(30_000)
}

/// The program on a terminal of its own, made by script(1), which copies what it shows to its own
/// stdout and ends with the program's exit code. Its stderr and its process id stand in files.
struct OnTerminal {
    script: Guarded,
    addr: std::net::SocketAddr,
    pid: Pid,
    directory: PathBuf,
}

fn on_terminal(directory: &Path, arguments: &str) -> Option<OnTerminal> {
    if !is_installed("script") {
        return None;
    }
    // Nobody had it ignore SIGHUP, as nohup(1) does for whole test runs.
    let program = format!("env --default-signal=HUP '{BINARY}'");
    let command = format!(
        "echo $$ >pid; exec {program} --listen 127.0.0.1:0 --port-file ports --report json {arguments} 2>stderr"
    );
    let child: Child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(directory)
        // Where its own stdin has ended it waits for nothing.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let script = Guarded(child);
    let addr = wait_for("a port", DEADLINE, || {
        fs::read_to_string(directory.join("ports"))
            .ok()?
            .trim()
            .parse()
            .ok()
    });
    let pid = fs::read_to_string(directory.join("pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    Some(OnTerminal {
        script,
        addr,
        pid,
        directory: directory.to_owned(),
    })
}

/// Should the test fail: without its terminal it might go on for ever.
impl Drop for OnTerminal {
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

impl OnTerminal {
    /// Its id is still that of this program, and it runs: what has ended has no command line, even
    /// while nobody has waited for it.
    fn is_alive(&self) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid.as_raw_nonzero()));
        line.is_ok_and(|line| line.starts_with(BINARY.as_bytes()))
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.directory.join("stderr")).unwrap()
    }

    fn send(&self, bytes: &[u8]) {
        let mut client = client::connect(self.addr);
        client.write_all(bytes).unwrap();
        client::half_close(client);
    }
}

#[test]
fn a_terminal_shows_the_messages_as_stdout_and_by_its_name_and_after_a_reopen() {
    for arguments in ["", "--sink file:/dev/tty"] {
        let directory = tempfile::tempdir().unwrap();
        let Some(mut terminal) = on_terminal(directory.path(), arguments) else {
            return;
        };
        let shown = Collector::start(terminal.script.0.stdout.take().unwrap());
        terminal.send(b"one\ntwo\n");
        wait_until("the lines", DEADLINE, || shown.text() == "one\r\ntwo\r\n");
        kill_process(terminal.pid, Signal::HUP).unwrap();
        terminal.send(b"three\n");
        wait_until("one more", DEADLINE, || {
            shown.text() == "one\r\ntwo\r\nthree\r\n"
        });
        kill_process(terminal.pid, Signal::TERM).unwrap();
        assert_eq!(terminal.script.wait(DEADLINE).unwrap().code(), Some(0));
    }
}

#[test]
fn a_terminal_that_stands_still_does_not_hold_up_a_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut terminal) = on_terminal(directory.path(), "--drain-timeout 300ms") else {
        return;
    };
    // Nobody reads what script shows, so it stops to read the terminal.
    terminal.send(&plenty());
    kill_process(terminal.pid, Signal::TERM).unwrap();
    let stderr = directory.path().join("stderr");
    wait_until("the report", DEADLINE, || {
        fs::read_to_string(&stderr).unwrap().ends_with("}\n")
    });
    let shown = Collector::start(terminal.script.0.stdout.take().unwrap());
    let status = terminal.script.wait(DEADLINE).unwrap();
    let exit = Exit::new(status.code(), None, fs::read_to_string(&stderr).unwrap());
    exit.assert_code(4);
    exit.assert_balanced();
    exit.assert_nothing_left();
    shown.finish();
}

/// As a terminal that was closed, or a session that was disconnected. Whether it ends for its
/// hangup or for want of a reader: nobody's message is lost for it.
#[test]
fn a_terminal_that_is_gone_ends_the_server_although_nothing_comes() {
    for arguments in ["", "--sink file:/dev/tty"] {
        let directory = tempfile::tempdir().unwrap();
        let Some(mut terminal) = on_terminal(directory.path(), arguments) else {
            return;
        };
        let script = &mut terminal.script;
        script.signal(Signal::KILL);
        assert_eq!(script.wait(DEADLINE).unwrap().code(), None);
        wait_until("its end", DEADLINE, || !terminal.is_alive());
        let exit = Exit::new(None, None, terminal.stderr());
        exit.assert_closes();
        assert_eq!(exit.sum("dropped"), 0, "{exit}");
    }
}

/// What takes over a terminal that obeys it: title, clipboard, screen, an answer as if typed; and a
/// second line.
const HOSTILE: &[u8] = b"\x1b]0;title\x07 \x1b]52;c;aGk=\x07 \x1b[2J \xc2\x9b5n \x9b5n \x7f\ttab \xc3\xa9 \xe2\x80\x99";
const HARMLESS: &str = "\\x1b]0;title\\x07 \\x1b]52;c;aGk=\\x07 \\x1b[2J \\xc2\\x9b5n \\x9b5n \\x7f\ttab \u{e9} \u{2019}";

#[test]
fn what_a_terminal_would_obey_is_escaped_whatever_its_name_and_the_log_says_so() {
    for arguments in ["", "--sink file:/dev/tty"] {
        let directory = tempfile::tempdir().unwrap();
        let arguments = format!("{arguments} --framing octet-counted");
        let Some(mut terminal) = on_terminal(directory.path(), &arguments) else {
            return;
        };
        let shown = Collector::start(terminal.script.0.stdout.take().unwrap());
        // The LF inside it is the message's own.
        let message = [HOSTILE, b"\nforged"].concat();
        let frame = [format!("{} ", message.len()).as_bytes(), &message].concat();
        terminal.send(&frame.repeat(2));
        let line = format!("{HARMLESS}\\x0aforged\r\n");
        wait_until("two lines", DEADLINE, || shown.text() == line.repeat(2));
        kill_process(terminal.pid, Signal::TERM).unwrap();
        assert_eq!(terminal.script.wait(DEADLINE).unwrap().code(), Some(0));
        let told = terminal.stderr().matches("(--terminal-escape off ").count();
        assert_eq!(told, 1, "{}", terminal.stderr());
    }
}

#[test]
fn a_terminal_is_shown_messages_as_they_are_where_that_is_asked_for() {
    for arguments in [
        "--terminal-escape off",
        "--sink file:/dev/tty --terminal-escape=off",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let Some(mut terminal) = on_terminal(directory.path(), arguments) else {
            return;
        };
        let shown = Collector::start(terminal.script.0.stdout.take().unwrap());
        terminal.send(&[HOSTILE, b"\n"].concat());
        let line = [HOSTILE, b"\r\n"].concat();
        wait_until("the line", DEADLINE, || shown.bytes() == line);
        kill_process(terminal.pid, Signal::TERM).unwrap();
        assert_eq!(terminal.script.wait(DEADLINE).unwrap().code(), Some(0));
        assert!(
            !terminal.stderr().contains("--terminal-escape"),
            "{}",
            terminal.stderr()
        );
    }
}

/// It takes a part of an escape, of a character, of a line, and goes on there.
#[test]
fn a_slow_terminal_is_shown_every_escape_whole() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut terminal) = on_terminal(directory.path(), "") else {
        return;
    };
    const LINES: usize = 5000;
    terminal.send(&[HOSTILE, b"\n"].concat().repeat(LINES));
    let shown = Collector::start(terminal.script.0.stdout.take().unwrap());
    let expected = format!("{HARMLESS}\r\n").repeat(LINES);
    wait_until("all of it", DEADLINE, || {
        shown.with(<[u8]>::len) >= expected.len()
    });
    assert!(shown.text() == expected);
    kill_process(terminal.pid, Signal::TERM).unwrap();
    assert_eq!(terminal.script.wait(DEADLINE).unwrap().code(), Some(0));
    let exit = Exit::new(Some(0), None, terminal.stderr());
    assert_eq!(exit.u64("delivered"), LINES as u64, "{exit}");
}

/// In the middle of escapes: what is delivered is what was shown to its end.
#[test]
fn of_a_terminal_that_stands_still_as_many_lines_are_delivered_as_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut terminal) = on_terminal(directory.path(), "--drain-timeout 300ms") else {
        return;
    };
    // None of it is longer than a piece that is written, and none ends where one does.
    let message = [&HOSTILE.repeat(7)[..], b"\n"].concat();
    terminal.send(&message.repeat(3000));
    kill_process(terminal.pid, Signal::TERM).unwrap();
    wait_until("the report", DEADLINE, || {
        terminal.stderr().ends_with("}\n")
    });
    let shown = Collector::start(terminal.script.0.stdout.take().unwrap());
    assert_eq!(terminal.script.wait(DEADLINE).unwrap().code(), Some(4));
    shown.finish();
    let exit = Exit::new(Some(4), None, terminal.stderr());
    exit.assert_closes();
    let text = shown.text();
    assert_eq!(
        exit.u64("delivered"),
        text.matches('\n').count() as u64,
        "{exit}"
    );
    let line = format!("{}\r\n", HARMLESS.repeat(7));
    assert!(line.repeat(3000).starts_with(&text));
}

#[test]
fn a_terminal_that_is_gone_stops_a_server_that_writes_elsewhere_and_has_nothing_to_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut terminal) = on_terminal(directory.path(), "--sink null") else {
        return;
    };
    terminal.send(b"one\n");
    let stderr = || fs::read_to_string(directory.path().join("stderr")).unwrap();
    // While it is there, a SIGHUP is a request that is told.
    kill_process(terminal.pid, Signal::HUP).unwrap();
    wait_until("the line", DEADLINE, || {
        stderr().contains("SIGHUP: there is no file to reopen")
    });
    terminal.send(b"two\n");
    terminal.script.signal(Signal::KILL);
    terminal.script.wait(DEADLINE);
    wait_until("its end", DEADLINE, || !terminal.is_alive());
    let stderr = stderr();
    assert!(
        stderr.contains("SIGHUP: the terminal is gone; stopping"),
        "{stderr}"
    );
    assert!(stderr.contains("\"delivered\":2,"), "{stderr}");
}

/// It may be logrotate that asks.
#[test]
fn a_terminal_that_is_gone_does_not_stop_a_server_that_has_a_file_to_reopen() {
    let mut sinks = vec!["file:messages"];
    if cfg!(feature = "http") {
        sinks.push("'http://127.0.0.1:1/?refused=messages'");
    }
    for sink in sinks {
        let directory = tempfile::tempdir().unwrap();
        let Some(mut terminal) = on_terminal(directory.path(), &format!("--sink {sink}")) else {
            return;
        };
        terminal.script.signal(Signal::KILL);
        terminal.script.wait(DEADLINE);
        let stderr = || fs::read_to_string(directory.path().join("stderr")).unwrap();
        wait_until("the line", DEADLINE, || {
            stderr().contains("SIGHUP: reopening the file of the sink")
        });
        kill_process(terminal.pid, Signal::TERM).unwrap();
        wait_until("its end", DEADLINE, || !terminal.is_alive());
        let stderr = stderr();
        assert!(!stderr.contains("the terminal is gone"), "{stderr}");
    }
}
