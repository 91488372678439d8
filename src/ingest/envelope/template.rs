//! A text with fields.

use std::fmt;
use std::str::FromStr;

use super::json::{MAX_NUMBER, MAX_PEER_TEXT};
use super::time::{self, Rfc3339};
use crate::ingest::batch::Batch;
use crate::server::MAX_PEER_NAME;

/// A text in which fields stand in braces: `{message}`, `{peer}`, `{listener}`, `{name}`,
/// `{connection}` and `{received}`, as in [`Envelope::Json`](super::Envelope::Json); `{{` and `}}`
/// stand for the braces themselves. A `{name}` that a peer does not have is empty. Nothing is
/// escaped: a message stands there as it came.
///
/// ```
/// use drainline::ingest::Template;
///
/// let template: Template = "{received} {peer} {message}".parse()?;
/// let error = "{massage}".parse::<Template>().unwrap_err();
/// assert_eq!(error.to_string(), "there is no field {massage}: {message} is the nearest");
/// # Ok::<(), drainline::ingest::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Message,
    Peer,
    Listener,
    Name,
    Connection,
    Received,
}

impl Field {
    const ALL: [(&str, Field); 6] = [
        ("message", Field::Message),
        ("peer", Field::Peer),
        ("listener", Field::Listener),
        ("name", Field::Name),
        ("connection", Field::Connection),
        ("received", Field::Received),
    ];
}

/// Why a text is no [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Template, TemplateError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, behind) = rest[at..].split_at(1);
            if behind.starts_with(brace) {
                literal.push_str(brace);
                rest = &behind[1..];
                continue;
            }
            let end = behind.find('}').filter(|_| brace == "{");
            let Some(end) = end else {
                let why =
                    format!("a {brace} without its counterpart: {brace}{brace} stands for one");
                return Err(TemplateError(why));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(field(&behind[..end])?));
            rest = &behind[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Template { parts })
    }
}

/// As it is parsed.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                Part::Field(field) => {
                    let all = Field::ALL.iter();
                    for (name, _) in all.filter(|(_, named)| named == field) {
                        write!(f, "{{{name}}}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn field(name: &str) -> Result<Field, TemplateError> {
    let mut all = Field::ALL.into_iter();
    if let Some((_, field)) = all.find(|(known, _)| *known == name) {
        return Ok(field);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(is_word) {
        return Err(TemplateError(format!(
            "there is no field {{{name}}}: {{{{ and }}}} stand for braces that are text"
        )));
    }
    let nearest = Field::ALL.map(|(known, _)| (distance(known, name), known));
    let nearest = nearest
        .into_iter()
        .min()
        .map_or("message", |(_, known)| known);
    Err(TemplateError(format!(
        "there is no field {{{name}}}: {{{nearest}}} is the nearest"
    )))
}

/// How many characters have to be changed, left out or put in to make one name of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (nth, &b) in b.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[nth + 1];
            row[nth + 1] = changed.min(diagonal + 1).min(row[nth] + 1);
        }
    }
    row[b.len()]
}

impl Template {
    pub(super) fn has_time(&self) -> bool {
        self.parts.contains(&Part::Field(Field::Received))
    }

    pub(super) fn max_bytes(&self, message: usize, name: usize) -> usize {
        let of_part = |part: &Part| match part {
            Part::Text(text) => 2 * text.len(),
            Part::Field(Field::Message) => message,
            Part::Field(Field::Peer) => 2 * MAX_PEER_TEXT,
            Part::Field(Field::Listener) => 2 * name,
            Part::Field(Field::Name) => 2 * MAX_PEER_NAME,
            Part::Field(Field::Connection) => 2 * MAX_NUMBER,
            Part::Field(Field::Received) => 2 * time::LEN,
        };
        let parts = self.parts.iter().map(of_part);
        parts.fold(0, usize::saturating_add)
    }

    /// What stands before, between and behind the messages of a batch.
    pub(super) fn parts(&self, batch: &Batch) -> Vec<Vec<u8>> {
        let (mut parts, mut current) = (Vec::new(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => current.extend_from_slice(text.as_bytes()),
                Part::Field(Field::Message) => parts.push(std::mem::take(&mut current)),
                Part::Field(field) => append(*field, batch, &mut current),
            }
        }
        parts.push(current);
        parts
    }
}

fn append(field: Field, batch: &Batch, to: &mut Vec<u8>) {
    match field {
        Field::Message => {}
        Field::Peer => to.extend(batch.peer().to_string().into_bytes()),
        Field::Listener => to.extend(batch.listener().as_bytes()),
        Field::Name => to.extend(batch.tls_name().unwrap_or_default().as_bytes()),
        Field::Connection => to.extend(batch.connection_id().to_string().into_bytes()),
        Field::Received => to.extend(Rfc3339(batch.received_at()).to_string().into_bytes()),
    }
}
