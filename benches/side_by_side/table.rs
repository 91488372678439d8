//! What was measured, for people and for programs.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::figures::{Figures, Metric};
use crate::scenario::{Aim, Scenario, Target, Than};

/// All turns of one entrant.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) rounds: Vec<Figures>,
    /// Why it has no figures, or fewer than it should.
    pub(crate) missing: Option<String>,
}

impl Row {
    fn medians(&self) -> Figures {
        Figures::medians(&self.rounds)
    }
}

/// How a target stands.
#[derive(Debug)]
struct Verdict {
    text: String,
    ratio: Option<f64>,
    is_met: Option<bool>,
}

/// The table of one scenario: figures, then targets.
pub(crate) fn text(scenario: &Scenario, rows: &[Row], is_busy: bool) -> String {
    let unit = scenario.work.unit();
    let medians: Vec<Figures> = rows.iter().map(Row::medians).collect();
    let shown = |metric: &Metric| medians.iter().any(|row| row.get(*metric).is_some());
    let metrics: Vec<Metric> = Metric::ALL.into_iter().filter(shown).collect();

    let heads = metrics.iter().map(|metric| metric.head(unit));
    let mut lines: Vec<Vec<String>> = vec![[String::new()].into_iter().chain(heads).collect()];
    for (row, figures) in rows.iter().zip(&medians) {
        let cells = metrics.iter().map(|&metric| {
            let value = figures.get(metric);
            value.map_or("-".to_owned(), |value| metric.show(value))
        });
        lines.push([row.label.clone()].into_iter().chain(cells).collect());
    }
    lines.extend(ratios(rows, &medians, &metrics));
    let mut text = format!("\n{}: {}\n", scenario.name, scenario.what);
    text += &aligned(&lines);
    for row in rows {
        if let Some(why) = &row.missing {
            let _ = writeln!(text, "  missing: {}: {why}", row.label);
        }
    }
    for target in scenario.targets {
        let verdict = judge(target, rows, unit, is_busy);
        let mark = match verdict.is_met {
            Some(true) => "ok    ",
            Some(false) => "MISSED",
            None => "?     ",
        };
        let _ = writeln!(text, "  {mark} {}", verdict.text);
    }
    text
}

/// The first row's figures by each other's.
fn ratios(rows: &[Row], medians: &[Figures], metrics: &[Metric]) -> Vec<Vec<String>> {
    let (Some(first), Some(figures)) = (rows.first(), medians.first()) else {
        return Vec::new();
    };
    let others = rows.iter().zip(medians).skip(1);
    let others = others.filter(|(_, figures)| !figures.0.is_empty());
    let ratios = others.map(|(row, other)| {
        let cells = metrics.iter().map(|&metric| {
            let values = figures.get(metric).zip(other.get(metric));
            let ratio = values.filter(|&(_, value)| metric.is_compared() && value > 0.0);
            ratio.map_or(String::new(), |(ours, theirs)| {
                format!("{:.3} x", ours / theirs)
            })
        });
        let label = format!("{} / {}", first.label, row.label);
        [label].into_iter().chain(cells).collect()
    });
    ratios.collect()
}

/// First column to the left, all others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widest = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "  {:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

pub(crate) fn json(scenario: &Scenario, rows: &[Row], is_busy: bool) -> Value {
    let entrants: Map<String, Value> = rows
        .iter()
        .map(|row| {
            let value = json!({
                "medians": figures(&row.medians()),
                "rounds": row.rounds.iter().map(figures).collect::<Vec<_>>(),
                "missing": row.missing,
            });
            (row.label.clone(), value)
        })
        .collect();
    let verdicts = scenario.targets.iter().map(|target| {
        let verdict = judge(target, rows, scenario.work.unit(), is_busy);
        json!({
            "of": target.of,
            "metric": target.metric.key(),
            "text": verdict.text,
            "ratio": verdict.ratio,
            "is_met": verdict.is_met,
        })
    });
    json!({
        "scenario": scenario.name,
        "what": scenario.what,
        "unit": scenario.work.unit(),
        "entrants": entrants,
        "targets": verdicts.collect::<Vec<_>>(),
    })
}

fn figures(figures: &Figures) -> Value {
    let values = figures.0.iter();
    values
        .map(|(metric, value)| (metric.key().to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn judge(target: &Target, rows: &[Row], unit: &str, is_busy: bool) -> Verdict {
    let head = target.metric.head(unit);
    let aim = match target.aim {
        Aim::AtLeast => ">=",
        Aim::AtMost => "<=",
    };
    let figure = |label: &str| {
        let row = rows.iter().find(|row| row.label == label)?;
        row.medians().get(target.metric)
    };
    let (wanted, than) = match target.than {
        Than::Number(number) => {
            let if_busy = target.number_if_busy.filter(|_| is_busy);
            let number = if_busy.unwrap_or(number);
            (Some(number), target.metric.show(number))
        }
        Than::Least(labels) => {
            let values: Option<Vec<f64>> = labels.iter().map(|label| figure(label)).collect();
            (
                values.and_then(|all| all.into_iter().reduce(f64::min)),
                labels.join(" or "),
            )
        }
        Than::Most(labels) => {
            let values: Option<Vec<f64>> = labels.iter().map(|label| figure(label)).collect();
            (
                values.and_then(|all| all.into_iter().reduce(f64::max)),
                "the best".to_owned(),
            )
        }
    };
    let mut goal = match target.than {
        Than::Number(_) => format!("{aim} {than}"),
        _ => format!("{aim} {} x {than}", target.factor),
    };
    if target.plus > 0.0 {
        let _ = write!(goal, " + {}", target.metric.show(target.plus));
    }
    let (Some(value), Some(wanted)) = (figure(target.of), wanted) else {
        return Verdict {
            text: format!("{}: {head} {goal}: not measured", target.of),
            ratio: None,
            is_met: None,
        };
    };
    let limit = target.factor * wanted + target.plus;
    let is_met = match target.aim {
        Aim::AtLeast => value >= limit,
        Aim::AtMost => value <= limit,
    };
    let ratio = (wanted != 0.0 && !matches!(target.than, Than::Number(_))).then(|| value / wanted);
    let times = ratio.map_or(String::new(), |ratio| format!(", {ratio:.3} x"));
    let text = format!(
        "{}: {head} {}{times} (goal {goal})",
        target.of,
        target.metric.show(value)
    );
    Verdict {
        text,
        ratio,
        is_met: Some(is_met),
    }
}
