//! The overload as a band along the time axis: the worse, the higher and the further from the
//! page's own colour.

use drainline::policy::OverloadLevel;

use super::super::outcome::Point;
use super::frame::{BAND_BOTTOM, BAND_TOP, Frame};

/// A band has no more pieces than this, however often the overload moved.
const MAX_PIECES: usize = 150;

/// A level from one time to another, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    from: f64,
    to: f64,
    level: OverloadLevel,
}

/// Nothing, where there is no overload. A path for each level that was stood on.
pub(super) fn band(timeline: &[Point], frame: &Frame) -> String {
    let pieces = pieces(timeline);
    if pieces.is_empty() {
        return String::new();
    }
    let mut svg = String::from("<g data-series=\"overload\">");
    for level in OverloadLevel::ALL {
        let stood = pieces.iter().filter(|piece| piece.level == level);
        let path: String = stood
            .map(|piece| bar(level, frame.x(piece.from), frame.x(piece.to), BAND_BOTTOM))
            .collect();
        if !path.is_empty() {
            let name = level.name();
            svg += &format!("<path class=\"level {name}\" data-level=\"{name}\" d=\"{path}\"/>");
        }
    }
    svg + "</g>"
}

/// What the band's heights and colours mean.
pub(super) fn legend() -> String {
    let means = [
        "nobody is held up",
        "senders wait, and TCP slows them down",
        "nobody new is let in",
        "somebody was disconnected or something dropped",
    ];
    let mut html = String::from("<ul class=\"levels\">\n");
    for (level, means) in OverloadLevel::ALL.into_iter().zip(means) {
        let height = BAND_BOTTOM - BAND_TOP;
        html += &format!(
            "<li><svg class=\"swatch\" viewBox=\"0 0 24 {height}\" aria-hidden=\"true\">\
             <path class=\"level {name}\" d=\"{}\"/></svg> <span><b>{name}</b> {means}</span></li>\n",
            bar(level, 0.0, 24.0, height),
            name = level.name()
        );
    }
    html + "</ul>\n"
}

/// Each level is a quarter of the band higher than the one below.
fn bar(level: OverloadLevel, from: f64, to: f64, bottom: f64) -> String {
    let height =
        (BAND_BOTTOM - BAND_TOP) * (level as usize + 1) as f64 / OverloadLevel::ALL.len() as f64;
    format!(
        "M{from:.1} {bottom}V{:.1}H{to:.1}V{bottom}z",
        bottom - height
    )
}

/// Where the overload moved more often than the band can show, the highest level of each stretch.
fn pieces(timeline: &[Point]) -> Vec<Piece> {
    let length = timeline.len().div_ceil(MAX_PIECES).max(1);
    let mut pieces: Vec<Piece> = Vec::new();
    for (nth, stretch) in timeline.chunks(length).enumerate() {
        let Some(level) = stretch.iter().filter_map(|point| point.level).max() else {
            continue;
        };
        // A level stands until the next point is seen.
        let behind = timeline.get((nth + 1) * length);
        let end = behind.unwrap_or(&stretch[stretch.len() - 1]);
        let (from, to) = (stretch[0].at.as_secs_f64(), end.at.as_secs_f64());
        match pieces.last_mut() {
            Some(last) if last.level == level && last.to >= from => last.to = to,
            _ => pieces.push(Piece { from, to, level }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeline(points: usize, level: fn(usize) -> Option<OverloadLevel>) -> Vec<Point> {
        let point = |tick: usize| Point {
            at: Duration::from_secs(tick as u64),
            level: level(tick),
            ..Point::default()
        };
        (0..points).map(point).collect()
    }

    #[test]
    fn a_level_stands_until_the_next_is_seen() {
        let climbs = timeline(5, |tick| Some(OverloadLevel::ALL[tick / 2]));
        let piece = |from, to, level| Piece { from, to, level };
        assert_eq!(
            pieces(&climbs),
            [
                piece(0.0, 2.0, OverloadLevel::Normal),
                piece(2.0, 4.0, OverloadLevel::Backpressure),
                piece(4.0, 4.0, OverloadLevel::Paused),
            ]
        );
        assert_eq!(pieces(&timeline(5, |_| None)), []);
        assert_eq!(pieces(&[]), []);
    }

    #[test]
    fn a_band_that_flaps_has_few_pieces_and_shows_the_worst() {
        let flaps = timeline(100_000, |tick| Some(OverloadLevel::ALL[tick % 2]));
        let shown = pieces(&flaps);
        assert!(shown.len() <= MAX_PIECES);
        assert!(
            shown
                .iter()
                .all(|piece| piece.level == OverloadLevel::Backpressure)
        );
        let spike = timeline(100_000, |tick| match tick {
            60_000 => Some(OverloadLevel::Shedding),
            _ => Some(OverloadLevel::Normal),
        });
        assert!(
            pieces(&spike)
                .iter()
                .any(|piece| piece.level == OverloadLevel::Shedding)
        );
    }
}
