//! From a timeline to the values that a chart draws: their rates, and no more of them than a chart
//! can show.

use super::super::outcome::Point;

/// A strategy's page has six charts, and a page may have a dozen strategies: at so many samples
/// each, and some 12 bytes a sample, it stays well below 1 MB.
pub(super) const MAX_SAMPLES: usize = 300;

/// A rate over less time than this shows the scheduler more than the server. A little less than a
/// tenth of a second, so that the machine's doing does not make three of every two points.
const MIN_WINDOW: f64 = 0.095;

/// A value at one time, in seconds since the load began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: f64,
    pub(super) value: f64,
}

/// What stands at each time.
pub(super) fn states(timeline: &[Point], value: fn(&Point) -> f64) -> Vec<Sample> {
    let samples = timeline.iter().map(|point| Sample {
        at: point.at.as_secs_f64(),
        value: value(point),
    });
    thin(samples.collect())
}

/// How much was added to a sum, a second: level over each window, so that the area is what was
/// added.
pub(super) fn rates(timeline: &[Point], sum: fn(&Point) -> u64) -> Vec<Sample> {
    let mut samples = Vec::new();
    let (Some(first), Some(last)) = (timeline.first(), timeline.last()) else {
        return samples;
    };
    let span = last.at.saturating_sub(first.at).as_secs_f64();
    // Each window has two samples.
    let window = (span * 2.0 / (MAX_SAMPLES - 2) as f64).max(MIN_WINDOW);
    let mut begin = first;
    for point in timeline {
        let time = point.at.saturating_sub(begin.at).as_secs_f64();
        let is_last = std::ptr::eq(point, last);
        if time < window && !(is_last && time > 0.0) {
            continue;
        }
        let value = sum(point).saturating_sub(sum(begin)) as f64 / time;
        samples.extend([begin, point].map(|end| Sample {
            at: end.at.as_secs_f64(),
            value,
        }));
        begin = point;
    }
    samples
}

/// The first and the last, and between them the lowest and the highest of each of as many stretches
/// as there is room for: no peak is lost.
fn thin(samples: Vec<Sample>) -> Vec<Sample> {
    if samples.len() <= MAX_SAMPLES {
        return samples;
    }
    let inner = &samples[1..samples.len() - 1];
    let stretch = inner.len().div_ceil((MAX_SAMPLES - 2) / 2);
    let by_value = |a: &&Sample, b: &&Sample| a.value.total_cmp(&b.value);
    let mut thinned = vec![samples[0]];
    for stretch in inner.chunks(stretch) {
        let (low, high) = (
            stretch.iter().min_by(by_value),
            stretch.iter().max_by(by_value),
        );
        let mut extremes = [low, high].map(|sample| sample.copied().unwrap_or(stretch[0]));
        extremes.sort_by(|a, b| a.at.total_cmp(&b.at));
        thinned.extend(extremes);
    }
    thinned.dedup();
    thinned.extend(samples.last());
    thinned
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeline(points: u64, value: fn(u64) -> u64) -> Vec<Point> {
        let point = |tick| Point {
            at: Duration::from_millis(tick * 50),
            threads: value(tick),
            delivered: value(tick),
            ..Point::default()
        };
        (0..points).map(point).collect()
    }

    #[test]
    fn thinning_keeps_the_ends_and_every_peak() {
        let long = timeline(100_000, |tick| if tick == 54_321 { 999 } else { tick % 7 });
        let thinned = states(&long, |point| point.threads as f64);
        assert!(thinned.len() <= MAX_SAMPLES, "{}", thinned.len());
        assert!(thinned.iter().any(|sample| sample.value == 999.0));
        assert!(thinned.is_sorted_by_key(|sample| sample.at));
        let ends = [thinned[0].at, thinned[thinned.len() - 1].at];
        assert_eq!(ends, [0.0, 4_999.95]);
    }

    #[test]
    fn the_area_under_a_rate_is_what_was_added() {
        for points in [0, 1, 2, 3, 100, 100_000] {
            let grows = timeline(points, |tick| tick * tick);
            let samples = rates(&grows, |point| point.delivered);
            assert!(samples.len() <= MAX_SAMPLES, "{}", samples.len());
            let area: f64 = samples
                .chunks(2)
                .map(|window| (window[1].at - window[0].at) * window[0].value)
                .sum();
            let added = grows.last().map_or(0, |point| point.delivered) as f64;
            assert!((area - added).abs() <= added * 1e-9, "{area} {added}");
        }
    }

    #[test]
    fn a_sum_that_falls_is_no_rate() {
        let falls = timeline(50, |tick| 1000 - tick);
        let samples = rates(&falls, |point| point.delivered);
        assert!(samples.iter().all(|sample| sample.value == 0.0));
    }
}
