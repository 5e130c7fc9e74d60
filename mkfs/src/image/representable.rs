//! Looks for what EROFS cannot hold, before anything is written.

use crate::tree::{Body, FrozenTree, display};
use erofs_format::device::DeviceNumber;

/// Why a tree cannot become an image, seen before anything is written.
#[derive(Debug, thiserror::Error)]
pub enum UnrepresentableError {
    /// A device number with a major above 4095 or a minor above 1048575.
    #[error("{}: device number {}:{} has no EROFS form", display(path), number.major, number.minor)]
    DeviceNumber {
        /// The device.
        path: Vec<u8>,
        /// Its number.
        number: DeviceNumber,
    },
    /// A target that no link can have.
    #[error(
        "{}: a link target must have 1 to 4095 bytes without NUL, this one has {length}",
        display(path)
    )]
    LinkTarget {
        /// The link.
        path: Vec<u8>,
        /// Length of the target in bytes.
        length: usize,
    },
    /// A value that no inode of 32 bytes holds, where all inodes must be such.
    #[error(
        "{}: its size, owner or number of links does not fit a compact inode",
        display(path)
    )]
    Compact {
        /// The file.
        path: Vec<u8>,
    },
    /// More than 2^63 - 1 bytes.
    #[error("{}: a file of {size} bytes is too large", display(path))]
    Size {
        /// The file.
        path: Vec<u8>,
        /// Its size in bytes.
        size: u64,
    },
}

/// Looks for what EROFS cannot hold.
///
/// # Errors
/// [`UnrepresentableError`] names the first entry.
pub fn check_representable(tree: &FrozenTree) -> Result<(), UnrepresentableError> {
    for id in tree.breadth_first() {
        match tree.inode(id).body {
            Body::CharDevice(number) | Body::BlockDevice(number) if number.encode().is_none() => {
                return Err(UnrepresentableError::DeviceNumber {
                    path: tree.path(id),
                    number,
                });
            }
            Body::Symlink(target) => {
                let bytes = tree.target(target);
                if bytes.is_empty() || bytes.len() > 4095 || bytes.contains(&0) {
                    return Err(UnrepresentableError::LinkTarget {
                        path: tree.path(id),
                        length: bytes.len(),
                    });
                }
            }
            Body::Regular { size, .. } if i64::try_from(size).is_err() => {
                return Err(UnrepresentableError::Size {
                    path: tree.path(id),
                    size,
                });
            }
            _ => {}
        }
    }
    Ok(())
}
