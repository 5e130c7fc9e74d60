//! Configurations of the algorithms, behind the superblock and its extension slots.
//!
//! ```text
//! for each algorithm of the superblock's bitmap, lowest first, aligned to 4 bytes:
//!          length u16 (0: 65536), payload
//! LZ4      window u16, largest pcluster in blocks u16, zero 10 bytes
//! LZMA     dictionary size u32, format u16 (0), zero 8 bytes
//! DEFLATE  window bits u8, zero 5 bytes
//! Zstd     format u8 (0), window bits - 10 u8, zero 4 bytes
//! ```
//! Only with the feature COMPR_CFGS: since Linux 5.13, LZMA 5.16, DEFLATE 6.6, Zstd 6.10.

use super::{Algorithm, MAX_PCLUSTER_SIZE};
use crate::address::BlockBits;
use crate::record::{self, Truncated};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most blocks of an LZ4 pcluster: Linux 6.16 and later take blocks of any size for pages, of which 1 MiB has 256. Linux 6.12 reads
/// more blocks below 4 KiB (tried in guests; what is between is unknown).
pub const MAX_LZ4_PCLUSTER_BLOCKS: u16 = 256;
/// Smallest LZMA dictionary in bytes.
pub const MIN_LZMA_DICTIONARY: u32 = 4096;
/// Largest LZMA dictionary in bytes.
pub const MAX_LZMA_DICTIONARY: u32 = 8 << 20;
/// Largest DEFLATE window, as a power of two in bytes.
pub const MAX_DEFLATE_WINDOW_BITS: u8 = 15;
/// Smallest Zstd window, as a power of two in bytes.
pub const MIN_ZSTD_WINDOW_BITS: u8 = 10;
/// Largest Zstd window, as a power of two in bytes.
pub const MAX_ZSTD_WINDOW_BITS: u8 = 20;

/// Alignment of a configuration in bytes.
const ALIGNMENT: usize = 4;
const LENGTH_SIZE: usize = 2;

/// LZ4's configuration as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawLz4Config {
    /// Window in bytes, 0 = 64 KiB.
    pub max_distance: U16,
    /// Largest pcluster in blocks, 0 = 1.
    pub max_pclusterblks: U16,
    /// Zero.
    pub reserved: [u8; 10],
}

/// LZMA's configuration as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawLzmaConfig {
    /// Dictionary size in bytes.
    pub dict_size: U32,
    /// Zero.
    pub format: U16,
    /// Zero.
    pub reserved: [u8; 8],
}

/// DEFLATE's configuration as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawDeflateConfig {
    /// Window as a power of two in bytes.
    pub windowbits: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Zstd's configuration as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawZstdConfig {
    /// Zero.
    pub format: u8,
    /// Window as a power of two in bytes, less 10.
    pub windowlog: u8,
    /// Zero.
    pub reserved: [u8; 4],
}

const _: () = assert!(size_of::<RawLz4Config>() == 14);
const _: () = assert!(size_of::<RawLzmaConfig>() == 14);
const _: () = assert!(size_of::<RawDeflateConfig>() == 6);
const _: () = assert!(size_of::<RawZstdConfig>() == 6);

/// LZ4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lz4Config {
    /// Window in bytes, 0 = 64 KiB.
    pub max_distance: u16,
    /// Largest pcluster in blocks, from 1.
    pub max_pcluster_blocks: u16,
}

/// MicroLZMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LzmaConfig {
    /// Dictionary size in bytes, 4 KiB to 8 MiB.
    pub dictionary_size: u32,
}

/// DEFLATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeflateConfig {
    /// Window as a power of two in bytes, up to 15.
    pub window_bits: u8,
}

/// Zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ZstdConfig {
    /// Window as a power of two in bytes, 10 to 20.
    pub window_bits: u8,
}

/// Configurations of the algorithms that an image uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AlgorithmConfigs {
    /// LZ4.
    pub lz4: Option<Lz4Config>,
    /// MicroLZMA.
    pub lzma: Option<LzmaConfig>,
    /// DEFLATE.
    pub deflate: Option<DeflateConfig>,
    /// Zstd.
    pub zstd: Option<ZstdConfig>,
}

/// Why configurations cannot be used. The kernel refuses each of these at mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A configuration is missing or too short.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Bits of algorithms that no kernel up to 7.3 knows.
    #[error("algorithm bitmap {0:#06x} has unknown bits")]
    UnknownAlgorithm(u16),
    /// Larger pclusters than allowed.
    #[error("LZ4 pclusters of up to {0} blocks are larger than 1 MiB")]
    Lz4PclusterSize(u16),
    /// Another stream format.
    #[error("{algorithm} stream format {value} is unknown")]
    Format {
        /// LZMA or Zstd.
        algorithm: &'static str,
        /// As stored.
        value: u16,
    },
    /// Dictionary too small or too large.
    #[error("LZMA dictionary of {0} bytes, must be 4 KiB to 8 MiB")]
    LzmaDictionary(u32),
    /// Window too large.
    #[error("DEFLATE window of 2^{0} bytes, at most 2^15 are allowed")]
    DeflateWindow(u8),
    /// Window too small or too large.
    #[error("Zstd window of 2^{0} bytes, must be 2^10 to 2^20")]
    ZstdWindow(u8),
}

impl AlgorithmConfigs {
    /// Bitmap of the algorithms, as the superblock stores it.
    pub fn bitmap(&self) -> u16 {
        [
            (self.lz4.is_some(), Algorithm::Lz4),
            (self.lzma.is_some(), Algorithm::Lzma),
            (self.deflate.is_some(), Algorithm::Deflate),
            (self.zstd.is_some(), Algorithm::Zstd),
        ]
        .into_iter()
        .fold(0, |bitmap, (used, algorithm)| {
            bitmap | if used { algorithm.bit() } else { 0 }
        })
    }

    /// Decodes the configurations of `bitmap` from the start of `bytes`, the image from the end of the superblock and its
    /// extension slots on.
    ///
    /// # Errors
    /// [`ConfigError`] for what the kernel refuses.
    pub fn decode(bytes: &[u8], bitmap: u16, block_bits: BlockBits) -> Result<Self, ConfigError> {
        let known = Algorithm::ALL
            .into_iter()
            .fold(0, |bits, algorithm| bits | algorithm.bit());
        if bitmap & !known != 0 {
            return Err(ConfigError::UnknownAlgorithm(bitmap));
        }
        let mut configs = Self::default();
        let mut offset = 0;
        for algorithm in Algorithm::ALL {
            if bitmap & algorithm.bit() == 0 {
                continue;
            }
            let (payload, end) = payload(bytes, offset)?;
            match algorithm {
                Algorithm::Lz4 => configs.lz4 = Some(Lz4Config::decode(payload, block_bits)?),
                Algorithm::Lzma => configs.lzma = Some(LzmaConfig::decode(payload)?),
                Algorithm::Deflate => configs.deflate = Some(DeflateConfig::decode(payload)?),
                Algorithm::Zstd => configs.zstd = Some(ZstdConfig::decode(payload)?),
            }
            offset = end.next_multiple_of(ALIGNMENT);
        }
        Ok(configs)
    }

    /// The stored form, without padding behind the last one.
    ///
    /// # Errors
    /// [`ConfigError`] for values that the kernel would refuse.
    pub fn encode(&self, block_bits: BlockBits) -> Result<Vec<u8>, ConfigError> {
        let mut out = Vec::new();
        if let Some(lz4) = self.lz4 {
            lz4.check(block_bits)?;
            let raw = RawLz4Config {
                max_distance: U16::new(lz4.max_distance),
                max_pclusterblks: U16::new(lz4.max_pcluster_blocks),
                reserved: [0; 10],
            };
            append(&mut out, 14, raw.as_bytes());
        }
        if let Some(lzma) = self.lzma {
            lzma.check()?;
            let raw = RawLzmaConfig {
                dict_size: U32::new(lzma.dictionary_size),
                format: U16::new(0),
                reserved: [0; 8],
            };
            append(&mut out, 14, raw.as_bytes());
        }
        if let Some(deflate) = self.deflate {
            deflate.check()?;
            let raw = RawDeflateConfig {
                windowbits: deflate.window_bits,
                reserved: [0; 5],
            };
            append(&mut out, 6, raw.as_bytes());
        }
        if let Some(zstd) = self.zstd {
            let raw = RawZstdConfig {
                format: 0,
                windowlog: zstd.check()?,
                reserved: [0; 4],
            };
            append(&mut out, 6, raw.as_bytes());
        }
        Ok(out)
    }
}

impl Lz4Config {
    fn decode(payload: &[u8], block_bits: BlockBits) -> Result<Self, ConfigError> {
        let raw: RawLz4Config = record::read(payload, "LZ4 configuration")?;
        let config = Self {
            max_distance: raw.max_distance.get(),
            max_pcluster_blocks: raw.max_pclusterblks.get().max(1),
        };
        config.check(block_bits)?;
        Ok(config)
    }

    fn check(self, block_bits: BlockBits) -> Result<(), ConfigError> {
        let blocks = self.max_pcluster_blocks;
        if u64::from(blocks) << block_bits.bits() > MAX_PCLUSTER_SIZE {
            return Err(ConfigError::Lz4PclusterSize(blocks));
        }
        Ok(())
    }
}

impl LzmaConfig {
    fn decode(payload: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawLzmaConfig = record::read(payload, "LZMA configuration")?;
        if raw.format.get() != 0 {
            return Err(ConfigError::Format {
                algorithm: "LZMA",
                value: raw.format.get(),
            });
        }
        let config = Self {
            dictionary_size: raw.dict_size.get(),
        };
        config.check()?;
        Ok(config)
    }

    fn check(self) -> Result<(), ConfigError> {
        if (MIN_LZMA_DICTIONARY..=MAX_LZMA_DICTIONARY).contains(&self.dictionary_size) {
            Ok(())
        } else {
            Err(ConfigError::LzmaDictionary(self.dictionary_size))
        }
    }
}

impl DeflateConfig {
    fn decode(payload: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawDeflateConfig = record::read(payload, "DEFLATE configuration")?;
        let config = Self {
            window_bits: raw.windowbits,
        };
        config.check()?;
        Ok(config)
    }

    fn check(self) -> Result<(), ConfigError> {
        if self.window_bits > MAX_DEFLATE_WINDOW_BITS {
            return Err(ConfigError::DeflateWindow(self.window_bits));
        }
        Ok(())
    }
}

impl ZstdConfig {
    fn decode(payload: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawZstdConfig = record::read(payload, "Zstd configuration")?;
        if raw.format != 0 {
            return Err(ConfigError::Format {
                algorithm: "Zstd",
                value: raw.format.into(),
            });
        }
        let config = Self {
            window_bits: raw.windowlog.saturating_add(MIN_ZSTD_WINDOW_BITS),
        };
        config.check()?;
        Ok(config)
    }

    /// The stored value.
    fn check(self) -> Result<u8, ConfigError> {
        self.window_bits
            .checked_sub(MIN_ZSTD_WINDOW_BITS)
            .filter(|_| self.window_bits <= MAX_ZSTD_WINDOW_BITS)
            .ok_or(ConfigError::ZstdWindow(self.window_bits))
    }
}

/// The payload of the configuration at `offset`, and its end.
fn payload(bytes: &[u8], offset: usize) -> Result<(&[u8], usize), Truncated> {
    let name = "algorithm configuration";
    let rest = bytes.get(offset..).unwrap_or_default();
    let length: U16 = record::read(rest, name)?;
    let length = match usize::from(length.get()) {
        0 => 1 << 16,
        length => length,
    };
    let needed = LENGTH_SIZE + length;
    let payload = rest.get(LENGTH_SIZE..needed).ok_or(Truncated {
        record: name,
        needed,
        available: rest.len(),
    })?;
    Ok((payload, offset + needed))
}

fn append(out: &mut Vec<u8>, length: u16, payload: &[u8]) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(payload);
}
