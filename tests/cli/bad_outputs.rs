//! What is wrong with an output, one row of a table for each way to be wrong: told by `check` and
//! at a start in the same one line, with the code of its kind, wherever it was given, and without
//! secrets.

mod kafka;

use std::fs;
use std::path::Path;

use crate::common::child::Drainline;
use crate::common::fifo;
use crate::common::tool::run_by;

const SECRET: &str = "hunter2";

/// What a row's value is wrong in, and the exit codes: on the command line, and elsewhere.
#[derive(Clone, Copy)]
enum Wrong {
    /// A value by itself.
    Value,
    /// Values that do not go together.
    Together,
    /// How things are now: that may pass.
    Now,
}

use Wrong::{Now, Together, Value};

impl Wrong {
    fn codes(self) -> [i32; 2] {
        match self {
            Value => [2, 78],
            Together => [78, 78],
            Now => [1, 1],
        }
    }
}

/// URLs with what is told of them; `{}` is a directory with `empty`, `latin` (not UTF-8), `many`
/// (two lines), `fifo` (which nobody opens) and `dir`, which is one.
const URLS: &[(&str, Wrong, &str)] = &[
    // The scheme and the place.
    ("", Value, "missing value"),
    ("x", Value, "expected stdout, file:PATH"),
    ("/x", Value, "did you mean file:/x?"),
    ("./x:y", Value, "did you mean file:./x:y?"),
    ("://x", Value, "there is no :"),
    ("nosuch://me:hunter2@h/x", Value, "there is no nosuch:"),
    ("HTTP://h/", Value, "there is no HTTP:"),
    ("loki://h", Value, "http://HOST:3100 with dialect=loki"),
    ("elasticsearch://h", Value, "dialect=elasticsearch"),
    ("opensearch://me:hunter2@h", Value, "dialect=elasticsearch"),
    ("splunk://h", Value, "dialect=splunk"),
    ("syslog://h", Value, "tcp://HOST:PORT"),
    ("udp://h:514", Value, "tcp://HOST:PORT"),
    ("http:me:hunter2@h", Value, "'http:***@h'"),
    ("tcp:/me:hunter2@h:1", Value, "there is no tcp:"),
    ("\x1b[31m", Value, r"\u{1b}[31m"),
    ("null:", Value, "there is no null:"),
    ("stdout:", Value, "there is no stdout:"),
    ("stdout?", Value, "?key=value"),
    ("stdout?x", Value, "?key=value"),
    // Options of every output.
    ("stdout?nosuch=1", Value, "'nosuch'"),
    ("null?window=1", Value, "'window'"),
    ("stdout?name=", Value, "'name='"),
    ("stdout?name=a b", Value, "'name=a b'"),
    ("stdout?name=a&name=a", Value, "each option once"),
    ("stdout?required=no", Value, "true or false"),
    ("stdout?framing=csv", Value, "expected lines, nul"),
    ("stdout?envelope=x", Value, "expected raw, json"),
    (
        "stdout?envelope={massage}",
        Value,
        "{message} is the nearest",
    ),
    ("stdout?envelope={message", Value, "without its counterpart"),
    ("stdout?envelope=}", Value, "without its counterpart"),
    ("stdout?buffer_bytes=1", Value, "a size from 4KiB"),
    ("stdout?buffer_bytes=1MiB", Together, "required = false"),
    ("stdout?name=%", Value, "escapes such as %3F"),
    ("stdout?name=%zz", Value, "escapes such as %3F"),
    ("stdout?name=%00", Value, "escapes such as %3F"),
    ("stdout?terminal_escape=maybe", Value, "auto or off"),
    ("null?framing=nul", Together, "a sink of one stream"),
    // Files.
    ("file:", Value, "expected file:PATH"),
    ("file://", Value, "expected file:///PATH"),
    ("file://h/x", Value, "a file has no host"),
    ("file:{}/dir", Now, "directory"),
    ("file:{}/no/such", Now, "No such file"),
    ("file:{}/empty/x", Now, "Not a directory"),
    ("file://{}/x?fsync=maybe", Value, "off, batch or a duration"),
    ("file://{}/x?fsync=1ms", Value, "from 100ms"),
    ("file://{}/x?rotate_size=1", Value, "from 4KiB"),
    ("file://{}/x?rotate_every=0s", Value, "rotate_every=0s"),
    ("file://{}/x?keep=0", Value, "from 1 to 100000"),
    (
        "file://{}/x?keep=3",
        Together,
        "rotate_size or rotate_every beside it",
    ),
    #[cfg(feature = "gzip")]
    ("file://{}/x?gzip=yes", Value, "true or false"),
    #[cfg(feature = "gzip")]
    (
        "file://{}/x?gzip=true",
        Together,
        "rotate_size or rotate_every beside it",
    ),
    #[cfg(feature = "strftime")]
    (
        "file://{}/%Y?rotate_size=1MiB",
        Together,
        "a path without a date",
    ),
    ("file://{}/x?mode=888", Value, "permissions in octal"),
    ("file://{}/x?owner=nosuch-user", Value, "owner=nosuch-user"),
    ("file://{}/x?owner=:", Value, "no group"),
    ("file://{}/x?terminal_escape=maybe", Value, "auto or off"),
    // Another server.
    ("tcp://", Value, "expected tcp://HOST:PORT"),
    ("tcp://h", Value, "without a port"),
    ("tcp://:1", Value, "is no host"),
    ("tcp://h:0", Value, "is no port"),
    ("tcp://h:+1", Value, "is no port"),
    ("tcp://h:65536", Value, "is no port"),
    ("tcp://h:1/", Value, "is no port"),
    ("tcp://h:1,", Value, "without a port"),
    ("tcp://::1:1", Value, "in brackets"),
    ("tcp://[::g]:1", Value, "no IPv6 address"),
    ("tcp://a:1,tls://b:2", Value, "tcp:// stands once"),
    ("tcp://a\x1bb:1", Value, r"a\u{1b}b"),
    ("tcp://me:hunter2@h:1", Value, "no user"),
    ("tcp://a:1,me:x,hunter2@h:1", Value, "no user"),
    ("tcp://h:1?connect_timeout=0s", Value, "from 1ms"),
    ("tcp://h:1?return_after=soon", Value, "from 1ms"),
    (
        "tcp://h:1?return_after=1s",
        Together,
        "tcp://h:1: expected another server to return from",
    ),
    ("tcp://h:1?ack_timeout=25h", Value, "to 24h"),
    ("tcp://h:1?dialect=loki", Value, "'dialect'"),
    ("tcp://h:1?tls_ca=x", Together, "a tls:// server"),
    #[cfg(feature = "tls")]
    ("tls://h:1?tls_min_version=1.1", Value, "1.2 or 1.3"),
    #[cfg(feature = "tls")]
    (
        "tls://h:1?tls_server_name=a b",
        Value,
        "tls_server_name=a b",
    ),
    #[cfg(feature = "tls")]
    (
        "tls://h:1?tls_server_name=::1%25eth0",
        Value,
        "an address such as ::1",
    ),
    #[cfg(feature = "tls")]
    (
        "tls://h:1?tls_server_name=1.2.3.4.5:6",
        Value,
        "a certificate can be",
    ),
    #[cfg(feature = "tls")]
    ("tls://h:1?tls_ca={}/nosuch", Now, "cannot read TLS CA"),
    #[cfg(feature = "tls")]
    ("tls://h:1?tls_ca={}/empty", Value, "no certificate"),
    #[cfg(feature = "tls")]
    ("tls://h:1?tls_ca={}/dir", Now, "is a directory"),
    #[cfg(feature = "tls")]
    (
        "tls://h:1?tls_cert={}/empty",
        Together,
        "a tls_key beside it",
    ),
    #[cfg(feature = "tls")]
    (
        "tls://h:1?tls_key={}/empty",
        Together,
        "a tls_cert beside it",
    ),
    #[cfg(feature = "tls")]
    (
        "tls://h:1?tls_cert={}/empty&tls_key={}/empty",
        Value,
        "no certificate",
    ),
    ("unix:", Value, "expected unix:PATH"),
    ("unix://", Value, "expected unix:///PATH"),
    ("unix://h/x", Value, "a socket has no host"),
    ("unix:///x%zz", Value, "escapes such as %3F"),
    ("unix:///x?framing=csv", Value, "expected lines, nul"),
    (
        "unix:///x?return_after=1s",
        Together,
        "another server to return from",
    ),
    // Commands.
    ("exec:", Value, "expected exec:COMMAND"),
    ("exec: ", Value, "there is no command"),
    ("exec:'' x", Value, "no command"),
    ("exec:a 'b", Value, "is not closed"),
    ("exec:nosuch-command", Now, "not in PATH"),
    (
        "exec:nosuch?shell=true",
        Now,
        "shell of exec: is a key of an [[output]]",
    ),
    ("exec:{}/dir", Now, "directory"),
    ("exec:{}/empty", Now, "Permission denied"),
];

#[cfg(feature = "redis")]
const OF_REDIS: &[(&str, Wrong, &str)] = &[
    ("redis://h", Value, "no stream"),
    ("redis://h/", Value, "no stream"),
    ("redis:///s", Value, "no host"),
    ("redis://h:0/s", Value, "no port"),
    ("redis://h:http/s", Value, "no port"),
    ("redis://h,b/s", Value, "more than one host"),
    ("redis://[::1/s", Value, "no ]"),
    ("redis://h/a%00b", Value, "escapes such as %3F"),
    ("redis://h/a%ffb", Value, "not UTF-8"),
    ("redis://me:hunter2/x@h/s", Value, "%2F and %40"),
    ("redis://me:hunter2?x@h/s", Value, "%3F and %40"),
    (
        "redis://me@h/s",
        Together,
        "a password_file beside its user",
    ),
    (
        "redis://me:@h/s",
        Together,
        "a password_file beside its user",
    ),
    (
        "redis://:hunter2@h/s?password_file={}/many",
        Together,
        "one of password",
    ),
    (
        "redis://:hunter2@h/s?password=hunter2",
        Value,
        "each option once",
    ),
    ("redis://h/s?password=", Value, "shown nowhere"),
    ("redis://h/s?password_file={}/nosuch", Now, "nosuch"),
    (
        "redis://h/s?password_file={}/empty",
        Value,
        "expected a secret in it",
    ),
    (
        "redis://h/s?password_file={}/latin",
        Value,
        "expected UTF-8",
    ),
    ("redis://h/s?password_file={}/dir", Now, "directory"),
    (
        "redis://h/s?password_file={}/fifo",
        Now,
        "fifo: not a regular file",
    ),
    (
        "redis://h/s?password_env=A=B",
        Value,
        "the name of a variable",
    ),
    (
        "redis://h/s?password_env=NO_SUCH_VARIABLE",
        Value,
        "NO_SUCH_VARIABLE",
    ),
    (
        "redis://h/s?password_env=EMPTY_VARIABLE",
        Value,
        "EMPTY_VARIABLE",
    ),
    ("redis://h/s?database=-1", Value, "database=-1"),
    ("redis://h/s?field=a b", Value, "field=a b"),
    ("redis://h/s?max_len=0", Value, "max_len=0"),
    (
        "redis://h/s?max_len=9223372036854775808",
        Value,
        "to 9223372036854775807",
    ),
    (
        "redis://h:6379/0",
        Value,
        "database=0, and a stream of that name as %30",
    ),
    ("redis://h/s?client_name=a b", Value, "client_name=a b"),
    ("redis://h/s?window=1", Value, "from 64KiB"),
    ("redis://h/s?connect_timeout=2h", Value, "to 1h"),
    ("redis://h/s?answer_timeout=1ms", Value, "from 100ms"),
    ("redis://h/s?index=a", Value, "'index'"),
    ("redis://h/s?framing=nul", Together, "a sink of one stream"),
    #[cfg(feature = "tls")]
    ("redis://h/s?tls_ca=x", Together, "rediss://"),
    #[cfg(feature = "tls")]
    ("rediss://h/s?tls_ca={}/nosuch", Now, "cannot read TLS CA"),
    #[cfg(feature = "tls")]
    ("rediss://h/s?tls_ca={}/empty", Value, "no certificate"),
    #[cfg(feature = "tls")]
    ("rediss://h/s?tls_cert=a", Together, "a tls_key beside it"),
    #[cfg(feature = "tls")]
    ("rediss://h/s?tls_key=a", Together, "a tls_cert beside it"),
    #[cfg(feature = "tls")]
    (
        "rediss://h/s?tls_server_name=a b",
        Value,
        "tls_server_name=a b",
    ),
    #[cfg(feature = "tls")]
    ("rediss://h/s?tls_min_version=1.1", Value, "1.2 or 1.3"),
];
#[cfg(not(feature = "redis"))]
const OF_REDIS: &[(&str, Wrong, &str)] = &[("redis://:hunter2@h/s", Value, "feature redis")];

#[cfg(feature = "http")]
const OF_HTTP: &[(&str, Wrong, &str)] = &[
    ("http://", Value, "expected http://HOST/PATH"),
    ("http:///x", Value, "no host"),
    ("http://h:0/", Value, "no port"),
    ("http://a,b/", Value, "more than one host"),
    ("http://[::1", Value, "no ]"),
    ("http://h/%zz", Value, "escapes such as %3F"),
    ("http://:hunter2@h/", Value, "a password and no user"),
    ("http://me@h/", Together, "a password beside it"),
    (
        "http://me:hunter2@h/?token=hunter2",
        Together,
        "no token beside it",
    ),
    ("http://h/?user=a:b&password=hunter2", Value, "no colon"),
    (
        "http://h/?user=a&password_file={}/empty",
        Value,
        "expected a secret",
    ),
    (
        "http://h/?user=a&password_env=NO_SUCH_VARIABLE",
        Value,
        "NO_SUCH_VARIABLE",
    ),
    ("http://h/?password=hunter2", Together, "a user beside it"),
    ("http://h/?dialect=xml", Value, "dialect=xml"),
    ("http://h/?index=a", Together, "dialect elasticsearch"),
    (
        "http://h/?dialect=elasticsearch&index=A",
        Value,
        "'index=A' for",
    ),
    (
        "http://h/?dialect=elasticsearch&index=logs-%25d",
        Value,
        "without a date or a field",
    ),
    (
        "http://h/?dialect=elasticsearch&index=_a",
        Together,
        "no _ at its beginning",
    ),
    (
        "http://h/?dialect=elasticsearch&index=a/b",
        Value,
        "the name of an index",
    ),
    (
        "http://h/?dialect=elasticsearch&index=..",
        Value,
        "the name of an index",
    ),
    (
        "http://h/?dialect=elasticsearch&action=delete",
        Value,
        "create or index",
    ),
    ("http://h/?action=index", Together, "dialect elasticsearch"),
    ("http://h/?dialect=loki&labels=x", Value, "NAME=VALUE"),
    (
        "http://h/?dialect=loki&labels=1a=b",
        Value,
        "no name of a label",
    ),
    (
        "http://h/?dialect=loki&labels=a={nosuch}",
        Value,
        "no value of a label",
    ),
    ("http://h/?source=a", Together, "dialect splunk"),
    ("http://h/?source=%0a", Value, "without control characters"),
    ("http://h/?sourcetype=a", Together, "dialect splunk"),
    ("http://h/?event_host=a", Together, "dialect splunk"),
    ("http://h/?query=a b", Value, "the query has a character"),
    ("http://h/?query=a%23b", Value, "the query has a character"),
    ("http://h/?query=a&query_env=B", Together, "one of query"),
    ("http://h/?query_file={}/many", Value, "the query has a"),
    (
        "http://h/x%3Fapi_key=hunter2",
        Value,
        "a PATH without a question mark: a query is given by query=",
    ),
    (
        "http://me:hunter2@h/x%3fapi_key=hunter2?gzip=true",
        Value,
        "'http://h/x%3F***'",
    ),
    (
        "http://a,b/x%3Fapi_key=hunter2",
        Value,
        "more than one host",
    ),
    ("http://h/?headers=x", Value, "NAME:VALUE"),
    ("http://h/?headers=a b:c", Value, "no name of a header"),
    ("http://h/?headers=a:hunter2%0d%0ac", Value, "NAME:VALUE"),
    ("http://h/?headers=a:hunter2,c", Value, "'headers=***'"),
    ("http://h/?headers_file={}/many", Value, "a line for each"),
    ("http://h/?headers_file={}/fifo", Now, "not a regular file"),
    (
        "http://h/?headers_env=NO_SUCH_VARIABLE",
        Value,
        "is not set",
    ),
    (
        "http://h/?headers=a:b&headers_env=B",
        Together,
        "one of headers",
    ),
    ("http://h/?headers=Content-Length:1", Value, "is made here"),
    (
        "http://h/?headers=Authorization:hunter2",
        Value,
        "give a token",
    ),
    ("http://h/?framing=nul", Together, "a sink of one stream"),
    ("http://h/?requests=65", Value, "from 1 to 64"),
    ("http://h/?body_bytes=1", Value, "from 1KiB"),
    ("http://h/?linger=2s", Value, "to 1s"),
    ("http://h/?connect_timeout=1ms", Value, "from 100ms"),
    ("http://h/?timeout=1d", Value, "timeout=1d"),
    ("http://h/?gzip=yes", Value, "true or false"),
    ("http://h/?refused={}/dir", Now, "dir"),
    ("http://h/?refused={}/no/such", Now, "no/such"),
    ("http://h/?refused={}/fifo", Now, "fifo: not a regular file"),
    ("http://h/?refused_max=0", Value, "from 1B"),
    (
        "http://h/?refused_max=100MiB",
        Together,
        "a refused beside it",
    ),
    ("http://h/?token=hunter2%0a", Value, "no header may have"),
    ("http://h/?token_file={}/many", Value, "no header may have"),
    ("http://h/?token_file={}/latin", Value, "expected UTF-8"),
    (
        "http://h/?token_file={}/fifo",
        Now,
        "fifo: not a regular file",
    ),
    (
        "http://h/?query_file={}/fifo",
        Now,
        "fifo: not a regular file",
    ),
    ("http://h/?token_env=A=B", Value, "the name of a variable"),
    (
        "http://h/?token=hunter2&token_env=A",
        Together,
        "one of token",
    ),
    ("http://h/?token_scheme=A", Together, "a token beside it"),
    ("http://h/?tls_ca=x", Together, "an https:// server"),
    ("https://h/?tls_ca={}/nosuch", Now, "cannot read TLS CA"),
    ("https://h/?tls_ca={}/empty", Value, "no certificate"),
    (
        "https://h/?tls_server_name=a..b",
        Value,
        "a certificate can be",
    ),
    ("https://h/?tls_cert=a", Together, "a tls_key beside it"),
    ("https://h/?tls_key=a", Together, "a tls_cert beside it"),
    (
        "https://h/?tls_server_name=a b",
        Value,
        "tls_server_name=a b",
    ),
    ("https://h/?tls_min_version=1.1", Value, "1.2 or 1.3"),
];
#[cfg(not(feature = "http"))]
const OF_HTTP: &[(&str, Wrong, &str)] = &[("http://me:hunter2@h/", Value, "feature http")];

/// What stands in a table only: forms of URLs without options.
const TABLES: &[(&str, Wrong, &str)] = &[
    ("sink = \"exec:cat\"\nshell = 1", Value, "true or false"),
    (
        "sink = \"exec:cat\"\nstop_timeout = \"soon\"",
        Value,
        "stop_timeout",
    ),
    (
        "sink = \"exec:cat\"\nstop_timeout = 1",
        Value,
        "stop_timeout",
    ),
    (
        "sink = \"unix:/x\"\ntls_ca = \"x\"",
        Together,
        "a tls:// server",
    ),
    (
        "sink = \"unix:/x\"\nreturn_after = \"1s\"",
        Together,
        "another server to return from",
    ),
    (
        "sink = \"unix:/x\"\nack_timeout = \"0s\"",
        Value,
        "from 1ms",
    ),
    ("sink = \"file:/x\"\nkeep = 0", Value, "from 1 to 100000"),
    (
        "sink = \"stdout\"\nwindow = 1",
        Value,
        "unknown key 'window'",
    ),
    (
        "sink = \"stdout\"\nname = \"a\"\nname = \"a\"",
        Value,
        "duplicate key",
    ),
    ("name = \"a\"", Value, "expected a sink"),
    ("sink = 1", Value, "sink"),
];

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("latin"), b"p\xe4ss").unwrap();
    fs::write(path("many"), "one\ntwo\n").unwrap();
    fs::create_dir(path("dir")).unwrap();
    fifo::make(path("fifo"));
    directory
}

/// Runs to its end; returns the code and the one line.
#[track_caller]
fn told(args: &[&str], sink: Option<&str>) -> (Option<i32>, String) {
    let launch = Drainline::with(args).env("EMPTY_VARIABLE", "");
    let launch = match sink {
        Some(sink) => launch.env("DRAINLINE_SINK", sink),
        None => launch,
    };
    let (exit, _) = run_by(launch);
    assert_eq!(exit.stderr.lines().count(), 1, "{args:?} {sink:?}: {exit}");
    assert!(!exit.stderr.contains(SECRET), "{args:?} {sink:?}: {exit}");
    assert!(
        !exit.stderr.trim_end().contains(char::is_control),
        "{args:?}: {exit}"
    );
    (exit.code, exit.stderr)
}

#[test]
fn what_is_wrong_with_a_url_is_one_line_with_the_code_of_its_kind() {
    let directory = directory();
    let path = directory.path().to_str().unwrap();
    for (url, wrong, part) in [URLS, OF_REDIS, OF_HTTP, kafka::URLS, kafka::OF_TLS].concat() {
        let url = &*url.replace("{}", path);
        let [typed, elsewhere] = wrong.codes();
        let (code, line) = told(&["check", "--sink", url], None);
        assert_eq!(code, Some(typed), "{url:?}: {line}");
        assert!(line.contains(part), "{part:?} of {url:?} is not in {line}");
        assert!(line.contains("--sink"), "{line}");
        let started = told(&["--listen", "127.0.0.1:0", "--sink", url], None);
        assert_eq!(started, (code, line), "{url:?}");
        if url.is_empty() {
            continue;
        }
        let (code, line) = told(&["check"], Some(url));
        assert_eq!(code, Some(elsewhere), "{url:?}: {line}");
        assert!(
            line.contains(part) && line.contains("DRAINLINE_SINK"),
            "{line}"
        );
        let in_file = format!("[[output]]\nsink = {}\n", quoted(url));
        let (code, line) = told_of_file(directory.path(), &in_file);
        assert_eq!(code, Some(elsewhere), "{url:?}: {line}");
        assert!(
            line.contains(part) && line.contains("config.toml:2:"),
            "{line}"
        );
    }
}

/// As TOML's basic strings are written.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn told_of_file(directory: &Path, text: &str) -> (Option<i32>, String) {
    let file = directory.join("config.toml");
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    told(&["check", "--config", file], None)
}

#[test]
fn what_is_wrong_with_a_table_is_one_line_with_its_place() {
    let directory = directory();
    for (table, wrong, part) in TABLES {
        let text = format!("[[output]]\n{table}\n");
        let (code, line) = told_of_file(directory.path(), &text);
        assert_eq!(code, Some(wrong.codes()[1]), "{table}: {line}");
        assert!(line.contains(part), "{part:?} is not in {line}");
        assert!(line.contains("config.toml:"), "{line}");
    }
}

/// A new option needs a row above.
#[test]
fn each_option_of_each_scheme_has_a_row() {
    let (exit, config) = run_by(Drainline::with(&["config"]));
    exit.assert_code(0);
    let (_, outputs) = config.split_once("# [[output]]\n").unwrap();
    let of_kafka = [kafka::URLS, kafka::OF_TLS].concat();
    let rows = [URLS, OF_REDIS, OF_HTTP, TABLES, &of_kafka].concat();
    let mut prefixes = vec!["".to_owned()];
    let mut options = 0;
    for line in outputs.lines() {
        if let Some((with, _)) = line
            .strip_prefix("# With ")
            .and_then(|it| it.split_once(": "))
        {
            let scheme = |form: &str| {
                form.split_once(':')
                    .map_or(form, |(scheme, _)| scheme)
                    .to_owned()
            };
            prefixes = with.split(" or ").map(scheme).collect();
        }
        let Some((key, _)) = line.strip_prefix("# ").and_then(|it| it.split_once(" = ")) else {
            continue;
        };
        if key.contains(' ') || key == "sink" {
            continue;
        }
        options += 1;
        let is_of = |row: &str| {
            let place = row.strip_prefix("sink = \"").unwrap_or(row);
            let in_url = [
                format!("?{key}="),
                format!("&{key}="),
                format!("\n{key} = "),
            ];
            prefixes
                .iter()
                .any(|prefix| place.starts_with(prefix.as_str()))
                && in_url.iter().any(|option| row.contains(option.as_str()))
        };
        assert!(
            rows.iter().any(|(row, ..)| is_of(row)),
            "no row has a wrong {key} of {prefixes:?}"
        );
    }
    assert!(options > 30, "{options}");
}
