//! How a `drainline` process ended, and the ledger it left.

use drainline::Discard;
use drainline::{DropReason, EndReason, Reason, RejectReason};
use serde_json::Value;

use super::tagged::Sent;

/// What clients counted of what they put into the kernel's hands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Messages, an unterminated last one included where the server takes it as one.
    pub messages: u64,
    pub bytes: u64,
}

impl Counted {
    pub fn add(&mut self, messages: u64, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes as u64;
    }
}

impl<'a> FromIterator<&'a Sent> for Counted {
    fn from_iter<I: IntoIterator<Item = &'a Sent>>(sent: I) -> Counted {
        let mut sum = Counted::default();
        for sent in sent {
            sum.messages += sent.messages;
            sum.bytes += sent.bytes;
        }
        sum
    }
}

/// The end of a process.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All of its stderr; empty when nobody read it.
    pub stderr: String,
    /// The last line of stderr; `Null` when that is no JSON.
    pub report: Value,
}

impl Exit {
    pub fn new(code: Option<i32>, signal: Option<i32>, stderr: String) -> Exit {
        let last = stderr.lines().next_back().unwrap_or("");
        let report = serde_json::from_str(last).unwrap_or(Value::Null);
        Exit {
            code,
            signal,
            stderr,
            report,
        }
    }

    /// # Panics
    /// With all of stderr, when the exit code is another.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
    }

    /// A figure of the report by its path: `received`, `dropped.connection_closed`,
    /// `connections.accepted`. A reason that the report does not name happened 0 times.
    ///
    /// # Panics
    /// When there is no such figure, no such reason, or no report.
    #[track_caller]
    pub fn u64(&self, path: &str) -> u64 {
        match self.find(path) {
            Some(value) => value
                .as_u64()
                .unwrap_or_else(|| panic!("{path} is {value}, not a count: {self}")),
            None => {
                let (reasons, reason) = path.rsplit_once('.').unwrap_or(("", path));
                let known =
                    self.find(reasons).is_some_and(Value::is_object) && is_reason(reasons, reason);
                assert!(known, "the report has no {path}: {self}");
                0
            }
        }
    }

    /// As [`u64`](Exit::u64), for figures with a fraction: `uptime_seconds`,
    /// `overload_seconds.paused`. A level that the report does not name must be looked for in
    /// [`report`](Exit::report).
    #[track_caller]
    pub fn f64(&self, path: &str) -> f64 {
        let number = self.find(path).and_then(Value::as_f64);
        number.unwrap_or_else(|| panic!("the report has no number {path}: {self}"))
    }

    /// The sum of an object of counts: `dropped`, `discarded`, `connections.ended`.
    #[track_caller]
    pub fn sum(&self, path: &str) -> u64 {
        let counts = self.find(path).and_then(Value::as_object);
        let counts = counts.unwrap_or_else(|| panic!("the report has no object {path}: {self}"));
        counts
            .keys()
            .map(|key| self.u64(&format!("{path}.{key}")))
            .sum()
    }

    /// The equations hold, in all, for each listener and for each of several outputs: the report
    /// says so, and its own figures add up, each summed here once more.
    ///
    /// # Panics
    /// With the equation that does not hold, and all of stderr.
    #[track_caller]
    pub fn assert_balanced(&self) {
        self.assert_row_balanced("");
        let rows = self.listeners();
        for row in &rows {
            self.assert_row_balanced(row);
        }
        for figure in ["received", "delivered", "bytes_read", "unread_bytes"] {
            let of_all: u64 = rows
                .iter()
                .map(|row| self.u64(&format!("{row}{figure}")))
                .sum();
            assert!(
                self.u64(figure) == of_all,
                "{figure} is not the listeners' {of_all}: {self}"
            );
        }
        for row in self.outputs() {
            self.assert_messages_balanced(&row);
        }
    }

    /// The path before a figure of each listener's row: `listeners.0.`.
    fn listeners(&self) -> Vec<String> {
        let rows = self.rows_of("listeners").len();
        (0..rows).map(|row| format!("listeners.{row}.")).collect()
    }

    /// As [`listeners`](Exit::listeners). The only output has no row of its own.
    fn outputs(&self) -> Vec<String> {
        let rows = self.rows_of("outputs").iter().zip(0..);
        let rows = rows.filter(|(output, _)| !output["received"].is_null());
        rows.map(|(_, row)| format!("outputs.{row}.")).collect()
    }

    fn rows_of(&self, array: &str) -> &[Value] {
        let rows = self.find(array).and_then(Value::as_array);
        rows.unwrap_or_else(|| panic!("the report has no {array}: {self}"))
    }

    #[track_caller]
    fn assert_messages_balanced(&self, row: &str) {
        let count = |figure: &str| self.u64(&format!("{row}{figure}"));
        let dropped = self.sum(&format!("{row}dropped"));
        let left = count("delivered") + dropped + count("in_flight");
        assert!(
            count("received") == left,
            "{row}received is not delivered + dropped + in flight ({left}): {self}"
        );
        assert!(
            self.find(&format!("{row}balanced")) == Some(&Value::Bool(true)),
            "{row}balanced is not said: {self}"
        );
    }

    #[track_caller]
    fn assert_row_balanced(&self, row: &str) {
        let count = |figure: &str| self.u64(&format!("{row}{figure}"));
        let sum = |figure: &str| self.sum(&format!("{row}{figure}"));
        self.assert_messages_balanced(row);
        let read =
            count("message_bytes") + count("framing_bytes") + sum("discarded") + count("pending");
        let equation = "bytes read is not message + framing + discarded + pending";
        assert!(
            count("bytes_read") == read,
            "{row}{equation} ({read}): {self}"
        );
        let ended = sum("connections.ended") + count("connections.open");
        assert!(
            count("connections.accepted") == ended,
            "{row}connections accepted are not ended + open ({ended}): {self}"
        );
    }

    /// Every connection that was accepted has ended, and nothing is left in a buffer: the state
    /// after a drain that was not ended early.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert!(
            self.u64("in_flight") == 0 && self.u64("pending") == 0,
            "something is left in a buffer: {self}"
        );
        let (accepted, ended) = (
            self.u64("connections.accepted"),
            self.sum("connections.ended"),
        );
        assert!(
            accepted == ended,
            "{accepted} connections accepted, {ended} ended: {self}"
        );
    }

    /// The ledger of a server that is over: [`assert_balanced`](Exit::assert_balanced) and
    /// [`assert_nothing_left`](Exit::assert_nothing_left).
    #[track_caller]
    pub fn assert_closes(&self) {
        self.assert_balanced();
        self.assert_nothing_left();
    }

    /// The ledger closes, and nobody was reset, so it is what the clients counted, to the byte, and
    /// what the sink holds.
    #[track_caller]
    pub fn assert_whole(&self, sent: &Counted, sink: &[u8]) {
        self.assert_closes();
        let counted = Counted {
            messages: self.u64("received"),
            bytes: self.u64("bytes_read"),
        };
        assert!(
            counted == *sent && self.u64("unread_bytes") == 0,
            "clients counted {sent:?}: {self}"
        );
        self.assert_delivered(sink);
    }

    /// The ledger closes, and clients were disconnected: they may have put more into the kernel's
    /// hands than the server knows of, never less. What is delivered is what the sink holds.
    #[track_caller]
    pub fn assert_at_most(&self, sent: &Counted, sink: &[u8]) {
        self.assert_closes();
        let known = self.u64("bytes_read") + self.u64("unread_bytes");
        assert!(
            known <= sent.bytes && self.u64("received") <= sent.messages,
            "clients counted {sent:?}, which is less: {self}"
        );
        self.assert_delivered(sink);
    }

    #[track_caller]
    fn assert_delivered(&self, sink: &[u8]) {
        let lines = sink.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(
            self.u64("delivered") == lines,
            "the sink holds {lines} lines: {self}"
        );
    }

    fn find(&self, path: &str) -> Option<&Value> {
        path.split('.')
            .try_fold(&self.report, |value, key| match key.parse::<usize>() {
                Ok(index) => value.get(index),
                Err(_) => value.get(key),
            })
    }
}

/// A misspelt reason must not pass for one that never happened.
fn is_reason(reasons: &str, reason: &str) -> bool {
    fn has<R: Reason>(name: &str) -> bool {
        R::ALL.iter().any(|reason| reason.name() == name)
    }
    let of_listener = reasons.strip_prefix("listeners.");
    let row = of_listener.or_else(|| reasons.strip_prefix("outputs."));
    let row = row.and_then(|row| row.split_once('.'));
    match row.map_or(reasons, |(_, reasons)| reasons) {
        "dropped" => has::<DropReason>(reason),
        "connections.rejected" | "unread.rejected" => has::<RejectReason>(reason),
        "connections.ended" | "unread.ended" => has::<EndReason>(reason),
        "discarded" => has::<Discard>(reason),
        _ => false,
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code {:?}, signal {:?}, stderr:\n{}",
            self.code, self.signal, self.stderr
        )
    }
}
