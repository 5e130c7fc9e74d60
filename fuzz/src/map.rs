//! Maps of files in every form.
//!
//! Input: parameters of [`crate::synthetic::Parameters`], then the bytes behind the inode: map header and index, or chunk
//! table.
//!
//! Invariants: extents are not empty, each holds the byte that was asked for, their ends ascend; no pcluster is larger than
//! 1 MiB, no decoded extent than 12 MiB, algorithms are those of the superblock; asking again gives the same answer; the
//! last extent ends where the file does.

use crate::synthetic::{Content, FILE, Parameters};
use erofs_format::compression::{MAX_EXTENT_SIZE, MAX_PCLUSTER_SIZE};
use erofs_format::inode::DataLayout;
use erofs_reader::{Image, Inode, Place};

/// Most extents of one file that are looked at.
const MAX_EXTENTS: usize = 300;

/// Runs target `map_extents`: the map header says that encoded extents follow.
pub fn extents(input: &[u8]) {
    let mut input = input.to_vec();
    if let Some(advise) = input.get_mut(Parameters::SIZE + 4) {
        *advise |= 1;
        run(DataLayout::CompressedFull, &input);
    }
}

/// Runs one of the other map targets.
pub fn run(layout: DataLayout, input: &[u8]) {
    let Some((parameters, data)) = Parameters::split(input) else {
        return;
    };
    let Some(image) = parameters.open(Content::Map(layout, data)) else {
        return;
    };
    let Ok(inode) = image.inode(FILE) else {
        return;
    };
    check(&image, &inode);
    for position in [
        parameters.size / 2,
        parameters.size.saturating_sub(1),
        parameters.size,
    ] {
        match image.extent_at(&inode, position) {
            Ok(Some(extent)) => assert!((extent.logical..extent.end()).contains(&position)),
            Ok(None) => assert!(position >= inode.data_size()),
            Err(_) => {}
        }
    }
}

/// Goes over the map of a file.
pub fn check(image: &Image, inode: &Inode) {
    let mut position = 0;
    let mut extents = image.extents(inode);
    for _ in 0..MAX_EXTENTS {
        let extent = match extents.next() {
            Some(Ok(extent)) => extent,
            Some(Err(_)) => {
                assert!(extents.next().is_none(), "goes on behind an error");
                return;
            }
            None => {
                assert_eq!(position, inode.data_size(), "the map ends before the file");
                return;
            }
        };
        assert!(extent.length > 0);
        assert!(extent.logical <= position && position < extent.end());
        assert!(extent.end() <= inode.data_size());
        if let Place::Encoded {
            length, algorithm, ..
        } = extent.place
        {
            assert!((1..=MAX_PCLUSTER_SIZE).contains(&length));
            assert!(extent.length <= MAX_EXTENT_SIZE);
            assert!(image.superblock().algorithms() & algorithm.bit() != 0);
        }
        let again = image
            .extent_at(inode, position)
            .expect("it was mapped before");
        assert_eq!(again, Some(extent));
        position = extent.end();
    }
}
