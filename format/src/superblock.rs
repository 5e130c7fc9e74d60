//! The superblock, at byte 1024 of every image.
//!
//! ```text
//!  0  magic u32        checksum u32     | 8  compat u32  blkszbits u8  extslots u8  rootnid_2b u16
//! 16  inos u64                          | 24 epoch i64
//! 32  fixed_nsec u32   blocks_lo u32    | 40 meta_blkaddr u32    xattr_blkaddr u32
//! 48  uuid 16 bytes                     | 64 volume_name 16 bytes
//! 80  incompat u32  algorithms u16  extra_devices u16 | 88 devt_slotoff u16 dirblkbits u8 prefix_count u8 prefix_start u32
//! 96  packed_nid u64                    | 104 filter_reserved u8 ishare_id u8 reserved u16 build_time u32
//! 112 rootnid_8b u64                    | 120 reserved u64
//! 128 metabox_nid u64                   | 136 reserved u64      (only with sb_extslots ≥ 1)
//! ```

use crate::address::{BlockAddr, BlockBits, BlockBitsError, ByteOffset, Nid};
use crate::checksum;
use crate::feature::{FeatureCompat, FeatureIncompat};
use crate::record::{self, Truncated};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Byte position of the superblock in every image, whatever its block size.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Magic number at the superblock's start.
pub const MAGIC: u32 = 0xE0F5_E1E2;
/// Size of the superblock without extension slots, in bytes.
pub const SUPERBLOCK_SIZE: usize = 128;
/// Size of one extension slot, in bytes.
pub const EXTENSION_SLOT_SIZE: usize = 16;

/// The superblock as stored.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
    Default,
)]
#[repr(C)]
pub struct RawSuperblock {
    /// [`MAGIC`].
    pub magic: U32,
    /// CRC-32C, see [`image_checksum`].
    pub checksum: U32,
    /// Bits of [`FeatureCompat`].
    pub feature_compat: U32,
    /// Binary logarithm of the block size.
    pub blkszbits: u8,
    /// Number of 16-byte extension slots.
    pub sb_extslots: u8,
    /// Root NID, or the high 16 bits of the block count in 48-bit images.
    pub rootnid_2b: U16,
    /// Number of inodes.
    pub inos: U64,
    /// Base of compact inodes' times, seconds since 1970.
    pub epoch: I64,
    /// Nanoseconds of every compact inode's time.
    pub fixed_nsec: U32,
    /// Blocks of the primary device, low 32 bits.
    pub blocks_lo: U32,
    /// First block of the inode area.
    pub meta_blkaddr: U32,
    /// First block of the shared xattr area.
    pub xattr_blkaddr: U32,
    /// Unique id of the image.
    pub uuid: [u8; 16],
    /// Label, NUL-padded.
    pub volume_name: [u8; 16],
    /// Bits of [`FeatureIncompat`].
    pub feature_incompat: U32,
    /// Bitmap of algorithms, or the LZ4 window without algorithm configurations.
    pub available_compr_algs: U16,
    /// Number of device slots.
    pub extra_devices: U16,
    /// Position of the device table in units of 128 bytes.
    pub devt_slotoff: U16,
    /// Directory block size relative to the block size; always 0.
    pub dirblkbits: u8,
    /// Number of long xattr prefixes.
    pub xattr_prefix_count: u8,
    /// Position of the long xattr prefixes in units of 4 bytes.
    pub xattr_prefix_start: U32,
    /// NID of the packed inode.
    pub packed_nid: U64,
    /// Non-zero switches the name filter off.
    pub xattr_filter_reserved: u8,
    /// Long prefix whose attribute names the content of a file.
    pub ishare_xattr_prefix_id: u8,
    /// Zero.
    pub reserved: U16,
    /// Seconds from `epoch` to the time of the build.
    pub build_time: U32,
    /// Root NID of 48-bit images.
    pub rootnid_8b: U64,
    /// Zero.
    pub reserved2: U64,
}

const _: () = assert!(size_of::<RawSuperblock>() == SUPERBLOCK_SIZE);

/// The extension slot of images with a metabox.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
    Default,
)]
#[repr(C)]
pub struct RawSuperblockExtension {
    /// NID of the metabox inode.
    pub metabox_nid: U64,
    /// Zero.
    pub reserved: U64,
}

const _: () = assert!(size_of::<RawSuperblockExtension>() == EXTENSION_SLOT_SIZE);

/// A superblock whose values the kernel would accept at mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Stored checksum (meaningful with [`FeatureCompat::SB_CHKSUM`]).
    pub checksum: u32,
    /// Compatible features.
    pub compat: FeatureCompat,
    /// Incompatible features.
    pub incompat: FeatureIncompat,
    /// Block size.
    pub block_bits: BlockBits,
    /// Number of 16-byte extension slots.
    pub extension_slots: u8,
    /// Root directory.
    pub root: Nid,
    /// Number of inodes (for statfs only).
    pub inodes: u64,
    /// Base of compact inodes' times, seconds since 1970.
    pub epoch: i64,
    /// Nanoseconds of every compact inode's time.
    pub fixed_nanoseconds: u32,
    /// Seconds from `epoch` to the time of the build.
    pub build_time: u32,
    /// Blocks of the primary device.
    pub blocks: u64,
    /// First block of the inode area.
    pub meta_block: BlockAddr,
    /// First block of the shared xattr area.
    pub xattr_block: BlockAddr,
    /// Unique id of the image.
    pub uuid: [u8; 16],
    /// Label, NUL-padded.
    pub label: [u8; 16],
    /// Bitmap of algorithms (with algorithm configurations), or the LZ4 window in bytes (0 = 64 KiB).
    pub algorithms_or_lz4_window: u16,
    /// Number of device slots (0 without a device table).
    pub extra_devices: u16,
    /// Position of the device table.
    pub device_table: ByteOffset,
    /// Number of long xattr prefixes.
    pub xattr_prefix_count: u8,
    /// Position of the long xattr prefixes in their container.
    pub xattr_prefix_start: ByteOffset,
    /// Packed inode, when the image has fragments in one.
    pub packed: Option<Nid>,
    /// Metabox inode.
    pub metabox: Option<Nid>,
    /// Whether name filters may be trusted (feature set, reserved byte zero).
    pub xattr_filter: bool,
    /// Long prefix whose attribute names the content of a file.
    pub inode_share_prefix: Option<u8>,
}

/// Why a superblock cannot be used. The kernel refuses each of these at mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Fewer bytes than a superblock.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Not an EROFS image.
    #[error("no EROFS magic at byte 1024: found {0:#010x}, expected 0xe0f5e1e2")]
    Magic(u32),
    /// Block size out of range.
    #[error(transparent)]
    BlockSize(#[from] BlockBitsError),
    /// Directory blocks of another size.
    #[error("dirblkbits is {0}, must be 0")]
    DirectoryBlockBits(u8),
    /// Features that no kernel up to 7.3 knows.
    #[error("unknown incompatible features {0:#x}")]
    UnknownFeatures(u32),
    /// Metabox without its extension slot.
    #[error("metabox feature without a superblock extension slot")]
    NoExtensionSlot,
    /// A special inode that would have to be looked up in the metabox before the metabox is known.
    #[error("{inode} NID {nid:#x} lies in the metabox")]
    NidInMetabox {
        /// Which inode.
        inode: &'static str,
        /// Its NID as stored.
        nid: u64,
    },
    /// `ishare_xattr_prefix_id` beyond the prefix table.
    #[error("inode-sharing prefix {id} of {count}")]
    InodeSharePrefix {
        /// Stored id.
        id: u8,
        /// Number of prefixes.
        count: u8,
    },
    /// Wrong checksum.
    #[error("superblock checksum is {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
}

impl Superblock {
    /// Decodes the superblock at the start of `bytes` (everything from byte 1024 of the image on, at least
    /// [`SUPERBLOCK_SIZE`] bytes, with the extension slots if there are any). The checksum is not verified here, see
    /// [`verify_checksum`].
    ///
    /// # Errors
    /// [`SuperblockError`] for everything that `erofs_read_superblock` (fs/erofs/super.c) refuses.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuperblockError> {
        let raw: RawSuperblock = record::read(bytes, "superblock")?;
        if raw.magic.get() != MAGIC {
            return Err(SuperblockError::Magic(raw.magic.get()));
        }
        let block_bits = BlockBits::new(raw.blkszbits)?;
        if raw.dirblkbits != 0 {
            return Err(SuperblockError::DirectoryBlockBits(raw.dirblkbits));
        }
        let incompat = FeatureIncompat::from_bits_retain(raw.feature_incompat.get());
        if !incompat.unknown().is_empty() {
            return Err(SuperblockError::UnknownFeatures(incompat.unknown().bits()));
        }
        let compat = FeatureCompat::from_bits_retain(raw.feature_compat.get());
        let bit48 = incompat.contains(FeatureIncompat::BIT48);
        let wide_root = bit48 && raw.rootnid_8b.get() != 0;
        let (root, blocks_hi) = if wide_root {
            (raw.rootnid_8b.get(), u64::from(raw.rootnid_2b.get()))
        } else {
            (u64::from(raw.rootnid_2b.get()), 0)
        };
        let metabox = if incompat.contains(FeatureIncompat::METABOX) {
            if raw.sb_extslots == 0 {
                return Err(SuperblockError::NoExtensionSlot);
            }
            let extension: RawSuperblockExtension = record::read(
                bytes.get(SUPERBLOCK_SIZE..).unwrap_or_default(),
                "superblock extension",
            )?;
            Some(outside_metabox("metabox", extension.metabox_nid.get())?)
        } else {
            None
        };
        let fragments = incompat.contains(FeatureIncompat::FRAGMENTS_OR_DEDUPE);
        let packed = if fragments && raw.packed_nid.get() != 0 {
            Some(outside_metabox("packed", raw.packed_nid.get())?)
        } else {
            None
        };
        let inode_share_prefix = if compat.contains(FeatureCompat::ISHARE_XATTRS) {
            if raw.ishare_xattr_prefix_id >= raw.xattr_prefix_count {
                return Err(SuperblockError::InodeSharePrefix {
                    id: raw.ishare_xattr_prefix_id,
                    count: raw.xattr_prefix_count,
                });
            }
            Some(raw.ishare_xattr_prefix_id)
        } else {
            None
        };
        let devices = incompat.contains(FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2);
        Ok(Self {
            checksum: raw.checksum.get(),
            compat,
            incompat,
            block_bits,
            extension_slots: raw.sb_extslots,
            root: Nid(root),
            inodes: raw.inos.get(),
            epoch: raw.epoch.get(),
            fixed_nanoseconds: raw.fixed_nsec.get(),
            build_time: raw.build_time.get(),
            blocks: u64::from(raw.blocks_lo.get()) | blocks_hi << 32,
            meta_block: BlockAddr(raw.meta_blkaddr.get().into()),
            xattr_block: BlockAddr(raw.xattr_blkaddr.get().into()),
            uuid: raw.uuid,
            label: raw.volume_name,
            algorithms_or_lz4_window: raw.available_compr_algs.get(),
            extra_devices: if devices { raw.extra_devices.get() } else { 0 },
            device_table: ByteOffset(u64::from(raw.devt_slotoff.get()) * 128),
            xattr_prefix_count: raw.xattr_prefix_count,
            xattr_prefix_start: ByteOffset(u64::from(raw.xattr_prefix_start.get()) * 4),
            packed,
            metabox,
            xattr_filter: compat.contains(FeatureCompat::XATTR_FILTER)
                && raw.xattr_filter_reserved == 0,
            inode_share_prefix,
        })
    }

    /// The stored form, followed by the extension slots. The checksum field is left as it is in `self`.
    ///
    /// Values that do not fit their fields are a mistake of the planner and are refused.
    ///
    /// # Errors
    /// [`SuperblockFieldError`] names the field.
    pub fn encode(&self) -> Result<Vec<u8>, SuperblockFieldError> {
        let wide = self.incompat.contains(FeatureIncompat::BIT48);
        let narrow = |field: &'static str, value: u64| -> Result<U32, SuperblockFieldError> {
            u32::try_from(value)
                .map(U32::new)
                .map_err(|_| SuperblockFieldError { field, value })
        };
        let narrow16 = |field: &'static str, value: u64| -> Result<U16, SuperblockFieldError> {
            u16::try_from(value)
                .map(U16::new)
                .map_err(|_| SuperblockFieldError { field, value })
        };
        // Without 48BIT the root NID has 16 bits; with it the 8-byte field is always used (0 would mean "not set").
        let (rootnid_2b, rootnid_8b) = if wide {
            (narrow16("blocks", self.blocks >> 32)?, self.root.0)
        } else {
            (narrow16("root NID", self.root.0)?, 0)
        };
        let unit = |field: &'static str, offset: ByteOffset, unit: u64| {
            if offset.0.is_multiple_of(unit) {
                Ok(offset.0 / unit)
            } else {
                Err(SuperblockFieldError {
                    field,
                    value: offset.0,
                })
            }
        };
        let raw = RawSuperblock {
            magic: U32::new(MAGIC),
            checksum: U32::new(self.checksum),
            feature_compat: U32::new(self.compat.bits()),
            blkszbits: self.block_bits.bits(),
            sb_extslots: self.extension_slots,
            rootnid_2b,
            inos: U64::new(self.inodes),
            epoch: I64::new(self.epoch),
            fixed_nsec: U32::new(self.fixed_nanoseconds),
            blocks_lo: if wide {
                U32::from_bytes(
                    (self.blocks & 0xFFFF_FFFF)
                        .to_le_bytes()
                        .first_chunk()
                        .copied()
                        .unwrap_or_default(),
                )
            } else {
                narrow("blocks", self.blocks)?
            },
            meta_blkaddr: narrow("meta_blkaddr", self.meta_block.0)?,
            xattr_blkaddr: narrow("xattr_blkaddr", self.xattr_block.0)?,
            uuid: self.uuid,
            volume_name: self.label,
            feature_incompat: U32::new(self.incompat.bits()),
            available_compr_algs: U16::new(self.algorithms_or_lz4_window),
            extra_devices: U16::new(self.extra_devices),
            devt_slotoff: narrow16(
                "devt_slotoff",
                unit("devt_slotoff", self.device_table, 128)?,
            )?,
            dirblkbits: 0,
            xattr_prefix_count: self.xattr_prefix_count,
            xattr_prefix_start: narrow(
                "xattr_prefix_start",
                unit("xattr_prefix_start", self.xattr_prefix_start, 4)?,
            )?,
            packed_nid: U64::new(self.packed.map_or(0, |nid| nid.0)),
            xattr_filter_reserved: 0,
            ishare_xattr_prefix_id: self.inode_share_prefix.unwrap_or(0),
            reserved: U16::new(0),
            build_time: U32::new(self.build_time),
            rootnid_8b: U64::new(rootnid_8b),
            reserved2: U64::new(0),
        };
        let mut bytes = raw.as_bytes().to_vec();
        if let Some(metabox) = self.metabox {
            let extension = RawSuperblockExtension {
                metabox_nid: U64::new(metabox.0),
                reserved: U64::new(0),
            };
            bytes.extend_from_slice(extension.as_bytes());
        }
        bytes.resize(self.size(), 0);
        Ok(bytes)
    }

    /// Size of the superblock with its extension slots, in bytes.
    pub fn size(&self) -> usize {
        SUPERBLOCK_SIZE + EXTENSION_SLOT_SIZE * usize::from(self.extension_slots)
    }

    /// Whether compressed inodes can exist, and their algorithms as a bitmap (bit n = algorithm n).
    pub fn algorithms(&self) -> u16 {
        if self
            .incompat
            .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
        {
            self.algorithms_or_lz4_window
        } else {
            u16::from(
                self.incompat.contains(FeatureIncompat::ZERO_PADDING)
                    || self.algorithms_or_lz4_window != 0,
            )
        }
    }
}

fn outside_metabox(inode: &'static str, nid: u64) -> Result<Nid, SuperblockError> {
    let value = Nid(nid);
    if value.in_metabox() {
        Err(SuperblockError::NidInMetabox { inode, nid })
    } else {
        Ok(value)
    }
}

/// A value that does not fit its superblock field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("superblock field {field} cannot hold {value}")]
pub struct SuperblockFieldError {
    /// Which field.
    pub field: &'static str,
    /// The value.
    pub value: u64,
}

/// Number of bytes from byte 1024 on that the checksum covers.
pub const fn checksum_length(block_bits: BlockBits) -> usize {
    if block_bits.len() > 1024 {
        block_bits.len() - 1024
    } else {
        block_bits.len()
    }
}

/// Checksum of `covered`, the [`checksum_length`] bytes from byte 1024 on; the checksum field counts as zero.
pub fn image_checksum(covered: &[u8]) -> u32 {
    let (head, rest) = covered.split_at(covered.len().min(4));
    let after_field = rest.get(4..).unwrap_or_default();
    let crc = checksum::crc32c(checksum::INITIAL, head);
    checksum::crc32c(checksum::crc32c(crc, &[0; 4]), after_field)
}

/// Compares the stored checksum with the one computed over `covered` (see [`image_checksum`]); images without the
/// feature pass.
///
/// # Errors
/// [`SuperblockError::Checksum`]; the kernel answers EBADMSG.
pub fn verify_checksum(superblock: &Superblock, covered: &[u8]) -> Result<(), SuperblockError> {
    let computed = image_checksum(covered);
    if superblock.compat.contains(FeatureCompat::SB_CHKSUM) && computed != superblock.checksum {
        return Err(SuperblockError::Checksum {
            stored: superblock.checksum,
            computed,
        });
    }
    Ok(())
}
