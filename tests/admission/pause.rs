//! The pause: held-up senders end accepting, new clients meet what `on_overload` says, and clients
//! are accepted again when the sink moves.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::child::Drainline;
use crate::common::client::{self, Closed};
use crate::common::mount::attempt;
use crate::common::port::free_port;
use crate::common::root::is_root;
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, stays, wait_for, wait_until};
use drainline::policy::OverloadLevel;
use drainline::{Config, OnOverload, PauseAfter, RejectReason, Report, Server, StartError, Stats};
use socket2::{Domain, SockRef, Socket, Type};

const SIZE: usize = 100;
/// More than the buffer and the consumer hold.
const HELD_UP: u64 = 64;

fn config(on_overload: OnOverload) -> Config {
    let mut config = small::config();
    config.buffer_messages = 8;
    config.send_timeout = DEADLINE * 10;
    config.pause_after = PauseAfter::After(Duration::from_millis(100));
    config.on_overload = on_overload;
    config
}

/// A server whose sink is stalled, and a sender that it holds up.
struct Stalled {
    valve: Valve,
    server: Server,
    addr: SocketAddr,
    held_up: TcpStream,
}

fn stats(server: &Server) -> Stats {
    server.report().stats
}

impl Stalled {
    fn start(config: Config, listener: Option<TcpListener>) -> Stalled {
        let valve = Valve::shut();
        let builder = small::ingest().config(config);
        let builder = match listener {
            Some(listener) => builder.listener(listener),
            None => builder.listen("127.0.0.1:0".parse().unwrap()),
        };
        let server = builder.start(valve.sink()).unwrap();
        let addr = server.local_addrs()[0];
        let mut held_up = client::connect(addr);
        let sent = Tagged::new(1).send(&mut held_up, 0..HELD_UP, SIZE, Cut::Once);
        assert_eq!(sent.all().messages, HELD_UP);
        wait_until("a sender held up", DEADLINE, || {
            stats(&server).senders_waiting == 1
        });
        Stalled {
            valve,
            server,
            addr,
            held_up,
        }
    }

    fn start_paused(config: Config, listener: Option<TcpListener>) -> Stalled {
        let stalled = Stalled::start(config, listener);
        wait_until("the pause", DEADLINE, || stats(&stalled.server).is_paused);
        assert_eq!(stats(&stalled.server).overload, OverloadLevel::Paused);
        stalled
    }

    /// The sink moves again: a new client is accepted, its message arrives, and so do all others.
    fn heal(self, others: &[(u32, u64)]) -> (Stats, Report) {
        self.valve.heal();
        wait_until("accepting", DEADLINE, || !stats(&self.server).is_paused);
        // Under `close`, whoever comes at the very moment may still be rejected.
        let accepted = stats(&self.server).accepted;
        let mut new = wait_for("a new client let in", DEADLINE, || {
            let new = client::connect(self.addr);
            wait_until("it is let in or not", DEADLINE, || {
                stats(&self.server).accepted > accepted || client::is_closed(&new)
            });
            (stats(&self.server).accepted > accepted).then_some(new)
        });
        let sent = Tagged::new(2).send(&mut new, 0..1, SIZE, Cut::Once);
        assert_eq!(sent.all().messages, 1);
        assert_eq!(client::half_close(new), Closed::Clean);
        assert_eq!(client::half_close(self.held_up), Closed::Clean);
        let healed = stats(&self.server);
        let report = self.server.shutdown(DEADLINE);
        assert!(report.is_balanced(), "{report:?}");
        let mut sent = vec![(1, HELD_UP), (2, 1)];
        sent.extend(others);
        self.valve.checker().expect_exact(&sent);
        assert_eq!(report.stats.dropped.total(), 0);
        (healed, report)
    }
}

#[test]
fn backlog_keeps_new_clients_in_the_kernels_queue_and_loses_none_of_theirs() {
    let stalled = Stalled::start_paused(config(OnOverload::Backlog), None);
    let clients: Vec<u32> = (10..20).collect();
    let waiting: Vec<_> = clients
        .iter()
        .map(|&number| {
            let mut client = client::connect(stalled.addr);
            let sent = Tagged::new(number).send(&mut client, 0..3, SIZE, Cut::Once);
            assert_eq!(sent.all().messages, 3);
            client
        })
        .collect();
    stays("they wait", Duration::from_millis(300), || {
        let paused = stats(&stalled.server);
        (paused.accepted, paused.rejected.total()) == (1, 0)
            && !waiting.iter().any(client::is_closed)
    });
    drop(waiting);
    let sent: Vec<_> = clients.iter().map(|&number| (number, 3)).collect();
    // They hung up long ago, and their messages arrive all the same.
    stalled.valve.heal();
    wait_until("all served", DEADLINE, || {
        stats(&stalled.server).ended.total() == clients.len() as u64
    });
    let (_, report) = stalled.heal(&sent);
    assert_eq!(report.stats.accepted, 2 + 10);
    assert!(report.stats.overload_seconds.get(OverloadLevel::Paused) > Duration::ZERO);
}

#[track_caller]
fn assert_closes_clients(stalled: &Stalled) {
    for _ in 0..5 {
        let mut client = client::connect(stalled.addr);
        assert_eq!(client::wait_for_close(&mut client), Closed::Clean);
    }
    // One that has sent something gets a reset, and its bytes are counted.
    let mut client = client::connect(stalled.addr);
    let _ = client.write_all(b"lost\n");
    client::wait_for_close(&mut client);
    let paused = stats(&stalled.server);
    assert_eq!(
        (paused.accepted, paused.rejected.get(RejectReason::Paused)),
        (1, 6)
    );
    assert!(paused.unread_bytes <= 5);
    assert!(paused.is_paused, "the one who is held up is there still");
}

#[test]
fn close_accepts_new_clients_and_closes_them_at_once() {
    let stalled = Stalled::start_paused(config(OnOverload::Close), None);
    assert_closes_clients(&stalled);
    let (_, report) = stalled.heal(&[]);
    let rejected = report.stats.rejected;
    let paused = rejected.get(RejectReason::Paused);
    assert!(paused >= 6 && rejected.total() == paused, "{rejected:?}");
}

fn start_refusing() -> Stalled {
    let stalled = Stalled::start_paused(config(OnOverload::Refuse), None);
    wait_until("a connect refused", DEADLINE, || {
        client::is_refused(stalled.addr)
    });
    stalled
}

#[test]
fn refuse_refuses_connects_and_comes_back_on_the_same_port() {
    let stalled = start_refusing();
    for _ in 0..20 {
        let refused = client::try_connect(stalled.addr, DEADLINE).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(stats(&stalled.server).accepted, 1);
    assert!(!client::is_closed(&stalled.held_up));
    let (healed, _) = stalled.heal(&[]);
    assert_eq!(healed.accepted, 2);
}

/// Binds and listens in every way that a user has, and in two steps: a bind that is allowed, in the
/// other family alone, makes the kernel forget to look for conflicts at the next one.
const TAKE: &str = "
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
v4, v6 = socket.AF_INET, socket.AF_INET6
ways = [[], [socket.SO_REUSEADDR], [socket.SO_REUSEPORT], [socket.SO_REUSEADDR, socket.SO_REUSEPORT]]
alone = [(v4, '0.0.0.0', None), (v6, '::', 1)]
both = [(v6, '::', 0)]
own = [(v6 if ':' in host else v4, host, None)]

def take(family, host, only_v6, options):
    taker = socket.socket(family)
    for option in options:
        taker.setsockopt(socket.SOL_SOCKET, option, 1)
    if only_v6 is not None:
        taker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
    try:
        taker.bind((host, port))
        taker.listen()
        return taker
    except OSError:
        taker.close()

for first in [None] + [(*place, way) for place in alone for way in ways]:
    kept = first and take(*first)
    for place in own + both:
        for way in ways:
            taken = take(*place, way)
            if taken:
                print('taken', first, place, way)
                taken.close()
    if kept:
        kept.close()
print('tried')
";

/// The ways in which a user other than root can listen on the port, as its own family or both have
/// it.
fn taken_by_another_user(addr: SocketAddr) -> String {
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let output = Command::new("/usr/bin/python3")
        .args(["-c", TAKE, &host, &port])
        .uid(65_534)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.ends_with("tried\n"), "{output:?}");
    told.trim_end_matches("tried\n").to_owned()
}

fn has_another_user() -> bool {
    let has_python = Path::new("/usr/bin/python3").exists();
    if !has_python {
        eprintln!("left out: a second user takes python3");
    }
    is_root("run a program as another user") && has_python
}

#[test]
fn under_refuse_the_port_is_ours_in_both_families_while_it_is_shut_down() {
    if !has_another_user() {
        return;
    }
    for host in ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
        let mut config = config(OnOverload::Refuse);
        config.max_connections = Some(1);
        let server = small::ingest()
            .config(config)
            .listen((host.parse::<IpAddr>().unwrap(), 0).into())
            .start(Valve::shut().sink())
            .unwrap();
        let addr = server.local_addrs()[0];
        let reached = match host {
            "0.0.0.0" | "::ffff:127.0.0.1" => (Ipv4Addr::LOCALHOST, addr.port()).into(),
            "::" => (Ipv6Addr::LOCALHOST, addr.port()).into(),
            _ => addr,
        };
        let open = client::connect(reached);
        wait_until("a connect refused", DEADLINE, || {
            client::is_refused(reached)
        });
        assert_eq!(taken_by_another_user(addr), "", "{host}");
        drop(open);
        wait_until("it is back", DEADLINE, || {
            client::try_connect(reached, DEADLINE).is_ok()
        });
        assert_eq!(taken_by_another_user(addr), "", "{host}, listening");
        server.shutdown(DEADLINE);
    }
}

#[test]
fn under_refuse_the_port_stays_ours_while_it_is_shut_down() {
    let stalled = start_refusing();
    for _ in 0..2 {
        // std's own listeners have SO_REUSEADDR, as a second start of the program has.
        let taken = TcpListener::bind(stalled.addr).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    }
    if has_another_user() {
        assert_eq!(taken_by_another_user(stalled.addr), "");
    }
    // Connections that are open, and others that are in TIME_WAIT, do not keep it from coming back.
    let addr = stalled.addr;
    let (healed, _) = stalled.heal(&[]);
    assert_eq!((healed.accepted, healed.accept_failures), (2, 0));
    // A process that another thread has just forked may have what is closed for a moment longer.
    wait_until("the port free", DEADLINE, || {
        TcpListener::bind(addr).is_ok()
    });
}

/// Whoever was there first can take the port in both families while ours is shut down, so it is
/// not.
#[test]
fn beside_another_program_in_the_other_family_clients_are_closed_instead_of_refused() {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let theirs = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    theirs.set_only_v6(true).unwrap();
    theirs.set_reuse_address(true).unwrap();
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()));
    theirs.bind(&both.into()).unwrap();
    // From now on nobody else may have the port there, whatever he asks for.
    theirs.set_reuse_address(false).unwrap();
    let mut config = config(OnOverload::Refuse);
    config.max_connections = Some(1);
    let server = small::ingest()
        .config(config)
        .listen(addr)
        .start(Valve::shut().sink())
        .unwrap();
    let _open = client::connect(addr);
    wait_until("a client closed", DEADLINE, || {
        drop(client::connect(addr));
        stats(&server).rejected.get(RejectReason::MaxConnections) > 0
    });
    server.shutdown(DEADLINE);
}

/// In a network of its own, whose other ports another program has on 127.0.0.1: gives the kernel 64
/// ports to choose from, and executes the rest of its arguments.
const ALL_BUT_ONE: &str = "
import fcntl, os, socket, struct, sys

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack('16sH22x', b'lo', IFF_UP))
with open('/proc/sys/net/ipv4/ip_local_port_range', 'w') as ports:
    ports.write('40000 40063')
others = []
for port in range(40000, 40064):
    if port != 40020:
        other = socket.socket()
        other.bind(('127.0.0.1', port))
        other.listen()
        other.set_inheritable(True)
        others.append(other)
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn under_refuse_a_port_that_the_system_chooses_is_free_in_both_families() {
    let in_a_network = ["unshare", "--net", "/usr/bin/python3", "-c", ALL_BUT_ONE];
    let mut tried = Command::new(in_a_network[0]);
    if !has_another_user() || !attempt(tried.args(&in_a_network[1..]).arg("/bin/true")) {
        return;
    }
    let listen = ["--listen", "[::1]:0", "--on-overload", "refuse"];
    let mut child = Drainline::with(&listen).by(&in_a_network).start();
    assert_eq!(child.addr().port(), 40020);
    let exit = child.terminate();
    exit.assert_code(0);
    assert!(!exit.stderr.contains("refuse does not work"), "{exit}");
}

#[test]
fn under_refuse_a_start_beside_what_an_earlier_server_left_in_time_wait_works() {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let earlier = TcpListener::bind(addr).unwrap();
    let mut client = client::connect(addr);
    // Who closes first has the TIME_WAIT. A process that another thread has just forked may have
    // all of this open for a moment longer, so it is shut down.
    let (served, _) = earlier.accept().unwrap();
    served.shutdown(Shutdown::Both).unwrap();
    assert_eq!(client::wait_for_close(&mut client), Closed::Clean);
    SockRef::from(&earlier).shutdown(Shutdown::Both).unwrap();
    drop((served, client, earlier));
    let server = small::ingest()
        .config(config(OnOverload::Refuse))
        .listen(addr)
        .start(Valve::shut().sink())
        .unwrap();
    let error = small::ingest()
        .config(config(OnOverload::Refuse))
        .listen(addr)
        .start(Valve::shut().sink())
        .unwrap_err();
    assert!(
        matches!(&error, StartError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse),
        "{error}"
    );
    server.shutdown(DEADLINE);
}

#[test]
fn an_inherited_listener_falls_back_from_refuse_to_close() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalled = Stalled::start_paused(config(OnOverload::Refuse), Some(listener));
    assert_closes_clients(&stalled);
    stalled.heal(&[]);
}

#[test]
fn with_the_pause_off_clients_are_accepted_however_long_a_sender_waits() {
    let mut config = config(OnOverload::Refuse);
    config.pause_after = PauseAfter::Off;
    let stalled = Stalled::start(config, None);
    wait_until("the wait seen", DEADLINE, || {
        stats(&stalled.server).longest_wait > Duration::from_millis(500)
    });
    let seen = stats(&stalled.server);
    assert_eq!(
        (seen.is_paused, seen.overload),
        (false, OverloadLevel::Backpressure)
    );
    let client = client::connect(stalled.addr);
    wait_until("it is let in", DEADLINE, || {
        stats(&stalled.server).accepted == 2
    });
    drop(client);
    let (_, report) = stalled.heal(&[]);
    assert_eq!(
        report.stats.overload_seconds.get(OverloadLevel::Paused),
        Duration::ZERO
    );
}

#[test]
fn while_the_sink_is_dead_nobody_is_accepted_though_everybody_was_aborted() {
    let mut config = config(OnOverload::Close);
    config.send_timeout = Duration::from_millis(300);
    let stalled = Stalled::start_paused(config, None);
    wait_until("the held-up sender aborted", DEADLINE, || {
        stats(&stalled.server).open == 0
    });
    // Longer than the calm second after which a latch clears.
    wait_until("calm", DEADLINE, || {
        let seen = stats(&stalled.server);
        seen.overload == OverloadLevel::Paused
            && !seen.overload_seconds.get(OverloadLevel::Shedding).is_zero()
    });
    assert!(stats(&stalled.server).is_paused);
    assert_eq!(
        client::wait_for_close(&mut client::connect(stalled.addr)),
        Closed::Clean
    );
    stalled.valve.heal();
    wait_until("accepting", DEADLINE, || !stats(&stalled.server).is_paused);
    let report = stalled.server.shutdown(DEADLINE);
    assert!(report.is_balanced() && report.stats.dropped.total() > 0);
}
