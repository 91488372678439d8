//! A head before TLS: in the clear, and whatever comes behind it belongs to the handshake.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use drainline::{Config, Connection, EndReason, Listener, Server};
use rustls::ClientConfig;

use crate::authority::{Client, VERSIONS, config, tls};
use crate::before::before;
use crate::behind::{self, CLIENT, OTHER, binary, line};
use crate::common::client::{self, Closed};
use crate::common::handlers::{anywhere, drained};
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use crate::heads::encode::{LOCAL, v2_of};

/// Tells each client who it is, and returns what the client sends.
fn answer(conn: &mut Connection) -> std::io::Result<()> {
    writeln!(&*conn, "{}", conn.peer())?;
    std::io::copy(&mut &*conn, &mut &*conn).map(drop)
}

fn start(set: impl FnOnce(Config) -> Config) -> (Server, Arc<ClientConfig>) {
    let (tls, authority) = tls();
    let server = small::server::<Vec<u8>>()
        .config(set(behind::config()))
        .listener(Listener::on(anywhere()).tls(tls))
        .start_each(|conn, _| Ok(answer(conn)?), |_| Ok(()))
        .unwrap();
    (server, config(&authority, None, &VERSIONS))
}

fn address(server: &Server) -> SocketAddr {
    server.local_addrs()[0]
}

/// What a client is answered that sends `head`, then a line, and ends its stream.
fn answered(server: &Server, config: &Arc<ClientConfig>, head: &[u8], at: usize) -> String {
    let mut client = Client::new(address(server), config);
    client.socket.set_nodelay(true).unwrap();
    // The rest of the head comes with the beginning of the handshake.
    let hello = client.records();
    client.socket.write_all(&head[..at]).unwrap();
    if at > 0 {
        client::wait_unread(&client.socket, 0);
    }
    let rest = [&head[at..], &hello].concat();
    client.socket.write_all(&rest).unwrap();
    client.send(b"a line\n");
    client.session.send_close_notify();
    client.stream().flush().unwrap();
    let (answer, error) = client.rest();
    assert_eq!(error, "");
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_head_comes_before_the_handshake_however_it_comes_apart() {
    let (server, config) = start(|config| config);
    for (client, head) in [(CLIENT, line(CLIENT)), (OTHER, binary(OTHER))] {
        for at in [0, 1, 13, 20, head.len() - 1, head.len()] {
            let answer = answered(&server, &config, &head, at);
            assert_eq!(answer, format!("{client}\na line\n"), "at {at}");
        }
    }
    let stats = drained(server).stats;
    assert_closes(&stats);
    assert_eq!(stats.ended.get(EndReason::Eof), stats.accepted);
}

#[test]
fn a_handshake_without_a_head_broke_the_protocol_and_a_head_without_a_handshake_is_a_probe() {
    let (server, config) = start(|config| config);
    let mut client = Client::new(address(&server), &config);
    let hello = client.records();
    client.socket.write_all(&hello).unwrap();
    assert_eq!(client::wait_for_close(&mut client.socket), Closed::Reset);
    for head in [v2_of(LOCAL, 0, b""), line(CLIENT)] {
        let mut probe = client::connect(address(&server));
        probe.write_all(&head).unwrap();
        probe.shutdown(Shutdown::Write).unwrap();
        client::wait_for_close(&mut probe);
    }
    let stats = drained(server).stats;
    assert_closes(&stats);
    assert_eq!(stats.ended.get(EndReason::ProtocolError), 1);
    assert_eq!(stats.ended.get(EndReason::NoData), 2);
}

#[test]
fn head_and_handshake_have_one_deadline() {
    let (server, config) = start(|config| config.handshake_timeout(Duration::from_secs(3)));
    let mut client = Client::new(address(&server), &config);
    client.socket.write_all(&line(CLIENT)).unwrap();
    client.send(b"one\n");
    for head in [line(CLIENT), line(CLIENT)[..20].to_vec()] {
        let mut silent = client::connect(address(&server));
        silent.write_all(&head).unwrap();
        client::wait_for_close(&mut silent);
    }
    // The time behind the handshake is not limited by it: whoever came later has timed out.
    client.send(b"two\n");
    client.session.send_close_notify();
    client.stream().flush().unwrap();
    let (answer, _) = client.rest();
    assert_eq!(answer, format!("{CLIENT}\none\ntwo\n").as_bytes());
    let stats = drained(server).stats;
    assert_closes(&stats);
    assert_eq!(stats.ended.get(EndReason::HandshakeTimeout), 2);
    assert_eq!(stats.ended.get(EndReason::Eof), 1);
}

#[test]
fn haproxy_passes_tls_through_behind_its_head() {
    for options in [
        "send-proxy",
        "send-proxy-v2 proxy-v2-options crc32c check check-send-proxy inter 50ms",
    ] {
        let (server, config) = start(|config| config);
        let Some(haproxy) = before(address(&server), options) else {
            return;
        };
        for _ in 0..5 {
            let mut client = Client::new(haproxy.front, &config);
            client.send(b"a line\n");
            let itself = client.socket.local_addr().unwrap();
            client.session.send_close_notify();
            client.stream().flush().unwrap();
            let (answer, error) = client.rest();
            assert_eq!(error, "");
            assert_eq!(
                answer,
                format!("{itself}\na line\n").as_bytes(),
                "{options}"
            );
        }
        wait_until("five clients", DEADLINE, || {
            server.stats().ended.get(EndReason::Eof) == 5
        });
        drop(haproxy);
        let stats = drained(server).stats;
        assert_closes(&stats);
        let probes = stats.ended.get(EndReason::NoData);
        assert_eq!(probes + 5, stats.accepted, "{stats:?}");
    }
}
