//! What a configuration file sets, by the rows of the flags: each key is a flag's name with
//! underscores.

use std::collections::HashMap;
use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::Settings;
use super::flags;
use super::listeners::{self, ListenerSettings};
use super::origin::{Named, Origin, Origins};
use crate::cli::document::Document;
use crate::cli::flag::{Flag, Setting};
use crate::cli::kinds::InFile;
use crate::cli::usage::UsageError;

/// The table of a listener, of which there may be several.
const LISTENER: &str = "listener";
/// The table of the output.
const OUTPUT: &str = "output";
/// The rows that the table of the output may have instead of the file's first lines.
pub(super) const OF_OUTPUT: [&str; 3] = ["sink", "output-framing", "terminal-escape"];

/// How like a key a word has to be to be taken for it.
const SIMILAR: f64 = 0.8;

/// Whether a flag is a key of the file: one with a value, but not the file's own name.
pub(super) fn has_key(flag: &Flag<Settings>) -> bool {
    flag.is_flag() && flag.value().is_some() && flag.name != super::CONFIG
}

/// Sets what a file says.
///
/// # Errors
/// The first thing in the file that is wrong, with its place: exit code 78.
pub(super) fn apply(document: &Document, settings: &mut Settings) -> Result<(), UsageError> {
    let root = document.parse()?;
    let flags: Vec<Flag<Settings>> = flags().into_iter().filter(has_key).collect();
    let rows: Vec<&Flag<Settings>> = flags.iter().collect();
    let mut origins = Origins::default();
    let (mut listeners, mut outputs) = (Vec::new(), Vec::new());
    for (key, value) in in_order(&root) {
        match &**key.get_ref() {
            LISTENER => listeners = tables(document, key, value)?,
            OUTPUT => outputs = tables(document, key, value)?,
            _ => Scope::ROOT.set(document, &rows, key, value, settings, &mut origins)?,
        }
    }
    for (begins, table) in listeners {
        settings.listeners.push(listener(document, begins, table)?);
    }
    if let Some((begins, _)) = outputs.get(1) {
        return Err(document.wrong(*begins, "expected one [[output]]"));
    }
    let mut of_output = rows;
    of_output.retain(|row| OF_OUTPUT.contains(&row.name));
    for (_, table) in outputs {
        for (key, value) in in_order(table) {
            Scope::OUTPUT.set(document, &of_output, key, value, settings, &mut origins)?;
        }
    }
    settings.given = origins;
    Ok(())
}

fn listener(
    document: &Document,
    begins: usize,
    table: &DeTable<'_>,
) -> Result<ListenerSettings, UsageError> {
    let rows = listeners::rows();
    let rows: Vec<&Flag<ListenerSettings>> = rows.iter().collect();
    let mut listener = ListenerSettings::default();
    listener.table = Some(document.place(begins));
    let mut origins = Origins::default();
    for (key, value) in in_order(table) {
        Scope::LISTENER.set(document, &rows, key, value, &mut listener, &mut origins)?;
    }
    if origins.origin(listeners::ADDRESS).is_none() {
        return Err(document.wrong(begins, "expected an address in every [[listener]]"));
    }
    listener.given = origins;
    Ok(listener)
}

/// A table of keys that are rows.
struct Scope {
    /// As an error says it: empty, or ` in [[listener]]`.
    within: &'static str,
}

impl Scope {
    const ROOT: Scope = Scope { within: "" };
    const LISTENER: Scope = Scope {
        within: " in [[listener]]",
    };
    const OUTPUT: Scope = Scope {
        within: " in [[output]]",
    };

    /// Sets what one key says.
    fn set<S: Default>(
        &self,
        document: &Document,
        rows: &[&Flag<S>],
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        settings: &mut S,
        origins: &mut Origins,
    ) -> Result<(), UsageError> {
        let name = &**key.get_ref();
        let Some(row) = rows.iter().find(|row| row.key() == name) else {
            let what = self.unknown(rows, name);
            return Err(document.wrong(key.span().start, &what));
        };
        if origins.origin(row.name).is_some() {
            let what = format!("{name} is given twice: expected it here or above the first table");
            return Err(document.wrong(key.span().start, &what));
        }
        let Some(setting) = row.value() else {
            return Ok(());
        };
        let origin = |at| Origin::File(document.place(at));
        let begins = value.span().start;
        let words =
            words(document, setting, value).map_err(|wrong| wrong.told(document, row, setting))?;
        setting
            .apply(settings, &OsString::from(&words.text))
            .map_err(|refused| {
                let part = refused.part.map(|part| part.to_string_lossy().into_owned());
                let at = part.as_deref().and_then(|part| words.places.get(part));
                let named = Named::new(*row, Some(&origin(at.copied().unwrap_or(begins))));
                let mut expected = setting.expected();
                if let Some(why) = refused.why {
                    expected += &format!(": {why}");
                }
                let value = part.unwrap_or(words.text.clone());
                match words.is_number {
                    true => named.invalid_as_written(&value, &value, &expected),
                    false => named.invalid(&value, &expected),
                }
            })?;
        origins.set(row.name, origin(begins), words.text);
        Ok(())
    }

    /// What to do about a key that there is not.
    fn unknown<S: Default>(&self, rows: &[&Flag<S>], name: &str) -> String {
        let keys: Vec<String> = rows.iter().map(|row| row.key()).collect();
        let what = match self.within {
            "" => at_the_top(&keys, name),
            // Whatever stands behind the first table is in a table.
            _ if flags()
                .iter()
                .any(|flag| has_key(flag) && flag.key() == name) =>
            {
                "expected it above the first table".to_owned()
            }
            _ => match nearest(name, &keys) {
                Some(key) => format!("did you mean {key}?"),
                None => format!("expected {}", keys.join(", ")),
            },
        };
        format!("unknown key '{name}'{}: {what}", self.within)
    }
}

/// What to do about an unknown key above the first table, or an unknown table.
fn at_the_top(keys: &[String], name: &str) -> String {
    let tables = [LISTENER, OUTPUT].map(str::to_owned);
    let of_listener: Vec<String> = listeners::rows().iter().map(Flag::key).collect();
    let all = [&tables[..], keys].concat();
    match (nearest(name, &all), nearest(name, &of_listener)) {
        (Some(table), _) if tables.iter().any(|it| it == table) => {
            format!("did you mean [[{table}]]?")
        }
        (Some(key), _) => format!("did you mean {key}?"),
        (None, Some(key)) => format!("did you mean {key} in a [[listener]]?"),
        (None, None) => "drainline config prints every key".to_owned(),
    }
}

/// The key that is most like `name`.
fn nearest<'a>(name: &str, keys: &'a [String]) -> Option<&'a str> {
    let name = name.replace('-', "_").to_lowercase();
    let likeness = keys.iter().map(|key| (strsim::jaro(&name, key), key));
    let like = likeness.filter(|(likeness, _)| *likeness > SIMILAR);
    let nearest = like.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.map(|(_, key)| key.as_str())
}

/// A value in the words of a flag.
struct Words {
    text: String,
    /// It was written without quotes.
    is_number: bool,
    /// Where each value of a list begins.
    places: HashMap<String, usize>,
}

/// A value of a type that the setting does not take.
struct WrongType {
    /// Where it begins.
    at: usize,
    /// As it is written, or what it is if that is long.
    written: String,
    /// How it would be written.
    hint: &'static str,
}

impl WrongType {
    fn told<S: Default>(
        self,
        document: &Document,
        row: &Flag<S>,
        setting: &dyn Setting<S>,
    ) -> UsageError {
        let origin = Origin::File(document.place(self.at));
        let expected = format!("{}{}", setting.expected(), self.hint);
        Named::new(row, Some(&origin)).invalid_as_written(&self.written, &self.written, &expected)
    }
}

/// A value as a flag would have it.
fn words<S>(
    document: &Document,
    setting: &dyn Setting<S>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Words, WrongType> {
    let mut words = Words {
        text: String::new(),
        is_number: false,
        places: HashMap::new(),
    };
    match value.get_ref() {
        DeValue::Array(values) if setting.is_list() => {
            let mut texts = Vec::new();
            for value in values.iter() {
                let text = word(document, setting, value)?;
                for part in text.split(',') {
                    let place = words.places.entry(part.trim().to_owned());
                    place.or_insert(value.span().start);
                }
                texts.push(text);
            }
            words.text = texts.join(",");
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
    /// A longer value is told by its type.
    const MAX_WRITTEN: usize = 40;
    let wrong = |hint| {
        let written = document.slice(value.span());
        let is_short = written.len() <= MAX_WRITTEN && !written.contains('\n');
        Err(WrongType {
            at: value.span().start,
            written: match (value.get_ref(), is_short) {
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
        (DeValue::String(text), _) => Ok(text.clone().into_owned()),
        (DeValue::Integer(number), InFile::Number | InFile::Either) => Ok(decimal(number)),
        (_, InFile::Text) => wrong(in_quotes),
        (DeValue::Float(_) | DeValue::Datetime(_), InFile::Either) => wrong(in_quotes),
        (DeValue::Boolean(_), _) => wrong(", a word in quotes"),
        _ => wrong(""),
    }
}

/// A whole number, which TOML also writes as `0x10` and `1_000`.
fn decimal(number: &DeInteger<'_>) -> String {
    let value = i128::from_str_radix(number.as_str(), number.radix());
    value.map_or_else(|_| number.to_string(), |value| value.to_string())
}

type Key<'i> = Spanned<DeString<'i>>;

/// Every key and value, as they stand in the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Each `[[listener]]`, and where it begins.
fn tables<'t, 'i>(
    document: &Document,
    key: &Key<'i>,
    value: &'t Spanned<DeValue<'i>>,
) -> Result<Vec<(usize, &'t DeTable<'i>)>, UsageError> {
    let wrong = |at| document.wrong(at, &format!("expected [[{}]]", key.get_ref()));
    let Some(tables) = value.get_ref().as_array() else {
        return Err(wrong(key.span().start));
    };
    let tables = tables.iter().map(|table| {
        let begins = table.span().start;
        let table = table.get_ref().as_table();
        Ok((begins, table.ok_or_else(|| wrong(begins))?))
    });
    tables.collect()
}
