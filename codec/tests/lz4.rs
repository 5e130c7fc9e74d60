//! The LZ4 encoders: their blocks are read by our decoder, by lz4_flex, and against the rules of the format.

mod corpus;

use corpus::{mixed, noise, text};
use erofs_codec::lz4::{Lz4Decoder, Lz4Encoder, Lz4HcEncoder, MAX_DISTANCE};
use erofs_codec::{BLOCK, Decoder, EncodeError, Encoder, Ending, Fill};
use proptest::collection::vec;
use proptest::prelude::*;

/// 0 = the fast encoder.
fn encoder(level: i32, max_distance: u16) -> Box<dyn Encoder> {
    match level {
        0 => Box::new(Lz4Encoder::new(max_distance).expect("valid distance")),
        _ => Box::new(Lz4HcEncoder::new(level, max_distance).expect("valid parameters")),
    }
}

fn levels() -> impl Iterator<Item = i32> {
    std::iter::once(0).chain(Lz4HcEncoder::LEVELS)
}

/// What a block says of itself, read independently of the crate.
struct Shape {
    decodes_to: usize,
    farthest: usize,
}

/// Reads a block's sequences and checks how it ends.
fn shape(block: &[u8]) -> Shape {
    let (mut at, mut filled, mut farthest) = (0, 0, 0);
    let mut last_match = None;
    let byte = |at: &mut usize| {
        *at += 1;
        usize::from(block[*at - 1])
    };
    loop {
        let token = byte(&mut at);
        let length = |nibble: usize, at: &mut usize| {
            let mut length = nibble;
            let mut more = if nibble == 15 { 255 } else { 0 };
            while more == 255 {
                more = byte(at);
                length += more;
            }
            length
        };
        let literals = length(token >> 4, &mut at);
        at += literals;
        filled += literals;
        if at == block.len() {
            assert_eq!(token & 15, 0, "the last token has no match");
            if let Some(start) = last_match {
                assert!(literals >= 5, "{literals} literals at the end");
                assert!(
                    filled - start >= 12,
                    "match {} from the end",
                    filled - start
                );
            }
            return Shape {
                decodes_to: filled,
                farthest,
            };
        }
        let offset = byte(&mut at) | byte(&mut at) << 8;
        assert!(
            offset >= 1 && offset <= filled,
            "offset {offset} at {filled}"
        );
        farthest = farthest.max(offset);
        last_match = Some(filled);
        filled += 4 + length(token & 15, &mut at);
    }
}

/// Encodes all of `data` and checks each block; returns how much of it is in blocks.
fn check(level: i32, data: &[u8], output: usize, max_distance: u16) -> usize {
    let mut encoder = encoder(level, max_distance);
    let mut in_blocks = 0;
    let mut rest = data;
    while !rest.is_empty() {
        let mut room = vec![0xA5; output];
        let Some(Fill { consumed, encoded }) = encoder.fill(rest, &mut room).expect("encodes")
        else {
            rest = &rest[rest.len().min(output.max(1))..];
            continue;
        };
        let (block, covers) = (&room[..encoded], &rest[..consumed]);
        assert!(encoded.next_multiple_of(BLOCK) < consumed, "saves no block");
        assert_ne!(block[0], 0, "the decoder would take it for padding");
        let shape = shape(block);
        assert_eq!(shape.decodes_to, consumed);
        assert!(shape.farthest <= usize::from(max_distance));
        let mut decoded = vec![0; consumed];
        assert_eq!(Lz4Decoder.decode(block, &mut decoded), Ok(Ending::Exact));
        assert!(decoded == covers, "our decoder reads other bytes");
        let theirs = lz4_flex::block::decompress(block, consumed).expect("lz4_flex decodes");
        assert!(theirs == covers, "lz4_flex reads other bytes");
        if consumed < rest.len() {
            // Full: another literal might need the byte for its count, too.
            assert!(output - encoded <= 1, "{encoded} of {output} bytes");
        }
        in_blocks += consumed;
        rest = &rest[consumed..];
    }
    in_blocks
}

#[test]
fn parameters_are_checked() {
    for level in [0, -1, 13] {
        assert!(matches!(
            Lz4HcEncoder::new(level, MAX_DISTANCE),
            Err(EncodeError::Parameter {
                min: 1,
                max: 12,
                ..
            })
        ));
    }
    assert!(Lz4Encoder::new(0).is_err());
    assert!(Lz4HcEncoder::new(9, 0).is_err());
}

#[test]
fn every_level_on_every_kind_of_data() {
    let kinds = [
        vec![0; 300_000],
        noise(1, 100_000),
        text(2, 200_000),
        mixed(3, 300_000),
        b"ab".repeat(70_000),
        b"abcde".repeat(30_000),
        noise(4, 20_000).repeat(8),
        noise(5, 65_535).repeat(3),
        noise(5, 65_536).repeat(3),
        noise(6, 70_000).repeat(3),
    ];
    for level in levels() {
        for (kind, data) in kinds.iter().enumerate() {
            for output in [BLOCK, 5 * BLOCK, 16 * BLOCK, 1 << 20] {
                let in_blocks = check(level, data, output, MAX_DISTANCE);
                let expected = !matches!(kind, 1 | 8 | 9)
                    && (kind != 7 || output > 16 * BLOCK)
                    && (kind != 6 || output > BLOCK);
                assert_eq!(
                    in_blocks > 0,
                    expected,
                    "level {level}, kind {kind}, output {output}"
                );
            }
        }
    }
}

#[test]
fn noise_is_never_encoded() {
    for level in levels() {
        assert_eq!(
            check(level, &noise(7, 1 << 20), 16 * BLOCK, MAX_DISTANCE),
            0
        );
    }
}

#[test]
fn what_saves_no_block_is_left() {
    for level in levels() {
        let mut encoder = encoder(level, MAX_DISTANCE);
        let mut output = [0; BLOCK];
        assert_eq!(encoder.fill(&[], &mut output).expect("encodes"), None);
        assert_eq!(
            encoder.fill(&[7; BLOCK], &mut output).expect("encodes"),
            None
        );
        assert!(
            encoder
                .fill(&[7; BLOCK + 1], &mut output)
                .expect("encodes")
                .is_some()
        );
        assert_eq!(
            encoder.fill(&[7; BLOCK + 1], &mut []).expect("encodes"),
            None
        );
    }
}

/// A block of 1 MiB covers 255 MiB of zeros at most.
#[test]
fn extreme_ratios() {
    let zeros = vec![0; 3 << 20];
    for level in levels() {
        let mut output = [0; BLOCK];
        let fill = encoder(level, MAX_DISTANCE)
            .fill(&zeros, &mut output)
            .expect("encodes");
        let Fill { consumed, encoded } = fill.expect("compresses");
        assert!(consumed > 254 * BLOCK, "{consumed}");
        assert!(encoded + 1 >= BLOCK, "{encoded}");
    }
}

/// A block tells nothing about the ones encoded before it.
#[test]
fn blocks_do_not_depend_on_earlier_ones() {
    let data = mixed(8, 400_000);
    for level in levels() {
        let mut used = encoder(level, MAX_DISTANCE);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let (mut again, mut fresh) = ([0; 3 * BLOCK], [0; 3 * BLOCK]);
            let fill = used.fill(rest, &mut again).expect("encodes");
            let first = encoder(level, MAX_DISTANCE)
                .fill(rest, &mut fresh)
                .expect("encodes");
            assert_eq!(fill, first);
            let encoded = fill.map_or(0, |fill| fill.encoded);
            assert!(again[..encoded] == fresh[..encoded], "level {level}");
            rest = &rest[fill.map_or(BLOCK, |fill| fill.consumed).min(rest.len())..];
        }
    }
}

/// More effort gives smaller blocks.
#[test]
fn levels_ascend() {
    let data = mixed(9, 1 << 20);
    let taken = |level| {
        let mut output = vec![0; 16 * BLOCK];
        let fill = encoder(level, MAX_DISTANCE)
            .fill(&data, &mut output)
            .expect("encodes");
        fill.expect("compresses").consumed
    };
    let fast = taken(0);
    let taken: Vec<usize> = [3, 6, 9, 12].map(taken).into();
    assert!(fast < taken[0], "{fast}, {taken:?}");
    assert!(taken.is_sorted(), "{taken:?}");
}

/// Pieces of all kinds, some of them repeats of what came before.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    vec((0..6u8, any::<u64>(), 1..3000usize), 1..24).prop_map(|pieces| {
        let mut data = Vec::new();
        for (kind, seed, length) in pieces {
            match kind {
                0 => data.extend(noise(seed, length)),
                1 => data.resize(data.len() + length, seed as u8),
                2 => data.extend(text(seed, length)),
                3 => {
                    let period = noise(seed, 1 + (seed % 19) as usize);
                    data.extend(period.iter().cycle().take(length));
                }
                4 => data.extend(noise(seed, length).iter().map(|byte| byte & 3)),
                _ => {
                    let start = seed as usize % (data.len() + 1);
                    let end = data.len().min(start + length);
                    data.extend_from_within(start..end);
                }
            }
        }
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn anything_round_trips(
        data in pieces(),
        level in 0..=12,
        blocks in 1..9usize,
        less in prop_oneof![Just(0), 0..BLOCK],
        max_distance in prop_oneof![Just(MAX_DISTANCE), 1..=MAX_DISTANCE],
    ) {
        check(level, &data, blocks * BLOCK - less, max_distance);
    }

    /// Outputs that are full after a few sequences.
    #[test]
    fn tiny_outputs_are_filled(data in pieces(), level in 0..=12, output in 1..40usize) {
        let data = data.repeat(1 + 2 * BLOCK / data.len().max(1));
        check(level, &data, output, MAX_DISTANCE);
    }
}
