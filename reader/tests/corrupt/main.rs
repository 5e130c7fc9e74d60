//! One test per check: a good image, one field changed, the exact error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attributes;
mod compressed;
mod files;
mod names;
mod opening;
#[path = "../support/mod.rs"]
mod support;

use erofs_format::BlockBits;
use erofs_format::inode::FileType;
use erofs_reader::{Error, OpenError, Rule, Symlinks};
use support::{Sample, open, sample, seal};

pub(crate) const BITS: BlockBits = BlockBits::B4096;

/// The image with `bytes` at `at` and a right checksum.
pub(crate) fn changed(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut image);
    image
}

pub(crate) fn open_error(at: usize, bytes: &[u8]) -> OpenError {
    open(&changed(&sample(BITS).image, at, bytes)).unwrap_err()
}

#[track_caller]
pub(crate) fn rule<T: std::fmt::Debug>(result: Result<T, Error>) -> Rule {
    match result {
        Err(Error::Corrupt { rule, .. }) => rule,
        other => panic!("{other:?}"),
    }
}

/// Opens the changed image, finds `path`, reads its inode, data, link and attributes: the first error.
pub(crate) fn error_of(image: &[u8], path: &str) -> Error {
    let read = || -> Result<(), Error> {
        let image = open(image).map_err(|error| match error {
            OpenError::Read(error) => error,
            other => panic!("{other}"),
        })?;
        let inode = image.resolve(path.as_bytes(), Symlinks::Keep)?;
        image.xattrs(&inode)?;
        match inode.file_type {
            FileType::Symlink => image.read_link(&inode).map(|_| ()),
            FileType::Directory => image
                .read_directory(&inode)?
                .try_for_each(|entry| entry.map(|_| ())),
            _ => image.read(&inode, 0, &mut vec![0; 100_000]).map(|_| ()),
        }
    };
    read().unwrap_err()
}

/// The rule that `path` breaks after `bytes` are put `offset` bytes behind the start of its inode.
#[track_caller]
pub(crate) fn rule_of(sample: &Sample, path: &str, offset: usize, bytes: &[u8]) -> Rule {
    let image = changed(&sample.image, sample.inode_at(path) + offset, bytes);
    rule::<()>(Err(error_of(&image, path)))
}
