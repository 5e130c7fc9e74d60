//! Tables of chunk-based files: where each chunk is, and how large chunks are.

use crate::data::treatment::ChunkMap;
use crate::tree::{DataRange, display};
use erofs_format::chunk::{Chunk, ChunkFormat};
use erofs_format::{BlockAddr, BlockBits, DeviceId};

/// Largest table of chunks in bytes: a file of 1 TiB in chunks of 4 KiB has one.
const MAX_CHUNK_TABLE: u64 = 1 << 30;

/// A sparse file with holes so large, in chunks so small, that their table would fill disks.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: a sparse file of {size} bytes needs a table of {table} bytes, which is too large: larger chunks \
     (--chunksize) make it smaller, or leave the file out (--exclude-path)",
    display(path)
)]
pub struct ChunkTableError {
    /// The file.
    path: Vec<u8>,
    /// Its size in bytes.
    size: u64,
    /// Size of the table in bytes.
    table: u64,
}

/// Whether the table of a file of `size` bytes in so many `chunks` is not too large.
///
/// # Errors
/// [`ChunkTableError`].
pub fn check(
    path: impl Fn() -> Vec<u8>,
    size: u64,
    chunks: u64,
    entry_size: u64,
) -> Result<(), ChunkTableError> {
    let table = chunks.saturating_mul(entry_size);
    if table > MAX_CHUNK_TABLE {
        let path = path();
        return Err(ChunkTableError { path, size, table });
    }
    Ok(())
}

/// Where the chunks of a file are.
#[derive(Debug)]
pub enum ChunkTable<'d> {
    /// Nowhere.
    Hole,
    /// Runs with data follow each other on a device.
    Stored {
        /// The device.
        device: DeviceId,
        /// First block.
        start: BlockAddr,
        /// Which chunks hold data.
        map: &'d ChunkMap,
    },
    /// Stretches with data follow each other on a device.
    Device {
        /// The device.
        device: DeviceId,
        /// First block.
        start: BlockAddr,
        /// Stretches with data; `None` for the whole file.
        ranges: Option<&'d [DataRange]>,
    },
    /// Wherever these say.
    Pieces(&'d [ChunkPiece]),
    /// All on a device but the last chunk, which is on the primary one.
    CopiedEnd {
        /// The device.
        device: DeviceId,
        /// Where the last chunk is.
        end: BlockAddr,
    },
}

impl ChunkTable<'_> {
    /// What the table of `chunks` chunks says, in order.
    pub fn chunks(
        &self,
        chunks: u64,
        format: ChunkFormat,
        block_bits: BlockBits,
    ) -> impl Iterator<Item = Chunk> {
        let mut pieces = self
            .pieces(chunks, format, block_bits)
            .into_iter()
            .peekable();
        let blocks_per_chunk = 1u64 << format.block_shift;
        (0..chunks).map(move |number| {
            while pieces
                .next_if(|piece| piece.first + piece.count <= number)
                .is_some()
            {}
            match pieces.peek() {
                Some(piece) if piece.first <= number => Chunk::Data {
                    device: piece.device,
                    block: BlockAddr(piece.start.0 + (number - piece.first) * blocks_per_chunk),
                },
                _ => Chunk::Hole,
            }
        })
    }

    /// Stretches of chunks with data, ascending.
    fn pieces(&self, chunks: u64, format: ChunkFormat, block_bits: BlockBits) -> Vec<ChunkPiece> {
        let whole = |device, start| ChunkPiece {
            first: 0,
            count: chunks,
            device,
            start,
        };
        match *self {
            Self::Hole => Vec::new(),
            Self::Stored { device, start, map } => {
                let mut next = start.0;
                map.runs
                    .iter()
                    .map(|run| {
                        let start = BlockAddr(next);
                        next += run.count << format.block_shift;
                        ChunkPiece {
                            first: run.first,
                            count: run.count,
                            device,
                            start,
                        }
                    })
                    .collect()
            }
            Self::Device {
                device,
                start,
                ranges: None,
            } => vec![whole(device, start)],
            Self::Device {
                device,
                start,
                ranges: Some(ranges),
            } => {
                let bits = format.chunk_bits(block_bits);
                let mut next = start.0;
                ranges
                    .iter()
                    .map(|range| {
                        let start = BlockAddr(next);
                        next += block_bits.blocks_for(range.length);
                        let first = range.offset >> bits;
                        ChunkPiece {
                            first,
                            count: range.length.div_ceil(1 << bits),
                            device,
                            start,
                        }
                    })
                    .collect()
            }
            Self::Pieces(pieces) => pieces.to_vec(),
            Self::CopiedEnd { device, end } => {
                let last = chunks.saturating_sub(1);
                vec![
                    ChunkPiece {
                        first: 0,
                        count: last,
                        device,
                        start: BlockAddr(0),
                    },
                    ChunkPiece {
                        first: last,
                        count: 1,
                        device: DeviceId::PRIMARY,
                        start: end,
                    },
                ]
            }
        }
    }
}

/// Chunks that follow each other in the file and on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPiece {
    /// Number of the first chunk.
    pub first: u64,
    /// Number of chunks.
    pub count: u64,
    /// The device.
    pub device: DeviceId,
    /// First block on it.
    pub start: BlockAddr,
}

/// The smallest chunk size that covers a whole file with one chunk.
pub(super) fn covering_shift(size: u64, block_bits: BlockBits) -> u8 {
    let blocks = block_bits.blocks_for(size).max(1).next_power_of_two();
    // 2^31 blocks are the largest chunk; a larger file has several.
    u8::try_from(blocks.ilog2().min(31)).unwrap_or(31)
}

/// The largest chunk size at whose multiples all stretches of data begin and end.
pub(crate) fn aligned_shift(size: u64, ranges: &[DataRange], block_bits: BlockBits) -> u8 {
    let covering = covering_shift(size, block_bits);
    let bits = ranges.iter().fold(
        u64::from(covering) + u64::from(block_bits.bits()),
        |least, range| {
            let end = range.offset + range.length;
            let end_bits = if end >= size {
                64
            } else {
                u64::from(end.trailing_zeros())
            };
            least
                .min(u64::from(range.offset.trailing_zeros()))
                .min(end_bits)
        },
    );
    u8::try_from(bits.saturating_sub(block_bits.bits().into())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_covers_a_file_and_sparse_chunks_end_where_data_does() {
        assert_eq!(covering_shift(1, BlockBits::B4096), 0);
        assert_eq!(covering_shift(4097, BlockBits::B4096), 1);
        assert_eq!(covering_shift(u64::MAX >> 1, BlockBits::B512), 31);
        let ranges = [
            DataRange {
                offset: 8192,
                length: 4096,
            },
            DataRange {
                offset: 65536,
                length: 100,
            },
        ];
        assert_eq!(aligned_shift(65636, &ranges, BlockBits::B512), 3);
        assert_eq!(aligned_shift(1 << 20, &ranges, BlockBits::B512), 0);
    }
}
