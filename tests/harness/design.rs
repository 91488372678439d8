//! What `src/docs/design.md` says of the sources is so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A step of the list "from accept to write".
struct Step {
    number: usize,
    file: String,
    function: String,
    /// Who makes the call; `None` for the first step on a thread.
    caller: Option<Caller>,
}

struct Caller {
    file: String,
    /// What the function is called there, if not by its name.
    name: String,
}

impl Step {
    /// Reads `7. `file` `function`, called by `file`: ...`, also with `called as `name` by` or
    /// `first on its thread` instead; `None` for any other line.
    fn of(line: &str) -> Option<Step> {
        let (number, rest) = line.split_once(". `")?;
        let (file, rest) = rest.split_once("` `")?;
        let (function, rest) = rest.split_once("`, ")?;
        let (how, _) = rest.split_once(':')?;
        let words: Vec<&str> = how.split('`').collect();
        let (file_of_caller, name) = match words[..] {
            ["called by ", file, ""] => (Some(file), function),
            ["called as ", name, " by ", file, ""] => (Some(file), name),
            ["first on its thread"] => (None, function),
            _ => return None,
        };
        Some(Step {
            number: number.parse().ok()?,
            file: file.to_owned(),
            function: function.to_owned(),
            caller: file_of_caller.map(|file| Caller {
                file: file.to_owned(),
                name: name.to_owned(),
            }),
        })
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The steps of the list in `design`.
fn steps(design: &str) -> Vec<Step> {
    let (_, list) = design
        .split_once("\n### In the code, from accept to write\n")
        .expect("the list's heading");
    let (list, _) = list.split_once("\n## ").expect("the next heading");
    let is_step = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
    // A step may go over several lines. The continuation is indented.
    let joined = list.replace("\n   ", " ");
    let lines = joined.lines().filter(is_step);
    lines
        .map(|line| Step::of(line).unwrap_or_else(|| panic!("no step: {line}")))
        .collect()
}

/// The functions of a file: name and body, without comments and without its tests.
fn functions(text: &str) -> Vec<(String, String)> {
    let (text, _) = text.split_once("#[cfg(test)]\nmod ").unwrap_or((text, ""));
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("fn ") {
        let rest = &text[at + 3..];
        let name: String = rest.chars().take_while(|&c| is_of_name(c)).collect();
        // A declaration without a body ends in a semicolon.
        let Some(begin) = rest
            .find(['{', ';'])
            .filter(|&at| rest[at..].starts_with('{'))
        else {
            continue;
        };
        let mut depth = 0;
        let end = rest[begin..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(begin + at)
        });
        if let Some(end) = end.filter(|_| !name.is_empty()) {
            found.push((name, rest[begin..end].to_owned()));
        }
    }
    found
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The calls in `body`, in the order in which they stand there. Behind the call of a function of
/// the same file come the calls in that function's body, unless they are being listed already.
fn calls(body: &str, own: &[(String, String)], inside: &mut Vec<String>) -> Vec<String> {
    let mut calls = Vec::new();
    for (at, _) in body.match_indices('(') {
        let before = &body[..at];
        let name = before.rsplit(|c| !is_of_name(c)).next().unwrap_or("");
        if name.is_empty() {
            continue;
        }
        calls.push(name.to_owned());
        if inside.iter().any(|outer| outer == name) {
            continue;
        }
        inside.push(name.to_owned());
        for (_, body) in own.iter().filter(|(own, _)| own == name) {
            calls.extend(self::calls(body, own, inside));
        }
        inside.pop();
    }
    calls
}

/// Files whose functions the files of the list call in the plain case, or may call in another one,
/// though none of these calls is a step.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "getters, setters and constructors",
        &[
            "ingest/batch/mod.rs",
            "ingest/framing/between.rs",
            "ingest/shared.rs",
            "ingest/sink/batches.rs",
            "policy/mod.rs",
            "server/config.rs",
            "server/ends/weigh.rs",
            "server/limits/malloc.rs",
            "server/peer.rs",
        ],
    ),
    (
        "finds nothing to do",
        &[
            "ingest/batch/pool.rs",
            "policy/linger.rs",
            "server/ends/busy_read.rs",
            "server/ends/connection/late.rs",
            "server/ends/connection/opening.rs",
            "server/ends/rate_limit.rs",
            "server/peers.rs",
            "server/state/connection_state/drain.rs",
            "server/state/exits.rs",
            "server/state/handler_thread.rs",
            "server/state/leave.rs",
            "server/state/lifecycle.rs",
        ],
    ),
    (
        "another case: a failure, a message that is too long, the end of the stream, TLS",
        &[
            "ingest/framing/event.rs",
            "ingest/framing/truncate.rs",
            "ingest/sink/file/dated.rs",
            "ingest/sink/file/gzip.rs",
            "ingest/sink/file/name.rs",
            "ingest/sink/file/options.rs",
            "ingest/sink/file/rotation.rs",
            "ingest/sink/file/stamp.rs",
            "ingest/sink/file/sync.rs",
            "ingest/sink/retry.rs",
            "ingest/sink/unlinked.rs",
            "ingest/stream_end.rs",
            "server/ends/connection/session.rs",
            "server/error.rs",
            "server/state/mod.rs",
        ],
    ),
    (
        "locks, the log, and what only counts or publishes",
        &[
            "ingest/ledger.rs",
            "ingest/sink/fd_writer/pending.rs",
            "ingest/sink/state.rs",
            "policy/idle_limit.rs",
            "server/ledger.rs",
            "server/state/accepting.rs",
            "server/state/connection_state.rs",
            "server/state/consumer_state.rs",
            "server/state/crowd_lock.rs",
            "server/state/logger.rs",
            "server/state/table.rs",
        ],
    ),
];

/// Where each function of the library is defined, without the command line and the tools.
fn definitions() -> HashMap<String, Vec<String>> {
    let mut definitions: HashMap<String, Vec<String>> = HashMap::new();
    let mut folders = ["ingest", "policy", "server"].map(PathBuf::from).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(sources().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if sources().join(&path).is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(sources().join(&path)).unwrap();
            let path = path.to_str().unwrap();
            if path.ends_with("tests.rs") {
                continue;
            }
            for (name, _) in functions(&text) {
                definitions.entry(name).or_default().push(path.to_owned());
            }
        }
    }
    definitions
}

/// Calls from the files of the list, in what the steps enter, into files that are neither in the
/// list nor left out. Only a function whose name one file alone defines is known by its call.
fn unlisted(steps: &[Step]) -> BTreeSet<String> {
    let definitions = definitions();
    let left_out: Vec<_> = LEFT_OUT.iter().flat_map(|(_, files)| *files).collect();
    let mut unlisted = BTreeSet::new();
    for Step { file, function, .. } in steps {
        let text = fs::read_to_string(sources().join(file)).unwrap();
        let own = functions(&text);
        let bodies = own.iter().filter(|(name, _)| name == function);
        for (_, body) in bodies {
            for call in calls(body, &own, &mut vec![function.clone()]) {
                let Some([callee]) = definitions.get(&call).map(Vec::as_slice) else {
                    continue;
                };
                let is_listed = steps.iter().any(|step| step.file == *callee);
                if !is_listed && !left_out.contains(&&callee.as_str()) {
                    unlisted.insert(format!("{file} calls {call} of {callee}"));
                }
            }
        }
    }
    unlisted
}

/// A function that has been entered and has not returned.
struct Frame<'a> {
    file: &'a str,
    calls: Vec<String>,
    /// Calls that lie behind the way.
    passed: usize,
}

/// What is wrong with a list, given the text of each file; `None` if nothing is.
fn fault(steps: &[Step], text_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    const MAX_FILES: usize = 22;
    const MAX_FILES_TO_HANDLER: usize = 6;
    let mut entered: HashMap<&str, usize> = HashMap::new();
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut files_to_handler = None;
    for (index, step) in steps.iter().enumerate() {
        let Step {
            number,
            file,
            function,
            caller,
        } = step;
        if *number != index + 1 {
            return Some(format!("step {} has number {number}", index + 1));
        }
        let Some(text) = text_of(file) else {
            return Some(format!("there is no {file}"));
        };
        let own = functions(&text);
        let mut inside = vec![function.clone()];
        let bodies = own.iter().filter(|(name, _)| name == function);
        let bodies: Vec<_> = bodies
            .map(|(_, body)| calls(body, &own, &mut inside))
            .collect();
        if bodies.is_empty() {
            return Some(format!("{file} has no fn {function}"));
        }
        match caller {
            None => frames.clear(),
            Some(Caller { file: caller, name }) => {
                // Whatever was entered from there has returned.
                let Some(at) = frames.iter().rposition(|frame| frame.file == caller) else {
                    return Some(format!("step {number}: {caller} has not been entered"));
                };
                frames.truncate(at + 1);
                let frame = &mut frames[at];
                // A body may have several branches with the same call. Then the last is meant.
                let Some(call) = frame.calls.iter().rposition(|call| call == name) else {
                    return Some(format!("step {number}: {caller} does not call {name}"));
                };
                if call < frame.passed {
                    return Some(format!("step {number}: {caller} calls {name} earlier"));
                }
                frame.passed = call + 1;
            }
        }
        frames.push(Frame {
            file,
            calls: bodies.concat(),
            passed: 0,
        });
        *entered.entry(file).or_default() += 1;
        if file == "ingest/handler.rs" {
            files_to_handler.get_or_insert(entered.len());
        }
    }
    let often = entered.iter().find(|&(_, &times)| times > 2);
    if let Some((file, times)) = often {
        return Some(format!("{file} is entered {times} times"));
    }
    if files_to_handler.is_none_or(|files| files > MAX_FILES_TO_HANDLER) {
        return Some(format!("{files_to_handler:?} files to the handler"));
    }
    (entered.len() > MAX_FILES).then(|| format!("{} files", entered.len()))
}

#[test]
fn the_way_of_a_message_in_the_code_is_the_one_that_the_design_lists() {
    let design = fs::read_to_string(sources().join("docs/design.md")).unwrap();
    let steps = steps(&design);
    assert!(steps.len() > 10, "{} steps", steps.len());
    let text_of = |file: &str| fs::read_to_string(sources().join(file)).ok();
    assert_eq!(fault(&steps, text_of), None);
    assert_eq!(unlisted(&steps), BTreeSet::new());
    let files: HashSet<_> = steps.iter().map(|step| &step.file).collect();
    let says = format!("{} files (", files.len());
    assert!(design.contains(&says), "{says}");
}

#[test]
fn a_list_that_has_become_wrong_is_found() {
    const FIRST: &str = "1. `ingest/handler.rs` `run`, first on its thread: x";
    const GO: &str = "2. `a.rs` `go`, called by `ingest/handler.rs`: x";
    const END: &str = "3. `b.rs` `end`, called as `close` by `ingest/handler.rs`: x";
    let list = |lines: &[&str]| -> Vec<Step> {
        let steps = lines.iter().map(|line| Step::of(line).expect(line));
        steps.collect()
    };
    let text_of = |file: &str| match file {
        "ingest/handler.rs" => Some(
            "fn run() { if x { go() } pass() }\n\
             fn pass() { go(); run() }\n\
             fn other() { alone() }\n\
             fn run() { close() }"
                .to_owned(),
        ),
        "a.rs" => Some("fn go() { deep() }\n// alone()\n".to_owned()),
        "b.rs" => Some("fn alone() {} fn end() {} fn deep() {}".to_owned()),
        _ => None,
    };
    assert_eq!(fault(&list(&[FIRST, GO, END]), text_of), None);
    let (deep, again) = (
        "3. `b.rs` `deep`, called by `a.rs`: x",
        "4. `b.rs` `end`, called as `close` by `ingest/handler.rs`: x",
    );
    assert_eq!(fault(&list(&[FIRST, GO, deep, again]), text_of), None);
    for wrong in [
        &["1. `a.rs` `go`, first on its thread: x"][..],
        &[GO],
        &[FIRST, "2. `gone.rs` `go`, called by `ingest/handler.rs`: x"],
        &[FIRST, "2. `a.rs` `gone`, called by `ingest/handler.rs`: x"],
        // Called in another function of the file, in a comment, by a file that was not entered, by
        // one that has returned, before the step above.
        &[FIRST, "2. `b.rs` `alone`, called by `ingest/handler.rs`: x"],
        &[FIRST, GO, "3. `b.rs` `alone`, called by `a.rs`: x"],
        &[FIRST, "2. `b.rs` `deep`, called by `a.rs`: x"],
        &[FIRST, GO, END, "4. `b.rs` `deep`, called by `a.rs`: x"],
        &[
            FIRST,
            "2. `b.rs` `end`, called as `close` by `ingest/handler.rs`: x",
            "3. `a.rs` `go`, called by `ingest/handler.rs`: x",
        ],
        &[
            FIRST,
            GO,
            "3. `a.rs` `go`, called by `ingest/handler.rs`: x",
        ],
    ] {
        assert!(fault(&list(wrong), text_of).is_some(), "{wrong:?}");
    }
    let thrice = "`ingest/handler.rs` `run`, first on its thread: x";
    let thrice: Vec<_> = (1..=3).map(|n| format!("{n}. {thrice}")).collect();
    let thrice: Vec<_> = thrice.iter().map(String::as_str).collect();
    assert!(fault(&list(&thrice), text_of).is_some());
}
