//! One test per check: a good image, one field changed, the exact error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use erofs_codec::DecodeError;
use erofs_format::chunk::ChunkFormatError;
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::ConfigError;
use erofs_format::compression::map_header::MapHeaderError;
use erofs_format::directory::DirentError;
use erofs_format::inode::{DataLayout, FileType, InodeError};
use erofs_format::superblock::SuperblockError;
use erofs_format::xattr::{LongPrefixError, XattrError};
use erofs_format::{BlockBits, Nid};
use erofs_reader::{Error, Image, OpenError, Rule, Symlinks};
use support::{Builder, META, PREFIXES, Sample, body, flat, open, sample, seal, text};

const BITS: BlockBits = BlockBits::B4096;

/// The image with `bytes` at `at` and a right checksum.
fn changed(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut image);
    image
}

fn open_error(at: usize, bytes: &[u8]) -> OpenError {
    open(&changed(&sample(BITS).image, at, bytes)).unwrap_err()
}

#[track_caller]
fn rule<T: std::fmt::Debug>(result: Result<T, Error>) -> Rule {
    match result {
        Err(Error::Corrupt { rule, .. }) => rule,
        other => panic!("{other:?}"),
    }
}

/// Opens the changed image, finds `path`, reads its inode, data, link and attributes: the first error.
fn error_of(image: &[u8], path: &str) -> Error {
    let read = || -> Result<(), Error> {
        let image = open(image).map_err(|error| match error {
            OpenError::Read(error) => error,
            other => panic!("{other}"),
        })?;
        let inode = image.resolve(path.as_bytes(), Symlinks::Keep)?;
        image.xattrs(&inode)?;
        match inode.file_type {
            FileType::Symlink => image.read_link(&inode).map(|_| ()),
            FileType::Directory => image
                .read_directory(&inode)?
                .try_for_each(|entry| entry.map(|_| ())),
            _ => image.read(&inode, 0, &mut vec![0; 100_000]).map(|_| ()),
        }
    };
    read().unwrap_err()
}

/// The rule that `path` breaks after `bytes` are put `offset` bytes behind the start of its inode.
#[track_caller]
fn rule_of(sample: &Sample, path: &str, offset: usize, bytes: &[u8]) -> Rule {
    let image = changed(&sample.image, sample.inode_at(path) + offset, bytes);
    rule::<()>(Err(error_of(&image, path)))
}

#[test]
fn superblock() {
    let kind = |at, bytes: &[u8]| match open_error(at, bytes) {
        OpenError::Superblock(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(kind(1024, &[0; 4]), SuperblockError::Magic(0));
    assert!(matches!(kind(1036, &[8]), SuperblockError::BlockSize(_)));
    assert!(matches!(kind(1036, &[17]), SuperblockError::BlockSize(_)));
    assert_eq!(
        kind(1024 + 90, &[1]),
        SuperblockError::DirectoryBlockBits(1)
    );
    assert_eq!(
        kind(1024 + 82, &[1]),
        SuperblockError::UnknownFeatures(0x10000)
    );
    let mut image = sample(BITS).image;
    image[1024 + 48] ^= 1;
    assert!(matches!(
        open(&image),
        Err(OpenError::Superblock(SuperblockError::Checksum { .. }))
    ));
    assert!(matches!(
        open(&image[..1000]),
        Err(OpenError::Superblock(SuperblockError::Magic(0)))
    ));
}

/// What does not matter for reading does not keep an image from being opened.
#[test]
fn a_strange_superblock_opens() {
    let image = sample(BITS).image;
    for (at, bytes) in [
        (1024 + 16, &[0xFF; 8][..]),
        (1024 + 36, &[0; 4]),
        (1024 + 48, &[0; 16]),
        (1024 + 64, &[b'x'; 16]),
        (1024 + 106, &[0xFF; 2]),
        (1024 + 120, &[0xFF; 8]),
        (1024 + 11, &[0xF0]),
    ] {
        assert!(open(&changed(&image, at, bytes)).is_ok(), "{at}");
    }
}

#[test]
fn algorithm_configurations() {
    assert!(matches!(
        open_error(1024 + 84, &[0x10]),
        OpenError::Algorithms(ConfigError::UnknownAlgorithm(0x10))
    ));
    // The Zstd window, behind length and format.
    assert!(matches!(
        open_error(1024 + 128 + 3, &[11]),
        OpenError::Algorithms(ConfigError::ZstdWindow(21))
    ));
}

#[test]
fn device_table_beyond_the_image() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.directory(root, root, &[], &[]);
    builder.superblock.incompat |=
        erofs_format::feature::FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
    let image = changed(&builder.finish(), 1024 + 86, &[0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(
        open(&image),
        Err(OpenError::Read(Error::Corrupt {
            rule: Rule::BeyondDevice {
                length: 8_388_480,
                ..
            },
            ..
        }))
    ));
}

#[test]
fn root() {
    let sample = sample(BITS);
    let plain = ((sample.inode_at("plain") - META) / 32) as u16;
    let error = |bytes: &[u8]| match open(&changed(&sample.image, 1024 + 14, bytes)) {
        Err(OpenError::Read(Error::Corrupt { rule, .. })) => rule,
        other => panic!("{other:?}"),
    };
    assert_eq!(error(&plain.to_le_bytes()), Rule::RootNotADirectory);
    assert!(matches!(
        rule(open(&sample.image).unwrap().inode(Nid(1 << 40))),
        Rule::BeyondDevice { .. }
    ));
    assert_eq!(
        rule(open(&sample.image).unwrap().inode(Nid(u64::MAX >> 1))),
        Rule::Overflow
    );
    assert_eq!(
        rule(open(&sample.image).unwrap().inode(Nid(1 << 63))),
        Rule::NoMetabox
    );
}

#[test]
fn xattr_prefixes() {
    let error = |bytes: &[u8]| match open_error(PREFIXES, bytes) {
        OpenError::Read(Error::Corrupt { rule, .. }) => rule,
        other => panic!("{other}"),
    };
    assert_eq!(
        error(&[0, 0]),
        Rule::XattrPrefix(LongPrefixError::Length(0))
    );
    assert_eq!(
        error(&[1, 1]),
        Rule::XattrPrefix(LongPrefixError::Length(257))
    );
}

#[test]
fn inodes() {
    let sample = sample(BITS);
    let of = |offset, bytes: &[u8]| rule_of(&sample, "plain", offset, bytes);
    assert_eq!(of(0, &[0x21, 0]), Rule::Inode(InodeError::Format(0x21)));
    assert_eq!(of(0, &[0x0B, 0]), Rule::Inode(InodeError::Layout(5)));
    assert_eq!(of(4, &[0, 0]), Rule::Inode(InodeError::Mode(0)));
    assert_eq!(
        of(15, &[0x80]),
        Rule::Inode(InodeError::Size((1 << 63) + 3 * 4096 + 17))
    );
    let chunk = rule_of(&sample, "map", 16, &[0x80, 0]);
    assert_eq!(chunk, Rule::ChunkFormat(ChunkFormatError(0x80)));
}

#[test]
fn flat_files() {
    let sample = sample(BITS);
    // All of 2^63-1 bytes cannot be there, and nothing is allocated for them.
    let image = changed(
        &sample.image,
        sample.inode_at("plain") + 8,
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    );
    let opened = open(&image).unwrap();
    let plain = opened.resolve(b"plain", Symlinks::Keep).unwrap();
    assert_eq!(plain.size, i64::MAX as u64);
    assert!(matches!(
        rule(opened.read(&plain, 1 << 40, &mut [0; 10])),
        Rule::BeyondDevice { .. }
    ));
    assert_eq!(
        rule_of(&sample, "inline", 16, &[0xFF; 4]),
        Rule::NoStartBlock {
            size: 2 * 4096 + 333
        }
    );
    assert_eq!(
        rule_of(&sample, "plain", 16, &[0xFF; 4]),
        Rule::NoStartBlock {
            size: 3 * 4096 + 17
        }
    );
    // An aligned size makes a whole block of tail.
    assert_eq!(
        rule_of(&sample, "tail", 8, &[0, 16]),
        Rule::InlineCrossesBlock { length: 4096 }
    );
    assert!(matches!(
        rule_of(&sample, "plain", 16, &[0xFE; 4]),
        Rule::BeyondDevice { .. }
    ));
}

#[test]
fn chunks() {
    let sample = sample(BITS);
    // Core, 12 + 12 bytes of attributes, aligned to 8: a table at 88.
    assert!(matches!(
        rule_of(&sample, "indexes", 88 + 4, &[0xFE; 4]),
        Rule::BeyondDevice { .. }
    ));
    let mut builder = Builder::new(BITS);
    builder.slots = vec![
        erofs_format::device::DeviceSlot {
            tag: [0; 64],
            blocks: 1,
            unified_start: erofs_format::BlockAddr(0),
        };
        2
    ];
    let root = builder.reserve(512);
    let format = erofs_format::chunk::ChunkFormat {
        block_shift: 0,
        indexes: true,
        wide: false,
    };
    let chunk = erofs_format::chunk::Chunk::Data {
        device: erofs_format::DeviceId(3),
        block: erofs_format::BlockAddr(1),
    };
    let file = builder.chunked(format, 10, &[chunk]);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let error = error_of(&builder.finish(), "file");
    assert_eq!(
        rule::<()>(Err(error)),
        Rule::NoSuchDevice {
            device: erofs_format::DeviceId(3),
            slots: 2
        }
    );
}

#[test]
fn directories() {
    let sample = sample(BITS);
    let image = open(&sample.image).unwrap();
    let many = image.resolve(b"many", Symlinks::Keep).unwrap();
    let extent = image.extents(&many).next().unwrap().unwrap();
    let erofs_reader::Place::Data { offset, .. } = extent.place else {
        panic!("{extent:?}");
    };
    let at = offset.0 as usize;
    let of = |offset: usize, bytes: &[u8]| {
        let image = changed(&sample.image, at + offset, bytes);
        rule::<()>(Err(error_of(&image, "many")))
    };
    for nameoff in [0u16, 13, 4096] {
        assert_eq!(
            of(8, &nameoff.to_le_bytes()),
            Rule::Directory(DirentError::FirstNameOffset {
                nameoff,
                length: 4096
            })
        );
    }
    assert!(matches!(
        of(20, &[0xFF, 0xFF]),
        Rule::Directory(DirentError::Name { .. })
    ));
    let names = u16::from_le_bytes([sample.image[at + 8], sample.image[at + 9]]) as usize;
    assert_eq!(
        of(names, b"/"),
        Rule::Directory(DirentError::NameByte {
            index: 0,
            byte: b'/'
        })
    );
    assert_eq!(
        of(names + 5, &[0]),
        Rule::Directory(DirentError::NameByte { index: 2, byte: 0 })
    );
    // A directory of 2^62 bytes: the blocks that are there can be listed, the rest is an error.
    let image = changed(&sample.image, sample.inode_at("many") + 15, &[0x40]);
    assert!(matches!(
        rule::<()>(Err(error_of(&image, "many"))),
        Rule::BeyondDevice { .. } | Rule::Directory(_)
    ));
}

#[test]
fn walks_end() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    let middle = builder.reserve(512);
    let leaf = builder.reserve(512);
    builder.superblock.root = root;
    builder.directory(
        root,
        root,
        &[(b"a", middle), (b"b", middle), (b"c", root), (b"z", leaf)],
        &[],
    );
    builder.directory(
        middle,
        root,
        &[(b"up", root), (b"self", middle), (b"x", leaf)],
        &[],
    );
    builder.directory(leaf, root, &[], &[]);
    let image = open(&builder.finish()).unwrap();
    let results: Vec<_> = image
        .walk()
        .unwrap()
        .map(|entry| match entry {
            Ok(entry) => Ok(String::from_utf8(entry.path).unwrap()),
            Err(Error::Corrupt { rule, .. }) => Err(rule),
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        results,
        [
            Ok(String::new()),
            Ok("a".into()),
            Err(Rule::DirectoryCycle(middle)),
            Err(Rule::DirectoryCycle(root)),
            Ok("a/x".into()),
            Err(Rule::DirectoryAlias(middle)),
            Err(Rule::DirectoryCycle(root)),
            Err(Rule::DirectoryAlias(leaf)),
        ]
    );
    let shallow: Vec<_> = image.walk_from(&image.root().unwrap(), 1).collect();
    assert!(shallow.iter().any(|entry| matches!(
        entry,
        Err(Error::Corrupt {
            rule: Rule::TooDeep { limit: 1 },
            ..
        })
    )));
}

#[test]
fn symlinks() {
    let sample = sample(BITS);
    assert_eq!(
        rule_of(&sample, "link", 8, &[0]),
        Rule::SymlinkSize { size: 0 }
    );
    assert_eq!(
        rule_of(&sample, "link", 8, &[0, 16]),
        Rule::SymlinkSize { size: 4096 }
    );
    assert_eq!(
        rule_of(&sample, "link", 64 + 4, &[0]),
        Rule::SymlinkNul { at: 4 }
    );
}

#[test]
fn xattrs() {
    let sample = sample(BITS);
    let of = |offset, bytes: &[u8]| rule_of(&sample, "attributes", offset, bytes);
    assert_eq!(of(2, &[1, 0]), Rule::Xattr(XattrError::Empty));
    assert!(matches!(
        of(2, &[2, 0]),
        Rule::Xattr(XattrError::SharedCount { count: 2, size: 16 })
    ));
    assert!(matches!(
        of(64 + 20 + 2, &[0xFF]),
        Rule::Xattr(XattrError::EntryTooLong { .. })
    ));
    // Shared ids behind the end of the image.
    assert!(matches!(of(64 + 12, &[0xFF; 4]), Rule::BeyondDevice { .. }));
    let far = changed(&sample.image, 1024 + 44, &[0xFF; 4]);
    assert!(matches!(
        rule::<()>(Err(error_of(&far, "attributes"))),
        Rule::BeyondDevice { .. }
    ));
    // A body of the largest size is read, and no more.
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    let record = flat(FileType::Regular, DataLayout::FlatPlain, 0, None);
    let file = builder.add(&record, &body(&[], &[]), 1, &[]);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let image = builder.finish();
    let at = META + file.0 as usize * 32;
    assert!(matches!(
        rule::<()>(Err(error_of(
            &changed(&image, at + 2, &[0xFF, 0xFF])[..META + 4096],
            "file"
        ))),
        Rule::BeyondDevice {
            length: 262_148,
            ..
        }
    ));
}

/// An image with one compressed file of three pieces, and where its map header and its first pcluster are.
fn compressed(layout: DataLayout, inline: bool) -> (Vec<u8>, usize, usize) {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(1024);
    let (first, second, third) = (text(40_000), text(5000), text(9000));
    let mut pieces = vec![
        (first.as_slice(), true),
        (second.as_slice(), true),
        (third.as_slice(), true),
    ];
    if inline {
        pieces.truncate(2);
    }
    let file = builder.compressed(layout, &pieces, inline);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    (
        builder.finish(),
        META + file.0 as usize * 32 + 64,
        support::DATA,
    )
}

#[track_caller]
fn compressed_rule(
    layout: DataLayout,
    inline: bool,
    at: impl Fn(usize, usize) -> usize,
    bytes: &[u8],
) -> Rule {
    let (image, header, data) = compressed(layout, inline);
    rule::<()>(Err(error_of(
        &changed(&image, at(header, data), bytes),
        "file",
    )))
}

#[test]
fn map_headers() {
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let of = |offset, bytes: &[u8]| {
            compressed_rule(layout, false, |header, _| header + offset, bytes)
        };
        assert_eq!(
            of(6, &[4]),
            Rule::MapHeader(MapHeaderError::Algorithm { head: 1, value: 4 })
        );
        // HEAD1 as DEFLATE, which the superblock does not list.
        assert_eq!(of(6, &[2]), Rule::AlgorithmNotListed(Algorithm::Deflate));
        // A fragment without a packed inode.
        assert_eq!(of(4, &[0x26]), Rule::NoPackedInode);
        assert_eq!(of(7, &[0x80]), Rule::NoPackedInode);
    }
    let compact = |offset, bytes: &[u8]| {
        compressed_rule(
            DataLayout::CompressedCompact,
            false,
            |header, _| header + offset,
            bytes,
        )
    };
    assert_eq!(
        compact(4, &[0x03]),
        Rule::MapHeader(MapHeaderError::BigPclusterBits(3))
    );
    assert_eq!(
        compact(7, &[3]),
        Rule::MapHeader(MapHeaderError::LclusterSize(15))
    );
    // No algorithm at all.
    let (image, ..) = compressed(DataLayout::CompressedFull, false);
    let image = changed(&image, 1024 + 84, &[0, 0]);
    assert_eq!(rule::<()>(Err(error_of(&image, "file"))), Rule::NoAlgorithm);
    // LZ4 by the index, Zstd by the data.
    let (mut image, header, _) = compressed(DataLayout::CompressedFull, false);
    image[1024 + 128..1024 + 144]
        .copy_from_slice(&[14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    image[header + 6] = 0;
    image = changed(&image, 1024 + 84, &[1]);
    assert!(matches!(
        rule::<()>(Err(error_of(&image, "file"))),
        Rule::Decode(_)
    ));
}

#[test]
fn full_index() {
    let record = |number: usize| move |header: usize, _: usize| header + 16 + 8 * number;
    let of = |number, bytes: &[u8]| {
        compressed_rule(DataLayout::CompressedFull, false, record(number), bytes)
    };
    // The first record no head, or a head that begins later.
    assert_eq!(
        of(0, &[2, 0, 0, 0, 1, 0, 1, 0]),
        Rule::LookBack { distance: 1 }
    );
    assert_eq!(of(0, &[1, 0, 1, 0]), Rule::LookBack { distance: 1 });
    assert_eq!(of(0, &[1, 0, 0, 16]), Rule::ClusterOffset { offset: 4096 });
    // A pcluster of 2047 blocks, and a missing size.
    assert_eq!(
        of(1, &[2, 0, 0, 0, 0xFF, 0x0F]),
        Rule::PclusterSize {
            length: 2047 * 4096
        }
    );
    assert_eq!(of(1, &[2, 0, 0, 0, 1, 0]), Rule::NoPclusterSize);
    let (image, header, _) = compressed(DataLayout::CompressedFull, false);
    let image = changed(&image, header + 4, &[0]);
    assert!(matches!(
        rule::<()>(Err(error_of(&image, "file"))),
        Rule::UnexpectedPclusterSize { blocks: 1.. }
    ));
    // A distance of 0 leads nowhere; only a read in the middle follows it.
    let (image, header, _) = compressed(DataLayout::CompressedFull, false);
    let image = open(&changed(&image, header + 16 + 8 * 4 + 4, &[0, 0])).unwrap();
    let file = image.resolve(b"file", Symlinks::Keep).unwrap();
    assert_eq!(
        rule(image.read(&file, 4 * 4096, &mut [0; 10])),
        Rule::LookBack { distance: 0 }
    );
    // A block behind the end.
    assert!(matches!(
        of(0, &[1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]),
        Rule::BeyondDevice { .. }
    ));
    // The second extent begins before the first one ends: an empty extent.
    assert!(matches!(
        of(0, &[0]),
        Rule::PlainTooLong { length: 40_000, .. }
    ));
}

#[test]
fn encoded_data() {
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let (image, _, data) = compressed(layout, false);
        let first = (data..).find(|at| image[*at] != 0).unwrap();
        let of = |at: usize, bytes: &[u8]| {
            rule::<()>(Err(error_of(&changed(&image, at, bytes), "file")))
        };
        assert!(matches!(
            of(first, &[1]),
            Rule::Decode(DecodeError::Header { .. })
        ));
        assert_eq!(of(data, &[0; 4096]), Rule::OnlyPadding);
        assert!(matches!(
            of(first + 9, &[0xFF; 40]),
            Rule::Decode(
                DecodeError::Corrupt { .. }
                    | DecodeError::Header { .. }
                    | DecodeError::Truncated { .. }
                    | DecodeError::Short { .. }
            )
        ));
    }
}

#[test]
fn inlined_tails() {
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let of = |bytes: &[u8]| compressed_rule(layout, true, |header, _| header + 2, bytes);
        assert_eq!(of(&[0x00, 0x10]), Rule::InlineCrossesBlock { length: 4096 });
        assert!(matches!(of(&[1, 0]), Rule::Decode(_)));
    }
}

/// Reading needs no memory of the size that an inode claims.
#[test]
fn a_file_of_2_to_the_63_bytes_is_walked_over_quickly() {
    let sample = sample(BITS);
    for name in [
        "plain", "map", "indexes", "full", "compact", "hole", "inline",
    ] {
        let image = changed(
            &sample.image,
            sample.inode_at(name) + 8,
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        );
        let image: Image = open(&image).unwrap();
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        assert!(
            image.extents(&inode).take(1_000_000).count() < 1_000_000,
            "{name}"
        );
        let _ = image.read(&inode, i64::MAX as u64 - 5, &mut [0; 100]);
    }
}
