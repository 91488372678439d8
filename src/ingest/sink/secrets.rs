//! What an answer may not show, in whatever form it has it.
//!
//! A server may say what it was asked, escaped for what it writes: JSON, a URL, a page, a program's
//! string, one in another. So an escape is undone, and the next one inside it, until none is left,
//! in the secrets as in the text; what they have in common after any of these steps is hidden where
//! it stands in the text. Letters count alike in both cases, and what is not ASCII counts as one
//! letter each time, since there is no telling in which encoding a server has it.

use std::fmt;
use std::ops::Range;

/// The end of a text that is longer.
pub(super) const CUT: &str = "...";
/// A shorter word is no secret, and would be hidden wherever it stands.
pub(super) const MIN_SECRET: usize = 4;
/// What stands in a secret's place.
const HIDDEN: &str = "***";
/// How often escapes are undone; a text that has more in one another is told to nobody.
const MAX_STEPS: usize = 8;
/// The longest escape, with the backslashes of another before it.
const MAX_ESCAPE: usize = 16;
/// The longest name of a character that is looked for, with its end.
const MAX_NAME: usize = 20;
/// What is not ASCII.
const OTHER: u8 = 0x80;

#[derive(Default)]
pub(super) struct Secrets {
    /// The longest first.
    forms: Vec<Vec<u8>>,
}

/// A character as it is compared, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Letter {
    byte: u8,
    from: usize,
    to: usize,
}

impl Secrets {
    pub(super) fn new(secrets: &[String]) -> Secrets {
        let steps = secrets.iter().flat_map(|secret| steps(secret).0);
        let mut forms: Vec<_> = steps
            .map(|letters| {
                let bytes: Vec<_> = compared(&letters)
                    .iter()
                    .map(|letter| letter.byte)
                    .collect();
                bytes.trim_ascii().to_vec()
            })
            .filter(|form| !form.is_empty())
            .collect();
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        forms.dedup();
        Secrets { forms }
    }

    /// Also hides what may be the beginning of a secret before [`CUT`].
    pub(super) fn hide(&self, text: &str) -> String {
        if self.forms.is_empty() {
            return text.to_owned();
        }
        let (steps, is_all_undone) = steps(text);
        if !is_all_undone {
            return HIDDEN.to_owned();
        }
        let mut places = Vec::new();
        for letters in &steps {
            let letters = compared(letters);
            let bytes: Vec<_> = letters.iter().map(|letter| letter.byte).collect();
            let mut add = |range: Range<usize>| {
                let found = letters.get(range).unwrap_or_default();
                if let (Some(first), Some(last)) = (found.first(), found.last()) {
                    places.push(first.from..last.to);
                }
            };
            for form in &self.forms {
                let found = bytes.windows(form.len()).enumerate();
                found
                    .filter(|(_, window)| window == form)
                    .for_each(|(at, window)| add(at..at + window.len()));
            }
            let cuts = bytes.windows(CUT.len()).enumerate();
            for (end, _) in cuts.filter(|(_, window)| *window == CUT.as_bytes()) {
                let begun = self.forms.iter().filter_map(|form| {
                    let most = form.len().min(end);
                    (MIN_SECRET..=most)
                        .rev()
                        .find(|&length| bytes[..end].ends_with(&form[..length]))
                });
                if let Some(longest) = begun.max() {
                    add(end - longest..end);
                }
            }
        }
        without(text, places)
    }
}

/// Without the secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// Marks a text as cut off, behind the last escape that is whole.
pub(super) fn marked_as_cut(text: &str) -> String {
    let bytes = text.as_bytes();
    let tail = bytes.len().saturating_sub(MAX_ESCAPE);
    let escape = bytes[tail..].iter().position(|byte| b"\\%&".contains(byte));
    let mut end = escape.map_or(bytes.len(), |at| tail + at);
    while bytes[..end].ends_with(b"\\") {
        end -= 1;
    }
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

/// The text without what stands at these places.
fn without(text: &str, mut places: Vec<Range<usize>>) -> String {
    places.sort_by_key(|place| place.start);
    let (mut shown, mut at) = (String::with_capacity(text.len()), 0);
    for place in places {
        if place.start >= at {
            // No place begins or ends inside a character.
            shown.push_str(text.get(at..place.start).unwrap_or_default());
            shown.push_str(HIDDEN);
        }
        at = at.max(place.end);
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// A text as it is, with its escapes undone, with those undone that were in these, and so on; and
/// whether none is left.
fn steps(text: &str) -> (Vec<Vec<Letter>>, bool) {
    let letters = text.bytes().enumerate().map(|(at, byte)| Letter {
        byte,
        from: at,
        to: at + 1,
    });
    let mut steps = vec![letters.collect::<Vec<_>>()];
    while let Some(undone) = steps.last().and_then(|letters| undo(letters)) {
        if steps.len() > MAX_STEPS {
            return (steps, false);
        }
        steps.push(undone);
    }
    (steps, true)
}

/// As letters are compared: spaces of all kinds and the plus that is one in a query are one, and so
/// is all that is not ASCII and stands beside each other.
fn compared(letters: &[Letter]) -> Vec<Letter> {
    let mut all: Vec<Letter> = Vec::with_capacity(letters.len());
    for &letter in letters {
        let byte = match letter.byte {
            OTHER.. => OTHER,
            b'+' | b' ' | b'\t' | b'\n' | b'\r' => b' ',
            // Between letters of two bytes, of which the other is one of ASCII.
            0 => continue,
            byte => byte.to_ascii_lowercase(),
        };
        match all.last_mut() {
            Some(last) if last.byte == byte && matches!(byte, OTHER | b' ') => last.to = letter.to,
            _ => all.push(Letter { byte, ..letter }),
        }
    }
    all
}

/// Undoes each escape once, from left to right; `None` where there is none.
fn undo(letters: &[Letter]) -> Option<Vec<Letter>> {
    let bytes: Vec<_> = letters.iter().map(|letter| letter.byte).collect();
    let mut undone = Vec::with_capacity(letters.len());
    let mut at = 0;
    while at < letters.len() {
        let (byte, length) = escape(&bytes[at..]).unwrap_or((bytes[at], 1));
        undone.push(Letter {
            byte,
            from: letters[at].from,
            to: letters[at + length - 1].to,
        });
        at += length;
    }
    (undone.len() < letters.len()).then_some(undone)
}

/// The escape that a text begins with, if it does: what it stands for, and its length.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        // Of JavaScript's `escape`.
        [b'%', b'u' | b'U', rest @ ..] => Some((number(rest.get(..4)?, 16)?, 6)),
        [b'%', rest @ ..] => Some((number(rest.get(..2)?, 16)?, 3)),
        [b'&', b'#', b'x' | b'X', rest @ ..] => {
            let digits = rest
                .iter()
                .take(MAX_ESCAPE)
                .position(|byte| *byte == b';')?;
            Some((number(&rest[..digits], 16)?, digits + 4))
        }
        [b'&', b'#', rest @ ..] => {
            let digits = rest
                .iter()
                .take(MAX_ESCAPE)
                .position(|byte| *byte == b';')?;
            Some((number(&rest[..digits], 10)?, digits + 3))
        }
        [b'&', rest @ ..] => {
            let length = rest.iter().take(MAX_NAME).position(|byte| *byte == b';')?;
            let name = &rest[..length];
            let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric);
            is_name.then_some((named(name), length + 2))
        }
        [b'\\', rest @ ..] => of_backslash(rest).map(|(byte, length)| (byte, length + 1)),
        _ => None,
    }
}

/// The character that a page names so: all of ASCII that have names in HTML.
fn named(name: &[u8]) -> u8 {
    match name.to_ascii_lowercase().as_slice() {
        b"amp" => b'&',
        b"lt" => b'<',
        b"gt" => b'>',
        b"quot" => b'"',
        b"apos" => b'\'',
        b"nbsp" | b"tab" | b"newline" => b' ',
        b"excl" => b'!',
        b"num" => b'#',
        b"dollar" => b'$',
        b"percnt" => b'%',
        b"lpar" => b'(',
        b"rpar" => b')',
        b"ast" | b"midast" => b'*',
        b"plus" => b'+',
        b"comma" => b',',
        b"period" => b'.',
        b"sol" => b'/',
        b"colon" => b':',
        b"semi" => b';',
        b"equals" => b'=',
        b"quest" => b'?',
        b"commat" => b'@',
        b"lsqb" | b"lbrack" => b'[',
        b"bsol" => b'\\',
        b"rsqb" | b"rbrack" => b']',
        b"hat" => b'^',
        b"lowbar" | b"underbar" => b'_',
        b"grave" | b"diacriticalgrave" => b'`',
        b"lcub" | b"lbrace" => b'{',
        b"verbar" | b"vert" | b"verticalline" => b'|',
        b"rcub" | b"rbrace" => b'}',
        _ => OTHER,
    }
}

/// As [`escape`], behind a backslash.
fn of_backslash(rest: &[u8]) -> Option<(u8, usize)> {
    let digits = |length: usize| {
        let digits = rest.get(1..=length)?;
        Some((number(digits, 16)?, length + 1))
    };
    let known = match rest {
        [b'u', b'{', inside @ ..] => {
            let length = inside.iter().take(8).position(|byte| *byte == b'}');
            length.and_then(|length| Some((number(&inside[..length], 16)?, length + 3)))
        }
        [b'u', ..] => digits(4),
        [b'U', ..] => digits(8),
        [b'x', ..] => digits(2),
        [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', ..] => Some((number(&rest[..3], 8)?, 3)),
        [b'n' | b'r' | b't', ..] => Some((b' ', 1)),
        _ => None,
    };
    // Of any other it is the character itself.
    known.or_else(|| Some((*rest.first()?, 1)))
}

/// The character of a number.
fn number(digits: &[u8], radix: u32) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let code = u32::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()?;
    Some(u8::try_from(code).map_or(OTHER, |byte| byte.min(OTHER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Zq7!\"/+\u{fc}%&=X9k Lm\\n<Np>Qr";

    fn hidden(text: &str) -> String {
        Secrets::new(&[SECRET.to_owned()]).hide(text)
    }

    fn percent(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    fn in_json(text: &str) -> String {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    }

    #[test]
    fn a_secret_is_hidden_in_whatever_form_it_is() {
        let ascii = in_json(SECRET).replace('\u{fc}', "\\u00FC");
        let page = SECRET.replace('&', "&amp;").replace('"', "&#34;");
        let page = page.replace('<', "&lt;").replace('>', "&#x3e;");
        let forms = [
            SECRET.to_owned(),
            in_json(SECRET),
            in_json(SECRET).replace('/', "\\/"),
            ascii.replace('/', "\\u002f"),
            in_json(&ascii),
            in_json(&in_json(&in_json(SECRET))),
            percent(SECRET),
            percent(&percent(SECRET)),
            in_json(&percent(SECRET)),
            percent(&in_json(SECRET)),
            percent(SECRET).replace("%20", "+"),
            percent(&SECRET.replace('\u{fc}', "")).replace("%25", "%fc%25"),
            page.clone(),
            page.replace('\u{fc}', "&uuml;"),
            page.replace('\u{fc}', "&#252;"),
            page.replace('/', "&sol;")
                .replace('+', "&plus;")
                .replace('!', "&excl;"),
            page.replace('/', "&#0000000047;")
                .replace('+', "&#x000000002B;"),
            SECRET
                .replace('%', "%25")
                .replace('\u{fc}', "%u00FC")
                .replace('/', "%u002f"),
            in_json(&page),
            // Latin-1, read as UTF-8, and UTF-8, read as Latin-1.
            SECRET.replace('\u{fc}', "\u{fffd}"),
            SECRET.replace('\u{fc}', "\u{c3}\u{bc}"),
            // Of Rust, of Python, of C.
            format!("{SECRET:?}"),
            SECRET.escape_default().to_string(),
            SECRET.replace('\\', "\\\\").replace('\u{fc}', "\\xc3\\xbc"),
            SECRET.replace('\\', "\\\\").replace('\u{fc}', "\\303\\274"),
            SECRET.to_uppercase(),
            SECRET.to_lowercase(),
            SECRET.chars().flat_map(|char| [char, '\0']).collect(),
        ];
        for form in forms {
            let text = hidden(&format!("a b: <<{form}>> c"));
            let text = text.replace(['"', '\0'], "");
            assert_eq!(text, "a b: <<***>> c", "{form}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "",
            "\u{e4}",
            "100 % of it, 5%2 \\",
            "C:\\new\\x \\u00 \\u{110000000} &; &#; &a b; \\777",
            "Zq7! and X9k\u{1f300}...",
        ] {
            assert_eq!(hidden(text), text);
        }
        assert_eq!(Secrets::default().hide(SECRET), SECRET);
        assert_eq!(Secrets::new(&[" + ".to_owned()]).hide("a b"), "a b");
    }

    #[test]
    fn all_of_several_are_hidden_also_where_one_holds_another() {
        let secrets = Secrets::new(&["inner".to_owned(), "the inner one".to_owned()]);
        assert_eq!(secrets.hide("inner, the inner one!"), "***, ***!");
    }

    #[test]
    fn the_beginning_of_a_secret_at_a_cut_is_hidden_in_each_form() {
        for whole in [SECRET.to_owned(), in_json(SECRET), percent(SECRET)] {
            for (end, _) in whole.char_indices() {
                let text = hidden(&marked_as_cut(&format!("text: {}", &whole[..end])));
                assert!(text.ends_with(CUT), "{text}");
                // Three characters are no secret.
                assert!(!text.contains("Zq7!"), "{text}");
                assert!(!text.contains("%5a%71%37%21"), "{text}");
            }
        }
        assert_eq!(marked_as_cut("as it is"), "as it is...");
    }

    #[test]
    fn what_has_too_many_escapes_in_one_another_is_not_told() {
        let mut form = SECRET.to_owned();
        for depth in 1..=10 {
            form = form.replace('%', "%25");
            let text = hidden(&format!("a {form} b"));
            let is_told = depth <= MAX_STEPS;
            assert_eq!(text, if is_told { "a *** b" } else { "***" }, "{depth}");
        }
    }
}
