//! Maps of files in every form.
//!
//! Input: parameters of [`crate::synthetic::Parameters`], then the bytes behind the inode: map header and index, or chunk
//! table.
//!
//! Invariants: extents are not empty, each holds the byte that was asked for, their ends ascend; no pcluster is larger than
//! 1 MiB, no decoded extent than 12 MiB, algorithms are those of the superblock; asking again gives the same answer; the
//! last extent ends where the file does.

use crate::synthetic::{Content, FILE, Parameters};
use erofs_format::ByteOffset;
use erofs_format::compression::{MAX_EXTENT_SIZE, MAX_PCLUSTER_SIZE};
use erofs_format::inode::DataLayout;
use erofs_reader::{Extent, Image, Inode, Place};

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

/// Whether every byte in `start..end` is mapped to the same place from wherever its extent is found. The two distances in an
/// lcluster index may contradict each other; then what is read depends on where reading begins.
pub fn is_consistent(image: &Image, inode: &Inode, start: u64, end: u64) -> bool {
    let step = image.superblock().block_bits.bytes();
    let mut position = start;
    while position < end {
        let Ok(Some(extent)) = image.extent_at(inode, position) else {
            return false;
        };
        let last = extent.end().min(end) - 1;
        let next_block = (position / step + 1) * step;
        let probes = (next_block..last).step_by(step as usize).take(MAX_EXTENTS);
        for probe in probes.chain([last]) {
            match image.extent_at(inode, probe) {
                Ok(Some(other)) if place(&other, probe) == place(&extent, probe) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        position = last + 1;
    }
    true
}

/// Where a byte of an extent is: a pcluster and the offset in what it decodes to, or an address.
fn place(extent: &Extent, position: u64) -> (Place, u64) {
    let skip = position - extent.logical;
    match extent.place {
        Place::Hole => (Place::Hole, 0),
        Place::Data { device, offset } => {
            let offset = ByteOffset(offset.0 + skip);
            (Place::Data { device, offset }, 0)
        }
        Place::Inline { area, offset } => {
            let offset = ByteOffset(offset.0 + skip);
            (Place::Inline { area, offset }, 0)
        }
        Place::Packed { offset } => (
            Place::Packed {
                offset: offset.wrapping_add(skip),
            },
            0,
        ),
        encoded @ Place::Encoded { .. } => (encoded, skip),
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
