//! What holds for every row of every command, the server and the tools alike.

use std::ffi::OsString;

use super::super::command::{self, Parsed};
use super::super::flag::{Flag, Setting};
use super::super::help::Page;
use super::super::renamed;
use super::super::usage::UsageError;

/// Lines of a large window: the server has the most flags.
const MAX_LINES: usize = 64;

/// Each row takes its good values, names what it expects for a bad one, and is in both helps.
/// `typed` reads a whole command line, without the name.
#[track_caller]
pub(crate) fn assert_hold<S: Default, T>(
    page: &Page,
    flags: &[Flag<S>],
    typed: impl Fn(&[&str]) -> Result<T, UsageError>,
) {
    command::clap(page, flags).debug_assert();
    assert_values_are_read(flags, typed);
    assert_helps_are_whole(page, flags);
}

fn assert_values_are_read<S: Default, T>(
    flags: &[Flag<S>],
    typed: impl Fn(&[&str]) -> Result<T, UsageError>,
) {
    for flag in flags {
        let (long, Some(value)) = (flag.long(), flag.value()) else {
            continue;
        };
        let (good, bad) = value.cases();
        assert!(!good.is_empty() && !bad.is_empty(), "{long}");
        let others = required(flags, &long);
        let type_in = |words: &[&str]| {
            let others = others.iter().map(String::as_str);
            typed(&others.chain(words.iter().copied()).collect::<Vec<_>>())
        };
        // A flag and its value are two words, or one.
        let split = |value: &str| match flag.is_flag() {
            true => vec![long.clone(), value.to_owned()],
            false => vec![value.to_owned()],
        };
        let joined = |value: &str| match flag.is_flag() {
            true => format!("{long}={value}"),
            false => value.to_owned(),
        };
        for value in &good {
            assert_eq!(renamed::value_now(&long, value), None, "{long}");
            for words in [split(value), vec![joined(value)]] {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                // Set, or found to contradict another flag, or the system, or to name no file.
                let error = type_in(&words).err().filter(|error| error.code == 2);
                assert_eq!(error, None, "{words:?}");
            }
        }
        let expected = value.expected();
        let refused = |words: &[&str], line: &str| {
            let error = type_in(words).err();
            let error = error.unwrap_or_else(|| panic!("{words:?} is accepted"));
            assert_eq!(error.code, 2, "{error}");
            assert!(!error.line.contains(char::is_control), "{error}");
            assert!(
                error.line.starts_with(&format!("drainline: {line}")),
                "{line:?} is not in {error}"
            );
        };
        for value in bad.iter().filter(|value| !value.is_empty()) {
            let line = format!("invalid value '{value}' for {long}: expected {expected}");
            let words = split(value);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            refused(&words, &line);
        }
        let line = format!("missing value for {long}: expected {expected}");
        refused(&[&joined("")], &line);
        match flag.is_flag() {
            true => refused(&[&long], &line),
            false => refused(&[], &line),
        }
    }
}

/// What must be typed beside a row.
fn required<S: Default>(flags: &[Flag<S>], beside: &str) -> Vec<String> {
    let others = flags.iter().filter(|flag| flag.long() != beside);
    let words = others.filter_map(|flag| {
        let value = flag.value().filter(|value| value.is_required())?;
        let good = value.cases().0.remove(0);
        Some(match flag.is_flag() {
            true => format!("{}={good}", flag.long()),
            false => good,
        })
    });
    words.collect()
}

fn assert_helps_are_whole<S: Default>(page: &Page, flags: &[Flag<S>]) {
    let printed = |word: &str| match command::parse(page, flags, ["", word].map(OsString::from)) {
        Ok(Parsed::Print(text)) => text,
        _ => panic!("{word} prints nothing"),
    };
    let (short, long) = (printed("-h"), printed("--help"));
    assert!(
        short.lines().count() <= MAX_LINES && short.ends_with("--help\n"),
        "{short}"
    );
    for line in short.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    assert!(long.lines().all(|line| line.chars().count() <= 100));
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = flat(&long);
    for flag in flags {
        let name = flag.long();
        assert_eq!(renamed::flag_now(page.name, &name), None, "an old name");
        assert!(told.contains(&flat(flag.help)), "{name} is not in {long}");
        let mut expects = flag.value().map_or_else(String::new, |value| {
            format!("Expects {}.", value.expected())
        });
        let default = flag.value().and_then(|value| value.print(&S::default()));
        if let Some(default) = &default {
            expects = format!("Default: {default}. {expects}");
        }
        assert!(told.contains(&flat(&expects)), "{name}: {expects}");
        let is_required = flag.value().is_some_and(Setting::is_required);
        if is_required && !flag.is_flag() {
            assert!(long.contains(&format!("<{name}>")), "{name} in {long}");
        }
        if flag.is_flag() {
            let mut lines = short.lines().filter(|line| line.starts_with("  "));
            let line = lines.find(|line| line.contains(&format!("{name} ")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in {short}"));
            let default = default.map_or_else(String::new, |default| format!(" [{default}]"));
            assert!(
                line.ends_with(&format!("{}{default}", flag.purpose)),
                "{line}"
            );
            let heading = format!("\n{}:\n", flag.group);
            assert_eq!(short.matches(&heading).count(), 1, "{heading} in {short}");
            assert_eq!(long.matches(&heading).count(), 1, "{heading} in {long}");
        }
    }
}
