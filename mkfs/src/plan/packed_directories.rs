//! Directories whose data is in the packed inode, behind the fragments of files: small ones are compressed there as one, which pays
//! where they are many (Linux 6.1).
//!
//! Their data tells where inodes are, and is known when these have their places. Of a directory in the packed inode only its size
//! counts for that, and the packed inode itself gets its place behind all others.

use super::directory;
use crate::data::made::MetadataPipeline;
use crate::tree::{Body, FrozenTree, InodeId};
use erofs_format::BlockBits;
use std::collections::HashMap;

/// Where directories are in the packed inode.
#[derive(Debug, Default)]
pub struct PackedDirectories {
    /// By ascending offset.
    order: Vec<InodeId>,
    offsets: HashMap<InodeId, u64>,
    /// Where the last one ends, in bytes.
    end: u64,
}

impl PackedDirectories {
    /// Gives all directories of `tree` that are not tiny a place from byte `start` of the packed inode on; `None` where they all fit a
    /// block, which is the least that a pcluster takes.
    pub fn place(
        tree: &FrozenTree,
        start: u64,
        block_bits: BlockBits,
        omit_dot: bool,
    ) -> Option<Self> {
        /// A map header takes 8 bytes, and what tells little compresses little.
        const TINY: u64 = 48;
        let mut placed = Self {
            end: start,
            ..Self::default()
        };
        for id in tree.depth_first() {
            if !matches!(tree.inode(id).body, Body::Directory) {
                continue;
            }
            let size = directory::size(tree, id, block_bits, omit_dot);
            if size > TINY {
                placed.order.push(id);
                placed.offsets.insert(id, placed.end);
                placed.end += size;
            }
        }
        MetadataPipeline::compresses(placed.end - start, block_bits).then_some(placed)
    }

    /// Directories by ascending offset.
    pub fn in_order(&self) -> &[InodeId] {
        &self.order
    }

    /// Where a directory is in the packed inode, if it is there, in bytes.
    pub fn offset(&self, id: InodeId) -> Option<u64> {
        self.offsets.get(&id).copied()
    }

    /// Size of a packed inode that ends with them, in bytes.
    pub const fn end(&self) -> u64 {
        self.end
    }
}
