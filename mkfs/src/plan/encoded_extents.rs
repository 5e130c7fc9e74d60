//! Encoded extents, which take one record for each extent instead of one for each block (48-bit layout, Linux 6.15): the
//! records of a file, and their smallest form (format reference §15).

use crate::data::encode::StoredExtent;
use erofs_format::compression::Algorithm;
use erofs_format::compression::encoded_extent::{
    BASE_ADDRESS_SIZE, ExtentRecord, Piece, RecordSize,
};
use erofs_format::compression::map_header::{ExtentRecords, MAP_HEADER_SIZE};
use erofs_format::{BlockAddr, BlockBits, ByteOffset};

/// Bytes of plain data in one extent: whoever reads a part of it reads all.
const PLAIN_PIECE: u64 = 64 << 10;

/// The extents of a compressed file.
#[derive(Debug, Clone, Copy)]
pub struct FileExtents<'e> {
    /// Size of the file in bytes.
    pub size: u64,
    /// First block of its own pclusters.
    pub start: BlockAddr,
    /// What they decode to, in order.
    pub extents: &'e [StoredExtent],
    /// With what they were encoded.
    pub algorithm: Algorithm,
    /// Offset in the packed inode of what follows them, in bytes.
    pub fragment: Option<u64>,
    /// Block size.
    pub block_bits: BlockBits,
}

impl FileExtents<'_> {
    /// All records, with addresses and starts.
    pub fn records(&self) -> impl Iterator<Item = ExtentRecord> {
        let bits = self.block_bits;
        let mut next = self.start;
        let mut position = 0;
        let stored = self.extents.iter().flat_map(move |extent| {
            let mut at = extent.elsewhere().unwrap_or(next);
            if extent.elsewhere().is_none() {
                next.0 += extent.blocks(bits);
            }
            let start = position;
            position += u64::from(extent.length);
            let (piece, algorithm) = if extent.is_plain() {
                (PLAIN_PIECE.max(bits.bytes()), None)
            } else {
                (u64::from(extent.length).max(1), Some(self.algorithm))
            };
            let pieces = u64::from(extent.length).div_ceil(piece);
            (0..pieces).map(move |number| {
                let length = (u64::from(extent.length) - number * piece).min(piece);
                let blocks = match algorithm {
                    Some(_) => extent.blocks(bits),
                    None => bits.blocks_for(length),
                };
                let address = ByteOffset(at.0 << bits.bits());
                at.0 += blocks;
                let stored = Piece::Stored {
                    length: u32::try_from(blocks << bits.bits()).unwrap_or(u32::MAX),
                    algorithm,
                    partial: extent.is_partial(),
                };
                ExtentRecord {
                    // At most 1 MiB: the largest pcluster.
                    plen: stored.encode().unwrap_or(0),
                    address,
                    start: start + number * piece,
                }
            })
        });
        let encoded: u64 = self.extents.iter().map(|e| u64::from(e.length)).sum();
        stored.chain(self.fragment.map(|offset| ExtentRecord {
            plen: offset as u32,
            address: ByteOffset(offset >> 32),
            start: encoded,
        }))
    }

    /// The smallest form of records that holds them, and their number.
    pub fn form(&self) -> (ExtentRecords, u64) {
        form(
            self.records(),
            self.size,
            self.fragment.is_some(),
            self.block_bits,
        )
    }
}

/// The smallest form that holds the records of a file of `size` bytes, which may end with that of a fragment, and their number.
pub fn form(
    all: impl Iterator<Item = ExtentRecord>,
    size: u64,
    has_fragment: bool,
    block_bits: BlockBits,
) -> (ExtentRecords, u64) {
    let mut count = 0;
    let mut uniform = Uniform::default();
    for record in all {
        count += 1;
        uniform.add(&record);
    }
    let listed = if u32::try_from(size).is_ok() {
        ExtentRecords::Listed { count }
    } else {
        ExtentRecords::ListedWide { count }
    };
    let form = match uniform.extent_bits(size, block_bits) {
        // The two smaller forms have no room for the whole offset of a fragment.
        Some(extent_bits) if !has_fragment && uniform.sequential => {
            ExtentRecords::Sequential { extent_bits }
        }
        Some(extent_bits) if !has_fragment && uniform.low => {
            ExtentRecords::Scattered { extent_bits }
        }
        _ => listed,
    };
    (form, count)
}

/// The table as stored at `position`, which follows the map header and is counted from a multiple of 32 bytes; `None`
/// when a record does not fit the form.
pub fn encode(
    all: impl Iterator<Item = ExtentRecord>,
    records: ExtentRecords,
    out: &mut Vec<u8>,
) -> Option<()> {
    let size = records.record_size();
    out.resize(out.len().next_multiple_of(size.bytes() as usize), 0);
    let is_sequential = size == RecordSize::B4;
    let is_listed = matches!(size, RecordSize::B16 | RecordSize::B32);
    for (number, mut record) in all.enumerate() {
        if is_sequential {
            if number == 0 {
                out.extend_from_slice(&record.address.0.to_le_bytes());
            }
            record.address = ByteOffset(0);
        }
        if !is_listed {
            record.start = 0;
        }
        record.encode(size, out)?;
    }
    Some(())
}

/// Where a table ends whose map header is at byte `header` of its inode.
pub(super) fn end(header: u64, records: ExtentRecords, count: u64) -> u64 {
    let size = records.record_size();
    let table = (header + MAP_HEADER_SIZE).next_multiple_of(size.bytes());
    let base = if size == RecordSize::B4 {
        BASE_ADDRESS_SIZE
    } else {
        0
    };
    table + base + count * size.bytes()
}

/// Whether records can do without starts, and without addresses.
#[derive(Debug)]
struct Uniform {
    /// Start of the second record.
    second: Option<u64>,
    /// Records so far.
    count: u64,
    /// All starts are multiples of that of the second.
    regular: bool,
    /// Each address is the end of the piece before.
    sequential: bool,
    /// All addresses have 32 bits.
    low: bool,
    end: Option<u64>,
}

impl Default for Uniform {
    fn default() -> Self {
        Self {
            second: None,
            count: 0,
            regular: true,
            sequential: true,
            low: true,
            end: None,
        }
    }
}

impl Uniform {
    fn add(&mut self, record: &ExtentRecord) {
        if self.count == 1 {
            self.second = Some(record.start);
        }
        let expected = self.second.map_or(0, |second| second * self.count);
        self.regular &= record.start == expected;
        self.sequential &= self.end.is_none_or(|end| end == record.address.0);
        self.low &= u32::try_from(record.address.0).is_ok();
        let length = match record.piece() {
            Ok(Piece::Stored { length, .. }) => length.into(),
            _ => 0,
        };
        self.end = Some(record.address.0 + length);
        self.count += 1;
    }

    /// The common size of extents of a file of `size` bytes as a power of two, if they have one.
    fn extent_bits(&self, size: u64, block_bits: BlockBits) -> Option<u8> {
        // The map header has 4 bits for how much larger than a block an extent is.
        const MOST_ABOVE_BLOCK: u8 = 15;
        let length = match self.second {
            Some(second) => second,
            None => size.next_power_of_two(),
        };
        let bits = u8::try_from(length.max(1).ilog2()).ok()?;
        let fits = (block_bits.bits()..=block_bits.bits() + MOST_ABOVE_BLOCK).contains(&bits);
        let is_regular = self.regular && length.is_power_of_two() && fits;
        (is_regular && self.count == size.div_ceil(length)).then_some(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(extents: &[StoredExtent], size: u64, fragment: Option<u64>) -> FileExtents<'_> {
        FileExtents {
            size,
            start: BlockAddr(100),
            extents,
            algorithm: Algorithm::Zstd,
            fragment,
            block_bits: BlockBits::B4096,
        }
    }

    #[test]
    fn equal_extents_in_a_row_take_four_bytes_each() {
        let extents = [16384, 16384, 5000].map(|length| StoredExtent::compressed(length, 1));
        let file = file(&extents, 37768, None);
        assert_eq!(
            file.form(),
            (ExtentRecords::Sequential { extent_bits: 14 }, 3)
        );
        let mut bytes = Vec::new();
        encode(file.records(), file.form().0, &mut bytes).unwrap();
        let mut expected = (100u64 << 12).to_le_bytes().to_vec();
        for _ in 0..3 {
            expected.extend((4096u32 | 4 << 28).to_le_bytes());
        }
        assert_eq!(bytes, expected);
        assert_eq!(end(32, file.form().0, 3), 40 + bytes.len() as u64);
    }

    #[test]
    fn equal_extents_elsewhere_take_eight_bytes_and_others_sixteen() {
        let own = StoredExtent::compressed(8192, 1);
        let shared = own.again(8192, BlockAddr(7));
        let scattered = [own, shared, StoredExtent::compressed(100, 1)];
        assert_eq!(
            file(&scattered, 16484, None).form(),
            (ExtentRecords::Scattered { extent_bits: 13 }, 3)
        );
        let uneven = [own, StoredExtent::compressed(9000, 2)];
        assert_eq!(
            file(&uneven, 17192, None).form(),
            (ExtentRecords::Listed { count: 2 }, 2)
        );
        // A fragment has an offset of 64 bits.
        let (form, count) = file(&[own], 8200, Some(5 << 32 | 3)).form();
        assert_eq!((form, count), (ExtentRecords::Listed { count: 2 }, 2));
        let last = file(&[own], 8200, Some(5 << 32 | 3)).records().last();
        assert_eq!(
            last.map(|record| record.fragment_offset()),
            Some(5 << 32 | 3)
        );
    }

    #[test]
    fn plain_data_is_cut_and_files_of_4_gib_need_wide_records() {
        let extents = [
            StoredExtent::plain(100_000),
            StoredExtent::compressed(9000, 1),
        ];
        let file = file(&extents, 5 << 32, None);
        let starts: Vec<_> = file
            .records()
            .map(|r| (r.start, r.address.0 >> 12))
            .collect();
        assert_eq!(starts, [(0, 100), (65536, 116), (100_000, 125)]);
        assert_eq!(file.form().0, ExtentRecords::ListedWide { count: 3 });
    }
}
