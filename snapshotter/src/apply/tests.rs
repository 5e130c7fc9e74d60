#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::config::{Config, Merge, Mode};
use crate::diff::{Written, tar_of};
use crate::digest::Hasher;
use crate::metadata::{Form, Labels, State};
use crate::mounts::Owners;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_tests::skip::{self, Reason};
use erofs_tests::{require, ustar, workshop};
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const NATIVE: &str = "application/vnd.erofs.layer.v1";

/// A root folder, and blobs beside it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        fs::write(source.join("folder/file"), vec![7; 100_000]).unwrap();
        fs::write(source.join("small"), "small").unwrap();
        fs::create_dir(folder.path().join("blobs")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, mode: Mode) -> Snapshotter {
        self.open_merging(mode, 0)
    }

    /// With images over more than `merge` layers.
    fn open_merging(&self, mode: Mode, merge: usize) -> Snapshotter {
        let mut config = Config {
            root: self.path("root"),
            ..Config::default()
        };
        config.layers.mode = mode;
        config.mounts.merge = Merge::Over(merge);
        // A program that another test starts has the files of one before for a moment, until it runs.
        for _ in 0..100 {
            match Snapshotter::open(&config, |_| Err("nobody asks for FUSE".into())) {
                Err(Error::Taken(_)) => std::thread::sleep(std::time::Duration::from_millis(20)),
                opened => return opened.unwrap(),
            }
        }
        panic!("{} stays taken", config.root.display());
    }

    fn tar(&self) -> Vec<u8> {
        let written = Written {
            folder: self.path("source"),
            owners: Owners::default(),
        };
        tar_of(&written, None, Vec::new()).unwrap()
    }

    fn image(&self) -> Vec<u8> {
        let path = self.path("image.erofs");
        let source = BuildSource::Directory(self.path("source"));
        let progress = Arc::new(AtomicU64::new(0));
        build(source, &path, &BuildOptions::default(), &progress).unwrap();
        fs::read(path).unwrap()
    }

    /// Applies a blob to a new snapshot and commits it.
    fn apply(
        &self,
        snapshotter: &Snapshotter,
        media_type: &str,
        blob: &[u8],
        streams: bool,
    ) -> Result<Descriptor, Error> {
        self.apply_over(None, snapshotter, media_type, blob, streams)
    }

    /// The same over another one.
    fn apply_over(
        &self,
        parent: Option<&str>,
        snapshotter: &Snapshotter,
        media_type: &str,
        blob: &[u8],
        streams: bool,
    ) -> Result<Descriptor, Error> {
        let digest = sha256(blob);
        let path = self.path("blobs").join(&digest);
        fs::write(&path, blob).unwrap();
        let layer = Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            ..Descriptor::default()
        };
        let created =
            snapshotter
                .metadata
                .create(&digest, State::Active, None, None, None, Labels::new());
        let number = created?.number;
        fs::create_dir(snapshotter.store.snapshot(number)).unwrap();
        let open = || {
            let file = File::open(&path).unwrap();
            Ok(match streams {
                true => Blob::Stream(Box::new(file)),
                false => Blob::File(file),
            })
        };
        let applied = apply(snapshotter, number, &layer, &Arc::default(), &open);
        match &applied {
            Ok(_) => snapshotter.commit(&digest, &name(&digest), parent, Labels::new())?,
            Err(_) => snapshotter.remove(&digest)?,
        }
        // As containerd may.
        fs::remove_file(path).unwrap();
        applied
    }

    /// Files of layers below the root folder.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut left = vec![self.path("root/layers"), self.path("root/ingest")];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => left.push(path),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        files
    }
}

/// What a snapshot with this blob is called once it is committed.
fn name(digest: &str) -> String {
    format!("committed {digest}")
}

fn sha256(bytes: &[u8]) -> String {
    let (mut hasher, digested) = Hasher::new();
    hasher.write_all(bytes).unwrap();
    drop(hasher);
    digested.recv().unwrap().digest
}

fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let packed = workshop::succeed(
        Command::new(program)
            .arg("-qc")
            // gzip tells the file's time otherwise.
            .args((program == "gzip").then_some("-n"))
            .stdin(file.reopen().unwrap()),
    );
    packed.stdout
}

/// Images are judged by whether they could be mounted.
fn mounts() -> Result<(), Reason> {
    skip::root()?;
    skip::kernel_erofs()
}

#[test]
fn images_are_taken_as_they_are() {
    require!(mounts());
    let place = Place::new();
    let image = place.image();
    let packed = packed("zstd", &image);
    let oci = "application/vnd.oci.image.layer.v1.erofs";
    for (plain, suffix, blob) in [
        (NATIVE, "", &image),
        (oci, "", &image),
        (NATIVE, "+zstd", &packed),
    ] {
        for streams in [false, true] {
            let snapshotter = place.open(Mode::Convert);
            let media_type = format!("{plain}{suffix}");
            let applied = place
                .apply(&snapshotter, &media_type, blob, streams)
                .unwrap();
            assert_eq!(
                (applied.media_type.as_str(), applied.digest),
                (plain, sha256(&image))
            );
            assert_eq!(applied.size, image.len() as i64);
            let [file] = place.files().try_into().unwrap();
            assert_eq!(fs::read(&file).unwrap(), image);
            let record = snapshotter.metadata.layers().unwrap();
            assert!(matches!(&record[..], [(_, layer)] if layer.form == Form::Native));
            let committed = name(&sha256(blob));
            assert_eq!(snapshotter.usage(&committed).unwrap().1, 4);
            snapshotter.remove(&committed).unwrap();
            snapshotter.cleanup().unwrap();
            assert_eq!(place.files(), Vec::<PathBuf>::new());
        }
    }
}

#[test]
fn images_that_are_not_sound_are_refused() {
    require!(mounts());
    let place = Place::new();
    let snapshotter = place.open(Mode::Convert);
    let image = place.image();
    let mut magic = image.clone();
    magic[1024] ^= 1;
    let mut root = image.clone();
    // The checksum of the first block covers it.
    root[1152] ^= 0x10;
    let devices = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/probe/devices.erofs");
    let mut devices = fs::read(devices).unwrap();
    devices.truncate(4096);
    let cut = image[..image.len() - 8192].to_vec();
    for (blob, reason) in [
        (magic, "not a sound EROFS image"),
        (root, "not a sound EROFS image"),
        (cut, "not a sound EROFS image"),
        (devices, "devices"),
        (vec![0; 100], "not a sound EROFS image"),
    ] {
        let error = place.apply(&snapshotter, NATIVE, &blob, false).unwrap_err();
        assert!(matches!(error, Error::Layer { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(place.files(), Vec::<PathBuf>::new());
    }
    let mut packed = packed("zstd", &image);
    packed.truncate(packed.len() / 2);
    let media_type = format!("{NATIVE}+zstd");
    let error = place
        .apply(&snapshotter, &media_type, &packed, true)
        .unwrap_err();
    assert!(error.to_string().contains("truncated"), "{error}");
    assert_eq!(place.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_blob_with_another_digest_is_refused() {
    let place = Place::new();
    let snapshotter = place.open(Mode::Convert);
    let labels = [(DIFF_ID.to_owned(), sha256(b"another"))];
    let snapshot = snapshotter
        .metadata
        .create("key", State::Active, None, None, None, Labels::from(labels))
        .unwrap();
    fs::create_dir(snapshotter.store.snapshot(snapshot.number)).unwrap();
    let layer = Descriptor {
        media_type: media_type::TAR.to_owned(),
        digest: sha256(b"blob"),
        ..Descriptor::default()
    };
    let tar = place.tar();
    let open = || Ok(Blob::Stream(Box::new(std::io::Cursor::new(tar.clone()))));
    let error = apply(
        &snapshotter,
        snapshot.number,
        &layer,
        &Arc::default(),
        &open,
    )
    .unwrap_err();
    assert!(error.to_string().contains("the image says"), "{error}");
    assert_eq!(place.files(), Vec::<PathBuf>::new());
}

#[test]
fn tars_are_kept_beside_their_index() {
    let place = Place::new();
    let tar = place.tar();
    for (blob, streams) in [
        (tar.clone(), false),
        (tar.clone(), true),
        (packed("gzip", &tar), false),
        (packed("gzip", &tar), true),
    ] {
        let snapshotter = place.open(Mode::Index);
        let applied = place
            .apply(&snapshotter, media_type::TAR, &blob, streams)
            .unwrap();
        assert_eq!(
            (applied.digest, applied.size),
            (sha256(&tar), tar.len() as i64)
        );
        let [image, kept] = place.files().try_into().unwrap();
        assert_eq!(kept, image.with_extension("tar"));
        assert_eq!(fs::read(&kept).unwrap(), tar);
        let opened = workshop::open(&image, std::slice::from_ref(&kept));
        let small = opened
            .resolve(b"small", erofs_reader::Symlinks::Keep)
            .unwrap();
        assert_eq!(small.size, 5);
        let bytes = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
        let committed = name(&sha256(&blob));
        let (size, inodes) = snapshotter.usage(&committed).unwrap();
        assert_eq!((size, inodes), (bytes(&image) + bytes(&kept), 4));
        is_scrubbed(&snapshotter, &image, &kept, &committed);
        // The next process does not take the tar for something left over.
        drop(snapshotter);
        let snapshotter = place.open(Mode::Index);
        assert_eq!(place.files().len(), 2);
        snapshotter.remove(&committed).unwrap();
        snapshotter.cleanup().unwrap();
        assert_eq!(place.files(), Vec::<PathBuf>::new());
    }
}

/// Asserts that a scrub finds damage of a layer's image and of its tar, before the digest of the image is noted and after.
fn is_scrubbed(snapshotter: &Snapshotter, image: &Path, tar: &Path, user: &str) {
    let scrub = || {
        let mut found = Vec::new();
        let scrubbed = snapshotter.scrub(|report| {
            found.extend(report.layer);
            ControlFlow::Continue(())
        });
        scrubbed.unwrap();
        let [layer] = found.try_into().unwrap();
        layer
    };
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let [(number, _)] = snapshotter.metadata.layers().unwrap().try_into().unwrap();
    for is_noted in [false, true] {
        if is_noted {
            assert_eq!(snapshotter.seal(&[number]), []);
        }
        let whole = scrub();
        assert!(!whole.damaged, "{whole:?}");
        assert_eq!(whole.recorded, is_noted);
        assert_eq!(whole.bytes, size(image) + size(tar));
        for file in [tar, image] {
            let write = |byte: u8| {
                let opened = File::options().write(true).open(file).unwrap();
                // In the data of a file, or the checksum of the superblock.
                let at = if file == tar { size(tar) / 2 } else { 1028 };
                let mut before = [0];
                File::open(file)
                    .unwrap()
                    .read_exact_at(&mut before, at)
                    .unwrap();
                opened.write_all_at(&[byte], at).unwrap();
                before[0]
            };
            let before = write(b'x');
            assert_ne!(before, b'x');
            let damaged = scrub();
            assert!(damaged.damaged, "{damaged:?}");
            assert_eq!(damaged.path, file.to_str().unwrap());
            assert_eq!(damaged.users, [user]);
            write(before);
        }
    }
}

#[test]
fn a_tar_that_no_kernel_reads_in_place_is_converted() {
    let place = Place::new();
    // Five bytes at offset 100 of a file.
    let records = "24 GNU.sparse.size=2000\n26 GNU.sparse.numblocks=1\n24 GNU.sparse.map=100,5\n";
    let mut tar = ustar::pax(records.len() as u64).to_vec();
    tar.extend_from_slice(records.as_bytes());
    tar.resize(1024, 0);
    tar.extend_from_slice(&ustar::header("sparse", 5));
    tar.extend_from_slice(b"bytes");
    tar.resize(3072, 0);
    let snapshotter = place.open(Mode::Index);
    place
        .apply(&snapshotter, media_type::TAR, &tar, false)
        .unwrap();
    assert_eq!(place.files().len(), 1);
}

/// Indexes have blocks of 512 bytes, and no image lies over such and others.
#[test]
fn layers_are_merged_where_that_is_possible() {
    require!(mounts());
    let place = Place::new();
    let snapshotter = place.open_merging(Mode::Index, 1);
    let lower = place.tar();
    fs::write(place.path("source/second"), "second").unwrap();
    let upper = packed("gzip", &place.tar());
    fs::write(place.path("source/third"), "third").unwrap();
    let image = place.image();
    let mut names: Vec<String> = Vec::new();
    for (media_type, blob) in [
        (media_type::TAR, &lower),
        (media_type::TAR, &upper),
        (NATIVE, &image),
    ] {
        let parent = names.last().map(String::as_str);
        place
            .apply_over(parent, &snapshotter, media_type, blob, false)
            .unwrap();
        names.push(name(&sha256(blob)));
    }
    let view = |key: &str, parent: &String| {
        let mounts = snapshotter.prepare(key, State::View, Some(parent), Labels::new());
        let [mount] = mounts.unwrap().try_into().unwrap();
        mount
    };
    let merged = view("merged", &names[1]);
    assert_eq!(merged.r#type, "bind");
    let read = |name: &str| fs::read(Path::new(&merged.source).join(name)).unwrap();
    assert_eq!(read("folder/file"), [7; 100_000]);
    assert_eq!(read("second"), b"second");
    let each = view("each", &names[2]);
    assert_eq!(each.r#type, "overlay");
    assert_eq!(each.options[0].split(':').count(), 3);

    names.reverse();
    for name in ["merged", "each"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
    {
        snapshotter.remove(name).unwrap();
    }
    snapshotter.cleanup().unwrap();
    assert_eq!(place.files(), Vec::<PathBuf>::new());
    assert!(snapshotter.store.mount_points().unwrap().is_empty());
}

/// Other settings make other files; those that are there may be mounted.
#[test]
fn a_layer_that_is_there_stays_as_it_is() {
    let place = Place::new();
    let tar = place.tar();
    place
        .apply(&place.open(Mode::Convert), media_type::TAR, &tar, false)
        .unwrap();
    let before = place.files();
    let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
    let first = inode(&before[0]);
    let snapshotter = place.open(Mode::Index);
    place
        .apply(&snapshotter, media_type::TAR, &packed("gzip", &tar), false)
        .unwrap();
    assert_eq!(place.files(), before);
    assert_eq!(inode(&before[0]), first);
    // A file that somebody removed comes back.
    fs::remove_file(&before[0]).unwrap();
    place
        .apply(&snapshotter, media_type::TAR, &packed("zstd", &tar), false)
        .unwrap();
    assert_eq!(place.files().len(), 2);
    for blob in [tar.clone(), packed("gzip", &tar), packed("zstd", &tar)] {
        snapshotter.remove(&name(&sha256(&blob))).unwrap();
    }
    snapshotter.cleanup().unwrap();
    assert_eq!(place.files(), Vec::<PathBuf>::new());
}
