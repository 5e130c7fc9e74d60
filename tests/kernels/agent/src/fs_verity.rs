//! fs-verity: files of ext4 whose every read the kernel checks against a Merkle tree.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::ioctl;

const FS_IOC_ENABLE_VERITY: u32 = 0x4080_6685;
/// `struct fsverity_enable_arg` of linux/fsverity.h: version, algorithm, block size, …
const ENABLE_BYTES: usize = 128;
const SHA256: u32 = 1;
const FIBMAP: u32 = 1;
/// Block size of both the Merkle tree and the payload's ext4.
const BLOCK: u64 = 4096;

/// Seals the file `path`. It stays sealed, and sealing it again is nothing.
///
/// # Errors
/// The errno of the kernel: EOPNOTSUPP where it has no fs-verity.
pub(crate) fn seal(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let mut argument = [0; ENABLE_BYTES];
    ioctl::put(&mut argument, 0, &1u32.to_ne_bytes());
    ioctl::put(&mut argument, 4, &SHA256.to_ne_bytes());
    ioctl::put(&mut argument, 8, &(BLOCK as u32).to_ne_bytes());
    match ioctl::with_record(&file, FS_IOC_ENABLE_VERITY, &mut argument) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

/// Seals a copy of the file `path` and changes the byte in its middle where no check sees it: on the device `disk` of its
/// filesystem. Returns the copy.
///
/// # Errors
/// The errno of the kernel.
pub(crate) fn tampered_copy(path: &Path, disk: &Path) -> io::Result<PathBuf> {
    let copy = path.with_extension("tampered");
    fs::copy(path, &copy)?;
    seal(&copy)?;
    let file = File::open(&copy)?;
    file.sync_all()?;
    let offset = file.metadata()?.len() / 2;
    let mut block = u32::try_from(offset / BLOCK)
        .map_err(io::Error::other)?
        .to_ne_bytes();
    ioctl::with_record(&file, FIBMAP, &mut block)?;
    let at = u64::from(u32::from_ne_bytes(block)) * BLOCK + offset % BLOCK;
    let disk = OpenOptions::new().read(true).write(true).open(disk)?;
    let mut byte = [0];
    disk.read_exact_at(&mut byte, at)?;
    disk.write_all_at(&[!byte[0]], at)?;
    disk.sync_all()?;
    // Advice about the file alone leaves some of its larger folios in the page cache.
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    Ok(copy)
}
