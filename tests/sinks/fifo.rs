//! A sink that is a FIFO: its reader goes and comes back, and signals arrive while it blocks.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::fifo;
use crate::common::guard::Collector;
use crate::common::proc;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, stays, wait_until};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SIZE: usize = 120;

fn fifo() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo::make(&path);
    (directory, path)
}

/// A reader alone, and non-blocking: once it is closed nobody reads.
fn reader(path: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .unwrap()
}

/// Reads until so many bytes were there.
fn read_exactly(fifo: &mut File, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut at = 0;
    wait_until("bytes in the FIFO", DEADLINE, || {
        match fifo.read(&mut bytes[at..]) {
            Ok(read) => at += read,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        at == len
    });
    bytes
}

fn start(path: &Path, flags: &[&str]) -> Drainline {
    let sink = format!("file:{}", path.display());
    let mut args = vec!["--sink", &sink];
    args.extend(flags);
    Drainline::start(&args)
}

#[test]
fn a_fifo_that_nobody_reads_at_the_start_is_told_and_no_server_is_started() {
    let (_directory, path) = fifo();
    let sink = format!("file:{}", path.display());
    let exit = Drainline::with(&["--sink", &sink]).spawn().wait();
    exit.assert_code(1);
    let said =
        format!("drainline: --sink {sink}: nobody reads this FIFO: start its reader first\n");
    assert_eq!(exit.stderr, said);
}

/// EPIPE is final, as it is for stdout: nobody knows whether another reader will come.
#[test]
fn a_fifo_whose_reader_is_gone_ends_the_server_with_1_at_the_next_message() {
    let (_directory, path) = fifo();
    let mut read = reader(&path);
    let mut server = start(&path, &[]);
    let mut stream = server.connect();
    let first = Tagged::new(0).lines(0..1, SIZE);
    let _ = Tagged::new(0)
        .send(&mut stream, 0..1, SIZE, Cut::Once)
        .all();
    assert_eq!(read_exactly(&mut read, first.len()), first);
    drop(read);
    let _ = Tagged::new(0)
        .send(&mut stream, 1..2, SIZE, Cut::Once)
        .all();
    let exit = server.wait();
    exit.assert_code(1);
    exit.assert_closes();
    assert_eq!(
        (exit.u64("delivered"), exit.u64("dropped.sink_failed")),
        (1, 1),
        "{exit}"
    );
    let error = exit.report["error"].as_str().unwrap();
    assert!(error.contains("failed for good: Broken pipe"), "{exit}");
}

/// While nothing is written nobody notices, so a reader may be restarted between messages.
#[test]
fn a_reader_that_is_back_before_the_next_message_costs_nothing() {
    let (_directory, path) = fifo();
    let mut read = reader(&path);
    let mut server = start(&path, &[]);
    let mut stream = server.connect();
    let tagged = Tagged::new(0);
    let mut output = Vec::new();
    for seq in 0..4 {
        let sent = tagged
            .send(&mut stream, seq..seq + 1, SIZE, Cut::Once)
            .all();
        output.extend(read_exactly(&mut read, sent.bytes as usize));
        drop(read);
        read = reader(&path);
    }
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    Checker::read(&output).expect_exact(&[(0, 4)]);
}

/// It waits for one, however long, and says so once each time.
#[test]
fn a_fifo_that_nobody_reads_for_a_while_is_told_once_and_costs_nothing() {
    /// A reader is looked for every second, and a reader that is back is not told.
    const SEEN_WITHIN: Duration = Duration::from_secs(3);
    let told = "nobody reads the sink file:";
    let (_directory, path) = fifo();
    let mut read = reader(&path);
    let mut server = start(&path, &[]);
    let mut stream = server.connect();
    let mut output = Vec::new();
    for seq in 0..2 {
        drop(read);
        wait_until("the missing reader told", DEADLINE, || {
            server.stderr_text().matches(told).count() as u64 == seq + 1
        });
        // And is looked for again and again.
        let time = Duration::from_millis(2500);
        stays("told once", time, || {
            server.stderr_text().matches(told).count() as u64 == seq + 1
        });
        read = reader(&path);
        let sent = Tagged::new(0)
            .send(&mut stream, seq..seq + 1, SIZE, Cut::Once)
            .all();
        output.extend(read_exactly(&mut read, sent.bytes as usize));
        if seq == 0 {
            // So that it has been seen.
            thread::sleep(SEEN_WITHIN);
        }
    }
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.stderr.matches(told).count(), 2, "{exit}");
    Checker::read(&output).expect_exact(&[(0, 2)]);
}

/// Its wait is interrupted and goes on at the very byte; each SIGHUP opens the FIFO anew in a
/// message's middle.
#[test]
fn signals_that_arrive_while_a_fifo_is_full_and_little_by_little_freed_tear_nothing() {
    let (_directory, path) = fifo();
    // Both ends, so that a reopen finds a reader.
    let held = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    rustix::pipe::fcntl_setpipe_size(&held, 4096).unwrap();
    let mut read = reader(&path);
    let mut server = start(&path, &[]);
    let mut stream = server.connect();
    let sent = Tagged::new(0)
        .send(&mut stream, 0..400, SIZE, Cut::Once)
        .all();
    client::half_close(stream);
    let consumer = proc::thread_id(server.pid(), "consumer").unwrap();
    // A signal for the process goes to its main thread; one for a thread's id, to that thread.
    let interrupt = || kill_process(Pid::from_raw(consumer).unwrap(), Signal::USR1).unwrap();
    // By itself it wakes ten times a second.
    let (begun, before) = (Instant::now(), proc::switches(server.pid(), consumer));
    wait_until("interrupted waits", DEADLINE, || {
        interrupt();
        let woken = proc::switches(server.pid(), consumer) - before;
        u128::from(woken) > 5 + begun.elapsed().as_millis() / 50
    });
    let mut output = Vec::new();
    let mut part = [0; 1777];
    while output.len() < sent.bytes as usize {
        let left = sent.bytes as usize - output.len();
        let len = left.min(part.len());
        server.signal(Signal::HUP);
        interrupt();
        part[..len].copy_from_slice(&read_exactly(&mut read, len));
        output.extend(&part[..len]);
    }
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&[sent].iter().collect(), &output);
    assert_eq!(exit.u64("failed_reopens"), 0, "{exit}");
    assert_eq!(exit.u64("sink_failures"), 0, "{exit}");
    Checker::read(&output).expect_exact(&[(0, 400)]);
}

/// The old descriptor stays in use, and nothing is lost meanwhile.
#[test]
fn a_reopen_that_finds_no_reader_is_counted_and_a_reader_that_never_left_gets_everything() {
    let (directory, path) = fifo();
    let moved = directory.path().join("moved");
    let read = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut server = start(&path, &[]);
    fs::rename(&path, &moved).unwrap();
    // Another FIFO of that name, which nobody reads: ENXIO (open(2)).
    fifo::make(&path);
    server.signal(Signal::HUP);
    wait_until("the failed reopen told", DEADLINE, || {
        server.stderr_text().contains("No such device or address")
    });
    let mut stream = server.connect();
    let sent = Tagged::new(0)
        .send(&mut stream, 0..400, SIZE, Cut::Once)
        .all();
    client::half_close(stream);
    let collector = Collector::start(read);
    wait_until("all of it", DEADLINE, || {
        collector.with(<[u8]>::len) as u64 == sent.bytes
    });
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&[sent].iter().collect(), &collector.bytes());
    assert_eq!(exit.u64("failed_reopens"), 1, "{exit}");
}
