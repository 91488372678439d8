//! Which answers of 400 are about the place, which somebody can mend, and not about a message,
//! which nobody can.
//!
//! What a message says may stand in an answer, and a message must not be able to hold up all
//! others: so texts are looked for where a server that quotes a message cannot have them.

use super::dialect::Dialect;

/// The status of a document whose 400 is about its index. HTTP has none of this number.
pub(super) const OF_THE_INDEX: u16 = 499;

/// What Loki answers where somebody has blocked what comes in (`block_ingestion_until`): a status
/// of success, so that others do not send it again, though it has stored nothing.
pub(super) const BLOCKED: u16 = 260;

/// Whether an error of a document, `type: reason`, is one that all documents for its index meet: no
/// room for another index, an index that is closed, a pipeline that is not there.
pub(super) fn is_of_the_index(error: &str) -> bool {
    const KINDS: [&str; 2] = ["validation_exception: ", "index_closed_exception: "];
    const REASONS: [&str; 4] = [
        "pipeline with id [",
        "only write ops with an op_type of create are allowed in data streams",
        "no write index is defined for alias [",
        "number of documents in the index cannot exceed",
    ];
    let reason = error.strip_prefix("illegal_argument_exception: ");
    KINDS.iter().any(|kind| error.starts_with(kind))
        || reason.is_some_and(|reason| REASONS.iter().any(|known| reason.starts_with(known)))
}

/// Whether an answer is a page of HTML, and no JSON or plain words.
pub(super) fn is_page(text: &str) -> bool {
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    text.trim_start_matches(is_blank).starts_with('<')
}

/// Whether an answer of 400 is that of a server before the one that reads messages, or is said of
/// the request's URL.
pub(super) fn is_of_the_way(dialect: &Dialect, text: &str) -> bool {
    // nginx: http:// to a port of TLS, a client certificate, a header.
    const TITLES: [&str; 4] = [
        "<title>400 The plain HTTP request was sent to HTTPS port</title>",
        "<title>400 No required SSL certificate was sent</title>",
        "<title>400 The SSL certificate error</title>",
        "<title>400 Request Header Or Cookie Too Large</title>",
    ];
    // The same of Go and of Tomcat.
    const BEGINNINGS: [&str; 2] = [
        "Client sent an HTTP request to an HTTPS server",
        "Bad Request\r\nThis combination of host and port requires TLS",
    ];
    const APACHE: &str = "speaking plain HTTP to an SSL-enabled server port.<br />";
    let text = text.trim_start();
    let is_page = is_page(text);
    let is_told_in_page = text.contains(APACHE) || TITLES.iter().any(|title| text.contains(title));
    if is_page && is_told_in_page || BEGINNINGS.iter().any(|known| text.starts_with(known)) {
        return true;
    }
    match dialect {
        Dialect::NdJson => false,
        Dialect::Bulk { .. } if !is_page => {
            let is_unknown = has_string(text, "request [/")
                && text.contains("] contains unrecognized parameter: [");
            is_unknown || has_string(text, "Validation Failed: 1: index is missing;")
        }
        // These answer in JSON or in plain words, never with a page.
        Dialect::Loki { .. } => is_page || is_of_the_labels(text),
        Dialect::Bulk { .. } | Dialect::Splunk(_) | Dialect::SplunkRaw(_) => is_page,
    }
}

/// Whether Loki says of a stream, whose labels it quotes before, that it has more of them than it
/// allows, or none: all streams have the same ones.
fn is_of_the_labels(text: &str) -> bool {
    let text = text.trim_end();
    let (_, told) = text.rsplit_once("' has ").unwrap_or_default();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let limit = told.split_once(" label names; limit ");
    limit.is_some_and(|(labels, limit)| is_number(labels) && is_number(limit))
        || text.ends_with("error at least one label pair is required per stream")
}

/// Whether a string of an object of JSON begins so; one inside another string has a backslash
/// before its quotation mark.
fn has_string(json: &str, beginning: &str) -> bool {
    let quoted = format!("\"{beginning}");
    let mut places = json.match_indices(&quoted);
    json.starts_with('{') && places.any(|(at, _)| !json[..at].ends_with('\\'))
}
