//! Kinds of values that only the options of HTTP have.

use drainline::ranges;

#[cfg(test)]
use crate::cli::kinds::cases;
use crate::cli::kinds::{Kind, NotAccepted, quoted};
use crate::cli::outputs::secret::{Secret, SecretText};

/// Text without control characters.
pub(super) struct Text;

pub(super) const TEXT: Text = Text;

impl Kind for Text {
    type Value = String;

    fn read(&self, typed: &str) -> Result<String, NotAccepted> {
        match typed.is_empty() || typed.contains(char::is_control) {
            true => Err(NotAccepted::default()),
            false => Ok(typed.to_owned()),
        }
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn expected(&self) -> String {
        "text without control characters".to_owned()
    }

    fn placeholder(&self) -> String {
        "TEXT".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(&["logs", "a=b"], &["", "a\nb"])
    }
}

/// An index of Elasticsearch, OpenSearch or Splunk. What none of them takes is refused, and so is
/// what is meant to become a date or a field: nothing does.
pub(super) struct Index;

pub(super) const INDEX: Index = Index;

impl Kind for Index {
    type Value = String;

    fn read(&self, typed: &str) -> Result<String, NotAccepted> {
        let is_allowed =
            |c: char| !c.is_uppercase() && !c.is_control() && !r#"\/*?"<>| ,#:%{}"#.contains(c);
        let is_index = (1..=255).contains(&typed.len())
            && !typed.starts_with(['-', '+'])
            && !matches!(typed, "." | "..")
            && typed.chars().all(is_allowed);
        match is_index {
            true => Ok(typed.to_owned()),
            false => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn expected(&self) -> String {
        "the name of an index in lower case, as it is, without a date or a field in it: 255 bytes at \
         most, none of \\ / * ? \" < > | , # : % { } and spaces, and not beginning with - or +"
            .to_owned()
    }

    fn placeholder(&self) -> String {
        "INDEX".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &["logs-drainline", "a.b_c", "_internal"],
            &[
                "",
                "Logs",
                "logs-%d",
                "logs-{host}",
                "a/b",
                "-a",
                "a b",
                "..",
            ],
        )
    }
}

/// Names and values, with commas between: `\\,` is a comma of a value.
pub(super) struct Pairs {
    /// What stands between a name and its value.
    pub(super) sign: char,
    pub(super) example: &'static str,
}

impl Pairs {
    /// One name and its value.
    pub(super) fn pair(&self, typed: &str) -> Option<(String, String)> {
        let (name, value) = typed.split_once(self.sign)?;
        let (name, value) = (name.trim(), value.trim());
        let is_pair = !name.is_empty() && !typed.contains(char::is_control);
        is_pair.then(|| (name.to_owned(), value.to_owned()))
    }
}

impl Kind for Pairs {
    type Value = Vec<(String, String)>;

    fn read(&self, typed: &str) -> Result<Vec<(String, String)>, NotAccepted> {
        let entries = entries(typed);
        let most = *ranges::LIST_ENTRIES.end();
        if entries.len() > most {
            let why = format!("{} are given, and {most} are the most", entries.len());
            return Err(NotAccepted::because(why));
        }
        let pair = |entry: &String| {
            self.pair(entry).ok_or_else(|| NotAccepted {
                part: Some(entry.trim().into()),
                ..NotAccepted::default()
            })
        };
        entries.iter().map(pair).collect()
    }

    fn print(&self, pairs: &Vec<(String, String)>) -> Option<String> {
        let entry =
            |(name, value): &(String, String)| escaped(format!("{name}{}{value}", self.sign));
        Some(pairs.iter().map(entry).collect::<Vec<_>>().join(","))
    }

    fn print_in_file(&self, pairs: &Vec<(String, String)>) -> Option<String> {
        let entry =
            |(name, value): &(String, String)| quoted(&format!("{name}{}{value}", self.sign));
        let entries: Vec<String> = pairs.iter().map(entry).collect();
        Some(format!("[{}]", entries.join(", ")))
    }

    fn expected(&self) -> String {
        let (sign, example) = (self.sign, self.example);
        format!(
            "NAME{sign}VALUE, such as {example}, several with commas, and \\, for a comma of a VALUE"
        )
    }

    fn placeholder(&self) -> String {
        format!("NAME{}VALUE", self.sign)
    }

    fn is_list(&self) -> bool {
        true
    }

    fn entry(&self, text: String) -> String {
        escaped(text)
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (sign, other) = (self.sign, self.example.replace(self.sign, " "));
        let several = format!("a{sign}b\\, c,d{sign}e");
        let without = format!("{sign}value");
        cases(
            &[self.example, &several],
            &["", &other, &without, &format!("a{sign}b,c")],
        )
    }
}

/// The values between commas without a backslash before them.
fn entries(typed: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut chars = typed.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, entries.last_mut()) {
            ('\\', Some(entry)) if chars.next_if_eq(&',').is_some() => entry.push(','),
            (',', _) => entries.push(String::new()),
            (c, Some(entry)) => entry.push(c),
            (_, None) => {}
        }
    }
    entries
}

fn escaped(entry: String) -> String {
    entry.replace(',', "\\,")
}

/// [`Pairs`] that are secret: a line for each.
pub(super) struct SecretPairs(pub(super) Pairs);

impl Kind for SecretPairs {
    type Value = Secret;

    fn read(&self, typed: &str) -> Result<Secret, NotAccepted> {
        let lines = self.0.read(typed)?.into_iter();
        let lines = lines.map(|(name, value)| format!("{name}{}{value}", self.0.sign));
        Ok(Secret::new(lines.collect::<Vec<_>>().join("\n")))
    }

    fn print(&self, value: &Secret) -> Option<String> {
        SecretText.print(value)
    }

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn placeholder(&self) -> String {
        self.0.placeholder()
    }

    fn is_list(&self) -> bool {
        true
    }

    fn entry(&self, text: String) -> String {
        self.0.entry(text)
    }

    fn is_secret(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        self.0.cases()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_have_a_comma() {
        let pairs = Pairs {
            sign: ':',
            example: "a:b",
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (typed, read) in [
            ("a:b,c:d", vec![pair("a", "b"), pair("c", "d")]),
            ("a: b\\, c:d , e:", vec![pair("a", "b, c:d"), pair("e", "")]),
            ("a:\\b\\\\,c", vec![pair("a", "\\b\\,c")]),
        ] {
            assert_eq!(pairs.read(typed).as_ref(), Ok(&read), "{typed}");
            let printed = pairs.print(&read).expect("a value");
            assert_eq!(pairs.read(&printed), Ok(read), "{printed}");
        }
    }
}
