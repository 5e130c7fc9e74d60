//! What stands in front of the data.

use super::ImageError;
use crate::plan::long_prefix;
use erofs_format::compression::config::AlgorithmConfigs;
use erofs_format::superblock::SUPERBLOCK_OFFSET;
use erofs_format::xattr::LongPrefix;
use erofs_format::{BlockAddr, BlockBits, ByteOffset};

/// What stands in front of the data: superblock, configurations, device table.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Codecs in use.
    pub configs: AlgorithmConfigs,
    /// Number of extra devices.
    pub devices: usize,
    /// Prefixes of names of attributes, in the order of their numbers.
    pub prefixes: Vec<LongPrefix>,
}

impl Header {
    pub(super) fn device_table(&self, block_bits: BlockBits) -> Result<ByteOffset, ImageError> {
        let configs = self.configs.encode(block_bits)?.len() as u64;
        let superblock_end = SUPERBLOCK_OFFSET + erofs_format::superblock::SUPERBLOCK_SIZE as u64;
        Ok(ByteOffset(
            (superblock_end + configs).next_multiple_of(erofs_format::device::DEVICE_SLOT_SIZE),
        ))
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
