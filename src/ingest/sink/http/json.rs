//! Texts as strings of JSON, and what is JSON already.

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// Bytes that are looked at together: the compiler makes a few vector instructions of it.
const STEP: usize = 16;

/// How many bytes at the beginning of a text may stand in a string as they are.
pub(super) fn plain_length(text: &[u8]) -> usize {
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without the branches that `any` would have.
    let is_plain = |step: &&[u8]| !step.iter().fold(false, |any, &byte| any | is_special(byte));
    let whole = STEP * text.chunks_exact(STEP).take_while(is_plain).count();
    let rest = text[whole..].iter();
    whole + rest.take_while(|&&byte| !is_special(byte)).count()
}

/// A byte that may not stand in a string as it is.
pub(super) fn escape(byte: u8) -> Cow<'static, str> {
    Cow::Borrowed(match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        byte => return Cow::Owned(format!("\\u{byte:04x}")),
    })
}

/// Adds a text as a string.
pub(super) fn push_string(to: &mut String, text: &str) {
    to.push('"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_length(rest.as_bytes()));
        to.push_str(plain);
        let Some(&byte) = special.as_bytes().first() else {
            break;
        };
        to.push_str(&escape(byte));
        rest = &special[1..];
    }
    to.push('"');
}

/// Whether a message is one whole object.
pub(super) fn is_object(message: &[u8]) -> bool {
    parsed::<IgnoredAny>(message).is_some()
}

/// Whether a message that is one whole object has a member `@timestamp` of its own.
pub(super) fn has_time(message: &[u8]) -> Option<bool> {
    parsed(message).map(|Members { has_time }| has_time)
}

fn parsed<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Option<T> {
    let trimmed = message.trim_ascii();
    if !(trimmed.starts_with(b"{") && trimmed.ends_with(b"}")) {
        return None;
    }
    serde_json::from_str(str::from_utf8(trimmed).ok()?).ok()
}

/// Of an object's members, whether one is the time.
struct Members {
    has_time: bool,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut has_time = false;
                while let Some(IsTime(is_time)) = members.next_key()? {
                    has_time |= is_time;
                    members.next_value::<IgnoredAny>()?;
                }
                Ok(Members { has_time })
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// Whether a member's name, without its escapes, is `@timestamp`.
struct IsTime(bool);

impl<'de> Deserialize<'de> for IsTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = IsTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<IsTime, E> {
                Ok(IsTime(name == "@timestamp"))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_plain_up_to_what_has_to_be_escaped() {
        for at in 0..80 {
            for special in ['"', '\\', '\0', '\n', '\x1f'] {
                let text = "\u{e4}x \u{7f}".repeat(20);
                let begin: String = text.chars().take(at).collect();
                let text = format!("{begin}{special}and\"more");
                assert_eq!(plain_length(text.as_bytes()), begin.len(), "{text:?}");
            }
        }
        let text = "\u{1f300}~!#[]".repeat(30);
        assert_eq!(plain_length(text.as_bytes()), text.len());
    }

    #[test]
    fn a_string_is_what_any_reader_of_json_reads() -> Result<(), serde_json::Error> {
        let text: String = ('\0'..='\u{100}').chain(['\u{1f300}']).collect();
        let mut string = String::new();
        push_string(&mut string, &text);
        assert_eq!(serde_json::from_str::<String>(&string)?, text);
        Ok(())
    }
}
