//! Writes tars: POSIX.1-2001 interchange format, the same bytes for the same members.
//!
//! | module | question that it answers |
//! |---|---|
//! | `archive` | what follows what? |
//! | `member` | what is a member, and what may it not be? |
//! | `header` | which of it fits the 512 bytes that every tar program reads? |
//! | `pax` | how is the rest said? |
//! | `acl` | how do other programs say ACLs? |
//! | `sparse` | how are holes left out? |
//!
//! Members that fit it have a ustar header and nothing else. Everything beyond goes into PAX records in front of it: long
//! paths and targets, large numbers, times before 1970 or with nanoseconds, extended attributes as
//! `SCHILY.xattr.NAME` with their bytes as they are (ACLs as text, too), holes as GNU tar's sparse format 1.0, sockets as
//! `SCHILY.filetype`. No owner names, no access times, nothing of the machine that writes.

mod acl;
mod archive;
mod header;
mod member;
mod pax;
mod sparse;

pub use archive::{Archive, ArchiveError, Encoded};
pub use member::{Kind, Member, MemberError};
pub use sparse::MAX_RANGES;

/// Everything in a tar is a multiple of this many bytes.
pub const BLOCK_SIZE: usize = 512;

/// Bytes that are missing until a multiple of [`BLOCK_SIZE`].
const fn padding(length: u64) -> usize {
    // Below the block size.
    (length.wrapping_neg() % BLOCK_SIZE as u64) as usize
}
