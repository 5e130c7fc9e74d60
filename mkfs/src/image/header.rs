//! What stands in front of the data.

use super::ImageError;
use crate::plan::long_prefix;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::superblock::{EXTENSION_SLOT_SIZE, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE};
use erofs_format::xattr::LongPrefix;
use erofs_format::{BlockAddr, BlockBits, ByteOffset};

/// What stands in front of the data: superblock, configurations, device table.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Codecs in use.
    pub configs: AlgorithmConfigs,
    /// Number of extra devices.
    pub devices: usize,
    /// Whether the superblock tells of a metabox, which takes an extension slot.
    pub metabox: bool,
    /// Prefixes of names of attributes, in the order of their numbers.
    pub prefixes: Vec<LongPrefix>,
}

impl Header {
    pub(super) fn device_table(&self, block_bits: BlockBits) -> Result<ByteOffset, ImageError> {
        let configs = self.configs.encode(block_bits)?.len() as u64;
        let superblock_end = SUPERBLOCK_OFFSET + self.superblock_size();
        Ok(ByteOffset(
            (superblock_end + configs).next_multiple_of(erofs_format::device::DEVICE_SLOT_SIZE),
        ))
    }

    /// Number of the prefix that is the name of fingerprints.
    pub(crate) fn fingerprint_prefix(&self, name: Option<&LongPrefix>) -> Option<u8> {
        let number = self
            .prefixes
            .iter()
            .rposition(|prefix| Some(prefix) == name)?;
        u8::try_from(number).ok()
    }

    /// Extension slots of the superblock.
    pub(crate) fn extension_slots(&self) -> u8 {
        u8::from(self.metabox)
    }

    fn superblock_size(&self) -> u64 {
        (SUPERBLOCK_SIZE + EXTENSION_SLOT_SIZE * usize::from(self.extension_slots())) as u64
    }

    /// The first block behind it.
    ///
    /// # Errors
    /// [`ImageError::Config`].
    pub fn end(&self, block_bits: BlockBits) -> Result<BlockAddr, ImageError> {
        Ok(BlockAddr(
            block_bits.blocks_for(self.end_in_bytes(block_bits)?),
        ))
    }

    /// The first byte behind it.
    ///
    /// # Errors
    /// [`ImageError::Config`].
    pub fn end_in_bytes(&self, block_bits: BlockBits) -> Result<u64, ImageError> {
        let prefixes: u64 = self.prefixes.iter().map(long_prefix::stored_size).sum();
        Ok(self.prefix_table(block_bits)?.0 + prefixes)
    }

    pub(super) fn prefix_table(&self, block_bits: BlockBits) -> Result<ByteOffset, ImageError> {
        let table = self.device_table(block_bits)?.0;
        let devices = self.devices as u64 * erofs_format::device::DEVICE_SLOT_SIZE;
        Ok(ByteOffset(table + devices))
    }
}
