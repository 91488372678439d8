//! 2,000 clients storm a server whose sink has stalled, under each policy for those it cannot take:
//! threads, descriptors and memory stay under the bound that it printed, the bound is not far above
//! what was used, and once the sink moves the server serves again.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use drainline::{OnOverload, PauseAfter};

use crate::common::checker::Checker;
use crate::common::child::{Drainline, Stdout};
use crate::common::crowd::{Crowd, End, Load, Outcome, raise_descriptor_limit};
use crate::common::limits::ResourceLimits;
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};
use crate::common::{client, proc};

const CLIENTS: u32 = 2_000;
/// Those that come first send so much that the served ones among them fill the buffer and then
/// their handlers' hands.
const HEAVY: u32 = 400;
const MAX_CONNECTIONS: u64 = 256;
const NEW_CLIENTS: u32 = 90_000;
const SIZE: usize = 4_000;

fn load(connection: u32) -> Load {
    Load {
        messages: if connection < HEAVY { 40 } else { 1 },
        size: SIZE,
    }
}

/// A server in a storm, and how it was before.
struct Stormed {
    child: Drainline,
    bound: ResourceLimits,
    threads: u64,
    descriptors: u64,
    watch: proc::Watch,
    first: Crowd,
    second: Crowd,
}

impl Stormed {
    /// Half of the clients come; once nobody is accepted, because every connection is taken or
    /// somebody has waited too long, and shows it, so does the other half.
    fn start(on_overload: &str) -> Stormed {
        raise_descriptor_limit(u64::from(CLIENTS) + 200);
        let max_connections = MAX_CONNECTIONS.to_string();
        let args = [
            ["--max-connections", &max_connections],
            ["--buffer-bytes", "16MiB"],
            ["--send-timeout", "2s"],
            ["--pause-after", "1s"],
            ["--on-overload", on_overload],
        ];
        let child = Drainline::with(&args.concat())
            .stdout(Stdout::Unread)
            .start();
        let (pid, addr, bound) = (child.pid(), child.addr(), child.limits());
        let is_up = || proc::thread_names(pid).iter().any(|name| name == "signals");
        wait_until("the last of its own threads", DEADLINE, is_up);
        let (threads, descriptors) = (proc::threads(pid), proc::descriptors(pid));
        let watch = proc::Watch::start(pid);
        let first = Crowd::start(addr, 0..CLIENTS / 2, load);
        wait_until("nobody accepted", DEADLINE, || {
            proc::threads(pid) >= threads + MAX_CONNECTIONS
                || child.stderr_text().contains("-> paused")
        });
        if on_overload == "refuse" {
            wait_until("a connect refused", DEADLINE, || client::is_refused(addr));
        }
        let second = Crowd::start(addr, CLIENTS / 2..CLIENTS, load);
        Stormed {
            child,
            bound,
            threads,
            descriptors,
            watch,
            first,
            second,
        }
    }

    fn ended(&self) -> usize {
        self.first.ended() + self.second.ended()
    }

    /// Those who were let in were aborted in the end, and nothing of them is left.
    fn wait_for_the_aborts(&self) {
        let pid = self.child.pid();
        let is_back =
            || proc::threads(pid) == self.threads && proc::descriptors(pid) == self.descriptors;
        wait_until("threads and descriptors back", DEADLINE, is_back);
    }

    /// The sink moves again: a new client is served, everybody else has come to an end, the bound
    /// was kept, and the ledger closes.
    fn heal(mut self, policy: &str) -> Vec<Outcome> {
        self.child.collect_stdout();
        let mut outcomes = self.first.finish();
        outcomes.extend(self.second.finish());
        let tries = be_served(&self.child);

        let pid = self.child.pid();
        let is_back =
            || proc::threads(pid) == self.threads && proc::descriptors(pid) == self.descriptors;
        wait_until("threads and descriptors back", DEADLINE, is_back);
        let (bound, peak, memory) = (self.bound, self.watch.stop(), proc::peak_rss_bytes(pid));
        let times = bound.memory_bytes as f64 / memory as f64;
        eprintln!(
            "{policy}: {bound:?}; {peak:?}, memory {memory}: the bound is {times:.2} times that"
        );
        assert!(peak.threads <= bound.threads, "{peak:?}, {bound:?}");
        assert!(peak.descriptors <= bound.descriptors, "{peak:?}, {bound:?}");
        assert!(memory <= bound.memory_bytes, "{memory} bytes, {bound:?}");
        assert!(
            bound.memory_bytes <= 4 * memory,
            "{memory} bytes, {bound:?}"
        );

        let exit = self.child.terminate();
        exit.assert_code(3);
        exit.assert_balanced();
        exit.assert_nothing_left();
        assert!(exit.u64("threads_peak") <= bound.threads, "{exit}");
        assert!(
            exit.u64("dropped.connection_closed") > 0,
            "nobody was held up: {exit}"
        );
        assert!(
            exit.f64("overload_seconds.paused") + exit.f64("overload_seconds.shedding") > 0.0,
            "{exit}"
        );

        // Whoever was aborted got a part of what it sent through: its beginning.
        let mut sent: Vec<_> = outcomes
            .iter()
            .map(|one| (one.connection, one.messages))
            .collect();
        sent.extend((0..tries).map(|nth| (NEW_CLIENTS + nth, 1)));
        let checker = self.child.checker();
        checker.expect_prefix(&sent);
        assert_eq!(checker.total(), exit.u64("delivered"), "{exit}");
        let bytes: u64 = outcomes.iter().map(|one| one.bytes).sum();
        let of_new = u64::from(tries) * (SIZE as u64 + 1);
        assert!(
            bytes + of_new >= exit.u64("bytes_read") + exit.u64("unread_bytes"),
            "{bytes} bytes sent: {exit}"
        );
        let rejected = exit.sum("connections.rejected");
        match policy {
            "backlog" => assert_eq!(rejected, 0, "{exit}"),
            "close" => assert!(rejected > 0, "{exit}"),
            // Whoever came after the listener was shut is counted by nobody but himself.
            _ => {}
        }
        outcomes
    }
}

/// New clients come, as one that is rejected comes again, until the line of one arrives. Says
/// how many.
fn be_served(child: &Drainline) -> u32 {
    let (mut tries, from) = (0, child.stdout_len());
    wait_until("a new client's line", DEADLINE, || {
        if let Ok(mut stream) = client::try_connect(child.addr(), DEADLINE) {
            let line = Tagged::new(NEW_CLIENTS + tries).lines(0..1, SIZE);
            tries += 1;
            if stream.write_all(&line).is_ok() {
                client::half_close(stream);
            }
        }
        (0..tries)
            .any(|nth| child.stdout_contains(from, &Tagged::new(NEW_CLIENTS + nth).line(0, SIZE)))
    });
    tries
}

fn count(outcomes: &[Outcome], end: End) -> usize {
    outcomes.iter().filter(|one| one.end == end).count()
}

#[test]
fn under_backlog_waiting_clients_are_served_once_the_sink_heals() {
    let stormed = Stormed::start("backlog");
    stormed.wait_for_the_aborts();
    // Nobody is accepted while the sink is dead: one wave was let in, and the others wait.
    let ended = stormed.ended();
    assert!(ended < CLIENTS as usize / 2, "{ended} clients have ended");
    let outcomes = stormed.heal("backlog");
    assert_eq!(count(&outcomes, End::Refused), 0);
    let whole = outcomes
        .iter()
        .filter(|one| one.messages == load(one.connection).messages);
    assert!(whole.count() >= CLIENTS as usize - ended);
}

#[test]
fn under_close_clients_above_the_limit_are_closed_at_once() {
    let stormed = Stormed::start("close");
    wait_until(
        "everybody rejected or aborted while the sink is dead",
        DEADLINE,
        || stormed.ended() == CLIENTS as usize,
    );
    stormed.wait_for_the_aborts();
    let outcomes = stormed.heal("close");
    assert_eq!(count(&outcomes, End::Refused), 0);
}

#[test]
fn under_refuse_connects_are_refused_until_the_sink_heals() {
    let stormed = Stormed::start("refuse");
    wait_until(
        "everybody refused or aborted while the sink is dead",
        DEADLINE,
        || stormed.ended() == CLIENTS as usize,
    );
    stormed.wait_for_the_aborts();
    assert!(
        client::is_refused(stormed.child.addr()),
        "{}",
        stormed.child.stderr_text()
    );
    let outcomes = stormed.heal("refuse");
    assert!(count(&outcomes, End::Refused) > 0);
}

/// The only client that a server takes. While the thread of the one before has not been joined,
/// clients are refused, or connect and are rejected: they come again. What such a client had sent
/// by then is counted as unread, and is a loss.
fn only_client(child: &Drainline, number: u32) -> TcpStream {
    let line = Tagged::new(number).line(0, SIZE);
    let come = || {
        let mut client = client::connect(child.addr());
        // Whoever is rejected may notice it here.
        let _ = client.write_all(&[&line[..], b"\n"].concat());
        client
    };
    let mut client = come();
    wait_until("a line of the only client", DEADLINE, || {
        let is_served = child.stdout_contains(0, &line);
        if !is_served && client::is_closed(&client) {
            client = come();
        }
        is_served
    });
    client
}

#[test]
fn a_listener_that_refused_comes_back_on_the_same_port() {
    let cycles = if std::env::var_os("DRAINLINE_LONG").is_some() {
        300
    } else {
        20
    };
    let mut child = Drainline::start(&["--max-connections", "1", "--on-overload", "refuse"]);
    let addr = child.addr();
    for cycle in 0..cycles {
        let _only = only_client(&child, cycle);
        // Asked without connecting, which the kernel would try again only after a second.
        wait_until("the listener shut", DEADLINE, || !proc::is_listening(addr));
        assert!(client::is_refused(addr));
    }
    let exit = child.terminate();
    let is_unread = exit.u64("unread.rejected.max_connections") > 0;
    exit.assert_code(if is_unread { 3 } else { 0 });
    exit.assert_balanced();
    assert_eq!(exit.sum("dropped") + exit.sum("discarded"), 0, "{exit}");
    let sent: Vec<_> = (0..cycles).map(|cycle| (cycle, 1)).collect();
    child.checker().expect_exact(&sent);
    assert_eq!(exit.u64("connections.accepted"), u64::from(cycles));
}

#[test]
fn a_pause_shuts_a_refusing_listener_before_another_client_comes() {
    let valve = Valve::shut();
    let mut config = small::config();
    config.buffer_messages = 16;
    config.on_overload = OnOverload::Refuse;
    config.pause_after = PauseAfter::After(Duration::from_millis(100));
    let server = small::ingest()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let addr = server.local_addrs()[0];
    let stream = &mut client::connect(addr);
    let sent = Tagged::new(0).send(stream, 0..100, SIZE, Cut::Once).all();
    wait_until("a pause", DEADLINE, || server.report().stats.is_paused);
    // Asked without connecting: a connect would tell the server.
    wait_until("the listener shut", DEADLINE, || !proc::is_listening(addr));
    valve.heal();
    wait_until("the listener back", DEADLINE, || proc::is_listening(addr));
    let new = Tagged::new(1).lines(0..1, SIZE);
    client::connect(addr).write_all(&new).unwrap();
    wait_until("the new client's line", DEADLINE, || {
        valve.passed() == sent.messages + 1
    });
    Checker::read(&valve.bytes()).expect_exact(&[(0, 100), (1, 1)]);
    assert!(server.shutdown(DEADLINE).is_balanced());
}
