//! Compressed metadata: directories, the metabox, encoded extents.

use std::collections::BTreeSet;

use erofs_format::compression::map_header::MapHeader;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::DataLayout;
use erofs_format::{BlockBits, Nid};
use erofs_mkfs::build::BuildOptions;
use erofs_mkfs::data::compression::{AlgorithmSettings, MAX_EXTENT, Method};
use erofs_mkfs::data::fragments::Packing;
use erofs_mkfs::index::{IndexOptions, IndexSource, Placement, index};
use erofs_mkfs::plan::long_prefix;
use erofs_mkfs::source::raw::RawFile;
use erofs_reader::dump::inode::MapRecord;
use erofs_reader::{Image, Inode, Symlinks};
use sha2::{Digest, Sha256};

use crate::trees::{Files, build_image, compressed, noise, round_trip, text, written};

/// Directories of one to many blocks, files that lie behind their inodes, and files of several pclusters.
fn files() -> Files {
    let mut files = Files::new();
    for count in [1usize, 50, 1200] {
        for number in 0..count {
            let name = format!("{count}/entry-of-a-directory-{number:05}");
            files.insert(name, text(number as u64, number % 90));
        }
    }
    let long = text(1, 900_000);
    files.insert("deep/a/b/c/long".into(), long.clone());
    files.insert(
        "deep/again".into(),
        [&long[..], &noise(2, 200_000)].concat(),
    );
    files.insert("deep/noise".into(), noise(3, 70_001));
    files.insert("deep/zeros".into(), vec![0; 3 << 20]);
    files
}

/// Bytes of a record of encoded extents, where a file has them.
fn record_size(image: &Image, inode: &Inode) -> Option<u64> {
    let is_compressed = inode.layout == DataLayout::CompressedFull;
    match image.map_record(inode).ok().filter(|_| is_compressed)? {
        MapRecord::Compressed {
            meaning: MapHeader::Extents(extents),
            ..
        } => Some(extents.records.record_size().bytes()),
        _ => None,
    }
}

fn metabox(max_pcluster: usize) -> Option<Method> {
    Some(Method {
        settings: AlgorithmSettings::Lz4,
        max_pcluster,
        max_extent: MAX_EXTENT,
        is_for_fragments: false,
    })
}

fn wide(mut options: BuildOptions) -> BuildOptions {
    options.image.metadata.bit48 = true;
    options
}

#[test]
fn compressed_directories_and_inodes_come_back() {
    let files = files();
    let folder = written(&files);
    for (bits, cluster, packing) in [
        (12, 65536, None),
        (12, 4096, Some(Packing::default())),
        (9, 4096, None),
    ] {
        let plain = BuildOptions {
            block_bits: BlockBits::new(bits).unwrap(),
            ..compressed(cluster, packing)
        };
        let directories = BuildOptions {
            compress_directories: true,
            ..plain.clone()
        };
        let inodes = wide(BuildOptions {
            metabox: metabox(cluster),
            ..plain.clone()
        });
        let both = wide(BuildOptions {
            compress_directories: true,
            ..inodes.clone()
        });
        let sizes = [&plain, &directories, &inodes, &both]
            .map(|options| round_trip(folder.path(), &files, options));
        println!("{bits} {cluster}: {sizes:?}");
        let [plain, directories, inodes, both] = sizes;
        assert!(directories < plain && inodes < plain && both < directories && both < inodes);
    }
}

/// Whether a directory's data is in the packed inode.
fn is_packed(image: &Image, path: &str) -> bool {
    let inode = image.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
    let record = image.map_record(&inode).unwrap();
    let fragment = |record| {
        let MapRecord::Compressed { meaning, .. } = record else {
            return false;
        };
        matches!(meaning, MapHeader::Fragment { .. })
    };
    inode.layout == DataLayout::CompressedFull && fragment(record)
}

/// With fragments directories of all sizes are compressed with these, unless they are tiny, or few.
#[test]
fn directories_are_packed_with_fragments() {
    let files = files();
    let folder = written(&files);
    let packing = Packing {
        whole_files: true,
        ..Packing::default()
    };
    for (bits, is_wide) in [(12, false), (12, true), (9, false)] {
        let mut plain = BuildOptions {
            block_bits: BlockBits::new(bits).unwrap(),
            ..compressed(65536, Some(packing))
        };
        plain.image.metadata.bit48 = is_wide;
        let packed = BuildOptions {
            compress_directories: true,
            ..plain.clone()
        };
        let sizes = [&plain, &packed].map(|options| round_trip(folder.path(), &files, options));
        println!("{bits} {is_wide}: {sizes:?}");
        assert!(sizes[1] < sizes[0]);
        let image = build_image(folder.path(), &packed);
        for (path, expected) in [
            ("", true),
            ("50", true),
            ("1200", true),
            ("1", true),
            ("deep/a", false),
        ] {
            assert_eq!(is_packed(&image, path), expected, "{path}");
        }
    }
    // Files without data, in enough directories; and directories that fit a block.
    let name = |number| (format!("{number:02}/an-empty-file-{number}"), Vec::new());
    for (count, expected) in [(90, true), (20, false)] {
        let empty: Files = (0..count)
            .map(name)
            .chain([("z/z".to_owned(), Vec::new())])
            .collect();
        let folder = written(&empty);
        let options = BuildOptions {
            compress_directories: true,
            ..compressed(65536, Some(packing))
        };
        round_trip(folder.path(), &empty, &options);
        let image = build_image(folder.path(), &options);
        assert_eq!(image.superblock().packed.is_some(), expected);
        let fragments = FeatureIncompat::FRAGMENTS_OR_DEDUPE;
        assert_eq!(image.superblock().incompat.contains(fragments), expected);
        assert_eq!(is_packed(&image, ""), expected);
    }
}

#[test]
fn an_image_without_compressed_files_can_have_compressed_metadata() {
    let files = files();
    let folder = written(&files);
    let options = BuildOptions {
        compress_directories: true,
        metabox: metabox(16384),
        workers: 2,
        ..BuildOptions::default()
    };
    round_trip(folder.path(), &files, &options);
    // Nothing in it is as large as a block: no kernel has to know an algorithm.
    let few = Files::from([("a".to_owned(), b"b".to_vec())]);
    let folder = written(&few);
    round_trip(folder.path(), &few, &options);
    let image = build_image(folder.path(), &options);
    assert_eq!(image.superblock().incompat, FeatureIncompat::METABOX);
}

/// More metadata than a worker takes at once, compressed twice: the second time with the addresses that follow from the first.
#[test]
fn an_index_of_compressed_metadata_is_the_same_for_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..700u64)
        .map(|number| {
            let path = folder.path().join(format!("file-{number:03}"));
            let content = text(number, 1000).repeat(9);
            std::fs::write(&path, &content[..4096 + 4000]).unwrap();
            let name = format!("sub/file-{number:03}").into_bytes();
            RawFile { name, path }
        })
        .collect();
    let made = |workers| {
        let output = folder.path().join("index");
        let mut options = IndexOptions {
            metabox: metabox(4096),
            compress_directories: true,
            workers,
            ..IndexOptions::default()
        };
        options.image.metadata.bit48 = true;
        let source = IndexSource::RawFiles(files.clone());
        index(source, &output, &options, Placement::Apart).unwrap();
        std::fs::read(output).unwrap()
    };
    let first = made(1);
    assert!(
        (1 << 20..2_800_000).contains(&first.len()),
        "{}",
        first.len()
    );
    for workers in [2, 3, 8] {
        assert!(made(workers) == first, "{workers}");
    }
}

#[test]
fn all_inodes_but_the_special_ones_are_in_the_metabox_with_all_their_attributes() {
    let files = files();
    let folder = written(&files);
    let options = wide(BuildOptions {
        metabox: metabox(16384),
        ..compressed(16384, Some(Packing::default()))
    });
    let image = build_image(folder.path(), &options);
    let superblock = image.superblock();
    let special = [Some(superblock.root), superblock.packed, superblock.metabox];
    assert!(special.iter().flatten().all(|nid| !nid.in_metabox()));
    for entry in image.walk().unwrap().skip(1) {
        let inode = entry.unwrap().inode;
        assert!(inode.nid().in_metabox() || Some(inode.nid()) == special[0]);
    }
    assert!(superblock.root.0 > 0 && superblock.root.0 < Nid::SLOT * 1024);
}

/// The digest of every file, whatever its form, pieces and number of names, is that of its content.
#[test]
fn fingerprints_are_digests_of_files() {
    let mut files = files();
    files.insert("deep/large".into(), noise(5, (5 << 20) + 77));
    files.insert("deep/copy".into(), noise(5, (5 << 20) + 77));
    let folder = written(&files);
    let name = long_prefix::parse(b"erofs.fingerprint.v1").unwrap();
    for (packing, metabox) in [
        (None, None),
        (Some(Packing::default()), None),
        (None, metabox(4096)),
    ] {
        let mut options = BuildOptions {
            metabox,
            ..compressed(65536, packing)
        };
        options.image.metadata.inode_digest = Some(name.clone());
        if packing.is_none() {
            // Beside a packed inode the table of prefixes is where kernels before 6.17 do not look, as the check tells.
            round_trip(folder.path(), &files, &options);
        }
        let image = build_image(folder.path(), &options);
        for (path, content) in files.iter().filter(|(_, content)| !content.is_empty()) {
            let inode = image.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
            let expected = [b"sha256:".to_vec(), Sha256::digest(content).to_vec()].concat();
            assert_eq!(image.fingerprint(&inode).unwrap(), Some(expected), "{path}");
        }
    }
}

#[test]
fn encoded_extents_come_back_where_they_are_smaller() {
    let files = files();
    let folder = written(&files);
    for (cluster, packing, share_extents, max_extent) in [
        (65536, None, false, MAX_EXTENT),
        (16384, None, true, MAX_EXTENT),
        (8192, Some(Packing::default()), true, MAX_EXTENT),
        (65536, Some(Packing::default()), false, MAX_EXTENT),
        // Extents of one size: records of four bytes, and of eight where they are shared.
        (65536, None, false, 16384),
        (65536, None, true, 16384),
    ] {
        let mut options = wide(BuildOptions {
            share_extents,
            ..compressed(cluster, packing)
        });
        options.compression.as_mut().unwrap().max_extent = max_extent;
        round_trip(folder.path(), &files, &options);
        let image = build_image(folder.path(), &options);
        let forms: BTreeSet<u64> = image
            .walk()
            .unwrap()
            .filter_map(|entry| record_size(&image, &entry.unwrap().inode))
            .collect();
        println!("{cluster} {max_extent}: records of {forms:?} bytes");
        let expected = match (max_extent, share_extents) {
            (16384, false) => 4,
            (16384, true) => 8,
            _ => 16,
        };
        assert!(forms.contains(&expected), "{forms:?}");
    }
}
