//! What can go wrong, in four families: I/O, a corrupt image, a feature that is not read, a caller's mistake.

use erofs_codec::DecodeError;
use erofs_format::chunk::ChunkFormatError;
use erofs_format::compression::Algorithm;
use erofs_format::compression::compact_index::CompactIndexError;
use erofs_format::compression::config::ConfigError;
use erofs_format::compression::encoded_extent::PieceError;
use erofs_format::compression::map_header::MapHeaderError;
use erofs_format::directory::DirentError;
use erofs_format::inode::InodeError;
use erofs_format::superblock::SuperblockError;
use erofs_format::xattr::{LongPrefixError, XattrError};
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::fmt;
use std::io;

/// Why something could not be read from an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source failed.
    #[error("device {device}, byte {offset}: {source}")]
    Io {
        /// Which device.
        device: DeviceId,
        /// Where the read began on it.
        offset: ByteOffset,
        /// What the source said.
        source: io::Error,
    },
    /// The image breaks a rule of the format.
    #[error("{}byte {offset}: {rule}", Place(*nid))]
    Corrupt {
        /// The rule, with the value that breaks it.
        rule: Rule,
        /// The inode that was being read.
        nid: Option<Nid>,
        /// Where: a byte of the image for metadata, of the file for its map and of the directory for its entries.
        offset: ByteOffset,
    },
    /// The image uses a feature that this reader does not read.
    #[error("{}{feature} not supported yet", Place(*nid))]
    Unsupported {
        /// The feature.
        feature: Feature,
        /// The inode that uses it.
        nid: Option<Nid>,
    },
    /// No entry of this name.
    #[error("{}: not found", Name(name))]
    NotFound {
        /// The name or path component that was looked for.
        name: Vec<u8>,
    },
    /// A directory was needed.
    #[error("inode {0} is not a directory")]
    NotADirectory(Nid),
    /// A symbolic link was needed.
    #[error("inode {0} is not a symbolic link")]
    NotASymlink(Nid),
    /// More symbolic links on the way than Linux follows.
    #[error("{}: too many levels of symbolic links", Name(path))]
    SymlinkLoop {
        /// The path that was resolved.
        path: Vec<u8>,
    },
}

/// Why an image could not be opened. The kernel refuses to mount for each of these.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The superblock cannot be used.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The configurations of the algorithms cannot be used.
    #[error(transparent)]
    Algorithms(#[from] ConfigError),
    /// The caller gave some devices, but not one for each slot.
    #[error("{given} devices given for an image with {slots} device slots")]
    DeviceCount {
        /// Devices given.
        given: usize,
        /// Slots of the image.
        slots: usize,
    },
    /// Something behind the superblock cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
}

/// The rules that a corrupt image breaks. Values are as stored.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Something lies behind the end of a device.
    #[error(
        "{length} bytes from byte {start} on end behind device {device}, which has {size} bytes"
    )]
    BeyondDevice {
        /// Which device.
        device: DeviceId,
        /// First byte on it.
        start: u64,
        /// Bytes needed.
        length: u64,
        /// Size of the device in bytes.
        size: u64,
    },
    /// A position that does not fit 64 bits.
    #[error("position overflows 64 bits")]
    Overflow,
    /// A device id without a slot.
    #[error("device {device} of {slots}")]
    NoSuchDevice {
        /// After masking.
        device: DeviceId,
        /// Number of slots.
        slots: usize,
    },
    /// The root inode is no directory.
    #[error("root inode is not a directory")]
    RootNotADirectory,
    /// An inode in the metabox of an image without one.
    #[error("inode in the metabox of an image without one")]
    NoMetabox,
    /// Something lies behind the end of the metabox.
    #[error("{length} bytes end behind the metabox, which has {size} bytes")]
    BeyondMetabox {
        /// Bytes needed.
        length: u64,
        /// Size of the metabox in bytes.
        size: u64,
    },
    /// Something in the packed inode of an image without one.
    #[error("fragment in an image without a packed inode")]
    NoPackedInode,
    /// An inode.
    #[error(transparent)]
    Inode(InodeError),
    /// A chunk format.
    #[error(transparent)]
    ChunkFormat(ChunkFormatError),
    /// Data in blocks of an inode that says it has none.
    #[error("inode of {size} bytes has no start block")]
    NoStartBlock {
        /// Size of the file in bytes.
        size: u64,
    },
    /// A map that says nothing about a byte of the file.
    #[error("no extent holds this byte")]
    MapGap,
    /// An inlined tail that crosses the end of its block.
    #[error("inline data of {length} bytes crosses a block boundary")]
    InlineCrossesBlock {
        /// Its length in bytes.
        length: u64,
    },
    /// A directory block.
    #[error(transparent)]
    Directory(DirentError),
    /// A directory that contains itself.
    #[error("directory {0} contains itself")]
    DirectoryCycle(Nid),
    /// A directory with more than one name.
    #[error("directory {0} was already reached by another name")]
    DirectoryAlias(Nid),
    /// Directories nested too deeply.
    #[error("directories are nested deeper than {limit}")]
    TooDeep {
        /// The limit that was asked for.
        limit: usize,
    },
    /// More directory entries than any image of this size can mean.
    #[error("more than {limit} directory entries")]
    TooManyEntries {
        /// Where listing gave up.
        limit: u64,
    },
    /// More extents than any image of this size can have records for.
    #[error("more than {limit} extents")]
    TooManyExtents {
        /// Where looking gave up.
        limit: u64,
    },
    /// A symbolic link that no system could follow.
    #[error("symbolic link of {size} bytes, must be 1 to 4095")]
    SymlinkSize {
        /// Its size in bytes.
        size: u64,
    },
    /// A NUL in a symbolic link's target.
    #[error("symbolic link with a NUL at byte {at}")]
    SymlinkNul {
        /// Where in the target.
        at: usize,
    },
    /// A body of extended attributes, or one of its entries.
    #[error(transparent)]
    Xattr(XattrError),
    /// A long xattr prefix.
    #[error(transparent)]
    XattrPrefix(LongPrefixError),
    /// A compressed file in an image without compression.
    #[error("compressed inode in an image without any algorithm")]
    NoAlgorithm,
    /// An algorithm that the superblock does not list.
    #[error("{} is not among the algorithms of the superblock", .0.name())]
    AlgorithmNotListed(Algorithm),
    /// The header of a compressed file's map.
    #[error(transparent)]
    MapHeader(MapHeaderError),
    /// A record of a compact lcluster index.
    #[error(transparent)]
    CompactIndex(CompactIndexError),
    /// An extent that starts behind the lcluster of its record.
    #[error("extent starts at byte {offset} of an lcluster, behind its end")]
    ClusterOffset {
        /// As stored.
        offset: u16,
    },
    /// A pcluster size where only single blocks are allowed.
    #[error("pcluster of {blocks} blocks without the big-pcluster bits")]
    UnexpectedPclusterSize {
        /// As stored.
        blocks: u16,
    },
    /// The size of a big pcluster is missing.
    #[error("no pcluster size in the first lcluster behind its head")]
    NoPclusterSize,
    /// A distance back that leads nowhere.
    #[error("look-back distance {distance} leads to no extent")]
    LookBack {
        /// As stored.
        distance: u16,
    },
    /// An encoded extent.
    #[error(transparent)]
    Piece(PieceError),
    /// An extent that is empty or larger than the kernel decodes.
    #[error("extent of {length} bytes, must be 1 byte to 12 MiB")]
    ExtentSize {
        /// Its decoded length in bytes.
        length: u64,
    },
    /// A pcluster larger than the kernel reads.
    #[error("pcluster of {length} bytes, at most 1 MiB are allowed")]
    PclusterSize {
        /// Its length in bytes.
        length: u64,
    },
    /// Plain data that is longer than its pcluster.
    #[error("{length} plain bytes in a pcluster of {stored} bytes")]
    PlainTooLong {
        /// Bytes of the file.
        length: u64,
        /// Bytes stored.
        stored: u64,
    },
    /// A pcluster that lies on two devices.
    #[error("pcluster of {length} bytes crosses the end of a device")]
    CrossesDevices {
        /// Its length in bytes.
        length: u64,
    },
    /// A pcluster without anything in its first block.
    #[error("nothing but zeros where encoded data begins")]
    OnlyPadding,
    /// A fragment behind the end of the packed inode.
    #[error("fragment of {length} bytes at {offset} of a packed inode of {size} bytes")]
    BeyondPacked {
        /// First byte in the packed inode.
        offset: u64,
        /// Bytes needed.
        length: u64,
        /// Size of the packed inode in bytes.
        size: u64,
    },
    /// The packed inode refers to itself.
    #[error("fragment in the packed inode itself")]
    PackedInPacked,
    /// Encoded data.
    #[error(transparent)]
    Decode(DecodeError),
    /// Encoded data that goes on behind the extent, which is not marked as a part of it.
    #[error("encoded data does not end where its extent does")]
    LongerThanExtent,
    /// Bytes in the pcluster behind the encoded data.
    #[error("{bytes} bytes follow the end of the encoded data")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
}

/// Features that are named when they are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Feature {
    /// Decoding this algorithm.
    #[error("{} compression is", .0.name())]
    Algorithm(Algorithm),
}

/// "inode N, " or nothing.
struct Place(Option<Nid>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nid) => write!(f, "inode {nid}, "),
            None => Ok(()),
        }
    }
}

/// A name as text, with odd bytes escaped.
struct Name<'a>(&'a [u8]);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
