//! What an output writes for each message.

use drainline::ingest::{Envelope, Template, TemplateError};

#[cfg(test)]
use crate::cli::kinds::cases;
use crate::cli::kinds::{Kind, NotAccepted};

/// An envelope, and how it was written.
#[derive(Clone, Debug)]
pub(super) struct EnvelopeText {
    text: String,
    pub(super) envelope: Envelope,
}

impl Default for EnvelopeText {
    fn default() -> Self {
        EnvelopeText {
            text: "raw".to_owned(),
            envelope: Envelope::Raw,
        }
    }
}

/// `raw`, `json`, or a text with fields.
pub(super) struct EnvelopeKind;

impl Kind for EnvelopeKind {
    type Value = EnvelopeText;

    fn read(&self, typed: &str) -> Result<EnvelopeText, NotAccepted> {
        let envelope = match typed {
            "raw" => Envelope::Raw,
            "json" => Envelope::Json,
            text if text.contains(['{', '}']) => {
                let template = text.parse::<Template>();
                let because = |error: TemplateError| NotAccepted::because(error.to_string());
                Envelope::Template(template.map_err(because)?)
            }
            _ => return Err(NotAccepted::default()),
        };
        let text = typed.to_owned();
        Ok(EnvelopeText { text, envelope })
    }

    fn print(&self, value: &EnvelopeText) -> Option<String> {
        Some(value.text.clone())
    }

    fn expected(&self) -> String {
        "raw, json, or a text with fields such as {received} {message}".to_owned()
    }

    fn placeholder(&self) -> String {
        "raw|json|TEXT".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &["raw", "json", "{message}", "{received} {{ {peer} {message}"],
            &["RAW", "message", "{massage}", "{message"],
        )
    }
}
