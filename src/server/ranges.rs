//! What each setting accepts, by the name of its field in [`Config`](super::Config), for programs
//! that read settings from people. [`Config::check`](super::Config::check) goes by the same values.
#![allow(missing_docs)]

use std::ops::RangeInclusive;
use std::time::Duration;

/// How often the watchdog looks. Shorter waits are not noticed.
pub const TICK: Duration = Duration::from_millis(100);

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub const MAX_CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
pub const MAX_CONNECTIONS_PER_IP: RangeInclusive<usize> = 1..=usize::MAX;
/// Of a list of peers or of names. Each client is compared with one after the other: with so many,
/// some 0.2 ms of an acceptor's time.
pub const LIST_ENTRIES: RangeInclusive<usize> = 0..=65_536;
/// The length of a listener's name, in bytes: whatever is said of a connection says it.
pub const LISTENER_NAME: RangeInclusive<usize> = 1..=255;
pub const BUFFER_MESSAGES: RangeInclusive<usize> = 1..=1 << 24;
/// In bytes.
pub const BUFFER_BYTES: RangeInclusive<usize> = 4 << 10..=1 << 40;
pub const SEND_TIMEOUT: RangeInclusive<Duration> = MILLISECOND..=DAY;
/// And below `send_timeout`, unless `when_full` is block.
pub const PAUSE_AFTER: RangeInclusive<Duration> = TICK..=DAY;
/// In messages a second.
pub const RATE_LIMIT: RangeInclusive<u64> = 1..=u64::MAX;
/// In connections a second.
pub const ACCEPT_RATE: RangeInclusive<u64> = 1..=u64::MAX;
pub const FRAME_TIMEOUT: RangeInclusive<Duration> = TICK..=YEAR;
pub const IDLE_TIMEOUT: RangeInclusive<Duration> = TICK..=YEAR;
pub const FIRST_BYTE_TIMEOUT: RangeInclusive<Duration> = TICK..=YEAR;
pub const HANDSHAKE_TIMEOUT: RangeInclusive<Duration> = TICK..=YEAR;
pub const WRITE_TIMEOUT: RangeInclusive<Duration> = TICK..=YEAR;
/// Of `idle` and `interval`, which are whole seconds.
pub const KEEPALIVE_TIME: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(32_767);
pub const KEEPALIVE_PROBES: RangeInclusive<u32> = 1..=127;
/// The length of a Unix socket's path, in bytes (unix(7), sun_path).
pub const UNIX_PATH: RangeInclusive<usize> = 1..=107;
/// The permissions of a Unix socket's file.
pub const UNIX_MODE: RangeInclusive<u32> = 0..=0o777;
pub const BACKLOG: RangeInclusive<u32> = 1..=65_535;
/// In bytes.
pub const STACK_SIZE: RangeInclusive<usize> = 64 << 10..=1 << 30;
pub const REUSE_THREADS: RangeInclusive<Duration> = MILLISECOND..=HOUR;
/// In reads a second.
pub const BUSY_READS: RangeInclusive<u64> = 1..=1_000_000_000;
pub const MAX_READ_DELAY: RangeInclusive<Duration> = MILLISECOND..=Duration::from_secs(60);
pub const DRAIN_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=DAY;
pub const WARN_AFTER: RangeInclusive<Duration> = TICK..=DAY;
