//! What was found, for a terminal.

use super::super::chart;
use super::super::words;
use super::columns::COLUMNS;
use super::outcome::{Findings, Outcome};
use super::simulated;

const GAP: &str = "  ";

/// The load, a line of metrics for each strategy, then what happened to each, with its timeline if
/// that is wanted. Ended by LF.
pub(crate) fn table(findings: &Findings, with_charts: bool) -> String {
    let mut text = format!("{}:\n", findings.load);
    for sentence in words::workload(&findings.workload) {
        text += &format!("{GAP}{sentence}\n");
    }
    text.push('\n');
    text += &metrics(&findings.outcomes);
    for outcome in &findings.outcomes {
        text.push('\n');
        text += &story(outcome);
        if with_charts {
            text += &chart::draw(&outcome.timeline);
        }
    }
    text + &simulated::table(&findings.outcomes) + &format!("\nagain: {}\n", findings.command)
}

/// The first column to the left, the others, which are numbers, to the right.
fn metrics(outcomes: &[Outcome]) -> String {
    let mut rows = heads();
    for outcome in outcomes {
        let cells = COLUMNS
            .iter()
            .map(|column| (column.words)(&outcome.metrics));
        rows.push(
            [outcome.strategy.clone()]
                .into_iter()
                .chain(cells)
                .collect(),
        );
    }
    let length = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..=COLUMNS.len())
        .map(|place| {
            rows.iter()
                .map(|row| length(&row[place]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &match place {
                0 => format!("{cell:width$}"),
                _ => format!("{GAP}{cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Two lines: the last words of the heads stand in the second one.
fn heads() -> Vec<Vec<String>> {
    let split = COLUMNS
        .iter()
        .map(|column| column.head.rsplit_once(' ').unwrap_or(("", column.head)));
    let (upper, lower): (Vec<&str>, Vec<&str>) =
        [("", "strategy")].into_iter().chain(split).unzip();
    let owned = |cells: Vec<&str>| cells.into_iter().map(str::to_owned).collect();
    vec![owned(upper), owned(lower)]
}

fn story(outcome: &Outcome) -> String {
    let mut text = format!("{}: {}\n", outcome.strategy, outcome.sentence);
    for (name, line) in outcome.details() {
        text += &format!("{GAP}{name}: {line}\n");
    }
    if let Some(command) = outcome.by_hand() {
        text += &format!("{GAP}by hand: {command}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_its_columns_stand_straight() {
        let findings = fake::findings();
        let text = metrics(&findings.outcomes);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2 + fake::STRATEGIES.len());
        for line in &lines {
            assert!(line.chars().count() <= 120, "{line}");
        }
        let end = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
        let naive = lines[2];
        assert!(naive.starts_with("naive "), "{naive}");
        assert_eq!(end(naive, "900"), end(lines[0], "peak"), "{text}");
        assert_eq!(end(naive, "900"), end(lines[1], "threads"), "{text}");
    }

    #[test]
    fn each_strategy_has_its_sentence_and_the_flags_to_start_it_by_hand() {
        let findings = fake::findings();
        let text = table(&findings, false);
        for outcome in &findings.outcomes {
            let line = format!("\n{}: {}\n", outcome.strategy, outcome.sentence);
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(
            text.contains("\n  by hand: drainline --when-full block"),
            "{text}"
        );
        assert!(
            text.contains("\n  lost: 1,480 connection_closed\n"),
            "{text}"
        );
        assert!(text.ends_with("\nagain: drainline lab --preset slow-sink --seed 7\n"));
    }
}
