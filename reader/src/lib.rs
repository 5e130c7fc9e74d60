//! Opens, walks and reads EROFS images.
//!
//! ```text
//! ByteSource(s) → superblock, devices → inode → map (extents) → decode and cache → caller's buffer
//! ```
//!
//! | module | question that it answers |
//! |---|---|
//! | [`source`] | where do bytes come from? |
//! | [`image`] | what is in the superblock, which devices are there? |
//! | [`inode`] | what is at this NID? |
//! | [`map`] | which bytes of a file lie where? |
//! | [`read`] | what are the bytes at this offset of a file? |
//! | [`directory`], [`path`], [`walk`] | which names lead to which inodes? |
//! | [`names`] | how is a tree listed quickly? |
//! | [`xattr`] | which attributes does an inode have? |
//! | [`dump`] | what is stored, as it is stored? |
//! | [`mod@check`] | which rules does an image break? |
//! | [`disk_order`] | in which order is everything read best? |
//! | [`mod@extract`] | how does a tree get out of the image? |
//!
//! Images are opened if the kernel would mount them, and everything in them is taken for hostile: sizes and offsets are
//! checked before memory is allocated, nothing recurses, every walk ends.
//!
//! ```no_run
//! use erofs_reader::{FileSource, Image, ImageOptions, Symlinks};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = FileSource::open("image.erofs".as_ref())?;
//! let image = Image::open(source, ImageOptions::default())?;
//! let file = image.resolve(b"/etc/os-release", Symlinks::Follow)?;
//! let mut text = vec![0; 4096];
//! let length = image.read(&file, 0, &mut text)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod cache;
pub mod check;
mod decode;
mod device;
pub mod directory;
pub mod disk_order;
pub mod dump;
pub mod error;
pub mod extract;
pub mod image;
pub mod inode;
pub mod map;
pub mod metadata;
pub mod names;
pub mod path;
pub mod processors;
pub mod read;
pub mod source;
pub mod walk;
pub mod xattr;

pub use directory::{DirectoryEntries, DirectoryEntry};
pub use disk_order::{DiskPosition, FilesInDiskOrder};
pub use error::{Error, Feature, OpenError, Rule};
pub use image::{Image, ImageOptions};
pub use inode::Inode;
pub use map::{DataRange, Extent, Extents, Place, Stored};
pub use names::{Name, Names};
pub use path::Symlinks;
pub use source::{ByteSource, FileSource, OffsetSource};
pub use walk::{Walk, WalkEntry};
pub use xattr::Xattr;
