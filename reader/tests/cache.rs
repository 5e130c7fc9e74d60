//! How often encoded data is read and decoded, counted at the source.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use erofs_format::compression::lcluster::{Head, Lcluster, NonHead};
use erofs_format::compression::map_header::{Advise, IndexHeader, MapHeader};
use erofs_format::compression::{Algorithm, LclusterType, full_index};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_format::{BlockBits, ByteOffset, Nid};
use erofs_reader::{ByteSource, Image, ImageOptions, Symlinks};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use support::{Builder, text};

/// A source that counts how often it is read from its data region on.
struct Counting {
    bytes: Vec<u8>,
    reads: Arc<AtomicUsize>,
    delay: Duration,
}

/// A file of six Zstd pclusters of 64 KiB of content each.
fn six_pclusters(delay: Duration) -> (Image, Arc<AtomicUsize>, Vec<u8>) {
    let mut builder = Builder::new(BlockBits::B4096);
    let root = builder.reserve(1024);
    let content = text(6 * 65536);
    let pieces: Vec<(&[u8], bool)> = content.chunks(65536).map(|piece| (piece, true)).collect();
    let file = builder.compressed(DataLayout::CompressedCompact, &pieces, false);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let (image, reads) = counted(builder, delay);
    (image, reads, content)
}

fn counted(builder: Builder, delay: Duration) -> (Image, Arc<AtomicUsize>) {
    let reads = Arc::default();
    let source = Counting {
        bytes: builder.finish(),
        reads: Arc::clone(&reads),
        delay,
    };
    let image = Image::open(source, ImageOptions::default()).unwrap();
    (image, reads)
}

impl ByteSource for Counting {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> std::io::Result<usize> {
        if offset.0 >= support::DATA as u64 {
            self.reads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(self.delay);
        }
        self.bytes.read_at(offset, buffer)
    }

    fn size(&self) -> u64 {
        self.bytes.size()
    }
}

/// Small reads decode each pcluster once, a read of everything decodes into the caller's buffer, and threads agree.
#[test]
fn pclusters_are_decoded_once() {
    let (image, reads, content) = six_pclusters(Duration::ZERO);
    let file = image.resolve(b"file", Symlinks::Keep).unwrap();
    let count = || reads.load(Ordering::Relaxed);
    let before = count();

    let mut whole = vec![0; content.len()];
    image.read(&file, 0, &mut whole).unwrap();
    assert!(whole == content);
    // What lies together is read together.
    let for_whole = count() - before;
    assert!((1..6).contains(&for_whole), "{for_whole} reads");

    let before = count();
    let mut piece = [0; 4096];
    for number in 0..96 {
        let at = number * 37 % 96 * 4096;
        assert_eq!(image.read(&file, at as u64, &mut piece).unwrap(), 4096);
        assert!(piece == content[at..at + 4096]);
    }
    assert_eq!(count() - before, 6);

    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (image, content) = (&image, &content);
            scope.spawn(move || {
                let mut piece = [0; 1000];
                for at in (thread * 50..content.len() - 1000).step_by(777) {
                    image.read(&file, at as u64, &mut piece).unwrap();
                    assert!(piece == content[at..at + 1000]);
                }
            });
        }
    });
    assert_eq!(count() - before, 6);
}

/// Threads that want parts of one pcluster at the same time share one decode of it.
#[test]
fn threads_wait_for_the_one_that_decodes() {
    let (image, reads, content) = six_pclusters(Duration::from_millis(20));
    let file = image.resolve(b"file", Symlinks::Keep).unwrap();
    let (before, threads) = (reads.load(Ordering::Relaxed), 8);
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (image, content, barrier) = (&image, &content, &barrier);
            scope.spawn(move || {
                let mut piece = [0; 4096];
                for cluster in 0..6 {
                    barrier.wait();
                    let at = cluster * 65536 + thread * 4096;
                    image.read(&file, at as u64, &mut piece).unwrap();
                    assert!(piece == content[at..at + 4096]);
                }
            });
        }
    });
    assert_eq!(reads.load(Ordering::Relaxed) - before, 6);
}

/// An image with two files over one pcluster of LZ4: `front` takes two lclusters of it, `whole` all three.
fn two_files(encoded: &[u8]) -> (Builder, Nid, Nid) {
    let mut builder = Builder::new(BlockBits::B4096);
    let root = builder.reserve(1024);
    builder.superblock.incompat |=
        FeatureIncompat::ZERO_PADDING | FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    builder.configs.lz4 = Some(erofs_format::compression::config::Lz4Config {
        max_distance: 0,
        max_pcluster_blocks: 1,
    });
    let mut stored = vec![0; 4096 - encoded.len()];
    stored.extend_from_slice(encoded);
    let block = builder.data(&stored);
    let mut file = |lclusters: u16| {
        let header = IndexHeader {
            advise: Advise::empty(),
            head1: Algorithm::Lz4,
            head2: Algorithm::Lz4,
            lcluster_bits: 12,
            inline_size: 0,
            fragment_offset: 0,
        };
        let header = MapHeader::Index(header).encode(BlockBits::B4096).unwrap();
        let mut rest = [&header[..], &[0; 8]].concat();
        let head = Lcluster::Head(Head {
            kind: LclusterType::Head1,
            offset: 0,
            block,
            partial: lclusters < 3,
            hole: false,
        });
        rest.extend_from_slice(&full_index::encode(head).unwrap());
        for back in 1..lclusters {
            let record = Lcluster::NonHead(NonHead {
                back,
                ahead: lclusters - back,
                blocks: None,
            });
            rest.extend_from_slice(&full_index::encode(record).unwrap());
        }
        let record = support::inode(
            FileType::Regular,
            DataLayout::CompressedFull,
            usize::from(lclusters) * 4096,
            InodePayload::CompressedBlocks(1),
        );
        builder.add(&record, &[], 8, &rest)
    };
    let (whole, front) = (file(3), file(2));
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"front", front), (b"whole", whole)], &[]);
    (builder, front, whole)
}

/// Two files of which one takes all and one the front of the same pcluster: whoever comes first, each gets its own bytes,
/// and the longer one serves both.
#[test]
fn a_prefix_and_the_whole_share_what_is_decoded() {
    let data = text(3 * 4096);
    for short_first in [true, false] {
        let (builder, front, whole) = two_files(&lz4_flex::block::compress(&data));
        let (image, reads) = counted(builder, Duration::ZERO);
        let before = reads.load(Ordering::Relaxed);
        let mut order = [(front, 2 * 4096), (whole, 3 * 4096)];
        if !short_first {
            order.reverse();
        }
        for (nid, size) in order.repeat(3) {
            let file = image.inode(nid).unwrap();
            for at in (0..size).step_by(1000) {
                let mut piece = [0; 1000];
                let length = image.read(&file, at as u64, &mut piece).unwrap();
                assert_eq!(length, 1000.min(size - at));
                assert!(piece[..length] == data[at..at + length]);
            }
        }
        let decodes = reads.load(Ordering::Relaxed) - before;
        assert_eq!(decodes, if short_first { 2 } else { 1 });
    }
}

/// What lies in front of the broken end of a pcluster can be read, as Linux reads it; the rest cannot.
#[test]
fn what_is_in_front_of_broken_data_is_read() {
    let data = text(3 * 4096);
    let encoded = lz4_flex::block::compress(&data);
    let (builder, _, whole) = two_files(&encoded[..encoded.len() - 20]);
    let (image, _) = counted(builder, Duration::ZERO);
    let file = image.inode(whole).unwrap();
    let mut piece = [0; 4096];
    for _ in 0..2 {
        assert_eq!(image.read(&file, 4096, &mut piece).unwrap(), 4096);
        assert!(piece == data[4096..8192]);
        let error = image.read(&file, 8192, &mut piece).unwrap_err();
        assert!(error.to_string().contains("cut off"), "{error}");
    }
}
