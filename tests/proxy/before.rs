//! A real HAProxy in front of a server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::client;
use crate::common::guard::Guarded;
use crate::common::port::free_port;
use crate::common::programs::installed;
use crate::common::wait::{DEADLINE, wait_until};

pub struct HaProxy {
    pub front: SocketAddr,
    _process: Guarded,
    _folder: TempDir,
}

/// `None`: HAProxy is not installed.
pub fn before(server: SocketAddr, options: &str) -> Option<HaProxy> {
    let program = installed("haproxy")?;
    let folder = tempfile::tempdir().unwrap();
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let configuration = format!(
        "global\n\
         \x20   maxconn 500\n\
         defaults\n\
         \x20   mode tcp\n\
         \x20   timeout connect 60s\n\
         \x20   timeout client 60s\n\
         \x20   timeout server 60s\n\
         frontend front\n\
         \x20   bind {front}\n\
         \x20   unique-id-format %{{+X}}o%ci%cp%Ts%rt%pid\n\
         \x20   default_backend back\n\
         backend back\n\
         \x20   server drainline {server} {options}\n"
    );
    let path = folder.path().join("configuration");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&path);
    let errors = fs::File::create(folder.path().join("errors")).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors);
    let mut process = Guarded(command.spawn().unwrap());
    let told = || fs::read_to_string(folder.path().join("errors")).unwrap();
    wait_until("HAProxy listens", DEADLINE, || {
        assert_eq!(process.ended(), None, "{}", told());
        client::try_connect(front, DEADLINE).is_ok()
    });
    Some(HaProxy {
        front,
        _process: process,
        _folder: folder,
    })
}
