//! Where the fields of an image are, so that one of them can be changed.

use erofs_format::{
    ByteOffset,
    compression::{
        compact_index,
        encoded_extent::BASE_ADDRESS_SIZE,
        full_index,
        map_header::{self, MAP_HEADER_SIZE, MapHeader},
    },
    device::{DEVICE_SLOT_SIZE, DeviceSlot},
    directory::DIRENT_SIZE,
    inode::{DataLayout, FileType, InodePayload},
    superblock::SUPERBLOCK_OFFSET,
    xattr::{self, BODY_HEADER_SIZE, XattrBody},
};
use erofs_reader::{Image, Inode, Place, Stored, metadata::Area};

/// What a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Superblock.
    Superblock,
    /// Configurations of the algorithms.
    Configuration,
    /// Slots of the device table.
    Device,
    /// Inode cores.
    Inode,
    /// Directory entries and names.
    Directory,
    /// Attributes.
    Xattr,
    /// Chunk maps and indexes.
    Chunk,
    /// Map headers of compressed files.
    MapHeader,
    /// Lcluster indexes and encoded extents.
    Index,
    /// Encoded data.
    Payload,
}

impl Kind {
    /// All, in this order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Superblock,
        Self::Configuration,
        Self::Device,
        Self::Inode,
        Self::Directory,
        Self::Xattr,
        Self::Chunk,
        Self::MapHeader,
        Self::Index,
        Self::Payload,
    ];
}

/// A little-endian number in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// What it belongs to.
    pub(crate) kind: Kind,
    /// Its name, for people.
    pub(crate) name: String,
    /// First byte in the image.
    pub(crate) offset: usize,
    /// 1, 2, 4 or 8 bytes.
    pub(crate) width: usize,
}

/// `(offset, width, name)` of the superblock, but for its checksum.
const SUPERBLOCK: [(u64, usize, &str); 28] = [
    (0, 4, "magic"),
    (8, 4, "feature_compat"),
    (12, 1, "blkszbits"),
    (13, 1, "sb_extslots"),
    (14, 2, "rootnid_2b"),
    (16, 8, "inos"),
    (24, 8, "epoch"),
    (32, 4, "fixed_nsec"),
    (36, 4, "blocks_lo"),
    (40, 4, "meta_blkaddr"),
    (44, 4, "xattr_blkaddr"),
    (48, 8, "uuid"),
    (64, 8, "volume_name"),
    (72, 8, "volume_name end"),
    (80, 4, "feature_incompat"),
    (84, 2, "available_compr_algs"),
    (86, 2, "extra_devices"),
    (88, 2, "devt_slotoff"),
    (90, 1, "dirblkbits"),
    (91, 1, "xattr_prefix_count"),
    (92, 4, "xattr_prefix_start"),
    (96, 8, "packed_nid"),
    (104, 1, "xattr_filter_reserved"),
    (105, 1, "ishare_xattr_prefix_id"),
    (108, 4, "build_time"),
    (112, 8, "rootnid_8b"),
    (120, 8, "reserved"),
    (128, 8, "metabox_nid"),
];
const COMPACT: [(u64, usize, &str); 10] = [
    (0, 2, "i_format"),
    (2, 2, "i_xattr_icount"),
    (4, 2, "i_mode"),
    (6, 2, "i_nb"),
    (8, 4, "i_size"),
    (12, 4, "i_mtime"),
    (16, 4, "i_u"),
    (20, 4, "i_ino"),
    (24, 2, "i_uid"),
    (26, 2, "i_gid"),
];
const EXTENDED: [(u64, usize, &str); 12] = [
    (0, 2, "i_format"),
    (2, 2, "i_xattr_icount"),
    (4, 2, "i_mode"),
    (6, 2, "i_nb"),
    (8, 8, "i_size"),
    (16, 4, "i_u"),
    (20, 4, "i_ino"),
    (24, 4, "i_uid"),
    (28, 4, "i_gid"),
    (32, 8, "i_mtime"),
    (40, 4, "i_mtime_nsec"),
    (44, 4, "i_nlink"),
];
const MAP_HEADER: [(u64, usize, &str); 5] = [
    (0, 4, "h_fragmentoff"),
    (2, 2, "h_idata_size"),
    (4, 2, "h_advise"),
    (6, 1, "h_algorithmtype"),
    (7, 1, "h_clusterbits"),
];

/// All fields that are found in a well-formed image.
pub(crate) fn of_image(image: &Image, bytes: &[u8]) -> Vec<Field> {
    let mut search = Search {
        image,
        length: bytes.len(),
        bytes,
        found: Vec::new(),
    };
    search.superblock();
    for nid in [image.superblock().packed, image.superblock().metabox] {
        if let Some(inode) = nid.and_then(|nid| image.inode(nid).ok()) {
            search.inode(&inode, "special");
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for entry in image.walk().expect("a root").flatten() {
        if seen.insert(entry.inode.nid()) {
            let path = entry.path.escape_ascii().to_string();
            search.inode(&entry.inode, &path);
        }
    }
    search.found
}

struct Search<'a> {
    image: &'a Image,
    bytes: &'a [u8],
    length: usize,
    found: Vec<Field>,
}

impl Search<'_> {
    fn add(&mut self, kind: Kind, name: String, offset: u64, width: usize) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset
            .checked_add(width)
            .is_some_and(|end| end <= self.length)
        {
            self.found.push(Field {
                kind,
                name,
                offset,
                width,
            });
        }
    }

    fn superblock(&mut self) {
        let superblock = self.image.superblock();
        let end = SUPERBLOCK_OFFSET + superblock.size() as u64;
        for (offset, width, name) in SUPERBLOCK {
            if SUPERBLOCK_OFFSET + offset < end {
                self.add(
                    Kind::Superblock,
                    name.into(),
                    SUPERBLOCK_OFFSET + offset,
                    width,
                );
            }
        }
        if superblock.algorithms() != 0 {
            for at in (0..32).step_by(2) {
                self.add(
                    Kind::Configuration,
                    format!("configuration byte {at}"),
                    end + at,
                    2,
                );
            }
        }
        for slot in 0..superblock.extra_devices {
            let Some(start) = DeviceSlot::offset(superblock.device_table, slot) else {
                continue;
            };
            for (offset, width, name) in [
                (0, 4, "tag"),
                (64, 4, "blocks_lo"),
                (68, 4, "uniaddr_lo"),
                (72, 2, "blocks_hi"),
                (74, 2, "uniaddr_hi"),
                (DEVICE_SLOT_SIZE - 4, 4, "reserved"),
            ] {
                self.add(
                    Kind::Device,
                    format!("slot {slot} {name}"),
                    start.0 + offset,
                    width,
                );
            }
        }
    }

    /// Place in the image of a byte of metadata.
    fn locate(&self, area: Area, offset: u64) -> Option<u64> {
        if area == Area::Primary {
            return Some(offset);
        }
        let metabox = self.image.inode(self.image.superblock().metabox?).ok()?;
        let extent = self.image.extent_at(&metabox, offset).ok()??;
        match extent.place {
            Place::Data { offset: start, .. } => Some(start.0 + offset - extent.logical),
            Place::Inline { offset: start, .. } => Some(start.0 + offset - extent.logical),
            _ => None,
        }
    }

    fn inode(&mut self, inode: &Inode, path: &str) {
        let (area, start) = inode.position();
        let Some(at) = self.locate(area, start.0) else {
            return;
        };
        let extended = self
            .bytes
            .get(at as usize)
            .is_some_and(|byte| byte & 1 != 0);
        let core = if extended {
            &EXTENDED[..]
        } else {
            &COMPACT[..]
        };
        for &(offset, width, name) in core {
            self.add(Kind::Inode, format!("/{path} {name}"), at + offset, width);
        }
        let xattrs = at + if extended { 64 } else { 32 };
        let behind = xattrs + xattr::body_size(inode.xattr_icount);
        self.xattrs(path, xattrs, behind);
        match (inode.layout, inode.payload) {
            (DataLayout::ChunkBased, InodePayload::ChunkFormat(_)) => {
                for entry in 0..8 {
                    let start = behind.next_multiple_of(8) + 8 * entry;
                    for (offset, width, name) in [(0, 2, "hi"), (2, 2, "device"), (4, 4, "lo")] {
                        let name = format!("/{path} chunk {entry} {name}");
                        self.add(Kind::Chunk, name, start + offset, width);
                    }
                }
            }
            _ if inode.layout.is_compressed() && inode.data_size() > 0 => {
                self.map(inode, path, behind);
            }
            _ => {}
        }
        if inode.file_type == FileType::Directory {
            self.directory(inode, path);
        }
    }

    fn xattrs(&mut self, path: &str, start: u64, end: u64) {
        let body = self.bytes.get(start as usize..end as usize);
        let Some(body) = body.and_then(|bytes| XattrBody::new(bytes).ok()) else {
            return;
        };
        let add = |search: &mut Self, at, width, name: &str| {
            search.add(Kind::Xattr, format!("/{path} xattr {name}"), at, width);
        };
        add(self, start, 4, "filter");
        add(self, start + 4, 1, "shared count");
        add(self, start + 5, 1, "reserved");
        let mut at = start + BODY_HEADER_SIZE as u64;
        let shared: Vec<u32> = body.shared_ids().collect();
        for id in &shared {
            add(self, at, 4, "shared id");
            at += 4;
            let area = self.image.superblock();
            let area = area.xattr_block.checked_offset(area.block_bits);
            if let Some(entry) = area.and_then(|area| xattr::shared_offset(area, *id)) {
                self.xattr_entry(path, "shared", entry.0);
            }
        }
        while at < end {
            let Ok((_, next)) = xattr::decode_entry(&self.bytes[..end as usize], at as usize)
            else {
                return;
            };
            self.xattr_entry(path, "inline", at);
            at = next as u64;
        }
    }

    fn xattr_entry(&mut self, path: &str, which: &str, at: u64) {
        for (offset, width, name) in [
            (0, 1, "e_name_len"),
            (1, 1, "e_name_index"),
            (2, 2, "e_value_size"),
            (4, 1, "name"),
        ] {
            let name = format!("/{path} {which} {name}");
            self.add(Kind::Xattr, name, at + offset, width);
        }
    }

    fn directory(&mut self, inode: &Inode, path: &str) {
        for extent in self.image.extents(inode).flatten() {
            let (Place::Data { offset, .. }
            | Place::Inline {
                offset,
                area: Area::Primary,
            }) = extent.place
            else {
                continue;
            };
            let block = self.image.superblock().block_bits.bytes();
            for start in (0..extent.length).step_by(block as usize) {
                self.directory_block(path, offset.0 + start);
            }
        }
    }

    fn directory_block(&mut self, path: &str, start: u64) {
        let at = start as usize + 8;
        let Some(first) = self.bytes.get(at..at + 2) else {
            return;
        };
        let names = u64::from(u16::from_le_bytes([first[0], first[1]]));
        for entry in 0..names / DIRENT_SIZE as u64 {
            let at = start + entry * DIRENT_SIZE as u64;
            for (offset, width, name) in [
                (0, 8, "nid"),
                (8, 2, "nameoff"),
                (10, 1, "file_type"),
                (11, 1, "reserved"),
            ] {
                self.add(
                    Kind::Directory,
                    format!("/{path} entry {entry} {name}"),
                    at + offset,
                    width,
                );
            }
            self.add(
                Kind::Directory,
                format!("/{path} name byte {entry}"),
                start + names + entry * 2,
                1,
            );
        }
    }

    fn map(&mut self, inode: &Inode, path: &str, behind: u64) {
        let Some(header) = map_header::position(ByteOffset(behind)) else {
            return;
        };
        for (offset, width, name) in MAP_HEADER {
            self.add(
                Kind::MapHeader,
                format!("/{path} {name}"),
                header.0 + offset,
                width,
            );
        }
        let superblock = self.image.superblock();
        let bits = superblock.block_bits;
        let raw = self
            .bytes
            .get(header.0 as usize..(header.0 + MAP_HEADER_SIZE) as usize);
        let decoded = raw.and_then(|raw| MapHeader::decode(raw, inode.layout, superblock).ok());
        let (start, bytes) = match decoded {
            None | Some(MapHeader::Fragment { .. }) => return,
            Some(MapHeader::Extents(_)) => (header.checked_add(MAP_HEADER_SIZE), 8),
            Some(MapHeader::Index(_)) if inode.layout == DataLayout::CompressedCompact => {
                (compact_index::position(header), 4)
            }
            Some(MapHeader::Index(_)) => (full_index::position(header, 0), 8),
        };
        let Some(start) = start else { return };
        // Of long files the beginning: enough for every kind of record.
        let size = BASE_ADDRESS_SIZE + bytes * bits.blocks_for(inode.data_size()).min(12);
        for at in (0..size).step_by(2) {
            self.add(
                Kind::Index,
                format!("/{path} index byte {at}"),
                start.0 + at,
                2,
            );
        }
        for at in (0..size).step_by(4) {
            self.add(
                Kind::Index,
                format!("/{path} index byte {at}"),
                start.0 + at,
                4,
            );
        }
        for extent in self.image.extents(inode).flatten() {
            if let Place::Encoded { stored, length, .. } = extent.place {
                let (Stored::Device { offset, .. } | Stored::Inline { offset, .. }) = stored;
                for part in [1, 2, 3, 5, 8] {
                    let at = offset.0 + length - (length * part / 9).max(1);
                    self.add(Kind::Payload, format!("/{path} payload {part}/9"), at, 1);
                }
                let first = (offset.0..offset.0 + length)
                    .find(|at| self.bytes.get(*at as usize).is_some_and(|byte| *byte != 0));
                if let Some(first) = first {
                    for byte in 0..6 {
                        self.add(
                            Kind::Payload,
                            format!("/{path} payload byte {byte}"),
                            first + byte,
                            1,
                        );
                    }
                }
            }
        }
    }
}
