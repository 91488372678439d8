//! Who may come in: by list, and by the share of an address, which behind a balancer is the
//! client's.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use drainline::{Config, EndReason, Listener, NotAcceptingReason, Peers, RejectReason, Server};

use crate::behind::{self, CLIENT, OTHER, binary, line};
use crate::common::client::{self, Closed};
use crate::common::echo;
use crate::common::handlers::drained;
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use crate::heads::encode::{LOCAL, v2_of};

fn allow(mut config: Config, list: &[&str]) -> Config {
    config.allow = list.iter().map(|one| one.parse().unwrap()).collect();
    config
}

fn behind(server: &Server, head: &[u8]) -> TcpStream {
    let mut connection = client::connect(server.local_addrs()[0]);
    connection.write_all(head).unwrap();
    connection
}

#[track_caller]
fn assert_closed_without_a_word(mut connection: TcpStream) {
    assert_eq!(client::read_to_end(&mut connection).0, b"");
}

#[test]
fn who_is_on_no_list_is_rejected_at_once() {
    for (list, is_allowed) in [
        (vec!["10.0.0.0/8"], false),
        (vec!["uid:0"], false),
        (vec!["10.0.0.0/8", "127.0.0.1"], true),
        (vec!["::ffff:127.0.0.0/104"], true),
    ] {
        let server = echo::start(allow(small::config(), &list), &[echo::ANY]);
        let mut connection = client::connect(server.local_addrs()[0]);
        if is_allowed {
            echo::assert_served(&mut connection);
        } else {
            assert_eq!(client::wait_for_close(&mut connection), Closed::Clean);
        }
        drop(connection);
        let stats = drained(server).stats;
        assert_closes(&stats);
        assert_eq!(
            stats.rejected.get(RejectReason::NotAllowed),
            u64::from(!is_allowed)
        );
        assert_eq!(stats.accepted, u64::from(is_allowed));
    }
}

#[test]
fn whoever_is_rejected_uses_up_no_connection_and_no_rate() {
    let mut config = allow(small::config(), &["10.0.0.0/8"]);
    config.max_connections = Some(1);
    config.accept_rate = Some(1);
    let server = echo::start(config, &[echo::ANY]);
    for _ in 0..20 {
        let mut connection = client::connect(server.local_addrs()[0]);
        client::wait_for_close(&mut connection);
    }
    let stats = drained(server).stats;
    assert_eq!(stats.rejected.get(RejectReason::NotAllowed), 20);
    // Nor the rate at which others are accepted.
    let held = &stats.not_accepting_seconds;
    for reason in [
        NotAcceptingReason::AcceptRate,
        NotAcceptingReason::MaxConnections,
    ] {
        assert_eq!(held.get(reason), Duration::ZERO, "{reason}");
    }
}

#[test]
fn behind_a_balancer_the_list_is_of_its_clients() {
    let config = allow(behind::config(), &["192.0.2.0/24"]);
    let server = echo::start(config, &[echo::ANY]);
    for head in [line(CLIENT), binary(CLIENT)] {
        echo::assert_served(&mut behind(&server, &head));
    }
    for head in [line(OTHER), binary(OTHER)] {
        assert_closed_without_a_word(behind(&server, &head));
    }
    // A balancer that is no client: what it says for itself is not heard, and its checks are.
    assert_closed_without_a_word(behind(&server, &[&v2_of(LOCAL, 0, b"")[..], b"x"].concat()));
    assert_closed_without_a_word(behind(&server, &v2_of(LOCAL, 0, b"")));
    // By version 1 it names itself in a check.
    let mut check = client::connect(server.local_addrs()[0]);
    let itself = check.local_addr().unwrap().to_string();
    check.write_all(&line(&itself)).unwrap();
    assert_closed_without_a_word(check);
    let report = drained(server);
    assert_closes(&report.stats);
    let ended = &report.stats.ended;
    assert_eq!(report.stats.accepted, 7);
    assert_eq!(ended.get(EndReason::NotAllowed), 3);
    assert_eq!(ended.get(EndReason::NoData), 2);
    assert_eq!(report.stats.rejected.total(), 0);
    assert!(!report.is_lossy());
}

#[test]
fn behind_a_balancer_each_client_has_its_own_share_and_gets_it_back() {
    let mut config = behind::config();
    config.max_connections_per_ip = Some(2);
    let server = echo::start(config, &[echo::ANY]);
    let served = |head: &[u8]| {
        let mut connection = behind(&server, head);
        echo::assert_served(&mut connection);
        connection
    };
    // More connections than one address may have, all from the balancer's, whose clients are not
    // known yet.
    let head = line(CLIENT);
    let unknown: Vec<_> = (0..5).map(|_| behind(&server, &head[..20])).collect();
    wait_until("five handshakes", DEADLINE, || server.stats().open == 5);
    drop(unknown);
    let mut one: Vec<_> = (0..2).map(|_| served(&line(CLIENT))).collect();
    let other: Vec<_> = (0..2).map(|_| served(&binary(OTHER))).collect();
    for head in [line(CLIENT), binary(CLIENT), line(OTHER)] {
        assert_closed_without_a_word(behind(&server, &head));
    }
    wait_until("three ends", DEADLINE, || {
        server.stats().ended.get(EndReason::PerAddress) == 3
    });
    drop(one.pop());
    wait_until("its place again", DEADLINE, || {
        echo::is_served(&mut behind(&server, &line(CLIENT)), DEADLINE)
    });
    assert_closed_without_a_word(behind(&server, &line(OTHER)));
    drop((one, other));
    let report = drained(server);
    assert_closes(&report.stats);
    assert_eq!(report.stats.rejected.total(), 0);
    assert!(!report.is_lossy());
}

#[test]
fn each_listener_has_its_own_lists() {
    let net = |text: &str| -> Peers { text.parse().unwrap() };
    let mut config = allow(behind::config(), &["192.0.2.0/24"]);
    config.handshake_timeout = Duration::from_secs(3600);
    let nobody: [Peers; 0] = [];
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listener(Listener::on(echo::ANY.parse().unwrap()).named("common"))
        .listener(
            Listener::on(echo::ANY.parse().unwrap())
                .named("direct")
                .proxy_from(nobody),
        )
        .listener(
            Listener::on(echo::ANY.parse().unwrap())
                .named("open")
                .proxy_from(nobody)
                .allow(nobody),
        )
        .listener(
            Listener::on(echo::ANY.parse().unwrap())
                .named("other")
                .allow([net("2001:db8::/32")]),
        )
        .listener(
            Listener::on(echo::ANY.parse().unwrap())
                .named("hasty")
                .handshake_timeout(Duration::from_millis(200)),
        )
        .start_each(echo::echo, |_| Ok(()))
        .unwrap();
    let connect = |nth: usize, head: &[u8]| {
        let mut connection = client::connect(server.local_addrs()[nth]);
        let _ = connection.write_all(head);
        connection
    };
    echo::assert_served(&mut connect(0, &line(CLIENT)));
    assert_closed_without_a_word(connect(0, &line(OTHER)));
    // Nobody of this machine is in the common list.
    let mut direct = connect(1, b"");
    client::wait_for_close(&mut direct);
    echo::assert_served(&mut connect(2, b""));
    echo::assert_served(&mut connect(3, &line(OTHER)));
    assert_closed_without_a_word(connect(3, &line(CLIENT)));
    assert_closed_without_a_word(connect(4, &line(OTHER)[..20]));
    let stats = drained(server).stats;
    assert_closes(&stats);
    assert_eq!(stats.rejected.get(RejectReason::NotAllowed), 1);
    assert_eq!(stats.ended.get(EndReason::NotAllowed), 2);
    assert_eq!(stats.ended.get(EndReason::HandshakeTimeout), 1);
}

#[test]
fn a_handshake_timeout_out_of_its_range_is_an_error_of_its_listener() {
    let listener = Listener::on(echo::ANY.parse().unwrap()).named("a");
    let builder = small::server::<Vec<u8>>().listener(listener.handshake_timeout(Duration::ZERO));
    let error = builder
        .start_each(echo::echo, |_| Ok(()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("handshake_timeout") && error.contains('a'),
        "{error}"
    );
}
