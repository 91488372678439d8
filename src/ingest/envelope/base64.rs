//! Base64 with padding (RFC 4648, section 4).

use crate::ingest::batch::buffer::Buffer;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn len_of(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
}

pub(super) fn append(bytes: &[u8], to: &mut Buffer) {
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let mut four = [b'='; 4];
        for (at, digit) in four.iter_mut().enumerate().take(group.len() + 1) {
            *digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
        }
        to.append(&four);
    }
}
