//! What is the same in every chart of a page: the room, the time axis, the stalls of the sink, the
//! end of the load.

use super::super::super::words;
use super::super::outcome::Findings;
use super::scale::round_steps;

/// In units of the view box; on a phone and in a row of three one of them is about a pixel.
pub(super) const WIDTH: f64 = 360.0;
pub(super) const HEIGHT: f64 = 184.0;
pub(super) const LEFT: f64 = 52.0;
pub(super) const RIGHT: f64 = 352.0;
pub(super) const TOP: f64 = 28.0;
pub(super) const BOTTOM: f64 = 150.0;
/// The overload's band, under the time axis.
pub(super) const BAND_TOP: f64 = 153.0;
pub(super) const BAND_BOTTOM: f64 = 165.0;
const NAMES: f64 = 179.0;

/// What lies behind a chart's line is named above the chart, where no line crosses the name.
const CAPTIONS: f64 = TOP - 4.0;
/// What the longest of these names takes.
const CAPTION_WIDTH: f64 = 58.0;

/// Times in seconds since the load began.
pub(super) struct Frame {
    /// Where the axis ends: when the last timeline does, or the load.
    span: f64,
    load_end: f64,
    /// Within the span.
    stalls: Vec<(f64, f64)>,
}

impl Frame {
    pub(super) fn new(findings: &Findings) -> Frame {
        let load_end = findings.workload.duration.as_secs_f64();
        let ends = findings
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.timeline.last());
        let span = ends
            .map(|point| point.at.as_secs_f64())
            .fold(load_end, f64::max);
        let within = findings.workload.sink.stalls.iter().map(|stall| {
            let end = stall.end().as_secs_f64();
            // One that lasts beyond the load ends with the server.
            let end = if end < load_end { end } else { span };
            (stall.at.as_secs_f64().min(span), end)
        });
        Frame {
            stalls: within.collect(),
            span,
            load_end,
        }
    }

    pub(super) fn x(&self, at: f64) -> f64 {
        let part = if self.span > 0.0 { at / self.span } else { 0.0 };
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// What lies behind a chart's line, and its names.
    pub(super) fn behind(&self) -> String {
        let mut svg = String::new();
        for &(from, to) in &self.stalls {
            let (x, width) = (self.x(from), self.x(to) - self.x(from));
            svg += &format!(
                "<rect class=\"stall\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{}\"/>",
                BOTTOM - TOP
            );
        }
        let end = self.x(self.load_end);
        svg += &format!("<path class=\"load-end\" d=\"M{end:.1} {TOP}V{BOTTOM}\"/>");
        let stalls = self
            .stalls
            .iter()
            .map(|(from, _)| (self.x(*from), "sink stalls"));
        let mut room = LEFT;
        for (x, name) in stalls.chain([(end, "load ends")]) {
            let x = x.min(RIGHT - CAPTION_WIDTH);
            // Of names that would overlap the first one stands.
            if x >= room {
                svg +=
                    &format!("<text class=\"caption\" x=\"{x:.1}\" y=\"{CAPTIONS}\">{name}</text>");
                room = x + CAPTION_WIDTH;
            }
        }
        svg
    }

    /// The time axis.
    pub(super) fn axis(&self) -> String {
        let mut svg = format!("<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>");
        for at in round_steps(self.span, 5.0) {
            svg += &format!(
                "<text class=\"time\" x=\"{:.1}\" y=\"{NAMES}\">{}</text>",
                self.x(at),
                seconds(at)
            );
        }
        svg
    }

    /// In words, for who does not see it.
    pub(super) fn words(&self) -> String {
        let mut said = format!(
            "From 0 to {}; the load ends at {}",
            seconds(self.span),
            seconds(self.load_end)
        );
        for &(from, to) in &self.stalls {
            said += &format!(
                "; the sink stalls from {} to {}",
                seconds(from),
                seconds(to)
            );
        }
        said + "."
    }
}

/// The name of a place on an axis of time.
pub(super) fn seconds(value: f64) -> String {
    // Rounded: three tenths are 0.30000000000000004 of a second.
    if value > 0.0 && value < 0.9995 {
        format!("{} ms", (value * 1e6).round() / 1e3)
    } else {
        let rounded = (value * 1e3).round() / 1e3;
        match rounded.fract() == 0.0 {
            true => format!("{} s", words::count(rounded as u64)),
            false => format!("{rounded} s"),
        }
    }
}
