//! Listeners with names, and with handlers of their own.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::Duration;

use drainline::ingest::sink::Null;
use drainline::ingest::{Framing, Ingest, ReadMessages};
use drainline::{FirstByteTimeout, Listener};

use super::builder;
use super::common::client;
use super::common::handlers::{anywhere, drained};
use super::common::small;
use super::common::wait::{DEADLINE, wait_until};

#[test]
fn a_connection_knows_its_listener_and_each_listener_may_have_its_handler() {
    let bound = TcpListener::bind(anywhere()).unwrap();
    let (tell, told) = channel();
    let server = builder::<String>(|_| {})
        .listener(Listener::on(anywhere()).named("plain"))
        .listener_with(Listener::from(bound).named("admin"), |conn, _| {
            let (name, index) = (conn.listener(), conn.listener_index());
            Ok(writeln!(&*conn, "{name} {index} {}", conn.local_addr()?)?)
        })
        .start_each(
            |conn, out| Ok(out.send(format!("{} {}", conn.listener(), conn.listener_index()))?),
            move |message| Ok(tell.send(message)?),
        )
        .unwrap();
    let addresses = server.local_addrs();
    let mut admin = client::connect(addresses[2]);
    let (said, _) = client::read_to_end(&mut admin);
    let expected = format!("admin 2 {}\n", addresses[2]);
    assert_eq!(String::from_utf8(said).unwrap(), expected);
    let _unnamed = client::connect(addresses[0]);
    let expected = format!("{} 0", addresses[0]);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(expected));
    let _named = client::connect(addresses[1]);
    assert_eq!(told.recv_timeout(DEADLINE).as_deref(), Ok("plain 1"));
}

#[test]
fn connections_are_listed_with_their_listener() {
    let server = builder(|_| {})
        .listener(Listener::on(anywhere()).named("plain"))
        .serve(|conn| Ok(std::io::copy(conn, &mut std::io::sink()).map(drop)?))
        .unwrap();
    let _client = client::connect(server.local_addrs()[1]);
    wait_until("a connection", DEADLINE, || server.stats().open == 1);
    let connections = server.connections();
    assert_eq!(&*connections[0].listener, "plain");
    let text = connections[0].to_string();
    assert!(text.contains(" at plain reading, for "), "{text}");
}

/// A health check beside the messages: nothing of it reaches the sink.
#[test]
fn an_ingest_server_has_listeners_that_send_its_sink_nothing() {
    let server = Ingest::builder()
        .listen(anywhere())
        .listener_with(Listener::on(anywhere()).named("health"), |conn| {
            let mut requests = conn.messages(Framing::Lines, 100);
            while requests.next().transpose()?.is_some() {
                writeln!(requests, "up")?;
            }
            Ok(())
        })
        .start(Null)
        .unwrap();
    let addresses = server.local_addrs();
    let mut health = client::connect(addresses[1]);
    health.write_all(b"how are you?\n").unwrap();
    health.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client::read_to_end(&mut health).0, b"up\n");
    let mut plain = client::connect(addresses[0]);
    plain.write_all(b"a message\n").unwrap();
    client::half_close(plain);
    wait_until("the message", DEADLINE, || server.stats().delivered == 1);
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.stats.received, 1, "{report:?}");
    assert!(report.is_balanced(), "{report:?}");
}

#[test]
fn beside_an_ingest_a_listener_may_have_its_handler_whose_memory_and_bytes_are_its_own() {
    let mut config = small::config();
    config.handler_bytes = 1 << 20;
    let plain = || small::ingest().config(config.clone()).listen(anywhere());
    let with_own = plain().listener_with(Listener::on(anywhere()).named("own"), |conn| {
        std::io::copy(&mut &*conn, &mut &*conn)?;
        Ok(writeln!(&*conn, " {}", conn.listener())?)
    });
    // What the handler's own memory may be counts where there is such a handler.
    let (plain_limits, own_limits) = (plain().check().unwrap().0, with_own.check().unwrap().0);
    assert!(own_limits.memory_bytes > plain_limits.memory_bytes + (1 << 20));

    let server = with_own.start(Null).unwrap();
    let mut client = client::connect(server.local_addrs()[1]);
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (said, _) = client::read_to_end(&mut client);
    assert_eq!(String::from_utf8(said).unwrap(), "hello own\n");
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"a line\n").unwrap();
    wait_until("a delivery", DEADLINE, || server.stats().delivered == 1);
    assert_eq!(drained(server).bytes.bytes_read, 7);
}

#[test]
fn a_listeners_own_setting_that_does_not_hold_is_refused_by_its_name() {
    let on = || Listener::on(anywhere());
    let wrong: [(Listener, &str); 7] = [
        (
            on().named("syslog").max_connections(0),
            "invalid value '0' for max_connections of listener syslog: expected 1 to 1000000",
        ),
        (
            on().named("syslog").max_connections(11),
            "invalid value '11' for max_connections of listener syslog: expected at most max_connections (10), \
             which all listeners share",
        ),
        (
            on().rate_limit(0),
            "invalid value '0' for rate_limit of listener 127.0.0.1:0: expected 1 to 18446744073709551615",
        ),
        (
            on().named("syslog").frame_timeout(Duration::ZERO),
            "invalid value '0ns' for frame_timeout of listener syslog: expected 100ms to 31536000s",
        ),
        (
            on().named("syslog").idle_timeout(Duration::MAX),
            "invalid value '18446744073709551615.999999999s' for idle_timeout of listener syslog: expected 100ms \
             to 31536000s",
        ),
        (
            on().named("syslog")
                .first_byte_timeout(FirstByteTimeout::After(Duration::ZERO)),
            "invalid value '0ns' for first_byte_timeout of listener syslog: expected 100ms to 31536000s",
        ),
        (
            on().named("twice"),
            "invalid value 'twice' for name: expected a name that no other listener has",
        ),
    ];
    for (listener, expected) in wrong {
        let builder = builder::<()>(|_| {}).listener(on().named("twice"));
        let error = builder.listener(listener).check().unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
