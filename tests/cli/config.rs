//! The configuration file, the environment and the flags of the real program: which one counts,
//! what is wrong with a file and where, and what `check` and `config` print.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::proc;
use crate::common::root::is_root;
use crate::common::wait::{DEADLINE, wait_until};

fn folder() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}

fn write(folder: &Path, text: impl AsRef<[u8]>) -> String {
    let path = folder.join("drainline.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Ran to its end: how, and what it printed.
#[track_caller]
fn ran(args: &[&str], variables: &[(&str, &str)]) -> (Exit, String) {
    let launch = Drainline::with(args).bare();
    let launch = variables
        .iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value));
    let mut child = launch.spawn();
    let exit = child.wait();
    (exit, String::from_utf8(child.stdout_bytes()).unwrap())
}

/// Refused by the check and at start, in the same one line and with the same code.
#[track_caller]
fn refused(args: &[&str], variables: &[(&str, &str)], code: i32) -> String {
    let (checked, printed) = ran(&[&["check"], args].concat(), variables);
    let (started, _) = ran(args, variables);
    for exit in [&checked, &started] {
        exit.assert_code(code);
        assert_eq!(exit.stderr.lines().count(), 1, "{args:?}: {exit}");
    }
    assert_eq!((&checked.stderr, &*printed), (&started.stderr, ""));
    let line = checked.stderr.trim_end();
    line.strip_prefix("drainline: ").unwrap().to_owned()
}

#[test]
fn a_file_that_cannot_be_read_ends_a_start_with_1_and_waits_for_nothing() {
    let (_directory, path) = folder();
    let fifo = path.join("fifo");
    fifo::make(&fifo);
    let _socket = UnixListener::bind(path.join("socket")).unwrap();
    std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
    for (name, why) in [
        ("none", "No such file or directory (os error 2)"),
        (".", "is a directory"),
        ("fifo", "not a regular file"),
        ("socket", "not a regular file"),
        ("loop", "Too many levels of symbolic links (os error 40)"),
        ("fifo/file", "Not a directory (os error 20)"),
    ] {
        let file = path.join(name).display().to_string();
        let line = refused(&["--config", &file], &[], 1);
        assert_eq!(line, format!("--config {file}: {why}"));
        let line = refused(&[], &[("DRAINLINE_CONFIG", &file)], 1);
        assert_eq!(line, format!("DRAINLINE_CONFIG {file}: {why}"));
    }
    refused(&["--config", "/dev/zero"], &[], 1);
}

/// A command line of bash in which the program's file comes through a pipe.
fn piped(rest: &str) -> [String; 3] {
    ["bash", "-c", &format!("exec \"$0\" \"$@\" {rest}")].map(str::to_owned)
}

const ON_STDIN: &str = "--config - < <(cat \"$FILE\")";
const BY_NAME: &str = "--config /dev/stdin < <(cat \"$FILE\")";
const SUBSTITUTED: &str = "--config <(cat \"$FILE\")";

/// The program reads its file in each of its executions, and a pipe is read once.
#[test]
fn a_file_comes_through_a_pipe_and_stays_nowhere() {
    let (_directory, path) = folder();
    let secret = "a comment as good as a secret";
    let text = format!("# {secret}\nlisten = \"127.0.0.1:0\"\nmax_message = \"5KiB\"\n");
    let file = write(&path, text);
    for (by, name) in [
        (ON_STDIN, "/dev/stdin"),
        (BY_NAME, "/dev/stdin"),
        (SUBSTITUTED, "/dev/fd/"),
    ] {
        let launch = Drainline::with(&["check"]).bare().by(&piped(by));
        let mut child = launch.env("FILE", &file).spawn();
        child.wait().assert_code(0);
        let printed = String::from_utf8(child.stdout_bytes()).unwrap();
        let told = printed.lines().find(|it| it.starts_with("max_message = "));
        let told = told.unwrap();
        assert!(told.starts_with("max_message = \"5KiB\"  # "), "{told}");
        assert!(told.contains(name) && told.ends_with(":3"), "{told}");

        let port_file = path.join("ports").display().to_string();
        let _ = fs::remove_file(&port_file);
        let launch = Drainline::with(&["--port-file", &port_file, "--report", "json"]);
        let launch = launch.bare().by(&piped(by)).env("FILE", &file);
        let mut child = launch.spawn();
        child.wait_until_listening();
        let stdin = fs::read_link(format!("/proc/{}/fd/0", child.pid())).unwrap();
        assert_eq!(stdin, Path::new("/dev/null"));
        let environment = fs::read(format!("/proc/{}/environ", child.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains(secret));
        let mut client = child.connect();
        client.write_all(b"hello\n").unwrap();
        wait_until("a line", DEADLINE, || child.stdout_len() == 6);
        // It is no file that may have changed.
        child.signal_served(Signal::HUP);
        let exit = child.terminate();
        exit.assert_code(0);
        assert!(!exit.stderr.contains("has changed"), "{exit}");
    }
}

#[test]
fn what_is_wrong_in_a_pipe_is_told_with_its_place_and_none_is_waited_for_for_ever() {
    let (_directory, path) = folder();
    let ran = |by: &str, text: &[u8]| {
        let file = write(&path, text);
        let launch = Drainline::with(&["--sink", "null"]).bare();
        let launch = launch.by(&piped(by)).env("FILE", &file);
        launch.spawn().wait()
    };
    let exit = ran(ON_STDIN, b"\nsend_timout = \"5s\"");
    exit.assert_code(78);
    let says = "drainline: /dev/stdin:2:1: unknown key 'send_timout'";
    assert!(exit.stderr.starts_with(says), "{exit}");
    let exit = ran(SUBSTITUTED, &[b'#'; (64 << 10) + 1]);
    exit.assert_code(78);
    assert!(
        exit.stderr.contains(": expected a file of at most 64KiB"),
        "{exit}"
    );
    let exit = ran("--config <(exec sleep 15 2>/dev/null)", b"");
    exit.assert_code(1);
    assert!(
        exit.stderr.contains(": not written to its end within 10 s"),
        "{exit}"
    );
    let exit = ran("--config - < /dev/zero", b"");
    exit.assert_code(1);
    assert!(
        exit.stderr.contains("/dev/stdin: not a regular file"),
        "{exit}"
    );
}

/// Root may read everything, so another user tries.
#[test]
fn a_file_that_may_not_be_read_ends_a_start_with_1() {
    if !is_root("run the program as another user") {
        return;
    }
    let (_directory, path) = folder();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let file = write(&path, "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let exit = Drainline::with(&["--config", &file])
        .bare()
        .uid(65534)
        .spawn()
        .wait();
    exit.assert_code(1);
    let line = format!("drainline: --config {file}: Permission denied (os error 13)\n");
    assert_eq!(exit.stderr, line);
}

#[test]
fn what_is_wrong_in_the_file_ends_a_start_with_78_and_names_its_place() {
    let (_directory, path) = folder();
    let nested = format!("listen = {}", "[".repeat(60_000));
    for (text, wrong) in [
        (&b"\n  send_timout = \"5s\""[..], "2:3: unknown key 'send_timout': did you mean send_timeout?"),
        (b"sink = \"\xff\"", "1:9: expected UTF-8"),
        (nested.as_bytes(), "1:"),
        (b"max_connections = \"ten\"", "1:19: invalid value 'ten' for max_connections: expected auto or a number from 1 to 1000000"),
        (b"send_timeout = \"2s\"\npause_after = \"3s\"", "2:15: invalid value '3s' for pause_after: expected less than send_timeout (2s, "),
        (b"[[listener]]\nname = \"a\"\naddress = \"tcp://127.0.0.1:0\"\n[[listener]]\nname = \"a\"\naddress = \"tcp://127.0.0.1:0\"", "5:8: invalid value 'a' for name"),
    ] {
        let file = write(&path, text);
        let line = refused(&["--config", &file], &[], 78);
        let place = format!("{file}:{wrong}");
        assert!(line.starts_with(&place), "{line}\nnot {place}");
    }
    let file = write(&path, vec![b'#'; (64 << 10) + 1]);
    let line = refused(&["--config", &file], &[], 78);
    assert_eq!(
        line,
        format!("--config {file}: expected a file of at most 64KiB")
    );
}

#[test]
fn the_file_is_not_written_over() {
    let (_directory, path) = folder();
    let file = write(&path, "");
    let sink = format!("file:{}/./drainline.toml", path.display());
    for (flag, value) in [("--sink", &sink), ("--port-file", &file)] {
        let line = refused(&["--config", &file, flag, value], &[], 78);
        let expected = "a file other than the configuration file";
        assert_eq!(
            line,
            format!("invalid value '{value}' for {flag}: expected {expected}")
        );
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn what_the_system_refuses_names_the_place_in_the_file() {
    let (_directory, path) = folder();
    for (text, code, wrong) in [
        (
            "port_file = \"/nowhere/ports\"",
            1,
            "1:13: port_file /nowhere/ports: No such file",
        ),
        (
            "\nsink = \"file:/nowhere/out\"",
            1,
            "2:8: sink file:/nowhere/out: No such file",
        ),
        (
            "[[listener]]\naddress = \"192.0.2.1:5140\"",
            1,
            "2:11: address 192.0.2.1:5140: Cannot assign",
        ),
        (
            "max_connections = 900_000",
            78,
            "1:19: max_connections 900000 needs ",
        ),
    ] {
        let file = write(&path, text);
        let line = refused(&["--config", &file], &[], code);
        let place = format!("{file}:{wrong}");
        assert!(line.starts_with(&place), "{line}\nnot {place}");
    }
    let line = refused(&[], &[("DRAINLINE_SINK", "file:/nowhere/out")], 1);
    assert!(
        line.starts_with("DRAINLINE_SINK file:/nowhere/out: No such file"),
        "{line}"
    );
}

#[test]
fn a_wrong_variable_is_named_and_one_that_is_no_setting_is_not_looked_at() {
    let line = refused(&[], &[("DRAINLINE_SEND_TIMEOUT", "5x")], 78);
    let expected = "a duration from 1ms to 24h, such as 5s";
    assert_eq!(
        line,
        format!("invalid value '5x' for DRAINLINE_SEND_TIMEOUT: expected {expected}")
    );
    let (exit, text) = ran(
        &["check", "--listen", "127.0.0.1:0"],
        &[
            ("DRAINLINE_PORT", "tcp://10.0.0.1:5140"),
            ("DRAINLINE_PORT_5140_TCP_ADDR", "10.0.0.1"),
            ("DRAINLINE_SEND_TIMEOUT", ""),
        ],
    );
    exit.assert_code(0);
    assert!(
        text.contains("send_timeout = \"30s\"  # default\n"),
        "{text}"
    );
}

/// Their limits and lists of peers would hold for nobody, and nobody would know.
#[test]
fn tables_of_listeners_that_give_way_to_a_flag_or_a_variable_are_told() {
    let (_directory, path) = folder();
    let table = "[[listener]]\naddress = \"127.0.0.1:0\"\nallow = \"10.0.0.0/8\"\n";
    let file = write(&path, [table, table].concat());
    let note = |named| {
        format!(
            "{named} stands in for the 2 [[listener]] tables of the configuration file, and all that \
             they set"
        )
    };
    let check = ["check", "--config", &file];
    let (_, text) = ran(&check, &[]);
    assert!(!text.contains("stands in for"), "{text}");
    let (_, text) = ran(&check, &[("DRAINLINE_LISTEN", "127.0.0.1:0")]);
    assert!(text.contains(&note("DRAINLINE_LISTEN")), "{text}");
    let listen = ["--listen", "127.0.0.1:0"];
    let (_, text) = ran(&[&check[..], &listen].concat(), &[]);
    assert!(text.contains(&note("--listen")), "{text}");
    let exit = Drainline::with(&[&["--config", &file], &listen[..]].concat())
        .start()
        .terminate();
    assert!(exit.stderr.contains(&note("--listen")), "{exit}");
}

#[test]
fn the_tools_read_no_variables() {
    let variables = [
        ("DRAINLINE_SEND_TIMEOUT", "5x"),
        ("DRAINLINE_CONFIG", "/nowhere"),
    ];
    for tool in [
        &["plan", "--rate=1000", "--connections=5"][..],
        &["config"],
        &["load", "-h"],
    ] {
        let (exit, text) = ran(tool, &variables);
        exit.assert_code(0);
        assert!(!text.is_empty(), "{tool:?}");
    }
}

#[test]
fn a_path_in_a_variable_need_not_be_utf8_and_nothing_else_may_be_otherwise() {
    let (_directory, path) = folder();
    let sink = path.join(OsStr::from_bytes(b"\xff"));
    let mut variable = OsString::from("file:");
    variable.push(&sink);
    let launch = Drainline::with::<&str>(&[]);
    let mut child = launch.env("DRAINLINE_SINK", variable).start();
    let mut client = child.connect();
    client.write_all(b"hello\n").unwrap();
    client::half_close(client);
    child.wait_until_all_ended();
    child.terminate().assert_code(0);
    assert_eq!(fs::read(&sink).unwrap(), b"hello\n");
    let launch = Drainline::with(&["check"]).bare();
    let launch = launch.env("DRAINLINE_SEND_TIMEOUT", OsStr::from_bytes(b"5\xff"));
    let exit = launch.spawn().wait();
    exit.assert_code(78);
    assert!(exit.stderr.ends_with(": not UTF-8\n"), "{exit}");
}

/// The program is executed again, by a shell, before it serves.
#[test]
fn a_start_is_of_the_file_the_environment_and_the_flags() {
    let (_directory, path) = folder();
    let file = write(
        &path,
        "sink = \"null\"\nframing = \"nul\"\nreport = \"json\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n",
    );
    let ports = path.join("ports").display().to_string();
    let mut child =
        Drainline::with(&["--port-file", &ports, "--config", &file, "--sink", "stdout"])
            .bare()
            .env("DRAINLINE_FRAMING", "octet-counted")
            .start();
    let said = format!("\nsettings: {file}, DRAINLINE_FRAMING\nlimits: ");
    wait_until("the banner", DEADLINE, || {
        child.stderr_text().contains(&said)
    });
    let mut client = child.connect();
    client.write_all(b"5 hello").unwrap();
    client::half_close(client);
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(child.stdout_bytes(), b"hello\n");
    assert_eq!(exit.u64("delivered"), 1);
}

/// Two listeners of different framing, one of them at its own limit: what the operator is told.
#[test]
fn listeners_of_the_file_are_told_apart_at_start_in_the_list_in_the_log_and_in_the_report() {
    let (_directory, path) = folder();
    let file = write(
        &path,
        r#"
report = "json"
max_connections = 10

[[listener]]
name = "plain"
address = "tcp://127.0.0.1:0"

[[listener]]
name = "devices"
address = "tcp://127.0.0.1:0"
framing = "octet-counted"
max_message = "4"
oversize = "drop"
max_connections = 1
"#,
    );
    let ports = path.join("ports").display().to_string();
    let launch = Drainline::with(&["--port-file", &ports, "--config", &file]).bare();
    let mut child = launch.start();
    let [plain, devices] = [0, 1].map(|at| child.addrs()[at]);
    let first = format!(
        ": lines from plain at {plain}, octet-counted from devices at {devices} to stdout\n"
    );
    wait_until("the banner", DEADLINE, || {
        child.stderr_text().contains(&first)
    });

    let mut served = client::connect(devices);
    served.write_all(b"5 large4 LF\n\n").unwrap();
    let mut others = client::connect_many(plain, 2);
    others[1].write_all(b"a line\n").unwrap();
    // The limit is the listener's own: it is the one that is not accepting, and not the server.
    let waiting = client::connect(devices);
    let status = child.wait_for_status("a listener at its limit", |status| {
        status["listeners"][1]["not_accepting"]["reason"] == "max_connections"
    });
    assert!(status["not_accepting"].is_null(), "{status}");
    assert!(
        status["listeners"][0]["not_accepting"].is_null(),
        "{status}"
    );
    let listeners = &status["listeners"];
    assert_eq!(listeners[0]["address"], plain.to_string());
    assert_eq!(
        (&listeners[0]["open"], &listeners[1]["open"]),
        (&2.into(), &1.into())
    );
    let connections = status["connections"].as_array().unwrap();
    for connection in connections {
        let index = usize::from(connection["listener"] == "devices");
        assert_eq!(connection["listener_index"], index, "{status}");
    }
    wait_until("the line in the log", DEADLINE, || {
        let text = child.stderr_text();
        text.contains("listener devices is not accepting (max_connections) for ")
            && text.contains("its max_connections (1) reached; 127.0.0.1 has 1 of them, ")
            && text.contains("; new clients there wait")
    });
    let clients = [served, waiting].into_iter().chain(others);
    clients.for_each(|client| _ = client::half_close(client));
    child.wait_until_all_ended();
    let exit = child.terminate();
    // A message that was too long was dropped.
    exit.assert_code(3);
    exit.assert_closes();
    let figures = [
        ("listeners.0.received", 1),
        ("listeners.0.bytes_read", 7),
        ("listeners.0.connections.accepted", 2),
        ("listeners.1.received", 2),
        ("listeners.1.delivered", 1),
        ("listeners.1.dropped.oversize", 1),
        ("listeners.1.message_bytes", 4),
        ("listeners.1.connections.accepted", 2),
        ("received", 3),
    ];
    for (figure, value) in figures {
        assert_eq!(exit.u64(figure), value, "{figure}: {exit}");
    }
    assert_eq!(exit.report["listeners"][1]["name"], "devices");
    assert!(exit.f64("listeners.1.not_accepting_seconds.max_connections") > 0.0);
    assert_eq!(exit.f64("not_accepting_seconds.max_connections"), 0.0);
}

#[test]
fn a_check_prints_each_value_with_its_origin_as_a_file_that_means_the_same() {
    let (_directory, path) = folder();
    let file = write(
        &path,
        "send_timeout = \"0.5m\"\nbacklog = 7\n\n[[listener]]\nname = \"syslog\"\naddress = \"tcp://127.0.0.1:0\"\n",
    );
    let variables = [
        ("DRAINLINE_BACKLOG", "8"),
        ("DRAINLINE_MAX_MESSAGE", "1024"),
    ];
    let args = [
        "check",
        "--max-message=2KiB",
        "--sink=null",
        "--config",
        &file,
    ];
    let (exit, text) = ran(&args, &variables);
    exit.assert_code(0);
    for line in [
        &*format!("# --config {file}"),
        &format!("send_timeout = \"30s\"  # {file}:1"),
        "backlog = 8  # DRAINLINE_BACKLOG",
        "max_message = \"2KiB\"  # --max-message",
        "framing = \"lines\"  # default",
        "sink = \"null\"  # --sink",
        &format!("[[listener]]  # {file}:4"),
        &format!("name = \"syslog\"  # {file}:5"),
        &format!("address = \"127.0.0.1:0\"  # {file}:6"),
    ] {
        assert!(text.lines().any(|it| it == line), "no {line}:\n{text}");
    }
    assert!(
        !text.lines().any(|line| line.starts_with("listen =")),
        "{text}"
    );
    assert!(text.contains("\nlimits: at most "), "{text}");
    // The lines before the limits are a file.
    let (settings, rest) = text.split_once("limits: ").unwrap();
    let again = write(&path, settings);
    let (exit, text) = ran(&["check", "--config", &again], &[]);
    exit.assert_code(0);
    let limits = text.split_once("limits: ").unwrap().1;
    assert_eq!(limits.lines().next(), rest.lines().next());
}

#[test]
fn the_printed_file_gives_the_defaults_as_it_is_and_with_every_setting_uncommented() {
    let (_directory, path) = folder();
    let (exit, template) = ran(&["config"], &[]);
    exit.assert_code(0);
    let uncommented: String = template
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    // Without what says where a value comes from.
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("# "));
        let lines = lines.map(|line| line.split("  # ").next().unwrap().to_owned());
        lines.collect()
    };
    let (_, default) = ran(&["check"], &[]);
    for (text, origin) in [
        (&template, "  # default"),
        (&uncommented, "drainline.toml:"),
    ] {
        let file = write(&path, text);
        let (exit, told) = ran(&["--check", "--config", &file], &[]);
        exit.assert_code(0);
        assert_eq!(values(&told), values(&default));
        // Those of the output are no line of their own above the tables.
        let (told, output) = told.split_once("[[output]]\n").unwrap();
        let is_default = output.starts_with("sink = \"stdout\"  # default\n");
        assert_eq!(is_default, origin.ends_with("default"), "{output}");
        let settings = told.lines().filter(|line| line.contains(" = ")).count();
        let of_origin = told
            .lines()
            .filter(|line| line.contains(" = ") && line.contains(origin));
        assert_eq!(of_origin.count(), settings, "{told}");
    }
    let (exit, text) = ran(&["config", "--sink", "null"], &[]);
    exit.assert_code(2);
    assert_eq!((exit.stderr.lines().count(), &*text), (1, ""), "{exit}");
}

#[test]
fn a_named_listener_is_named_in_the_banner_the_port_file_the_lists_and_the_log() {
    let (_directory, path) = folder();
    let file = write(
        &path,
        "listen = [\"127.0.0.1:0\"]\nreport = \"json\"\nlog_level = \"debug\"\n\
         [[listener]]\nname = \"syslog\"\naddress = \"tcp://127.0.0.1:0\"\n",
    );
    let ports = path.join("ports");
    let port_file = ports.display().to_string();
    let mut child = Drainline::with(&["--config", &file, "--port-file", &port_file])
        .bare()
        .start();
    let [plain, named] = child.addrs().try_into().unwrap();
    assert_eq!(
        fs::read_to_string(&ports).unwrap(),
        format!("{plain}\n{named} syslog\n")
    );
    let banner = format!("lines from {plain}, syslog at {named} to stdout\n");
    wait_until("the banner", DEADLINE, || {
        child.stderr_text().contains(&banner)
    });
    let client = client::connect(named);
    child.wait_for_status("the connection's listener", |status| {
        status["connections"][0]["listener"] == "syslog"
    });
    client::half_close(client);
    child.wait_until_all_ended();
    let exit = child.terminate();
    assert!(exit.stderr.contains(" at syslog"), "{exit}");
}

#[test]
fn a_listener_has_settings_of_its_own_and_the_others_have_the_common_ones() {
    let (_directory, path) = folder();
    let file = write(
        &path,
        "report = \"json\"\non_overload = \"close\"\n\
         [[listener]]\nname = \"narrow\"\naddress = \"127.0.0.1:0\"\nmax_connections = 1\n\
         [[listener]]\nname = \"hasty\"\naddress = \"127.0.0.1:0\"\nidle_timeout = \"100ms\"\n",
    );
    let ports = path.join("ports").display().to_string();
    let mut child = Drainline::with(&["--config", &file, "--port-file", &ports])
        .bare()
        .start();
    let [narrow, hasty] = child.addrs().try_into().unwrap();
    let mut first = client::connect(narrow);
    first.write_all(b"first\n").unwrap();
    wait_until("the first line", DEADLINE, || {
        child.stdout_bytes() == b"first\n"
    });
    client::wait_for_close(&mut client::connect(narrow));
    client::wait_for_close(&mut client::connect(hasty));
    assert!(!client::is_closed(&first));
    client::half_close(first);
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_closes();
    assert_eq!(exit.u64("connections.rejected.max_connections"), 1);
    assert_eq!(exit.u64("connections.ended.idle_timeout"), 1);
}

#[test]
fn sighup_says_that_a_changed_file_needs_a_restart_and_nothing_of_one_that_is_as_it_was() {
    let (_directory, path) = folder();
    let text = "report = \"json\"\n";
    let file = write(&path, text);
    let started = || Drainline::with(&["--config", &file]).start();
    let said = format!("SIGHUP: {file} has changed: restart drainline to use it");
    let mut child = started();
    child.signal_served(Signal::HUP);
    let exit = child.terminate();
    assert!(
        exit.stderr.contains("SIGHUP: there is no file to reopen"),
        "{exit}"
    );
    assert!(!exit.stderr.contains(&said), "{exit}");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("longer", &|| {
            fs::write(&file, "report = \"text\"\nbacklog = 7").unwrap()
        }),
        ("replaced", &|| {
            let new = path.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &file).unwrap();
        }),
        // A ConfigMap of Kubernetes is a link to a file in a folder that is replaced.
        ("a link to another file", &|| {
            let (new, link) = (path.join("new"), path.join("link"));
            fs::write(&new, text).unwrap();
            std::os::unix::fs::symlink(&new, &link).unwrap();
            fs::rename(&link, &file).unwrap();
        }),
        ("removed", &|| fs::remove_file(&file).unwrap()),
    ];
    for (how, change) in changes {
        fs::write(&file, text).unwrap();
        let mut child = started();
        change();
        child.signal_served(Signal::HUP);
        let exit = child.terminate();
        assert_eq!(exit.stderr.matches(&said).count(), 1, "{how}: {exit}");
    }
}

/// The largest file that is read is parsed within the smallest limits.
#[test]
fn a_large_file_stays_within_the_printed_limits() {
    let (_directory, path) = folder();
    let begin = "max_connections = 1\nmax_message = 64\nbuffer_bytes = 4096\nbuffer_messages = 1\n";
    let file = write(
        &path,
        begin.to_owned() + &"#\n".repeat((65_536 - begin.len()) / 2),
    );
    let mut child = Drainline::with(&["--config", &file, "--sink", "null"]).start();
    wait_until("the limits", DEADLINE, || {
        child.stderr_text().contains("of memory\n")
    });
    let said = child.stderr_text();
    let limit = said.split(" descriptors, ").nth(1).unwrap();
    let limit = limit.split(" MiB of memory").next().unwrap();
    let limit = limit.parse::<f64>().unwrap() * f64::from(1 << 20);
    let peak = proc::peak_rss_bytes(child.pid());
    assert!(
        peak as f64 <= limit,
        "{peak} bytes at most, and the limit is {limit}"
    );
    child.terminate().assert_code(0);
}
