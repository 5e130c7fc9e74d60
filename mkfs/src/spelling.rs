//! How users spell sizes and compressors: as mkfs.erofs has it.

use crate::data::compression::AlgorithmSettings;
use std::ops::RangeInclusive;

/// A number of bytes: decimal, with a suffix `k`, `M`, `G` or `T` for powers of 1024.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is not a size: expected bytes, e.g. 65536 or 64k");
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 30),
        Some((at, 't' | 'T')) => (text.get(..at), 40),
        _ => (Some(text), 0),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(error)
}

/// A compressor with its parameters: `NAME[,LEVEL][,level=N][,dictsize=N]`.
///
/// # Errors
/// What is wrong with it, and what was expected.
pub fn compressor(text: &str) -> Result<AlgorithmSettings, String> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let parameters = Parameters::parse(name, parts)?;
    match name {
        "lz4" => lz4(&parameters),
        "lz4hc" => lz4hc(&parameters),
        "lzma" => lzma(&parameters),
        "deflate" => deflate(&parameters, 0..=9),
        "libdeflate" => deflate(&parameters, 0..=12),
        "zstd" => zstd(&parameters),
        _ => Err(format!(
            "{name:?} is not a compressor of this version: expected lz4, lz4hc, lzma, deflate, libdeflate or zstd"
        )),
    }
}

fn lz4(parameters: &Parameters<'_>) -> Result<AlgorithmSettings, String> {
    parameters.refuse_level()?;
    parameters.refuse_dictionary()?;
    Ok(AlgorithmSettings::Lz4)
}

fn lz4hc(parameters: &Parameters<'_>) -> Result<AlgorithmSettings, String> {
    const DEFAULT_LEVEL: u8 = 9;
    parameters.refuse_dictionary()?;
    let level = parameters.level(0..=12)?;
    Ok(AlgorithmSettings::Lz4Hc {
        // The library takes level 0 for its default.
        level: level.filter(|level| *level > 0).unwrap_or(DEFAULT_LEVEL),
    })
}

fn lzma(parameters: &Parameters<'_>) -> Result<AlgorithmSettings, String> {
    const DEFAULT_LEVEL: u8 = 6;
    let level = parameters.level(0..=109)?.unwrap_or(DEFAULT_LEVEL);
    if (10..100).contains(&level) {
        return Err(format!(
            "{level} is not a level of lzma: expected 0 to 9, or 100 to 109 for extreme effort"
        ));
    }
    let [literal_context, literal_position, position] = parameters.bits;
    if literal_context + literal_position > 4 {
        return Err("lc and lp of lzma must be 4 at most together".to_owned());
    }
    Ok(AlgorithmSettings::Lzma {
        level,
        dictionary_size: parameters.dictionary(4096..=8 << 20)?,
        literal_context,
        literal_position,
        position,
    })
}

/// One encoder serves both names that mkfs.erofs has for DEFLATE, which differ in their levels.
fn deflate(
    parameters: &Parameters<'_>,
    levels: RangeInclusive<u8>,
) -> Result<AlgorithmSettings, String> {
    const LEAST_LEVEL: u8 = 1;
    let window = parameters.dictionary(1..=32768)?.unwrap_or(32768);
    // The window is a power of two, the smallest has 256 bytes.
    let window_bits = window.next_power_of_two().ilog2().max(8);
    Ok(AlgorithmSettings::Deflate {
        // Level 0 is for "no effort" there, which is not worth a file of its own here.
        level: parameters.level(levels)?.unwrap_or(0).max(LEAST_LEVEL),
        window_bits: u8::try_from(window_bits).unwrap_or(15),
    })
}

fn zstd(parameters: &Parameters<'_>) -> Result<AlgorithmSettings, String> {
    const DEFAULT_LEVEL: u8 = 3;
    let level = parameters.level(0..=22)?.unwrap_or(0);
    let window = parameters.dictionary(1 << 10..=1 << 20)?;
    if window.is_some_and(|size| !size.is_power_of_two()) {
        return Err("dictsize of zstd must be a power of two".to_owned());
    }
    Ok(AlgorithmSettings::Zstd {
        // Level 0 is the library's name for its default.
        level: if level == 0 { DEFAULT_LEVEL } else { level },
        window_bits: window.and_then(|size| u8::try_from(size.ilog2()).ok()),
    })
}

/// What stands behind a compressor's name.
struct Parameters<'a> {
    compressor: &'a str,
    level: Option<&'a str>,
    dictionary: Option<&'a str>,
    /// `lc`, `lp` and `pb` of LZMA.
    bits: [u8; 3],
}

impl<'a> Parameters<'a> {
    fn parse(compressor: &'a str, parts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut parameters = Self {
            compressor,
            level: None,
            dictionary: None,
            bits: [3, 0, 2],
        };
        for part in parts {
            match part.split_once('=') {
                None | Some(("level", _)) => {
                    parameters.level = Some(part.strip_prefix("level=").unwrap_or(part));
                }
                Some(("dictsize", size)) => parameters.dictionary = Some(size),
                Some((key @ ("lc" | "lp" | "pb"), bits)) if compressor == "lzma" => {
                    let [literal_context, literal_position, position] = &mut parameters.bits;
                    let field = match key {
                        "lc" => literal_context,
                        "lp" => literal_position,
                        _ => position,
                    };
                    *field = bits
                        .parse()
                        .ok()
                        .filter(|bits| *bits <= 4)
                        .ok_or_else(|| format!("{part:?} of lzma: expected 0 to 4 bits"))?;
                }
                Some((key, _)) => return Err(format!("{compressor} has no parameter {key:?}")),
            }
        }
        Ok(parameters)
    }

    fn refuse_level(&self) -> Result<(), String> {
        match self.level {
            None => Ok(()),
            Some(_) => Err(format!("{} has no levels", self.compressor)),
        }
    }

    fn refuse_dictionary(&self) -> Result<(), String> {
        match self.dictionary {
            None => Ok(()),
            Some(_) => Err(format!("{} has no dictsize", self.compressor)),
        }
    }

    fn level(&self, allowed: RangeInclusive<u8>) -> Result<Option<u8>, String> {
        let parse = |text: &str| {
            let level = text.parse().ok().filter(|level| allowed.contains(level));
            level.ok_or_else(|| {
                format!(
                    "{text:?} is not a level of {}: expected {} to {}",
                    self.compressor,
                    allowed.start(),
                    allowed.end()
                )
            })
        };
        self.level.map(parse).transpose()
    }

    fn dictionary(&self, allowed: RangeInclusive<u32>) -> Result<Option<u32>, String> {
        let parse = |text: &str| {
            let size = size(text).ok().and_then(|size| u32::try_from(size).ok());
            size.filter(|size| allowed.contains(size)).ok_or_else(|| {
                format!(
                    "{text:?} is not a dictsize of {}: expected {} to {} bytes",
                    self.compressor,
                    allowed.start(),
                    allowed.end()
                )
            })
        };
        self.dictionary.map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zstd(level: u8, window_bits: Option<u8>) -> AlgorithmSettings {
        AlgorithmSettings::Zstd { level, window_bits }
    }

    fn lzma(level: u8, dictionary_size: Option<u32>, bits: [u8; 3]) -> AlgorithmSettings {
        let [literal_context, literal_position, position] = bits;
        AlgorithmSettings::Lzma {
            level,
            dictionary_size,
            literal_context,
            literal_position,
            position,
        }
    }

    fn deflate(level: u8, window_bits: u8) -> AlgorithmSettings {
        AlgorithmSettings::Deflate { level, window_bits }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("64k", Some(65536)),
            ("1M", Some(1 << 20)),
            ("2T", Some(2 << 40)),
        ] {
            assert_eq!(size(text).ok(), expected);
        }
        for text in ["", "k", "-1", "1.5M", "99999999999T", "0x10", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spellings_of_mkfs_erofs() {
        for (text, expected) in [
            ("zstd", zstd(3, None)),
            ("zstd,0", zstd(3, None)),
            ("zstd,22", zstd(22, None)),
            ("zstd,level=9", zstd(9, None)),
            ("zstd,level=9,dictsize=64k", zstd(9, Some(16))),
            ("lz4", AlgorithmSettings::Lz4),
            ("lz4hc", AlgorithmSettings::Lz4Hc { level: 9 }),
            ("lzma", lzma(6, None, [3, 0, 2])),
            (
                "lzma,109,dictsize=1m,lc=0,lp=4,pb=0",
                lzma(109, Some(1 << 20), [0, 4, 0]),
            ),
            ("deflate", deflate(1, 15)),
            ("deflate,9,dictsize=1000", deflate(9, 10)),
            ("libdeflate,level=12", deflate(12, 15)),
        ] {
            assert_eq!(compressor(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "\"\" is not a compressor"),
            ("gzip", "\"gzip\" is not a compressor"),
            ("lz4,1", "lz4 has no levels"),
            ("lz4hc,13", "expected 0 to 12"),
            ("lz4hc,dictsize=64k", "lz4hc has no dictsize"),
            ("lzma,10", "100 to 109"),
            ("lzma,lc=3,lp=2", "lc and lp"),
            ("lzma,pb=5", "0 to 4 bits"),
            ("lzma,dictsize=16m", "is not a dictsize of lzma"),
            ("deflate,10", "expected 0 to 9"),
            ("zstd,23", "expected 0 to 22"),
            ("zstd,x", "\"x\" is not a level of zstd"),
            ("zstd,dictsize=3000", "power of two"),
            ("zstd,dictsize=2m", "is not a dictsize of zstd"),
            ("zstd,lc=3", "zstd has no parameter \"lc\""),
        ] {
            let error = compressor(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
