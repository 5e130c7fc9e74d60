//! Typed addresses: what an integer from an image counts, and in which space.

use std::fmt;

/// Largest value of a 48-bit block address (`fs/erofs/erofs_fs.h`: 16 high and 32 low bits).
pub const MAX_BLOCK_ADDR: u64 = (1 << 48) - 1;

/// Block size of an image as its binary logarithm, 9 (512 bytes) to 16 (64 KiB).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockBits(u8);

/// A block size outside of what EROFS allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block size 2^{0} is not one of 512 … 65536 bytes")]
pub struct BlockBitsError(pub u32);

impl BlockBits {
    /// 512-byte blocks, used by indexes over tars.
    pub const B512: Self = Self(9);
    /// 4 KiB blocks: what every Linux machine mounts.
    pub const B4096: Self = Self(12);

    /// From the superblock's `blkszbits`.
    ///
    /// # Errors
    /// [`BlockBitsError`] unless `9 ≤ bits ≤ 16`.
    pub const fn new(bits: u8) -> Result<Self, BlockBitsError> {
        if bits >= 9 && bits <= 16 {
            Ok(Self(bits))
        } else {
            Err(BlockBitsError(bits as u32))
        }
    }

    /// From a size in bytes.
    ///
    /// # Errors
    /// [`BlockBitsError`] unless `bytes` is a power of two from 512 to 65536.
    pub fn from_bytes(bytes: u64) -> Result<Self, BlockBitsError> {
        let bits = bytes.checked_ilog2().unwrap_or(0);
        match u8::try_from(bits) {
            Ok(narrow) if bytes.is_power_of_two() => Self::new(narrow),
            _ => Err(BlockBitsError(bits)),
        }
    }

    /// Binary logarithm of the block size.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Block size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// Block size in bytes, as a length of memory.
    #[expect(clippy::len_without_is_empty, reason = "no block is empty")]
    pub const fn len(self) -> usize {
        1 << self.0
    }

    /// Offset of `position` inside its block, in bytes.
    pub const fn offset_in_block(self, position: u64) -> u64 {
        position & (self.bytes() - 1)
    }

    /// Number of whole blocks that `bytes` bytes fill completely.
    pub const fn whole_blocks(self, bytes: u64) -> u64 {
        bytes >> self.0
    }

    /// Number of blocks that hold `bytes` bytes (rounded up).
    pub const fn blocks_for(self, bytes: u64) -> u64 {
        (bytes >> self.0) + (self.offset_in_block(bytes) != 0) as u64
    }
}

impl fmt::Debug for BlockBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockBits({}: {} bytes)", self.0, self.bytes())
    }
}

/// Address of a block, counted in blocks of the image's own block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockAddr(pub u64);

impl BlockAddr {
    /// Byte position of the block's start, or `None` when it does not fit 64 bits.
    pub const fn checked_offset(self, bits: BlockBits) -> Option<ByteOffset> {
        if self.0.leading_zeros() < bits.bits() as u32 {
            return None;
        }
        Some(ByteOffset(self.0 << bits.bits()))
    }

    /// The block `blocks` further, or `None` when it does not fit 64 bits.
    pub const fn checked_add(self, blocks: u64) -> Option<Self> {
        match self.0.checked_add(blocks) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for BlockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Position in a device or image, counted in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteOffset(pub u64);

impl ByteOffset {
    /// The position `bytes` further, or `None` when it does not fit 64 bits.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The first multiple of `alignment` (a power of two, in bytes) that is not before this position, or `None` when it
    /// does not fit 64 bits.
    pub const fn checked_align_up(self, alignment: u64) -> Option<Self> {
        match self.0.checked_add(alignment - 1) {
            Some(sum) => Some(Self(sum & !(alignment - 1))),
            None => None,
        }
    }
}

impl fmt::Display for ByteOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Inode number on disk: the inode's place in the metadata area, counted in slots of 32 bytes.
///
/// Bit 63 says that the inode lives in the metabox instead (Linux 6.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nid(pub u64);

impl Nid {
    /// Size of a slot in bytes.
    pub const SLOT: u64 = 32;
    /// The bit that moves an inode into the metabox.
    pub const METABOX: u64 = 1 << 63;

    /// Whether the inode lives in the metabox inode's data.
    pub const fn in_metabox(self) -> bool {
        self.0 & Self::METABOX != 0
    }

    /// Byte offset of the inode from the start of its area (the metadata area, or the metabox inode's data), or `None`
    /// when it does not fit 64 bits.
    pub const fn offset_in_area(self) -> Option<u64> {
        (self.0 & !Self::METABOX).checked_mul(Self::SLOT)
    }

    /// The number that the kernel shows as `st_ino` (`erofs_nid_to_ino64`): the NID itself, except in images with a
    /// metabox, where bit 63 moves down to bit 31.
    pub const fn to_ino(self, metabox_image: bool) -> u64 {
        if metabox_image {
            ((self.0 << 1) & 0xFFFF_FFFF_0000_0000)
                | (self.0 & 0x7FFF_FFFF)
                | ((self.0 >> 63) << 31)
        } else {
            self.0
        }
    }
}

impl fmt::Display for Nid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_metabox() {
            write!(f, "{}@metabox", self.0 & !Self::METABOX)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Which device holds a block: 0 is the image itself, `i + 1` the device of slot `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceId(pub u16);

impl DeviceId {
    /// The image itself.
    pub const PRIMARY: Self = Self(0);

    /// The device of slot `slot` of the device table, or `None` past 65534.
    pub fn from_slot(slot: usize) -> Option<Self> {
        u16::try_from(slot).ok()?.checked_add(1).map(Self)
    }

    /// Slot of the device table, or `None` for the image itself.
    pub fn slot(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_bits_accept_512_to_64k_only() {
        for bits in 0..=255u8 {
            assert_eq!(
                BlockBits::new(bits).is_ok(),
                (9..=16).contains(&bits),
                "{bits}"
            );
        }
        assert_eq!(BlockBits::from_bytes(4096), Ok(BlockBits::B4096));
        for bytes in [0, 1, 256, 4095, 4097, 1 << 17, u64::MAX] {
            assert!(BlockBits::from_bytes(bytes).is_err(), "{bytes}");
        }
    }

    #[test]
    fn blocks_for_never_overflows() {
        assert_eq!(BlockBits::B4096.blocks_for(0), 0);
        assert_eq!(BlockBits::B4096.blocks_for(4097), 2);
        assert_eq!(BlockBits::B512.blocks_for(u64::MAX), 1 << 55);
    }

    #[test]
    fn addresses_refuse_overflow() {
        assert_eq!(
            BlockAddr(3).checked_offset(BlockBits::B4096),
            Some(ByteOffset(12288))
        );
        assert_eq!(BlockAddr(1 << 52).checked_offset(BlockBits::B4096), None);
        assert_eq!(ByteOffset(u64::MAX).checked_align_up(32), None);
        assert_eq!(Nid(u64::MAX).offset_in_area(), None);
    }

    #[test]
    fn metabox_nids_keep_their_number_in_32_bits() {
        assert_eq!(Nid(36).to_ino(false), 36);
        assert_eq!(Nid(Nid::METABOX | 36).to_ino(true), (1 << 31) | 36);
        assert_eq!(Nid(0x1_8000_0001).to_ino(true), 0x3_0000_0001);
    }
}
