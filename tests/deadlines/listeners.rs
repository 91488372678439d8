//! Each listener may have deadlines and a rate of its own; what it leaves unset is the server's.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::common::client;
use crate::common::echo::ANY;
use crate::common::small;
use crate::common::tagged::Tagged;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, stays, wait_until};
use drainline::policy::Activity;
use drainline::{Config, EndReason, FirstByteTimeout, Listener, Server};

const SHORT: Duration = Duration::from_millis(300);
/// Longer than a deadline that is kept.
const QUIET: Duration = SHORT.saturating_mul(3);

fn start(config: Config, listeners: impl IntoIterator<Item = Listener>) -> Server {
    let mut builder = small::ingest().config(config);
    for listener in listeners {
        builder = builder.listener(listener);
    }
    builder.start(Valve::open().sink()).unwrap()
}

fn on(name: &str) -> Listener {
    Listener::on(ANY.parse().unwrap()).named(name)
}

/// One client for each listener, which has sent `begin`.
fn one_for_each(server: &Server, begin: &[u8]) -> Vec<TcpStream> {
    let clients = server.local_addrs().iter().map(|&address| {
        let mut client = client::connect(address);
        client.write_all(begin).unwrap();
        client
    });
    clients.collect()
}

/// Only the connection of the first listener ends, for `reason`.
#[track_caller]
fn only_the_first_ends(server: Server, begin: &[u8], reason: EndReason) {
    let mut clients = one_for_each(&server, begin);
    client::wait_for_close(&mut clients[0]);
    wait_until("the end of it", DEADLINE, || {
        server.stats().ended.get(reason) == 1
    });
    stays("the others are open", QUIET, || {
        !clients[1..].iter().any(client::is_closed)
    });
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.stats.ended.get(reason), 1, "{report:?}");
    assert!(report.is_balanced(), "{report:?}");
}

#[test]
fn a_deadline_of_one_listener_ends_nobody_of_another() {
    let mut config = small::config();
    config.frame_timeout = None;
    let server = start(config.clone(), [on("a").idle_timeout(SHORT), on("b")]);
    only_the_first_ends(server, b"whole\n", EndReason::IdleTimeout);
    let server = start(config.clone(), [on("a").frame_timeout(SHORT), on("b")]);
    only_the_first_ends(server, b"half", EndReason::FrameTimeout);
    let first_byte = FirstByteTimeout::After(SHORT);
    let server = start(config, [on("a").first_byte_timeout(first_byte), on("b")]);
    only_the_first_ends(server, b"", EndReason::FirstByteTimeout);
}

#[test]
fn a_listener_may_turn_off_what_the_server_has() {
    let mut config = small::config();
    config.idle_timeout = Some(SHORT);
    let server = start(config.clone(), [on("a"), on("b").idle_timeout(None)]);
    only_the_first_ends(server, b"whole\n", EndReason::IdleTimeout);
    config.idle_timeout = None;
    config.frame_timeout = Some(SHORT);
    let server = start(config.clone(), [on("a"), on("b").frame_timeout(None)]);
    only_the_first_ends(server, b"half", EndReason::FrameTimeout);
    config.first_byte_timeout = FirstByteTimeout::After(SHORT);
    let off = on("b").first_byte_timeout(FirstByteTimeout::Off);
    let server = start(config, [on("a"), off]);
    only_the_first_ends(server, b"", EndReason::FirstByteTimeout);
}

#[test]
fn the_rate_limit_of_one_listener_holds_back_nobody_of_another() {
    let mut config = small::config();
    config.rate_limit = Some(1);
    let server = start(config, [on("slow"), on("free").rate_limit(None)]);
    let lines = Tagged::new(1).lines(0..1000, 60);
    let _clients = one_for_each(&server, &lines);
    wait_until("one is held back, and the other is not", DEADLINE, || {
        let connections = server.connections();
        let of = |name: &str| connections.iter().find(|conn| &*conn.listener == name);
        of("slow").is_some_and(|slow| slow.state == Activity::Pausing && slow.messages < 1000)
            && of("free").is_some_and(|free| free.messages == 1000)
    });
    assert!(server.shutdown(Duration::ZERO).is_balanced());
}
