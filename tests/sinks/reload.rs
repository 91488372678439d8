//! SIGHUP again and again while the program rotates its file, and while old ones are compressed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::mount::MountPoint;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::Signal;

const SIZE: usize = 120;

/// Every file of `path` in the order of its age, the new one last.
fn files(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    let is_old = |path: &PathBuf| {
        let other = path.file_name().unwrap().to_str().unwrap();
        other
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('-'))
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_old).collect();
    files.sort();
    files.push(path.to_owned());
    files
}

fn bytes(path: &Path) -> Vec<u8> {
    let read = fs::read(path).unwrap();
    #[cfg(feature = "gzip")]
    if path.extension().is_some_and(|extension| extension == "gz") {
        use std::io;

        let mut unpacked = Vec::new();
        io::copy(&mut flate2::read::GzDecoder::new(&read[..]), &mut unpacked).unwrap();
        return unpacked;
    }
    read
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

fn hangups_lose_nothing(options: &str, is_gzip: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let url = format!("file://{}?rotate_size=8KiB{options}", path.display());
    let mut server = Drainline::start(&["--sink", &url]);
    let mut stream = server.connect();
    let sending = thread::spawn(move || {
        let cut = Cut::Random {
            seed: 5,
            most: 2000,
        };
        let sent = Tagged::new(0).send(&mut stream, 0..20_000, SIZE, cut).all();
        client::half_close(stream);
        sent
    });
    let mut hangups = 0;
    while !sending.is_finished() || hangups < 20 {
        server.signal_served(Signal::HUP);
        hangups += 1;
    }
    let sent = sending.join().unwrap();
    server.wait_until_all_ended();
    if is_gzip {
        wait_until("the old ones compressed", DEADLINE, || {
            let files = files(&path);
            files[..files.len() - 1]
                .iter()
                .all(|path| is_compressed(path))
        });
    }
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("failed_reopens"), 0, "{exit}");
    let files = files(&path);
    assert!(files.len() > 100, "{}", files.len());
    let output: Vec<u8> = files.iter().flat_map(|path| bytes(path)).collect();
    Checker::read(&output).expect_exact(&[(0, 20_000)]);
    exit.assert_whole(&[sent].iter().collect(), &output);
}

#[test]
fn hangups_while_it_rotates_lose_and_double_nothing() {
    hangups_lose_nothing("", false);
}

#[cfg(feature = "gzip")]
#[test]
fn hangups_while_old_files_are_compressed_lose_and_double_nothing() {
    hangups_lose_nothing("&gzip=true", true);
}

/// The same by the program with each kind of file: the file system fills, a signal asks for a
/// reopen meanwhile, and there is space again.
#[test]
fn a_file_system_that_fills_and_is_freed_loses_nothing_with_rotation_and_without() {
    let mut kinds = vec!["", "?rotate_size=16KiB", "?fsync=batch"];
    if cfg!(feature = "gzip") {
        kinds.push("?rotate_size=16KiB&gzip=true");
    }
    for options in kinds {
        let small = MountPoint::new();
        if !small.tmpfs() {
            return;
        }
        let (path, ballast) = (small.join("messages"), small.join("ballast"));
        fs::write(&ballast, vec![b'x'; 200 << 10]).unwrap();
        let url = format!("file://{}{options}", path.display());
        let mut server = Drainline::start(&["--sink", &url]);
        let mut stream = server.connect();
        let sent = Tagged::new(0)
            .send(&mut stream, 0..1500, SIZE, Cut::Blocks)
            .all();
        client::half_close(stream);
        wait_until("a full file system", DEADLINE, || {
            server.stderr_text().contains("No space left on device")
        });
        server.signal_served(Signal::HUP);
        assert!(!server.has_ended());
        fs::remove_file(&ballast).unwrap();
        server.wait_for_status("everything delivered", |status| status["in_flight"] == 0);
        let exit = server.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        assert!(exit.u64("sink_failures") >= 1, "{options}: {exit}");
        let output: Vec<u8> = files(&path).iter().flat_map(|path| bytes(path)).collect();
        let read = Checker::read(&output);
        match options.contains("fsync") {
            // What was not synced may be written again.
            true => assert_eq!(read.counters(0, 1500).missing, 0),
            false => {
                read.expect_exact(&[(0, 1500)]);
                exit.assert_whole(&[sent].iter().collect(), &output);
            }
        }
    }
}
