//! What is typed, and the loads and flags that it means.

use std::ffi::OsString;
use std::time::Duration;

use super::super::args::assert_refused;
use super::super::workload::{ClientPace, Stall};
use super::args::{Experiment, PAGE, flags};
use super::presets::PRESETS;
use super::run;
use super::strategy::{Strategy, TELLING, named};
use crate::cli::command::{Parsed, parse};
use crate::cli::settings::{self, Settings};
use crate::cli::tests::rows;
use crate::cli::usage::UsageError;

fn typed(words: &[&str]) -> Result<Experiment, UsageError> {
    let words = ["lab"].iter().chain(words).map(OsString::from);
    match parse(&PAGE, &flags(), words)? {
        Parsed::Run(args) => args.experiment(),
        Parsed::Print(text) => panic!("{text}"),
    }
}

#[track_caller]
fn experiment(words: &[&str]) -> Experiment {
    typed(words).expect("an experiment")
}

#[test]
fn every_row_is_read_and_told() {
    rows::assert_hold(&PAGE, &flags(), typed);
}

#[test]
fn what_the_lab_sets_itself_is_said_to_be_so() {
    for (flag, _) in run::OWN_FLAGS {
        for words in [format!("{flag} x"), format!("{flag}=x")] {
            assert_refused(&format!("2 -- {words} => {flag}"), typed);
            assert_refused(&format!("2 -- {words} => the lab sets it itself"), typed);
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
    assert_eq!(experiment(&["--strategies=all"]).strategies, named());
    let alone = experiment(&["--strategies=custom", "--", "--coalesce=off"]);
    assert_eq!(
        alone.strategies,
        [Strategy::Custom(vec!["--coalesce=off".to_owned()])]
    );
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let table = "
        2 --preset=flood => invalid value 'flood' for --preset
        2 --preset=flood => slow-loris
        2 --strategies=layered,prayer => prayer
        2 --strategies=layered,prayer => backpressure
        78 --strategies=custom => --strategies custom
        2 --sink-rate=0 => invalid value '0' for --sink-rate
        2 --stall=2s => invalid value '2s' for --stall
        2 --stall=2s => 2s@1s
        2 --stall=0s@1s => invalid value '0s@1s' for --stall
        2 --stall=18446744073709551615s@1s => 10m
        78 --stall=2s@5s => --stall 2s@5s
        78 --stall=2s@5s => --duration 5s
        78 --stall=2s@1s --stall=2s@2s => --stall 2s@2s
        2 --connections=0 => invalid value '0' for --connections
        78 --connections=1000000 => --connections 1000000
        78 --connections=1000000 => 2000
        2 --rate=0 => invalid value '0' for --rate
        78 --rate=1000000 => --rate: 300000000 messages
        2 --size=1MiB => invalid value '1MiB' for --size
        2 --size=1MiB => 64KiB
        2 --reconnect=365d => invalid value '365d' for --reconnect
        2 --reconnect=1ms => invalid value '1ms' for --reconnect
        2 --duration=20ms => invalid value '20ms' for --duration
        78 -- --help => --help
        78 -- --check => --check
        78 -- --output-framing nul => lines
        78 -- --max-connections 1000000 => --max-connections 1000000 needs
        2 -- --when-full burst => invalid value 'burst' for --when-full
        78 -- --send-timeout=1s --pause-after=2s => --pause-after
    ";
    assert_refused(table, typed);
}

fn server_settings(flags: &[String]) -> Settings {
    match settings::parse(run::server_arguments(flags)) {
        Ok(Parsed::Run(settings)) => *settings,
        other => panic!("{flags:?}: {other:?}"),
    }
}

#[test]
fn every_cure_is_a_server_that_can_be_started_under_every_preset() {
    for (_, preset) in PRESETS {
        for duration in [1, 5, 600].map(Duration::from_secs) {
            let workload = preset.workload(duration);
            super::limits::check(&workload).expect("a preset in its limits");
            for strategy in named() {
                if let Some(flags) = strategy.flags(&workload) {
                    server_settings(&flags);
                }
            }
        }
    }
}

#[test]
fn what_is_layered_differs_from_the_defaults_in_time_alone() {
    let workload = PRESETS[0].1.workload(Duration::from_secs(5));
    let flags = Strategy::Layered.flags(&workload).expect("flags");
    let mut settings = server_settings(&flags);
    assert_eq!(settings.config.send_timeout, Duration::from_secs(1));
    assert_eq!(settings.config.frame_timeout, Some(Duration::from_secs(1)));
    let default = server_settings(&[]);
    settings.config.send_timeout = default.config.send_timeout;
    settings.config.frame_timeout = default.config.frame_timeout;
    // The words of the flags, for errors.
    settings.given.clone_from(&default.given);
    assert_eq!(format!("{settings:?}"), format!("{default:?}"));
}
