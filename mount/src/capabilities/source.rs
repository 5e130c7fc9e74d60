//! The file or device that holds an image, and what its filesystem allows.

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What an image stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A regular file.
    Regular,
    /// A block device.
    BlockDevice,
    /// Something that cannot be mounted.
    Other,
}

/// Filesystem under an image, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackingFilesystem {
    /// tmpfs and memfd: cannot be read by folios, so no file-backed mounts (ENOTBLK).
    Tmpfs,
    /// overlayfs: stacked, so no file-backed mounts (ENOTBLK).
    Overlayfs,
    /// EROFS: refuses file-backed mounts when it is file-backed itself.
    Erofs,
    /// Any other.
    Other,
}

impl BackingFilesystem {
    /// Why the kernel refuses file-backed mounts on it, if it surely does.
    pub fn refuses_file_backed(self) -> Option<&'static str> {
        match self {
            Self::Tmpfs => Some("tmpfs cannot carry file-backed mounts"),
            Self::Overlayfs => Some("overlayfs cannot carry file-backed mounts"),
            // Only a file-backed EROFS refuses, and statfs(2) does not tell: left to the attempt.
            Self::Erofs | Self::Other => None,
        }
    }
}

/// A file or device that an image or a blob stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// What it is.
    pub kind: SourceKind,
    /// What it stands on.
    pub filesystem: BackingFilesystem,
    /// Alignment in bytes that direct I/O on it needs; `None` where there is none, where the kernel (before 6.1) does not
    /// tell, or where it must not be asked (EROFS, overlayfs).
    pub direct_io_alignment: Option<u32>,
    /// Size in bytes (of regular files).
    pub bytes: u64,
}

impl SourceFile {
    /// Looks at `path`.
    ///
    /// # Errors
    /// Those of opening it for reading.
    pub fn inspect(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = std::fs::metadata(&path)?;
        let kind = if metadata.is_file() {
            SourceKind::Regular
        } else if metadata.file_type().is_block_device() {
            SourceKind::BlockDevice
        } else {
            SourceKind::Other
        };
        // What is not mounted is not opened either: a FIFO would block.
        if kind == SourceKind::Other {
            return Ok(Self {
                path,
                kind,
                filesystem: BackingFilesystem::Other,
                direct_io_alignment: None,
                bytes: 0,
            });
        }
        let file = File::open(&path)?;
        let filesystem = filesystem(&file)?;
        // Linux 6.12 dereferences a null pointer in erofs_getattr when asked for the alignment of a file in a file-backed
        // EROFS (seen on Debian's 6.12.117), perhaps below an overlay. Neither carries direct I/O for us anyway.
        let direct_io_alignment = match filesystem {
            BackingFilesystem::Erofs | BackingFilesystem::Overlayfs => None,
            BackingFilesystem::Tmpfs | BackingFilesystem::Other => {
                direct_io_alignment(&path, &file)
            }
        };
        Ok(Self {
            kind,
            filesystem,
            direct_io_alignment,
            bytes: metadata.len(),
            path,
        })
    }
}

fn filesystem(file: &File) -> io::Result<BackingFilesystem> {
    // include/uapi/linux/magic.h
    Ok(match rustix::fs::fstatfs(file)?.f_type {
        0x0102_1994 => BackingFilesystem::Tmpfs,
        0x794C_7630 => BackingFilesystem::Overlayfs,
        0xE0F5_E1E2 => BackingFilesystem::Erofs,
        _ => BackingFilesystem::Other,
    })
}

/// `STATX_DIOALIGN` (Linux 6.1), where opening for direct I/O works too.
fn direct_io_alignment(path: &Path, file: &File) -> Option<u32> {
    let wanted = StatxFlags::from_bits_retain(0x2000);
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let told = found.stx_mask & wanted.bits() != 0 && found.stx_dio_offset_align != 0;
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    told.then_some(found.stx_dio_offset_align)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_filesystems() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), [0; 777]).expect("written");
        let found = SourceFile::inspect(file.path()).expect("regular");
        assert_eq!((found.kind, found.bytes), (SourceKind::Regular, 777));
        assert_eq!(
            SourceFile::inspect(Path::new("/dev/null"))
                .expect("device")
                .kind,
            SourceKind::Other
        );
        assert!(SourceFile::inspect(Path::new("/nonexistent")).is_err());
        if let Ok(shared) = tempfile::NamedTempFile::new_in("/dev/shm") {
            let found = SourceFile::inspect(shared.path()).expect("regular");
            assert_eq!(found.filesystem, BackingFilesystem::Tmpfs);
            assert!(found.filesystem.refuses_file_backed().is_some());
        }
    }
}
