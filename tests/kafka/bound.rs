//! What a cluster may cost: the limits that are printed at start hold however many brokers there
//! are, as long as they are counted, and whatever a broker answers.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::common::child::Drainline;
use crate::common::embedded;
use crate::common::idle;
use crate::common::proc::{self, Watch};
use crate::common::wait::stays;

/// What the log says of brokers that are not counted.
const NOT_COUNTED: &str = "brokers, and the limits count";

/// One connection and a small buffer, so that the limits are the sink's.
fn drainline(sink: &str) -> Drainline {
    let flags = ["--max-connections", "1", "--buffer-bytes", "1MiB"];
    Drainline::start(&[&flags[..], &["--sink", sink]].concat())
}

fn send_lines(drainline: &Drainline, lines: u32) {
    let mut stream = drainline.connect();
    for nth in 0..lines {
        writeln!(stream, "0-{nth}").unwrap();
    }
    client::half_close(stream);
}

/// One of the cluster's brokers: the others are heard of by it.
fn first_of(cluster: &Cluster) -> String {
    let all = cluster.bootstrap_servers();
    all.split(',').next().unwrap().to_owned()
}

#[test]
fn brokers_that_the_limits_do_not_count_are_told_once() {
    let cluster = cluster();
    let first = first_of(&cluster);
    for (max_brokers, times) in [(3, 0), (2, 1)] {
        let sink = format!("kafka://{first}/{TOPIC}?max_brokers={max_brokers}");
        let mut drainline = drainline(&sink);
        send_lines(&drainline, 10);
        let told = |child: &Drainline| child.stderr_text().matches(NOT_COUNTED).count();
        wait_until("as often as it is to be told", DEADLINE, || {
            told(&drainline) == times
        });
        // Two more looks after the sink.
        stays("as often", Duration::from_millis(2_500), || {
            told(&drainline) == times
        });
        let exit = drainline.terminate();
        exit.assert_code(0);
        let lines = exit.stderr.lines();
        let lines: Vec<&str> = lines.filter(|line| line.contains(NOT_COUNTED)).collect();
        let are_errors = lines.iter().all(|line| line.contains("ERROR"));
        assert!(are_errors && lines.len() == times, "{exit}");
    }
}

/// librdkafka has a thread, a socket and a pipe for each.
#[test]
fn a_large_cluster_stays_within_the_limits_that_count_it() {
    const MANY: i32 = 40;
    let cluster = MockCluster::new(MANY).unwrap();
    cluster.create_topic(TOPIC, MANY, 3).unwrap();
    let first = first_of(&cluster);
    let sink = format!("kafka://{first}/{TOPIC}?max_brokers={MANY}&linger=0ms");
    let mut drainline = drainline(&sink);
    let limits = drainline.limits();
    let watch = Watch::start(drainline.pid());
    // Until most partitions, and so most brokers, have had a message.
    for _ in 0..10 {
        send_lines(&drainline, 2_000);
    }
    let threads = || proc::threads(drainline.pid());
    wait_until("a thread for each broker", DEADLINE, || {
        threads() > MANY as u64
    });
    let rss = proc::peak_rss_bytes(drainline.pid());
    let exit = drainline.terminate();
    exit.assert_code(0);
    let peak = watch.stop();
    eprintln!("{peak:?}, {rss} bytes of {limits:?}");
    assert!(peak.threads <= limits.threads, "{peak:?} of {limits:?}");
    assert!(
        peak.descriptors <= limits.descriptors,
        "{peak:?} of {limits:?}"
    );
    assert!(rss <= limits.memory_bytes, "{rss} of {limits:?}");
    assert!(!exit.stderr.contains(NOT_COUNTED), "{exit}");
}

/// A broker that says that its answer is 90 MB long, which is less than librdkafka reads where
/// nothing is said, and sends as much.
#[test]
fn an_answer_without_an_end_is_not_read() {
    const BROKERS: usize = 4;
    const LENGTH: u32 = 90_000_000;
    let over = Arc::new(AtomicUsize::new(0));
    let addresses: Vec<String> = (0..BROKERS)
        .map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // The first question.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&LENGTH.to_be_bytes());
                let zeros = vec![0; 1 << 20];
                let mut left = LENGTH as usize;
                while left > 0 && stream.write_all(&zeros[..left.min(zeros.len())]).is_ok() {
                    left = left.saturating_sub(zeros.len());
                }
                over.fetch_add(1, Ordering::Relaxed);
                // Nobody comes back to a listener that is gone.
                drop(listener);
            });
            address
        })
        .collect();
    let sink = format!("kafka://{}/{TOPIC}?queue_bytes=1MiB", addresses.join(","));
    let mut drainline = drainline(&sink);
    let limits = drainline.limits();
    wait_until("all answers sent, or refused", DEADLINE, || {
        over.load(Ordering::Relaxed) == BROKERS
    });
    let rss = proc::peak_rss_bytes(drainline.pid());
    drainline.terminate().assert_code(0);
    eprintln!("{rss} bytes of {limits:?}");
    assert!(rss <= limits.memory_bytes, "{rss} of {limits:?}");
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("idle") => idle::serve(),
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

/// librdkafka has 15 KiB of thread-local buffers, which each thread of the process gets, whatever
/// its output.
#[test]
fn idle_connections_of_a_program_that_has_librdkafka_stay_within_the_limits() {
    let (peak, limit) = idle::measure("bound::child_entry");
    assert!(peak <= limit, "{peak} of {limit} bytes");
}
