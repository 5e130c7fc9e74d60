//! The map header: 8 bytes that say how a compressed file is indexed.
//!
//! ```text
//! index     0 fragment offset u32 | 4 advise u16 | 6 algorithms u8 (HEAD1 low, HEAD2 high nibble) | 7 cluster bits u8
//!       or  0 zero u16  inline size u16
//! extents   0 count, low u32      | 4 advise u16 | 6 count, high u16 (or cluster bits at 7, fixed-size records)
//! fragment  0 offset in the packed inode u64, bit 63 set
//! ```
//! It stands behind inode and xattrs, aligned to 8 bytes. Since Linux 5.3; big pclusters 5.13, HEAD2 5.16, inline tails
//! 5.17, fragments and interlaced data 6.1, encoded extents 6.15.

use super::encoded_extent::RecordSize;
use super::{Algorithm, LclusterType};
use crate::address::{BlockBits, ByteOffset};
use crate::feature::FeatureIncompat;
use crate::inode::DataLayout;
use crate::record::{self, Truncated};
use crate::superblock::Superblock;
use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of the map header in bytes; also half of the distance to the full index.
pub const MAP_HEADER_SIZE: u64 = 8;
/// Largest lcluster of a compact index, as a power of two in bytes.
pub const MAX_COMPACT_LCLUSTER_BITS: u8 = 14;
/// Largest lcluster of a compact index with 2-byte packs, as a power of two in bytes.
pub const MAX_TWO_BYTE_LCLUSTER_BITS: u8 = 12;

const WHOLE_FRAGMENT: u64 = 1 << 63;
const EXTENTS: u16 = 0x01;
const RECORD_SIZE_SHIFT: u16 = 1;
const CLUSTER_BITS_MASK: u8 = 0x0F;

/// A map header as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawMapHeader {
    /// Fragment offset, zero and inline size, or number of extents.
    pub word: U32,
    /// Bits of [`Advise`], or the form of the encoded extents.
    pub advise: U16,
    /// HEAD1 in the low, HEAD2 in the high nibble.
    pub algorithms: u8,
    /// Lcluster bits over block bits in the low nibble; bit 7: the whole file is a fragment.
    pub cluster_bits: u8,
}

const _: () = assert!(size_of::<RawMapHeader>() == 8);

bitflags! {
    /// `h_advise` of files with an lcluster index.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Advise: u16 {
        /// The compact index has packs of 2 bytes a record.
        const COMPACTED_2B = 0x01;
        /// HEAD1 pclusters may have several blocks.
        const BIG_PCLUSTER_1 = 0x02;
        /// HEAD2 and PLAIN pclusters may have several blocks.
        const BIG_PCLUSTER_2 = 0x04;
        /// The last extent is inlined behind the index.
        const INLINE_PCLUSTER = 0x08;
        /// Plain data keeps its offset in the block.
        const INTERLACED_PCLUSTER = 0x10;
        /// The last extent is a fragment.
        const FRAGMENT_PCLUSTER = 0x20;
        const _ = !0;
    }
}

impl Advise {
    /// Both big-pcluster bits.
    pub const BIG_PCLUSTERS: Self = Self::BIG_PCLUSTER_1.union(Self::BIG_PCLUSTER_2);

    /// The bit that allows extents of `kind` several blocks.
    pub const fn big_pcluster(kind: LclusterType) -> Self {
        match kind {
            LclusterType::Head1 => Self::BIG_PCLUSTER_1,
            LclusterType::Plain | LclusterType::Head2 | LclusterType::NonHead => {
                Self::BIG_PCLUSTER_2
            }
        }
    }
}

/// How a compressed file is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapHeader {
    /// The whole file lies in the packed inode; nothing follows.
    Fragment {
        /// Byte offset in the packed inode, below 2^63.
        offset: u64,
    },
    /// An lcluster index, full or compact by the inode's layout.
    Index(IndexHeader),
    /// Encoded extents.
    Extents(ExtentsHeader),
}

/// Header of an lcluster index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IndexHeader {
    /// Advise bits.
    pub advise: Advise,
    /// Algorithm of HEAD1 extents.
    pub head1: Algorithm,
    /// Algorithm of HEAD2 extents.
    pub head2: Algorithm,
    /// Lcluster size as a power of two in bytes.
    pub lcluster_bits: u8,
    /// Encoded size of the inlined last extent in bytes, 0 without one.
    pub inline_size: u16,
    /// Offset of the last extent in the packed inode, low 32 bits, 0 without a fragment.
    pub fragment_offset: u32,
}

/// Header of encoded extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtentsHeader {
    /// How extents are found.
    pub records: ExtentRecords,
    /// Plain data with block-aligned position and length keeps its offset in the block.
    pub interlaced: bool,
    /// The last extent is a fragment.
    pub fragment: bool,
}

/// How encoded extents are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentRecords {
    /// Extents of one size, pieces follow each other: 4-byte records behind the first piece's 8-byte address.
    Sequential {
        /// Extent size as a power of two in bytes.
        extent_bits: u8,
    },
    /// Extents of one size, pieces anywhere below 4 GiB: 8-byte records.
    Scattered {
        /// Extent size as a power of two in bytes.
        extent_bits: u8,
    },
    /// Extents of any size: 16-byte records.
    Listed {
        /// Number of records, below 2^47.
        count: u64,
    },
    /// Extents of any size in files of 4 GiB and more: 32-byte records.
    ListedWide {
        /// Number of records, below 2^47.
        count: u64,
    },
}

impl ExtentRecords {
    /// Size of a record.
    pub const fn record_size(self) -> RecordSize {
        match self {
            Self::Sequential { .. } => RecordSize::B4,
            Self::Scattered { .. } => RecordSize::B8,
            Self::Listed { .. } => RecordSize::B16,
            Self::ListedWide { .. } => RecordSize::B32,
        }
    }
}

/// Why a map header cannot be used. The kernel refuses each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapHeaderError {
    /// The image ends inside the header.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Not a compressed inode.
    #[error("data layout {0:?} has no map header")]
    Layout(DataLayout),
    /// Unknown algorithm.
    #[error("algorithm {value} of HEAD{head} is unknown")]
    Algorithm {
        /// 1 or 2.
        head: u8,
        /// As stored.
        value: u8,
    },
    /// Big pclusters in an image without that feature.
    #[error("big pclusters without the superblock's feature bit")]
    BigPclusterFeature,
    /// The big-pcluster bits differ in a compact index.
    #[error("big-pcluster bits of a compact index differ: advise {0:#06x}")]
    BigPclusterBits(u16),
    /// Lclusters too large for a compact index.
    #[error("lclusters of 2^{0} bytes are too large for this compact index")]
    LclusterSize(u8),
}

/// A value that does not fit its map header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("map header field {field} cannot hold {value}")]
pub struct MapHeaderFieldError {
    /// Which field.
    pub field: &'static str,
    /// The value.
    pub value: u64,
}

/// Position of the map header of an inode whose core and xattrs end at `end`; `None` past 64 bits.
pub const fn position(end: ByteOffset) -> Option<ByteOffset> {
    end.checked_align_up(MAP_HEADER_SIZE)
}

impl MapHeader {
    /// Decodes the header at the start of `bytes` for an inode of this layout, as `z_erofs_fill_inode`
    /// (fs/erofs/zmap.c) does.
    ///
    /// # Errors
    /// [`MapHeaderError`] for what the kernel refuses.
    pub fn decode(
        bytes: &[u8],
        layout: DataLayout,
        superblock: &Superblock,
    ) -> Result<Self, MapHeaderError> {
        if !layout.is_compressed() {
            return Err(MapHeaderError::Layout(layout));
        }
        let whole: zerocopy::little_endian::U64 = record::read(bytes, "map header")?;
        if whole.get() & WHOLE_FRAGMENT != 0 {
            return Ok(Self::Fragment {
                offset: whole.get() & !WHOLE_FRAGMENT,
            });
        }
        let raw: RawMapHeader = record::read(bytes, "map header")?;
        let lcluster_bits = superblock.block_bits.bits() + (raw.cluster_bits & CLUSTER_BITS_MASK);
        if layout == DataLayout::CompressedFull && raw.advise.get() & EXTENTS != 0 {
            return Ok(Self::Extents(ExtentsHeader::from_raw(&raw, lcluster_bits)));
        }
        IndexHeader::from_raw(&raw, lcluster_bits, layout, superblock).map(Self::Index)
    }

    /// The stored form.
    ///
    /// # Errors
    /// [`MapHeaderFieldError`] names the field whose value cannot be stored.
    pub fn encode(&self, block_bits: BlockBits) -> Result<[u8; 8], MapHeaderFieldError> {
        match self {
            Self::Fragment { offset } if offset & WHOLE_FRAGMENT != 0 => Err(MapHeaderFieldError {
                field: "fragment offset",
                value: *offset,
            }),
            Self::Fragment { offset } => Ok((offset | WHOLE_FRAGMENT).to_le_bytes()),
            Self::Index(header) => header.encode(block_bits),
            Self::Extents(header) => header.encode(block_bits),
        }
    }
}

impl IndexHeader {
    fn from_raw(
        raw: &RawMapHeader,
        lcluster_bits: u8,
        layout: DataLayout,
        superblock: &Superblock,
    ) -> Result<Self, MapHeaderError> {
        let algorithm = |head, value| {
            Algorithm::from_value(value).ok_or(MapHeaderError::Algorithm { head, value })
        };
        let head1 = algorithm(1, raw.algorithms & 0x0F)?;
        let head2 = algorithm(2, raw.algorithms >> 4)?;
        let advise = Advise::from_bits_retain(raw.advise.get());
        if advise.intersects(Advise::BIG_PCLUSTERS)
            && !superblock
                .incompat
                .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
        {
            return Err(MapHeaderError::BigPclusterFeature);
        }
        if layout == DataLayout::CompressedCompact {
            let big = advise.intersection(Advise::BIG_PCLUSTERS);
            if !big.is_empty() && big != Advise::BIG_PCLUSTERS {
                return Err(MapHeaderError::BigPclusterBits(advise.bits()));
            }
            if lcluster_bits > max_compact_lcluster_bits(advise) {
                return Err(MapHeaderError::LclusterSize(lcluster_bits));
            }
        }
        let [_, _, size_low, size_high] = raw.word.to_bytes();
        let fragment = advise.contains(Advise::FRAGMENT_PCLUSTER);
        let inline = !fragment && advise.contains(Advise::INLINE_PCLUSTER);
        Ok(Self {
            advise,
            head1,
            head2,
            lcluster_bits,
            inline_size: if inline {
                u16::from_le_bytes([size_low, size_high])
            } else {
                0
            },
            fragment_offset: if fragment { raw.word.get() } else { 0 },
        })
    }

    fn encode(&self, block_bits: BlockBits) -> Result<[u8; 8], MapHeaderFieldError> {
        let refuse = |field, value: u64| Err(MapHeaderFieldError { field, value });
        let fragment = self.advise.contains(Advise::FRAGMENT_PCLUSTER);
        let inline = self.advise.contains(Advise::INLINE_PCLUSTER);
        if self.inline_size != 0 && (!inline || fragment) {
            return refuse("h_idata_size", self.inline_size.into());
        }
        if self.fragment_offset != 0 && !fragment {
            return refuse("h_fragmentoff", self.fragment_offset.into());
        }
        let [low, high] = self.inline_size.to_le_bytes();
        let raw = RawMapHeader {
            word: if fragment {
                U32::new(self.fragment_offset)
            } else {
                U32::from_bytes([0, 0, low, high])
            },
            advise: U16::new(self.advise.bits()),
            algorithms: self.head1.value() | self.head2.value() << 4,
            cluster_bits: cluster_bits(self.lcluster_bits, block_bits)?,
        };
        Ok(zerocopy::transmute!(raw))
    }
}

impl ExtentsHeader {
    fn from_raw(raw: &RawMapHeader, extent_bits: u8) -> Self {
        let advise = raw.advise.get();
        let high = u64::from(u16::from_le_bytes([raw.algorithms, raw.cluster_bits]));
        let count = u64::from(raw.word.get()) | high << 32;
        let flags = Advise::from_bits_retain(advise);
        Self {
            records: match RecordSize::from_selector(advise >> RECORD_SIZE_SHIFT) {
                RecordSize::B4 => ExtentRecords::Sequential { extent_bits },
                RecordSize::B8 => ExtentRecords::Scattered { extent_bits },
                RecordSize::B16 => ExtentRecords::Listed { count },
                RecordSize::B32 => ExtentRecords::ListedWide { count },
            },
            interlaced: flags.contains(Advise::INTERLACED_PCLUSTER),
            fragment: flags.contains(Advise::FRAGMENT_PCLUSTER),
        }
    }

    fn encode(&self, block_bits: BlockBits) -> Result<[u8; 8], MapHeaderFieldError> {
        let mut flags = Advise::empty();
        flags.set(Advise::INTERLACED_PCLUSTER, self.interlaced);
        flags.set(Advise::FRAGMENT_PCLUSTER, self.fragment);
        let selector = self.records.record_size().selector() << RECORD_SIZE_SHIFT;
        let advise = (flags.bits() | selector | EXTENTS).to_le_bytes();
        let [advise_low, advise_high] = advise;
        match self.records {
            ExtentRecords::Sequential { extent_bits }
            | ExtentRecords::Scattered { extent_bits } => {
                let bits = cluster_bits(extent_bits, block_bits)?;
                Ok([0, 0, 0, 0, advise_low, advise_high, 0, bits])
            }
            ExtentRecords::Listed { count } | ExtentRecords::ListedWide { count } => {
                if count >> 47 != 0 {
                    return Err(MapHeaderFieldError {
                        field: "h_extents",
                        value: count,
                    });
                }
                let [a, b, c, d, e, f, _, _] = count.to_le_bytes();
                Ok([a, b, c, d, advise_low, advise_high, e, f])
            }
        }
    }
}

/// Largest lcluster of a compact index with this advise, as a power of two in bytes.
pub(super) fn max_compact_lcluster_bits(advise: Advise) -> u8 {
    if advise.contains(Advise::COMPACTED_2B) {
        MAX_TWO_BYTE_LCLUSTER_BITS
    } else {
        MAX_COMPACT_LCLUSTER_BITS
    }
}

fn cluster_bits(bits: u8, block_bits: BlockBits) -> Result<u8, MapHeaderFieldError> {
    bits.checked_sub(block_bits.bits())
        .filter(|difference| *difference <= CLUSTER_BITS_MASK)
        .ok_or(MapHeaderFieldError {
            field: "h_clusterbits",
            value: bits.into(),
        })
}
