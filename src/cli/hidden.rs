//! What is shown of a URL in which a secret may stand, wherever the URL does.

/// What is shown in place of a secret.
pub(crate) const HIDDEN: &str = "***";

/// A URL as an error may show it, whatever is wrong with it: without what may be a password, and
/// without the values of options.
pub(crate) fn of_url(typed: &str) -> String {
    const LITERAL: [&str; 3] = ["file:", "exec:", "unix:"];
    let begin = match typed.find("://") {
        _ if LITERAL.iter().any(|scheme| typed.starts_with(scheme)) => None,
        Some(at) => Some(at + 3),
        // Slashes that were forgotten hide nothing.
        None => (typed.find(':').filter(|_| typed.contains('@'))).map(|at| at + 1),
    };
    let Some(begin) = begin else {
        return typed.to_owned();
    };
    let (scheme, rest) = typed.split_at(begin);
    let (sign, rest) = match rest.rfind('@') {
        // A password without escapes may hold anything, a slash or a question mark, too.
        Some(at) => (HIDDEN, &rest[at..]),
        None => ("", rest),
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // An escaped one begins what some take for a query, with a token in it.
    let cut = place.to_ascii_lowercase().find("%3f");
    let (place, tail) = match cut {
        Some(at) => (&place[..at], format!("%3F{HIDDEN}")),
        None => (place, String::new()),
    };
    let mark = if query.is_empty() { "" } else { "?" };
    let options = options_of(query);
    format!("{scheme}{sign}{place}{tail}{mark}{options}")
}

/// The keys of `key=value&key=value`. What has no key may be a token.
fn options_of(query: &str) -> String {
    let options = query.split('&').map(|option| match option.split_once('=') {
        Some((key, _)) => format!("{key}={HIDDEN}"),
        None if option.is_empty() => String::new(),
        None => HIDDEN.to_owned(),
    });
    options.collect::<Vec<_>>().join("&")
}

/// The line without the logins of its URLs, and without the values of their options: a URL may
/// stand where none is expected, and a secret in it. A password without escapes may hold anything,
/// so a login reaches to the last `@`.
pub(crate) fn in_line(line: &str) -> String {
    const SIGN: &str = "://";
    let mut pieces = line.split(SIGN);
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        shown += SIGN;
        let piece = match piece.rfind('@') {
            Some(at) => {
                shown += HIDDEN;
                &piece[at..]
            }
            None => piece,
        };
        let (place, rest) = piece.split_at(piece.find('?').unwrap_or(piece.len()));
        shown += place;
        if let Some(rest) = rest.strip_prefix('?') {
            let (query, rest) = rest.split_at(end_of_url(rest));
            shown += "?";
            shown += &options_of(query);
            shown += rest;
        }
    }
    shown
}

/// Where a URL ends whose options begin the text: at the quote of a value that is told, or where a
/// word ends.
fn end_of_url(text: &str) -> usize {
    // A value in a file that lacks its quotes is told without them.
    let ends = ["': ", "' for ", "' in ", "'", " for sink: ", ": ", " "];
    let end = ends.iter().find_map(|end| text.find(end));
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wrong_with_a_url_its_password_is_not_shown() {
        for url in [
            "nosuch://me:hunter2@host/x",
            "nosuch://:hunter2@host",
            "nosuch://hunter2@host",
            "nosuch://me:a/hunter2@host/x?y=z",
            "nosuch://me:a?hunter2@host/x",
            "nosuch://me:a@hunter2@host/x",
            "nosuch://host/x?password=hunter2",
            "nosuch://host/x?a=b&p%61ssword=hunter2&password=hunter2",
            "nosuch://me:hun?ter2=hunter2@host",
            "nosuch://host/x?Token=hunter2",
            "nosuch://host/x?hunter2",
            "nosuch://host/x?gzip=true&hunter2",
            "nosuch://host/x%3fkey=hunter2",
            "nosuch://host,b/x%3Fkey=hunter2?gzip=true",
            "nosuch:me:hunter2@host",
            "nosuch:/me:hunter2@host/x?token=hunter2",
            "me:hunter2@host",
        ] {
            let shown = of_url(url);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("host") && shown.contains(HIDDEN), "{shown}");
        }
        for url in [
            "file:/a@b?token=c",
            "exec:curl http://me:a@b",
            "nosuch://host/x",
            "stdout?name=a",
        ] {
            assert_eq!(of_url(url), url);
        }
    }

    #[test]
    fn a_url_in_the_wrong_place_is_told_without_its_secrets() {
        for (line, expected) in [
            (
                "unexpected argument 'http://me:hunter2@host/x': expected flags",
                "unexpected argument 'http://***@host/x': expected flags",
            ),
            (
                "invalid value 'redis://:a/b?c@d@h/s' for --listen: or a URL: tcp://ADDRESS",
                "invalid value 'redis://***@h/s' for --listen: or a URL: tcp://ADDRESS",
            ),
            (
                "invalid value 'http://h/x?token=it's&hunter2&gzip=true' for --listen: 'x'",
                "invalid value 'http://h/x?token=***&***&gzip=***' for --listen: 'x'",
            ),
            (
                "--config http://h/x?token=hunter2: No such file",
                "--config http://h/x?token=***: No such file",
            ),
            (
                "a:2:8: invalid value kafka://***@h/t?a=b for sink: expected stdout",
                "a:2:8: invalid value kafka://***@h/t?a=*** for sink: expected stdout",
            ),
            (
                "unknown flag --a@b: drainline -h lists the flags",
                "unknown flag --a@b: drainline -h lists the flags",
            ),
        ] {
            assert_eq!(in_line(line), expected);
        }
    }
}
