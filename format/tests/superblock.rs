//! Superblocks: golden bytes, one corruption for each error, checksums.

use erofs_format::address::BlockBitsError;
use erofs_format::checksum::crc32c;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::superblock::{
    Superblock, SuperblockError, checksum_length, image_checksum, verify_checksum,
};
use erofs_format::{BlockAddr, BlockBits, ByteOffset, Nid};

fn minimal() -> Superblock {
    Superblock {
        checksum: 0x1122_3344,
        compat: FeatureCompat::SB_CHKSUM | FeatureCompat::MTIME,
        incompat: FeatureIncompat::empty(),
        block_bits: BlockBits::B4096,
        extension_slots: 0,
        root: Nid(36),
        inodes: 1,
        epoch: -2,
        fixed_nanoseconds: 5,
        build_time: 0,
        blocks: 1,
        meta_block: BlockAddr(0),
        xattr_block: BlockAddr(0),
        uuid: *b"0123456789abcdef",
        label: *b"label\0\0\0\0\0\0\0\0\0\0\0",
        algorithms_or_lz4_window: 0,
        extra_devices: 0,
        device_table: ByteOffset(0),
        xattr_prefix_count: 0,
        xattr_prefix_start: ByteOffset(0),
        packed: None,
        metabox: None,
        xattr_filter: false,
        inode_share_prefix: None,
    }
}

/// Everything that a superblock can hold.
fn complete() -> Superblock {
    Superblock {
        compat: FeatureCompat::SB_CHKSUM
            | FeatureCompat::XATTR_FILTER
            | FeatureCompat::ISHARE_XATTRS,
        incompat: FeatureIncompat::KNOWN,
        extension_slots: 1,
        root: Nid(Nid::METABOX | 7),
        blocks: 0x1234_5678_9ABC,
        algorithms_or_lz4_window: 0b1001,
        extra_devices: 3,
        device_table: ByteOffset(1280),
        xattr_prefix_count: 2,
        xattr_prefix_start: ByteOffset(2048),
        packed: Some(Nid(40)),
        metabox: Some(Nid(41)),
        xattr_filter: true,
        inode_share_prefix: Some(1),
        build_time: 9,
        ..minimal()
    }
}

fn corrupted(base: &Superblock, at: usize, bytes: &[u8]) -> Result<Superblock, SuperblockError> {
    let mut stored = base.encode().expect("a valid superblock");
    stored[at..at + bytes.len()].copy_from_slice(bytes);
    Superblock::decode(&stored)
}

#[test]
fn minimal_image_has_golden_bytes() {
    let mut expected = Vec::new();
    expected.extend_from_slice(&[0xE2, 0xE1, 0xF5, 0xE0, 0x44, 0x33, 0x22, 0x11]);
    expected.extend_from_slice(&[3, 0, 0, 0, 12, 0, 36, 0]);
    expected.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    expected.extend_from_slice(&[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(b"0123456789abcdeflabel\0\0\0\0\0\0\0\0\0\0\0");
    expected.resize(128, 0);
    assert_eq!(minimal().encode().unwrap(), expected);
    assert_eq!(Superblock::decode(&expected), Ok(minimal()));
}

#[test]
fn every_field_survives_a_round_trip() {
    let stored = complete().encode().unwrap();
    assert_eq!(stored.len(), 144);
    assert_eq!(Superblock::decode(&stored), Ok(complete()));
    assert_eq!(stored[88..90], [10, 0]);
}

#[test]
fn each_corruption_is_named() {
    let small = minimal();
    let large = complete();
    let stored = small.encode().unwrap();
    for length in [0, 4, 127] {
        let result = Superblock::decode(&stored[..length]);
        assert!(matches!(result, Err(SuperblockError::Truncated(_))));
    }
    let short_extension = Superblock::decode(&large.encode().unwrap()[..143]);
    assert!(matches!(
        short_extension,
        Err(SuperblockError::Truncated(_))
    ));
    assert_eq!(
        corrupted(&small, 0, &[0]),
        Err(SuperblockError::Magic(0xE0F5_E100))
    );
    for bits in [0, 8, 17, 255] {
        assert_eq!(
            corrupted(&small, 12, &[bits]),
            Err(SuperblockError::BlockSize(BlockBitsError(bits.into())))
        );
    }
    assert_eq!(
        corrupted(&small, 90, &[1]),
        Err(SuperblockError::DirectoryBlockBits(1))
    );
    assert_eq!(
        corrupted(&small, 80, &[0, 2, 0, 0x80]),
        Err(SuperblockError::UnknownFeatures(0x8000_0200))
    );
    assert_eq!(
        corrupted(&large, 13, &[0]),
        Err(SuperblockError::NoExtensionSlot)
    );
    for (at, inode) in [(96, "packed"), (128, "metabox")] {
        assert_eq!(
            corrupted(&large, at + 7, &[0x80]).map_err(|error| matches!(
                error,
                SuperblockError::NidInMetabox { inode: found, .. } if found == inode
            )),
            Err(true)
        );
    }
    assert_eq!(
        corrupted(&large, 105, &[2]),
        Err(SuperblockError::InodeSharePrefix { id: 2, count: 2 })
    );
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let fields = [
        Superblock {
            root: Nid(1 << 16),
            ..minimal()
        },
        Superblock {
            blocks: 1 << 32,
            ..minimal()
        },
        Superblock {
            blocks: 1 << 48,
            ..complete()
        },
        Superblock {
            meta_block: BlockAddr(1 << 32),
            ..minimal()
        },
        Superblock {
            device_table: ByteOffset(1281),
            ..complete()
        },
        Superblock {
            device_table: ByteOffset(128 << 16),
            ..complete()
        },
        Superblock {
            xattr_prefix_start: ByteOffset(2),
            ..complete()
        },
    ];
    let refused: Vec<_> = fields
        .iter()
        .map(|superblock| superblock.encode().unwrap_err().field)
        .collect();
    assert_eq!(
        refused,
        [
            "root NID",
            "blocks",
            "blocks",
            "meta_blkaddr",
            "devt_slotoff",
            "devt_slotoff",
            "xattr_prefix_start"
        ]
    );
}

#[test]
fn checksums_cover_the_right_bytes() {
    for (bits, length) in [(9, 512), (10, 1024), (12, 3072), (16, 64512)] {
        let block_bits = BlockBits::new(bits).unwrap();
        assert_eq!(checksum_length(block_bits), length);
        let mut superblock = Superblock {
            block_bits,
            ..minimal()
        };
        let mut covered = superblock.encode().unwrap();
        covered.extend((covered.len()..length).map(|at| (at % 251) as u8));
        // The equivalent form: a seed that stands for the magic and a zero checksum, then the rest.
        let computed = crc32c(0x5045_B54A, &covered[8..]);
        assert_eq!(image_checksum(&covered), computed);
        assert_eq!(
            verify_checksum(&superblock, &covered),
            Err(SuperblockError::Checksum {
                stored: 0x1122_3344,
                computed
            })
        );
        superblock.checksum = computed;
        covered[..128].copy_from_slice(&superblock.encode().unwrap());
        assert_eq!(verify_checksum(&superblock, &covered), Ok(()));
        for at in [8, 127, length - 1] {
            let mut damaged = covered.clone();
            damaged[at] ^= 1;
            assert!(verify_checksum(&superblock, &damaged).is_err(), "{at}");
        }
        superblock.compat = FeatureCompat::empty();
        covered[length - 1] ^= 1;
        assert_eq!(verify_checksum(&superblock, &covered), Ok(()));
    }
}

#[test]
fn algorithms_depend_on_the_features() {
    let with = |incompat, field| {
        Superblock {
            incompat,
            algorithms_or_lz4_window: field,
            ..minimal()
        }
        .algorithms()
    };
    assert_eq!(with(FeatureIncompat::empty(), 0), 0);
    assert_eq!(with(FeatureIncompat::empty(), 32768), 1);
    assert_eq!(with(FeatureIncompat::ZERO_PADDING, 0), 1);
    assert_eq!(
        with(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER, 0b1010),
        0b1010
    );
}
