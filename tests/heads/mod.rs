//! What holds of every beginning of a connection, whatever it is: [`Head::parse`] finds what
//! [`reference::parse`] does, and more bytes change nothing that is decided.
//!
//! The property tests and the fuzz target share this: they differ in where their bytes are from.

// Each of them uses a part.
#![allow(dead_code)]
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used)]

pub mod encode;
pub mod reference;

use drainline::proxy_head::{Head, MAX_LEN};

/// Checks a beginning as a fuzzer makes it up: the first byte says whether the bytes behind it are
/// all there is, or come behind a signature and whether its checksum is made right.
pub fn check_fuzzed(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else {
        return;
    };
    match how % 4 {
        0 => check(bytes),
        1 => check(&[b"PROXY ", bytes].concat()),
        2 => check(&[encode::SIGNATURE, bytes].concat()),
        _ => check(&encode::with_checksum(&[encode::SIGNATURE, bytes].concat())),
    };
}

/// Checks all that holds of the bytes, and returns what they are.
pub fn check(bytes: &[u8]) -> Head {
    let whole = Head::parse(bytes);
    assert_eq!(
        kind(whole),
        kind(reference::parse(bytes)),
        "{}",
        show(bytes)
    );
    let mut decided = None;
    for end in 0..=bytes.len().min(MAX_LEN + 1) {
        let part = Head::parse(&bytes[..end]);
        match decided {
            Some(decided) => assert_eq!(part, decided, "at {end} of {}", show(bytes)),
            None if part != Head::Incomplete => {
                if let Some(len) = len(part) {
                    assert_eq!(len, end, "{}", show(bytes));
                }
                decided = Some(part);
            }
            None => {}
        }
    }
    assert_eq!(decided.unwrap_or(Head::Incomplete), whole);
    if let Some(len) = len(whole) {
        assert!(0 < len && len <= MAX_LEN && len <= bytes.len());
    }
    whole
}

/// The twin tells no causes.
fn kind(head: Head) -> Head {
    match head {
        Head::Invalid(_) => Head::Invalid(""),
        head => head,
    }
}

pub fn len(head: Head) -> Option<usize> {
    match head {
        Head::Local { len } | Head::Peer { len, .. } => Some(len),
        Head::Incomplete | Head::Invalid(_) => None,
    }
}

fn show(bytes: &[u8]) -> String {
    format!("{} bytes: {}", bytes.len(), bytes.escape_ascii())
}
