//! How much of everything is in an image.

use super::regions::{Content, Region, Regions, Space};
use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use crate::map::Form;
use erofs_format::compression::Algorithm;
use erofs_format::inode::{DataLayout, FileType};
use erofs_format::{DeviceId, Nid};
use std::collections::{BTreeMap, HashSet};

/// A number of things and of bytes in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Extents of compressed files with one algorithm, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtentAmount {
    /// Number of extents.
    pub extents: u64,
    /// Bytes of files in them.
    pub file_bytes: u64,
    /// Bytes stored for them; pclusters that several extents share count once. Bytes behind inodes are not among them.
    pub stored_bytes: u64,
}

/// What the extended attributes take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XattrAmounts {
    /// Inodes that have attributes, and bytes of their bodies.
    pub bodies: Amount,
    /// Attributes stored behind inodes.
    pub inline: Amount,
    /// References to shared attributes, and what their targets would take inline.
    pub references: Amount,
    /// Shared attributes that are referred to.
    pub shared: u64,
}

/// What the bytes of an address space are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Size in bytes.
    pub size: u64,
    /// Bytes by content. Bytes that several regions hold count for the first.
    pub content: BTreeMap<Content, Amount>,
    /// Bytes between the end of data and the end of its block.
    pub data_padding: u64,
    /// Bytes between the end of metadata and the end of its block or the next metadata.
    pub metadata_slack: u64,
    /// Bytes that nothing leads to.
    pub unused: u64,
}

/// Everything that is counted. Files with several names count once, unless stated otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Names, without `.` and `..`, with the root.
    pub names: u64,
    /// Inodes of the tree.
    pub inodes: u64,
    /// Inodes with several names.
    pub hard_linked: u64,
    /// Inodes of 32 bytes.
    pub compact: u64,
    /// Inodes of 64 bytes.
    pub extended: u64,
    /// Inodes and bytes of their data by file type, in the order of [`TYPES`].
    pub types: [Amount; 7],
    /// Inodes and bytes of their data by layout.
    pub layouts: [Amount; 5],
    /// Regular files by size: empty ones, then those of 2^(i-1) to 2^i - 1 bytes.
    pub sizes: BTreeMap<u32, Amount>,
    /// Extents of compressed files by algorithm; `None` for plain ones.
    pub algorithms: BTreeMap<Option<Algorithm>, ExtentAmount>,
    /// Extents in the packed inode.
    pub fragments: Amount,
    /// Holes.
    pub holes: Amount,
    /// Attributes.
    pub xattrs: XattrAmounts,
    /// Bytes that the content of all regular files takes where it is stored: blocks, pclusters and data behind inodes, on
    /// all devices, each byte once. Metadata is not among them, nor are directories unless they are compressed.
    pub file_bytes_stored: u64,
    /// What the bytes of the image and of the metabox are for; devices of their own only as far as they are used.
    pub usage: BTreeMap<Space, Usage>,
    /// Things that could not be counted because the image breaks a rule.
    pub problems: u64,
}

/// The file types in the order of [`Statistics::types`].
pub const TYPES: [FileType; 7] = [
    FileType::Regular,
    FileType::Directory,
    FileType::Symlink,
    FileType::CharDevice,
    FileType::BlockDevice,
    FileType::Fifo,
    FileType::Socket,
];

/// The layouts in the order of [`Statistics::layouts`].
pub const LAYOUTS: [DataLayout; 5] = [
    DataLayout::FlatPlain,
    DataLayout::FlatInline,
    DataLayout::ChunkBased,
    DataLayout::CompressedFull,
    DataLayout::CompressedCompact,
];

impl Statistics {
    /// Bytes of regular files.
    pub const fn file_bytes(&self) -> u64 {
        let [files, ..] = &self.types;
        files.bytes
    }
}

impl Image {
    /// Counts everything. `problem` is told what could not be counted, with its path.
    ///
    /// # Errors
    /// I/O errors in what belongs to no inode.
    pub fn statistics(&self, problem: &mut dyn FnMut(&[u8], &Error)) -> Result<Statistics, Error> {
        let mut counting = Counting {
            image: self,
            regions: self.regions()?,
            statistics: Statistics::default(),
            linked: HashSet::new(),
        };
        let mut names = self.names_from(&self.root()?).with_inodes();
        loop {
            let result = match names.next() {
                None => break,
                Some(Ok(name)) => {
                    counting.statistics.names += 1;
                    name.inode.map_or(Ok(()), |inode| counting.inode(&inode))
                }
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = result {
                counting.statistics.problems += 1;
                problem(names.path(), &error);
            }
        }
        for special in [self.packed(), self.metabox()].into_iter().flatten() {
            if let Err(error) = counting.regions.add_inode(special, &mut |_| {}) {
                counting.statistics.problems += 1;
                problem(b"", &error);
            }
        }
        Ok(counting.finish())
    }
}

struct Counting<'a> {
    image: &'a Image,
    regions: Regions<'a>,
    statistics: Statistics,
    /// Inodes with several names that were counted.
    linked: HashSet<Nid>,
}

impl Counting<'_> {
    fn inode(&mut self, inode: &Inode) -> Result<(), Error> {
        let statistics = &mut self.statistics;
        if inode.nlink > 1 && !inode.is_directory() {
            if !self.linked.insert(inode.nid()) {
                return Ok(());
            }
            statistics.hard_linked += 1;
        }
        statistics.inodes += 1;
        if inode.extended {
            statistics.extended += 1;
        } else {
            statistics.compact += 1;
        }
        let size = inode.data_size();
        for (amount, file_type) in statistics.types.iter_mut().zip(TYPES) {
            if file_type == inode.file_type {
                amount.add(size);
            }
        }
        for (amount, layout) in statistics.layouts.iter_mut().zip(LAYOUTS) {
            if layout == inode.layout {
                amount.add(size);
            }
        }
        if inode.file_type == FileType::Regular {
            let class = u64::BITS - size.leading_zeros();
            statistics.sizes.entry(class).or_default().add(size);
        }
        self.xattrs(inode)?;
        self.regions(inode)
    }

    fn xattrs(&mut self, inode: &Inode) -> Result<(), Error> {
        let Some(body) = self.image.xattr_record(inode)? else {
            return Ok(());
        };
        let xattrs = &mut self.statistics.xattrs;
        xattrs.bodies.add(body.size);
        for entry in body.entries {
            match entry.shared {
                None => xattrs.inline.add(entry.size),
                Some(id) => {
                    xattrs.references.add(entry.size);
                    self.regions
                        .add_shared_xattr(id, entry.area, entry.offset, entry.size);
                }
            }
        }
        Ok(())
    }

    fn regions(&mut self, inode: &Inode) -> Result<(), Error> {
        let statistics = &mut self.statistics;
        self.regions.add_inode(inode, &mut |extent| {
            let algorithm = match extent.form {
                Form::Hole => return statistics.holes.add(extent.length),
                Form::Fragment => return statistics.fragments.add(extent.length),
                Form::Data => return,
                Form::Plain { .. } => None,
                Form::Encoded { algorithm, .. } => Some(algorithm),
            };
            let amount = statistics.algorithms.entry(algorithm).or_default();
            amount.extents += 1;
            amount.file_bytes = amount.file_bytes.saturating_add(extent.length);
        })
    }

    fn finish(mut self) -> Statistics {
        self.statistics.xattrs.shared = self.regions.shared_xattrs();
        let bits = self.image.superblock().block_bits;
        let block = bits.bytes();
        let image_size = self.image.superblock().blocks.saturating_mul(block);
        let mut usage: BTreeMap<Space, Filling> = BTreeMap::new();
        for region in self.regions.into_sorted() {
            let filling = usage.entry(region.space).or_insert_with(|| Filling {
                block,
                ..Filling::default()
            });
            filling.add(&region);
        }
        for (space, mut filling) in usage {
            let size = match space {
                Space::Device(DeviceId::PRIMARY) if image_size > 0 => image_size,
                // Blobs hold more than this image uses, a tar for instance its headers.
                Space::Device(_) => filling.end,
                Space::Metabox => self.image.metabox().map_or(0, |inode| inode.size),
            };
            filling.gap(size);
            filling.usage.size = size;
            self.statistics.usage.insert(space, filling.usage);
        }
        let mut stored = 0u64;
        for usage in self.statistics.usage.values() {
            for (content, amount) in &usage.content {
                let algorithm = match content {
                    Content::FileData | Content::InlineData => None,
                    Content::PlainPcluster => Some(None),
                    Content::Pcluster(algorithm) => Some(Some(*algorithm)),
                    _ => continue,
                };
                stored = stored.saturating_add(amount.bytes);
                if let Some(algorithm) = algorithm {
                    // Pclusters of the packed inode belong to no extent of the tree.
                    let extents = self.statistics.algorithms.entry(algorithm).or_default();
                    extents.stored_bytes = extents.stored_bytes.saturating_add(amount.bytes);
                }
            }
        }
        self.statistics.file_bytes_stored = stored;
        self.statistics
    }
}

/// Adds up regions in ascending order.
#[derive(Default)]
struct Filling {
    usage: Usage,
    block: u64,
    /// Behind the last byte that something holds.
    end: u64,
    /// What holds the byte before fills blocks of its own.
    blocks: bool,
}

impl Filling {
    fn add(&mut self, region: &Region) {
        self.gap(region.start);
        let new = region.end().saturating_sub(self.end);
        let amount = self.usage.content.entry(region.content).or_default();
        amount.count += 1;
        amount.bytes = amount.bytes.saturating_add(new);
        if new > 0 {
            self.end = region.end();
            self.blocks = region.content.fills_blocks() && region.start.is_multiple_of(self.block);
        }
    }

    /// Everything up to `next` belongs to nobody.
    fn gap(&mut self, next: u64) {
        let gap = next.saturating_sub(self.end);
        if gap == 0 {
            return;
        }
        let to_block = self.end.next_multiple_of(self.block) - self.end;
        let near = gap.min(to_block);
        if self.blocks {
            self.usage.data_padding += near;
        } else {
            self.usage.metadata_slack += near;
        }
        self.usage.unused = self.usage.unused.saturating_add(gap - near);
        self.end = next;
    }
}
