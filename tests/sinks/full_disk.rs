//! A file that fills up and has space again: nothing is lost, and every line is whole.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::mount::MountPoint;
use crate::common::tagged::{Cut, Sent, Tagged};
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use rustix::process::Resource;

const SIZE: usize = 120;
const MESSAGES: u64 = 4000;

fn sink(path: &Path) -> [String; 2] {
    ["--sink".to_owned(), format!("file:{}", path.display())]
}

fn send_all(to: &mut TcpStream) -> Sent {
    Tagged::new(0)
        .send(to, 0..MESSAGES, SIZE, Cut::Blocks)
        .all()
}

fn wait_until_it_fails(server: &Drainline, with: &str) {
    wait_until("the failure told", DEADLINE, || {
        server.stderr_text().contains(with)
    });
    assert!(server.stderr_text().contains("; trying again in "));
}

/// It went on at the very byte: no line is torn, and none is there twice.
#[track_caller]
fn assert_nothing_lost(exit: &Exit, sent: Sent, path: &Path) {
    let output = fs::read(path).unwrap();
    Checker::read(&output).expect_exact(&[(0, MESSAGES)]);
    exit.assert_code(0);
    exit.assert_whole(&[sent].iter().collect(), &output);
    assert!(exit.u64("sink_failures") >= 1, "{exit}");
    assert!(exit.stderr.contains("takes messages again"), "{exit}");
}

/// SIGXFSZ, which comes with EFBIG, would kill a process that knows nothing of it.
#[test]
fn a_file_at_its_size_limit_fails_and_goes_on_at_the_very_byte_when_the_limit_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let mut server = Drainline::start(&sink(&path));
    // Inside a line, again and again.
    let limits = [10_001_u64, 10_002, 77_777, 200_003];
    server.limit(Resource::Fsize, Some(limits[0]));
    let mut stream = server.connect();
    let sent = send_all(&mut stream);
    client::half_close(stream);
    for limit in limits {
        server.limit(Resource::Fsize, Some(limit));
        wait_until("the file at its limit", DEADLINE, || {
            fs::metadata(&path).unwrap().len() == limit
        });
    }
    wait_until_it_fails(&server, "File too large");
    assert!(!server.has_ended());
    server.limit(Resource::Fsize, None);
    wait_until("the whole file", DEADLINE, || {
        fs::metadata(&path).unwrap().len() == sent.bytes
    });
    assert_nothing_lost(&server.terminate(), sent, &path);
}

/// Each time a little: that is one outage, and no recovery to speak of.
#[test]
fn a_file_that_gets_space_bit_by_bit_does_not_flood_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let mut server = Drainline::start(&sink(&path));
    let mut limit = 10_001;
    server.limit(Resource::Fsize, Some(limit));
    let mut stream = server.connect();
    let sent = send_all(&mut stream);
    client::half_close(stream);
    for _ in 0..20 {
        wait_until("the file at its limit", DEADLINE, || {
            fs::metadata(&path).unwrap().len() == limit
        });
        limit += 130;
        server.limit(Resource::Fsize, Some(limit));
    }
    server.limit(Resource::Fsize, None);
    wait_until("the whole file", DEADLINE, || {
        fs::metadata(&path).unwrap().len() == sent.bytes
    });
    let exit = server.terminate();
    assert_nothing_lost(&exit, sent, &path);
    assert!(exit.u64("sink_failures") > 10, "{exit}");
    let seconds = exit.f64("uptime_seconds");
    for kind in ["; trying again in ", "takes messages again"] {
        let told = exit.stderr.matches(kind).count();
        assert!(told as f64 <= 2.0 + seconds / 10.0, "{told} {kind}: {exit}");
    }
}

/// A shutdown ends the waiting, and what stands in the file ends where the file was full.
#[test]
fn a_file_that_stays_at_its_size_limit_does_not_hold_up_a_shutdown_and_the_rest_is_booked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let mut args = sink(&path).to_vec();
    args.extend(["--drain-timeout", "400ms"].map(str::to_owned));
    let mut server = Drainline::start(&args);
    server.limit(Resource::Fsize, Some(10_001));
    let mut stream = server.connect();
    let sent = send_all(&mut stream);
    client::half_close(stream);
    wait_until_it_fails(&server, "File too large");
    let exit = server.terminate();
    exit.assert_code(4);
    let output = fs::read(&path).unwrap();
    assert_eq!(output.len(), 10_001);
    let whole = output.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    Checker::read(&output[..whole]).expect_prefix(&[(0, MESSAGES)]);
    exit.assert_whole(&[sent].iter().collect(), &output);
    assert_eq!(exit.u64("dropped.shutdown"), exit.sum("dropped"), "{exit}");
}

/// The length of a file that has taken the last page of its file system, to its last byte.
fn full_at(small: &MountPoint, path: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(small.path()).unwrap();
    let len = fs::metadata(path).unwrap().len();
    (system.f_bavail == 0 && len.is_multiple_of(system.f_bsize)).then_some(len)
}

#[test]
fn a_file_system_that_fills_up_and_is_freed_loses_nothing_and_tears_no_line() {
    let small = MountPoint::new();
    if !small.tmpfs() {
        return;
    }
    let (path, ballast) = (small.join("messages"), small.join("ballast"));
    // 56 KiB of space are left, then two pages more, inside the same batch, then enough.
    let sizes: [u64; 3] = [200 << 10, 192 << 10, 3 << 10];
    let write = |size: u64| fs::write(&ballast, vec![b'x'; size as usize]).unwrap();
    write(sizes[0]);
    let mut server = Drainline::start(&sink(&path));
    let mut stream = server.connect();
    let sent = Tagged::new(0)
        .send(&mut stream, 0..1900, SIZE, Cut::Blocks)
        .all();
    client::half_close(stream);
    wait_until_it_fails(&server, "No space left on device");
    for size in &sizes[1..] {
        let before = wait_for("a full file system", DEADLINE, || full_at(&small, &path));
        assert!(before < sent.bytes, "{before}");
        // Inside a line: no line ends where a page does.
        assert_ne!(fs::read(&path).unwrap().last(), Some(&b'\n'));
        assert!(!server.has_ended());
        let file = fs::OpenOptions::new().write(true).open(&ballast).unwrap();
        file.set_len(*size).unwrap();
        wait_until("more in the file", DEADLINE, || {
            fs::metadata(&path).unwrap().len() > before
        });
    }
    wait_until("the whole file", DEADLINE, || {
        fs::metadata(&path).unwrap().len() == sent.bytes
    });
    let exit = server.terminate();
    let output = fs::read(&path).unwrap();
    Checker::read(&output).expect_exact(&[(0, 1900)]);
    exit.assert_code(0);
    exit.assert_whole(&[sent].iter().collect(), &output);
    assert!(exit.u64("sink_failures") >= 1, "{exit}");
}
