//! Which bytes of a file are data, and in which pieces they are read.

use super::PIECE;
use crate::error::Error;
use crate::extract::error::ExtractError;
use crate::extract::tar::{BLOCK_SIZE, MAX_RANGES, MemberError};
use crate::image::Image;
use crate::inode::Inode;
use crate::map::Place;
use std::ops::Range;

/// The data ranges of a file, whole blocks of a tar each, touching ones joined.
///
/// # Errors
/// When the map cannot be read, or there are more ranges than a tar may have.
pub(super) fn data_ranges(image: &Image, inode: &Inode) -> Result<Vec<Range<u64>>, ExtractError> {
    let size = inode.data_size();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for extent in image.extents(inode) {
        let extent = extent?;
        if extent.place == Place::Hole {
            continue;
        }
        let start = extent.logical - extent.logical % BLOCK_SIZE as u64;
        let end = extent.end().checked_next_multiple_of(BLOCK_SIZE as u64);
        let end = end.map_or(size, |end| end.min(size));
        if let Some(last) = ranges.last_mut().filter(|last| last.end >= start) {
            last.end = end;
        } else if ranges.len() < MAX_RANGES {
            ranges.push(start..end);
        } else {
            return Err(MemberError::TooManyRanges.into());
        }
    }
    Ok(ranges)
}

/// Most bytes of a piece that is a single extent.
const LONGEST_EXTENT: u64 = 4 << 20;

/// Cuts a data range into pieces of [`PIECE`] bytes at most, between extents where that is possible, so that what is
/// encoded together is decoded once; for the same reason an extent may be longer.
pub(super) struct Pieces<'a> {
    image: &'a Image,
    inode: &'a Inode,
    range: Range<u64>,
}

impl<'a> Pieces<'a> {
    pub(super) const fn new(image: &'a Image, inode: &'a Inode, range: Range<u64>) -> Self {
        Self {
            image,
            inode,
            range,
        }
    }

    /// Where the piece that begins at the start of the range ends.
    fn end(&self) -> Result<u64, Error> {
        let start = self.range.start;
        let within = |length| self.range.end.min(start.saturating_add(length));
        let limit = within(PIECE as u64);
        let mut end = start;
        for extent in self.image.extents_from(self.inode, start) {
            let extent = extent?;
            let next = extent.end();
            if next > limit {
                let is_encoded = matches!(extent.place, Place::Encoded { .. });
                if end == start && is_encoded && next <= within(LONGEST_EXTENT) {
                    end = next;
                }
                break;
            }
            end = next;
        }
        Ok(if end > start { end } else { limit })
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Range<u64>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        let start = self.range.start;
        let end = self.end();
        self.range.start = match &end {
            Ok(end) => *end,
            Err(_) => self.range.end,
        };
        Some(end.map(|end| start..end))
    }
}
