//! What each inode's data looks like, from wherever it was stored.

use super::chunk_table::{self, ChunkPiece, ChunkTable, aligned_shift, covering_shift};
use super::encoded_extents::{self, FileExtents};
use super::index_form::{FileIndex, IndexForm, index_end};
use super::packed_directories::PackedDirectories;
use super::xattrs::XattrPlan;
use super::{can_inline, directory};
use crate::data::encode::StoredExtent;
use crate::data::fragments::{FragmentRef, Offsets};
use crate::data::pipeline::Fingerprint;
use crate::data::tails::TailRef;
use crate::data::{StoredData, StoredPclusters, StoredRecords};
use crate::image::ImageError;
use crate::tree::{Body, FrozenTree, InodeId, Location};
use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::Algorithm;
use erofs_format::compression::map_header::{ExtentRecords, MAP_HEADER_SIZE};
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, DeviceId};
use std::collections::HashMap;

/// A raw file that stays where it is.
#[derive(Debug, Clone)]
pub struct RawFileData {
    /// Its device, when some of it is not in the image.
    pub device: Option<DeviceId>,
    /// First block in the unified address space.
    pub unified_start: BlockAddr,
    /// How its end is stored.
    pub end: RawFileEnd,
}

/// How the end of a raw file is stored: the kernel reads no partial block at the end of a device.
#[derive(Debug, Clone)]
pub enum RawFileEnd {
    /// The size is a multiple of the block size.
    Aligned,
    /// The last partial block is inlined.
    Inline(TailRef),
    /// The last partial block fits behind no inode: the last chunk is copied into the image.
    Copied {
        /// Chunk size as a power of two in blocks.
        block_shift: u8,
        /// Where the copy is.
        start: BlockAddr,
    },
}

/// A file that stays in a layer.
#[derive(Debug, Clone)]
pub enum LayerFileData {
    /// Consecutive blocks.
    Flat {
        /// The device, unless all of the file is inlined.
        device: Option<DeviceId>,
        /// First block on the device.
        start: BlockAddr,
        /// First block in the unified address space.
        unified_start: BlockAddr,
        /// The inlined tail.
        tail: Option<TailRef>,
    },
    /// Chunks, the rest being holes.
    Chunked {
        /// Chunk size as a power of two in blocks.
        block_shift: u8,
        /// Chunks with data, ascending.
        pieces: Box<[ChunkPiece]>,
    },
}

/// Everything that is known about where data is.
#[derive(Debug)]
pub struct DataMap<'d> {
    /// Files whose data passed through the pipeline.
    pub stored: &'d [StoredData],
    /// Files that stay in a raw blob.
    pub raw_files: &'d [RawFileData],
    /// Files that stay in layers; `None` of those that are part of the tree no more.
    pub layer_files: &'d [Option<LayerFileData>],
    /// Fingerprints of files whose data passed through the pipeline; empty when none are wanted.
    pub fingerprints: &'d [Option<Fingerprint>],
    /// Where fragments are in the packed inode.
    pub fragments: Option<&'d Offsets>,
    /// Block size.
    pub block_bits: BlockBits,
    /// Form of the index of compressed files.
    pub index_form: IndexForm,
    /// Whether encoded extents are used where they are smaller, which the 48-bit layout has.
    pub encoded_extents: bool,
    /// Directories of more than a block whose data is compressed where that pays.
    pub directories: Option<CompressedDirectories>,
    /// Directories whose data is in the packed inode.
    pub packed_directories: Option<&'d PackedDirectories>,
    /// The metabox inode's data, once it is written.
    pub metabox: Option<StoredData>,
    /// Its size in bytes, see [`super::Plan::metabox_size`].
    pub metabox_size: u64,
    /// Whether 48-bit addresses are used in chunk indexes.
    pub wide: bool,
    /// Whether the tables of files in the image have indexes of 8 bytes.
    pub chunk_indexes: bool,
    /// Least size of the attributes behind the root's inode, in bytes.
    pub root_xattr_size: u64,
    /// Whether directories have no entry `.`.
    pub omit_dot: bool,
    /// The device of files in chunks, where it is not the image itself.
    pub blob: DeviceId,
}

/// What became of the data of large directories.
#[derive(Debug, Clone)]
pub struct CompressedDirectories {
    /// With what they are compressed.
    pub algorithm: Algorithm,
    /// Where each of them is; none while that is not known.
    pub stored: HashMap<InodeId, StoredData>,
}

/// What the data is of that the pipeline stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    /// Its index takes what its extents ask for.
    Regular,
    /// Room for its index was taken before its extents were known.
    Metadata,
}

/// The data of an inode.
#[derive(Debug)]
pub enum InodeData<'d> {
    /// None: devices, pipes, sockets, empty files.
    Nothing,
    /// A directory or link: written with the metadata.
    Metadata {
        /// Size in bytes.
        size: u64,
        /// Bytes of it that are inlined: its last partial block, or 0.
        inline_tail: u64,
    },
    /// Consecutive blocks.
    Flat {
        /// Size in bytes.
        size: u64,
        /// First block, if any is taken.
        start: Option<BlockAddr>,
        /// The inlined tail.
        tail: Option<TailRef>,
    },
    /// Chunks.
    Chunked {
        /// Size in bytes.
        size: u64,
        /// Format of the table.
        format: ChunkFormat,
        /// Number of chunks.
        chunks: u64,
        /// What the table says.
        table: ChunkTable<'d>,
    },
    /// Pclusters.
    Compressed {
        /// Size in bytes.
        size: u64,
        /// First block.
        start: BlockAddr,
        /// Number of blocks.
        blocks: u64,
        /// What they decode to.
        extents: &'d [StoredExtent],
        /// With what they were encoded.
        algorithm: Algorithm,
        /// Plain data that begins inside of a block keeps its offset there.
        interlaced: bool,
        /// Offset in the packed inode of what follows them.
        fragment: Option<u64>,
        /// What the last of them decodes from, when it is inlined behind the index.
        tail: Option<TailRef>,
        /// Form of the index.
        index: FileIndex,
        /// Block size.
        block_bits: BlockBits,
    },
    /// Encoded extents of an image that is continued.
    Extents {
        /// Size in bytes.
        size: u64,
        /// Where they are.
        stored: &'d StoredRecords,
        /// Form of their records.
        records: ExtentRecords,
        /// Block size.
        block_bits: BlockBits,
    },
    /// All of it is in the packed inode.
    Packed {
        /// Size in bytes.
        size: u64,
        /// Offset in the packed inode in bytes.
        offset: u64,
    },
}

impl<'d> DataMap<'d> {
    /// Refuses files whose table of chunks would fill disks: a sparse file of any size takes a few bytes in a tar.
    ///
    /// # Errors
    /// [`ImageError::ChunkTable`].
    pub fn check_tables(&self, tree: &'d FrozenTree) -> Result<(), ImageError> {
        for id in tree.all_inodes() {
            let InodeData::Chunked {
                size,
                format,
                chunks,
                ..
            } = self.of(tree, id)
            else {
                continue;
            };
            chunk_table::check(|| tree.path(id), size, chunks, format.entry_size())?;
        }
        Ok(())
    }

    /// The data of an inode.
    pub fn of<'s>(&'s self, tree: &'s FrozenTree, id: InodeId) -> InodeData<'s> {
        let inode = tree.inode(id);
        match inode.body {
            Body::CharDevice(_) | Body::BlockDevice(_) | Body::Fifo | Body::Socket => {
                InodeData::Nothing
            }
            Body::Directory => {
                let size = directory::size(tree, id, self.block_bits, self.omit_dot);
                let packed = self.packed_directories.and_then(|packed| packed.offset(id));
                if let Some(offset) = packed {
                    return InodeData::Packed { size, offset };
                }
                if let Some(directories) = self.compressed_directories(size) {
                    return self.directory(size, directories, id);
                }
                InodeData::Metadata {
                    size,
                    inline_tail: self.metadata_tail(tree, id, size),
                }
            }
            Body::Symlink(target) => {
                let size = target.len() as u64;
                InodeData::Metadata {
                    size,
                    inline_tail: self.metadata_tail(tree, id, size),
                }
            }
            Body::Regular {
                location: Location::Metabox,
                ..
            } => self.metabox_data(self.metabox_size),
            Body::Regular { size: 0, .. } => InodeData::Nothing,
            Body::Regular { size, location } => self.regular(tree, size, location),
        }
    }

    /// The fingerprint of a regular file.
    pub fn fingerprint(&self, tree: &FrozenTree, id: InodeId) -> Option<&'d Fingerprint> {
        match tree.inode(id).body {
            Body::Regular {
                location: Location::Stored(number),
                ..
            } => self.fingerprints.get(number as usize)?.as_ref(),
            _ => None,
        }
    }

    /// Whether a directory of `size` bytes is compressed: one block is the least that a pcluster takes.
    fn compressed_directories(&self, size: u64) -> Option<&CompressedDirectories> {
        self.directories
            .as_ref()
            .filter(|_| size > self.block_bits.bytes())
    }

    /// A directory's data: its place and size are known before it is compressed, for only names of inodes are in it, and
    /// its index takes the same room wherever it is.
    fn directory<'s>(
        &'s self,
        size: u64,
        directories: &'s CompressedDirectories,
        id: InodeId,
    ) -> InodeData<'s> {
        match directories.stored.get(&id) {
            Some(stored) => self.stored_file(size, stored, FileKind::Metadata),
            None => self.unwritten(size, directories.algorithm),
        }
    }

    /// The metabox inode's data, which has `size` bytes.
    pub(super) fn metabox_data(&self, size: u64) -> InodeData<'_> {
        match &self.metabox {
            Some(stored) => self.stored_file(size, stored, FileKind::Metadata),
            // Of the algorithm nothing depends before it is known.
            None => self.unwritten(size, Algorithm::Lz4),
        }
    }

    /// Metadata that will be compressed: what its index takes is known.
    fn unwritten(&self, size: u64, algorithm: Algorithm) -> InodeData<'_> {
        InodeData::Compressed {
            size,
            start: BlockAddr(0),
            blocks: 0,
            extents: &[],
            algorithm,
            interlaced: false,
            fragment: None,
            tail: None,
            index: FileIndex::Lclusters(self.index_form.for_blocks(self.block_bits)),
            block_bits: self.block_bits,
        }
    }

    fn metadata_tail(&self, tree: &FrozenTree, id: InodeId, size: u64) -> u64 {
        let mut body = XattrPlan::largest_body(tree.xattrs.get(tree.inode(id).xattrs));
        if id == InodeId::ROOT {
            body = body.max(self.root_xattr_size);
        }
        let fits = can_inline(EXTENDED_INODE_SIZE + body, size, self.block_bits);
        if fits {
            self.block_bits.offset_in_block(size)
        } else {
            0
        }
    }

    fn chunked<'s>(&self, size: u64, format: ChunkFormat, table: ChunkTable<'s>) -> InodeData<'s> {
        InodeData::Chunked {
            size,
            format,
            chunks: format.chunk_count(size, self.block_bits),
            table,
        }
    }

    fn regular<'s>(&'s self, tree: &'s FrozenTree, size: u64, location: Location) -> InodeData<'s> {
        match location {
            Location::Stored(number) => {
                self.stored_file(size, &self.stored[number as usize], FileKind::Regular)
            }
            Location::RawFile(number) => self.raw_file(size, &self.raw_files[number as usize]),
            Location::Layer(number) => match &self.layer_files[number as usize] {
                Some(data) => self.layer_file(size, data),
                None => self.hole(size),
            },
            Location::Archive { offset, sparse } => {
                let ranges = sparse.map(|id| tree.sparse_map(id));
                let shift = ranges.map_or_else(
                    || covering_shift(size, self.block_bits),
                    |ranges| aligned_shift(size, ranges, self.block_bits),
                );
                let start = BlockAddr(self.block_bits.whole_blocks(offset));
                let format = ChunkFormat {
                    block_shift: shift,
                    indexes: true,
                    wide: self.wide,
                };
                self.chunked(
                    size,
                    format,
                    ChunkTable::Device {
                        device: DeviceId(1),
                        start,
                        ranges,
                    },
                )
            }
            // Sources that keep data elsewhere were turned into stored files by the pipeline; the rest has none.
            Location::Nowhere | Location::Directory | Location::Metabox => self.hole(size),
        }
    }

    fn hole(&self, size: u64) -> InodeData<'_> {
        let format = ChunkFormat {
            block_shift: covering_shift(size, self.block_bits),
            indexes: false,
            wide: false,
        };
        self.chunked(size, format, ChunkTable::Hole)
    }

    fn layer_file(&self, size: u64, data: &'d LayerFileData) -> InodeData<'d> {
        match data {
            LayerFileData::Flat {
                device,
                unified_start,
                tail,
                ..
            } => InodeData::Flat {
                size,
                start: device.map(|_| *unified_start),
                tail: *tail,
            },
            LayerFileData::Chunked {
                block_shift,
                pieces,
            } => {
                let format = ChunkFormat {
                    block_shift: *block_shift,
                    indexes: true,
                    wide: self.wide,
                };
                self.chunked(size, format, ChunkTable::Pieces(pieces))
            }
        }
    }

    fn stored_file<'s>(&self, size: u64, stored: &'s StoredData, kind: FileKind) -> InodeData<'s> {
        match stored {
            StoredData::Flat { start, tail } => {
                let has_blocks = size > tail.map_or(0, TailRef::size);
                InodeData::Flat {
                    size,
                    start: has_blocks.then_some(*start),
                    tail: *tail,
                }
            }
            StoredData::Chunked { start, map } => {
                let device = self.blob;
                let format = ChunkFormat {
                    block_shift: map.block_shift,
                    indexes: self.chunk_indexes || device != DeviceId::PRIMARY,
                    wide: false,
                };
                self.chunked(
                    size,
                    format,
                    ChunkTable::Stored {
                        device,
                        start: *start,
                        map,
                    },
                )
            }
            StoredData::Compressed(pclusters) => {
                let StoredPclusters {
                    start,
                    blocks,
                    extents,
                    algorithm,
                    interlaced,
                    fragment,
                    tail,
                } = &**pclusters;
                let fragment = fragment.map(|fragment| self.fragment(fragment));
                let shares = extents.iter().any(|extent| extent.elsewhere().is_some());
                let form = match fragment {
                    // The compact index holds no address of its own for an extent, and 32 bits for that offset.
                    _ if shares => IndexForm::Full,
                    Some(offset) if u32::try_from(offset).is_err() => IndexForm::Full,
                    _ => self.index_form.for_blocks(self.block_bits),
                };
                let mut index = FileIndex::Lclusters(form);
                if self.encoded_extents && tail.is_none() && kind == FileKind::Regular {
                    let file = FileExtents {
                        size,
                        start: *start,
                        extents,
                        algorithm: *algorithm,
                        fragment,
                        block_bits: self.block_bits,
                    };
                    let (records, count) = file.form();
                    let extents = FileIndex::Extents { records, count };
                    let end = |index| index_end(0, size, index, self.block_bits);
                    if end(extents) < end(index) {
                        index = extents;
                    }
                }
                InodeData::Compressed {
                    size,
                    start: *start,
                    blocks: *blocks,
                    extents,
                    algorithm: *algorithm,
                    interlaced: *interlaced,
                    fragment,
                    tail: *tail,
                    index,
                    block_bits: self.block_bits,
                }
            }
            StoredData::Extents(stored) => {
                let all = stored.records.iter().copied();
                let (records, _) =
                    encoded_extents::form(all, size, stored.fragment, self.block_bits);
                InodeData::Extents {
                    size,
                    stored,
                    records,
                    block_bits: self.block_bits,
                }
            }
            StoredData::Packed(fragment) => InodeData::Packed {
                size,
                offset: self.fragment(*fragment),
            },
        }
    }

    fn fragment(&self, fragment: FragmentRef) -> u64 {
        self.fragments.map_or(0, |offsets| offsets.of(fragment))
    }

    fn raw_file(&self, size: u64, raw: &RawFileData) -> InodeData<'d> {
        let start = raw.device.map(|_| raw.unified_start);
        match (&raw.end, raw.device) {
            (
                RawFileEnd::Copied {
                    block_shift,
                    start: end,
                },
                Some(device),
            ) => {
                let format = ChunkFormat {
                    block_shift: *block_shift,
                    indexes: true,
                    wide: self.wide,
                };
                self.chunked(size, format, ChunkTable::CopiedEnd { device, end: *end })
            }
            // Without any whole block there is no device, and the copy is all of the file.
            (RawFileEnd::Copied { start, .. }, None) => InodeData::Flat {
                size,
                start: Some(*start),
                tail: None,
            },
            (RawFileEnd::Inline(tail), _) => InodeData::Flat {
                size,
                start,
                tail: Some(*tail),
            },
            (RawFileEnd::Aligned, _) => InodeData::Flat {
                size,
                start,
                tail: None,
            },
        }
    }
}

impl InodeData<'_> {
    /// Size of the file in bytes.
    pub const fn size(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Metadata { size, .. }
            | Self::Flat { size, .. }
            | Self::Chunked { size, .. }
            | Self::Compressed { size, .. }
            | Self::Extents { size, .. }
            | Self::Packed { size, .. } => *size,
        }
    }

    /// Where the metadata of an inode ends whose core and attributes take `head` bytes, counted from its start.
    pub fn end_of_metadata(&self, head: u64) -> u64 {
        match self {
            Self::Nothing => head,
            Self::Metadata { inline_tail, .. } => head + inline_tail,
            Self::Flat { tail, .. } => head + tail.map_or(0, TailRef::size),
            Self::Chunked { format, chunks, .. } => {
                head.next_multiple_of(format.entry_size()) + chunks * format.entry_size()
            }
            Self::Packed { .. } => head.next_multiple_of(8) + MAP_HEADER_SIZE,
            Self::Extents {
                size,
                stored,
                records,
                block_bits,
            } => {
                let (records, count) = (*records, stored.records.len() as u64);
                let index = FileIndex::Extents { records, count };
                index_end(head, *size, index, *block_bits)
            }
            Self::Compressed {
                size,
                index,
                block_bits,
                tail,
                ..
            } => index_end(head, *size, *index, *block_bits) + tail.map_or(0, TailRef::size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the format reference: extended inode, 20 bytes of attributes, table of indexes at 88.
    #[test]
    fn chunk_tables_start_at_a_multiple_of_their_entry() {
        let data = |indexes| InodeData::Chunked {
            size: 5000,
            format: ChunkFormat {
                block_shift: 0,
                indexes,
                wide: false,
            },
            chunks: 2,
            table: ChunkTable::Hole,
        };
        assert_eq!(data(true).end_of_metadata(84), 88 + 2 * 8);
        assert_eq!(data(false).end_of_metadata(84), 84 + 2 * 4);
    }
}
