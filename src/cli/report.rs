//! How the ledger is told: the last line, the exit code, the list of connections.

use drainline::ingest::{Handle, Report};
use drainline::policy::Rung;
use drainline::{Reason, Stats, Tally};
use serde_json::{Map, Value, json};

use super::units::counted;
use super::values::ReportFormat;

/// 1: the sink, the consumer or a listener died. 4: the drain timed out. 3: drainline lost or cut something
/// ([`Report::is_lossy`] has the rule). 0: it did not.
pub(super) fn exit_code(report: &Report) -> u8 {
    if report.server.error.is_some() {
        1
    } else if report.server.timed_out {
        4
    } else if report.is_lossy() {
        3
    } else {
        0
    }
}

/// The ledger in one line.
pub(super) fn write(report: &Report, format: ReportFormat) -> String {
    match format {
        ReportFormat::Text => text(report),
        ReportFormat::Json => json(report).to_string(),
    }
}

fn text(report: &Report) -> String {
    let (stats, bytes) = (&report.server.stats, &report.bytes);
    let mut rungs = String::new();
    for (rung, time) in Rung::ALL.iter().zip(stats.seconds_in) {
        if *rung == Rung::Normal || !time.is_zero() {
            rungs += &format!(" {} {:.1},", rung.name(), time.as_secs_f64());
        }
    }
    if let Some(kept_out) = kept_out(stats) {
        rungs += &format!(" not accepting {kept_out},");
    }
    format!(
        "drainline: received {} = delivered {} + dropped {} + in flight {}; truncated {}, partial {}; \
         bytes read {} = messages {} + framing {} + discarded {} + pending {}; unread {}; \
         connections accepted {}, rejected {}, ended {}; threads at most {}; seconds{} up {:.1}; {}{}",
        stats.received,
        stats.delivered,
        stats.dropped,
        stats.in_flight,
        bytes.truncated,
        bytes.partial,
        bytes.bytes_read,
        bytes.message_bytes,
        bytes.framing_bytes,
        bytes.discarded,
        bytes.pending,
        unread(report),
        stats.accepted,
        stats.rejected,
        stats.ended,
        stats.threads_peak,
        rungs,
        stats.uptime.as_secs_f64(),
        faults(report),
        if report.is_balanced() {
            "balanced"
        } else {
            "NOT BALANCED"
        }
    )
}

/// `0`, or `30 (send_timeout 20, rejected shutdown 10)`.
fn unread(report: &Report) -> String {
    let stats = &report.server.stats;
    let ended = stats.unread_ended.iter().filter(|&(_, bytes)| bytes > 0);
    let ended = ended.map(|(reason, bytes)| format!("{reason} {bytes}"));
    let rejected = stats.unread_rejected.iter().filter(|&(_, bytes)| bytes > 0);
    let rejected = rejected.map(|(reason, bytes)| format!("rejected {reason} {bytes}"));
    let by_reason: Vec<_> = ended.chain(rejected).collect();
    match &by_reason[..] {
        [] => stats.unread_bytes.to_string(),
        by_reason => format!("{} ({})", stats.unread_bytes, by_reason.join(", ")),
    }
}

/// What went wrong and is in neither equation, where it did.
fn faults(report: &Report) -> String {
    let counts = [
        ("sink failures", report.sink_failures),
        ("failed reopens", report.failed_reopens),
        ("messages to a deleted file", report.unlinked_messages),
        ("log lines lost", report.server.stats.log_lines_lost),
        ("stuck", report.server.stuck.len() as u64),
    ];
    let happened: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    match &happened[..] {
        [] => String::new(),
        happened => happened.join(", ") + "; ",
    }
}

fn json(report: &Report) -> Value {
    let (stats, bytes) = (&report.server.stats, &report.bytes);
    let seconds_in: Map<String, Value> = Rung::ALL
        .iter()
        .zip(stats.seconds_in)
        .map(|(rung, time)| (rung.name().to_owned(), json!(time.as_secs_f64())))
        .collect();
    let not_accepting: Map<String, Value> = stats
        .not_accepting_seconds
        .iter()
        .map(|(reason, time)| (reason.name().to_owned(), json!(time.as_secs_f64())))
        .collect();
    json!({
        "received": stats.received,
        "delivered": stats.delivered,
        "dropped": counts(&stats.dropped),
        "in_flight": stats.in_flight,
        "truncated": bytes.truncated,
        "partial": bytes.partial,
        "bytes_read": bytes.bytes_read,
        "message_bytes": bytes.message_bytes,
        "framing_bytes": bytes.framing_bytes,
        "discarded": counts(&bytes.discarded),
        "pending": bytes.pending,
        "unread_bytes": stats.unread_bytes,
        "unread": {
            "ended": counts(&stats.unread_ended),
            "rejected": counts(&stats.unread_rejected),
        },
        "connections": {
            "accepted": stats.accepted,
            "open": stats.open,
            "rejected": counts(&stats.rejected),
            "ended": counts(&stats.ended),
        },
        "accepts_starved": stats.accepts_starved,
        "threads_peak": stats.threads_peak,
        "seconds_in": seconds_in,
        "not_accepting_seconds": not_accepting,
        "sink_failures": report.sink_failures,
        "failed_reopens": report.failed_reopens,
        "unlinked_messages": report.unlinked_messages,
        "log_lines_lost": stats.log_lines_lost,
        "error": report.server.error.as_ref().map(ToString::to_string),
        "timed_out": report.server.timed_out,
        "stuck": report.server.stuck.len(),
        "balanced": report.is_balanced(),
        "uptime_seconds": stats.uptime.as_secs_f64(),
    })
}

/// Whether new clients come in, why not, and since when.
fn accepting(stats: &Stats) -> String {
    stats.not_accepting.map_or_else(
        || "accepting".to_owned(),
        |state| {
            let lasted = state.lasted.as_secs_f64();
            format!("not accepting: {} for {lasted:.1} s", state.reason)
        },
    )
}

/// For how many seconds new clients were kept out, and why: `3.4 (paused 1.2, max_connections 2.2)`.
fn kept_out(stats: &Stats) -> Option<String> {
    let spans = &stats.not_accepting_seconds;
    let by_reason = spans.iter().filter(|(_, time)| !time.is_zero());
    let by_reason: Vec<_> = by_reason
        .map(|(reason, time)| format!("{reason} {:.1}", time.as_secs_f64()))
        .collect();
    let total = spans.total();
    let seconds = total.as_secs_f64();
    (!total.is_zero()).then(|| format!("{seconds:.1} ({})", by_reason.join(", ")))
}

/// Reasons that happened, with their counts.
fn counts<R: Reason>(tally: &Tally<R>) -> Value {
    let happened = tally.iter().filter(|&(_, count)| count > 0);
    happened
        .map(|(reason, count)| (reason.name().to_owned(), json!(count)))
        .collect::<Map<_, _>>()
        .into()
}

/// One line for each connection, and where the ladder stands.
pub(super) fn connections(handle: &Handle) -> String {
    let connections = handle.connections();
    let stats = handle.report().server.stats;
    let mut text = String::new();
    for connection in &connections {
        text += &format!("{connection}\n");
    }
    let waiting = match stats.senders_waiting {
        1 => "1 sender waits".to_owned(),
        senders => format!("{senders} senders wait"),
    };
    let kept_out = kept_out(&stats);
    let kept_out = kept_out.map(|seconds| format!("seconds of not accepting in all {seconds}; "));
    text += &format!(
        "{}; overload: {}, {}, longest wait {:.1} s; {}in flight {}, {waiting}; {}",
        counted(connections.len() as u64, "connection"),
        stats.rung.name(),
        accepting(&stats),
        stats.longest_wait.as_secs_f64(),
        kept_out.unwrap_or_default(),
        stats.in_flight,
        consumer(&stats),
    );
    text
}

/// What the sink is at, by the last tick.
fn consumer(stats: &Stats) -> String {
    let (name, busy_for) = (&stats.consumer.name, stats.consumer.busy_for);
    match stats.in_flight {
        _ if !busy_for.is_zero() => {
            let seconds = busy_for.as_secs_f64();
            format!("{name} has been busy with one write for {seconds:.1} s")
        }
        0 => format!("{name} is idle"),
        _ => format!("{name} is between two writes"),
    }
}
