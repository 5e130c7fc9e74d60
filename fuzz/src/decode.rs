//! Decodes encoded units.
//!
//! Input: length of the output (3 bytes), then the unit.
//!
//! Invariants: what decodes, decodes to the same bytes again, also with a decoder that met an error before; any prefix of it
//! decodes to the prefix; without what follows its end a unit decodes to the same and ends exactly; verifying tells the same,
//! errors too. LZ4 decodes to what
//! lz4_flex makes of it, LZMA to what lzma-rust2 does.

use std::io::Read as _;

use erofs_codec::deflate::DeflateDecoder;
use erofs_codec::lz4::Lz4Decoder;
use erofs_codec::lzma::LzmaDecoder;
use erofs_codec::zstd::ZstdDecoder;
use erofs_codec::{DecodeError, Decoder, Ending};
use lzma_rust2::LzmaReader;

/// Longest output.
const MAX_OUTPUT: usize = 1 << 20;
const DICTIONARY: u32 = 1 << 20;

/// Runs target `decode_lz4`.
pub fn lz4(input: &[u8]) {
    check(&mut Lz4Decoder, input);
    let Some((length, unit)) = split(input) else {
        return;
    };
    let mut expected = vec![0; length];
    if let Ok(length) = lz4_flex::block::decompress_into(unit, &mut expected) {
        let mut output = vec![0; length];
        // lz4_flex also takes blocks that end with a match.
        let ending = Lz4Decoder.decode(unit, &mut output);
        assert!(ending.is_ok(), "{ending:?}");
        assert!(output == expected[..length], "lz4_flex decodes differently");
    }
}

/// Runs target `decode_lzma`.
pub fn lzma(input: &[u8]) {
    check(&mut LzmaDecoder::new(DICTIONARY), input);
    let Some((length, unit)) = split(input) else {
        return;
    };
    let Some((&first, coded)) = unit.split_first() else {
        return;
    };
    let (pb, rest) = (!first / 45, !first % 45);
    let (lp, lc) = (rest / 9, rest % 9);
    if pb > 4 || lc + lp > 4 {
        return;
    }
    let decode_both = |coded: &[u8]| {
        let (lc, lp, pb) = (lc.into(), lp.into(), pb.into());
        let source = [0].chain(coded);
        let mut reader =
            LzmaReader::new(source, length as u64, lc, lp, pb, DICTIONARY, None).ok()?;
        reader.set_defer_errors(true);
        let mut expected = vec![0; length];
        let theirs = reader.read_exact(&mut expected);
        let mut output = vec![0; length];
        let unit = [&[first], coded].concat();
        let ours = LzmaDecoder::new(DICTIONARY).decode(&unit, &mut output);
        Some((ours, theirs, output == expected))
    };
    let Some((mut ours, mut theirs, mut same)) = decode_both(coded) else {
        return;
    };
    // Where a unit is cut off, lzma-rust2 may not tell in time: then both get what it took to follow.
    if theirs.is_ok() && matches!(ours, Err(DecodeError::Truncated { .. })) {
        let longer = [coded, &[0; 64]].concat();
        let Some(both) = decode_both(&longer) else {
            return;
        };
        (ours, theirs, same) = both;
    }
    assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "{ours:?}, lzma-rust2: {theirs:?}"
    );
    assert!(ours.is_err() || same, "lzma-rust2 decodes differently");
}

/// Runs target `decode_deflate`.
pub fn deflate(input: &[u8]) {
    check(&mut DeflateDecoder::default(), input);
}

/// Runs target `decode_zstd`.
pub fn zstd(input: &[u8]) {
    check(&mut ZstdDecoder::new(20), input);
}

fn split(input: &[u8]) -> Option<(usize, &[u8])> {
    let ([a, b, c], unit) = input.split_first_chunk()?;
    let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
    Some((length % (MAX_OUTPUT + 1), unit))
}

fn check(decoder: &mut dyn Decoder, input: &[u8]) {
    let Some((length, unit)) = split(input) else {
        return;
    };
    let mut output = vec![0; length];
    let decoded = decoder.decode(unit, &mut output);
    let verified = decoder.verify(unit, length, &mut Vec::new());
    assert_eq!(verified, decoded, "verified to something else");
    let Ok(ending) = decoded else {
        return;
    };
    let mut again = vec![0xEE; length];
    let _ = decoder.decode(&unit[..unit.len() / 2], &mut again);
    assert_eq!(decoder.decode(unit, &mut again), Ok(ending));
    assert!(output == again, "decoded differently");
    for part in [length / 2, length.saturating_sub(1), 1.min(length)] {
        let prefix = &mut again[..part];
        prefix.fill(0xEE);
        let decoded = decoder.decode(unit, prefix);
        assert!(decoded.is_ok(), "{part} of {length} bytes: {decoded:?}");
        assert!(output.starts_with(prefix), "prefix decoded differently");
    }
    if let Ending::Trailing { bytes } = ending {
        let unit = &unit[..unit.len() - bytes];
        assert_eq!(decoder.decode(unit, &mut again), Ok(Ending::Exact));
        assert!(output == again, "decoded differently without what follows");
    }
}
