//! What `--check` says of files is what a start says, and it leaves no trace of having looked.

use std::fs::{self, File, OpenOptions};
use std::net::TcpStream;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::common::child::{Drainline, Stdout};
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::wait::{DEADLINE, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}

fn file(path: impl AsRef<Path>) -> String {
    format!("file:{}", path.as_ref().display())
}

fn check(args: &[&str]) -> Exit {
    let args = [&["--check"], args].concat();
    Drainline::with(&args).bare().spawn().wait()
}

/// Refused by the check and at start with the same one line and the same code.
#[track_caller]
fn both_refuse(args: &[&str], code: i32, part: &str) {
    let checked = check(args);
    let started = Drainline::with(&[&["--listen", "127.0.0.1:0"], args].concat())
        .bare()
        .spawn()
        .wait();
    for exit in [&checked, &started] {
        exit.assert_code(code);
        assert_eq!(exit.stderr.lines().count(), 1, "{args:?}: {exit}");
        assert!(exit.stderr.contains(part), "{args:?}: {exit}");
    }
    assert_eq!(checked.stderr, started.stderr);
}

#[test]
fn a_sink_that_a_start_refuses_is_refused_by_the_check_in_the_same_words() {
    let (_directory, path) = folder();
    fs::write(path.join("there"), "").unwrap();
    symlink("/nowhere at all/messages", path.join("dangling")).unwrap();
    symlink("dangling", path.join("to-dangling")).unwrap();
    symlink("loop", path.join("loop")).unwrap();
    let _socket = UnixListener::bind(path.join("socket")).unwrap();
    let before = fs::read_dir(&path).unwrap().count();
    let slash = |name: &str| format!("{}/", file(path.join(name)));
    for (sink, part) in [
        ("file:/nowhere at all/messages".to_owned(), "No such file"),
        ("file:/".to_owned(), "Is a directory"),
        (file(&path), "Is a directory"),
        (slash("new"), "Is a directory"),
        (slash("there"), "Is a directory"),
        (slash("none/new"), "No such file"),
        (file(path.join("there/new")), "Not a directory"),
        (file(path.join("new/.")), "No such file"),
        (file(path.join("dangling")), "No such file"),
        (file(path.join("to-dangling")), "No such file"),
        (file(path.join("loop")), "symbolic links"),
        (file(path.join("socket")), "No such device or address"),
        (file(path.join("n".repeat(300))), "File name too long"),
    ] {
        both_refuse(&["--sink", &sink], 1, part);
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), before);
}

#[test]
fn an_option_that_a_start_refuses_at_the_path_is_refused_by_the_check_in_the_same_words() {
    let (_directory, path) = folder();
    let url = |rest: &str| format!("file://{}/{rest}", path.display());
    let mut sinks = vec![
        (
            "file:///dev/null?fsync=batch".to_owned(),
            "which fsync needs",
        ),
        ("file:///dev/null?fsync=1s".to_owned(), "which fsync needs"),
        (
            "file:///dev/null?rotate_size=1MiB".to_owned(),
            "which rotation needs",
        ),
        (
            url(&format!("{}?rotate_size=1MiB", "n".repeat(230))),
            "has at most ",
        ),
    ];
    if cfg!(feature = "strftime") {
        sinks.push((url("none/%Y"), "No such file"));
    }
    for (sink, part) in sinks {
        both_refuse(&["--sink", &sink], 1, part);
    }
}

#[cfg(feature = "strftime")]
#[test]
fn a_path_with_a_date_passes_the_check_where_its_folders_can_be_made_and_none_is() {
    let (_directory, path) = folder();
    let sink = |folder: &Path| format!("file://{}/%Y/%m/%d", folder.display());
    check(&["--sink", &sink(&path)]).assert_code(0);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    fs::write(path.join("there"), "").unwrap();
    check(&["--sink", &sink(&path.join("there"))]).assert_code(1);
    check(&["--sink", &sink(Path::new("/proc"))]).assert_code(1);
}

/// Also by root, to whom the folder's mode is no obstacle.
#[test]
fn a_sink_in_a_folder_in_which_nobody_can_create_is_refused() {
    let system = Path::new("/sys/kernel");
    if !system.is_dir() {
        eprintln!("left out: this machine has no {}", system.display());
        return;
    }
    let exit = Drainline::with(&["--sink", &file(system.join("none"))])
        .spawn()
        .wait();
    exit.assert_code(1);
    let why = exit.stderr.trim_end().rsplit(": ").next().unwrap();
    both_refuse(&["--sink", &file(system.join("none"))], 1, why);
}

#[test]
fn a_sink_that_can_be_opened_passes_the_check_and_nothing_is_created() {
    let (_directory, path) = folder();
    fs::write(path.join("there"), "as it was").unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    symlink("there", path.join("link")).unwrap();
    symlink("empty/new", path.join("dangling")).unwrap();
    for sink in [
        "there",
        "link",
        "dangling",
        "new",
        "empty/new",
        "empty/../new",
    ] {
        let exit = check(&["--sink", &file(path.join(sink))]);
        exit.assert_code(0);
        assert_eq!(exit.stderr, "", "{sink}");
    }
    check(&["--sink", "file:/dev/null"]).assert_code(0);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 4);
    assert_eq!(fs::read_dir(path.join("empty")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(path.join("there")).unwrap(), "as it was");
}

/// The line `limits: at most ...`.
fn bound(text: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with("limits: at most "));
    line.unwrap_or_else(|| panic!("no bound in {text}"))
        .to_owned()
}

#[test]
fn a_check_comes_to_the_bound_of_a_start() {
    let (_directory, path) = folder();
    let new = file(path.join("new"));
    let url = |options: &str| format!("file://{}{options}", path.join("new").display());
    let mut sinks = vec![
        "null".to_owned(),
        "stdout".to_owned(),
        new,
        url("?fsync=1s"),
        url("?fsync=batch"),
        url("?rotate_size=1MiB"),
        url("?rotate_every=1h&keep=3"),
        url("?fsync=batch&rotate_size=1MiB"),
        "tcp://127.0.0.1:1".to_owned(),
        "tcp://127.0.0.1:1,127.0.0.1:2".to_owned(),
        "exec:cat".to_owned(),
    ];
    if cfg!(feature = "gzip") {
        sinks.push(url("?rotate_size=1MiB&gzip=true"));
        sinks.push(url("?rotate_size=1MiB&gzip=true&fsync=batch"));
    }
    if cfg!(feature = "strftime") {
        sinks.push(url("-%Y/%d"));
        sinks.push(url("-%Y/%d?fsync=batch"));
    }
    if cfg!(feature = "tls") {
        sinks.push("tls://127.0.0.1:1".to_owned());
    }
    if cfg!(feature = "redis") {
        sinks.push("redis://127.0.0.1:1/stream".to_owned());
        sinks.push("redis://127.0.0.1:1/stream?window=1MiB".to_owned());
    }
    if cfg!(all(feature = "redis", feature = "tls")) {
        sinks.push("rediss://127.0.0.1:1/stream".to_owned());
    }
    if cfg!(feature = "http") {
        let refused = path.join("refused").display().to_string();
        sinks.push("http://127.0.0.1:1/".to_owned());
        sinks.push("http://127.0.0.1:1/?requests=9&gzip=true".to_owned());
        sinks.push(format!("http://127.0.0.1:1/?refused={refused}"));
        sinks.push("https://127.0.0.1:1/".to_owned());
    }
    if cfg!(feature = "kafka") {
        sinks.push("kafka://127.0.0.1:1/topic".to_owned());
        sinks.push("kafka://127.0.0.1:1,127.0.0.1:2/topic?queue_bytes=1MiB".to_owned());
    }
    let mut differ = Vec::new();
    for sink in sinks {
        let (checked, started) = bounds(&["--sink", &sink]);
        if checked != started {
            differ.push(format!("{sink}\n  checked {checked}\n  started {started}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn a_check_of_several_outputs_comes_to_the_bound_of_a_start() {
    let (_directory, path) = folder();
    let file = format!(
        "file://{}?fsync=batch&rotate_size=1MiB",
        path.join("new").display()
    );
    let (checked, started) = bounds(&[
        "--sink",
        &file,
        "--sink",
        "stdout?required=false&name=shown",
        "--sink",
        "tcp://127.0.0.1:1?envelope=json",
    ]);
    assert_eq!(checked, started);
}

/// What a check says of these arguments, and what a start says.
#[track_caller]
fn bounds(args: &[&str]) -> (String, String) {
    let args = [&["--listen", "127.0.0.1:0", "--drain-timeout", "1s"], args].concat();
    let checked = [&["--check"], &args[..]].concat();
    let mut checked = Drainline::with(&checked).bare().spawn();
    checked.wait().assert_code(0);
    let checked = String::from_utf8(checked.stdout_bytes()).unwrap();
    let mut started = Drainline::with(&args).bare().spawn();
    wait_until("a start", DEADLINE, || {
        started.stderr_text().contains("\ntry: ") || started.has_ended()
    });
    let said = started.stderr_text();
    started.terminate().assert_code(0);
    (bound(&checked), bound(&said))
}

/// A writer that comes and goes is the end of the stream for whoever reads.
#[test]
fn a_check_does_not_end_the_reader_of_a_fifo_and_says_that_a_start_needs_one() {
    let (_directory, path) = folder();
    let fifo = path.join("fifo");
    fifo::make(&fifo);
    let note = format!("note: --sink {} is a FIFO", file(&fifo));
    let passes = || {
        let mut child = Drainline::with(&["--check", "--sink", &file(&fifo)])
            .bare()
            .spawn();
        child.wait().assert_code(0);
        let text = String::from_utf8(child.stdout_bytes()).unwrap();
        assert!(text.contains(&note), "{text}");
    };
    // Nobody reads: it does not wait for anybody.
    passes();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(&fifo)
        .unwrap();
    passes();
    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap();
    // It is said once a writer has been there and is gone.
    assert_eq!(fds[0].revents(), PollFlags::empty());
}

#[test]
fn an_address_of_another_machine_is_refused() {
    // Of TEST-NET-1 and of the documentation prefix, which no machine has (RFC 5737, RFC 3849).
    for address in ["192.0.2.1:5140", "192.0.2.1:0", "[2001:db8::1]:5140"] {
        let part = format!("drainline: --listen {address}: ");
        both_refuse(&["--listen", address], 1, &part);
    }
}

#[test]
fn a_check_beside_the_server_that_has_the_address_passes_with_a_note_and_disturbs_nothing() {
    for on_overload in ["backlog", "refuse"] {
        let flags = ["--sink", "null", "--on-overload", on_overload];
        let mut child = Drainline::start(&flags);
        let address = child.addr().to_string();
        let words = [&["--check", "--listen", &address], &flags[..]].concat();
        let mut check = Drainline::with(&words).bare().spawn();
        check.wait().assert_code(0);
        let text = String::from_utf8(check.stdout_bytes()).unwrap();
        let note = format!("note: --listen {address} is in use");
        assert!(text.contains(&note), "{text}");
        drop(TcpStream::connect(&address).unwrap());
        child.terminate().assert_code(0);
    }
}

/// A start would find its own socket there, and take it for another process's.
#[test]
fn two_spellings_of_one_socket_are_a_contradiction() {
    let (_directory, path) = folder();
    fs::create_dir(path.join("real")).unwrap();
    symlink("real", path.join("link")).unwrap();
    let url = |name: &str| format!("unix:{}", path.join(name).display());
    for other in [
        "real/a.sock",
        "link/a.sock",
        "./real//a.sock",
        "link/../real/a.sock",
    ] {
        let part = "each path once, however it is spelled";
        let listen = ["--listen", &url("real/a.sock"), "--listen", &url(other)];
        both_refuse(&listen, 78, part);
    }
    let two = ["--listen", &url("real/a.sock"), "--listen", &url("a.sock")];
    check(&two).assert_code(0);
}

#[test]
fn a_line_break_in_the_path_of_a_socket_is_refused_and_not_lost() {
    let (_directory, path) = folder();
    let url = format!("unix:{}\n", path.join("a.sock").display());
    both_refuse(&["--listen", &url], 2, "control character");
}

#[test]
fn that_nobody_may_write_to_a_socket_is_told_by_a_check_and_at_start() {
    let (_directory, path) = folder();
    let url = format!("unix:{}", path.join("a.sock").display());
    for (mode, is_told) in [("0000", true), ("0555", true), ("0020", false)] {
        let args = ["--listen", &url, "--unix-mode", mode, "--sink", "null"];
        let mut checked = Drainline::with(&[&["--check"], &args[..]].concat())
            .bare()
            .spawn();
        checked.wait().assert_code(0);
        let text = String::from_utf8(checked.stdout_bytes()).unwrap();
        let note = format!("--unix-mode {mode} lets nobody but root connect to ");
        assert_eq!(text.contains(&note), is_told, "{text}");
        let mut child = Drainline::with(&args).bare().spawn();
        wait_until("a start", DEADLINE, || {
            child.stderr_text().contains("limits: ")
        });
        let exit = child.terminate();
        exit.assert_code(0);
        assert_eq!(exit.stderr.contains(&note), is_told, "{exit}");
    }
}

#[test]
fn a_port_file_that_cannot_be_written_is_refused() {
    let (_directory, path) = folder();
    let text = |name: &str| path.join(name).display().to_string();
    for (port_file, part) in [
        ("/".to_owned(), "Is a directory"),
        (format!("{}/", text("new")), "Is a directory"),
        (text("none/ports"), "No such file"),
        ("/dev/null/ports".to_owned(), "Not a directory"),
        (text(&"n".repeat(300)), "File name too long"),
    ] {
        both_refuse(&["--port-file", &port_file], 1, part);
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn a_port_file_that_would_replace_the_sink_is_a_contradiction() {
    let (_directory, path) = folder();
    let text = |name: &str| path.join(name).display().to_string();
    fs::create_dir(path.join("inner")).unwrap();
    fs::write(path.join("there"), "").unwrap();
    symlink(&path, path.join("inner/up")).unwrap();
    symlink("there", path.join("link")).unwrap();
    symlink("new", path.join("dangling")).unwrap();
    for (sink, port_file) in [
        ("new", "new"),
        ("there", "there"),
        ("there", "./there"),
        ("new", "inner/../new"),
        ("new", "inner/up/new"),
        ("link", "there"),
        ("dangling", "new"),
    ] {
        let (sink, port_file) = (file(path.join(sink)), text(port_file));
        let part = format!(
            "invalid value '{port_file}' for --port-file: expected a file other than that of --sink"
        );
        both_refuse(&["--sink", &sink, "--port-file", &port_file], 78, &part);
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 4);
    for (sink, port_file) in [("new", "other"), ("there", "inner/there"), ("none", "new")] {
        let (sink, port_file) = (file(path.join(sink)), text(port_file));
        check(&["--sink", &sink, "--port-file", &port_file]).assert_code(0);
    }
}

/// In its place there is the null device then, opened for reading and writing, by the runtime that
/// started us.
#[test]
fn a_stdout_that_is_closed_is_no_sink() {
    for line in ["exec >&-", "exec 1<>/dev/null"] {
        for mode in [&["--check"][..], &[]] {
            let exit = Drainline::with(mode).shell(line).spawn().wait();
            exit.assert_code(1);
            assert_eq!(exit.stderr.lines().count(), 1, "{exit}");
            let said = exit
                .stderr
                .starts_with("drainline: --sink stdout: stdout is closed");
            assert!(said, "{exit}");
        }
    }
    for mode in [&["--check"][..], &[]] {
        let exit = Drainline::with(mode)
            .shell("exec 1</dev/null")
            .spawn()
            .wait();
        exit.assert_code(1);
        let said = "drainline: --sink stdout: stdout is opened for reading alone\n";
        assert_eq!(exit.stderr, said);
    }
    // What is discarded on purpose, and what does not go there.
    for (line, sink) in [("exec >/dev/null", "stdout"), ("exec >&-", "null")] {
        let args = ["--sink", sink];
        let mut child = Drainline::with(&args).shell(line).start();
        child.terminate().assert_code(0);
        let args = ["--check", "--sink", sink];
        Drainline::with(&args)
            .shell(line)
            .spawn()
            .wait()
            .assert_code(0);
    }
}

fn full() -> Stdout {
    let full = File::options().write(true).open("/dev/full").unwrap();
    Stdout::Given(full.into())
}

#[test]
fn what_cannot_be_printed_is_a_failure_and_a_reader_that_has_enough_is_none() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["-V"],
        &["--check", "--sink", "null"],
    ] {
        let exit = Drainline::with(args).bare().stdout(full()).spawn().wait();
        exit.assert_code(1);
        let line = "drainline: cannot write to stdout: No space left on device (os error 28)\n";
        assert_eq!(exit.stderr, line, "{args:?}");
        // Whoever has read enough, or nothing at all.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone = Stdout::Given(writer.into());
        let exit = Drainline::with(args).bare().stdout(gone).spawn().wait();
        exit.assert_code(0);
        assert_eq!(exit.stderr, "", "{args:?}");
    }
}
