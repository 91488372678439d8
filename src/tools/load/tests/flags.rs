//! What is typed.

use std::time::Duration;

use drainline::ingest::OutputFraming;

use super::super::super::args::{assert_every_flag_is_in_both_helps, assert_refused, command};
use super::super::args::{Args, PAGE};
use super::super::plan::Sizes;
use super::{plan, typed};

#[test]
fn every_flag_is_in_both_helps_and_reaches_the_plan() {
    assert_every_flag_is_in_both_helps::<Args>("load", &PAGE);
    let full = plan(&[
        "--connections=7",
        "--messages=5",
        "--duration=3s",
        "--rate=10/s",
        "--hold=1s",
        "--size=100-2KiB",
        "--seed=9",
        "--framing=nul",
        "--numbered",
        "--timestamped",
        "--write-size=1KiB",
        "--reconnect-every=2",
        "--wait-close",
        "--threads=3",
    ]);
    let sizes = Sizes {
        shortest: 100,
        longest: 2048,
        seed: 9,
    };
    assert_eq!((full.connections, full.messages), (7, Some(5)));
    assert_eq!(full.duration, Some(Duration::from_secs(3)));
    assert_eq!((full.rate, full.sizes), (Some(10), sizes));
    assert_eq!(full.hold, Duration::from_secs(1));
    assert_eq!((full.framing, full.write_size), (OutputFraming::Nul, 1024));
    assert_eq!((full.reconnect_every, full.threads), (Some(2), 3));
    assert!(full.numbered && full.timestamped && full.wait_close);
    let bare = plan(&[]);
    assert_eq!(bare.duration, Some(Duration::from_secs(10)));
    assert_eq!(plan(&["--messages=5"]).duration, None);
    let threads = |words| plan(words).threads;
    assert_eq!(threads(&["--connections=9"]), 2);
    assert_eq!(threads(&["--connections=9", "--rate=1"]), 1);
    assert_eq!(threads(&["--connections=1", "--threads=64"]), 1);
}

#[test]
fn what_is_no_load_is_one_line() {
    let table = "
        2 => missing address
        2 nowhere => invalid value 'nowhere' for load: expected an address
        2 127.0.0.1:1 again => unexpected argument 'again': expected one ADDRESS and flags
        2 127.0.0.1:1 --rate 0 => invalid value '0' for --rate: expected a rate such as 1000
        2 127.0.0.1:1 --rate 10000001 => invalid value '10000001' for --rate: expected
        2 127.0.0.1:1 --rate fast => invalid value 'fast' for --rate: expected a rate
        2 127.0.0.1:1 --size 0 => invalid value '0' for --size: expected a size
        2 127.0.0.1:1 --size 9-5 => invalid value '9-5' for --size: expected a size
        2 127.0.0.1:1 --size 65MiB => invalid value '65MiB' for --size: expected a size
        2 127.0.0.1:1 --size 1-x => invalid value '1-x' for --size: expected a size
        2 127.0.0.1:1 --size 31 --numbered => invalid value '31B' for --size: expected 32 bytes or more (--numbered
        2 127.0.0.1:1 --size 19-90 --timestamped => invalid value '19B-90B' for --size: expected 20 bytes or more
        2 127.0.0.1:1 --size 51 --timestamped --numbered => invalid value '51B' for --size: expected 52 bytes or more
        2 127.0.0.1:1 --connections 0 => invalid value '0' for --connections: expected 1 to 1000000
        2 127.0.0.1:1 --connections -1 => invalid value '-1' for --connections: expected 1 to 1000000
        2 127.0.0.1:1 --messages 0 => invalid value '0' for --messages: expected 1 or more
        2 127.0.0.1:1 --duration 0s => invalid value '0s' for --duration: expected a duration
        2 127.0.0.1:1 --duration 25h => invalid value '25h' for --duration: expected a duration
        2 127.0.0.1:1 --hold 25h => invalid value '25h' for --hold: expected a duration
        2 127.0.0.1:1 --timeout 99ms => invalid value '99ms' for --timeout: expected a duration
        2 127.0.0.1:1 --write-size 0 => invalid value '0' for --write-size: expected a size
        2 127.0.0.1:1 --write-size 17MiB => invalid value '17MiB' for --write-size: expected a size
        2 127.0.0.1:1 --reconnect-every 0 => invalid value '0' for --reconnect-every: expected 1 or more
        2 127.0.0.1:1 --threads 65 => invalid value '65' for --threads: expected 1 to 64, or auto
        2 127.0.0.1:1 --seed x => invalid value 'x' for --seed: expected a whole number
        2 127.0.0.1:1 --framing syslog => invalid value 'syslog' for --framing: expected lines, nul,
        2 127.0.0.1:1 --json= => missing value for --json: expected a path, or - for stdout
        2 127.0.0.1:1 --tag => unknown flag --tag
    ";
    assert_refused(table, typed);
}

#[test]
fn clap_finds_no_fault_in_the_declarations() {
    command::<Args>(&PAGE).debug_assert();
}
