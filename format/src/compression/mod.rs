//! Compressed files: the header of the map, its index in one of three forms, and the algorithms' configurations.
//!
//! An *lcluster* is a logical unit of a file (one block). A *pcluster* is a run of blocks with one compressed or plain
//! piece. An *extent* is the logical byte range that decodes from one pcluster.

pub mod compact_index;
pub mod config;
pub mod encoded_extent;
pub mod full_index;
pub mod lcluster;
pub mod map_header;

use crate::address::BlockAddr;

/// Largest pcluster in bytes (`Z_EROFS_PCLUSTER_MAX_SIZE`).
pub const MAX_PCLUSTER_SIZE: u64 = 1 << 20;
/// Largest decoded extent in bytes (`Z_EROFS_PCLUSTER_MAX_DSIZE`).
pub const MAX_EXTENT_SIZE: u64 = 12 << 20;

/// Compression algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// LZ4 blocks.
    Lz4,
    /// MicroLZMA.
    Lzma,
    /// Raw DEFLATE.
    Deflate,
    /// Zstd frames.
    Zstd,
}

impl Algorithm {
    /// All of them, by stored value.
    pub const ALL: [Self; 4] = [Self::Lz4, Self::Lzma, Self::Deflate, Self::Zstd];

    /// Stored value.
    pub const fn value(self) -> u8 {
        match self {
            Self::Lz4 => 0,
            Self::Lzma => 1,
            Self::Deflate => 2,
            Self::Zstd => 3,
        }
    }

    /// From the stored value.
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// Its bit in the superblock's bitmap.
    pub const fn bit(self) -> u16 {
        1 << self.value()
    }

    /// Name as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// What an lcluster's record says (`Z_EROFS_LCLUSTER_TYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LclusterType {
    /// An uncompressed extent starts here.
    Plain,
    /// An extent of the first algorithm starts here.
    Head1,
    /// No extent starts here.
    NonHead,
    /// An extent of the second algorithm starts here.
    Head2,
}

impl LclusterType {
    /// Stored value.
    pub const fn value(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Head1 => 1,
            Self::NonHead => 2,
            Self::Head2 => 3,
        }
    }

    /// From the low two bits of a stored value.
    pub const fn from_bits(value: u16) -> Self {
        match value & 3 {
            0 => Self::Plain,
            1 => Self::Head1,
            2 => Self::NonHead,
            _ => Self::Head2,
        }
    }

    /// Whether an extent starts at this lcluster.
    pub const fn is_head(self) -> bool {
        !matches!(self, Self::NonHead)
    }
}

/// One extent as a builder lays it out; both forms of the lcluster index are made from a list of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Decoded length in bytes.
    pub length: u64,
    /// [`LclusterType::Plain`], [`LclusterType::Head1`] or [`LclusterType::Head2`].
    pub kind: LclusterType,
    /// Size of the pcluster in blocks. 0 only in the last extent: its data is inlined behind the index or is a fragment.
    pub blocks: u32,
    /// First block of the pcluster. With `blocks` 0 the value of the unused address field: in the full index the high 32
    /// bits of the fragment's offset, else 0.
    pub start: BlockAddr,
    /// The pcluster decodes to more than `length` bytes, of which only the first are used.
    pub partial: bool,
}

/// Flag in a NONHEAD record's first distance: it holds the pcluster's size in blocks instead.
pub const CBLKCNT: u16 = 1 << 11;
/// Largest distance that a NONHEAD record can hold; longer ones are followed in steps.
pub const MAX_DISTANCE: u16 = CBLKCNT - 1;
