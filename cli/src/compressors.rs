//! The argument of `-z`: compressors in the spelling of mkfs.erofs, several by colons.

use erofs_mkfs::data::compression::AlgorithmSettings;
use erofs_mkfs::spelling::compressor;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_separated_by_colons() {
        for text in ["lz4hc,12:zstd", "deflate,6:zstd", "zstd:zstd,15"] {
            let (first, second) = text.split_once(':').expect("two");
            let both = vec![
                compressor(first).expect("valid"),
                compressor(second).expect("valid"),
            ];
            assert_eq!(parse(text), Ok(Compressors(both)), "{text}");
        }
        let error = parse("zstd:").expect_err("half");
        assert!(error.contains("\"\" is not a compressor"), "{error}");
    }
}
