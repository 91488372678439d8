//! The options of HTTP that say what the server understands.

use drainline::ingest::sink::{BulkAction, Dialect, SplunkFields};

use super::kinds::{INDEX, Pairs, TEXT};
use crate::cli::flag::{Flag, field};
use crate::cli::kinds::{Choices, choice, print_choice, unset};
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
                help: "The index, or data stream, as it is: no date and no field may be in it. Without it, \
                   Elasticsearch takes what the PATH names, and Splunk what the token says.",
                takes: field!(unset(INDEX), DialectOptions.index),
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

    pub(super) fn is_of_splunk(&self) -> bool {
        matches!(self.speaks, Speaks::Splunk | Speaks::SplunkRaw)
    }

    /// What is told of a path, which is decoded and without its first slash, where it is that of
    /// another dialect.
    pub(super) fn note_of_path(&self, path: &str) -> Option<String> {
        let speaks = print_choice(SPEAKS, &self.speaks);
        let named = print_choice(SPEAKS, &dialect_of(path).filter(|it| *it != self.speaks)?);
        let judged = match self.speaks {
            Speaks::NdJson => ", by which any answer of 2xx counts as delivered",
            _ => "",
        };
        Some(format!(
            "has the path of dialect {named}, and speaks {speaks} there{judged}"
        ))
    }

    /// What is told of a path, which is decoded and without its first slash, where nothing says
    /// into which index documents go. Of a path before `_bulk` only its server knows what it is.
    pub(super) fn note_of_index(&self, path: &str) -> Option<&'static str> {
        let is_bare = matches!(path.trim_end_matches('/'), "" | "_bulk");
        let is_missing = self.speaks == Speaks::Elasticsearch && self.index.is_none() && is_bare;
        is_missing.then_some(
            "names no index, which Elasticsearch requires: index names one, or the PATH, as in \
             /INDEX/_bulk",
        )
    }

    /// Whether the row is for another dialect.
    pub(super) fn is_idle(&self, row: &str) -> bool {
        match row {
            "action" => self.speaks != Speaks::Elasticsearch,
            "labels" => self.speaks != Speaks::Loki,
            _ => false,
        }
    }

    /// An option that another dialect has.
    pub(super) fn contradiction(&self) -> Option<Contradiction> {
        let of_splunk = self.is_of_splunk();
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
        let found = found.map(|(row, _, expected)| Contradiction::new(row, expected));
        let begins_wrongly = self
            .index
            .as_ref()
            .filter(|it| of_bulk && it.starts_with('_'));
        let without_underscore = || Contradiction::new("index", "no _ at its beginning");
        found.or_else(|| begins_wrongly.map(|_| without_underscore()))
    }
}

/// The dialect whose servers have such a path, also behind a prefix.
fn dialect_of(path: &str) -> Option<Speaks> {
    let path = path.trim_end_matches('/').trim_end_matches("/1.0");
    let ends_with = |end: &str| {
        let before = path.strip_suffix(end);
        before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
    };
    let known = [
        ("_bulk", Speaks::Elasticsearch),
        ("loki/api/v1/push", Speaks::Loki),
        ("services/collector", Speaks::Splunk),
        ("services/collector/event", Speaks::Splunk),
        ("services/collector/raw", Speaks::SplunkRaw),
    ];
    let mut found = known.into_iter().filter(|(end, _)| ends_with(end));
    found.next().map(|(_, speaks)| speaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_dialect_of_its_server() {
        for (path, speaks) in [
            ("_bulk", Some(Speaks::Elasticsearch)),
            ("logs/_bulk", Some(Speaks::Elasticsearch)),
            ("insert/elasticsearch/_bulk/", Some(Speaks::Elasticsearch)),
            ("loki/api/v1/push", Some(Speaks::Loki)),
            ("insert/loki/api/v1/push", Some(Speaks::Loki)),
            ("services/collector", Some(Speaks::Splunk)),
            ("services/collector/event/1.0", Some(Speaks::Splunk)),
            ("services/collector/raw/1.0", Some(Speaks::SplunkRaw)),
            ("", None),
            ("my_bulk", None),
            ("_bulk/x", None),
            ("insert/jsonline", None),
            ("services/collectors", None),
        ] {
            assert_eq!(dialect_of(path), speaks, "{path}");
            for (_, spoken) in SPEAKS {
                let options = DialectOptions {
                    speaks: *spoken,
                    ..DialectOptions::default()
                };
                let is_other = speaks.is_some_and(|speaks| speaks != *spoken);
                assert_eq!(options.note_of_path(path).is_some(), is_other, "{path}");
            }
        }
    }
}
