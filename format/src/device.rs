//! Slots of the extra-device table (128 bytes each), and device numbers of inodes.

use crate::address::{BlockAddr, ByteOffset};
use crate::record::{self, Truncated};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of a slot in bytes; also the unit of the table's position.
pub const DEVICE_SLOT_SIZE: u64 = 128;
/// Size of a tag in bytes.
pub const TAG_SIZE: usize = 64;

/// A device slot as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawDeviceSlot {
    /// Name, digest or path, NUL-padded.
    pub tag: [u8; TAG_SIZE],
    /// Size in blocks, low 32 bits.
    pub blocks_lo: U32,
    /// First block in the unified address space, low 32 bits.
    pub uniaddr_lo: U32,
    /// Size in blocks, high 16 bits (48-bit images).
    pub blocks_hi: U16,
    /// First block in the unified address space, high 16 bits (48-bit images).
    pub uniaddr_hi: U16,
    /// Zero.
    pub reserved: [u8; 52],
}

const _: () = assert!(size_of::<RawDeviceSlot>() == 128);

/// A decoded device slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSlot {
    /// Name, digest or path, NUL-padded.
    pub tag: [u8; TAG_SIZE],
    /// Size in blocks. Some tools leave 0 here.
    pub blocks: u64,
    /// First block in the unified address space; 0 when the device has no place there.
    pub unified_start: BlockAddr,
}

impl DeviceSlot {
    /// Byte position of slot `index` of a table at `table`, or `None` past 64 bits.
    pub fn offset(table: ByteOffset, index: u16) -> Option<ByteOffset> {
        table.checked_add(u64::from(index) * DEVICE_SLOT_SIZE)
    }

    /// Decodes the slot at the start of `bytes`; `wide` in 48-bit images.
    ///
    /// # Errors
    /// [`Truncated`] with fewer than 128 bytes.
    pub fn decode(bytes: &[u8], wide: bool) -> Result<Self, Truncated> {
        let raw: RawDeviceSlot = record::read(bytes, "device slot")?;
        let high = |value: U16| {
            if wide {
                u64::from(value.get()) << 32
            } else {
                0
            }
        };
        Ok(Self {
            tag: raw.tag,
            blocks: u64::from(raw.blocks_lo.get()) | high(raw.blocks_hi),
            unified_start: BlockAddr(u64::from(raw.uniaddr_lo.get()) | high(raw.uniaddr_hi)),
        })
    }

    /// The stored form, or `None` when a value needs more than 32 bits (48 with `wide`).
    pub fn encode(&self, wide: bool) -> Option<[u8; 128]> {
        let split = |value: u64| -> Option<(U32, U16)> {
            let high = u16::try_from(value >> 32)
                .ok()
                .filter(|high| wide || *high == 0)?;
            let low = u32::try_from(value & 0xFFFF_FFFF).ok()?;
            Some((U32::new(low), U16::new(high)))
        };
        let (blocks_lo, blocks_hi) = split(self.blocks)?;
        let (uniaddr_lo, uniaddr_hi) = split(self.unified_start.0)?;
        let raw = RawDeviceSlot {
            tag: self.tag,
            blocks_lo,
            uniaddr_lo,
            blocks_hi,
            uniaddr_hi,
            reserved: [0; 52],
        };
        raw.as_bytes().try_into().ok()
    }

    /// The tag without its NUL padding.
    pub fn tag_bytes(&self) -> &[u8] {
        let length = self
            .tag
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(TAG_SIZE);
        self.tag.get(..length).unwrap_or_default()
    }
}

/// Device number of a character or block device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceNumber {
    /// Major number, 12 bits on disk.
    pub major: u32,
    /// Minor number, 20 bits on disk.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the kernel's "new" encoding (`new_decode_dev`).
    pub const fn decode(value: u32) -> Self {
        Self {
            major: (value >> 8) & 0xFFF,
            minor: (value & 0xFF) | ((value >> 12) & 0xF_FF00),
        }
    }

    /// The kernel's "new" encoding (`new_encode_dev`), or `None` when major needs more than 12 or minor more than 20 bits.
    pub const fn encode(self) -> Option<u32> {
        if self.major > 0xFFF || self.minor > 0xF_FFFF {
            return None;
        }
        Some((self.minor & 0xFF) | (self.major << 8) | ((self.minor & !0xFF) << 12))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_follow_the_reference_vector() {
        let number = DeviceNumber {
            major: 300,
            minor: 70000,
        };
        assert_eq!(number.encode(), Some(0x1111_2C70));
        assert_eq!(DeviceNumber::decode(0x1111_2C70), number);
        assert_eq!(
            DeviceNumber {
                major: 4096,
                minor: 0
            }
            .encode(),
            None
        );
        assert_eq!(
            DeviceNumber {
                major: 0,
                minor: 1 << 20
            }
            .encode(),
            None
        );
        for value in [0, 0xFF, 0xFFFF_FFFF, 0x8000_0101] {
            assert_eq!(DeviceNumber::decode(value).encode(), Some(value));
        }
    }

    #[test]
    fn slots_round_trip_and_refuse_wide_values_without_48bit() {
        let mut tag = [0; TAG_SIZE];
        tag[..3].copy_from_slice(b"abc");
        let slot = DeviceSlot {
            tag,
            blocks: 1 << 33,
            unified_start: BlockAddr(7),
        };
        assert_eq!(slot.encode(false), None);
        let bytes = slot.encode(true).unwrap();
        assert_eq!(DeviceSlot::decode(&bytes, true), Ok(slot));
        assert_eq!(DeviceSlot::decode(&bytes, false).unwrap().blocks, 0);
        assert_eq!(slot.tag_bytes(), b"abc");
        assert!(DeviceSlot::decode(&bytes[..127], true).is_err());
    }
}
