//! What files are compressed with: algorithms with their parameters, sizes of pclusters.

use super::fragments::Packing;
use super::hints::{Choice, Hints};
use erofs_codec::compressibility;
use erofs_codec::deflate::DeflateEncoder;
use erofs_codec::lz4::{self, Lz4Encoder, Lz4HcEncoder};
use erofs_codec::lzma::{LzmaEncoder, Properties};
use erofs_codec::zstd::ZstdEncoder;
use erofs_codec::{EncodeError, Encoder};
use erofs_format::BlockBits;
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::{
    AlgorithmConfigs, DeflateConfig, Lz4Config, LzmaConfig, MAX_LZ4_PCLUSTER_BLOCKS, ZstdConfig,
};
use erofs_format::kernel::Requirement;

/// Decoded bytes of the largest extent, unless told otherwise: the kernel refuses more than 12 MiB.
pub const MAX_EXTENT: usize = 8 << 20;

/// Compression settings of an image.
#[derive(Debug, Clone)]
pub struct Compression {
    /// Block size of the image.
    pub block_bits: BlockBits,
    /// What files are compressed with: the first, unless a hint says otherwise.
    pub algorithms: Vec<AlgorithmSettings>,
    /// Largest pcluster in bytes of files without a hint: a multiple of the block size, at most 1 MiB. An algorithm that
    /// can do less in blocks of this size does less.
    pub max_pcluster: usize,
    /// Whether and which data becomes fragments.
    pub packing: Option<Packing>,
    /// Most decoded bytes of an extent, at least a block.
    pub max_extent: usize,
    /// Which files are compressed otherwise, or not at all.
    pub hints: Hints,
    /// Whether the last pcluster of a file is inlined behind its index where it fits.
    pub inline_tails: bool,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// Algorithm and parameters.
    pub settings: AlgorithmSettings,
    /// Largest pcluster in bytes.
    pub max_pcluster: usize,
    /// Most decoded bytes of an extent.
    pub max_extent: usize,
    /// Whether it is for the packed inode, in which similar files lie side by side.
    pub is_for_fragments: bool,
}

/// An algorithm with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlgorithmSettings {
    /// LZ4, fast.
    Lz4,
    /// LZ4 with a thorough search for matches.
    Lz4Hc {
        /// 1 to 12.
        level: u8,
    },
    /// MicroLZMA.
    Lzma {
        /// 0 to 9, or 100 to 109 for the same with extreme effort.
        level: u8,
        /// Bytes, 4 KiB to 8 MiB; `None` for four pclusters, at least 32 KiB.
        dictionary_size: Option<u32>,
        /// High bits of the byte before a literal that choose its probabilities.
        literal_context: u8,
        /// Low bits of the position of a literal that do; both together at most 4.
        literal_position: u8,
        /// Low bits of the position of any symbol, at most 4.
        position: u8,
    },
    /// DEFLATE.
    Deflate {
        /// 1 to 12.
        level: u8,
        /// Window as a power of two in bytes, 8 to 15.
        window_bits: u8,
    },
    /// Zstd.
    Zstd {
        /// 1 to 22.
        level: u8,
        /// Window as a power of two in bytes, 10 to 20; `None` for eight pclusters, at most 1 MiB.
        window_bits: Option<u8>,
    },
}

impl Compression {
    /// The first of `algorithms` for all files, with pclusters of at most `max_pcluster` bytes.
    pub fn new(
        algorithms: Vec<AlgorithmSettings>,
        max_pcluster: usize,
        block_bits: BlockBits,
    ) -> Self {
        Self {
            block_bits,
            algorithms,
            max_pcluster,
            max_extent: MAX_EXTENT,
            hints: Hints::default(),
            inline_tails: false,
            packing: None,
        }
    }

    /// How the packed inode is compressed, when there is one.
    pub fn packed_method(&self) -> Option<Method> {
        let packing = self.packing?;
        let method = self.chosen(Choice::Compressed {
            algorithm: 0,
            max_pcluster: packing.max_pcluster.unwrap_or(self.max_pcluster),
        })?;
        Some(Method {
            is_for_fragments: true,
            ..method
        })
    }

    /// As [`Self::packed_method`], with another algorithm: with the settings that are given for it, or else its usual ones.
    pub fn packed_method_by(&self, algorithm: Algorithm) -> Option<Method> {
        let method = self.packed_method()?;
        let mut given = self.algorithms.iter().copied();
        let settings = given
            .find(|settings| settings.algorithm() == algorithm)
            .unwrap_or(AlgorithmSettings::usual(algorithm));
        let size = method.max_pcluster;
        Some(Method {
            max_extent: self.max_extent,
            ..Method::new(settings, size, self.block_bits)
        })
    }

    /// How files without a hint are compressed.
    pub fn default_method(&self) -> Option<Method> {
        self.chosen(self.default_choice())
    }

    /// How a file is compressed, if at all.
    pub fn method(&self, path: &[u8]) -> Option<Method> {
        self.chosen(self.hints.of(path).unwrap_or(self.default_choice()))
    }

    fn default_choice(&self) -> Choice {
        Choice::Compressed {
            algorithm: 0,
            max_pcluster: self.max_pcluster,
        }
    }

    fn chosen(&self, choice: Choice) -> Option<Method> {
        match choice {
            Choice::Plain => None,
            Choice::Compressed {
                algorithm,
                max_pcluster,
            } => self.algorithms.get(algorithm).map(|settings| Method {
                max_extent: self.max_extent,
                ..Method::new(*settings, max_pcluster, self.block_bits)
            }),
        }
    }

    /// Every way in which a file may come to be compressed, some of them more than once.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        std::iter::once(self.default_choice())
            .chain(self.hints.choices())
            .filter_map(|choice| self.chosen(choice))
            .chain(self.packed_method())
    }

    /// Size in bytes of the largest pcluster of any file.
    pub fn largest_pcluster(&self) -> usize {
        self.methods()
            .map(|method| method.max_pcluster)
            .max()
            .unwrap_or(0)
    }

    /// What the superblock says about the algorithms in use: whatever any of their settings needs.
    pub fn configs(&self) -> AlgorithmConfigs {
        let mut configs = AlgorithmConfigs::default();
        for method in self.methods() {
            method.widen(self.block_bits, &mut configs);
        }
        configs
    }

    /// What a kernel must know to read files without a hint.
    pub fn requirement(&self) -> Option<Requirement> {
        let method = self.chosen(self.default_choice())?;
        requirement(method.settings.algorithm())
    }
}

/// What a kernel must know to decode an algorithm, beyond what any kernel with compression does.
pub const fn requirement(algorithm: Algorithm) -> Option<Requirement> {
    match algorithm {
        Algorithm::Lz4 => None,
        Algorithm::Lzma => Some(Requirement::MicroLzma),
        Algorithm::Deflate => Some(Requirement::Deflate),
        Algorithm::Zstd => Some(Requirement::Zstd),
    }
}

impl AlgorithmSettings {
    /// LZ4HC, LZMA, DEFLATE and Zstd at the levels that they have when none is named.
    pub const fn usual(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Lz4 => Self::Lz4Hc { level: 9 },
            Algorithm::Lzma => Self::Lzma {
                level: 6,
                dictionary_size: None,
                literal_context: 3,
                literal_position: 0,
                position: 2,
            },
            Algorithm::Deflate => Self::Deflate {
                level: 1,
                window_bits: 15,
            },
            Algorithm::Zstd => Self::Zstd {
                level: 3,
                window_bits: None,
            },
        }
    }

    /// What decodes it.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Lz4 | Self::Lz4Hc { .. } => Algorithm::Lz4,
            Self::Lzma { .. } => Algorithm::Lzma,
            Self::Deflate { .. } => Algorithm::Deflate,
            Self::Zstd { .. } => Algorithm::Zstd,
        }
    }

    /// Blocks of its largest pcluster: the size is recorded in 11 bits, of which the last value means another thing, and
    /// Linux takes blocks of the largest LZ4 pcluster for pages.
    const fn most_blocks(&self) -> usize {
        match self.algorithm() {
            Algorithm::Lz4 => MAX_LZ4_PCLUSTER_BLOCKS as usize,
            _ => 2047,
        }
    }

    /// Whether a look at a sample of the data is cheaper than to have the encoder find out that it does not compress
    /// (measured with `codec/examples/compressibility`).
    pub const fn is_worth_sampling(&self) -> bool {
        match self {
            // The encoder of LZMA looks for itself.
            Self::Lz4 | Self::Lzma { .. } => false,
            Self::Lz4Hc { level } => *level as i32 >= compressibility::LZ4HC_SAMPLED_LEVEL,
            Self::Deflate { level, .. } => *level as i32 >= compressibility::DEFLATE_SAMPLED_LEVEL,
            Self::Zstd { level, .. } => *level as i32 >= compressibility::ZSTD_SAMPLED_LEVEL,
        }
    }
}

impl Method {
    /// Pclusters of `max_pcluster` bytes, or what the algorithm can do in blocks of this size.
    pub fn new(settings: AlgorithmSettings, max_pcluster: usize, block_bits: BlockBits) -> Self {
        let most = settings.most_blocks() * block_bits.len();
        Self {
            settings,
            max_pcluster: max_pcluster.min(most),
            max_extent: MAX_EXTENT,
            is_for_fragments: false,
        }
    }

    /// An encoder for pclusters of this size.
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] names the parameter that is out of its range.
    pub fn encoder(&self) -> Result<Box<dyn Encoder>, EncodeError> {
        let size = self.max_pcluster;
        Ok(match self.settings {
            AlgorithmSettings::Lz4 => Box::new(Lz4Encoder::new(lz4::MAX_DISTANCE)?),
            AlgorithmSettings::Lz4Hc { level } => {
                Box::new(Lz4HcEncoder::new(level.into(), lz4::MAX_DISTANCE)?)
            }
            AlgorithmSettings::Lzma {
                level,
                dictionary_size,
                literal_context,
                literal_position,
                position,
            } => {
                let properties = Properties::new(
                    literal_context.into(),
                    literal_position.into(),
                    position.into(),
                )?;
                let dictionary_size = self.lzma_dictionary(dictionary_size);
                Box::new(LzmaEncoder::new(
                    level.into(),
                    dictionary_size,
                    properties,
                    size,
                )?)
            }
            AlgorithmSettings::Deflate { level, window_bits } => {
                Box::new(DeflateEncoder::new(level.into(), window_bits.into(), size)?)
            }
            AlgorithmSettings::Zstd { level, window_bits } => {
                let window_bits = self.zstd_window_bits(window_bits);
                let encoder = ZstdEncoder::new(level.into(), window_bits.into(), size)?;
                Box::new(if self.is_for_fragments {
                    encoder.for_similar_files()
                } else {
                    encoder
                })
            }
        })
    }

    /// Four pclusters, 32 KiB to 8 MiB, as mkfs.erofs chooses it.
    fn lzma_dictionary(&self, asked: Option<u32>) -> u32 {
        let automatic = || (4 * self.max_pcluster).clamp(32 << 10, 8 << 20);
        asked.unwrap_or_else(|| u32::try_from(automatic()).unwrap_or(8 << 20))
    }

    /// Eight pclusters, at most 1 MiB, as mkfs.erofs chooses it.
    fn zstd_window_bits(&self, asked: Option<u8>) -> u8 {
        let automatic = || (8 * self.max_pcluster).clamp(1 << 10, 1 << 20).ilog2();
        asked.unwrap_or_else(|| u8::try_from(automatic()).unwrap_or(20))
    }

    /// Widens the configuration of the algorithm to what this method needs.
    pub(crate) fn widen(&self, block_bits: BlockBits, configs: &mut AlgorithmConfigs) {
        match self.settings {
            AlgorithmSettings::Lz4 | AlgorithmSettings::Lz4Hc { .. } => {
                let before = configs.lz4.map_or(1, |config| config.max_pcluster_blocks);
                let blocks = block_bits.blocks_for(self.max_pcluster as u64);
                configs.lz4 = Some(Lz4Config {
                    max_distance: lz4::MAX_DISTANCE,
                    max_pcluster_blocks: u16::try_from(blocks).unwrap_or(u16::MAX).max(before),
                });
            }
            AlgorithmSettings::Lzma {
                dictionary_size, ..
            } => {
                let before = configs.lzma.map_or(0, |config| config.dictionary_size);
                let dictionary_size = self.lzma_dictionary(dictionary_size).max(before);
                configs.lzma = Some(LzmaConfig { dictionary_size });
            }
            AlgorithmSettings::Deflate { window_bits, .. } => {
                let before = configs.deflate.map_or(0, |config| config.window_bits);
                let window_bits = window_bits.max(before);
                configs.deflate = Some(DeflateConfig { window_bits });
            }
            AlgorithmSettings::Zstd { window_bits, .. } => {
                let before = configs.zstd.map_or(0, |config| config.window_bits);
                let window_bits = self.zstd_window_bits(window_bits).max(before);
                configs.zstd = Some(ZstdConfig { window_bits });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 512-byte blocks: what is asked for is more than Linux mounts with LZ4, and more than an index can say.
    #[test]
    fn no_pcluster_has_more_blocks_than_its_algorithm_can() {
        let zstd = AlgorithmSettings::Zstd {
            level: 3,
            window_bits: None,
        };
        let mut compression =
            Compression::new(vec![AlgorithmSettings::Lz4, zstd], 1 << 20, BlockBits::B512);
        let hints = Hints::parse(b"1048576 1 so$\n4096 ^etc", 2, BlockBits::B512).unwrap();
        compression.hints = hints;
        compression.packing = Some(Packing {
            max_pcluster: Some(1 << 19),
            ..Packing::default()
        });
        let sizes: Vec<_> = compression.methods().map(|m| m.max_pcluster).collect();
        assert_eq!(sizes, [256 * 512, 2047 * 512, 4096, 256 * 512]);
        let lz4 = compression.configs().lz4.unwrap();
        assert_eq!(lz4.max_pcluster_blocks, 256);
    }
}
