//! The lab's report page shows in a real browser what the lab's JSON report says, and a page that
//! does not is found out.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::common::page::{check, check_page, fits, open};
use crate::common::tool::run;
use serde_json::Value;
use tempfile::TempDir;

/// A short run of the lab: its page, and its JSON.
fn short_run() -> (TempDir, PathBuf, Value) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page.html");
    let (exit, stdout) = run(&[
        "lab",
        "--duration=2s",
        "--strategies=naive,abort,layered",
        "--json=-",
        "--html",
        path.to_str().unwrap(),
    ]);
    exit.assert_code(0);
    (directory, path, serde_json::from_str(&stdout).unwrap())
}

#[test]
fn the_page_shows_what_the_report_says() {
    let (_directory, path, report) = short_run();
    check_page(&path, &report);
    the_check_finds_what_is_wrong(&path, &report);
    for width in [360, 390, 800, 1280] {
        assert_ne!(fits(&path, width), Some(false), "{width} pixels");
    }
}

/// The check is only as good as what it finds.
fn the_check_finds_what_is_wrong(path: &Path, report: &Value) {
    let page = fs::read_to_string(path).unwrap();
    let points = page.split("points=\"").nth(1).unwrap();
    let points = points.split('"').next().unwrap();
    let image = "<header><img src=\"http://127.0.0.1:9/\" alt=\"\">";
    for (wrong, instead, found) in [
        (points, "", "the chart of threads"),
        (points, "1.0,1.0", "the chart of threads"),
        (points, "1.0,1.0 x,2.0", "points: Expected number"),
        ("data-chart=\"wait\"", "", "the chart of wait"),
        ("<td role", "<th role", "cells of"),
        (
            "<tr role=\"row\" data-strategy",
            "<tr data-other",
            "the rows of the table",
        ),
        ("\">", "\">1", "peak_threads"),
        ("<header>", image, "violates"),
        ("<header>", "<header><script>alert(1)</script>", "violates"),
    ] {
        // The page's own head, and its table's, stay as they are.
        let begin = if wrong == "<header>" { wrong } else { "<tbody" };
        let (head, rest) = page.split_at(page.find(begin).unwrap());
        assert!(rest.contains(wrong), "{wrong}");
        let path = path.with_file_name("wrong.html");
        fs::write(&path, [head, &rest.replacen(wrong, instead, 40)].concat()).unwrap();
        let Some(opened) = open(&path) else {
            return;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&opened, report)));
        let told = outcome.expect_err(instead).downcast::<String>().unwrap();
        assert!(told.contains(found), "{instead}: {told}");
    }
    let wide = path.with_file_name("wide.html");
    let instead = "<header><p style=\"width: 50rem\">wide</p>";
    fs::write(&wide, page.replace("<header>", instead)).unwrap();
    assert_ne!(fits(&wide, 360), Some(true));
}
