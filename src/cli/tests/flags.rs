//! Every flag: what it takes, what it refuses, and where it is told.

use super::super::settings::command;
use super::{printed, refused, settings};

/// Each flag that takes a value: good values, bad values, and what the line about these must tell.
pub(super) const FLAGS: &[(&str, &[&str], &[&str], &str)] = &[
    (
        "--listen",
        &["127.0.0.1:0", "[::1]:5140", "localhost:5140"],
        &["5140", ":5140", "127.0.0.1", "127.0.0.1:65536"],
        "accepted is an address such as 127.0.0.1:5140",
    ),
    (
        "--backlog",
        &["auto", "1", "65535"],
        &["0", "65536", "off", "-1"],
        "accepted is 1 to 65535, or auto",
    ),
    (
        "--max-message",
        &["1B", "64", "1MiB"],
        &["0", "64XiB", "1025MiB", "off"],
        "accepted is a size such as 64KiB, 1B to 1GiB",
    ),
    (
        "--framing",
        &["lines", "nul", "octet-counted", "syslog", "length-prefixed"],
        &["line", "json"],
        "accepted is lines, nul, octet-counted, syslog or length-prefixed",
    ),
    (
        "--output-framing",
        &["lines", "nul", "octet-counted", "length-prefixed"],
        &["syslog", "LF"],
        "accepted is lines, nul, octet-counted or length-prefixed",
    ),
    (
        "--oversize",
        &["truncate", "drop", "close"],
        &["trunc", "Drop"],
        "accepted is truncate, drop or close",
    ),
    (
        "--buffer-messages",
        &["1", "16777216"],
        &["0", "16777217", "many", "-5"],
        "accepted is 1 to 16777216",
    ),
    (
        "--buffer-bytes",
        &["1MiB", "1TiB"],
        &["4095", "1025GiB", "99999999999999999999TiB"],
        "accepted is a size such as 64MiB, 4KiB to 1TiB",
    ),
    (
        "--pause-after",
        &["auto", "off", "100ms", "29s"],
        &["99ms", "never", "5"],
        "accepted is auto, off, or a duration such as 5s or 500ms, 100ms to 24h",
    ),
    (
        "--on-overload",
        &["backlog", "close", "refuse"],
        &["reject"],
        "accepted is backlog, close or refuse",
    ),
    (
        "--send-timeout",
        &["1ms", "1m 30s", "24h"],
        &["5x", "0s", "24h1ms", "off", "5"],
        "accepted is a duration such as 5s or 500ms, 1ms to 24h",
    ),
    (
        "--when-full",
        &["abort", "drop", "block"],
        &["wait"],
        "accepted is abort, drop or block",
    ),
    (
        "--max-connections",
        &["auto", "1", "1000000"],
        &["0", "1000001", "1k"],
        "accepted is 1 to 1000000, or auto",
    ),
    (
        "--max-connections-per-ip",
        &["off", "1"],
        &["0", "auto", "-1"],
        "accepted is 1 or more, or off",
    ),
    (
        "--per-ip-exempt",
        &["off", "10.0.0.0/8", "10.0.0.1,fd00::/8"],
        &["10.0.0.0/33", "gateway"],
        "accepted is a network such as 10.0.0.0/8",
    ),
    (
        "--stack-size",
        &["64KiB", "1GiB"],
        &["63KiB", "1025MiB", "big"],
        "accepted is a size such as 256KiB, 64KiB to 1GiB",
    ),
    (
        "--busy-reads",
        &["1", "1000000000/s"],
        &["0", "1000000001", "off"],
        "accepted is a rate such as 20000 or 20000/s, 1/s to 1000000000/s",
    ),
    (
        "--coalesce",
        &["auto", "off"],
        &["on", "50ms"],
        "accepted is auto or off",
    ),
    (
        "--max-read-delay",
        &["1ms", "1m"],
        &["999us", "61s", "off"],
        "accepted is a duration such as 50ms, 1ms to 1m",
    ),
    (
        "--linger",
        &["auto", "off"],
        &["on", "1ms"],
        "accepted is auto or off",
    ),
    (
        "--reuse-threads",
        &["off", "1ms", "1h"],
        &["0s", "61m", "auto"],
        "accepted is a duration such as 200ms or 5s, 1ms to 1h, or off",
    ),
    (
        "--rate-limit",
        &["off", "1", "1000/s"],
        &["0", "10/m"],
        "accepted is a rate such as 1000 or 1000/s, 1/s or more, or off",
    ),
    (
        "--accept-rate",
        &["off", "1/s"],
        &["0/s", "fast"],
        "accepted is a rate such as 1000 or 1000/s, 1/s or more, or off",
    ),
    (
        "--frame-timeout",
        &["off", "100ms", "365d"],
        &["99ms", "366d", "30"],
        "accepted is a duration such as 30s or 500ms, 100ms to 365d, or off",
    ),
    (
        "--idle-timeout",
        &["off", "10m", "365d"],
        &["99ms", "366d", "no"],
        "accepted is a duration such as 10m or 1h, 100ms to 365d, or off",
    ),
    (
        "--first-byte-timeout",
        &["auto", "off", "10s", "365d"],
        &["99ms", "366d", "no"],
        "accepted is auto, off, or a duration such as 10s or 1m, 100ms to 365d",
    ),
    (
        "--keepalive",
        &["off", "60s", "60s,10s", "1s,32767s,127"],
        &[
            "0s",
            "60s,10s,128",
            "60s,10s,6,1",
            "1500ms",
            "60s,32768s",
            "on",
        ],
        "accepted is 60s or 60s,10s,6",
    ),
    (
        "--terminal-escape",
        &["auto", "off"],
        &["on", "raw"],
        "accepted is auto or off",
    ),
    (
        "--sink",
        &["stdout", "null", "file:/tmp/out"],
        &["file:", "/tmp/out", "kafka"],
        "accepted is stdout, null or file:PATH",
    ),
    (
        "--report",
        &["text", "json"],
        &["xml"],
        "accepted is text or json",
    ),
    (
        "--log-level",
        &["error", "warn", "info", "debug", "trace", "off"],
        &["loud"],
        "accepted is error, warn, info, debug, trace or off",
    ),
    (
        "--drain-timeout",
        &["0s", "0", "24h"],
        &["24h1s", "soon"],
        "accepted is a duration such as 30s, 0s to 24h",
    ),
    (
        "--port-file",
        &["/tmp/ports"],
        &[""],
        "--port-file: a value is missing: accepted is a path",
    ),
];

#[test]
fn every_flag_takes_its_good_values_and_tells_what_it_accepts() {
    for (flag, good, bad, accepted) in FLAGS {
        for value in *good {
            settings(&[flag, value]);
            settings(&[&format!("{flag}={value}")]);
        }
        for value in *bad {
            refused(&[flag, value], 2, &[flag, value, accepted]);
        }
        refused(
            &[flag],
            2,
            &[flag, "a value is missing", accepted_tail(accepted)],
        );
    }
}

fn accepted_tail(text: &str) -> &str {
    text.find("accepted is").map_or(text, |at| &text[at..])
}

#[test]
fn every_flag_is_in_the_table_above_and_in_both_helps() {
    let (short, long) = (printed("-h"), printed("--help"));
    for arg in command().get_arguments() {
        let flag = format!("--{}", arg.get_long().expect("all have one"));
        let tested = FLAGS.iter().find(|(known, ..)| *known == flag);
        assert_eq!(
            tested.is_some(),
            !["--check", "--help", "--version"].contains(&flag.as_str()),
            "{flag}"
        );
        assert!(short.contains(&flag), "{flag} is not in -h");
        assert!(long.contains(&format!("{flag} ")) || long.contains(&format!("{flag}\n")));
        if let Some((_, _, _, accepted)) = tested {
            let accepted = accepted_tail(accepted).trim_start_matches("accepted is ");
            let flat = long.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&format!("Accepted: {accepted}")), "{flag}");
        }
    }
}
