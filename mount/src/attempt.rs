//! What came of an attempt to mount, and what follows from its error.

use crate::ability::Ability;
use crate::kernel::KernelError;
use crate::loop_device::LoopError;
use crate::plan::Way;
use rustix::io::Errno;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// One attempt to mount.
#[derive(Debug)]
pub struct Attempt {
    /// The way.
    pub way: Way,
    /// Whether direct I/O was asked for.
    pub direct_io: bool,
    /// Its error, and what follows from it; `None` for the attempt that worked.
    pub failure: Option<(WayError, Consequence)>,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}: ",
            self.way,
            if self.direct_io { ", direct I/O" } else { "" }
        )?;
        match &self.failure {
            None => f.write_str("mounted"),
            Some((error, consequence)) => write!(f, "{error}: {consequence}"),
        }
    }
}

/// Why a way did not work.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// A system call of the mount.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A loop device.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// The image or an extra device.
    #[error("{path}: {error}", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why it cannot be opened.
        #[source]
        error: io::Error,
    },
    /// The FUSE server.
    #[error("{0}")]
    Fuse(#[source] Box<dyn Error + Send + Sync>),
}

impl WayError {
    /// The kernel's error number, if it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel(error) => Some(error.errno),
            Self::Loop(error) => Some(error.errno),
            Self::Open { .. } | Self::Fuse(_) => None,
        }
    }
}

/// What follows from an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consequence {
    /// The same way once more, without direct I/O.
    WithoutDirectIo,
    /// The next way.
    NextWay,
    /// The next way: the kernel lacks what the image needs.
    Lacking(Ability),
    /// The image is corrupt: no way will read it, none is tried.
    Corrupt,
    /// The end.
    GiveUp,
}

impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutDirectIo => f.write_str("once more without direct I/O"),
            Self::NextWay => f.write_str("on to the next way"),
            Self::Lacking(ability) => write!(
                f,
                "a probe shows that this kernel lacks {ability}, on to the next way"
            ),
            Self::Corrupt => f.write_str("the image is corrupt"),
            Self::GiveUp => f.write_str("nothing else would help"),
        }
    }
}

/// What an error number of a mount tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The image is corrupt.
    Corrupt,
    /// This way is closed, another may be open.
    AnotherWay,
    /// A feature that the kernel lacks, or a mistake.
    PerhapsLacking,
    /// Neither.
    Fatal,
}

/// EBADMSG is the superblock's checksum, EUCLEAN is the driver's EFSCORRUPTED (fs/erofs/internal.h).
pub(crate) fn meaning(errno: Errno) -> Meaning {
    match errno {
        Errno::BADMSG | Errno::UCLEAN => Meaning::Corrupt,
        Errno::NOTBLK
        | Errno::OPNOTSUPP
        | Errno::NODEV
        | Errno::NOSYS
        | Errno::PERM
        | Errno::ACCESS => Meaning::AnotherWay,
        Errno::INVAL => Meaning::PerhapsLacking,
        _ => Meaning::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers() {
        for (errno, expected) in [
            (Errno::NOTBLK, Meaning::AnotherWay),
            (Errno::OPNOTSUPP, Meaning::AnotherWay),
            (Errno::NODEV, Meaning::AnotherWay),
            (Errno::NOSYS, Meaning::AnotherWay),
            (Errno::PERM, Meaning::AnotherWay),
            (Errno::ACCESS, Meaning::AnotherWay),
            (Errno::INVAL, Meaning::PerhapsLacking),
            (Errno::BADMSG, Meaning::Corrupt),
            (Errno::UCLEAN, Meaning::Corrupt),
            (Errno::IO, Meaning::Fatal),
            (Errno::NOMEM, Meaning::Fatal),
            (Errno::NOENT, Meaning::Fatal),
            (Errno::NOTDIR, Meaning::Fatal),
            (Errno::LOOP, Meaning::Fatal),
        ] {
            assert_eq!(meaning(errno), expected, "{errno}");
        }
    }
}
