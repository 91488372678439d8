//! Heads over real sockets: the handler sees what is behind them, all of it and nothing else, and
//! who has no valid head is not served.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use drainline::{EndReason, RejectReason};

use crate::behind::{Behind, CLIENT, OTHER, Seen, binary, config, line, peer};
use crate::common::client::{self, Closed};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use crate::heads::encode::{LOCAL, PROXY, v2_of};

const BYTES: &[u8] = b"<13>one\n<13>two\n";

fn local_of(stream: &TcpStream) -> String {
    stream.local_addr().unwrap().to_string()
}

#[test]
fn a_head_may_come_apart_at_every_byte() {
    let behind = Behind::start(config());
    for (client, head) in [(CLIENT, line(CLIENT)), (OTHER, binary(OTHER))] {
        let stream = [&head[..], BYTES].concat();
        for at in 1..=head.len() + 1 {
            let mut connection = behind.connect();
            connection.set_nodelay(true).unwrap();
            connection.write_all(&stream[..at]).unwrap();
            // What there is has been looked at, and does not come together with the rest.
            client::wait_unread(&connection, 0);
            connection.write_all(&stream[at..]).unwrap();
            connection.shutdown(Shutdown::Write).unwrap();
            let balancer = Some(peer(&local_of(&connection)));
            let (peer, bytes) = (peer(client), BYTES.to_vec());
            let expected = Seen {
                peer,
                balancer,
                bytes,
            };
            assert_eq!(behind.seen(), expected, "at {at}");
        }
    }
    let report = behind.end();
    assert_eq!(
        report.stats.ended.get(EndReason::Eof),
        report.stats.accepted
    );
    assert_eq!(report.stats.unread_bytes, 0);
}

#[test]
fn a_head_with_all_bytes_and_the_end_of_the_stream_behind_it_loses_nothing() {
    let behind = Behind::start(config());
    let longest = v2_of(
        PROXY,
        0x11,
        &[&[1; 12][..], &[4, 15, 225], &[0; 4065]].concat(),
    );
    assert_eq!(longest.len(), 4096);
    for head in [line(CLIENT), binary(CLIENT), line(OTHER), longest] {
        for bytes in [vec![], vec![b'x'; 1], vec![b'y'; 100_000]] {
            let mut connection = behind.connect();
            connection.write_all(&[&head[..], &bytes].concat()).unwrap();
            connection.shutdown(Shutdown::Write).unwrap();
            let seen = behind.seen();
            assert!(seen.bytes == bytes, "{} bytes", seen.bytes.len());
            assert_eq!(seen.balancer, Some(peer(&local_of(&connection))));
        }
    }
    assert_eq!(behind.end().stats.unread_bytes, 0);
}

#[test]
fn who_has_no_valid_head_is_closed_and_its_bytes_are_counted_as_unread() {
    let behind = Behind::start(config());
    let too_long = v2_of(PROXY, 0, &[0; 5000]);
    let mut wrong_checksum = binary(CLIENT);
    *wrong_checksum.last_mut().unwrap() ^= 1;
    let bad: [&[u8]; 7] = [
        BYTES,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 70000\r\n",
        &too_long[..16],
        &v2_of(PROXY, 0x21, &[0; 12]),
        &wrong_checksum,
    ];
    let mut unread = 0;
    for (nth, bytes) in bad.iter().enumerate() {
        let mut connection = behind.connect();
        connection.write_all(bytes).unwrap();
        assert_eq!(client::wait_for_close(&mut connection), Closed::Reset);
        unread += bytes.len() as u64;
        wait_until("the end", DEADLINE, || {
            let stats = behind.server.stats();
            stats.ended.get(EndReason::ProtocolError) == nth as u64 + 1
        });
    }
    let report = behind.end();
    assert_eq!(report.stats.ended.total(), bad.len() as u64);
    let counted = report.stats.unread_ended.get(EndReason::ProtocolError);
    assert_eq!(counted, unread);
    // It is the peers' fault.
    assert!(!report.is_lossy());
}

#[test]
fn a_stream_that_ends_within_its_head_broke_the_protocol() {
    let behind = Behind::start(config());
    for head in [line(CLIENT), binary(OTHER)] {
        for at in [1, 14, head.len() - 1] {
            let mut connection = behind.connect();
            connection.write_all(&head[..at]).unwrap();
            assert_eq!(client::half_close(connection), Closed::Clean);
        }
    }
    let stats = behind.end().stats;
    assert_eq!(stats.ended.get(EndReason::ProtocolError), 6);
    assert_eq!(stats.ended.total(), 6);
}

#[test]
fn who_is_no_balancer_is_rejected_whatever_it_sends() {
    let mut config = small::config();
    config.proxy_from = ["10.0.0.0/8", "::1/128"]
        .map(|net| net.parse().unwrap())
        .into();
    // The list is of balancers, so being on the list of clients does not help.
    config.allow = ["127.0.0.0/8".parse().unwrap()].into();
    let behind = Behind::start(config);
    for head in [line(CLIENT), binary(OTHER), BYTES.to_vec(), vec![]] {
        let mut connection = behind.connect();
        let _ = connection.write_all(&head);
        client::wait_for_close(&mut connection);
    }
    let stats = behind.end().stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (0, 4));
    assert_eq!(stats.rejected.get(RejectReason::NotAllowed), 4);
}

#[test]
fn a_balancer_of_ipv4_is_known_to_a_listener_of_ipv6() {
    for network in ["127.0.0.0/8", "::ffff:127.0.0.0/104"] {
        let config = small::config().proxy_from(vec![network.parse().unwrap()]);
        let server = small::server::<Vec<u8>>()
            .config(config)
            .listen("[::]:0".parse().unwrap())
            .start_each(crate::common::echo::echo, |_| Ok(()))
            .unwrap();
        let port = server.local_addrs()[0].port();
        let mut connection = client::connect(([127, 0, 0, 1], port).into());
        connection
            .write_all(b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 514\r\n")
            .unwrap();
        crate::common::echo::assert_served(&mut connection);
        // A client of IPv4 has its IPv4 address, however its head is written.
        let connections = server.connections();
        let balancer = Some(peer(&local_of(&connection)));
        assert_eq!(
            (connections[0].peer, connections[0].balancer),
            (peer(CLIENT), balancer)
        );
        assert!(
            connections[0]
                .to_string()
                .contains(&format!(" {CLIENT} by 127.0.0.1:")),
            "{}",
            connections[0]
        );
    }
}

#[test]
fn a_probe_of_a_balancer_is_a_probe() {
    let behind = Behind::start(config());
    // Checks by connecting only.
    for _ in 0..3 {
        client::half_close(behind.connect());
        client::reset(behind.connect());
    }
    wait_until("six probes", DEADLINE, || {
        behind.server.stats().ended.total() == 6
    });
    // And by a head without a client, as HAProxy and Amazon's balancer do.
    for head in [
        v2_of(LOCAL, 0, b""),
        v2_of(LOCAL, 0x11, &[0; 12]),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ] {
        let mut connection = behind.connect();
        connection.write_all(&head).unwrap();
        let (local, closed) = (local_of(&connection), client::half_close(connection));
        let seen = behind.seen();
        assert_eq!((seen.peer, seen.balancer), (peer(&local), None));
        assert_eq!((seen.bytes.len(), closed), (0, Closed::Clean));
    }
    let stats = behind.end().stats;
    assert_eq!(stats.ended.get(EndReason::NoData), 9);
}

#[test]
fn what_a_balancer_says_for_itself_is_served() {
    let behind = Behind::start(config());
    for head in [
        v2_of(LOCAL, 0, b""),
        v2_of(PROXY, 0, b""),
        v2_of(PROXY, 0x12, &[7; 12]),
        v2_of(PROXY, 0x31, &[0; 216]),
        b"PROXY UNKNOWN ::1 ::2 3 4\r\n".to_vec(),
    ] {
        let mut connection = behind.connect();
        connection.write_all(&[&head[..], BYTES].concat()).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let (peer, bytes) = (peer(&local_of(&connection)), BYTES.to_vec());
        let balancer = None;
        let expected = Seen {
            peer,
            balancer,
            bytes,
        };
        assert_eq!(behind.seen(), expected);
    }
    behind.end();
}

#[test]
fn only_what_is_behind_the_head_is_read_or_unread() {
    // Nobody reads, so all of it is unread when the handler returns.
    let behind = Behind::reading(config(), |conn, _| {
        wait_until("all bytes", DEADLINE, || {
            rustix::io::ioctl_fionread(&*conn).unwrap() == 5000
        });
    });
    for head in [line(CLIENT), binary(OTHER)] {
        let mut connection = behind.connect();
        connection
            .write_all(&[&head[..], &[b'x'; 5000]].concat())
            .unwrap();
        behind.seen();
        client::wait_for_close(&mut connection);
    }
    let stats = behind.end().stats;
    assert_eq!(stats.unread_ended.get(EndReason::HandlerReturned), 2 * 5000);
    assert_eq!(stats.unread_bytes, 2 * 5000);
}

#[test]
fn a_read_that_does_not_wait_finds_what_came_with_the_head() {
    let behind = Behind::reading(config(), |conn, bytes| {
        let mut buffer = [0; 10];
        while let Some(read @ 1..) = conn.read_ready(&mut buffer).unwrap() {
            bytes.extend_from_slice(&buffer[..read]);
        }
    });
    let mut connection = behind.connect();
    let stream = [&line(CLIENT)[..], BYTES].concat();
    connection.write_all(&stream).unwrap();
    assert_eq!(behind.seen().bytes, BYTES);
    behind.end();
}
