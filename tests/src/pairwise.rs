//! Rows of a test matrix: one value of each dimension, so that soon every pair of values stood together once.

use crate::numbers::Numbers;
use std::collections::BTreeSet;

/// The numbers of the values that a row takes, by dimension; 0 is the ordinary value.
pub type Row<const N: usize> = [usize; N];

/// Two dimensions with the value that each takes.
pub type Pair = (usize, usize, usize, usize);

/// A matrix of `N` dimensions with so many values each.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<const N: usize> {
    /// Number of values of each dimension.
    pub sizes: [usize; N],
    /// Whether the values of a row mean something together.
    pub is_possible: fn(&Row<N>) -> bool,
}

/// All pairs of a row.
pub fn pairs<const N: usize>(row: &Row<N>) -> impl Iterator<Item = Pair> + '_ {
    (0..N).flat_map(move |one| (one + 1..N).map(move |other| (one, row[one], other, row[other])))
}

impl<const N: usize> Matrix<N> {
    fn random(&self, numbers: &mut Numbers) -> Row<N> {
        loop {
            let row = self.sizes.map(|count| numbers.below(count));
            if (self.is_possible)(&row) {
                return row;
            }
        }
    }

    /// The first `count` rows, the same every time: that of ordinary values, then each the one of fifty that brings the most
    /// new pairs.
    pub fn rows(&self, count: usize) -> Vec<Row<N>> {
        let mut numbers = Numbers::new(1);
        let mut seen = BTreeSet::new();
        let mut rows = vec![[0; N]];
        seen.extend(pairs(&rows[0]));
        while rows.len() < count {
            let candidates = (0..50).map(|_| self.random(&mut numbers));
            let best =
                candidates.max_by_key(|row| pairs(row).filter(|pair| !seen.contains(pair)).count());
            let best = best.expect("fifty");
            seen.extend(pairs(&best));
            rows.push(best);
        }
        rows.truncate(count);
        rows
    }

    /// Of the pairs that random rows have, those that none of the first `count` rows has.
    pub fn missing(&self, count: usize) -> Vec<Pair> {
        let mut numbers = Numbers::new(2);
        let possible: BTreeSet<_> = (0..20_000)
            .flat_map(|_| pairs(&self.random(&mut numbers)).collect::<Vec<_>>())
            .collect();
        let rows = self.rows(count);
        let seen: BTreeSet<_> = rows.iter().flat_map(pairs).collect();
        possible.difference(&seen).copied().collect()
    }
}
