//! A value of a configuration file in the words of a flag.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::origin::{Named, Origin};
use crate::cli::document::{Document, Unquoted};
use crate::cli::flag::{Flag, Setting};
use crate::cli::hidden::{self, HIDDEN};
use crate::cli::kinds::InFile;
use crate::cli::usage::UsageError;

/// A longer value is told by its type.
const MAX_WRITTEN: usize = 40;

/// A value in the words of a flag.
pub(super) struct Words {
    pub(super) text: String,
    /// It was written without quotes.
    pub(super) is_number: bool,
    begins: usize,
    /// Where each value of a list begins.
    places: HashMap<String, usize>,
}

impl Words {
    /// Where a part of the value begins, or else the value.
    pub(super) fn place_of(&self, part: Option<&str>) -> usize {
        let place = part.and_then(|part| self.places.get(part));
        place.copied().unwrap_or(self.begins)
    }
}

/// A value of a type that the setting does not take.
pub(super) struct WrongType {
    /// Where it begins.
    pub(super) at: usize,
    /// As it is written, or what it is if that is long.
    pub(super) written: String,
    /// How it would be written.
    pub(super) hint: &'static str,
}

/// A value as a flag would have it.
pub(super) fn read<S>(
    document: &Document,
    setting: &dyn Setting<S>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Words, WrongType> {
    let mut words = Words {
        text: String::new(),
        is_number: false,
        begins: value.span().start,
        places: HashMap::new(),
    };
    match value.get_ref() {
        DeValue::Array(values) if setting.is_list() => {
            let mut texts = Vec::new();
            for value in values.iter() {
                let text = word(document, setting, value)?;
                for part in text.split(setting.separator()) {
                    let place = words.places.entry(part.trim().to_owned());
                    place.or_insert(value.span().start);
                }
                texts.push(setting.entry(text));
            }
            words.text = texts.join(setting.separator());
        }
        _ => {
            words.text = word(document, setting, value)?;
            words.is_number = matches!(value.get_ref(), DeValue::Integer(_));
        }
    }
    Ok(words)
}

/// A single value as a flag would have it.
fn word<S>(
    document: &Document,
    setting: &dyn Setting<S>,
    value: &Spanned<DeValue<'_>>,
) -> Result<String, WrongType> {
    let wrong = |hint| {
        let written = document.slice(value.span());
        let is_short = written.len() <= MAX_WRITTEN && !written.contains('\n');
        Err(WrongType {
            at: value.span().start,
            written: match (value.get_ref(), is_short) {
                _ if setting.is_secret() => HIDDEN.to_owned(),
                (DeValue::Table(_), _) => "{...}".to_owned(),
                (DeValue::Array(_), false) => "[...]".to_owned(),
                (_, false) => format!("of type {}", value.get_ref().type_str()),
                (_, true) => written.to_owned(),
            },
            hint,
        })
    };
    let in_quotes = ", in quotes";
    match (value.get_ref(), setting.in_file()) {
        (DeValue::String(text), InFile::Number) if text.parse::<i128>().is_ok() => {
            wrong(", the number without quotes")
        }
        (DeValue::String(text), InFile::Bool) if text.parse::<bool>().is_ok() => {
            wrong(", without quotes")
        }
        (DeValue::String(text), _) => Ok(text.clone().into_owned()),
        (DeValue::Boolean(value), InFile::Bool) => Ok(value.to_string()),
        (DeValue::Integer(number), InFile::Number | InFile::Either) => Ok(decimal(number)),
        (_, InFile::Text) => wrong(in_quotes),
        (DeValue::Float(_) | DeValue::Datetime(_), InFile::Either) => wrong(in_quotes),
        (DeValue::Boolean(_), _) => wrong(", a word in quotes"),
        _ => wrong(""),
    }
}

/// What is wrong with a value that is no TOML, if there is a row of its key.
pub(super) fn without_quotes<S: Default>(
    document: &Document,
    rows: &[Flag<S>],
    unquoted: &Unquoted<'_>,
) -> Option<UsageError> {
    let row = rows.iter().find(|row| row.key() == unquoted.key)?;
    let setting = row.value()?;
    let is_number = unquoted.value.bytes().all(|byte| byte.is_ascii_digit());
    let hint = match (setting.in_file(), is_number) {
        (InFile::Text, _) => ", in quotes",
        (InFile::Bool, _) => "",
        (_, true) => ", without leading zeros",
        (InFile::Either, false) => ", in quotes unless it is a number",
        (InFile::Number, false) => ", a word in quotes",
    };
    let origin = Origin::File(document.place(unquoted.begins));
    let expected = setting.expected() + hint;
    let named = Named::new(row, Some(&origin));
    let value = match setting.is_secret() {
        true => HIDDEN,
        false => &hidden::of_url(unquoted.value),
    };
    Some(match value.len() <= MAX_WRITTEN {
        true => named.invalid_as_written(value, value, &expected),
        false => named.invalid_as_written(value, "without quotes", &expected),
    })
}

/// A whole number, which TOML also writes as `0x10` and `1_000`.
fn decimal(number: &DeInteger<'_>) -> String {
    let value = i128::from_str_radix(number.as_str(), number.radix());
    value.map_or_else(|_| number.to_string(), |value| value.to_string())
}
