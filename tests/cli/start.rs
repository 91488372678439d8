//! What the program says before it serves: help, the check, the banner, the port file.

use drainline::ingest::Framing;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::child::Drainline;
use crate::common::exit::Exit;
use crate::common::programs::is_installed;
use crate::common::root::is_root;
use crate::common::wait::{DEADLINE, wait_for, wait_until};

/// Ran to its end: how, and what it printed.
#[track_caller]
fn printed(args: &[&str]) -> (Exit, String) {
    let mut child = Drainline::with(args).bare().spawn();
    let exit = child.wait();
    (exit, String::from_utf8(child.stdout_bytes()).unwrap())
}

#[test]
fn help_and_version_go_to_stdout_and_end_with_0() {
    let version = format!("drainline {}", env!("CARGO_PKG_VERSION"));
    for (flag, beginning, part) in [
        ("--help", "Usage: drainline", "Exit codes:"),
        ("-h", &version[..], "What each flag does"),
        ("-V", &version[..], &version[..]),
    ] {
        let (exit, text) = printed(&[flag]);
        exit.assert_code(0);
        assert_eq!(exit.stderr, "", "{flag}");
        assert!(text.contains(beginning) && text.contains(part), "{text}");
    }
}

#[test]
fn a_good_check_prints_values_and_bound_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // A port in use shows that it does not listen.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let sink = format!("file:{}", path("messages"));
    let ports = path("ports");
    let (exit, text) = printed(&[
        "--check",
        "--listen",
        &listen,
        "--sink",
        &sink,
        "--port-file",
        &ports,
        "--send-timeout",
        "2000ms",
        "--max-connections",
        "10",
    ]);
    exit.assert_code(0);
    assert_eq!(exit.stderr, "");
    for line in [
        format!("listen = [\"{listen}\"]  # --listen"),
        format!("sink = \"{sink}\"  # --sink"),
        "send_timeout = \"2s\"  # --send-timeout".to_owned(),
        "on_overload = \"backlog\"  # default".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "no {line}:\n{text}");
    }
    assert!(
        text.contains("\nlimits: at most 10 connections, "),
        "{text}"
    );
    assert!(
        text.contains(" descriptors, ") && text.contains(" of memory"),
        "{text}"
    );
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_check_that_fails_says_why_in_one_line_and_ends_with_2_or_78() {
    for (args, code, part) in [
        (
            &["--check", "--send-timeout", "5x"][..],
            2,
            "invalid value '5x' for --send-timeout: expected a duration",
        ),
        (
            &["--check", "--send-timeout", "2s", "--pause-after", "3s"],
            78,
            "invalid value '3s' for --pause-after: expected less than --send-timeout (2s)",
        ),
        (&["--check", "--sink", "file:"], 2, "file:PATH"),
        (
            &["--check", "--output-framing", "csv"],
            2,
            "invalid value 'csv' for --output-framing: expected lines, nul, octet-counted or length-prefixed",
        ),
        (
            &["--check", "--max-message", "2MiB", "--buffer-bytes", "1MiB"],
            78,
            "invalid value '2MiB' for --max-message",
        ),
    ] {
        let (exit, text) = printed(args);
        exit.assert_code(code);
        assert_eq!((exit.stderr.lines().count(), &text[..]), (1, ""), "{exit}");
        assert!(exit.stderr.contains(part), "{exit}");
    }
    let mut child = Drainline::with(&["--check", "--max-connections", "100"])
        .shell("ulimit -n 64")
        .spawn();
    let exit = child.wait();
    exit.assert_code(78);
    assert!(exit.stderr.contains("--max-connections"), "{exit}");
}

/// Root may write everywhere, so another user tries.
#[test]
fn a_path_that_may_not_be_written_is_found_by_the_check_and_at_start() {
    if !is_root("run the program as another user") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("there"), "").unwrap();
    for folder in [directory.path(), &closed] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = |name: &str| closed.join(name).display().to_string();
    for (flag, value, path) in [
        ("--sink", format!("file:{}", path("new")), path("new")),
        ("--sink", format!("file:{}", path("there")), path("there")),
        ("--port-file", path("ports"), path("ports")),
    ] {
        for args in [
            &["--check", flag, &value][..],
            &["--listen", "127.0.0.1:0", flag, &value],
        ] {
            let mut child = Drainline::with(args).bare().uid(65534).spawn();
            let exit = child.wait();
            exit.assert_code(1);
            assert_eq!(exit.stderr.lines().count(), 1, "{exit}");
            assert!(exit.stderr.contains(&path), "{exit}");
            assert!(exit.stderr.contains("Permission denied"), "{exit}");
        }
    }
    assert_eq!(closed.read_dir().unwrap().count(), 1);
}

/// In a directory where everybody may put one, and which is not sticky: the kernel would follow it.
#[test]
fn a_link_of_another_user_on_the_way_to_a_file_that_is_written_whole_is_not_followed() {
    if !is_root("make a link of another user") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("shared");
    let target = directory.path().join("target");
    for folder in [&shared, &target] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::os::unix::fs::chown(&shared, Some(65533), None).unwrap();
    let link = shared.join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    let file = link.join("new").display().to_string();
    for args in [
        &["--check", "--port-file", &file][..],
        &["--listen", "127.0.0.1:0", "--port-file", &file],
        &["lab", "--html", &file],
    ] {
        let mut child = Drainline::with(args).bare().spawn();
        let exit = child.wait();
        exit.assert_code(1);
        let why = "the symbolic link link belongs to user 65534";
        assert!(exit.stderr.contains(why), "{args:?} {exit}");
    }
    assert_eq!(target.read_dir().unwrap().count(), 0);
    // The directory's owner may.
    std::os::unix::fs::lchown(&link, Some(65533), None).unwrap();
    let mut child = Drainline::with(&["--check", "--port-file", &file])
        .bare()
        .spawn();
    child.wait().assert_code(0);
}

#[test]
fn framings_that_can_tear_a_message_are_named_by_the_check_and_at_start() {
    for (input, output, can_tear) in [
        ("lines", "lines", false),
        ("nul", "lines", true),
        ("octet-counted", "lines", true),
        ("syslog", "nul", true),
        ("syslog", "octet-counted", false),
    ] {
        let args = ["--framing", input, "--output-framing", output];
        let warning = format!("came as {input} may hold what ends one in {output}");
        let (exit, text) = printed(&[&["--check"], &args[..]].concat());
        // Allowed all the same.
        exit.assert_code(0);
        let note = text
            .lines()
            .any(|line| line.starts_with("note: ") && line.contains(&warning));
        assert_eq!(note, can_tear, "{text}");
        let mut child = Drainline::start(&args);
        let exit = child.terminate();
        exit.assert_code(0);
        let told = exit.stderr.matches(&warning).count();
        assert_eq!(told, usize::from(can_tear), "{exit}");
    }
}

fn ipv6_is_there() -> bool {
    let there = TcpListener::bind("[::1]:0").is_ok();
    if !there {
        eprintln!("left out: [::1], since this machine has no IPv6");
    }
    there
}

#[test]
fn the_banner_names_the_addresses_the_bound_and_a_first_command_that_works() {
    let mut child =
        Drainline::with(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]).start();
    wait_until("the banner", DEADLINE, || {
        child.stderr_text().contains("try: ")
    });
    let banner = child.stderr_text();
    for addr in child.addrs() {
        assert!(banner.contains(&addr.to_string()), "{banner}");
    }
    for part in ["connections, ", "threads, ", "descriptors, ", "of memory"] {
        assert!(banner.contains(part), "{banner}");
    }
    let first = banner.lines().find_map(|line| line.strip_prefix("try: "));
    if is_installed("ncat") {
        let tried = Command::new("sh").args(["-c", first.unwrap()]).status();
        assert!(tried.unwrap().success());
        wait_until("its line", DEADLINE, || child.stdout_bytes() == b"hello\n");
    }
    child.terminate().assert_code(0);
}

#[test]
fn the_port_file_is_whole_whenever_it_is_there() {
    let mut listen = vec!["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    if ipv6_is_there() {
        listen.extend(["--listen", "[::1]:0"]);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ports");
    fs::write(&path, "old\n").unwrap();
    let old = fs::metadata(&path).unwrap().ino();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = thread::spawn({
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        move || {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&path).unwrap();
                if seen.last() != Some(&text) {
                    seen.push(text);
                }
            }
            seen
        }
    });
    let path_text = path.display().to_string();
    listen.extend(["--port-file", &path_text]);
    let mut child = Drainline::with(&listen).spawn();
    wait_until("a new port file", DEADLINE, || {
        fs::metadata(&path).unwrap().ino() != old
    });
    let text = fs::read_to_string(&path).unwrap();
    let addrs: Vec<SocketAddr> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(addrs.len(), listen.len() / 2 - 1);
    for (number, addr) in addrs.iter().enumerate() {
        assert_eq!(
            addr.is_ipv6(),
            number == 2,
            "in the order of the flags: {text}"
        );
        let mut client = crate::common::client::connect(*addr);
        client.write_all(format!("to {addr}\n").as_bytes()).unwrap();
        crate::common::client::half_close(client);
    }
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap();
    assert!(
        seen.iter().all(|it| it == "old\n" || *it == text),
        "{seen:?}"
    );
    assert_eq!(
        directory.path().read_dir().unwrap().count(),
        1,
        "nothing is left beside it"
    );
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), addrs.len() as u64);
}

#[test]
fn the_line_to_try_works_in_every_framing() {
    for framing in Framing::ALL {
        let mut child = Drainline::start(&["--framing", framing.name()]);
        let line = wait_for("the line to try", DEADLINE, || {
            let told = child.stderr_text();
            let (told, _) = told.rsplit_once('\n')?;
            let line = told.lines().find_map(|line| line.strip_prefix("try: "))?;
            Some(line.to_owned())
        });
        if !crate::common::programs::is_installed("ncat") {
            return;
        }
        crate::common::programs::run(std::process::Command::new("sh").args(["-c", &line]));
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        assert_eq!(
            (exit.u64("received"), exit.u64("unterminated")),
            (1, 0),
            "{line}"
        );
        assert_eq!(exit.sum("discarded"), 0, "{line}");
        assert!(child.stdout_bytes().ends_with(b"hello\n"), "{line}");
    }
}

#[test]
fn nobody_reads_two_messages_for_one_where_none_is_written() {
    const WARNS: &str = "a reader of the output would see two";
    for (sink, warns) in [("stdout", true), ("null", false)] {
        let args = ["--framing", "nul", "--sink", sink];
        let exit = Drainline::start(&args).terminate();
        assert_eq!(exit.stderr.contains(WARNS), warns, "{exit}");
        let mut check = Drainline::with(&[&["--check"], &args[..]].concat()).spawn();
        check.wait().assert_code(0);
        let told = String::from_utf8(check.stdout_bytes()).unwrap();
        assert!(told.contains("\nlimits: at most "), "{told}");
        assert_eq!(told.contains(WARNS), warns, "{told}");
    }
}

#[test]
fn what_the_system_limits_is_said_of_the_flag_by_the_check_and_at_start() {
    let said = "--max-connections is ";
    let limit = "descriptors, but RLIMIT_NOFILE (ulimit -n) is 64";
    let mut check = Drainline::with(&["--check", "--sink", "null"])
        .shell("ulimit -n 64")
        .spawn();
    check.wait().assert_code(0);
    let told = String::from_utf8(check.stdout_bytes()).unwrap();
    let note = told.lines().find(|line| line.contains(limit));
    assert!(note.is_some_and(|note| note.starts_with(&format!("note: {said}"))));
    let mut server = Drainline::with(&["--sink", "null"])
        .shell("ulimit -n 64")
        .start();
    let exit = server.terminate();
    exit.assert_code(0);
    let warning = exit.stderr.lines().find(|line| line.contains(limit));
    let warning = warning.unwrap_or_else(|| panic!("{exit}"));
    assert!(
        warning.contains(&format!(" WARN  drainline] {said}")),
        "{warning}"
    );
}

#[test]
fn an_old_name_starts_nothing_and_the_error_has_the_new_one() {
    for (args, now) in [
        (&["--on-pause", "close"][..], "--on-overload"),
        (&["--when-full", "wait"], "block"),
        (&["--coalesce", "auto"], "a time such as 50ms"),
        (&["--max-read-delay", "5ms"], "--coalesce TIME"),
        (&["--linger", "off"], "--coalesce off"),
        (&["--busy-reads", "1/s"], "--coalesce off"),
        (&["load", "127.0.0.1:1", "--tagged"], "--numbered"),
        (&["load", "127.0.0.1:1", "--timed"], "--timestamped"),
        (&["plan", "--when-full", "wait"], "block"),
    ] {
        let (exit, text) = printed(args);
        exit.assert_code(2);
        assert_eq!((exit.stderr.lines().count(), &text[..]), (1, ""), "{exit}");
        let now = format!(": use {now}");
        assert!(exit.stderr.contains(&now), "{args:?}: {exit}");
    }
}
