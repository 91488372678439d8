//! The head that a balancer sends before the bytes of a client: the [PROXY protocol], versions 1
//! and 2.
//!
//! Pure: bytes go in, and what they are comes out. Public for tests and fuzzing, hidden from the
//! documentation and outside semver.
//!
//! [PROXY protocol]: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
#![allow(missing_docs)]

use std::net::SocketAddr;
use std::ops::Range;

use memchr::memchr;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};

/// The longest head that is read, in bytes. The protocol's own limit is 64 KiB, and it expects that
/// a head fits into the smallest TCP segment (536 bytes).
pub const MAX_LEN: usize = 4 << 10;

/// The longest line of version 1, in bytes, its CRLF included.
const MAX_V1: usize = 107;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and length of version 2, in bytes.
const FIXED: usize = 16;
const BEGINNINGS: [&[u8]; 4] = [SIGNATURE, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];

/// The type of the TLV that holds a checksum of the head (PP2_TYPE_CRC32C).
const CRC32C: u8 = 3;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The beginning of a head.
    Incomplete,
    /// A whole head of `len` bytes that names no client: the endpoints of the connection itself
    /// count. The balancer speaks for itself (LOCAL, as health checks do), or the client did not
    /// come over TCP (UNKNOWN, AF_UNSPEC, AF_UNIX, UDP).
    Local { len: usize },
    /// A whole head of `len` bytes, and the client's connection to the balancer.
    Peer {
        len: usize,
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// No head, whatever follows: what is wrong.
    Invalid(&'static str),
}

impl Head {
    /// Reads the head at the beginning of `bytes`, which may be longer. More bytes only change an
    /// [`Incomplete`](Head::Incomplete) head.
    pub fn parse(bytes: &[u8]) -> Self {
        let fits = |whole: &&[u8]| bytes.starts_with(whole) || whole.starts_with(bytes);
        if !BEGINNINGS.iter().any(fits) {
            return Head::Invalid("no PROXY protocol header");
        }
        let head = match bytes.first() {
            None => return Head::Incomplete,
            Some(b'P') => v1(bytes),
            Some(_) => v2(bytes),
        };
        head.unwrap_or_else(Head::Invalid)
    }
}

/// One line. proxy-header reads the addresses of a whole one; what it is lenient about is checked
/// here: the length, and how ports are written.
fn v1(bytes: &[u8]) -> Result<Head, &'static str> {
    let most = &bytes[..bytes.len().min(MAX_V1)];
    let Some(cr) = memchr(b'\r', most).filter(|cr| cr + 2 <= MAX_V1) else {
        return match bytes.len() {
            ..MAX_V1 => Ok(Head::Incomplete),
            _ => Err("the PROXY line is longer than 107 bytes"),
        };
    };
    match bytes.get(cr + 1) {
        None => return Ok(Head::Incomplete),
        Some(b'\n') => {}
        Some(_) => return Err("a CR without a LF in the PROXY line"),
    }
    let (line, len) = (&bytes[..cr], cr + 2);
    // The rest of such a line is to be ignored.
    if let Some(rest) = line.strip_prefix(b"PROXY UNKNOWN") {
        return match rest.first() {
            None | Some(b' ') => Ok(Head::Local { len }),
            Some(_) => Err("an unknown protocol in the PROXY line"),
        };
    }
    let mut ports = line.rsplit(|&byte| byte == b' ').take(2);
    if !ports.all(is_canonical_port) {
        return Err("an invalid port in the PROXY line");
    }
    match ProxyHeader::parse(&bytes[..len], ParseConfig::default()) {
        Ok((header, _)) => Ok(head_of(&header, len)),
        Err(_) => Err("an invalid address in the PROXY line"),
    }
}

/// Whether a port has no sign and no leading zero.
fn is_canonical_port(port: &[u8]) -> bool {
    port.iter().all(u8::is_ascii_digit) && (port.len() == 1 || !port.starts_with(b"0"))
}

/// Binary. proxy-header reads the addresses of a whole head that names a client; it does not limit
/// the length, and leaves TLVs and the checksum in them to its caller.
fn v2(bytes: &[u8]) -> Result<Head, &'static str> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Ok(Head::Incomplete);
    };
    let &[.., command, family, high, low] = fixed;
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("an unknown version or command in the PROXY header"),
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_LEN {
        return Err("the PROXY header is longer than 4096 bytes");
    }
    let Some(head) = bytes.get(..len) else {
        return Ok(Head::Incomplete);
    };
    // Of a head that names nobody, even the family is to be ignored.
    let found = if is_local {
        Head::Local { len }
    } else {
        // All bytes are there, so an address that needs more is longer than the head.
        let parsed = ProxyHeader::parse(head, ParseConfig::default());
        let (header, _) = parsed.map_err(|_| "an invalid family or length in the PROXY header")?;
        head_of(&header, len)
    };
    let tlvs = address_bytes(family).and_then(|addresses| head.get(FIXED + addresses..));
    match (tlvs.map(|tlvs| check_tlvs(head, tlvs)), found) {
        (Some(Tlvs::WrongChecksum), _) => Err("a wrong checksum in the PROXY header"),
        (Some(Tlvs::Malformed), Head::Peer { .. }) => Err("an invalid TLV in the PROXY header"),
        // Behind a head that names nobody, there may be addresses in the place of TLVs.
        _ => Ok(found),
    }
}

/// A datagram's source is no peer of a stream: anybody can write one.
fn head_of(header: &ProxyHeader<'_>, len: usize) -> Head {
    match header.proxied_address() {
        Some(addresses) if addresses.protocol == Protocol::Stream => Head::Peer {
            len,
            source: addresses.source,
            destination: addresses.destination,
        },
        _ => Head::Local { len },
    }
}

/// How long the two addresses of a family are, with their ports.
fn address_bytes(family: u8) -> Option<usize> {
    match family >> 4 {
        0 => Some(0),
        1 => Some(12),
        2 => Some(36),
        3 => Some(216),
        _ => None,
    }
}

enum Tlvs {
    Intact,
    Malformed,
    WrongChecksum,
}

/// Checks the TLVs, which are the last bytes of a head, and the checksum of the head if there is
/// one.
fn check_tlvs(head: &[u8], tlvs: &[u8]) -> Tlvs {
    let mut at = head.len() - tlvs.len();
    while at < head.len() {
        let Some(&[kind, high, low]) = head[at..].first_chunk() else {
            return Tlvs::Malformed;
        };
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        at = value.end;
        match head.get(value.clone()) {
            None => return Tlvs::Malformed,
            Some(sum) if kind == CRC32C => match <[u8; 4]>::try_from(sum) {
                Err(_) => return Tlvs::Malformed,
                Ok(sum) if u32::from_be_bytes(sum) != crc32c(head, value) => {
                    return Tlvs::WrongChecksum;
                }
                Ok(_) => {}
            },
            Some(_) => {}
        }
    }
    Tlvs::Intact
}

/// CRC-32C (RFC 9260, appendix A) of a head whose checksum is taken for zeros. A bit at a time: a
/// head has some hundred bytes, and a connection one head.
fn crc32c(head: &[u8], checksum: Range<usize>) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for (at, &byte) in head.iter().enumerate() {
        crc ^= u32::from(if checksum.contains(&at) { 0 } else { byte });
        for _ in 0..8 {
            let odd = crc & 1;
            crc >>= 1;
            if odd == 1 {
                crc ^= REVERSED_POLYNOMIAL;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_castagnoli_one() {
        assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
        assert_eq!(crc32c(b"0000", 0..4), crc32c(&[0; 4], 0..0));
    }
}
