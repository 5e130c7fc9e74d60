//! EROFS records as stored on disk, typed addresses, named feature bits and the superblock checksum.
//!
//! This crate has no I/O and no threads. Every on-disk record is a zero-copy little-endian struct; interpretation is
//! kept apart in decoded types whose invariants have been checked. One file per structure:
//!
//! | file | structure |
//! |---|---|
//! | [`address`] | block addresses, byte offsets, NIDs, device ids, block sizes |
//! | [`superblock`] | the 128-byte superblock, its extension and its checksum |
//! | [`feature`] | compatible and incompatible feature bits |
//! | [`kernel`] | kernel versions, and since when Linux reads what |
//! | [`inode`] | compact (32-byte) and extended (64-byte) inodes |
//! | [`directory`] | directory blocks and entries |
//! | [`xattr`] | extended attribute bodies, shared entries, long prefixes, name filter |
//! | [`chunk`] | block maps and indexes of chunk-based files |
//! | [`device`] | slots of the extra-device table, device numbers of inodes |
//! | [`compression`] | map headers, lcluster indexes, encoded extents, algorithm configurations |
//!
//! Rules come from the kernel driver (`fs/erofs` of Linux 5.10 to 7.3).
#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod address;
pub mod checksum;
pub mod chunk;
pub mod compression;
pub mod device;
pub mod directory;
pub mod feature;
pub mod inode;
pub mod kernel;
pub mod record;
pub mod superblock;
pub mod xattr;

pub use address::{BlockAddr, BlockBits, ByteOffset, DeviceId, Nid};
