//! The ledger as text.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use drainline::Report;
use drainline::ingest::Ingest;
use drainline::ingest::sink::Null;

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
