//! A timeline in characters.

use std::time::Duration;

use drainline::policy::OverloadLevel;

use super::metrics::Point;
use super::words::{self, count, time};

const COLUMNS: usize = 64;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A row for each thing that has a timeline, with its highest value.
pub(super) fn draw(timeline: &[Point]) -> String {
    let Some(last) = timeline.last().filter(|last| !last.at.is_zero()) else {
        return String::new();
    };
    let columns = columns(timeline, last.at);
    let mut text = String::new();
    let mut row = |name: &str, values: Vec<f64>, print: &dyn Fn(f64) -> String| {
        let most = values.iter().copied().fold(0.0, f64::max);
        let bar = |value: &f64| match most > 0.0 && *value > 0.0 {
            true => LEVELS[((value / most * 8.0).ceil() as usize).clamp(1, 8)],
            false => LEVELS[0],
        };
        let bars: String = values.iter().map(bar).collect();
        text += &format!("  {name:<10} |{bars}| {}\n", print(most));
    };
    let level = |of: &dyn Fn(&Point) -> f64| -> Vec<f64> {
        let highest = |points: &Vec<Point>| points.iter().map(of).fold(0.0, f64::max);
        columns.iter().map(highest).collect()
    };
    let flow = |of: &dyn Fn(&Point) -> u64| -> Vec<f64> {
        let mut before = Point::default();
        let mut rates = Vec::new();
        for points in &columns {
            let now = points.last().copied().unwrap_or(before);
            let time = now.at.saturating_sub(before.at).as_secs_f64();
            // A column without a point of its own is like the one before it.
            let rate = match time > 0.0 {
                true => of(&now).saturating_sub(of(&before)) as f64 / time,
                false => rates.last().copied().unwrap_or(0.0),
            };
            rates.push(rate);
            before = now;
        }
        rates
    };
    let number = |value: f64| count(value as u64);
    let rate = |value: f64| words::rate(value as u64);
    row("threads", level(&|point| point.threads as f64), &number);
    row("buffered", level(&|point| point.buffered as f64), &number);
    row(
        "wait",
        level(&|point| point.longest_wait.as_secs_f64()),
        &|value| time(Duration::try_from_secs_f64(value).unwrap_or_default()),
    );
    row("delivered", flow(&|point| point.delivered), &rate);
    row("lost", flow(&|point| point.lost), &rate);
    if timeline.iter().any(|point| point.level.is_some()) {
        let levels: String = columns.iter().map(|points| level_of(points)).collect();
        text += &format!(
            "  {:<10} |{levels}| . normal, b backpressure, p paused, s shedding\n",
            "overload"
        );
    }
    let end = time(last.at);
    text += &format!("  {:<10}  0{end:>width$}\n", "time", width = COLUMNS - 1);
    text
}

/// The points of each column; where there is none, the one before.
fn columns(timeline: &[Point], end: Duration) -> Vec<Vec<Point>> {
    let mut columns = vec![Vec::new(); COLUMNS];
    for point in timeline {
        let place = point.at.as_secs_f64() / end.as_secs_f64() * COLUMNS as f64;
        let place = (place.ceil() as usize).clamp(1, COLUMNS) - 1;
        columns[place].push(*point);
    }
    let mut before = Vec::new();
    for points in &mut columns {
        match points.last() {
            Some(last) => before = vec![*last],
            None => points.clone_from(&before),
        }
    }
    columns
}

fn level_of(points: &[Point]) -> char {
    match points.iter().filter_map(|point| point.level).max() {
        None => ' ',
        Some(OverloadLevel::Normal) => '.',
        Some(level) => level.name().chars().next().unwrap_or(' '),
    }
}
