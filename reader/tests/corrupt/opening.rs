//! Superblock and what is read with it.

use crate::support::{Builder, META, PREFIXES, open, sample};
use crate::{BITS, changed, open_error, rule};
use erofs_format::Nid;
use erofs_format::compression::config::ConfigError;
use erofs_format::superblock::SuperblockError;
use erofs_format::xattr::LongPrefixError;
use erofs_reader::{Error, OpenError, Rule};

#[test]
fn superblock() {
    let kind = |at, bytes: &[u8]| match open_error(at, bytes) {
        OpenError::Superblock(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(kind(1024, &[0; 4]), SuperblockError::Magic(0));
    assert!(matches!(kind(1036, &[8]), SuperblockError::BlockSize(_)));
    assert!(matches!(kind(1036, &[17]), SuperblockError::BlockSize(_)));
    assert_eq!(
        kind(1024 + 90, &[1]),
        SuperblockError::DirectoryBlockBits(1)
    );
    assert_eq!(
        kind(1024 + 82, &[1]),
        SuperblockError::UnknownFeatures(0x10000)
    );
    let mut image = sample(BITS).image;
    image[1024 + 48] ^= 1;
    assert!(matches!(
        open(&image),
        Err(OpenError::Superblock(SuperblockError::Checksum { .. }))
    ));
    assert!(matches!(
        open(&image[..1000]),
        Err(OpenError::Superblock(SuperblockError::Magic(0)))
    ));
}

/// What does not matter for reading does not keep an image from being opened.
#[test]
fn a_strange_superblock_opens() {
    let image = sample(BITS).image;
    for (at, bytes) in [
        (1024 + 16, &[0xFF; 8][..]),
        (1024 + 36, &[0; 4]),
        (1024 + 48, &[0; 16]),
        (1024 + 64, &[b'x'; 16]),
        (1024 + 106, &[0xFF; 2]),
        (1024 + 120, &[0xFF; 8]),
        (1024 + 11, &[0xF0]),
    ] {
        assert!(open(&changed(&image, at, bytes)).is_ok(), "{at}");
    }
}

#[test]
fn algorithm_configurations() {
    assert!(matches!(
        open_error(1024 + 84, &[0x10]),
        OpenError::Algorithms(ConfigError::UnknownAlgorithm(0x10))
    ));
    // The Zstd window, behind length and format.
    assert!(matches!(
        open_error(1024 + 128 + 3, &[11]),
        OpenError::Algorithms(ConfigError::ZstdWindow(21))
    ));
}

#[test]
fn device_table_beyond_the_image() {
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    builder.superblock.root = root;
    builder.directory(root, root, &[], &[]);
    builder.superblock.incompat |=
        erofs_format::feature::FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2;
    let image = changed(&builder.finish(), 1024 + 86, &[0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(
        open(&image),
        Err(OpenError::Read(Error::Corrupt {
            rule: Rule::BeyondDevice {
                length: 8_388_480,
                ..
            },
            ..
        }))
    ));
}

#[test]
fn root() {
    let sample = sample(BITS);
    let plain = ((sample.inode_at("plain") - META) / 32) as u16;
    let error = |bytes: &[u8]| match open(&changed(&sample.image, 1024 + 14, bytes)) {
        Err(OpenError::Read(Error::Corrupt { rule, .. })) => rule,
        other => panic!("{other:?}"),
    };
    assert_eq!(error(&plain.to_le_bytes()), Rule::RootNotADirectory);
    assert!(matches!(
        rule(open(&sample.image).unwrap().inode(Nid(1 << 40))),
        Rule::BeyondDevice { .. }
    ));
    assert_eq!(
        rule(open(&sample.image).unwrap().inode(Nid(u64::MAX >> 1))),
        Rule::Overflow
    );
    assert_eq!(
        rule(open(&sample.image).unwrap().inode(Nid(1 << 63))),
        Rule::NoMetabox
    );
}

#[test]
fn xattr_prefixes() {
    let error = |bytes: &[u8]| match open_error(PREFIXES, bytes) {
        OpenError::Read(Error::Corrupt { rule, .. }) => rule,
        other => panic!("{other}"),
    };
    assert_eq!(
        error(&[0, 0]),
        Rule::XattrPrefix(LongPrefixError::Length(0))
    );
    assert_eq!(
        error(&[1, 1]),
        Rule::XattrPrefix(LongPrefixError::Length(257))
    );
}
