//! Opens an image and walks over all names, without looking at data of files.
//!
//! Invariants: the walk ends; paths are what their depth says; every directory is entered once; a listing can be taken up
//! at any entry; names of a sorted directory are found by lookup ([`crate::directory::check`]).

use crate::{directory, image};
use erofs_reader::Symlinks;
use std::collections::HashSet;

/// Most files that are looked at: directories may share their blocks, so a small image may list many.
const MAX_FILES: usize = 1000;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some(image) = image::open(input) else {
        return;
    };
    for slot in image.device_slots() {
        let _ = slot.tag_bytes();
    }
    let mut entered = HashSet::new();
    for entry in image
        .walk()
        .expect("the root was read")
        .take(MAX_FILES)
        .flatten()
    {
        let components = entry.path.split(|byte| *byte == b'/').count();
        assert_eq!(components - usize::from(entry.path.is_empty()), entry.depth);
        if entry.inode.is_directory() {
            assert!(
                entered.insert(entry.inode.nid()),
                "{} entered twice",
                entry.inode.nid()
            );
            directory::check(&image, &entry.inode);
        }
        let again = image.inode(entry.inode.nid()).expect("it was read before");
        assert_eq!(again, entry.inode);
        let _ = image.resolve(&entry.path, Symlinks::Follow);
    }
}
