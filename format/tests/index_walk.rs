//! Random legal lists of extents, emitted in both forms of the index and walked by a decoder of its own, which follows
//! the prose of the format reference (§12, §13) and shares nothing with the crate but the types.

use erofs_format::compression::lcluster::Lcluster;
use erofs_format::compression::map_header::Advise;
use erofs_format::compression::{Extent, LclusterType, compact_index, full_index};
use erofs_format::{BlockAddr, BlockBits, ByteOffset};
use proptest::prelude::*;

const CBLKCNT: u64 = 0x800;

/// One record, as an index tells it.
#[derive(Debug, Clone, Copy)]
struct Record {
    kind: u64,
    offset: u64,
    block: u64,
    partial: bool,
    back: u64,
    ahead: u64,
    blocks: Option<u64>,
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(bytes[at]) | u64::from(bytes[at + 1]) << 8
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

fn full_records(bytes: &[u8]) -> Vec<Record> {
    bytes
        .chunks_exact(8)
        .map(|record| {
            let back = u16_at(record, 4);
            let sized = u16_at(record, 0) & 3 == 2 && back & CBLKCNT != 0;
            Record {
                kind: u16_at(record, 0) & 3,
                offset: u16_at(record, 2),
                block: u32_at(record, 4),
                partial: u16_at(record, 0) >> 15 == 1,
                back: if sized { 1 } else { back },
                ahead: u16_at(record, 6),
                blocks: sized.then_some(back & !CBLKCNT),
            }
        })
        .collect()
}

/// Splits the index into packs and decodes each by counting forwards.
fn compact_records(
    bytes: &[u8],
    total: usize,
    position: usize,
    two_byte: bool,
    bits: u8,
    big: bool,
) -> Vec<Record> {
    let mut initial = ((32 - position % 32) / 4) % 8;
    let mut middle = 0;
    if two_byte && initial < total {
        middle = (total - initial) / 16 * 16;
    } else {
        initial = 0;
    }
    let mut records = Vec::new();
    let mut at = 0;
    while records.len() < total {
        let done = records.len();
        let (count, width, size) = if done >= initial && done < initial + middle {
            assert_eq!((position + at) % 32, 0, "2B packs are aligned");
            (16, 14, 32)
        } else {
            (2, 16, 8)
        };
        pack(&bytes[at..at + size], count, width, bits, big, &mut records);
        at += size;
    }
    assert_eq!(at, bytes.len());
    records.truncate(total);
    records
}

fn pack(bytes: &[u8], count: usize, width: usize, bits: u8, big: bool, out: &mut Vec<Record>) {
    let value_bits = usize::from(bits.max(12));
    let bit = |index: usize| u64::from(bytes[index / 8] >> (index % 8) & 1);
    let field = |from: usize, length: usize| {
        (0..length).fold(0, |value, index| value | bit(from + index) << index)
    };
    let value = |index: usize| field(index * width, value_bits);
    let kind = |index: usize| field(index * width + value_bits, 2);
    let sized = |index: usize| kind(index) == 2 && value(index) & CBLKCNT != 0;
    let base = u32_at(bytes, bytes.len() - 4);
    for index in 0..count {
        let block = if big {
            base + (0..index)
                .map(|before| match kind(before) {
                    2 if sized(before) => value(before) & !CBLKCNT,
                    2 => 0,
                    _ => u64::from(!sized(before + 1)),
                })
                .sum::<u64>()
        } else {
            base + (0..=index).filter(|before| kind(*before) != 2).count() as u64
        };
        let back = if sized(index) {
            1
        } else if index + 1 < count {
            value(index)
        } else if kind(index - 1) != 2 {
            1
        } else if sized(index - 1) {
            2
        } else {
            value(index - 1) + 1
        };
        let next = (index..count).find(|at| kind(*at) != 2);
        let ahead = match next {
            Some(next) => (next - index) as u64,
            None if sized(count - 1) => (count - index) as u64,
            None => (count - 1 - index) as u64 + value(count - 1),
        };
        out.push(Record {
            kind: kind(index),
            offset: value(index),
            block,
            partial: false,
            back,
            ahead,
            blocks: sized(index).then(|| value(index) & !CBLKCNT),
        });
    }
}

/// The extent that holds byte `at`: its first byte, and its record's number.
fn find(records: &[Record], at: u64, bits: u8) -> (u64, usize) {
    let mut lcluster = (at >> bits) as usize;
    let mut record = records[lcluster];
    if record.kind != 2 && at % (1 << bits) < record.offset {
        lcluster -= 1;
        record = records[lcluster];
    }
    while record.kind == 2 {
        assert_ne!(record.back, 0, "the look-back moves");
        lcluster -= record.back as usize;
        record = records[lcluster];
    }
    (((lcluster as u64) << bits) + record.offset, lcluster)
}

/// End of the extent whose HEAD is record `head`, by the distances ahead.
fn end(records: &[Record], head: usize, size: u64, bits: u8) -> u64 {
    let mut lcluster = head + 1;
    while let Some(record) = records.get(lcluster) {
        if record.kind != 2 {
            return ((lcluster as u64) << bits) + record.offset;
        }
        assert_ne!(record.ahead, 0, "the look-ahead moves");
        lcluster += record.ahead as usize;
    }
    size
}

/// Every extent is found from its first and last byte and from the borders of lclusters, whole and with its blocks.
fn assert_walks(records: &[Record], extents: &[Extent], bits: u8, big: Advise) {
    let size = extents.iter().map(|extent| extent.length).sum();
    let mut start = 0;
    for extent in extents {
        let last = start + extent.length - 1;
        let borders = ((start >> bits) + 1..=last >> bits)
            .flat_map(|lcluster| [(lcluster << bits) - 1, lcluster << bits]);
        for at in [start, last].into_iter().chain(borders) {
            let (found, head) = find(records, at, bits);
            assert_eq!(found, start, "byte {at}");
            if at != start && at != last {
                continue;
            }
            let record = records[head];
            assert_eq!(record.kind, u64::from(extent.kind.value()));
            assert_eq!(end(records, head, size, bits), start + extent.length);
            assert_eq!(record.partial, extent.partial);
            if extent.blocks > 0 {
                assert_eq!(record.block, extent.start.0, "block of byte {at}");
                let has_size = big.contains(Advise::big_pcluster(extent.kind));
                let recorded = records.get(head + 1).and_then(|next| next.blocks);
                let blocks = if has_size { recorded } else { None };
                assert_eq!(blocks.unwrap_or(1), u64::from(extent.blocks));
            }
        }
        start += extent.length;
    }
}

#[derive(Debug, Clone)]
struct Choice {
    kind: LclusterType,
    blocks: u32,
    extra: u64,
    partial: bool,
    start: u32,
}

fn choice() -> impl Strategy<Value = Choice> {
    let kind = prop_oneof![
        1 => Just(LclusterType::Plain),
        4 => Just(LclusterType::Head1),
        1 => Just(LclusterType::Head2)
    ];
    let extra = prop_oneof![
        4 => 0..40_000u64,
        4 => 0..400_000u64,
        1 => 0..(8u64 << 20)
    ];
    (
        kind,
        prop_oneof![3 => Just(1u32), 2 => 2..=16u32],
        extra,
        any::<bool>(),
        1..u32::MAX - 16,
    )
        .prop_map(|(kind, blocks, extra, partial, start)| Choice {
            kind,
            blocks,
            extra,
            partial,
            start,
        })
}

/// Turns choices into a list that obeys the rules.
fn legal(choices: &[Choice], bits: u8, big: Advise, scattered: bool, tail: bool) -> Vec<Extent> {
    let block = 1u64 << bits;
    let mut offset = 0;
    let mut next = u64::from(choices[0].start / 2) + 1;
    let mut extents = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let last = index + 1 == choices.len();
        let sized = big.contains(Advise::big_pcluster(choice.kind));
        let blocks = if sized {
            choice.blocks.min(1 << (20 - bits))
        } else {
            1
        };
        let encoded = u64::from(blocks) * block;
        let least = if last && blocks == 1 {
            1
        } else {
            (if blocks > 1 { 2 } else { 1 }) * block - offset
        };
        let length = if choice.kind == LclusterType::Plain || last && choice.extra % 3 == 0 {
            least + choice.extra % (encoded - least + 1)
        } else {
            encoded + choice.extra
        };
        let inline = tail && last;
        extents.push(Extent {
            length,
            kind: choice.kind,
            blocks: if inline { 0 } else { blocks },
            start: BlockAddr(match (inline, scattered) {
                (true, _) => 0,
                (false, true) => choice.start.into(),
                (false, false) => next,
            }),
            partial: scattered && choice.partial,
        });
        next += u64::from(blocks);
        offset = (offset + length) % block;
    }
    extents
}

fn big_pclusters() -> impl Strategy<Value = Advise> {
    prop_oneof![Just(Advise::empty()), Just(Advise::BIG_PCLUSTERS)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn full_index_walks_to_the_same_extents(
        choices in prop::collection::vec(choice(), 1..40),
        bits in 9..=16u8,
        big in prop_oneof![big_pclusters(), Just(Advise::BIG_PCLUSTER_1)],
        scattered: bool,
        tail: bool,
    ) {
        let extents = legal(&choices, bits, big, scattered, tail);
        let size = extents.iter().map(|extent| extent.length).sum();
        let block_bits = BlockBits::new(bits).unwrap();
        let bytes = full_index::encode_index(&extents, size, block_bits, big).unwrap();
        prop_assert_eq!(bytes.len() as u64, block_bits.blocks_for(size) * 8);
        let records = full_records(&bytes);
        assert_walks(&records, &extents, bits, big);
        for (record, stored) in records.iter().zip(bytes.chunks_exact(8)) {
            assert_same(record, full_index::decode(stored).unwrap());
        }
    }

    #[test]
    fn compact_index_walks_to_the_same_extents(
        choices in prop::collection::vec(choice(), 1..40),
        bits in 9..=14u8,
        big in big_pclusters(),
        two_byte: bool,
        slot in 0..8u64,
        tail: bool,
    ) {
        let two_byte = two_byte && bits <= 12;
        let position = slot * 8;
        let extents = legal(&choices, bits, big, false, tail);
        let size = extents.iter().map(|extent| extent.length).sum();
        let block_bits = BlockBits::new(bits).unwrap();
        let mut advise = big;
        advise.set(Advise::COMPACTED_2B, two_byte);
        let first = ByteOffset(position);
        let bytes = compact_index::encode_index(&extents, size, block_bits, advise, first).unwrap();
        let total = block_bits.blocks_for(size);
        let records = compact_records(
            &bytes, total as usize, position as usize, two_byte, bits, !big.is_empty(),
        );
        assert_walks(&records, &extents, bits, big);

        let layout = compact_index::Layout::new(first, total, two_byte);
        prop_assert_eq!(layout.size(), bytes.len() as u64);
        for (lcluster, record) in (0..).zip(&records) {
            let at = layout.position(lcluster).unwrap();
            let pack = &bytes[at.offset as usize..];
            assert_same(record, layout.record(at, pack, bits, !big.is_empty()).unwrap());
        }
    }
}

/// The crate's decoder says the same as this file's.
fn assert_same(record: &Record, decoded: Lcluster) {
    match decoded {
        Lcluster::Head(head) => {
            assert_eq!(record.kind, u64::from(head.kind.value()));
            assert_eq!(record.offset, u64::from(head.offset));
            assert_eq!(record.block, head.block.0);
            assert_eq!(record.partial, head.partial);
            assert!(!head.hole);
        }
        Lcluster::NonHead(behind) => {
            assert_eq!(record.kind, 2);
            assert_eq!(record.back, u64::from(behind.back));
            assert_eq!(record.ahead, u64::from(behind.ahead));
            assert_eq!(record.blocks, behind.blocks.map(u64::from));
        }
    }
}
