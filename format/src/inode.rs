//! Inodes: compact (32 bytes) and extended (64 bytes), always at a multiple of 32 bytes.
//!
//! ```text
//! compact    0 format u16 xattr_icount u16 mode u16 nb u16 | 8 size u32  mtime u32
//!           16 u u32      ino u32                          | 24 uid u16 gid u16 reserved u32
//! extended   0 format u16 xattr_icount u16 mode u16 nb u16 | 8 size u64
//!           16 u u32      ino u32                          | 24 uid u32 gid u32
//!           32 mtime i64                                   | 40 mtime_nsec u32 nlink u32
//!           48 reserved 16 bytes
//! ```
//! Behind the inode follow, in this order: xattr body, map header and index or chunk table, inline data.

use crate::address::{BlockAddr, Nid};
use crate::device::DeviceNumber;
use crate::feature::FeatureIncompat;
use crate::record::{self, Truncated};
use crate::superblock::Superblock;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of a compact inode in bytes.
pub const COMPACT_INODE_SIZE: u64 = 32;
/// Size of an extended inode in bytes.
pub const EXTENDED_INODE_SIZE: u64 = 64;
/// Start block of an inode without blocks, 32 bits.
pub const NO_BLOCK_32: u32 = u32::MAX;
/// Start block of an inode without blocks, 48 bits.
pub const NO_BLOCK_48: u64 = (1 << 48) - 1;

const FORMAT_EXTENDED: u16 = 1;
const FORMAT_LAYOUT_SHIFT: u16 = 1;
const FORMAT_LAYOUT_MASK: u16 = 7;
/// Compact non-directories: nlink is 1 and `nb` holds high address bits. Directories: `.` is omitted.
const FORMAT_BIT4: u16 = 1 << 4;
const FORMAT_KNOWN: u16 = 0x1F;

/// A compact inode as stored.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
    Default,
)]
#[repr(C)]
pub struct RawCompactInode {
    /// Version, data layout and bit 4.
    pub format: U16,
    /// Size of the xattr body, see [`crate::xattr::body_size`].
    pub xattr_icount: U16,
    /// `st_mode`.
    pub mode: U16,
    /// Number of links, or high address bits.
    pub nb: U16,
    /// Size in bytes.
    pub size: U32,
    /// Seconds after the superblock's epoch (48-bit images).
    pub mtime: U32,
    /// Start block, compressed blocks, chunk format or device number.
    pub u: U32,
    /// Serial number for 32-bit `stat`.
    pub ino: U32,
    /// Owner.
    pub uid: U16,
    /// Group.
    pub gid: U16,
    /// Zero.
    pub reserved: U32,
}

/// An extended inode as stored.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
    Default,
)]
#[repr(C)]
pub struct RawExtendedInode {
    /// Version, data layout and bit 4.
    pub format: U16,
    /// Size of the xattr body, see [`crate::xattr::body_size`].
    pub xattr_icount: U16,
    /// `st_mode`.
    pub mode: U16,
    /// High address bits.
    pub nb: U16,
    /// Size in bytes.
    pub size: U64,
    /// Start block, compressed blocks, chunk format or device number.
    pub u: U32,
    /// Serial number for 32-bit `stat`.
    pub ino: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Modification time, seconds since 1970.
    pub mtime: I64,
    /// Nanoseconds of the modification time.
    pub mtime_nsec: U32,
    /// Number of links.
    pub nlink: U32,
    /// Zero.
    pub reserved: [u8; 16],
}

const _: () = assert!(size_of::<RawCompactInode>() == 32);
const _: () = assert!(size_of::<RawExtendedInode>() == 64);

/// File types of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Symbolic link.
    Symlink,
}

impl FileType {
    /// The type bits of `st_mode`.
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The type of a whole `st_mode`, or `None` for type bits that no file has.
    pub const fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::Regular,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// How an inode's data is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataLayout {
    /// Consecutive blocks.
    FlatPlain,
    /// Compressed, full lcluster index or encoded extents.
    CompressedFull,
    /// Consecutive blocks, the last partial one inlined behind the inode.
    FlatInline,
    /// Compressed, compact lcluster index.
    CompressedCompact,
    /// Chunks, each somewhere.
    ChunkBased,
}

impl DataLayout {
    /// Stored value.
    pub const fn value(self) -> u16 {
        match self {
            Self::FlatPlain => 0,
            Self::CompressedFull => 1,
            Self::FlatInline => 2,
            Self::CompressedCompact => 3,
            Self::ChunkBased => 4,
        }
    }

    /// From the stored value.
    pub const fn from_value(value: u16) -> Option<Self> {
        Some(match value {
            0 => Self::FlatPlain,
            1 => Self::CompressedFull,
            2 => Self::FlatInline,
            3 => Self::CompressedCompact,
            4 => Self::ChunkBased,
            _ => return None,
        })
    }

    /// Whether the data is compressed.
    pub const fn is_compressed(self) -> bool {
        matches!(self, Self::CompressedFull | Self::CompressedCompact)
    }
}

/// A point in time with nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970, may be negative.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What field `i_u` (with the high bits of `nb`) says; its meaning depends on layout and file type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InodePayload {
    /// Flat layouts: first block, or `None` when no block is allocated.
    StartBlock(Option<BlockAddr>),
    /// Compressed layouts: number of blocks of compressed data.
    CompressedBlocks(u64),
    /// Chunk layout: the chunk format, see [`crate::chunk::ChunkFormat`].
    ChunkFormat(u16),
    /// Device files: their device number.
    Device(DeviceNumber),
    /// Fifos and sockets.
    Nothing,
}

/// A decoded inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Whether it is stored in 64 bytes.
    pub extended: bool,
    /// Data layout.
    pub layout: DataLayout,
    /// Size of the xattr body, see [`crate::xattr::body_size`].
    pub xattr_icount: u16,
    /// `st_mode`, with type bits.
    pub mode: u16,
    /// File type, from `mode`.
    pub file_type: FileType,
    /// Size in bytes.
    pub size: u64,
    /// What the data fields say.
    pub payload: InodePayload,
    /// Serial number for 32-bit `stat`.
    pub serial: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification (and access and change) time.
    pub mtime: Timestamp,
    /// Number of links.
    pub nlink: u32,
    /// A directory without a `.` entry.
    pub dot_omitted: bool,
}

/// Why an inode cannot be used. The kernel refuses each of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InodeError {
    /// The image ends inside the inode.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Unknown bits in `i_format`.
    #[error("i_format {0:#06x} has unknown bits")]
    Format(u16),
    /// Unknown data layout.
    #[error("data layout {0} is unknown")]
    Layout(u16),
    /// Type bits of the mode that no file has.
    #[error("mode {0:#o} has no valid file type")]
    Mode(u16),
    /// Negative as a signed 64-bit number.
    #[error("size {0} is larger than 2^63-1")]
    Size(u64),
}

impl Inode {
    /// Size of the inode itself in bytes.
    pub const fn core_size(&self) -> u64 {
        if self.extended {
            EXTENDED_INODE_SIZE
        } else {
            COMPACT_INODE_SIZE
        }
    }

    /// Decodes the inode at the start of `bytes` (at least 32 bytes; 64 when extended) as `erofs_read_inode`
    /// (fs/erofs/inode.c) does.
    ///
    /// # Errors
    /// [`InodeError`] for what the kernel refuses.
    pub fn decode(bytes: &[u8], superblock: &Superblock) -> Result<Self, InodeError> {
        let compact: RawCompactInode = record::read(bytes, "inode")?;
        let format = compact.format.get();
        if format & !FORMAT_KNOWN != 0 {
            return Err(InodeError::Format(format));
        }
        let layout_value = format >> FORMAT_LAYOUT_SHIFT & FORMAT_LAYOUT_MASK;
        let layout =
            DataLayout::from_value(layout_value).ok_or(InodeError::Layout(layout_value))?;
        let mode = compact.mode.get();
        let file_type = FileType::from_mode(mode).ok_or(InodeError::Mode(mode))?;
        let bit4 = format & FORMAT_BIT4 != 0;
        let is_directory = file_type == FileType::Directory;
        let extended = format & FORMAT_EXTENDED != 0;
        if extended {
            let raw: RawExtendedInode = record::read(bytes, "extended inode")?;
            let size = raw.size.get();
            if i64::try_from(size).is_err() {
                return Err(InodeError::Size(size));
            }
            return Ok(Self {
                extended,
                layout,
                xattr_icount: raw.xattr_icount.get(),
                mode,
                file_type,
                size,
                payload: payload(
                    layout,
                    file_type,
                    raw.u.get(),
                    Some(raw.nb.get()),
                    superblock,
                ),
                serial: raw.ino.get(),
                uid: raw.uid.get(),
                gid: raw.gid.get(),
                mtime: Timestamp {
                    seconds: raw.mtime.get(),
                    nanoseconds: raw.mtime_nsec.get(),
                },
                nlink: raw.nlink.get(),
                dot_omitted: bit4 && is_directory,
            });
        }
        let single_link = bit4 && !is_directory;
        let high = single_link.then_some(compact.nb.get());
        Ok(Self {
            extended,
            layout,
            xattr_icount: compact.xattr_icount.get(),
            mode,
            file_type,
            size: compact.size.get().into(),
            payload: payload(layout, file_type, compact.u.get(), high, superblock),
            serial: compact.ino.get(),
            uid: compact.uid.get().into(),
            gid: compact.gid.get().into(),
            mtime: Timestamp {
                seconds: superblock.epoch.saturating_add(compact.mtime.get().into()),
                nanoseconds: superblock.fixed_nanoseconds,
            },
            nlink: if single_link {
                1
            } else {
                compact.nb.get().into()
            },
            dot_omitted: bit4 && is_directory,
        })
    }

    /// Appends the stored form, 32 or 64 bytes by `self.extended`, for an image with this epoch.
    ///
    /// # Errors
    /// [`InodeFieldError`] names the field whose value the chosen version cannot hold; a planner asks
    /// [`Inode::fits_compact`] first.
    pub fn encode(
        &self,
        superblock: &Superblock,
        out: &mut Vec<u8>,
    ) -> Result<(), InodeFieldError> {
        let too_big = |field, value| InodeFieldError { field, value };
        let wide = superblock.incompat.contains(FeatureIncompat::BIT48);
        let (u, high) = match self.payload {
            InodePayload::StartBlock(None) => (NO_BLOCK_32, if wide { u16::MAX } else { 0 }),
            // These addresses say that there is no block.
            InodePayload::StartBlock(Some(BlockAddr(value)))
                if value == NO_BLOCK_48 || !wide && value == NO_BLOCK_32.into() =>
            {
                return Err(too_big("start block", value));
            }
            InodePayload::StartBlock(Some(BlockAddr(value)))
            | InodePayload::CompressedBlocks(value) => split48(value)
                .filter(|(_, high)| wide || *high == 0)
                .ok_or(too_big("start block", value))?,
            InodePayload::ChunkFormat(format) => (format.into(), 0),
            InodePayload::Device(number) => (
                number
                    .encode()
                    .ok_or(too_big("device number", number.major.into()))?,
                0,
            ),
            InodePayload::Nothing => (0, 0),
        };
        let is_directory = self.file_type == FileType::Directory;
        let mut format = self.layout.value() << FORMAT_LAYOUT_SHIFT;
        if self.dot_omitted && is_directory {
            format |= FORMAT_BIT4;
        }
        if self.extended {
            let raw = RawExtendedInode {
                format: U16::new(format | FORMAT_EXTENDED),
                xattr_icount: U16::new(self.xattr_icount),
                mode: U16::new(self.mode),
                nb: U16::new(high),
                size: U64::new(self.size),
                u: U32::new(u),
                ino: U32::new(self.serial),
                uid: U32::new(self.uid),
                gid: U32::new(self.gid),
                mtime: I64::new(self.mtime.seconds),
                mtime_nsec: U32::new(self.mtime.nanoseconds),
                nlink: U32::new(self.nlink),
                reserved: [0; 16],
            };
            out.extend_from_slice(raw.as_bytes());
            return Ok(());
        }
        let single_link = match self.payload {
            InodePayload::StartBlock(None) => false,
            // Without high bits this address says that there is no block.
            InodePayload::StartBlock(Some(BlockAddr(value))) if value == NO_BLOCK_32.into() => true,
            _ => high != 0,
        };
        if single_link {
            if is_directory || self.nlink != 1 {
                return Err(too_big("high address bits", high.into()));
            }
            format |= FORMAT_BIT4;
        }
        let narrow = |field, value: u32| {
            u16::try_from(value)
                .map(U16::new)
                .map_err(|_| too_big(field, value.into()))
        };
        let raw = RawCompactInode {
            format: U16::new(format),
            xattr_icount: U16::new(self.xattr_icount),
            mode: U16::new(self.mode),
            nb: if single_link {
                U16::new(high)
            } else {
                narrow("nlink", self.nlink)?
            },
            size: U32::new(u32::try_from(self.size).map_err(|_| too_big("size", self.size))?),
            mtime: U32::new(
                compact_mtime(self.mtime, superblock)
                    .ok_or(too_big("mtime", self.mtime.seconds.unsigned_abs()))?,
            ),
            u: U32::new(u),
            ino: U32::new(self.serial),
            uid: narrow("uid", self.uid)?,
            gid: narrow("gid", self.gid)?,
            reserved: U32::new(0),
        };
        out.extend_from_slice(raw.as_bytes());
        Ok(())
    }

    /// Whether size, owner, links and time can be stored in a compact inode of an image with this epoch (format
    /// reference §4.3). High address bits are not looked at.
    pub fn fits_compact(
        size: u64,
        uid: u32,
        gid: u32,
        nlink: u32,
        mtime: Timestamp,
        superblock: &Superblock,
    ) -> bool {
        u32::try_from(size).is_ok()
            && [uid, gid, nlink]
                .into_iter()
                .all(|value| u16::try_from(value).is_ok())
            && compact_mtime(mtime, superblock).is_some()
    }

    /// Inode number that the kernel shows for `nid` in this image.
    pub fn ino(nid: Nid, superblock: &Superblock) -> u64 {
        nid.to_ino(superblock.incompat.contains(FeatureIncompat::METABOX))
    }
}

/// A value that does not fit its inode field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("inode field {field} cannot hold {value}")]
pub struct InodeFieldError {
    /// Which field.
    pub field: &'static str,
    /// The value.
    pub value: u64,
}

/// Seconds after the epoch as a compact inode stores them. Kernels before 6.15 ignore the field, so without 48BIT it
/// must be zero.
fn compact_mtime(mtime: Timestamp, superblock: &Superblock) -> Option<u32> {
    if mtime.nanoseconds != superblock.fixed_nanoseconds {
        return None;
    }
    let delta = u32::try_from(mtime.seconds.checked_sub(superblock.epoch)?).ok()?;
    (delta == 0 || superblock.incompat.contains(FeatureIncompat::BIT48)).then_some(delta)
}

fn split48(value: u64) -> Option<(u32, u16)> {
    let low = u32::try_from(value & 0xFFFF_FFFF).ok()?;
    Some((low, u16::try_from(value >> 32).ok()?))
}

fn payload(
    layout: DataLayout,
    file_type: FileType,
    u: u32,
    high: Option<u16>,
    superblock: &Superblock,
) -> InodePayload {
    match file_type {
        FileType::CharDevice | FileType::BlockDevice => {
            InodePayload::Device(DeviceNumber::decode(u))
        }
        FileType::Fifo | FileType::Socket => InodePayload::Nothing,
        FileType::Regular | FileType::Directory | FileType::Symlink => {
            // The high bits count only in 48-bit images; mkfs.erofs without 48BIT leaves them 0 even for "no block".
            let high_bits = if superblock.incompat.contains(FeatureIncompat::BIT48) {
                high
            } else {
                None
            };
            let value = u64::from(u) | u64::from(high_bits.unwrap_or(0)) << 32;
            match layout {
                DataLayout::ChunkBased => {
                    let [low, high, ..] = u.to_le_bytes();
                    InodePayload::ChunkFormat(u16::from_le_bytes([low, high]))
                }
                DataLayout::CompressedFull | DataLayout::CompressedCompact => {
                    InodePayload::CompressedBlocks(value)
                }
                DataLayout::FlatPlain | DataLayout::FlatInline => {
                    let none = if high_bits.is_some() {
                        NO_BLOCK_48
                    } else {
                        NO_BLOCK_32.into()
                    };
                    InodePayload::StartBlock((value != none).then_some(BlockAddr(value)))
                }
            }
        }
    }
}
