//! The head by itself: as the specification has it, however it comes apart, and hostile ones end at
//! once.

use std::net::{IpAddr, SocketAddr};

use drainline::proxy_head::{Head, MAX_LEN};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::corpus;
use crate::heads::encode::{self, LOCAL, PROXY, SIGNATURE, checksum, tlv, v1, v2, v2_of};
use crate::heads::{check, check_fuzzed, len};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn peer_of(head: Head) -> Option<(SocketAddr, SocketAddr)> {
    match head {
        Head::Peer {
            source,
            destination,
            ..
        } => Some((source, destination)),
        _ => None,
    }
}

fn is_invalid(bytes: impl AsRef<[u8]>) -> bool {
    matches!(check(bytes.as_ref()), Head::Invalid(_))
}

#[test]
fn a_head_names_the_client_and_what_it_connected_to() {
    for (from, to) in [
        ("192.0.2.7:4711", "10.0.0.1:514"),
        ("0.0.0.0:0", "255.255.255.255:65535"),
        ("[2001:db8::7]:4711", "[::1]:514"),
        ("[::ffff:192.0.2.7]:1", "[::ffff:10.0.0.1]:2"),
    ] {
        let (from, to) = (address(from), address(to));
        for head in [
            v1(from, to),
            v2(from, to, b""),
            v2(from, to, &tlv(5, b"an id")),
        ] {
            let behind = [&head[..], b"<13>a message\n"].concat();
            let found = check(&behind);
            assert_eq!(len(found), Some(head.len()));
            assert_eq!(peer_of(found), Some((from, to)));
        }
    }
}

#[test]
fn who_is_named_by_no_head_is_the_balancer() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    let (v4, v6, unix) = ([7; 12], [7; 36], [7; 216]);
    for head in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN anything \n at all\r\n".to_vec(),
        longest.into(),
        v2_of(LOCAL, 0x00, b""),
        // As Amazon's balancer checks for health.
        v2_of(LOCAL, 0x11, &v4),
        v2_of(LOCAL, 0x11, b""),
        v2_of(LOCAL, 0xff, b"whatever it is"),
        v2_of(PROXY, 0x00, b""),
        v2_of(PROXY, 0x00, &v4),
        v2_of(PROXY, 0x12, &v4),
        v2_of(PROXY, 0x22, &v6),
        v2_of(PROXY, 0x31, &unix),
        v2_of(PROXY, 0x32, &unix),
    ] {
        let behind = [&head[..], b"<13>a message\n"].concat();
        assert_eq!(check(&behind), Head::Local { len: head.len() });
    }
}

#[test]
fn a_line_that_is_not_exactly_right_is_invalid() {
    for line in [
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 514 9\r\n",
        "PROXY  TCP4 192.0.2.7 10.0.0.1 4711 514\r\n",
        "PROXYXTCP4 192.0.2.7 10.0.0.1 4711 514\r\n",
        "PROXY TCP4 192.0.2.7  10.0.0.1 4711 514\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 514 \r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 514\rX",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 514\r\r\n",
        "PROXY TCP4 192.0.2.256 10.0.0.1 4711 514\r\n",
        "PROXY TCP4 192.0.02.7 10.0.0.1 4711 514\r\n",
        "PROXY TCP4 ::1 ::1 4711 514\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 4711 514\r\n",
        "PROXY TCP6 ::1%lo ::1 4711 514\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 514\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 04711 514\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +4711 514\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 00\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4711 \r\n",
        "PROXY UDP4 192.0.2.7 10.0.0.1 4711 514\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN a\rb\r\n",
        "PROXY\r\n",
        "proxy TCP4 192.0.2.7 10.0.0.1 4711 514\r\n",
        "<13>a message\n",
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n",
        "\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
    ] {
        assert!(is_invalid(line) != (line == "\r\n\r\n"), "{line:?}");
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    for (filler, is_valid) in [(91, true), (92, false), (93, false), (4000, false)] {
        let line = format!("PROXY UNKNOWN {}\r\n", "f".repeat(filler));
        assert_eq!(is_invalid(line), !is_valid, "{filler}");
    }
    let endless = b"PROXY UNKNOWN "
        .iter()
        .chain(std::iter::repeat_n(&b'f', 93));
    let endless: Vec<u8> = endless.copied().collect();
    assert_eq!(check(&endless[..106]), Head::Incomplete);
    assert!(is_invalid(&endless[..107]));
}

#[test]
fn a_binary_head_too_short_for_its_family_is_invalid_and_not_unfinished() {
    for (family, needed) in [
        (0x11, 12),
        (0x12, 12),
        (0x21, 36),
        (0x22, 36),
        (0x31, 216),
        (0x32, 216),
    ] {
        for len in [0, 1, needed - 1] {
            let head = v2_of(PROXY, family, &vec![0; len]);
            // More bytes do not make it longer.
            assert!(is_invalid(&head));
            assert!(is_invalid([&head[..], &[0; 300]].concat()));
        }
        assert!(!is_invalid(v2_of(PROXY, family, &vec![0; needed])));
    }
}

#[test]
fn a_binary_head_of_an_unknown_kind_is_invalid() {
    for command in (0..=255).filter(|command| ![LOCAL, PROXY].contains(command)) {
        assert!(is_invalid(v2_of(command, 0x11, &[0; 12])));
    }
    let known = [0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32];
    for family in 0..=255 {
        let is_known = known.contains(&family);
        assert_eq!(is_invalid(v2_of(PROXY, family, &[0; 216])), !is_known);
    }
}

#[test]
fn a_head_longer_than_the_limit_is_invalid_as_soon_as_it_says_so() {
    for (rest, is_valid) in [(MAX_LEN - 16, true), (MAX_LEN - 15, false), (65_535, false)] {
        let head = v2_of(LOCAL, 0, &vec![0; rest]);
        assert_eq!(check(&head[..15]), Head::Incomplete);
        assert_eq!(is_invalid(&head[..16]), !is_valid);
        assert_eq!(is_invalid(&head), !is_valid);
    }
}

#[test]
fn a_checksum_is_checked_where_there_is_one() {
    let (from, to) = (address("192.0.2.7:4711"), address("10.0.0.1:514"));
    let tlvs = [tlv(4, b"padding"), checksum()].concat();
    let sealed = [
        encode::with_checksum(&v2(from, to, &tlvs)),
        encode::with_checksum(&v2(address("[::1]:1"), address("[::2]:2"), &tlvs)),
        encode::with_checksum(&v2_of(LOCAL, 0, &tlvs)),
        encode::with_checksum(&v2_of(PROXY, 0, &tlvs)),
        encode::with_checksum(&v2_of(PROXY, 0x31, &[vec![1; 216], tlvs.clone()].concat())),
    ];
    for head in sealed {
        assert!(!is_invalid(&head));
        // What says where the checksum is: the family, the length, and the types and lengths of the
        // two TLVs.
        let end = head.len();
        let says_where = [13..16, end - 17..end - 14, end - 7..end - 4];
        for at in 0..end {
            if says_where.iter().any(|part| part.contains(&at)) {
                continue;
            }
            for bit in 0..8 {
                let mut flipped = head.clone();
                flipped[at] ^= 1 << bit;
                assert!(is_invalid(&flipped), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn a_client_is_not_named_by_a_head_with_broken_tlvs() {
    let (from, to) = (address("192.0.2.7:4711"), address("10.0.0.1:514"));
    for tlvs in [
        &b"\x04"[..],
        b"\x04\x00",
        b"\x04\x00\x01",
        b"\x04\xff\xff",
        b"\x03\x00\x03abc",
        b"\x03\x00\x05abcde",
        b"\x04\x00\x00\x04",
    ] {
        assert!(is_invalid(v2(from, to, tlvs)));
        // Of such a head nothing is used.
        assert!(!is_invalid(v2_of(LOCAL, 0, tlvs)));
    }
}

#[test]
fn the_corpus_of_the_fuzz_target_passes() {
    for input in corpus::of("proxy-head") {
        check_fuzzed(&input);
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_tlvs() -> impl Strategy<Value = Vec<u8>> {
    let any_tlv = (any::<u8>(), vec(any::<u8>(), 0..20)).prop_map(|(kind, value)| match kind {
        encode::CRC32C => tlv(encode::CRC32C + 1, &value),
        kind => tlv(kind, &value),
    });
    vec(any_tlv, 0..4).prop_map(|tlvs| tlvs.concat())
}

/// Right ones, and nearly right ones.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let families = proptest::sample::select(vec![0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32, 0x10]);
    let rest = prop_oneof![
        4 => (proptest::sample::select(vec![0, 12, 36, 216]), any_tlvs())
            .prop_map(|(addresses, tlvs)| [vec![1; addresses], tlvs].concat()),
        1 => vec![any::<u8>(); 40],
    ];
    let command = prop_oneof![4 => Just(PROXY), 2 => Just(LOCAL), 1 => any::<u8>()];
    prop_oneof![
        (any_address(), any_address()).prop_map(|(from, to)| v1(from, to)),
        (any_address(), any_address(), any_tlvs()).prop_map(|(from, to, tlvs)| v2(from, to, &tlvs)),
        (any_address(), any_address(), any_tlvs()).prop_map(|(from, to, tlvs)| {
            encode::with_checksum(&v2(from, to, &[tlvs, checksum()].concat()))
        }),
        (command, families, rest).prop_map(|(command, family, rest)| v2_of(command, family, &rest)),
        "PROXY (TCP4|TCP6|UNKNOWN)[ -~]{0,95}(\r\n|\r|\n|)".prop_map(String::into_bytes),
    ]
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(u8),
    Flip(u8),
    Insert(u8),
    Remove,
    Truncate,
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<u8>().prop_map(Mutation::Set),
        (0..8u8).prop_map(Mutation::Flip),
        proptest::sample::select(b" \r\n0.:PROXY\0".to_vec()).prop_map(Mutation::Insert),
        Just(Mutation::Remove),
        Just(Mutation::Truncate),
    ]
}

fn mutate(bytes: &mut Vec<u8>, at: usize, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let at = at % bytes.len();
    match *mutation {
        Mutation::Set(byte) => bytes[at] = byte,
        Mutation::Flip(bit) => bytes[at] ^= 1 << bit,
        Mutation::Insert(byte) => bytes.insert(at, byte),
        Mutation::Remove => drop(bytes.remove(at)),
        Mutation::Truncate => bytes.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn heads_and_mutated_ones_are_what_the_twin_says(
        mut head in any_head(),
        mutations in vec((any::<usize>(), any_mutation()), 0..4),
        behind in vec(any::<u8>(), 0..30),
    ) {
        for (at, mutation) in &mutations {
            mutate(&mut head, *at, mutation);
        }
        head.extend(behind);
        check(&head);
    }

    #[test]
    fn any_bytes_behind_a_signature_are_what_the_twin_says(data in vec(any::<u8>(), 0..300)) {
        check_fuzzed(&data);
        check(&[SIGNATURE, &data].concat());
    }
}
