//! The options of HTTP that say what the server understands.

use drainline::ingest::sink::{BulkAction, Dialect, SplunkFields};

use super::kinds::{Pairs, TEXT};
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Choices, choice, unset};
use crate::cli::outputs::option::{Contradiction, GROUP};

/// The word of a dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speaks {
    #[default]
    NdJson,
    Elasticsearch,
    Loki,
    Splunk,
    SplunkRaw,
}

const SPEAKS: Choices<Speaks> = &[
    ("ndjson", Speaks::NdJson),
    ("elasticsearch", Speaks::Elasticsearch),
    ("loki", Speaks::Loki),
    ("splunk", Speaks::Splunk),
    ("splunk-raw", Speaks::SplunkRaw),
];

const ACTIONS: Choices<BulkAction> =
    &[("create", BulkAction::Create), ("index", BulkAction::Index)];

/// The dialect, and what it may be told.
#[derive(Clone, Debug)]
pub(super) struct DialectOptions {
    speaks: Speaks,
    index: Option<String>,
    action: BulkAction,
    labels: Vec<(String, String)>,
    source: Option<String>,
    sourcetype: Option<String>,
    event_host: Option<String>,
}

impl Default for DialectOptions {
    fn default() -> Self {
        DialectOptions {
            speaks: Speaks::default(),
            index: None,
            action: BulkAction::default(),
            labels: vec![("job".to_owned(), "drainline".to_owned())],
            source: None,
            sourcetype: None,
            event_host: None,
        }
    }
}

impl DialectOptions {
    pub(super) fn rows() -> Vec<Flag<DialectOptions>> {
        vec![
            Flag {
                name: "dialect",
                group: GROUP,
                purpose: "what the server understands",
                help: "ndjson: each message is a line of the body. elasticsearch: _bulk, also of OpenSearch; \
                   a message that is an object of JSON is a document, any other becomes one, with \
                   @timestamp and message. loki: its push API, in JSON. splunk: the event \
                   collector. splunk-raw: its raw endpoint, a line for each message.",
                takes: field!(choice(SPEAKS), DialectOptions.speaks),
            },
            Flag {
                name: "index",
                group: GROUP,
                purpose: "where documents or events go",
                help: "The index, or data stream. Without it, Elasticsearch takes what the PATH names, and \
                   Splunk what the token says.",
                takes: field!(unset(TEXT), DialectOptions.index),
            },
            Flag {
                name: "action",
                group: GROUP,
                purpose: "what _bulk does with a document",
                help: "create, which data streams require, or index. With create, an object of JSON \
                   without @timestamp gets the time at which it was received, since data streams \
                   require that, too.",
                takes: field!(choice(ACTIONS), DialectOptions.action),
            },
            Flag {
                name: "labels",
                group: GROUP,
                purpose: "labels of a stream of Loki",
                help: "Labels as NAME=VALUE, with commas between, and \\, for a comma. A value may be {listener}, {host} (the \
                   peer's address) or {name} (what the peer's certificate calls it): each of theirs is a \
                   stream of its own.",
                takes: field!(
                    Pairs {
                        sign: '=',
                        example: "job=drainline"
                    },
                    DialectOptions.labels
                ),
            },
            Flag {
                name: "source",
                group: GROUP,
                purpose: "source of an event of Splunk",
                help: "Without it, that is the name of the listener, or what the token says for splunk-raw.",
                takes: field!(unset(TEXT), DialectOptions.source),
            },
            Flag {
                name: "sourcetype",
                group: GROUP,
                purpose: "source type of an event of Splunk",
                help: "Without it, what the token says.",
                takes: field!(unset(TEXT), DialectOptions.sourcetype),
            },
            Flag {
                name: "event-host",
                group: GROUP,
                purpose: "host of an event of Splunk",
                help: "Without it, that is the address of the peer, or what the token says for splunk-raw.",
                takes: field!(unset(TEXT), DialectOptions.event_host),
            },
        ]
    }

    /// What the library takes.
    pub(super) fn dialect(&self) -> Dialect {
        let fields = || SplunkFields {
            index: self.index.clone(),
            source: self.source.clone(),
            sourcetype: self.sourcetype.clone(),
            host: self.event_host.clone(),
        };
        match self.speaks {
            Speaks::NdJson => Dialect::NdJson,
            Speaks::Elasticsearch => Dialect::Bulk {
                index: self.index.clone(),
                action: self.action,
            },
            Speaks::Loki => Dialect::Loki {
                labels: self.labels.clone(),
            },
            Speaks::Splunk => Dialect::Splunk(fields()),
            Speaks::SplunkRaw => Dialect::SplunkRaw(fields()),
        }
    }

    /// An option that another dialect has.
    pub(super) fn contradiction(&self) -> Option<Contradiction> {
        let of_splunk = matches!(self.speaks, Speaks::Splunk | Speaks::SplunkRaw);
        let of_bulk = self.speaks == Speaks::Elasticsearch;
        let is_labelled = self.labels != DialectOptions::default().labels;
        let rows = [
            (
                "index",
                self.index.is_some() && !of_bulk && !of_splunk,
                "dialect elasticsearch, splunk or splunk-raw",
            ),
            (
                "action",
                self.action != BulkAction::Create && !of_bulk,
                "dialect elasticsearch",
            ),
            (
                "labels",
                is_labelled && self.speaks != Speaks::Loki,
                "dialect loki",
            ),
            (
                "source",
                self.source.is_some() && !of_splunk,
                "dialect splunk or splunk-raw",
            ),
            (
                "sourcetype",
                self.sourcetype.is_some() && !of_splunk,
                "dialect splunk or splunk-raw",
            ),
            (
                "event-host",
                self.event_host.is_some() && !of_splunk,
                "dialect splunk or splunk-raw",
            ),
        ];
        let found = rows.into_iter().find(|(_, is_wrong, _)| *is_wrong);
        found.map(|(row, _, expected)| Contradiction::new(row, expected))
    }
}
