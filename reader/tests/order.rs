//! What scans ask for: files in the order of their data, and where whole files lie as they are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use erofs_format::BlockBits;
use erofs_reader::{DataRange, DiskPosition, Image, Place, Symlinks};
use std::collections::BTreeSet;
use support::{open, sample};

const BITS: BlockBits = BlockBits::B4096;

#[test]
fn files_come_once_and_by_place() {
    let image: Image = open(&sample(BITS).image).unwrap();
    let files: Vec<_> = image
        .files_in_disk_order(|error| panic!("{error}"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let positions: Vec<_> = files
        .iter()
        .map(|inode| DiskPosition::of(&image, inode))
        .collect();
    assert!(positions.is_sorted());
    assert!(matches!(positions.first(), Some(DiskPosition::Metadata(_))));
    assert!(matches!(positions.last(), Some(DiskPosition::Device(..))));

    let walked: BTreeSet<_> = image
        .walk()
        .unwrap()
        .map(|entry| entry.unwrap().inode)
        .filter(|inode| inode.file_type == erofs_format::inode::FileType::Regular)
        .map(|inode| inode.nid())
        .collect();
    assert_eq!(files.len(), walked.len(), "hard links are told once");
    assert_eq!(
        files
            .iter()
            .map(|inode| inode.nid())
            .collect::<BTreeSet<_>>(),
        walked
    );
}

#[test]
fn a_data_range_holds_the_whole_file_as_it_is() {
    let sample = sample(BITS);
    let image = open(&sample.image).unwrap();
    let mut found = BTreeSet::new();
    for (name, content) in &sample.files {
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        let Some(DataRange {
            device,
            offset,
            length,
        }) = image.data_range(&inode).unwrap()
        else {
            let places: Vec<_> = image
                .extents(&inode)
                .map(|extent| extent.unwrap().place)
                .collect();
            let as_it_is =
                |place: &Place| matches!(place, Place::Data { .. } | Place::Inline { .. });
            assert!(
                places.len() != 1 || !places.iter().all(as_it_is),
                "{name}: {places:?}"
            );
            continue;
        };
        let start = usize::try_from(offset.0).unwrap();
        assert_eq!((device.0, length), (0, content.len() as u64), "{name}");
        assert!(
            sample.image[start..][..content.len()] == content[..],
            "{name}"
        );
        found.insert(*name);
    }
    assert_eq!(found, BTreeSet::from(["block", "one", "plain", "tail"]));
}
