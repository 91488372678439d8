//! What is typed, and the loads and flags that it means.

use std::ffi::OsString;
use std::time::Duration;

use super::super::args::{Typed, assert_every_flag_is_in_both_helps, read};
use super::super::workload::{ClientPace, Stall};
use super::args::{Args, Experiment, PAGE};
use super::presets::PRESETS;
use super::run;
use super::strategy::{NAMED, Strategy, TELLING};
use crate::cli::settings::{self, Parsed, Settings};
use crate::cli::usage::UsageError;

fn typed(words: &[&str]) -> Result<Experiment, UsageError> {
    let words: Vec<OsString> = ["lab"].iter().chain(words).map(OsString::from).collect();
    match read::<Args>(&words, &PAGE)? {
        Typed::Args(args) => args.experiment(),
        Typed::Print(text) => panic!("{text}"),
    }
}

#[track_caller]
fn experiment(words: &[&str]) -> Experiment {
    typed(words).expect("an experiment")
}

#[track_caller]
fn refused(words: &[&str], code: u8, parts: &[&str]) {
    let error = typed(words).expect_err("an error");
    assert_eq!(error.code, code, "{error}");
    for part in parts {
        assert!(error.line.contains(part), "no {part:?}: {error}");
    }
}

#[test]
fn every_flag_is_in_both_helps() {
    assert_every_flag_is_in_both_helps::<Args>("lab", &PAGE);
}

#[test]
fn what_the_lab_sets_itself_is_said_to_be_so() {
    for (flag, _) in run::OWN_FLAGS {
        let joined = format!("{flag}=x");
        for words in [&[flag, "x"][..], &[&joined]] {
            refused(
                &[&["--"], words].concat(),
                2,
                &[flag, "the lab sets it itself"],
            );
        }
    }
}

#[test]
fn a_preset_gives_what_is_not_typed() {
    let seconds = Duration::from_secs;
    let bare = experiment(&[]);
    assert_eq!(
        (&*bare.load, bare.workload.duration),
        ("reconnect-storm", seconds(5))
    );
    assert_eq!(bare.strategies, TELLING);
    let own = experiment(&[
        "--preset=slow-loris",
        "--duration=10s",
        "--connections=7",
        "--rate=9",
        "--size=1KiB",
        "--reconnect=off",
        "--seed=3",
        "--sink-rate=70",
        "--stall=1s@5s",
        "--stall=2s@1s",
        "--strategies=abort+buffer,layered",
        "--",
        "--when-full",
        "drop",
    ]);
    let workload = &own.workload;
    let honest = &workload.crowds[1];
    assert_eq!((honest.connections, honest.size), (7, 1024));
    assert_eq!((honest.pace, honest.reconnect), (ClientPace::Rate(9), None));
    assert_eq!(workload.crowds[0].pace, ClientPace::Drip);
    assert_eq!((workload.seed, workload.sink.rate), (3, Some(70)));
    let stall = |lasts, at| Stall {
        lasts: seconds(lasts),
        at: seconds(at),
    };
    assert_eq!(workload.sink.stalls, [stall(2, 1), stall(1, 5)]);
    let custom = Strategy::Custom(vec!["--when-full".to_owned(), "drop".to_owned()]);
    let strategies = [Strategy::AbortAndBuffer, Strategy::Layered, custom];
    assert_eq!(own.strategies, strategies);
    assert_eq!(experiment(&["--strategies=all"]).strategies, NAMED);
    let alone = experiment(&["--strategies=custom", "--", "--coalesce=off"]);
    assert_eq!(
        alone.strategies,
        [Strategy::Custom(vec!["--coalesce=off".to_owned()])]
    );
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    refused(
        &["--preset=flood"],
        2,
        &["invalid value 'flood' for --preset", "slow-loris"],
    );
    refused(
        &["--strategies=layered,prayer"],
        2,
        &["prayer", "backpressure"],
    );
    refused(&["--strategies=custom"], 78, &["custom", "--"]);
    refused(
        &["--sink-rate=0"],
        2,
        &["invalid value '0' for --sink-rate", "--stall"],
    );
    refused(
        &["--stall=2s"],
        2,
        &["invalid value '2s' for --stall", "2s@1s"],
    );
    refused(
        &["--stall=0s@1s"],
        2,
        &["invalid value '0s@1s' for --stall"],
    );
    refused(&["--stall=2s@5s"], 78, &["--stall 2s@5s", "--duration 5s"]);
    refused(&["--stall=2s@1s", "--stall=2s@2s"], 78, &["--stall 2s@2s"]);
    refused(
        &["--connections=0"],
        2,
        &["invalid value '0' for --connections"],
    );
    refused(
        &["--connections=1000000"],
        78,
        &["--connections 1000000", "2000"],
    );
    refused(&["--rate=0"], 2, &["invalid value '0' for --rate"]);
    refused(&["--rate=1000000"], 78, &["--rate: 300000000 messages"]);
    refused(
        &["--stall=18446744073709551615s@1s"],
        2,
        &["--stall", "10m"],
    );
    refused(
        &["--reconnect=365d"],
        2,
        &["invalid value '365d' for --reconnect"],
    );
    refused(&["--", "--help"], 78, &["--help"]);
    refused(&["--", "--check"], 78, &["--check"]);
    refused(&["--", "--output-framing", "nul"], 78, &["lines"]);
    refused(
        &["--", "--max-connections", "1000000"],
        78,
        &["--max-connections 1000000 needs"],
    );
    refused(
        &["--size=1MiB"],
        2,
        &["invalid value '1MiB' for --size", "64KiB"],
    );
    refused(
        &["--reconnect=1ms"],
        2,
        &["invalid value '1ms' for --reconnect"],
    );
    refused(
        &["--duration=20ms"],
        2,
        &["invalid value '20ms' for --duration"],
    );
    refused(
        &["--", "--when-full", "burst"],
        2,
        &["invalid value 'burst' for --when-full"],
    );
    refused(
        &["--", "--send-timeout=1s", "--pause-after=2s"],
        78,
        &["--pause-after"],
    );
}

fn server_settings(flags: &[String]) -> Settings {
    match settings::parse(run::server_arguments(flags)) {
        Ok(Parsed::Run(settings)) => *settings,
        other => panic!("{flags:?}: {other:?}"),
    }
}

#[test]
fn every_cure_is_a_server_that_can_be_started_under_every_preset() {
    for preset in PRESETS {
        for duration in [1, 5, 600].map(Duration::from_secs) {
            let workload = preset.workload(duration);
            super::limits::check(&workload).expect("a preset in its limits");
            for strategy in NAMED {
                if let Some(flags) = strategy.flags(&workload) {
                    server_settings(&flags);
                }
            }
        }
    }
}

#[test]
fn what_is_layered_differs_from_the_defaults_in_time_alone() {
    let workload = PRESETS[0].workload(Duration::from_secs(5));
    let flags = Strategy::Layered.flags(&workload).expect("flags");
    let mut settings = server_settings(&flags);
    assert_eq!(settings.config.send_timeout, Duration::from_secs(1));
    assert_eq!(settings.config.frame_timeout, Some(Duration::from_secs(1)));
    let default = server_settings(&[]);
    settings.config.send_timeout = default.config.send_timeout;
    settings.config.frame_timeout = default.config.frame_timeout;
    assert_eq!(format!("{settings:?}"), format!("{default:?}"));
}
