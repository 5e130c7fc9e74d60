//! Trees of files by seed, built and read back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use erofs_format::BlockBits;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression};
use erofs_mkfs::data::fragments::Packing;
use erofs_reader::check::{CheckOptions, check};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, Symlinks};

/// Content by path below the root.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Bytes that no codec shrinks.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
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
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length)
        .into_iter()
        .map(|byte| b"etaoinshrdlcumwf"[usize::from(byte & 15)])
        .collect()
}

/// Zstd 3.
pub(crate) fn compressed(max_pcluster: usize, packing: Option<Packing>) -> BuildOptions {
    let zstd = AlgorithmSettings::Zstd {
        level: 3,
        window_bits: None,
    };
    BuildOptions {
        compression: Some(Compression {
            packing,
            ..Compression::new(vec![zstd], max_pcluster, BlockBits::B4096)
        }),
        workers: 2,
        ..BuildOptions::default()
    }
}

/// A folder with these files.
pub(crate) fn written(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// An image of `source`, whose file is gone already.
pub(crate) fn build_image(source: &Path, options: &BuildOptions) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let source = BuildSource::Directory(source.to_path_buf());
    build(source, &path, options, &Arc::default()).unwrap();
    Image::open(FileSource::open(&path).unwrap(), ImageOptions::default()).unwrap()
}

/// Builds an image of `source` with each number of workers and reads `files` back from it. Returns its size in bytes.
pub(crate) fn round_trip(source: &Path, files: &Files, options: &BuildOptions) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let make = |name, options: &BuildOptions| {
        let path = folder.path().join(name);
        let source = BuildSource::Directory(source.to_path_buf());
        build(source, &path, options, &Arc::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    let (path, bytes) = make("image", options);
    for (workers, memory) in [(1, 128 << 20), (3, 1 << 20), (8, 16 << 20)] {
        let other = BuildOptions {
            workers,
            memory,
            ..options.clone()
        };
        assert!(
            make("again", &other).1 == bytes,
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
