//! What files are compressed with: algorithms with their parameters, sizes of pclusters.

use super::fragments::Packing;
use erofs_codec::zstd::ZstdEncoder;
use erofs_codec::{EncodeError, Encoder};
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::{AlgorithmConfigs, ZstdConfig};
use erofs_format::kernel::Requirement;

/// Compression settings of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// What files are compressed with: the first, unless a file is told to take another.
    pub algorithms: Vec<AlgorithmSettings>,
    /// Largest pcluster in bytes of files that are not told otherwise: a multiple of the block size, at most 1 MiB.
    pub max_pcluster: usize,
    /// Whether and which data becomes fragments.
    pub packing: Option<Packing>,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// Algorithm and parameters.
    pub settings: AlgorithmSettings,
    /// Largest pcluster in bytes.
    pub max_pcluster: usize,
}

/// An algorithm with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlgorithmSettings {
    /// Zstd.
    Zstd {
        /// 1 to 22.
        level: u8,
        /// Window as a power of two in bytes, 10 to 20; `None` for eight pclusters, at most 1 MiB.
        window_bits: Option<u8>,
    },
}

impl Compression {
    /// One algorithm with pclusters of at most `max_pcluster` bytes.
    pub fn new(settings: AlgorithmSettings, max_pcluster: usize) -> Self {
        Self {
            algorithms: vec![settings],
            max_pcluster,
            packing: None,
        }
    }

    /// How the packed inode is compressed, when there is one.
    pub fn packed_method(&self) -> Option<Method> {
        let packing = self.packing?;
        let method = self.default_method()?;
        Some(Method {
            max_pcluster: packing.max_pcluster.unwrap_or(self.max_pcluster),
            ..method
        })
    }

    /// How files are compressed that are not told otherwise; `None` without any algorithm.
    pub fn default_method(&self) -> Option<Method> {
        self.algorithms.first().map(|settings| Method {
            settings: *settings,
            max_pcluster: self.max_pcluster,
        })
    }

    /// Every way in which a file may come to be compressed.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        self.algorithms
            .iter()
            .map(|settings| Method {
                settings: *settings,
                max_pcluster: self.max_pcluster,
            })
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
            method.widen(&mut configs);
        }
        configs
    }

    /// What a kernel must know for the algorithms.
    pub fn requirements(&self) -> Vec<Requirement> {
        self.algorithms
            .iter()
            .filter_map(|settings| requirement(settings.algorithm()))
            .collect()
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
    /// What decodes it.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Zstd { .. } => Algorithm::Zstd,
        }
    }

    /// Whether a look at a sample of the data is cheaper than to have the encoder find out that it does not compress
    /// (measured with `codec/examples/compressibility`).
    pub const fn is_worth_sampling(&self) -> bool {
        match self {
            Self::Zstd { level, .. } => *level >= 6,
        }
    }
}

impl Method {
    /// An encoder for pclusters of this size.
    ///
    /// # Errors
    /// [`EncodeError::Parameter`] names the parameter that is out of its range.
    pub fn encoder(&self) -> Result<Box<dyn Encoder>, EncodeError> {
        match self.settings {
            AlgorithmSettings::Zstd { level, window_bits } => {
                let window_bits = self.zstd_window_bits(window_bits);
                let encoder =
                    ZstdEncoder::new(level.into(), window_bits.into(), self.max_pcluster)?;
                Ok(Box::new(encoder))
            }
        }
    }

    /// Eight pclusters, at most 1 MiB, as mkfs.erofs chooses it.
    fn zstd_window_bits(&self, asked: Option<u8>) -> u8 {
        let automatic = || (8 * self.max_pcluster).clamp(1 << 10, 1 << 20).ilog2();
        asked.unwrap_or_else(|| u8::try_from(automatic()).unwrap_or(20))
    }

    /// Widens the configuration of the algorithm to what this method needs.
    fn widen(&self, configs: &mut AlgorithmConfigs) {
        match self.settings {
            AlgorithmSettings::Zstd { window_bits, .. } => {
                let before = configs.zstd.map_or(0, |config| config.window_bits);
                let window_bits = self.zstd_window_bits(window_bits).max(before);
                configs.zstd = Some(ZstdConfig { window_bits });
            }
        }
    }
}
