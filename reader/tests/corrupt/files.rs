//! Inodes, flat and chunk-based files, symbolic links.

use crate::support::{Builder, open, sample};
use crate::{BITS, changed, error_of, rule, rule_of};
use erofs_format::chunk::ChunkFormatError;
use erofs_format::inode::InodeError;
use erofs_reader::{Image, Rule, Symlinks};

#[test]
fn inodes() {
    let sample = sample(BITS);
    let of = |offset, bytes: &[u8]| rule_of(&sample, "plain", offset, bytes);
    assert_eq!(of(0, &[0x21, 0]), Rule::Inode(InodeError::Format(0x21)));
    assert_eq!(of(0, &[0x0B, 0]), Rule::Inode(InodeError::Layout(5)));
    assert_eq!(of(4, &[0, 0]), Rule::Inode(InodeError::Mode(0)));
    assert_eq!(
        of(15, &[0x80]),
        Rule::Inode(InodeError::Size((1 << 63) + 3 * 4096 + 17))
    );
    let chunk = rule_of(&sample, "map", 16, &[0x80, 0]);
    assert_eq!(chunk, Rule::ChunkFormat(ChunkFormatError(0x80)));
}

#[test]
fn flat_files() {
    let sample = sample(BITS);
    // All of 2^63-1 bytes cannot be there, and nothing is allocated for them.
    let image = changed(
        &sample.image,
        sample.inode_at("plain") + 8,
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    );
    let opened = open(&image).unwrap();
    let plain = opened.resolve(b"plain", Symlinks::Keep).unwrap();
    assert_eq!(plain.size, i64::MAX as u64);
    assert!(matches!(
        rule(opened.read(&plain, 1 << 40, &mut [0; 10])),
        Rule::BeyondDevice { .. }
    ));
    assert_eq!(
        rule_of(&sample, "inline", 16, &[0xFF; 4]),
        Rule::NoStartBlock {
            size: 2 * 4096 + 333
        }
    );
    assert_eq!(
        rule_of(&sample, "plain", 16, &[0xFF; 4]),
        Rule::NoStartBlock {
            size: 3 * 4096 + 17
        }
    );
    // An aligned size makes a whole block of tail.
    assert_eq!(
        rule_of(&sample, "tail", 8, &[0, 16]),
        Rule::InlineCrossesBlock { length: 4096 }
    );
    assert!(matches!(
        rule_of(&sample, "plain", 16, &[0xFE; 4]),
        Rule::BeyondDevice { .. }
    ));
}

#[test]
fn chunks() {
    let sample = sample(BITS);
    // Core, 12 + 12 bytes of attributes, aligned to 8: a table at 88.
    assert!(matches!(
        rule_of(&sample, "indexes", 88 + 4, &[0xFE; 4]),
        Rule::BeyondDevice { .. }
    ));
    let mut builder = Builder::new(BITS);
    builder.slots = vec![
        erofs_format::device::DeviceSlot {
            tag: [0; 64],
            blocks: 1,
            unified_start: erofs_format::BlockAddr(0),
        };
        2
    ];
    let root = builder.reserve(512);
    let format = erofs_format::chunk::ChunkFormat {
        block_shift: 0,
        indexes: true,
        wide: false,
    };
    let chunk = erofs_format::chunk::Chunk::Data {
        device: erofs_format::DeviceId(3),
        block: erofs_format::BlockAddr(1),
    };
    let file = builder.chunked(format, 10, &[chunk]);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let error = error_of(&builder.finish(), "file");
    assert_eq!(
        rule::<()>(Err(error)),
        Rule::NoSuchDevice {
            device: erofs_format::DeviceId(3),
            slots: 2
        }
    );
}

#[test]
fn symlinks() {
    let sample = sample(BITS);
    assert_eq!(
        rule_of(&sample, "link", 8, &[0]),
        Rule::SymlinkSize { size: 0 }
    );
    assert_eq!(
        rule_of(&sample, "link", 8, &[0, 16]),
        Rule::SymlinkSize { size: 4096 }
    );
    assert_eq!(
        rule_of(&sample, "link", 64 + 4, &[0]),
        Rule::SymlinkNul { at: 4 }
    );
}

/// Reading needs no memory of the size that an inode claims.
#[test]
fn a_file_of_2_to_the_63_bytes_is_walked_over_quickly() {
    let sample = sample(BITS);
    for name in [
        "plain", "map", "indexes", "full", "compact", "hole", "inline",
    ] {
        let image = changed(
            &sample.image,
            sample.inode_at(name) + 8,
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        );
        let image: Image = open(&image).unwrap();
        let inode = image.resolve(name.as_bytes(), Symlinks::Keep).unwrap();
        assert!(
            image.extents(&inode).take(1_000_000).count() < 1_000_000,
            "{name}"
        );
        let _ = image.read(&inode, i64::MAX as u64 - 5, &mut [0; 100]);
    }
}
