//! Backpressure: whoever finds no room reads no more, so its peer is slowed by TCP, and nothing is
//! lost.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::client::{self, Closed};
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, stays, wait_until};
use drainline::policy::{Activity, OverloadLevel};
use drainline::{PauseAfter, Server};

const SIZE: usize = 1000;
/// Longer than it takes to see what is not to happen.
const A_WHILE: Duration = Duration::from_millis(300);

fn start(valve: &Valve) -> Server {
    let mut config = small::config();
    config.buffer_messages = 64;
    config.send_timeout = DEADLINE * 10;
    config.pause_after = PauseAfter::Off;
    small::ingest()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(valve.sink())
        .unwrap()
}

/// Writes until the kernel has taken nothing for a while, and says how much it took.
fn write_until_held_up(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut taken = 0;
    loop {
        match stream.write(&bytes[taken..]) {
            Ok(0) => panic!("all {taken} bytes were taken"),
            Ok(n) => taken += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("after {taken} bytes: {error}"),
        }
    }
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    taken
}

#[test]
fn a_held_up_sender_is_slowed_by_tcp_and_loses_nothing() {
    let valve = Valve::shut();
    let server = start(&valve);
    let mut client = client::connect(server.local_addrs()[0]);
    // More than the sockets of both ends hold together: tcp_wmem and tcp_rmem end at 4 and 6 MiB by
    // default.
    let messages = 40_000;
    let bytes = Tagged::new(1).lines(0..messages, SIZE);
    let taken = write_until_held_up(&mut client, &bytes);

    // The handler waits, and reads nothing meanwhile.
    let held_up = |server: &Server| {
        let connection = server.connections().pop().unwrap();
        (connection.state == Activity::Sending).then_some(connection.bytes)
    };
    wait_until("the handler held up", DEADLINE, || {
        held_up(&server).is_some()
    });
    let read = held_up(&server);
    stays("nothing more is read", A_WHILE, || held_up(&server) == read);
    let stats = server.report().stats;
    assert_eq!(stats.buffered.messages, 64);
    assert!(stats.in_flight < 64 + 128, "{stats:?}");
    wait_until("it is seen", DEADLINE, || {
        server.report().stats.overload == OverloadLevel::Backpressure
    });

    valve.heal();
    client.write_all(&bytes[taken..]).unwrap();
    assert_eq!(client::half_close(client), Closed::Clean);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.delivered, messages);
    assert_eq!(report.bytes.bytes_read, bytes.len() as u64);
    valve.checker().expect_exact(&[(1, messages)]);
}

#[test]
fn a_buffer_that_is_never_full_holds_nobody_up() {
    let valve = Valve::open();
    let server = start(&valve);
    let mut client = client::connect(server.local_addrs()[0]);
    for seq in 0..60 {
        let sent = Tagged::new(1).send(&mut client, seq..seq + 1, SIZE, Cut::Once);
        assert_eq!(sent.all().messages, 1);
    }
    assert_eq!(client::half_close(client), Closed::Clean);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.delivered, stats.dropped.total()), (60, 0));
    let normal = stats.overload_seconds.get(OverloadLevel::Normal);
    assert_eq!(stats.overload_seconds.total(), normal);
    valve.checker().expect_exact(&[(1, 60)]);
}
