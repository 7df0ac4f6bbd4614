//! Percentiles of samples, and medians of blocks.

use std::time::Duration;

/// What a block of samples says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) samples: usize,
}

impl Block {
    /// `None` without samples.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        Some(Self {
            p50: percentile(&samples, 50)?,
            p99: percentile(&samples, 99)?,
            samples: samples.len(),
        })
    }
}

/// The smallest of the sorted samples that this percentage of them does not exceed.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// One figure over all blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// All NaN without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Self {
            median: f64::midpoint(at(low), at(high)),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let ms = Duration::from_millis;
        let block = |count: u64| Block::of((1..=count).rev().map(ms).collect());
        assert_eq!(block(0), None);
        for (count, p50, p99) in [(1, 1, 1), (2, 1, 2), (3, 2, 3), (100, 50, 99), (200, 100, 198)] {
            let got = block(count).unwrap();
            assert_eq!((got.p50, got.p99, got.samples as u64), (ms(p50), ms(p99), count));
        }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        for (values, median, least, most) in [
            (&[3.0][..], 3.0, 3.0, 3.0),
            (&[4.0, 1.0], 2.5, 1.0, 4.0),
            (&[9.0, 1.0, 2.0], 2.0, 1.0, 9.0),
            (&[-2.0, 8.0, 4.0, 0.0], 2.0, -2.0, 8.0),
        ] {
            let spread = Spread::of(values.iter().copied());
            assert_eq!(spread, Spread { median, least, most }, "{values:?}");
        }
        assert!(Spread::of([]).median.is_nan());
    }
}
