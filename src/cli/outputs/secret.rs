//! Passwords and tokens: where they come from, and that nobody is told them.

use std::fmt::{self, Debug, Display};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::option::{Contradiction, Unfit};
use crate::cli::files;
use crate::cli::hidden::HIDDEN;
#[cfg(test)]
use crate::cli::kinds::cases;
use crate::cli::kinds::{Kind, NotAccepted, or, quoted};

/// The rows of a password, as [`secret_rows`](super::secret_rows) names them.
pub(crate) const PASSWORD: [&str; 3] = ["password", "password-file", "password-env"];

/// The largest file of a secret in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// A password or a token. Whatever prints it prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for whoever it is meant for.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A secret as it is typed.
pub(crate) struct SecretText;

impl Kind for SecretText {
    type Value = Secret;

    fn read(&self, typed: &str) -> Result<Secret, NotAccepted> {
        match typed.is_empty() {
            true => Err(NotAccepted::default()),
            false => Ok(Secret::new(typed)),
        }
    }

    fn print(&self, _: &Secret) -> Option<String> {
        Some(HIDDEN.to_owned())
    }

    fn expected(&self) -> String {
        "text, which is shown nowhere".to_owned()
    }

    fn placeholder(&self) -> String {
        "SECRET".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(&["hunter2"], &[""])
    }
}

/// The name of a variable of the environment.
pub(crate) struct VariableName;

impl Kind for VariableName {
    type Value = String;

    fn read(&self, typed: &str) -> Result<String, NotAccepted> {
        let is_name = !typed.is_empty() && !typed.contains(['=', '\0']);
        match is_name {
            true => Ok(typed.to_owned()),
            false => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn print_in_file(&self, value: &String) -> Option<String> {
        Some(quoted(value))
    }

    fn expected(&self) -> String {
        "the name of a variable of the environment".to_owned()
    }

    fn placeholder(&self) -> String {
        "VARIABLE".to_owned()
    }

    fn names_secret(&self) -> bool {
        true
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(&["REDIS_PASSWORD"], &["A=B", ""])
    }
}

/// Where a secret comes from: one of three, or none. Its rows are made by
/// [`secret_rows`](super::secret_rows).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SecretSource {
    /// As it is typed, or as a URL has it.
    pub(crate) text: Option<Secret>,
    /// In a file.
    pub(crate) file: Option<PathBuf>,
    /// In a variable of the environment.
    pub(crate) variable: Option<String>,
}

impl SecretSource {
    /// More than one of the three is given, of which `rows` has the names.
    pub(crate) fn contradiction(&self, rows: [&'static str; 3]) -> Option<Contradiction> {
        let given = [
            self.text.is_some(),
            self.file.is_some(),
            self.variable.is_some(),
        ];
        let mut given = rows.iter().zip(given).filter(|(_, is_given)| *is_given);
        let (_, (row, _)) = (given.next()?, given.next()?);
        let keys = rows.map(|row| row.replace('-', "_"));
        let expected = format!("one of {}", or(&keys.each_ref().map(String::as_str)));
        Some(Contradiction::new(row, expected))
    }

    /// Whether the file that it is in may be replaced.
    pub(crate) fn is_in_file(&self) -> bool {
        self.text.is_none() && self.file.is_some()
    }

    /// Reads the secret. A file may take as long as its file system does; nobody is waited for.
    ///
    /// # Errors
    /// The file cannot be read, or what it has is no secret, or the variable is not set ([`Unfit`],
    /// both). The error names it, and no part of the secret.
    pub(crate) fn read(&self) -> io::Result<Option<Secret>> {
        if let Some(text) = &self.text {
            return Ok(Some(text.clone()));
        }
        if let Some(path) = &self.file {
            let failed = |error: io::Error| {
                let named = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                match error.raw_os_error() {
                    Some(_) => named,
                    None => Unfit::of(named),
                }
            };
            return read_file(path).map(Some).map_err(failed);
        }
        let Some(name) = &self.variable else {
            return Ok(None);
        };
        match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(Some(Secret::new(text))),
            Ok(_) | Err(std::env::VarError::NotPresent) => {
                Err(Unfit::of(wrong(format!("the variable {name} is not set"))))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                let text = format!("the variable {name} is not UTF-8");
                Err(Unfit::of(wrong(text)))
            }
        }
    }
}

/// The text of a file without the end of its line, or of several, as a shell's `$(< FILE)` has it.
fn read_file(path: &Path) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    files::open_regular(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong("expected a secret of at most 64 KiB"));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(wrong("expected UTF-8"));
    };
    let text = text.trim_end_matches(['\r', '\n']);
    match text.is_empty() {
        true => Err(wrong("expected a secret in it")),
        false => Ok(Secret::new(text)),
    }
}

/// No other try makes it right.
fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// The three rows of a secret: `secret_rows!(Redis.password, "password", "the password")`.
macro_rules! secret_rows {
    ($Scheme:ident.$($field:ident).+, $name:literal, $what:literal) => {{
        use $crate::cli::flag::{Flag, field};
        use $crate::cli::kinds::unset;
        use $crate::cli::outputs::option::GROUP;
        use $crate::cli::outputs::secret::{SecretText, VariableName};
        use $crate::cli::values::PATH;
        [
            Flag {
                name: $name,
                group: GROUP,
                purpose: $what,
                help: concat!("This is ", $what, ". It is shown nowhere, but ps(1) shows what is typed."),
                takes: field!(unset(SecretText), $Scheme.$($field).+.text),
            },
            Flag {
                name: concat!($name, "-file"),
                group: GROUP,
                purpose: concat!($what, ", in a file"),
                help: concat!("Reads ", $what, " from this file, without the end of its line."),
                takes: field!(unset(PATH), $Scheme.$($field).+.file),
            },
            Flag {
                name: concat!($name, "-env"),
                group: GROUP,
                purpose: concat!($what, ", in a variable"),
                help: concat!("Reads ", $what, " from this variable of the environment."),
                takes: field!(unset(VariableName), $Scheme.$($field).+.variable),
            },
        ]
    }};
}

#[allow(unused_imports, reason = "no scheme of this build has a secret")]
pub(crate) use secret_rows;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::new("hunter2");
        let source = SecretSource {
            text: Some(secret.clone()),
            ..SecretSource::default()
        };
        let shown = format!("{secret} {secret:?} {source:?} {:#?}", Some(&source));
        assert!(!shown.contains("hunter2"), "{shown}");
        let printed = SecretText.print_in_file(&secret);
        assert_eq!(printed.as_deref(), Some("\"***\""));
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn a_file_has_a_secret_in_one_line_and_no_more_than_fits() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let source = SecretSource {
            file: Some(path.clone()),
            ..SecretSource::default()
        };
        for (text, secret) in [
            ("hunter2", Some("hunter2")),
            ("hunter2\n", Some("hunter2")),
            ("hunter2\r\n", Some("hunter2")),
            ("a b \n\n", Some("a b ")),
            ("", None),
            ("\n", None),
            (&"x".repeat(65_537), None),
        ] {
            std::fs::write(&path, text).expect("a file");
            let read = source.read().ok().flatten();
            assert_eq!(read.as_ref().map(Secret::reveal), secret, "{text:?}");
        }
        std::fs::remove_file(&path).expect("removed");
        let error = source.read().expect_err("no file").to_string();
        assert!(error.starts_with(path.to_str().expect("UTF-8")), "{error}");
    }
}
