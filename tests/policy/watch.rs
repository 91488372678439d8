//! Deadlines by counted ticks: they pass exactly when due, and never for time that a peer did not
//! take.

use drainline::policy::{Activity, Breach, Finding, Lateness, Sample, Watch, WatchLimits};
use proptest::prelude::*;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);
const HELD_UP: [Activity; 4] = [
    Activity::Working,
    Activity::Sending,
    Activity::Pausing,
    Activity::Writing,
];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const OFF: WatchLimits = WatchLimits {
    frame: None,
    idle: None,
    first_byte: None,
    write: None,
    handshake: Duration::MAX,
    warn_after: Duration::MAX,
};

fn frame(seconds: u64) -> WatchLimits {
    WatchLimits {
        frame: Some(secs(seconds)),
        ..OFF
    }
}

fn idle(seconds: u64) -> WatchLimits {
    WatchLimits {
        idle: Some(secs(seconds)),
        ..OFF
    }
}

fn write(seconds: u64) -> WatchLimits {
    WatchLimits {
        write: Some(secs(seconds)),
        ..OFF
    }
}

fn warn(seconds: u64) -> WatchLimits {
    WatchLimits {
        warn_after: secs(seconds),
        ..OFF
    }
}

/// What a handler publishes, and the watch beside it.
struct Connection {
    watch: Watch,
    shows: Sample,
    limits: WatchLimits,
}

impl Connection {
    /// A connection that the watch has just seen for the first time.
    fn new(activity: Activity, limits: WatchLimits) -> Self {
        let mut connection = Connection {
            watch: Watch::default(),
            shows: Sample {
                activity,
                ..Sample::default()
            },
            limits,
        };
        assert_eq!(connection.step(TICK), Finding::Fine, "at first sight");
        connection
    }

    /// A reading connection inside an unfinished frame.
    fn inside(limits: WatchLimits) -> Self {
        let mut connection = Connection::new(Activity::Reading, limits);
        connection.shows.inside = true;
        connection.bytes(1);
        connection.step(TICK);
        connection
    }

    fn turn(&mut self, activity: Activity) {
        self.shows.activity = activity;
        self.shows.turns = self.shows.turns.wrapping_add(1);
    }

    /// A read that brought `bytes`: out of the read and into the next one.
    fn bytes(&mut self, bytes: u64) {
        self.turn(Activity::Working);
        self.shows.bytes += bytes;
        self.turn(Activity::Reading);
    }

    /// A read of the wire that brought no byte of the peer's own.
    fn wire(&mut self) {
        self.turn(Activity::Working);
        self.shows.wire_bytes = self.shows.wire_bytes.wrapping_add(1);
        self.turn(Activity::Reading);
    }

    /// A read that ended a frame and brought the beginning of the next.
    fn frame(&mut self) {
        self.bytes(1);
        self.shows.frames += 1;
    }

    fn step(&mut self, elapsed: Duration) -> Finding {
        self.watch.step(self.shows, elapsed, &self.limits)
    }

    /// Ticks on for `time`; the first finding, and when it was made.
    fn run(&mut self, time: Duration) -> Option<(Duration, Finding)> {
        let mut passed = Duration::ZERO;
        while passed < time {
            passed += TICK;
            let finding = self.step(TICK);
            if finding != Finding::Fine {
                return Some((passed, finding));
            }
        }
        None
    }
}

#[test]
fn an_unfinished_frame_times_out_exactly_when_due() {
    let mut connection = Connection::inside(frame(30));
    let passed = (secs(30), Finding::DeadlinePassed(Breach::Frame));
    assert_eq!(connection.run(HOUR), Some(passed));
}

#[test]
fn a_quiet_connection_times_out_exactly_when_due_inside_a_frame_or_not() {
    let passed = Some((secs(60), Finding::DeadlinePassed(Breach::Idle)));
    let mut connection = Connection::new(Activity::Reading, idle(60));
    assert_eq!(connection.run(HOUR), passed);
    let mut connection = Connection::inside(idle(60));
    assert_eq!(connection.run(HOUR), passed);
}

#[test]
fn one_write_times_out_exactly_when_due_and_many_do_not() {
    let mut connection = Connection::new(Activity::Reading, write(30));
    for _ in 0..100 {
        connection.turn(Activity::Writing);
        connection.step(TICK);
        assert_eq!(connection.run(secs(30) - TICK), None);
    }
    connection.turn(Activity::Writing);
    connection.step(TICK);
    let passed = (secs(30), Finding::DeadlinePassed(Breach::Write));
    assert_eq!(connection.run(HOUR), Some(passed));
}

#[test]
fn a_finished_frame_starts_the_frame_time_anew() {
    let mut connection = Connection::inside(frame(30));
    for _ in 0..100 {
        connection.frame();
        connection.step(TICK);
        assert_eq!(connection.run(secs(30) - TICK), None);
    }
    let passed = (TICK, Finding::DeadlinePassed(Breach::Frame));
    assert_eq!(connection.run(HOUR), Some(passed));
}

#[test]
fn between_frames_no_frame_time_passes() {
    let mut connection = Connection::new(Activity::Reading, frame(30));
    assert_eq!(connection.run(HOUR), None);
    connection.bytes(1);
    connection.shows.inside = true;
    connection.step(TICK);
    assert_eq!(connection.run(secs(29)), None);
    connection.frame();
    connection.shows.inside = false;
    assert_eq!(connection.run(HOUR), None);
}

#[test]
fn a_frame_that_was_given_up_leaves_no_time_behind() {
    let mut connection = Connection::inside(frame(30));
    assert_eq!(connection.run(secs(29)), None);
    connection.shows.inside = false;
    connection.step(TICK);
    connection.bytes(1);
    connection.shows.inside = true;
    connection.step(TICK);
    let passed = (secs(30), Finding::DeadlinePassed(Breach::Frame));
    assert_eq!(connection.run(HOUR), Some(passed));
}

/// Or the bytes that came while the process was stopped would not have been read by then.
#[test]
fn no_deadline_passes_at_a_tick_that_is_late_unless_all_are() {
    let mut lateness = Lateness::default();
    let mut may_pass = |ticks: u32| lateness.may_pass(TICK * ticks);
    assert!(may_pass(1) && may_pass(2));
    assert!(!may_pass(3) && may_pass(1));
    assert!(!may_pass(36_000) && may_pass(3) && may_pass(3) && may_pass(1));
    assert!(!may_pass(3));
}

#[test]
fn bytes_of_the_wire_put_off_silence_and_no_deadline_of_a_frame() {
    let first_byte = WatchLimits {
        first_byte: Some(secs(60)),
        ..OFF
    };
    for (limits, breach) in [(idle(60), Breach::Idle), (first_byte, Breach::FirstByte)] {
        let mut connection = Connection::new(Activity::Reading, limits);
        connection.shows.wire_bytes = u32::MAX - 50;
        connection.step(TICK);
        for _ in 0..100 {
            connection.wire();
            connection.step(TICK);
            assert_eq!(connection.run(secs(60) - TICK), None);
        }
        let seen = connection.shows;
        let passed = (TICK, Finding::DeadlinePassed(breach));
        assert_eq!(connection.run(HOUR), Some(passed));
        connection.wire();
        assert!(!breach.still_holds(&seen, &connection.shows));
    }
    let mut connection = Connection::inside(frame(30));
    for _ in 0..299 {
        connection.wire();
        assert_eq!(connection.step(TICK), Finding::Fine);
    }
    connection.wire();
    let passed = Finding::DeadlinePassed(Breach::Frame);
    assert_eq!(connection.step(TICK), passed);
}

#[test]
fn a_byte_in_time_keeps_a_connection_from_being_idle() {
    let mut connection = Connection::new(Activity::Reading, idle(60));
    for _ in 0..100 {
        connection.bytes(1);
        connection.step(TICK);
        assert_eq!(connection.run(secs(60) - TICK), None);
    }
}

#[test]
fn a_slow_loris_is_ended_by_the_frame_deadline_while_idle_never_fires() {
    let mut connection = Connection::inside(WatchLimits {
        idle: Some(secs(2)),
        ..frame(30)
    });
    for second in 1..30 {
        assert_eq!(connection.run(secs(1)), None, "second {second}");
        connection.bytes(1);
    }
    let passed = (secs(1), Finding::DeadlinePassed(Breach::Frame));
    assert_eq!(connection.run(HOUR), Some(passed));
}

#[test]
fn time_held_up_counts_neither_to_frame_nor_to_idle() {
    let both = WatchLimits {
        idle: Some(secs(30)),
        ..frame(30)
    };
    for activity in HELD_UP {
        for (limits, breach) in [(frame(30), Breach::Frame), (idle(30), Breach::Idle)] {
            let mut connection = Connection::inside(limits);
            assert_eq!(connection.run(secs(20)), None);
            connection.turn(activity);
            assert_eq!(connection.run(HOUR), None, "{}", activity.name());
            connection.turn(Activity::Reading);
            let passed = (secs(10), Finding::DeadlinePassed(breach));
            assert_eq!(connection.run(HOUR), Some(passed), "{}", activity.name());
        }
        // Even past both deadlines: who is in a send is not disconnected for what it was in before.
        let mut connection = Connection::inside(both);
        assert!(connection.run(secs(30)).is_some());
        connection.turn(activity);
        assert_eq!(connection.run(HOUR), None, "{}", activity.name());
    }
}

#[test]
fn a_machine_that_stood_still_for_an_hour_ends_and_names_nobody() {
    let all = WatchLimits {
        frame: Some(secs(1)),
        first_byte: None,
        idle: Some(secs(1)),
        write: Some(secs(1)),
        handshake: secs(1),
        warn_after: secs(1),
    };
    let all_activities = HELD_UP.into_iter().chain([Activity::Reading]);
    for activity in all_activities {
        let mut connection = Connection::inside(all);
        connection.turn(activity);
        connection.step(Duration::ZERO);
        assert_eq!(connection.step(HOUR), Finding::Fine, "{}", activity.name());
        assert_eq!(connection.watch.in_activity(), 2 * TICK);
        // It is a delay and not a pardon.
        let found = connection.run(HOUR).map(|(passed, _)| passed);
        let due = (activity != Activity::Pausing).then_some(secs(1) - 2 * TICK);
        assert_eq!(found, due, "{}", activity.name());
    }
}

#[test]
fn a_stuck_handler_is_named_once_per_stay_and_again_after_a_new_turn() {
    for activity in [Activity::Sending, Activity::Working] {
        let mut connection = Connection::new(activity, warn(5));
        let named = Some((secs(5), Finding::Stuck));
        assert_eq!(connection.run(HOUR), named, "{}", activity.name());
        assert_eq!(connection.run(HOUR), None, "{}", activity.name());
        // The same activity again, in a new stay that began between two ticks.
        connection.turn(activity);
        connection.step(TICK);
        assert_eq!(connection.run(HOUR), named, "{}", activity.name());
        assert_eq!(connection.run(HOUR), None, "{}", activity.name());
    }
}

#[test]
fn who_waits_for_a_peer_or_a_rate_is_not_stuck() {
    for activity in [
        Activity::Reading,
        Activity::Pausing,
        Activity::Writing,
        Activity::WaitingToWrite,
    ] {
        let mut connection = Connection::new(activity, warn(5));
        assert_eq!(connection.run(HOUR), None, "{}", activity.name());
    }
}

#[test]
fn who_waits_for_the_write_of_another_is_not_ended_by_the_deadline_of_a_write() {
    let mut connection = Connection::new(Activity::WaitingToWrite, write(30));
    assert_eq!(connection.run(HOUR), None);
    connection.turn(Activity::Writing);
    connection.step(TICK);
    let ended = (secs(30), Finding::DeadlinePassed(Breach::Write));
    assert_eq!(connection.run(HOUR), Some(ended));
}

#[test]
fn limits_that_are_off_never_end_anybody() {
    let all_activities = HELD_UP.into_iter().chain([Activity::Reading]);
    for activity in all_activities {
        let mut connection = Connection::inside(OFF);
        connection.turn(activity);
        assert_eq!(connection.run(24 * HOUR), None, "{}", activity.name());
    }
}

/// However often bytes come, and whatever the other deadlines are.
#[test]
fn a_handshake_has_a_deadline_of_its_own_from_its_begin_to_its_end() {
    let limits = WatchLimits {
        frame: Some(secs(1)),
        idle: Some(secs(1)),
        first_byte: Some(secs(1)),
        write: Some(secs(1)),
        handshake: secs(10),
        warn_after: secs(1),
    };
    let passed = Finding::DeadlinePassed(Breach::Handshake);
    let mut connection = Connection::inside(limits);
    connection.turn(Activity::Handshaking);
    connection.step(TICK);
    assert_eq!(connection.run(HOUR), Some((secs(10), passed)));
    // What it has taken is charged to no other deadline.
    let mut connection = Connection::new(Activity::Handshaking, limits);
    assert_eq!(connection.run(secs(9)), None);
    connection.turn(Activity::Reading);
    connection.step(TICK);
    let silent = (secs(1) - TICK, Finding::DeadlinePassed(Breach::Idle));
    assert_eq!(connection.run(HOUR), Some(silent));
}

#[test]
fn waiting_is_the_time_in_one_send_and_in_nothing_else() {
    let mut connection = Connection::new(Activity::Sending, OFF);
    connection.run(secs(7));
    assert_eq!(connection.watch.waiting(), secs(7));
    connection.turn(Activity::Sending);
    connection.step(TICK);
    assert_eq!(connection.watch.waiting(), Duration::ZERO, "another send");
    for activity in [Activity::Working, Activity::Reading, Activity::Writing] {
        connection.turn(activity);
        connection.run(secs(7));
        assert_eq!(connection.watch.waiting(), Duration::ZERO);
        assert_eq!(connection.watch.in_activity(), secs(7) - TICK);
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Read {
    PartOfAFrame,
    WholeFrames,
    EndOfAFrameAndABeginning,
}

fn any_reads() -> impl Strategy<Value = Vec<(u64, Read)>> {
    let read = prop_oneof![
        6 => Just(Read::PartOfAFrame),
        1 => Just(Read::WholeFrames),
        1 => Just(Read::EndOfAFrameAndABeginning),
    ];
    prop::collection::vec((1..1_200u64, read), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against the true times, to the millisecond, of a peer that reads come from at any moment: no
    /// deadline ever fires before it is due, nor more than two ticks after.
    #[test]
    fn no_deadline_fires_early_nor_more_than_two_ticks_late(
        reads in any_reads(),
        ticks in prop::collection::vec(50..=200u64, 16),
    ) {
        const FRAME: u64 = 3_000;
        const IDLE: u64 = 1_000;
        let limits = WatchLimits {
            frame: Some(Duration::from_millis(FRAME)),
            idle: Some(Duration::from_millis(IDLE)),
            ..OFF
        };
        let mut connection = Connection::new(Activity::Reading, limits);
        let (mut last_byte, mut frame_began) = (0, None);
        let (mut now, mut ticked) = (0, 0);
        let mut next_tick = ticks.iter().copied().cycle();
        let mut tick_at = next_tick.next().unwrap();
        for (gap, read) in reads {
            let read_at = now + gap;
            while tick_at <= read_at {
                let finding = connection.step(Duration::from_millis(tick_at - ticked));
                ticked = tick_at;
                let quiet = tick_at - last_byte;
                let in_frame = frame_began.map_or(0, |began| tick_at - began);
                match finding {
                    Finding::DeadlinePassed(Breach::Frame) => prop_assert!(in_frame >= FRAME, "early: {in_frame} ms"),
                    Finding::DeadlinePassed(Breach::Idle) => prop_assert!(quiet >= IDLE, "early: {quiet} ms"),
                    finding => {
                        prop_assert_eq!(finding, Finding::Fine);
                        prop_assert!(in_frame < FRAME + 400, "late: {in_frame} ms");
                        prop_assert!(quiet < IDLE + 400, "late: {quiet} ms");
                    }
                }
                if finding != Finding::Fine {
                    return Ok(());
                }
                tick_at += next_tick.next().unwrap();
            }
            now = read_at;
            last_byte = now;
            connection.bytes(1);
            connection.shows.inside = read != Read::WholeFrames;
            connection.shows.frames += u64::from(read != Read::PartOfAFrame);
            frame_began = match read {
                Read::PartOfAFrame => frame_began.or(Some(now)),
                Read::WholeFrames => None,
                Read::EndOfAFrameAndABeginning => Some(now),
            };
        }
    }
}

#[test]
fn a_delayed_read_counts_as_waiting_and_is_over_before_the_deadline_is() {
    for limits in [frame(30), idle(30)] {
        let mut connection = Connection::inside(limits);
        connection.turn(Activity::Delayed);
        assert!(!connection.watch.is_near_deadline(&limits));
        // Never disconnected in its sleep: what the kernel holds may be what it waits for.
        assert_eq!(connection.run(secs(14)), None);
        assert!(!connection.watch.is_near_deadline(&limits));
        assert_eq!(connection.run(secs(2)), None);
        assert!(connection.watch.is_near_deadline(&limits));
        connection.turn(Activity::Reading);
        let finding = connection.run(HOUR).map(|(after, _)| after);
        assert!(
            finding >= Some(secs(13)) && finding <= Some(secs(15)),
            "{finding:?}"
        );
        // Bytes that end the frame begin all of it anew.
        connection.frame();
        connection.turn(Activity::Delayed);
        connection.step(TICK);
        assert!(!connection.watch.is_near_deadline(&limits));
    }
    assert!(!Connection::inside(OFF).watch.is_near_deadline(&OFF));
}
