//! Compressors in the spelling of mkfs.erofs: `NAME[,LEVEL][,level=N][,dictsize=N]`, several by colons.

use crate::values;
use erofs_mkfs::data::compression::AlgorithmSettings;
use std::ops::RangeInclusive;

/// The argument of `-z`: at least one compressor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compressors(pub(crate) Vec<AlgorithmSettings>);

/// Parses the argument of `-z`.
pub(crate) fn parse(text: &str) -> Result<Compressors, String> {
    text.split(':')
        .map(compressor)
        .collect::<Result<_, _>>()
        .map(Compressors)
}

fn compressor(text: &str) -> Result<AlgorithmSettings, String> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let parameters = Parameters::parse(name, parts)?;
    match name {
        "zstd" => zstd(parameters),
        _ => Err(format!(
            "{name:?} is not a compressor of this version: expected zstd[,LEVEL]"
        )),
    }
}

fn zstd(parameters: Parameters<'_>) -> Result<AlgorithmSettings, String> {
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
}

impl<'a> Parameters<'a> {
    fn parse(compressor: &'a str, parts: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut parameters = Self {
            compressor,
            level: None,
            dictionary: None,
        };
        for part in parts {
            match part.split_once('=') {
                None | Some(("level", _)) => {
                    parameters.level = Some(part.strip_prefix("level=").unwrap_or(part));
                }
                Some(("dictsize", size)) => parameters.dictionary = Some(size),
                Some((key, _)) => return Err(format!("{compressor} has no parameter {key:?}")),
            }
        }
        Ok(parameters)
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
            let size = values::size(text)
                .ok()
                .and_then(|size| u32::try_from(size).ok());
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

    #[test]
    fn spellings_of_mkfs_erofs() {
        for (text, expected) in [
            ("zstd", vec![zstd(3, None)]),
            ("zstd,0", vec![zstd(3, None)]),
            ("zstd,22", vec![zstd(22, None)]),
            ("zstd,level=9", vec![zstd(9, None)]),
            ("zstd,level=9,dictsize=64k", vec![zstd(9, Some(16))]),
            ("zstd:zstd,15", vec![zstd(3, None), zstd(15, None)]),
        ] {
            assert_eq!(parse(text), Ok(Compressors(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "\"\" is not a compressor"),
            ("zstd:", "\"\" is not a compressor"),
            ("gzip", "\"gzip\" is not a compressor"),
            ("zstd,23", "expected 0 to 22"),
            ("zstd,x", "\"x\" is not a level of zstd"),
            ("zstd,dictsize=3000", "power of two"),
            ("zstd,dictsize=2m", "is not a dictsize of zstd"),
            ("zstd,lc=3", "zstd has no parameter \"lc\""),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
