//! Images that no builder writes: one inode for each block, names and numbers as the test wants them.

use erofs_format::{
    BlockAddr, BlockBits, ByteOffset, Nid,
    directory::{self, Dirent},
    feature::{FeatureCompat, FeatureIncompat},
    inode::{DataLayout, FileType, Inode, InodePayload, Timestamp},
    superblock::{SUPERBLOCK_OFFSET, Superblock},
};

/// Inode slots of 32 bytes in a block of 4096.
const SLOTS_PER_BLOCK: u64 = 128;

/// An image under construction. Inode `i` is block `i + 1`; the first one added is the root.
pub(crate) struct Hostile {
    superblock: Superblock,
    inodes: Vec<Vec<u8>>,
}

impl Hostile {
    pub(crate) fn new() -> Self {
        Self {
            superblock: Superblock {
                checksum: 0,
                compat: FeatureCompat::empty(),
                incompat: FeatureIncompat::CHUNKED_FILE,
                block_bits: BlockBits::B4096,
                extension_slots: 0,
                root: Nid(0),
                inodes: 0,
                epoch: 0,
                fixed_nanoseconds: 0,
                build_time: 0,
                blocks: 0,
                meta_block: BlockAddr(1),
                xattr_block: BlockAddr(0),
                uuid: [7; 16],
                label: [0; 16],
                algorithms_or_lz4_window: 0,
                extra_devices: 0,
                device_table: ByteOffset(0),
                xattr_prefix_count: 0,
                xattr_prefix_start: ByteOffset(0),
                packed: None,
                metabox: None,
                xattr_filter: false,
                inode_share_prefix: None,
            },
            inodes: Vec::new(),
        }
    }

    /// The number that the `index`th inode has or will have.
    pub(crate) const fn nid(index: u64) -> Nid {
        Nid(index * SLOTS_PER_BLOCK)
    }

    fn push(&mut self, inode: &Inode, rest: &[u8]) -> Nid {
        let mut bytes = Vec::new();
        inode.encode(&self.superblock, &mut bytes).expect("fits");
        bytes.extend_from_slice(rest);
        assert!(bytes.len() <= 4096, "one block");
        bytes.resize(4096, 0);
        self.inodes.push(bytes);
        Self::nid(self.inodes.len() as u64 - 1)
    }

    fn inode(file_type: FileType, size: u64) -> Inode {
        Inode {
            extended: true,
            layout: DataLayout::FlatInline,
            xattr_icount: 0,
            mode: file_type.mode_bits() | 0o755,
            file_type,
            size,
            payload: InodePayload::StartBlock(None),
            serial: 1,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            nlink: 1,
            dot_omitted: false,
        }
    }

    /// A directory with these entries in this order, `.` and `..` (as which NID 0 stands) in front.
    pub(crate) fn directory(&mut self, entries: &[(&[u8], Nid)]) -> Nid {
        let own = Self::nid(self.inodes.len() as u64);
        let all: Vec<Dirent<'_>> = [(&b"."[..], own), (b"..", Nid(0))]
            .iter()
            .chain(entries)
            .map(|&(name, nid)| Dirent {
                nid,
                file_type: None,
                name,
            })
            .collect();
        let mut block = Vec::new();
        directory::encode_block(&all, &mut block);
        self.push(
            &Self::inode(FileType::Directory, block.len() as u64),
            &block,
        )
    }

    /// A directory that consists of `count` times the same block with these entries. Its map and the block stand behind
    /// all inodes.
    pub(crate) fn repeated_directory(&mut self, entries: &[(&[u8], Nid)], count: u64) -> Nid {
        let inode = Inode {
            layout: DataLayout::ChunkBased,
            payload: InodePayload::ChunkFormat(0),
            ..Self::inode(FileType::Directory, count * 4096)
        };
        let own = Self::nid(self.inodes.len() as u64);
        let mut bytes = Vec::new();
        inode.encode(&self.superblock, &mut bytes).expect("fits");
        // The map follows the inode at once, over as many blocks as it needs, which no other inode may be in.
        let map = bytes.len() as u64 + 4 * count;
        let block = self.inodes.len() as u64 + 1 + map.div_ceil(4096);
        let block = u32::try_from(block).expect("32 bits").to_le_bytes();
        for _ in 0..count {
            bytes.extend_from_slice(&block);
        }
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        let mut names = Vec::new();
        let dirents: Vec<Dirent<'_>> = entries
            .iter()
            .map(|&(name, nid)| Dirent {
                nid,
                file_type: None,
                name,
            })
            .collect();
        directory::encode_block(&dirents, &mut names);
        names.resize(4096, 0);
        bytes.append(&mut names);
        self.inodes.extend(bytes.chunks(4096).map(<[u8]>::to_vec));
        own
    }

    pub(crate) fn file(&mut self, content: &[u8]) -> Nid {
        self.push(
            &Self::inode(FileType::Regular, content.len() as u64),
            content,
        )
    }

    pub(crate) fn symlink(&mut self, target: &[u8]) -> Nid {
        self.push(&Self::inode(FileType::Symlink, target.len() as u64), target)
    }

    /// A file of holes, in two chunks of at most 4 TiB, with owners, modes and times of all ones.
    pub(crate) fn holes(&mut self, size: u64) -> Nid {
        let inode = Inode {
            layout: DataLayout::ChunkBased,
            payload: InodePayload::ChunkFormat(30),
            mode: FileType::Regular.mode_bits() | 0o7777,
            uid: u32::MAX,
            gid: u32::MAX,
            mtime: Timestamp {
                seconds: 1,
                nanoseconds: u32::MAX,
            },
            ..Self::inode(FileType::Regular, size)
        };
        self.push(&inode, &[0xFF; 8])
    }

    /// The image.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.superblock.blocks = self.inodes.len() as u64 + 1;
        let mut image = vec![0; 4096];
        let superblock = self.superblock.encode().expect("fits");
        let start = SUPERBLOCK_OFFSET as usize;
        image[start..start + superblock.len()].copy_from_slice(&superblock);
        image.extend(self.inodes.concat());
        image
    }
}
