//! The Zstd encoder and decoder against each other and against the library's own decoder.

mod corpus;
mod segments;

use corpus::{mixed, noise, text};
use erofs_codec::zstd::{LEVELS, MAX_WINDOW_LOG, MIN_WINDOW_LOG, ZstdDecoder, ZstdEncoder};
use erofs_codec::{BLOCK, DecodeError, Decoder, EncodeError, Encoder, Ending};
use proptest::collection::vec;
use proptest::prelude::*;
use segments::{cases, check_segment, encode_segment};

fn encoder(level: i32, window_log: u32, output: usize) -> ZstdEncoder {
    ZstdEncoder::new(level, window_log, output).expect("valid parameters")
}

/// Window of a frame in bytes, and its content size (RFC 8878 §3.1.1.1), read independently of the crate.
fn header(frame: &[u8]) -> (u64, Option<u64>) {
    assert_eq!(frame[..4], [0x28, 0xB5, 0x2F, 0xFD], "magic");
    let descriptor = frame[4];
    assert_eq!(
        descriptor & 0b1111,
        0,
        "no dictionary, no checksum, reserved bit clear"
    );
    let single = descriptor & 0x20 != 0;
    let field = &frame[if single { 5 } else { 6 }..];
    let content = match (descriptor >> 6, single) {
        (0, false) => None,
        (0, true) => Some(u64::from(field[0])),
        (1, _) => Some(256 + u64::from(u16::from_le_bytes([field[0], field[1]]))),
        (2, _) => Some(u64::from(u32::from_le_bytes([
            field[0], field[1], field[2], field[3],
        ]))),
        _ => panic!("8-byte content size"),
    };
    let window = if single {
        content.expect("a single segment declares its size")
    } else {
        let base = 1u64 << (10 + (frame[5] >> 3));
        base + base / 8 * u64::from(frame[5] & 7)
    };
    (window, content)
}

/// Everything a frame must be, decoded whole, in part, and by the library in one call.
fn check_frame(frame: &[u8], covers: &[u8], window_log: u32) {
    let (window, content) = header(frame);
    assert!(
        window <= 1 << window_log,
        "window {window} above 2^{window_log}"
    );
    assert_eq!(content, Some(covers.len() as u64));
    assert!(
        frame.len().next_multiple_of(BLOCK) < covers.len(),
        "saves no block"
    );
    assert_eq!(
        zstd_safe::find_frame_compressed_size(frame),
        Ok(frame.len()),
        "one frame, nothing else"
    );

    let mut library = vec![0; covers.len()];
    assert_eq!(
        zstd_safe::decompress(&mut library[..], frame),
        Ok(covers.len())
    );
    assert!(library == covers);

    let mut decoder = ZstdDecoder::new(window_log);
    for length in [
        covers.len(),
        covers.len() - 1,
        covers.len() / 2,
        BLOCK,
        1,
        0,
    ] {
        let mut output = vec![0xA5; length];
        let ending = decoder.decode(frame, &mut output).expect("decodes");
        assert_eq!(ending == Ending::Exact, length == covers.len());
        assert!(output == covers[..length], "prefix of {length}");
    }
    let mut long = vec![0; covers.len() + 1];
    assert_eq!(
        decoder.decode(frame, &mut long),
        Err(DecodeError::Short {
            produced: covers.len(),
            expected: covers.len() + 1
        })
    );
}

fn check_all(encoder: &mut ZstdEncoder, segment: &[u8], output: usize, window_log: u32) {
    check_segment(encoder, segment, output, |unit, covers| {
        check_frame(unit, covers, window_log)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(48)))]

    #[test]
    fn any_segment_round_trips(
        seed in 0u64..1 << 40,
        length in 0usize..400_000,
        blocks in 1usize..=24,
        level in 1i32..=9,
        window_log in MIN_WINDOW_LOG..=MAX_WINDOW_LOG,
    ) {
        let output = blocks * BLOCK;
        check_all(&mut encoder(level, window_log, output), &mixed(seed, length), output, window_log);
    }

    #[test]
    fn small_alphabets_round_trip(data in vec(0u8..3, 0..30_000)) {
        check_all(&mut encoder(3, 15, BLOCK), &data, BLOCK, 15);
    }

    #[test]
    fn output_depends_on_the_segment_alone(
        seed in 0u64..1 << 40, before in 0u64..1 << 40, level in 1i32..=19, blocks in 1usize..=16,
    ) {
        let output = blocks * BLOCK;
        let segment = mixed(seed, 150_000);
        let fresh = encode_segment(&mut encoder(level, 17, output), &segment, output);
        let mut used = encoder(level, 17, output);
        encode_segment(&mut used, &mixed(before, 200_000), output);
        encode_segment(&mut used, &noise(before, 100_000), output);
        prop_assert!(encode_segment(&mut used, &segment, output) == fresh);
    }

    #[test]
    fn hostile_frames_never_panic(
        seed in 0u64..1 << 40,
        flips in vec((0usize..1 << 20, 1u8..=255), 1..8),
        cut in 0usize..1 << 20,
    ) {
        let data = mixed(seed, 40_000);
        let mut output = vec![0; 2 * BLOCK];
        if let Some(fill) = encoder(3, 16, 2 * BLOCK).fill(&data, &mut output).expect("encodes") {
            let frame = &output[..fill.encoded];
            let mut decoder = ZstdDecoder::new(16);
            let mut decoded = vec![0; fill.consumed];

            let cut = cut % frame.len();
            let result = decoder.decode(&frame[..cut], &mut decoded);
            prop_assert!(!matches!(result, Ok(Ending::Exact | Ending::Trailing { .. })), "cut at {}", cut);

            let mut bad = frame.to_vec();
            for (at, flip) in flips {
                let at = at % bad.len();
                bad[at] ^= flip;
            }
            // Without a checksum a flipped literal decodes to other data; what counts is that nothing breaks…
            let _ = decoder.decode(&bad, &mut decoded);
            // …and that the decoder is as good as new afterwards.
            decoder.decode(frame, &mut decoded).expect("decodes");
            prop_assert!(decoded == data[..fill.consumed]);
        }
    }

    #[test]
    fn noise_is_no_frame(data in vec(any::<u8>(), 0..600), length in 0usize..5000) {
        let mut framed = vec![0x28, 0xB5, 0x2F, 0xFD];
        framed.extend_from_slice(&data);
        let mut output = vec![0; length];
        let mut decoder = ZstdDecoder::new(20);
        let _ = decoder.decode(&framed, &mut output);
        if data.get(..4) != Some(&[0x28, 0xB5, 0x2F, 0xFD]) {
            prop_assert!(decoder.decode(&data, &mut output).is_err());
        }
    }
}

#[test]
fn every_level_round_trips() {
    let data = mixed(1, 300_000);
    for level in LEVELS {
        for output in [BLOCK, 16 * BLOCK] {
            check_all(&mut encoder(level, 17, output), &data, output, 17);
        }
    }
}

#[test]
fn the_largest_pcluster_round_trips() {
    let data = mixed(2, 5 << 20);
    check_all(&mut encoder(3, 20, 1 << 20), &data, 1 << 20, 20);
}

#[test]
fn pclusters_are_filled() {
    let data = text(3, 4 << 20);
    for (output, least) in [(BLOCK, 97), (4 * BLOCK, 98), (16 * BLOCK, 99)] {
        let mut encoder = encoder(3, 17, output);
        let parts = encode_segment(&mut encoder, &data, output);
        // The last one has only what is left.
        let full = &parts[..parts.len() - 1];
        let sizes: Vec<usize> = full
            .iter()
            .map(|(frame, _)| frame.as_ref().expect("text shrinks").len())
            .collect();
        let bytes: usize = sizes.iter().sum();
        let room: usize = sizes.iter().map(|size| size.next_multiple_of(BLOCK)).sum();
        assert!(bytes * 100 >= room * least, "{output}: {bytes} of {room}");
        assert!(
            encoder.bytes_pushed() < 3 * data.len() as u64 / 2,
            "{output}: {} pushed",
            encoder.bytes_pushed()
        );
    }
}

#[test]
fn everything_left_is_taken_when_it_fits() {
    let data = text(4, 60_000);
    for length in [5000, 20_000, 60_000] {
        let mut output = vec![0; 16 * BLOCK];
        let fill = encoder(3, 19, output.len())
            .fill(&data[..length], &mut output)
            .expect("encodes")
            .expect("shrinks");
        assert_eq!(fill.consumed, length);
        check_frame(&output[..fill.encoded], &data[..length], 19);
    }
    // Also when what came before was far less compressible.
    let mut encoder = encoder(3, 19, 16 * BLOCK);
    let mut output = vec![0; 16 * BLOCK];
    encoder
        .fill(&noise(5, 200_000), &mut output)
        .expect("encodes");
    let fill = encoder
        .fill(&data, &mut output)
        .expect("encodes")
        .expect("shrinks");
    assert_eq!(fill.consumed, data.len());
}

#[test]
fn zeros_fit_whole_and_beyond_the_window() {
    let zeros = vec![0; 3 << 20];
    for (output, window_log) in [(BLOCK, 15), (16 * BLOCK, 19), (BLOCK, MIN_WINDOW_LOG)] {
        let mut encoder = encoder(3, window_log, output);
        let mut room = vec![0; output];
        let fill = encoder
            .fill(&zeros, &mut room)
            .expect("encodes")
            .expect("shrinks");
        if window_log > MIN_WINDOW_LOG {
            assert_eq!(fill.consumed, zeros.len());
        }
        check_frame(&room[..fill.encoded], &zeros[..fill.consumed], window_log);
    }
}

#[test]
fn what_saves_no_block_is_left_plain() {
    let mut output = vec![0; 16 * BLOCK];
    let mut encoder = encoder(3, 19, output.len());
    for length in [0, 1, 2, 7, 100, BLOCK] {
        assert_eq!(
            encoder
                .fill(&vec![0; length], &mut output)
                .expect("encodes"),
            None,
            "{length} zeros"
        );
    }
    for length in [BLOCK + 1, 2 * BLOCK, 65_537, 1 << 20] {
        assert_eq!(
            encoder
                .fill(&noise(6, length), &mut output)
                .expect("encodes"),
            None,
            "{length} bytes of noise"
        );
    }
    let pushed = encoder.bytes_pushed();
    assert!(
        pushed < 4 * output.len() as u64,
        "{pushed} bytes pushed to find out"
    );
}

#[test]
fn an_output_too_small_for_anything_is_left_alone() {
    let data = text(7, 50_000);
    let mut encoder = encoder(3, 15, BLOCK);
    for length in 0..40 {
        let mut output = vec![0xA5; length];
        if let Some(fill) = encoder.fill(&data, &mut output).expect("encodes") {
            panic!("{fill:?} in {length} bytes");
        }
    }
}

#[test]
fn only_the_front_of_the_input_is_read() {
    let mut encoder = encoder(3, 15, BLOCK);
    encoder
        .fill(&text(8, 8 << 20), &mut [0; BLOCK])
        .expect("encodes")
        .expect("shrinks");
    assert!(
        encoder.bytes_pushed() < 16 * BLOCK as u64,
        "{}",
        encoder.bytes_pushed()
    );
}

#[test]
fn parameters_are_checked() {
    for (level, window_log, output) in [
        (0, 15, BLOCK),
        (23, 15, BLOCK),
        (3, 9, BLOCK),
        (3, 21, BLOCK),
        (3, 15, BLOCK - 1),
        (3, 15, (1 << 20) + 1),
    ] {
        let result = ZstdEncoder::new(level, window_log, output);
        assert!(
            matches!(result, Err(EncodeError::Parameter { .. })),
            "{level} {window_log} {output}"
        );
    }
}

/// A frame of raw blocks: the header as given, then each block's bytes.
fn raw_frame(header: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD];
    frame.extend_from_slice(header);
    for (i, block) in blocks.iter().enumerate() {
        let last = u32::from(i + 1 == blocks.len());
        frame.extend_from_slice(&((block.len() as u32) << 3 | last).to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

#[test]
fn the_decoder_names_the_broken_rule() {
    let decode =
        |frame: &[u8], length: usize| ZstdDecoder::new(15).decode(frame, &mut vec![0; length]);
    let is_header = |result| matches!(result, Err(DecodeError::Header { .. }));
    let window = |log: u8| (log - 10) << 3;

    let good = raw_frame(&[0x20, 5], &[b"hello"]);
    assert_eq!(decode(&good, 5), Ok(Ending::Exact));
    assert_eq!(
        decode(&good, 6),
        Err(DecodeError::Short {
            produced: 5,
            expected: 6
        })
    );
    assert_eq!(
        decode(&[&good[..], &[0]].concat(), 5),
        Ok(Ending::Trailing { bytes: 1 })
    );
    assert_eq!(
        decode(&[&good[..], &good[..]].concat(), 5),
        Ok(Ending::Trailing { bytes: good.len() })
    );
    assert_eq!(
        decode(&[&good[..], &good[..]].concat(), 10),
        Err(DecodeError::Short {
            produced: 5,
            expected: 10
        })
    );
    // Padding belongs to the caller.
    assert!(is_header(decode(&[&[0][..], &good[..]].concat(), 5)));

    for cut in 0..good.len() {
        let result = decode(&good[..cut], 5);
        assert!(is_header(result) || cut >= 6, "{cut}");
        assert!(decode(&good[..cut], 5).is_err(), "{cut}");
    }

    // Two blocks, the second missing although the first is not the last.
    let two = raw_frame(&[0x20, 5], &[b"hello", b""]);
    assert_eq!(decode(&two, 5), Ok(Ending::Exact));
    assert_eq!(decode(&two[..two.len() - 3], 5), Ok(Ending::Open));
    // A content size that is not met, in both directions.
    assert!(decode(&raw_frame(&[0x20, 6], &[b"hello"]), 5).is_err());
    assert!(decode(&raw_frame(&[0x20, 4], &[b"hello"]), 4).is_err());

    // Windows: declared, and by content size.
    assert_eq!(
        decode(&raw_frame(&[0, window(15)], &[b"hello"]), 5),
        Ok(Ending::Exact)
    );
    let declared = (1 << 15) + (1 << 12);
    let allowed = 1 << 15;
    assert_eq!(
        decode(&raw_frame(&[0, window(15) | 1], &[b"hello"]), 5),
        Err(DecodeError::Window { declared, allowed })
    );
    assert!(matches!(
        decode(&raw_frame(&[0, 0xFF], &[b"hello"]), 5),
        Err(DecodeError::Window { .. })
    ));
    let huge = [0xE0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(
        decode(&raw_frame(&huge, &[b"hello"]), 5),
        Err(DecodeError::Window {
            declared: u64::MAX,
            allowed
        })
    );

    // Dictionary, reserved bit, skippable frame, other magic, nothing at all.
    assert!(is_header(decode(&raw_frame(&[0x21, 9, 5], &[b"hello"]), 5)));
    assert!(is_header(decode(&raw_frame(&[0x28, 5], &[b"hello"]), 5)));
    assert!(is_header(decode(&[0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], 0)));
    assert!(is_header(decode(b"PK\x03\x04", 5)));
    assert!(is_header(decode(&[], 0)));

    // A wrong checksum counts once the frame is decoded to its end.
    let mut summed = raw_frame(&[0x24, 5], &[b"hello"]);
    summed.extend_from_slice(&[1, 2, 3, 4]);
    assert!(matches!(
        decode(&summed, 5),
        Err(DecodeError::Corrupt { .. })
    ));
}

#[test]
fn a_prefix_ignores_what_comes_after_it() {
    let mut frame = raw_frame(&[0, 0], &[b"first", b"second"]);
    let mut output = [0; 5];
    let mut decoder = ZstdDecoder::new(15);
    assert_eq!(decoder.decode(&frame, &mut output), Ok(Ending::Open));
    assert_eq!(&output, b"first");
    frame.truncate(frame.len() - 8);
    let ending = decoder.decode(&frame, &mut output);
    assert_eq!(ending, Ok(Ending::Open), "the second block is not needed");
    assert_eq!(&output, b"first");
}
