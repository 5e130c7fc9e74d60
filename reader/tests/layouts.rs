//! Every layout that the reader reads, on images made by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use erofs_format::chunk::{Chunk, ChunkFormat};
use erofs_format::device::{DeviceSlot, TAG_SIZE};
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_format::{BlockAddr, BlockBits, ByteOffset, DeviceId};
use erofs_reader::{Error, Image, ImageOptions, OpenError, Place, Rule, Symlinks, Xattr};
use support::{Builder, flat, noise, open, open_with, sample, text};

fn all_block_sizes() -> impl Iterator<Item = BlockBits> {
    (9..=16).map(|bits| BlockBits::new(bits).unwrap())
}

fn content(image: &Image, path: &str) -> Vec<u8> {
    let inode = image.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
    let mut bytes = vec![0xEE; inode.size as usize + 10];
    let length = image.read(&inode, 0, &mut bytes).unwrap();
    assert_eq!(length as u64, inode.size, "{path}");
    bytes.truncate(length);
    bytes
}

#[test]
fn every_file_reads_back_at_every_block_size() {
    for bits in all_block_sizes() {
        let sample = sample(bits);
        let image = open(&sample.image).unwrap();
        for (name, expected) in &sample.files {
            assert!(content(&image, name) == *expected, "{name} at {bits:?}");
        }
    }
}

#[test]
fn pieces_at_any_offset_equal_the_whole() {
    let sample = sample(BlockBits::B512);
    let image = open(&sample.image).unwrap();
    for (name, expected) in &sample.files {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        for step in [1, 100, 511, 512, 1025] {
            for offset in (0..expected.len() + 600).step_by(173) {
                let mut piece = vec![0xEE; step];
                let length = image.read(&inode, offset as u64, &mut piece).unwrap();
                let from = offset.min(expected.len());
                let to = (offset + step).min(expected.len());
                assert!(
                    piece[..length] == expected[from..to],
                    "{name} {offset}+{step}"
                );
            }
        }
        assert_eq!(image.read(&inode, u64::MAX, &mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn extents_tile_every_file() {
    let sample = sample(BlockBits::B4096);
    let image = open(&sample.image).unwrap();
    for (name, expected) in &sample.files {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        let mut end = 0;
        for extent in image.extents(&inode) {
            let extent = extent.unwrap();
            assert_eq!(extent.logical, end, "{name}");
            assert!(extent.length > 0);
            end = extent.end();
        }
        assert_eq!(end, expected.len() as u64, "{name}");
    }
    let places = |name: &str| -> Vec<(u64, &'static str)> {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        let kind = |place| match place {
            Place::Hole => "hole",
            Place::Data { .. } => "data",
            Place::Inline { .. } => "inline",
            Place::Packed { .. } => "packed",
            Place::Encoded { .. } => "encoded",
        };
        image
            .extents(&inode)
            .map(|extent| {
                extent
                    .map(|extent| (extent.length, kind(extent.place)))
                    .unwrap()
            })
            .collect()
    };
    assert_eq!(places("hole"), [(20481, "hole")]);
    assert_eq!(places("inline"), [(8192, "data"), (333, "inline")]);
    // The first two chunks follow each other on disk and are joined.
    assert_eq!(
        places("map"),
        [
            (16384, "data"),
            (8192, "hole"),
            (8192, "data"),
            (4101, "data")
        ]
    );
    assert_eq!(
        places("compact"),
        [(36875, "encoded"), (4096, "data"), (20579, "encoded")]
    );
    assert_eq!(places("full-tail"), [(36875, "encoded"), (60, "encoded")]);
}

#[test]
fn all_file_types_and_link_targets() {
    let sample = sample(BlockBits::B4096);
    let image = open(&sample.image).unwrap();
    for (name, file_type) in [
        ("plain", FileType::Regular),
        ("many", FileType::Directory),
        ("chr", FileType::CharDevice),
        ("blk", FileType::BlockDevice),
        ("fifo", FileType::Fifo),
        ("sock", FileType::Socket),
        ("link", FileType::Symlink),
    ] {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        assert_eq!(inode.file_type, file_type, "{name}");
        assert_eq!(
            (inode.uid, inode.gid, inode.mtime.seconds),
            (70_000, 80_000, -2)
        );
        if let InodePayload::Device(number) = inode.payload {
            assert_eq!((number.major, number.minor), (300, 70_000));
        }
    }
    let link = |name: &str| {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        image.read_link(&inode)
    };
    assert_eq!(link("link").unwrap(), b"many/../plain");
    assert_eq!(link("long").unwrap().len(), 4001);
    assert!(matches!(link("plain"), Err(Error::NotASymlink(_))));
}

#[test]
fn directories_list_in_order_resume_anywhere_and_find_every_name() {
    for bits in all_block_sizes() {
        let sample = sample(bits);
        let image = open(&sample.image).unwrap();
        let many = image.resolve(b"many", Symlinks::Keep).unwrap();
        let entries: Vec<_> = image
            .read_directory(&many)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(entries.len(), 402);
        assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(image.lookup(&many, &entry.name).unwrap(), Some(entry.nid));
            let next = image.read_directory_from(&many, entry.next).unwrap().next();
            let next = next.transpose().unwrap();
            assert_eq!(next.as_ref(), entries.get(index + 1));
        }
        for missing in ["", "-", "file-", "file-00000x", "file-99999", "\u{7f}"] {
            assert_eq!(
                image.lookup(&many, missing.as_bytes()).unwrap(),
                None,
                "{missing}"
            );
        }
        let plain = image.resolve(b"plain", Symlinks::Keep).unwrap();
        assert!(matches!(
            image.lookup(&plain, b"x"),
            Err(Error::NotADirectory(_))
        ));
    }
}

#[test]
fn an_omitted_dot_comes_last() {
    let mut builder = Builder::new(BlockBits::B4096);
    builder.superblock.incompat |= erofs_format::feature::FeatureIncompat::BIT48;
    let root = builder.reserve(200);
    let mut content = Vec::new();
    let entry = erofs_format::directory::Dirent {
        nid: root,
        file_type: None,
        name: b"..",
    };
    erofs_format::directory::encode_block(&[entry], &mut content);
    let mut record = flat(
        FileType::Directory,
        DataLayout::FlatInline,
        content.len(),
        None,
    );
    record.dot_omitted = true;
    builder.superblock.root = root;
    builder.write(root, &record, &[], 1, &content);
    let image = open(&builder.finish()).unwrap();
    let root = image.root().unwrap();
    let names: Vec<_> = image
        .read_directory(&root)
        .unwrap()
        .map(|entry| entry.unwrap().name)
        .collect();
    assert_eq!(names, [&b".."[..], b"."]);
    assert_eq!(image.lookup(&root, b".").unwrap(), Some(root.nid()));
}

#[test]
fn paths_resolve_inside_of_the_image_only() {
    let sample = sample(BlockBits::B4096);
    let image = open(&sample.image).unwrap();
    let nid = |path: &str, symlinks| {
        image
            .resolve(path.as_bytes(), symlinks)
            .map(|inode| inode.nid())
    };
    let plain = nid("plain", Symlinks::Keep).unwrap();
    for path in [
        "/plain",
        "//plain/",
        "./plain",
        "many/../plain",
        "../../plain",
        "many/./../../plain",
    ] {
        assert_eq!(nid(path, Symlinks::Keep).unwrap(), plain, "{path}");
    }
    assert_eq!(nid("link", Symlinks::Follow).unwrap(), plain);
    assert_eq!(nid("absolute/../link", Symlinks::Follow).unwrap(), plain);
    assert_ne!(nid("link", Symlinks::Keep).unwrap(), plain);
    assert!(matches!(
        nid("absolute/file-00001", Symlinks::Keep),
        Err(Error::NotADirectory(_))
    ));
    assert!(nid("absolute/file-00001", Symlinks::Follow).is_ok());
    assert!(matches!(
        nid("loop", Symlinks::Follow),
        Err(Error::SymlinkLoop { .. })
    ));
    assert!(
        matches!(nid("many/nope", Symlinks::Keep), Err(Error::NotFound { name }) if name == b"nope")
    );
    assert_eq!(
        nid("", Symlinks::Keep).unwrap(),
        image.root().unwrap().nid()
    );
}

#[test]
fn xattrs_of_every_kind() {
    let sample = sample(BlockBits::B4096);
    let image = open(&sample.image).unwrap();
    let inode = image.resolve(b"attributes", Symlinks::Keep).unwrap();
    let xattr = |name: &str, value: &[u8]| Xattr {
        name: name.into(),
        value: value.to_vec(),
    };
    let expected = [
        xattr("user.own", b"value"),
        xattr("system.posix_acl_access", &support::ACL),
        xattr("trusted.overlay.opaque", b"y"),
        xattr("user.shared", b"common"),
        xattr("user.long.name", b""),
    ];
    assert_eq!(image.xattrs(&inode).unwrap(), expected);
    for xattr in &expected {
        assert_eq!(
            image.xattr(&inode, &xattr.name).unwrap().as_ref(),
            Some(&xattr.value)
        );
    }
    for missing in ["hidden", "user.", "user.ow", "security.capability"] {
        assert_eq!(image.xattr(&inode, missing.as_bytes()).unwrap(), None);
    }
    let plain = image.resolve(b"plain", Symlinks::Keep).unwrap();
    assert_eq!(image.xattrs(&plain).unwrap(), []);
}

/// A set bit of the filter hides an attribute from lookups, as in the kernel, but not from the list.
#[test]
fn the_name_filter_is_trusted() {
    let sample = sample(BlockBits::B4096);
    let at = sample.inode_at("map") + 64;
    let mut bytes = sample.image.clone();
    bytes[at..at + 4].fill(0xFF);
    for (filter_feature, expected) in [(true, None), (false, Some(b"12345".to_vec()))] {
        if !filter_feature {
            bytes[1032] &= !4;
            support::seal(&mut bytes);
        }
        let image = open(&bytes).unwrap();
        let inode = image.resolve(b"map", Symlinks::Keep).unwrap();
        assert_eq!(image.xattr(&inode, b"user.abc").unwrap(), expected);
        assert_eq!(image.xattrs(&inode).unwrap().len(), 1);
    }
}

#[test]
fn a_walk_meets_every_name_once() {
    let sample = sample(BlockBits::B4096);
    let image = open(&sample.image).unwrap();
    let paths: Vec<_> = image
        .walk()
        .unwrap()
        .map(|entry| entry.map(|entry| (entry.depth, entry.path)).unwrap())
        .collect();
    let root_entries = image
        .read_directory(&image.root().unwrap())
        .unwrap()
        .count()
        - 2;
    assert_eq!(paths.len(), 1 + root_entries + 400);
    assert_eq!(paths[0], (0, Vec::new()));
    assert!(paths.contains(&(2, b"many/file-00399".to_vec())));
    let distinct: std::collections::BTreeSet<_> = paths.iter().collect();
    assert_eq!(distinct.len(), paths.len());
}

#[test]
fn images_at_an_offset_of_their_source() {
    let sample = sample(BlockBits::B512);
    let moved = [vec![0xAA; 12_345], sample.image.clone()].concat();
    let options = ImageOptions {
        offset: ByteOffset(12_345),
        ..ImageOptions::default()
    };
    let image = Image::open(moved, options).unwrap();
    assert!(content(&image, "plain") == sample.content("plain"));
}

fn slot(blocks: u64, unified_start: u64) -> DeviceSlot {
    DeviceSlot {
        tag: [b'x'; TAG_SIZE],
        blocks,
        unified_start: BlockAddr(unified_start),
    }
}

/// An image over two devices: chunk indexes with device ids, and flat-inline inodes whose start block lies in the unified
/// address space. Returns image, devices, and the expected content of `/chunks`, `/raw0`, `/raw1`.
fn over_devices() -> (Vec<u8>, [Vec<u8>; 2], [Vec<u8>; 3]) {
    let mut builder = Builder::new(BlockBits::B4096);
    let devices = [text(3 * 4096 + 100), noise(5 * 4096 + 4000)];
    let root = builder.reserve(1024);
    let first = 1000;
    builder.slots = vec![slot(4, first), slot(6, first + 4)];
    let format = ChunkFormat {
        block_shift: 0,
        indexes: true,
        wide: false,
    };
    let data = |device, block| Chunk::Data {
        device: DeviceId(device),
        block: BlockAddr(block),
    };
    // Device id 6 is masked to 2; id 0 with a unified address leads to the first device.
    let chunks = [
        data(2, 1),
        data(6, 0),
        data(1, 2),
        data(0, first),
        Chunk::Hole,
    ];
    let [one, two] = &devices;
    let expected = [
        &two[4096..8192],
        &two[..4096],
        &one[8192..12288],
        &one[..4096],
        &[0; 77],
    ]
    .concat();
    let chunked = builder.chunked(format, expected.len(), &chunks);
    let mut raw = Vec::new();
    for (device, start) in [(one, first), (two, first + 4)] {
        let tail = &device[device.len() / 4096 * 4096..];
        let record = flat(
            FileType::Regular,
            DataLayout::FlatInline,
            device.len(),
            Some(BlockAddr(start)),
        );
        raw.push(builder.add(&record, &[], 1, tail));
    }
    builder.superblock.root = root;
    builder.directory(
        root,
        root,
        &[(b"chunks", chunked), (b"raw0", raw[0]), (b"raw1", raw[1])],
        &[],
    );
    let expected = [expected, one.clone(), two.clone()];
    (builder.finish(), devices, expected)
}

#[test]
fn devices_by_slot() {
    let (image, devices, expected) = over_devices();
    let image = open_with(&image, devices.to_vec()).unwrap();
    assert_eq!(image.device_slots().len(), 2);
    for (name, expected) in ["chunks", "raw0", "raw1"].iter().zip(&expected) {
        assert!(content(&image, name) == *expected, "{name}");
    }
    let raw1 = image.resolve(b"raw1", Symlinks::Keep).unwrap();
    let first = image.extents(&raw1).next().unwrap().unwrap();
    let place = Place::Data {
        device: DeviceId(2),
        offset: ByteOffset(0),
    };
    assert_eq!((first.length, first.place), (5 * 4096, place));
}

#[test]
fn devices_behind_the_image() {
    let (mut image, devices, expected) = over_devices();
    image.resize(1000 * 4096, 0);
    for device in &devices {
        image.extend_from_slice(device);
        image.resize(image.len().next_multiple_of(4096), 0);
    }
    let image = open(&image).unwrap();
    for (name, expected) in ["chunks", "raw0", "raw1"].iter().zip(&expected) {
        assert!(content(&image, name) == *expected, "{name}");
    }
}

#[test]
fn devices_missing_or_too_many() {
    let (image, devices, _) = over_devices();
    let wrong = |devices: &[Vec<u8>]| open_with(&image, devices.to_vec()).err();
    assert!(matches!(
        wrong(&devices[..1]),
        Some(OpenError::DeviceCount { given: 1, slots: 2 })
    ));
    let image = open(&image).unwrap();
    let raw = image.resolve(b"raw0", Symlinks::Keep).unwrap();
    let error = image.read(&raw, 0, &mut [0; 10]).unwrap_err();
    assert!(matches!(
        error,
        Error::Corrupt {
            rule: Rule::BeyondDevice {
                start: 4_096_000,
                ..
            },
            ..
        }
    ));
    // The tail is in the image itself.
    assert_eq!(image.read(&raw, 3 * 4096, &mut [0; 200]).unwrap(), 100);
}

/// A slot without blocks is opened as the kernel does.
#[test]
fn a_slot_of_zero_blocks_opens() {
    let mut builder = Builder::new(BlockBits::B4096);
    builder.slots = vec![slot(0, 77)];
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.directory(root, root, &[], &[]);
    let bytes = builder.finish();
    assert!(open(&bytes).is_ok());
    assert!(open_with(&bytes, vec![Vec::new()]).is_ok());
}

/// Fragments: a whole file and the tail of one, in a packed inode.
#[test]
fn fragments() {
    use erofs_format::compression::map_header::{Advise, IndexHeader, MapHeader};
    use erofs_format::compression::{Algorithm, Extent, LclusterType, full_index};
    use erofs_format::feature::FeatureIncompat;

    let mut builder = Builder::new(BlockBits::B4096);
    let bits = builder.bits();
    let root = builder.reserve(1024);
    let packed_content = noise(9000);
    let packed = builder.plain(&packed_content);
    builder.superblock.incompat |=
        FeatureIncompat::FRAGMENTS_OR_DEDUPE | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.superblock.packed = Some(packed);
    builder.configs.zstd = Some(erofs_format::compression::config::ZstdConfig { window_bits: 20 });

    let compressed = |size| {
        support::inode(
            FileType::Regular,
            DataLayout::CompressedFull,
            size,
            InodePayload::CompressedBlocks(0),
        )
    };
    let header = MapHeader::Fragment { offset: 1234 }.encode(bits).unwrap();
    let whole = builder.add(&compressed(700), &[], 8, &[&header[..], &[0; 8]].concat());
    let beyond = builder.add(&compressed(9000), &[], 8, &[&header[..], &[0; 8]].concat());

    let head = text(6000);
    let start = builder.data(&{
        let stored = support::zstd(&head);
        [vec![0; 4096 - stored.len()], stored].concat()
    });
    let extent = |length, blocks, start| Extent {
        length,
        kind: LclusterType::Head1,
        blocks,
        start,
        partial: false,
    };
    let extents = [extent(6000, 1, start), extent(500, 0, BlockAddr(0))];
    let index = full_index::encode_index(&extents, 6500, bits, Advise::empty()).unwrap();
    let header = IndexHeader {
        advise: Advise::FRAGMENT_PCLUSTER,
        head1: Algorithm::Zstd,
        head2: Algorithm::Lz4,
        lcluster_bits: bits.bits(),
        inline_size: 0,
        fragment_offset: 8000,
    };
    let header = MapHeader::Index(header).encode(bits).unwrap();
    let rest = [&header[..], &[0; 8], &index].concat();
    let tail = builder.add(&compressed(6500), &[], 8, &rest);
    builder.superblock.root = root;
    builder.directory(
        root,
        root,
        &[(b"beyond", beyond), (b"tail", tail), (b"whole", whole)],
        &[],
    );
    let image = open(&builder.finish()).unwrap();
    assert!(content(&image, "whole") == packed_content[1234..1934]);
    assert!(content(&image, "tail") == [&head[..], &packed_content[8000..8500]].concat());
    let beyond = image.resolve(b"beyond", Symlinks::Keep).unwrap();
    assert!(matches!(
        image.read(&beyond, 8000, &mut [0; 10]),
        Err(Error::Corrupt {
            rule: Rule::BeyondPacked { size: 9000, .. },
            ..
        })
    ));
}

/// Encoded extents with 16-byte records: Zstd, plain, hole, at any byte.
#[test]
fn encoded_extents() {
    use erofs_format::compression::Algorithm;
    use erofs_format::compression::encoded_extent::{ExtentRecord, Piece, RecordSize};
    use erofs_format::compression::map_header::{ExtentRecords, ExtentsHeader, MapHeader};
    use erofs_format::feature::FeatureIncompat;

    let mut builder = Builder::new(BlockBits::B4096);
    let root = builder.reserve(1024);
    builder.superblock.incompat |=
        FeatureIncompat::BIT48 | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.configs.zstd = Some(erofs_format::compression::config::ZstdConfig { window_bits: 20 });
    let (first, second) = (text(30_001), noise(777));
    let stored = support::zstd(&first);
    let at = builder.data(&[&[1; 13], &stored[..], &second].concat()).0 * 4096 + 13;
    let piece = |length: usize, algorithm| Piece::Stored {
        length: length as u32,
        algorithm,
        partial: false,
    };
    let mut table = Vec::new();
    for (piece, address, start) in [
        (piece(stored.len(), Some(Algorithm::Zstd)), at, 0),
        (piece(777, None), at + stored.len() as u64, 30_001),
        (Piece::Hole, 0, 30_778),
        (piece(stored.len(), Some(Algorithm::Zstd)), at, 40_000),
    ] {
        let record = ExtentRecord {
            plen: piece.encode().unwrap(),
            address: ByteOffset(address),
            start,
        };
        record.encode(RecordSize::B16, &mut table).unwrap();
    }
    let expected = [
        &first[..],
        &second,
        &vec![0; 40_000 - 30_778],
        &first[..20_000],
    ]
    .concat();
    let header = MapHeader::Extents(ExtentsHeader {
        records: ExtentRecords::Listed { count: 4 },
        interlaced: false,
        fragment: false,
    });
    let record = support::inode(
        FileType::Regular,
        DataLayout::CompressedFull,
        expected.len(),
        InodePayload::CompressedBlocks(0),
    );
    // Core of 64 bytes and a header of 8: the records begin at the next multiple of 16.
    let header = header.encode(builder.bits()).unwrap();
    let rest = [&header[..], &[0; 8], &table].concat();
    let file = builder.add(&record, &[], 8, &rest);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let image = open(&builder.finish()).unwrap();
    assert!(content(&image, "file") == expected);
    let file = image.resolve(b"file", Symlinks::Keep).unwrap();
    for at in [29_999, 30_700, 30_777, 39_990, 59_000] {
        let mut piece = [0; 500];
        image.read(&file, at, &mut piece).unwrap();
        assert!(piece == expected[at as usize..at as usize + 500], "{at}");
    }
}

/// Encoded extents of one size with 4-byte records, the last a fragment: addresses are sums of the lengths before.
#[test]
fn sequential_extents() {
    use erofs_format::compression::Algorithm;
    use erofs_format::compression::encoded_extent::Piece;
    use erofs_format::compression::map_header::{ExtentRecords, ExtentsHeader, MapHeader};
    use erofs_format::feature::FeatureIncompat;

    let mut builder = Builder::new(BlockBits::B4096);
    let root = builder.reserve(1024);
    builder.superblock.incompat |=
        FeatureIncompat::BIT48 | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.configs.zstd = Some(erofs_format::compression::config::ZstdConfig { window_bits: 20 });
    let expected = text(700 * 4096);
    let packed_content = noise(5000);
    let packed = builder.plain(&packed_content);
    builder.superblock.incompat |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
    builder.superblock.packed = Some(packed);
    let (mut stored, mut lengths) = (Vec::new(), Vec::new());
    for piece in expected.chunks(4096) {
        let encoded = support::zstd(piece);
        let piece = Piece::Stored {
            length: encoded.len() as u32,
            algorithm: Some(Algorithm::Zstd),
            partial: false,
        };
        lengths.extend_from_slice(&piece.encode().unwrap().to_le_bytes());
        stored.extend_from_slice(&encoded);
    }
    // The last 99 bytes are a fragment; its record is the offset.
    lengths.extend_from_slice(&3000u32.to_le_bytes());
    let expected = [&expected[..], &packed_content[3000..3099]].concat();
    let base = builder.data(&stored).0 * 4096;
    let header = MapHeader::Extents(ExtentsHeader {
        records: ExtentRecords::Sequential { extent_bits: 12 },
        interlaced: false,
        fragment: true,
    });
    let record = support::inode(
        FileType::Regular,
        DataLayout::CompressedFull,
        expected.len(),
        InodePayload::CompressedBlocks(0),
    );
    let header = header.encode(builder.bits()).unwrap();
    let rest = [&header[..], &base.to_le_bytes(), &lengths].concat();
    let file = builder.add(&record, &[], 8, &rest);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let image = open(&builder.finish()).unwrap();
    assert!(content(&image, "file") == expected);
}
