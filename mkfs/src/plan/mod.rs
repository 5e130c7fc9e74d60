//! Decides what every inode looks like and where it goes, before a byte of metadata is written.
//!
//! ```text
//! block 0: superblock, configurations, device table │ file data │ inodes │ directory blocks │ shared xattrs
//! ```
//! Data comes first, so that it can be written while it is read. The inodes lie together, the root first: its NID fits 16
//! bits whatever the size of the image. `meta_blkaddr` points one block below the inodes, so none has NID 0, which user
//! space takes for "no entry".

pub mod chunk_table;
pub mod directory;
pub mod index_form;
pub mod inode_data;
pub mod long_prefix;
mod space;
pub mod xattrs;

use crate::options::{ImageOptions, InodeForm};
use crate::tree::{Body, FrozenTree, InodeId};
use erofs_format::inode::{COMPACT_INODE_SIZE, EXTENDED_INODE_SIZE, Inode, Timestamp};
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
#[derive(Debug)]
pub struct Plan {
    /// For each inode of the tree its slot in the inode area; `u64::MAX` for those that are not reached.
    slots: Vec<u64>,
    /// For each inode of the tree the first of its blocks after the inode area (directories, long links).
    blocks: Vec<u32>,
    /// Reached inodes by ascending slot.
    pub order: Vec<InodeId>,
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
    /// Blocks of the image.
    pub end: BlockAddr,
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
    /// Places the metadata of `tree` from block `start` on. Of `superblock` epoch, features and block size count.
    pub fn new(
        tree: &FrozenTree,
        data: &DataMap<'_>,
        superblock: &Superblock,
        options: &ImageOptions,
        prefixes: &[LongPrefix],
        start: BlockAddr,
    ) -> Self {
        let block_bits = superblock.block_bits;
        let xattrs = XattrPlan::new(tree, options.xattr_tolerance, &options.metadata, prefixes);
        let extended = options.metadata.inode_form == InodeForm::Extended;
        let mut slots = vec![u64::MAX; tree.inode_table_len()];
        let mut order = Vec::new();
        let mut space = Space::new(block_bits);
        for id in tree.all_inodes() {
            let inode_data = data.of(tree, id);
            let shape = shape(tree, id, &inode_data, &xattrs, superblock, extended);
            slots[id.index()] = space.take(shape.total) / Nid::SLOT;
            order.push(id);
        }
        order.sort_unstable_by_key(|id| slots[id.index()]);
        let directory_area = BlockAddr(start.0 + space.blocks());
        let mut next = directory_area.0;
        let mut blocks = vec![0; tree.inode_table_len()];
        for id in tree.breadth_first() {
            let count = metadata_blocks(&data.of(tree, id), block_bits);
            if count > 0 {
                blocks[id.index()] = u32::try_from(next).unwrap_or(u32::MAX);
                next += count;
            }
        }
        let xattr_area = BlockAddr(next);
        let end = BlockAddr(next + block_bits.blocks_for(xattrs.shared.len() as u64));
        Self {
            slots,
            blocks,
            order,
            xattrs,
            extended,
            inode_area: start,
            directory_area,
            xattr_area,
            end,
        }
    }

    /// What the inode takes in the metadata area.
    pub fn shape(
        &self,
        tree: &FrozenTree,
        id: InodeId,
        data: &InodeData<'_>,
        superblock: &Superblock,
    ) -> Shape {
        shape(tree, id, data, &self.xattrs, superblock, self.extended)
    }

    /// The block that `meta_blkaddr` names.
    pub fn meta_block(&self) -> BlockAddr {
        BlockAddr(self.inode_area.0.saturating_sub(1))
    }

    /// NID of an inode.
    pub fn nid(&self, id: InodeId, block_bits: BlockBits) -> Nid {
        let before = (self.inode_area.0 - self.meta_block().0) * (block_bits.bytes() / Nid::SLOT);
        Nid(before + self.slots[id.index()])
    }

    /// Offset of an inode from the start of the inode area, in bytes.
    pub fn offset(&self, id: InodeId) -> u64 {
        self.slots[id.index()] * Nid::SLOT
    }

    /// First block of a directory's or link's own blocks.
    pub fn first_block(&self, id: InodeId) -> BlockAddr {
        BlockAddr(self.blocks[id.index()].into())
    }
}

fn shape(
    tree: &FrozenTree,
    id: InodeId,
    data: &InodeData<'_>,
    xattrs: &XattrPlan,
    superblock: &Superblock,
    extended: bool,
) -> Shape {
    let inode = tree.inode(id);
    let extended = extended
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
    let head = core + xattrs.body(id, inode.xattrs).len() as u64;
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
