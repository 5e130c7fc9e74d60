//! The superblock as stored.

use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::feature::FeatureIncompat;
use erofs_format::record;
use erofs_format::superblock::{
    EXTENSION_SLOT_SIZE, RawSuperblock, RawSuperblockExtension, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE,
    checksum_length, image_checksum,
};
use erofs_format::xattr::LongPrefix;
use erofs_format::{ByteOffset, DeviceId};

/// The superblock, field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuperblockRecord {
    /// As stored at byte 1024.
    pub raw: RawSuperblock,
    /// The first extension slot, in images with a metabox.
    pub extension: Option<RawSuperblockExtension>,
    /// The checksum as it should be, whether or not the image has one.
    pub computed_checksum: u32,
    /// Number of bytes from byte 1024 on that the checksum covers.
    pub checksummed: u64,
}

impl Image {
    /// Configurations of the algorithms that the image uses.
    pub const fn algorithm_configs(&self) -> &AlgorithmConfigs {
        self.configs()
    }

    /// The long xattr prefixes of the image.
    pub fn long_xattr_prefixes(&self) -> &[LongPrefix] {
        self.xattr_prefixes()
    }

    /// The packed inode, which holds fragments.
    pub const fn packed_inode(&self) -> Option<&Inode> {
        self.packed()
    }

    /// The metabox inode, which holds inodes.
    pub const fn metabox_inode(&self) -> Option<&Inode> {
        self.metabox()
    }

    /// Size in bytes of a device's source; 0 for a device without a source of its own.
    pub fn device_size(&self, device: DeviceId) -> u64 {
        self.devices().size(device)
    }

    /// The superblock as stored.
    ///
    /// # Errors
    /// I/O errors.
    pub fn superblock_record(&self) -> Result<SuperblockRecord, Error> {
        let superblock = self.superblock();
        let truncated = |_| Error::Corrupt {
            rule: Rule::Overflow,
            nid: None,
            offset: ByteOffset(SUPERBLOCK_OFFSET),
        };
        let covered = checksum_length(superblock.block_bits);
        let longest = covered.max(SUPERBLOCK_SIZE + EXTENSION_SLOT_SIZE);
        // What lies behind the end of the image counts as zeros, as when it was opened.
        let mut bytes = vec![0; longest];
        let offset = ByteOffset(SUPERBLOCK_OFFSET);
        self.devices()
            .read_up_to(DeviceId::PRIMARY, offset, &mut bytes)?;
        let raw = record::read(&bytes, "superblock").map_err(truncated)?;
        let extension = if superblock.incompat.contains(FeatureIncompat::METABOX) {
            let behind = bytes.get(SUPERBLOCK_SIZE..).unwrap_or_default();
            Some(record::read(behind, "superblock extension").map_err(truncated)?)
        } else {
            None
        };
        Ok(SuperblockRecord {
            raw,
            extension,
            computed_checksum: image_checksum(bytes.get(..covered).unwrap_or_default()),
            checksummed: covered as u64,
        })
    }
}
