//! Writable filesystems: ext4 in a file, mounted through a loop device that frees itself.

use crate::capabilities::SourceFile;
use crate::loop_device::{self, LoopDevice, LoopError, LoopSettings};
use crate::table;
use erofs_format::BlockBits;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of the driver (`Documentation/admin-guide/ext4.rst`): blocks that are freed are holes of the file again, inode tables
/// are never filled with the zeros that a sparse file has anyway, and what turns out damaged is not written to any more.
const OPTIONS: &std::ffi::CStr = c"discard,noinit_itable,errors=remount-ro";

/// How long to wait for the loop device to free itself once nobody has the filesystem any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A filesystem in a file that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile {
    /// The loop device.
    pub device: PathBuf,
    /// The file, where sysfs still tells.
    pub image: Option<PathBuf>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
}

/// Why a filesystem could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The file, the directory, or the mount table.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// No loop device.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// The kernel refused to mount it.
    #[error("{}: mount(ext4): {errno}{}", path.display(), hint(*errno))]
    Mount {
        /// The file.
        path: PathBuf,
        /// Its error.
        errno: Errno,
    },
}

impl Ext4Error {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File {
            path: path.to_owned(),
            error,
        }
    }
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NODEV => " (this kernel has no ext4: modprobe ext4)",
        Errno::INVAL | Errno::UCLEAN => " (what is in it is damaged or no ext4: e2fsck -f)",
        _ => "",
    }
}

/// Mounts the ext4 filesystem in the file `image` on the directory `target`, to be written to. Its blocks are not cached a
/// second time as those of the file, where that can be read and written directly.
///
/// # Errors
/// [`Ext4Error`].
pub fn mount(image: &Path, target: &Path) -> Result<(), Ext4Error> {
    let source = SourceFile::inspect(image).map_err(Ext4Error::file(image))?;
    let file = File::options().read(true).write(true).open(image);
    let file = file.map_err(Ext4Error::file(image))?;
    let settings = LoopSettings {
        offset: 0,
        size_limit: 0,
        block_bits: BlockBits::B4096,
        direct_io_alignment: source.direct_io_alignment,
        writable: true,
    };
    let device = LoopDevice::attach(&file, image, settings)?;
    rustix::mount::mount(device.path(), target, "ext4", MountFlags::empty(), OPTIONS).map_err(
        |errno| Ext4Error::Mount {
            path: image.to_owned(),
            errno,
        },
    )
}

/// Unmounts what is mounted on the directory `target`, if that is such a filesystem. Whoever uses it keeps it, and the loop
/// device, until the end; when there is nobody, the file is free on return.
///
/// # Errors
/// [`Ext4Error::File`].
pub fn unmount(target: &Path) -> Result<(), Ext4Error> {
    let mut mounted = list().map_err(Ext4Error::file(target))?;
    mounted.retain(|mounted| mounted.mount_point == target);
    for MountedFile { device, image, .. } in mounted {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {
                if let (Some(name), Some(image)) = (table::loop_name(&device), image) {
                    // It is freed in the end, whatever else happens.
                    loop_device::wait_until_free(name, &image, PATIENCE);
                }
            }
            Err(Errno::BUSY) => {
                let lazily = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                let unmounted = rustix::mount::unmount(target, lazily);
                unmounted.map_err(|errno| Ext4Error::file(target)(errno.into()))?;
            }
            Err(errno) => return Err(Ext4Error::file(target)(errno.into())),
        }
    }
    Ok(())
}

/// Such filesystems of this mount namespace, the oldest first.
///
/// # Errors
/// Those of [`table::list`].
pub fn list() -> io::Result<Vec<MountedFile>> {
    let lines = table::lines()?.into_iter();
    let mounted = lines
        .filter(|line| line.filesystem_type == "ext4")
        .filter_map(|line| {
            let image = loop_device::backing_file(table::loop_name(&line.source)?);
            Some(MountedFile {
                device: line.source,
                image,
                mount_point: line.mount_point,
            })
        });
    Ok(mounted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::Command;

    /// A file with an ext4 filesystem of so many bytes.
    fn formatted(folder: &Path, bytes: u64) -> Option<PathBuf> {
        let image = folder.join("image");
        let file = File::create(&image).expect("made");
        file.set_len(bytes).expect("sized");
        let mut mkfs = Command::new("mkfs.ext4");
        let made = mkfs.args(["-q", "-F", "-m0"]).arg(&image).status();
        made.ok().filter(std::process::ExitStatus::success)?;
        Some(image)
    }

    #[test]
    fn a_file_is_written_to_until_it_is_full() {
        if let Some(reason) = crate::test_support::cannot_mount() {
            return crate::test_support::skip("ext4", &reason);
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().canonicalize().expect("there");
        let Some(image) = formatted(&path, 16 << 20) else {
            return crate::test_support::skip("ext4", "there is no mkfs.ext4");
        };
        let target = path.join("target");
        std::fs::create_dir(&target).expect("made");
        mount(&image, &target).expect("mounted");
        let mounted = || {
            let mut mounted = list().expect("listed");
            mounted.retain(|mounted| mounted.mount_point == target);
            mounted
        };
        let [this] = mounted().try_into().expect("mounted once");
        assert_eq!(this.image.as_ref(), Some(&image));
        let name = table::loop_name(&this.device).expect("a loop device");
        assert_eq!(loop_device::frees_itself(name), Some(true));
        let source = SourceFile::inspect(&image).expect("there");
        if source
            .direct_io_alignment
            .is_some_and(|bytes| bytes <= 4096)
        {
            let direct = std::fs::read_to_string(format!("/sys/block/{name}/loop/dio"));
            assert_eq!(direct.expect("sysfs").trim(), "1");
        }
        let mut file = File::create(target.join("file")).expect("made");
        let full = (0..32).find_map(|_| {
            let written = file.write_all(&[1; 1 << 20]).and_then(|()| file.sync_all());
            written.err()
        });
        assert_eq!(full.expect("full").kind(), io::ErrorKind::StorageFull);

        // Somebody who has it keeps it.
        unmount(&target).expect("unmounted");
        assert_eq!(mounted(), []);
        assert!(file.metadata().expect("told").len() > 1 << 20);
        assert_eq!(loop_device::backing_file(name).as_ref(), Some(&image));
        drop(file);
        assert!(loop_device::wait_until_free(name, &image, PATIENCE));

        mount(&image, &target).expect("mounted");
        let written = std::fs::metadata(target.join("file")).expect("there").len();
        assert!(written > 1 << 20);
        unmount(&target).expect("unmounted");
        unmount(&target).expect("nothing to do");
        assert_eq!(loop_device::backing_file(name), None);

        std::fs::write(&image, vec![0; 16 << 20]).expect("written");
        let error = mount(&image, &target).expect_err("damaged").to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
