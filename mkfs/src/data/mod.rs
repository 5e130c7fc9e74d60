//! File data on its way into the image: read, digested, compressed by workers, written in order.

pub mod compression;
pub mod digests;
pub mod encode;
pub mod fragments;
mod gear;
pub mod hints;
pub mod made;
pub mod output;
pub mod packing;
pub mod pipeline;
pub mod sharing;
pub mod spool;
pub mod tails;
pub mod treatment;
pub mod writer;

use encode::StoredExtent;
use erofs_format::BlockAddr;
use erofs_format::compression::Algorithm;
use fragments::FragmentRef;
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
    /// Pclusters lie one after the other. Kept apart: most files are small, and there may be millions of them.
    Compressed(Box<StoredPclusters>),
    /// All of it is a fragment.
    Packed(FragmentRef),
}

/// Where the data of a compressed file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPclusters {
    /// First block of the first pcluster.
    pub start: BlockAddr,
    /// Number of blocks of all pclusters.
    pub blocks: u64,
    /// What they decode to, in order.
    pub extents: Arc<[StoredExtent]>,
    /// With what they were encoded.
    pub algorithm: Algorithm,
    /// What follows them.
    pub fragment: Option<FragmentRef>,
    /// What the last of them decodes from, when it is to be inlined and not among the blocks.
    pub tail: Option<TailRef>,
}
