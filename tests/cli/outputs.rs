//! Outputs of the real program: URLs and tables, what `check` prints of them, and what they get.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::port::free_port;
use crate::common::wait::{DEADLINE, wait_until};

const SECRET: &str = "hunter2";

pub(crate) fn folder() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, path)
}

pub(crate) fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("drainline.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Ran to its end: how, and what it printed.
#[track_caller]
pub(crate) fn ran(args: &[&str], variables: &[(&str, &str)]) -> (Exit, String) {
    let launch = Drainline::with(args).bare();
    let variables = variables.iter();
    let launch = variables.fold(launch, |launch, (name, value)| launch.env(name, value));
    let mut child = launch.spawn();
    let exit = child.wait();
    (exit, String::from_utf8(child.stdout_bytes()).unwrap())
}

/// What `check` prints of the outputs.
#[track_caller]
fn checked(args: &[&str], variables: &[(&str, &str)]) -> String {
    let (exit, text) = ran(&[&["check"], args].concat(), variables);
    exit.assert_code(0);
    let tables = text.find("[[output]]").unwrap();
    let (outputs, _) = text[tables..].split_once("limits: ").unwrap();
    outputs.to_owned()
}

/// Refused by the check and at start, in the same one line and with the same code.
#[track_caller]
pub(crate) fn refused(args: &[&str], variables: &[(&str, &str)], code: i32, parts: &[&str]) {
    let (checked, _) = ran(&[&["check"], args].concat(), variables);
    let (started, _) = ran(&[&["--listen", "127.0.0.1:0"], args].concat(), variables);
    assert_eq!(checked.stderr, started.stderr);
    for exit in [&checked, &started] {
        exit.assert_code(code);
        assert_eq!(exit.stderr.lines().count(), 1, "{args:?}: {exit}");
        assert!(!exit.stderr.contains(SECRET), "{exit}");
        for part in parts {
            assert!(exit.stderr.contains(part), "{part:?} is not in {exit}");
        }
    }
}

#[test]
fn check_prints_each_output_with_what_set_its_options() {
    let (_directory, path) = folder();
    let url = format!("file://{}/out?framing=nul&name=archive", path.display());
    let told = checked(&["--sink", &url], &[]);
    let file = path.join("out").display().to_string();
    let expected = format!(
        "[[output]]\n\
         sink = \"file://{file}\"  # --sink\n\
         name = \"archive\"  # --sink\n\
         required = true  # default\n\
         framing = \"nul\"  # --sink\n"
    );
    assert!(told.starts_with(&expected), "{told}");
    assert!(
        told.contains("\n# terminal_escape = \"auto\"  # default\n"),
        "{told}"
    );
    let table =
        format!("[[output]]\nname = \"archive\"\nsink = \"file:{file}\"\nframing = \"nul\"\n");
    let config = config(&path, &table);
    let told = checked(&["--config", &config, "--terminal-escape", "off"], &[]);
    for line in [
        format!("[[output]]  # {config}:1\n"),
        format!("\nname = \"archive\"  # {config}:2\n"),
        format!("\nframing = \"nul\"  # {config}:4\n"),
        "\n# terminal_escape = \"off\"  # --terminal-escape\n".to_owned(),
    ] {
        assert!(told.contains(&line), "{line:?} is not in {told}");
    }
    assert!(!path.join("out").exists(), "the check made the file");
}

#[cfg(feature = "http")]
#[test]
fn what_stands_before_a_host_is_told_as_its_url_is() {
    let told = checked(&["--sink", "http://me:hunter2@h"], &[]);
    for line in ["user = \"me\"  # --sink", "password = \"***\"  # --sink"] {
        assert!(told.contains(line), "{line:?} is not in {told}");
    }
    assert!(told.contains("\nrequests = 4  # default\n"), "{told}");
}

#[test]
fn the_help_has_the_values_of_options_that_have_few() {
    let (_, help) = ran(&["--help"], &[]);
    for option in [
        "fsync=off|batch|TIME ",
        "framing=lines|nul|octet-counted|length-prefixed ",
        "envelope=raw|json|TEXT ",
    ] {
        assert!(help.contains(&format!(" {option}")), "{option}: {help}");
    }
}

#[test]
fn check_prints_no_option_that_has_no_effect() {
    let mut idle = vec![("tcp://127.0.0.1:9", "tls_"), ("unix:/tmp/nobody", "tls_")];
    if cfg!(feature = "redis") {
        idle.extend([
            ("redis://127.0.0.1:9/s", "tls_"),
            ("redis://127.0.0.1:9/s", "framing"),
        ]);
    }
    if cfg!(feature = "http") {
        let http = "http://127.0.0.1:9?dialect=elasticsearch";
        idle.extend([(http, "tls_"), (http, "labels"), (http, "refused_max")]);
        idle.push(("http://127.0.0.1:9?dialect=loki", "action"));
    }
    for (sink, row) in idle {
        let told = checked(&["--sink", sink], &[]);
        assert!(!told.contains(&format!("\n{row}")), "{told}");
    }
    if cfg!(feature = "tls") {
        let told = checked(&["--sink", "tls://127.0.0.1:9"], &[]);
        assert!(told.contains("\ntls_min_version = "), "{told}");
    }
}

#[test]
fn what_can_be_and_is_hardly_meant_is_a_note_of_a_check_and_a_warning_of_a_start() {
    let (_directory, path) = folder();
    let in_folder = |name: &str| path.join(name).display().to_string();
    let at = "--max-message=64KiB";
    let mut noted = vec![
        (
            format!("file:{}?fsync=batch", in_folder("a")),
            "takes ?fsync= as it stands",
        ),
        (
            format!("unix:{}?framing=nul", in_folder("b")),
            "takes ?framing= as it stands",
        ),
        (
            format!("exec:cat > {}", in_folder("c")),
            "passes > to the command as it stands",
        ),
        (
            format!("file:{}-%Y.log", in_folder("f")),
            "takes %Y as it stands: a date in the path takes file:///PATH",
        ),
    ];
    if cfg!(feature = "redis") {
        let told = "for 31s (answer_timeout), which is longer than drain_timeout (30s)";
        noted.push(("redis://127.0.0.1:9/s?answer_timeout=31s".to_owned(), told));
    }
    if cfg!(feature = "http") {
        let told = "drops, as refused, what is longer than body_bytes (1KiB): max_message is 64KiB";
        noted.push(("http://127.0.0.1:9?body_bytes=1KiB".to_owned(), told));
        let url = format!(
            "http://127.0.0.1:9?body_bytes=1KiB&refused={}",
            in_folder("refused")
        );
        noted.push((
            url,
            "sets aside, in refused, and does not send what is longer than body_bytes",
        ));
        for (rest, told) in [
            (
                "/a/_bulk?gzip=true",
                "the path of dialect elasticsearch, and speaks ndjson",
            ),
            (
                "/loki/api/v1/push?gzip=true",
                "the path of dialect loki, and speaks ndjson",
            ),
            (
                "/services/collector?gzip=true",
                "the path of dialect splunk, and",
            ),
            (
                "/services/collector/raw?dialect=splunk&token=a",
                "the path of dialect splunk-raw, and speaks splunk",
            ),
            (
                "/?dialect=splunk-raw",
                "has no token, which Splunk requires",
            ),
            ("/?dialect=elasticsearch", "names no index, which"),
            ("/_bulk?dialect=elasticsearch", "names no index, which"),
            ("/?timeout=31s", "longer than drain_timeout (30s)"),
        ] {
            noted.push((format!("http://127.0.0.1:9{rest}"), told));
        }
    }
    if cfg!(feature = "kafka") {
        let told = "what is longer than message_max_bytes (1KiB): max_message is 64KiB";
        noted.push((
            "kafka://127.0.0.1:9/t?message_max_bytes=1KiB".to_owned(),
            told,
        ));
    }
    for (url, told) in &noted {
        let (exit, text) = ran(&["check", "--sink", url, at], &[]);
        exit.assert_code(0);
        let is_note = |line: &str| line.starts_with("note: --sink ") && line.contains(told);
        assert!(text.lines().any(is_note), "{told:?} is not in {text}");
        let sinks = ["--sink", "null", "--sink", &format!("{url}&required=false")];
        let args = match url.contains("://") {
            true => [&sinks[..], &[at]].concat(),
            false => vec!["--sink", url, at, "--drain-timeout=100ms"],
        };
        let mut server = Drainline::with(&args).start();
        let exit = server.terminate();
        assert!(exit.stderr.contains(told), "{told:?} is not in {exit}");
    }
    for url in [
        format!("file:{}?a=batch", in_folder("d")),
        format!("file://{}?fsync=batch", in_folder("e")),
        "exec:curl http://h/?name=a".to_owned(),
        "exec:grep '>'".to_owned(),
        format!("file:{}%20x", in_folder("g")),
        format!("unix://{}?framing=nul", in_folder("h")),
    ] {
        let (_, text) = ran(&["check", "--sink", &url, at], &[]);
        assert!(!text.contains("note: --sink"), "{text}");
    }
    if cfg!(feature = "http") {
        for rest in [
            "",
            "?dialect=elasticsearch&index=a",
            "/a/_bulk?dialect=elasticsearch",
            "/proxy?dialect=elasticsearch",
        ] {
            let url = format!("http://127.0.0.1:9{rest}");
            // Who makes the drain short has said nothing of requests.
            let (_, text) = ran(&["check", "--sink", &url, at, "--drain-timeout=1s"], &[]);
            assert!(!text.contains("note: --sink"), "{url}: {text}");
        }
    }
    let table = "[[output]]\nsink = \"exec:cat\"\nstop_timeout = \"31s\"\n";
    let (exit, text) = ran(&["check", "--config", &config(&path, table)], &[]);
    exit.assert_code(0);
    let told = "exec:cat has 31s to end (stop_timeout), which is longer than drain_timeout (30s)";
    assert!(text.contains(told), "{text}");
}

/// Whoever looks for an output in the log looks for what its first line calls it.
#[test]
fn an_output_has_one_name_in_the_log() {
    let port = free_port();
    let mut urls = vec![format!("tcp://127.0.0.1:{port},127.0.0.1:{port}")];
    if cfg!(feature = "redis") {
        urls.push(format!("redis://me:{SECRET}@127.0.0.1:{port}/logs%3Aall"));
        urls.push("redis://nosuch.invalid/s".to_owned());
    }
    if cfg!(feature = "http") {
        let of_splunk = format!("http://127.0.0.1:{port}?dialect=splunk&token={SECRET}");
        urls.extend([
            of_splunk,
            format!("http://me:{SECRET}@127.0.0.1:{port}/a/b"),
        ]);
    }
    for url in urls {
        let table = format!("[[output]]\nsink = \"{url}\"\n");
        let (_directory, path) = folder();
        let file = config(&path, &table);
        let mut child = Drainline::with(&["--config", &file, "--drain-timeout=100ms"]).start();
        child.connect().write_all(b"message\n").unwrap();
        let is_told = || child.stderr_text().contains(" failed: ");
        wait_until("a failure", DEADLINE, is_told);
        let exit = child.terminate();
        let between = |begin: &str, end: &str| {
            let (_, rest) = exit.stderr.split_once(begin)?;
            Some(rest.split_once(end)?.0.to_owned())
        };
        let name = between("output ", ": delivered means").unwrap();
        assert_eq!(between("the sink ", " failed: "), Some(name), "{exit}");
        assert!(!exit.stderr.contains(SECRET), "{exit}");
    }
}

#[cfg(feature = "http")]
#[test]
fn a_file_of_what_is_refused_is_no_other_outputs_and_no_other_file() {
    let (_directory, path) = folder();
    let file = path.join("out").display().to_string();
    let with_refused = |host: &str| format!("http://{host}?refused={file}");
    let told = "each file once";
    let (one, other) = (with_refused("a"), with_refused("b"));
    refused(
        &["--sink", &one, "--sink", &other],
        &[],
        78,
        &[told, "refused="],
    );
    let same = format!("file:{file}");
    refused(
        &["--sink", &same, "--sink", &one],
        &[],
        78,
        &[told, "refused="],
    );
    refused(
        &["--sink", &one, "--sink", &same],
        &[],
        78,
        &[told, "file:"],
    );
    let args = ["--sink", &one, "--port-file", &file];
    refused(&args, &[], 78, &["which it would replace"]);
}

#[cfg(feature = "http")]
#[test]
fn a_label_may_have_a_comma() {
    let (_directory, path) = folder();
    let labels = "labels = [\"job=a, b\", \"dc=c\"]";
    let table = format!("[[output]]\nsink = \"http://h?dialect=loki\"\n{labels}\n");
    let told = checked(&["--config", &config(&path, &table)], &[]);
    assert!(told.contains(labels), "{told}");
    let typed = "http://h?dialect=loki&labels=job=a%5C, b,dc=c";
    let told = checked(&["--sink", typed], &[]);
    assert!(told.contains(labels), "{told}");
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_may_be_for_an_address_or_for_a_name_as_long_as_there_are() {
    let long = format!("{0}.{0}.{0}.{1}", "n".repeat(63), "n".repeat(61));
    for name in ["::1", "10.0.0.1", &long] {
        let url = format!("tls://h:1?tls_server_name={name}");
        let told = checked(&["--sink", &url], &[]);
        assert!(
            told.contains(&format!("tls_server_name = \"{name}\"")),
            "{told}"
        );
    }
}

/// Of several outputs, the ones before the refused one would have been opened.
#[test]
fn a_start_that_is_refused_has_made_no_file() {
    let (_directory, path) = folder();
    let file = path.join("out");
    let wrong = [
        format!("file:{}/no/such", path.display()),
        format!(
            "file://{}/{}?rotate_size=1MiB",
            path.display(),
            "n".repeat(250)
        ),
        format!("tls://h:1?tls_ca={}/nosuch", path.display()),
    ];
    for wrong in wrong.iter().take(if cfg!(feature = "tls") { 3 } else { 2 }) {
        let args = [
            "--sink",
            &format!("file:{}", file.display()),
            "--sink",
            wrong,
        ];
        refused(&args, &[], 1, &["--sink"]);
        let left: Vec<_> = fs::read_dir(&path).unwrap().flatten().collect();
        assert!(left.is_empty(), "{wrong}: {left:?}");
    }
}

#[test]
fn a_flag_stands_above_a_variable_and_that_above_the_tables_which_is_told() {
    let (_directory, path) = folder();
    let table = "[[output]]\nname = \"a\"\nsink = \"stdout\"\nframing = \"nul\"\n";
    let file = config(&path, table);
    let of_file = checked(&["--config", &file], &[]);
    assert!(of_file.contains("sink = \"stdout\"  # "), "{of_file}");
    let variable = ("DRAINLINE_SINK", "null?name=b");
    let of_variable = checked(&["--config", &file], &[variable]);
    for line in [
        "sink = \"null\"  # DRAINLINE_SINK",
        "name = \"b\"  # DRAINLINE_SINK",
    ] {
        assert!(of_variable.contains(line), "{of_variable}");
    }
    assert!(!of_variable.contains("framing = \"nul\""), "{of_variable}");
    let args = ["check", "--config", &file, "--sink", "null"];
    let (exit, text) = ran(&args, &[variable]);
    exit.assert_code(0);
    assert!(text.contains("sink = \"null\"  # --sink\n"), "{text}");
    let note = "note: --sink stands in for the [[output]] table of the configuration file";
    assert!(text.contains(note), "{text}");
    // An empty variable is none.
    let of_file = checked(&["--config", &file], &[("DRAINLINE_SINK", "")]);
    assert!(of_file.contains("name = \"a\""), "{of_file}");
}

#[test]
fn a_path_is_taken_as_it_is_without_slashes_and_has_escapes_with_them() {
    let (_directory, path) = folder();
    for (url, name) in [
        ("file:{}/a?b%c", "a?b%c"),
        ("file:{}/x%3Fy?framing=nul", "x%3Fy?framing=nul"),
        ("file://{}/p%3Fq%%r%20s", "p?q%r s"),
        ("file://{}/plain", "plain"),
    ] {
        let url = url.replace("{}", path.to_str().unwrap());
        let mut child = Drainline::with(&["--sink", &url]).start();
        child.terminate().assert_code(0);
        assert!(path.join(name).exists(), "{url}");
        fs::remove_file(path.join(name)).unwrap();
    }
}

#[test]
fn a_socket_has_escapes_and_options_with_slashes_and_none_without() {
    let (_directory, path) = folder();
    let folder = path.display();
    for (url, name, read) in [
        (
            format!("unix://{folder}/a%20b%3Fc?framing=nul"),
            "a b?c",
            "hello\0",
        ),
        (
            format!("unix:{folder}/a%20b?framing=nul"),
            "a%20b?framing=nul",
            "hello\n",
        ),
    ] {
        let receiver = UnixListener::bind(path.join(name)).unwrap();
        let mut child = Drainline::start(&["--sink", &url]);
        child.connect().write_all(b"hello\n").unwrap();
        // The kernel takes the connection and the message, whether they are accepted or not.
        child.terminate().assert_code(0);
        receiver.set_nonblocking(true).unwrap();
        let (mut stream, _) = receiver.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, read, "{url}");
    }
}

#[test]
fn an_output_writes_what_its_envelope_and_its_framing_say() {
    for (options, written) in [
        ("framing=octet-counted", "5 hello"),
        (
            "envelope={listener}|{message}%26&framing=nul",
            "in|hello&\0",
        ),
    ] {
        let (_directory, path) = folder();
        let sink = format!("file://{}/out?{options}", path.display());
        let text = format!(
            "report = \"json\"\nsink = \"{sink}\"\n[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:0\"\n"
        );
        let file = config(&path, &text);
        let ports = path.join("ports").display().to_string();
        let launch = Drainline::with(&["--config", &file, "--port-file", &ports]).bare();
        let mut child = launch.start();
        let mut client = child.connect();
        client.write_all(b"hello\n").unwrap();
        client::half_close(client);
        child.wait_until_all_ended();
        child.terminate().assert_code(0);
        assert_eq!(fs::read_to_string(path.join("out")).unwrap(), written);
    }
}

/// Two listeners and three outputs: everything in one, some in another, and a third that nobody
/// reads and nobody waits for.
#[test]
fn outputs_get_what_listeners_send_them_and_one_that_is_not_required_holds_up_nobody() {
    let (_directory, path) = folder();
    let dead = path.join("dead");
    fifo::make(&dead);
    let reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&dead)
        .unwrap();
    let (all, some) = (path.join("all"), path.join("some"));
    let text = format!(
        "report = \"json\"\nmax_message = \"1KiB\"\n\
         [[output]]\nname = \"all\"\nsink = \"file://{}?envelope={{listener}} {{message}}\"\n\
         [[output]]\nname = \"some\"\nsink = \"file:{}\"\n\
         [[output]]\nname = \"dead\"\nsink = \"file:{}\"\nrequired = false\nbuffer_bytes = \"64KiB\"\n\
         [[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"b\"\naddress = \"127.0.0.1:0\"\nto = [\"all\"]\n",
        all.display(),
        some.display(),
        dead.display()
    );
    let file = config(&path, &text);
    let ports = path.join("ports").display().to_string();
    let mut child = Drainline::with(&["--config", &file, "--port-file", &ports])
        .bare()
        .start();
    let [a, b] = [0, 1].map(|at| child.addrs()[at]);
    let line = "x".repeat(1000);
    const LINES: u64 = 1000;
    for address in [a, b] {
        let mut client = client::connect(address);
        for _ in 0..LINES {
            client.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        client::half_close(client);
    }
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_balanced();
    drop(reader);
    let lines = |path: &Path, of: &str| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().filter(|it| *it == of).count() as u64
    };
    assert_eq!(lines(&all, &format!("a {line}")), LINES);
    assert_eq!(lines(&all, &format!("b {line}")), LINES);
    assert_eq!(lines(&some, &line), LINES);
    assert_eq!(exit.u64("delivered"), 2 * LINES);
    for (at, name, received) in [
        (0, "all", 2 * LINES),
        (1, "some", LINES),
        (2, "dead", LINES),
    ] {
        let row = |key: &str| exit.report["outputs"][at][key].clone();
        assert_eq!(row("name"), name);
        assert_eq!(row("received"), received);
        assert_eq!(row("balanced"), true);
        assert_eq!(row("required"), name != "dead");
    }
    let dropped = exit.report["outputs"][2]["dropped"].as_object().unwrap();
    assert!(dropped.values().any(|count| *count != 0), "{exit}");
}
