//! What an image says about itself, as stored: for people who debug images.
//!
//! | module | question that it answers |
//! |---|---|
//! | [`superblock`] | which values has the superblock? |
//! | [`inode`] | what is stored for an inode, and how is its data found? |
//! | [`xattrs`] | which attributes are stored for an inode, and where? |
//! | [`blocks`] | what is in the blocks of a directory? |
//! | [`regions`] | what lies where on the devices? |
//! | [`statistics`] | how much of everything is there? |
//! | [`manifest`] | which tree is in the image, content included? |
//!
//! Nothing here checks more than it must to go on: that is the business of a check.

pub mod blocks;
pub mod inode;
pub mod manifest;
pub mod regions;
pub mod statistics;
pub mod superblock;
pub mod xattrs;
