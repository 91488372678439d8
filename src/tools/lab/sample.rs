//! What a server in the lab tells about itself: a line of JSON on stderr, twenty times a second.

use std::time::Duration;

use drainline::Stats;
use drainline::policy::OverloadLevel;
use serde_json::{Value, json};

use super::outcome::Point;

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// It listens on this port of loopback.
    Listening(u16),
    /// How it stands inside: the rest of the point is seen from outside.
    Sample(Point),
    /// Its ledger, as the program prints it last.
    Ledger(Value),
    /// A line of its log.
    Log(String),
}

/// The inside of this program's server.
pub(super) fn inside(stats: &Stats) -> Point {
    Point {
        buffered: stats.in_flight,
        longest_wait: stats.longest_wait,
        lost: stats.dropped.total(),
        rejected: stats.rejected.total(),
        level: Some(stats.overload),
        ..Point::default()
    }
}

pub(super) fn line(inside: &Point) -> String {
    json!({
        "buffered": inside.buffered,
        "longest_wait_us": inside.longest_wait.as_micros() as u64,
        "lost": inside.lost,
        "rejected": inside.rejected,
        "overload": inside.level.map(OverloadLevel::name),
    })
    .to_string()
}

pub(super) fn listening(port: u16) -> String {
    json!({ "port": port }).to_string()
}

impl Said {
    pub(super) fn read(line: &str) -> Said {
        let log = || Said::Log(line.to_owned());
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
            return log();
        };
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        if let Some(port) = number("port").and_then(|port| u16::try_from(port).ok()) {
            return Said::Listening(port);
        }
        if fields.contains_key("balanced") {
            return Said::Ledger(Value::Object(fields));
        }
        let Some(buffered) = number("buffered") else {
            return log();
        };
        let name = fields.get("overload").and_then(Value::as_str);
        Said::Sample(Point {
            buffered,
            longest_wait: Duration::from_micros(number("longest_wait_us").unwrap_or(0)),
            lost: number("lost").unwrap_or(0),
            rejected: number("rejected").unwrap_or(0),
            level: OverloadLevel::ALL
                .into_iter()
                .find(|level| Some(level.name()) == name),
            ..Point::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let sample = Point {
            buffered: 7,
            longest_wait: Duration::from_micros(1500),
            lost: 2,
            rejected: 1,
            level: Some(OverloadLevel::Paused),
            ..Point::default()
        };
        assert_eq!(Said::read(&line(&sample)), Said::Sample(sample));
        let bare = Point::default();
        assert_eq!(Said::read(&line(&bare)), Said::Sample(bare));
        assert_eq!(Said::read(&listening(5140)), Said::Listening(5140));
        assert!(matches!(
            Said::read(r#"{"balanced":true}"#),
            Said::Ledger(_)
        ));
        for log in [
            "",
            "[WARN] not accepting",
            "{}",
            "{",
            "[1]",
            r#"{"port":70000}"#,
        ] {
            assert_eq!(Said::read(log), Said::Log(log.to_owned()));
        }
    }
}
