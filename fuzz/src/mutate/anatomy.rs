//! Where the fields of an image are.
//!
//! Found with the format crate alone, so that images that the reader refuses have fields too. Whatever looks wrong is
//! skipped: this is about mutating, not about checking.

use erofs_format::chunk::ChunkFormat;
use erofs_format::compression::{encoded_extent, full_index, map_header};
use erofs_format::directory::DirectoryBlock;
use erofs_format::inode::{DataLayout, FileType, Inode, InodePayload};
use erofs_format::superblock::Superblock;
use erofs_format::xattr::{self, XattrBody};
use erofs_format::{ByteOffset, Nid};
use std::collections::{HashSet, VecDeque};

const START: usize = 1024;
const MAX_INODES: usize = 48;
const MAX_RECORDS: usize = 40;

/// Offset in the superblock and width in bytes of its fields.
const SUPERBLOCK: [(usize, u8); 24] = [
    (0, 4),
    (8, 4),
    (12, 1),
    (13, 1),
    (14, 2),
    (16, 8),
    (24, 8),
    (32, 4),
    (36, 4),
    (40, 4),
    (44, 4),
    (80, 4),
    (84, 2),
    (86, 2),
    (88, 2),
    (90, 1),
    (91, 1),
    (92, 4),
    (96, 8),
    (104, 1),
    (105, 1),
    (112, 8),
    (120, 1),
    (128, 8),
];
const COMPACT: [(usize, u8); 9] = [
    (0, 2),
    (2, 2),
    (4, 2),
    (6, 2),
    (8, 4),
    (12, 4),
    (16, 4),
    (24, 2),
    (26, 2),
];
const EXTENDED: [(usize, u8); 10] = [
    (0, 2),
    (2, 2),
    (4, 2),
    (6, 2),
    (8, 8),
    (16, 4),
    (24, 4),
    (28, 4),
    (32, 8),
    (44, 4),
];

/// A little-endian number in an image.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) at: usize,
    /// In bytes, 1 to 8.
    pub(super) width: u8,
}

impl Field {
    pub(super) fn get(self, image: &[u8]) -> u64 {
        let bytes = image
            .get(self.at..self.at + usize::from(self.width))
            .unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    pub(super) fn set(self, image: &mut [u8], value: u64) {
        let bytes = value.to_le_bytes();
        if let Some(field) = image.get_mut(self.at..self.at + usize::from(self.width)) {
            field.copy_from_slice(&bytes[..field.len()]);
        }
    }
}

/// Where the fields are, and where the records begin that may be copied over each other.
#[derive(Default)]
pub(super) struct Anatomy {
    pub(super) fields: Vec<Field>,
    pub(super) inodes: Vec<usize>,
    pub(super) dirents: Vec<usize>,
}

impl Anatomy {
    pub(super) fn of(image: &[u8]) -> Self {
        let mut this = Self::default();
        if image.len() < START + 128 {
            return this;
        }
        this.group(START, &SUPERBLOCK);
        let Ok(superblock) = Superblock::decode(&image[START..]) else {
            return this;
        };
        // Algorithm configurations.
        this.words(START + superblock.size(), 24, 2);
        let table = usize::try_from(superblock.device_table.0).unwrap_or(usize::MAX);
        for slot in 0..usize::from(superblock.extra_devices).min(4) {
            this.group(
                table.saturating_add(slot * 128),
                &[(0, 1), (64, 4), (68, 4), (72, 2), (74, 2)],
            );
        }
        let prefixes = usize::try_from(superblock.xattr_prefix_start.0).unwrap_or(usize::MAX);
        this.words(
            prefixes,
            usize::from(superblock.xattr_prefix_count).min(4) * 2,
            1,
        );
        this.tree(image, &superblock);
        this.fields
            .retain(|field| field.at + usize::from(field.width) <= image.len());
        this
    }

    fn group(&mut self, start: usize, fields: &[(usize, u8)]) {
        let field = |(offset, width): &(usize, u8)| {
            Some(Field {
                at: start.checked_add(*offset)?,
                width: *width,
            })
        };
        self.fields.extend(fields.iter().filter_map(field));
    }

    fn words(&mut self, start: usize, count: usize, width: u8) {
        for number in 0..count {
            self.group(start, &[(number * usize::from(width), width)]);
        }
    }

    fn tree(&mut self, image: &[u8], superblock: &Superblock) {
        let mut queue = VecDeque::from([superblock.root]);
        queue.extend(superblock.packed);
        queue.extend(superblock.metabox);
        let mut seen = HashSet::new();
        while let Some(nid) = queue.pop_front() {
            if seen.len() < MAX_INODES && seen.insert(nid) {
                let _ = self.inode(image, superblock, nid, &mut queue);
            }
        }
    }

    fn inode(
        &mut self,
        image: &[u8],
        superblock: &Superblock,
        nid: Nid,
        queue: &mut VecDeque<Nid>,
    ) -> Option<()> {
        let start = superblock
            .meta_block
            .checked_offset(superblock.block_bits)?;
        let at = start.checked_add(nid.offset_in_area().filter(|_| !nid.in_metabox())?)?;
        let position = usize::try_from(at.0).ok()?;
        let inode = Inode::decode(image.get(position..)?, superblock).ok()?;
        self.inodes.push(position);
        self.group(position, if inode.extended { &EXTENDED } else { &COMPACT });
        let body = position + usize::try_from(inode.core_size()).ok()?;
        let size = usize::try_from(xattr::body_size(inode.xattr_icount)).ok()?;
        if let Some(bytes) = image.get(body..body.checked_add(size)?) {
            self.xattrs(body, bytes);
        }
        let end = ByteOffset((body + size) as u64);
        match (inode.layout, inode.payload) {
            (DataLayout::ChunkBased, InodePayload::ChunkFormat(format)) => {
                let format = ChunkFormat::decode(format).ok()?;
                let table = usize::try_from(end.checked_align_up(format.entry_size())?.0).ok()?;
                let count = format.chunk_count(inode.size, superblock.block_bits);
                let count =
                    usize::try_from(count).map_or(MAX_RECORDS, |count| count.min(MAX_RECORDS));
                for entry in 0..count {
                    if format.indexes {
                        self.group(table + entry * 8, &[(0, 2), (2, 2), (4, 4)]);
                    } else {
                        self.group(table + entry * 4, &[(0, 4)]);
                    }
                }
            }
            (DataLayout::FlatPlain | DataLayout::FlatInline, InodePayload::StartBlock(block)) => {
                if inode.file_type == FileType::Directory {
                    let blocks =
                        block.and_then(|block| block.checked_offset(superblock.block_bits));
                    self.directory(image, superblock, &inode, blocks, end, queue);
                }
            }
            _ => self.map(superblock, &inode, end)?,
        }
        Some(())
    }

    fn xattrs(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.group(at, &[(0, 4), (4, 1)]);
        let Ok(body) = XattrBody::new(bytes) else {
            return;
        };
        let shared = body.shared_ids().count();
        self.words(at + xattr::BODY_HEADER_SIZE, shared.min(8), 4);
        let mut entry = xattr::BODY_HEADER_SIZE + shared * 4;
        for _ in 0..8 {
            let Ok((_, next)) = xattr::decode_entry(bytes, entry) else {
                return;
            };
            self.group(at + entry, &[(0, 1), (1, 1), (2, 2)]);
            entry = next;
        }
    }

    /// Map header and the records behind it, whatever their form.
    fn map(&mut self, superblock: &Superblock, inode: &Inode, end: ByteOffset) -> Option<()> {
        let header = map_header::position(end)?;
        let at = usize::try_from(header.0).ok()?;
        self.group(at, &[(0, 4), (2, 2), (4, 2), (6, 1), (7, 1)]);
        let lclusters = superblock.block_bits.blocks_for(inode.size);
        let count = usize::try_from(lclusters).map_or(MAX_RECORDS, |count| count.min(MAX_RECORDS));
        if inode.layout == DataLayout::CompressedCompact {
            self.words(at + 8, count * 2, 2);
            return Some(());
        }
        let index = usize::try_from(full_index::position(header, 0)?.0).ok()?;
        for record in 0..count {
            self.group(
                index + record * 8,
                &[(0, 2), (2, 2), (4, 4), (4, 2), (6, 2)],
            );
        }
        let table = encoded_extent::RecordSize::B16.table(header)?;
        self.words(usize::try_from(table.0).ok()?, count.min(8) * 4, 4);
        Some(())
    }

    fn directory(
        &mut self,
        image: &[u8],
        superblock: &Superblock,
        inode: &Inode,
        blocks: Option<ByteOffset>,
        end: ByteOffset,
        queue: &mut VecDeque<Nid>,
    ) {
        let bits = superblock.block_bits;
        let count = bits.blocks_for(inode.size).min(8);
        for number in 0..count {
            let inlined =
                inode.layout == DataLayout::FlatInline && number + 1 == bits.blocks_for(inode.size);
            let start = if inlined {
                Some(end)
            } else {
                blocks.and_then(|start| start.checked_add(number << bits.bits()))
            };
            let Some(start) = start.and_then(|start| usize::try_from(start.0).ok()) else {
                continue;
            };
            let left = usize::try_from(inode.size - (number << bits.bits())).unwrap_or(usize::MAX);
            let length = left.min(bits.len());
            let block = image
                .get(start..start.saturating_add(length))
                .map(DirectoryBlock::new);
            let Some(Ok(block)) = block else {
                continue;
            };
            for (index, entry) in block.entries().take(MAX_RECORDS).enumerate() {
                let at = start + index * 12;
                self.group(at, &[(0, 8), (8, 2), (10, 1)]);
                self.dirents.push(at);
                if let Ok(entry) = entry {
                    queue.push_back(entry.nid);
                }
            }
        }
    }
}
