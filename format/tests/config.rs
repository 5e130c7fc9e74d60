//! Configurations of the algorithms: golden bytes, and each error.

use erofs_format::BlockBits;
use erofs_format::compression::config::{
    AlgorithmConfigs, ConfigError, DeflateConfig, Lz4Config, LzmaConfig, ZstdConfig,
};

#[test]
fn configurations_have_golden_bytes() {
    let configs = AlgorithmConfigs {
        lz4: Some(Lz4Config {
            max_distance: 65535,
            max_pcluster_blocks: 16,
        }),
        lzma: Some(LzmaConfig {
            dictionary_size: 32768,
        }),
        deflate: Some(DeflateConfig { window_bits: 15 }),
        zstd: Some(ZstdConfig { window_bits: 19 }),
    };
    let mut expected = vec![14, 0, 0xFF, 0xFF, 16, 0];
    expected.resize(16, 0);
    expected.extend_from_slice(&[14, 0, 0, 0x80]);
    expected.resize(32, 0);
    expected.extend_from_slice(&[6, 0, 15, 0, 0, 0, 0, 0, 6, 0, 0, 9, 0, 0, 0, 0]);
    let block = BlockBits::B4096;
    assert_eq!(configs.encode(block).as_deref(), Ok(&expected[..]));
    assert_eq!(configs.bitmap(), 15);
    assert_eq!(AlgorithmConfigs::decode(&expected, 15, block), Ok(configs));
    assert_eq!(
        AlgorithmConfigs::decode(&expected, 0, block),
        Ok(AlgorithmConfigs::default())
    );
}

#[test]
fn configurations_are_refused_when_illegal() {
    let block = BlockBits::B4096;
    let decode = |bytes: &[u8], bitmap| {
        AlgorithmConfigs::decode(bytes, bitmap, block).expect_err("an illegal configuration")
    };
    let with = |length: u8, payload: &[u8]| {
        let mut bytes = vec![length, 0];
        bytes.extend_from_slice(payload);
        bytes.resize(2 + usize::from(length), 0);
        bytes
    };
    assert_eq!(decode(&[], 16), ConfigError::UnknownAlgorithm(16));
    assert!(matches!(decode(&[14], 1), ConfigError::Truncated(_)));
    assert!(matches!(decode(&[0; 64], 1), ConfigError::Truncated(_)));
    assert!(matches!(
        decode(&with(13, &[]), 1),
        ConfigError::Truncated(_)
    ));
    assert_eq!(
        decode(&with(14, &[0, 0, 1, 1]), 1),
        ConfigError::Lz4PclusterSize(257)
    );
    assert_eq!(
        decode(&with(14, &[255, 15]), 2),
        ConfigError::LzmaDictionary(4095)
    );
    let (algorithm, value) = ("LZMA", 1);
    assert_eq!(
        decode(&with(14, &[0, 16, 0, 0, 1]), 2),
        ConfigError::Format { algorithm, value }
    );
    assert_eq!(decode(&with(6, &[16]), 4), ConfigError::DeflateWindow(16));
    assert_eq!(decode(&with(6, &[0, 11]), 8), ConfigError::ZstdWindow(21));
    let algorithm = "Zstd";
    assert_eq!(
        decode(&with(6, &[1]), 8),
        ConfigError::Format { algorithm, value }
    );
    let zstd = |window_bits| AlgorithmConfigs {
        zstd: Some(ZstdConfig { window_bits }),
        ..AlgorithmConfigs::default()
    };
    assert_eq!(zstd(9).encode(block), Err(ConfigError::ZstdWindow(9)));
    assert_eq!(zstd(21).encode(block), Err(ConfigError::ZstdWindow(21)));
}

/// The superblock area of the worked example in the format reference: LZ4 at 1152, DEFLATE at 1168, device slot at 1280.
#[test]
fn configurations_and_device_table_follow_the_worked_example() {
    let configs = AlgorithmConfigs {
        lz4: Some(Lz4Config {
            max_distance: 65535,
            max_pcluster_blocks: 16,
        }),
        deflate: Some(DeflateConfig { window_bits: 15 }),
        ..AlgorithmConfigs::default()
    };
    let bytes = configs.encode(BlockBits::B4096).unwrap();
    let start = 1024 + 128;
    assert_eq!(bytes[..2], [14, 0]);
    assert_eq!(bytes[1168 - start..1170 - start], [6, 0]);
    assert_eq!((start + bytes.len()).next_multiple_of(128), 1280);
}
