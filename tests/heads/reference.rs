//! The naive twin of [`Head::parse`], which follows the specification word by word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use drainline::proxy_head::{Head, MAX_LEN};

const INVALID: Head = Head::Invalid("");

pub fn parse(bytes: &[u8]) -> Head {
    // "PROXY" and the signature differ in their first byte.
    match bytes.first() {
        None => Head::Incomplete,
        Some(b'P') => v1(bytes),
        Some(b'\r') => v2(bytes),
        Some(_) => INVALID,
    }
}

fn v1(bytes: &[u8]) -> Head {
    let part: Vec<u8> = bytes.iter().copied().take(107).collect();
    let Some(end) = part.windows(2).position(|two| two == b"\r\n") else {
        return unfinished_line(&part);
    };
    if part[..end].contains(&b'\r') {
        return INVALID;
    }
    let len = end + 2;
    let words: Vec<&[u8]> = part[..end].split(|&byte| byte == b' ').collect();
    let [b"PROXY", protocol, rest @ ..] = &words[..] else {
        return INVALID;
    };
    if *protocol == b"UNKNOWN" {
        return Head::Local { len };
    }
    let [source, destination, source_port, destination_port] = rest else {
        return INVALID;
    };
    let ip = |word: &[u8]| -> Option<IpAddr> {
        let word = std::str::from_utf8(word).ok()?;
        match *protocol {
            b"TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            b"TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |word: &[u8]| {
        let ports = 0..=u16::MAX;
        ports
            .into_iter()
            .find(|port| port.to_string().as_bytes() == word)
    };
    let peer = || {
        Some(Head::Peer {
            len,
            source: SocketAddr::new(ip(source)?, port(source_port)?),
            destination: SocketAddr::new(ip(destination)?, port(destination_port)?),
        })
    };
    peer().unwrap_or(INVALID)
}

/// A line without its end, which may still come unless something is wrong already.
fn unfinished_line(part: &[u8]) -> Head {
    let is_too_long = part.len() == 107;
    let has_lone_cr = part[..part.len() - 1].contains(&b'\r');
    let begins_right = ["PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"]
        .iter()
        .any(|right| part.iter().zip(right.as_bytes()).all(|(a, b)| a == b));
    match begins_right && !has_lone_cr && !is_too_long {
        true => Head::Incomplete,
        false => INVALID,
    }
}

fn v2(bytes: &[u8]) -> Head {
    let signature = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10];
    if bytes.iter().zip(signature).any(|(&a, b)| a != b) {
        return INVALID;
    }
    if bytes.len() < 16 {
        return Head::Incomplete;
    }
    let (command, family) = (bytes[12], bytes[13]);
    if !matches!(command, 0x20 | 0x21) {
        return INVALID;
    }
    let len = 16 + bytes[14] as usize * 256 + bytes[15] as usize;
    if len > MAX_LEN {
        return INVALID;
    }
    if len > bytes.len() {
        return Head::Incomplete;
    }
    let rest = &bytes[16..len];
    let addresses = match family >> 4 {
        0 => 0,
        1 => 2 * 4 + 2 * 2,
        2 => 2 * 16 + 2 * 2,
        3 => 2 * 108,
        _ => usize::MAX,
    };
    if command == 0x21 {
        let is_known = matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32);
        if !is_known || rest.len() < addresses {
            return INVALID;
        }
    }
    let checked = if rest.len() < addresses {
        Ok(())
    } else {
        tlvs(&bytes[..len], 16 + addresses)
    };
    if checked == Err("checksum") {
        return INVALID;
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&rest[at..at + 4]).unwrap());
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).unwrap());
    match (command, family) {
        (0x21, 0x11 | 0x21) if checked.is_err() => INVALID,
        (0x21, 0x11) => Head::Peer {
            len,
            source: SocketAddr::new(v4(0), port(8)),
            destination: SocketAddr::new(v4(4), port(10)),
        },
        (0x21, 0x21) => Head::Peer {
            len,
            source: SocketAddr::new(v6(0), port(32)),
            destination: SocketAddr::new(v6(16), port(34)),
        },
        _ => Head::Local { len },
    }
}

fn tlvs(head: &[u8], at: usize) -> Result<(), &'static str> {
    if at == head.len() {
        return Ok(());
    }
    if at + 3 > head.len() {
        return Err("cut off");
    }
    let value = at + 3;
    let end = value + head[at + 1] as usize * 256 + head[at + 2] as usize;
    if end > head.len() {
        return Err("cut off");
    }
    if head[at] == 3 {
        if end - value != 4 {
            return Err("length");
        }
        let mut zeroed = head.to_vec();
        zeroed[value..end].fill(0);
        if crc32c(&zeroed).to_be_bytes() != head[value..end] {
            return Err("checksum");
        }
    }
    tlvs(head, end)
}

/// As polynomials are divided, from the highest bit on: the bits of each byte, and of the sum, are
/// reflected.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in bytes {
        rest ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            let divides = rest >= 1 << 31;
            rest <<= 1;
            if divides {
                rest ^= 0x1edc_6f41;
            }
        }
    }
    !rest.reverse_bits()
}
