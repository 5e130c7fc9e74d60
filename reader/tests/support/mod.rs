//! Images made by hand, record by record, so that each test knows where each byte is.
//!
//! ```text
//! 0         superblock, configurations, device slots, long xattr prefixes
//! 256 KiB   inodes, NID 0 at its start
//! 512 KiB   shared xattrs
//! 768 KiB   data
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by test files, each of which uses a part"
)]

use erofs_format::chunk::{Chunk, ChunkFormat};
use erofs_format::compression::config::{AlgorithmConfigs, ZstdConfig};
use erofs_format::compression::map_header::{Advise, IndexHeader, MapHeader, position};
use erofs_format::compression::{Algorithm, Extent, LclusterType, compact_index, full_index};
use erofs_format::device::{DeviceNumber, DeviceSlot};
use erofs_format::directory::{self, Dirent};
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::{DataLayout, FileType, Inode, InodePayload, Timestamp};
use erofs_format::superblock::{Superblock, checksum_length, image_checksum};
use erofs_format::xattr::{self, LongPrefix, NameIndex, Prefix, XattrEntry};
use erofs_format::{BlockAddr, BlockBits, ByteOffset, DeviceId, Nid};
use erofs_reader::{ByteSource, Image, ImageOptions, OpenError};

/// Size of each region of the picture above, in bytes.
pub const REGION: usize = 256 << 10;
pub const META: usize = REGION;
pub const SHARED: usize = 2 * REGION;
pub const DATA: usize = 3 * REGION;
/// Where device slots and long xattr prefixes are.
pub const SLOTS: usize = 1280;
pub const PREFIXES: usize = 1792;

/// An access control list as the kernel shows it: `rw-`, `r--`, `---`.
pub const ACL: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255,
    255, 255, 255,
];

pub struct Builder {
    pub superblock: Superblock,
    pub configs: AlgorithmConfigs,
    pub slots: Vec<DeviceSlot>,
    pub prefixes: Vec<LongPrefix>,
    meta: Vec<u8>,
    /// Sizes of reserved places, by NID.
    reserved: std::collections::BTreeMap<Nid, usize>,
    shared: Vec<u8>,
    data: Vec<u8>,
}

impl Builder {
    pub fn new(block_bits: BlockBits) -> Self {
        let region = |start: usize| BlockAddr(block_bits.whole_blocks(start as u64));
        Self {
            superblock: Superblock {
                checksum: 0,
                compat: FeatureCompat::SB_CHKSUM | FeatureCompat::XATTR_FILTER,
                incompat: FeatureIncompat::empty(),
                block_bits,
                extension_slots: 0,
                root: Nid(1),
                inodes: 0,
                epoch: 1_000_000,
                fixed_nanoseconds: 5,
                build_time: 0,
                blocks: 0,
                meta_block: region(META),
                xattr_block: region(SHARED),
                uuid: [7; 16],
                label: [0; 16],
                algorithms_or_lz4_window: 0,
                extra_devices: 0,
                device_table: ByteOffset(SLOTS as u64),
                xattr_prefix_count: 0,
                xattr_prefix_start: ByteOffset(PREFIXES as u64),
                packed: None,
                metabox: None,
                xattr_filter: true,
                inode_share_prefix: None,
            },
            configs: AlgorithmConfigs::default(),
            slots: Vec::new(),
            prefixes: Vec::new(),
            meta: vec![0; 32],
            reserved: std::collections::BTreeMap::new(),
            shared: Vec::new(),
            data: Vec::new(),
        }
    }

    pub fn bits(&self) -> BlockBits {
        self.superblock.block_bits
    }

    /// Appends whole blocks of data.
    pub fn data(&mut self, bytes: &[u8]) -> BlockAddr {
        let at = DATA + self.data.len();
        self.data.extend_from_slice(bytes);
        let padded = self.data.len().next_multiple_of(self.bits().len());
        self.data.resize(padded, 0);
        BlockAddr(self.bits().whole_blocks(at as u64))
    }

    /// Appends a shared attribute and returns its id.
    pub fn shared(&mut self, entry: XattrEntry<'_>) -> u32 {
        let id = self.shared.len() / 4;
        entry.encode(&mut self.shared).unwrap();
        id as u32
    }

    /// Reserves `size` bytes for an inode and what follows it, in one block if they fit one.
    pub fn reserve(&mut self, size: usize) -> Nid {
        let block = self.bits().len();
        let mut at = self.meta.len().next_multiple_of(32);
        if at % block + size > block {
            at = at.next_multiple_of(block);
        }
        self.meta.resize(at + size, 0);
        let nid = Nid((at / 32) as u64);
        self.reserved.insert(nid, size);
        nid
    }

    /// Writes what `record`, `xattrs` and `rest` (aligned to `alignment`) say to a reserved place.
    pub fn write(
        &mut self,
        nid: Nid,
        record: &Inode,
        xattrs: &[u8],
        alignment: usize,
        rest: &[u8],
    ) {
        let bytes = self.inode_bytes(record, xattrs, alignment, rest);
        let at = nid.0 as usize * 32;
        self.meta[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    pub fn add(&mut self, record: &Inode, xattrs: &[u8], alignment: usize, rest: &[u8]) -> Nid {
        let size = self.inode_bytes(record, xattrs, alignment, rest).len();
        let nid = self.reserve(size);
        self.write(nid, record, xattrs, alignment, rest);
        nid
    }

    fn inode_bytes(&self, record: &Inode, xattrs: &[u8], alignment: usize, rest: &[u8]) -> Vec<u8> {
        let mut record = *record;
        record.xattr_icount = xattr::icount(xattrs.len() as u64).unwrap();
        let mut bytes = Vec::new();
        record.encode(&self.superblock, &mut bytes).unwrap();
        bytes.extend_from_slice(xattrs);
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        bytes.extend_from_slice(rest);
        bytes
    }

    /// A regular file, flat plain.
    pub fn plain(&mut self, content: &[u8]) -> Nid {
        let start = (!content.is_empty()).then(|| self.data(content));
        let record = flat(
            FileType::Regular,
            DataLayout::FlatPlain,
            content.len(),
            start,
        );
        self.add(&record, &[], 1, &[])
    }

    /// A file with its last partial block inline.
    pub fn inline(&mut self, file_type: FileType, content: &[u8]) -> Nid {
        let (whole, tail) = content.split_at(content.len() / self.bits().len() * self.bits().len());
        let start = (!whole.is_empty()).then(|| self.data(whole));
        let record = flat(file_type, DataLayout::FlatInline, content.len(), start);
        self.add(&record, &[], 1, tail)
    }

    pub fn special(&mut self, file_type: FileType, number: DeviceNumber) -> Nid {
        let payload = match file_type {
            FileType::CharDevice | FileType::BlockDevice => InodePayload::Device(number),
            _ => InodePayload::Nothing,
        };
        let record = inode(file_type, DataLayout::FlatPlain, 0, payload);
        self.add(&record, &[], 1, &[])
    }

    /// A chunk-based file of `size` bytes.
    pub fn chunked(&mut self, format: ChunkFormat, size: usize, chunks: &[Chunk]) -> Nid {
        self.superblock.incompat |= FeatureIncompat::CHUNKED_FILE;
        let payload = InodePayload::ChunkFormat(format.encode());
        let record = inode(FileType::Regular, DataLayout::ChunkBased, size, payload);
        let mut table = Vec::new();
        for chunk in chunks {
            format.encode_entry(*chunk, &mut table).unwrap();
        }
        // Xattrs that leave the table at 4 modulo 8 without alignment.
        let xattrs = body(&[], &[(Prefix::User, b"abc", b"12345")]);
        self.add(&record, &xattrs, format.entry_size() as usize, &table)
    }

    /// A Zstd-compressed file made of `pieces`: content and whether it is encoded. With `inline` the last piece is inlined.
    pub fn compressed(
        &mut self,
        layout: DataLayout,
        pieces: &[(&[u8], bool)],
        inline: bool,
    ) -> Nid {
        self.superblock.incompat |= FeatureIncompat::ZERO_PADDING
            | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER
            | FeatureIncompat::ZTAILPACKING;
        self.configs.zstd = Some(ZstdConfig { window_bits: 20 });
        let bits = self.bits();
        let mut advise = Advise::BIG_PCLUSTERS;
        let (mut extents, mut tail, mut size) = (Vec::new(), Vec::new(), 0);
        for (number, (content, encoded)) in pieces.iter().enumerate() {
            size += content.len();
            let mut stored = if *encoded {
                zstd(content)
            } else {
                content.to_vec()
            };
            let mut extent = Extent {
                length: content.len() as u64,
                kind: if *encoded {
                    LclusterType::Head1
                } else {
                    LclusterType::Plain
                },
                blocks: 0,
                start: BlockAddr(0),
                partial: false,
            };
            if inline && number + 1 == pieces.len() {
                advise |= Advise::INLINE_PCLUSTER;
                tail = stored;
            } else {
                let blocks = bits.blocks_for(stored.len() as u64);
                if *encoded {
                    let padding = (blocks * bits.bytes()) as usize - stored.len();
                    stored.splice(..0, vec![0; padding]);
                }
                extent.blocks = blocks as u32;
                extent.start = self.data(&stored);
            }
            extents.push(extent);
        }
        let header = IndexHeader {
            advise: if layout == DataLayout::CompressedCompact && bits.bits() <= 12 {
                advise | Advise::COMPACTED_2B
            } else {
                advise
            },
            head1: Algorithm::Zstd,
            head2: Algorithm::Lz4,
            lcluster_bits: bits.bits(),
            inline_size: tail.len() as u16,
            fragment_offset: 0,
        };
        let record = inode(
            FileType::Regular,
            layout,
            size,
            InodePayload::CompressedBlocks(1),
        );
        let mut rest = MapHeader::Index(header).encode(bits).unwrap().to_vec();
        // The index's packing depends on where it stands; begin at a block so that it is known beforehand.
        let block = bits.len();
        let fill = (block - self.meta.len() % block) % block;
        self.meta.resize(self.meta.len() + fill, 0);
        let start = ByteOffset((META + self.meta.len() + 64) as u64);
        let map_header = position(start).unwrap();
        if layout == DataLayout::CompressedCompact {
            let at = compact_index::position(map_header).unwrap();
            let index = compact_index::encode_index(&extents, size as u64, bits, header.advise, at);
            rest.extend_from_slice(&index.unwrap());
        } else {
            rest.extend_from_slice(&[0; 8]);
            let index = full_index::encode_index(&extents, size as u64, bits, header.advise);
            rest.extend_from_slice(&index.unwrap());
        }
        rest.extend_from_slice(&tail);
        self.add(&record, &[], 8, &rest)
    }

    /// Writes a directory with `entries` (sorted here; `.` and `..` are added) to the reserved place `nid`.
    pub fn directory(&mut self, nid: Nid, parent: Nid, entries: &[(&[u8], Nid)], xattrs: &[u8]) {
        let mut all: Vec<Dirent<'_>> = [(&b"."[..], nid), (b"..", parent)]
            .iter()
            .chain(entries)
            .map(|(name, nid)| Dirent {
                nid: *nid,
                file_type: None,
                name,
            })
            .collect();
        all.sort_by_key(|entry| entry.name);
        let block = self.bits().len();
        let (mut content, mut pending, mut used) = (Vec::new(), Vec::new(), 0);
        for entry in all {
            if !directory::fits(used, entry.name.len(), block) {
                directory::encode_block(&pending, &mut content);
                content.resize(content.len().next_multiple_of(block), 0);
                pending.clear();
                used = 0;
            }
            used += directory::DIRENT_SIZE + entry.name.len();
            pending.push(entry);
        }
        directory::encode_block(&pending, &mut content);
        let start = nid.0 as usize * 32 % block;
        let size = 64 + xattrs.len() + content.len();
        let inline = start + size <= block && size <= self.reserved[&nid];
        let (layout, start, tail) = if inline {
            (DataLayout::FlatInline, None, content.as_slice())
        } else {
            (DataLayout::FlatPlain, Some(self.data(&content)), &[][..])
        };
        let record = flat(FileType::Directory, layout, content.len(), start);
        self.write(nid, &record, xattrs, 1, tail);
    }

    pub fn finish(mut self) -> Vec<u8> {
        assert!(self.meta.len() <= REGION && self.shared.len() <= REGION);
        self.superblock.blocks = self.bits().blocks_for((DATA + self.data.len()) as u64);
        self.superblock.extra_devices = self.slots.len() as u16;
        if !self.slots.is_empty() {
            self.superblock.incompat |= FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
        }
        self.superblock.xattr_prefix_count = self.prefixes.len() as u8;
        if self.configs != AlgorithmConfigs::default() {
            self.superblock.algorithms_or_lz4_window = self.configs.bitmap();
        }
        let mut image = vec![0; DATA];
        let mut put = |at: usize, bytes: &[u8]| {
            image[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let superblock = self.superblock.encode().unwrap();
        put(1024, &superblock);
        put(
            1024 + superblock.len(),
            &self.configs.encode(self.superblock.block_bits).unwrap(),
        );
        for (index, slot) in self.slots.iter().enumerate() {
            let wide = self.superblock.incompat.contains(FeatureIncompat::BIT48);
            put(SLOTS + index * 128, &slot.encode(wide).unwrap());
        }
        let mut prefixes = Vec::new();
        for prefix in &self.prefixes {
            prefix.encode(&mut prefixes).unwrap();
        }
        put(PREFIXES, &prefixes);
        put(META, &self.meta);
        put(SHARED, &self.shared);
        image.extend_from_slice(&self.data);
        seal(&mut image);
        image
    }
}

/// Makes the superblock's checksum right again.
pub fn seal(image: &mut [u8]) {
    let Ok(bits) = BlockBits::new(image[1036]) else {
        return;
    };
    let covered = &image[1024..1024 + checksum_length(bits)];
    let checksum = image_checksum(covered);
    image[1028..1032].copy_from_slice(&checksum.to_le_bytes());
}

pub fn inode(file_type: FileType, layout: DataLayout, size: usize, payload: InodePayload) -> Inode {
    Inode {
        extended: true,
        layout,
        xattr_icount: 0,
        mode: file_type.mode_bits() | 0o644,
        file_type,
        size: size as u64,
        payload,
        serial: 1,
        uid: 70_000,
        gid: 80_000,
        mtime: Timestamp {
            seconds: -2,
            nanoseconds: 7,
        },
        nlink: 1,
        dot_omitted: false,
    }
}

pub fn flat(
    file_type: FileType,
    layout: DataLayout,
    size: usize,
    start: Option<BlockAddr>,
) -> Inode {
    inode(file_type, layout, size, InodePayload::StartBlock(start))
}

/// A body of attributes with base prefixes, and shared ids.
pub fn body(shared: &[u32], entries: &[(Prefix, &[u8], &[u8])]) -> Vec<u8> {
    let filter = xattr::name_filter(entries.iter().map(|(prefix, name, _)| (*prefix, *name)));
    let mut bytes = Vec::new();
    let filter = if shared.is_empty() { filter } else { 0 };
    xattr::encode_body_header(filter, shared, &mut bytes).unwrap();
    for (prefix, name, value) in entries {
        let entry = XattrEntry {
            index: NameIndex::Base(*prefix),
            name,
            value,
        };
        entry.encode(&mut bytes).unwrap();
    }
    bytes
}

pub fn zstd(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0; zstd_safe::compress_bound(content.len())];
    let length = zstd_safe::compress(out.as_mut_slice(), content, 3).unwrap();
    out.truncate(length);
    out
}

/// Bytes that compress, and do not repeat with any block size.
pub fn text(length: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|number| format!("line {number} of a text; ").into_bytes())
        .take(length)
        .collect()
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

pub fn open(image: &[u8]) -> Result<Image, OpenError> {
    Image::open(image.to_vec(), ImageOptions::default())
}

pub fn open_with(image: &[u8], devices: Vec<Vec<u8>>) -> Result<Image, OpenError> {
    let options = ImageOptions {
        devices: devices
            .into_iter()
            .map(|device| Box::new(device) as Box<dyn ByteSource>)
            .collect(),
        ..ImageOptions::default()
    };
    Image::open(image.to_vec(), options)
}

/// An image with one of everything, the content of its regular files, and where its parts are.
pub struct Sample {
    pub image: Vec<u8>,
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl Sample {
    pub fn content(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(file, _)| *file == name);
        &found.unwrap().1
    }

    /// Byte position of the inode at `path`.
    pub fn inode_at(&self, path: &str) -> usize {
        let image = open(&self.image).unwrap();
        let inode = image
            .resolve(path.as_bytes(), erofs_reader::Symlinks::Keep)
            .unwrap();
        inode.position().1.0 as usize
    }
}

pub fn sample(bits: BlockBits) -> Sample {
    let mut builder = Builder::new(bits);
    let block = bits.len();
    let root = builder.reserve(block.min(4096) - 32);
    let many_directory = builder.reserve(64);
    let mut files: Vec<(&'static str, Vec<u8>, Nid)> = Vec::new();

    for (name, length) in [
        ("empty", 0),
        ("one", 1),
        ("block", block),
        ("plain", 3 * block + 17),
    ] {
        let content = text(length);
        let nid = builder.plain(&content);
        files.push((name, content, nid));
    }
    for (name, length) in [("tail", 100), ("inline", 2 * block + 333)] {
        let content = noise(length);
        let nid = builder.inline(FileType::Regular, &content);
        files.push((name, content, nid));
    }
    let mut record = flat(
        FileType::Regular,
        DataLayout::FlatPlain,
        5 * block + 1,
        None,
    );
    (record.extended, record.uid, record.gid) = (false, 1, 2);
    record.mtime = Timestamp {
        seconds: builder.superblock.epoch,
        nanoseconds: builder.superblock.fixed_nanoseconds,
    };
    let hole = builder.add(&record, &[], 1, &[]);
    files.push(("hole", vec![0; 5 * block + 1], hole));

    // Chunks of two blocks: data, hole, the same data again, and a short last one.
    for (name, indexes) in [("map", false), ("indexes", true)] {
        let format = ChunkFormat {
            block_shift: 1,
            indexes,
            wide: false,
        };
        let first = noise(4 * block);
        let last = text(block + 5);
        let data = |block| Chunk::Data {
            device: DeviceId::PRIMARY,
            block,
        };
        let start = builder.data(&first);
        let second = BlockAddr(start.0 + 2);
        let end = builder.data(&last);
        let chunks = [
            data(start),
            data(second),
            Chunk::Hole,
            data(start),
            data(end),
        ];
        let size = 9 * block + 5;
        let content = [&first[..], &vec![0; 2 * block], &first[..2 * block], &last].concat();
        assert_eq!(content.len(), size);
        let nid = builder.chunked(format, size, &chunks);
        files.push((name, content, nid));
    }

    if bits.bits() <= 14 {
        let (a, b, c) = (text(9 * block + 11), noise(block), text(5 * block + 99));
        let pieces = [
            (a.as_slice(), true),
            (b.as_slice(), false),
            (c.as_slice(), true),
        ];
        let content = [&a[..], &b, &c].concat();
        for (name, layout, inline) in [
            ("full", DataLayout::CompressedFull, false),
            ("compact", DataLayout::CompressedCompact, false),
            ("full-tail", DataLayout::CompressedFull, true),
            ("compact-tail", DataLayout::CompressedCompact, true),
        ] {
            // A tail that fits the block behind the index for every block size.
            let short = text(60);
            let mut pieces = pieces.to_vec();
            let mut content = content.clone();
            if inline {
                pieces.truncate(1);
                pieces.push((&short, true));
                content = [&a[..], &short].concat();
            }
            let nid = builder.compressed(layout, &pieces, inline);
            files.push((name, content, nid));
        }
    }

    let link = builder.inline(FileType::Symlink, b"many/../plain");
    let absolute = builder.inline(FileType::Symlink, b"/many");
    let looping = builder.inline(FileType::Symlink, b"loop");
    let long_target = [&b"a/".repeat(2000)[..], b"b"].concat();
    let start = builder.data(&long_target);
    let long = builder.add(
        &flat(
            FileType::Symlink,
            DataLayout::FlatPlain,
            long_target.len(),
            Some(start),
        ),
        &[],
        1,
        &[],
    );
    let number = DeviceNumber {
        major: 300,
        minor: 70_000,
    };
    let specials = [
        (&b"chr"[..], builder.special(FileType::CharDevice, number)),
        (b"blk", builder.special(FileType::BlockDevice, number)),
        (b"fifo", builder.special(FileType::Fifo, number)),
        (b"sock", builder.special(FileType::Socket, number)),
    ];

    builder.superblock.incompat |= FeatureIncompat::XATTR_PREFIXES;
    builder.prefixes = vec![
        LongPrefix {
            base: Prefix::Trusted.value(),
            infix: b"overlay.".to_vec(),
        },
        LongPrefix {
            base: Prefix::User.value(),
            infix: b"long.".to_vec(),
        },
    ];
    let shared = builder.shared(XattrEntry {
        index: NameIndex::Base(Prefix::User),
        name: b"shared",
        value: b"common",
    });
    let prefixed = builder.shared(XattrEntry {
        index: NameIndex::Long(1),
        name: b"name",
        value: b"",
    });
    let mut xattrs = body(
        &[shared, prefixed],
        &[
            (Prefix::User, b"own", b"value"),
            (Prefix::PosixAclAccess, b"", &ACL),
        ],
    );
    // Padding, an attribute that the kernel hides, and a long prefix inline.
    xattrs.extend_from_slice(&[0; 8]);
    for (index, name) in [
        (NameIndex::Base(Prefix::None), &b"hidden"[..]),
        (NameIndex::Long(0), b"opaque"),
    ] {
        let entry = XattrEntry {
            index,
            name,
            value: b"y",
        };
        entry.encode(&mut xattrs).unwrap();
    }
    let names: Vec<String> = (0..400).map(|number| format!("file-{number:05}")).collect();
    let one = files[1].2;
    let entries: Vec<(&[u8], Nid)> = names.iter().map(|name| (name.as_bytes(), one)).collect();
    builder.directory(many_directory, root, &entries, &[]);
    let attributes = builder.add(
        &flat(FileType::Regular, DataLayout::FlatPlain, 0, None),
        &xattrs,
        1,
        &[],
    );
    let mut entries: Vec<(&[u8], Nid)> = files
        .iter()
        .map(|(name, _, nid)| (name.as_bytes(), *nid))
        .collect();
    entries.extend(specials);
    entries.extend([
        (&b"!first"[..], one),
        (b"many", many_directory),
        (b"link", link),
        (b"absolute", absolute),
        (b"loop", looping),
        (b"long", long),
        (b"attributes", attributes),
    ]);
    builder.superblock.root = root;
    builder.directory(root, root, &entries, &[]);
    Sample {
        image: builder.finish(),
        files: files
            .into_iter()
            .map(|(name, content, _)| (name, content))
            .collect(),
    }
}
