//! Why a tar cannot become a tree: what rule was broken, in which member, at which offset.

use super::acl::AclError;
use super::decompress::Compression;
use super::header::NumberError;
use super::pax::PaxError;
use super::sparse::SparseError;
use crate::source::StoreError;
use crate::tree::{TreeError, display};
use std::path::PathBuf;

/// Why a tar cannot be read. Offsets are bytes from the start of the (uncompressed) archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading failed; for compressed archives this includes damaged or truncated compressed data.
    #[error("reading the tar at offset {offset}{}: {source}", in_member(member))]
    Read {
        /// Where.
        offset: u64,
        /// The member being read, when known.
        member: Vec<u8>,
        /// What happened.
        source: std::io::Error,
    },
    /// The archive has no bytes at all.
    #[error("the archive is empty: not even an end mark")]
    Empty,
    /// The first block is no tar header.
    #[error("this is not a tar archive: its first block is no tar header")]
    NotTar,
    /// Zeros, as at the end of a tar, with a superblock behind them.
    #[error("this is an EROFS image, not a tar: `erofs merge` takes images")]
    Image,
    /// A compressed tar cannot be unpacked to where its data can be read at any place.
    #[error("unpacking the tar to a file in {}: {source}", folder.display())]
    Unpack {
        /// The folder.
        folder: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Compressed by a program that is not supported.
    #[error(
        "the archive is compressed with {0}, which is not supported; decompress it first and pass the tar on stdin"
    )]
    UnknownCompression(&'static str),
    /// An index of a gzip stream was asked for.
    #[error("the archive is not compressed by gzip, so there is nothing to index")]
    NotGzip,
    /// The data must stay where it is, and this is not a plain tar in a file.
    #[error("{}", not_seekable(*compression))]
    NotSeekable {
        /// How it is compressed; `None` for a pipe.
        compression: Option<Compression>,
    },
    /// A sparse member of which a map of blocks cannot tell.
    #[error("{}: pieces of this sparse file begin inside of blocks, of which no map can tell", display(.0))]
    SharedBlock(Vec<u8>),
    /// The archive ends inside a member.
    #[error(
        "the tar is truncated: it ends at offset {offset}{}",
        in_member(member)
    )]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// The member that is cut off, or the one before the cut.
        member: Vec<u8>,
    },
    /// A block that is no header where one belongs.
    #[error(
        "damaged tar header at offset {offset}{}: {problem}",
        after_member(after)
    )]
    Header {
        /// Where.
        offset: u64,
        /// The member before it.
        after: Vec<u8>,
        /// What is wrong.
        problem: &'static str,
    },
    /// A member that cannot be represented or contradicts itself.
    #[error("{}: {problem} (tar member at offset {offset})", display(path))]
    Member {
        /// Offset of its header.
        offset: u64,
        /// Its name, as far as known.
        path: Vec<u8>,
        /// What is wrong.
        problem: MemberError,
    },
    /// A member that has no place in the tree.
    #[error("{source} (tar member at offset {offset})")]
    Place {
        /// Offset of its header.
        offset: u64,
        /// What is wrong, with the member's name.
        source: TreeError,
    },
    /// A whiteout that has no place in the tree.
    #[error(transparent)]
    Whiteout(TreeError),
    /// The data could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// A type that no file system object stands for.
    #[error("members of type {} ({meaning}) cannot be represented", display(&[*flag]))]
    Type {
        /// The type flag.
        flag: u8,
        /// What it stands for.
        meaning: &'static str,
    },
    /// A piece of an archive that goes on in another volume.
    #[error("it is split over several volumes; join the archive first")]
    MultiVolume,
    /// A number that is none or needs too many bits.
    #[error("its {field} {source}")]
    Number {
        /// The field.
        field: &'static str,
        /// Why.
        source: NumberError,
    },
    /// A number outside what the field may hold.
    #[error("its {field} is {value}, which is not {limit}")]
    Range {
        /// The field.
        field: &'static str,
        /// The value.
        value: i64,
        /// What is allowed.
        limit: &'static str,
    },
    /// A name, link or attributes larger than any file needs.
    #[error("its {what} has more than {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The most, in bytes.
        limit: u64,
    },
    /// A PAX header that breaks the rules.
    #[error("PAX header: {0}")]
    Pax(#[from] PaxError),
    /// An extension header that no member follows.
    #[error("extension headers without the member that they describe")]
    Orphan,
    /// A sparse map that breaks the rules.
    #[error("sparse map: {0}")]
    Sparse(#[from] SparseError),
    /// An ACL that cannot be represented.
    #[error("{name}: {source}")]
    Acl {
        /// The PAX keyword.
        name: &'static str,
        /// Why.
        source: AclError,
    },
    /// A symlink without target, or with one that no kernel follows.
    #[error("its link target {0}")]
    LinkTarget(&'static str),
    /// A directory that has data.
    #[error("it is named like a directory but has {0} bytes of data")]
    DirectoryData(u64),
    /// A whiteout for nothing, or something below a whiteout.
    #[error("{0}")]
    Whiteout(&'static str),
}

fn in_member(member: &[u8]) -> String {
    if member.is_empty() {
        String::new()
    } else {
        format!(", in {}", display(member))
    }
}

fn after_member(member: &[u8]) -> String {
    if member.is_empty() {
        String::new()
    } else {
        format!(" (after {})", display(member))
    }
}

fn not_seekable(compression: Option<Compression>) -> String {
    match compression {
        Some(compression) => format!(
            "the archive is compressed ({compression}), so files cannot be read from within it; decompress it to a file \
             first, or build an image that holds the data"
        ),
        None => "the archive comes from a pipe, so files cannot be read from it later; save it to a file first, or build \
                 an image that holds the data"
            .to_owned(),
    }
}
