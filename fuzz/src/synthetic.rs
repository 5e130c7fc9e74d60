//! Small images around the bytes that a target is about.
//!
//! ```text
//! 1024        superblock, algorithm configurations
//! 1280        two device slots
//! area        inode area, one block or 4 KiB from the start, whichever is more
//! area +  32  root directory, extended
//! area + 128  packed inode
//! area + 256  the file
//! ```

use crate::limit::Guarded;
use erofs_format::compression::config::{
    AlgorithmConfigs, DeflateConfig, Lz4Config, LzmaConfig, ZstdConfig,
};
use erofs_format::device::DeviceSlot;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::{DataLayout, FileType, Inode, InodePayload, Timestamp};
use erofs_format::superblock::Superblock;
use erofs_format::{BlockAddr, BlockBits, ByteOffset, Nid};
use erofs_reader::{ByteSource, Image, ImageOptions};

const ROOT: Nid = Nid(1);
const PACKED: Nid = Nid(4);
/// The file that targets look at.
pub const FILE: Nid = Nid(8);
const DEVICE_TABLE: usize = 1280;

/// What the first 16 bytes of an input say.
#[derive(Debug)]
pub struct Parameters {
    block_bits: BlockBits,
    /// Bits 0 to 2: name filter, prefixes in the packed inode, shared xattrs in the metabox.
    compat: u8,
    /// Bit 0 48-bit, 1 two extra devices, 2 of their own, 3 `.` omitted, 4 directory inlined.
    flags: u8,
    algorithms: u8,
    /// Size of the xattr body, or chunk format.
    word: u16,
    /// Size of the file or directory in bytes.
    pub size: u64,
    prefixes: u8,
}

/// What an image is made around.
#[derive(Debug)]
pub enum Content<'a> {
    /// Data of the root directory.
    Directory(&'a [u8]),
    /// What follows the file's inode, beginning with xattrs.
    Xattrs(&'a [u8]),
    /// What follows the file's inode, beginning with its map.
    Map(DataLayout, &'a [u8]),
}

impl Parameters {
    /// Bytes of an input that are parameters.
    pub const SIZE: usize = 16;

    /// Splits an input; `None` when it is too short.
    pub fn split(input: &[u8]) -> Option<(Self, &[u8])> {
        let (head, data) = input.split_first_chunk::<{ Parameters::SIZE }>()?;
        let [
            bits,
            compat,
            flags,
            algorithms,
            low,
            high,
            size @ ..,
            shift,
            prefixes,
        ] = *head;
        // Mostly sizes that a short index can describe.
        let size = (u64::from_le_bytes(size) & i64::MAX as u64) >> (shift % 64);
        let parameters = Self {
            block_bits: BlockBits::new(9 + bits % 8).expect("9 to 16"),
            compat,
            flags,
            algorithms: algorithms & 15,
            word: u16::from_le_bytes([low, high]),
            size,
            prefixes,
        };
        Some((parameters, data))
    }

    /// The bytes that [`Parameters::split`] makes these of, for a file of `size` bytes.
    pub fn head(
        block_bits: BlockBits,
        flags: u8,
        algorithms: u8,
        word: u16,
        size: u64,
    ) -> [u8; Self::SIZE] {
        let [low, high] = word.to_le_bytes();
        let mut head = [0; { Parameters::SIZE }];
        head[..6].copy_from_slice(&[block_bits.bits() - 9, 0, flags, algorithms, low, high]);
        head[6..14].copy_from_slice(&size.to_le_bytes());
        head
    }

    const fn flag(&self, bit: u8) -> bool {
        self.flags >> bit & 1 != 0
    }

    /// First byte of the inode area.
    fn area(&self) -> usize {
        self.block_bits.len().max(4096)
    }

    fn superblock(&self) -> Superblock {
        let mut incompat = FeatureIncompat::KNOWN.difference(FeatureIncompat::METABOX);
        incompat.set(FeatureIncompat::BIT48, self.flag(0));
        let mut compat = FeatureCompat::empty();
        compat.set(FeatureCompat::XATTR_FILTER, self.compat & 1 != 0);
        compat.set(FeatureCompat::PLAIN_XATTR_PFX, self.compat & 2 == 0);
        compat.set(FeatureCompat::SHARED_EA_IN_METABOX, self.compat & 4 != 0);
        let meta_block = BlockAddr((self.area() >> self.block_bits.bits()) as u64);
        let inode = self.area() as u64 + FILE.0 * Nid::SLOT;
        Superblock {
            checksum: 0,
            compat,
            incompat,
            block_bits: self.block_bits,
            extension_slots: 0,
            root: ROOT,
            inodes: 3,
            epoch: 0,
            fixed_nanoseconds: 0,
            build_time: 0,
            blocks: 64,
            meta_block,
            xattr_block: meta_block,
            uuid: [0; 16],
            label: [0; 16],
            algorithms_or_lz4_window: self.algorithms.into(),
            extra_devices: u16::from(self.flag(1)) * 2,
            device_table: ByteOffset(DEVICE_TABLE as u64),
            xattr_prefix_count: self.prefixes % 16,
            xattr_prefix_start: ByteOffset(inode + u64::from(self.prefixes / 16) * 16),
            packed: Some(PACKED),
            metabox: None,
            xattr_filter: true,
            inode_share_prefix: None,
        }
    }

    fn configs(&self) -> AlgorithmConfigs {
        let listed = |bit: u8| self.algorithms >> bit & 1 != 0;
        AlgorithmConfigs {
            lz4: listed(0).then_some(Lz4Config {
                max_distance: 0,
                max_pcluster_blocks: 1,
            }),
            lzma: listed(1).then_some(LzmaConfig {
                dictionary_size: 32 << 10,
            }),
            deflate: listed(2).then_some(DeflateConfig { window_bits: 15 }),
            zstd: listed(3).then_some(ZstdConfig { window_bits: 17 }),
        }
    }

    /// Makes an image around `content` and opens it.
    pub fn open(&self, content: Content<'_>) -> Option<Image> {
        let superblock = self.superblock();
        let area = self.area();
        let mut image = vec![0; area];
        put(
            &mut image,
            1024,
            &superblock.encode().expect("small numbers"),
        );
        let configs = self
            .configs()
            .encode(self.block_bits)
            .expect("allowed values");
        put(&mut image, 1024 + 128, &configs);
        for (index, unified_start) in [0, 40].into_iter().enumerate() {
            let slot = DeviceSlot {
                tag: [b'a'; 64],
                blocks: 20,
                unified_start: BlockAddr(unified_start),
            };
            put(
                &mut image,
                DEVICE_TABLE + index * 128,
                &slot.encode(false).expect("small numbers"),
            );
        }

        let mut root = inode(FileType::Directory, DataLayout::FlatPlain);
        let mut packed = inode(FileType::Regular, DataLayout::FlatPlain);
        packed.size = 3 * self.block_bits.bytes();
        packed.payload = InodePayload::StartBlock(Some(superblock.meta_block));
        let mut file = inode(FileType::Regular, DataLayout::FlatPlain);
        file.size = self.size;
        let (at, bytes) = match content {
            Content::Directory(data) => {
                root.dot_omitted = self.flag(3);
                root.size = self.size;
                let inlined = self.flag(4);
                if inlined {
                    root.layout = DataLayout::FlatInline;
                }
                let start = superblock.meta_block.0 * 2;
                root.payload = InodePayload::StartBlock(Some(BlockAddr(start)));
                (if inlined { area + 96 } else { 2 * area }, data)
            }
            Content::Xattrs(data) => {
                file.xattr_icount = self.word;
                file.size = 0;
                (area + 320, data)
            }
            Content::Map(layout, data) => {
                file.layout = layout;
                file.payload = match layout {
                    DataLayout::ChunkBased => InodePayload::ChunkFormat(self.word),
                    _ => InodePayload::CompressedBlocks(1),
                };
                (area + 320, data)
            }
        };
        // An inlined directory may run over the other inodes.
        for (nid, inode) in [(FILE, file), (PACKED, packed), (ROOT, root)] {
            let mut record = Vec::new();
            inode
                .encode(&superblock, &mut record)
                .expect("small numbers");
            put(&mut image, area + (nid.0 * Nid::SLOT) as usize, &record);
        }
        put(&mut image, at, bytes);
        let own: Vec<Box<dyn ByteSource>> = if self.flag(1) && self.flag(2) {
            (0..2)
                .map(|_| Box::new(Guarded::new(vec![7; 20 << 9])) as Box<dyn ByteSource>)
                .collect()
        } else {
            Vec::new()
        };
        let options = ImageOptions {
            devices: own,
            extent_cache: 1 << 20,
            metadata_cache: 256 << 10,
            ..ImageOptions::default()
        };
        Image::open(Guarded::new(image), options).ok()
    }
}

fn inode(file_type: FileType, layout: DataLayout) -> Inode {
    Inode {
        extended: true,
        layout,
        xattr_icount: 0,
        mode: file_type.mode_bits() | 0o644,
        file_type,
        size: 0,
        payload: InodePayload::StartBlock(None),
        serial: 1,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        nlink: 1,
        dot_omitted: false,
    }
}

/// Writes `bytes` at `at`, which may be behind the end.
fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    image.resize(image.len().max(at + bytes.len()), 0);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}
