//! Every flag, by its row: what it accepts, what it refuses, and where it is told.

use super::super::command::Parsed;
use super::super::settings::{PAGE, flags};
use super::{refused, rows, typed};

#[test]
fn every_row_takes_its_good_values_refuses_its_bad_ones_and_is_in_both_helps() {
    rows::assert_hold(&PAGE, &flags(), typed);
}

/// What an edge of a range does not show.
#[test]
fn values_are_read_as_people_write_them() {
    for words in [
        ["--send-timeout", "1m 30s"],
        ["--drain-timeout", "0"],
        ["--buffer-bytes", "70MB"],
        ["--max-message", "64"],
        ["--rate-limit", "1000"],
        ["--rate-limit", "1000/s"],
        ["--coalesce", "off"],
        ["--keepalive", "60s, 10s, 6"],
    ] {
        assert!(matches!(typed(&words), Ok(Parsed::Run(_))), "{words:?}");
    }
    for words in [
        ["--reuse-threads", "auto"],
        ["--send-timeout", "off"],
        ["--backlog", "off"],
        ["--max-connections-per-ip", "auto"],
        ["--output-framing", "syslog"],
        ["--log-level", "loud"],
    ] {
        refused(&words, 2, &[&format!("'{}' for {}", words[1], words[0])]);
    }
}

#[test]
fn an_old_name_is_refused_and_the_error_has_the_new_one() {
    for (words, line) in [
        (
            &["--on-pause", "close"][..],
            "unknown flag --on-pause: use --on-overload instead",
        ),
        (
            &["--when-full", "wait"],
            "invalid value 'wait' for --when-full: use block instead",
        ),
        (
            &["--coalesce", "auto"],
            "invalid value 'auto' for --coalesce: use a time such as 50ms instead",
        ),
        (
            &["--max-read-delay", "5ms"],
            "unknown flag --max-read-delay: use --coalesce TIME instead",
        ),
        (
            &["--linger=off"],
            "unknown flag --linger: use --coalesce off or --coalesce TIME instead",
        ),
        (
            &["--busy-reads", "1/s"],
            "unknown flag --busy-reads: use --coalesce off or --coalesce TIME instead",
        ),
    ] {
        refused(words, 2, &[line]);
    }
}
