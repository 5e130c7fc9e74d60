//! The probe images of `images/probe`, see the manifest there.

use crate::ability::Ability;
use erofs_format::kernel::Requirement;

/// An image with one file, `probe`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeImage {
    pub(super) name: &'static str,
    pub(super) bytes: &'static [u8],
    /// Content of its extra device.
    pub(super) blob: Option<&'static [u8]>,
    /// Size of `/probe` in bytes.
    pub(super) size: usize,
}

macro_rules! image {
    ($name:literal, $size:literal) => {
        ProbeImage {
            name: $name,
            bytes: include_bytes!(concat!("../../../images/probe/", $name, ".erofs")),
            blob: None,
            size: $size,
        }
    };
}

pub(super) const BASELINE: ProbeImage = image!("block-4096", 9000);

/// The image whose mount proves `ability`; `None` for what takes more than an image, or has none.
pub(super) fn of(ability: Ability) -> Option<ProbeImage> {
    Some(match ability {
        Ability::Blocks(bits) => match bits.bits() {
            9 => image!("block-512", 9000),
            10 => image!("block-1024", 9000),
            11 => image!("block-2048", 9000),
            12 => BASELINE,
            14 => image!("block-16384", 9000),
            _ => return None,
        },
        Ability::CompressedBlocks(bits) => match bits.bits() {
            9 => image!("lz4-512", 9000),
            12 => image!("lz4", 9000),
            _ => return None,
        },
        Ability::Read(requirement) => match requirement {
            Requirement::Baseline => BASELINE,
            Requirement::ZeroPadding => image!("lz4", 9000),
            Requirement::BigPcluster => image!("bigpcluster", 20000),
            Requirement::ChunkedFile => image!("chunked", 9000),
            Requirement::DeviceTable => ProbeImage {
                blob: Some(include_bytes!("../../../images/probe/devices.blob")),
                ..image!("devices", 9000)
            },
            Requirement::MicroLzma => image!("lzma", 9000),
            Requirement::Ztailpacking => image!("ztailpacking", 12000),
            Requirement::FragmentsOrDedupe => image!("fragments", 12000),
            Requirement::SmallBlocks => image!("block-512", 9000),
            Requirement::SmallBlocksCompressed => image!("lz4-512", 9000),
            Requirement::XattrPrefixes => image!("xattr-prefixes", 9000),
            Requirement::Deflate => image!("deflate", 9000),
            Requirement::Zstd => image!("zstd", 9000),
            Requirement::Bit48 => image!("48bit", 9000),
            Requirement::Metabox => image!("metabox", 9000),
            Requirement::FlatDevices
            | Requirement::LongLabel
            | Requirement::PlainXattrPrefixes
            | Requirement::IndexHoles => return None,
        },
        Ability::FileBacked | Ability::DirectIo | Ability::FsOffset => BASELINE,
    })
}

/// What `/probe` holds: numbered lines, each with a pseudo-random word (the upper half of Knuth's MMIX generator, seed 1).
pub(super) fn content(size: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(size + 32);
    let mut state = 1u64;
    for number in 0u32.. {
        if content.len() >= size {
            break;
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(
            format!("erofs probe line {number:04}: {:08x}\n", state >> 32).as_bytes(),
        );
    }
    content.truncate(size);
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use erofs_format::BlockBits;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeMap;

    /// The images are those of the manifest, and every one is used.
    #[test]
    fn images_match_the_manifest() {
        let manifest = include_str!("../../../images/probe/manifest.tsv");
        let mut rows: BTreeMap<&str, (&str, usize, usize)> = manifest
            .lines()
            .skip(1)
            .map(|line| {
                let fields: Vec<_> = line.split('\t').collect();
                (
                    fields[0],
                    (
                        fields[1],
                        fields[2].parse().expect("bytes"),
                        fields[3].parse().expect("bytes"),
                    ),
                )
            })
            .collect();
        let hex = |bytes: &[u8]| {
            Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let mut abilities = Ability::all();
        abilities.push(Ability::CompressedBlocks(BlockBits::B4096));
        for image in abilities.into_iter().filter_map(of) {
            let name = format!("{}.erofs", image.name);
            if let Some((sha256, bytes, size)) = rows.remove(name.as_str()) {
                assert_eq!(
                    (hex(image.bytes).as_str(), image.bytes.len(), image.size),
                    (sha256, bytes, size),
                    "{name}"
                );
            }
            if let Some(blob) = image.blob {
                let (sha256, bytes, _) = rows
                    .remove(format!("{}.blob", image.name).as_str())
                    .expect("in the manifest");
                assert_eq!((hex(blob).as_str(), blob.len()), (sha256, bytes));
            }
        }
        assert!(rows.is_empty(), "unused: {rows:?}");
    }

    #[test]
    fn content_is_what_the_recipe_says() {
        let hex: String = Sha256::digest(content(9000))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "9b99ad10f5d13dab5452349e75185d7a77074497793dfb7b8378d532dc5d54bb"
        );
    }
}
