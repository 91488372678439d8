//! What a record has for its key.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::*;
use crate::common::unix::{self, Place};
use drainline::Listener;

const EACH: usize = 50;

/// From an address of its own.
fn connect_from(host: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::new(host.parse().unwrap(), 0);
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// Two listeners, and hosts that send to one of them or both.
#[test]
fn the_key_is_the_senders_address_the_listeners_name_or_none() {
    const NAMES: [&str; 2] = ["one", "two"];
    const SENDERS: [(usize, &str); 3] = [(0, "127.0.0.2"), (0, "127.0.0.3"), (1, "127.0.0.2")];
    for key in [KafkaKey::None, KafkaKey::Host, KafkaKey::Listener] {
        let cluster = cluster();
        let listener = |name| Listener::on("127.0.0.1:0".parse().unwrap()).named(name);
        let server = Ingest::builder()
            .listener(listener(NAMES[0]))
            .listener(listener(NAMES[1]))
            .start(Kafka::new(options(&cluster).key(key)).unwrap())
            .unwrap();
        for (listener, host) in SENDERS {
            let mut stream = connect_from(host, server.local_addrs()[listener]);
            for _ in 0..EACH {
                writeln!(stream, "{} {host}", NAMES[listener]).unwrap();
            }
            client::half_close(stream);
        }
        let found = records(&cluster.bootstrap_servers(), SENDERS.len() * EACH);
        assert_eq!(found.len(), SENDERS.len() * EACH);
        let mut partitions: HashMap<_, HashSet<_>> = HashMap::new();
        for record in found {
            let text = String::from_utf8(record.message).unwrap();
            let (name, host) = text.split_once(' ').unwrap();
            let expected = match key {
                KafkaKey::Host => Some(host),
                KafkaKey::Listener => Some(name),
                _ => None,
            };
            let found = record.key.map(|key| String::from_utf8(key).unwrap());
            assert_eq!(found.as_deref(), expected, "{key:?}: {text}");
            partitions
                .entry(found)
                .or_default()
                .insert(record.partition);
        }
        if key != KafkaKey::None {
            assert_eq!(partitions.len(), 2, "{key:?}");
            let are_one = partitions.values().all(|of_key| of_key.len() == 1);
            assert!(are_one, "{key:?}: {partitions:?}");
        }
        assert_both_close(&server.shutdown(DEADLINE));
    }
}

#[test]
fn the_host_of_a_unix_socket_is_the_user() {
    let cluster = cluster();
    let place = Place::new();
    let server = Ingest::builder()
        .listener(Listener::unix(&place.path))
        .start(Kafka::new(options(&cluster).key(KafkaKey::Host)).unwrap())
        .unwrap();
    let mut stream = unix::connect(&place.path);
    stream.write_all(b"message\n").unwrap();
    unix::half_close(stream);
    let found = records(&cluster.bootstrap_servers(), 1);
    let key = String::from_utf8(found[0].key.clone().unwrap()).unwrap();
    let user = format!("unix:uid={}", rustix::process::getuid().as_raw());
    assert_eq!(key, user);
    assert_both_close(&server.shutdown(DEADLINE));
}

/// As its URL says; a listener without a name is known by its address.
#[cfg(feature = "cli")]
#[test]
fn the_program_takes_the_key_that_its_url_names() {
    for option in ["", "?key=none", "?key=host", "?key=listener"] {
        let cluster = cluster();
        let sink = format!("kafka://{}/{TOPIC}{option}", cluster.bootstrap_servers());
        let mut drainline = common::child::Drainline::start(&["--sink", &sink]);
        let mut stream = drainline.connect();
        stream.write_all(b"message\n").unwrap();
        client::half_close(stream);
        let key = records(&cluster.bootstrap_servers(), 1).remove(0).key;
        let expected = match option {
            "?key=host" => Some("127.0.0.1".to_owned()),
            "?key=listener" => Some(drainline.addr().to_string()),
            _ => None,
        };
        assert_eq!(key, expected.map(String::into_bytes), "{option}");
        drainline.terminate().assert_code(0);
    }
}
