//! Every flag, by its row: what it accepts, what it refuses, and where it is told.

use super::super::flag::Takes;
use super::super::settings::{Parsed, flags};
use super::{printed, refused, typed};

/// Set, or found to contradict the default of another flag.
#[track_caller]
fn accepted(words: &[&str]) {
    match typed(words) {
        Ok(Parsed::Run(_)) => {}
        Err(error) => assert_eq!(error.code, 78, "{words:?}: {error}"),
        Ok(other) => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn every_flag_takes_its_good_values_and_names_what_it_expects_for_a_bad_one() {
    for flag in flags() {
        let (long, Some(value)) = (flag.long(), flag.value()) else {
            continue;
        };
        let (good, bad) = value.cases();
        assert!(!good.is_empty() && !bad.is_empty(), "{long}");
        for value in &good {
            accepted(&[&long, value]);
            accepted(&[&format!("{long}={value}")]);
        }
        let expected = value.expected();
        for value in bad.iter().filter(|value| !value.is_empty()) {
            let line = format!("invalid value '{value}' for {long}: expected {expected}");
            refused(&[&long, value], 2, &[&line]);
        }
        let line = format!("missing value for {long}: expected {expected}");
        refused(&[&long], 2, &[&line]);
        refused(&[&long, ""], 2, &[&line]);
    }
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
fn both_helps_tell_every_flag_with_its_default_and_the_long_one_what_it_expects() {
    let (short, long) = (printed("-h"), printed("--help"));
    let flat = long.split_whitespace().collect::<Vec<_>>().join(" ");
    for flag in flags() {
        let name = flag.long();
        let line = short
            .lines()
            .find(|line| line.contains(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {short}"));
        assert!(line.contains(flag.purpose), "{line}");
        let help = flag.help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&help), "{help}");
        if let Takes::Value(value) = &flag.takes {
            let expects = format!("Expects {}.", value.expected());
            assert!(flat.contains(&expects), "{name}: {expects}");
            if let Some(default) = value.print(&Default::default()) {
                assert!(line.ends_with(&format!("[{default}]")), "{line}");
                let told = format!("Default: {default}. {expects}");
                assert!(flat.contains(&told), "{told}");
            }
        }
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
