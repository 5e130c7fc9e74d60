//! Reading a file from a stream that leaves out its holes.

use crate::source::StoreError;
use crate::tree::DataRange;
use std::io::{self, Read};

/// The bytes of a file from a stream that leaves out its holes.
pub(super) struct RangeStream<'a> {
    pub(super) path: &'a [u8],
    pub(super) size: u64,
    pub(super) ranges: &'a [DataRange],
    /// Bytes of the file up to here were asked for.
    pub(super) at: u64,
    pub(super) data: &'a mut dyn io::Read,
}

impl RangeStream<'_> {
    /// The `length` bytes from `offset` on; offsets ascend. Stretches that are skipped hold no data.
    pub(super) fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let end = offset + length;
        self.at = end;
        let mut bytes = Vec::with_capacity(length as usize);
        while let Some((range, rest)) = self.ranges.split_first() {
            let (start, stop) = (
                range.offset.max(offset),
                (range.offset + range.length).min(end),
            );
            if range.offset >= end {
                break;
            }
            if start < stop {
                bytes.resize((start - offset) as usize, 0);
                self.take(stop - start, &mut bytes)?;
            }
            if range.offset + range.length > end {
                break;
            }
            self.ranges = rest;
        }
        bytes.resize(length as usize, 0);
        Ok(bytes)
    }

    fn take(&mut self, length: u64, bytes: &mut Vec<u8>) -> Result<(), StoreError> {
        let read = (&mut *self.data)
            .take(length)
            .read_to_end(bytes)
            .map_err(|source| StoreError::Read {
                path: self.path.to_vec(),
                source,
            })?;
        if read as u64 != length {
            let found = self.size.min(self.at.saturating_sub(length) + read as u64);
            return Err(StoreError::Short {
                path: self.path.to_vec(),
                expected: self.size,
                found,
            });
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), StoreError> {
        io::copy(self.data, &mut io::sink())
            .map(|_| ())
            .map_err(|source| StoreError::Read {
                path: self.path.to_vec(),
                source,
            })
    }
}
