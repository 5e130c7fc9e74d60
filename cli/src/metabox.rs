//! How metadata is compressed: inodes in the spelling of mkfs.erofs, `BYTES[:ALGORITHM[,LEVEL]]`, and directories.

use crate::compressors;
use crate::values;
use anyhow::{Context, bail};
use clap::Args;
use erofs_format::BlockBits;
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression, Method};

/// What of the metadata is compressed.
#[derive(Debug, Args)]
pub(crate) struct CompressedMetadata {
    /// Compress directories as well, where that pays: with -E fragments as these are, else those of more than a block, as files are,
    /// or as inodes are with -m
    #[arg(long, visible_alias = "zD", value_name = "0|1", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", hide_possible_values = true, value_parser = ["0", "1"])]
    compress_directories: Option<String>,

    /// Compress inodes with attributes, indexes and inlined data, in clusters of BYTES, by the first algorithm of -z unless
    /// another is named; implies -E48bit (Linux 6.17)
    #[arg(short = 'm', long, value_name = "BYTES[:ALGORITHM]", value_parser = parse)]
    pub(crate) metabox: Option<Metabox>,
}

impl CompressedMetadata {
    /// Whether directories are compressed, if that is said.
    pub(crate) fn directories(&self) -> Option<bool> {
        self.compress_directories.as_ref().map(|value| value == "1")
    }
}

/// The argument of `-m`.
#[derive(Debug, Clone)]
pub(crate) struct Metabox {
    /// Largest pcluster in bytes.
    cluster_size: u64,
    /// With what, unless as the files.
    settings: Option<AlgorithmSettings>,
}

/// Parses the argument of `-m`.
pub(crate) fn parse(text: &str) -> Result<Metabox, String> {
    let (size, algorithm) = match text.split_once(':') {
        Some((size, algorithm)) => (size, Some(algorithm)),
        None => (text, None),
    };
    let settings = match algorithm {
        Some(name) => match compressors::parse(name)?.0.as_slice() {
            [single] => Some(*single),
            _ => return Err("inodes are compressed by one algorithm".to_owned()),
        },
        None => None,
    };
    Ok(Metabox {
        cluster_size: values::size(size)?,
        settings,
    })
}

impl Metabox {
    /// How inodes are compressed in an image of which the files are compressed so.
    pub(crate) fn method(
        &self,
        files: Option<&Compression>,
        block_bits: BlockBits,
    ) -> anyhow::Result<Method> {
        let (size, block) = (self.cluster_size, block_bits.bytes());
        if size < block.max(4096) || size > 1 << 20 || !size.is_multiple_of(block) {
            bail!(
                "-m {size}: a cluster must be a multiple of the block size ({block}), from 4096 bytes to 1 MiB"
            );
        }
        let first = || Some(files?.default_method()?.settings);
        let settings = self
            .settings
            .or_else(first)
            .context("-m: without -z the algorithm has to be named, e.g. -m 4096:zstd")?;
        Ok(Method::new(settings, usize::try_from(size)?, block_bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_algorithms_are_told_apart() {
        let method = |text: &str| parse(text).unwrap().method(None, BlockBits::B4096);
        let zstd = method("16k:zstd,9").unwrap();
        assert_eq!(zstd.max_pcluster, 16384);
        assert_eq!(
            zstd.settings,
            AlgorithmSettings::Zstd {
                level: 9,
                window_bits: None
            }
        );
        for text in ["4096", "2048:lz4", "5000:lz4", "2M:lz4"] {
            assert!(method(text).is_err(), "{text}");
        }
        for text in ["", "x:lz4", "4096:lz5", "4096:lz4:zstd"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
