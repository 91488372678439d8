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

/// The first column to the left, the others, which are numbers, to the right. The heads take two
/// lines: their last words stand in the second one.
fn metrics(outcomes: &[Outcome]) -> String {
    let heads = COLUMNS.iter().map(|column| column.head);
    let heads = heads.map(|head| head.rsplit_once(' ').unwrap_or(("", head)));
    let (upper, lower): (Vec<&str>, Vec<&str>) =
        [("", "strategy")].into_iter().chain(heads).unzip();
    let mut rows: Vec<Vec<String>> = [upper, lower]
        .map(|line| line.into_iter().map(str::to_owned).collect())
        .into();
    rows.extend(outcomes.iter().map(|outcome| {
        let cells = COLUMNS
            .iter()
            .map(|column| (column.words)(&outcome.metrics));
        std::iter::once(outcome.strategy.clone())
            .chain(cells)
            .collect()
    }));
    let width = |place: usize| rows.iter().map(|row| row[place].chars().count()).max();
    let widths: Vec<usize> = (0..=COLUMNS.len()).filter_map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("{:1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("{GAP}{cell:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
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
