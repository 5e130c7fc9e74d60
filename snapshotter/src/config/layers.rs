//! How layers are stored: the table `[layers]`.

use erofs_format::BlockBits;
use erofs_mkfs::build::{BuildOptions, Verify};
use erofs_mkfs::data::compression::{AlgorithmSettings, Compression};
use erofs_mkfs::source::Whiteouts;
use erofs_mkfs::spelling;
use serde::Deserialize;

/// Pages of most machines, and so the blocks of images that all of them mount.
const BLOCK: BlockBits = BlockBits::B4096;
/// Bytes of the largest compressed cluster, unless told otherwise: as `erofs build -z` has it.
const CLUSTER_SIZE: usize = 64 << 10;
/// Layers that are converted before they are asked for: enough to keep all processors busy, and little if nobody asks.
const AHEAD: usize = 8;

/// How layers are stored. Layers that are there already stay as they are, whatever is said later.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct Layers {
    /// What becomes of tars.
    pub mode: Mode,
    /// How the data of files is compressed. Layers that are merged must be uncompressed: an index points at whole blocks.
    pub compression: Option<LayerCompression>,
    /// How many layers of an image are converted before containerd asks for them, from the one on that it asked for.
    pub ahead: usize,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            compression: None,
            ahead: AHEAD,
        }
    }
}

/// What becomes of tars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They become images.
    #[default]
    Convert,
    /// They are kept, unpacked, and get an index, which Linux 6.4 and later mount. Those whose data is not in whole blocks of 512
    /// bytes are converted all the same.
    Index,
}

/// How the data of files is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerCompression {
    /// Algorithm and parameters.
    pub algorithm: AlgorithmSettings,
    /// Bytes of the largest compressed cluster, a multiple of 4096 up to 1 MiB.
    pub cluster_size: usize,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    mode: Mode,
    compression: String,
    cluster_size: Option<String>,
    ahead: usize,
}

impl Default for Table {
    fn default() -> Self {
        let Layers { mode, ahead, .. } = Layers::default();
        Self {
            mode,
            compression: String::new(),
            cluster_size: None,
            ahead,
        }
    }
}

impl TryFrom<Table> for Layers {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let compression = match (table.compression.as_str(), table.cluster_size) {
            ("", None) => None,
            ("", Some(_)) => {
                return Err(
                    "layers.cluster_size: it is about layers.compression, which is missing"
                        .to_owned(),
                );
            }
            (text, size) => Some(LayerCompression::parse(text, size.as_deref())?),
        };
        if table.mode == Mode::Index && compression.is_some() {
            return Err(
                "layers.compression: it is about images; mode = \"index\" keeps tars as they are"
                    .to_owned(),
            );
        }
        Ok(Self {
            mode: table.mode,
            compression,
            ahead: table.ahead,
        })
    }
}

impl LayerCompression {
    /// What `erofs build` takes as `-z` and `-C`.
    fn parse(algorithm: &str, size: Option<&str>) -> Result<Self, String> {
        if algorithm.contains(':') {
            return Err(format!(
                "layers.compression: {algorithm:?} names several compressors: layers have one"
            ));
        }
        let algorithm = spelling::compressor(algorithm)
            .map_err(|reason| format!("layers.compression: {reason}"))?;
        let wrong = |reason| format!("layers.cluster_size: {reason}");
        let size = match size {
            Some(text) => spelling::size(text).map_err(wrong)?,
            None => CLUSTER_SIZE as u64,
        };
        let whole = size.is_multiple_of(BLOCK.bytes());
        match usize::try_from(size) {
            Ok(cluster_size @ 4096..=0x10_0000) if whole => Ok(Self {
                algorithm,
                cluster_size,
            }),
            _ => Err(wrong(format!(
                "{size} bytes: expected a multiple of 4096, up to 1M"
            ))),
        }
    }
}

impl Layers {
    /// How layers become images: all data in blocks of their own, so that images can be merged over them, and whiteouts as
    /// overlayfs has them.
    pub(crate) fn options(&self, whiteouts: Whiteouts) -> BuildOptions {
        let compression = self.compression.map(
            |LayerCompression {
                 algorithm,
                 cluster_size,
             }| { Compression::new(vec![algorithm], cluster_size, BLOCK) },
        );
        let mut options = BuildOptions {
            block_bits: BLOCK,
            compression,
            inline_tails: false,
            verify: Verify::Small,
            ..BuildOptions::default()
        };
        options.image.whiteouts = whiteouts;
        options.image.rules.as_layer = true;
        // It is published, and synced, under another one.
        options.image.passing_name = true;
        options
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;
    use crate::config::LayerCompression;
    use erofs_mkfs::data::compression::AlgorithmSettings;

    fn layers(text: &str) -> Result<super::Layers, String> {
        let config: Result<Config, _> = toml::from_str(&format!("[layers]\n{text}"));
        config
            .map(|config| config.layers)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn compression_is_that_of_erofs_build() {
        for (text, expected) in [
            ("", None),
            ("compression = \"\"", None),
            (
                "compression = \"lz4\"",
                Some((AlgorithmSettings::Lz4, 65536)),
            ),
            (
                "compression = \"lz4hc,12\"\ncluster_size = \"1M\"",
                Some((AlgorithmSettings::Lz4Hc { level: 12 }, 1 << 20)),
            ),
        ] {
            let expected = expected.map(|(algorithm, cluster_size)| LayerCompression {
                algorithm,
                cluster_size,
            });
            assert_eq!(
                layers(text).map(|layers| layers.compression),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key_and_line() {
        for (text, key, reason) in [
            (
                "compression = \"gzip\"",
                "layers.compression",
                "not a compressor",
            ),
            (
                "compression = \"zstd,99\"",
                "layers.compression",
                "expected 0 to 22",
            ),
            (
                "compression = \"lz4:zstd\"",
                "layers.compression",
                "several",
            ),
            ("cluster_size = \"64k\"", "layers.cluster_size", "missing"),
            (
                "compression = \"lz4\"\ncluster_size = \"5000\"",
                "layers.cluster_size",
                "a multiple of 4096",
            ),
            (
                "compression = \"lz4\"\ncluster_size = \"2M\"",
                "layers.cluster_size",
                "up to 1M",
            ),
            ("compressor = \"lz4\"", "compressor", "unknown field"),
            ("mode = \"tar\"", "mode", "expected"),
            (
                "mode = \"index\"\ncompression = \"lz4\"",
                "layers.compression",
                "keeps tars",
            ),
        ] {
            let error = layers(text).expect_err(text);
            assert!(
                error.contains(key) && error.contains(reason),
                "{text}: {error}"
            );
            assert!(error.contains("line "), "{text}: {error}");
        }
    }
}
