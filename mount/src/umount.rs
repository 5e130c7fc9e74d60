//! Unmounting by directory.

use crate::table::{self, Carrier, MountedImage};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long to wait for a loop device to free itself after the last reader is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmounted {
    /// The mount as it was.
    pub image: MountedImage,
    /// A loop device that is still attached: in use elsewhere, busy after a lazy unmount, or set up by somebody to stay.
    pub left_over: Option<PathBuf>,
}

/// Why nothing was unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UmountError {
    /// The mount table or the directory.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Nothing is mounted there.
    #[error("{path} is not a mount point", path = .0.display())]
    NotMounted(PathBuf),
    /// Something else is.
    #[error("{path} is a mount of {filesystem_type}, not of an EROFS image", path = path.display())]
    NotErofs {
        /// The directory.
        path: PathBuf,
        /// What is mounted.
        filesystem_type: String,
    },
    /// In use.
    #[error("{path} is in use (--lazy detaches it now and cleans up when it is no longer)", path = .0.display())]
    Busy(PathBuf),
    /// `fusermount3`.
    #[error("fusermount3 -u {path}: {message}", path = path.display())]
    Fusermount {
        /// The directory.
        path: PathBuf,
        /// What it said.
        message: String,
    },
}

/// Unmounts the EROFS image mounted last on `directory`, by the kernel or by our FUSE server, whose daemon then ends by
/// itself. A loop device that frees itself is waited for. `lazy` detaches a mount that is in use.
///
/// # Errors
/// [`UmountError`].
pub fn umount(directory: &Path, lazy: bool) -> Result<Unmounted, UmountError> {
    let io_error = |error| UmountError::Io {
        path: directory.to_owned(),
        error,
    };
    let path = absolute(directory).map_err(io_error)?;
    let lines = table::lines().map_err(io_error)?;
    let Some(line) = lines
        .into_iter()
        .rev()
        .find(|line| line.mount_point == path)
    else {
        return Err(UmountError::NotMounted(path));
    };
    let filesystem_type = line.filesystem_type.clone();
    let Some(image) = table::image(line) else {
        return Err(UmountError::NotErofs {
            path,
            filesystem_type,
        });
    };
    let lazily = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW | lazily) {
        Ok(()) => {}
        Err(Errno::BUSY) => return Err(UmountError::Busy(path)),
        Err(Errno::PERM) if image.carrier == Carrier::Fuse => fusermount(&path, lazy)?,
        Err(errno) => return Err(io_error(errno.into())),
    }
    let left_over = left_over(&image, lazy);
    Ok(Unmounted { image, left_over })
}

/// The mount point as the mount table has it. The directory itself is not looked at: a FUSE mount whose server is gone
/// answers nothing.
fn absolute(directory: &Path) -> io::Result<PathBuf> {
    match (
        directory.canonicalize(),
        directory.parent(),
        directory.file_name(),
    ) {
        (Ok(path), ..) => Ok(path),
        (Err(error), Some(parent), Some(name)) if error.kind() != io::ErrorKind::NotFound => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok(parent.canonicalize()?.join(name))
        }
        (Err(error), ..) => Err(error),
    }
}

/// The set-uid helper of FUSE takes down mounts of its caller.
fn fusermount(path: &Path, lazy: bool) -> Result<(), UmountError> {
    let failed = |message: String| UmountError::Fusermount {
        path: path.to_owned(),
        message,
    };
    let program =
        crate::capabilities::fusermount().ok_or_else(|| failed("not installed".to_owned()))?;
    let mut command = Command::new(program);
    command
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(path);
    let output = command
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.contains("busy") {
        return Err(UmountError::Busy(path.to_owned()));
    }
    Err(failed(message))
}

fn left_over(image: &MountedImage, lazy: bool) -> Option<PathBuf> {
    let Carrier::Loop {
        backing: Some(backing),
    } = &image.carrier
    else {
        return None;
    };
    let name = table::loop_name(&image.source)?;
    // Every device of ours frees itself; one that does not belongs to somebody else.
    let patience = match crate::loop_device::frees_itself(name) {
        None => return None,
        Some(true) if !lazy => PATIENCE,
        Some(_) => Duration::ZERO,
    };
    (!crate::loop_device::wait_until_free(name, backing, patience)).then(|| image.source.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_erofs_are_touched() {
        assert!(
            matches!(umount(Path::new("/proc"), false), Err(UmountError::NotErofs { filesystem_type, .. })
            if filesystem_type == "proc")
        );
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(matches!(
            umount(folder.path(), false),
            Err(UmountError::NotMounted(_))
        ));
        assert!(matches!(
            umount(&folder.path().join("none"), false),
            Err(UmountError::Io { .. })
        ));
    }
}
