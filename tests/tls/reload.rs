//! What is loaded stays within the printed limit, however often and whatever is loaded.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::authority::{Authority, Client, Pair, VERSIONS, config};
use crate::common::child::Drainline;
use crate::common::proc;
use crate::common::wait::{DEADLINE, wait_until};

/// Certificates of a server and of its clients, and a list of revoked ones.
struct Files {
    servers: Authority,
    client: Pair,
}

impl Files {
    fn new(folder: &Path, lists: usize) -> Files {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let Pair { certificate, key } = servers.server();
        let list = clients.revocation_list(60_000);
        assert!(list.len() > 3_000_000);
        fs::write(folder.join("cert.pem"), certificate).unwrap();
        fs::write(folder.join("key.pem"), key).unwrap();
        fs::write(folder.join("ca.pem"), &clients.certificate).unwrap();
        fs::write(folder.join("crl.pem"), list.repeat(lists)).unwrap();
        let client = clients.client("web1.example");
        Files { servers, client }
    }
}

fn start(folder: &Path) -> Drainline {
    let path = |name: &str| folder.join(name).display().to_string();
    Drainline::start(&[
        "--listen",
        "tls://127.0.0.1:0",
        "--tls-cert",
        &path("cert.pem"),
        "--tls-key",
        &path("key.pem"),
        "--tls-client-ca",
        &path("ca.pem"),
        "--tls-client-crl",
        &path("crl.pem"),
        "--max-connections",
        "25",
        "--buffer-bytes",
        "1MiB",
    ])
}

/// Has the files read again, and waits until the log says for the `times`th time what became of it.
fn reload(child: &mut Drainline, says: &str, times: usize) {
    child.signal(Signal::HUP);
    wait_until("a reload", DEADLINE, || {
        child.stderr_text().matches(says).count() == times
    });
}

fn assert_within_the_limit(child: &Drainline) {
    let (peak, limit) = (
        proc::peak_rss_bytes(child.pid()),
        child.limits().memory_bytes,
    );
    eprintln!("{} of {} MiB", peak >> 20, limit >> 20);
    assert!(peak <= limit, "{peak} of {limit}");
    // And the limit says something.
    assert!(peak >= limit / 8, "{peak} of {limit}");
}

#[test]
fn connections_that_outlive_reloads_keep_nothing_of_what_was_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(folder.path(), 1);
    let mut child = start(folder.path());
    let config = config(&files.servers, Some(&files.client), &VERSIONS);
    let mut open = Vec::new();
    for n in 1..=20 {
        let mut client = Client::connect(child.addr(), &config);
        client.send(b"a line\n");
        open.push(client);
        wait_until("a line", DEADLINE, || child.stdout_len() == 7 * n);
        reload(&mut child, "has read its TLS files again", n as usize);
    }
    assert_within_the_limit(&child);
    for client in open {
        client.close();
    }
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_balanced();
}

#[test]
fn long_lists_are_in_the_limit_before_and_after_reloads() {
    let folder = tempfile::tempdir().unwrap();
    let _files = Files::new(folder.path(), 4);
    let mut child = start(folder.path());
    assert_within_the_limit(&child);
    for times in 1..=5 {
        reload(&mut child, "has read its TLS files again", times);
    }
    assert_within_the_limit(&child);
    child.terminate().assert_code(0);
}

#[test]
fn a_reload_that_takes_more_than_was_counted_keeps_what_there_is_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(folder.path(), 1);
    let mut child = start(folder.path());
    let config = config(&files.servers, Some(&files.client), &VERSIONS);
    let shown = |child: &Drainline| {
        let client = Client::connect(child.addr(), &config);
        let shown = client.session.peer_certificates().unwrap().to_vec();
        client.close();
        shown
    };
    let before = shown(&child);
    let put = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let good = fs::read_to_string(folder.path().join("cert.pem")).unwrap();
    let (keeps, counts) = ("keeps the TLS that it has: ", "a restart counts again");
    put("cert.pem", good.repeat(8000));
    reload(&mut child, keeps, 1);
    put("cert.pem", good.repeat(20));
    reload(&mut child, keeps, 2);
    put("cert.pem", good);
    let list = fs::read_to_string(folder.path().join("crl.pem")).unwrap();
    put("crl.pem", list.repeat(2));
    reload(&mut child, keeps, 3);
    assert_eq!(child.stderr_text().matches(counts).count(), 3);
    assert_eq!(shown(&child), before);
    assert_within_the_limit(&child);
    put("crl.pem", list);
    reload(&mut child, "has read its TLS files again", 1);
    child.terminate().assert_code(0);
}
