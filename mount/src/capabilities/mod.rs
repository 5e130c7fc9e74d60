//! What this machine offers for mounting EROFS.

mod driver;
mod privilege;
mod source;

pub use driver::Driver;
pub use privilege::Privilege;
pub use source::{BackingFilesystem, SourceFile, SourceKind};

use crate::ability::Ability;
use erofs_format::BlockBits;
use erofs_format::kernel::KernelVersion;
use rustix::fs::Access;
use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// What one probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Mounted, and the file read back right.
    Works,
    /// The kernel refused the probe, or read it wrong.
    Refused {
        /// The error.
        errno: Errno,
        /// Where it came from.
        reason: String,
    },
    /// Mounted, but the content was another.
    WrongContent,
    /// The probe could not run.
    NotProbed {
        /// Why.
        reason: String,
    },
}

/// Whether the kernel has an ability, from proof where there is one and from its version otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A probe worked.
    Proven,
    /// The version has it, but the kernel may be configured without.
    Expected,
    /// The version does not have it.
    TooOld {
        /// The first version that has.
        since: KernelVersion,
    },
    /// No kernel has it on this machine's page size.
    Never,
    /// A probe was refused.
    Refused {
        /// What came of it.
        reason: String,
    },
}

impl Verdict {
    /// Whether a mount that depends on it is worth an attempt.
    pub fn is_possible(&self) -> bool {
        matches!(self, Self::Proven | Self::Expected)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("works"),
            Self::Expected => f.write_str("expected from the kernel's version, not probed"),
            Self::TooOld { since } => write!(f, "needs Linux {since}"),
            Self::Never => f.write_str("larger than this machine's pages"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
        }
    }
}

/// Means of mounting in user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fuse {
    /// `/dev/fuse` can be opened for reading and writing.
    pub device: bool,
    /// `fusermount3` is in the path: mounts without privileges.
    pub fusermount: bool,
}

/// What this machine offers for mounting EROFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `uname -r`.
    pub release: String,
    /// Its version.
    pub kernel: KernelVersion,
    /// Page size.
    pub page: BlockBits,
    /// The kernel's EROFS driver.
    pub driver: Driver,
    /// Names in `/sys/fs/erofs/features`, sorted. Shown to users; nothing is concluded from them (they were never complete,
    /// see `kernel-matrix.md` of the references).
    pub sysfs_features: Vec<String>,
    /// What this process may do.
    pub privilege: Privilege,
    /// fsopen(2) and friends.
    pub mount_contexts: bool,
    /// `/dev/loop-control` can be opened.
    pub loop_control: bool,
    /// FUSE.
    pub fuse: Fuse,
    /// What probes found, see [`crate::probe`].
    pub proofs: Vec<(Ability, Proof)>,
}

/// The kernel's release or page size is none that EROFS runs on.
#[derive(Debug, thiserror::Error)]
pub enum CapabilitiesError {
    /// `uname -r`.
    #[error(transparent)]
    Release(#[from] erofs_format::kernel::KernelVersionError),
    /// Page size.
    #[error("page size: {0}")]
    PageSize(#[from] erofs_format::address::BlockBitsError),
}

impl Capabilities {
    /// Looks around, without mounting anything.
    ///
    /// # Errors
    /// [`CapabilitiesError`].
    pub fn detect() -> Result<Self, CapabilitiesError> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            kernel: release.parse()?,
            page: BlockBits::from_bytes(rustix::param::page_size() as u64)?,
            driver: Driver::detect(&release),
            release,
            sysfs_features: sysfs_features(),
            privilege: Privilege::detect(),
            mount_contexts: crate::kernel::has_mount_contexts(),
            loop_control: crate::kernel::accessible(
                "/dev/loop-control",
                Access::READ_OK | Access::WRITE_OK,
            ),
            fuse: Fuse {
                // fusermount3 opens it with the rights of its caller.
                device: crate::kernel::accessible("/dev/fuse", Access::READ_OK | Access::WRITE_OK),
                fusermount: fusermount().is_some(),
            },
            proofs: Vec::new(),
        })
    }

    /// Whether the kernel has `ability`.
    pub fn verdict(&self, ability: Ability) -> Verdict {
        match self.proof(ability) {
            Some(Proof::Works) => Verdict::Proven,
            Some(Proof::Refused { reason, .. }) => Verdict::Refused {
                reason: reason.clone(),
            },
            Some(Proof::WrongContent) => Verdict::Refused {
                reason: "a probe was read back wrong".to_owned(),
            },
            Some(Proof::NotProbed { .. }) | None => match ability.since(self.page) {
                None => Verdict::Never,
                Some(since) if self.kernel < since => Verdict::TooOld { since },
                Some(_) => Verdict::Expected,
            },
        }
    }

    /// What a probe of `ability` found, if there was one.
    pub fn proof(&self, ability: Ability) -> Option<&Proof> {
        self.proofs
            .iter()
            .find(|(probed, _)| *probed == ability)
            .map(|(_, proof)| proof)
    }
}

fn sysfs_features() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/fs/erofs/features")
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Where `fusermount3` is.
pub(crate) fn fusermount() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|folder| folder.join("fusermount3"))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_is_described() {
        let found = Capabilities::detect().expect("a supported kernel");
        assert!(
            found.release.starts_with(&found.kernel.to_string()),
            "{found:?}"
        );
        assert!(found.page >= BlockBits::B4096);
        assert!(found.sysfs_features.is_sorted());
    }
}
