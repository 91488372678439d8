//! What is reported: the ledger at the end, the exit code, and the answer to SIGUSR1.

use std::fmt;
use std::time::Duration;

use drainline::policy::OverloadLevel;
use drainline::{
    Bytes, ConnectionInfo, Counters, DropReason, EndReason, ListenerStats, NotAccepting,
    NotAcceptingReason, OutputRow, OutputStats, Reason, RejectReason, Report, Server, Spans, Stats,
};
use serde_json::{Map, Value, json};

use super::units::counted;
use super::values::ReportFormat;

/// 1: the sink, the consumer or a listener failed. 4: the drain ran out of time
/// ([`Report::timed_out`]). 3: drainline lost something ([`Report::is_lossy`] has the rule). 0:
/// drainline lost nothing.
pub(super) fn exit_code(report: &Report) -> u8 {
    if report.error.is_some() {
        1
    } else if report.timed_out {
        4
    } else if report.is_lossy() {
        3
    } else {
        0
    }
}

/// The ledger in one line, and as text in one line more for each of several listeners, before it.
pub(super) fn write(report: &Report, format: ReportFormat) -> String {
    match format {
        ReportFormat::Text => text(report),
        ReportFormat::Json => json(report).to_string(),
    }
}

/// What the ledger has in all and of each listener.
struct Row<'a> {
    received: u64,
    delivered: u64,
    dropped: &'a Counters<DropReason>,
    in_flight: u64,
    bytes: &'a Bytes,
    unread_ended: &'a Counters<EndReason>,
    unread_rejected: &'a Counters<RejectReason>,
    starting: u64,
    accepted: u64,
    open: u64,
    rejected: &'a Counters<RejectReason>,
    ended: &'a Counters<EndReason>,
}

impl<'a> Row<'a> {
    fn of_server(report: &'a Report) -> Self {
        let Report { stats, bytes, .. } = report;
        Row {
            received: stats.received,
            delivered: stats.delivered,
            dropped: &stats.dropped,
            in_flight: stats.in_flight,
            bytes,
            unread_ended: &stats.unread_ended,
            unread_rejected: &stats.unread_rejected,
            starting: stats.starting,
            accepted: stats.accepted,
            open: stats.open,
            rejected: &stats.rejected,
            ended: &stats.ended,
        }
    }

    fn of_listener(listener: &'a ListenerStats) -> Self {
        Row {
            received: listener.received,
            delivered: listener.delivered,
            dropped: &listener.dropped,
            in_flight: listener.in_flight,
            bytes: &listener.bytes,
            unread_ended: &listener.unread_ended,
            unread_rejected: &listener.unread_rejected,
            starting: listener.starting,
            accepted: listener.accepted,
            open: listener.open,
            rejected: &listener.rejected,
            ended: &listener.ended,
        }
    }

    /// `0`, or `30 (send_timeout 20, rejected shutdown 10)`.
    fn unread(&self) -> String {
        let ended = self.unread_ended.iter().filter(|&(_, bytes)| bytes > 0);
        let ended = ended.map(|(reason, bytes)| format!("{reason} {bytes}"));
        let rejected = self.unread_rejected.iter().filter(|&(_, bytes)| bytes > 0);
        let rejected = rejected.map(|(reason, bytes)| format!("rejected {reason} {bytes}"));
        let by_reason: Vec<_> = ended.chain(rejected).collect();
        let total = self.unread_bytes();
        match &by_reason[..] {
            [] => total.to_string(),
            by_reason => format!("{total} ({})", by_reason.join(", ")),
        }
    }

    fn unread_bytes(&self) -> u64 {
        self.unread_ended.total() + self.unread_rejected.total()
    }

    fn json(&self) -> Value {
        let bytes = self.bytes;
        json!({
            "received": self.received,
            "delivered": self.delivered,
            "dropped": counts(self.dropped),
            "in_flight": self.in_flight,
            "truncated": bytes.truncated,
            "unterminated": bytes.unterminated,
            "bytes_read": bytes.bytes_read,
            "message_bytes": bytes.message_bytes,
            "framing_bytes": bytes.framing_bytes,
            "discarded": counts(&bytes.discarded),
            "pending": bytes.pending,
            "unread_bytes": self.unread_bytes(),
            "unread": {
                "ended": counts(self.unread_ended),
                "rejected": counts(self.unread_rejected),
            },
            "connections": {
                "accepted": self.accepted,
                "open": self.open,
                "starting": self.starting,
                "rejected": counts(self.rejected),
                "ended": counts(self.ended),
            },
        })
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes;
        write!(
            f,
            "received {} = delivered {} + dropped {} + in flight {}; truncated {}, unterminated {}; \
             bytes read {} = messages {} + framing {} + discarded {} + pending {}; unread {}; \
             connections accepted {}, rejected {}, ended {}",
            self.received,
            self.delivered,
            self.dropped,
            self.in_flight,
            bytes.truncated,
            bytes.unterminated,
            bytes.bytes_read,
            bytes.message_bytes,
            bytes.framing_bytes,
            bytes.discarded,
            bytes.pending,
            self.unread(),
            self.accepted,
            self.rejected,
            self.ended,
        )
    }
}

fn text(report: &Report) -> String {
    let stats = &report.stats;
    let mut text = String::new();
    for listener in several(stats) {
        text += &listener_text(listener);
    }
    let is_alone = report.outputs.len() == 1;
    let is_told = |output: &&OutputStats| !is_alone || has_news(output);
    for output in report.outputs.iter().filter(is_told) {
        text += &format!("drainline: {}", output_text(output));
    }
    let mut levels = String::new();
    for (level, time) in stats.overload_seconds.iter() {
        if level == OverloadLevel::Normal || !time.is_zero() {
            levels += &format!(" {} {:.1},", level.name(), time.as_secs_f64());
        }
    }
    if let Some(kept_out) = kept_out(&stats.not_accepting_seconds) {
        levels += &format!(" not accepting {kept_out},");
    }
    text + &format!(
        "drainline: {}; threads at most {}; seconds{} up {:.1}; {}{}",
        Row::of_server(report),
        stats.threads_peak,
        levels,
        stats.uptime.as_secs_f64(),
        faults(report),
        balance(report.is_balanced())
    )
}

/// The listeners, if they are several: the one listener of a server has its figures.
fn several(stats: &Stats) -> &[ListenerStats] {
    match &stats.listeners[..] {
        [_] => &[],
        listeners => listeners,
    }
}

/// A listener's row, as one line.
fn listener_text(listener: &ListenerStats) -> String {
    let (name, row) = (&listener.name, Row::of_listener(listener));
    let kept_out = kept_out(&listener.not_accepting_seconds)
        .map(|seconds| format!("; seconds not accepting {seconds}"))
        .unwrap_or_default();
    let balance = balance(listener.is_balanced());
    format!("drainline: listener {name}: {row}{kept_out}; {balance}\n")
}

fn balance(is_balanced: bool) -> &'static str {
    match is_balanced {
        true => "balanced",
        false => "NOT BALANCED",
    }
}

/// Faults that are in neither equation, where they happened.
fn faults(report: &Report) -> String {
    let counts = [
        ("sink failures", report.sink.failures),
        ("failed reopens", report.sink.failed_reopens),
        ("messages to a deleted file", report.sink.unlinked_messages),
        ("log lines lost", report.stats.log_lines_lost),
        ("stuck", report.stuck.len() as u64),
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
    let stats = &report.stats;
    let listeners = stats.listeners.iter().map(|listener| {
        let names = json!({
            "name": &*listener.name,
            "address": listener.address.to_string(),
        });
        let more = json!({
            "not_accepting_seconds": seconds(&listener.not_accepting_seconds),
            "balanced": listener.is_balanced(),
        });
        joined([names, Row::of_listener(listener).json(), more])
    });
    let more = json!({
        "accept_failures": stats.accept_failures,
        "threads_peak": stats.threads_peak,
        "overload_seconds": seconds(&stats.overload_seconds),
        "not_accepting_seconds": seconds(&stats.not_accepting_seconds),
        "sink_failures": report.sink.failures,
        "failed_reopens": report.sink.failed_reopens,
        "unlinked_messages": report.sink.unlinked_messages,
        "outputs": report.outputs.iter().map(output_json).collect::<Vec<_>>(),
        "log_lines_lost": stats.log_lines_lost,
        "error": report.error.as_ref().map(ToString::to_string),
        "timed_out": report.timed_out,
        "stuck": report.stuck.len(),
        "balanced": report.is_balanced(),
        "uptime_seconds": stats.uptime.as_secs_f64(),
        "listeners": listeners.collect::<Vec<_>>(),
    });
    joined([Row::of_server(report).json(), more])
}

/// How an output stands.
fn output_json(output: &OutputStats) -> Value {
    let row = &output.row;
    json!({
        "name": &*output.name,
        "required": output.is_required,
        "sink_failures": output.counts.failures,
        "failed_reopens": output.counts.failed_reopens,
        "unlinked_messages": output.counts.unlinked_messages,
        "unanswered": output.unanswered,
        "last_error": output.last_error.as_deref(),
        "connected_to": output.connected_to.as_deref(),
        "retrying_seconds": output.retrying_for.map(|time| time.as_secs_f64()),
        "busy_seconds": output.busy_for.as_secs_f64(),
        "received": row.received,
        "delivered": row.delivered,
        "dropped": counts(&row.dropped),
        "in_flight": row.in_flight,
        "buffered_bytes": row.buffered_bytes,
        "buffer_bytes": output.buffer_bytes,
        "balanced": row.is_balanced(),
    })
}

/// Whether the only output's line says more at the end than the ledger's.
fn has_news(output: &OutputStats) -> bool {
    output.last_error.is_some() || output.retrying_for.is_some() || output.unanswered > 0
}

/// `output file:x: ROW; 12 messages unanswered; retrying for 3.1 s: No space left on device`.
fn output_text(output: &OutputStats) -> String {
    let unanswered = counted(output.unanswered, "message");
    let error = output.last_error.as_deref().unwrap_or_default();
    let busy = match output.busy_for {
        Duration::ZERO => String::new(),
        time => format!("; busy with one write for {:.1} s", time.as_secs_f64()),
    };
    let state = match (&output.last_error, output.retrying_for) {
        (_, Some(time)) => format!("; retrying for {:.1} s: {error}", time.as_secs_f64()),
        (Some(_), None) => format!("; last error: {error}"),
        (None, None) => String::new(),
    };
    let connected = output.connected_to.as_deref();
    let connected = connected.map_or_else(String::new, |to| format!("; connected to {to}"));
    format!(
        "output {}: {}; {unanswered} unanswered{busy}{connected}{state}\n",
        output.name,
        row_text(output, &output.row)
    )
}

/// `best effort; received 12 = delivered 7 + dropped 3 (full 3) + in flight 2; buffer 512 of 65536
/// bytes; balanced`
fn row_text(output: &OutputStats, row: &OutputRow) -> String {
    let kind = match output.is_required {
        true => "required",
        false => "best effort",
    };
    let buffer = match output.buffer_bytes {
        Some(most) => format!("{} of {}", row.buffered_bytes, counted(most, "byte")),
        None => counted(row.buffered_bytes, "byte"),
    };
    format!(
        "{kind}; received {} = delivered {} + dropped {} + in flight {}; buffer {buffer}; {}",
        row.received,
        row.delivered,
        row.dropped,
        row.in_flight,
        balance(row.is_balanced())
    )
}

/// One object of the keys of several.
fn joined<const N: usize>(parts: [Value; N]) -> Value {
    let mut all = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    all.into()
}

/// Whether new clients come in, and else why not, and for how long.
fn accepting(not_accepting: Option<NotAccepting>) -> String {
    not_accepting.map_or_else(
        || "accepting".to_owned(),
        |state| {
            let lasted = state.lasted.as_secs_f64();
            format!("not accepting: {} for {lasted:.1} s", state.reason)
        },
    )
}

/// For how many seconds new clients were kept out, and why:
/// `3.4 (paused 1.2, max_connections 2.2)`.
fn kept_out(spans: &Spans<NotAcceptingReason>) -> Option<String> {
    let by_reason = spans.iter().filter(|(_, time)| !time.is_zero());
    let by_reason: Vec<_> = by_reason
        .map(|(reason, time)| format!("{reason} {:.1}", time.as_secs_f64()))
        .collect();
    let total = spans.total();
    let seconds = total.as_secs_f64();
    (!total.is_zero()).then(|| format!("{seconds:.1} ({})", by_reason.join(", ")))
}

/// Every reason, with its time in seconds.
fn seconds<R: Reason>(spans: &Spans<R>) -> Value {
    spans
        .iter()
        .map(|(reason, time)| (reason.name().to_owned(), json!(time.as_secs_f64())))
        .collect::<Map<_, _>>()
        .into()
}

/// Reasons that happened, with their counts.
fn counts<R: Reason>(counters: &Counters<R>) -> Value {
    let happened = counters.iter().filter(|&(_, count)| count > 0);
    happened
        .map(|(reason, count)| (reason.name().to_owned(), json!(count)))
        .collect::<Map<_, _>>()
        .into()
}

/// Every connection, and how the server stands: what SIGUSR1 asks for.
pub(super) fn status(server: &Server, format: ReportFormat) -> String {
    let (connections, report) = (server.connections(), server.report());
    let (stats, outputs) = (&report.stats, &report.outputs[..]);
    match format {
        ReportFormat::Text => status_text(&connections, stats, outputs),
        ReportFormat::Json => status_json(&connections, stats, outputs).to_string(),
    }
}

/// A line for each connection, one for each of several listeners, one for each output, and one for
/// the server.
fn status_text(connections: &[ConnectionInfo], stats: &Stats, outputs: &[OutputStats]) -> String {
    let mut text = String::new();
    for connection in connections {
        text += &format!("{connection}\n");
    }
    for listener in several(stats) {
        text += &format!(
            "listener {} at {}: {}; {}\n",
            listener.name,
            listener.address,
            counted(listener.open, "connection"),
            accepting(listener.not_accepting)
        );
    }
    text.extend(outputs.iter().map(output_text));
    text += &format!(
        "{}; overload: {}; {}; {}; {} in flight; {}",
        counted(connections.len() as u64, "connection"),
        stats.overload.name(),
        accepting(stats.not_accepting),
        waiting(stats),
        counted(stats.in_flight, "message"),
        consumer(stats, outputs),
    );
    if let Some(kept_out) = kept_out(&stats.not_accepting_seconds) {
        text += &format!("; seconds not accepting: {kept_out}");
    }
    text
}

/// One line, so that it is found among the lines of the log.
fn status_json(connections: &[ConnectionInfo], stats: &Stats, outputs: &[OutputStats]) -> Value {
    let connections = connections.iter().map(|connection| {
        json!({
            "id": connection.id,
            "peer": connection.peer.to_string(),
            "tls_name": connection.tls_name.as_deref(),
            "balancer": connection.balancer.map(|balancer| balancer.to_string()),
            "listener": &*connection.listener,
            "listener_index": connection.listener_index,
            "state": connection.state.name(),
            "state_seconds": connection.in_state.as_secs_f64(),
            "peer_gone": connection.peer_gone,
            "ended": connection.ended.map(|reason| reason.name()),
            "messages": connection.messages,
            "bytes": connection.bytes,
            "inside_frame": connection.inside_frame,
        })
    });
    let not_accepting = |state: Option<NotAccepting>| {
        state.map(
            |state| json!({ "reason": state.reason.name(), "seconds": state.lasted.as_secs_f64() }),
        )
    };
    let listeners = stats.listeners.iter().map(|listener| {
        json!({
            "name": &*listener.name,
            "address": listener.address.to_string(),
            "open": listener.open,
            "not_accepting": not_accepting(listener.not_accepting),
            "not_accepting_seconds": seconds(&listener.not_accepting_seconds),
        })
    });
    json!({
        "connections": connections.collect::<Vec<_>>(),
        "listeners": listeners.collect::<Vec<_>>(),
        "outputs": outputs.iter().map(output_json).collect::<Vec<_>>(),
        "overload": stats.overload.name(),
        "not_accepting": not_accepting(stats.not_accepting),
        "not_accepting_seconds": seconds(&stats.not_accepting_seconds),
        "senders_waiting": stats.senders_waiting,
        "longest_wait_seconds": stats.longest_wait.as_secs_f64(),
        "in_flight": stats.in_flight,
        "consumer": {
            "name": stats.consumer.name,
            "busy_seconds": stats.consumer.busy_for.as_secs_f64(),
        },
    })
}

/// How many senders wait for space in the buffer, and for how long at most.
fn waiting(stats: &Stats) -> String {
    let seconds = stats.longest_wait.as_secs_f64();
    match stats.senders_waiting {
        0 => "no sender waiting".to_owned(),
        1 => format!("1 sender waiting, for {seconds:.1} s"),
        senders => format!("{senders} senders waiting, the longest for {seconds:.1} s"),
    }
}

/// What the consumer is doing, by the last tick; of several outputs, the one that has been busy for
/// longest.
fn consumer(stats: &Stats, outputs: &[OutputStats]) -> String {
    let busiest = outputs.iter().max_by_key(|output| output.busy_for);
    let busiest = busiest.filter(|output| outputs.len() > 1 && !output.busy_for.is_zero());
    let (name, busy_for) = match busiest {
        Some(output) => (&format!("output {}", output.name), output.busy_for),
        None => (&stats.consumer.name, stats.consumer.busy_for),
    };
    match stats.in_flight {
        _ if !busy_for.is_zero() => {
            let seconds = busy_for.as_secs_f64();
            format!("{name} has been busy with one write for {seconds:.1} s")
        }
        0 => format!("{name} is idle"),
        _ => format!("{name} is between two writes"),
    }
}
