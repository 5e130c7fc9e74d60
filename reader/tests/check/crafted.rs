//! Good images, to be changed byte by byte.

use crate::support::{Builder, META, inode, open, sample, seal, text};
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::{Lz4Config, ZstdConfig};
use erofs_format::compression::encoded_extent::{ExtentRecord, Piece, RecordSize};
use erofs_format::compression::map_header::{ExtentRecords, ExtentsHeader, MapHeader};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_format::{BlockBits, ByteOffset, Nid};
use erofs_reader::check::Finding;
use erofs_reader::{Inode, Place, Stored, Symlinks};

pub(crate) const BITS: BlockBits = BlockBits::B4096;
/// Size of an extended inode, which all of the samples' files but `hole` have.
pub(crate) const CORE: usize = 64;

/// The bytes of an image.
#[derive(Clone)]
pub(crate) struct Draft {
    pub bytes: Vec<u8>,
}

impl Draft {
    /// The image with one of everything, its counts put right. A hole outside of a 48-bit image and a hidden attribute
    /// are left.
    pub(crate) fn sample(bits: BlockBits) -> Self {
        let mut draft = Self {
            bytes: sample(bits).image,
        };
        draft.put(draft.inode_at("one") + 44, &402u32.to_le_bytes());
        let compressed = bits.bits() <= 14;
        let names: &[&str] = if compressed {
            &["full", "compact", "full-tail", "compact-tail"]
        } else {
            &[]
        };
        for name in names {
            let stored = draft.stored_blocks(name);
            draft.put(draft.inode_at(name) + 16, &stored.to_le_bytes());
        }
        draft.put(1024 + 16, &[if compressed { 24 } else { 20 }]);
        draft
    }

    /// A root with a plain file of 100 bytes and a small directory, nothing compressed. The file's data comes last.
    pub(crate) fn plain() -> Self {
        let mut builder = Builder::new(BITS);
        let root = builder.reserve(512);
        let directory = builder.reserve(128);
        builder.superblock.root = root;
        builder.directory(directory, root, &[], &[]);
        let file = builder.plain(&text(100));
        builder.directory(
            root,
            root,
            &[(b"directory", directory), (b"file", file)],
            &[],
        );
        Self::finish(builder, 3)
    }

    /// Finishes an image that has so many inodes.
    pub(crate) fn finish(mut builder: Builder, inodes: u64) -> Self {
        builder.superblock.inodes = inodes;
        Self {
            bytes: builder.finish(),
        }
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Sets bits of a byte.
    pub(crate) fn set(&mut self, at: usize, bits: u8) {
        self.bytes[at] |= bits;
    }

    /// The image with a right checksum.
    pub(crate) fn sealed(&self) -> Vec<u8> {
        let mut image = self.bytes.clone();
        if image.len() >= 8192 {
            seal(&mut image);
        }
        image
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        crate::run(&self.sealed()).findings
    }

    fn inode(&self, path: &str) -> Inode {
        let image = open(&self.sealed()).unwrap();
        image.resolve(path.as_bytes(), Symlinks::Keep).unwrap()
    }

    pub(crate) fn nid(&self, path: &str) -> Nid {
        self.inode(path).nid()
    }

    /// Byte of the image at which an inode is stored.
    pub(crate) fn inode_at(&self, path: &str) -> usize {
        self.inode(path).position().1.0 as usize
    }

    /// Byte of the image at which the data of an uncompressed file begins.
    pub(crate) fn data_at(&self, path: &str) -> usize {
        let image = open(&self.sealed()).unwrap();
        let inode = self.inode(path);
        match image.extent_at(&inode, 0).unwrap().unwrap().place {
            Place::Data { offset, .. } | Place::Inline { offset, .. } => offset.0 as usize,
            other => panic!("{other:?}"),
        }
    }

    /// Byte of the image at which the first pcluster of a compressed file begins.
    pub(crate) fn encoded_at(&self, path: &str) -> usize {
        let image = open(&self.sealed()).unwrap();
        let inode = self.inode(path);
        match image.extent_at(&inode, 0).unwrap().unwrap().place {
            Place::Encoded {
                stored: Stored::Device { offset, .. },
                ..
            } => offset.0 as usize,
            other => panic!("{other:?}"),
        }
    }

    fn stored_blocks(&self, path: &str) -> u32 {
        let image = open(&self.sealed()).unwrap();
        let bits = image.superblock().block_bits;
        let inode = self.inode(path);
        let stored = image.extents(&inode).map(|extent| {
            let extent = extent.unwrap();
            match extent.place {
                Place::Encoded {
                    stored: Stored::Device { .. },
                    length,
                    ..
                } => bits.blocks_for(length),
                Place::Data { .. } => bits.blocks_for(extent.length),
                _ => 0,
            }
        });
        stored.sum::<u64>() as u32
    }

    /// Byte of the image at which an entry of a directory of one extent stands.
    pub(crate) fn entry_at(&self, directory: &str, name: &str) -> usize {
        let image = open(&self.sealed()).unwrap();
        let inode = self.inode(directory);
        let mut at = 0;
        for entry in image.read_directory(&inode).unwrap() {
            let entry = entry.unwrap();
            if entry.name == name.as_bytes() {
                return self.data_at(directory) + at;
            }
            at = entry.next as usize;
        }
        panic!("no {name}");
    }

    /// Byte of the directory at which an entry stands.
    pub(crate) fn entry_offset(&self, directory: &str, name: &str) -> u64 {
        (self.entry_at(directory, name) - self.data_at(directory)) as u64
    }

    /// Points an entry to another inode.
    pub(crate) fn link(&mut self, directory: &str, name: &str, nid: Nid) {
        let at = self.entry_at(directory, name);
        self.put(at, &nid.0.to_le_bytes());
    }
}

/// An empty regular file in 32 bytes.
pub(crate) fn empty_file() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[4..6].copy_from_slice(&0o100_644u16.to_le_bytes());
    bytes[6] = 1;
    bytes
}

/// The inode number of what is stored at a byte of the image.
pub(crate) fn nid_at(at: usize) -> Nid {
    Nid(((at - META) / 32) as u64)
}

/// A piece of a file in encoded extents: what is stored, and how.
#[derive(Clone)]
pub(crate) struct Stretch {
    pub stored: Vec<u8>,
    pub algorithm: Option<Algorithm>,
    pub partial: bool,
    /// Decoded bytes.
    pub length: u64,
}

impl Stretch {
    pub(crate) fn zstd(content: &[u8]) -> Self {
        Self {
            stored: crate::support::zstd(content),
            algorithm: Some(Algorithm::Zstd),
            partial: false,
            length: content.len() as u64,
        }
    }

    pub(crate) fn plain(content: &[u8]) -> Self {
        Self {
            stored: content.to_vec(),
            algorithm: None,
            partial: false,
            length: content.len() as u64,
        }
    }

    /// A block of LZ4 that is nothing but literals, 15 to 269 of them.
    pub(crate) fn lz4(content: &[u8]) -> Self {
        let more = u8::try_from(content.len() - 15).unwrap();
        Self {
            stored: [&[0xF0, more], content].concat(),
            algorithm: Some(Algorithm::Lz4),
            partial: false,
            length: content.len() as u64,
        }
    }
}

/// An image with files of encoded extents in its root: `a`, `b`, … The records may be changed before they are stored.
pub(crate) fn encoded_extents(
    files: &[Vec<Stretch>],
    change: impl Fn(usize, &mut Vec<ExtentRecord>),
) -> Draft {
    let mut builder = Builder::new(BITS);
    builder.superblock.incompat |= FeatureIncompat::BIT48
        | FeatureIncompat::ZERO_PADDING
        | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    let all = || files.iter().flatten().map(|stretch| stretch.algorithm);
    if all().any(|algorithm| algorithm == Some(Algorithm::Zstd)) {
        builder.configs.zstd = Some(ZstdConfig { window_bits: 20 });
    }
    if all().any(|algorithm| algorithm == Some(Algorithm::Lz4)) {
        builder.configs.lz4 = Some(Lz4Config {
            max_distance: 0,
            max_pcluster_blocks: 1,
        });
    }
    let root = builder.reserve(512);
    builder.superblock.root = root;
    let mut nids = Vec::new();
    for (number, stretches) in files.iter().enumerate() {
        let (mut records, mut start, mut stored) = (Vec::new(), 0, 0);
        let mut data = Vec::new();
        let block = builder.data(&[]);
        let base = BITS.bytes() * block.0;
        for stretch in stretches {
            records.push(ExtentRecord {
                plen: Piece::Stored {
                    length: stretch.stored.len() as u32,
                    algorithm: stretch.algorithm,
                    partial: stretch.partial,
                }
                .encode()
                .unwrap(),
                address: ByteOffset(base + data.len() as u64),
                start,
            });
            data.extend_from_slice(&stretch.stored);
            start += stretch.length;
            stored += stretch.stored.len() as u64;
        }
        builder.data(&data);
        change(number, &mut records);
        let header = MapHeader::Extents(ExtentsHeader {
            records: ExtentRecords::Listed {
                count: records.len() as u64,
            },
            interlaced: false,
            fragment: false,
        });
        // Inodes stand at a multiple of 32, so the records begin 8 bytes behind the header.
        let mut rest = header.encode(BITS).unwrap().to_vec();
        rest.extend_from_slice(&[0; 8]);
        for record in &records {
            record.encode(RecordSize::B16, &mut rest).unwrap();
        }
        let blocks = BITS.blocks_for(stored);
        let record = inode(
            FileType::Regular,
            DataLayout::CompressedFull,
            start as usize,
            InodePayload::CompressedBlocks(blocks),
        );
        nids.push(builder.add(&record, &[], 8, &rest));
    }
    let names: Vec<[u8; 1]> = (b'a'..).take(nids.len()).map(|name| [name]).collect();
    let entries: Vec<(&[u8], Nid)> = names
        .iter()
        .zip(&nids)
        .map(|(name, nid)| (name.as_slice(), *nid))
        .collect();
    builder.directory(root, root, &entries, &[]);
    Draft::finish(builder, nids.len() as u64 + 1)
}
