//! Which connection is past which deadline, and which is stuck.
//!
//! Handlers keep no clock: each publishes what it does and how far it came, and the watch counts
//! ticks beside it. Nothing is timed per read, and a thread that is blocked needs no timer of its
//! own.

use std::time::Duration;

/// No tick counts for more than this: a stop of the machine or the process counts for no more,
/// however long it is. Shorter stops count in full.
pub(super) const MAX_TICK: Duration = Duration::from_millis(200);

/// Whether deadlines may pass at a tick: not at one that comes late. The process may have stood
/// still, and what came meanwhile is still in the kernel; its handlers are to read that first.
///
/// Where every tick is late, which is a machine that is overloaded, deadlines pass all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lateness {
    was_late: bool,
}

impl Lateness {
    /// Takes in a tick, `elapsed` after the one before. Returns whether deadlines may pass at it.
    pub fn may_pass(&mut self, elapsed: Duration) -> bool {
        let is_late = elapsed > MAX_TICK;
        let was_late = std::mem::replace(&mut self.was_late, is_late);
        !is_late || was_late
    }
}

/// What a handler is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Activity {
    /// Running the handler's own code.
    #[default]
    Working = 0,
    /// Waiting for bytes from its peer.
    Reading = 1,
    /// Waiting until the buffer takes its message.
    Sending = 2,
    /// Held back by its rate limit.
    Pausing = 3,
    /// Writing a reply.
    Writing = 4,
    /// Past its handler; its thread is not joined yet.
    Ending = 5,
    /// Asleep before its next read, so that the read brings several messages.
    Delayed = 6,
    /// Waiting for the consumer's answer to a request.
    Asking = 7,
    /// Waiting until another thread's write to the peer is over, or writing to the peer of another
    /// connection: the deadline of that other write applies.
    WaitingToWrite = 8,
    /// Accepted; its thread is being made.
    Starting = 9,
    /// Waiting for what comes before the peer's own bytes: the head of the PROXY protocol.
    Handshaking = 10,
}

impl Activity {
    /// The activity's name, as in logs and listings.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Working => "working",
            Activity::Reading => "reading",
            Activity::Sending => "sending",
            Activity::Pausing => "pausing",
            Activity::Writing => "writing",
            Activity::Ending => "ending",
            Activity::Delayed => "delayed",
            Activity::Asking => "asking",
            Activity::WaitingToWrite => "waiting_to_write",
            Activity::Starting => "starting",
            Activity::Handshaking => "handshaking",
        }
    }
}

/// What one connection shows at one tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// What the handler is doing.
    pub activity: Activity,
    /// Grows by one with every change of activity.
    pub turns: u32,
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes read so far of what a session encrypts, of which the low bits: they grow also where
    /// there was no whole record, and no byte of the peer's own. Stays 0 without a session.
    pub wire_bytes: u32,
    /// Frames finished so far.
    pub frames: u64,
    /// An unfinished frame has begun.
    pub inside: bool,
}

impl Sample {
    /// Whether the peer has sent nothing since `before`: no byte of its own, nor any below them.
    fn is_silent_since(&self, before: &Sample) -> bool {
        self.bytes == before.bytes && self.wire_bytes == before.wire_bytes
    }
}

/// The deadlines. `None`: off.
#[derive(Clone, Copy, Debug)]
pub struct WatchLimits {
    /// Longest time inside one unfinished frame, counted while waiting for the peer.
    pub frame: Option<Duration>,
    /// Longest time without a byte of the wire, counted while waiting for the peer.
    pub idle: Option<Duration>,
    /// Longest time until the first byte, counted while waiting for the peer.
    pub first_byte: Option<Duration>,
    /// Longest time in one write of a reply.
    pub write: Option<Duration>,
    /// Longest time in a handshake, from its begin to its end.
    pub handshake: Duration,
    /// A connection this long in one send, in its own code, or without a thread is named.
    pub warn_after: Duration,
}

/// The deadline that a connection is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// Too long inside one unfinished frame.
    Frame,
    /// Too long without a byte.
    Idle,
    /// Too long in one write.
    Write,
    /// Too long without a first byte.
    FirstByte,
    /// Too long in a handshake.
    Handshake,
}

impl Breach {
    /// Whether a finding on what was `seen` still holds for what is shown `now`: who has come on
    /// meanwhile is not past that deadline any more.
    pub fn still_holds(self, seen: &Sample, now: &Sample) -> bool {
        match self {
            Breach::Frame => now.inside && now.frames == seen.frames,
            Breach::Idle | Breach::FirstByte => now.is_silent_since(seen),
            Breach::Write | Breach::Handshake => now.turns == seen.turns,
        }
    }
}

/// What a step of the watch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing to do.
    Fine,
    /// A deadline has passed: the connection is to be ended.
    DeadlinePassed(Breach),
    /// Stuck in one send, in its own code, or without a thread: the log is to name it, once per
    /// stay.
    Stuck,
}

/// The counts kept beside one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    seen: Option<Sample>,
    in_activity: Duration,
    idle: Duration,
    in_frame: Duration,
    warned: bool,
}

impl Watch {
    /// Takes in what a connection shows, `elapsed` after the step before.
    pub fn step(&mut self, now: Sample, elapsed: Duration, limits: &WatchLimits) -> Finding {
        let tick = elapsed.min(MAX_TICK);
        let Some(before) = self.seen.replace(now) else {
            return Finding::Fine;
        };

        if now.turns == before.turns {
            self.in_activity += tick;
        } else {
            self.in_activity = Duration::ZERO;
            self.warned = false;
        }
        // Frame and idle time pass only while the handler waits for its peer: a sender that we hold
        // up must not time out for the time that we took. A read that is delayed would be such a
        // wait most of the time.
        let waits_for_peer = match now.activity {
            Activity::Reading | Activity::Delayed => tick,
            _ => Duration::ZERO,
        };
        if now.is_silent_since(&before) {
            self.idle += waits_for_peer;
        } else {
            self.idle = Duration::ZERO;
        }
        // Only between two looks into one and the same frame: a deadline may be late, never early.
        if before.inside && now.inside && now.frames == before.frames {
            self.in_frame += waits_for_peer;
        } else {
            self.in_frame = Duration::ZERO;
        }
        self.judge(now.activity, limits)
    }

    /// Whether so much of the frame or idle deadline is spent that reads are not to be delayed:
    /// what the kernel holds may end the frame, so a deadline has to find the connection reading.
    pub fn is_near_deadline(&self, limits: &WatchLimits) -> bool {
        let is_near = |spent: Duration, limit: Option<Duration>| {
            limit.is_some_and(|limit| spent + (limit / 2).max(MAX_TICK) >= limit)
        };
        let in_frame = self.seen.is_some_and(|seen| seen.inside);
        in_frame && is_near(self.in_frame, limits.frame) || is_near(self.idle, limits.idle)
    }

    /// How long the connection has been doing what it does, by the ticks counted.
    pub fn in_activity(&self) -> Duration {
        self.in_activity
    }

    /// As [`in_activity`](Watch::in_activity), for what the connection shows between two steps:
    /// zero if it does something else by now.
    pub fn in_activity_of(&self, now: &Sample) -> Duration {
        match &self.seen {
            Some(seen) if seen.turns == now.turns => self.in_activity,
            _ => Duration::ZERO,
        }
    }

    /// How long the peer has sent nothing, if no byte of its own was read yet, or else zero. A
    /// session's records without content are none, but begin the time anew.
    pub fn silent(&self) -> Duration {
        match self.seen {
            Some(Sample { bytes: 0, .. }) => self.idle,
            _ => Duration::ZERO,
        }
    }

    /// How long the connection has been in its send; zero if it is not sending.
    pub fn waiting(&self) -> Duration {
        match self.seen {
            Some(Sample {
                activity: Activity::Sending,
                ..
            }) => self.in_activity,
            _ => Duration::ZERO,
        }
    }

    fn judge(&mut self, activity: Activity, limits: &WatchLimits) -> Finding {
        let past =
            |spent: Duration, limit: Option<Duration>| limit.is_some_and(|limit| spent >= limit);
        match activity {
            Activity::Reading if past(self.in_frame, limits.frame) => {
                Finding::DeadlinePassed(Breach::Frame)
            }
            Activity::Reading if past(self.idle, limits.idle) => {
                Finding::DeadlinePassed(Breach::Idle)
            }
            Activity::Reading if past(self.silent(), limits.first_byte) => {
                Finding::DeadlinePassed(Breach::FirstByte)
            }
            Activity::Writing if past(self.in_activity, limits.write) => {
                Finding::DeadlinePassed(Breach::Write)
            }
            Activity::Handshaking if self.in_activity >= limits.handshake => {
                Finding::DeadlinePassed(Breach::Handshake)
            }
            Activity::Sending | Activity::Working | Activity::Asking | Activity::Starting
                if self.in_activity >= limits.warn_after && !self.warned =>
            {
                self.warned = true;
                Finding::Stuck
            }
            _ => Finding::Fine,
        }
    }
}
