//! Forms that the kernel reads and no program at hand writes, and images of other programs' making.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use erofs_format::compression::config::Lz4Config;
use erofs_format::compression::encoded_extent::{ExtentRecord, Piece, RecordSize};
use erofs_format::compression::lcluster::{Head, Lcluster, NonHead};
use erofs_format::compression::map_header::{
    Advise, ExtentRecords, ExtentsHeader, IndexHeader, MapHeader,
};
use erofs_format::compression::{Algorithm, LclusterType, full_index};
use erofs_format::device::DeviceSlot;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_format::xattr::{self, LongPrefix, NameIndex, Prefix, XattrEntry};
use erofs_format::{BlockAddr, BlockBits, ByteOffset, DeviceId, Nid};
use erofs_reader::{Image, Inode, Place, Symlinks};
use support::{Builder, noise, open, open_with, text};

const BITS: BlockBits = BlockBits::B4096;
const BLOCK: usize = 4096;

fn file(image: &Image) -> Inode {
    image.resolve(b"file", Symlinks::Keep).unwrap()
}

fn content(image: &Image, inode: &Inode) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(inode.size).unwrap()];
    assert_eq!(image.read(inode, 0, &mut content).unwrap(), content.len());
    content
}

/// Puts the root directory with `file` in it and opens the image.
fn with_file(mut builder: Builder, root: Nid, nid: Nid) -> Image {
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", nid)], &[]);
    open(&builder.finish()).unwrap()
}

/// A file with a full index as given; lclusters of one block.
fn indexed(builder: &mut Builder, size: usize, advise: Advise, records: &[Lcluster]) -> Nid {
    let header = IndexHeader {
        advise,
        head1: Algorithm::Zstd,
        head2: Algorithm::Lz4,
        lcluster_bits: BITS.bits(),
        inline_size: 0,
        fragment_offset: 0,
    };
    let mut rest = MapHeader::Index(header).encode(BITS).unwrap().to_vec();
    rest.extend_from_slice(&[0; 8]);
    for record in records {
        rest.extend_from_slice(&full_index::encode(*record).unwrap());
    }
    let record = support::inode(
        FileType::Regular,
        DataLayout::CompressedFull,
        size,
        InodePayload::CompressedBlocks(1),
    );
    builder.add(&record, &[], 8, &rest)
}

fn compressing() -> (Builder, Nid) {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(1024);
    builder.superblock.incompat |= FeatureIncompat::ZERO_PADDING
        | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER
        | FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
    builder.configs.zstd = Some(erofs_format::compression::config::ZstdConfig { window_bits: 20 });
    builder.configs.lz4 = Some(Lz4Config {
        max_distance: 0,
        max_pcluster_blocks: 16,
    });
    (builder, root)
}

/// `encoded` at the end of as many blocks as it needs.
fn padded(encoded: &[u8]) -> Vec<u8> {
    let mut stored = vec![0; encoded.len().next_multiple_of(BLOCK) - encoded.len()];
    stored.extend_from_slice(encoded);
    stored
}

fn head(kind: LclusterType, offset: u16, block: BlockAddr) -> Head {
    Head {
        kind,
        offset,
        block,
        partial: false,
        hole: false,
    }
}

fn behind(back: u16, ahead: u16, blocks: Option<u16>) -> Lcluster {
    Lcluster::NonHead(NonHead {
        back,
        ahead,
        blocks,
    })
}

/// Two algorithms in one file: HEAD1 is Zstd, HEAD2 LZ4, each pcluster of one block.
#[test]
fn the_second_algorithm_of_a_file() {
    let (mut builder, root) = compressing();
    let (first, second) = (
        text(3 * BLOCK),
        [text(70), vec![b'x'; 2 * BLOCK - 70]].concat(),
    );
    let zstd = builder.data(&padded(&support::zstd(&first[..BLOCK + 300])));
    let lz4 = builder.data(&padded(&lz4_flex::block::compress(&second)));
    let plain = builder.data(&noise(BLOCK - 300));
    let size = BLOCK + 300 + second.len() + BLOCK - 300;
    let records = [
        Lcluster::Head(head(LclusterType::Head1, 0, zstd)),
        Lcluster::Head(head(LclusterType::Head2, 300, lz4)),
        behind(1, 1, None),
        Lcluster::Head(head(LclusterType::Plain, 300, plain)),
    ];
    let nid = indexed(&mut builder, size, Advise::empty(), &records);
    let image = with_file(builder, root, nid);
    let expected = [&first[..BLOCK + 300], &second, &noise(BLOCK - 300)].concat();
    assert!(content(&image, &file(&image)) == expected);
    let algorithms: Vec<_> = image
        .extents(&file(&image))
        .map(|extent| match extent.unwrap().place {
            Place::Encoded { algorithm, .. } => Some(algorithm),
            _ => None,
        })
        .collect();
    assert_eq!(
        algorithms,
        [Some(Algorithm::Zstd), Some(Algorithm::Lz4), None]
    );
}

/// Linux 7.2: a record marked as a hole, and one whose pcluster has no blocks.
#[test]
fn holes_in_an_index() {
    let (mut builder, root) = compressing();
    let data = text(2 * BLOCK);
    let stored = builder.data(&padded(&support::zstd(&data)));
    let mut hole = head(LclusterType::Head1, 0, BlockAddr(0xDEAD_BEEF));
    hole.hole = true;
    let records = [
        Lcluster::Head(head(LclusterType::Head1, 0, stored)),
        behind(1, 1, Some(1)),
        Lcluster::Head(hole),
        behind(1, 2, Some(1)),
        behind(2, 1, None),
        Lcluster::Head(head(LclusterType::Head1, 0, BlockAddr(0xDEAD_BEEF))),
        behind(1, 1, Some(0)),
        Lcluster::Head(head(LclusterType::Head1, 0, stored)),
        behind(1, 1, Some(1)),
    ];
    let nid = indexed(&mut builder, 9 * BLOCK, Advise::BIG_PCLUSTERS, &records);
    let image = with_file(builder, root, nid);
    let expected = [&data[..], &vec![0; 5 * BLOCK], &data].concat();
    assert!(content(&image, &file(&image)) == expected);
    let holes = image.extents(&file(&image)).map(Result::unwrap);
    let holes: Vec<_> = holes
        .filter(|extent| extent.place == Place::Hole)
        .map(|extent| (extent.logical, extent.length))
        .collect();
    let block = BLOCK as u64;
    assert_eq!(holes, [(2 * block, 3 * block), (5 * block, 2 * block)]);
}

/// Records of 32 bytes: a file of more than 4 GiB, with its last extent beyond them.
#[test]
fn encoded_extents_beyond_4_gib() {
    let (mut builder, root) = compressing();
    builder.superblock.incompat |= FeatureIncompat::BIT48;
    let data = text(50_000);
    let stored = support::zstd(&data);
    let at = builder.data(&[&[9; 5], &stored[..]].concat()).0 * BLOCK as u64 + 5;
    let piece = Piece::Stored {
        length: stored.len() as u32,
        algorithm: Some(Algorithm::Zstd),
        partial: false,
    };
    let far = (5u64 << 30) + 77;
    let mut table = Vec::new();
    for (piece, address, start) in [(piece, at, 0), (Piece::Hole, 0, 50_000), (piece, at, far)] {
        let record = ExtentRecord {
            plen: piece.encode().unwrap(),
            address: ByteOffset(address),
            start,
        };
        record.encode(RecordSize::B32, &mut table).unwrap();
    }
    let header = MapHeader::Extents(ExtentsHeader {
        records: ExtentRecords::ListedWide { count: 3 },
        interlaced: false,
        fragment: false,
    });
    let size = usize::try_from(far).unwrap() + data.len();
    let record = support::inode(
        FileType::Regular,
        DataLayout::CompressedFull,
        size,
        InodePayload::CompressedBlocks(0),
    );
    // Core of 64 bytes, header of 8: the records begin at the next multiple of 32.
    let header = header.encode(BITS).unwrap();
    let rest = [&header[..], &[0; 24], &table].concat();
    let nid = builder.add(&record, &[], 8, &rest);
    let image = with_file(builder, root, nid);
    let file = file(&image);
    let mut piece = vec![1; 1000];
    image.read(&file, far - 500, &mut piece).unwrap();
    assert!(piece == [&[0; 500], &data[..500]].concat());
    image.read(&file, 49_500, &mut piece).unwrap();
    assert!(piece == [&data[49_500..], &[0; 500]].concat());
    let lengths: Vec<_> = image
        .extents(&file)
        .map(|extent| extent.unwrap().length)
        .collect();
    assert_eq!(lengths, [50_000, far - 50_000, 50_000]);
}

/// Long tables of 4-byte records give the same addresses from wherever they are entered.
#[test]
fn sums_over_a_long_table() {
    let bits = BlockBits::B512;
    let mut builder = Builder::new(bits);
    let root = builder.reserve(256);
    builder.superblock.incompat |=
        FeatureIncompat::BIT48 | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.configs.zstd = Some(erofs_format::compression::config::ZstdConfig { window_bits: 20 });
    // Plain pieces of lengths of their own, of which each extent takes the first 512 bytes; every third one is a hole.
    let (mut stored, mut lengths, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..5000usize {
        let length = if number % 3 == 0 { 0 } else { 512 + number % 7 };
        let piece = if length == 0 {
            Piece::Hole
        } else {
            Piece::Stored {
                length: length as u32,
                algorithm: None,
                partial: false,
            }
        };
        lengths.extend_from_slice(&piece.encode().unwrap().to_le_bytes());
        let mut content = vec![number as u8; length];
        content
            .iter_mut()
            .zip(number.to_le_bytes())
            .for_each(|(to, byte)| *to = byte);
        stored.extend_from_slice(&content);
        content.resize(512, 0);
        expected.extend_from_slice(&content);
    }
    let base = builder.data(&stored).0 * 512;
    let header = MapHeader::Extents(ExtentsHeader {
        records: ExtentRecords::Sequential { extent_bits: 9 },
        interlaced: false,
        fragment: false,
    });
    let record = support::inode(
        FileType::Regular,
        DataLayout::CompressedFull,
        expected.len(),
        InodePayload::CompressedBlocks(0),
    );
    let header = header.encode(bits).unwrap();
    let rest = [&header[..], &base.to_le_bytes(), &lengths].concat();
    let nid = builder.add(&record, &[], 8, &rest);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", nid)], &[]);
    let bytes = builder.finish();
    for first in [0, 1024, 4999] {
        let image = open(&bytes).unwrap();
        let file = file(&image);
        for number in [first, 4998, 1025, 3072, 3071, 1, 2047, 4097] {
            let mut piece = [0xEE; 512];
            image.read(&file, number as u64 * 512, &mut piece).unwrap();
            assert!(
                piece == expected[number * 512..][..512],
                "{number} after {first}"
            );
        }
        assert!(content(&image, &file) == expected);
    }
}

/// An inode in the metabox, with its attributes and its data there.
#[test]
fn inodes_in_the_metabox() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(1024);
    builder.superblock.incompat |= FeatureIncompat::METABOX | FeatureIncompat::BIT48;
    builder.superblock.extension_slots = 1;
    let tail = noise(300);
    let mut record = support::flat(FileType::Regular, DataLayout::FlatInline, tail.len(), None);
    let xattrs = support::body(&[], &[(Prefix::User, b"where", b"metabox")]);
    record.xattr_icount = xattr::icount(xattrs.len() as u64).unwrap();
    let mut inside = vec![0; 64];
    record.encode(&builder.superblock, &mut inside).unwrap();
    inside.extend_from_slice(&xattrs);
    inside.extend_from_slice(&tail);
    builder.superblock.metabox = Some(builder.plain(&inside));
    let image = with_file(builder, root, Nid(1 << 63 | 2));
    let file = file(&image);
    assert!(content(&image, &file) == tail);
    assert_eq!(
        image.xattr(&file, b"user.where").unwrap().as_deref(),
        Some(&b"metabox"[..])
    );
    // Behind its end.
    assert!(image.inode(Nid(1 << 63 | 100)).is_err());
}

/// Where the table of long prefixes may be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Table {
    Image,
    ImageBesidePacked,
    Packed,
    Metabox,
}

#[test]
fn long_prefixes_in_each_of_their_places_and_fingerprints() {
    for table in [
        Table::Image,
        Table::ImageBesidePacked,
        Table::Packed,
        Table::Metabox,
    ] {
        let mut builder = Builder::new(BITS);
        let root = builder.reserve(1024);
        builder.prefixes = vec![
            LongPrefix {
                base: 4,
                infix: b"overlay.".to_vec(),
            },
            LongPrefix {
                base: 0,
                infix: b"erofs.fingerprint.v1".to_vec(),
            },
        ];
        builder.superblock.incompat |= FeatureIncompat::XATTR_PREFIXES;
        builder.superblock.compat |= FeatureCompat::ISHARE_XATTRS;
        builder.superblock.inode_share_prefix = Some(1);
        let mut items = Vec::new();
        for prefix in &builder.prefixes {
            prefix.encode(&mut items).unwrap();
        }
        let holder = builder.plain(&[&[0xEE; 40], &items[..]].concat());
        if matches!(table, Table::Packed | Table::ImageBesidePacked) {
            builder.superblock.incompat |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
            builder.superblock.packed = Some(holder);
        }
        if table == Table::Metabox {
            builder.superblock.incompat |= FeatureIncompat::METABOX;
            builder.superblock.extension_slots = 1;
            builder.superblock.metabox = Some(holder);
        }
        if table == Table::ImageBesidePacked {
            builder.superblock.compat |= FeatureCompat::PLAIN_XATTR_PFX;
        }
        if matches!(table, Table::Packed | Table::Metabox) {
            builder.superblock.xattr_prefix_start = ByteOffset(40);
        }
        let mut xattrs = Vec::new();
        xattr::encode_body_header(0, &[], &mut xattrs).unwrap();
        for (index, name, value) in [(0, &b"opaque"[..], &b"y"[..]), (1, b"", b"sha256:abc")] {
            let index = NameIndex::Long(index);
            let entry = XattrEntry { index, name, value };
            entry.encode(&mut xattrs).unwrap();
        }
        let record = support::flat(FileType::Regular, DataLayout::FlatPlain, 0, None);
        let nid = builder.add(&record, &xattrs, 1, &[]);
        let image = with_file(builder, root, nid);
        let file = file(&image);
        let found = image.xattrs(&file).unwrap();
        let [overlay] = found.as_slice() else {
            panic!("{table:?}: {found:?}");
        };
        assert_eq!(overlay.name, b"trusted.overlay.opaque", "{table:?}");
        assert_eq!(
            image.fingerprint(&file).unwrap().as_deref(),
            Some(&b"sha256:abc"[..])
        );
        assert_eq!(image.fingerprint(&image.root().unwrap()).unwrap(), None);
    }
}

/// LZ4 as before Linux 5.3: data at the front of its pcluster, without the feature bit.
#[test]
fn lz4_padded_behind() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(1024);
    builder.superblock.algorithms_or_lz4_window = 65_535;
    let data = text(2 * BLOCK);
    let stored = builder.data(&lz4_flex::block::compress(&data));
    let header = IndexHeader {
        advise: Advise::empty(),
        head1: Algorithm::Lz4,
        head2: Algorithm::Lz4,
        lcluster_bits: BITS.bits(),
        inline_size: 0,
        fragment_offset: 0,
    };
    let mut rest = MapHeader::Index(header).encode(BITS).unwrap().to_vec();
    rest.extend_from_slice(&[0; 8]);
    for record in [
        Lcluster::Head(head(LclusterType::Head1, 0, stored)),
        behind(1, 1, None),
    ] {
        rest.extend_from_slice(&full_index::encode(record).unwrap());
    }
    let record = support::inode(
        FileType::Regular,
        DataLayout::CompressedFull,
        data.len(),
        InodePayload::CompressedBlocks(1),
    );
    let nid = builder.add(&record, &[], 8, &rest);
    let image = with_file(builder, root, nid);
    assert!(content(&image, &file(&image)) == data);
}

/// The superblock of a RAFS v6 bootstrap (nydus): a bit of its own among the compatible features, its own superblock in the
/// 256 bytes behind, the device table at byte 1408, files in chunks of a blob whose slot has a digest for a tag.
#[test]
fn rafs_v6_with_its_blob() {
    use erofs_format::chunk::{Chunk, ChunkFormat};
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(1024);
    builder.superblock.device_table = ByteOffset(1408);
    let data = [text(BLOCK), noise(700)].concat();
    let format = ChunkFormat {
        block_shift: 8,
        indexes: true,
        wide: false,
    };
    let chunk = Chunk::Data {
        device: DeviceId(1),
        block: BlockAddr(3),
    };
    let nid = builder.chunked(format, data.len(), &[chunk]);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", nid)], &[]);
    let mut tag = [0; 64];
    tag.fill(b'a');
    let slot = DeviceSlot {
        tag,
        blocks: 16,
        unified_start: BlockAddr(0),
    };
    builder.superblock.extra_devices = 1;
    builder.superblock.incompat |= FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
    let table = slot.encode(false).unwrap();
    builder.slots = vec![slot];
    let mut image = builder.finish();
    image[1024 + 128..1024 + 384].fill(0xA5);
    image[1408..1408 + 128].copy_from_slice(&table);
    image[1024 + 8 + 3] |= 0x40;
    support::seal(&mut image);
    let mut blob = vec![0; 3 * BLOCK];
    blob.extend_from_slice(&data);

    let alone = open(&image).unwrap();
    let names: Vec<_> = alone
        .walk()
        .unwrap()
        .map(|entry| entry.unwrap().path)
        .collect();
    assert_eq!(names, [&b""[..], b"file"]);
    let with_blob = open_with(&image, vec![blob]).unwrap();
    assert!(content(&with_blob, &file(&with_blob)) == data);
}

/// Images of mkcomposefs 1.0.8 in both versions of its format: files are holes with attributes that lead overlayfs to a
/// store of objects, whiteouts for such stores stand in the root.
#[test]
fn composefs_lists_and_tells_its_redirects() {
    for image in [
        &include_bytes!("images/composefs-0.erofs")[..],
        include_bytes!("images/composefs-1.erofs"),
    ] {
        let image = open(image).unwrap();
        let entries: Vec<_> = image.walk().unwrap().map(Result::unwrap).collect();
        let of = |path: &[u8]| {
            let entry = entries.iter().find(|entry| entry.path == path);
            entry
                .unwrap_or_else(|| panic!("{}", path.escape_ascii()))
                .inode
        };
        assert_eq!(entries.len(), 267, "a root, ten files, 256 whiteouts");
        let small = of(b"small");
        assert_eq!(content(&image, &small), b"hello\n");
        assert_eq!(small.mode & 0o7777, 0o4755);
        assert_eq!(
            image.xattr(&small, b"user.note").unwrap().as_deref(),
            Some(&b"value"[..])
        );
        assert_eq!(image.read_link(&of(b"link")).unwrap(), b"large");
        let large = of(b"large");
        assert_eq!((large.size, of(b"hard").size), (108_894, 108_894));
        assert_eq!(
            image.xattr(&large, b"trusted.overlay.redirect").unwrap(),
            Some(b"/6b/459ccd6531d613bbee4b4656d4398a4b302ee786fa843f01f92a22a95dc5f5".to_vec())
        );
        let digest = image
            .xattr(&large, b"trusted.overlay.metacopy")
            .unwrap()
            .unwrap();
        assert_eq!(
            (digest.len(), &digest[..6]),
            (36, &[0, 36, 0, 1, 0x6b, 0x45][..])
        );
        // An attribute of the source's own overlay, escaped.
        assert_eq!(
            image
                .xattr(&of(b"dir/sub"), b"trusted.overlay.overlay.opaque")
                .unwrap()
                .as_deref(),
            Some(&b"y"[..])
        );
    }
}
