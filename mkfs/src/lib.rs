//! Builds EROFS images from directories, tars and raw files.
//!
//! ```text
//! source → tree → data pipeline → plan → metadata → superblock → publish
//! ```
//! [`source`] yields entries, [`tree`] holds them, [`data`] reads, compresses and writes the content of files, [`plan`]
//! decides where all metadata goes, [`image`] writes it, [`verify`] reads it back, [`build`] runs the whole, [`index`] leaves
//! the data where it is; [`spelling`] is how users say sizes and compressors.
#![forbid(unsafe_code)]

pub mod build;
pub mod data;
pub mod image;
pub mod index;
pub mod options;
pub mod plan;
pub mod source;
pub mod spelling;
pub mod summary;
pub mod tree;
pub mod verify;
