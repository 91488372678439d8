//! What is typed.

use std::time::Duration;

use drainline::ingest::OutputFraming;

use super::super::super::args::assert_refused;
use super::super::args::{PAGE, flags};
use super::super::plan::Sizes;
use super::{plan, typed};
use crate::cli::tests::rows;

#[test]
fn every_row_is_read_and_told_and_reaches_the_plan() {
    rows::assert_hold(&PAGE, &flags(), typed);
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
        2 => missing value for ADDRESS: expected an address such as
        2 nowhere => invalid value 'nowhere' for ADDRESS: expected an address such as
        2 127.0.0.1:1 again => unexpected argument 'again': expected one ADDRESS and flags
        2 127.0.0.1:1 --rate 10000001 => invalid value '10000001' for --rate: expected a rate from 1/s to 10000000/s
        2 127.0.0.1:1 --size 65MiB => for --size: expected a size from 1B to 64MiB, such as 128, or two such as
        2 127.0.0.1:1 --size 31 --numbered => invalid value '31' for --size: expected 32 bytes or more (--numbered
        2 127.0.0.1:1 --size 19-90 --timestamped => invalid value '19-90' for --size: expected 20 bytes or more
        2 127.0.0.1:1 --size 51 --timestamped --numbered => invalid value '51' for --size: expected 52 bytes or more
        2 127.0.0.1:1 --connections 1000001 => for --connections: expected a number from 1 to 1000000
        2 127.0.0.1:1 --messages 0 => for --messages: expected a number of 1 or more
        2 127.0.0.1:1 --duration 0s => for --duration: expected a duration from 1ms to 24h
        2 127.0.0.1:1 --hold 25h => for --hold: expected a duration from 0s to 24h
        2 127.0.0.1:1 --timeout 99ms => for --timeout: expected a duration from 100ms to 24h
        2 127.0.0.1:1 --write-size 17MiB => for --write-size: expected a size from 1B to 16MiB
        2 127.0.0.1:1 --reconnect-every 0 => for --reconnect-every: expected a number of 1 or more
        2 127.0.0.1:1 --threads 65 => for --threads: expected auto or a number from 1 to 64
        2 127.0.0.1:1 --framing syslog => invalid value 'syslog' for --framing: expected lines, nul,
        2 127.0.0.1:1 --json --numbered => missing value for --json: expected a path, or - for stdout
        2 127.0.0.1:1 --tag => unknown flag --tag
    ";
    assert_refused(table, typed);
}
