//! Each public item has the one path under which the documentation shows it.

#[allow(unused_imports)]
use drainline::ingest::framing::{Decoder, End, Event, Take};
#[allow(unused_imports)]
use drainline::ingest::sink::{Backoff, FdWriter, File, Null, Stdout};
#[allow(unused_imports)]
use drainline::ingest::{
    Batch, Batches, DEFAULT_MAX_MESSAGE, Envelope, Framing, Ingest, IngestBuilder,
    MAX_MESSAGE_RANGE, Messages, Notifier, Output, OutputFraming, Oversize, ReadMessages,
    Resources, Seen, Sink, SinkError, Template, TemplateError, Violation, message_overhead_bytes,
    messages_bytes,
};
#[allow(unused_imports)]
use drainline::{
    Activity, BoxError, Builder, Bytes, Config, ConfigError, Connection, ConnectionInfo,
    ConsumerInfo, Contradiction, Counters, Delivery, Discard, DropReason, EndReason, Ended, Fatal,
    FirstByteTimeout, IpNet, Keepalive, Level, LimitError, Listener, Logger, Malloc, MallocSetting,
    NotAccepting, NotAcceptingReason, OnOverload, OutputRow, OutputStats, OverloadLevel,
    PauseAfter, Reason, Received, Receiver, RejectReason, Reply, Report, RequestError,
    ResourceLimits, SendError, Sender, Server, ServerError, SinkCounts, Spans, StartError, Stats,
    ThreadBody, TooHeavy, TrySendError, Weigh, Weight, WhenFull, Writer, heap_bytes, ranges,
};

#[test]
fn choices_are_listed_and_named() {
    let named = [
        Framing::ALL
            .iter()
            .map(|one| one.name())
            .collect::<Vec<_>>(),
        OutputFraming::ALL.iter().map(|one| one.name()).collect(),
        Oversize::ALL.iter().map(|one| one.name()).collect(),
        WhenFull::ALL.iter().map(|one| one.name()).collect(),
        OnOverload::ALL.iter().map(|one| one.name()).collect(),
    ];
    let expected = [
        "lines nul octet-counted syslog length-prefixed",
        "lines nul octet-counted length-prefixed",
        "truncate drop close",
        "abort drop block",
        "backlog close refuse",
    ];
    assert_eq!(named.map(|names| names.join(" ")), expected);
}
