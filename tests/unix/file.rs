//! The socket's file: who may connect, what is taken over, and what stays.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use crate::common::echo::echo;
use crate::common::embedded;
use crate::common::root;
use crate::common::small;
use crate::common::unix::{self, Place};
use crate::common::wait::DEADLINE;
use drainline::{Address, Listener, Server, StartError};

fn start(listener: Listener) -> Result<Server, StartError> {
    let builder = small::server::<Vec<u8>>().listener(listener);
    builder.start_each(echo, |_| Ok(()))
}

fn not_started(place: &Place) -> ErrorKind {
    match start(Listener::unix(&place.path)) {
        Err(StartError::Listen { address, source }) => {
            assert_eq!(address, Address::Unix(place.path.clone()));
            source.kind()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_makes_a_socket_that_anybody_may_connect_to_and_an_end_removes_it() {
    let place = Place::new();
    let server = start(Listener::unix(&place.path)).unwrap();
    let found = fs::symlink_metadata(&place.path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o777, 0o666);
    assert_eq!(place.names(), ["drainline.sock"], "and nothing else");
    server.shutdown(DEADLINE);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn mode_and_owner_are_as_asked_for() {
    let place = Place::new();
    let server = start(Listener::unix(&place.path).unix_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(&place.path).unwrap().mode() & 0o777, 0o640);
    drop(server);
    if !root::is_root("give a file away") {
        return;
    }
    let owned = |uid, gid| {
        let server = start(Listener::unix(&place.path).unix_owner(uid, gid)).unwrap();
        let found = fs::metadata(&place.path).unwrap();
        drop(server);
        (found.uid(), found.gid())
    };
    assert_eq!(owned(Some(12), Some(34)), (12, 34));
    assert_eq!(owned(None, Some(34)), (0, 34));
    assert_eq!(owned(Some(12), None), (12, 0));
}

#[test]
fn settings_of_a_file_are_refused_where_there_is_none_and_out_of_range() {
    let place = Place::new();
    let tcp = || Listener::on("127.0.0.1:0".parse().unwrap());
    let inherited = || Listener::from(UnixListener::bind(place.folder().join("other")).unwrap());
    for (listener, value) in [
        (tcp().unix_mode(0o600), "0600"),
        (tcp().unix_owner(None, Some(1)), ":1"),
        (tcp().unix_owner(Some(12), Some(34)), "12:34"),
        (inherited().unix_mode(0o600), "0600"),
        (Listener::unix(&place.path).unix_mode(0o1777), "1777"),
    ] {
        match start(listener).unwrap_err() {
            StartError::Config(error) => assert_eq!(error.value, value),
            error => panic!("{error}"),
        }
    }
    assert!(!place.path.exists());
}

#[test]
fn a_socket_on_which_nobody_listens_is_taken_over_and_one_that_answers_is_not() {
    let place = Place::new();
    place.leave_stale();
    let server = start(Listener::unix(&place.path)).unwrap();
    unix::connect(&place.path);
    assert_eq!(not_started(&place), ErrorKind::AddrInUse);
    unix::connect(&place.path);
    drop(server);
}

#[test]
fn what_is_no_socket_stays_as_it_is() {
    let place = Place::new();
    fs::write(&place.path, "precious").unwrap();
    assert_eq!(not_started(&place), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&place.path).unwrap(), b"precious");
    fs::remove_file(&place.path).unwrap();
    std::os::unix::fs::symlink("nowhere", &place.path).unwrap();
    assert_eq!(not_started(&place), ErrorKind::AlreadyExists);
    assert!(fs::symlink_metadata(&place.path).unwrap().is_symlink());
    fs::remove_file(&place.path).unwrap();
    fs::create_dir(&place.path).unwrap();
    assert_eq!(not_started(&place), ErrorKind::AlreadyExists);
    fs::remove_dir(&place.path).unwrap();
    assert_eq!(place.names(), [""; 0]);
}

/// Another server may have taken the name, with or without asking.
#[test]
fn an_end_removes_no_file_but_its_own() {
    let place = Place::new();
    let server = start(Listener::unix(&place.path)).unwrap();
    fs::remove_file(&place.path).unwrap();
    let _other = UnixListener::bind(&place.path).unwrap();
    server.shutdown(DEADLINE);
    unix::connect(&place.path);
    let second = Place::new();
    let server = start(Listener::unix(&second.path)).unwrap();
    fs::rename(&second.path, second.folder().join("moved")).unwrap();
    fs::write(&second.path, "precious").unwrap();
    server.shutdown(DEADLINE);
    assert_eq!(fs::read(&second.path).unwrap(), b"precious");
}

#[test]
fn a_start_that_fails_on_another_listener_leaves_no_socket() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = small::server::<Vec<u8>>()
        .listener(Listener::unix(&place.path))
        .listen(taken.local_addr().unwrap());
    assert!(builder.start_each(echo, |_| Ok(())).is_err());
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn the_same_path_twice_is_in_use() {
    let place = Place::new();
    let builder = small::server::<Vec<u8>>()
        .listener(Listener::unix(&place.path))
        .listener(Listener::unix(&place.path));
    let error = builder.start_each(echo, |_| Ok(())).unwrap_err();
    let is_in_use = matches!(&error, StartError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse);
    assert!(is_in_use, "{error}");
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn child_entry() {
    let Some(role) = embedded::role() else {
        return;
    };
    // Rounds that all children begin together, as good as it gets: each takes over what the one
    // that was killed in the round before has left, or is told that another was first.
    while let Some(path) = embedded::hear() {
        match start(Listener::unix(&path)) {
            Ok(server) => {
                embedded::tell(&format!("{role} serves"));
                embedded::hear();
                std::mem::forget(server);
            }
            Err(error) => embedded::tell(&format!("{role} does not: {error}")),
        }
    }
}

/// Several processes start at the same moment over a stale socket: one serves, and the path is its
/// own.
#[test]
fn of_processes_that_start_at_once_over_a_stale_socket_one_serves_and_answers() {
    const STARTS: usize = 4;
    let mut children: Vec<_> = (0..STARTS)
        .map(|number| {
            let role = format!("start {number}");
            embedded::Embedded::start("file::child_entry", &role, &[])
        })
        .collect();
    let place = Place::new();
    place.leave_stale();
    for child in &mut children {
        child.say(place.path.to_str().unwrap());
    }
    let answers: Vec<String> = children
        .iter_mut()
        .map(|child| child.wait_line("start "))
        .collect();
    let serving = answers
        .iter()
        .filter(|line| line.ends_with("serves"))
        .count();
    assert_eq!(serving, 1, "{answers:?}");
    let refused = answers
        .iter()
        .filter(|line| line.contains("another process"));
    assert_eq!(refused.count(), STARTS - 1, "{answers:?}");
    unix::connect(&place.path);
    assert_eq!(place.names(), ["drainline.sock"]);
}
