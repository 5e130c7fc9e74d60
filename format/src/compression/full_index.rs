//! The full lcluster index (layout 1 without encoded extents): 8 bytes for each lcluster.
//!
//! ```text
//! HEAD, PLAIN  0 type (bits 0-1), HOLE (bit 14), PARTIAL_REF (bit 15) u16 | 2 offset u16 | 4 block address u32
//! NONHEAD      0 type u16                                                 | 2 zero u16   | 4 delta0 u16  delta1 u16
//! ```
//! It starts 16 bytes behind the map header's start; the record of byte `n` is number `n / lcluster size`. Every kernel;
//! PARTIAL_REF since Linux 6.1, HOLE since 7.2.

use super::lcluster::{Head, LayoutError, Lcluster, Lclusters, NonHead};
use super::map_header::Advise;
use super::{CBLKCNT, Extent, LclusterType};
use crate::address::{BlockAddr, BlockBits, ByteOffset};
use crate::record::{self, Truncated};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of a record in bytes.
pub const RECORD_SIZE: u64 = 8;
/// Distance from the map header to the first record in bytes; what lies between is zero.
pub const INDEX_OFFSET: u64 = 16;

const HOLE: u16 = 1 << 14;
const PARTIAL_REF: u16 = 1 << 15;

/// A record as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawRecord {
    /// Type and flags.
    pub advise: U16,
    /// Where the extent starts in its lcluster.
    pub clusterofs: U16,
    /// Block address, or the two distances.
    pub u: U32,
}

const _: () = assert!(size_of::<RawRecord>() == 8);

/// Position of record `lcluster` of the index whose map header is at `map_header`; `None` past 64 bits.
pub fn position(map_header: ByteOffset, lcluster: u64) -> Option<ByteOffset> {
    map_header
        .checked_add(INDEX_OFFSET)?
        .checked_add(lcluster.checked_mul(RECORD_SIZE)?)
}

/// Decodes the record at the start of `bytes`.
///
/// # Errors
/// [`Truncated`] with fewer than 8 bytes.
pub fn decode(bytes: &[u8]) -> Result<Lcluster, Truncated> {
    let raw: RawRecord = record::read(bytes, "lcluster record")?;
    let advise = raw.advise.get();
    let kind = LclusterType::from_bits(advise);
    if kind.is_head() {
        return Ok(Lcluster::Head(Head {
            kind,
            offset: raw.clusterofs.get(),
            block: BlockAddr(raw.u.get().into()),
            partial: advise & PARTIAL_REF != 0,
            hole: advise & HOLE != 0,
        }));
    }
    let [a, b, c, d] = raw.u.to_bytes();
    let delta0 = u16::from_le_bytes([a, b]);
    let sized = delta0 & CBLKCNT != 0;
    Ok(Lcluster::NonHead(NonHead {
        back: if sized { 1 } else { delta0 },
        ahead: u16::from_le_bytes([c, d]),
        blocks: sized.then_some(delta0 & !CBLKCNT),
    }))
}

/// The stored form, or `None` when the block address needs more than 32 bits or a NONHEAD's values more than 11.
pub fn encode(lcluster: Lcluster) -> Option<[u8; 8]> {
    let raw = match lcluster {
        Lcluster::Head(head) => RawRecord {
            advise: U16::new(
                head.kind.value()
                    | if head.hole { HOLE } else { 0 }
                    | if head.partial { PARTIAL_REF } else { 0 },
            ),
            clusterofs: U16::new(head.offset),
            u: U32::new(u32::try_from(head.block.0).ok()?),
        },
        Lcluster::NonHead(NonHead {
            back,
            ahead,
            blocks,
        }) => {
            let value = blocks.unwrap_or(back);
            if value >= CBLKCNT {
                return None;
            }
            let [a, b] = (value | if blocks.is_some() { CBLKCNT } else { 0 }).to_le_bytes();
            let [c, d] = ahead.to_le_bytes();
            RawRecord {
                advise: U16::new(LclusterType::NonHead.value()),
                clusterofs: U16::new(0),
                u: U32::from_bytes([a, b, c, d]),
            }
        }
    };
    Some(zerocopy::transmute!(raw))
}

/// The index of a file of `size` bytes whose data is `extents`, with lclusters of one block.
///
/// Of `advise` only the big-pcluster bits count: which kinds of extents may have, and then always record, a size.
///
/// # Errors
/// [`LayoutError`] names the first extent that an index cannot hold, and why.
pub fn encode_index(
    extents: &[Extent],
    size: u64,
    block_bits: BlockBits,
    advise: Advise,
) -> Result<Vec<u8>, LayoutError> {
    let mut out = Vec::new();
    let mut lclusters = Lclusters::new(extents, size, block_bits, advise)?;
    while let Some(lcluster) = lclusters.next() {
        let stored = encode(lcluster?).ok_or_else(|| lclusters.unstorable())?;
        out.extend_from_slice(&stored);
    }
    Ok(out)
}
