//! The page as a text. What a browser makes of it is in tests/tools/lab_page.rs.

use std::time::Duration;

use drainline::policy::OverloadLevel;

use super::super::fake::{self, STRATEGIES};
use super::super::outcome::{Findings, Point};
use super::chart::CHARTS;
use super::frame::{BOTTOM, LEFT, RIGHT, TOP};
use super::{STYLE, series, write};

/// `DRAINLINE_LAB_PAGE=FILE` has the page left there, to be looked at without a run, and its JSON
/// beside it.
#[test]
fn a_page_is_whole() {
    let findings = fake::findings();
    let page = write(&findings);
    assert_balanced(&page);
    if let Some(file) = std::env::var_os("DRAINLINE_LAB_PAGE") {
        let json = super::super::json::json(&findings).to_string();
        std::fs::write(&file, &page).expect("the page is written");
        std::fs::write(std::path::Path::new(&file).with_extension("json"), json)
            .expect("the JSON is written");
    }
}

#[test]
fn each_strategy_has_each_chart_with_its_line_inside_it() {
    let page = write(&fake::findings());
    for strategy in STRATEGIES {
        for chart in &CHARTS {
            let figure = figure_of(&page, chart.key, strategy);
            let points = points(figure, chart.key);
            assert!(points.len() > 50, "{strategy}, {}: {points:?}", chart.key);
            assert!(points.is_sorted_by_key(|(x, _)| *x));
            for (x, y) in points {
                assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y));
            }
            let has_overload = !["naive", "tight-loop"].contains(&strategy);
            assert_eq!(figure.contains("data-series=\"overload\""), has_overload);
            assert!(figure.contains(">sink stalls<"));
        }
    }
}

#[test]
fn strategies_share_their_scales() {
    let page = write(&fake::findings());
    for chart in &CHARTS {
        let grids: Vec<Vec<&str>> = STRATEGIES
            .iter()
            .map(|strategy| {
                let lines = figure_of(&page, chart.key, strategy).split('<');
                let is_scale = |part: &&str| part.contains("grid") || part.contains("value");
                lines.filter(is_scale).collect()
            })
            .collect();
        assert!(grids[0].len() > 4, "{:?}", grids[0]);
        assert!(grids.iter().all(|grid| *grid == grids[0]), "{}", chart.key);
    }
    // 900 threads flatten nobody who has 27; waits of 8 s would, whoever never waits.
    assert!(!figure_of(&page, "threads", "naive").contains("log scale"));
    assert!(figure_of(&page, "wait", "naive").contains("log scale"));
}

#[test]
fn nothing_from_outside_is_markup() {
    let hostile = "<script>alert(1)</script>\" onload='x' & \u{1b}[31m";
    let mut findings = fake::findings();
    findings.load = hostile.to_owned();
    findings.command = hostile.to_owned();
    let outcome = &mut findings.outcomes[3];
    outcome.strategy = hostile.to_owned();
    outcome.flags = Some(vec![hostile.to_owned()]);
    outcome.sentence = hostile.to_owned();
    outcome.metrics.lost = vec![(hostile.to_owned(), 5)];
    outcome.metrics.rejected = vec![(hostile.to_owned(), 5)];
    outcome.metrics.stopped_at = Some(hostile.to_owned());
    let page = write(&findings);
    assert_balanced(&page);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    assert!(!page.contains("\" onload") && !page.contains("onload='"));
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = write(&fake::findings());
    for word in ["://", "src=", "url(", "@import", "<script", "href=\"//"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// A dozen strategies, watched for as long as nobody will, with everything in motion.
#[test]
fn a_page_stays_below_a_megabyte() {
    let point = |tick: u64| {
        let wild = (tick * 7919) % 1009;
        Point {
            at: Duration::from_millis(tick * 10),
            threads: wild,
            memory_bytes: wild << 20,
            descriptors: wild,
            buffered: wild * 1000,
            longest_wait: Duration::from_millis(wild),
            delivered: tick * tick,
            lost: tick * tick / 7,
            rejected: tick,
            level: Some(OverloadLevel::ALL[(wild % 4) as usize]),
        }
    };
    let timeline: Vec<Point> = (0..100_000).map(point).collect();
    let mut findings = fake::findings();
    let each = findings.outcomes.clone();
    findings.outcomes = each.into_iter().cycle().take(12).collect();
    for outcome in &mut findings.outcomes {
        outcome.timeline.clone_from(&timeline);
    }
    let page = write(&findings);
    assert!(page.len() < 1_000_000, "{}", page.len());
    let most = page.split("points=\"").skip(1).map(|rest| {
        let points = rest.split('"').next().unwrap_or_default();
        points.split(' ').count()
    });
    assert!(most.max() <= Some(series::MAX_SAMPLES));
}

#[test]
fn what_ended_at_once_is_told_nevertheless() {
    let mut findings = fake::findings();
    for (outcome, points) in findings.outcomes.iter_mut().zip(0..) {
        outcome.timeline.truncate(points);
    }
    let page = write(&findings);
    assert_balanced(&page);
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    let naive = figure_of(&page, "threads", "naive");
    assert!(
        naive.contains("ended before it could be watched"),
        "{naive}"
    );

    let none = Findings {
        outcomes: Vec::new(),
        ..findings
    };
    assert_balanced(&write(&none));
}

/// WCAG's AA: 4.5 for text, 3 for what is drawn.
#[test]
fn colours_can_be_told_from_the_page() {
    let [light, dark, print] = schemes();
    for scheme in [&light, &dark, &print] {
        for (name, least) in [
            ("ink", 4.5),
            ("quiet", 4.5),
            ("link", 4.5),
            ("bad", 4.5),
            ("line", 3.0),
            ("paused", 3.0),
            ("shedding", 3.0),
        ] {
            for ground in ["page", "stall"] {
                let contrast = contrast(scheme(name), scheme(ground));
                assert!(contrast >= least, "{name} on {ground}: {contrast:.2}");
            }
        }
        // The worse the level, the further from the page: told apart without colour, as far as grey
        // goes.
        let levels = OverloadLevel::ALL.map(|level| contrast(scheme(level.name()), scheme("page")));
        assert!(levels.is_sorted(), "{levels:?}");
    }
}

/// The values of the style's `--name`s: light, dark, print.
fn schemes() -> [impl Fn(&str) -> f64; 3] {
    let blocks: Vec<&str> = STYLE.split(":root {").skip(1).collect();
    let blocks: [&str; 3] = blocks.try_into().expect("three schemes");
    blocks.map(|block| {
        move |name: &str| {
            let declared = format!("--{name}: #");
            let at = block.find(&declared).expect(name) + declared.len();
            let hex = block[at..].split(';').next().expect(name);
            luminance(hex)
        }
    })
}

fn luminance(hex: &str) -> f64 {
    let digits = if hex.len() == 3 { 1 } else { 2 };
    let part = |place: usize| {
        let part = &hex[place * digits..(place + 1) * digits];
        let part = u32::from_str_radix(&part.repeat(3 - digits), 16).expect(hex);
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 {
            part / 12.92
        } else {
            ((part + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * part(0) + 0.7152 * part(1) + 0.0722 * part(2)
}

fn contrast(one: f64, other: f64) -> f64 {
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

fn figure_of<'a>(page: &'a str, chart: &str, strategy: &str) -> &'a str {
    let head = format!("<figure data-chart=\"{chart}\" data-strategy=\"{strategy}\">");
    let (_, rest) = page.split_once(&head).expect(&head);
    rest.split_once("</figure>").expect("an end").0
}

fn points(figure: &str, series: &str) -> Vec<(f64, f64)> {
    let head = format!("data-series=\"{series}\" points=\"");
    let (_, rest) = figure.split_once(&head).expect(&head);
    let points = rest.split('"').next().unwrap_or_default().split(' ');
    let number = |text: &str| text.parse::<f64>().expect(text);
    points
        .map(|point| point.split_once(',').expect(point))
        .map(|(x, y)| (number(x), number(y)))
        .collect()
}

/// Every element that is opened is closed, in the right order.
fn assert_balanced(page: &str) {
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap_or_default();
        let name: String = tag
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed));
        } else if !["meta", "link", ""].contains(&name.as_str()) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
