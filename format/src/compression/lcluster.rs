//! What an index says of one lcluster, in either form of the index, and how extents are laid over lclusters.
//!
//! ```text
//! lclusters   |    0    |    1    |    2    |    3    |
//! extents     |<---- a ---->|<------- b ------->|
//! records      HEAD a,0  HEAD b,o  NONHEAD   PLAIN,end
//! ```
//! An extent starts at the offset that its HEAD (or PLAIN) record gives and ends where the next one starts. A file whose
//! end is not aligned ends with a PLAIN record of an empty extent, unless its last extent starts in the last lcluster.

use super::map_header::Advise;
use super::{CBLKCNT, Extent, LclusterType, MAX_DISTANCE, MAX_EXTENT_SIZE, MAX_PCLUSTER_SIZE};
use crate::address::{BlockAddr, BlockBits};

/// One decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lcluster {
    /// An extent starts in this lcluster.
    Head(Head),
    /// The whole lcluster belongs to an extent that started before.
    NonHead(NonHead),
}

/// An extent starts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// Anything but [`LclusterType::NonHead`].
    pub kind: LclusterType,
    /// Byte of this lcluster where the extent starts. Hostile images may hold more than the lcluster's size.
    pub offset: u16,
    /// First block of the pcluster.
    pub block: BlockAddr,
    /// The pcluster decodes to more than the extent (full index only).
    pub partial: bool,
    /// The extent reads as zeros and has no pcluster (full index, Linux 7.2; older kernels read `block`).
    pub hole: bool,
}

/// No extent starts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NonHead {
    /// Distance back towards the HEAD, in lclusters; saturated at [`MAX_DISTANCE`], so it may land on a NONHEAD again.
    /// Hostile images may hold 0.
    pub back: u16,
    /// Distance ahead towards the next HEAD, in lclusters; may be saturated. Some old images hold 0, which counts as 1.
    pub ahead: u16,
    /// Size of the pcluster in blocks, in the first NONHEAD behind a HEAD of a big pcluster; `back` is 1 then.
    pub blocks: Option<u16>,
}

/// Why a list of extents has no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("extent {extent}: {rule}")]
pub struct LayoutError {
    /// Which extent of the list, from 0.
    pub extent: usize,
    /// The rule that it breaks.
    pub rule: LayoutRule,
}

/// What a list of extents must obey (format reference §11.3, §12 to §14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutRule {
    /// All extents together must be the file.
    #[error("the extents end at byte {end}, the file at {size}")]
    FileSize {
        /// End of the extents in bytes; saturated.
        end: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// An extent has at least one byte.
    #[error("no bytes")]
    Empty,
    /// An extent is plain, or of the first or second algorithm.
    #[error("NONHEAD is not a kind of extent")]
    Kind,
    /// At most one extent starts in an lcluster; only the last may end in the lcluster where it starts.
    #[error("ends inside of the lcluster where it starts")]
    LclusterEnd,
    /// Only the last extent may do without blocks.
    #[error("no blocks, but not the last")]
    NoBlocks,
    /// Decoded extents are limited.
    #[error("{0} decoded bytes, at most 12 MiB are allowed")]
    ExtentSize(u64),
    /// Pclusters are limited.
    #[error("a pcluster of {0} blocks is larger than 1 MiB")]
    PclusterSize(u32),
    /// A pcluster of more than one block needs the advise bit of its kind.
    #[error("a pcluster of {0} blocks without the big-pcluster bit of its kind")]
    BigPclusterOff(u32),
    /// The size of a pcluster has 11 bits.
    #[error("a pcluster of {0} blocks, at most 2047 can be recorded")]
    SizeField(u32),
    /// A pcluster of more than one block needs a NONHEAD record that holds its size.
    #[error("a pcluster of {0} blocks, but no NONHEAD record for its size")]
    SizeRecord(u32),
    /// Plain data cannot be longer than its blocks.
    #[error("{length} plain bytes in {blocks} blocks")]
    PlainSize {
        /// Bytes.
        length: u64,
        /// Blocks.
        blocks: u32,
    },
    /// Encoded data must not be longer than decoded (refused since Linux 7.0, but at the end of the file).
    #[error("{length} decoded bytes take {blocks} blocks")]
    Expanded {
        /// Decoded bytes.
        length: u64,
        /// Blocks of the pcluster.
        blocks: u32,
    },
    /// Addresses have 32 bits; block 0 holds the superblock.
    #[error("block address {0} is not between 1 and 2^32-1")]
    Address(BlockAddr),
    /// Every value has to fit its field.
    #[error("a value does not fit its field of the index")]
    Field,
    /// The compact index has no flag for shared pclusters.
    #[error("a partial reference needs the full index")]
    Partial,
    /// The compact index holds no addresses of its own.
    #[error("starts at block {found}, the compact index needs {expected}")]
    NotConsecutive {
        /// Behind the pcluster before.
        expected: BlockAddr,
        /// As given.
        found: BlockAddr,
    },
    /// The compact index has 14 (2-byte packs: 12) bits for an offset.
    #[error("lclusters of 2^{0} bytes are too large for the compact index")]
    LclusterSize(u8),
    /// Both big-pcluster bits must be equal in a compact index.
    #[error("the big-pcluster bits differ, a compact index needs them equal")]
    BigPclusterBits,
}

/// The records of a file, in order. Ends after the first error.
#[derive(Debug)]
pub(super) struct Lclusters<'a> {
    extents: &'a [Extent],
    block_bits: BlockBits,
    advise: Advise,
    /// Extent of the current records.
    index: usize,
    /// Byte of the current lcluster where that extent starts.
    offset: u64,
    /// Records of that extent that have been given, and how many there are (0: the extent is not opened yet).
    given: u64,
    count: u64,
    /// The last extent ended in the lcluster where it started: no marker of the end.
    closed: bool,
}

impl<'a> Lclusters<'a> {
    /// Lays `extents` over lclusters of one block each.
    pub(super) fn new(
        extents: &'a [Extent],
        size: u64,
        block_bits: BlockBits,
        advise: Advise,
    ) -> Result<Self, LayoutError> {
        let end = extents
            .iter()
            .fold(0u64, |end, extent| end.saturating_add(extent.length));
        if end != size || end == u64::MAX {
            return Err(LayoutError {
                extent: extents.len().saturating_sub(1),
                rule: LayoutRule::FileSize { end, size },
            });
        }
        Ok(Self {
            extents,
            block_bits,
            advise,
            index: 0,
            offset: 0,
            given: 0,
            count: 0,
            closed: false,
        })
    }

    /// The error for a record that its form of the index cannot hold.
    pub(super) fn unstorable(&self) -> LayoutError {
        LayoutError {
            extent: self.index,
            rule: LayoutRule::Field,
        }
    }

    fn open(&mut self, extent: &Extent) -> Result<(), LayoutRule> {
        let last = self.index + 1 == self.extents.len();
        check(extent, last, self.block_bits, self.advise)?;
        // No overflow: an extent starts at or behind `offset` and ends within the file.
        self.count = self.block_bits.whole_blocks(self.offset + extent.length);
        if self.count == 0 {
            if !last {
                return Err(LayoutRule::LclusterEnd);
            }
            self.count = 1;
            self.closed = true;
        }
        if extent.blocks > 1 && self.count < 2 {
            return Err(LayoutRule::SizeRecord(extent.blocks));
        }
        Ok(())
    }

    fn record(&self, extent: &Extent) -> Lcluster {
        if self.given == 0 {
            return Lcluster::Head(Head {
                kind: extent.kind,
                offset: narrow(self.offset),
                block: extent.start,
                partial: extent.partial,
                hole: false,
            });
        }
        let sized = self.given == 1 && self.advise.contains(Advise::big_pcluster(extent.kind));
        Lcluster::NonHead(NonHead {
            back: narrow(self.given).min(MAX_DISTANCE),
            ahead: narrow(self.count - self.given),
            // An inline or fragment tail has no size, but readers that walk over it expect one.
            blocks: sized.then(|| narrow(u64::from(extent.blocks)).max(1)),
        })
    }
}

impl Iterator for Lclusters<'_> {
    type Item = Result<Lcluster, LayoutError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(extent) = self.extents.get(self.index) else {
            let marker = self.offset != 0 && !self.closed;
            self.closed = true;
            return marker.then(|| {
                Ok(Lcluster::Head(Head {
                    kind: LclusterType::Plain,
                    offset: narrow(self.offset),
                    block: BlockAddr(0),
                    partial: false,
                    hole: false,
                }))
            });
        };
        if self.count == 0
            && let Err(rule) = self.open(extent)
        {
            let error = LayoutError {
                extent: self.index,
                rule,
            };
            self.index = self.extents.len();
            self.closed = true;
            return Some(Err(error));
        }
        let record = self.record(extent);
        self.given += 1;
        if self.given == self.count {
            self.offset = self.block_bits.offset_in_block(self.offset + extent.length);
            self.index += 1;
            self.given = 0;
            self.count = 0;
        }
        Some(Ok(record))
    }
}

fn check(
    extent: &Extent,
    last: bool,
    block_bits: BlockBits,
    advise: Advise,
) -> Result<(), LayoutRule> {
    let Extent { length, blocks, .. } = *extent;
    if length == 0 {
        return Err(LayoutRule::Empty);
    }
    if !extent.kind.is_head() {
        return Err(LayoutRule::Kind);
    }
    if blocks == 0 {
        if !last {
            return Err(LayoutRule::NoBlocks);
        }
        return match u32::try_from(extent.start.0) {
            Ok(_) => Ok(()),
            Err(_) => Err(LayoutRule::Address(extent.start)),
        };
    }
    let encoded = u64::from(blocks) << block_bits.bits();
    if encoded > MAX_PCLUSTER_SIZE {
        return Err(LayoutRule::PclusterSize(blocks));
    }
    if length > MAX_EXTENT_SIZE {
        return Err(LayoutRule::ExtentSize(length));
    }
    if extent.kind == LclusterType::Plain {
        if length > encoded {
            return Err(LayoutRule::PlainSize { length, blocks });
        }
    } else if length < encoded && !last && !extent.partial {
        return Err(LayoutRule::Expanded { length, blocks });
    }
    if blocks > 1 && !advise.contains(Advise::big_pcluster(extent.kind)) {
        return Err(LayoutRule::BigPclusterOff(blocks));
    }
    if blocks >= u32::from(CBLKCNT) {
        return Err(LayoutRule::SizeField(blocks));
    }
    let end = extent.start.checked_add(u64::from(blocks) - 1);
    if extent.start.0 == 0 || end.is_none_or(|end| end.0 > u64::from(u32::MAX)) {
        return Err(LayoutRule::Address(extent.start));
    }
    Ok(())
}

/// Saturates; the values are offsets in a block or distances.
fn narrow(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
