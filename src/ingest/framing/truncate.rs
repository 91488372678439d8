//! Where a message that is too long is truncated.

use std::str::from_utf8;

/// How many of the first bytes of a message are kept: `max`, or up to three fewer so that no UTF-8
/// character is split. Bytes that are no UTF-8 there are kept up to `max`.
///
/// `message` is what was read of the message, `max` bytes or more; `has_end`: no more of it is to
/// come. `None`: more has to come to tell.
pub(super) fn kept(message: &[u8], max: usize, has_end: bool) -> Option<usize> {
    let is_first = |byte: &u8| byte & 0b1100_0000 != 0b1000_0000;
    let tail = max.saturating_sub(3);
    let Some(found) = message[tail..max].iter().rposition(is_first) else {
        return Some(max);
    };
    let start = tail + found;
    let len = match message[start] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if start + len <= max {
        return Some(max);
    }
    let there = &message[start..message.len().min(start + len)];
    match from_utf8(there) {
        Ok(_) => Some(start),
        Err(error) if error.error_len().is_none() && !has_end => None,
        Err(_) => Some(max),
    }
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn a_character_is_kept_whole_or_left_out_whole() {
        for text in ["aé", "a€", "a🦀", "é€🦀", "\u{7ff}\u{800}\u{ffff}\u{10000}"] {
            let bytes = [text.as_bytes(), b"more"].concat();
            for max in 0..text.len() {
                let kept = kept(&bytes, max, false).expect("all of it is there");
                assert!(text.is_char_boundary(kept), "{text:?} at {max}: {kept}");
                assert!(kept <= max && max - kept < 4);
                assert!(!(kept + 1..=max).any(|at| text.is_char_boundary(at)));
            }
        }
    }

    #[test]
    fn what_is_no_utf_8_is_truncated_at_the_limit() {
        let cases: [&[u8]; 8] = [
            b"ab\xE9xyz",           // Latin-1
            b"a\xE2\x82xyz",        // a character that is not gone on with
            b"\x80\x80\x80\x80xyz", // none that began
            b"ab\xFFxyz",
            b"ab\xC0\x80xyz",      // overlong
            b"ab\xED\xA0\x80",     // a surrogate
            b"ab\xF4\x90\x80\x80", // beyond Unicode
            b"ab\xF5\x80\x80\x80",
        ];
        for bytes in cases {
            assert_eq!(kept(bytes, 3, false), Some(3), "{bytes:?}");
        }
    }

    #[test]
    fn what_may_still_be_a_character_is_waited_for_until_the_end() {
        let crab = "abc🦀".as_bytes();
        for there in 4..7 {
            assert_eq!(kept(&crab[..there], 4, false), None);
            assert_eq!(kept(&crab[..there], 4, true), Some(4));
        }
        assert_eq!(kept(crab, 4, false), Some(3));
    }
}
