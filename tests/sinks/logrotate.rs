//! logrotate itself, by `create` and by `copytruncate`, also where drainline rotates, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::programs::{installed, run};
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};

const SIZE: usize = 120;

/// Rotates `path` once, whatever its age.
fn rotate(program: &Path, path: &Path, how: &str) {
    let (config, state) = (path.with_extension("conf"), path.with_extension("state"));
    let text = format!("{} {{\nrotate 100\nmissingok\n{how}\n}}\n", path.display());
    fs::write(&config, text).unwrap();
    run(Command::new(program)
        .arg("--force")
        .arg("--state")
        .args([state, config]));
}

/// The files of `path`, the oldest first: logrotate's have the highest number.
fn all(path: &Path) -> Vec<u8> {
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let count = (1..)
        .take_while(|&number| numbered(number).exists())
        .count();
    let mut all = Vec::new();
    for number in (1..=count as u32).rev() {
        all.extend(fs::read(numbered(number)).unwrap());
    }
    all.extend(fs::read(path).unwrap());
    all
}

#[test]
fn by_create_and_a_hangup_nothing_is_lost_or_torn_while_messages_flow() {
    let Some(program) = installed("logrotate") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    // Its own rotation is on, and has nothing to do.
    let url = format!("file://{}?rotate_size=1GiB&keep=3", path.display());
    let mut server = Drainline::start(&["--sink", &url]);
    let how = format!("create\npostrotate\nkill -HUP {}\nendscript", server.pid());
    let mut stream = server.connect();
    let sending = thread::spawn(move || {
        let cut = Cut::Random { seed: 3, most: 400 };
        Tagged::new(0).send(&mut stream, 0..20_000, SIZE, cut).all()
    });
    let mut rotations = 0;
    while !sending.is_finished() || rotations < 3 {
        // Its HUP is for this file: the next rename waits until it was seen.
        rotate(&program, &path, &how);
        rotations += 1;
        wait_until("reopened", DEADLINE, || {
            let opened = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
            opened
                .flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path))
        });
    }
    let sent = sending.join().unwrap();
    server.wait_until_all_ended();
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    let output = all(&path);
    Checker::read(&output).expect_exact(&[(0, 20_000)]);
    exit.assert_whole(&[sent].iter().collect(), &output);
    assert_eq!(exit.u64("unlinked_messages"), 0, "{exit}");
}

/// What arrives between its copy and its truncation is lost, so nothing arrives then.
#[test]
fn by_copytruncate_the_file_begins_anew_without_a_hole_and_is_not_rotated_for_what_it_had() {
    let Some(program) = installed("logrotate") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let url = format!("file://{}?rotate_size=8KiB", path.display());
    let mut server = Drainline::start(&["--sink", &url]);
    let mut stream = server.connect();
    for round in 0..4 {
        let range = round * 50..round * 50 + 50;
        let sent = Tagged::new(0)
            .send(&mut stream, range, SIZE, Cut::Blocks)
            .all();
        wait_until("written", DEADLINE, || {
            fs::metadata(&path).unwrap().len() == sent.bytes
        });
        rotate(&program, &path, "copytruncate");
    }
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    Checker::read(&all(&path)).expect_exact(&[(0, 200)]);
    let is_own = |name: &std::ffi::OsStr| name.to_str().unwrap().starts_with("messages-");
    let names = fs::read_dir(directory.path()).unwrap().flatten();
    assert!(
        !names
            .map(|entry| entry.file_name())
            .any(|name| is_own(&name))
    );
}
