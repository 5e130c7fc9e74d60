//! Chunk-based files: a table of block numbers or of (device, block) pairs behind the inode.
//!
//! The table starts at the end of inode and xattrs, aligned to the size of an entry (4 or 8 bytes).

use crate::address::{BlockAddr, BlockBits, DeviceId};
use crate::record::{self, Truncated};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const BITS_MASK: u16 = 0x1F;
const INDEXES: u16 = 0x20;
const WIDE: u16 = 0x40;
const HOLE_32: u32 = u32::MAX;

/// Chunk format of an inode (`i_u`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkFormat {
    /// Chunk size as a power of two in blocks, 0 to 31.
    pub block_shift: u8,
    /// Entries are 8-byte indexes with a device id, else 4-byte block numbers.
    pub indexes: bool,
    /// Indexes hold 48-bit block addresses.
    pub wide: bool,
}

/// Unknown bits in a chunk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chunk format {0:#06x} has unknown bits")]
pub struct ChunkFormatError(pub u16);

impl ChunkFormat {
    /// From the inode's field.
    ///
    /// # Errors
    /// [`ChunkFormatError`] for unknown bits (the kernel answers EOPNOTSUPP).
    pub fn decode(value: u16) -> Result<Self, ChunkFormatError> {
        if value & !(BITS_MASK | INDEXES | WIDE) != 0 {
            return Err(ChunkFormatError(value));
        }
        let [low, _] = (value & BITS_MASK).to_le_bytes();
        Ok(Self {
            block_shift: low,
            indexes: value & INDEXES != 0,
            wide: value & WIDE != 0,
        })
    }

    /// The inode's field.
    pub fn encode(self) -> u16 {
        u16::from(self.block_shift) & BITS_MASK
            | if self.indexes { INDEXES } else { 0 }
            | if self.wide { WIDE } else { 0 }
    }

    /// Binary logarithm of the chunk size in bytes.
    pub fn chunk_bits(self, block_bits: BlockBits) -> u8 {
        block_bits.bits() + self.block_shift
    }

    /// Size of an entry in bytes, also the alignment of the table.
    pub const fn entry_size(self) -> u64 {
        if self.indexes { 8 } else { 4 }
    }

    /// Number of chunks of a file of `size` bytes.
    pub fn chunk_count(self, size: u64, block_bits: BlockBits) -> u64 {
        let bits = self.chunk_bits(block_bits);
        (size >> bits) + u64::from(size & ((1 << bits) - 1) != 0)
    }

    /// Decodes the entry at the start of `bytes`.
    ///
    /// # Errors
    /// [`Truncated`] with fewer than [`Self::entry_size`] bytes.
    pub fn decode_entry(self, bytes: &[u8]) -> Result<Chunk, Truncated> {
        if !self.indexes {
            let block: U32 = record::read(bytes, "chunk map entry")?;
            return Ok(if block.get() == HOLE_32 {
                Chunk::Hole
            } else {
                Chunk::Data {
                    device: DeviceId::PRIMARY,
                    block: BlockAddr(block.get().into()),
                }
            });
        }
        let raw: RawChunkIndex = record::read(bytes, "chunk index entry")?;
        let low = raw.startblk_lo.get();
        let high = raw.startblk_hi.get();
        let hole = low == HOLE_32 && (!self.wide || high == u16::MAX);
        Ok(if hole {
            Chunk::Hole
        } else {
            let high_bits = if self.wide { u64::from(high) << 32 } else { 0 };
            Chunk::Data {
                device: DeviceId(raw.device_id.get()),
                block: BlockAddr(u64::from(low) | high_bits),
            }
        })
    }

    /// Appends the stored form of an entry; `None` when the format cannot hold its device or address.
    pub fn encode_entry(self, chunk: Chunk, out: &mut Vec<u8>) -> Option<()> {
        let (device, address) = match chunk {
            Chunk::Hole => (
                DeviceId::PRIMARY,
                if self.wide {
                    (1 << 48) - 1
                } else {
                    u64::from(HOLE_32)
                },
            ),
            Chunk::Data { device, block } => (device, block.0),
        };
        let low = u32::try_from(address & 0xFFFF_FFFF).ok()?;
        let high = u16::try_from(address >> 32)
            .ok()
            .filter(|high| self.wide || *high == 0)?;
        let is_hole_value = low == HOLE_32 && (!self.wide || high == u16::MAX);
        if is_hole_value && chunk != Chunk::Hole {
            return None;
        }
        if self.indexes {
            let raw = RawChunkIndex {
                startblk_hi: U16::new(high),
                device_id: U16::new(device.0),
                startblk_lo: U32::new(low),
            };
            out.extend_from_slice(raw.as_bytes());
        } else if device == DeviceId::PRIMARY {
            out.extend_from_slice(&low.to_le_bytes());
        } else {
            return None;
        }
        Some(())
    }
}

/// An index entry as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawChunkIndex {
    /// High 16 bits of the block (48-bit format), else 0.
    pub startblk_hi: U16,
    /// Device id.
    pub device_id: U16,
    /// Low 32 bits of the block.
    pub startblk_lo: U32,
}

const _: () = assert!(size_of::<RawChunkIndex>() == 8);

/// Where a chunk's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chunk {
    /// Nowhere: it reads as zeros.
    Hole,
    /// Consecutive blocks.
    Data {
        /// Which device (the kernel masks the id before use, see [`mask_device`]).
        device: DeviceId,
        /// First block; for the primary device a unified address.
        block: BlockAddr,
    },
}

/// The device id that the kernel really uses: `device_id_mask` of fs/erofs/super.c.
pub fn mask_device(device: DeviceId, extra_devices: u16) -> DeviceId {
    let mask = (u32::from(extra_devices) + 1).next_power_of_two() - 1;
    DeviceId(u16::try_from(u32::from(device.0) & mask).unwrap_or(device.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: ChunkFormat = ChunkFormat {
        block_shift: 0,
        indexes: false,
        wide: false,
    };
    const INDEX: ChunkFormat = ChunkFormat {
        block_shift: 4,
        indexes: true,
        wide: false,
    };
    const WIDE_INDEX: ChunkFormat = ChunkFormat {
        block_shift: 31,
        indexes: true,
        wide: true,
    };

    #[test]
    fn formats_round_trip_and_refuse_unknown_bits() {
        for value in 0..=u16::MAX {
            match ChunkFormat::decode(value) {
                Ok(format) => assert_eq!(format.encode(), value),
                Err(ChunkFormatError(bad)) => assert!(bad == value && value & !0x7F != 0),
            }
        }
    }

    #[test]
    fn entries_round_trip() {
        let data = |device, block| Chunk::Data {
            device: DeviceId(device),
            block: BlockAddr(block),
        };
        for (format, chunk, fits) in [
            (MAP, Chunk::Hole, true),
            (MAP, data(0, 7), true),
            (MAP, data(1, 7), false),
            (MAP, data(0, 0xFFFF_FFFF), false),
            (INDEX, Chunk::Hole, true),
            (INDEX, data(3, 0xFFFF_FFFE), true),
            (INDEX, data(3, 1 << 32), false),
            (WIDE_INDEX, Chunk::Hole, true),
            (WIDE_INDEX, data(9, 0xFFFF_FFFF), true),
            (WIDE_INDEX, data(9, (1 << 48) - 1), false),
        ] {
            let mut bytes = Vec::new();
            assert_eq!(
                format.encode_entry(chunk, &mut bytes).is_some(),
                fits,
                "{format:?} {chunk:?}"
            );
            if fits {
                assert_eq!(format.decode_entry(&bytes), Ok(chunk));
                assert_eq!(bytes.len() as u64, format.entry_size());
                assert!(format.decode_entry(&bytes[1..]).is_err());
            }
        }
    }

    #[test]
    fn chunk_count_covers_huge_sizes() {
        assert_eq!(MAP.chunk_count(0, BlockBits::B4096), 0);
        assert_eq!(MAP.chunk_count(4097, BlockBits::B4096), 2);
        assert_eq!(
            WIDE_INDEX.chunk_count(i64::MAX as u64, BlockBits::B4096),
            1 << 20
        );
    }

    #[test]
    fn device_ids_are_masked_like_the_kernel() {
        assert_eq!(mask_device(DeviceId(3), 1), DeviceId(1));
        assert_eq!(mask_device(DeviceId(2), 1), DeviceId(0));
        assert_eq!(mask_device(DeviceId(3), 2), DeviceId(3));
        assert_eq!(mask_device(DeviceId(5), 0), DeviceId(0));
        assert_eq!(mask_device(DeviceId(65535), 65535), DeviceId(65535));
    }
}
