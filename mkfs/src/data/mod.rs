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
use erofs_format::compression::encoded_extent::ExtentRecord;
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
    /// Encoded extents of an image that is continued, in a form that only its records tell.
    Extents(Box<StoredRecords>),
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
    /// Plain data that begins inside of a block keeps its offset there.
    pub interlaced: bool,
    /// What follows them.
    pub fragment: Option<FragmentRef>,
    /// What the last of them decodes from, when it is to be inlined and not among the blocks.
    pub tail: Option<TailRef>,
}

/// Encoded extents that stay where they are: at any byte, by several algorithms, with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecords {
    /// One for each extent, with addresses and starts.
    pub records: Arc<[ExtentRecord]>,
    /// Plain data keeps its offset in the block.
    pub interlaced: bool,
    /// The last record is about a fragment.
    pub fragment: bool,
    /// Number of blocks that they lie in.
    pub blocks: u64,
}
