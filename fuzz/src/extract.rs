//! Extracts an image to a tar and to a directory.
//!
//! Invariants: a tar that was written whole is one that the tar reader takes; nothing beside the target directory is touched.

use crate::image;
use erofs_format::inode::{FileType, Timestamp};
use erofs_mkfs::source::tar::{Archive, Data, scan};
use erofs_mkfs::source::{Rules, Whiteouts, default_root};
use erofs_mkfs::tree::Tree;
use erofs_reader::Image;
use erofs_reader::extract::{ExtractOptions, Problem, extract, extract_tar};
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;

/// Most bytes of a tar: files may be as large as they like.
const MAX_TAR: usize = 2 << 20;
/// Most files, and most bytes of all of them, that are extracted to a directory.
const MAX_FILES: usize = 100;
const MAX_BYTES: u64 = 1 << 20;
const CANARY: &[u8] = b"untouched";

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some(image) = image::open(input) else {
        return;
    };
    // Owners, devices and attributes are left to tests that know what to expect.
    let options = ExtractOptions {
        same_owner: false,
        same_permissions: false,
        xattrs: false,
        devices: false,
        workers: NonZeroUsize::MIN,
        ..ExtractOptions::default()
    };
    to_tar(
        &image,
        &ExtractOptions {
            xattrs: true,
            devices: true,
            ..options.clone()
        },
    );
    if is_small(&image) {
        to_directory(&image, &options);
    }
}

fn ignore(_: &Problem) {}

/// Fails when it is full.
struct Bounded(File, usize);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 = self
            .1
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        self.0.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_tar(image: &Image, options: &ExtractOptions) {
    let file = rustix::fs::memfd_create("tar", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = File::from(file);
    let out = Bounded(file.try_clone().expect("memfd"), MAX_TAR);
    if extract_tar(image, out, &[], options, &AtomicU64::new(0), &ignore).is_err() {
        return;
    }
    let mut tree = Tree::new(default_root(Timestamp::default())).expect("a root");
    file.rewind().expect("memory");
    let archive = Archive::open(file).expect("a tar");
    let scanned = scan(
        archive,
        &Rules::default(),
        Whiteouts::Keep,
        &mut tree,
        Data::InPlace,
    );
    if let Err(error) = scanned {
        panic!("the tar is not read back: {error}");
    }
}

fn is_small(image: &Image) -> bool {
    let mut bytes = 0u64;
    let mut files = 0;
    for entry in image.walk().expect("the root was read") {
        files += 1;
        if let Ok(entry) = entry
            && entry.inode.file_type == FileType::Regular
        {
            bytes = bytes.saturating_add(entry.inode.data_size());
        }
        if files > MAX_FILES || bytes > MAX_BYTES {
            return false;
        }
    }
    true
}

fn to_directory(image: &Image, options: &ExtractOptions) {
    let outside = tempfile::tempdir().expect("a temporary folder");
    let canary = outside.path().join("canary");
    fs::write(&canary, CANARY).expect("a file");
    let target = outside.path().join("target");
    let _ = extract(image, &target, &[], options, &AtomicU64::new(0), &ignore);
    assert_eq!(fs::read(&canary).expect("the file is there"), CANARY);
    let names = fs::read_dir(outside.path()).expect("the folder is there");
    assert!(names.count() <= 2, "something was made beside the target");
}
