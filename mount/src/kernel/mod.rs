//! Mounting by the kernel: fsopen(2) and friends where they exist, mount(2) otherwise.

mod classic;
mod context;

use crate::options::FilesystemOption;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Everything the kernel is told for one mount.
#[derive(Debug, Clone)]
pub(crate) struct KernelMount {
    /// Image file or block device.
    pub(crate) source: PathBuf,
    /// Extra devices in slot order.
    pub(crate) devices: Vec<PathBuf>,
    pub(crate) direct_io: bool,
    /// `fsoffset=` in bytes, when not 0.
    pub(crate) offset: u64,
    /// Passed on.
    pub(crate) options: Vec<FilesystemOption>,
    pub(crate) attributes: MountAttrFlags,
}

/// A system call of a mount that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {errno}{}", log_suffix(log))]
pub struct KernelError {
    /// The system call, and what it was given.
    pub operation: String,
    /// Its error.
    pub errno: Errno,
    /// What the kernel wrote into the log of the mount context (often nothing: then `dmesg` may tell).
    pub log: Vec<String>,
}

fn log_suffix(log: &[String]) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(" ({})", log.join("; "))
    }
}

impl KernelError {
    pub(crate) fn new(operation: impl Into<String>, errno: Errno) -> Self {
        Self {
            operation: operation.into(),
            errno,
            log: Vec::new(),
        }
    }
}

impl KernelMount {
    /// Mounts on `target`.
    pub(crate) fn mount_on(&self, target: &Path) -> Result<(), KernelError> {
        let directory = rustix::fs::open(
            target,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| KernelError::new(format!("open({})", target.display()), errno))?;
        match self.detached() {
            Ok(mount) => attach(&mount, &directory),
            Err(error) if error.errno == Errno::NOSYS => classic::mount(self, target),
            Err(error) => Err(error),
        }
    }

    /// Mounts without a place in the directory tree: the mount lives as long as the descriptor of its root.
    pub(crate) fn detached(&self) -> Result<OwnedFd, KernelError> {
        context::mount_detached(self)
    }

    /// The driver's options beside the source.
    fn driver_options(&self) -> Vec<FilesystemOption> {
        let flag = |key: &str| FilesystemOption {
            key: key.to_owned(),
            value: None,
        };
        let set = |key: &str, value: OsString| FilesystemOption {
            key: key.to_owned(),
            value: Some(value),
        };
        let mut options = Vec::new();
        options.extend(
            self.devices
                .iter()
                .map(|path| set("device", path.clone().into())),
        );
        options.extend((self.offset != 0).then(|| set("fsoffset", self.offset.to_string().into())));
        options.extend(self.direct_io.then(|| flag("directio")));
        options.extend(self.options.iter().cloned());
        options
    }
}

fn attach(mount: &OwnedFd, directory: &OwnedFd) -> Result<(), KernelError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount.as_fd(), "", directory.as_fd(), "", flags)
        .map_err(|errno| KernelError::new("move_mount", errno))
}

/// Whether the kernel has fsopen(2). A seccomp filter that forbids it looks like a kernel without it.
pub(crate) fn has_mount_contexts() -> bool {
    // An invalid flag tells the two apart without making anything.
    let invalid = rustix::mount::FsOpenFlags::from_bits_retain(!1);
    !matches!(rustix::mount::fsopen("erofs", invalid), Err(Errno::NOSYS))
}

/// Whether `path` exists, for probes of device nodes.
pub(crate) fn accessible(path: &str, access: rustix::fs::Access) -> bool {
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

fn lossy(text: &OsStr) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}
