//! What a kernel may or may not be able to do for an EROFS image.

use erofs_format::BlockBits;
use erofs_format::kernel::{KernelVersion, Requirement};
use std::fmt;

/// Something of the kernel that a mount depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// Reads a feature of the format or an algorithm.
    Read(Requirement),
    /// Reads uncompressed images of this block size.
    Blocks(BlockBits),
    /// Reads compressed images of this block size.
    CompressedBlocks(BlockBits),
    /// Mounts a regular file.
    FileBacked,
    /// Reads a regular file past the page cache of its filesystem (`directio`).
    DirectIo,
    /// Mounts an image that begins inside its file (`fsoffset=`).
    FsOffset,
}

impl Ability {
    /// The first kernel that has it, given the machine's page size; `None` where no kernel has it. Versions: format
    /// reference §20, §22.
    pub fn since(self, page: BlockBits) -> Option<KernelVersion> {
        let version = KernelVersion::new;
        Some(match self {
            Self::Read(requirement) => requirement.since(),
            Self::Blocks(block) | Self::CompressedBlocks(block) if block > page => return None,
            Self::Blocks(block) | Self::CompressedBlocks(block) if block == page => {
                Requirement::Baseline.since()
            }
            Self::Blocks(_) => Requirement::SmallBlocks.since(),
            Self::CompressedBlocks(_) => Requirement::SmallBlocksCompressed.since(),
            // directio came with 6.13 and was taken into 6.12.y.
            Self::FileBacked | Self::DirectIo => version(6, 12),
            Self::FsOffset => version(6, 16),
        })
    }

    /// Every ability, in the order of the `features` table.
    pub fn all() -> Vec<Self> {
        use Requirement as R;
        let blocks = (9..=14)
            .filter_map(|bits| BlockBits::new(bits).ok())
            .filter(|bits| bits.bits() != 13);
        let read = [
            R::ZeroPadding,
            R::BigPcluster,
            R::ChunkedFile,
            R::DeviceTable,
            R::MicroLzma,
            R::Ztailpacking,
            R::FragmentsOrDedupe,
            R::XattrPrefixes,
            R::Deflate,
            R::Zstd,
            R::Bit48,
            R::Metabox,
        ];
        blocks
            .map(Self::Blocks)
            .chain([Self::CompressedBlocks(BlockBits::B512)])
            .chain(read.map(Self::Read))
            .chain([Self::FileBacked, Self::DirectIo, Self::FsOffset])
            .collect()
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(requirement) => f.write_str(requirement.describe()),
            Self::Blocks(bits) => write!(f, "{}-byte blocks", bits.bytes()),
            Self::CompressedBlocks(bits) => {
                write!(f, "compression with {}-byte blocks", bits.bytes())
            }
            Self::FileBacked => f.write_str("file-backed mounts"),
            Self::DirectIo => f.write_str("direct I/O on file-backed mounts"),
            Self::FsOffset => f.write_str("images at an offset (fsoffset=)"),
        }
    }
}

impl serde::Serialize for Ability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_depend_on_the_page() {
        let bits = |bits| BlockBits::new(bits).expect("valid");
        for (ability, page, expected) in [
            (Ability::Blocks(bits(12)), 12, Some((5, 4))),
            (Ability::Blocks(bits(9)), 12, Some((6, 4))),
            (Ability::CompressedBlocks(bits(9)), 12, Some((6, 8))),
            (Ability::CompressedBlocks(bits(12)), 12, Some((5, 4))),
            (Ability::Blocks(bits(14)), 12, None),
            (Ability::Blocks(bits(12)), 16, Some((6, 4))),
            (Ability::CompressedBlocks(bits(12)), 14, Some((6, 8))),
            (Ability::Read(Requirement::Zstd), 12, Some((6, 10))),
            (Ability::FsOffset, 12, Some((6, 16))),
        ] {
            let expected = expected.map(|(major, minor)| KernelVersion::new(major, minor));
            assert_eq!(
                ability.since(bits(page)),
                expected,
                "{ability} on pages of 2^{page}"
            );
        }
    }
}
