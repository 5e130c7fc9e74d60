//! Sums of lengths at some records of sequential extents, whose addresses nothing else tells: so that a long table is not
//! read from its start for every extent.

use crate::metadata::Area;
use erofs_format::ByteOffset;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Records from one kept sum to the next.
const STEP: u64 = 1024;
/// Sums that are kept at most; a newer one takes the place of an older one.
const SLOTS: usize = 4096;

/// A table of records: where it begins.
type Table = (Area, ByteOffset);

/// Kept sums of all tables. Memory is taken when the first one is kept, about 200 KiB.
#[derive(Default)]
pub(crate) struct Sums(OnceLock<Box<[Mutex<Option<Sum>>]>>);

struct Sum {
    table: Table,
    /// A multiple of [`STEP`].
    record: u64,
    address: ByteOffset,
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sums").finish_non_exhaustive()
    }
}

impl Sums {
    /// The last kept sum at or before `record`: its record and the address of that record's extent.
    pub(super) fn before(&self, table: Table, record: u64) -> Option<(u64, ByteOffset)> {
        let slots = self.0.get()?;
        // Slots of a table follow each other: none is looked into twice.
        (1..=record / STEP)
            .rev()
            .take(SLOTS)
            .map(|step| step * STEP)
            .find_map(|record| {
                let slot = slots.get(slot(table, record))?;
                let kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
                kept.as_ref()
                    .filter(|sum| sum.table == table && sum.record == record)
                    .map(|sum| (record, sum.address))
            })
    }

    /// Keeps the address of the extent of `record`, if it is one whose sum is kept.
    pub(super) fn keep(&self, table: Table, record: u64, address: ByteOffset) {
        if !record.is_multiple_of(STEP) {
            return;
        }
        let slots = self
            .0
            .get_or_init(|| (0..SLOTS).map(|_| Mutex::default()).collect());
        if let Some(slot) = slots.get(slot(table, record)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sum {
                table,
                record,
                address,
            });
        }
    }
}

fn slot((_, start): Table, record: u64) -> usize {
    // Spreads tables, keeps the steps of one together.
    let base = (start.0 / 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (base.wrapping_add(record / STEP) % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_sum_is_found_and_tables_are_told_apart() {
        let (sums, here, there) = (
            Sums::default(),
            (Area::Primary, ByteOffset(4096)),
            (Area::Metabox, ByteOffset(4096)),
        );
        assert_eq!(sums.before(here, 1 << 40), None);
        for record in 1..=10 * STEP {
            sums.keep(here, record, ByteOffset(record * 100));
        }
        let at = |record| Some((record, ByteOffset(record * 100)));
        assert_eq!(sums.before(here, STEP - 1), None);
        assert_eq!(sums.before(here, STEP), at(STEP));
        assert_eq!(sums.before(here, 3 * STEP - 1), at(2 * STEP));
        assert_eq!(sums.before(here, 2000 * STEP), at(10 * STEP));
        assert_eq!(sums.before(there, 3 * STEP), None);
        // Whoever comes later may take the place.
        sums.keep(there, 5 * STEP, ByteOffset(7));
        assert_eq!(
            sums.before(there, 6 * STEP),
            Some((5 * STEP, ByteOffset(7)))
        );
        assert_eq!(sums.before(here, 6 * STEP - 1), at(4 * STEP));
    }
}
