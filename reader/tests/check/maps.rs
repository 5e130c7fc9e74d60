//! Rules for the maps of files.

use crate::Case;
use crate::crafted::{BITS, CORE, Draft, Stretch, encoded_extents};
use crate::support::{Builder, flat, noise, text};
use erofs_format::compression::config::Lz4Config;
use erofs_format::device::DeviceSlot;
use erofs_format::inode::{DataLayout, FileType};
use erofs_format::{BlockAddr, ByteOffset};
use erofs_reader::check::{At, Rule};

/// From an inode of the sample to its chunk table, behind 24 bytes of xattrs, and to the first record of a full index.
const TABLE: usize = CORE + 24;
const HEADER: usize = CORE;
const RECORDS: usize = CORE + 16;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = flat_cases();
    cases.extend(chunk_cases());
    cases.extend(index_cases());
    cases.extend(extent_cases());
    cases.extend(fragment_cases());
    cases
}

fn changed(
    sample: &Draft,
    rule: Rule,
    path: &'static str,
    at: At,
    offset: usize,
    bytes: &[u8],
) -> Case {
    let position = sample.inode_at(path) + offset;
    Case::new(rule, at, sample, |draft| draft.put(position, bytes)).path(path)
}

fn flat_cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let inode = |path: &str| sample.inode_at(path) as u64;
    let put =
        |rule, path, at, offset, bytes: &[u8]| changed(&sample, rule, path, at, offset, bytes);
    let tail = At::Image(inode("tail") + CORE as u64);
    let inline = At::Image(inode("inline") + CORE as u64);
    let mut cut = Draft::plain();
    let end = cut.data_at("file") + 100;
    cut.bytes.truncate(end);
    let mut hole = Case::made(Rule::FlatHole, At::File(0), sample.sealed()).path("hole");
    hole.also = &[Rule::XattrHidden];
    vec![
        put(
            Rule::DataOutside,
            "plain",
            At::File(0),
            16,
            &0x00FF_FFFFu32.to_le_bytes(),
        ),
        Case::made(Rule::DataCut, At::Image(end as u64), cut.sealed()).path("file"),
        put(
            Rule::FlatStart,
            "plain",
            At::Image(inode("plain")),
            16,
            &[0xFF; 4],
        ),
        hole,
        put(Rule::InlineCrosses, "tail", tail, 8, &4090u16.to_le_bytes()),
        put(
            Rule::InlineAligned,
            "inline",
            inline,
            8,
            &(3u32 * 4096).to_le_bytes(),
        )
        .also(&[Rule::InlineCrosses]),
        next_block(),
    ]
}

/// An inode that ends with its block, and its inline data behind it.
fn next_block() -> Case {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    // The root begins at byte 32 of the block.
    builder.reserve(4096 - 64 - (32 + 512));
    let file = builder.reserve(64);
    builder.reserve(64);
    assert_eq!(file.0 * 32 % 4096, 4096 - 64);
    let record = flat(FileType::Regular, DataLayout::FlatInline, 50, None);
    builder.directory(root, root, &[(b"f", file)], &[]);
    builder.write(file, &record, &[], 1, &text(50));
    let draft = Draft::finish(builder, 2);
    let at = At::Image((draft.inode_at("f") + CORE) as u64);
    Case::made(Rule::InlineNextBlock, at, draft.sealed()).path("f")
}

fn chunk_cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let inode = |path: &str| sample.inode_at(path);
    let put =
        |rule, path, at, offset, bytes: &[u8]| changed(&sample, rule, path, at, offset, bytes);
    let table = At::Image((inode("indexes") + TABLE) as u64);
    // With two devices the ids 0 to 3 survive the mask.
    let devices = Case::new(Rule::ChunkDevice, At::File(0), &sample, |draft| {
        draft.set(1024 + 80, 0x08);
        draft.put(1024 + 86, &[2, 0]);
        for (slot, tag) in [(0, b"one"), (1, b"two")] {
            let at = crate::support::SLOTS + slot * 128;
            draft.put(at, tag);
            draft.put(at + 64, &1u32.to_le_bytes());
            draft.put(at + 68, &(5000 + slot as u32).to_le_bytes());
        }
        draft.put(inode("indexes") + TABLE + 2, &[3, 0]);
    })
    .path("indexes")
    .devices(vec![vec![0; 4096], vec![0; 4096]]);
    vec![
        put(
            Rule::ChunkFormat,
            "map",
            At::Image(inode("map") as u64),
            16,
            &[0, 0x80],
        ),
        devices,
        put(Rule::ChunkDeviceAlias, "indexes", table, TABLE + 2, &[1]),
        put(Rule::ChunkHigh, "indexes", table, TABLE, &[1]),
        put(
            Rule::ChunkReserved,
            "indexes",
            At::Image(inode("indexes") as u64),
            18,
            &[1],
        ),
    ]
}

fn index_cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let full = sample.inode_at("full");
    let header = At::Image((full + HEADER) as u64);
    let put =
        |rule, at, offset: usize, bytes: &[u8]| changed(&sample, rule, "full", at, offset, bytes);
    let record = |number: usize| RECORDS + number * 8;
    let byte = |offset: usize| sample.bytes[full + offset];
    let compact = changed(
        &sample,
        Rule::IndexRecord,
        "compact",
        At::File(4096),
        HEADER + 4,
        &[sample.bytes[sample.inode_at("compact") + HEADER + 4] & !6],
    );
    let declared = Case::new(
        Rule::PclusterDeclared,
        At::File(0),
        &lz4_sample(),
        |draft| {
            // The first file of the second algorithm's image is "full", of 2 blocks from now on.
            let full = draft.inode_at("full");
            draft.put(full + record(1) + 4, &0x802u16.to_le_bytes());
        },
    )
    .path("full")
    .also(&[Rule::InodeBlocks, Rule::DataEncoded, Rule::DataOutside]);
    vec![
        put(Rule::MapHeader, header, HEADER + 6, &[0x0F]),
        put(
            Rule::MapAdvise,
            header,
            HEADER + 4,
            &[byte(HEADER + 4) | 0x40],
        ),
        put(Rule::AlgorithmListed, At::File(0), HEADER + 6, &[0]),
        compact,
        put(Rule::IndexOffset, At::File(0), record(0) + 2, &[1]).also(&[Rule::IndexLookBack]),
        put(
            Rule::IndexLookBack,
            At::File(2 * 4096),
            record(2) + 4,
            &[0, 0],
        ),
        put(
            Rule::IndexDistance,
            At::File(2 * 4096),
            record(2) + 4,
            &[50, 0],
        ),
        put(Rule::IndexSize, At::File(4096), record(1) + 4, &[1, 0]),
        put(
            Rule::IndexSizePlace,
            At::File(2 * 4096),
            record(2) + 4,
            &0x801u16.to_le_bytes(),
        ),
        // Without big pclusters the kernel refuses what it would ignore.
        put(
            Rule::IndexSize,
            At::File(4096),
            HEADER + 4,
            &[byte(HEADER + 4) & !6],
        )
        .also(&[Rule::DataEncoded, Rule::InodeBlocks]),
        put(
            Rule::IndexHole,
            At::File(0),
            record(0) + 1,
            &[byte(record(0) + 1) | 0x40],
        )
        .also(&[Rule::InodeBlocks]),
        put(
            Rule::PclusterSize,
            At::File(0),
            record(1) + 4,
            &(0x800u16 | 300).to_le_bytes(),
        )
        .also(&[
            Rule::InodeBlocks,
            Rule::DataOutside,
            Rule::ExtentExpanded,
            Rule::PclusterOverlap,
            Rule::OverlapData,
        ]),
        declared,
        crossing(),
    ]
}

/// The sample with LZ4 for an algorithm beside Zstd, and its file "full" marked as LZ4.
fn lz4_sample() -> Draft {
    let mut builder = Builder::new(BITS);
    builder.configs.lz4 = Some(Lz4Config {
        max_distance: 0,
        max_pcluster_blocks: 1,
    });
    let root = builder.reserve(512);
    builder.superblock.root = root;
    let content = text(9 * 4096 + 11);
    let file = builder.compressed(DataLayout::CompressedFull, &[(&content, true)], false);
    builder.directory(root, root, &[(b"full", file)], &[]);
    let mut draft = Draft::finish(builder, 2);
    let full = draft.inode_at("full");
    draft.put(full + HEADER + 6, &[0]);
    draft
}

/// A pcluster in whose middle a device begins.
fn crossing() -> Case {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    let content = noise(9 * 4096);
    // Noise takes as many blocks encoded as plain; zeros make it shorter.
    let content = [&content[..], &[0; 4 * 4096]].concat();
    let file = builder.compressed(DataLayout::CompressedFull, &[(&content, true)], false);
    builder.directory(root, root, &[(b"f", file)], &[]);
    let mut tag = [0; 64];
    tag[0] = b'd';
    let first = crate::support::DATA as u64 / 4096;
    builder.slots = vec![DeviceSlot {
        tag,
        blocks: 2,
        unified_start: BlockAddr(first + 2),
    }];
    let mut draft = Draft::finish(builder, 2);
    // The image itself ends before.
    draft.put(1024 + 36, &(first as u32).to_le_bytes());
    let blocks = BITS.blocks_for(crate::support::zstd(&content).len() as u64);
    let inode = draft_inode(&draft);
    draft.put(inode + 16, &(blocks as u32).to_le_bytes());
    Case::made(Rule::DataDevices, At::File(0), draft.sealed())
        .path("f")
        .devices(vec![vec![0; 8192]])
        .also(&[Rule::DataEncoded, Rule::DataLength])
}

/// Where the inode of `f` is, in an image whose device is not at hand.
fn draft_inode(draft: &Draft) -> usize {
    draft.inode_at("f")
}

fn extent_cases() -> Vec<Case> {
    let (a, b) = (text(9000), noise(3000));
    let good = vec![Stretch::zstd(&a), Stretch::plain(&b), Stretch::zstd(&a)];
    let base = encoded_extents(std::slice::from_ref(&good), |_, _| {});
    assert_eq!(crate::rules(&crate::run(&base.sealed())), []);
    let inode = base.inode_at("a");
    let records = inode + CORE + 16;
    let made = |rule, at, change: fn(&mut Vec<_>)| {
        let draft = encoded_extents(std::slice::from_ref(&good), |_, records| change(records));
        Case::made(rule, at, draft.sealed()).path("a")
    };
    // As long as the second record says, the third extent cannot be longer than 12 MiB.
    let long = vec![Stretch {
        length: 13 << 20,
        ..Stretch::zstd(&a)
    }];
    let expanded = vec![
        Stretch::plain(&b),
        Stretch::zstd(b"short"),
        Stretch::plain(&b),
    ];
    let plain = vec![
        Stretch {
            length: 4000,
            ..Stretch::plain(&b)
        },
        Stretch::plain(&b),
        Stretch::zstd(&a),
    ];
    let image = |stretches: Vec<Stretch>| encoded_extents(&[stretches], |_, _| {}).sealed();
    vec![
        made(Rule::ExtentRecord, At::File(9000), |records| {
            records[1].plen = 9 << 28 | 3000;
        }),
        made(
            Rule::ExtentOrder,
            At::Image((records + 16) as u64),
            |records| records[1].start = 0,
        )
        .also(&[
            Rule::PlainSize,
            Rule::InodeBlocks,
            Rule::ExtentSize,
            Rule::DataLonger,
        ]),
        Case::made(Rule::ExtentSize, At::File(0), image(long)).path("a"),
        Case::made(Rule::ExtentExpanded, At::File(3000), image(expanded)).path("a"),
        Case::made(Rule::PlainSize, At::File(0), image(plain)).path("a"),
    ]
}

/// Encoded extents that lie at any byte, hold holes, and come in two files that share a pcluster.
#[test]
fn good_encoded_extents_are_clean() {
    let (a, b) = (text(9000), noise(3000));
    let files = [
        vec![
            Stretch::zstd(&a),
            Stretch::plain(&b),
            Stretch::lz4(&text(200)),
        ],
        vec![Stretch::plain(&b), Stretch::zstd(&a)],
    ];
    let mut draft = encoded_extents(&files, |_, _| {});
    let report = crate::run(&draft.sealed());
    let found: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(crate::rules(&report), [], "{found:#?}");
    // The pcluster of "b" is that of "a", which decodes to the same.
    let first = draft.encoded_at("a");
    draft = encoded_extents(&files, |number, records| {
        if number == 1 {
            records[1].address = ByteOffset(first as u64);
        }
    });
    let report = crate::run(&draft.sealed());
    assert_eq!(crate::rules(&report), []);
    assert_eq!(report.statistics.decoded_bytes, 9200, "decoded once");
}

fn fragment_cases() -> Vec<Case> {
    let sample = Draft::sample(BITS);
    let full = sample.inode_at("full");
    // The whole file as a fragment at a byte of the packed inode.
    let fragment = |draft: &mut Draft, offset: u64, packed: u64| {
        draft.put(full + HEADER, &(offset | 1 << 63).to_le_bytes());
        draft.put(full + 16, &[0; 4]);
        draft.set(1024 + 80, 0x20);
        draft.put(1024 + 96, &packed.to_le_bytes());
        // The long xattr prefixes stay where they are.
        draft.set(1024 + 8, 0x10);
    };
    let plain = sample.nid("plain").0;
    let own = sample.nid("full").0;
    let recursion = Case::new(Rule::FragmentRecursion, At::File(0), &sample, |draft| {
        fragment(draft, 0, own);
    })
    .also(&[Rule::PrefixPlace]);
    vec![
        Case::new(Rule::FragmentPacked, At::File(0), &sample, |draft| {
            fragment(draft, 0, 0);
        })
        .path("full"),
        Case::new(Rule::FragmentOutside, At::File(0), &sample, |draft| {
            fragment(draft, 1 << 20, plain);
        })
        .path("full")
        .also(&[Rule::PrefixPlace]),
        recursion,
    ]
}
