//! Listeners with names, and with handlers of their own.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::Duration;

use drainline::ingest::sink::Null;
use drainline::ingest::{Framing, IngestListener, Oversize, ReadMessages};
use drainline::{
    Activity, Builder, Config, DropReason, FirstByteTimeout, IpNet, Listener, Peers, Server,
};

use super::builder;
use super::common::client;
use super::common::handlers::{anywhere, drained};
use super::common::ledger::assert_both_close;
use super::common::small;
use super::common::valve::Valve;
use super::common::wait::{DEADLINE, wait_for, wait_until};

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
    let connection = wait_for("a connection that reads", DEADLINE, || {
        let mut connections = server.connections().into_iter();
        connections.find(|it| it.state == Activity::Reading)
    });
    assert_eq!(&*connection.listener, "plain");
    let text = connection.to_string();
    assert!(text.contains(" at plain reading, for "), "{text}");
}

/// A health check beside the messages: nothing of it reaches the sink.
#[test]
fn an_ingest_server_has_listeners_that_send_its_sink_nothing() {
    let server = small::ingest()
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
    let long = || vec![Peers::Uid(0); 65_537];
    let wrong: [(Listener, &str); 10] = [
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
            on().named("syslog").allow(long()),
            "invalid value '65537 entries' for allow of listener syslog: expected at most 65536",
        ),
        (
            on().named("syslog").proxy_from(long()),
            "invalid value '65537 entries' for proxy_from of listener syslog: expected at most 65536",
        ),
        (
            on().named("n".repeat(256)),
            "invalid value '256 bytes' for name: expected 1 to 255",
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

#[test]
fn a_list_of_peers_is_checked_and_counted_once_for_all_listeners_and_again_where_it_is_ones_own() {
    type Settings = fn(Config, usize) -> Config;
    let networks: [(&str, Settings); 3] = [
        ("allow", |config, n| config.allow(vec![Peers::Uid(0); n])),
        ("proxy_from", |config, n| {
            config.proxy_from(vec![Peers::Uid(0); n])
        }),
        ("per_ip_exempt", |config, n| {
            config.per_ip_exempt(vec!["10.0.0.0/8".parse().unwrap(); n])
        }),
    ];
    let memory = |builder: Builder<()>| builder.check().unwrap().0.memory_bytes;
    let on = |count: usize, config: Config| {
        let builder = Server::builder().config(config);
        (0..count).fold(builder, |builder, _| builder.listen(anywhere()))
    };
    const MOST: usize = 65_536;
    let takes = (MOST as u64 - 2) * size_of::<IpNet>() as u64;
    for (name, with) in networks {
        let list = |count, n| memory(on(count, with(small::config(), n)));
        let of_one = list(1, MOST) - list(1, 1);
        assert!((takes..2 * takes).contains(&of_one), "{name}: {of_one}");
        assert_eq!(list(20, MOST) - list(20, 1), of_one, "{name}");
        let error = on(1, with(small::config(), MOST + 1)).check().unwrap_err();
        let expected = format!("invalid value '65537 entries' for {name}: expected at most 65536");
        assert_eq!(error.to_string(), expected);
    }
    let own = |n| {
        let own = || Listener::on(anywhere()).allow(vec![Peers::Uid(0); n]);
        memory(on(0, small::config()).listener(own()).listener(own()))
    };
    assert!(own(MOST) - own(1) >= 2 * takes);
    let reserving = |bytes| memory(on(1, small::config()).reserve_memory(bytes));
    assert_eq!(reserving(12_345) - reserving(0), 12_345);
}

#[test]
fn each_listener_of_an_ingest_may_have_its_framing_and_its_longest_message() {
    let on = |name| IngestListener::from(Listener::on(anywhere()).named(name));
    let valve = Valve::keeping_messages();
    let server = small::ingest()
        .max_message(8)
        .listener(on("lines"))
        .listener(on("nul").framing(Framing::Nul).oversize(Oversize::Drop))
        .listener(on("counted").framing(Framing::OctetCounted).max_message(20))
        .start(valve.sink())
        .unwrap();
    let inputs: [&[u8]; 3] = [
        b"short\nfar too long\n",
        b"short\0far too long\0with\nLF\0",
        b"3 LF\n12 a longer one",
    ];
    let expected: [&[&[u8]]; 3] = [
        &[b"short", b"far too "],
        &[b"short", b"with\nLF"],
        &[b"LF\n", b"a longer one"],
    ];
    let mut all = Vec::new();
    for (address, (input, expected)) in server.local_addrs().iter().zip(inputs.iter().zip(expected))
    {
        let mut client = client::connect(*address);
        client.write_all(input).unwrap();
        client::half_close(client);
        all.extend(expected.iter().map(|message| message.to_vec()));
        wait_until("its messages", DEADLINE, || valve.messages() == all);
    }
    let report = drained(server);
    let rows = &report.stats.listeners;
    assert_eq!(rows[0].bytes.truncated, 1, "{report:?}");
    assert_eq!(rows[1].dropped.get(DropReason::Oversize), 1, "{report:?}");
    assert_eq!(rows[2].received, 2, "{report:?}");
    assert_both_close(&report);
}

#[test]
fn the_limits_count_every_connection_as_one_of_the_listener_that_holds_most() {
    let memory = |common: usize, own: &[usize]| {
        let mut builder = small::ingest().max_message(common);
        for &own in own {
            let listener = IngestListener::from(anywhere()).max_message(own);
            builder = builder.listener(listener);
        }
        builder.listen(anywhere()).check().unwrap().0.memory_bytes
    };
    const SMALL: usize = 1024;
    const LARGE: usize = 1 << 20;
    let large = memory(LARGE, &[LARGE, LARGE]);
    assert!(memory(SMALL, &[SMALL, SMALL]) < large);
    assert_eq!(memory(SMALL, &[LARGE, SMALL]), large);
    assert_eq!(memory(SMALL, &[SMALL, LARGE]), large);
    // The last listener has the common one.
    assert_eq!(memory(LARGE, &[SMALL, SMALL]), large);
}

#[test]
fn the_longest_message_of_a_listener_is_refused_by_its_name() {
    let on = || IngestListener::from(Listener::on(anywhere()).named("syslog"));
    let check = |listener| {
        let builder = small::ingest().listener(listener);
        builder.check().unwrap_err().to_string()
    };
    assert_eq!(
        check(on().max_message(0)),
        "invalid value '0' for max_message of listener syslog: expected 1 to 1073741824"
    );
    assert_eq!(
        check(on().max_message(64 << 20)),
        "invalid value '67108864' for max_message of listener syslog: expected at least 4352 bytes less than \
         buffer_bytes (67108864), or such a message could never be buffered"
    );
}

#[test]
fn a_framing_that_can_tear_messages_in_the_output_is_named_with_its_listeners() {
    let on = |name| IngestListener::from(Listener::on(anywhere()).named(name));
    let notes = |listeners: Vec<IngestListener>| {
        let builder = small::ingest().framing(Framing::Nul);
        let builder = listeners
            .into_iter()
            .fold(builder, |builder, listener| builder.listener(listener));
        let notes = builder.check().unwrap().1.into_iter();
        notes
            .filter(|note| note.ends_with("would see two"))
            .collect::<Vec<_>>()
    };
    let warning = "a message that came as nul may hold what ends one in lines: a reader of the output would see two";
    assert_eq!(notes(vec![on("a"), on("b")]), [warning]);
    let lines = || on("lines").framing(Framing::Lines);
    assert_eq!(
        notes(vec![on("a"), lines(), on("b")]),
        [
            format!("at listener a, {warning}"),
            format!("at listener b, {warning}")
        ]
    );
    assert_eq!(notes(vec![lines()]), [""; 0]);
}
