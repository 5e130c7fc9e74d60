//! Shared extents: files with stretches in common take less room, come back, and the check finds nothing; any number of
//! workers writes the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use erofs_format::BlockBits;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression};
use erofs_mkfs::data::fragments::Packing;
use erofs_reader::check::{CheckOptions, check};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, Symlinks};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

type Files = Vec<(&'static str, Vec<u8>)>;

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

fn files() -> Files {
    let original = text(1, 5 << 20);
    let half = text(2, 700_001);
    vec![
        ("a/original", original.clone()),
        ("b/front", [text(3, 12_345), original.clone()].concat()),
        (
            "c/middle",
            [
                &original[..1_000_000],
                &text(4, 777),
                &original[1_000_000..],
            ]
            .concat(),
        ),
        ("d/end", [&original[..3_333_333], &text(5, 99)[..]].concat()),
        ("e/cut", original[54_321..4_000_000].to_vec()),
        ("f/same", original.clone()),
        ("g/half", half.clone()),
        ("h/twice", [half.clone(), noise(6, 50_000), half].concat()),
        ("i/noise", [noise(7, 300_000), text(1, 400_000)].concat()),
        ("j/same", original),
        ("k/zeros", vec![0; 3 << 20]),
        (
            "l/zeros",
            [vec![0; 2 << 20], text(8, 40_000), vec![0; 1 << 20]].concat(),
        ),
    ]
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

fn round_trip(files: &Files, options: &BuildOptions) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for (name, content) in files {
        let path = source.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let path = folder.path().join("image");
    make(&source, &path, options);
    let bytes = std::fs::read(&path).unwrap();
    for workers in [1, 8] {
        let again = folder.path().join("again");
        let other = BuildOptions {
            workers,
            memory: workers << 20,
            ..options.clone()
        };
        make(&source, &again, &other);
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
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let image = Image::open(FileSource::open(&path).unwrap(), ImageOptions::default()).unwrap();
    for (name, content) in files {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        let mut read = vec![0xAA; content.len()];
        assert_eq!(image.read(&inode, 0, &mut read).unwrap(), content.len());
        assert!(read == *content, "{name} differs");
    }
    bytes.len() as u64
}

#[test]
fn stretches_in_common_are_stored_once() {
    for (bits, cluster, packing) in [
        (12, 65536, None),
        (12, 16384, Some(Packing::default())),
        (12, 4096, None),
        (9, 4096, None),
    ] {
        let zstd = AlgorithmSettings::Zstd {
            level: 3,
            window_bits: None,
        };
        let options = BuildOptions {
            block_bits: BlockBits::new(bits).unwrap(),
            compression: Some(Compression {
                packing,
                ..Compression::new(vec![zstd], cluster)
            }),
            workers: 3,
            ..BuildOptions::default()
        };
        let files = files();
        let apart = round_trip(&files, &options);
        let shared = round_trip(
            &files,
            &BuildOptions {
                share_extents: true,
                ..options
            },
        );
        println!("{cluster}: {apart} without, {shared} with shared extents");
        assert!(shared * 2 < apart, "{shared} of {apart}");
    }
}
