//! Rules for the image as a whole.

use crate::Case;
use crate::crafted::{BITS, Draft};
use crate::support::{Builder, PREFIXES, SLOTS, text};
use erofs_format::compression::config::{Lz4Config, ZstdConfig};
use erofs_format::device::DeviceSlot;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType};
use erofs_format::superblock::SUPERBLOCK_OFFSET;
use erofs_format::{BlockAddr, Nid};
use erofs_reader::check::{At, Rule};

const SB: usize = SUPERBLOCK_OFFSET as usize;

fn at(field: usize) -> At {
    At::Image((SB + field) as u64)
}

pub(crate) fn cases() -> Vec<Case> {
    let plain = Draft::plain();
    let sample = Draft::sample(BITS);
    let put = |rule, field: usize, bytes: &[u8]| {
        Case::new(rule, at(field), &plain, |draft| {
            draft.put(SB + field, bytes)
        })
    };
    let mut cases = vec![
        Case::new(Rule::SuperblockTruncated, at(0), &plain, |draft| {
            draft.bytes.truncate(1100)
        }),
        put(Rule::SuperblockMagic, 0, &[0]),
        put(Rule::SuperblockBlockSize, 12, &[8]),
        Case::made(Rule::SuperblockPageSize, at(12), large_blocks()),
        put(Rule::SuperblockDirectoryBlocks, 90, &[1]),
        Case::new(Rule::SuperblockFeatures, at(80), &plain, |draft| {
            draft.set(SB + 82, 1)
        }),
        put(Rule::SuperblockSize, 13, &[200]),
        Case::new(Rule::SuperblockMetabox, at(13), &plain, |draft| {
            draft.set(SB + 81, 1)
        }),
        Case::new(Rule::SuperblockPacked, at(96), &plain, |draft| {
            draft.set(SB + 80, 0x20);
            draft.put(SB + 96, &(Nid::METABOX | 5).to_le_bytes());
        }),
        Case::new(Rule::SuperblockSharePrefix, at(105), &plain, |draft| {
            draft.set(SB + 8, 0x20)
        }),
        put(Rule::SuperblockLabel, 64, &[b'x'; 16]),
        put(Rule::SuperblockReserved, 106, &[1]),
        put(
            Rule::SuperblockNanoseconds,
            32,
            &1_000_000_000u32.to_le_bytes(),
        ),
        put(Rule::SuperblockBlocks, 36, &[0xFF; 4]),
        put(Rule::SuperblockInodes, 16, &[4]),
        // The Zstd window, behind length and format. Compressed files are then left alone.
        Case::new(Rule::AlgorithmConfig, at(128), &sample, |draft| {
            draft.put(SB + 128 + 3, &[11])
        }),
        Case::made(Rule::AlgorithmUnused, at(84), unused_algorithm()),
        Case::made(Rule::AlgorithmBlocks, at(128 + 4), many_blocks())
            .also(&[Rule::AlgorithmUnused]),
        Case::new(
            Rule::FeatureMissing,
            At::Image(sample.inode_at("map") as u64),
            &sample,
            |draft| draft.bytes[SB + 80] &= !0x04,
        )
        .path("map"),
        Case::new(
            Rule::DeviceTable,
            At::Image(0xFFFF * 128),
            &plain,
            |draft| {
                draft.set(SB + 80, 0x08);
                draft.put(SB + 86, &[0xFF; 4]);
            },
        ),
        Case::new(
            Rule::PrefixTable,
            At::Image(PREFIXES as u64),
            &sample,
            |draft| {
                draft.put(PREFIXES, &[0, 0]);
            },
        ),
        Case::new(
            Rule::PrefixBase,
            At::Image(PREFIXES as u64),
            &sample,
            |draft| {
                draft.put(PREFIXES + 2, &[5]);
            },
        ),
        Case::new(
            Rule::PrefixPlace,
            At::Image(PREFIXES as u64),
            &sample,
            |draft| {
                draft.set(SB + 8, 0x10);
                draft.set(SB + 80, 0x20);
                draft.put(SB + 96, &draft.nid("plain").0.to_le_bytes());
            },
        ),
        Case::new(
            Rule::Root,
            At::Image(plain.inode_at("file") as u64),
            &plain,
            |draft| {
                let nid = draft.nid("file").0 as u16;
                draft.put(SB + 14, &nid.to_le_bytes());
            },
        )
        .path(""),
        packed(
            &plain,
            plain.nid("directory").0,
            plain.inode_at("directory") as u64,
        ),
    ];
    let metabox = metabox();
    let root = At::Image(metabox.inode_at("/") as u64);
    cases.push(Case::made(Rule::MetaboxInode, root, metabox.sealed()));
    let mut unsealed = Case::new(Rule::SuperblockChecksum, at(4), &plain, |_| {});
    unsealed.image[SB + 48] ^= 1;
    cases.push(unsealed);
    cases.extend(devices());
    cases
}

fn packed(plain: &Draft, nid: u64, at: u64) -> Case {
    Case::new(Rule::PackedInode, At::Image(at), plain, |draft| {
        draft.set(SB + 80, 0x20);
        draft.put(SB + 96, &nid.to_le_bytes());
    })
}

/// What the superblock says of special inodes is left out when it cannot be read, and the rest is checked.
#[test]
fn the_check_goes_on_without_what_cannot_be_read() {
    let plain = Draft::plain();
    let case = packed(&plain, 1 << 40, 0);
    let report = crate::run(&case.image);
    assert_eq!(crate::rules(&report), [Rule::PackedInode]);
    assert_eq!(report.statistics.names, 3);

    let mut draft = plain;
    draft.put(SB + 90, &[1]);
    draft.set(SB + 82, 1);
    let file = Draft::plain().inode_at("file");
    draft.put(file + 44, &[9]);
    draft.bytes[SB + 48] ^= 1;
    let report = crate::run(&draft.bytes);
    let expected = [
        Rule::SuperblockChecksum,
        Rule::SuperblockDirectoryBlocks,
        Rule::SuperblockFeatures,
        Rule::InodeLinks,
    ];
    assert_eq!(crate::rules(&report), expected);
}

fn large_blocks() -> Vec<u8> {
    let mut builder = Builder::new(erofs_format::BlockBits::new(14).unwrap());
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.directory(root, root, &[], &[]);
    Draft::finish(builder, 1).sealed()
}

fn unused_algorithm() -> Vec<u8> {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.superblock.incompat |=
        FeatureIncompat::ZERO_PADDING | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.configs.zstd = Some(ZstdConfig { window_bits: 20 });
    builder.directory(root, root, &[], &[]);
    Draft::finish(builder, 1).sealed()
}

/// LZ4 clusters of more blocks than Linux has pages for.
fn many_blocks() -> Vec<u8> {
    let mut builder = Builder::new(erofs_format::BlockBits::new(9).unwrap());
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.superblock.incompat |=
        FeatureIncompat::ZERO_PADDING | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.configs.lz4 = Some(Lz4Config {
        max_distance: 0,
        max_pcluster_blocks: 256,
    });
    builder.directory(root, root, &[], &[]);
    let mut draft = Draft::finish(builder, 1);
    draft.put(SB + 128 + 4, &257_u16.to_le_bytes());
    draft.sealed()
}

/// The root as its own metabox.
fn metabox() -> Draft {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.superblock.metabox = Some(root);
    builder.superblock.extension_slots = 1;
    builder.superblock.incompat |= FeatureIncompat::METABOX;
    builder.directory(root, root, &[], &[]);
    Draft::finish(builder, 1)
}

fn slot(tag: &[u8], blocks: u64, start: u64) -> DeviceSlot {
    let mut bytes = [0; 64];
    bytes[..tag.len()].copy_from_slice(tag);
    DeviceSlot {
        tag: bytes,
        blocks,
        unified_start: BlockAddr(start),
    }
}

fn with_slots(slots: &[DeviceSlot]) -> Vec<u8> {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.slots = slots.to_vec();
    builder.directory(root, root, &[], &[]);
    Draft::finish(builder, 1).sealed()
}

fn devices() -> Vec<Case> {
    let slot_at = At::Image(SLOTS as u64);
    let second = At::Image(SLOTS as u64 + 128);
    vec![
        Case::made(
            Rule::DeviceTag,
            second,
            with_slots(&[slot(b"one", 2, 5000), slot(b"", 1, 5002)]),
        )
        .devices(vec![vec![0; 8192], vec![0; 4096]]),
        Case::made(
            Rule::DeviceOverlap,
            slot_at,
            with_slots(&[slot(b"one", 2, 5000), slot(b"two", 1, 5001)]),
        )
        .devices(vec![vec![0; 8192], vec![0; 4096]]),
        Case::made(
            Rule::DeviceShort,
            slot_at,
            with_slots(&[slot(b"one", 2, 5000)]),
        )
        .devices(vec![vec![0; 4096]]),
        Case::made(
            Rule::DeviceMissing,
            slot_at,
            with_slots(&[slot(b"one", 2, 5000)]),
        ),
    ]
}

/// A device may end inside of its last block.
#[test]
fn devices_that_fit_are_fine() {
    let image = with_slots(&[slot(b"one", 2, 5000)]);
    let report = crate::run_with(&image, &[vec![0; 4097]]);
    assert_eq!(crate::rules(&report), []);
    let error = erofs_reader::check::check(
        &crate::source(image),
        &[crate::source(Vec::new()), crate::source(Vec::new())],
        &crate::with_data(),
        &Default::default(),
    );
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "2 devices given for an image with 1 device slots");
}

/// Data on devices that are not there is not looked at, and is no finding.
#[test]
fn missing_devices_are_no_fault_of_the_data() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.slots = vec![slot(b"one", 2, 5000)];
    let record = crate::support::flat(
        FileType::Regular,
        DataLayout::FlatPlain,
        text(8000).len(),
        Some(BlockAddr(5000)),
    );
    let file = builder.add(&record, &[], 1, &[]);
    builder.directory(root, root, &[(b"file", file)], &[]);
    let image = Draft::finish(builder, 2).sealed();
    let report = crate::run(&image);
    assert_eq!(crate::rules(&report), [Rule::DeviceMissing]);
    assert_eq!(report.statistics.read_bytes, 0);
    let mut device = text(8000);
    device.resize(8192, 0);
    let report = crate::run_with(&image, &[device.clone()]);
    assert_eq!(crate::rules(&report), []);
    assert_eq!(report.statistics.read_bytes, 8000);
    device[8191] = 1;
    let report = crate::run_with(&image, &[device]);
    assert_eq!(crate::rules(&report), [Rule::DataTail]);
    let tail = &report.findings[0];
    assert_eq!(tail.at, At::Device(erofs_format::DeviceId(1), 8191));
}
