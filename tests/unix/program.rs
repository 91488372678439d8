//! The program on Unix sockets.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::Signal;

use crate::common::child::Drainline;
use crate::common::launch::BINARY;
use crate::common::programs::installed;
use crate::common::root;
use crate::common::tagged::Tagged;
use crate::common::unix::{self, Place};
use crate::common::wait::{DEADLINE, wait_until};

fn listen(place: &Place) -> [String; 2] {
    let url = format!("unix:{}", place.path.display());
    ["--listen".to_owned(), url]
}

#[test]
fn lines_go_to_stdout_the_port_file_has_the_path_and_the_end_removes_the_socket() {
    let place = Place::new();
    let mut child = Drainline::start(&listen(&place));
    let written = fs::read_to_string(child.port_file()).unwrap();
    assert_eq!(written, format!("unix:{}\n", place.path.display()));
    let mut client = unix::connect(&place.path);
    client
        .write_all(&Tagged::new(1).lines(0..1000, 50))
        .unwrap();
    let text = format!("ncat --send-only -U {}", place.path.display());
    wait_until("the line to try", DEADLINE, || {
        child.stderr_text().contains(&text)
    });
    let status = child.wait_for_status("a connection", |status| {
        status["connections"][0]["messages"] == 1000
    });
    let peer = format!(
        "unix:uid={},pid={}",
        rustix::process::geteuid().as_raw(),
        std::process::id()
    );
    assert_eq!(status["connections"][0]["peer"], peer);
    unix::half_close(client);
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    child.checker().expect_exact(&[(1, 1000)]);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn what_a_killed_server_left_is_taken_over_and_a_running_one_is_not() {
    let place = Place::new();
    let mut killed = Drainline::start(&listen(&place));
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(place.path.exists());
    let mut child = Drainline::start(&listen(&place));
    unix::half_close(unix::connect(&place.path));
    let mut second = Drainline::with(&listen(&place)).spawn();
    let exit = second.wait();
    exit.assert_code(1);
    let text = format!(
        "drainline: --listen unix:{}: another process listens there",
        place.path.display()
    );
    assert!(exit.stderr.contains(&text), "{}", exit.stderr);
    unix::half_close(unix::connect(&place.path));
    child.terminate().assert_code(0);
}

#[test]
fn a_check_makes_no_file_disturbs_no_server_and_says_what_a_start_would_meet() {
    let check = |place: &Place, more: &[&str]| {
        let output = Command::new(BINARY)
            .args(listen(place))
            .args(more)
            .arg("--check")
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let place = Place::new();
    let (code, text) = check(&place, &["--unix-mode", "600"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("unix_mode = \"0600\""), "{text}");
    assert_eq!(place.names(), [""; 0]);
    let mut child = Drainline::start(&listen(&place));
    let (code, text) = check(&place, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("takes it over if nobody listens on it"),
        "{text}"
    );
    let exit = child.terminate();
    assert_eq!(exit.u64("connections.accepted"), 0);
    fs::write(&place.path, "precious").unwrap();
    let (code, text) = check(&place, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("a file that is no socket is in the way"),
        "{text}"
    );
}

#[test]
fn mode_and_owner_are_those_of_the_flags_and_refuse_says_that_it_closes() {
    let place = Place::new();
    let mut args = listen(&place).to_vec();
    args.extend(["--unix-mode=0620", "--on-overload=refuse"].map(str::to_owned));
    let is_root = root::is_root("give a file away");
    if is_root {
        args.push("--unix-owner=12:34".to_owned());
    }
    let mut child = Drainline::start(&args);
    let found = fs::symlink_metadata(&place.path).unwrap();
    assert_eq!(found.mode() & 0o777, 0o620);
    if is_root {
        assert_eq!((found.uid(), found.gid()), (12, 34));
    }
    let text = format!(
        "--on-overload refuse does not work for unix:{}",
        place.path.display()
    );
    wait_until("the note", DEADLINE, || child.stderr_text().contains(&text));
    child.terminate().assert_code(0);
}

/// Connecting takes the permission to write.
#[test]
fn whoever_may_not_write_to_the_socket_does_not_come_in() {
    if !root::is_root("be another user") {
        return;
    }
    let Some(python) = installed("python3") else {
        return;
    };
    let place = Place::new();
    fs::set_permissions(
        place.folder(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let as_nobody = || {
        let connect = "import os, socket, sys; os.setgid(65534); os.setuid(65534); \
                       socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
        let mut python = Command::new(&python);
        python.args(["-c", connect]).arg(&place.path);
        python.output().unwrap()
    };
    for (mode, may) in [("0600", false), ("0666", true)] {
        let mut args = listen(&place).to_vec();
        args.push(format!("--unix-mode={mode}"));
        let mut child = Drainline::start(&args);
        let output = as_nobody();
        assert_eq!(output.status.success(), may, "{mode}: {output:?}");
        child.terminate().assert_code(0);
    }
}

#[test]
fn a_socket_that_a_service_manager_passes_is_served_and_stays() {
    let place = Place::new();
    let socket = UnixListener::bind(&place.path).unwrap();
    let launch = Drainline::with(&["--listen", "systemd:local"]);
    let mut child = launch.passing("local", socket.try_clone().unwrap()).start();
    let mut client = unix::connect(&place.path);
    client.write_all(b"hello\n").unwrap();
    unix::half_close(client);
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), 1);
    // Whoever comes now waits for the next process.
    unix::connect(&place.path);
    drop(socket);
}

#[test]
fn ncat_and_socat_send_by_the_path() {
    let place = Place::new();
    let mut child = Drainline::start(&listen(&place));
    let path = place.path.to_str().unwrap();
    let mut sent = 0;
    for (program, line) in [
        ("ncat", format!("echo hello | ncat --send-only -U {path}")),
        (
            "socat",
            format!("echo hello | socat -u - UNIX-CONNECT:{path}"),
        ),
    ] {
        if installed(program).is_none() {
            continue;
        }
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success(), "{line}");
        sent += 1;
    }
    wait_until("they were read", DEADLINE, || {
        child.stdout_bytes() == b"hello\n".repeat(sent)
    });
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), sent as u64);
}
