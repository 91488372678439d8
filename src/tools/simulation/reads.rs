//! How many messages a read brings, and what they weigh in the buffer: as `ingest` reads and makes
//! batches.

use std::mem::size_of;
use std::time::Duration;

use drainline::Config;
use drainline::ingest::Batch;
use drainline::policy::{Coalesce, Counts, Pace, Weight};

use super::super::workload::{ClientPace, Crowd, Workload};

/// A read that waits is this large, and after one that was full come large ones, until little is
/// there.
const SMALL_READ: u64 = 512;
pub(crate) const LARGE_READ: u64 = 72 << 10;
const LITTLE: u64 = 4 << 10;

/// A batch in the buffer, beside its bytes: itself and its weight, in a box.
pub(super) const BATCH_OVERHEAD: u64 = (size_of::<Batch>() + size_of::<Weight>()) as u64;

/// What the kernel takes of a connection that nobody reads, as measured on loopback: 4 MiB in the
/// sender's buffer, which grows up to the last value of net.ipv4.tcp_wmem (tcp(7)), and little in
/// the receiver's, which grows with its reader.
pub(super) const SOCKET_BYTES: u64 = 4_200_000;

/// What a message of this size weighs at most: alone in its batch.
pub(crate) fn heaviest(size: usize) -> u64 {
    kept(size as u64 + 1) + BATCH_OVERHEAD
}

/// The memory that so many bytes were read into: a buffer of the usual size where they fill half of
/// it, one that has grown with them where they are more.
fn kept(bytes: u64) -> u64 {
    match bytes {
        _ if bytes > LARGE_READ => bytes + bytes / 2,
        _ if bytes >= LARGE_READ / 2 => LARGE_READ,
        _ => bytes,
    }
}

/// How the messages of one crowd are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// A message with its LF, as it is kept.
    bytes: u64,
    small: u64,
    large: u64,
    little: u64,
    /// A rate limit lets a read bring no more than a second's worth, as `policy::ReadSize` sees to.
    paid: u64,
    /// A batch holds at most so many.
    most: u64,
    most_bytes: u64,
    /// A read brings so many while the server keeps up: more than one where reads are delayed.
    per_wake: u64,
    /// Messages that the kernel holds.
    pub(super) socket: u64,
}

impl Reads {
    /// Of each crowd.
    pub(super) fn of(workload: &Workload, config: &Config, max_message: usize) -> Vec<Reads> {
        let delays = delays(workload, config);
        let crowds = workload.crowds.iter().zip(delays);
        crowds
            .map(|(crowd, delay)| Reads::new(crowd, config, max_message, delay))
            .collect()
    }

    fn new(crowd: &Crowd, config: &Config, max_message: usize, delay: Option<Duration>) -> Self {
        let bytes = crowd.size.min(max_message) as u64 + 1;
        let sent_bytes = crowd.size as u64 + 1;
        let messages = |bytes: u64| (bytes / sent_bytes).max(1);
        let most_bytes =
            (config.buffer_bytes as u64 / 8).saturating_sub(2 * size_of::<Batch>() as u64);
        let rate = match crowd.pace {
            ClientPace::Rate(rate) => rate,
            ClientPace::Greedy | ClientPace::Drip => 0,
        };
        let per_wake = delay.map_or(1.0, |delay| delay.as_secs_f64() * rate as f64);
        Reads {
            bytes,
            small: messages(SMALL_READ),
            large: messages(LARGE_READ),
            little: messages(LITTLE),
            paid: config.rate_limit.unwrap_or(u64::MAX),
            most: (config.buffer_messages as u64 / 8)
                .min(most_bytes / bytes)
                .max(1),
            most_bytes,
            per_wake: (per_wake as u64).max(1),
            socket: messages(SOCKET_BYTES),
        }
    }

    /// How many of `there` a read brings, and whether the next one is a large one.
    pub(super) fn read(&self, there: u64, is_eager: bool) -> (u64, bool) {
        let most = if is_eager { self.large } else { self.small };
        let read = there.min(most).min(self.paid);
        let full = if is_eager { self.little } else { self.small };
        (read, read >= full)
    }

    /// How many of `held` go into the next batch.
    pub(super) fn batch(&self, held: u64) -> u64 {
        held.min(self.most)
    }

    /// What a batch weighs. It keeps the buffer that it was read into, unless that is half empty or
    /// too heavy.
    pub(super) fn weight(&self, messages: u64) -> Weight {
        let bytes = messages * self.bytes;
        let kept = kept(bytes);
        let bytes = if kept <= self.most_bytes { kept } else { bytes };
        Weight {
            messages,
            bytes: bytes + BATCH_OVERHEAD,
        }
    }

    /// What messages weigh that are read as they come: many small batches.
    pub(super) fn weight_as_they_come(&self, messages: u64) -> Weight {
        let read = self.weight(self.per_wake).bytes;
        let bytes = u128::from(messages) * u128::from(read) / u128::from(self.per_wake);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Weight { messages, bytes }
    }

    /// What messages take where they are only held.
    pub(super) fn held_bytes(&self, messages: u64) -> u64 {
        messages * self.bytes
    }
}

/// How long the reads of each crowd are delayed while the server keeps up: as the server itself
/// decides, of clients that each have their rate.
fn delays(workload: &Workload, config: &Config) -> Vec<Option<Duration>> {
    /// Long enough for a message of every client that has a rate; and what is decided after the
    /// first is decided.
    const LOOK: Duration = Duration::from_secs(1);
    const LOOKS: u64 = 3;
    let mut delays = vec![None; workload.crowds.len()];
    let Some(longest) = config.max_read_delay else {
        return delays;
    };
    let mut coalesce = Coalesce::new(longest, config.busy_reads as f64);
    let mut paces = vec![Pace::default(); workload.crowds.len()];
    for look in 1..=LOOKS {
        for ((crowd, pace), delay) in workload.crowds.iter().zip(&mut paces).zip(&mut delays) {
            let ClientPace::Rate(rate) = crowd.pace else {
                continue;
            };
            let messages = rate.saturating_mul(look);
            let counts = Counts {
                reads: messages,
                messages,
                bytes: messages.saturating_mul(crowd.size as u64 + 1),
            };
            // Its clients are alike, and each counts.
            for _ in 1..crowd.connections {
                let mut its = *pace;
                coalesce.step(&mut its, counts, LOOK);
            }
            *delay = coalesce.step(pace, counts, LOOK);
        }
        coalesce.end_tick();
    }
    delays
}
