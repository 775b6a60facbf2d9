//! What many rounds say: the middle, and how far they lie apart.

use serde::{Deserialize, Serialize};

/// One value for each round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

/// Median and quartiles, with four digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// A quarter of the rounds are below.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter of the rounds are above.
    pub(crate) high: f64,
}

impl Samples {
    /// Round by round, so that what slows both for a while does not show.
    pub(crate) fn ratio(&self, to: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&to.0)
                .map(|(over, under)| over / under)
                .collect(),
        )
    }

    /// Panics without a round.
    pub(crate) fn spread(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len() - 1;
        let at = |quarter: usize| {
            let (place, rest) = (last * quarter / 4, (last * quarter % 4) as f64 / 4.0);
            let (here, next) = (sorted[place], sorted[(place + 1).min(last)]);
            digits(here + (next - here) * rest)
        };
        Spread {
            low: at(1),
            median: at(2),
            high: at(3),
        }
    }
}

/// Rounded to four digits.
fn digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let places = 3 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(places.abs());
    if places >= 0 {
        (value * scale).round() / scale
    } else {
        (value / scale).round() * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_quartiles() {
        let spread = |values: &[f64]| Samples(values.to_vec()).spread();
        assert_eq!(
            spread(&[5.0]),
            Spread {
                low: 5.0,
                median: 5.0,
                high: 5.0
            }
        );
        assert_eq!(
            spread(&[4.0, 1.0, 3.0, 2.0, 5.0]),
            Spread {
                low: 2.0,
                median: 3.0,
                high: 4.0
            }
        );
        assert_eq!(
            spread(&[1.0, 2.0]),
            Spread {
                low: 1.25,
                median: 1.5,
                high: 1.75
            }
        );
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let (slow, fast) = (Samples(vec![10.0, 30.0]), Samples(vec![5.0, 15.0]));
        assert_eq!(slow.ratio(&fast), Samples(vec![2.0, 2.0]));
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(
            [12.34567, 0.012345678, 123_456.0, 0.0].map(digits),
            [12.35, 0.01235, 123_500.0, 0.0]
        );
    }
}
