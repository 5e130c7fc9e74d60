//! fs-verity: the kernel keeps a hash tree of a file, which cannot be written any more, and compares whatever it reads of it
//! (`Documentation/filesystems/fsverity.rst`).
#![allow(unsafe_code)]

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};
use std::io;

/// `struct fsverity_enable_arg` (`include/uapi/linux/fsverity.h`), 128 bytes.
#[repr(C)]
struct EnableArgument {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved_1: u32,
    signature: u64,
    reserved_2: [u64; 11],
}

const _: () = assert!(size_of::<EnableArgument>() == 128);

/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u32 = 1;
/// Bytes of a block of the hash tree: what all kernels with fs-verity know.
const BLOCK: u32 = 4096;

/// Enables fs-verity on a file that is open for reading, and by nobody for writing. All of it is read. That it was enabled
/// before is no error.
///
/// # Errors
/// [`is_unsupported`] ones where the kernel or the filesystem has no fs-verity; `ETXTBSY` where somebody may write.
pub fn enable(file: impl AsFd) -> io::Result<()> {
    let argument = EnableArgument {
        version: 1,
        hash_algorithm: SHA256,
        block_size: BLOCK,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved_1: 0,
        signature: 0,
        reserved_2: [0; 11],
    };
    const ENABLE: rustix::ioctl::Opcode = opcode::write::<EnableArgument>(b'f', 133);
    // SAFETY: FS_IOC_ENABLE_VERITY reads a `struct fsverity_enable_arg`, whose layout this is; its pointers are null, with
    // sizes of 0.
    let enabled = unsafe { ioctl(file, Setter::<ENABLE, _>::new(argument)) };
    match enabled {
        Err(Errno::EXIST) => Ok(()),
        enabled => Ok(enabled?),
    }
}

/// Whether an error of [`enable`] says that the kernel (`ENOTTY`) or the filesystem (`EOPNOTSUPP`) has no fs-verity.
pub fn is_unsupported(error: &io::Error) -> bool {
    let error = Errno::from_io_error(error);
    matches!(error, Some(Errno::NOTTY | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::fs::{self, File};

    /// Where there is no fs-verity it is said so; where there is, the file cannot be written any more.
    #[test]
    fn files_are_protected_or_it_is_said_that_they_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "content").unwrap();
        match enable(File::open(&path).unwrap()) {
            Ok(()) => {
                enable(File::open(&path).unwrap()).unwrap();
                assert!(File::options().write(true).open(&path).is_err());
            }
            Err(error) => {
                assert!(is_unsupported(&error), "{error}");
                fs::write(&path, "other").unwrap();
            }
        }
    }
}
