//! Writes the metadata of a planned image behind its data, and the superblock last.

use crate::data::output::Output;
use crate::data::tails::Tails;
use crate::data::writer::Writer;
use crate::plan::inode_data::{DataMap, IndexForm, InodeData, advise};
use crate::plan::{Plan, directory, long_prefix};
use crate::tree::{Body, FrozenTree, InodeId, display};
use erofs_format::compression::config::{AlgorithmConfigs, ConfigError};
use erofs_format::compression::lcluster::LayoutError;
use erofs_format::compression::map_header::{IndexHeader, MapHeader, MapHeaderFieldError};
use erofs_format::compression::{Algorithm, Extent, LclusterType, compact_index, full_index};
use erofs_format::device::{DeviceNumber, DeviceSlot};
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::{DataLayout, FileType, Inode, InodeFieldError, InodePayload};
use erofs_format::superblock::{
    SUPERBLOCK_OFFSET, Superblock, SuperblockFieldError, checksum_length, image_checksum,
};
use erofs_format::xattr::LongPrefix;
use erofs_format::{BlockAddr, BlockBits, ByteOffset};
use std::io;

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The output failed.
    #[error("cannot write the image: {0}")]
    Write(#[from] io::Error),
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
    fn device_table(&self, block_bits: BlockBits) -> Result<ByteOffset, ImageError> {
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

    fn prefix_table(&self, block_bits: BlockBits) -> Result<ByteOffset, ImageError> {
        let table = self.device_table(block_bits)?.0;
        let devices = self.devices as u64 * erofs_format::device::DEVICE_SLOT_SIZE;
        Ok(ByteOffset(table + devices))
    }
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
    pub plan: &'i Plan,
    /// The superblock, of which addresses and counts are filled in here.
    pub superblock: Superblock,
    /// What stands in front of the data.
    pub header: Header,
    /// Extra devices.
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
    /// Number of inodes.
    pub inodes: u64,
    /// Sizes of its extra devices in blocks.
    pub device_blocks: Vec<u64>,
}

impl Metadata<'_> {
    /// Appends all metadata to `writer`, which stands at the plan's first block, and writes the superblock.
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
        self.write_inodes(&mut writer, &mut digest)?;
        self.write_directories(&mut writer, &mut digest)?;
        writer.write(&self.plan.xattrs.shared)?;
        digest.update(&self.plan.xattrs.shared);
        writer.pad_to_block()?;
        let unit = self
            .align_blocks
            .saturating_mul(self.superblock.block_bits.bytes());
        writer.pad_to(writer.position().next_multiple_of(unit.max(1)))?;
        writer.flush()?;
        let size = writer.position();

        let inodes = self.plan.order.len() as u64;
        let bits = self.superblock.block_bits;
        self.superblock.root = self.plan.nid(InodeId::ROOT, bits);
        self.superblock.packed = self.tree.packed().map(|id| self.plan.nid(id, bits));
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
            inodes,
            device_blocks: self.devices.iter().map(|device| device.blocks).collect(),
        })
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
        writer.pad_to(self.plan.directory_area.0 << bits.bits())?;
        Ok(())
    }

    fn write_directories(
        &self,
        writer: &mut Writer<'_>,
        digest: &mut blake3::Hasher,
    ) -> Result<(), ImageError> {
        let bits = self.superblock.block_bits;
        let mut bytes = Vec::new();
        for id in self.tree.breadth_first() {
            let InodeData::Metadata { size, inline_tail } = self.data.of(self.tree, id) else {
                continue;
            };
            if size == inline_tail {
                continue;
            }
            bytes.clear();
            self.metadata_content(id, &mut bytes);
            bytes.truncate((size - inline_tail) as usize);
            digest.update(&bytes);
            debug_assert_eq!(writer.block(), self.plan.first_block(id));
            writer.write(&bytes)?;
            writer.pad_to_block()?;
        }
        writer.pad_to(self.plan.xattr_area.0 << bits.bits())?;
        Ok(())
    }

    /// Data of a directory or link.
    fn metadata_content(&self, id: InodeId, out: &mut Vec<u8>) {
        let bits = self.superblock.block_bits;
        match self.tree.inode(id).body {
            Body::Symlink(target) => out.extend_from_slice(self.tree.target(target)),
            _ => {
                let nid_of = |inode| self.plan.nid(inode, bits);
                directory::encode(self.tree, id, bits, self.data.omit_dot, nid_of, out);
            }
        }
    }

    fn encode_inode(&self, id: InodeId, serial: u32, out: &mut Vec<u8>) -> Result<(), ImageError> {
        let node = self.tree.inode(id);
        let data = self.data.of(self.tree, id);
        let shape = self.plan.shape(self.tree, id, &data, &self.superblock);
        let body = self.plan.xattrs.body(id, node.xattrs);
        let file_type = node.body.file_type();
        let (layout, payload) = self.layout(id, &data);
        let inode = Inode {
            extended: shape.extended,
            layout,
            // The tree has checked that the body is not too large.
            xattr_icount: erofs_format::xattr::icount(body.len() as u64).unwrap_or(0),
            mode: node.mode(),
            file_type,
            size: data.size(),
            payload,
            serial,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            nlink: node.nlink,
            dot_omitted: self.data.omit_dot && file_type == FileType::Directory,
        };
        inode
            .encode(&self.superblock, out)
            .map_err(|source| ImageError::Inode {
                path: self.tree.path(id),
                source,
            })?;
        out.extend_from_slice(body);
        self.encode_trailer(id, &data, out)?;
        debug_assert_eq!(
            out.len() as u64,
            shape.total,
            "{}",
            display(&self.tree.path(id))
        );
        Ok(())
    }

    fn layout(&self, id: InodeId, data: &InodeData<'_>) -> (DataLayout, InodePayload) {
        match data {
            InodeData::Nothing => {
                let payload = match self.tree.inode(id).body {
                    Body::CharDevice(number) | Body::BlockDevice(number) => {
                        InodePayload::Device(number)
                    }
                    Body::Regular { .. } => InodePayload::StartBlock(Some(BlockAddr(0))),
                    _ => InodePayload::Nothing,
                };
                (DataLayout::FlatPlain, payload)
            }
            InodeData::Metadata { size, inline_tail } => {
                let layout = if *inline_tail > 0 {
                    DataLayout::FlatInline
                } else {
                    DataLayout::FlatPlain
                };
                let start = (size > inline_tail).then(|| self.plan.first_block(id));
                (layout, InodePayload::StartBlock(start))
            }
            InodeData::Flat { start, tail, .. } => {
                let layout = if tail.is_some() {
                    DataLayout::FlatInline
                } else {
                    DataLayout::FlatPlain
                };
                (layout, InodePayload::StartBlock(*start))
            }
            InodeData::Chunked { format, .. } => (
                DataLayout::ChunkBased,
                InodePayload::ChunkFormat(format.encode()),
            ),
            InodeData::Packed { .. } => (
                DataLayout::CompressedFull,
                InodePayload::CompressedBlocks(0),
            ),
            InodeData::Compressed { blocks, form, .. } => {
                let layout = match form {
                    IndexForm::Compact => DataLayout::CompressedCompact,
                    IndexForm::Full => DataLayout::CompressedFull,
                };
                (layout, InodePayload::CompressedBlocks(*blocks))
            }
        }
    }

    /// What follows core and attributes: tail, chunk table, or map header and index. `out` holds the inode so far.
    fn encode_trailer(
        &self,
        id: InodeId,
        data: &InodeData<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let bits = self.superblock.block_bits;
        match data {
            InodeData::Nothing => {}
            InodeData::Metadata { size, inline_tail } => {
                if *inline_tail > 0 {
                    let mut content = Vec::new();
                    self.metadata_content(id, &mut content);
                    out.extend_from_slice(
                        content
                            .get((size - inline_tail) as usize..)
                            .unwrap_or_default(),
                    );
                }
            }
            InodeData::Flat { tail, .. } => {
                if let Some(tail) = tail {
                    self.tails.read(*tail, out)?;
                }
            }
            InodeData::Chunked {
                format,
                chunks,
                table,
                ..
            } => {
                out.resize(out.len().next_multiple_of(format.entry_size() as usize), 0);
                for (number, chunk) in (0u64..).zip(table.chunks(*chunks, *format, bits)) {
                    format
                        .encode_entry(chunk, out)
                        .ok_or_else(|| ImageError::Chunk {
                            path: self.tree.path(id),
                            chunk: number,
                        })?;
                }
            }
            InodeData::Compressed { .. } => self.encode_map(id, data, out)?,
            InodeData::Packed { offset, .. } => {
                self.encode_header(id, MapHeader::Fragment { offset: *offset }, out)?;
            }
        }
        Ok(())
    }

    fn encode_header(
        &self,
        id: InodeId,
        header: MapHeader,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        out.resize(out.len().next_multiple_of(8), 0);
        let header = header.encode(self.superblock.block_bits);
        let header = header.map_err(|source| ImageError::MapHeader {
            path: self.tree.path(id),
            source,
        })?;
        out.extend_from_slice(&header);
        Ok(())
    }

    /// Map header, index and inlined tail of a compressed file.
    fn encode_map(
        &self,
        id: InodeId,
        data: &InodeData<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ImageError> {
        let InodeData::Compressed {
            size,
            start,
            extents,
            algorithm,
            fragment,
            form,
            tail,
            ..
        } = *data
        else {
            return Ok(());
        };
        let bits = self.superblock.block_bits;
        let mut extents = layout_extents(extents, start, bits);
        if let (Some(_), Some(last)) = (tail, extents.last_mut()) {
            last.blocks = 0;
            last.start = BlockAddr(0);
        }
        if let Some(offset) = fragment {
            extents.push(fragment_extent(&extents, size, offset));
        }
        let advise = advise(form, bits, &extents, fragment.is_some(), tail);
        let header = IndexHeader {
            advise,
            head1: algorithm,
            head2: Algorithm::Lz4,
            lcluster_bits: bits.bits(),
            // Below a block, which has 64 KiB at most.
            inline_size: tail.map_or(0, |tail| u16::try_from(tail.size()).unwrap_or(0)),
            // The high bits are in the extent.
            fragment_offset: fragment.unwrap_or(0) as u32,
        };
        self.encode_header(id, MapHeader::Index(header), out)?;
        let index = match form {
            IndexForm::Full => {
                out.resize(out.len() + 8, 0);
                full_index::encode_index(&extents, size, bits, advise)
            }
            IndexForm::Compact => {
                let position = ByteOffset(out.len() as u64);
                compact_index::encode_index(&extents, size, bits, advise, position)
            }
        };
        let index = index.map_err(|source| ImageError::Layout {
            path: self.tree.path(id),
            source,
        })?;
        out.extend_from_slice(&index);
        if let Some(tail) = tail {
            self.tails.read(tail, out)?;
        }
        Ok(())
    }
}

/// The last extent of a file of `size` bytes, which begins with `extents`: a fragment at `offset` in the packed inode.
fn fragment_extent(extents: &[Extent], size: u64, offset: u64) -> Extent {
    let before: u64 = extents.iter().map(|extent| extent.length).sum();
    Extent {
        length: size.saturating_sub(before),
        kind: LclusterType::Head1,
        blocks: 0,
        start: BlockAddr(offset >> 32),
        partial: false,
    }
}

/// Extents with their addresses. Plain data gets one extent for each block: every kernel reads these.
fn layout_extents(
    stored: &[crate::data::encode::StoredExtent],
    start: BlockAddr,
    block_bits: BlockBits,
) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(stored.len());
    let mut next = start.0;
    for piece in stored {
        let mut at = piece.elsewhere().map_or(next, |start| start.0);
        if piece.elsewhere().is_none() {
            next += piece.blocks(block_bits);
        }
        if !piece.is_plain() {
            extents.push(Extent {
                length: piece.length.into(),
                kind: LclusterType::Head1,
                blocks: u32::try_from(piece.blocks(block_bits)).unwrap_or(u32::MAX),
                start: BlockAddr(at),
                partial: piece.is_partial(),
            });
            continue;
        }
        let mut left = u64::from(piece.length);
        while left > 0 {
            let length = left.min(block_bits.bytes());
            extents.push(Extent {
                length,
                kind: LclusterType::Plain,
                blocks: 1,
                start: BlockAddr(at),
                partial: false,
            });
            at += 1;
            left -= length;
        }
    }
    extents
}

/// A UUID of version 8 (made by a method of one's own, RFC 9562) from a digest.
fn uuid_from(digest: [u8; 32]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0F | 0x80;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    uuid
}

/// Why a tree cannot become an image, seen before anything is written.
#[derive(Debug, thiserror::Error)]
pub enum UnrepresentableError {
    /// A device number with a major above 4095 or a minor above 1048575.
    #[error("{}: device number {}:{} has no EROFS form", display(path), number.major, number.minor)]
    DeviceNumber {
        /// The device.
        path: Vec<u8>,
        /// Its number.
        number: DeviceNumber,
    },
    /// A target that no link can have.
    #[error(
        "{}: a link target must have 1 to 4095 bytes without NUL, this one has {length}",
        display(path)
    )]
    LinkTarget {
        /// The link.
        path: Vec<u8>,
        /// Length of the target in bytes.
        length: usize,
    },
    /// A value that no inode of 32 bytes holds, where all inodes must be such.
    #[error(
        "{}: its size, owner or number of links does not fit a compact inode",
        display(path)
    )]
    Compact {
        /// The file.
        path: Vec<u8>,
    },
    /// More than 2^63 - 1 bytes.
    #[error("{}: a file of {size} bytes is too large", display(path))]
    Size {
        /// The file.
        path: Vec<u8>,
        /// Its size in bytes.
        size: u64,
    },
}

/// Looks for what EROFS cannot hold.
///
/// # Errors
/// [`UnrepresentableError`] names the first entry.
pub fn check_representable(tree: &FrozenTree) -> Result<(), UnrepresentableError> {
    for id in tree.breadth_first() {
        match tree.inode(id).body {
            Body::CharDevice(number) | Body::BlockDevice(number) if number.encode().is_none() => {
                return Err(UnrepresentableError::DeviceNumber {
                    path: tree.path(id),
                    number,
                });
            }
            Body::Symlink(target) => {
                let bytes = tree.target(target);
                if bytes.is_empty() || bytes.len() > 4095 || bytes.contains(&0) {
                    return Err(UnrepresentableError::LinkTarget {
                        path: tree.path(id),
                        length: bytes.len(),
                    });
                }
            }
            Body::Regular { size, .. } if i64::try_from(size).is_err() => {
                return Err(UnrepresentableError::Size {
                    path: tree.path(id),
                    size,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// File types of a tree's inodes, counted.
pub fn count_types(tree: &FrozenTree) -> std::collections::BTreeMap<FileType, u64> {
    let mut counts = std::collections::BTreeMap::new();
    for id in tree.breadth_first() {
        *counts.entry(tree.inode(id).body.file_type()).or_default() += 1;
    }
    counts
}
