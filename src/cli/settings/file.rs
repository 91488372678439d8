//! What a configuration file sets, by the rows of the flags: each key is a flag's name with
//! underscores.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Settings;
use super::flags;
use super::listeners::{self, ListenerSettings};
use super::origin::{Named, Origin, Origins};
use super::outputs::{self, OutputSettings};
use super::words;
use crate::cli::document::Document;
use crate::cli::flag::{Flag, Setting};
use crate::cli::hidden::HIDDEN;
use crate::cli::outputs::SCHEMES;
use crate::cli::usage::{UsageError, nearest};

/// The table of a listener, of which there may be several.
const LISTENER: &str = "listener";
/// The table of an output, of which there may be several.
const OUTPUT: &str = "output";

/// Where an error says that the key of an output is.
const OF_OUTPUT: &str = " in [[output]]";

/// Whether a flag is a key of the file: one with a value, but not the file's own name.
pub(super) fn has_key(flag: &Flag<Settings>) -> bool {
    flag.is_flag() && flag.value().is_some() && flag.name != super::CONFIG
}

/// Sets what a file says.
///
/// # Errors
/// The first thing in the file that is wrong, with its place: exit code 78.
pub(super) fn apply(document: &Document, settings: &mut Settings) -> Result<(), UsageError> {
    let parsed = document.parse();
    let root = parsed.map_err(|(at, said)| no_toml(document, at, &said))?;
    let (mut keys, mut listeners, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in in_order(&root) {
        match &**key.get_ref() {
            LISTENER => listeners = tables(document, key, value)?,
            OUTPUT => outputs = tables(document, key, value)?,
            _ => keys.push((key, value)),
        }
    }
    let mut origins = Origins::default();
    let mut rows = flags();
    rows.retain(has_key);
    let scope = Scope {
        document,
        within: "",
        rows,
    };
    scope.apply(keys, settings, &mut origins)?;
    for (begins, table) in listeners {
        settings.listeners.push(listener(document, begins, table)?);
    }
    for (begins, table) in outputs {
        settings.outputs.push(output(document, begins, table)?);
    }
    settings.given = origins;
    Ok(())
}

/// What to do where the file is no TOML: mostly a value lacks its quotes, and the parser does not
/// know what it should be.
fn no_toml(document: &Document, at: usize, said: &str) -> UsageError {
    let unquoted = document.unquoted(at);
    let refused = unquoted.and_then(|value| match value.table {
        Some(LISTENER) => words::without_quotes(document, &listeners::rows(), &value),
        Some(OUTPUT) => {
            // Schemes have options of the same name that take something else.
            let sink = document.beside(at, outputs::SINK);
            let own = sink.and_then(outputs::rows_at).unwrap_or_default();
            words::without_quotes(document, &own, &value)
                .or_else(|| words::without_quotes(document, &outputs::all_rows(), &value))
        }
        None => words::without_quotes(document, &flags(), &value),
        Some(_) => None,
    });
    refused.unwrap_or_else(|| document.wrong(at, said))
}

fn listener(
    document: &Document,
    begins: usize,
    table: &DeTable<'_>,
) -> Result<ListenerSettings, UsageError> {
    let scope = Scope {
        document,
        within: " in [[listener]]",
        rows: listeners::rows(),
    };
    let mut listener = ListenerSettings::default();
    let mut origins = Origins::default();
    scope.apply(in_order(table), &mut listener, &mut origins)?;
    if origins.origin(listeners::ADDRESS).is_none() {
        return Err(document.wrong(begins, "expected an address in every [[listener]]"));
    }
    listener.given = origins;
    listener.table = Some(document.place(begins));
    Ok(listener)
}

fn output(
    document: &Document,
    begins: usize,
    table: &DeTable<'_>,
) -> Result<OutputSettings, UsageError> {
    let is_sink = |(key, _): &Entry<'_, '_>| &**key.get_ref() == outputs::SINK;
    let (sink, others) = in_order(table).into_iter().partition(is_sink);
    let mut output = OutputSettings::default();
    let mut origins = Origins::default();
    let mut scope = Scope {
        document,
        within: OF_OUTPUT,
        rows: outputs::common_rows(),
    };
    // It says which the other keys may be.
    scope.apply(sink, &mut output, &mut origins)?;
    let Some(origin) = origins.origin(outputs::SINK).cloned() else {
        return Err(document.wrong(begins, "expected a sink in every [[output]]"));
    };
    output.book_url(&origin);
    let mut origins = output.given.clone();
    scope.rows = output.rows();
    scope.apply(others, &mut output, &mut origins)?;
    output.given = origins;
    output.table = Some(document.place(begins));
    Ok(output)
}

/// A table of keys that are rows, or what stands above the first table.
struct Scope<'d, S> {
    document: &'d Document,
    /// As an error says it: empty, or ` in [[listener]]`.
    within: &'static str,
    rows: Vec<Flag<S>>,
}

impl<S: Default> Scope<'_, S> {
    /// Sets what keys say.
    fn apply(
        &self,
        keys: Vec<Entry<'_, '_>>,
        settings: &mut S,
        origins: &mut Origins,
    ) -> Result<(), UsageError> {
        for (key, value) in keys {
            let name = &**key.get_ref();
            let wrong = |what: &str| Err(self.document.wrong(key.span().start, what));
            let row = self.rows.iter().find(|row| row.key() == name);
            let Some((row, setting)) = row.and_then(|row| Some((row, row.value()?))) else {
                return wrong(&self.unknown(name));
            };
            if origins.origin(row.name).is_some() {
                return wrong(&format!(
                    "{name} is given twice: expected it here or in the URL"
                ));
            }
            let mut words = self.set(row, setting, value, settings)?;
            if setting.is_secret() {
                words = HIDDEN.to_owned();
            }
            let origin = Origin::File(self.document.place(value.span().start));
            origins.set(row.name, origin, words);
        }
        Ok(())
    }

    /// Sets one value; returns it as a flag would have it.
    fn set(
        &self,
        row: &Flag<S>,
        setting: &dyn Setting<S>,
        value: &Spanned<DeValue<'_>>,
        settings: &mut S,
    ) -> Result<String, UsageError> {
        let named = |at| Named::new(row, Some(&Origin::File(self.document.place(at))));
        let words = words::read(self.document, setting, value).map_err(|wrong| {
            let expected = setting.expected() + wrong.hint;
            named(wrong.at).invalid_as_written(&wrong.written, &wrong.written, &expected)
        })?;
        let applied = setting.apply(settings, words.text.as_ref());
        applied.map_err(|refused| {
            let expected = refused.told(|| setting.expected());
            let part = refused.part.map(|part| part.to_string_lossy().into_owned());
            let named = named(words.place_of(part.as_deref()));
            let value = match setting.is_secret() && !words.text.is_empty() {
                true => HIDDEN,
                false => part.as_deref().unwrap_or(&words.text),
            };
            match words.is_number {
                true => named.invalid_as_written(value, value, &expected),
                false => named.invalid(value, &expected),
            }
        })?;
        Ok(words.text)
    }

    /// A URL of an output that has the key, where the table is that of another.
    fn of_other_scheme(&self, key: &str) -> Option<String> {
        let mut entries = SCHEMES.iter().filter(|_| self.within == OF_OUTPUT);
        let entry = entries.find(|entry| entry.rows().iter().any(|row| row.key() == key))?;
        entry.urls().pop()
    }

    /// What to do about a key that there is not.
    fn unknown(&self, name: &str) -> String {
        let keys: Vec<String> = self.rows.iter().map(Flag::key).collect();
        let is_of_server = |flag: &Flag<Settings>| has_key(flag) && flag.key() == name;
        let what = match self.within {
            "" => at_the_top(&keys, name),
            // Whatever stands behind the first table is in a table.
            _ if keys
                .iter()
                .any(|key| name.strip_prefix("output_") == Some(key)) =>
            {
                format!("did you mean {}?", name.trim_start_matches("output_"))
            }
            _ if flags().iter().any(is_of_server) => "expected it above the first table".to_owned(),
            _ => match (nearest(name, &keys), self.of_other_scheme(name)) {
                (_, Some(url)) => format!("a sink such as {url} has it"),
                (Some(key), _) => format!("did you mean {key}?"),
                (None, None) => format!("expected {}", keys.join(", ")),
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

type Key<'i> = Spanned<DeString<'i>>;

type Entry<'t, 'i> = (&'t Key<'i>, &'t Spanned<DeValue<'i>>);

/// Every key and value, as they stand in the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<Entry<'t, 'i>> = table.iter().collect();
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
