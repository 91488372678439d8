//! The command line as a user meets it: typed words in; settings, one line or help out.

mod file;
mod flags;
mod outputs;
mod report;
pub(crate) mod rows;
mod wrong_file;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use drainline::{Config, FirstByteTimeout, OnOverload, PauseAfter, WhenFull};

use drainline::ingest::Oversize;

use super::command::Parsed;
use super::listen::ListenUrl;
use super::settings::{AFTER, PAGE, Settings, parse};
use super::usage::{COMMANDS, UsageError};
use super::values::ReportFormat;

fn typed(words: &[&str]) -> Result<Parsed<Settings>, UsageError> {
    parse(
        std::iter::once("drainline")
            .chain(words.iter().copied())
            .map(OsString::from),
    )
}

#[track_caller]
fn settings(words: &[&str]) -> Settings {
    match typed(words) {
        Ok(Parsed::Run(settings)) => *settings,
        other => panic!("{words:?}: {other:?}"),
    }
}

#[track_caller]
fn printed(word: &str) -> String {
    match typed(&[word]) {
        Ok(Parsed::Print(text)) => text,
        other => panic!("{word}: {other:?}"),
    }
}

/// Where messages go.
fn urls(settings: &Settings) -> Vec<String> {
    let outputs = settings.all_outputs();
    outputs
        .map(|output| output.destination.to_string())
        .collect()
}

/// Refused in one line that holds each of `parts`.
#[track_caller]
fn refused(words: &[&str], code: u8, parts: &[&str]) {
    let error = typed(words).expect_err(&format!("{words:?}"));
    assert_eq!(error.code, code, "{error}");
    assert!(error.line.starts_with("drainline: "), "{error}");
    assert!(!error.line.contains(char::is_control), "{error:?}");
    for part in parts {
        assert!(error.line.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn the_example_of_a_bad_value_word_for_word() {
    let error = typed(&["--send-timeout", "5x"]).expect_err("refused");
    assert_eq!(
        error.line,
        "drainline: invalid value '5x' for --send-timeout: expected a duration from 1ms to 24h, such as 5s"
    );
}

/// `60s` is a minute, and yet nobody who reads of `1m` finds it in what was typed.
#[test]
fn a_value_that_contradicts_another_is_told_as_it_was_typed() {
    refused(
        &["--pause-after", "60s", "--send-timeout=0.5m"],
        78,
        &["invalid value '60s' for --pause-after: expected less than --send-timeout (0.5m)"],
    );
}

#[test]
fn a_list_with_too_many_entries_is_told_by_its_begin_and_their_number() {
    let long = vec!["10.0.0.0/8"; 65_537].join(",");
    for flag in ["--allow", "--proxy-from", "--per-ip-exempt", "--listen"] {
        let begin = format!("invalid value '10.0.0.0/8,...' for {flag}: expected ");
        let most = "65537 are given, and 65536 are the most";
        refused(&[flag, &long], 2, &[&begin, most]);
    }
    let all: Vec<&str> = long[..long.len() - 11].split(',').collect();
    assert!(typed(&["--allow", &all.join(",")]).is_ok());
}

#[test]
fn what_is_no_flag_is_one_line_with_the_nearest_flag() {
    refused(
        &["--send-timout", "5s"],
        2,
        &["--send-timout", "--send-timeout?"],
    );
    refused(&["--frobnicate"], 2, &["--frobnicate", "drainline -h"]);
    refused(&["-x"], 2, &["-x", "drainline -h"]);
    refused(&["serve"], 2, &["serve", "flags"]);
    for (word, nearest) in [("laod", "load"), ("verfy", "verify"), ("plans", "plan")] {
        let line = format!("'{word}': did you mean drainline {nearest}?");
        refused(
            &[word],
            2,
            &[&line, "check, config, load, verify, lab, plan"],
        );
    }
    let listed = format!("drainline {} (", COMMANDS.join(", "));
    assert!(PAGE.short_after.contains(&listed), "{listed}");
    for word in ["help", "load"] {
        refused(
            &["--check", word],
            2,
            &["as the first word a command (check, config, load, verify, lab, plan)"],
        );
    }
    refused(
        &["--send-timeout", "-5s"],
        2,
        &["invalid value '-5s' for --send-timeout: expected"],
    );
    refused(
        &["--send-timeout", "--check"],
        2,
        &["invalid value '--check' for --send-timeout"],
    );
    refused(
        &["--port-file", "--check"],
        2,
        &["missing value for --port-file: expected a path"],
    );
    refused(&["--check=yes"], 2, &["--check", "yes"]);
    refused(
        &["--report", "text", "--report", "json"],
        2,
        &["--report", "more than once"],
    );
    refused(
        &["--sink", "a\nb\u{1b}[31m"],
        2,
        &["--sink", "a\\nb\\u{1b}"],
    );
    refused(
        &["--oversize", "a\nb"],
        2,
        &["--oversize", "a\\nb", "close"],
    );
    refused(&["--\n"], 2, &[]);
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_utf8_and_nothing_else_may_be_otherwise() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let words = |flag: &str, value: &[u8]| {
        [
            "drainline".into(),
            flag.into(),
            OsString::from_vec(value.to_vec()),
        ]
    };
    let Ok(Parsed::Run(settings)) = parse(words("--sink", b"file:/tmp/\xff")) else {
        panic!("a path is refused");
    };
    let path = settings.sinks[0].destination.file().expect("a file");
    assert_eq!(path.as_os_str().as_bytes(), b"/tmp/\xff");
    let error = parse(words("--send-timeout", b"5\xff")).expect_err("refused");
    assert_eq!(error.code, 2);
    assert!(
        !error.line.contains('\n') && error.line.contains("UTF-8"),
        "{error}"
    );
}

#[test]
fn values_that_contradict_each_other_are_78_and_name_both_flags() {
    refused(
        &["--pause-after", "30s"],
        78,
        &["invalid value '30s' for --pause-after: expected less than --send-timeout (30s)"],
    );
    settings(&["--pause-after", "30s", "--when-full", "block"]);
    refused(
        &["--send-timeout", "2s", "--pause-after", "1m"],
        78,
        &["'1m' for --pause-after", "--send-timeout (2s)"],
    );
    refused(
        &["--max-message", "64MiB"],
        78,
        &["'64MiB' for --max-message", "--buffer-bytes (64MiB)"],
    );
    refused(
        &["--buffer-bytes", "64KiB"],
        78,
        &["'64KiB' for --max-message", "--buffer-bytes (64KiB)"],
    );
    // What is held beside a message, in the words of the error.
    let whole = typed(&["--buffer-bytes=64KiB"]).expect_err("refused").line;
    let beside = whole.split("at least ").nth(1).expect("so many bytes");
    let beside: usize = beside
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    let (most, above) = (64 * 1024 - beside, 64 * 1024 - beside + 1);
    settings(&["--buffer-bytes=64KiB", &format!("--max-message={most}")]);
    refused(
        &["--buffer-bytes=64KiB", &format!("--max-message={above}")],
        78,
        &["--max-message"],
    );
    refused(
        &[
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "127.0.0.1:2",
            "--listen",
            "127.0.0.1:1",
        ],
        78,
        &["invalid value '127.0.0.1:1' for --listen: expected each address once"],
    );
    for (listen, twice) in [
        ("systemd:a,systemd:b,systemd:a", "systemd:a"),
        ("systemd:a,systemd:", "systemd:"),
    ] {
        refused(
            &["--listen", listen],
            78,
            &[&format!(
                "invalid value '{twice}' for --listen: expected each name once"
            )],
        );
    }
    settings(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    refused(
        &["--per-ip-exempt", "10.0.0.0/8", "--per-ip-exempt", "off"],
        2,
        &["invalid value '10.0.0.0/8,off' for --per-ip-exempt: expected off or networks"],
    );
}

#[test]
fn without_a_flag_it_is_what_the_design_says() {
    let settings = settings(&[]);
    let mut expected = Config::default();
    expected.stack_size = Some(256 << 10);
    assert_eq!(format!("{:?}", settings.config), format!("{expected:?}"));
    let listen: ListenUrl = SocketAddr::from(([127, 0, 0, 1], 5140)).into();
    assert_eq!(settings.listen, [listen]);
    assert_eq!(settings.max_message, 64 << 10);
    assert_eq!(settings.oversize, Oversize::Truncate);
    assert_eq!(urls(&settings), ["stdout"]);
    assert_eq!(settings.report, ReportFormat::Text);
    assert_eq!(settings.port_file, None);
    assert!(!settings.check);
    assert_eq!(settings.log_level, None);
}

#[test]
fn coalesce_off_stops_the_linger_of_the_consumer_too() {
    let off = settings(&["--coalesce", "off"]).config;
    assert_eq!((off.max_read_delay, off.linger), (None, false));
    let on = settings(&["--coalesce", "7ms"]).config;
    let delay = Some(Duration::from_millis(7));
    assert_eq!((on.max_read_delay, on.linger), (delay, true));
}

const ALL: &[&str] = &[
    "--listen=127.0.0.1:1",
    "--listen=[::1]:2",
    "--listen=unix:/tmp/a.sock",
    #[cfg(feature = "tls")]
    "--listen=tls://[::1]:3",
    #[cfg(feature = "tls")]
    "--tls-cert=/tmp/server.pem",
    #[cfg(feature = "tls")]
    "--tls-key=/tmp/server.key",
    #[cfg(feature = "tls")]
    "--tls-client-ca=/tmp/ca.pem",
    #[cfg(feature = "tls")]
    "--tls-client-crl=/tmp/crl.pem",
    #[cfg(feature = "tls")]
    "--tls-client-auth=optional",
    #[cfg(feature = "tls")]
    "--tls-client-names=web1.example,spiffe://a/b",
    #[cfg(feature = "tls")]
    "--tls-min-version=1.3",
    "--backlog=7",
    "--unix-mode=0640",
    "--unix-owner=12:34",
    "--max-message=1000",
    "--oversize=close",
    "--buffer-messages=16",
    "--buffer-bytes=1MiB",
    "--pause-after=1500ms",
    "--on-overload=refuse",
    "--send-timeout=1m 30s",
    "--when-full=drop",
    "--max-connections=256",
    "--max-connections-per-ip=3",
    "--per-ip-exempt=10.1.2.3/8,::1",
    "--per-ip-exempt=192.0.2.1",
    "--allow=10.1.2.3/8,uid:1000",
    "--allow=192.0.2.1",
    "--proxy-from=10.1.2.3/8,::1,uid:0",
    "--handshake-timeout=3s",
    "--stack-size=128KiB",
    "--busy-poll=off",
    "--reuse-threads=2s",
    "--coalesce=20ms",
    "--rate-limit=1000/s",
    "--accept-rate=50",
    "--frame-timeout=off",
    "--idle-timeout=30d",
    "--first-byte-timeout=20s",
    "--keepalive=90s,5s,3",
    "--sink=file:/tmp/out put",
    "--terminal-escape=off",
    "--report=json",
    "--drain-timeout=0",
    "--log-level=debug",
    "--port-file=/tmp/ports",
];

#[test]
fn every_flag_reaches_its_setting() {
    let settings = settings(ALL);
    let config = &settings.config;
    assert_eq!(
        settings.listen.len(),
        3 + usize::from(cfg!(feature = "tls"))
    );
    assert_eq!(config.backlog, Some(7));
    assert_eq!(settings.unix_mode, 0o640);
    let owner = settings.unix_owner.map(|owner| (owner.uid, owner.gid));
    assert_eq!(owner, Some((Some(12), Some(34))));
    assert_eq!(settings.max_message, 1000);
    assert_eq!(settings.oversize, Oversize::Close);
    assert!(!settings.terminal_escape);
    assert_eq!(config.buffer_messages, 16);
    assert_eq!(config.buffer_bytes, 1 << 20);
    assert_eq!(
        config.pause_after,
        PauseAfter::After(Duration::from_millis(1500))
    );
    assert_eq!(config.on_overload, OnOverload::Refuse);
    assert_eq!(config.send_timeout, Duration::from_secs(90));
    assert_eq!(config.when_full, WhenFull::Drop);
    assert_eq!(config.max_connections, Some(256));
    assert_eq!(config.max_connections_per_ip, Some(3));
    let exempt: Vec<String> = config
        .per_ip_exempt
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(exempt, ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]);
    let allow: Vec<String> = config.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.0.0.0/8", "uid:1000", "192.0.2.1/32"]);
    let proxy_from: Vec<String> = config.proxy_from.iter().map(ToString::to_string).collect();
    assert_eq!(proxy_from, ["10.0.0.0/8", "::1/128", "uid:0"]);
    assert_eq!(config.handshake_timeout, Duration::from_secs(3));
    assert_eq!(config.stack_size, Some(128 << 10));
    assert_eq!(config.reuse_threads, Some(Duration::from_secs(2)));
    assert_eq!(config.busy_reads, Config::default().busy_reads);
    assert_eq!(config.max_read_delay, Some(Duration::from_millis(20)));
    assert!(config.linger);
    assert!(!config.busy_poll);
    assert_eq!(config.rate_limit, Some(1000));
    assert_eq!(config.accept_rate, Some(50));
    assert_eq!(config.frame_timeout, None);
    assert_eq!(config.idle_timeout, Some(Duration::from_secs(30 * 86_400)));
    let first_byte = FirstByteTimeout::After(Duration::from_secs(20));
    assert_eq!(config.first_byte_timeout, first_byte);
    let keepalive = config.keepalive.expect("on");
    assert_eq!(keepalive.idle, Duration::from_secs(90));
    assert_eq!(keepalive.interval, Duration::from_secs(5));
    assert_eq!(keepalive.probes, 3);
    assert_eq!(urls(&settings), ["file:/tmp/out put"]);
    assert_eq!(settings.report, ReportFormat::Json);
    assert_eq!(config.drain_timeout, Duration::ZERO);
    assert_eq!(settings.log_level, Some(log::LevelFilter::Debug));
    assert_eq!(settings.port_file, Some("/tmp/ports".into()));
}

#[test]
fn the_end_of_the_long_help_is_not_wrapped() {
    let long = printed("--help");
    for line in AFTER.lines() {
        assert!(long.lines().any(|told| told == line), "{line} is wrapped");
    }
}

#[test]
fn the_version_is_printed() {
    let version = format!("drainline {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed("-V"), version);
    assert_eq!(printed("--version"), version);
}
