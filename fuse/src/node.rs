//! Node ids of the FUSE protocol, and attributes.
//!
//! A node id is the number that `stat` shows (`st_ino`), which is that of a kernel mount, so that nothing has to be
//! remembered between requests. Three exceptions: the root must be node 1, node 0 means "no such file", and a file that
//! really has the number 0 or 1 gets a node id that no NID leads to.

use erofs_format::BlockBits;
use erofs_format::Nid;
use erofs_format::inode::{FileType, InodePayload};
use erofs_reader::{Image, Inode};
use fuser::{FileAttr, INodeNo};
use std::time::{Duration, SystemTime};

/// Set in the node ids of files with the numbers 0 and 1. NIDs count 32-byte slots, so that a valid one is below 2^59
/// (2^60 as a number of a metabox image).
const DISPLACED: u64 = 1 << 62;

/// Translates between NIDs, numbers (`st_ino`) and node ids of one image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nodes {
    root: Nid,
    metabox: bool,
}

impl Nodes {
    pub(crate) fn new(image: &Image) -> Self {
        let superblock = image.superblock();
        Self {
            root: superblock.root,
            metabox: superblock.metabox.is_some(),
        }
    }

    /// The number that `stat` shows.
    pub(crate) const fn number(self, nid: Nid) -> u64 {
        nid.to_ino(self.metabox)
    }

    pub(crate) fn node(self, nid: Nid) -> INodeNo {
        if nid == self.root {
            return INodeNo::ROOT;
        }
        match self.number(nid) {
            number @ 0..=1 => INodeNo(DISPLACED | number),
            number => INodeNo(number),
        }
    }

    /// Whether node id and number differ, so that the kernel must not keep the number it got from a lookup.
    pub(crate) fn is_displaced(self, nid: Nid) -> bool {
        self.node(nid).0 != self.number(nid)
    }

    pub(crate) fn nid(self, node: INodeNo) -> Nid {
        if node == INodeNo::ROOT {
            return self.root;
        }
        let number = match node.0 {
            displaced if displaced & !1 == DISPLACED => displaced & 1,
            number => number,
        };
        if !self.metabox {
            return Nid(number);
        }
        // The inverse of `Nid::to_ino`: bit 31 moves up to bit 63, those above it move down by one.
        let above = (number >> 1) & 0x7FFF_FFFF_8000_0000;
        Nid(above | (number & 0x7FFF_FFFF) | ((number >> 31 & 1) << 63))
    }
}

/// Attributes of an inode as a kernel mount shows them (`erofs_read_inode`, fs/erofs/inode.c), under a number.
pub(crate) fn attributes(inode: &Inode, number: INodeNo, block_bits: BlockBits) -> FileAttr {
    let mtime = system_time(inode.mtime.seconds, inode.mtime.nanoseconds);
    let blocks = match inode.payload {
        InodePayload::CompressedBlocks(blocks) => blocks,
        _ => block_bits.blocks_for(inode.size),
    };
    FileAttr {
        ino: number,
        size: inode.size,
        // In units of 512 bytes, which no block is smaller than.
        blocks: blocks << block_bits.bits().saturating_sub(9),
        atime: mtime,
        mtime,
        ctime: mtime,
        crtime: mtime,
        kind: kind(inode.file_type),
        perm: inode.mode & 0o7777,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: match inode.payload {
            InodePayload::Device(device) => device.encode().unwrap_or(0),
            _ => 0,
        },
        blksize: u32::try_from(block_bits.bytes()).unwrap_or(4096),
        flags: 0,
    }
}

/// Attributes that say no more than the type: of a file whose inode cannot be read.
pub(crate) fn unknown_attributes(file_type: Option<FileType>, number: INodeNo) -> FileAttr {
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: number,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: kind(file_type.unwrap_or(FileType::Regular)),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}

pub(crate) const fn kind(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::Symlink => fuser::FileType::Symlink,
    }
}

/// Times that do not fit (nanoseconds of hostile images can carry over) become the epoch.
fn system_time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if seconds < 0 {
        epoch.checked_sub(whole)
    } else {
        epoch.checked_add(whole)
    };
    time.and_then(|time| time.checked_add(Duration::from_nanos(nanoseconds.into())))
        .unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_nid_has_its_own_node(root in 0u64..40, slot in 0u64..1 << 59, high: bool, metabox: bool) {
            let nodes = Nodes { root: Nid(root), metabox };
            let near = Nid(slot % 40);
            let far = Nid(slot | if high && metabox { Nid::METABOX } else { 0 });
            for nid in [near, far] {
                let node = nodes.node(nid);
                prop_assert_eq!(nodes.nid(node), nid);
                prop_assert_ne!(node.0, 0);
                prop_assert_eq!(node == INodeNo::ROOT, nid == nodes.root);
                prop_assert_eq!(nodes.is_displaced(nid), node.0 != nid.to_ino(metabox));
            }
        }

        #[test]
        fn times_are_exact(seconds: i64, nanoseconds in 0u32..1_000_000_000) {
            let time = system_time(seconds, nanoseconds);
            let back = match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => i128::try_from(after.as_nanos()).unwrap(),
                Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap(),
            };
            prop_assert_eq!(back, i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds));
        }
    }

    #[test]
    fn carrying_nanoseconds_do_no_harm() {
        assert_eq!(system_time(i64::MAX, u32::MAX), SystemTime::UNIX_EPOCH);
        assert!(system_time(0, u32::MAX) > SystemTime::UNIX_EPOCH);
    }
}
