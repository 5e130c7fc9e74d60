//! One inode after the other, in the order in which they are stored.

use super::Checker;
use super::finding::At;
use super::range::{Kind, Range, Space};
use super::rule::Rule;
use super::work::Work;
use crate::error::{Error, Rule as Broken};
use crate::inode::Inode;
use crate::metadata::Area;
use erofs_format::feature::FeatureIncompat;
use erofs_format::inode::{
    DataLayout, EXTENDED_INODE_SIZE, FileType, InodePayload, RawCompactInode, RawExtendedInode,
};
use erofs_format::{ByteOffset, DeviceId, record};
use std::io;

/// Bit of `i_format` that has a meaning only in 48-bit images.
const FORMAT_BIT4: u16 = 1 << 4;

impl Checker<'_> {
    /// Looks at an inode and at all that belongs to it. `names` is how many lead to it, where that counts. Tells whether
    /// there is something left of the budget.
    pub(super) fn inode(&mut self, inode: &Inode, names: Option<u64>) -> io::Result<bool> {
        if !self.work.charge(Work::INODE) {
            return Ok(false);
        }
        self.told.clear();
        self.statistics.inodes += 1;
        let (area, offset) = inode.position();
        let at = At::area(area, offset);
        self.core(inode, at);
        if let Some(names) = names.filter(|names| *names != u64::from(inode.nlink)) {
            let value = format!("{} links, {names} names", inode.nlink);
            self.found(inode, Rule::InodeLinks, at, || value);
        }
        if !self.xattrs(inode)? {
            return Ok(false);
        }
        let Some(end) = self.data(inode)? else {
            return Ok(false);
        };
        if inode.file_type == FileType::Symlink {
            self.symlink(inode);
        }
        self.ranges.push(Range {
            space: space_of(area),
            start: offset.0,
            length: end.0.saturating_sub(offset.0).max(1),
            kind: Kind::Metadata,
            nid: inode.nid(),
            logical: 0,
            more: 0,
            early: false,
        })?;
        Ok(true)
    }

    /// The record itself.
    fn core(&mut self, inode: &Inode, at: At) {
        let (_, offset) = inode.position();
        let mut bytes = [0; EXTENDED_INODE_SIZE as usize];
        let length = usize::try_from(inode.core_size()).unwrap_or(0);
        let core = bytes.get_mut(..length).unwrap_or_default();
        if let Err(error) = self.read(inode, offset, core) {
            self.broken(inode, &error);
            return;
        }
        let wide = self.has(FeatureIncompat::BIT48);
        let stored = record::read::<RawCompactInode>(&bytes, "inode");
        let Ok(stored) = stored else {
            return;
        };
        let mut reserved = Vec::new();
        if inode.extended {
            if let Ok(stored) = record::read::<RawExtendedInode>(&bytes, "inode") {
                reserved.extend_from_slice(&stored.reserved);
                if !wide {
                    reserved.extend_from_slice(&stored.nb.to_bytes());
                }
            }
            if inode.mtime.nanoseconds >= 1_000_000_000 {
                let value = inode.mtime.nanoseconds.to_string();
                self.found(inode, Rule::InodeNanoseconds, at, || value);
            }
        } else {
            reserved.extend_from_slice(&stored.reserved.to_bytes());
            if !wide && stored.mtime.get() != 0 {
                let value = format!("{} seconds behind the epoch", stored.mtime.get());
                self.found(inode, Rule::InodeTime, at, || value);
            }
        }
        let has_meaning = !inode.extended || inode.is_directory();
        if has_meaning && stored.format.get() & FORMAT_BIT4 != 0 {
            self.needs_feature(inode, FeatureIncompat::BIT48);
        }
        if let Some(byte) = reserved.iter().find(|byte| **byte != 0) {
            let value = format!("{byte:#04x}");
            self.found(inode, Rule::InodeReserved, at, || value);
        }
        if matches!(inode.payload, InodePayload::ChunkFormat(_)) {
            let [_, _, low, high] = stored.u.to_bytes();
            if (low, high) != (0, 0) {
                let value = format!("{:#06x}", u16::from_le_bytes([low, high]));
                self.found(inode, Rule::ChunkReserved, at, || value);
            }
        }
        let has_data = matches!(
            inode.file_type,
            FileType::Regular | FileType::Directory | FileType::Symlink
        );
        if !has_data && inode.size != 0 {
            let value = format!("{} bytes", inode.size);
            self.found(inode, Rule::InodeSpecialSize, at, || value);
        }
        if has_data && inode.layout == DataLayout::ChunkBased {
            self.needs_feature(inode, FeatureIncompat::CHUNKED_FILE);
        }
    }

    /// What reading a link finds beyond its map.
    fn symlink(&mut self, inode: &Inode) {
        if let Err(
            error @ Error::Corrupt {
                rule: Broken::SymlinkSize { .. } | Broken::SymlinkNul { .. },
                ..
            },
        ) = self.image.read_link(inode)
        {
            self.broken(inode, &error);
        }
    }

    pub(super) fn has(&self, feature: FeatureIncompat) -> bool {
        self.image.superblock().incompat.contains(feature)
    }

    /// Notes the first inode that uses a feature which the superblock does not announce.
    pub(super) fn needs_feature(&mut self, inode: &Inode, feature: FeatureIncompat) {
        if self.has(feature) || self.missing.contains(feature) {
            return;
        }
        self.missing |= feature;
        let (area, offset) = inode.position();
        let name = feature
            .iter_names()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
            .join(" | ");
        self.found(inode, Rule::FeatureMissing, At::area(area, offset), || name);
    }

    /// Size in bytes of an area of metadata.
    pub(super) fn area_size(&self, area: Area) -> u64 {
        match area {
            Area::Primary => self.image.devices().size(DeviceId::PRIMARY),
            Area::Metabox => self.image.metabox().map_or(0, |metabox| metabox.size),
        }
    }

    /// Whether metadata of this inode from `start` to `end` lies inside of its area; a finding if it does not.
    pub(super) fn is_inside(&mut self, inode: &Inode, start: ByteOffset, end: ByteOffset) -> bool {
        let area = inode.position().0;
        let size = self.area_size(area);
        if end.0 <= size {
            return true;
        }
        let length = end.0.saturating_sub(start.0);
        let value = format!("{length} bytes of metadata end behind {size}");
        self.found(inode, Rule::DataOutside, At::area(area, start), || value);
        false
    }
}

/// The space in which ranges of an area are counted.
pub(super) const fn space_of(area: Area) -> Space {
    match area {
        Area::Primary => Space::Device(DeviceId::PRIMARY),
        Area::Metabox => Space::Metabox,
    }
}
