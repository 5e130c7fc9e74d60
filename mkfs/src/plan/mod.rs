//! Decides what every inode looks like and where it goes, before a byte of metadata is written.
//!
//! ```text
//! block 0: superblock, configurations, device table │ file data │ inodes │ directory blocks │ shared xattrs
//! ```
//! Data comes first, so that it can be written while it is read. The inodes lie together, the root first: its NID fits 16
//! bits whatever the size of the image. `meta_blkaddr` points one block below the inodes, so none has NID 0, which user
//! space takes for "no entry".
//!
//! With a metabox all inodes but the root, the packed and the metabox inode itself are the data of the metabox inode, which
//! is compressed as a file is. It tells where directories' blocks are, so these come before it:
//! ```text
//! block 0 │ file data │ directory blocks │ the metabox inode's data │ three inodes
//! ```

pub mod chunk_table;
pub mod directory;
pub mod encoded_extents;
pub mod index_form;
pub mod inode_data;
pub(crate) mod layer_files;
pub mod long_prefix;
pub mod packed_directories;
mod space;
pub mod xattrs;

use crate::data::made::MetadataPipeline;
use crate::options::{ImageOptions, InodeForm};
use crate::tree::{Body, FrozenTree, InodeId, Location};
use erofs_format::inode::{COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE, Inode, NO_BLOCK_32, Timestamp};
use erofs_format::superblock::Superblock;
use erofs_format::xattr::LongPrefix;
use erofs_format::{BlockAddr, BlockBits, Nid};
use inode_data::{DataMap, InodeData};
use space::Space;
use std::collections::HashMap;
use xattrs::XattrPlan;

/// What an inode takes in the metadata area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// 64 instead of 32 bytes.
    pub extended: bool,
    /// Inode and xattr body, in bytes.
    pub head: u64,
    /// With map or table and inline tail, in bytes.
    pub total: u64,
}

/// Where everything goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For each inode of the tree its slot in the inode area; `u64::MAX` for those that are not reached.
    slots: Vec<u64>,
    /// For each inode of the tree (directories, long links) the first of its blocks, counted from the first of all these.
    blocks: Vec<u32>,
    /// Reached inodes in the inode area, by ascending slot.
    pub order: Vec<InodeId>,
    /// Those in the metabox, by ascending slot.
    pub boxed: Vec<InodeId>,
    /// For each inode of the tree whether it is in the metabox; empty without one.
    in_metabox: Vec<bool>,
    /// Size of the metabox inode's data in bytes.
    metabox_size: u64,
    /// Whether any directory or the metabox is compressed.
    compresses_metadata: bool,
    /// Blocks of the metabox and of directories that are compressed, if they do not become smaller.
    compressed_blocks: u64,
    /// Blocks of the inode area.
    inode_blocks: u64,
    /// Blocks of directories and long links.
    directory_blocks: u64,
    /// Extended attributes.
    pub xattrs: XattrPlan,
    /// Whether all inodes take 64 bytes.
    extended: bool,
    /// First block of the inode area.
    pub inode_area: BlockAddr,
    /// First block of directory data.
    pub directory_area: BlockAddr,
    /// First block of the shared xattrs.
    pub xattr_area: BlockAddr,
}

/// The most frequent modification time of the tree's inodes: as the epoch of the image it lets most of them be compact.
/// Of equally frequent ones the earliest counts.
pub fn most_frequent_time(tree: &FrozenTree) -> Timestamp {
    /// Different times that are counted; a tree with more gains little from any epoch.
    const LIMIT: usize = 1 << 16;
    let mut counts: HashMap<Timestamp, u64> = HashMap::new();
    for id in tree.breadth_first() {
        let time = tree.inode(id).mtime;
        if let Some(count) = counts.get_mut(&time) {
            *count += 1;
        } else if counts.len() < LIMIT {
            counts.insert(time, 1);
        }
    }
    let best = counts
        .into_iter()
        .max_by(|(time_a, a), (time_b, b)| a.cmp(b).then(time_b.cmp(time_a)));
    best.map(|(time, _)| time).unwrap_or_default()
}

impl Plan {
    /// Decides what the metadata of `tree` takes, and gives each inode its NID. Of `superblock` epoch, features and block
    /// size count. The areas get their addresses by [`Self::place`], or one by one.
    pub fn new(
        tree: &FrozenTree,
        data: &DataMap<'_>,
        superblock: &Superblock,
        options: &ImageOptions,
        prefixes: &[LongPrefix],
    ) -> Self {
        let block_bits = superblock.block_bits;
        // Linux 6.17 and 6.18 lose shared attributes of inodes in the metabox, where they compress well inline.
        let tolerance = match tree.metabox() {
            Some(_) => u32::MAX,
            None => options.xattr_tolerance,
        };
        let xattrs = XattrPlan::new(tree, tolerance, &options.metadata, prefixes);
        let extended = options.metadata.inode_form == InodeForm::Extended;
        let mut slots = vec![u64::MAX; tree.inode_table_len()];
        let (mut order, mut boxed) = (Vec::new(), Vec::new());
        let (mut space, mut box_space) = (Space::new(block_bits), Space::new(block_bits));
        let mut in_metabox = match tree.metabox() {
            Some(_) => vec![false; tree.inode_table_len()],
            None => Vec::new(),
        };
        let mut metabox_size = 0;
        let take = |id: InodeId, inode_data: &InodeData<'_>, space: &mut Space| {
            let set = tree.inode(id).xattrs;
            let body = xattrs.body(id, set, data.fingerprint(tree, id)).len() as u64;
            let shape = shape(tree, id, inode_data, body, superblock, extended);
            let offset = space.take(shape.total);
            (offset / Nid::SLOT, offset + shape.total)
        };
        for id in tree.all_inodes() {
            // These are found before the metabox is.
            let is_special =
                id == InodeId::ROOT || [tree.packed(), tree.metabox()].contains(&Some(id));
            if in_metabox.is_empty() || is_special {
                // The metabox inode is the last of all.
                let inode_data = match tree.inode(id).body {
                    Body::Regular {
                        location: Location::Metabox,
                        ..
                    } => data.metabox_data(metabox_size),
                    _ => data.of(tree, id),
                };
                (slots[id.index()], _) = take(id, &inode_data, &mut space);
                order.push(id);
            } else {
                let (slot, end) = take(id, &data.of(tree, id), &mut box_space);
                slots[id.index()] = slot;
                in_metabox[id.index()] = true;
                metabox_size = metabox_size.max(end.next_multiple_of(Nid::SLOT));
                boxed.push(id);
            }
        }
        order.sort_unstable_by_key(|id| slots[id.index()]);
        boxed.sort_unstable_by_key(|id| slots[id.index()]);
        let mut compresses_metadata = MetadataPipeline::compresses(metabox_size, block_bits);
        let mut compressed_blocks = block_bits.blocks_for(metabox_size);
        let mut next = 0;
        let mut blocks = vec![0; tree.inode_table_len()];
        for id in tree.breadth_first() {
            let inode_data = data.of(tree, id);
            if let (Body::Directory, InodeData::Compressed { size, .. }) =
                (tree.inode(id).body, &inode_data)
            {
                compresses_metadata = true;
                compressed_blocks += block_bits.blocks_for(*size);
            }
            let count = metadata_blocks(&inode_data, block_bits);
            if count > 0 {
                blocks[id.index()] = u32::try_from(next).unwrap_or(u32::MAX);
                next += count;
            }
        }
        Self {
            slots,
            blocks,
            order,
            boxed,
            in_metabox,
            metabox_size,
            compresses_metadata,
            compressed_blocks,
            inode_blocks: space.blocks(),
            directory_blocks: next,
            xattrs,
            extended,
            inode_area: BlockAddr(0),
            directory_area: BlockAddr(0),
            xattr_area: BlockAddr(0),
        }
    }

    /// Places everything from block `start` on, for an image without a metabox.
    pub fn place(&mut self, start: BlockAddr) {
        self.inode_area = start;
        self.directory_area = BlockAddr(start.0 + self.inode_blocks);
        self.xattr_area = BlockAddr(self.directory_area.0 + self.directory_blocks);
    }

    /// Places the directories' blocks; in an image with a metabox they come first.
    pub fn place_directories(&mut self, start: BlockAddr) {
        self.directory_area = start;
    }

    /// Places the inodes that are not in the metabox, behind its data.
    pub fn place_inodes(&mut self, start: BlockAddr) {
        self.inode_area = start;
        self.xattr_area = BlockAddr(start.0 + self.inode_blocks);
    }

    /// First block behind the directories' blocks.
    pub fn directory_end(&self) -> BlockAddr {
        BlockAddr(self.directory_area.0 + self.directory_blocks)
    }

    /// First block behind the inodes that are not in the metabox.
    pub fn inode_end(&self) -> BlockAddr {
        BlockAddr(self.inode_area.0 + self.inode_blocks)
    }

    /// Blocks of the image.
    pub fn end(&self, block_bits: BlockBits) -> BlockAddr {
        BlockAddr(self.xattr_area.0 + block_bits.blocks_for(self.xattrs.shared.len() as u64))
    }

    /// First block behind all metadata from block `start` on, at most: where nothing of it is compressed it ends there. Pclusters
    /// take fewer blocks than what they decode to.
    pub fn most_end(&self, start: BlockAddr, block_bits: BlockBits) -> BlockAddr {
        let shared = block_bits.blocks_for(self.xattrs.shared.len() as u64);
        let own = self.inode_blocks + self.directory_blocks + shared;
        BlockAddr(start.0 + self.compressed_blocks + own)
    }

    /// Whether any directory or the metabox is compressed.
    pub const fn compresses_metadata(&self) -> bool {
        self.compresses_metadata
    }

    /// Size of the metabox inode's data in bytes; 0 without one.
    pub const fn metabox_size(&self) -> u64 {
        self.metabox_size
    }

    /// What the inode, with attributes of `body` bytes, takes in the metadata area.
    pub fn shape(
        &self,
        tree: &FrozenTree,
        id: InodeId,
        data: &InodeData<'_>,
        body: u64,
        superblock: &Superblock,
    ) -> Shape {
        shape(tree, id, data, body, superblock, self.extended)
    }

    /// The block that `meta_blkaddr` names.
    pub fn meta_block(&self) -> BlockAddr {
        BlockAddr(self.inode_area.0.saturating_sub(1))
    }

    /// NID of an inode.
    pub fn nid(&self, id: InodeId, block_bits: BlockBits) -> Nid {
        let slot = self.slots[id.index()];
        if self.in_metabox.get(id.index()).copied().unwrap_or(false) {
            return Nid(Nid::METABOX | slot);
        }
        // One block: see `meta_block`, which is never that of the superblock.
        Nid(block_bits.bytes() / Nid::SLOT + slot)
    }

    /// Offset of an inode from the start of the inode area or the metabox, in bytes.
    pub fn offset(&self, id: InodeId) -> u64 {
        self.slots[id.index()] * Nid::SLOT
    }

    /// First block of a directory's or link's own blocks.
    pub fn first_block(&self, id: InodeId) -> BlockAddr {
        BlockAddr(self.directory_area.0 + u64::from(self.blocks[id.index()]))
    }
}

fn shape(
    tree: &FrozenTree,
    id: InodeId,
    data: &InodeData<'_>,
    body: u64,
    superblock: &Superblock,
    extended: bool,
) -> Shape {
    let inode = tree.inode(id);
    // In a compact inode the high bits of an address take the place of the number of links.
    let is_far = |start: BlockAddr| start.0 >= NO_BLOCK_32.into();
    let far = matches!(data, InodeData::Flat { start: Some(start), .. } if is_far(*start));
    let extended = extended
        || far && inode.nlink != 1
        || !Inode::fits_compact(
            data.size(),
            inode.uid,
            inode.gid,
            inode.nlink,
            inode.mtime,
            superblock,
        );
    let core = if extended {
        EXTENDED_INODE_SIZE
    } else {
        COMPACT_INODE_SIZE
    };
    let head = core + body;
    Shape {
        extended,
        head,
        total: data.end_of_metadata(head),
    }
}

/// Blocks that an inode has behind the inode area.
pub fn metadata_blocks(data: &InodeData<'_>, block_bits: BlockBits) -> u64 {
    match data {
        InodeData::Metadata { size, inline_tail } => block_bits.blocks_for(size - inline_tail),
        _ => 0,
    }
}

/// Whether the last partial block of `size` bytes can be inlined behind `head` bytes of inode and attributes.
pub const fn can_inline(head: u64, size: u64, block_bits: BlockBits) -> bool {
    let tail = block_bits.offset_in_block(size);
    tail > 0 && head + tail <= block_bits.bytes()
}

/// Whether an inode is a directory or link, whose data is written with the metadata.
pub const fn is_metadata(body: &Body) -> bool {
    matches!(body, Body::Directory | Body::Symlink(_))
}
