//! Where a value stands on a vertical axis that all strategies share, and which values are named
//! there.

use super::series::Sample;

/// Past this ratio between strategies a linear axis would flatten the lower one: it would be two
/// pixels high.
const FLAT: f64 = 50.0;

/// Steps of a linear axis, about.
const STEPS: f64 = 5.0;

/// Named values of a logarithmic axis, 0 included, at most.
const MAX_DECADES: usize = 7;

/// From 0 at the bottom to `top`.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    top: f64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Linear {
        step: f64,
    },
    /// Each decade above `floor` takes as much room as all from 0 to `floor`, so that 0 has a
    /// place.
    Logarithmic {
        floor: f64,
    },
}

impl Scale {
    /// Holds every sample of all `strategies`. Less than `floor` is of no interest.
    pub(super) fn new<'a>(strategies: impl Iterator<Item = &'a [Sample]>, floor: f64) -> Scale {
        let (mut top, mut lowest) = (0.0f64, f64::INFINITY);
        for samples in strategies {
            let values = samples.iter().map(|sample| sample.value);
            top = values.fold(top, f64::max);
            lowest = lowest.min(level(samples).unwrap_or(f64::INFINITY));
        }
        if top > lowest.max(floor) * FLAT {
            let top = round_up(top);
            let kind = Kind::Logarithmic { floor };
            return Scale { top, kind };
        }
        let step = round_up(top / STEPS).max(floor);
        Scale {
            top: (top / step).ceil().max(1.0) * step,
            kind: Kind::Linear { step },
        }
    }

    pub(super) fn is_logarithmic(&self) -> bool {
        matches!(self.kind, Kind::Logarithmic { .. })
    }

    /// 0 at the bottom, 1 at the top.
    pub(super) fn part(&self, value: f64) -> f64 {
        let part = match self.kind {
            Kind::Linear { .. } => value / self.top,
            Kind::Logarithmic { floor } => {
                let height = |value: f64| {
                    if value <= floor {
                        value / floor
                    } else {
                        1.0 + (value / floor).log10()
                    }
                };
                height(value) / height(self.top)
            }
        };
        part.clamp(0.0, 1.0)
    }

    /// The values that are named, from 0 upwards.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.kind {
            Kind::Linear { step } => multiples(step, self.top),
            Kind::Logarithmic { floor } => {
                let decades = (self.top / floor).log10().floor() as usize + 1;
                let every = decades.div_ceil(MAX_DECADES - 1);
                let named = (0..decades).step_by(every);
                let values = named.map(|decade| floor * 10f64.powi(decade as i32));
                std::iter::once(0.0).chain(values).collect()
            }
        }
    }
}

/// Multiples of a round number from 0 to `span`, about `count` of them.
pub(super) fn round_steps(span: f64, count: f64) -> Vec<f64> {
    multiples(round_up(span / count), span)
}

fn multiples(step: f64, top: f64) -> Vec<f64> {
    // A little more than the top: what is made of tenths is never exact.
    let count = (top / step + 1e-6).floor() as usize;
    (0..=count).map(|place| place as f64 * step).collect()
}

/// The next 1, 2 or 5 times a power of ten. 1 for what is not positive.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let decade = 10f64.powf(value.log10().floor());
    let rounds = [1.0, 2.0, 5.0].map(|digit| digit * decade);
    let fits = rounds
        .into_iter()
        .find(|round| value <= round * (1.0 + 1e-9));
    fits.unwrap_or(10.0 * decade)
}

/// What a strategy's values come near to, a spike left out: 9 of 10 of those that are not 0 are no
/// higher.
fn level(samples: &[Sample]) -> Option<f64> {
    let values = samples.iter().map(|sample| sample.value);
    let mut values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 9 / 10).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(strategies: &[&[f64]], floor: f64) -> Scale {
        let sample = |value: &f64| Sample {
            at: 0.0,
            value: *value,
        };
        let samples: Vec<Vec<Sample>> = strategies
            .iter()
            .map(|values| values.iter().map(sample).collect())
            .collect();
        Scale::new(samples.iter().map(Vec::as_slice), floor)
    }

    #[test]
    fn a_linear_axis_has_round_steps_and_holds_the_highest() {
        for (top, ticks) in [
            (0.0, &[0.0, 1.0][..]),
            (3.0, &[0.0, 1.0, 2.0, 3.0]),
            (900.0, &[0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]),
            (401.0, &[0.0, 100.0, 200.0, 300.0, 400.0, 500.0]),
            (400.0, &[0.0, 100.0, 200.0, 300.0, 400.0]),
        ] {
            let scale = scale(&[&[top]], 1.0);
            assert!(!scale.is_logarithmic());
            assert_eq!(scale.ticks(), ticks, "{top}");
            assert!(scale.part(top) <= 1.0);
        }
    }

    #[test]
    fn an_axis_is_logarithmic_where_a_linear_one_would_flatten_somebody() {
        let far = scale(&[&[2_000.0], &[20.0], &[0.0]], 1.0);
        assert!(far.is_logarithmic());
        assert_eq!(far.ticks(), [0.0, 1.0, 10.0, 100.0, 1000.0]);
        assert_eq!((far.part(0.0), far.part(2_000.0)), (0.0, 1.0));
        let decade = far.part(100.0) - far.part(10.0);
        assert!((far.part(1000.0) - far.part(100.0) - decade).abs() < 1e-9);
        assert!((far.part(1.0) - decade).abs() < 1e-9);
        let wide = scale(&[&[3e9], &[1.0]], 1.0).ticks();
        assert!(wide.len() <= MAX_DECADES, "{wide:?}");
        // Who never has more than the floor is of no interest.
        assert!(!scale(&[&[45.0], &[0.01]], 1.0).is_logarithmic());
    }

    #[test]
    fn steps_of_time() {
        assert_eq!(round_steps(8.0, 5.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(round_steps(0.3, 5.0).len(), 4);
        assert_eq!(round_steps(0.0, 5.0), [0.0]);
    }
}
