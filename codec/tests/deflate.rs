//! The DEFLATE encoder against our decoder and against zlib-rs with a small window, piece by piece.

mod corpus;
mod segments;

use corpus::{mixed, noise, text};
use erofs_codec::deflate::{
    DeflateDecoder, DeflateEncoder, LEVELS, MAX_WINDOW_BITS, MIN_WINDOW_BITS,
};
use erofs_codec::{BLOCK, Decoder, EncodeError, Encoder, Ending};
use proptest::collection::vec;
use proptest::prelude::*;
use segments::{cases, check_segment, encode_segment};
use zlib_rs::{Inflate, InflateFlush, Status};

fn encoder(level: i32, window_bits: u32, output: usize) -> DeflateEncoder {
    DeflateEncoder::new(level, window_bits, output).expect("valid parameters")
}

/// Decodes as the kernel does, which keeps only the window of what it has decoded.
fn check_window(stream: &[u8], covers: &[u8], window_bits: u32) {
    let mut inflate = Inflate::new(false, window_bits as u8);
    for (index, piece) in covers.chunks(97).enumerate() {
        let mut decoded = [0; 97];
        let decoded = &mut decoded[..piece.len()];
        let from = inflate.total_in() as usize;
        inflate
            .decompress(&stream[from..], decoded, InflateFlush::NoFlush)
            .expect("needs no more than the window");
        assert!(decoded == piece, "piece {index}");
    }
    let from = inflate.total_in() as usize;
    let end = inflate.decompress(&stream[from..], &mut [], InflateFlush::NoFlush);
    assert!(
        end == Ok(Status::StreamEnd) || from == stream.len(),
        "{end:?}"
    );
    assert_eq!(inflate.total_in() as usize, stream.len());
}

/// Everything a stream must be, decoded whole and in part.
fn check_stream(stream: &[u8], covers: &[u8], window_bits: u32) {
    assert_ne!(stream[0], 0, "what is in front of the stream is zeros");
    check_window(stream, covers, window_bits);
    let mut decoder = DeflateDecoder::default();
    for length in [covers.len(), covers.len() - 1, BLOCK, 1, 0] {
        let mut output = vec![0xA5; length];
        let ending = decoder.decode(stream, &mut output).expect("decodes");
        assert_eq!(ending == Ending::Exact, length == covers.len());
        assert!(output == covers[..length], "prefix of {length}");
    }
}

fn check_all(encoder: &mut DeflateEncoder, segment: &[u8], output: usize, window_bits: u32) {
    check_segment(encoder, segment, output, |unit, covers| {
        check_stream(unit, covers, window_bits)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(48)))]

    #[test]
    fn any_segment_round_trips(
        seed in 0u64..1 << 40,
        length in 0usize..400_000,
        blocks in 1usize..=24,
        level in LEVELS,
        window_bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS,
    ) {
        let output = blocks * BLOCK;
        let mut encoder = encoder(level, window_bits, output);
        check_all(&mut encoder, &mixed(seed, length), output, window_bits);
    }

    #[test]
    fn any_output_size_is_kept_to(
        seed in 0u64..1 << 40, output in 0usize..3 * BLOCK, level in LEVELS,
    ) {
        let data = mixed(seed, 60_000);
        let mut room = vec![0xA5; output];
        if let Some(fill) = encoder(level, 15, 3 * BLOCK).fill(&data, &mut room).expect("encodes") {
            check_stream(&room[..fill.encoded], &data[..fill.consumed], 15);
        }
    }

    #[test]
    fn small_alphabets_round_trip(data in vec(0u8..3, 0..30_000), level in LEVELS) {
        check_all(&mut encoder(level, 15, BLOCK), &data, BLOCK, 15);
    }

    #[test]
    fn output_depends_on_the_segment_alone(
        seed in 0u64..1 << 40, before in 0u64..1 << 40, level in LEVELS, blocks in 1usize..=16,
    ) {
        let output = blocks * BLOCK;
        let segment = mixed(seed, 90_000);
        let fresh = encode_segment(&mut encoder(level, 15, output), &segment, output);
        let mut used = encoder(level, 15, output);
        encode_segment(&mut used, &mixed(before, 60_000), output);
        encode_segment(&mut used, &noise(before, 30_000), output);
        prop_assert!(encode_segment(&mut used, &segment, output) == fresh);
    }
}

#[test]
fn every_level_round_trips() {
    let data = mixed(1, 300_000);
    for level in LEVELS {
        for output in [BLOCK, 16 * BLOCK] {
            check_all(&mut encoder(level, 15, output), &data, output, 15);
        }
    }
}

#[test]
fn the_largest_pcluster_round_trips() {
    let data = mixed(2, 5 << 20);
    check_all(&mut encoder(6, 15, 1 << 20), &data, 1 << 20, 15);
}

#[test]
fn higher_levels_encode_smaller() {
    let data = text(9, 1 << 18);
    let sizes: Vec<usize> = LEVELS
        .map(|level| {
            encode_segment(&mut encoder(level, 15, 16 * BLOCK), &data, 16 * BLOCK)
                .iter()
                .map(|(stream, taken)| stream.as_ref().map_or(*taken, Vec::len))
                .sum()
        })
        .collect();
    // Neighbours may differ either way on such data; over three levels effort must pay.
    for (level, pair) in (1..).zip(sizes.windows(4)) {
        assert!(
            pair[3] < pair[0],
            "level {} beside {level}: {sizes:?}",
            level + 3
        );
    }
}

#[test]
fn pclusters_are_filled() {
    let data = text(3, 1 << 19);
    for level in [1, 6, 9, 10] {
        for (output, least) in [(BLOCK, 990), (4 * BLOCK, 995), (16 * BLOCK, 998)] {
            let mut encoder = encoder(level, 15, output);
            let parts = encode_segment(&mut encoder, &data, output);
            // The last one has only what is left.
            let full = &parts[..parts.len() - 1];
            let sizes: Vec<usize> = full
                .iter()
                .map(|(stream, _)| stream.as_ref().expect("text shrinks").len())
                .collect();
            assert!(sizes.iter().all(|&size| output - size < BLOCK), "{sizes:?}");
            let (bytes, room) = (sizes.iter().sum::<usize>(), sizes.len() * output);
            assert!(bytes * 1000 >= room * least, "{output}: {bytes} of {room}");
            assert!(
                encoder.bytes_parsed() < 11 * data.len() as u64 / 10,
                "{output}: {} parsed",
                encoder.bytes_parsed()
            );
        }
    }
}

#[test]
fn everything_left_is_taken_when_it_fits() {
    let data = text(4, 60_000);
    for length in [5000, 20_000, 60_000] {
        let mut output = vec![0; 16 * BLOCK];
        let fill = encoder(6, 15, output.len())
            .fill(&data[..length], &mut output)
            .expect("encodes")
            .expect("shrinks");
        assert_eq!(fill.consumed, length);
        check_stream(&output[..fill.encoded], &data[..length], 15);
    }
}

#[test]
fn zeros_fit_whole_and_beyond_the_window() {
    let zeros = vec![0; 3 << 20];
    for level in [1, 6, 9, 12] {
        for window_bits in [MIN_WINDOW_BITS, MAX_WINDOW_BITS] {
            let mut room = [0; BLOCK];
            let fill = encoder(level, window_bits, BLOCK)
                .fill(&zeros, &mut room)
                .expect("encodes")
                .expect("shrinks");
            assert_eq!(fill.consumed, zeros.len());
            check_stream(&room[..fill.encoded], &zeros, window_bits);
        }
    }
}

#[test]
fn what_saves_no_block_is_left_plain() {
    let mut output = vec![0; 16 * BLOCK];
    let mut encoder = encoder(6, 15, output.len());
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
fn noise_within_a_unit_costs_little() {
    let data = [text(1, 30_000), noise(2, 20_000), text(3, 30_000)].concat();
    let mut output = vec![0; 16 * BLOCK];
    let fill = encoder(6, 15, output.len())
        .fill(&data, &mut output)
        .expect("encodes")
        .expect("shrinks");
    assert_eq!(fill.consumed, data.len());
    check_stream(&output[..fill.encoded], &data, 15);
    let alone: usize = [text(1, 30_000), text(3, 30_000)]
        .iter()
        .map(|text| {
            encoder(6, 15, output.len())
                .fill(text, &mut output)
                .expect("encodes")
                .expect("shrinks")
                .encoded
        })
        .sum();
    assert!(fill.encoded < alone + 20_000 + 1000, "{}", fill.encoded);
}

#[test]
fn a_stream_may_begin_with_stored_bytes() {
    let data = [noise(1, 50_000), vec![0; 200_000]].concat();
    let mut output = vec![0; 16 * BLOCK];
    let fill = encoder(6, 15, output.len())
        .fill(&data, &mut output)
        .expect("encodes")
        .expect("shrinks");
    assert_eq!(fill.consumed, data.len());
    assert_eq!(output[0] & 0b110, 0, "stored");
    check_stream(&output[..fill.encoded], &data, 15);
}

#[test]
fn only_the_front_of_the_input_is_read() {
    let mut encoder = encoder(6, 15, BLOCK);
    let fill = encoder
        .fill(&text(8, 8 << 20), &mut [0; BLOCK])
        .expect("encodes")
        .expect("shrinks");
    assert!(
        encoder.bytes_parsed() < fill.consumed as u64 * 21 / 20,
        "{} for {}",
        encoder.bytes_parsed(),
        fill.consumed
    );
}

#[test]
fn parameters_are_checked() {
    for (level, window_bits, output) in [
        (0, 15, BLOCK),
        (13, 15, BLOCK),
        (6, 7, BLOCK),
        (6, 16, BLOCK),
        (6, 15, BLOCK - 1),
        (6, 15, (1 << 20) + 1),
    ] {
        let result = DeflateEncoder::new(level, window_bits, output);
        assert!(
            matches!(result, Err(EncodeError::Parameter { .. })),
            "{level} {window_bits} {output}"
        );
    }
}
