//! The metrics that every table of the lab has, in their order.

use serde_json::{Value, json};

use super::super::words;
use super::outcome::{Ledger, Metrics, Recovery};

/// One metric of a strategy.
pub(super) struct Column {
    /// Its name in JSON, with its unit.
    pub(super) key: &'static str,
    /// Its head: at most two words, so that a narrow column can have them one above the other.
    pub(super) head: &'static str,
    /// What it is.
    pub(super) means: &'static str,
    pub(super) value: fn(&Metrics) -> Value,
    pub(super) words: fn(&Metrics) -> String,
    /// Whether it is what nobody wants to see.
    pub(super) is_bad: fn(&Metrics) -> bool,
}

pub(super) const COLUMNS: [Column; 11] = [
    Column {
        key: "peak_threads",
        head: "peak threads",
        means: "the most threads that the server's process had",
        value: |of| json!(of.peak_threads),
        words: |of| words::count(of.peak_threads),
        is_bad: |of| of.stopped_at.is_some() || of.died.is_some(),
    },
    Column {
        key: "threads_left",
        head: "threads left",
        means: "threads that were still there when all clients had gone: the leak",
        value: |of| json!(of.threads_left()),
        words: |of| words::count(of.threads_left()),
        is_bad: |of| of.threads_left() > 0,
    },
    Column {
        key: "peak_memory_bytes",
        head: "peak memory",
        means: "the most memory that the process had resident",
        value: |of| json!(of.peak_memory_bytes),
        words: |of| words::memory(of.peak_memory_bytes),
        is_bad: |_| false,
    },
    Column {
        key: "delivered_messages",
        head: "delivered",
        means: "messages that came out of the sink's end",
        value: |of| json!(of.delivered),
        words: |of| words::count(of.delivered),
        is_bad: |_| false,
    },
    Column {
        key: "delivered_part_of_sent",
        head: "of sent",
        means: "the part that was delivered of the messages that the clients sent",
        value: |of| match of.sent {
            0 => Value::Null,
            sent => json!(of.delivered as f64 / sent as f64),
        },
        words: |of| words::percent(of.delivered, of.sent),
        is_bad: |_| false,
    },
    Column {
        key: "lost_messages",
        head: "lost",
        means: "messages that the server dropped, and counted",
        value: |of| json!(of.lost()),
        words: |of| words::count(of.lost()),
        is_bad: |_| false,
    },
    Column {
        key: "unseen_messages",
        head: "unseen",
        means: "messages that were sent, and neither delivered nor counted as dropped",
        value: |of| json!(of.unseen()),
        words: |of| words::count(of.unseen()),
        is_bad: |_| false,
    },
    Column {
        key: "rejected_clients",
        head: "rejected",
        means: "clients that were rejected",
        value: |of| json!(of.rejected()),
        words: |of| words::count(of.rejected()),
        is_bad: |_| false,
    },
    Column {
        key: "held_up_p99_seconds",
        head: "held up p99",
        means: "99 of 100 times that a client was held up, it was for no longer than this",
        value: |of| json!(of.held_up_p99.as_secs_f64()),
        words: |of| words::time(of.held_up_p99),
        is_bad: |_| false,
    },
    Column {
        key: "recovery_seconds",
        head: "recovery",
        means: "from the end of the last stall until nobody waited and the buffer was all but empty",
        value: |of| match of.recovery {
            Recovery::After(time) => json!(time.as_secs_f64()),
            Recovery::NotAsked | Recovery::Never => Value::Null,
        },
        words: |of| words::recovery(of.recovery),
        is_bad: |of| of.recovery == Recovery::Never,
    },
    Column {
        key: "ledger_closes",
        head: "ledger",
        means: "whether every message is accounted for",
        value: |of| match of.ledger {
            Ledger::None => Value::Null,
            Ledger::Closes => json!(true),
            Ledger::Open => json!(false),
        },
        words: |of| {
            let said = match of.ledger {
                Ledger::None => "none",
                Ledger::Closes => "closes",
                Ledger::Open => "open",
            };
            said.to_owned()
        },
        is_bad: |of| of.ledger == Ledger::Open,
    },
];
