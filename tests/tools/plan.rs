//! `drainline plan` as a user meets it: its first line starts a server.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::child::{BINARY, Drainline};
use crate::common::exit::Exit;
use crate::common::fifo;
use crate::common::programs::is_installed;
use crate::common::tool::{load, refused, run};
use rustix::fs::OFlags;
use serde_json::{Value, json};

const LOADS: [&[&str]; 6] = [
    &["--rate=10000", "--connections=50", "--sink-rate=20000"],
    &[
        "--rate=10000",
        "--connections=50",
        "--sink-rate=5000",
        "--stall=1m",
    ],
    &["--rate=300", "--connections=900", "--size=100KiB"],
    &[
        "--rate=50000",
        "--connections=5",
        "--stall=2m",
        "--memory=200MiB",
    ],
    &["--rate=90000", "--connections=500", "--capacity=20000"],
    &[
        "--rate=1",
        "--connections=1",
        "--stall=0s",
        "--when-full=drop",
    ],
];

/// What `drainline plan` says of a load.
fn planned(load: &[&str]) -> Value {
    let (exit, plan) = run(&[&["plan", "--json=-"], load].concat());
    exit.assert_code(0);
    serde_json::from_str(&plan).unwrap()
}

/// The flags of the server that a plan says to start.
fn flags(plan: &Value) -> Vec<&str> {
    let command = plan["command"].as_str().unwrap();
    let flags = command.strip_prefix("drainline ").unwrap();
    flags.split(' ').collect()
}

#[test]
fn the_first_line_is_a_server_that_starts() {
    for load in LOADS {
        let plan = planned(load);
        let (exit, text) = run(&[&["plan"], load].concat());
        exit.assert_code(0);
        assert_eq!(exit.stderr, "", "{load:?}");
        let command = plan["command"].as_str().unwrap();
        assert_eq!(text.lines().next(), Some(command));
        let flags = flags(&plan);
        let (exit, checked) = run(&[&flags[..], &["--check"]].concat());
        exit.assert_code(0);
        for flag in flags.chunks(2) {
            let [flag, value] = flag.try_into().unwrap();
            let key = flag.trim_start_matches('-').replace('-', "_");
            let lines = [value.to_owned(), format!("\"{value}\"")]
                .map(|value| format!("{key} = {value}  # {flag}"));
            assert!(
                checked.lines().any(|line| lines.contains(&line.to_owned())),
                "no {lines:?} in {checked}"
            );
        }
        // The limits are those of the server, but for what each process has open on its own.
        let connections = &plan["limits"]["connections"];
        let limits = format!("limits: at most {connections} connections,");
        assert!(
            checked.lines().any(|line| line.starts_with(&limits)),
            "no {limits:?} in {checked}"
        );
    }
}

/// Takes at most `rate` lines of 129 bytes a second, and nothing for the time of the stall. Ends
/// with its writer; says how many lines there were.
fn take(mut fifo: File, rate: u64, stall_at: Duration, stall: Duration) -> u64 {
    const LINE: usize = 129;
    const LOOK: Duration = Duration::from_millis(2);
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    let mut start = Instant::now();
    loop {
        let mut time = start.elapsed();
        if time > stall_at {
            thread::sleep((stall_at + stall).saturating_sub(time));
            time = start.elapsed() - stall;
        }
        // Its time begins with the first line, so one may be read before.
        let may = 1 + (time.as_secs_f64() * rate as f64) as usize;
        let most = (may * LINE).saturating_sub(bytes).min(buffer.len());
        match fifo.read(&mut buffer[..most]) {
            // Nobody writes any more, or not yet, or nothing may be read.
            Ok(0) if most > 0 && bytes > 0 => return (bytes / LINE) as u64,
            Ok(read) => bytes += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        if bytes < LINE {
            start = Instant::now();
        }
        thread::sleep(LOOK);
    }
}

/// A server with these flags under 4,000/s on 20 connections, with a sink of 12,000/s that stalls
/// for so long.
fn serve(flags: &[&str], stall: u64) -> Exit {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo::make(&path);
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let fifo = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(&path)
        .unwrap();
    let (at, stall) = (Duration::from_secs(1), Duration::from_secs(stall));
    let sink = thread::spawn(move || take(fifo, 12_000, at, stall));
    let path = format!("file:{}", path.display());
    let mut server = Drainline::start(&[flags, &["--sink", &path]].concat());
    let duration = format!("{}s", stall.as_secs() + 3);
    let load = [
        "--connections=20",
        "--rate=200",
        "--size=128",
        "--duration",
        &duration,
        "--wait-close",
    ];
    let sent = load_all(&server, &load);
    let exit = server.terminate();
    exit.assert_balanced();
    assert_eq!(exit.u64("received"), sent);
    assert_eq!(exit.u64("delivered"), sink.join().unwrap());
    exit
}

fn load_all(server: &Drainline, flags: &[&str]) -> u64 {
    load(server, flags)["messages"].as_u64().unwrap()
}

#[test]
fn a_real_server_keeps_the_promise_and_loses_nothing_one_step_beyond_it() {
    let words = [
        "--rate=4000",
        "--connections=20",
        "--sink-rate=12000",
        "--stall=2s",
        "--memory=40MiB",
    ];
    let plan = planned(&words);
    assert_eq!(plan["promise"]["loses_nothing"], true, "{plan}");
    let longer = &plan["what_if"][0];
    assert_eq!(longer["what"], "a stall of 4s", "{plan}");
    assert_eq!(
        (&longer["lost"], &longer["unseen"]),
        (&json!({}), &json!(0))
    );
    let flags = flags(&plan);
    for stall in [2, 4] {
        let exit = serve(&flags, stall);
        exit.assert_code(0);
        assert_eq!(exit.sum("dropped"), 0);
    }
    // So the stall is one that has to be planned for.
    let exit = serve(
        &[
            "--buffer-messages=1000",
            "--send-timeout=500ms",
            "--when-full=drop",
        ],
        2,
    );
    assert!(exit.u64("dropped.full") > 1000, "{exit}");
}

/// A report without what is of the machine, of the process or of the build: what is open already
/// when a process starts, the stacks of a debug build, and what there is of memory beside them.
/// Each paragraph is a line.
fn of_any_machine(report: &str) -> String {
    let paragraphs = report.replace("\n  ", " ");
    let lines = paragraphs.lines().filter(|line| !line.starts_with("Note:"));
    let words = lines.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let of_process =
            |next: &[&str]| matches!(next, ["descriptors,", ..] | [_, "of", "memory", ..]);
        let told = (0..words.len()).map(|at| match of_process(&words[at + 1..]) {
            true => "N",
            false => words[at],
        });
        told.collect::<Vec<_>>().join(" ")
    });
    words.collect::<Vec<_>>().join("\n")
}

/// Each block that shows what a plan says, with the command before it.
fn shown_plans(document: &str) -> Vec<(Vec<&str>, &str)> {
    // Every other piece is in a block.
    let blocks: Vec<&str> = document.split("```").skip(1).step_by(2).collect();
    let pairs = blocks.windows(2).filter_map(|pair| {
        let command = pair[0].strip_prefix("sh\n")?.trim();
        let flags = command.strip_prefix("drainline plan ")?;
        let shown = pair[1].strip_prefix("text\ndrainline ")?;
        Some((flags.split(' ').collect(), shown.trim_end()))
    });
    pairs.collect()
}

#[test]
fn what_documents_show_of_plans_is_what_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = fs::read_dir(root.join("src/docs")).unwrap();
    let documents = documents.map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for path in documents.chain([root.join("README.md")]) {
        for (flags, shown) in shown_plans(&fs::read_to_string(&path).unwrap()) {
            let (exit, told) = run(&[&["plan"], &flags[..]].concat());
            exit.assert_code(0);
            let (shown, told) = (
                of_any_machine(&format!("drainline {shown}")),
                of_any_machine(&told),
            );
            assert!(
                told.starts_with(&shown),
                "{}: shows\n{shown}\nbut is told\n{told}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "the README shows one");
}

#[test]
fn a_terminal_shows_how_far_a_simulation_is_and_nothing_of_that_stays() {
    if !is_installed("script") {
        return;
    }
    let plan = format!("'{BINARY}' plan --rate 10000 --connections 100 --sink-rate 5000");
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &plan, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Were it ended, script would end what it runs.
    let stdin = script.stdin.take();
    let shown = script.wait_with_output().unwrap();
    drop(stdin);
    assert!(shown.status.success());
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (before, wiped) = shown.rsplit_once("\x1b[2K").expect("a line that was wiped");
    assert!(before.contains("% simulating this load"), "{before:?}");
    assert!(before.contains("% simulating a stall of 20s"), "{before:?}");
    assert!(wiped.starts_with("drainline --when-full"), "{wiped:?}");
}

#[test]
fn measuring_ends_soon_and_finds_something() {
    let plan = planned(&["--rate=1000", "--connections=20", "--measure"]);
    assert!(
        plan["machines"]["capacity"].as_u64().unwrap() > 1000,
        "{plan}"
    );
    assert_eq!(plan["machines"]["count"], 1);
}

#[test]
fn what_cannot_be_planned_is_one_line() {
    refused(
        Drainline::with(&["plan", "--rate=1", "--connections=0"]),
        2,
        &["invalid value '0' for --connections: expected a number from 1 to 1000000"],
    );
    refused(
        Drainline::with(&["plan", "--rate=1", "--connections=100", "--memory=16MiB"]),
        78,
        &["--memory 16MiB: 100 connections"],
    );
}
