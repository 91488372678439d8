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
    let crowd = Crowd {
        reconnect: Some(Duration::from_millis(1_500)),
        ..Crowd::new(200, 120, ClientPace::Rate(100), seconds(6))
    };
    let stall = Stall::new(seconds(1), seconds(2));
    let mut asked = Workload {
        seed: 7,
        ..Workload::new(vec![crowd], SinkPace::new(Some(30_000), &[stall]))
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
        from: seconds(1),
        ..Crowd::new(1, 1, ClientPace::Greedy, end)
    };
    asked.sink.rate = None;
    let later = Stall::new(Duration::from_millis(4_500), end);
    asked.sink.stalls.push(later);
    assert_eq!(
        workload(&asked)[..2],
        [
            "1 client with messages of 1 byte, as fast as the server takes them, from 1 s to 6 s.",
            "The sink takes messages as fast as they come, but none from 1 s to 3 s, nor from 4.5 s on.",
        ]
    );
}
