//! Shows everything that is stored in an image: records, regions, statistics; and its files in the order of their data.
//!
//! Invariants: it ends; regions are not empty, and sorted; the files in disk order are those that a walk finds, each once.

use crate::image;
use erofs_format::inode::FileType;
use erofs_reader::Image;
use std::collections::HashSet;

/// Most files whose records are shown.
const MAX_FILES: usize = 100;
/// Most names of an image whose files are put in order.
const MAX_NAMES: usize = 1000;
const MAX_PATHS: usize = 5;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some(image) = image::open(input) else {
        return;
    };
    let _ = image.superblock_record();
    let _ = image.statistics(&mut |_, _| {});
    if let Ok(regions) = image.all_regions(&mut |_, _| {}) {
        assert!(regions.is_sorted());
        assert!(regions.iter().all(|region| region.length > 0));
    }
    let walk = || image.walk().expect("the root was read");
    for (number, entry) in walk().take(MAX_FILES).flatten().enumerate() {
        let inode = entry.inode;
        let _ = (
            image.raw_inode(&inode),
            image.map_record(&inode),
            image.xattr_record(&inode),
        );
        if let Ok(blocks) = image.directory_blocks(&inode) {
            let _ = blocks.take(MAX_FILES).count();
        }
        if number < MAX_PATHS {
            // It takes the word of directory entries for what is a directory, so it may find nothing.
            let _ = image.path_of(inode.nid());
        }
    }
    if walk().nth(MAX_NAMES).is_none() {
        in_disk_order(&image);
    }
}

fn in_disk_order(image: &Image) {
    let walked: HashSet<_> = image
        .walk()
        .expect("the root was read")
        .flatten()
        .filter(|entry| entry.inode.file_type == FileType::Regular)
        .map(|entry| entry.inode.nid())
        .collect();
    let ordered: Vec<_> = image
        .files_in_disk_order(|_| {})
        .expect("the root was read")
        .map(|inode| inode.expect("it was read before").nid())
        .collect();
    assert_eq!(ordered.len(), walked.len());
    assert!(ordered.iter().all(|nid| walked.contains(nid)));
}
