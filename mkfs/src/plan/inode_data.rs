//! What each inode's data looks like, from wherever it was stored.

use super::xattrs::XattrPlan;
use super::{can_inline, directory};
use crate::data::encode::StoredExtent;
use crate::data::fragments::{FragmentRef, Offsets};
use crate::data::tails::TailRef;
use crate::data::treatment::ChunkMap;
use crate::data::{StoredData, StoredPclusters};
use crate::tree::{Body, DataRange, FrozenTree, InodeId, Location};
use erofs_format::chunk::{Chunk, ChunkFormat};
use erofs_format::compression::map_header::{Advise, MAP_HEADER_SIZE};
use erofs_format::compression::{Algorithm, Extent, compact_index, full_index};
use erofs_format::inode::EXTENDED_INODE_SIZE;
use erofs_format::{BlockAddr, BlockBits, ByteOffset, DeviceId};

/// Which lcluster index compressed files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexForm {
    /// Two to four bytes for each block.
    #[default]
    Compact,
    /// Eight bytes for each block.
    Full,
}

impl IndexForm {
    /// The compact form has no room for offsets in blocks above 16 KiB.
    fn for_blocks(self, block_bits: BlockBits) -> Self {
        if block_bits.bits() > 14 {
            Self::Full
        } else {
            self
        }
    }
}

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
    /// Where fragments are in the packed inode.
    pub fragments: Option<&'d Offsets>,
    /// Block size.
    pub block_bits: BlockBits,
    /// Form of the index of compressed files.
    pub index_form: IndexForm,
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
        /// Offset in the packed inode of what follows them.
        fragment: Option<u64>,
        /// What the last of them decodes from, when it is inlined behind the index.
        tail: Option<TailRef>,
        /// Form of the index.
        form: IndexForm,
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

/// Where the chunks of a file are.
#[derive(Debug)]
pub enum ChunkTable<'d> {
    /// Nowhere.
    Hole,
    /// Runs with data follow each other on a device.
    Stored {
        /// The device.
        device: DeviceId,
        /// First block.
        start: BlockAddr,
        /// Which chunks hold data.
        map: &'d ChunkMap,
    },
    /// Stretches with data follow each other on a device.
    Device {
        /// The device.
        device: DeviceId,
        /// First block.
        start: BlockAddr,
        /// Stretches with data; `None` for the whole file.
        ranges: Option<&'d [DataRange]>,
    },
    /// Wherever these say.
    Pieces(&'d [ChunkPiece]),
    /// All on a device but the last chunk, which is on the primary one.
    CopiedEnd {
        /// The device.
        device: DeviceId,
        /// Where the last chunk is.
        end: BlockAddr,
    },
}

/// Advise bits of a compressed file: sizes of pclusters are recorded where any is larger than a block, and two-byte
/// records are used where an offset in a block fits them.
pub fn advise(
    form: IndexForm,
    block_bits: BlockBits,
    extents: &[Extent],
    has_fragment: bool,
    tail: Option<TailRef>,
) -> Advise {
    let mut advise = Advise::empty();
    advise.set(Advise::FRAGMENT_PCLUSTER, has_fragment);
    advise.set(Advise::COMPACTED_2B, has_two_byte_records(form, block_bits));
    let big = extents.iter().any(|extent| extent.blocks > 1);
    advise.set(Advise::BIG_PCLUSTERS, big);
    advise.set(Advise::INLINE_PCLUSTER, tail.is_some());
    advise
}

fn has_two_byte_records(form: IndexForm, block_bits: BlockBits) -> bool {
    form == IndexForm::Compact && block_bits <= BlockBits::B4096
}

impl<'d> DataMap<'d> {
    /// The data of an inode.
    pub fn of(&self, tree: &'d FrozenTree, id: InodeId) -> InodeData<'d> {
        let inode = tree.inode(id);
        match inode.body {
            Body::CharDevice(_) | Body::BlockDevice(_) | Body::Fifo | Body::Socket => {
                InodeData::Nothing
            }
            Body::Directory => {
                let size = directory::size(tree, id, self.block_bits, self.omit_dot);
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
            Body::Regular { size: 0, .. } => InodeData::Nothing,
            Body::Regular { size, location } => self.regular(tree, size, location),
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

    fn chunked(&self, size: u64, format: ChunkFormat, table: ChunkTable<'d>) -> InodeData<'d> {
        InodeData::Chunked {
            size,
            format,
            chunks: format.chunk_count(size, self.block_bits),
            table,
        }
    }

    fn regular(&self, tree: &'d FrozenTree, size: u64, location: Location) -> InodeData<'d> {
        match location {
            Location::Stored(number) => self.stored_file(size, &self.stored[number as usize]),
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
            Location::Nowhere | Location::Directory => self.hole(size),
        }
    }

    fn hole(&self, size: u64) -> InodeData<'d> {
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

    fn stored_file(&self, size: u64, stored: &'d StoredData) -> InodeData<'d> {
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
                InodeData::Compressed {
                    size,
                    start: *start,
                    blocks: *blocks,
                    extents,
                    algorithm: *algorithm,
                    fragment,
                    tail: *tail,
                    form,
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

/// The smallest chunk size that covers a whole file with one chunk.
fn covering_shift(size: u64, block_bits: BlockBits) -> u8 {
    let blocks = block_bits.blocks_for(size).max(1).next_power_of_two();
    // 2^31 blocks are the largest chunk; a larger file has several.
    u8::try_from(blocks.ilog2().min(31)).unwrap_or(31)
}

/// The largest chunk size at whose multiples all stretches of data begin and end.
pub(crate) fn aligned_shift(size: u64, ranges: &[DataRange], block_bits: BlockBits) -> u8 {
    let covering = covering_shift(size, block_bits);
    let bits = ranges.iter().fold(
        u64::from(covering) + u64::from(block_bits.bits()),
        |least, range| {
            let end = range.offset + range.length;
            let end_bits = if end >= size {
                64
            } else {
                u64::from(end.trailing_zeros())
            };
            least
                .min(u64::from(range.offset.trailing_zeros()))
                .min(end_bits)
        },
    );
    u8::try_from(bits.saturating_sub(block_bits.bits().into())).unwrap_or(0)
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
            Self::Compressed {
                size,
                form,
                block_bits,
                tail,
                ..
            } => index_end(head, *size, *form, *block_bits) + tail.map_or(0, TailRef::size),
        }
    }
}

/// Where the index of a compressed file of `size` bytes ends whose inode and attributes take `head` bytes, counted from the
/// start of the inode.
fn index_end(head: u64, size: u64, form: IndexForm, block_bits: BlockBits) -> u64 {
    let header = head.next_multiple_of(8);
    let records = block_bits.blocks_for(size);
    match form {
        IndexForm::Full => header + full_index::INDEX_OFFSET + records * full_index::RECORD_SIZE,
        IndexForm::Compact => {
            let packs = header + MAP_HEADER_SIZE;
            let two_byte = has_two_byte_records(form, block_bits);
            packs + compact_index::Layout::new(ByteOffset(packs), records, two_byte).size()
        }
    }
}

/// Bytes that are sure to fit between the end of the index of a compressed file and the end of a block, when inode and
/// attributes take at most `head` bytes.
pub fn tail_room(head: u64, size: u64, form: IndexForm, block_bits: BlockBits) -> u16 {
    // A smaller inode may shift 16 records from packs of two to packs of four bytes.
    const SHIFTED: u64 = 32;
    let end = index_end(head, size, form.for_blocks(block_bits), block_bits) + SHIFTED;
    u16::try_from(block_bits.bytes().saturating_sub(end)).unwrap_or(0)
}

impl ChunkTable<'_> {
    /// What the table of `chunks` chunks says, in order.
    pub fn chunks(
        &self,
        chunks: u64,
        format: ChunkFormat,
        block_bits: BlockBits,
    ) -> impl Iterator<Item = Chunk> {
        let mut pieces = self
            .pieces(chunks, format, block_bits)
            .into_iter()
            .peekable();
        let blocks_per_chunk = 1u64 << format.block_shift;
        (0..chunks).map(move |number| {
            while pieces
                .next_if(|piece| piece.first + piece.count <= number)
                .is_some()
            {}
            match pieces.peek() {
                Some(piece) if piece.first <= number => Chunk::Data {
                    device: piece.device,
                    block: BlockAddr(piece.start.0 + (number - piece.first) * blocks_per_chunk),
                },
                _ => Chunk::Hole,
            }
        })
    }

    /// Stretches of chunks with data, ascending.
    fn pieces(&self, chunks: u64, format: ChunkFormat, block_bits: BlockBits) -> Vec<ChunkPiece> {
        let whole = |device, start| ChunkPiece {
            first: 0,
            count: chunks,
            device,
            start,
        };
        match *self {
            Self::Hole => Vec::new(),
            Self::Stored { device, start, map } => {
                let mut next = start.0;
                map.runs
                    .iter()
                    .map(|run| {
                        let start = BlockAddr(next);
                        next += run.count << format.block_shift;
                        ChunkPiece {
                            first: run.first,
                            count: run.count,
                            device,
                            start,
                        }
                    })
                    .collect()
            }
            Self::Device {
                device,
                start,
                ranges: None,
            } => vec![whole(device, start)],
            Self::Device {
                device,
                start,
                ranges: Some(ranges),
            } => {
                let bits = format.chunk_bits(block_bits);
                let mut next = start.0;
                ranges
                    .iter()
                    .map(|range| {
                        let start = BlockAddr(next);
                        next += block_bits.blocks_for(range.length);
                        let first = range.offset >> bits;
                        ChunkPiece {
                            first,
                            count: range.length.div_ceil(1 << bits),
                            device,
                            start,
                        }
                    })
                    .collect()
            }
            Self::Pieces(pieces) => pieces.to_vec(),
            Self::CopiedEnd { device, end } => {
                let last = chunks.saturating_sub(1);
                vec![
                    ChunkPiece {
                        first: 0,
                        count: last,
                        device,
                        start: BlockAddr(0),
                    },
                    ChunkPiece {
                        first: last,
                        count: 1,
                        device: DeviceId::PRIMARY,
                        start: end,
                    },
                ]
            }
        }
    }
}

/// Chunks that follow each other in the file and on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPiece {
    /// Number of the first chunk.
    pub first: u64,
    /// Number of chunks.
    pub count: u64,
    /// The device.
    pub device: DeviceId,
    /// First block on it.
    pub start: BlockAddr,
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

    #[test]
    fn one_chunk_covers_a_file_and_sparse_chunks_end_where_data_does() {
        assert_eq!(covering_shift(1, BlockBits::B4096), 0);
        assert_eq!(covering_shift(4097, BlockBits::B4096), 1);
        assert_eq!(covering_shift(u64::MAX >> 1, BlockBits::B512), 31);
        let ranges = [
            DataRange {
                offset: 8192,
                length: 4096,
            },
            DataRange {
                offset: 65536,
                length: 100,
            },
        ];
        assert_eq!(aligned_shift(65636, &ranges, BlockBits::B512), 3);
        assert_eq!(aligned_shift(1 << 20, &ranges, BlockBits::B512), 0);
    }
}
