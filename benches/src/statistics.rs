//! What several runs amount to.

use serde::{Deserialize, Serialize};

use crate::{measure::Usage, tools::Tool};

/// The runs of one program in one row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Who ran.
    pub(crate) tool: Tool,
    /// Size of the image; `None` before the first run.
    pub(crate) bytes: Option<u64>,
    /// One for each round.
    pub(crate) runs: Vec<Usage>,
}

impl Series {
    /// Before the first run.
    pub(crate) fn new(tool: Tool) -> Self {
        Self {
            tool,
            bytes: None,
            runs: Vec::new(),
        }
    }

    /// Median of one quantity.
    pub(crate) fn median(&self, quantity: impl Fn(&Usage) -> f64) -> f64 {
        median(self.runs.iter().map(quantity).collect())
    }

    /// Smallest and largest of one quantity.
    pub(crate) fn range(&self, quantity: impl Fn(&Usage) -> f64) -> (f64, f64) {
        let values = || self.runs.iter().map(&quantity);
        (
            values().fold(f64::INFINITY, f64::min),
            values().fold(0.0, f64::max),
        )
    }

    /// Median of the ratios to `other` round by round: what slows a whole round down cancels out.
    pub(crate) fn ratio(&self, other: &Self, quantity: impl Fn(&Usage) -> f64) -> f64 {
        let pairs = self.runs.iter().zip(&other.runs);
        median(
            pairs
                .map(|(ours, theirs)| quantity(ours) / quantity(theirs))
                .collect(),
        )
    }
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(walls: &[f64]) -> Series {
        let runs = walls.iter().map(|&wall| Usage {
            wall,
            cpu: 0.0,
            peak: 0,
            sum: None,
        });
        Series {
            runs: runs.collect(),
            ..Series::new(Tool::Erofs)
        }
    }

    #[test]
    fn medians_are_the_middle_of_sorted_values() {
        assert!((series(&[9.0, 1.0, 2.0]).median(|run| run.wall) - 2.0).abs() < 1e-9);
        assert!((series(&[9.0, 1.0, 2.0, 4.0]).median(|run| run.wall) - 3.0).abs() < 1e-9);
        assert!(series(&[]).median(|run| run.wall).is_nan());
    }

    #[test]
    fn a_round_that_is_slow_for_both_does_not_move_the_ratio() {
        let (ours, theirs) = (series(&[1.0, 30.0, 1.1]), series(&[2.0, 60.0, 2.2]));
        assert!((ours.ratio(&theirs, |run| run.wall) - 0.5).abs() < 1e-9);
        assert_eq!(ours.range(|run| run.wall), (1.0, 30.0));
    }
}
