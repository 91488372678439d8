//! What an answer means: delivered, to be sent again, or never to be accepted.

use redis::{ServerError, Value};

use crate::ingest::sink::secrets::{CUT, Secrets, marked_as_cut};

/// The most of a server's error that is read, in bytes.
const MAX_READ: usize = 1000;
/// The most of it that is told, in characters.
const MAX_TEXT: usize = 200;

/// What the server said to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The message is an entry of the stream.
    Accepted,
    /// The server's state or its configuration is in the way, which may pass: the message is sent
    /// again.
    Failed(String),
    /// The message itself is in the way, and always will be.
    Refused(String),
}

impl Answer {
    /// The answer to `XADD`; `None` if it can be none.
    pub(super) fn to_xadd(value: Value) -> Option<Answer> {
        match value {
            // The ID of the entry.
            Value::BulkString(_) => Some(Answer::Accepted),
            Value::ServerError(error) => {
                let text = told(&error, &Secrets::default());
                Some(match is_about_the_message(&error) {
                    true => Answer::Refused(text),
                    false => Answer::Failed(text),
                })
            }
            _ => None,
        }
    }
}

/// Whether an error is about the message and not about the server. Everything else can be mended
/// while the messages wait: LOADING, OOM, MISCONF, NOREPLICAS, READONLY and CLUSTERDOWN pass by
/// themselves, and whoever is told of WRONGTYPE, NOPERM, NOAUTH or MOVED can change the key, the
/// user or the address. To end the server for one of these would lose what it holds.
fn is_about_the_message(error: &ServerError) -> bool {
    // `proto-max-bulk-len`, and the largest entry.
    const ABOUT: [&str; 2] = [
        "Protocol error: invalid bulk length",
        "Elements are too large to be stored",
    ];
    let details = error.details().unwrap_or_default();
    error.code() == "ERR" && ABOUT.iter().any(|about| details.starts_with(about))
}

/// An error of the server as it is logged: short, in one line, and without what a server repeats of
/// a command that it does not know, which may be a password or a message.
pub(super) fn told(error: &ServerError, secrets: &Secrets) -> String {
    let details = error.details().unwrap_or_default();
    let details = details.split(", with args").next().unwrap_or_default();
    let details = details.split(" with args").next().unwrap_or_default();
    let mut text = format!("{} {details}", error.code());
    if text.len() > MAX_READ {
        let end = (0..=MAX_READ).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        text = marked_as_cut(&text);
    }
    let text = secrets.hide(&text);
    let is_longer = text.chars().nth(MAX_TEXT).is_some();
    let shown = text.trim_end().chars().take(MAX_TEXT);
    let shown = shown.map(|char| if char.is_control() { '?' } else { char });
    let mut text: String = shown.collect();
    if is_longer {
        text.push_str(CUT);
    }
    match error.code() {
        "MOVED" | "ASK" => {
            text + " (a Redis Cluster has the stream on that node: it has to be named)"
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn answer(line: &str) -> Option<Answer> {
        Answer::to_xadd(redis::parse_redis_value(line.as_bytes()).unwrap())
    }

    #[test]
    fn only_what_a_message_can_never_mend_is_refused() {
        assert_eq!(answer("$3\r\n1-0\r\n"), Some(Answer::Accepted));
        for error in [
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MOVED 3999 127.0.0.1:6381",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "NOPERM this user has no permissions to run the 'xadd' command",
            "NOAUTH Authentication required.",
            "NOSCRIPT No matching script.",
            "ERR The stream has exhausted the last possible ID",
            "ERR Protocol error: unauthenticated bulk length",
            "ERR",
        ] {
            match answer(&format!("-{error}\r\n")) {
                Some(Answer::Failed(text)) => assert!(text.starts_with(error), "{text}"),
                other => panic!("{error}: {other:?}"),
            }
        }
        for error in [
            "ERR Protocol error: invalid bulk length",
            "ERR Elements are too large to be stored",
        ] {
            let refused = Answer::Refused(error.to_owned());
            assert_eq!(answer(&format!("-{error}\r\n")), Some(refused));
        }
        // Not what XADD answers.
        for line in ["+OK\r\n", ":1\r\n", "$-1\r\n", "*0\r\n"] {
            assert_eq!(answer(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_a_server_repeats_of_a_command_is_not_told() {
        let secrets = Secrets::new(&["hunter2".to_owned()]);
        let told = |line: &str| match redis::parse_redis_value(line.as_bytes()).unwrap() {
            Value::ServerError(error) => told(&error, &secrets),
            other => panic!("{other:?}"),
        };
        for line in [
            "-ERR unknown command 'AUTH', with args beginning with: 'hunter2' \r\n",
            "-ERR unknown command `AUTH`, with args beginning with: `hunter2`, \r\n",
            "-ERR no such user hunter2\r\n",
            "-ERR no such user hun\\x74er2\r\n",
            "-ERR no such user Hunt%65r2\r\n",
        ] {
            let told = told(line);
            let is_told = ["hun", "Hun"].iter().any(|part| told.contains(part));
            assert!(!is_told, "{told}");
        }
        let long = told(&format!("-ERR {}\x07\u{e9}\r\n", "\u{e9}".repeat(300)));
        assert!(
            long.chars().count() == MAX_TEXT + 3 && long.ends_with("..."),
            "{long}"
        );
        assert_eq!(told("-ERR a\x07b\r\n"), "ERR a?b");
    }
}
