//! What kinds of receivers there are: what a body looks like, and where it is sent.

/// How messages are put into the body of a request, and how its answer is judged.
///
/// Where a message becomes a string of JSON, what is not UTF-8 in it is replaced by U+FFFD. Where
/// each message is a line, a line feed inside a message becomes a space: in JSON it can only stand
/// between two tokens, and anywhere else it would make two lines of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// Each message is a line (`application/x-ndjson`), as it is. An answer of 2xx accepts all.
    NdJson,
    /// `_bulk` of Elasticsearch, OpenSearch and what speaks like them. A message that is an object
    /// of JSON is a document; any other becomes `{"@timestamp":"...","message":"..."}`, with the
    /// time at which it was received. With [`BulkAction::Create`], an object without a member
    /// `@timestamp` gets that time as its first one. The answer tells of each document by itself:
    /// one that was answered with 429 or 5xx is sent again alone, one with 400 is refused.
    Bulk {
        /// Where documents go; without it, where the URL's path says.
        index: Option<String>,
        /// Whether a document may replace one that is there.
        action: BulkAction,
    },
    /// The push API of Loki, in JSON: each message is a line of a stream with these labels, in the
    /// order given, at the time at which it was received. The nanoseconds below a millisecond count
    /// messages up: two equal lines of one moment are two entries, and a line that is sent again is
    /// none, since Loki keeps one of two that are equal in everything. An answer of 2xx accepts all
    /// unless it is a page of HTML.
    Loki {
        /// Names and values; a value is a text, or one of `{listener}`, `{host}` (the peer's
        /// address without its port, or its user at a Unix socket) and `{name}` (what the peer's
        /// certificate calls it).
        labels: Vec<(String, String)>,
    },
    /// The HTTP Event Collector of Splunk: each message is an event, an object if it is one of
    /// JSON, otherwise a string, with the time at which it was received. A blank message becomes
    /// `{"message":""}`: a blank string is an error to Splunk, of the whole request. An answer of
    /// 2xx accepts all if its `code` is 0.
    Splunk(SplunkFields),
    /// The raw endpoint of the HTTP Event Collector: each message is a line.
    SplunkRaw(SplunkFields),
}

/// What `_bulk` does with a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BulkAction {
    /// `create`, which data streams require, as they require a time. A document that exists already
    /// (409) was accepted.
    #[default]
    Create,
    /// `index`.
    Index,
}

/// What Splunk is told beside a message; what is `None` is what the token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplunkFields {
    /// The index.
    pub index: Option<String>,
    /// The source. An event without one has the name of its listener.
    pub source: Option<String>,
    /// The source type.
    pub sourcetype: Option<String>,
    /// The host. An event without one has the address of its peer.
    pub host: Option<String>,
}

impl BulkAction {
    pub(super) fn name(self) -> &'static str {
        match self {
            BulkAction::Create => "create",
            BulkAction::Index => "index",
        }
    }
}

impl Dialect {
    /// What a URL without a path means.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Dialect::NdJson => "/",
            Dialect::Bulk { .. } => "/_bulk",
            Dialect::Loki { .. } => "/loki/api/v1/push",
            Dialect::Splunk(_) => "/services/collector/event",
            Dialect::SplunkRaw(_) => "/services/collector/raw",
        }
    }

    /// What is added to the query. Of an answer to `_bulk`, what is looked at is a small part.
    pub(super) fn query(&self) -> String {
        match self {
            Dialect::Bulk { action, .. } => {
                let action = action.name();
                format!(
                    "filter_path=errors,items.{action}.status,items.{action}.error.type,items.{action}.error.reason"
                )
            }
            Dialect::SplunkRaw(fields) => {
                let pairs = fields.pairs().into_iter();
                let pairs: Vec<_> = pairs
                    .filter_map(|(name, value)| Some(format!("{name}={}", escape(value?))))
                    .collect();
                pairs.join("&")
            }
            Dialect::NdJson | Dialect::Loki { .. } | Dialect::Splunk(_) => String::new(),
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Dialect::NdJson | Dialect::Bulk { .. } => "application/x-ndjson",
            Dialect::Loki { .. } | Dialect::Splunk(_) => "application/json",
            Dialect::SplunkRaw(_) => "text/plain",
        }
    }

    /// What stands before a token.
    pub(super) fn token_scheme(&self) -> &'static str {
        match self {
            Dialect::Splunk(_) | Dialect::SplunkRaw(_) => "Splunk",
            Dialect::NdJson | Dialect::Bulk { .. } | Dialect::Loki { .. } => "Bearer",
        }
    }

    /// Says what is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Dialect::Bulk {
                index: Some(index), ..
            } => check_index(index),
            Dialect::Loki { labels } => {
                if labels.is_empty() {
                    return Err("Loki needs one label at least".to_owned());
                }
                labels
                    .iter()
                    .try_for_each(|(name, value)| check_label(name, value))
            }
            _ => Ok(()),
        }
    }
}

impl SplunkFields {
    pub(super) fn pairs(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("index", self.index.as_deref()),
            ("source", self.source.as_deref()),
            ("sourcetype", self.sourcetype.as_deref()),
            ("host", self.host.as_deref()),
        ]
    }
}

/// As Elasticsearch and OpenSearch name indices.
fn check_index(index: &str) -> Result<(), String> {
    let is_allowed =
        |c: char| !c.is_uppercase() && !c.is_control() && !r#"\/*?"<>| ,#:"#.contains(c);
    let is_index = (1..=255).contains(&index.len())
        && !index.starts_with(['-', '_', '+'])
        && !matches!(index, "." | "..")
        && index.chars().all(is_allowed);
    match is_index {
        true => Ok(()),
        false => Err(format!(
            "{index:?} is no name of an index: lower case, no spaces, none of \\ / * ? \" < > | , # \
             :, 255 bytes at most, and not beginning with -, _ or +"
        )),
    }
}

fn check_label(name: &str, value: &str) -> Result<(), String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name =
        name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit());
    if !is_name {
        return Err(format!(
            "{name:?} is no name of a label: letters, digits and _, and no digit first"
        ));
    }
    let is_field = matches!(value, "{listener}" | "{host}" | "{name}");
    if value.is_empty() || (value.contains(['{', '}']) && !is_field) {
        return Err(format!(
            "{value:?} is no value of a label: a text without braces, or {{listener}}, {{host}} or \
             {{name}}"
        ));
    }
    Ok(())
}

/// A text in a query.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
