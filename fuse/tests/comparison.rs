//! A FUSE mount shows what a kernel mount of the same image shows, errors included.

mod support;

use erofs_format::BlockBits;
use erofs_fuse::ServeOptions;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression};
use erofs_reader::{Error, Place, Stored, Symlinks};
use erofs_tests::kernel::{Mounted, Way};
use erofs_tests::{awkward, require, skip};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{Served, assert_same, describe, number, open, probe};

/// The fixed set of awkward files as a directory, and images of it in several forms.
fn awkward_images(folder: &Path) -> Vec<PathBuf> {
    let source = folder.join("source");
    fs::create_dir(&source).expect("made");
    awkward::tree(awkward::Sizes::default())
        .write(&source)
        .expect("written");
    let forms = [
        BuildOptions::default(),
        BuildOptions {
            chunk_shift: Some(0),
            ..BuildOptions::default()
        },
        BuildOptions {
            compression: Some(Compression::new(
                vec![AlgorithmSettings::Zstd {
                    level: 3,
                    window_bits: None,
                }],
                65536,
                BlockBits::B4096,
            )),
            ..BuildOptions::default()
        },
    ];
    let images = forms.iter().enumerate().map(|(number, options)| {
        let image = folder.join(format!("{number}.erofs"));
        build(
            BuildSource::Directory(source.clone()),
            &image,
            options,
            &Arc::default(),
        )
        .expect("builds");
        image
    });
    images.collect()
}

#[test]
fn built_images_look_as_from_the_kernel() {
    require!(skip::root());
    require!(skip::fuse());
    let ways = require!(Way::all());
    let folder = tempfile::tempdir().expect("a temporary directory");
    for image in awkward_images(folder.path()) {
        let kernel = Mounted::new(&image, ways[0], "").expect("mounts");
        let served = Served::new(&open(&image, &[]), &ServeOptions::default());
        let what = image.display().to_string();
        let expected = describe(kernel.path());
        assert!(expected.len() > 3000, "{what}: too little to compare");
        assert_same(&what, &expected, &describe(served.path()));
        // Once more, from the caches of the kernel.
        assert_same(&what, &expected, &describe(served.path()));
    }
}

/// Compressed in every way, 48-bit, with a metabox, with long prefixes, with an extra device.
#[test]
fn probe_images_look_as_from_the_kernel() {
    require!(skip::root());
    require!(skip::fuse());
    let ways = require!(Way::all());
    let mut compared = 0;
    for entry in fs::read_dir(probe("")).expect("there") {
        let path = entry.expect("readable").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "erofs")
        {
            continue;
        }
        let what = path.display().to_string();
        let devices: Vec<PathBuf> = Some(probe("devices.blob"))
            .filter(|_| path.ends_with("devices.erofs"))
            .into_iter()
            .collect();
        let image = open(&path, &devices);
        let served = Served::new(&image, &ServeOptions::default());
        let seen = describe(served.path());
        let file = image.resolve(b"/probe", Symlinks::Keep).expect("there");
        let mut expected = vec![0; usize::try_from(file.size).expect("small")];
        match image.read(&file, 0, &mut expected) {
            Ok(_) => assert_eq!(
                fs::read(served.path().join("probe")).expect("reads"),
                expected
            ),
            Err(Error::Unsupported { feature, .. }) => {
                println!("{what}: skipped, because {feature} not supported yet");
                continue;
            }
            Err(error) => panic!("{what}: {error}"),
        }
        let number_of_root = number(served.path());
        let metabox = image.superblock().metabox.is_some();
        assert_eq!(
            number_of_root,
            image.superblock().root.to_ino(metabox),
            "{what}"
        );
        let option = devices
            .first()
            .map_or_else(String::new, |device| format!("device={}", device.display()));
        match Mounted::new(&path, ways[0], &option) {
            Ok(kernel) => {
                assert_same(&what, &describe(kernel.path()), &seen);
                compared += 1;
            }
            Err(error) => println!("{what} not compared with the kernel: {error:#}"),
        }
    }
    // What Linux 5.10 can already mount, at least.
    assert!(
        compared >= 3,
        "only {compared} images mounted by the kernel"
    );
}

#[test]
fn many_readers_at_once() {
    require!(skip::root());
    require!(skip::fuse());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    let contents: Vec<Vec<u8>> = (0..4)
        .map(|seed| awkward::bytes::text(seed, 3 << 20))
        .collect();
    for (number, content) in contents.iter().enumerate() {
        fs::write(source.join(number.to_string()), content).expect("written");
    }
    let image = folder.path().join("image.erofs");
    let options = BuildOptions {
        compression: Some(Compression::new(
            vec![AlgorithmSettings::Zstd {
                level: 1,
                window_bits: None,
            }],
            65536,
            BlockBits::B4096,
        )),
        ..BuildOptions::default()
    };
    build(
        BuildSource::Directory(source),
        &image,
        &options,
        &Arc::default(),
    )
    .expect("builds");
    let served = Served::new(&open(&image, &[]), &ServeOptions::default());
    std::thread::scope(|scope| {
        for reader in 0..8usize {
            let (served, contents) = (&served, &contents);
            scope.spawn(move || {
                let mut random = reader as u64 + 1;
                let mut buffer = vec![0; 200_000];
                for _ in 0..100 {
                    random = random
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let number = (random >> 33) as usize % contents.len();
                    let offset = (random >> 40) as usize % contents[number].len();
                    let file = File::open(served.path().join(number.to_string())).expect("opens");
                    let count = file.read_at(&mut buffer, offset as u64).expect("reads");
                    let expected = &contents[number][offset..][..count];
                    assert!(
                        count > 0 && buffer[..count] == *expected,
                        "{number} at {offset}"
                    );
                }
            });
        }
    });
}

#[test]
fn nothing_can_be_changed() {
    require!(skip::root());
    require!(skip::fuse());
    let served = Served::new(
        &open(&probe("block-4096.erofs"), &[]),
        &ServeOptions::default(),
    );
    let refused = || {
        let file = served.path().join("probe");
        let new = served.path().join("new");
        let results = [
            File::options().write(true).open(&file).map(drop),
            File::create(&new).map(drop),
            fs::create_dir(&new),
            fs::remove_file(&file),
            fs::rename(&file, &new),
            fs::hard_link(&file, &new),
            std::os::unix::fs::symlink("x", &new),
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)),
            rustix::fs::lsetxattr(&file, c"user.x", b"x", rustix::fs::XattrFlags::empty())
                .map_err(Into::into),
        ];
        for (number, result) in results.into_iter().enumerate() {
            let error = result.expect_err("changed").raw_os_error();
            assert_eq!(error, Some(Errno::ROFS.raw_os_error()), "{number}");
        }
    };
    refused();
    rustix::mount::mount_remount(served.path(), rustix::mount::MountFlags::empty(), c"")
        .expect("remounts");
    // Opening for writing is up to the kernel, writing is not.
    let file = File::options()
        .write(true)
        .open(served.path().join("probe"));
    let error = file.expect("opens").write_at(b"x", 0).expect_err("written");
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    let error = fs::remove_file(served.path().join("probe")).expect_err("removed");
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
}

#[test]
fn attribute_sizes_and_errors() {
    require!(skip::root());
    require!(skip::fuse());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    let file = source.join("file");
    fs::write(&file, b"x").expect("written");
    for (name, value) in [
        (c"user.one", &b"first"[..]),
        (c"user.empty", b""),
        (c"trusted.two", b"second"),
    ] {
        rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty()).expect("set");
    }
    let image = folder.path().join("image.erofs");
    build(
        BuildSource::Directory(source),
        &image,
        &BuildOptions::default(),
        &Arc::default(),
    )
    .expect("builds");
    let image = open(&image, &[]);
    let get = |served: &Served, name: &str, room: usize| {
        let mut value = vec![0; room];
        let length = rustix::fs::lgetxattr(served.path().join("file"), name, &mut value)?;
        value.truncate(length);
        Ok::<_, Errno>((length, value))
    };
    let served = Served::new(&image, &ServeOptions::default());
    let size = rustix::fs::lgetxattr_query(served.path().join("file"), "user.one");
    assert_eq!(size, Ok(5));
    assert_eq!(get(&served, "user.one", 4), Err(Errno::RANGE));
    assert_eq!(get(&served, "user.one", 5), Ok((5, b"first".to_vec())));
    assert_eq!(get(&served, "user.empty", 9), Ok((0, vec![])));
    assert_eq!(get(&served, "trusted.two", 9), Ok((6, b"second".to_vec())));
    assert_eq!(get(&served, "user.none", 9), Err(Errno::NODATA));
    assert_eq!(get(&served, "other.none", 9), Err(Errno::OPNOTSUPP));
    let file = served.path().join("file");
    let list = |room: usize| rustix::fs::llistxattr(&file, &mut vec![0u8; room]);
    let size = "user.one\0user.empty\0trusted.two\0".len();
    assert_eq!(rustix::fs::llistxattr_query(&file), Ok(size));
    assert_eq!((list(size - 1), list(size)), (Err(Errno::RANGE), Ok(size)));

    let options = ServeOptions {
        user_xattr: false,
        ..ServeOptions::default()
    };
    let served = Served::new(&image, &options);
    assert_eq!(get(&served, "user.one", 9), Err(Errno::OPNOTSUPP));
    assert_eq!(get(&served, "trusted.two", 9), Ok((6, b"second".to_vec())));
}

/// A broken pcluster, a broken inode: nothing else suffers.
#[test]
fn errors_stay_where_they_are() {
    require!(skip::root());
    require!(skip::fuse());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("made");
    for (seed, name) in ["data", "good", "inode"].into_iter().enumerate() {
        fs::write(
            source.join(name),
            awkward::bytes::text(seed as u64, 500_000),
        )
        .expect("written");
    }
    let path = folder.path().join("image.erofs");
    let options = BuildOptions {
        compression: Some(Compression::new(
            vec![AlgorithmSettings::Zstd {
                level: 3,
                window_bits: None,
            }],
            65536,
            BlockBits::B4096,
        )),
        ..BuildOptions::default()
    };
    build(
        BuildSource::Directory(source.clone()),
        &path,
        &options,
        &Arc::default(),
    )
    .expect("builds");
    let image = open(&path, &[]);
    let find = |name: &str| {
        image
            .resolve(name.as_bytes(), Symlinks::Keep)
            .expect("there")
    };
    let (data, inode) = (find("/data"), find("/inode"));
    let extent = image
        .extents(&data)
        .nth(1)
        .expect("several")
        .expect("readable");
    let Place::Encoded {
        stored: Stored::Device { offset, .. },
        length,
        ..
    } = extent.place
    else {
        panic!("compressible text is not encoded: {extent:?}");
    };
    let writer = File::options().write(true).open(&path).expect("opens");
    writer
        .write_all_at(
            &vec![0xA5; usize::try_from(length).expect("small")],
            offset.0,
        )
        .expect("written");
    // The mode: type bits that no file has.
    let mode = inode.position().1.0 + 4;
    writer.write_all_at(&[0xFF, 0xFF], mode).expect("written");
    drop(image);

    let served = Served::new(&open(&path, &[]), &ServeOptions::default());
    let names = || -> Vec<_> {
        let entries = fs::read_dir(served.path()).expect("lists");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        names.sort();
        names
    };
    let code =
        |result: std::io::Result<Vec<u8>>| result.err().and_then(|error| error.raw_os_error());
    for _ in 0..2 {
        assert_eq!(names(), ["data", "good", "inode"]);
        let error = code(fs::read(served.path().join("data")));
        let corrupt = Errno::UCLEAN.raw_os_error();
        assert!(
            error == Some(corrupt) || error == Some(Errno::IO.raw_os_error()),
            "{error:?}"
        );
        assert_eq!(code(fs::read(served.path().join("inode"))), Some(corrupt));
        assert_eq!(
            fs::read(served.path().join("good")).expect("reads"),
            fs::read(source.join("good")).expect("reads")
        );
        // What lies before the broken pcluster can still be read.
        let mut start = vec![0; 1000];
        File::open(served.path().join("data"))
            .and_then(|file| file.read_exact_at(&mut start, 0))
            .expect("reads");
        assert_eq!(start, fs::read(source.join("data")).expect("reads")[..1000]);
    }
}
