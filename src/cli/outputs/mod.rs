//! Where messages go: the schemes of `--sink` and `[[output]]`, a file each.
//!
//! `scheme` says what a scheme is; `url` takes a URL apart, `secret` keeps what nobody is told, and
//! `tls` has the options of TLS, which are the same wherever it is spoken.
//! A file has a scheme's URLs, its options as rows, and how it is checked and opened; [`SCHEMES`]
//! lists them, and nothing else knows them.

pub(crate) mod option;
pub(crate) mod scheme;
#[allow(dead_code, unused_macros, reason = "for schemes that have secrets")]
pub(crate) mod secret;
#[cfg(any(feature = "tls", feature = "kafka-tls"))]
mod tls;
#[allow(dead_code, reason = "for schemes that have peers")]
pub(crate) mod url;

// The schemes.
mod stdout;

mod file;

#[cfg(feature = "kafka")]
mod kafka;

mod null;

#[cfg(feature = "http")]
mod http;

mod forward;

mod exec;

#[cfg(feature = "redis")]
mod redis;

#[cfg(test)]
pub(crate) mod probe;

use std::ffi::OsStr;

use super::flag::{Flag, Takes};
use super::hidden;
use super::kinds::NotAccepted;
pub(crate) use forward::Forward;
use option::GROUP;
pub(crate) use option::Unfit;
pub(crate) use scheme::{Common, Destination, Entry, Read};

/// A scheme of a feature that this program is built without, and what that takes.
#[allow(unused_macros, reason = "a program may be built with all features")]
macro_rules! left_out {
    ($feature:literal, [$($prefix:literal),+], $place:literal, $takes:literal) => {
        Entry::left_out(
            &[$(scheme::Form { prefix: $prefix, place: $place, has_options: true }),+],
            concat!(
                "a drainline with the feature ", $feature,
                " (cargo install --path . --features ", $feature, ")", $takes
            ),
        )
    };
}

/// Every scheme, in the order of the helps.
pub(crate) static SCHEMES: &[Entry] = &[
    Entry::of::<stdout::Stdout>(),
    Entry::of::<file::File>(),
    Entry::of::<null::Null>(),
    Entry::of::<forward::Forward>(),
    Entry::of::<exec::Exec>(),
    #[cfg(test)]
    Entry::of::<probe::Probe>(),
    #[cfg(feature = "redis")]
    Entry::of::<redis::Redis>(),
    #[cfg(all(feature = "redis", not(feature = "tls")))]
    left_out!("tls", ["rediss://"], "HOST/STREAM", ""),
    #[cfg(not(feature = "redis"))]
    left_out!("redis", ["redis://", "rediss://"], "HOST/STREAM", ""),
    #[cfg(feature = "kafka")]
    Entry::of::<kafka::Kafka>(),
    #[cfg(not(feature = "kafka"))]
    left_out!(
        "kafka",
        ["kafka://"],
        "BROKERS/TOPIC",
        ", which needs a C compiler and make"
    ),
    #[cfg(feature = "http")]
    Entry::of::<http::Http>(),
    #[cfg(not(feature = "http"))]
    left_out!("http", ["http://", "https://"], "HOST/PATH", ""),
];

/// Where messages go that nobody has told where.
impl Default for Destination {
    fn default() -> Self {
        Destination::new(&SCHEMES[0], stdout::Stdout::default())
    }
}

/// Reads a URL.
///
/// # Errors
/// There is no such scheme, or it is no URL of its scheme. What is refused is told without secrets.
pub(crate) fn read(typed: &OsStr) -> Result<Read, NotAccepted> {
    let text = typed.to_string_lossy();
    let outcome = scheme::read(SCHEMES, typed).unwrap_or_else(|| {
        let scheme = text.split_once(":").map(|(scheme, _)| scheme);
        let is_path = ["/", "./", "../"].iter().any(|it| text.starts_with(it));
        Err(match scheme {
            _ if is_path => {
                NotAccepted::because(format!("a file is file:PATH: did you mean file:{text}?"))
            }
            Some(scheme) => NotAccepted {
                expected: instead_of(scheme).map(str::to_owned),
                ..NotAccepted::because(format!("there is no {scheme}:"))
            },
            None => NotAccepted::default(),
        })
    });
    outcome.map_err(|refused| NotAccepted {
        part: refused.part.or_else(|| Some(hidden::of_url(&text).into())),
        ..refused
    })
}

/// The URL of a place that some look for under a scheme that there is not. Options of a URL would
/// be hidden, as they are in any error.
fn instead_of(scheme: &str) -> Option<&'static str> {
    Some(match scheme {
        "elasticsearch" | "opensearch" => {
            "http://HOST:9200 with dialect=elasticsearch, or https://"
        }
        "loki" => "http://HOST:3100 with dialect=loki, or https://",
        "splunk" => "https://HOST:8088 with dialect=splunk and token_file=PATH, or http://",
        "syslog" => {
            "tcp://HOST:PORT or tls://HOST:PORT, with framing=octet-counted where it counts"
        }
        "udp" => "tcp://HOST:PORT, since no output sends datagrams",
        _ => return None,
    })
}

/// The row of schemes that may write to a terminal.
fn terminal_escape<S>(takes: Takes<S>) -> Flag<S> {
    Flag {
        name: "terminal-escape",
        group: GROUP,
        purpose: "escape control characters",
        help: "As --terminal-escape, for this output.",
        takes,
    }
}
