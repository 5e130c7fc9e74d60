//! What an image asks of whoever mounts it.

use crate::ability::Ability;
use crate::devices::Slot;
use erofs_format::BlockBits;
use erofs_format::address::DeviceId;
use erofs_format::device::{DEVICE_SLOT_SIZE, DeviceSlot};
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::kernel::{KernelVersion, Requirement};
use erofs_format::superblock::{SUPERBLOCK_OFFSET, Superblock, SuperblockError};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The first bytes of images of composefs, whose files are chunk-based without the feature bit.
const COMPOSEFS_MAGIC: [u8; 4] = 0xd078_629a_u32.to_le_bytes();

/// What an image needs, as plain values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// Its block size.
    pub block_bits: BlockBits,
    /// Format features and algorithms, oldest first, block sizes apart.
    pub features: Vec<Requirement>,
    /// Whether data may be compressed.
    pub compressed: bool,
    /// Number of extra devices.
    pub extra_devices: u16,
    /// Least number of bytes from the start of the image that can hold all extra devices behind it, each at its place in
    /// the unified address space. `None` without extra devices, or where one has no such place.
    pub flat_bytes: Option<u64>,
    /// What the device table says about the blobs. Fewer than [`Requirements::extra_devices`] where the file ends early.
    pub slots: Vec<Slot>,
}

/// Why an image cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// The file.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        error: io::Error,
    },
    /// Its superblock.
    #[error("{path}: {error}", path = path.display())]
    Superblock {
        /// The image.
        path: PathBuf,
        /// The rule it breaks.
        #[source]
        error: SuperblockError,
    },
}

impl Requirements {
    /// Nothing but what every EROFS reads: plain 4 KiB blocks.
    pub fn plain() -> Self {
        Self {
            block_bits: BlockBits::B4096,
            features: Vec::new(),
            compressed: false,
            extra_devices: 0,
            flat_bytes: None,
            slots: Vec::new(),
        }
    }

    /// From a superblock. [`Requirements::flat_bytes`] and [`Requirements::slots`] stay unknown: they take the device table.
    /// What no superblock announces is told by `erofs_reader::check`.
    pub fn from_superblock(superblock: &Superblock) -> Self {
        let algorithms = superblock.algorithms();
        let mut features = Requirement::from_features(superblock.incompat);
        for (bit, algorithm) in [
            (1, Requirement::MicroLzma),
            (2, Requirement::Deflate),
            (3, Requirement::Zstd),
        ] {
            if algorithms & 1 << bit != 0 {
                features.push(algorithm);
            }
        }
        if !superblock.label.contains(&0) {
            features.push(Requirement::LongLabel);
        }
        // A compatible feature, which older kernels do not know and so miss the prefixes.
        if superblock.compat.contains(FeatureCompat::PLAIN_XATTR_PFX)
            && superblock.packed.is_some()
            && superblock.xattr_prefix_count > 0
        {
            features.push(Requirement::PlainXattrPrefixes);
        }
        features.sort();
        Self {
            block_bits: superblock.block_bits,
            features,
            compressed: algorithms != 0,
            extra_devices: superblock.extra_devices,
            flat_bytes: None,
            slots: Vec::new(),
        }
    }

    /// From the image that begins at byte `offset` of the file or block device `image`. The superblock's checksum is left
    /// to whoever mounts.
    ///
    /// # Errors
    /// [`RequirementsError`]: unreadable, or not a superblock that a kernel up to 7.3 accepts.
    pub fn read(image: &Path, offset: u64) -> Result<Self, RequirementsError> {
        let unreadable = |error| RequirementsError::Read {
            path: image.to_owned(),
            error,
        };
        // A FIFO must not keep us waiting for somebody to write.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(image, flags, Mode::empty())
            .map_err(|errno| unreadable(errno.into()))?;
        let file = File::from(file);
        let superblock =
            read_up_to(&file, offset.checked_add(SUPERBLOCK_OFFSET), 4096).map_err(unreadable)?;
        let superblock =
            Superblock::decode(&superblock).map_err(|error| RequirementsError::Superblock {
                path: image.to_owned(),
                error,
            })?;
        let mut requirements = Self::from_superblock(&superblock);
        if read_up_to(&file, Some(offset), COMPOSEFS_MAGIC.len()).map_err(unreadable)?
            == COMPOSEFS_MAGIC
        {
            requirements.add([Requirement::ChunkedFile]);
        }
        if superblock.extra_devices != 0 {
            let table = device_table(&file, offset, &superblock).map_err(unreadable)?;
            requirements.flat_bytes = (table.len() == usize::from(superblock.extra_devices))
                .then(|| flat_bytes(&table, superblock.block_bits))
                .flatten();
            requirements.slots = table
                .iter()
                .enumerate()
                .filter_map(|(index, slot)| {
                    let device = DeviceId::from_slot(index)?;
                    Some(Slot::new(device, slot, superblock.block_bits))
                })
                .collect();
        }
        Ok(requirements)
    }

    /// Adds what the image was found to need beyond what its superblock says.
    pub fn add(&mut self, more: impl IntoIterator<Item = Requirement>) {
        self.features.extend(more);
        self.features.sort();
        self.features.dedup();
    }

    /// What the kernel must be able to do, on a machine with pages of this size.
    pub fn abilities(&self, page: BlockBits) -> Vec<Ability> {
        let mut abilities = vec![Ability::Blocks(self.block_bits)];
        if self.compressed && self.block_bits != page {
            abilities.push(Ability::CompressedBlocks(self.block_bits));
        }
        abilities.extend(self.features.iter().map(|&feature| Ability::Read(feature)));
        abilities
    }

    /// The oldest kernel that reads the image, and what asks for it; `None` when its blocks are larger than `page`.
    pub fn oldest_kernel(&self, page: BlockBits) -> Option<(KernelVersion, Ability)> {
        let mut oldest = None;
        for ability in self.abilities(page) {
            let since = ability.since(page)?;
            if oldest.is_none_or(|(version, _)| since > version) {
                oldest = Some((since, ability));
            }
        }
        oldest
    }
}

fn read_up_to(file: &File, at: Option<u64>, length: usize) -> io::Result<Vec<u8>> {
    let mut at = at.ok_or(io::ErrorKind::InvalidInput)?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                at = at.saturating_add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The slots, as many as the file holds.
fn device_table(file: &File, offset: u64, superblock: &Superblock) -> io::Result<Vec<DeviceSlot>> {
    let length = usize::from(superblock.extra_devices) * DEVICE_SLOT_SIZE as usize;
    let table = read_up_to(file, offset.checked_add(superblock.device_table.0), length)?;
    let wide = superblock.incompat.contains(FeatureIncompat::BIT48);
    Ok(table
        .chunks(DEVICE_SLOT_SIZE as usize)
        .map_while(|slot| DeviceSlot::decode(slot, wide).ok())
        .collect())
}

fn flat_bytes(table: &[DeviceSlot], block_bits: BlockBits) -> Option<u64> {
    let mut last = 0;
    for slot in table {
        if slot.blocks == 0 || slot.unified_start.0 == 0 {
            return None;
        }
        // Of the last block one byte is enough: a blob need not end on a block's end.
        let last_block = slot.unified_start.checked_add(slot.blocks - 1)?;
        last = last.max(last_block.checked_offset(block_bits)?.0);
    }
    Some(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use erofs_format::kernel::Requirement as R;

    fn image(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../images/probe")
            .join(format!("{name}.erofs"))
    }

    /// What older kernels do not read though no incompatible feature says so.
    #[test]
    fn needs_beyond_the_feature_bits() {
        for (name, requirement) in [
            ("composefs", R::ChunkedFile),
            ("xattr-prefix-plain", R::PlainXattrPrefixes),
        ] {
            let path = image(&format!("../golden/{name}"));
            let requirements = Requirements::read(&path, 0).expect("an image");
            assert!(requirements.features.contains(&requirement), "{name}");
            let (kernel, ability) = requirements.oldest_kernel(BlockBits::B4096).expect("some");
            assert_eq!(
                (kernel, ability),
                (requirement.since(), Ability::Read(requirement)),
                "{name}"
            );
        }
    }

    /// What images made by mkfs.erofs say about themselves.
    #[test]
    fn images_state_their_needs() {
        type Row = (&'static str, u8, &'static [R], (u16, u16));
        let table: [Row; 13] = [
            ("block-512", 9, &[], (6, 4)),
            ("block-4096", 12, &[], (5, 4)),
            ("lz4", 12, &[R::ZeroPadding], (5, 4)),
            ("lz4-512", 9, &[R::ZeroPadding], (6, 8)),
            (
                "bigpcluster",
                12,
                &[R::ZeroPadding, R::BigPcluster],
                (5, 13),
            ),
            (
                "lzma",
                12,
                &[R::ZeroPadding, R::BigPcluster, R::MicroLzma],
                (5, 16),
            ),
            (
                "deflate",
                12,
                &[R::ZeroPadding, R::BigPcluster, R::Deflate],
                (6, 6),
            ),
            (
                "zstd",
                12,
                &[R::ZeroPadding, R::BigPcluster, R::Zstd],
                (6, 10),
            ),
            (
                "ztailpacking",
                12,
                &[R::ZeroPadding, R::Ztailpacking],
                (5, 17),
            ),
            (
                "fragments",
                12,
                &[R::ZeroPadding, R::FragmentsOrDedupe],
                (6, 1),
            ),
            ("chunked", 12, &[R::ChunkedFile], (5, 15)),
            ("48bit", 12, &[R::Bit48], (6, 15)),
            ("metabox", 12, &[R::Bit48, R::Metabox], (6, 17)),
        ];
        for (name, bits, features, (major, minor)) in table {
            let needs = Requirements::read(&image(name), 0).expect(name);
            assert_eq!(
                (needs.block_bits.bits(), needs.features.as_slice()),
                (bits, features),
                "{name}"
            );
            let oldest = needs.oldest_kernel(BlockBits::B4096).expect("mountable").0;
            assert_eq!(oldest, KernelVersion::new(major, minor), "{name}");
        }
        let huge = Requirements::read(&image("block-16384"), 0).expect("read");
        assert_eq!(huge.oldest_kernel(BlockBits::B4096), None);
    }

    #[test]
    fn devices_are_counted_and_placed() {
        let needs = Requirements::read(&image("devices"), 0).expect("read");
        assert_eq!(
            (needs.extra_devices, needs.features.as_slice()),
            (1, [R::ChunkedFile, R::DeviceTable].as_slice())
        );
        // The image is 1 block; the blob of 3 blocks stands behind it, and 1 byte of its last is enough.
        assert_eq!(needs.flat_bytes, Some((1 + 2) * 4096 + 1));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        for (bytes, offset) in [
            (vec![], 0),
            (vec![0; 1100], 0),
            (vec![0; 8192], 0),
            (vec![0; 8192], u64::MAX),
        ] {
            std::fs::write(file.path(), &bytes).expect("written");
            assert!(
                Requirements::read(file.path(), offset).is_err(),
                "{} bytes at {offset}",
                bytes.len()
            );
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        let fifo = folder.path().join("fifo");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, Mode::RUSR, 0).expect("made");
        assert!(Requirements::read(&fifo, 0).is_err());
        assert!(Requirements::read(folder.path(), 0).is_err());
        assert!(matches!(
            Requirements::read(Path::new("/nonexistent/image"), 0),
            Err(RequirementsError::Read { .. })
        ));
    }
}
