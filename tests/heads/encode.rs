//! Writes heads, right and wrong ones.

use std::net::{Ipv6Addr, SocketAddr};

pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
pub const LOCAL: u8 = 0x20;
pub const PROXY: u8 = 0x21;
pub const CRC32C: u8 = 3;

pub fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { 4 } else { 6 };
    let (from, to) = (source.ip(), destination.ip());
    let (port, to_port) = (source.port(), destination.port());
    format!("PROXY TCP{family} {from} {to} {port} {to_port}\r\n").into()
}

pub fn v2(source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let rest = [&addresses(source, destination), tlvs].concat();
    v2_of(PROXY, family, &rest)
}

pub fn v2_of(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &len, rest].concat()
}

fn addresses(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ports = [
        source.port().to_be_bytes(),
        destination.port().to_be_bytes(),
    ]
    .concat();
    let ips = match (source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            [from.ip().octets(), to.ip().octets()].concat()
        }
        (from, to) => [mapped(from).octets(), mapped(to).octets()].concat(),
    };
    [ips, ports].concat()
}

fn mapped(address: SocketAddr) -> Ipv6Addr {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    }
}

pub fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = (value.len() as u16).to_be_bytes();
    [&[kind], &len[..], value].concat()
}

/// A TLV for a checksum, which [`with_checksum`] makes right.
pub fn checksum() -> Vec<u8> {
    tlv(CRC32C, &[0; 4])
}

/// Makes the last four bytes of a head the right checksum.
pub fn with_checksum(head: &[u8]) -> Vec<u8> {
    let Some((rest, _)) = head.split_last_chunk::<4>() else {
        return head.to_vec();
    };
    let sum = super::reference::crc32c(&[rest, &[0; 4]].concat());
    [rest, &sum.to_be_bytes()].concat()
}
