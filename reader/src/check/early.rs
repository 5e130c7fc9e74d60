//! What can be decoded before all ranges are known, and what that is worth then.
//!
//! While inodes are looked at, the threads that decode would wait for the ranges to be sorted. Meanwhile they decode
//! pclusters as inodes refer to them, each stored byte once at most. Only success counts: what cannot be decoded, or does
//! not end as it should, is decoded again in stored order, with all references to it, and told then. So findings are the
//! same as without.

use super::range::Range;
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender};

/// Most runs of pclusters that are told apart.
const RUNS: usize = 4096;
/// Bytes between pclusters of a run at most.
const GAP: u64 = 64 << 10;
/// Most failures that are told apart.
const FAILURES: usize = 16 << 10;

/// Which bytes of the image are taken: runs that do not overlap, by where they begin.
#[derive(Debug, Default)]
pub(super) struct Taken {
    runs: Vec<(u64, u64)>,
}

impl Taken {
    /// Takes the bytes of a range, if all of them are left and there is room to remember them.
    pub(super) fn take(&mut self, start: u64, end: u64) -> bool {
        let next = self.runs.partition_point(|run| run.0 <= start);
        if self.runs.get(next).is_some_and(|run| run.0 < end) {
            return false;
        }
        let before = next.checked_sub(1).and_then(|last| self.runs.get_mut(last));
        if let Some(before) = before {
            if start < before.1 {
                return false;
            }
            if start - before.1 <= GAP {
                before.1 = end;
                return true;
            }
        }
        let room = self.runs.len() < RUNS;
        if room {
            self.runs.insert(next, (start, end));
        }
        room
    }
}

/// Where a pcluster begins on the image, and how long it is.
pub(super) type Key = (u64, u64);

const fn key(range: &Range) -> Key {
    (range.start, range.length)
}

/// Failures in a batch, which are told when the batch ends, in whatever way.
#[derive(Debug)]
pub(super) struct Failures {
    teller: Sender<Vec<Key>>,
    list: Vec<Key>,
}

impl Failures {
    pub(super) const fn new(teller: Sender<Vec<Key>>) -> Self {
        Self {
            teller,
            list: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, range: &Range) {
        self.list.push(key(range));
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        // Nobody listens any more when the check ended early.
        let _ = self.teller.send(std::mem::take(&mut self.list));
    }
}

/// What is known of the pclusters that were decoded early.
#[derive(Debug, Default)]
pub(super) struct Proof {
    failed: HashSet<Key>,
    /// There were too many failures to tell them apart.
    worthless: bool,
    batches: u64,
}

impl Proof {
    /// Takes in what was told so far; waits for the rest of so many batches, if asked to.
    pub(super) fn hear(&mut self, told: &Receiver<Vec<Key>>, wait_for: Option<u64>) {
        while let Ok(failed) = told.try_recv() {
            self.add(failed);
        }
        while wait_for.is_some_and(|batches| self.batches < batches) {
            match told.recv() {
                Ok(failed) => self.add(failed),
                // Without a teller there is no thread left, which is told when they are joined.
                Err(_) => {
                    self.worthless = true;
                    return;
                }
            }
        }
    }

    fn add(&mut self, failed: Vec<Key>) {
        self.batches += 1;
        if self.failed.len() + failed.len() > FAILURES {
            self.worthless = true;
            self.failed.clear();
        }
        if !self.worthless {
            self.failed.extend(failed);
        }
    }

    /// Whether a pcluster that was decoded early is sound.
    pub(super) fn holds(&self, range: &Range) -> bool {
        !self.worthless && !self.failed.contains(&key(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_taken_twice() {
        let mut taken = Taken::default();
        for (start, end, expected) in [
            (1 << 20, (1 << 20) + 10, true),
            (0, 10, true),
            (10, 20, true),
            (19, 30, false),
            // What is left out of a run is not taken later.
            (30, 40, true),
            (20, 30, false),
            ((1 << 20) - 5, (1 << 20) + 1, false),
            ((1 << 20) - 5, 1 << 20, true),
            (1 << 20, (1 << 20) + 10, false),
            (u64::MAX - 1, u64::MAX, true),
        ] {
            assert_eq!(taken.take(start, end), expected, "{start}..{end}");
        }
        assert_eq!(taken.runs.len(), 4);
    }

    #[test]
    fn runs_are_bounded() {
        let mut taken = Taken::default();
        let far = |index: usize| index as u64 * 4 * GAP;
        assert!((0..RUNS).all(|index| taken.take(far(index), far(index) + 1)));
        assert!(!taken.take(far(RUNS), far(RUNS) + 1));
        assert!(taken.take(1, 2), "goes on with a run");
    }
}
