//! Kinds of values that only the options of HTTP have.

#[cfg(test)]
use crate::cli::kinds::cases;
use crate::cli::kinds::{Kind, NotAccepted};

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

/// A name and a value.
pub(super) struct Pair {
    /// What stands between.
    pub(super) sign: char,
    pub(super) example: &'static str,
}

impl Kind for Pair {
    type Value = (String, String);

    fn read(&self, typed: &str) -> Result<(String, String), NotAccepted> {
        let pair = typed
            .split_once(self.sign)
            .map(|(name, value)| (name.trim(), value.trim()));
        match pair {
            Some((name, value)) if !name.is_empty() && !typed.contains(char::is_control) => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Err(NotAccepted::default()),
        }
    }

    fn print(&self, (name, value): &(String, String)) -> Option<String> {
        Some(format!("{name}{}{value}", self.sign))
    }

    fn expected(&self) -> String {
        format!("NAME{}VALUE, such as {}", self.sign, self.example)
    }

    fn placeholder(&self) -> String {
        format!("NAME{}VALUE", self.sign)
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let other = self.example.replace(self.sign, " ");
        let without = format!("{}value", self.sign);
        cases(
            &[self.example, &format!("a{}b", self.sign)],
            &["", &other, &without],
        )
    }
}
