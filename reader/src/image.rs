//! Opening an image.

use crate::cache::Cache;
use crate::decode::{DecoderPool, Pcluster};
use crate::device::Devices;
use crate::error::{Error, OpenError, Rule};
use crate::inode::Inode;
use crate::map::Sums;
use crate::metadata::{PAGE_SIZE, PageKey};
use crate::source::{ByteSource, OffsetSource};
use erofs_format::compression::MAX_EXTENT_SIZE;
use erofs_format::compression::config::{AlgorithmConfigs, Lz4Config};
use erofs_format::device::{DEVICE_SLOT_SIZE, DeviceSlot};
use erofs_format::feature::FeatureIncompat;
use erofs_format::superblock::{
    EXTENSION_SLOT_SIZE, SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock, checksum_length,
    verify_checksum,
};
use erofs_format::xattr::LongPrefix;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::fmt;

/// How to open an image.
pub struct ImageOptions {
    /// Sources of the extra devices, by slot: one for each, or none at all. With none the devices are expected behind the
    /// image in the same source, each at its place in the unified address space, as Linux 6.4 and newer do.
    pub devices: Vec<Box<dyn ByteSource>>,
    /// Where the image begins in its source, in bytes. Devices of their own are not moved.
    pub offset: ByteOffset,
    /// Refuse images whose superblock has another checksum than it says, as the kernel does.
    pub checksum: bool,
    /// Look at no inode and no long xattr prefix: an image whose root is broken still has a superblock and devices.
    pub superblock_only: bool,
    /// Most bytes of decoded extents to keep.
    pub extent_cache: usize,
    /// Most bytes of metadata to keep.
    pub metadata_cache: usize,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            offset: ByteOffset(0),
            checksum: true,
            superblock_only: false,
            extent_cache: 64 << 20,
            metadata_cache: 16 << 20,
        }
    }
}

impl fmt::Debug for ImageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageOptions")
            .field("devices", &self.devices.len())
            .field("offset", &self.offset)
            .field("checksum", &self.checksum)
            .field("superblock_only", &self.superblock_only)
            .field("extent_cache", &self.extent_cache)
            .field("metadata_cache", &self.metadata_cache)
            .finish()
    }
}

/// An open image. Everything is read through `&self`, from as many threads as wanted.
pub struct Image {
    superblock: Superblock,
    devices: Devices,
    configs: AlgorithmConfigs,
    pages: Cache<PageKey>,
    extents: Cache<Pcluster>,
    decoders: DecoderPool,
    sums: Sums,
    metabox: Option<Inode>,
    packed: Option<Inode>,
    xattr_prefixes: Vec<LongPrefix>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("superblock", &self.superblock)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Opens the image in `source`.
    ///
    /// # Errors
    /// [`OpenError`] for what the kernel refuses to mount (`erofs_fc_fill_super`, fs/erofs/super.c), and nothing else:
    /// features that this reader does not read are reported where they are met.
    pub fn open(
        source: impl ByteSource + 'static,
        options: ImageOptions,
    ) -> Result<Self, OpenError> {
        let primary: Box<dyn ByteSource> = if options.offset == ByteOffset(0) {
            Box::new(source)
        } else {
            Box::new(OffsetSource::new(source, options.offset))
        };
        let superblock = read_superblock(primary.as_ref(), options.checksum)?;
        let configs = read_configs(primary.as_ref(), &superblock)?;
        let slots = read_slots(primary.as_ref(), &superblock)?;
        if !options.devices.is_empty() && options.devices.len() != slots.len() {
            return Err(OpenError::DeviceCount {
                given: options.devices.len(),
                slots: slots.len(),
            });
        }
        let devices = Devices::new(primary, options.devices, slots, superblock.block_bits);
        let mut image = Self {
            superblock,
            devices,
            configs,
            pages: Cache::new(options.metadata_cache, PAGE_SIZE),
            extents: Cache::new(options.extent_cache, MAX_EXTENT_SIZE as usize),
            decoders: DecoderPool::default(),
            sums: Sums::default(),
            metabox: None,
            packed: None,
            xattr_prefixes: Vec::new(),
        };
        if options.superblock_only {
            return Ok(image);
        }
        // In this order: inodes and prefixes may lie in the metabox, prefixes in the packed inode.
        image.metabox = image.special_inode(image.superblock.metabox)?;
        image.packed = image.special_inode(image.superblock.packed)?;
        image.xattr_prefixes = image.read_xattr_prefixes()?;
        let root = image.root()?;
        if !root.is_directory() {
            return Err(root
                .corrupt(Rule::RootNotADirectory, root.position().1)
                .into());
        }
        Ok(image)
    }

    fn special_inode(&self, nid: Option<Nid>) -> Result<Option<Inode>, Error> {
        nid.map(|nid| self.inode(nid)).transpose()
    }

    /// The superblock.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The slots of the extra-device table: tags, sizes, places in the unified address space. Slot `i` is device `i + 1`.
    pub fn device_slots(&self) -> &[DeviceSlot] {
        self.devices.slots()
    }

    /// Size of the image and its devices together, in bytes, as their sources have it.
    pub fn total_bytes(&self) -> u64 {
        self.devices.total_size()
    }

    /// The root directory.
    ///
    /// # Errors
    /// As [`Image::inode`]; it was read when the image was opened, so only I/O errors are left.
    pub fn root(&self) -> Result<Inode, Error> {
        self.inode(self.superblock.root)
    }

    pub(crate) const fn devices(&self) -> &Devices {
        &self.devices
    }

    pub(crate) const fn pages(&self) -> &Cache<PageKey> {
        &self.pages
    }

    /// Configurations of its algorithms; of LZ4 also where none is stored.
    pub const fn configs(&self) -> &AlgorithmConfigs {
        &self.configs
    }

    pub(crate) const fn extents_cache(&self) -> &Cache<Pcluster> {
        &self.extents
    }

    pub(crate) const fn decoders(&self) -> &DecoderPool {
        &self.decoders
    }

    pub(crate) const fn sums(&self) -> &Sums {
        &self.sums
    }

    pub(crate) const fn metabox(&self) -> Option<&Inode> {
        self.metabox.as_ref()
    }

    pub(crate) const fn packed(&self) -> Option<&Inode> {
        self.packed.as_ref()
    }

    pub(crate) fn xattr_prefixes(&self) -> &[LongPrefix] {
        &self.xattr_prefixes
    }
}

/// Reads from a source of which nothing is known yet; what lies behind its end reads as zeros, as in the page cache.
fn read_start(source: &dyn ByteSource, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let position = ByteOffset(offset + filled as u64);
        match source.read_at(position, rest) {
            Ok(0) => break,
            Ok(count) => filled += count.min(rest.len()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Error::Io {
                    device: DeviceId::PRIMARY,
                    offset: position,
                    source: error,
                });
            }
        }
    }
    Ok(bytes)
}

fn read_superblock(source: &dyn ByteSource, verify: bool) -> Result<Superblock, OpenError> {
    let longest = SUPERBLOCK_SIZE + EXTENSION_SLOT_SIZE;
    let superblock = Superblock::decode(&read_start(source, SUPERBLOCK_OFFSET, longest)?)?;
    if verify {
        let covered = checksum_length(superblock.block_bits);
        verify_checksum(
            &superblock,
            &read_start(source, SUPERBLOCK_OFFSET, covered)?,
        )?;
    }
    Ok(superblock)
}

fn read_configs(
    source: &dyn ByteSource,
    superblock: &Superblock,
) -> Result<AlgorithmConfigs, OpenError> {
    if !superblock
        .incompat
        .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
    {
        let used = superblock.algorithms() != 0;
        return Ok(AlgorithmConfigs {
            lz4: used.then_some(Lz4Config {
                max_distance: superblock.algorithms_or_lz4_window,
                max_pcluster_blocks: 1,
            }),
            ..AlgorithmConfigs::default()
        });
    }
    // Four configurations of at most 64 KiB, each with a length and padding.
    const LONGEST: u64 = 4 * ((64 << 10) + 8);
    let start = SUPERBLOCK_OFFSET + superblock.size() as u64;
    let length = source.size().saturating_sub(start).min(LONGEST);
    let bytes = read_start(source, start, usize::try_from(length).unwrap_or(0))?;
    Ok(AlgorithmConfigs::decode(
        &bytes,
        superblock.algorithms(),
        superblock.block_bits,
    )?)
}

fn read_slots(
    source: &dyn ByteSource,
    superblock: &Superblock,
) -> Result<Vec<DeviceSlot>, OpenError> {
    // At most 8 MiB: the count has 16 bits.
    let length = usize::from(superblock.extra_devices) * DEVICE_SLOT_SIZE as usize;
    let table = superblock.device_table;
    if table.0 + length as u64 > source.size() {
        return Err(OpenError::Read(Error::Corrupt {
            rule: Rule::BeyondDevice {
                device: DeviceId::PRIMARY,
                start: table.0,
                length: length as u64,
                size: source.size(),
            },
            nid: None,
            offset: table,
        }));
    }
    let wide = superblock.incompat.contains(FeatureIncompat::BIT48);
    let bytes = read_start(source, table.0, length)?;
    // Every chunk is a whole slot, so none is dropped.
    Ok(bytes
        .chunks_exact(DEVICE_SLOT_SIZE as usize)
        .filter_map(|slot| DeviceSlot::decode(slot, wide).ok())
        .collect())
}
