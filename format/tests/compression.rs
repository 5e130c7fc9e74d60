//! Records of compressed files: the reference's vectors and worked examples byte for byte, and each error.

use erofs_format::compression::compact_index::{self, CompactIndexError, Layout, PackKind};
use erofs_format::compression::encoded_extent::{ExtentRecord, Piece, PieceError, RecordSize};
use erofs_format::compression::full_index;
use erofs_format::compression::lcluster::{Head, LayoutRule, Lcluster, NonHead};
use erofs_format::compression::map_header::{
    self, Advise, ExtentRecords, ExtentsHeader, IndexHeader, MapHeader, MapHeaderError,
};
use erofs_format::compression::{Algorithm, Extent, LclusterType};
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::DataLayout;
use erofs_format::superblock::{RawSuperblock, Superblock};
use erofs_format::{BlockAddr, BlockBits, ByteOffset};
use zerocopy::IntoBytes;

const A: u32 = 0x0102_0304;
const NO_ADVISE: Advise = Advise::empty();

fn superblock(incompat: FeatureIncompat) -> Superblock {
    let raw = RawSuperblock {
        magic: 0xE0F5_E1E2.into(),
        blkszbits: 12,
        feature_incompat: incompat.bits().into(),
        ..RawSuperblock::default()
    };
    Superblock::decode(raw.as_bytes()).expect("a valid superblock")
}

fn lz4(length: u64, blocks: u32, start: u32) -> Extent {
    Extent {
        length,
        kind: LclusterType::Head1,
        blocks,
        start: BlockAddr(start.into()),
        partial: false,
    }
}

fn plain(length: u64, blocks: u32, start: u32) -> Extent {
    Extent {
        kind: LclusterType::Plain,
        ..lz4(length, blocks, start)
    }
}

fn size(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.length).sum()
}

fn full(extents: &[Extent], advise: Advise) -> Vec<u8> {
    full_index::encode_index(extents, size(extents), BlockBits::B4096, advise)
        .expect("a legal list")
}

fn halves(halves: [u16; 4]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn head(kind: u16, offset: u16, block: u32) -> Vec<u8> {
    let [a, b, c, d] = block.to_le_bytes();
    let (low, high) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    halves([kind, offset, low, high])
}

fn index_header(advise: Advise) -> IndexHeader {
    IndexHeader {
        advise,
        head1: Algorithm::Lz4,
        head2: Algorithm::Lz4,
        lcluster_bits: 12,
        inline_size: 0,
        fragment_offset: 0,
    }
}

#[test]
fn full_index_of_one_extent() {
    let expected = [
        head(1, 0, A),
        halves([2, 0, 1, 3]),
        halves([2, 0, 2, 2]),
        halves([2, 0, 3, 1]),
    ];
    assert_eq!(full(&[lz4(16384, 1, A)], NO_ADVISE), expected.concat());
    let header = MapHeader::Index(index_header(NO_ADVISE));
    assert_eq!(header.encode(BlockBits::B4096), Ok([0; 8]));
    let inode_end = map_header::position(ByteOffset(32)).unwrap();
    assert_eq!(full_index::position(inode_end, 0), Some(ByteOffset(48)));
}

#[test]
fn full_index_marks_an_unaligned_end() {
    let expected = [head(1, 0, A), halves([2, 0, 0x801, 1]), head(0, 100, 0)];
    assert_eq!(
        full(&[lz4(8292, 1, A)], Advise::BIG_PCLUSTER_1),
        expected.concat()
    );
}

#[test]
fn full_index_with_an_inline_tail() {
    let expected = [head(1, 0, A), halves([2, 0, 1, 1]), head(1, 0, 0)];
    let extents = [lz4(8192, 1, A), lz4(600, 0, 0)];
    assert_eq!(full(&extents, NO_ADVISE), expected.concat());
    let header = IndexHeader {
        inline_size: 321,
        ..index_header(Advise::INLINE_PCLUSTER)
    };
    assert_eq!(
        MapHeader::Index(header).encode(BlockBits::B4096),
        Ok([0, 0, 0x41, 1, 8, 0, 0, 0])
    );
}

#[test]
fn full_index_with_a_fragment_tail() {
    let expected = [head(1, 0, A), halves([2, 0, 1, 1]), head(1, 0, 7)];
    let extents = [lz4(8192, 1, A), lz4(500, 0, 7)];
    assert_eq!(full(&extents, NO_ADVISE), expected.concat());
    let header = IndexHeader {
        fragment_offset: 4000,
        ..index_header(Advise::FRAGMENT_PCLUSTER)
    };
    assert_eq!(
        MapHeader::Index(header).encode(BlockBits::B4096),
        Ok([0xA0, 0x0F, 0, 0, 0x20, 0, 0, 0])
    );
}

#[test]
fn compact_index_with_four_byte_packs() {
    let extents = [lz4(10000, 1, A), lz4(4000, 1, A + 1)];
    let position = compact_index::position(ByteOffset(32)).unwrap();
    let bytes = compact_index::encode_index(&extents, 14000, BlockBits::B4096, NO_ADVISE, position)
        .unwrap();
    let mut expected = vec![0x00, 0x10, 0x01, 0x20];
    expected.extend_from_slice(&(A - 1).to_le_bytes());
    expected.extend_from_slice(&[0x10, 0x17, 0xB0, 0x06]);
    expected.extend_from_slice(&A.to_le_bytes());
    assert_eq!(bytes, expected);
}

#[test]
fn compact_split_follows_the_reference_vector() {
    let layout = Layout::new(ByteOffset(40), 119, true);
    let kinds: Vec<_> = (0..120)
        .map(|lcluster| {
            layout
                .position(lcluster)
                .map(|at| (at.offset, at.kind, at.record))
        })
        .collect();
    assert_eq!(kinds[0], Some((0, PackKind::FourByte, 0)));
    assert_eq!(kinds[5], Some((16, PackKind::FourByte, 1)));
    assert_eq!(kinds[6], Some((24, PackKind::TwoByte, 0)));
    assert_eq!(kinds[22], Some((56, PackKind::TwoByte, 0)));
    assert_eq!(kinds[117], Some((216, PackKind::TwoByte, 15)));
    assert_eq!(kinds[118], Some((248, PackKind::FourByte, 0)));
    assert_eq!(kinds[119], None);
    assert_eq!(layout.size(), 256);
    assert_eq!(Layout::new(ByteOffset(40), 119, false).size(), 480);
    assert_eq!(
        Layout::new(ByteOffset(40), u64::MAX, true).position(u64::MAX),
        None
    );
}

#[test]
fn compact_records_are_refused_when_corrupt() {
    let layout = Layout::new(ByteOffset(0), 2, false);
    let at = layout.position(1).unwrap();
    let record = |bytes: &[u8], bits, big| layout.record(at, bytes, bits, big);
    assert!(matches!(
        record(&[0; 7], 12, false),
        Err(CompactIndexError::Truncated(_))
    ));
    assert_eq!(
        record(&[0; 8], 15, false),
        Err(CompactIndexError::LclusterSize(15))
    );
    let sized = [0x00, 0x10, 0x03, 0x28, 9, 0, 0, 0];
    assert_eq!(
        record(&sized, 12, false),
        Err(CompactIndexError::UnexpectedSize(1))
    );
    assert_eq!(
        record(&sized, 12, true),
        Ok(Lcluster::NonHead(NonHead {
            back: 1,
            ahead: 1,
            blocks: Some(3)
        }))
    );
    let unsized_first = [0x01, 0x20, 0x00, 0x10, 9, 0, 0, 0];
    assert_eq!(
        record(&unsized_first, 12, true),
        Err(CompactIndexError::MissingSize(0, 1))
    );
}

#[test]
fn full_records_round_trip() {
    for lcluster in [
        Lcluster::Head(Head {
            kind: LclusterType::Head2,
            offset: 65535,
            block: BlockAddr(u32::MAX.into()),
            partial: true,
            hole: false,
        }),
        Lcluster::Head(Head {
            kind: LclusterType::Plain,
            offset: 0,
            block: BlockAddr(0),
            partial: false,
            hole: true,
        }),
        Lcluster::NonHead(NonHead {
            back: 2047,
            ahead: 65535,
            blocks: None,
        }),
        Lcluster::NonHead(NonHead {
            back: 1,
            ahead: 1,
            blocks: Some(2047),
        }),
    ] {
        let bytes = full_index::encode(lcluster).unwrap();
        assert_eq!(full_index::decode(&bytes), Ok(lcluster));
        assert!(full_index::decode(&bytes[1..]).is_err());
    }
    let too_far = NonHead {
        back: 2048,
        ahead: 1,
        blocks: None,
    };
    assert_eq!(full_index::encode(Lcluster::NonHead(too_far)), None);
}

#[test]
fn illegal_lists_are_refused_by_name() {
    let big = Advise::BIG_PCLUSTERS;
    let partial = Extent {
        partial: true,
        ..lz4(9000, 1, 5)
    };
    let non_head = Extent {
        kind: LclusterType::NonHead,
        ..lz4(9000, 1, 5)
    };
    let max = lz4(12 << 20, 1, 5);
    let full_cases: Vec<(Vec<Extent>, Advise, usize, LayoutRule)> = vec![
        (
            vec![lz4(4096, 1, 5), lz4(0, 1, 6)],
            big,
            1,
            LayoutRule::Empty,
        ),
        (vec![non_head], big, 0, LayoutRule::Kind),
        (
            vec![plain(4095, 1, 5), lz4(4096, 1, 6)],
            big,
            0,
            LayoutRule::LclusterEnd,
        ),
        (vec![lz4(5000, 0, 0), max], big, 0, LayoutRule::NoBlocks),
        (
            vec![lz4((12 << 20) + 1, 1, 5)],
            big,
            0,
            LayoutRule::ExtentSize((12 << 20) + 1),
        ),
        (
            vec![lz4(2 << 20, 257, 5)],
            big,
            0,
            LayoutRule::PclusterSize(257),
        ),
        (
            vec![lz4(9000, 2, 5)],
            Advise::BIG_PCLUSTER_2,
            0,
            LayoutRule::BigPclusterOff(2),
        ),
        (
            vec![plain(8192, 2, 5)],
            Advise::BIG_PCLUSTER_1,
            0,
            LayoutRule::BigPclusterOff(2),
        ),
        (vec![lz4(8191, 2, 5)], big, 0, LayoutRule::SizeRecord(2)),
        (
            vec![plain(4097, 1, 5)],
            big,
            0,
            LayoutRule::PlainSize {
                length: 4097,
                blocks: 1,
            },
        ),
        (
            vec![lz4(8193, 3, 5), lz4(9000, 1, 8)],
            big,
            0,
            LayoutRule::Expanded {
                length: 8193,
                blocks: 3,
            },
        ),
        (
            vec![lz4(9000, 1, 0)],
            big,
            0,
            LayoutRule::Address(BlockAddr(0)),
        ),
        (
            vec![lz4(9000, 2, u32::MAX)],
            big,
            0,
            LayoutRule::Address(BlockAddr(u32::MAX.into())),
        ),
    ];
    let block = BlockBits::B4096;
    for (extents, advise, extent, rule) in full_cases {
        let total = size(&extents);
        let error = full_index::encode_index(&extents, total, block, advise).unwrap_err();
        assert_eq!((error.extent, error.rule), (extent, rule));
    }
    let error = full_index::encode_index(&[max], 5, block, big).unwrap_err();
    let end = 12 << 20;
    assert_eq!(error.rule, LayoutRule::FileSize { end, size: 5 });
    let sectors = [lz4(2 << 20, 2048, 5)];
    let error = full_index::encode_index(&sectors, 2 << 20, BlockBits::B512, big).unwrap_err();
    assert_eq!(error.rule, LayoutRule::SizeField(2048));

    let compact = |extents: &[Extent], bits: u8, advise| {
        let block_bits = BlockBits::new(bits).expect("a block size");
        compact_index::encode_index(extents, size(extents), block_bits, advise, ByteOffset(8))
            .map_err(|error| (error.extent, error.rule))
    };
    assert_eq!(
        compact(&[max, partial], 12, big),
        Err((1, LayoutRule::Partial))
    );
    assert_eq!(
        compact(&[lz4(9000, 2, 5), lz4(9000, 1, 6)], 12, big),
        Err((
            1,
            LayoutRule::NotConsecutive {
                expected: BlockAddr(7),
                found: BlockAddr(6)
            }
        ))
    );
    assert_eq!(
        compact(&[max], 12, Advise::BIG_PCLUSTER_1),
        Err((0, LayoutRule::BigPclusterBits))
    );
    assert_eq!(
        compact(&[max], 13, Advise::COMPACTED_2B),
        Err((0, LayoutRule::LclusterSize(13)))
    );
    assert_eq!(
        compact(&[max], 15, big),
        Err((0, LayoutRule::LclusterSize(15)))
    );
}

#[test]
fn map_headers_round_trip() {
    let everything = superblock(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER);
    let fragment = MapHeader::Fragment {
        offset: (1 << 63) - 1,
    };
    let extents = |records| {
        MapHeader::Extents(ExtentsHeader {
            records,
            interlaced: true,
            fragment: false,
        })
    };
    let index = MapHeader::Index(IndexHeader {
        head1: Algorithm::Zstd,
        head2: Algorithm::Lzma,
        lcluster_bits: 12,
        inline_size: 4096,
        ..index_header(
            Advise::BIG_PCLUSTERS | Advise::INLINE_PCLUSTER | Advise::INTERLACED_PCLUSTER,
        )
    });
    for header in [
        fragment,
        index,
        extents(ExtentRecords::Sequential { extent_bits: 27 }),
        extents(ExtentRecords::Scattered { extent_bits: 12 }),
        extents(ExtentRecords::Listed {
            count: (1 << 47) - 1,
        }),
        extents(ExtentRecords::ListedWide { count: 3 }),
    ] {
        let bytes = header.encode(BlockBits::B4096).unwrap();
        let decoded = MapHeader::decode(&bytes, DataLayout::CompressedFull, &everything);
        assert_eq!(decoded, Ok(header));
    }
    for (header, field) in [
        (MapHeader::Fragment { offset: 1 << 63 }, "fragment offset"),
        (
            extents(ExtentRecords::Listed { count: 1 << 47 }),
            "h_extents",
        ),
        (
            extents(ExtentRecords::Sequential { extent_bits: 28 }),
            "h_clusterbits",
        ),
        (
            extents(ExtentRecords::Scattered { extent_bits: 11 }),
            "h_clusterbits",
        ),
        (
            MapHeader::Index(IndexHeader {
                inline_size: 1,
                ..index_header(NO_ADVISE)
            }),
            "h_idata_size",
        ),
        (
            MapHeader::Index(IndexHeader {
                fragment_offset: 1,
                ..index_header(NO_ADVISE)
            }),
            "h_fragmentoff",
        ),
    ] {
        assert_eq!(header.encode(BlockBits::B4096).unwrap_err().field, field);
    }
}

#[test]
fn map_headers_are_refused_when_corrupt() {
    let decode = |bytes: &[u8], layout, features| {
        MapHeader::decode(bytes, layout, &superblock(features)).expect_err("a corrupt header")
    };
    let compact = DataLayout::CompressedCompact;
    let all = FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER;
    assert_eq!(
        decode(&[0; 8], DataLayout::FlatInline, all),
        MapHeaderError::Layout(DataLayout::FlatInline)
    );
    assert!(matches!(
        decode(&[0; 7], compact, all),
        MapHeaderError::Truncated(_)
    ));
    for (byte, head, value) in [(4, 1, 4), (0xF3, 2, 15)] {
        assert_eq!(
            decode(&[0, 0, 0, 0, 0, 0, byte, 0], compact, all),
            MapHeaderError::Algorithm { head, value }
        );
    }
    assert_eq!(
        decode(&[0, 0, 0, 0, 6, 0, 0, 0], compact, FeatureIncompat::empty()),
        MapHeaderError::BigPclusterFeature
    );
    for bits in [2, 4] {
        assert_eq!(
            decode(&[0, 0, 0, 0, bits, 0, 0, 0], compact, all),
            MapHeaderError::BigPclusterBits(bits.into())
        );
    }
    for (advise, bits) in [(0, 3), (1, 1)] {
        assert_eq!(
            decode(&[0, 0, 0, 0, advise, 0, 0, bits], compact, all),
            MapHeaderError::LclusterSize(12 + bits)
        );
    }
}

#[test]
fn encoded_extents_follow_the_worked_example() {
    let header = MapHeader::Extents(ExtentsHeader {
        records: ExtentRecords::Listed { count: 4 },
        interlaced: false,
        fragment: false,
    });
    assert_eq!(
        header.encode(BlockBits::B4096),
        Ok([4, 0, 0, 0, 5, 0, 0, 0])
    );
    let table = RecordSize::B16.table(ByteOffset(32)).unwrap();
    assert_eq!(RecordSize::B16.position(table, 1), Some(ByteOffset(64)));
    let deflate = Piece::Stored {
        length: 777,
        algorithm: Some(Algorithm::Deflate),
        partial: false,
    };
    let record = ExtentRecord {
        plen: deflate.encode().unwrap(),
        address: ByteOffset(0x5_0000_0003),
        start: 18500,
    };
    let mut bytes = Vec::new();
    record.encode(RecordSize::B16, &mut bytes).unwrap();
    let expected = [777 | 3 << 28, 3, 5, 18500u32];
    assert_eq!(bytes, expected.map(u32::to_le_bytes).concat());
    assert_eq!(ExtentRecord::decode(&bytes, RecordSize::B16), Ok(record));
    assert_eq!(record.piece(), Ok(deflate));
    assert_eq!(Piece::decode(0), Ok(Piece::Hole));

    let sequential = MapHeader::Extents(ExtentsHeader {
        records: ExtentRecords::Sequential { extent_bits: 13 },
        interlaced: false,
        fragment: false,
    });
    assert_eq!(
        sequential.encode(BlockBits::B4096),
        Ok([0, 0, 0, 0, 1, 0, 0, 1])
    );
    let table = RecordSize::B4.table(ByteOffset(32)).unwrap();
    assert_eq!(table, ByteOffset(40));
    assert_eq!(RecordSize::B4.position(table, 0), Some(ByteOffset(48)));
}

#[test]
fn encoded_extents_know_their_limits() {
    let record = |address, start| ExtentRecord {
        plen: 1,
        address: ByteOffset(address),
        start,
    };
    let wide = 1 << 32;
    for (size, record, fits) in [
        (RecordSize::B4, record(0, 0), true),
        (RecordSize::B4, record(1, 0), false),
        (RecordSize::B8, record(wide - 1, 0), true),
        (RecordSize::B8, record(wide, 0), false),
        (RecordSize::B8, record(0, 1), false),
        (RecordSize::B16, record(u64::MAX, wide - 1), true),
        (RecordSize::B16, record(0, wide), false),
        (RecordSize::B32, record(u64::MAX, u64::MAX), true),
    ] {
        let mut bytes = Vec::new();
        assert_eq!(record.encode(size, &mut bytes).is_some(), fits);
        if fits {
            assert_eq!(bytes.len() as u64, size.bytes());
            assert_eq!(ExtentRecord::decode(&bytes, size), Ok(record));
            assert!(ExtentRecord::decode(&bytes[1..], size).is_err());
        } else {
            assert!(bytes.is_empty());
        }
    }
    assert_eq!(Piece::decode(1 << 20 | 5 << 28), Err(PieceError::Format(5)));
    let too_long = (1 << 20) + 1;
    assert_eq!(Piece::decode(too_long), Err(PieceError::Length(too_long)));
    assert_eq!(record(7, 0).fragment_offset(), 7 << 32 | 1);
    for length in [0, too_long] {
        let piece = Piece::Stored {
            length,
            algorithm: None,
            partial: true,
        };
        assert_eq!(piece.encode(), None);
    }
}
