//! The report page: what a run of the lab found, in one HTML file that asks nobody for anything.
//!
//! In the order data flows: `series` makes of a timeline what a chart draws, `scale` finds an axis
//! that holds every strategy's, `frame` draws what is the same in each chart, `overload` the band
//! under it, `chart` one chart of it all.

mod chart;
mod frame;
mod levels;
mod scale;
mod series;

#[cfg(test)]
mod tests;

use super::super::words;
use super::columns::COLUMNS;
use super::outcome::{Findings, Outcome};
use chart::{CHARTS, Row};
use frame::Frame;

const STYLE: &str = include_str!("style.css");

/// The page allows itself its own style and nothing else: whatever it asked for would be an error
/// in the browser's console.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The head of the column with each strategy's first chart, small.
const OVER_TIME: &str = "threads, over time";

/// The page. It needs no script, and below 1 MB.
pub(crate) fn write(findings: &Findings) -> String {
    let frame = Frame::new(findings);
    let rows: Vec<Row> = CHARTS
        .iter()
        .map(|chart| Row::new(chart, &findings.outcomes))
        .collect();
    let sections: String = findings
        .outcomes
        .iter()
        .enumerate()
        .map(|(place, outcome)| section(place, outcome, &rows, &frame))
        .collect();
    let title = format!("drainline lab: {}", escape(&findings.load));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {}{}{}{sections}{}</main>\n\
         <footer>drainline {}</footer>\n</body>\n</html>\n",
        head(findings),
        table(&findings.outcomes, &rows),
        key(),
        glossary(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn head(findings: &Findings) -> String {
    let load: String = words::workload(&findings.workload)
        .iter()
        .map(|sentence| format!("<li>{}</li>\n", escape(sentence)))
        .collect();
    format!(
        "<header>\n<h1><span>drainline lab</span> {}</h1>\n\
         <p>One load, and a row of servers that met it in turn, each in a process of its own.</p>\n\
         <ul>\n{load}</ul>\n\
         <p class=\"again\">Run it again: {}</p>\n</header>\n",
        escape(&findings.load),
        code(&findings.command)
    )
}

/// On a narrow screen each row becomes a card, and each cell names its column itself. The roles say
/// again what it is: a table that is not shown as one is none to a browser.
fn table(outcomes: &[Outcome], rows: &[Row]) -> String {
    let mut html = format!(
        "<table role=\"table\">\n<thead role=\"rowgroup\">\n<tr role=\"row\">\
         <th role=\"columnheader\" scope=\"col\">strategy</th>\
         <th role=\"columnheader\" scope=\"col\">{OVER_TIME}</th>",
    );
    for column in &COLUMNS {
        html += &format!(
            "<th role=\"columnheader\" scope=\"col\" title=\"{}\">{}</th>",
            column.means, column.head
        );
    }
    html += "</tr>\n</thead>\n<tbody role=\"rowgroup\">\n";
    for (place, outcome) in outcomes.iter().enumerate() {
        let strategy = escape(&outcome.strategy);
        html += &format!(
            "<tr role=\"row\" data-strategy=\"{strategy}\">\
             <th role=\"rowheader\" scope=\"row\"><a href=\"#strategy-{place}\">{strategy}</a></th>\
             <td role=\"cell\" data-head=\"{OVER_TIME}\">{}</td>",
            rows.first()
                .map_or_else(String::new, |row| row.spark(place))
        );
        for column in &COLUMNS {
            let metrics = &outcome.metrics;
            let bad = if (column.is_bad)(metrics) {
                " class=\"bad\""
            } else {
                ""
            };
            html += &format!(
                "<td role=\"cell\"{bad} data-head=\"{}\" data-metric=\"{}\" data-value=\"{}\">{}</td>",
                column.head,
                column.key,
                (column.value)(metrics),
                escape(&(column.words)(metrics))
            );
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n<p class=\"to-glossary\"><a href=\"#metrics\">What the metrics mean</a></p>\n"
}

fn glossary() -> String {
    let terms: String = COLUMNS
        .iter()
        .map(|column| format!("<dt>{}</dt><dd>{}</dd>\n", column.head, column.means))
        .collect();
    format!(
        "<section class=\"glossary\" id=\"metrics\">\n<h2>What the metrics mean</h2>\n<dl>\n{terms}</dl>\n</section>\n"
    )
}

/// How the charts are read.
fn key() -> String {
    format!(
        "<section class=\"key\">\n<h2>How to read the charts</h2>\n\
         <p>Every strategy has the same charts on the same scales, over the time since the load began. A shaded span: the \
         sink takes nothing. The dashed line: the load ends, and all clients have gone. The band under the time axis is \
         the server's level of overload; the higher it stands, the worse:</p>\n{}</section>\n",
        levels::legend()
    )
}

fn section(place: usize, outcome: &Outcome, rows: &[Row], frame: &Frame) -> String {
    let mut details: String = outcome
        .details()
        .iter()
        .map(|(name, line)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(line)))
        .collect();
    details += &match outcome.by_hand() {
        Some(command) => format!("<dt>by hand</dt><dd>{}</dd>\n", code(&command)),
        None => "<dt>by hand</dt><dd>it exists in the lab alone</dd>\n".to_owned(),
    };
    let charts: String = rows
        .iter()
        .map(|row| row.draw(place, outcome, frame))
        .collect();
    format!(
        "<section class=\"strategy\" id=\"strategy-{place}\">\n<h2>{}</h2>\n<p class=\"sentence\">{}</p>\n\
         <dl>\n{details}</dl>\n<div class=\"charts\">\n{charts}</div>\n</section>\n",
        escape(&outcome.strategy),
        escape(&outcome.sentence)
    )
}

/// A command whose lines end between its words: a browser would end them behind any dash.
fn code(command: &str) -> String {
    let words = command
        .split(' ')
        .map(|word| format!("<span>{}</span>", escape(word)));
    format!("<code>{}</code>", words.collect::<Vec<_>>().join(" "))
}

/// As text, and inside quotes. What no document may hold, as a terminal's control characters, is
/// shown as such.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' | '\t' => escaped.push(letter),
            _ if letter.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(letter),
        }
    }
    escaped
}
