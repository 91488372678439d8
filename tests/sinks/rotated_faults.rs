//! The same, while something goes wrong: a folder is gone, a file system is full, or the program is
//! killed.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::embedded::{self, Embedded};
use crate::common::mount::MountPoint;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use crate::rotated::{Case, SIZE, SMALL, old, send, whole};
use drainline::ingest::sink::{File, Fsync};

#[test]
fn reopening_while_it_rotates_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let case = Case::start(path.clone(), File::options().rotate_size(SMALL));
    let mut stream = case.connect();
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            send(
                &mut stream,
                0,
                0..5000,
                Cut::Random {
                    seed: 1,
                    most: 2000,
                },
            );
        });
        while !sending.is_finished() {
            case.server.reopen();
            thread::sleep(Duration::from_millis(1));
        }
    });
    drop(stream);
    assert_eq!(case.end().sink.failed_reopens, 0);
    assert!(old(&path).len() > 10);
    Checker::read(&whole(&path)).expect_exact(&[(0, 5000)]);
}

/// It grows instead, and is rotated when that can be done again.
#[test]
fn a_rotation_that_fails_loses_nothing_and_is_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("messages");
    let case = Case::start(path.clone(), File::options().rotate_size(SMALL));
    let away = directory.path().join("away");
    fs::rename(&folder, &away).unwrap();
    case.deliver(0, 0..500);
    let moved = away.join("messages");
    assert!(fs::metadata(&moved).unwrap().len() > 4 * SMALL);
    assert!(old(&moved).is_empty());
    fs::rename(&away, &folder).unwrap();
    wait_until("a rotation", DEADLINE, || {
        let last = case.server.stats().delivered;
        case.deliver(0, last..last + 1);
        !case.old().is_empty()
    });
    let all = case.end().stats.delivered;
    Checker::read(&whole(&path)).expect_exact(&[(0, all)]);
}

#[test]
fn a_file_system_that_fills_up_and_is_freed_while_files_are_rotated_loses_nothing() {
    let small = MountPoint::new();
    if !small.tmpfs() {
        return;
    }
    for fsync in [Fsync::Off, Fsync::Batch] {
        let folder = small.join(&format!("{fsync:?}"));
        fs::create_dir(&folder).unwrap();
        let (path, ballast) = (folder.join("messages"), small.join("ballast"));
        fs::write(&ballast, vec![b'x'; 200 << 10]).unwrap();
        let options = File::options().rotate_size(SMALL).fsync(fsync);
        let case = Case::start(path.clone(), options);
        let mut stream = case.connect();
        let sending = thread::spawn(move || {
            send(&mut stream, 0, 0..1500, Cut::Blocks);
        });
        wait_until("it is full", DEADLINE, || {
            case.server.report().sink.failures >= 2
        });
        // Inside a message, and with a name to spare.
        fs::write(&ballast, vec![b'x'; 100 << 10]).unwrap();
        wait_until("it is full again", DEADLINE, || {
            rustix::fs::statvfs(small.path()).unwrap().f_bavail == 0
        });
        fs::remove_file(&ballast).unwrap();
        wait_until("all", DEADLINE, || case.server.stats().delivered == 1500);
        sending.join().unwrap();
        case.end();
        Checker::read(&whole(&path)).expect_exact(&[(0, 1500)]);
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// The child tells how many are delivered, and is killed in the midst of it.
#[test]
fn all_that_was_delivered_before_a_kill_is_in_the_files() {
    const TEST: &str = "rotated_faults::all_that_was_delivered_before_a_kill_is_in_the_files";
    const PATH: &str = "DRAINLINE_TEST_PATH";
    if embedded::role().is_some() {
        let path = PathBuf::from(std::env::var_os(PATH).unwrap());
        let options = File::options().fsync(Fsync::Batch).rotate_size(SMALL);
        let case = Case::start(path, options);
        embedded::tell(&format!("address {}", case.server.local_addrs()[0]));
        loop {
            embedded::tell(&format!("delivered {}", case.server.stats().delivered));
            thread::sleep(Duration::from_millis(2));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let mut child = Embedded::start(TEST, "child", &[(PATH, path.to_str().unwrap())]);
    let address = child.wait_line("address ").parse().unwrap();
    let mut stream = client::connect(address);
    let sending = thread::spawn(move || {
        let cut = Cut::Random { seed: 1, most: 500 };
        Tagged::new(0).send(&mut stream, 0..1_000_000, SIZE, cut)
    });
    let delivered = |child: &Embedded| -> u64 {
        let told = child.told();
        let counts = told
            .lines()
            .filter_map(|line| line.strip_prefix("delivered "));
        counts
            .filter_map(|count| count.parse().ok())
            .max()
            .unwrap_or(0)
    };
    wait_until("some delivered", DEADLINE, || delivered(&child) > 1000);
    let pid = rustix::process::Pid::from_raw(child.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(child.end(), None);
    assert!(sending.join().unwrap().error.is_some());

    let mut held: Vec<u8> = old(&path)
        .iter()
        .flat_map(|path| fs::read(path).unwrap())
        .collect();
    held.extend(fs::read(&path).unwrap());
    held.truncate(held.iter().rposition(|&byte| byte == b'\n').unwrap() + 1);
    let checker = Checker::read(&held);
    checker.expect_prefix(&[(0, 1_000_000)]);
    assert!(checker.seen(0) >= delivered(&child));
}
