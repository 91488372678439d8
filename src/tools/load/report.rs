//! How a load is told.

use serde_json::{Value, json};

use crate::cli::units;
use crate::cli::values::ReportFormat;

use super::histogram::Histogram;
use super::plan::Plan;
use super::tally::Summary;

pub(super) fn holding(plan: &Plan) -> String {
    format!(
        "drainline load: all is sent; connections stay open for {}",
        units::print_duration(plan.hold)
    )
}

/// The report, ended by LF.
pub(super) fn write(summary: &Summary, format: ReportFormat) -> String {
    match format {
        ReportFormat::Text => text(summary),
        ReportFormat::Json => format!("{}\n", json(summary)),
    }
}

fn text(summary: &Summary) -> String {
    let seconds = summary.time.as_secs_f64();
    let rate = |count: u64| {
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    };
    let mut text = format!(
        "sent {} messages, {} bytes in {seconds:.3} s: {:.0} messages/s, {:.1} MB/s\n",
        summary.messages,
        summary.bytes,
        rate(summary.messages),
        rate(summary.bytes) / 1e6,
    );
    text += &format!(
        "{} connections made, the first ones within {:.3} s; {} connects failed, {} connections were reset, \
         {} ended by the server first\n",
        summary.connects,
        summary.connecting.as_secs_f64(),
        summary.connect_errors,
        summary.write_errors,
        summary.closed_early,
    );
    for (name, times) in [
        ("connect", &summary.connect),
        ("write stall", &summary.stall),
        ("late by our own doing", &summary.late),
    ] {
        if times.count() > 0 {
            text += &format!("{name}: {}\n", percentiles_text(times));
        }
    }
    for (count, what) in [
        (summary.unsent, "messages were not sent"),
        (summary.cut, "messages were sent in part"),
        (
            summary.not_closed,
            "connections were not closed by the server in time",
        ),
        (summary.port_waits, "times no local port was free"),
    ] {
        if count > 0 {
            text += &format!("{count} {what}\n");
        }
    }
    if let Some(error) = &summary.first_error {
        text += &format!("the first error: {error}\n");
    }
    text
}

fn percentiles_text(times: &Histogram) -> String {
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    format!(
        "p50 {:.3} ms, p99 {:.3} ms, longest {:.3} ms ({} times)",
        millis(times.quantile(0.5)),
        millis(times.quantile(0.99)),
        millis(times.max()),
        times.count()
    )
}

fn json(summary: &Summary) -> Value {
    json!({
        "messages": summary.messages,
        "bytes": summary.bytes,
        "seconds": summary.time.as_secs_f64(),
        "connect_seconds": summary.connecting.as_secs_f64(),
        "connects": summary.connects,
        "connect_errors": summary.connect_errors,
        "write_errors": summary.write_errors,
        "closed_early": summary.closed_early,
        "not_closed": summary.not_closed,
        "unsent": summary.unsent,
        "cut": summary.cut,
        "port_waits": summary.port_waits,
        "connect_us": percentiles(&summary.connect),
        "stall_us": percentiles(&summary.stall),
        "late_us": percentiles(&summary.late),
        "first_error": summary.first_error,
        "stopped": summary.was_stopped,
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
