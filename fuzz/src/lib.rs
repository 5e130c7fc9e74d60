//! What the fuzz targets do with their input, one module per family of targets.
//!
//! | module | targets | input |
//! |---|---|---|
//! | [`superblock_walk`] | the same | an image, see [`image`] |
//! | [`image_read`] | the same | an image |
//! | [`check`] | the same | an image |
//! | [`dump`] | the same | an image |
//! | [`extract`] | the same | an image |
//! | [`map`] | `map_full`, `map_compact`, `map_extents`, `chunk_map` | parameters, then what follows an inode |
//! | [`directory`] | the same | parameters, then a directory's data |
//! | [`xattr`] | the same | parameters, then xattr body, shared area and prefixes |
//! | [`decode`] | `decode_lz4`, `decode_lzma`, `decode_deflate`, `decode_zstd` | output length, then an encoded unit |
//! | [`format_records`] | the same | a selector, then any record |
//! | [`tar`] | the same | a selector, then a tar |
//!
//! What every target takes for granted: no panic (overflow checks and debug assertions are on), the limits of [`limit`].
//! What it asserts beyond that is in its module's documentation.
#![forbid(unsafe_code)]

pub mod check;
pub mod decode;
pub mod directory;
pub mod dump;
pub mod extract;
pub mod format_records;
pub mod image;
pub mod image_read;
pub mod limit;
pub mod map;
pub mod mutate;
pub mod superblock_walk;
pub mod synthetic;
pub mod tar;
pub mod xattr;
