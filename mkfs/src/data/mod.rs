//! File data on its way into the image: read, digested, compressed by workers, written in order.

pub mod encode;
pub mod output;
pub mod pipeline;
pub mod tails;
pub mod treatment;
pub mod writer;

use encode::StoredExtent;
use erofs_format::BlockAddr;
use std::sync::Arc;
use tails::TailRef;
use treatment::ChunkMap;

/// Where a file's data is in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredData {
    /// Consecutive blocks, and perhaps a tail to inline.
    Flat {
        /// First block; without meaning when there is no whole block.
        start: BlockAddr,
        /// The last partial block when it is to be inlined.
        tail: Option<TailRef>,
    },
    /// Chunks with data lie one after the other.
    Chunked {
        /// Block of the first chunk with data.
        start: BlockAddr,
        /// Which chunks hold data.
        map: Arc<ChunkMap>,
    },
    /// Pclusters lie one after the other.
    Compressed {
        /// First block of the first pcluster.
        start: BlockAddr,
        /// Number of blocks of all pclusters.
        blocks: u64,
        /// What they decode to, in order.
        extents: Arc<[StoredExtent]>,
    },
}

/// Compression settings of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// Level of Zstd, 1 to 22.
    pub level: i32,
    /// Largest pcluster in bytes: a multiple of the block size, at most 1 MiB.
    pub max_pcluster: usize,
}

impl Compression {
    /// Binary logarithm of the window: eight pclusters, at most 1 MiB, as mkfs.erofs chooses it.
    pub fn window_log(&self) -> u32 {
        (8 * self.max_pcluster).min(1 << 20).ilog2().max(10)
    }
}
