//! Writes the metadata of a planned image behind its data, and the superblock last.

mod compressed;
mod directories;
mod header;
mod inode;
mod metabox;
mod representable;

pub use header::Header;
pub use representable::{UnrepresentableError, check_representable};

use crate::data::made::MetadataPipeline;
use crate::data::output::Output;
use crate::data::pipeline::PipelineError;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::plan::Plan;
use crate::plan::chunk_table::ChunkTableError;
use crate::plan::inode_data::DataMap;
use crate::tree::{FrozenTree, InodeId, display};
use erofs_format::BlockAddr;
use erofs_format::compression::config::ConfigError;
use erofs_format::compression::lcluster::LayoutError;
use erofs_format::compression::map_header::MapHeaderFieldError;
use erofs_format::device::DeviceSlot;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::InodeFieldError;
use erofs_format::superblock::{
    SUPERBLOCK_OFFSET, Superblock, SuperblockFieldError, checksum_length, image_checksum,
};
use std::io;

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The output failed.
    #[error("cannot write the image: {0}")]
    Write(#[from] io::Error),
    /// Metadata could not be compressed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A value of an inode that the format cannot hold.
    #[error("{}: {source}", display(path))]
    Inode {
        /// The file.
        path: Vec<u8>,
        /// Which value.
        source: InodeFieldError,
    },
    /// The index of a compressed file cannot be stored.
    #[error("{}: {source}", display(path))]
    Layout {
        /// The file.
        path: Vec<u8>,
        /// Which extent.
        source: LayoutError,
    },
    /// An extent of a compressed file that its record cannot hold.
    #[error("{}: an extent does not fit its record", display(path))]
    Extents {
        /// The file.
        path: Vec<u8>,
    },
    /// The map header of a compressed file cannot be stored.
    #[error("{}: {source}", display(path))]
    MapHeader {
        /// The file.
        path: Vec<u8>,
        /// Which value.
        source: MapHeaderFieldError,
    },
    /// A chunk that no table entry can address.
    #[error(
        "{}: chunk {chunk} lies beyond what its table can address",
        display(path)
    )]
    Chunk {
        /// The file.
        path: Vec<u8>,
        /// Which chunk.
        chunk: u64,
    },
    /// A sparse file with too large a table.
    #[error(transparent)]
    ChunkTable(#[from] ChunkTableError),
    /// A device whose size or address needs more bits.
    #[error("device {0} is too large for 32-bit block addresses")]
    Device(usize),
    /// Prefixes of names of attributes that no table holds.
    #[error("at most 128 prefixes of attributes of at most 255 bytes behind their namespace")]
    Prefix,
    /// Settings of a codec that the kernel would refuse.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value that the superblock cannot hold.
    #[error(transparent)]
    Superblock(#[from] SuperblockFieldError),
}

/// An image of which only the metadata is missing.
#[derive(Debug)]
pub struct Metadata<'i> {
    /// The tree.
    pub tree: &'i FrozenTree,
    /// Where its data is.
    pub data: DataMap<'i>,
    /// Tails to inline.
    pub tails: &'i Tails,
    /// Where its metadata goes.
    pub plan: Plan,
    /// How large directories and the metabox are compressed, if there are such.
    pub pipeline: Option<MetadataPipeline>,
    /// The superblock, of which addresses and counts are filled in here.
    pub superblock: Superblock,
    /// What stands in front of the data.
    pub header: Header,
    /// Extra devices; those without a place in the unified address space get one behind the image.
    pub devices: Vec<DeviceSlot>,
    /// Digest of the data; with the metadata it makes the UUID.
    pub content_digest: [u8; 32],
    /// A UUID that the user wants.
    pub uuid: Option<[u8; 16]>,
    /// First block behind what stands in front of the data.
    pub data_start: BlockAddr,
    /// The image's size is a multiple of so many blocks.
    pub align_blocks: u64,
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its superblock.
    pub superblock: Superblock,
    /// Size in bytes.
    pub size: u64,
    /// First block behind its metadata.
    pub end: BlockAddr,
    /// Number of inodes.
    pub inodes: u64,
    /// Its extra devices, each with its place.
    pub devices: Vec<DeviceSlot>,
}

impl Metadata<'_> {
    /// Appends all metadata to `writer`, which stands behind the data, and writes the superblock.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn write(
        mut self,
        output: &Output,
        mut writer: Writer<'_>,
    ) -> Result<Finished, ImageError> {
        let mut digest = blake3::Hasher::new();
        digest.update(&self.content_digest);
        let bits = self.superblock.block_bits;
        self.compress_directories(&mut writer, &mut digest)?;
        if self.tree.metabox().is_some() {
            self.plan.place_directories(writer.block());
            self.write_directories(&mut writer, &mut digest)?;
            self.compress_inodes(&mut writer, &mut digest)?;
            self.plan.place_inodes(writer.block());
            self.write_inodes(&mut writer, &mut digest)?;
        } else {
            self.plan.place(writer.block());
            self.write_inodes(&mut writer, &mut digest)?;
            self.write_directories(&mut writer, &mut digest)?;
        }
        self.place_devices();
        writer.write(&self.plan.xattrs.shared)?;
        digest.update(&self.plan.xattrs.shared);
        writer.pad_to_block()?;
        let unit = self
            .align_blocks
            .saturating_mul(self.superblock.block_bits.bytes());
        writer.pad_to(writer.position().next_multiple_of(unit.max(1)))?;
        let end = writer.block();
        if let Some(first) = self.devices.first() {
            // They begin where the image ends, so that all of it in one file is an image too.
            writer.pad_to(first.unified_start.0 << bits.bits())?;
        }
        writer.flush()?;
        let size = writer.position();

        let inodes = (self.plan.order.len() + self.plan.boxed.len()) as u64;
        self.superblock.root = self.plan.nid(InodeId::ROOT, bits);
        self.superblock.packed = self.tree.packed().map(|id| self.plan.nid(id, bits));
        self.superblock.metabox = self.tree.metabox().map(|id| self.plan.nid(id, bits));
        self.superblock.inodes = inodes;
        self.superblock.blocks = bits.whole_blocks(size);
        self.superblock.meta_block = self.plan.meta_block();
        self.superblock.xattr_block = if self.plan.xattrs.shared.is_empty() {
            BlockAddr(0)
        } else {
            self.plan.xattr_area
        };
        self.superblock.extra_devices =
            u16::try_from(self.devices.len()).map_err(|_| ImageError::Device(65536))?;
        digest.update(&self.head()?);
        self.superblock.uuid = self
            .uuid
            .unwrap_or_else(|| uuid_from(*digest.finalize().as_bytes()));
        let head = self.head()?;
        let covered = head.get(SUPERBLOCK_OFFSET as usize..).unwrap_or_default();
        if self.superblock.compat.contains(FeatureCompat::SB_CHKSUM) {
            self.superblock.checksum =
                image_checksum(covered.get(..checksum_length(bits)).unwrap_or(covered));
        }
        output.write_at(0, &self.head()?)?;
        Ok(Finished {
            superblock: self.superblock,
            size,
            end,
            inodes,
            devices: self.devices,
        })
    }

    fn place_devices(&mut self) {
        let bits = self.superblock.block_bits;
        let mut next = self.plan.end(bits).0.next_multiple_of(self.align_blocks);
        for device in &mut self.devices {
            if device.unified_start.0 == 0 {
                device.unified_start = BlockAddr(next);
            }
            next = device.unified_start.0 + device.blocks;
        }
    }

    /// Everything in front of the data.
    fn head(&self) -> Result<Vec<u8>, ImageError> {
        let bits = self.superblock.block_bits;
        let table = self.header.device_table(bits)?;
        let mut superblock = self.superblock.clone();
        if !self.devices.is_empty() {
            superblock.device_table = table;
        }
        if !self.header.prefixes.is_empty() {
            let count = u8::try_from(self.header.prefixes.len()).ok();
            superblock.xattr_prefix_count = count.ok_or(ImageError::Prefix)?;
            superblock.xattr_prefix_start = self.header.prefix_table(bits)?;
        }
        let mut head = vec![0; SUPERBLOCK_OFFSET as usize];
        head.extend_from_slice(&superblock.encode()?);
        head.extend_from_slice(&self.header.configs.encode(bits)?);
        head.resize(table.0 as usize, 0);
        let wide = superblock.incompat.contains(FeatureIncompat::BIT48);
        for (index, device) in self.devices.iter().enumerate() {
            head.extend_from_slice(&device.encode(wide).ok_or(ImageError::Device(index + 1))?);
        }
        for prefix in &self.header.prefixes {
            prefix.encode(&mut head).ok_or(ImageError::Prefix)?;
        }
        head.resize((self.data_start.0 << bits.bits()) as usize, 0);
        Ok(head)
    }

    fn write_inodes(
        &self,
        writer: &mut Writer<'_>,
        digest: &mut blake3::Hasher,
    ) -> Result<(), ImageError> {
        let bits = self.superblock.block_bits;
        let area = self.plan.inode_area.0 << bits.bits();
        let mut bytes = Vec::new();
        for (serial, id) in (1u32..).zip(&self.plan.order) {
            bytes.clear();
            self.encode_inode(*id, serial, &mut bytes)?;
            digest.update(&bytes);
            writer.pad_to(area + self.plan.offset(*id))?;
            writer.write(&bytes)?;
        }
        writer.pad_to(self.plan.inode_end().0 << bits.bits())?;
        Ok(())
    }
}

/// A UUID of version 8 (made by a method of one's own, RFC 9562) from a digest.
fn uuid_from(digest: [u8; 32]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0F | 0x80;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    uuid
}
