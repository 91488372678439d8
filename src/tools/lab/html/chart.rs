//! The charts: one of each for every strategy, on scales that all of them share.

use super::super::super::words;
use super::super::outcome::{Outcome, Point};
use super::escape;
use super::frame::{self, BOTTOM, Frame, HEIGHT, LEFT, RIGHT, TOP, WIDTH};
use super::levels;
use super::scale::Scale;
use super::series::{self, Sample};

/// What a chart shows.
pub(super) struct Chart {
    /// Its name, and its series'.
    pub(super) key: &'static str,
    title: &'static str,
    /// What the vertical axis counts.
    axis: &'static str,
    series: fn(&[Point]) -> Vec<Sample>,
    /// The name of a place on the vertical axis.
    tick: fn(f64) -> String,
    /// Less than this is as good as nothing.
    floor: f64,
    /// What it comes to, in a few words: beside the title.
    note: fn(&Outcome) -> String,
}

pub(super) static CHARTS: [Chart; 6] = [
    Chart {
        key: "threads",
        title: "Threads",
        axis: "threads of the process",
        series: |timeline| series::states(timeline, |point| point.threads as f64),
        tick: large,
        floor: 1.0,
        note: |of| {
            let (peak, left) = (of.metrics.peak_threads, of.metrics.threads_left());
            format!("peak {}, {} left", words::count(peak), words::count(left))
        },
    },
    Chart {
        key: "memory",
        title: "Memory",
        axis: "resident memory of the process",
        series: |timeline| {
            let mib = |point: &Point| point.memory_bytes as f64 / f64::from(1 << 20);
            series::states(timeline, mib)
        },
        tick: |mib| format!("{} MiB", large(mib)),
        floor: 1.0,
        note: |of| format!("peak {}", words::memory(of.metrics.peak_memory_bytes)),
    },
    Chart {
        key: "buffered",
        title: "Buffered",
        axis: "messages, with those of waiting senders",
        series: |timeline| series::states(timeline, |point| point.buffered as f64),
        tick: large,
        floor: 1.0,
        note: |of| format!("peak {}", words::count(of.metrics.peak_buffered)),
    },
    Chart {
        key: "wait",
        title: "Longest wait",
        axis: "of the sender that waits longest",
        series: |timeline| series::states(timeline, |point| point.longest_wait.as_secs_f64()),
        tick: |time| {
            if time > 0.0 {
                frame::seconds(time)
            } else {
                "0".to_owned()
            }
        },
        floor: 1e-3,
        note: |of| {
            let waits = of.timeline.iter().map(|point| point.longest_wait);
            format!("longest {}", words::time(waits.max().unwrap_or_default()))
        },
    },
    Chart {
        key: "delivered",
        title: "Delivered",
        axis: "messages per second",
        series: |timeline| series::rates(timeline, |point| point.delivered),
        tick: large,
        floor: 1.0,
        note: |of| format!("{} in all", words::count(of.metrics.delivered)),
    },
    Chart {
        key: "lost",
        title: "Lost",
        axis: "messages per second",
        series: |timeline| series::rates(timeline, |point| point.lost),
        tick: large,
        floor: 1.0,
        note: |of| format!("{} in all", words::count(of.metrics.lost())),
    },
];

/// One kind of chart, with every strategy's series and the scale that holds them all.
pub(super) struct Row {
    chart: &'static Chart,
    scale: Scale,
    series: Vec<Vec<Sample>>,
}

impl Row {
    pub(super) fn new(chart: &'static Chart, outcomes: &[Outcome]) -> Row {
        let series: Vec<Vec<Sample>> = outcomes
            .iter()
            .map(|outcome| (chart.series)(&outcome.timeline))
            .collect();
        Row {
            chart,
            scale: Scale::new(series.iter().map(Vec::as_slice), chart.floor),
            series,
        }
    }

    /// The chart of the strategy at `place`.
    pub(super) fn draw(&self, place: usize, outcome: &Outcome, frame: &Frame) -> String {
        let (chart, samples) = (self.chart, &self.series[place]);
        let (key, title, note) = (chart.key, chart.title, (chart.note)(outcome));
        let strategy = escape(&outcome.strategy);
        let logarithmic = if self.scale.is_logarithmic() {
            ", log scale"
        } else {
            ""
        };
        let id = format!("chart-{place}-{key}");
        format!(
            "<figure data-chart=\"{key}\" data-strategy=\"{strategy}\">\n\
             <figcaption><b>{title}</b> <span>{note}</span></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}\" aria-describedby=\"{id}-desc\">\
             <title id=\"{id}\">{title}: {strategy}</title>\
             <desc id=\"{id}-desc\">{axis}{logarithmic}: {note}. {}</desc>\n\
             {}{}<text class=\"axis-name\" x=\"2\" y=\"9\">{axis}{logarithmic}</text>\n\
             {}\n{}{}</svg>\n</figure>\n",
            frame.words(),
            frame.behind(),
            self.grid(),
            self.line(samples, &id, frame),
            levels::band(&outcome.timeline, frame),
            frame.axis(),
            axis = chart.axis,
        )
    }

    /// The line of the strategy's chart alone, small.
    pub(super) fn spark(&self, place: usize) -> String {
        let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
        format!(
            "<svg class=\"spark\" viewBox=\"{LEFT} {TOP} {width} {height}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <use href=\"#chart-{place}-{}-line\"/></svg>",
            self.chart.key
        )
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.scale.part(value) * (BOTTOM - TOP)
    }

    fn grid(&self) -> String {
        let mut svg = String::new();
        for value in self.scale.ticks() {
            let y = self.y(value);
            svg += &format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 5.0,
                y + 3.5,
                (self.chart.tick)(value)
            );
        }
        svg
    }

    fn line(&self, samples: &[Sample], chart: &str, frame: &Frame) -> String {
        if samples.len() < 2 {
            let (x, y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
            return format!(
                "<text class=\"no-line\" x=\"{x}\" y=\"{y}\">ended before it could be watched</text>"
            );
        }
        let points: Vec<String> = samples
            .iter()
            .map(|sample| format!("{:.1},{:.1}", frame.x(sample.at), self.y(sample.value)))
            .collect();
        let key = self.chart.key;
        let is_nothing = samples.iter().all(|sample| sample.value == 0.0);
        let class = if is_nothing { "nothing" } else { key };
        format!(
            "<polyline class=\"line {class}\" id=\"{chart}-line\" data-series=\"{key}\" points=\"{}\"/>",
            points.join(" ")
        )
    }
}

/// A round number that may be large: `500`, `20k`, `1.5M`.
fn large(value: f64) -> String {
    let (part, unit) = match value {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if unit.is_empty() {
        words::count(part.round() as u64)
    } else {
        format!("{}{unit}", (part * 1e3).round() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_an_axis_have_short_names() {
        for (value, name) in [
            (0.0, "0"),
            (500.0, "500"),
            (2_000.0, "2,000"),
            (20_000.0, "20k"),
            (1_500_000.0, "1.5M"),
            (0.1 * 3.0 * 1e7, "3M"),
            (4e9, "4G"),
        ] {
            assert_eq!(large(value), name);
        }
        for (value, name) in [
            (0.0, "0 s"),
            (0.1 * 3.0, "300 ms"),
            (0.001, "1 ms"),
            (1.5, "1.5 s"),
            (0.2 * 15.0, "3 s"),
            (3_600.0, "3,600 s"),
        ] {
            assert_eq!(frame::seconds(value), name);
        }
    }
}
