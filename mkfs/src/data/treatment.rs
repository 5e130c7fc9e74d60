//! How a file's data will lie in the image, decided before its first byte is read.

use super::compression::Method;
use crate::tree::DataRange;
use erofs_format::BlockBits;

/// How a file's data is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// Consecutive blocks; the last partial one inlined behind the inode when `inline_tail`.
    Flat {
        /// Whether the tail may be inlined.
        inline_tail: bool,
    },
    /// Chunks of which some may be holes.
    Chunked(ChunkMap),
    /// Compressed, or flat where that is no larger.
    Compressed {
        /// Whether a tail may be inlined if the file stays uncompressed.
        inline_tail: bool,
        /// With what, and how large pclusters may be.
        method: Method,
        /// Whether what is left at the end for a pcluster that would not be full becomes a fragment.
        pack_tail: bool,
        /// Room for an encoded tail behind the index, in bytes; 0 when tails are not to be inlined.
        tail_room: u16,
    },
    /// The whole file becomes a fragment.
    Packed,
}

/// Which chunks of a file hold data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkMap {
    /// Chunk size as a power of two in blocks.
    pub block_shift: u8,
    /// Runs of chunks with data, ascending and apart.
    pub runs: Box<[ChunkRun]>,
}

/// Chunks that follow each other and hold data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRun {
    /// Number of the first chunk.
    pub first: u64,
    /// Number of chunks.
    pub count: u64,
}

impl ChunkMap {
    /// A file of `size` bytes without holes.
    pub fn full(size: u64, block_shift: u8, block_bits: BlockBits) -> Self {
        let chunk_bits = u32::from(block_bits.bits() + block_shift);
        let count = size.div_ceil(1 << chunk_bits);
        Self {
            block_shift,
            runs: Box::new([ChunkRun { first: 0, count }]),
        }
    }

    /// A file of `size` bytes with data in `ranges` only, in chunks of a given size.
    pub fn with_shift(
        size: u64,
        ranges: &[DataRange],
        block_shift: u8,
        block_bits: BlockBits,
    ) -> Self {
        let chunk_bits = u32::from(block_bits.bits() + block_shift);
        Self {
            block_shift,
            runs: runs(size, ranges, chunk_bits).into(),
        }
    }

    /// The chunk size that costs least for a file of `size` bytes with data in `ranges` only: small chunks make a
    /// large table, large ones store zeros.
    pub fn sparse(size: u64, ranges: &[DataRange], block_bits: BlockBits) -> Self {
        const ENTRY_SIZE: u64 = 4;
        let block = block_bits.bytes();
        let mut best: Option<(u64, Self)> = None;
        for block_shift in 0..=31u8 {
            let chunk_bits = u32::from(block_bits.bits() + block_shift);
            let runs = runs(size, ranges, chunk_bits);
            let blocks: u64 = runs
                .iter()
                .map(|run| stored_bytes(*run, size, chunk_bits).div_ceil(block))
                .sum();
            let cost = blocks * block + size.div_ceil(1 << chunk_bits) * ENTRY_SIZE;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((
                    cost,
                    Self {
                        block_shift,
                        runs: runs.into(),
                    },
                ));
            }
            if size >> chunk_bits == 0 {
                break;
            }
        }
        best.map_or_else(
            || Self {
                block_shift: 0,
                runs: Box::new([]),
            },
            |(_, map)| map,
        )
    }

    /// The byte ranges of a file of `size` bytes that are stored, ascending.
    pub fn stored_ranges(
        &self,
        size: u64,
        block_bits: BlockBits,
    ) -> impl Iterator<Item = DataRange> {
        let chunk_bits = u32::from(block_bits.bits() + self.block_shift);
        self.runs.iter().map(move |run| DataRange {
            offset: run.first << chunk_bits,
            length: stored_bytes(*run, size, chunk_bits),
        })
    }
}

fn stored_bytes(run: ChunkRun, size: u64, chunk_bits: u32) -> u64 {
    (((run.first + run.count) << chunk_bits).min(size)).saturating_sub(run.first << chunk_bits)
}

fn runs(size: u64, ranges: &[DataRange], chunk_bits: u32) -> Vec<ChunkRun> {
    let mut runs: Vec<ChunkRun> = Vec::new();
    for range in ranges
        .iter()
        .filter(|range| range.length > 0 && range.offset < size)
    {
        let first = range.offset >> chunk_bits;
        let last = (range.offset + range.length - 1).min(size - 1) >> chunk_bits;
        match runs.last_mut() {
            Some(run) if first <= run.first + run.count => {
                run.count = run.count.max(last + 1 - run.first)
            }
            _ => runs.push(ChunkRun {
                first,
                count: last + 1 - first,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u64, length: u64) -> DataRange {
        DataRange { offset, length }
    }

    #[test]
    fn a_file_without_data_is_one_hole() {
        let map = ChunkMap::sparse(100 << 30, &[], BlockBits::B4096);
        assert!(map.runs.is_empty());
        assert_eq!((100u64 << 30).div_ceil(4096 << map.block_shift), 1);
    }

    #[test]
    fn chunks_are_large_where_data_is_aligned_and_small_where_it_is_not() {
        let mib = 1 << 20;
        let aligned = ChunkMap::sparse(64 * mib, &[range(16 * mib, 16 * mib)], BlockBits::B4096);
        assert_eq!(
            (aligned.block_shift, &*aligned.runs),
            (12, &[ChunkRun { first: 1, count: 1 }][..])
        );
        let single = ChunkMap::sparse(mib, &[range(40960, 1)], BlockBits::B4096);
        let stored: Vec<_> = single.stored_ranges(mib, BlockBits::B4096).collect();
        assert_eq!(
            (single.block_shift, &stored[..]),
            (0, &[range(40960, 4096)][..])
        );
    }

    #[test]
    fn stored_ranges_cover_all_data_and_end_with_the_file() {
        let ranges = [
            range(5000, 10),
            range(5010, 5000),
            range(30000, 5),
            range(99_990, 10),
        ];
        let map = ChunkMap::sparse(100_000, &ranges, BlockBits::B512);
        let stored: Vec<_> = map.stored_ranges(100_000, BlockBits::B512).collect();
        for data in ranges {
            let inside = |s: &DataRange| {
                s.offset <= data.offset && data.offset + data.length <= s.offset + s.length
            };
            assert!(stored.iter().any(inside), "{data:?} in {stored:?}");
        }
        assert_eq!(stored.last().map(|s| s.offset + s.length), Some(100_000));
        assert!(
            stored
                .windows(2)
                .all(|pair| pair[0].offset + pair[0].length < pair[1].offset)
        );
    }
}
