//! Inodes: round trips in both sizes, and what fits the small one.

use erofs_format::BlockAddr;
use erofs_format::device::DeviceNumber;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{DataLayout, FileType, Inode, InodeError, InodePayload, Timestamp};
use erofs_format::superblock::{RawSuperblock, Superblock};
use zerocopy::IntoBytes;

const EPOCH: i64 = 1_000_000;

fn superblock(incompat: FeatureIncompat) -> Superblock {
    let raw = RawSuperblock {
        magic: 0xE0F5_E1E2.into(),
        blkszbits: 12,
        epoch: EPOCH.into(),
        fixed_nsec: 77.into(),
        feature_incompat: incompat.bits().into(),
        ..RawSuperblock::default()
    };
    Superblock::decode(raw.as_bytes()).expect("a valid superblock")
}

fn narrow() -> Superblock {
    superblock(FeatureIncompat::empty())
}

fn wide() -> Superblock {
    superblock(FeatureIncompat::BIT48)
}

const BASE_TIME: Timestamp = Timestamp {
    seconds: EPOCH,
    nanoseconds: 77,
};

fn file(payload: InodePayload) -> Inode {
    Inode {
        extended: false,
        layout: DataLayout::FlatPlain,
        xattr_icount: 3,
        mode: 0o100_644,
        file_type: FileType::Regular,
        size: 123_456,
        payload,
        serial: 9,
        uid: 1000,
        gid: 65535,
        mtime: BASE_TIME,
        nlink: 1,
        dot_omitted: false,
    }
}

fn round_trip(inode: &Inode, superblock: &Superblock) {
    let mut stored = Vec::new();
    inode.encode(superblock, &mut stored).expect("it fits");
    assert_eq!(stored.len() as u64, inode.core_size());
    assert_eq!(Inode::decode(&stored, superblock).as_ref(), Ok(inode));
    let short = &stored[..stored.len() - 1];
    assert!(matches!(
        Inode::decode(short, superblock),
        Err(InodeError::Truncated(_))
    ));
}

#[test]
fn compact_and_extended_round_trip() {
    let start = InodePayload::StartBlock;
    for superblock in [narrow(), wide()] {
        for payload in [start(None), start(Some(BlockAddr(0xFFFF_FFFE)))] {
            let compact = file(payload);
            round_trip(&compact, &superblock);
            round_trip(
                &Inode {
                    extended: true,
                    size: i64::MAX as u64,
                    uid: u32::MAX,
                    gid: 65536,
                    nlink: u32::MAX,
                    mtime: Timestamp {
                        seconds: i64::MIN,
                        nanoseconds: 999_999_999,
                    },
                    ..compact
                },
                &superblock,
            );
        }
        for (file_type, layout, payload) in [
            (
                FileType::Regular,
                DataLayout::CompressedCompact,
                InodePayload::CompressedBlocks(12),
            ),
            (
                FileType::Regular,
                DataLayout::ChunkBased,
                InodePayload::ChunkFormat(0x25),
            ),
            (
                FileType::CharDevice,
                DataLayout::FlatPlain,
                InodePayload::Device(DeviceNumber {
                    major: 300,
                    minor: 70000,
                }),
            ),
            (FileType::Fifo, DataLayout::FlatPlain, InodePayload::Nothing),
            (
                FileType::Socket,
                DataLayout::FlatPlain,
                InodePayload::Nothing,
            ),
            (
                FileType::Symlink,
                DataLayout::FlatInline,
                start(Some(BlockAddr(5))),
            ),
        ] {
            for extended in [false, true] {
                let inode = Inode {
                    extended,
                    file_type,
                    layout,
                    mode: file_type.mode_bits() | 0o7777,
                    ..file(payload)
                };
                round_trip(&inode, &superblock);
            }
        }
    }
}

#[test]
fn high_addresses_need_48_bits_and_a_single_link() {
    let high = file(InodePayload::StartBlock(Some(BlockAddr(0x1234_0000_0007))));
    round_trip(&high, &wide());
    round_trip(
        &Inode {
            extended: true,
            nlink: 4,
            ..high
        },
        &wide(),
    );
    let mut stored = Vec::new();
    high.encode(&wide(), &mut stored).unwrap();
    assert_eq!((stored[0], &stored[6..8]), (0x10, &[0x34, 0x12][..]));
    for (inode, superblock) in [
        (high, narrow()),
        (
            Inode {
                extended: true,
                ..high
            },
            narrow(),
        ),
        (Inode { nlink: 2, ..high }, wide()),
        (
            Inode {
                mode: 0o040_755,
                file_type: FileType::Directory,
                ..high
            },
            wide(),
        ),
    ] {
        assert!(inode.encode(&superblock, &mut Vec::new()).is_err());
    }
}

#[test]
fn directories_may_omit_dot() {
    for extended in [false, true] {
        let directory = Inode {
            extended,
            layout: DataLayout::FlatInline,
            mode: 0o040_755,
            file_type: FileType::Directory,
            nlink: 70,
            dot_omitted: true,
            ..file(InodePayload::StartBlock(None))
        };
        round_trip(&directory, &wide());
    }
}

#[test]
fn fits_compact_exactly_at_the_limits() {
    let time = |seconds, nanoseconds| Timestamp {
        seconds,
        nanoseconds,
    };
    let late = time(EPOCH + i64::from(u32::MAX), 77);
    for (size, uid, gid, nlink, mtime, in_narrow, in_wide) in [
        (
            u64::from(u32::MAX),
            65535,
            65535,
            65535,
            BASE_TIME,
            true,
            true,
        ),
        (1 << 32, 0, 0, 1, BASE_TIME, false, false),
        (0, 65536, 0, 1, BASE_TIME, false, false),
        (0, 0, 65536, 1, BASE_TIME, false, false),
        (0, 0, 0, 65536, BASE_TIME, false, false),
        (0, 0, 0, 1, time(EPOCH, 78), false, false),
        (0, 0, 0, 1, time(EPOCH + 1, 77), false, true),
        (0, 0, 0, 1, time(EPOCH - 1, 77), false, false),
        (0, 0, 0, 1, late, false, true),
        (0, 0, 0, 1, time(late.seconds + 1, 77), false, false),
        (0, 0, 0, 1, time(i64::MIN, 77), false, false),
    ] {
        for (superblock, fits) in [(narrow(), in_narrow), (wide(), in_wide)] {
            assert_eq!(
                Inode::fits_compact(size, uid, gid, nlink, mtime, &superblock),
                fits,
                "{size} {uid} {gid} {nlink} {mtime:?}"
            );
            let inode = Inode {
                size,
                uid,
                gid,
                nlink,
                mtime,
                ..file(InodePayload::StartBlock(None))
            };
            assert_eq!(inode.encode(&superblock, &mut Vec::new()).is_ok(), fits);
            if fits {
                round_trip(&inode, &superblock);
            }
        }
    }
}

#[test]
fn each_corruption_is_named() {
    let decode = |at: usize, bytes: &[u8]| {
        let inode = Inode {
            extended: true,
            ..file(InodePayload::StartBlock(None))
        };
        let mut stored = Vec::new();
        inode.encode(&narrow(), &mut stored).expect("it fits");
        stored[at..at + bytes.len()].copy_from_slice(bytes);
        Inode::decode(&stored, &narrow())
    };
    assert_eq!(decode(0, &[0x21]), Err(InodeError::Format(0x21)));
    assert_eq!(decode(0, &[0x0B]), Err(InodeError::Layout(5)));
    assert_eq!(decode(4, &[0, 0]), Err(InodeError::Mode(0)));
    assert_eq!(decode(4, &[0, 0xF0]), Err(InodeError::Mode(0o170_000)));
    assert!(matches!(decode(15, &[0x80]), Err(InodeError::Size(_))));
}

#[test]
fn addresses_that_mean_no_block_are_told_apart() {
    let at = |block| file(InodePayload::StartBlock(Some(BlockAddr(block))));
    let last_of_32_bits = at(u32::MAX.into());
    round_trip(&last_of_32_bits, &wide());
    let extended = |inode| Inode {
        extended: true,
        ..inode
    };
    round_trip(&extended(last_of_32_bits), &wide());
    for (inode, superblock) in [
        (last_of_32_bits, narrow()),
        (extended(last_of_32_bits), narrow()),
        (at((1 << 48) - 1), wide()),
        (extended(at((1 << 48) - 1)), wide()),
        (
            Inode {
                nlink: 2,
                ..last_of_32_bits
            },
            wide(),
        ),
    ] {
        assert!(inode.encode(&superblock, &mut Vec::new()).is_err());
    }
}
