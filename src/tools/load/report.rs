//! How a load is told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::units::{self, counted};

use super::counts::Summary;
use super::histogram::Histogram;
use super::plan::Plan;
use super::shared::Progress;

pub(super) fn holding(plan: &Plan) -> String {
    format!(
        "drainline load: all is sent; connections stay open for {}",
        units::print_duration(plan.hold)
    )
}

/// The server takes nothing.
pub(super) fn still(progress: &Progress) -> String {
    let what = match progress.start {
        None => "no connection stands yet",
        Some(_) => "the server has taken nothing",
    };
    format!(
        "drainline load: {what} for {:.0} s; {} sent",
        progress.still.as_secs_f64(),
        counted(progress.messages, "message")
    )
}

/// It goes on, after so long.
pub(super) fn moves(after: Duration) -> String {
    format!(
        "drainline load: the server goes on, after {:.1} s",
        after.as_secs_f64()
    )
}

/// The report, ended by LF.
pub(super) fn text(summary: &Summary) -> String {
    let counts = &summary.counts;
    let seconds = summary.time.as_secs_f64();
    let mut text = format!(
        "sent {}, {}",
        counted(counts.messages, "message"),
        counted(counts.bytes, "byte")
    );
    // In no time at all there is no rate.
    if seconds > 0.0 {
        let (messages, bytes) = (counts.messages as f64, counts.bytes as f64);
        text += &format!(
            " in {} s: {} messages/s, {:.1} MB/s",
            short(seconds, 3),
            short(messages / seconds, 0),
            bytes / seconds / 1e6,
        );
    }
    text += "\n";
    text += &format!(
        "{} made, the first ones within {} s; {} failed, {} reset, {} ended by the server first\n",
        counted(counts.connects, "connection"),
        short(summary.connecting.as_secs_f64(), 3),
        counted(counts.connect_errors, "connect"),
        counted(counts.write_errors, "connection"),
        counts.closed_early,
    );
    for (name, times) in [
        ("connect", &counts.connect),
        ("write stall", &counts.stall),
        ("late by our own doing", &counts.late),
    ] {
        if times.count() > 0 {
            text += &format!("{name}: {}\n", percentiles_text(times));
        }
    }
    for (count, of, what) in [
        (counts.unsent, "message", "not sent"),
        (counts.partial, "message", "sent in part"),
        (
            counts.not_closed,
            "connection",
            "not closed by the server in time",
        ),
        (counts.port_waits, "time", "no local port was free"),
    ] {
        if count > 0 {
            text += &format!("{} {what}\n", counted(count, of));
        }
    }
    if summary.was_timed_out {
        text += match counts.unsent {
            0 => "ended by --timeout: the server closed no connection for that long\n",
            _ => "ended by --timeout: the server read nothing for that long\n",
        };
    }
    if let Some(error) = &counts.first_error {
        text += &format!("the first error: {error}\n");
    }
    text
}

/// With so many decimals, and with more where else no digit would be left.
fn short(value: f64, decimals: usize) -> String {
    let more = match value {
        _ if value >= 9.95 || value == 0.0 => 0,
        _ if decimals == 0 => 1,
        _ if value < 0.01 => 3,
        _ => 0,
    };
    format!("{value:.*}", decimals + more)
}

fn percentiles_text(times: &Histogram) -> String {
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    format!(
        "p50 {:.3} ms, p99 {:.3} ms, longest {:.3} ms ({})",
        millis(times.quantile(0.5)),
        millis(times.quantile(0.99)),
        millis(times.max()),
        counted(times.count(), "time")
    )
}

pub(super) fn json(summary: &Summary) -> Value {
    let counts = &summary.counts;
    json!({
        "messages": counts.messages,
        "bytes": counts.bytes,
        "seconds": summary.time.as_secs_f64(),
        "connect_seconds": summary.connecting.as_secs_f64(),
        "connects": counts.connects,
        "connect_errors": counts.connect_errors,
        "write_errors": counts.write_errors,
        "closed_early": counts.closed_early,
        "not_closed": counts.not_closed,
        "unsent": counts.unsent,
        "partial": counts.partial,
        "port_waits": counts.port_waits,
        "connect_us": percentiles(&counts.connect),
        "stall_us": percentiles(&counts.stall),
        "late_us": percentiles(&counts.late),
        "first_error": counts.first_error,
        "stopped": summary.was_stopped,
        "timed_out": summary.was_timed_out,
    })
}

fn percentiles(times: &Histogram) -> Value {
    let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1e3;
    json!({
        "count": times.count(),
        "p50": micros(times.quantile(0.5)),
        "p99": micros(times.quantile(0.99)),
        "max": micros(times.max()),
    })
}
