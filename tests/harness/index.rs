//! `tests/README.md` names every file of the tests, in the section of its binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a section has between backticks.
#[derive(Default)]
struct Section {
    /// In the first column of its table, which names files.
    rows: BTreeSet<String>,
    anywhere: BTreeSet<String>,
}

/// Of the index, by the names of their binaries.
fn sections(readme: &str) -> BTreeMap<String, Section> {
    let mut sections = BTreeMap::new();
    let mut section = &mut Section::default();
    for line in readme.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let binary = heading.split([':', ' ']).next().unwrap();
            section = sections.entry(binary.to_owned()).or_default();
        }
        if line.starts_with("| ") {
            let column = line.split('|').nth(1).unwrap();
            section.rows.extend(between_backticks(column));
        }
        section.anywhere.extend(between_backticks(line));
    }
    sections
}

fn between_backticks(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The Rust files below a folder, without their ending and those that join others.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let joins = path.ends_with("main.rs") || path.ends_with("mod.rs");
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && !joins {
                let path = path.with_extension("");
                let name = path.strip_prefix(folder).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn the_index_names_each_file_and_no_other() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let readme = fs::read_to_string(tests.join("README.md")).unwrap();
    let sections = sections(&readme);
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&tests).unwrap() {
        let folder = entry.unwrap().path();
        let binary = folder.file_name().unwrap().to_str().unwrap();
        let is_alone = sections["alone"].rows.contains(binary);
        if !folder.join("main.rs").is_file() || is_alone {
            continue;
        }
        let Some(section) = sections.get(binary) else {
            wrong.push(format!("{binary} has no section"));
            continue;
        };
        let files = files(&folder);
        let unnamed = files.difference(&section.anywhere);
        wrong.extend(unnamed.map(|file| format!("{binary}/{file}.rs is not named")));
        // Kafka's `main` has tests, too.
        let gone = section.rows.difference(&files).filter(|row| *row != "main");
        wrong.extend(gone.map(|file| format!("{binary}/{file}.rs is not there")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
