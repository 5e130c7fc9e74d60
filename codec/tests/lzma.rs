//! The MicroLZMA encoder against our decoder and against lzma-rust2's, piece by piece.

mod corpus;
mod segments;

use std::io::Read as _;

use corpus::{mixed, noise, text};
use erofs_codec::lzma::{
    DICTIONARY_SIZES, EXTREME_LEVELS, LEVELS, LzmaDecoder, LzmaEncoder, Properties,
    default_dictionary_size,
};
use erofs_codec::{BLOCK, Decoder, EncodeError, Encoder, Ending};
use lzma_rust2::LzmaReader;
use proptest::collection::vec;
use proptest::prelude::*;
use segments::{cases, check_segment, encode_segment};

const DICTIONARY: u32 = 64 << 10;

fn encoder(level: i32, output: usize) -> LzmaEncoder {
    LzmaEncoder::new(level, DICTIONARY, Properties::default(), output).expect("valid parameters")
}

/// Everything a stream must be, decoded whole and in part.
fn check_stream(stream: &[u8], covers: &[u8], dictionary: u32) {
    assert_ne!(stream[0], 0, "what is in front of the stream is zeros");
    let mut decoder = LzmaDecoder::new(dictionary);
    for length in [covers.len(), covers.len() - 2, BLOCK, 1, 0] {
        let mut output = vec![0xA5; length];
        let ending = decoder.decode(stream, &mut output).expect("decodes");
        // A part may end with nothing left of the code too: what follows is then all zeros.
        assert!(ending == Ending::Exact || length < covers.len());
        assert!(output == covers[..length], "prefix of {length}");
    }
    let mut raw = stream.to_vec();
    let properties = !std::mem::take(&mut raw[0]);
    let size = covers.len() as u64;
    let mut reader = LzmaReader::new_with_props(&raw[..], size, properties, dictionary, None)
        .expect("valid header");
    reader.set_relaxed_end_condition(false);
    let mut output = Vec::new();
    reader.read_to_end(&mut output).expect("ends as it should");
    assert!(output == covers);
}

fn check_all(encoder: &mut LzmaEncoder, segment: &[u8], output: usize, dictionary: u32) {
    check_segment(encoder, segment, output, |unit, covers| {
        check_stream(unit, covers, dictionary)
    });
}

fn properties() -> impl Strategy<Value = Properties> {
    (0u32..=4, 0u32..=4, 0u32..=4).prop_filter_map("too many literal bits", |(lc, lp, pb)| {
        Properties::new(lc, lp, pb).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(12)))]

    #[test]
    fn any_segment_round_trips(
        seed in 0u64..1 << 40,
        length in 0usize..200_000,
        blocks in 1usize..=24,
        level in prop_oneof![LEVELS, EXTREME_LEVELS],
        dictionary in 4096u32..1 << 18,
        properties in properties(),
    ) {
        let output = blocks * BLOCK;
        let mut encoder = LzmaEncoder::new(level, dictionary, properties, output).expect("valid parameters");
        check_all(&mut encoder, &mixed(seed, length), output, dictionary);
    }

    #[test]
    fn any_output_size_is_kept_to(
        seed in 0u64..1 << 40, output in 0usize..3 * BLOCK, level in LEVELS,
    ) {
        let data = mixed(seed, 60_000);
        let mut room = vec![0xA5; output];
        if let Some(fill) = encoder(level, 3 * BLOCK).fill(&data, &mut room).expect("encodes") {
            check_stream(&room[..fill.encoded], &data[..fill.consumed], DICTIONARY);
        }
    }

    #[test]
    fn small_alphabets_round_trip(data in vec(0u8..3, 0..30_000), level in LEVELS) {
        check_all(&mut encoder(level, BLOCK), &data, BLOCK, DICTIONARY);
    }

    #[test]
    fn output_depends_on_the_segment_alone(
        seed in 0u64..1 << 40, before in 0u64..1 << 40, level in LEVELS, blocks in 1usize..=16,
    ) {
        let output = blocks * BLOCK;
        let segment = mixed(seed, 60_000);
        let fresh = encode_segment(&mut encoder(level, output), &segment, output);
        let mut used = encoder(level, output);
        encode_segment(&mut used, &mixed(before, 40_000), output);
        encode_segment(&mut used, &noise(before, 20_000), output);
        prop_assert!(encode_segment(&mut used, &segment, output) == fresh);
    }
}

#[test]
fn every_level_round_trips() {
    let data = mixed(1, 60_000);
    for level in LEVELS.chain(EXTREME_LEVELS) {
        for output in [BLOCK, 16 * BLOCK] {
            check_all(&mut encoder(level, output), &data, output, DICTIONARY);
        }
    }
}

#[test]
fn pclusters_are_filled() {
    let data = text(3, 300_000);
    for level in [1, 6] {
        for (output, least) in [(BLOCK, 997), (16 * BLOCK, 999)] {
            let mut encoder = encoder(level, output);
            let parts = encode_segment(&mut encoder, &data, output);
            // The last one has only what is left.
            let full = &parts[..parts.len() - 1];
            let bytes: usize = full
                .iter()
                .map(|(stream, _)| stream.as_ref().expect("text shrinks").len())
                .sum();
            let room = full.len() * output;
            assert!(bytes * 1000 >= room * least, "{output}: {bytes} of {room}");
        }
    }
}

#[test]
fn everything_left_is_taken_when_it_fits() {
    let data = text(4, 60_000);
    for length in [5000, 20_000, 60_000] {
        let mut output = vec![0; 16 * BLOCK];
        let fill = encoder(6, output.len())
            .fill(&data[..length], &mut output)
            .expect("encodes")
            .expect("shrinks");
        assert_eq!(fill.consumed, length);
        check_stream(&output[..fill.encoded], &data[..length], DICTIONARY);
    }
}

#[test]
fn zeros_fit_whole_and_beyond_the_dictionary() {
    let zeros = vec![0; 3 << 20];
    let mut room = [0; BLOCK];
    let fill = encoder(6, BLOCK)
        .fill(&zeros, &mut room)
        .expect("encodes")
        .expect("shrinks");
    assert_eq!(fill.consumed, zeros.len());
    check_stream(&room[..fill.encoded], &zeros, DICTIONARY);
}

#[test]
fn what_saves_no_block_is_left_plain() {
    let mut output = vec![0; 16 * BLOCK];
    let mut encoder = encoder(6, output.len());
    for length in [0, 1, 2, 7, 100, BLOCK] {
        let fill = encoder
            .fill(&vec![0; length], &mut output)
            .expect("encodes");
        assert_eq!(fill, None, "{length} zeros");
    }
    for length in [BLOCK + 1, 2 * BLOCK, 65_537, 1 << 20] {
        let fill = encoder
            .fill(&noise(6, length), &mut output)
            .expect("encodes");
        assert_eq!(fill, None, "{length} bytes of noise");
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    let refused = |level, dictionary, output| {
        let made = LzmaEncoder::new(level, dictionary, Properties::default(), output);
        matches!(made, Err(EncodeError::Parameter { .. }))
    };
    for level in [-1, 10, 99, 110] {
        assert!(refused(level, DICTIONARY, BLOCK), "level {level}");
    }
    for dictionary in [0, DICTIONARY_SIZES.start() - 1, DICTIONARY_SIZES.end() + 1] {
        assert!(refused(6, dictionary, BLOCK), "dictionary of {dictionary}");
    }
    for output in [0, BLOCK - 1, (1 << 20) + 1] {
        assert!(refused(6, DICTIONARY, output), "output of {output}");
    }
    assert!(!refused(109, *DICTIONARY_SIZES.start(), 1 << 20));
    for (lc, lp, pb) in [(5, 0, 0), (0, 5, 0), (3, 2, 0), (4, 1, 2), (3, 0, 5)] {
        assert!(Properties::new(lc, lp, pb).is_err(), "{lc} {lp} {pb}");
    }
    assert_eq!(Properties::new(3, 0, 2).ok(), Some(Properties::default()));
}

#[test]
fn the_dictionary_is_that_of_mkfs_erofs() {
    for (pcluster, dictionary) in [
        (4096, 32 << 10),
        (16 << 10, 64 << 10),
        (64 << 10, 256 << 10),
        (1 << 20, 4 << 20),
    ] {
        assert_eq!(default_dictionary_size(pcluster), dictionary);
    }
}
