//! A blob that is open, and how its bytes become a file of the store.

use rustix::fs::{AtFlags, CWD, ioctl_ficlone, linkat};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A blob.
pub(crate) enum Blob {
    /// A file of containerd's content store.
    File(File),
    /// It comes through containerd.
    Stream(Box<dyn Read + Send>),
}

impl Blob {
    /// Its bytes, one after the other.
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Stream(stream) => stream,
        }
    }
}

/// Gives the bytes of `blob`, which nobody has read from yet, the new name `path`: shares its blocks where the filesystem can,
/// else its inode, since blobs never change and keep their data when containerd deletes its own name; else copies.
///
/// # Errors
/// Those of the filesystem; something may be left under that name then.
pub(crate) fn take(blob: &File, path: &Path) -> io::Result<()> {
    if ioctl_ficlone(&new_file(path)?, blob).is_ok() {
        return Ok(());
    }
    fs::remove_file(path)?;
    // The inode that is open, whatever became of its name.
    let opened = format!("/proc/self/fd/{}", blob.as_raw_fd());
    if linkat(CWD, opened, CWD, path, AtFlags::SYMLINK_FOLLOW).is_ok() {
        return Ok(());
    }
    io::copy(&mut &*blob, &mut new_file(path)?).map(drop)
}

/// A file that was not there, for root alone.
///
/// # Errors
/// Those of the filesystem.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
