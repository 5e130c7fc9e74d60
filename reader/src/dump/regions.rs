//! What lies where: every byte range of the devices that the image gives a meaning, with its owner.

use super::inode::MapRecord;
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::map::{Form, Location, StoredExtent};
use crate::metadata::Area;
use erofs_format::compression::Algorithm;
use erofs_format::device::DEVICE_SLOT_SIZE;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::FileType;
use erofs_format::superblock::SUPERBLOCK_OFFSET;
use erofs_format::xattr::body_size;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::collections::HashSet;

/// Extents that are looked at in an image of any size; beyond them one for each 4 bytes of the image, which is what the
/// smallest record of an index takes where extents need no blocks of their own.
const EXTENTS_GRANTED: u64 = 1 << 20;
/// Bytes of the image for each extent beyond those.
const BYTES_PER_EXTENT: u64 = 4;

/// Which address space a region lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// A device.
    Device(DeviceId),
    /// The data of the metabox inode.
    Metabox,
}

/// What a region holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// The first 1024 bytes, which are the creator's.
    BootArea,
    /// The superblock with its extension slots.
    Superblock,
    /// Configurations of the algorithms.
    AlgorithmConfigs,
    /// The table of extra devices.
    DeviceTable,
    /// Long xattr prefixes.
    XattrPrefixes,
    /// A shared attribute.
    SharedXattr,
    /// An inode's record.
    Inode,
    /// An inode's attributes.
    XattrBody,
    /// A chunk table.
    ChunkTable,
    /// The map header and index of a compressed file.
    Index,
    /// Data of a regular file or encoded data, behind the inode.
    InlineData,
    /// Data of a regular file.
    FileData,
    /// Data of a directory, in blocks or behind the inode.
    DirectoryData,
    /// Target of a symbolic link.
    SymlinkData,
    /// Plain pcluster of a compressed file.
    PlainPcluster,
    /// Encoded pcluster.
    Pcluster(Algorithm),
}

impl Content {
    /// Whether it fills blocks of its own, from their beginning on.
    pub const fn fills_blocks(self) -> bool {
        matches!(
            self,
            Self::FileData
                | Self::DirectoryData
                | Self::SymlinkData
                | Self::PlainPcluster
                | Self::Pcluster(_)
        )
    }

    /// Name for people and scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BootArea => "boot-area",
            Self::Superblock => "superblock",
            Self::AlgorithmConfigs => "algorithm-configs",
            Self::DeviceTable => "device-table",
            Self::XattrPrefixes => "xattr-prefixes",
            Self::SharedXattr => "shared-xattr",
            Self::Inode => "inode",
            Self::XattrBody => "xattr-body",
            Self::ChunkTable => "chunk-table",
            Self::Index => "index",
            Self::InlineData => "inline-data",
            Self::FileData => "file-data",
            Self::DirectoryData => "directory-data",
            Self::SymlinkData => "symlink-data",
            Self::PlainPcluster => "pcluster-plain",
            Self::Pcluster(Algorithm::Lz4) => "pcluster-lz4",
            Self::Pcluster(Algorithm::Lzma) => "pcluster-lzma",
            Self::Pcluster(Algorithm::Deflate) => "pcluster-deflate",
            Self::Pcluster(Algorithm::Zstd) => "pcluster-zstd",
        }
    }
}

/// A byte range with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    /// Which address space it lies in.
    pub space: Space,
    /// First byte in it.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it holds.
    pub content: Content,
    owner: u64,
}

/// Owner of what belongs to no inode; as a NID it would lie beyond 2^63 slots of the metabox.
const NOBODY: u64 = u64::MAX;

impl Region {
    const fn new(space: Space, start: u64, length: u64, content: Content) -> Self {
        Self {
            space,
            start,
            length,
            content,
            owner: NOBODY,
        }
    }

    const fn of(self, owner: Nid) -> Self {
        Self {
            owner: owner.0,
            ..self
        }
    }

    /// The inode that it belongs to.
    pub const fn owner(&self) -> Option<Nid> {
        if self.owner == NOBODY {
            None
        } else {
            Some(Nid(self.owner))
        }
    }

    /// First byte behind it.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// The regions of the inodes that it was shown, and of the image itself.
#[derive(Debug)]
pub struct Regions<'a> {
    image: &'a Image,
    list: Vec<Region>,
    shared_seen: HashSet<u32>,
    extents: u64,
    limit: u64,
}

impl Image {
    /// The regions that belong to no inode, to which inodes can be added.
    ///
    /// # Errors
    /// I/O errors.
    pub fn regions(&self) -> Result<Regions<'_>, Error> {
        let mut regions = Regions {
            image: self,
            list: Vec::new(),
            shared_seen: HashSet::new(),
            extents: 0,
            limit: self.devices().size(DeviceId::PRIMARY) / BYTES_PER_EXTENT + EXTENTS_GRANTED,
        };
        regions.add_image()?;
        Ok(regions)
    }
}

impl Regions<'_> {
    fn push(&mut self, region: Region) {
        if region.length > 0 {
            self.list.push(region);
        }
    }

    fn add_image(&mut self) -> Result<(), Error> {
        const PRIMARY: Space = Space::Device(DeviceId::PRIMARY);
        let superblock = self.image.superblock();
        let size = superblock.size() as u64;
        self.push(Region::new(
            PRIMARY,
            0,
            SUPERBLOCK_OFFSET,
            Content::BootArea,
        ));
        let at = SUPERBLOCK_OFFSET;
        self.push(Region::new(PRIMARY, at, size, Content::Superblock));
        if superblock
            .incompat
            .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER)
        {
            let start = SUPERBLOCK_OFFSET + size;
            let end = self.configs_end(start, superblock.algorithms().count_ones())?;
            self.push(Region::new(
                PRIMARY,
                start,
                end - start,
                Content::AlgorithmConfigs,
            ));
        }
        let slots = self.image.device_slots().len() as u64;
        self.push(Region::new(
            PRIMARY,
            superblock.device_table.0,
            slots * DEVICE_SLOT_SIZE,
            Content::DeviceTable,
        ));
        let prefixes = self.image.xattr_prefixes();
        let length = prefixes
            .iter()
            .map(|prefix| (3 + prefix.infix.len()).next_multiple_of(4) as u64)
            .sum();
        let plain = superblock.compat.contains(FeatureCompat::PLAIN_XATTR_PFX);
        let space = match (self.image.metabox(), self.image.packed()) {
            (Some(_), _) if !plain => Some(Space::Metabox),
            // Among the data of the packed inode, which has its own regions.
            (None, Some(_)) if !plain => None,
            _ => Some(PRIMARY),
        };
        if let Some(space) = space {
            let start = superblock.xattr_prefix_start.0;
            self.push(Region::new(space, start, length, Content::XattrPrefixes));
        }
        Ok(())
    }

    /// Where `count` algorithm configurations from byte `start` on end.
    fn configs_end(&self, start: u64, count: u32) -> Result<u64, Error> {
        let mut end = start;
        for _ in 0..count {
            let offset = end.next_multiple_of(4);
            let mut length = [0; 2];
            self.image
                .read_pages(None, DeviceId::PRIMARY, ByteOffset(offset), &mut length)?;
            // A length of 0 means 65536.
            let length = u64::from(u16::from_le_bytes(length).wrapping_sub(1)) + 1;
            end = offset + 2 + length;
        }
        Ok(end)
    }

    /// Adds the regions of an inode: its record, and all that it leads to. `extent_seen` is shown each of its extents.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for what breaks a rule, I/O errors; what was found before stays added.
    /// [`Rule::TooManyExtents`] when the inodes share their indexes beyond any sense.
    pub fn add_inode(
        &mut self,
        inode: &Inode,
        extent_seen: &mut dyn FnMut(&StoredExtent),
    ) -> Result<(), Error> {
        self.add_metadata(inode)?;
        self.add_data(inode, extent_seen)
    }

    /// Adds the regions of an inode's metadata only: its record, its attributes and what says where its data is.
    ///
    /// # Errors
    /// As [`Regions::add_inode`].
    pub fn add_metadata(&mut self, inode: &Inode) -> Result<(), Error> {
        let (area, position) = inode.position();
        let space = space_of(area);
        let owned = |start: ByteOffset, length, content| {
            Region::new(space, start.0, length, content).of(inode.nid())
        };
        self.push(owned(position, inode.core_size(), Content::Inode));
        let body = body_size(inode.xattr_icount);
        self.push(owned(inode.xattr_offset()?, body, Content::XattrBody));
        match self.image.map_record(inode)? {
            MapRecord::None => {}
            MapRecord::Chunks {
                format,
                table,
                entries,
            } => {
                let length = entries.saturating_mul(format.entry_size());
                self.push(owned(table, length, Content::ChunkTable));
            }
            MapRecord::Compressed { header, index, .. } => {
                let end = index.map_or(header.0 + 8, |index| {
                    index.start.0.saturating_add(index.size)
                });
                self.push(owned(header, end.saturating_sub(header.0), Content::Index));
            }
        }
        Ok(())
    }

    /// Adds the regions of an inode's data.
    fn add_data(
        &mut self,
        inode: &Inode,
        extent_seen: &mut dyn FnMut(&StoredExtent),
    ) -> Result<(), Error> {
        for extent in self.image.stored_extents(inode) {
            let extent = extent?;
            self.extents += 1;
            if self.extents > self.limit {
                let rule = Rule::TooManyExtents { limit: self.limit };
                return Err(inode.corrupt(rule, ByteOffset(extent.logical)));
            }
            extent_seen(&extent);
            let (space, start, behind_inode) = match extent.location {
                // The packed inode has regions of its own.
                None | Some(Location::Packed { .. }) => continue,
                Some(Location::Inline { area, offset }) => (space_of(area), offset, true),
                Some(Location::Device { device, offset }) => (Space::Device(device), offset, false),
            };
            let content = match (extent.form, inode.file_type) {
                (Form::Data, FileType::Directory) => Content::DirectoryData,
                (Form::Data, FileType::Symlink) => Content::SymlinkData,
                _ if behind_inode => Content::InlineData,
                (Form::Encoded { algorithm, .. }, _) => Content::Pcluster(algorithm),
                (Form::Plain { .. }, _) => Content::PlainPcluster,
                _ => Content::FileData,
            };
            let region = Region::new(space, start.0, extent.stored_length, content);
            self.push(region.of(inode.nid()));
        }
        Ok(())
    }

    /// Adds a shared attribute, once.
    pub(super) fn add_shared_xattr(&mut self, id: u32, area: Area, offset: ByteOffset, size: u64) {
        if self.shared_seen.insert(id) {
            let region = Region::new(space_of(area), offset.0, size, Content::SharedXattr);
            self.push(region);
        }
    }

    /// Number of shared attributes that were added.
    pub(super) fn shared_xattrs(&self) -> u64 {
        self.shared_seen.len() as u64
    }

    /// All regions by place, those of several inodes once for each.
    pub fn into_sorted(mut self) -> Vec<Region> {
        self.list.sort_unstable();
        self.list.dedup();
        self.list
    }
}

const fn space_of(area: Area) -> Space {
    match area {
        Area::Primary => Space::Device(DeviceId::PRIMARY),
        Area::Metabox => Space::Metabox,
    }
}

impl Image {
    /// All regions of the image by place. `problem` is told what could not be looked at, with its path.
    ///
    /// # Errors
    /// I/O errors in what belongs to no inode.
    pub fn all_regions(
        &self,
        problem: &mut dyn FnMut(&[u8], &Error),
    ) -> Result<Vec<Region>, Error> {
        let mut regions = self.regions()?;
        let mut linked = HashSet::new();
        let mut names = self.names_from(&self.root()?).with_inodes();
        loop {
            let result = match names.next() {
                None => break,
                Some(Ok(name)) => match name.inode {
                    Some(inode) if inode.nlink < 2 || linked.insert(name.nid) => {
                        regions.add_everything(&inode)
                    }
                    _ => Ok(()),
                },
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = result {
                problem(names.path(), &error);
            }
        }
        for special in [self.packed(), self.metabox()].into_iter().flatten() {
            if let Err(error) = regions.add_everything(special) {
                problem(b"", &error);
            }
        }
        Ok(regions.into_sorted())
    }
}

impl Regions<'_> {
    /// Adds an inode with the shared attributes that it refers to.
    fn add_everything(&mut self, inode: &Inode) -> Result<(), Error> {
        if let Some(body) = self.image.xattr_record(inode)? {
            for entry in body.entries {
                if let Some(id) = entry.shared {
                    self.add_shared_xattr(id, entry.area, entry.offset, entry.size);
                }
            }
        }
        self.add_inode(inode, &mut |_| {})
    }
}
