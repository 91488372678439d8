//! What `src/docs/design.md` says of the sources is so.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A step of the list "from accept to write".
struct Step {
    number: usize,
    file: String,
    function: String,
}

impl Step {
    /// Reads `7. `file` `function`: ...`; `None` for any other line.
    fn of(line: &str) -> Option<Step> {
        let (number, rest) = line.split_once(". `")?;
        let (file, rest) = rest.split_once("` `")?;
        let (function, _) = rest.split_once("`: ")?;
        Some(Step {
            number: number.parse().ok()?,
            file: file.to_owned(),
            function: function.to_owned(),
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
    list.lines().filter_map(Step::of).collect()
}

/// What is wrong with a list, given the text of each file; `None` if nothing is.
fn fault(steps: &[Step], text_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    const MAX_FILES: usize = 20;
    const MAX_FILES_TO_HANDLER: usize = 6;
    let mut entered: HashMap<&str, usize> = HashMap::new();
    let mut passed = String::new();
    let mut files_to_handler = None;
    for (index, step) in steps.iter().enumerate() {
        let Step {
            number,
            file,
            function,
        } = step;
        if *number != index + 1 {
            return Some(format!("step {} has number {number}", index + 1));
        }
        let Some(text) = text_of(file) else {
            return Some(format!("there is no {file}"));
        };
        if !text.contains(&format!("fn {function}(")) {
            return Some(format!("{file} has no fn {function}"));
        }
        // Called from a file that the list has been to, this one included. The definition itself
        // is no call.
        passed.push_str(&text.replace(&format!("fn {function}("), ""));
        if !passed.contains(&format!("{function}(")) {
            return Some(format!("nothing that was passed calls {function}"));
        }
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
}

#[test]
fn a_list_that_has_become_wrong_is_found() {
    let list = |lines: &[&str]| -> Vec<Step> {
        let steps = lines.iter().filter_map(|line| Step::of(line));
        steps.collect()
    };
    let text_of = |file: &str| match file {
        "ingest/handler.rs" => Some("fn run() { go(); run() }".to_owned()),
        "a.rs" => Some("fn go() {}".to_owned()),
        "b.rs" => Some("fn alone() {}".to_owned()),
        _ => None,
    };
    let (first, second) = ("1. `ingest/handler.rs` `run`: x", "2. `a.rs` `go`: x");
    assert_eq!(fault(&list(&[first, second]), text_of), None);
    for wrong in [
        &[second][..],
        &[first, "2. `gone.rs` `go`: x"],
        &[first, "2. `a.rs` `gone`: x"],
        &[first, "2. `b.rs` `alone`: x"],
        &["1. `a.rs` `go`: x"],
        &[first, second, "3. `a.rs` `go`: x", "4. `a.rs` `go`: x"],
    ] {
        assert!(fault(&list(wrong), text_of).is_some(), "{wrong:?}");
    }
}
