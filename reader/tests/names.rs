//! Listings agree with walks, and crafted images do not keep them busy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use erofs_format::chunk::{Chunk, ChunkFormat};
use erofs_format::directory::{Dirent, encode_block};
use erofs_format::inode::{DataLayout, FileType, InodePayload};
use erofs_format::{BlockAddr, BlockBits, DeviceId, Nid};
use erofs_reader::{Error, Image, Rule};
use std::time::{Duration, Instant};
use support::{Builder, inode, open, sample};

/// Everything that a listing yields: paths, numbers, types.
fn listed(image: &Image, with_inodes: bool) -> Vec<(Vec<u8>, Nid, FileType)> {
    let mut names = image.names_from(&image.root().unwrap());
    if with_inodes {
        names = names.with_inodes();
    }
    let mut all = Vec::new();
    while let Some(name) = names.next() {
        let name = name.unwrap();
        let last = name.path.rsplit(|byte| *byte == b'/').next();
        assert_eq!(last, Some(name.name));
        let slashes = name.path.iter().filter(|byte| **byte == b'/').count();
        assert_eq!(name.depth, slashes + usize::from(!name.path.is_empty()));
        all.push((name.path.to_vec(), name.nid, name.file_type));
    }
    all
}

#[test]
fn a_listing_is_a_walk() {
    for bits in [BlockBits::B512, BlockBits::B4096] {
        let image = open(&sample(bits).image).unwrap();
        let walked: Vec<_> = image
            .walk()
            .unwrap()
            .map(Result::unwrap)
            .map(|entry| (entry.path, entry.inode.nid(), entry.inode.file_type))
            .collect();
        assert!(walked.len() > 10);
        assert_eq!(listed(&image, true), walked);
        assert_eq!(listed(&image, false), walked);
        for (_, nid, _) in &walked {
            let path = image.path_of(*nid).unwrap().expect("there");
            let first = walked.iter().find(|(_, other, _)| other == nid);
            assert_eq!(first.map(|(path, ..)| path), Some(&path));
        }
        assert_eq!(image.path_of(Nid(u64::MAX)).unwrap(), None);
    }
}

#[test]
fn pruned_directories_are_not_listed() {
    let image = open(&sample(BlockBits::B4096).image).unwrap();
    let mut names = image.names_from(&image.root().unwrap());
    let mut paths = Vec::new();
    while let Some(name) = names.next() {
        let (depth, path) = name.map(|name| (name.depth, name.path.to_vec())).unwrap();
        if depth == 1 {
            names.prune();
        }
        paths.push(path);
    }
    assert!(paths.iter().all(|path| !path.contains(&b'/')));
    let all = listed(&image, false);
    let top = all.iter().filter(|(path, ..)| !path.contains(&b'/'));
    assert_eq!(paths.len(), top.count());
}

const MAP: ChunkFormat = ChunkFormat {
    block_shift: 0,
    indexes: false,
    wide: false,
};

fn table(blocks: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut table = Vec::new();
    for block in blocks {
        let chunk = Chunk::Data {
            device: DeviceId::PRIMARY,
            block: BlockAddr(block),
        };
        MAP.encode_entry(chunk, &mut table).unwrap();
    }
    table
}

/// A root directory whose table names one block of entries 50,000 times: 10 million entries in less than a megabyte.
fn endless_directory() -> Vec<u8> {
    let mut builder = Builder::new(BlockBits::B4096);
    let root = builder.reserve(64 + 200_000);
    builder.superblock.root = root;
    let file = builder.plain(b"content");
    let names: Vec<_> = (0..250).map(|number| format!("{number:03}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| Dirent {
            nid: file,
            file_type: Some(FileType::Regular),
            name: name.as_bytes(),
        })
        .collect();
    let mut block = Vec::new();
    encode_block(&entries, &mut block);
    let at = builder.data(&block);
    let payload = InodePayload::ChunkFormat(MAP.encode());
    let size = 50_000 * 4096;
    let record = inode(FileType::Directory, DataLayout::ChunkBased, size, payload);
    let table = table(std::iter::repeat_n(at.0, 50_000));
    builder.write(root, &record, &[], 4, &table);
    builder.finish()
}

#[test]
fn endless_directories_end() {
    let image = open(&endless_directory()).unwrap();
    let started = Instant::now();
    let mut names = image.names_from(&image.root().unwrap());
    let mut last = None;
    while let Some(name) = names.next() {
        if let Err(error) = name {
            last = Some(error);
        }
    }
    let is_limit = |error: &Error| {
        matches!(
            error,
            Error::Corrupt {
                rule: Rule::TooManyEntries { .. },
                ..
            }
        )
    };
    assert!(last.as_ref().is_some_and(is_limit), "{last:?}");
    let root = image.root().unwrap();
    let mut blocks = image.directory_blocks(&root).unwrap();
    let error = blocks.find_map(Result::err);
    assert!(error.as_ref().is_some_and(is_limit), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// 200 files of 50,000 chunks each, whose tables lie on top of each other.
fn overlapping_tables() -> Vec<u8> {
    let mut builder = Builder::new(BlockBits::B4096);
    let root = builder.reserve(4096);
    builder.superblock.root = root;
    let payload = InodePayload::ChunkFormat(MAP.encode());
    let record = inode(
        FileType::Regular,
        DataLayout::ChunkBased,
        50_000 * 4096,
        payload,
    );
    let files: Vec<_> = (0..200)
        .map(|number| (format!("{number:03}"), builder.reserve(64)))
        .collect();
    let last = builder.reserve(64 + 200_000);
    for (_, nid) in &files {
        builder.write(*nid, &record, &[], 4, &[]);
    }
    // No two neighbours are contiguous.
    let table = table((0..50_000).map(|number| number * 2));
    builder.write(last, &record, &[], 4, &table);
    let entries: Vec<_> = files
        .iter()
        .map(|(name, nid)| (name.as_bytes(), *nid))
        .collect();
    builder.directory(root, root, &entries, &[]);
    builder.finish()
}

#[test]
fn overlapping_indexes_end() {
    let image = open(&overlapping_tables()).unwrap();
    let started = Instant::now();
    let mut limits = 0;
    let statistics = image
        .statistics(&mut |_, error| {
            limits += u64::from(matches!(
                error,
                Error::Corrupt {
                    rule: Rule::TooManyExtents { .. },
                    ..
                }
            ));
        })
        .unwrap();
    assert!(limits > 0);
    assert_eq!(statistics.problems, limits);
    assert!(started.elapsed() < Duration::from_secs(60));
}
