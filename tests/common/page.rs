//! The lab's report page in a real browser.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::guard::{Collector, Guarded};
use super::programs::installed;
use super::wait::DEADLINE;

/// What every strategy has a chart of.
const CHARTS: [&str; 6] = ["threads", "memory", "buffered", "wait", "delivered", "lost"];

/// A page can be sent by mail, and opens at once on a phone.
const MAX_BYTES: usize = 1_000_000;

/// A page as the browser has it.
#[derive(Debug)]
pub struct Opened {
    /// Opening tags, in their order.
    pub tags: Vec<Tag>,
    /// What went to the browser's console: errors, and requests that the page's own policy forbids.
    pub console: Vec<String>,
}

/// An opening tag.
#[derive(Debug, Default)]
pub struct Tag {
    pub name: String,
    attributes: Vec<(String, String)>,
    /// Up to the next tag.
    pub text: String,
}

impl Tag {
    pub fn get(&self, attribute: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(name, _)| name == attribute);
        found.map(|(_, value)| value.as_str())
    }

    fn is(&self, attribute: &str, value: &str) -> bool {
        self.get(attribute) == Some(value)
    }
}

/// Opens a page, for at most [`DEADLINE`]. `None`: there is no browser, see [`installed`].
#[track_caller]
pub fn open(path: &Path) -> Option<Opened> {
    let browser = installed("chromium")?;
    let profile = tempfile::tempdir().unwrap();
    let child = Command::new(browser)
        // The page is ours and has no script; root and containers have no sandbox to offer.
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--disable-quic",
            "--disable-dev-shm-usage",
        ])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut browser = Guarded(child);
    let dom = Collector::start(browser.0.stdout.take().unwrap());
    let log = Collector::start(browser.0.stderr.take().unwrap());
    let status = browser.wait(DEADLINE);
    let is_good = status.is_some_and(|status| status.success());
    assert!(is_good, "{status:?}: {}", log.text());
    dom.finish();
    log.finish();
    let is_console = |line: &&str| line.contains("CONSOLE");
    Some(Opened {
        tags: tags(&dom.text()),
        console: log
            .text()
            .lines()
            .filter(is_console)
            .map(str::to_owned)
            .collect(),
    })
}

/// The page says what the lab's JSON report says: no error, a row of the table for each strategy
/// with the report's figures, and every chart with its series.
#[track_caller]
pub fn check_page(path: &Path, report: &Value) {
    let Some(page) = open(path) else {
        return;
    };
    check(&page, report);
    let bytes = std::fs::metadata(path).unwrap().len();
    assert!(bytes < MAX_BYTES as u64, "{bytes} bytes");
}

/// Whether a page is as wide as a screen of `width`, so that nobody has to push it to and fro; see
/// [`open`].
///
/// A browser's own window has a least width, a frame in it has none. The page in it says how wide
/// it is, for which it is allowed the script that it does not have.
#[track_caller]
pub fn fits(path: &Path, width: u32) -> Option<bool> {
    let page = std::fs::read_to_string(path).unwrap();
    let (framed, frame) = (
        path.with_extension("framed.html"),
        path.with_extension("frame.html"),
    );
    let script =
        "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>";
    let page = page.replace("default-src 'none'", "script-src 'unsafe-inline'");
    std::fs::write(&framed, page.replace("</body>", script)).unwrap();
    let name = framed.file_name().and_then(|name| name.to_str()).unwrap();
    let outer = format!(
        "<body><script>addEventListener('message', (told) => document.body.title = told.data)</script>\
         <iframe src=\"{name}\" width=\"{width}\" height=\"800\" frameborder=\"0\"></iframe></body>"
    );
    std::fs::write(&frame, outer).unwrap();
    let opened = open(&frame)?;
    let body = opened.tags.iter().find(|tag| tag.name == "body");
    let told = body.and_then(|body| body.get("title")).unwrap();
    Some(told.parse::<u32>().unwrap() <= width)
}

/// As [`check_page`], of what the browser has.
///
/// # Panics
/// With what is wrong.
#[track_caller]
pub fn check(page: &Opened, report: &Value) {
    assert!(page.console.is_empty(), "{:#?}", page.console);
    let strategies = report["strategies"].as_array().unwrap();
    let rows = page.tags.iter().filter(|tag| tag.name == "tr");
    let rows: Vec<_> = rows.filter_map(|row| row.get("data-strategy")).collect();
    let names: Vec<_> = strategies.iter().map(name).collect();
    assert_eq!(rows, names, "the rows of the table");
    for strategy in strategies {
        check_row(page, strategy);
        for chart in CHARTS {
            check_chart(page, chart, strategy);
        }
    }
}

fn name(strategy: &Value) -> &str {
    strategy["strategy"].as_str().unwrap()
}

#[track_caller]
fn check_row(page: &Opened, strategy: &Value) {
    let is_column = |tag: &&Tag| tag.name == "th" && tag.is("scope", "col");
    let columns = page.tags.iter().filter(is_column).count();
    let is_row = |tag: &Tag| tag.name == "tr" && tag.is("data-strategy", name(strategy));
    let row = within(page, "tr", is_row);
    let cells: Vec<&Tag> = row.iter().filter(|tag| tag.name == "td").collect();
    assert_eq!(cells.len() + 1, columns, "cells of {}", name(strategy));
    // One cell has a small chart instead of a figure.
    let figures: Vec<_> = cells
        .iter()
        .filter_map(|cell| Some((cell.get("data-metric")?, cell)))
        .collect();
    assert_eq!(figures.len() + 1, cells.len(), "{}", name(strategy));
    for (figure, cell) in figures {
        let told = &strategy["metrics"][figure];
        let shown: Value = serde_json::from_str(cell.get("data-value").unwrap()).unwrap();
        assert_eq!(shown, *told, "{}: {figure}", name(strategy));
        if let (Some(count), false) = (told.as_u64(), figure.ends_with("_bytes")) {
            assert_eq!(cell.text.replace(',', ""), count.to_string(), "{figure}");
        }
        assert!(!cell.text.is_empty(), "{}: {figure}", name(strategy));
    }
}

#[track_caller]
fn check_chart(page: &Opened, chart: &str, strategy: &Value) {
    let what = format!("the chart of {chart} of {}", name(strategy));
    let is_chart =
        |tag: &Tag| tag.is("data-chart", chart) && tag.is("data-strategy", name(strategy));
    assert_eq!(
        page.tags.iter().filter(|tag| is_chart(tag)).count(),
        1,
        "{what}"
    );
    let figure = within(page, "figure", is_chart);
    let line = figure.iter().find(|tag| tag.is("data-series", chart));
    let points = line.and_then(|line| line.get("points")).unwrap_or_default();
    assert!(points.split(' ').count() > 1, "{what}: {points:?}");
    let has_numbers = |point: &str| {
        let number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
        point
            .split_once(',')
            .is_some_and(|(x, y)| number(x) && number(y))
    };
    assert!(points.split(' ').all(has_numbers), "{what}: {points:?}");
    let mut timeline = strategy["timeline"].as_array().unwrap().iter();
    let has_overload = timeline.any(|point| point["overload"].is_string());
    let levels = figure.iter().filter(|tag| tag.get("data-level").is_some());
    assert_eq!(levels.count() > 0, has_overload, "{what}: the overload");
}

/// The tags behind the one that `is_begin`, up to the next of that name.
#[track_caller]
fn within<'a>(page: &'a Opened, name: &str, is_begin: impl Fn(&Tag) -> bool) -> &'a [Tag] {
    let begin = page.tags.iter().position(is_begin).unwrap() + 1;
    let rest = &page.tags[begin..];
    let end = rest.iter().position(|tag| tag.name == name);
    &rest[..end.unwrap_or(rest.len())]
}

/// What a browser writes of a document: well-formed, values in double quotes.
fn tags(dom: &str) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    let mut rest = dom;
    while let Some((before, after)) = rest.split_once('<') {
        if let Some(last) = tags.last_mut().filter(|last| last.text.is_empty()) {
            last.text = plain(before);
        }
        let begins_tag = after.starts_with(|letter: char| letter.is_ascii_alphabetic());
        let (tag, behind) = if begins_tag {
            tag(after)
        } else {
            (None, after)
        };
        tags.extend(tag);
        rest = behind;
    }
    tags
}

/// The tag at the start of `text`, and what is behind it.
fn tag(text: &str) -> (Option<Tag>, &str) {
    let end = text.find([' ', '>', '/']).unwrap_or(text.len());
    let mut tag = Tag {
        name: text[..end].to_owned(),
        ..Tag::default()
    };
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start_matches([' ', '/']);
        if let Some(behind) = rest.strip_prefix('>') {
            return (Some(tag), behind);
        }
        let Some((name, value)) = rest.split_once("=\"") else {
            return (None, rest);
        };
        let Some((value, behind)) = value.split_once('"') else {
            return (None, rest);
        };
        tag.attributes.push((name.to_owned(), plain(value)));
        rest = behind;
    }
}

fn plain(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    plain.replace("&quot;", "\"").replace("&amp;", "&")
}
