//! Trees and options at random: what the writer writes, the reader reads back, for any number of workers the same bytes.
//! Needs no privileges, so it runs on emulated machines too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use erofs_format::BlockBits;
use erofs_format::inode::Timestamp;
use erofs_mkfs::build::{AppendError, Base, BuildOptions, BuildSource, build};
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression};
use erofs_mkfs::data::fragments::{FragmentDedupe, Packing};
use erofs_mkfs::index::{IndexOptions, IndexSource, Placement, index};
use erofs_mkfs::options::{BuildError, ImageOptions};
use erofs_mkfs::plan::index_form::IndexForm;
use erofs_mkfs::source::Rules;
use erofs_mkfs::source::raw::RawFile;
use erofs_mkfs::source::tar::Archive;
use erofs_reader::{FileSource, Image, ImageOptions as ReadOptions, Symlinks};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Content of a file, small to write down and awkward to store.
#[derive(Debug, Clone)]
enum Content {
    Text { seed: u8, length: usize },
    Noise { seed: u64, length: usize },
    Sparse { size: u64, pieces: Vec<(u64, u8)> },
}

impl Content {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text { seed, length } => (0..*length)
                .map(|at| b'a' + ((at / 7 + at % 13) as u8).wrapping_mul(*seed) % 26)
                .collect(),
            Self::Noise { seed, length } => {
                let mut state = seed | 1;
                std::iter::repeat_with(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .take(*length)
                .collect()
            }
            Self::Sparse { size, pieces } => {
                let mut bytes = vec![0; *size as usize];
                for (at, byte) in pieces {
                    bytes[(at % size) as usize] = *byte;
                }
                bytes
            }
        }
    }

    fn write(&self, path: &Path) {
        let Self::Sparse { size, pieces } = self else {
            return std::fs::write(path, self.bytes()).unwrap();
        };
        let file = std::fs::File::create(path).unwrap();
        file.set_len(*size).unwrap();
        for (at, byte) in pieces {
            file.write_all_at(&[*byte], at % size).unwrap();
        }
    }
}

fn content() -> impl Strategy<Value = Content> {
    let length = prop_oneof![
        3 => 0usize..200,
        3 => prop::sample::select(vec![511usize, 512, 513, 4032, 4033, 4095, 4096, 4097, 8192, 12289]),
        2 => 0usize..300_000,
    ];
    prop_oneof![
        3 => (any::<u8>(), length.clone()).prop_map(|(seed, length)| Content::Text { seed, length }),
        2 => (any::<u64>(), length).prop_map(|(seed, length)| Content::Noise { seed, length }),
        1 => (1u64..2_000_000, prop::collection::vec((any::<u64>(), any::<u8>()), 0..6))
            .prop_map(|(size, pieces)| Content::Sparse { size, pieces }),
    ]
}

type Files = BTreeMap<String, Content>;

fn zstd(level: u8) -> AlgorithmSettings {
    AlgorithmSettings::Zstd {
        level,
        window_bits: None,
    }
}

fn files() -> impl Strategy<Value = Files> {
    prop::collection::btree_map("[a-c!~]{1,2}/[a-e.]?[x-z#]{1,200}", content(), 1..12)
}

fn packing() -> impl Strategy<Value = Packing> {
    (
        any::<bool>(),
        prop::option::of(prop::sample::select(vec![65536usize, 1 << 20])),
        prop::sample::select(vec![
            FragmentDedupe::Off,
            FragmentDedupe::Inode,
            FragmentDedupe::Full,
        ]),
    )
        .prop_map(|(whole_files, max_pcluster, dedupe)| Packing {
            whole_files,
            max_pcluster,
            dedupe,
        })
}

fn options() -> impl Strategy<Value = BuildOptions> {
    let algorithm = prop_oneof![
        Just(AlgorithmSettings::Lz4),
        (1u8..10).prop_map(|level| AlgorithmSettings::Lz4Hc { level }),
        (1u8..7, 8u8..16)
            .prop_map(|(level, window_bits)| AlgorithmSettings::Deflate { level, window_bits }),
        (0u8..7, 0u8..5).prop_map(|(level, literal_position)| AlgorithmSettings::Lzma {
            level,
            dictionary_size: Some(4096 << level),
            literal_context: 4 - literal_position,
            literal_position,
            position: level / 2,
        }),
        (1u8..7).prop_map(zstd),
    ];
    let compression = prop::option::of((
        algorithm,
        prop::sample::select(vec![4096usize, 50_000, 8 << 20]),
        prop::sample::select(vec![4096usize, 16384, 65536, 262144]),
        prop_oneof![
            (Just(None), any::<bool>()),
            (packing().prop_map(Some), Just(false)),
        ],
    ))
    .prop_map(|chosen| {
        chosen.map(
            |(settings, max_extent, max_pcluster, (packing, inline_tails))| Compression {
                max_extent,
                inline_tails,
                packing,
                ..Compression::new(vec![settings], max_pcluster, BlockBits::B4096)
            },
        )
    });
    (
        compression,
        any::<[bool; 5]>(),
        prop::sample::select(vec![9u8, 10, 12, 12, 13, 14, 16]),
        prop::option::of(0u8..6),
    )
        .prop_map(
            |(
                compression,
                [inline_tails, sparse, dedupe, full, directories],
                bits,
                chunk_shift,
            )| BuildOptions {
                block_bits: BlockBits::new(bits).unwrap(),
                chunk_shift: chunk_shift.filter(|_| compression.is_none()),
                compress_directories: directories,
                compression: compression.map(|compression| Compression {
                    block_bits: BlockBits::new(bits).unwrap(),
                    ..compression
                }),
                inline_tails,
                sparse,
                dedupe,
                index_form: if full {
                    IndexForm::Full
                } else {
                    IndexForm::Compact
                },
                ..BuildOptions::default()
            },
        )
}

fn write_tree(root: &Path, files: &Files) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        content.write(&path);
    }
}

fn open(image: &Path) -> Image {
    Image::open(FileSource::open(image).unwrap(), ReadOptions::default()).unwrap()
}

fn read(image: &Image, path: &str) -> Vec<u8> {
    let inode = image.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
    let mut bytes = vec![0xAA; inode.size as usize];
    assert_eq!(
        image.read(&inode, 0, &mut bytes).unwrap(),
        bytes.len(),
        "{path}"
    );
    bytes
}

fn make(source: &Path, image: &Path, options: &BuildOptions) -> erofs_mkfs::summary::Summary {
    build(
        BuildSource::Directory(source.to_path_buf()),
        image,
        options,
        &Arc::default(),
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn what_is_written_is_read_back(files in files(), options in options()) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("tree");
        write_tree(&source, &files);
        let image = folder.path().join("image");
        let summary = make(&source, &image, &BuildOptions { workers: 1, ..options.clone() });
        let opened = open(&image);
        // The packed inode is none of the source's.
        let packed = u64::from(opened.superblock().packed.is_some());
        prop_assert_eq!(summary.inodes + packed, opened.superblock().inodes);
        for (name, content) in &files {
            prop_assert!(read(&opened, name) == content.bytes(), "{}", name);
        }
        let walked = opened.walk().unwrap().filter(|entry| entry.as_ref().unwrap().inode.file_type
            == erofs_format::inode::FileType::Regular).count();
        prop_assert_eq!(walked, files.len());
        let again = folder.path().join("again");
        make(&source, &again, &BuildOptions { workers: 8, memory: 1 << 20, ..options });
        prop_assert!(std::fs::read(&image).unwrap() == std::fs::read(&again).unwrap(), "other bytes with 8 workers");
    }
}

/// Builds `source` over the image that is `base`.
fn make_over(
    base: &Path,
    source: &Path,
    image: &Path,
    options: &BuildOptions,
) -> Result<(), Box<BuildError>> {
    let base = Base {
        path: base.to_path_buf(),
        image: Arc::new(open(base)),
        devices: Vec::new(),
        strip: true,
    };
    let source = BuildSource::Directory(source.to_path_buf());
    let source = BuildSource::Over(base, Box::new(source));
    let built = build(source, image, options, &Arc::default());
    built.map(drop).map_err(Box::new)
}

/// Options of an image and of two that go on from it, in blocks of the same size, mostly with fragments.
fn continued_options() -> impl Strategy<Value = Vec<BuildOptions>> {
    let one = (
        options(),
        prop::option::weighted(0.8, packing()),
        any::<bool>(),
    );
    prop::collection::vec(one, 3).prop_map(|all| {
        let block_bits = all[0].0.block_bits;
        let each = all.into_iter().map(|(mut options, packing, bit48)| {
            options.block_bits = block_bits;
            options.image.metadata.bit48 = bit48;
            if let Some(compression) = &mut options.compression {
                compression.block_bits = block_bits;
                if packing.is_some() {
                    (compression.packing, compression.inline_tails) = (packing, false);
                }
            }
            options
        });
        each.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(cases() / 3) })]

    #[test]
    fn what_goes_on_is_read_back(trees in prop::collection::vec(files(), 3), options in continued_options()) {
        let folder = tempfile::tempdir().unwrap();
        let (image, next) = (folder.path().join("image"), folder.path().join("next"));
        let mut expected = Files::new();
        for (number, (files, options)) in trees.iter().zip(options).enumerate() {
            let source = folder.path().join(format!("tree{number}"));
            write_tree(&source, files);
            if number == 0 {
                make(&source, &image, &options);
            } else {
                let one = BuildOptions { workers: 1, ..options.clone() };
                match make_over(&image, &source, &next, &one) {
                    // Of small blocks those in front of the data may be too few for another algorithm.
                    Err(error) if matches!(*error, BuildError::Append(AppendError::NoRoom { .. })) => continue,
                    made => made.unwrap(),
                }
                let again = folder.path().join("again");
                let many = BuildOptions { workers: 8, memory: 1 << 20, ..options };
                make_over(&image, &source, &again, &many).unwrap();
                let same = std::fs::read(&next).unwrap() == std::fs::read(&again).unwrap();
                prop_assert!(same, "other bytes with 8 workers");
                std::fs::rename(&next, &image).unwrap();
            }
            expected.extend(files.clone());
            let opened = open(&image);
            for (name, content) in &expected {
                prop_assert!(read(&opened, name) == content.bytes(), "{number}: {}", name);
            }
        }
    }
}

/// `PROPTEST_CASES` counts here too.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12)
}

#[test]
fn large_files_are_cut_into_segments_and_found_to_be_duplicates() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tree");
    let text = Content::Text {
        seed: 3,
        length: 9 << 20,
    };
    let noise = Content::Noise {
        seed: 7,
        length: (5 << 20) + 77,
    };
    // Begins compressible and ends in noise: some segments are encoded, some are plain.
    write_tree(
        &source,
        &Files::from([
            ("d/a".to_owned(), text.clone()),
            ("d/b".to_owned(), noise.clone()),
            ("d/c".to_owned(), text.clone()),
            ("d/d".to_owned(), noise.clone()),
        ]),
    );
    let mixed = [text.bytes(), noise.bytes(), text.bytes()].concat();
    std::fs::write(source.join("d/e"), &mixed).unwrap();
    let packing = Compression {
        packing: Some(Packing::default()),
        ..Compression::new(vec![zstd(1)], 65536, BlockBits::B4096)
    };
    for compression in [
        None,
        Some(Compression::new(vec![zstd(1)], 65536, BlockBits::B4096)),
        Some(packing),
    ] {
        let image = folder.path().join("image");
        let options = BuildOptions {
            compression,
            ..BuildOptions::default()
        };
        let summary = make(&source, &image, &options);
        assert_eq!(summary.duplicates, 2);
        let opened = open(&image);
        for (name, expected) in [
            ("d/a", text.bytes()),
            ("d/b", noise.bytes()),
            ("d/c", text.bytes()),
            ("d/e", mixed.clone()),
        ] {
            assert!(read(&opened, name) == expected, "{name}");
        }
        let apart = make(
            &source,
            &image,
            &BuildOptions {
                dedupe: false,
                ..options
            },
        );
        assert_eq!(apart.duplicates, 0);
        assert!(apart.image_size > summary.image_size + (5 << 20));
    }
}

#[test]
fn equal_bytes_at_different_places_are_not_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tree");
    let piece = |at| Content::Sparse {
        size: 1 << 20,
        pieces: vec![(at, 7)],
    };
    write_tree(
        &source,
        &Files::from([
            ("d/a".to_owned(), piece(0)),
            ("d/b".to_owned(), piece(512 << 10)),
        ]),
    );
    let image = folder.path().join("image");
    assert_eq!(
        make(&source, &image, &BuildOptions::default()).duplicates,
        0
    );
    let opened = open(&image);
    assert!(
        read(&opened, "d/a") == piece(0).bytes()
            && read(&opened, "d/b") == piece(512 << 10).bytes()
    );
}

#[test]
fn times_and_owners_follow_the_rules_and_the_uuid_follows_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tree");
    write_tree(
        &source,
        &Files::from([(
            "d/a".to_owned(),
            Content::Text {
                seed: 1,
                length: 10,
            },
        )]),
    );
    let time = Timestamp {
        seconds: -5,
        nanoseconds: 7,
    };
    let rules = Rules {
        force_uid: Some(70_000),
        force_gid: Some(3),
        fixed_time: Some(time),
        ..Rules::default()
    };
    let options = BuildOptions {
        image: ImageOptions {
            rules,
            ..ImageOptions::default()
        },
        ..BuildOptions::default()
    };
    let image = folder.path().join("image");
    let first = make(&source, &image, &options);
    let inode = open(&image).resolve(b"d/a", Symlinks::Keep).unwrap();
    assert_eq!((inode.uid, inode.gid, inode.mtime), (70_000, 3, time));
    assert_eq!(make(&source, &image, &options).uuid, first.uuid);
    std::fs::write(source.join("d/a"), [b'z'; 10]).unwrap();
    assert_ne!(make(&source, &image, &options).uuid, first.uuid);
}

#[test]
fn indexes_read_through_their_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("index");
    let sizes = [
        0usize,
        1,
        4031,
        4032,
        4033,
        4090,
        4095,
        4096,
        4097,
        8192,
        4096 * 5 + 4090,
        1_000_000,
    ];
    let mut arguments = Vec::new();
    let mut contents = Vec::new();
    for size in sizes {
        let content = Content::Noise {
            seed: size as u64,
            length: size,
        };
        let path = folder.path().join(format!("f{size}"));
        content.write(&path);
        arguments.push(RawFile {
            name: format!("sub/f{size}").into_bytes(),
            path,
        });
        contents.push(content);
    }
    index(
        IndexSource::RawFiles(arguments),
        &image,
        &IndexOptions::default(),
        Placement::Apart,
    )
    .unwrap();
    let unopened = Image::open(FileSource::open(&image).unwrap(), ReadOptions::default()).unwrap();
    let devices = unopened
        .device_slots()
        .iter()
        .map(|slot| {
            let tag = std::str::from_utf8(slot.tag_bytes()).unwrap().to_owned();
            Box::new(FileSource::open(&folder.path().join(tag)).unwrap()) as _
        })
        .collect();
    let opened = Image::open(
        FileSource::open(&image).unwrap(),
        ReadOptions {
            devices,
            ..ReadOptions::default()
        },
    )
    .unwrap();
    for (size, content) in sizes.iter().zip(&contents) {
        assert!(
            read(&opened, &format!("sub/f{size}")) == content.bytes(),
            "{size}"
        );
    }
}

#[test]
fn a_raw_file_that_is_a_tar_without_padding_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.tar");
    let mut block = [0u8; 512];
    block[..1].copy_from_slice(b"f");
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(b"00000000010\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    std::fs::write(&path, [&block[..], b"12345678"].concat()).unwrap();
    let archive = Archive::open(std::fs::File::open(&path).unwrap()).unwrap();
    let image = folder.path().join("index");
    let error = index(
        IndexSource::Tar { archive, path },
        &image,
        &IndexOptions::default(),
        Placement::Apart,
    )
    .unwrap_err();
    assert!(error.to_string().contains("truncate"), "{error}");
    assert!(!image.exists());
}

#[test]
fn an_image_neither_holds_itself_nor_takes_the_place_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tree");
    write_tree(
        &source,
        &Files::from([(
            "d/a".to_owned(),
            Content::Text {
                seed: 1,
                length: 5000,
            },
        )]),
    );
    let image = source.join("image");
    let first = make(&source, &image, &BuildOptions::default());
    let second = make(&source, &image, &BuildOptions::default());
    assert_eq!(
        (first.inodes, first.image_size),
        (second.inodes, second.image_size)
    );

    let path = source.join("d/a");
    let files = || {
        vec![RawFile {
            name: b"a".to_vec(),
            path: path.clone(),
        }]
    };
    let built = build(
        BuildSource::RawFiles(files()),
        &path,
        &BuildOptions::default(),
        &Arc::default(),
    );
    let indexed = index(
        IndexSource::RawFiles(files()),
        &path,
        &IndexOptions::default(),
        Placement::Apart,
    );
    for error in [built.unwrap_err(), indexed.unwrap_err()] {
        assert!(
            matches!(error, erofs_mkfs::options::BuildError::OwnSource(_)),
            "{error}"
        );
    }
    assert_eq!(std::fs::read(&path).unwrap().len(), 5000);
}

#[test]
fn the_reason_for_a_stopped_pipeline_is_told_while_files_are_still_being_sent_in() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(256 << 20)
        .unwrap();
    // It says that it has a page and holds a few bytes, as most files of /sys do.
    let lying = RawFile {
        name: b"lying".to_vec(),
        path: "/sys/kernel/uevent_seqnum".into(),
    };
    let large = RawFile {
        name: b"large".to_vec(),
        path: large,
    };
    let image = folder.path().join("image");
    // Few tasks may be on their way at once, so the producer comes upon a pipeline that has stopped.
    let options = BuildOptions {
        workers: 1,
        memory: 1 << 20,
        ..BuildOptions::default()
    };
    let source = BuildSource::RawFiles(vec![lying, large]);
    let error = build(source, &image, &options, &Arc::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("lying: it ends after"),
        "{error}"
    );
    assert!(!image.exists());
}

#[test]
fn a_hole_whose_table_would_fill_the_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let file = std::fs::File::create(source.join("hole")).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    file.set_len(1 << 43).unwrap();
    let image = folder.path().join("image");
    let options = BuildOptions {
        chunk_shift: Some(0),
        ..BuildOptions::default()
    };
    let make = |options| {
        let source = BuildSource::Directory(source.clone());
        let made = build(source, &image, options, &Arc::default());
        made.map(drop).map_err(|error| error.to_string())
    };
    let error = make(&options).unwrap_err();
    assert!(
        error.starts_with("hole: a sparse file of 8796093022208 bytes"),
        "{error}"
    );
    assert!(!image.exists());
    assert!(make(&BuildOptions::default()).is_ok());
}
