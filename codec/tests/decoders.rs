//! The decoders without C against encoders that are not ours: whole units, prefixes, cut and hostile ones.

mod corpus;

use std::io::Read as _;

use corpus::{mixed, noise};
use erofs_codec::deflate::DeflateDecoder;
use erofs_codec::lz4::Lz4Decoder;
use erofs_codec::lzma::LzmaDecoder;
use erofs_codec::{DecodeError, Decoder, Ending};
use proptest::collection::vec;
use proptest::prelude::*;
use zlib_rs::{Deflate, DeflateFlush, Status};

/// Bytes of the LZMA dictionary.
const DICTIONARY: u32 = 64 << 10;

fn lz4(data: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress(data)
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut stream = Deflate::new(6, false, 15);
    let mut out = vec![0; data.len() + data.len() / 8 + 64];
    let status = stream.compress(data, &mut out, DeflateFlush::Finish);
    assert_eq!(status, Ok(Status::StreamEnd));
    out.truncate(stream.total_out() as usize);
    out
}

fn lzma(data: &[u8]) -> Vec<u8> {
    lzma_with(data, 3, 0, 2)
}

/// Numbers of literal context, literal position and position bits.
const LZMA_PROPERTIES: [(u32, u32, u32); 6] = [
    (3, 0, 2),
    (0, 0, 0),
    (4, 0, 4),
    (0, 4, 0),
    (2, 2, 3),
    (1, 3, 1),
];

fn lzma_with(data: &[u8], lc: u32, lp: u32, pb: u32) -> Vec<u8> {
    let mut options = lzma_rust2::LzmaOptions::with_preset(3);
    (options.lc, options.lp, options.pb) = (lc, lp, pb);
    options.dict_size = DICTIONARY;
    let mut encoder = lzma_rust2::MicroLzmaEncoder::new(&options).expect("valid options");
    let mut out = vec![0; data.len() + data.len() / 8 + 64];
    let (consumed, length) = encoder
        .compress_prefix(data, &mut out)
        .expect("room for all");
    assert_eq!(consumed, data.len());
    out.truncate(length);
    out
}

/// Whether lzma-rust2 fills `output`.
fn another_lzma_decoder(unit: &[u8], output: &mut [u8]) -> bool {
    let Some((&first, coded)) = unit.split_first() else {
        return false;
    };
    let (pb, rest) = (!first / 45, !first % 45);
    let (lp, lc) = (rest / 9, rest % 9);
    if pb > 4 || lc + lp > 4 {
        return false;
    }
    let source = [0].chain(coded);
    let size = output.len() as u64;
    let (lc, lp, pb) = (lc.into(), lp.into(), pb.into());
    let reader = lzma_rust2::LzmaReader::new(source, size, lc, lp, pb, DICTIONARY, None);
    reader.is_ok_and(|mut reader| {
        reader.set_defer_errors(true);
        reader.read_exact(output).is_ok()
    })
}

struct Codec {
    name: &'static str,
    encode: fn(&[u8]) -> Vec<u8>,
    decoder: fn() -> Box<dyn Decoder>,
    /// Whether a unit tells itself where it ends.
    marks_its_end: bool,
}

const CODECS: [Codec; 3] = [
    Codec {
        name: "LZ4",
        encode: lz4,
        decoder: || Box::new(Lz4Decoder),
        marks_its_end: false,
    },
    Codec {
        name: "DEFLATE",
        encode: deflate,
        decoder: || Box::new(DeflateDecoder::default()),
        marks_its_end: true,
    },
    Codec {
        name: "LZMA",
        encode: lzma,
        decoder: || Box::new(LzmaDecoder::new(DICTIONARY)),
        marks_its_end: true,
    },
];

fn check_unit(codec: &Codec, decoder: &mut dyn Decoder, data: &[u8]) {
    let (name, unit) = (codec.name, (codec.encode)(data));
    for length in [data.len(), data.len() - 1, data.len() / 2, 4096, 100, 1, 0] {
        let length = length.min(data.len());
        let mut output = vec![0xA5; length];
        let ending = decoder.decode(&unit, &mut output).expect(name);
        // The last symbols of LZMA may take no bits of their own.
        let rightly = match length == data.len() {
            true => ending == Ending::Exact,
            false => ending == Ending::Open || (name == "LZMA" && length + 1 == data.len()),
        };
        assert!(rightly, "{name}, {length} of {}: {ending:?}", data.len());
        assert!(output == data[..length], "{name}, prefix of {length}");
    }

    let (mut long, produced) = (vec![0; data.len() + 1], data.len());
    let expected = produced + 1;
    let result = decoder.decode(&unit, &mut long);
    // Without a mark at its end LZMA goes on wherever the next bits lead.
    let rightly = name == "LZMA" || result == Err(DecodeError::Short { produced, expected });
    assert!(rightly, "{name} decoded beyond the end: {result:?}");

    let mut output = vec![0; data.len()];
    let followed = [&unit[..], b"more"].concat();
    let ending = decoder.decode(&followed, &mut output).expect(name);
    let expected = if codec.marks_its_end {
        Ending::Trailing { bytes: 4 }
    } else {
        Ending::Open
    };
    assert_eq!(ending, expected, "{name} with bytes behind its end");
    assert!(output == data);
}

/// Each case is slow: fewer than usual, unless asked for.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_data_round_trips_whole_and_in_part(seed in 0u64..1 << 40, length in 1usize..300_000) {
        for codec in CODECS {
            let mut decoder = (codec.decoder)();
            for data in [mixed(seed, length), noise(seed, length.min(5000))] {
                check_unit(&codec, decoder.as_mut(), &data);
            }
        }
    }

    #[test]
    fn small_alphabets_round_trip(data in vec(0u8..3, 1..30_000)) {
        for codec in CODECS {
            check_unit(&codec, (codec.decoder)().as_mut(), &data);
        }
    }

    #[test]
    fn cut_and_hostile_units_never_panic(
        seed in 0u64..1 << 40,
        flips in vec((0usize..1 << 20, 1u8..=255), 1..8),
        cut in 0usize..1 << 20,
    ) {
        let data = mixed(seed, 40_000);
        for codec in CODECS {
            let unit = (codec.encode)(&data);
            let mut decoder = (codec.decoder)();
            let mut output = vec![0; data.len()];
            let mut room = Vec::new();

            let cut = cut % unit.len();
            let result = decoder.decode(&unit[..cut], &mut output);
            prop_assert_eq!(&decoder.verify(&unit[..cut], output.len(), &mut room), &result);
            prop_assert!(!matches!(result, Ok(Ending::Exact | Ending::Trailing { .. })), "{} cut at {cut}", codec.name);

            let mut bad = unit.clone();
            for (at, flip) in &flips {
                let at = at % bad.len();
                bad[at] ^= flip;
            }
            let result = decoder.decode(&bad, &mut output);
            prop_assert_eq!(decoder.verify(&bad, output.len(), &mut room), result);
            for length in [0, 1, 39_999, 40_001] {
                let mut output = vec![0; length];
                let result = decoder.decode(&bad, &mut output);
                prop_assert_eq!(decoder.verify(&bad, length, &mut room), result);
            }

            // As good as new after all that.
            prop_assert_eq!(decoder.decode(&unit, &mut output), Ok(Ending::Exact));
            prop_assert!(output == data);
        }
    }

    #[test]
    fn noise_never_panics(unit in vec(any::<u8>(), 0..600), length in 0usize..5000) {
        for codec in CODECS {
            let _ = (codec.decoder)().decode(&unit, &mut vec![0; length]);
        }
    }

    #[test]
    fn lzma_decodes_what_another_decoder_does(
        seed in 0u64..1 << 40,
        properties in 0usize..LZMA_PROPERTIES.len(),
        flips in vec((0usize..1 << 20, 1u8..=255), 0..2),
        length in 1usize..40_000,
    ) {
        let data = mixed(seed, 40_000);
        let (lc, lp, pb) = LZMA_PROPERTIES[properties];
        let mut unit = lzma_with(&data, lc, lp, pb);
        for (at, flip) in flips {
            let at = at % unit.len();
            unit[at] ^= flip;
        }
        let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
        let decoded = LzmaDecoder::new(DICTIONARY).decode(&unit, &mut ours);
        prop_assert_eq!(decoded.is_ok(), another_lzma_decoder(&unit, &mut theirs), "{:?}", decoded);
        prop_assert!(decoded.is_err() || ours == theirs);
    }

    #[test]
    fn lz4_decodes_what_another_decoder_does(unit in vec(prop_oneof![Just(0u8), Just(1), 0u8..32, any::<u8>()], 0..80)) {
        let mut theirs = vec![0; 1 << 16];
        if let Ok(length) = lz4_flex::block::decompress_into(&unit, &mut theirs) {
            let mut ours = vec![0; length];
            let ending = Lz4Decoder.decode(&unit, &mut ours);
            // A last token without literals adds nothing to an output that is full.
            prop_assert!(ending == Ok(Ending::Exact) || (ending == Ok(Ending::Open) && unit.last().is_some_and(|token| token >> 4 == 0)), "{ending:?}");
            prop_assert!(ours == theirs[..length]);
        }
    }
}

const fn corrupt(codec: &'static str, reason: &'static str) -> Result<Ending, DecodeError> {
    Err(DecodeError::Corrupt { codec, reason })
}

fn truncated(produced: usize, expected: usize) -> Result<Ending, DecodeError> {
    Err(DecodeError::Truncated { produced, expected })
}

#[test]
fn lz4_names_the_broken_rule() {
    let decode = |unit: &[u8], length: usize| Lz4Decoder.decode(unit, &mut vec![0; length]);
    assert_eq!(decode(b"\x50hello", 5), Ok(Ending::Exact));
    assert_eq!(decode(b"\x50hello", 3), Ok(Ending::Open));
    let short = DecodeError::Short {
        produced: 5,
        expected: 6,
    };
    assert_eq!(decode(b"\x50hello", 6), Err(short));
    assert_eq!(decode(b"\x50hell", 5), truncated(0, 5));
    assert_eq!(decode(b"", 0), truncated(0, 0));
    assert_eq!(decode(b"\xF0", 40), truncated(0, 40));
    assert_eq!(decode(b"\xF0\xFF", 400), truncated(0, 400));
    // Five bytes, then a match of four from two back, then nothing, an offset cut off, one too far, none.
    assert_eq!(decode(b"\x50hello\x02\x00", 9), Ok(Ending::Open));
    assert_eq!(decode(b"\x50hello\x02\x00", 10), truncated(9, 10));
    assert_eq!(decode(b"\x50hello\x02", 9), truncated(5, 9));
    let before = corrupt("lz4", "a match begins before the data");
    assert_eq!(decode(b"\x50hello\x06\x00", 9), before);
    let nowhere = corrupt("lz4", "a match of distance 0");
    assert_eq!(decode(b"\x50hello\x00\x00", 9), nowhere);
    // The same far from both ends.
    let far = |offset: [u8; 2]| [&b"\x50hello"[..], &offset, &[0; 64]].concat();
    assert_eq!(decode(&far([6, 0]), 200), before);
    assert_eq!(decode(&far([0, 0]), 200), nowhere);
    // Literals and a match of sizes that are copied in whole pieces, and nothing behind them.
    let pieces = [&b"\xFE\x11"[..], &[7; 32], b"\x08\x00"].concat();
    assert_eq!(decode(&pieces, 50), Ok(Ending::Open));
    assert_eq!(decode(&pieces, 51), truncated(50, 51));
    // A match whose length alone is larger than anything that could be decoded.
    let endless = [&b"\x1Fa\x01\x00"[..], &[0xFF; 1 << 20], &[0]].concat();
    assert_eq!(decode(&endless, 12 << 20), Ok(Ending::Open));
    assert_eq!(decode(&endless[..100], 12 << 20), truncated(1, 12 << 20));
}

#[test]
fn deflate_names_the_broken_rule() {
    let decode = |unit: &[u8], length: usize| {
        let mut output = vec![0; length];
        DeflateDecoder::default().decode(unit, &mut output)
    };
    // One stored block, the last; and one that is not the last.
    let last = b"\x01\x05\x00\xFA\xFFhello";
    let first = b"\x00\x05\x00\xFA\xFFhello";
    assert_eq!(decode(last, 5), Ok(Ending::Exact));
    assert_eq!(decode(first, 5), Ok(Ending::Open));
    assert_eq!(decode(&last[..9], 5), truncated(4, 5));
    assert_eq!(decode(b"", 0), Ok(Ending::Open));
    let is_corrupt = |result| {
        matches!(
            result,
            Err(DecodeError::Corrupt {
                codec: "deflate",
                ..
            })
        )
    };
    assert!(is_corrupt(decode(b"\x07", 5)), "no such kind of block");
    assert!(is_corrupt(decode(b"\x01\x05\x00\xFA\x00hello", 5)));
    // A bit in the padding of the first byte, which images need when it would be zero otherwise.
    assert_eq!(decode(b"\x08\x05\x00\xFA\xFFhello", 5), Ok(Ending::Open));
    // A match before the start of the data, in a block with fixed codes: length 3, distance 1.
    assert!(is_corrupt(decode(&[0b0000_0011, 0b0000_0010, 0], 5)));
}

#[test]
fn lzma_names_the_broken_rule() {
    let data = mixed(9, 70_000);
    let unit = lzma(&data);
    let decode = |unit: &[u8], dictionary: u32| {
        LzmaDecoder::new(dictionary).decode(unit, &mut vec![0; data.len()])
    };
    let is_header = |result| matches!(result, Err(DecodeError::Header { codec: "lzma", .. }));
    assert_eq!(decode(&unit, DICTIONARY), Ok(Ending::Exact));
    for cut in 0..5 {
        assert!(is_header(decode(&unit[..cut], DICTIONARY)), "cut at {cut}");
    }
    // Properties: what is never valid, and sums of literal bits that the kernel does not decode.
    for properties in [225u8, 255, 5, 9 * 4 + 1, 8] {
        let bad = [&[!properties][..], &unit[1..]].concat();
        assert!(is_header(decode(&bad, DICTIONARY)), "{properties}");
    }
    // The last byte of the range coder missing: all bytes come out, the end does not.
    let cut = decode(&unit[..unit.len() - 1], DICTIONARY);
    assert!(matches!(
        cut,
        Ok(Ending::Open) | Err(DecodeError::Truncated { .. })
    ));

    // A repeat from further back than the dictionary.
    let repeat = [noise(1, 20_000), noise(2, 20_000), noise(1, 20_000)].concat();
    let unit = lzma(&repeat);
    assert!(unit.len() < 45_000, "the repeat was found");
    let mut output = vec![0; repeat.len()];
    let decoded = LzmaDecoder::new(DICTIONARY).decode(&unit, &mut output);
    assert_eq!(decoded, Ok(Ending::Exact));
    assert!(output == repeat);
    let decoded = LzmaDecoder::new(4096).decode(&unit, &mut output);
    assert!(matches!(decoded, Err(DecodeError::Corrupt { .. })));
}
