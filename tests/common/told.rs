//! What a server told on its log, as a test looks for it.

use std::net::TcpStream;

use super::exit::Exit;

/// The lines that were logged, without those at debug, those around a drain, and what "delivered"
/// means there.
pub fn logged(exit: &Exit) -> Vec<&str> {
    let logged = exit.stderr.lines().filter(|line| line.starts_with('['));
    let logged = logged.filter(|line| !line.contains(" DEBUG "));
    let usual = ["] draining", "] output "];
    let is_usual = |line: &&str| usual.iter().any(|usual| line.contains(usual));
    logged.filter(|line| !is_usual(line)).collect()
}

/// The line of the log with `part` in it, which is there once.
#[track_caller]
pub fn the_line<'a>(exit: &'a Exit, part: &str) -> &'a str {
    let lines = logged(exit);
    let found: Vec<_> = lines.iter().filter(|line| line.contains(part)).collect();
    assert_eq!(found.len(), 1, "{part:?}: {exit}");
    found[0]
}

/// One of them was named, the others are counted.
#[track_caller]
pub fn assert_one_named(exit: &Exit, peers: &[String], says: &str, kind: &str) {
    let line = the_line(exit, says);
    assert!(line.contains(" WARN "), "{line}");
    let named = peers
        .iter()
        .filter(|peer| line.contains(&format!(" from {peer} ")));
    assert_eq!(named.count(), 1, "{peers:?}: {line}");
    if peers.len() > 1 {
        let others = format!("suppressed {} similar messages: {kind}", peers.len() - 1);
        the_line(exit, &others);
    }
}

pub fn names(clients: &[TcpStream]) -> Vec<String> {
    let names = clients
        .iter()
        .map(|client| client.local_addr().unwrap().to_string());
    names.collect()
}
