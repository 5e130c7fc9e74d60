//! Images that want to be checked for ever, or in all memory there is.

use crate::crafted::{BITS, Draft, Stretch, encoded_extents};
use crate::support::{Builder, META, SHARED, flat, inode, noise, seal};
use crate::{rules, run, source, with_data};
use erofs_format::BlockBits;
use erofs_format::Nid;
use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::map_header::MapHeader;
use erofs_format::directory::{self, Dirent};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_reader::check::{At, CheckOptions, Rule, check};
use proptest::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Far more than any of these needs on a busy machine, and far less than what the image asks for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A chain of directories in a directory.
fn chain(length: u64) -> Vec<u8> {
    const SLOT: u64 = 96;
    const IN_BLOCK: u64 = 4096 / SLOT;
    let mut superblock = Builder::new(BITS).superblock;
    superblock.meta_block = erofs_format::BlockAddr(1);
    superblock.root = Nid(0);
    superblock.inodes = length;
    superblock.incompat = FeatureIncompat::empty();
    superblock.blocks = 1 + length.div_ceil(IN_BLOCK);
    let nid = |number: u64| Nid((number / IN_BLOCK * 4096 + number % IN_BLOCK * SLOT) / 32);
    let mut image = vec![0; (superblock.blocks * 4096) as usize];
    let encoded = superblock.encode().unwrap();
    image[1024..1024 + encoded.len()].copy_from_slice(&encoded);
    for number in 0..length {
        let entry = |name, number| Dirent {
            nid: nid(number),
            file_type: Some(FileType::Directory),
            name,
        };
        let mut entries = vec![
            entry(&b"."[..], number),
            entry(b"..", number.saturating_sub(1)),
        ];
        if number + 1 < length {
            entries.push(entry(b"a", number + 1));
        }
        let mut content = Vec::new();
        directory::encode_block(&entries, &mut content);
        let mut record = flat(
            FileType::Directory,
            DataLayout::FlatInline,
            content.len(),
            None,
        );
        record.extended = false;
        (record.uid, record.gid) = (0, 0);
        record.nlink = entries.len() as u32;
        record.mtime.seconds = superblock.epoch;
        record.mtime.nanoseconds = superblock.fixed_nanoseconds;
        let mut bytes = Vec::new();
        record.encode(&superblock, &mut bytes).unwrap();
        bytes.extend_from_slice(&content);
        let at = 4096 + nid(number).0 as usize * 32;
        image[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    seal(&mut image);
    image
}

#[test]
fn deep_trees_end() {
    let shallow = run(&chain(4096));
    let found: Vec<_> = shallow.findings.iter().map(ToString::to_string).collect();
    assert_eq!(rules(&shallow), [], "{found:#?}");
    let deep = run(&chain(6000));
    assert!(rules(&deep).contains(&Rule::DirectoryDepth));
    let depth = deep
        .findings
        .iter()
        .find(|finding| finding.rule == Rule::DirectoryDepth);
    let path = depth.unwrap().path.as_ref().unwrap();
    assert_eq!(path.split(|byte| *byte == b'/').count(), 4096);
}

/// A root with the file `f`, whose record is given.
fn with_file(record: &erofs_format::inode::Inode, rest: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(BITS);
    builder.superblock.incompat |= FeatureIncompat::CHUNKED_FILE;
    let root = builder.reserve(512);
    builder.superblock.root = root;
    let file = builder.add(record, &[], 4, rest);
    builder.directory(root, root, &[(b"f", file)], &[]);
    Draft::finish(builder, 2).sealed()
}

#[test]
fn huge_sizes_end() {
    let begin = Instant::now();
    let size = i64::MAX as usize;
    let start = Some(erofs_format::BlockAddr(192));
    for file_type in [FileType::Regular, FileType::Directory] {
        let record = flat(file_type, DataLayout::FlatPlain, size, start);
        let report = run(&with_file(&record, &[]));
        assert!(rules(&report).contains(&Rule::DataOutside), "{file_type:?}");
        assert!(report.complete);
        // 2^58 bytes of nothing, in chunks as large as they get.
        let size = 1 << 58;
        let format = ChunkFormat {
            block_shift: 31,
            indexes: false,
            wide: false,
        };
        let payload = InodePayload::ChunkFormat(format.encode());
        let record = inode(file_type, DataLayout::ChunkBased, size, payload);
        let count = format.chunk_count(size as u64, BITS) as usize;
        let report = run(&with_file(&record, &vec![0xFF; count * 4]));
        let is_file = file_type == FileType::Regular;
        assert_eq!(report.complete, is_file);
        // No block of such a directory can be read.
        let expected = [Rule::DirectoryBlock, Rule::Limit];
        assert_eq!(rules(&report).is_empty(), is_file);
        assert!(rules(&report).iter().all(|rule| expected.contains(rule)));
        assert!(report.findings.len() <= 101);
    }
    // An index that would be larger than the image.
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let mut draft = Draft::sample(BITS);
        let at = draft.inode_at(if layout == DataLayout::CompressedFull {
            "full"
        } else {
            "compact"
        });
        draft.put(at + 8, &i64::MAX.to_le_bytes());
        let report = run(&draft.sealed());
        assert!(rules(&report).contains(&Rule::DataOutside), "{layout:?}");
        assert!(report.complete);
    }
    assert!(begin.elapsed() < PATIENCE);
}

/// Thousands of inodes with one chunk table each, which is the whole area of metadata.
#[test]
fn entangled_tables_end() {
    let mut builder = Builder::new(BITS);
    builder.superblock.incompat |= FeatureIncompat::CHUNKED_FILE;
    let root = builder.reserve(64);
    builder.superblock.root = root;
    let format = ChunkFormat {
        block_shift: 0,
        indexes: false,
        wide: false,
    };
    let payload = InodePayload::ChunkFormat(format.encode());
    let record = inode(
        FileType::Regular,
        DataLayout::ChunkBased,
        4096 * 120_000,
        payload,
    );
    let files: Vec<Nid> = (0..3000)
        .map(|_| builder.add(&record, &[], 4, &[]))
        .collect();
    let names: Vec<String> = (0..files.len())
        .map(|number| format!("{number:05}"))
        .collect();
    let entries: Vec<(&[u8], Nid)> = names
        .iter()
        .zip(&files)
        .map(|(name, nid)| (name.as_bytes(), *nid))
        .collect();
    builder.directory(root, root, &entries, &[]);
    let mut image = Draft::finish(builder, 3001).sealed();
    image.resize(2 << 20, 0);
    let begin = Instant::now();
    let report = run(&image);
    assert!(begin.elapsed() < PATIENCE);
    assert!(!report.complete && !report.is_clean());
    assert_eq!(report.counts.of(Rule::Limit), 1);
    // The lists can be kept out of memory.
    let options = CheckOptions {
        max_memory: Some(1 << 20),
        ..CheckOptions::default()
    };
    let spilling = check(&source(image), &[], &options, &AtomicU64::new(0)).unwrap();
    assert!(spilling.statistics.spilled_bytes > 1 << 20);
    assert_eq!(rules(&spilling), rules(&report));
}

/// Hundreds of extents of a megabyte that are one pcluster: decoded once.
#[test]
fn bombs_are_decoded_once() {
    let zeros = vec![0; 1 << 20];
    let bomb = Stretch::zstd(&zeros);
    let stretches = vec![bomb; 300];
    let draft = encoded_extents(&[stretches], |_, records| {
        let first = records[0].address;
        for record in records {
            record.address = first;
        }
    });
    let begin = Instant::now();
    let report = run(&draft.sealed());
    assert!(begin.elapsed() < PATIENCE);
    assert_eq!(report.statistics.decoded_bytes, 1 << 20);
    assert_eq!(report.statistics.extents, 301);
    // Pclusters on top of each other are told, and decoded up to a limit.
    let stretches = vec![Stretch::zstd(&zeros); 300];
    let draft = encoded_extents(&[stretches], |_, records| {
        let first = records[0].address;
        for (record, number) in records.iter_mut().zip(0..) {
            record.address = first.checked_add(number).unwrap();
        }
    });
    let report = run(&draft.sealed());
    assert_eq!(report.counts.of(Rule::PclusterOverlap), 299);
    assert!(report.statistics.decoded_bytes <= 512 << 20);
    assert!(begin.elapsed() < PATIENCE);
}

/// Hundreds of links whose targets lie in the packed inode, far from each other: each costs an extent of 1 MiB, and all of
/// them do not fit in the cache.
#[test]
fn bombs_for_metadata_end() {
    let extents = 80;
    let zeros = vec![0; 1 << 20];
    let pieces = vec![(&zeros[..], true); extents];
    let mut builder = Builder::new(BITS);
    builder.superblock.incompat |= FeatureIncompat::FRAGMENTS_OR_DEDUPE;
    let root = builder.reserve(4096);
    builder.superblock.root = root;
    let packed = builder.compressed(DataLayout::CompressedCompact, &pieces, false);
    builder.superblock.packed = Some(packed);
    let payload = InodePayload::CompressedBlocks(0);
    let record = inode(
        FileType::Symlink,
        DataLayout::CompressedCompact,
        100,
        payload,
    );
    let links: Vec<(String, Nid)> = (0..600)
        .map(|number| {
            let offset = ((number % extents) << 20) as u64 + 1000;
            let header = MapHeader::Fragment { offset }.encode(BITS).unwrap();
            (
                format!("{number:03}"),
                builder.add(&record, &[], 8, &header),
            )
        })
        .collect();
    let entries: Vec<(&[u8], Nid)> = links
        .iter()
        .map(|(name, nid)| (name.as_bytes(), *nid))
        .collect();
    builder.directory(root, root, &entries, &[]);
    let begin = Instant::now();
    let report = run_without_data(&Draft::finish(builder, 602).sealed());
    assert!(begin.elapsed() < PATIENCE);
    assert_eq!(report.counts.of(Rule::Limit), 1);
    assert!(!report.complete);
    // Those that were looked at have NULs for their targets.
    let read = report.counts.of(Rule::SymlinkNul);
    assert!((100..600).contains(&read), "{read} links");
}

fn run_without_data(image: &[u8]) -> erofs_reader::check::Report {
    let options = CheckOptions::default();
    check(&source(image.to_vec()), &[], &options, &AtomicU64::new(0)).unwrap()
}

/// Where to begin, also in the middle of a broken tree.
#[test]
fn a_part_can_be_checked() {
    use erofs_reader::check::Start;
    let mut draft = Draft::sample(BITS);
    let many = draft.nid("many");
    let plain = draft.inode_at("plain");
    draft.put(plain + 44, &[9]);
    let image = source(draft.sealed());
    let report = |start: Start| {
        let options = CheckOptions {
            start,
            ..with_data()
        };
        check(&image, &[], &options, &AtomicU64::new(0))
    };
    let whole = report(Start::Root).unwrap();
    assert_eq!(whole.counts.of(Rule::InodeLinks), 1);
    for start in [Start::Path(b"/many".to_vec()), Start::Inode(many)] {
        let part = report(start).unwrap();
        // Names elsewhere are not counted.
        assert_eq!(part.counts.of(Rule::InodeLinks), 0);
        assert_eq!(part.statistics.names, 401);
        assert_eq!(part.statistics.inodes, 2);
    }
    let file = report(Start::Path(b"hole".to_vec())).unwrap();
    assert_eq!(rules(&file), [Rule::FlatHole]);
    assert_eq!(file.findings[0].path.as_deref(), Some(&b"hole"[..]));
    assert_eq!(file.findings[0].at, At::File(0));
    assert!(report(Start::Path(b"/nowhere".to_vec())).is_err());
    assert!(report(Start::Inode(Nid(1 << 40))).is_err());
}

fn good() -> &'static (Vec<u8>, Vec<usize>) {
    static GOOD: OnceLock<(Vec<u8>, Vec<usize>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let image = Draft::sample(BlockBits::B512).sealed();
        let used = |at: &usize| image[*at] != 0 || image[at.saturating_sub(2)] != 0;
        let places = (1024..2048)
            .chain(META..META + (64 << 10))
            .chain(SHARED..SHARED + 256)
            .filter(used)
            .chain((crate::support::DATA..image.len()).step_by(61))
            .collect();
        (image, places)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes are changed, the check ends without a panic, findings are bounded and the same again.
    #[test]
    fn damaged_images_are_checked(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        sealed in prop::bool::weighted(0.9),
    ) {
        let (image, places) = good();
        let mut image = image.clone();
        for (place, byte) in &changes {
            image[*place.get(places)] = *byte;
        }
        if let Some(cut) = cut {
            let length = cut.index(image.len());
            image.truncate(length);
        }
        if sealed && image.len() >= 2048 {
            seal(&mut image);
        }
        let report = run(&image);
        for rule in Rule::ALL {
            let kept = report.findings.iter().filter(|finding| finding.rule == *rule).count() as u64;
            prop_assert_eq!(kept, report.counts.of(*rule).min(100));
        }
        let again = run(&image);
        prop_assert_eq!(report.findings, again.findings);
    }
}

/// Noise in place of everything behind a good superblock.
#[test]
fn noise_is_checked() {
    let good = Draft::sample(BITS).sealed();
    for seed in 0..20 {
        let mut image = good.clone();
        let noise = noise(image.len() + seed * 1000);
        let from = 2048 + seed * 16_384;
        let part = noise.len() - (image.len() - from);
        image[from..].copy_from_slice(&noise[part..]);
        seal(&mut image);
        let report = run(&image);
        assert!(!report.is_clean(), "{seed}");
    }
}
