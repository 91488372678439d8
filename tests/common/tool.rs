//! The commands beside the server: `drainline load`, `drainline verify`.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use super::child::Drainline;
use super::exit::Exit;
use super::launch::Launch;

/// Runs a command to its end, for at most [`DEADLINE`](super::wait::DEADLINE). Returns how it
/// ended, and its stdout.
#[track_caller]
pub fn run<A: AsRef<OsStr>>(args: &[A]) -> (Exit, String) {
    run_by(Drainline::with(args))
}

/// As [`run`], started in a way of the test's own.
#[track_caller]
pub fn run_by(launch: Launch) -> (Exit, String) {
    let mut child = launch.bare().spawn();
    let exit = child.wait();
    let stdout = String::from_utf8(child.stdout_bytes()).unwrap();
    (exit, stdout)
}

/// Loads `server` and expects everything to be sent. Returns the report.
#[track_caller]
pub fn load(server: &Drainline, flags: &[&str]) -> Value {
    let address = server.addr().to_string();
    let (exit, stdout) = run(&[&["load", &address, "--json", "-"], flags].concat());
    exit.assert_code(0);
    assert_eq!(exit.stderr, "");
    serde_json::from_str(&stdout).unwrap()
}

/// Verifies a file. Returns the exit code and the report.
#[track_caller]
pub fn verify(file: &Path, flags: &[&str]) -> (Option<i32>, Value) {
    let file = file.to_str().unwrap();
    let (exit, stdout) = run(&[&["verify", file, "--json", "-"], flags].concat());
    assert_eq!(exit.stderr, "");
    (exit.code, serde_json::from_str(&stdout).unwrap())
}

/// Did not start: one line on stderr that holds each of `parts`, nothing on stdout.
#[track_caller]
pub fn refused(launch: Launch, code: i32, parts: &[&str]) {
    let (exit, stdout) = run_by(launch);
    exit.assert_code(code);
    assert_eq!(
        (exit.stderr.lines().count(), stdout.as_str()),
        (1, ""),
        "{exit}"
    );
    assert!(exit.stderr.starts_with("drainline: "), "{exit}");
    for part in parts {
        assert!(exit.stderr.contains(part), "no {part:?}: {exit}");
    }
}
