//! How numbers, times and loads are said.

use super::super::workload::Stall;
use super::*;

#[test]
fn numbers_are_said_as_people_write_them() {
    for (value, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (u64::MAX, "18,446,744,073,709,551,615"),
    ] {
        assert_eq!(count(value), text);
    }
    for (bytes, text) in [
        (0, "0.0 MiB"),
        (13_000_000, "12.4 MiB"),
        (3 << 30, "3.0 GiB"),
    ] {
        assert_eq!(memory(bytes), text);
    }
    for (micros, text) in [
        (0, "0 s"),
        (40, "0.0 ms"),
        (9_949, "9.9 ms"),
        (9_951, "10 ms"),
        (999_400, "999 ms"),
        (999_600, "1.00 s"),
        (9_996_000, "10.0 s"),
        (123_456_000, "123 s"),
    ] {
        assert_eq!(time(Duration::from_micros(micros)), text);
    }
    for (millis, text) in [
        (0, "0 s"),
        (500, "500 ms"),
        (1_500, "1.5 s"),
        (60_000, "60 s"),
    ] {
        assert_eq!(set_time(Duration::from_millis(millis)), text);
    }
}

#[test]
fn only_all_of_it_is_100_percent() {
    for (part, whole, text) in [
        (0, 0, NOTHING),
        (0, 5, "0.0 %"),
        (1, 1_000_000, "<0.1 %"),
        (999_999, 1_000_000, "99.9 %"),
        (5, 5, "100 %"),
        (u64::MAX, u64::MAX, "100 %"),
    ] {
        assert_eq!(percent(part, whole), text, "{part} of {whole}");
    }
}

#[test]
fn a_workload_is_said_in_sentences() {
    let seconds = Duration::from_secs;
    let mut asked = Workload {
        crowds: vec![Crowd {
            connections: 200,
            size: 120,
            pace: ClientPace::Rate(100),
            from: Duration::ZERO,
            until: seconds(6),
            reconnect: Some(Duration::from_millis(1_500)),
        }],
        sink: SinkPace {
            rate: Some(30_000),
            stalls: vec![Stall {
                at: seconds(1),
                lasts: seconds(2),
            }],
            catches_up: true,
        },
        duration: seconds(6),
        seed: 7,
    };
    assert_eq!(
        workload(&asked),
        [
            "200 clients with 100 messages of 120 bytes a second each, 20,000 a second in all; \
             each hangs up after about 1.5 s and comes back.",
            "The sink takes 30,000 messages a second, but none from 1 s to 3 s.",
            "The load lasts 6 s; its seed is 7.",
        ]
    );
    let end = asked.duration;
    asked.crowds[0] = Crowd {
        connections: 1,
        size: 1,
        pace: ClientPace::Greedy,
        from: Duration::from_secs(1),
        until: end,
        reconnect: None,
    };
    asked.sink.rate = None;
    asked.sink.stalls.push(Stall {
        at: Duration::from_millis(4_500),
        lasts: end,
    });
    assert_eq!(
        workload(&asked)[..2],
        [
            "1 client with messages of 1 byte, as fast as the server takes them, from 1 s to 6 s.",
            "The sink takes messages as fast as they come, but none from 1 s to 3 s, nor from 4.5 s on.",
        ]
    );
}
