//! What can go wrong while extracting.

use super::tar::MemberError;
use crate::error::Error;
use rustix::io::Errno;
use std::fmt;

/// Something that could not be extracted.
#[derive(Debug, thiserror::Error)]
pub struct Problem {
    /// Its path: in the image, or that of the target directory where nothing could be begun.
    pub path: Vec<u8>,
    /// Why.
    #[source]
    pub error: ExtractError,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, error } = self;
        if path.is_empty() {
            return write!(f, "{error}");
        }
        write!(f, "{}: {error}", path.escape_ascii())
    }
}

/// Why something could not be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// It cannot be read from the image.
    #[error(transparent)]
    Image(#[from] Error),
    /// A system call on the target failed.
    #[error("cannot {action}: {errno}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// An entry of this name stands in the target and may not be replaced.
    #[error("exists already")]
    Exists,
    /// A name that does not follow the one before in byte order, as the format demands: the directory may have had it.
    #[error("names of the directory do not ascend here, so this one may be there twice")]
    Unordered,
    /// A name that could lead out of its directory.
    #[error("{:?} is not a name below a directory", .0.escape_ascii().to_string())]
    Name(Vec<u8>),
    /// Something that a tar cannot hold.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// One more name of a file that was left out of a tar.
    #[error("is one more name of {:?}, which was left out", .0.escape_ascii().to_string())]
    LinkedToNothing(Vec<u8>),
}

impl ExtractError {
    /// Turns the kernel's answer to an `action` into an error.
    pub(super) fn system(action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| match errno {
            Errno::EXIST => Self::Exists,
            errno => Self::System { action, errno },
        }
    }

    /// Whether all that follows would fail too.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::System {
                errno: Errno::NOSPC
                    | Errno::DQUOT
                    | Errno::ROFS
                    | Errno::IO
                    | Errno::MFILE
                    | Errno::NFILE
                    | Errno::NOMEM,
                ..
            }
        )
    }
}
