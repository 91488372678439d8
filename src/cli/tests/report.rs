//! The ledger as text.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use drainline::ingest::Ingest;
use drainline::ingest::sink::Null;
use drainline::{DropReason, Listener, Report};

use crate::cli::report;
use crate::cli::values::ReportFormat;

const DEADLINE: Duration = Duration::from_secs(60);
const FAULTS: [&str; 5] = [
    "sink failures",
    "failed reopens",
    "messages to a deleted file",
    "log lines lost",
    "stuck",
];

fn text(report: &Report) -> String {
    report::write(report, ReportFormat::Text)
}

#[test]
fn the_text_names_every_fault_that_happened_and_no_other() {
    let server = Ingest::builder()
        .listen(([127, 0, 0, 1], 0).into())
        .start(Null)
        .expect("a port");
    let client = TcpStream::connect(server.local_addrs()[0]).expect("a connection");
    let begun = Instant::now();
    let mut connections = Vec::new();
    while connections.is_empty() {
        assert!(begun.elapsed() < DEADLINE, "the connection is not listed");
        connections = server.connections();
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    let mut report = server.shutdown(DEADLINE);
    let calm = text(&report);
    for fault in FAULTS {
        assert!(!calm.contains(fault), "{calm}");
    }
    report.sink.failures = 3;
    report.stats.log_lines_lost = 5;
    let some = text(&report);
    assert!(
        some.contains("; sink failures 3, log lines lost 5; "),
        "{some}"
    );
    report.sink.failed_reopens = 4;
    report.sink.unlinked_messages = 2;
    report.stuck = connections;
    let all = text(&report);
    let expected = "; sink failures 3, failed reopens 4, messages to a deleted file 2, log lines lost 5, stuck 1; balanced";
    assert!(all.ends_with(expected), "{all}");
}

#[test]
fn several_listeners_have_a_line_each_before_the_sum_and_a_single_one_has_none() {
    let listener = |name| Listener::on(([127, 0, 0, 1], 0).into()).named(name);
    let one = Ingest::builder().listener(listener("alone"));
    let report = one.start(Null).expect("a port").shutdown(DEADLINE);
    assert!(!text(&report).contains('\n'), "{}", text(&report));

    let two = Ingest::builder().listener(listener("first"));
    let two = two.listener(listener("second")).start(Null);
    let server = two.expect("two ports");
    let mut client = TcpStream::connect(server.local_addrs()[1]).expect("a connection");
    client.write_all(b"a line\n").expect("a write");
    drop(client);
    let begun = Instant::now();
    while server.stats().delivered == 0 {
        assert!(begun.elapsed() < DEADLINE, "nothing arrived");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut report = server.shutdown(DEADLINE);
    let said = text(&report);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    let none = "drainline: listener first: received 0 = delivered 0 + dropped 0 + in flight 0; ";
    let some = "drainline: listener second: received 1 = delivered 1 + dropped 0 + in flight 0; ";
    assert!(lines[0].starts_with(none), "{said}");
    assert!(lines[1].starts_with(some), "{said}");
    assert!(
        lines[1].contains("bytes read 7 = messages 6 + framing 1 ")
            && lines[1].contains("; connections accepted 1, ")
            && lines[1].ends_with("; balanced"),
        "{said}"
    );
    assert!(lines[2].starts_with("drainline: received 1 = "), "{said}");

    // A booking at another listener is said of both, and of the sum.
    report.stats.listeners[0].dropped.add(DropReason::Full, 1);
    report.stats.listeners[1].delivered -= 1;
    let said = text(&report);
    assert!(
        said.lines().all(|line| line.ends_with("; NOT BALANCED")),
        "{said}"
    );
}
