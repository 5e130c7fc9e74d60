//! Compressed files.

use crate::support;
use crate::support::{Builder, META, open, text};
use crate::{BITS, changed, error_of, rule};
use erofs_codec::DecodeError;
use erofs_format::compression::Algorithm;
use erofs_format::compression::map_header::MapHeaderError;
use erofs_format::inode::DataLayout;
use erofs_reader::{Rule, Symlinks};

/// An image with one compressed file of three pieces, and where its map header and its first pcluster are.
fn compressed(layout: DataLayout, inline: bool) -> (Vec<u8>, usize, usize) {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(1024);
    let (first, second, third) = (text(40_000), text(5000), text(9000));
    let mut pieces = vec![
        (first.as_slice(), true),
        (second.as_slice(), true),
        (third.as_slice(), true),
    ];
    if inline {
        pieces.truncate(2);
    }
    let file = builder.compressed(layout, &pieces, inline);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    (
        builder.finish(),
        META + file.0 as usize * 32 + 64,
        support::DATA,
    )
}

#[track_caller]
fn compressed_rule(
    layout: DataLayout,
    inline: bool,
    at: impl Fn(usize, usize) -> usize,
    bytes: &[u8],
) -> Rule {
    let (image, header, data) = compressed(layout, inline);
    rule::<()>(Err(error_of(
        &changed(&image, at(header, data), bytes),
        "file",
    )))
}

#[test]
fn map_headers() {
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let of = |offset, bytes: &[u8]| {
            compressed_rule(layout, false, |header, _| header + offset, bytes)
        };
        assert_eq!(
            of(6, &[4]),
            Rule::MapHeader(MapHeaderError::Algorithm { head: 1, value: 4 })
        );
        // HEAD1 as DEFLATE, which the superblock does not list.
        assert_eq!(of(6, &[2]), Rule::AlgorithmNotListed(Algorithm::Deflate));
        // A fragment without a packed inode.
        assert_eq!(of(4, &[0x26]), Rule::NoPackedInode);
        assert_eq!(of(7, &[0x80]), Rule::NoPackedInode);
    }
    let compact = |offset, bytes: &[u8]| {
        compressed_rule(
            DataLayout::CompressedCompact,
            false,
            |header, _| header + offset,
            bytes,
        )
    };
    assert_eq!(
        compact(4, &[0x03]),
        Rule::MapHeader(MapHeaderError::BigPclusterBits(3))
    );
    assert_eq!(
        compact(7, &[3]),
        Rule::MapHeader(MapHeaderError::LclusterSize(15))
    );
    // No algorithm at all.
    let (image, ..) = compressed(DataLayout::CompressedFull, false);
    let image = changed(&image, 1024 + 84, &[0, 0]);
    assert_eq!(rule::<()>(Err(error_of(&image, "file"))), Rule::NoAlgorithm);
    // LZ4 by the index, Zstd by the data.
    let (mut image, header, _) = compressed(DataLayout::CompressedFull, false);
    image[1024 + 128..1024 + 144]
        .copy_from_slice(&[14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    image[header + 6] = 0;
    image = changed(&image, 1024 + 84, &[1]);
    assert!(matches!(
        rule::<()>(Err(error_of(&image, "file"))),
        Rule::Decode(_)
    ));
}

#[test]
fn full_index() {
    let record = |number: usize| move |header: usize, _: usize| header + 16 + 8 * number;
    let of = |number, bytes: &[u8]| {
        compressed_rule(DataLayout::CompressedFull, false, record(number), bytes)
    };
    // The first record no head, or a head that begins later.
    assert_eq!(
        of(0, &[2, 0, 0, 0, 1, 0, 1, 0]),
        Rule::LookBack { distance: 1 }
    );
    assert_eq!(of(0, &[1, 0, 1, 0]), Rule::LookBack { distance: 1 });
    assert_eq!(of(0, &[1, 0, 0, 16]), Rule::ClusterOffset { offset: 4096 });
    // A pcluster of 2047 blocks, and a missing size.
    assert_eq!(
        of(1, &[2, 0, 0, 0, 0xFF, 0x0F]),
        Rule::PclusterSize {
            length: 2047 * 4096
        }
    );
    assert_eq!(of(1, &[2, 0, 0, 0, 1, 0]), Rule::NoPclusterSize);
    let (image, header, _) = compressed(DataLayout::CompressedFull, false);
    let image = changed(&image, header + 4, &[0]);
    assert!(matches!(
        rule::<()>(Err(error_of(&image, "file"))),
        Rule::UnexpectedPclusterSize { blocks: 1.. }
    ));
    // A distance of 0 leads nowhere; only a read in the middle follows it.
    let (image, header, _) = compressed(DataLayout::CompressedFull, false);
    let image = open(&changed(&image, header + 16 + 8 * 4 + 4, &[0, 0])).unwrap();
    let file = image.resolve(b"file", Symlinks::Keep).unwrap();
    assert_eq!(
        rule(image.read(&file, 4 * 4096, &mut [0; 10])),
        Rule::LookBack { distance: 0 }
    );
    // A block behind the end.
    assert!(matches!(
        of(0, &[1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]),
        Rule::BeyondDevice { .. }
    ));
    // The second extent begins before the first one ends: an empty extent.
    assert!(matches!(
        of(0, &[0]),
        Rule::PlainTooLong { length: 40_000, .. }
    ));
}

#[test]
fn encoded_data() {
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let (image, _, data) = compressed(layout, false);
        let first = (data..).find(|at| image[*at] != 0).unwrap();
        let of = |at: usize, bytes: &[u8]| {
            rule::<()>(Err(error_of(&changed(&image, at, bytes), "file")))
        };
        assert!(matches!(
            of(first, &[1]),
            Rule::Decode(DecodeError::Header { .. })
        ));
        assert_eq!(of(data, &[0; 4096]), Rule::OnlyPadding);
        assert!(matches!(
            of(first + 9, &[0xFF; 40]),
            Rule::Decode(
                DecodeError::Corrupt { .. }
                    | DecodeError::Header { .. }
                    | DecodeError::Truncated { .. }
                    | DecodeError::Short { .. }
            )
        ));
    }
}

#[test]
fn inlined_tails() {
    for layout in [DataLayout::CompressedFull, DataLayout::CompressedCompact] {
        let of = |bytes: &[u8]| compressed_rule(layout, true, |header, _| header + 2, bytes);
        assert_eq!(of(&[0x00, 0x10]), Rule::InlineCrossesBlock { length: 4096 });
        assert!(matches!(of(&[1, 0]), Rule::Decode(_)));
    }
}
