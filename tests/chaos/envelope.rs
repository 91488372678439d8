//! What an output with `envelope = "json"` writes, opened again.

use serde_json::Value;

use super::script::SECOND;

/// The message, and which listener it came to.
pub fn open(text: &[u8]) -> Result<(Vec<u8>, usize), &'static str> {
    let object: Value = serde_json::from_slice(text).map_err(|_| "no object of JSON")?;
    let listener = object["listener"].as_str().ok_or("no listener")?;
    let listener = usize::from(listener == SECOND);
    let message = match (&object["message"], &object["message_base64"]) {
        (Value::String(text), Value::Null) => text.clone().into_bytes(),
        (Value::Null, Value::String(text)) => base64(text).ok_or("no base64")?,
        _ => return Err("no message, or two"),
    };
    Ok((message, listener))
}

/// The message of a document that was made for it; `None` if bytes of it that are no text are gone.
pub fn document(text: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let object: Value = serde_json::from_slice(text).map_err(|_| "no object of JSON")?;
    if !object["@timestamp"].is_string() {
        return Err("no time");
    }
    let message = object["message"].as_str().ok_or("no message")?;
    let is_whole = !message.contains(char::REPLACEMENT_CHARACTER);
    Ok(is_whole.then(|| message.as_bytes().to_vec()))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        let digits = group[..group.len() - padding].iter();
        let mut value = 0;
        for digit in digits {
            let digit = DIGITS.iter().position(|it| it == digit)?;
            value = value << 6 | digit as u32;
        }
        value <<= 6 * padding;
        let three = value.to_be_bytes();
        bytes.extend_from_slice(three.get(1..4 - padding)?);
    }
    Some(bytes)
}
