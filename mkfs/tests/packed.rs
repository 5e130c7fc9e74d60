//! Fragments: files of every size around the edges of slots, blocks, clusters and segments, duplicates and near-duplicates
//! come back, the check finds nothing, and any number of workers writes the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use erofs_format::BlockBits;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression};
use erofs_mkfs::data::fragments::{FragmentDedupe, Packing};
use erofs_mkfs::plan::inode_data::IndexForm;
use erofs_reader::check::{CheckOptions, check};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, Symlinks};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

type Files = BTreeMap<String, Vec<u8>>;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as u8
        })
        .collect()
}

/// Compresses to about half.
fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length)
        .into_iter()
        .map(|byte| b"etaoinshrdlcumwf"[usize::from(byte & 15)])
        .collect()
}

/// Sizes from one below to one above each edge.
fn sizes(cluster: usize) -> impl Iterator<Item = usize> {
    [
        1,
        32,
        64,
        512,
        4096,
        8192,
        cluster,
        2 * cluster,
        7 * cluster,
        2 << 20,
    ]
    .into_iter()
    .flat_map(|edge| [edge - 1, edge, edge + 1])
}

fn files(cluster: usize) -> Files {
    let mut files = Files::new();
    for (seed, size) in (1u64..).zip(sizes(cluster)) {
        files.insert(format!("text/{size}.txt"), text(seed, size));
        if size < 1 << 20 {
            files.insert(format!("again/{size}.txt"), text(seed, size));
            files.insert(format!("noise/{size}.bin"), noise(seed, size));
        }
    }
    let long = text(99, 3 * cluster + 500);
    files.insert("ends/a.c".into(), long[2 * cluster..].to_vec());
    files.insert("ends/b.c".into(), long[3 * cluster..].to_vec());
    files.insert("ends/c.c".into(), long.clone());
    files.insert("ends/d.c".into(), [noise(7, 100), long].concat());
    // All in front of the fragment is plain, and a large file whose last segment is short.
    files.insert(
        "mixed/noise.bin".into(),
        [noise(8, (2 << 20) + 4096), text(8, 300)].concat(),
    );
    files.insert(
        "mixed/text.bin".into(),
        [text(9, 2 << 20), noise(9, 300)].concat(),
    );
    files
}

fn make(source: &Path, image: &Path, options: &BuildOptions) {
    build(
        BuildSource::Directory(source.to_path_buf()),
        image,
        options,
        &Arc::default(),
    )
    .unwrap();
}

/// Builds an image with each number of workers, and reads it back.
fn round_trip(source: &Path, files: &Files, options: &BuildOptions) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    make(source, &path, options);
    let bytes = std::fs::read(&path).unwrap();
    for (workers, memory) in [(1, 128 << 20), (3, 1 << 20), (8, 16 << 20)] {
        let again = folder.path().join("again");
        make(
            source,
            &again,
            &BuildOptions {
                workers,
                memory,
                ..options.clone()
            },
        );
        assert!(
            std::fs::read(&again).unwrap() == bytes,
            "{workers} workers give other bytes"
        );
    }
    let primary: Arc<dyn ByteSource> = Arc::new(FileSource::open(&path).unwrap());
    let checks = CheckOptions {
        data: true,
        ..CheckOptions::default()
    };
    let report = check(&primary, &[], &checks, &AtomicU64::new(0)).unwrap();
    let shown: Vec<_> = report.findings.iter().collect();
    assert!(shown.is_empty(), "{shown:?}");
    let image = Image::open(FileSource::open(&path).unwrap(), ImageOptions::default()).unwrap();
    for (name, content) in files {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        let mut read = vec![0xAA; content.len()];
        assert_eq!(
            image.read(&inode, 0, &mut read).unwrap(),
            content.len(),
            "{name}"
        );
        assert!(read == *content, "{name} differs");
    }
    bytes.len() as u64
}

fn compressed(max_pcluster: usize, packing: Option<Packing>) -> BuildOptions {
    let zstd = AlgorithmSettings::Zstd {
        level: 3,
        window_bits: None,
    };
    BuildOptions {
        compression: Some(Compression {
            packing,
            ..Compression::new(vec![zstd], max_pcluster)
        }),
        workers: 2,
        ..BuildOptions::default()
    }
}

#[test]
fn files_of_all_sizes_come_back_from_fragments() {
    for (bits, cluster) in [(12, 16384), (12, 4096), (9, 4096)] {
        let folder = tempfile::tempdir().unwrap();
        let files = files(cluster);
        for (name, content) in &files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        for (whole_files, packed_cluster) in [(false, None), (true, Some(65536))] {
            let packing = Packing {
                whole_files,
                max_pcluster: packed_cluster,
                dedupe: FragmentDedupe::Full,
            };
            let index_form = if whole_files {
                IndexForm::Full
            } else {
                IndexForm::Compact
            };
            let block_bits = BlockBits::new(bits).unwrap();
            round_trip(
                folder.path(),
                &files,
                &BuildOptions {
                    block_bits,
                    index_form,
                    ..compressed(cluster, Some(packing))
                },
            );
        }
    }
}

#[test]
fn many_small_files_take_less_room_together() {
    let folder = tempfile::tempdir().unwrap();
    let shared = text(1, 2000);
    let files: Files = (0..2000u64)
        .map(|number| {
            (
                format!("{number}.json"),
                [text(number, 100), shared.clone()].concat(),
            )
        })
        .collect();
    for (name, content) in &files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let alone = round_trip(folder.path(), &files, &compressed(65536, None));
    let packed = round_trip(
        folder.path(),
        &files,
        &compressed(65536, Some(Packing::default())),
    );
    assert!(packed * 5 < alone, "{packed} of {alone}");
}

#[test]
fn fragments_that_do_not_compress_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let files: Files = (0..50u64)
        .map(|number| (number.to_string(), noise(number, 900)))
        .collect();
    for (name, content) in &files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    round_trip(
        folder.path(),
        &files,
        &compressed(65536, Some(Packing::default())),
    );
}
