//! The words of a command line.

use std::fmt;

/// Why a command line has no words: one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WordsError {
    /// A quote is not closed.
    Unclosed(char),
    /// A backslash is the last character.
    Backslash,
    /// There is no word.
    Empty,
}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordsError::Unclosed(quote) => write!(f, "a {quote} is not closed"),
            WordsError::Backslash => f.write_str("a backslash stands before nothing"),
            WordsError::Empty => f.write_str("there is no command"),
        }
    }
}

impl std::error::Error for WordsError {}

/// Splits a command line into words as a shell would, and expands nothing: spaces part words; what
/// stands in `'...'` is taken as it is; in `"..."`, a backslash stands before a quote or a
/// backslash, and elsewhere before any character.
///
/// # Errors
/// A quote or a backslash is left open, or there is no word.
pub fn split_words(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(first) = chars.next() {
        match first {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(WordsError::Unclosed('\''))? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(WordsError::Unclosed('"'))? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(WordsError::Unclosed('"'))? {
                            quoted @ ('"' | '\\') => word.push(quoted),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => {
                let quoted = chars.next().ok_or(WordsError::Backslash)?;
                word.get_or_insert_default().push(quoted);
            }
            ' ' | '\t' | '\n' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    match words.is_empty() {
        true => Err(WordsError::Empty),
        false => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_and_quoted_as_by_a_shell_and_nothing_is_expanded() {
        let words = |words: &[&str]| Ok(words.iter().map(|&word| word.to_owned()).collect());
        for (line, expected) in [
            ("cat", words(&["cat"])),
            ("  a\tb  c ", words(&["a", "b", "c"])),
            (r#"a 'b  c' "d e"f"#, words(&["a", "b  c", "d ef"])),
            (r#"a '' """#, words(&["a", "", ""])),
            (
                r#""a\"b\\c\d" e\ f '\'"#,
                words(&[r#"a"b\c\d"#, "e f", r"\"]),
            ),
            (
                "a $HOME * | b > c; d",
                words(&["a", "$HOME", "*", "|", "b", ">", "c;", "d"]),
            ),
            ("a 'b", Err(WordsError::Unclosed('\''))),
            ("a \"b", Err(WordsError::Unclosed('"'))),
            ("a \\", Err(WordsError::Backslash)),
            (" ", Err(WordsError::Empty)),
        ] {
            assert_eq!(split_words(line), expected, "{line}");
        }
    }
}
