//! `drainline verify` finds each kind of damage in what a server wrote of a tagged load.

use std::fs::{self, File};
use std::path::PathBuf;

use crate::common::child::Drainline;
use crate::common::tool::{load, refused, run, run_by, verify};
use serde_json::Value;
use tempfile::TempDir;

/// What a server wrote: 4 connections, 100 messages each.
struct Written {
    _directory: TempDir,
    path: PathBuf,
    lines: Vec<Vec<u8>>,
}

impl Written {
    fn new(flags: &[&str]) -> Written {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let sink = format!("file:{}", path.display());
        let mut server = Drainline::start(&["--sink", &sink]);
        let tagged = [
            "--numbered",
            "--connections=4",
            "--messages=100",
            "--wait-close",
        ];
        load(&server, &[&tagged, flags].concat());
        server.terminate().assert_code(0);
        let bytes = fs::read(&path).unwrap();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        Written {
            lines: lines.map(<[u8]>::to_vec).collect(),
            path,
            _directory: directory,
        }
    }

    /// The place of a message.
    fn find(&self, connection: u32, seq: u64) -> usize {
        let tag = format!("c{connection:05} s{seq:010} ").into_bytes();
        let holds = |line: &Vec<u8>| line.windows(tag.len()).any(|part| part == tag);
        self.lines.iter().position(holds).unwrap()
    }

    /// Writes the lines back, and verifies them. Returns the exit code and missing, duplicated,
    /// torn, misordered.
    fn verify(&self) -> (Option<i32>, [u64; 4]) {
        fs::write(&self.path, self.lines.concat()).unwrap();
        let (code, report) = verify(&self.path, &["--connections=4", "--messages=100"]);
        let count = |kind: &str| report[kind].as_u64().unwrap();
        let counts = ["missing", "duplicated", "torn", "misordered"].map(count);
        assert_eq!(report["clean"], code == Some(0));
        assert_eq!((count("unexpected"), count("absent")), (0, 0));
        (code, counts)
    }
}

#[test]
fn what_a_server_wrote_is_clean() {
    for flags in [&[][..], &["--timestamped"], &["--size=32-3000"]] {
        let written = Written::new(flags);
        assert_eq!(written.lines.len(), 400);
        assert_eq!(written.verify(), (Some(0), [0, 0, 0, 0]), "{flags:?}");
    }
}

#[test]
fn damage_is_found_and_named() {
    let mut written = Written::new(&[]);
    let whole = written.lines.clone();
    let at = written.find(2, 50);

    written.lines.remove(at);
    assert_eq!(written.verify(), (Some(1), [1, 0, 0, 0]), "deleted");
    let (exit, told) = run(&["verify", written.path.to_str().unwrap()]);
    exit.assert_code(1);
    assert!(
        told.starts_with("connection 2: 1 missing (50)\n399 messages of 4 "),
        "{told}"
    );

    written.lines = whole.clone();
    written.lines.push(whole[at].clone());
    assert_eq!(written.verify(), (Some(1), [0, 1, 0, 0]), "repeated");

    written.lines = whole.clone();
    written.lines[at].drain(40..50);
    assert_eq!(written.verify(), (Some(1), [1, 0, 1, 0]), "torn");

    written.lines = whole.clone();
    let next = written.find(2, 51);
    written.lines.swap(at, next);
    assert_eq!(written.verify(), (Some(1), [0, 0, 0, 1]), "swapped");

    // The last of a connection is missed because 100 are expected.
    written.lines = whole.clone();
    written.lines.remove(written.find(3, 99));
    assert_eq!(written.verify(), (Some(1), [1, 0, 0, 0]), "the last one");

    written.lines = whole;
    let last = written.lines.len() - 1;
    written.lines[last].pop();
    assert_eq!(written.verify().0, Some(1), "the last byte of the file");
}

#[test]
fn a_pipe_is_verified_as_a_file_is() {
    let written = Written::new(&[]);
    let line = format!("exec <'{}'", written.path.display());
    for (flags, code) in [(&["--messages=100"][..], 0), (&["--messages=101"], 1)] {
        let launch = Drainline::with(&[&["verify", "-"], flags].concat());
        let (exit, told) = run_by(launch.shell(line.clone()));
        exit.assert_code(code);
        assert!(told.contains("400 messages of 4 connections"), "{told}");
    }
}

/// Of an empty file, and of nothing on stdin.
#[test]
fn nothing_is_not_taken_for_everything() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    File::create(&empty).unwrap();
    for framing in ["lines", "nul", "octet-counted", "length-prefixed"] {
        let framing = format!("--framing={framing}");
        for (flags, missing, absent) in [
            (&[][..], 0, 0),
            (&["--messages=7"], 7, 1),
            (&["--connections=3"], 0, 3),
            (&["--connections=3", "--messages=7"], 21, 3),
        ] {
            let flags = [&[framing.as_str()], flags].concat();
            let (code, report) = verify(&empty, &flags);
            assert_eq!((code, &report["clean"]), (Some(1), &false.into()));
            assert_eq!(report["nothing"], absent == 0);
            assert_eq!(
                (&report["missing"], &report["absent"]),
                (&missing.into(), &absent.into()),
                "{flags:?}: {report}"
            );
        }
        let launch = Drainline::with(&["verify", "-", &framing]);
        let (exit, told) = run_by(launch.shell("exec </dev/null".to_owned()));
        exit.assert_code(1);
        assert!(told.starts_with("nothing to verify"), "{told}");
    }
    // Bytes that are no message are damage, and no end of it.
    std::fs::write(&empty, "abc").unwrap();
    let (code, report) = verify(&empty, &["--messages=7"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        (&report["torn"], &report["missing"]),
        (&1.into(), &7.into())
    );
}

#[test]
fn what_cannot_be_read_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere").display().to_string();
    let folder = directory.path().display().to_string();
    refused(
        Drainline::with(&["verify", &nowhere]),
        1,
        &["verify ", &nowhere, "No such file"],
    );
    refused(
        Drainline::with(&["verify", &folder]),
        1,
        &[&folder, "directory"],
    );
    refused(Drainline::with(&["verify"]), 2, &["missing value for FILE"]);
    let framing = ["verify", "-", "--framing", "syslog"];
    refused(
        Drainline::with(&framing),
        2,
        &["invalid value 'syslog' for --framing: expected lines"],
    );
}

#[test]
fn a_report_replaces_neither_what_is_verified_nor_a_page() {
    let written = Written::new(&[]);
    let (input, before) = (
        written.path.to_str().unwrap(),
        fs::read(&written.path).unwrap(),
    );
    let verify = ["verify", input, "--json", input];
    let named = "it would replace the file that is verified";
    refused(Drainline::with(&verify), 1, &["--json ", input, named]);
    assert_eq!(fs::read(&written.path).unwrap(), before);
    let page = written.path.with_extension("page");
    let page = page.to_str().unwrap();
    let lab = ["lab", "--duration=1s", "--json", page, "--html", page];
    refused(
        Drainline::with(&lab),
        1,
        &["--json ", page, "the page of --html"],
    );
}

/// Each tool has the same flag: `--json FILE` writes the report beside the text, `--json -` in its
/// place, and what cannot be written is said before anything is done.
#[test]
fn every_tool_writes_its_report_as_json_to_a_file_or_to_stdout() {
    let written = Written::new(&[]);
    let input = written.path.to_str().unwrap();
    let server = Drainline::start(&["--sink", "null"]);
    let address = server.addr().to_string();
    let tools = [
        (&["verify", input][..], "clean"),
        (&["load", &address, "--messages=3"], "connects"),
        (&["plan", "--rate=100", "--connections=5"], "promise"),
        (&["lab", "--duration=1s", "--strategies=limit"], "workload"),
    ];
    for (words, key) in tools {
        let file = written.path.with_extension(key);
        let (exit, text) = run(&[words, &["--json", file.to_str().unwrap()]].concat());
        exit.assert_code(0);
        assert!(!text.is_empty() && !text.starts_with('{'), "{text}");
        let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(!report[key].is_null(), "{report}");

        let (exit, stdout) = run(&[words, &["--json=-"]].concat());
        exit.assert_code(0);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert!(!report[key].is_null(), "{report}");

        let nowhere = Drainline::with(&[words, &["--json=/nowhere/report"]].concat());
        refused(nowhere, 1, &["--json /nowhere/report: "]);
    }
}
