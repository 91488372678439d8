//! What the answer to a request means for the messages in it.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::date;
use super::dialect::{BulkAction, Dialect};
use super::items::{self, NoAnswer};
use super::place;
use crate::ingest::sink::secrets::{CUT, Secrets, marked_as_cut};

/// The longest that a `Retry-After` is obeyed.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The most that is read of an answer; one that is longer is as good as one that never ends.
const MAX_ANSWER: u64 = 16 << 20;
/// What is looked at of an answer that is not to `_bulk`.
const MAX_TEXT: u64 = 4096;
/// What is told of an answer's text.
const MAX_TOLD: usize = 200;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it was accepted.
    Accepted,
    /// Each message by itself, in order, and the first error.
    Each(Vec<Fate>, Failure),
    /// It, or a message in it, can never be accepted.
    Refused(String),
    /// So many messages were accepted and the next one is refused; the others are not looked at.
    RefusedAt(u64, String),
    /// It is too large.
    TooLarge(String),
    /// It may be accepted later.
    Again(Failure),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    Refused,
    Again,
}

/// Why something is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Somebody has to do something about it: it will not pass by itself.
    pub(super) is_lasting: bool,
    /// The server does not let us in: 401, 403.
    pub(super) is_of_login: bool,
    /// Not before so long.
    pub(super) after: Option<Duration>,
}

impl Failure {
    pub(super) fn passing(why: impl Into<String>) -> Failure {
        Failure {
            why: why.into(),
            ..Failure::default()
        }
    }
}

/// An answer as it begins.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) status: u16,
    /// The status in words.
    pub(super) reason: &'a str,
    pub(super) retry_after: Option<&'a str>,
    pub(super) location: Option<&'a str>,
    /// What is told of it has none of these.
    pub(super) secrets: &'a Secrets,
}

impl Head<'_> {
    /// A text of the answer as it may stand in a line of the log.
    fn shown(&self, text: &[u8]) -> String {
        let is_cut = text.len() as u64 >= MAX_TEXT;
        let mut text = String::from_utf8_lossy(text).into_owned();
        if is_cut {
            text = marked_as_cut(&text);
        }
        // A part of a secret would not be found, nor one that has lost a space.
        let text = self.secrets.hide(&text);
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let mut text = words.join(" ");
        if text.len() > MAX_TOLD {
            let end = (0..=MAX_TOLD).rev().find(|&at| text.is_char_boundary(at));
            text.truncate(end.unwrap_or(0));
            text.push_str(CUT);
        }
        text
    }
}

/// Judges an answer to `messages` messages. An answer that breaks off counts for nothing, whatever
/// its status.
pub(super) fn judge(dialect: &Dialect, head: &Head<'_>, body: impl Read, messages: u64) -> Verdict {
    let outcome = match (head.status, dialect) {
        (200..=299, Dialect::Bulk { action, .. }) => {
            judge_bulk(*action, head, body.take(MAX_ANSWER), messages)
        }
        (200..=299, Dialect::Splunk(_) | Dialect::SplunkRaw(_)) => {
            read_some(body).and_then(|text| judge_splunk(dialect, head, &text, messages))
        }
        (place::BLOCKED, Dialect::Loki { .. }) => {
            read_some(body).map(|text| judge_failure(dialect, head, &text, messages))
        }
        (200..=299, Dialect::Loki { .. }) => {
            read_some(body).and_then(|text| judge_loki(head, &text))
        }
        (200..=299, Dialect::NdJson) => read_some(body).map(|_| Verdict::Accepted),
        _ => read_some(body).map(|text| judge_failure(dialect, head, &text, messages)),
    };
    outcome.unwrap_or_else(|error| useless(head, &error))
}

/// Whoever answers 2xx and tells nothing of the messages may have stored them, and will say the
/// same of the next copy: there is one a minute.
fn useless(head: &Head<'_>, error: &io::Error) -> Verdict {
    let tells_nothing = NoAnswer::is(error);
    Verdict::Again(Failure {
        why: format!("{} is no use: {error}", answer_named(head)),
        is_lasting: tells_nothing,
        after: match tells_nothing {
            true => Some(MAX_RETRY_AFTER),
            false => wait_of(head),
        },
        ..Failure::default()
    })
}

fn answer_named(head: &Head<'_>) -> String {
    let named = format!("its answer ({} {})", head.status, head.reason);
    named.replace(" )", ")")
}

/// As [`judge`], of an answer that may be compressed, though nobody asked for that. What nobody can
/// read refuses nothing and accepts nothing. Each try may add documents that are there already, so
/// there is one a minute.
pub(super) fn judge_encoded(
    dialect: &Dialect,
    head: &Head<'_>,
    encoding: Option<&str>,
    mut body: impl Read,
    messages: u64,
) -> Verdict {
    // What is empty is so in any encoding, and a decoder would miss its header.
    let mut first = Vec::with_capacity(1);
    if let Err(error) = body.by_ref().take(1).read_to_end(&mut first) {
        return useless(head, &error);
    }
    let is_empty = first.is_empty();
    let body = first.as_slice().chain(body);
    let is_success = matches!(head.status, 200..=299);
    let is_read = !is_empty && (!is_success || !matches!(dialect, Dialect::NdJson));
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    match &*encoding {
        "" | "identity" => judge(dialect, head, body, messages),
        _ if !is_read => judge(dialect, head, body, messages),
        "gzip" | "x-gzip" => judge(dialect, head, MultiGzDecoder::new(body), messages),
        _ => {
            let encoding = head.shown(encoding.as_bytes());
            let why = format!(
                "{} is compressed ({encoding}), which was not asked for, and cannot be read",
                answer_named(head)
            );
            match (read_some(body), head.status) {
                (Err(error), _) => useless(head, &error),
                (_, 413) => Verdict::TooLarge(why),
                (_, status) => Verdict::Again(Failure {
                    why,
                    is_lasting: is_success || is_lasting(status),
                    is_of_login: is_of_login(status),
                    after: if is_success {
                        Some(MAX_RETRY_AFTER)
                    } else {
                        wait_of(head)
                    },
                }),
            }
        }
    }
}

/// Splunk says of each request that it was taken: `{"text":"Success","code":0}`. Whatever else
/// comes with 2xx is of another server, such as the page of a login, or of one that has not taken
/// it.
fn judge_splunk(
    dialect: &Dialect,
    head: &Head<'_>,
    text: &[u8],
    messages: u64,
) -> io::Result<Verdict> {
    match splunk(dialect, text, "code") {
        Some(0) => Ok(Verdict::Accepted),
        Some(_) => Ok(judge_failure(dialect, head, text, messages)),
        None => {
            let why = match text.trim_ascii().is_empty() {
                true => "it is empty, where Splunk tells a code".to_owned(),
                false => format!("it has no code of Splunk's: {}", head.shown(text)),
            };
            Err(NoAnswer::error(why))
        }
    }
}

/// Loki answers 204 without a word, and what stands before it perhaps in other ways, but neither
/// with a page: that is of a login.
fn judge_loki(head: &Head<'_>, text: &[u8]) -> io::Result<Verdict> {
    match place::is_page(&String::from_utf8_lossy(text)) {
        true => Err(NoAnswer::error(format!(
            "it is a page, which Loki has none of: {}",
            head.shown(text)
        ))),
        false => Ok(Verdict::Accepted),
    }
}

fn judge_bulk(
    action: BulkAction,
    head: &Head<'_>,
    body: impl Read,
    messages: u64,
) -> io::Result<Verdict> {
    let bulk = items::read(body, messages as usize, items::READ_BYTES)?;
    if bulk.statuses.is_empty() && bulk.errors == Some(false) {
        // Some that speak the protocol leave them out.
        return Ok(Verdict::Accepted);
    }
    if bulk.statuses.len() as u64 != messages {
        let found = bulk.statuses.len();
        let why = format!("it tells of {found} documents, and {messages} were sent");
        return Err(NoAnswer::error(why));
    }
    let fates: Vec<_> = bulk
        .statuses
        .iter()
        .map(|&status| fate(status, action))
        .collect();
    if fates.iter().all(|fate| *fate == Fate::Accepted) {
        return Ok(Verdict::Accepted);
    }
    let failed = bulk.statuses.iter().find(|status| **status >= 400);
    let status = match failed.copied().unwrap_or_default() {
        place::OF_THE_INDEX => 400,
        status => status,
    };
    let why = bulk.error.unwrap_or_default();
    let again = fates.iter().filter(|fate| **fate == Fate::Again).count();
    let refused = fates.iter().filter(|fate| **fate == Fate::Refused).count();
    let why = format!(
        "of {messages} documents it has refused {refused}, and {again} are sent again: {status} {}",
        head.shown(why.as_bytes())
    );
    let mut told = bulk.statuses.iter().zip(&fates);
    let is_lasting = told.any(|(&status, fate)| *fate == Fate::Again && is_lasting(status));
    let failure = Failure {
        why,
        is_lasting,
        ..Failure::default()
    };
    Ok(Verdict::Each(fates, failure))
}

fn fate(status: u16, action: BulkAction) -> Fate {
    match status {
        200..=299 => Fate::Accepted,
        // It is there.
        409 if action == BulkAction::Create => Fate::Accepted,
        400 | 409 | 413 | 422 => Fate::Refused,
        _ => Fate::Again,
    }
}

/// What is wrong with the messages is refused. What is wrong with the place, the way there or the
/// right to enter can be mended, and costs no message.
fn judge_failure(dialect: &Dialect, head: &Head<'_>, text: &[u8], messages: u64) -> Verdict {
    let is_of_the_way =
        head.status == 400 && place::is_of_the_way(dialect, &String::from_utf8_lossy(text));
    let code = splunk(dialect, text, "code");
    let at = splunk(dialect, text, "invalid-event-number");
    let text = head.shown(text);
    let mut why = format!("it answers {} {}", head.status, head.reason);
    if let Some(location) = head.location.filter(|_| head.status / 100 == 3) {
        let location = head.shown(location.as_bytes());
        why = format!("{why}, which is not followed: its place is {location}");
    }
    if !text.is_empty() {
        why = format!("{}: {text}", why.trim_end());
    }
    let mend = |why| {
        Verdict::Again(Failure {
            why,
            is_lasting: true,
            after: wait_of(head),
            ..Failure::default()
        })
    };
    let status = match (head.status, code) {
        // Splunk's code says more than these: an error of its own, no room, it is closing; its
        // messages; and all others are about an index, a channel or the login.
        (200..=299 | 400, Some(8 | 9 | 18..=20 | 23..=27)) => 503,
        (200..=299, Some(_)) => 400,
        (status, _) => status,
    };
    match (status, code) {
        (413, _) => Verdict::TooLarge(why),
        // No data, no event, a blank one, wrong fields.
        (400, Some(code)) if !matches!(code, 5 | 6 | 12 | 13 | 15) => mend(why),
        (400, _) if is_of_the_way => mend(why),
        (400, _) if at.is_some_and(|at| at < messages) => {
            Verdict::RefusedAt(at.unwrap_or_default(), why)
        }
        (400 | 422, _) => Verdict::Refused(why),
        (status, _) => Verdict::Again(Failure {
            why,
            is_lasting: is_lasting(status),
            is_of_login: is_of_login(status),
            after: wait_of(head),
        }),
    }
}

/// A number of an answer of Splunk: `{"text":"Invalid data format","code":6,
/// "invalid-event-number":1}`. The events before that one were taken, and none behind it.
fn splunk(dialect: &Dialect, text: &[u8], key: &str) -> Option<u64> {
    if !matches!(dialect, Dialect::Splunk(_) | Dialect::SplunkRaw(_)) {
        return None;
    }
    let answer: Value = serde_json::from_slice(text).ok()?;
    answer.get(key)?.as_u64()
}

/// A status that will not change unless somebody does something.
fn is_lasting(status: u16) -> bool {
    matches!(status, place::BLOCKED | 300..=499) && !matches!(status, 408 | 425 | 429)
}

fn is_of_login(status: u16) -> bool {
    matches!(status, 401 | 403)
}

fn wait_of(head: &Head<'_>) -> Option<Duration> {
    let wait = date::retry_after(head.retry_after?, SystemTime::now())?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Reads to the end, and returns the beginning.
///
/// # Errors
/// It breaks off, or ([`NoAnswer`]) is too long.
fn read_some(mut body: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    body.by_ref().take(MAX_TEXT).read_to_end(&mut text)?;
    let rest = io::copy(&mut body.take(MAX_ANSWER), &mut io::sink())?;
    match rest < MAX_ANSWER {
        true => Ok(text),
        false => Err(NoAnswer::error("it has more than 16 MiB")),
    }
}
