//! Encoded extents: a table with one record for each extent, as `z_erofs_map_blocks_ext` (fs/erofs/zmap.c) reads it.

use super::compressed::{Located, Metadata, Pcluster};
use super::{Extent, Place};
use crate::error::{Error, Rule};
use erofs_format::ByteOffset;
use erofs_format::compression::encoded_extent::{
    BASE_ADDRESS_SIZE, ExtentRecord, Piece, RecordSize, decode_base_address,
};
use erofs_format::compression::map_header::{ExtentRecords, ExtentsHeader};

/// 4-byte records that are summed up in one step, a part of those between sums that are kept.
const SUMMED_AT_ONCE: usize = 256;

struct Table<'a> {
    metadata: Metadata<'a>,
    record_size: RecordSize,
    start: ByteOffset,
}

/// The extent that holds `position`, which is below the file's size; the map header is at `map_header`.
pub(super) fn locate(
    metadata: Metadata<'_>,
    header: &ExtentsHeader,
    map_header: ByteOffset,
    position: u64,
) -> Result<Located, Error> {
    let (image, inode) = (metadata.image, metadata.inode);
    let record_size = header.records.record_size();
    let mut table = Table {
        metadata,
        record_size,
        start: record_size
            .table(map_header)
            .ok_or_else(|| inode.corrupt(Rule::Overflow, map_header))?,
    };
    let size = inode.data_size();
    let (record, end) = match header.records {
        ExtentRecords::Sequential { extent_bits } => table.sequential(extent_bits, position)?,
        ExtentRecords::Scattered { extent_bits } => {
            let number = position >> extent_bits;
            let mut record = table.record(number)?;
            record.start = number << extent_bits;
            (record, (record.start + (1 << extent_bits)).min(size))
        }
        ExtentRecords::Listed { count } | ExtentRecords::ListedWide { count } => {
            table.search(count, position)?
        }
    };
    let logical = record.start;
    if !(logical..end).contains(&position) {
        return Err(inode.corrupt(Rule::MapGap, ByteOffset(position)));
    }
    if header.fragment && end == size {
        // A 4-byte record has only the low half of the offset; its address here is a sum of lengths.
        let offset = match header.records {
            ExtentRecords::Sequential { .. } => record.plen.into(),
            _ => record.fragment_offset(),
        };
        return Ok(Located::Extent(Extent {
            logical,
            length: end - logical,
            place: Place::Packed { offset },
        }));
    }
    let piece = record
        .piece()
        .map_err(|error| inode.corrupt(Rule::Piece(error), ByteOffset(logical)))?;
    let Piece::Stored {
        length,
        algorithm,
        partial,
    } = piece
    else {
        return Ok(Located::Extent(Extent {
            logical,
            length: end - logical,
            place: Place::Hole,
        }));
    };
    let bits = image.superblock().block_bits;
    let aligned = bits.offset_in_block(record.address.0 | u64::from(length)) == 0;
    Ok(Located::Pcluster(Pcluster {
        logical,
        end,
        start: record.address,
        length: length.into(),
        algorithm,
        interlaced: header.interlaced && aligned,
        partial,
    }))
}

impl Table<'_> {
    fn overflow(&self) -> Error {
        self.metadata.inode.corrupt(Rule::Overflow, self.start)
    }

    /// Fills `bytes` from record `number` on.
    fn read(&mut self, number: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let at = self
            .record_size
            .position(self.start, number)
            .ok_or_else(|| self.overflow())?;
        self.metadata.read(at, bytes)
    }

    fn record(&mut self, number: u64) -> Result<ExtentRecord, Error> {
        let mut bytes = [0; 32];
        let length = usize::try_from(self.record_size.bytes()).unwrap_or(0);
        let record = bytes.get_mut(..length).unwrap_or_default();
        self.read(number, record)?;
        ExtentRecord::decode(record, self.record_size).map_err(|_| self.overflow())
    }

    /// Stored length of a 4-byte record; `logical` is where its extent begins.
    fn stored_length(&self, record: &[u8], logical: u64) -> Result<u64, Error> {
        let piece = ExtentRecord::decode(record, RecordSize::B4)
            .map_err(|_| self.overflow())?
            .piece()
            .map_err(|error| {
                self.metadata
                    .inode
                    .corrupt(Rule::Piece(error), ByteOffset(logical))
            })?;
        Ok(match piece {
            Piece::Hole => 0,
            Piece::Stored { length, .. } => length.into(),
        })
    }

    /// Pieces that follow each other: the address is the sum of all lengths before.
    fn sequential(&mut self, extent_bits: u8, position: u64) -> Result<(ExtentRecord, u64), Error> {
        let mut base = [0; BASE_ADDRESS_SIZE as usize];
        self.metadata.read(self.start, &mut base)?;
        let base = decode_base_address(&base).map_err(|_| self.overflow())?;
        let number = position >> extent_bits;
        let (sums, table) = (
            self.metadata.image.sums(),
            (self.metadata.inode.position().0, self.start),
        );
        let (mut before, mut address) = sums.before(table, number).unwrap_or((0, base));
        while before < number {
            let mut bytes = [0; SUMMED_AT_ONCE * 4];
            let count = usize::try_from(number - before)
                .map_or(SUMMED_AT_ONCE, |left| left.min(SUMMED_AT_ONCE));
            let records = bytes.get_mut(..count * 4).unwrap_or_default();
            self.read(before, records)?;
            for record in records.chunks_exact(4) {
                let length = self.stored_length(record, before << extent_bits)?;
                address = address.checked_add(length).ok_or_else(|| self.overflow())?;
                before += 1;
            }
            sums.keep(table, before, address);
        }
        let mut record = self.record(number)?;
        record.address = address;
        record.start = number << extent_bits;
        let end = (record.start + (1 << extent_bits)).min(self.metadata.inode.data_size());
        Ok((record, end))
    }

    /// Binary search for the last record that does not begin behind `position`; what is in front of the first is a hole.
    fn search(&mut self, count: u64, position: u64) -> Result<(ExtentRecord, u64), Error> {
        let size = self.metadata.inode.data_size();
        let (mut low, mut high) = (0, count);
        let (mut found, mut end) = (ExtentRecord::default(), size);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.record(middle)?;
            if record.start > position {
                high = middle;
                end = record.start.min(size);
            } else {
                low = middle + 1;
                found = record;
            }
        }
        Ok((found, end))
    }
}
