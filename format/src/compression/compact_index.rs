//! The compact lcluster index (layout 3): packs of 2 or 16 records and one block address.
//!
//! ```text
//! 4B pack   8 bytes   record 0 .. 1,  16 bits each | base u32
//! 2B pack  32 bytes   record 0 .. 15, 14 bits each | base u32
//! record              value (low bits), type (2 bits); records form one stream of bits, the lowest first
//!          HEAD, PLAIN  value = offset
//!          NONHEAD      value = 0x800 | size in blocks (first behind a HEAD of a big pcluster)
//!                             = distance ahead (last of its pack), else distance back
//! index     | 4B packs up to a multiple of 32 bytes | 2B packs | 4B packs |
//! ```
//! It starts 8 bytes behind the map header's start. Block addresses are counted up from the pack's base, so all pclusters
//! of a file follow each other. Since Linux 5.3; big pclusters since 5.13; blocks of 16 KiB read right since 6.5.

use super::lcluster::{Head, LayoutError, LayoutRule, Lcluster, Lclusters, NonHead};
use super::map_header::{Advise, MAP_HEADER_SIZE, max_compact_lcluster_bits};
use super::{CBLKCNT, Extent, LclusterType, MAX_DISTANCE};
use crate::address::{BlockAddr, BlockBits, ByteOffset};
use crate::record::Truncated;

const BASE_SIZE: usize = 4;
/// Records of the largest pack.
const MAX_RECORDS: usize = 16;
/// Fewest bits of a value: distances and sizes need 12.
const MIN_VALUE_BITS: u8 = 12;

/// The two kinds of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackKind {
    /// 2 records in 8 bytes.
    FourByte,
    /// 16 records in 32 bytes.
    TwoByte,
}

impl PackKind {
    /// Number of records.
    pub const fn records(self) -> usize {
        match self {
            Self::FourByte => 2,
            Self::TwoByte => MAX_RECORDS,
        }
    }

    /// Size in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::FourByte => 8,
            Self::TwoByte => 32,
        }
    }

    const fn record_bits(self) -> usize {
        match self {
            Self::FourByte => 16,
            Self::TwoByte => 14,
        }
    }
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackPosition {
    /// First byte of its pack, relative to the first pack.
    pub offset: u64,
    /// Kind of its pack.
    pub kind: PackKind,
    /// Number of the record in its pack.
    pub record: usize,
}

/// How the records of an index are split into packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    total: u64,
    /// Records in 4B packs before the 2B packs.
    initial: u64,
    /// Records in 2B packs.
    two_byte: u64,
}

impl Layout {
    /// The split of `total` records whose first pack is at `position` (a multiple of 8 bytes, see [`position`]);
    /// `two_byte` is [`Advise::COMPACTED_2B`].
    pub const fn new(position: ByteOffset, total: u64, two_byte: bool) -> Self {
        let initial = (32 - position.0 % 32) / 8 * 2 % 8;
        if two_byte && initial < total {
            Self {
                total,
                initial,
                two_byte: (total - initial) / 16 * 16,
            }
        } else {
            Self {
                total,
                initial: 0,
                two_byte: 0,
            }
        }
    }

    /// Number of records.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Size of the index in bytes, saturated; an inlined tail follows.
    pub const fn size(&self) -> u64 {
        let rest = self.total - self.initial - self.two_byte;
        self.initial
            .saturating_mul(4)
            .saturating_add(self.two_byte.saturating_mul(2))
            .saturating_add(rest.div_ceil(2).saturating_mul(8))
    }

    /// Where record `lcluster` is, or `None` past the last one or past 64 bits.
    pub fn position(&self, lcluster: u64) -> Option<PackPosition> {
        if lcluster >= self.total {
            return None;
        }
        let (before, kind, number) = if lcluster < self.initial {
            (0, PackKind::FourByte, lcluster)
        } else if lcluster - self.initial < self.two_byte {
            (self.initial * 4, PackKind::TwoByte, lcluster - self.initial)
        } else {
            let packs = self.initial * 4 + self.two_byte.checked_mul(2)?;
            let number = lcluster - self.initial - self.two_byte;
            (packs, PackKind::FourByte, number)
        };
        let records = kind.records() as u64;
        Some(PackPosition {
            offset: (number / records)
                .checked_mul(kind.size() as u64)?
                .checked_add(before)?,
            kind,
            record: usize::try_from(number % records).ok()?,
        })
    }

    /// Decodes the record at `at` from `pack`, the bytes from its pack's first on.
    ///
    /// # Errors
    /// [`CompactIndexError`].
    pub fn record(
        &self,
        at: PackPosition,
        pack: &[u8],
        lcluster_bits: u8,
        big_pcluster: bool,
    ) -> Result<Lcluster, CompactIndexError> {
        Pack::new(pack, at.kind, lcluster_bits)?.record(at.record, big_pcluster)
    }
}

/// Position of the first pack of the index whose map header is at `map_header`; `None` past 64 bits.
pub const fn position(map_header: ByteOffset) -> Option<ByteOffset> {
    map_header.checked_add(MAP_HEADER_SIZE)
}

/// Why a record of a compact index cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompactIndexError {
    /// The image ends inside the pack.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// No such record in the pack.
    #[error("record {0} of a pack")]
    Record(usize),
    /// Values too large for the records of the pack.
    #[error("lclusters of 2^{0} bytes are too large for this pack")]
    LclusterSize(u8),
    /// A size where no pcluster has one.
    #[error("record {0} of a pack holds a pcluster size without the big-pcluster bits")]
    UnexpectedSize(usize),
    /// A first NONHEAD without a size.
    #[error("record {0} of a pack holds distance {1} where big pclusters have their size")]
    MissingSize(usize, u16),
}

/// A pack, whose records are unpacked when they are asked for.
struct Pack<'a> {
    /// Records and behind them the base.
    bytes: &'a [u8],
    kind: PackKind,
    value_bits: u8,
    base: u32,
}

impl<'a> Pack<'a> {
    fn new(bytes: &'a [u8], kind: PackKind, lcluster_bits: u8) -> Result<Self, CompactIndexError> {
        let value_bits = value_bits(kind, lcluster_bits)
            .ok_or(CompactIndexError::LclusterSize(lcluster_bits))?;
        let truncated = || Truncated {
            record: "compact index pack",
            needed: kind.size(),
            available: bytes.len(),
        };
        let pack = bytes.get(..kind.size()).ok_or_else(truncated)?;
        let base = pack.last_chunk::<BASE_SIZE>().ok_or_else(truncated)?;
        Ok(Self {
            bytes: pack,
            kind,
            value_bits,
            base: u32::from_le_bytes(*base),
        })
    }

    const fn count(&self) -> usize {
        self.kind.records()
    }

    /// Value and type of a record.
    fn get(&self, index: usize) -> Option<(u16, LclusterType)> {
        if index >= self.count() {
            return None;
        }
        let bit = index * self.kind.record_bits();
        // The base lies behind the last record, so there are four bytes at each.
        let word = self.bytes.get(bit / 8..)?.first_chunk()?;
        let word = u32::from_le_bytes(*word) >> (bit % 8);
        let [low, high, ..] = word.to_le_bytes();
        let word = u16::from_le_bytes([low, high]);
        Some((
            word & ((1 << self.value_bits) - 1),
            LclusterType::from_bits(word >> self.value_bits),
        ))
    }

    /// As `z_erofs_load_compact_lcluster` (fs/erofs/zmap.c) does.
    fn record(&self, index: usize, big_pcluster: bool) -> Result<Lcluster, CompactIndexError> {
        let (value, kind) = self.get(index).ok_or(CompactIndexError::Record(index))?;
        if kind.is_head() {
            return Ok(Lcluster::Head(Head {
                kind,
                offset: value,
                block: self.address(index, big_pcluster)?,
                partial: false,
                hole: false,
            }));
        }
        let ahead = self.ahead(index);
        if value & CBLKCNT != 0 {
            if !big_pcluster {
                return Err(CompactIndexError::UnexpectedSize(index));
            }
            return Ok(Lcluster::NonHead(NonHead {
                back: 1,
                ahead,
                blocks: Some(value & MAX_DISTANCE),
            }));
        }
        let back = if index + 1 < self.count() {
            value
        } else {
            // The last record holds the distance ahead; the one before tells the distance back.
            match index.checked_sub(1).and_then(|before| self.get(before)) {
                Some((before, LclusterType::NonHead)) if before & CBLKCNT != 0 => 2,
                Some((before, LclusterType::NonHead)) => before + 1,
                _ => 1,
            }
        };
        Ok(Lcluster::NonHead(NonHead {
            back,
            ahead,
            blocks: None,
        }))
    }

    fn ahead(&self, index: usize) -> u16 {
        let mut distance = 0u16;
        let mut last = 0;
        for (value, kind) in (index..self.count()).map_while(|index| self.get(index)) {
            if kind.is_head() {
                return distance;
            }
            distance += 1;
            last = value;
        }
        if last & CBLKCNT != 0 {
            distance
        } else {
            distance.saturating_add(last).saturating_sub(1)
        }
    }

    /// Block address of the HEAD at `index`: base plus what the records before it take.
    fn address(&self, index: usize, big_pcluster: bool) -> Result<BlockAddr, CompactIndexError> {
        let mut blocks = u64::from(!big_pcluster);
        let mut behind = index;
        while let Some(current) = behind.checked_sub(1) {
            let (value, kind) = self
                .get(current)
                .ok_or(CompactIndexError::Record(current))?;
            let distance = usize::from(value);
            behind = if kind.is_head() {
                blocks += 1;
                current
            } else if !big_pcluster {
                // A HEAD before this pack is counted in the base.
                blocks += u64::from(distance <= current);
                current.saturating_sub(distance)
            } else if value & CBLKCNT != 0 {
                blocks += u64::from(value & MAX_DISTANCE);
                current.saturating_sub(1)
            } else if distance <= 1 {
                return Err(CompactIndexError::MissingSize(current, value));
            } else {
                (current + 2).saturating_sub(distance)
            };
        }
        Ok(BlockAddr(u64::from(self.base) + blocks))
    }
}

/// Bits of a value, or `None` when value and type do not fit a record.
fn value_bits(kind: PackKind, lcluster_bits: u8) -> Option<u8> {
    let bits = lcluster_bits.max(MIN_VALUE_BITS);
    (usize::from(bits) + 2 <= kind.record_bits()).then_some(bits)
}

/// The index of a file of `size` bytes whose data is `extents`, with lclusters of one block and the first pack at
/// `position` (see [`position`]).
///
/// Of `advise` count [`Advise::COMPACTED_2B`] and the big-pcluster bits, which must be equal.
///
/// # Errors
/// [`LayoutError`] names the first extent that this form of the index cannot hold, and why; the full index may hold it.
pub fn encode_index(
    extents: &[Extent],
    size: u64,
    block_bits: BlockBits,
    advise: Advise,
    position: ByteOffset,
) -> Result<Vec<u8>, LayoutError> {
    let big_pcluster = check(extents, block_bits, advise)?;
    let total = block_bits.blocks_for(size);
    let layout = Layout::new(position, total, advise.contains(Advise::COMPACTED_2B));
    let mut lclusters = Lclusters::new(extents, size, block_bits, advise)?;
    let mut addresses = Addresses::new(extents, big_pcluster);
    let mut out = Vec::new();
    let mut pack = Vec::with_capacity(MAX_RECORDS);
    let mut lcluster = 0;
    while let Some(at) = layout.position(lcluster) {
        pack.clear();
        for _ in 0..at.kind.records() {
            let Some(record) = lclusters.next() else {
                break;
            };
            pack.push(record?);
        }
        let base = addresses.base(&pack);
        encode_pack(&pack, at.kind, block_bits, base, &mut out)
            .ok_or_else(|| lclusters.unstorable())?;
        lcluster += at.kind.records() as u64;
    }
    Ok(out)
}

/// What a compact index asks for beyond [`Lclusters`]; tells whether pclusters are big.
fn check(extents: &[Extent], block_bits: BlockBits, advise: Advise) -> Result<bool, LayoutError> {
    let fail = |extent, rule| Err(LayoutError { extent, rule });
    if block_bits.bits() > max_compact_lcluster_bits(advise) {
        return fail(0, LayoutRule::LclusterSize(block_bits.bits()));
    }
    let big = advise.intersection(Advise::BIG_PCLUSTERS);
    if !big.is_empty() && big != Advise::BIG_PCLUSTERS {
        return fail(0, LayoutRule::BigPclusterBits);
    }
    let mut expected = None;
    for (index, extent) in extents.iter().enumerate() {
        if extent.partial {
            return fail(index, LayoutRule::Partial);
        }
        let found = extent.start;
        if extent.blocks == 0 {
            continue;
        }
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return fail(index, LayoutRule::NotConsecutive { expected, found });
        }
        expected = found.checked_add(extent.blocks.into());
    }
    Ok(!big.is_empty())
}

/// Keeps track of where the pclusters before a pack end.
struct Addresses {
    big_pcluster: bool,
    /// Pcluster of the last HEAD.
    current: u64,
    /// Block behind it.
    next: u64,
}

impl Addresses {
    fn new(extents: &[Extent], big_pcluster: bool) -> Self {
        let start = extents.first().map_or(0, |extent| extent.start.0);
        Self {
            big_pcluster,
            current: start,
            next: start,
        }
    }

    /// Base of the next pack, whose records are `pack`.
    fn base(&mut self, pack: &[Lcluster]) -> u64 {
        let base = match pack.first() {
            // Readers count a HEAD's own block too.
            _ if !self.big_pcluster => self.next.saturating_sub(1),
            // The HEAD of this size stands in the pack before.
            Some(Lcluster::NonHead(NonHead {
                blocks: Some(_), ..
            })) => self.current,
            _ => self.next,
        };
        for lcluster in pack {
            match lcluster {
                Lcluster::Head(head) => {
                    self.current = head.block.0;
                    self.next = self.current.saturating_add(1);
                }
                Lcluster::NonHead(NonHead {
                    blocks: Some(blocks),
                    ..
                }) => self.next = self.current.saturating_add(u64::from(*blocks)),
                Lcluster::NonHead(_) => {}
            }
        }
        base
    }
}

fn encode_pack(
    pack: &[Lcluster],
    kind: PackKind,
    block_bits: BlockBits,
    base: u64,
    out: &mut Vec<u8>,
) -> Option<()> {
    let value_bits = value_bits(kind, block_bits.bits())?;
    let last = kind.records() - 1;
    // 16 records of 14 bits fill 28 bytes; 2 of 16 bits the first 4.
    let (mut low, mut high) = (0u128, 0u128);
    for (index, lcluster) in pack.iter().enumerate() {
        let (value, record_kind) = match lcluster {
            Lcluster::Head(head) => (head.offset, head.kind),
            Lcluster::NonHead(record) => {
                let value = match record.blocks {
                    Some(blocks) if blocks <= MAX_DISTANCE => CBLKCNT | blocks,
                    Some(_) => return None,
                    None if index == last => record.ahead.min(MAX_DISTANCE),
                    None => record.back.min(MAX_DISTANCE),
                };
                (value, LclusterType::NonHead)
            }
        };
        if value >> value_bits != 0 {
            return None;
        }
        let bits = u128::from(value) | u128::from(record_kind.value()) << value_bits;
        // Eight records of 14 bits fill the first 14 bytes exactly.
        if index < MAX_RECORDS / 2 {
            low |= bits << (index * kind.record_bits());
        } else {
            high |= bits << ((index - MAX_RECORDS / 2) * kind.record_bits());
        }
    }
    let half = (kind.size() - BASE_SIZE).min(14);
    out.extend_from_slice(low.to_le_bytes().get(..half)?);
    if kind == PackKind::TwoByte {
        out.extend_from_slice(high.to_le_bytes().get(..half)?);
    }
    out.extend_from_slice(&u32::try_from(base).ok()?.to_le_bytes());
    Some(())
}
