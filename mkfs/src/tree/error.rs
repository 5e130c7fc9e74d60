//! Why a tree cannot be built.

use super::{NameError, display};

/// Why an entry cannot be part of the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A path that no image can hold.
    #[error("{}: {source}", display(path))]
    Name {
        /// The path as the source gave it.
        path: Vec<u8>,
        /// What is wrong with it.
        source: NameError,
    },
    /// An entry below something that is not a directory.
    #[error("{}: its parent {} is not a directory", display(path), display(parent))]
    ParentNotDirectory {
        /// The entry.
        path: Vec<u8>,
        /// The parent.
        parent: Vec<u8>,
    },
    /// The root replaced by something else.
    #[error("the root must be a directory")]
    RootNotDirectory,
    /// A hard link without a target.
    #[error(
        "{}: target {} of the hard link does not exist",
        display(path),
        display(target)
    )]
    LinkTarget {
        /// The link.
        path: Vec<u8>,
        /// What it wants to link to.
        target: Vec<u8>,
    },
    /// A hard link to a directory.
    #[error("{}: hard link to the directory {}", display(path), display(target))]
    LinkToDirectory {
        /// The link.
        path: Vec<u8>,
        /// What it wants to link to.
        target: Vec<u8>,
    },
    /// An extended attribute that EROFS cannot hold.
    #[error("{}: extended attribute {}: {problem}", display(path), display(name))]
    Xattr {
        /// The entry.
        path: Vec<u8>,
        /// The attribute's full name.
        name: Vec<u8>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than 2^32 entries or bytes of names.
    #[error("the tree has too many {0}")]
    TooMany(&'static str),
}
