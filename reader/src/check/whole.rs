//! Rules for the image as a whole: devices, prefixes, and counts that only the end knows.

use super::Checker;
use super::opening::Opened;
use super::range::{Kind, Range, Space};
use super::rule::Rule;
use erofs_format::DeviceId;
use erofs_format::compression::Algorithm;
use erofs_format::compression::config::MAX_LZ4_PCLUSTER_BLOCKS;
use erofs_format::device::{DEVICE_SLOT_SIZE, DeviceSlot};
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::superblock::{RawSuperblock, SUPERBLOCK_OFFSET};
use erofs_format::xattr::Prefix;
use std::io;

impl Checker<'_> {
    /// What can be said before anything is walked.
    pub(super) fn whole_image(&mut self, opened: &Opened) -> io::Result<()> {
        let superblock = self.image.superblock();
        self.own(SUPERBLOCK_OFFSET, superblock.size() as u64)?;
        let slots = self.image.device_slots();
        if !slots.is_empty() {
            let table = superblock.device_table.0;
            self.own(table, slots.len() as u64 * DEVICE_SLOT_SIZE)?;
            self.devices(opened, slots, table);
        }
        self.prefixes(&opened.stored);
        self.lz4_blocks();
        Ok(())
    }

    /// Remembers a range of bytes that belongs to the image itself.
    fn own(&mut self, start: u64, length: u64) -> io::Result<()> {
        self.ranges.push(Range {
            space: Space::Device(DeviceId::PRIMARY),
            start,
            length,
            kind: Kind::Metadata,
            nid: Range::NOBODY,
            logical: 0,
            more: 0,
            early: false,
        })
    }

    fn devices(&mut self, opened: &Opened, slots: &[DeviceSlot], table: u64) {
        let superblock = self.image.superblock();
        let bits = superblock.block_bits;
        if opened.without_devices {
            let value = format!("{} devices", slots.len());
            self.findings.image(Rule::DeviceMissing, table, value);
        }
        // Devices in the unified address space, with the image itself.
        let mut taken = vec![(0, superblock.blocks, DeviceId::PRIMARY)];
        for (index, slot) in slots.iter().enumerate() {
            let Some(device) = DeviceId::from_slot(index) else {
                continue;
            };
            let at = table + index as u64 * DEVICE_SLOT_SIZE;
            if slot.tag_bytes().is_empty() {
                let value = format!("device {device}");
                self.findings.image(Rule::DeviceTag, at, value);
            }
            let start = slot.unified_start.0;
            if start != 0 && slot.blocks != 0 {
                taken.push((start, start.saturating_add(slot.blocks), device));
            }
            if opened.own_devices {
                let size = self.image.devices().size(device);
                let has = bits.blocks_for(size);
                if has < slot.blocks {
                    let value = format!("device {device}: {} blocks, it has {has}", slot.blocks);
                    self.findings.image(Rule::DeviceShort, at, value);
                }
            }
        }
        taken.sort_unstable();
        let mut furthest = (0, DeviceId::PRIMARY);
        for (start, end, device) in taken {
            if start < furthest.0 {
                let value = format!(
                    "device {device} begins at block {start}, device {} ends at {}",
                    furthest.1, furthest.0
                );
                self.findings.image(Rule::DeviceOverlap, table, value);
            }
            furthest = furthest.max((end, device));
        }
    }

    /// What is legal by its bytes is more than there are pages for (`z_erofs_load_lz4_config`).
    fn lz4_blocks(&mut self) {
        let superblock = self.image.superblock();
        if let Some(lz4) = self.image.configs().lz4
            && lz4.max_pcluster_blocks > MAX_LZ4_PCLUSTER_BLOCKS
        {
            // The configuration of LZ4 is the first; its length and window come before.
            let at = SUPERBLOCK_OFFSET + superblock.size() as u64 + 4;
            let bytes = superblock.block_bits.bytes();
            let value = format!("{} blocks of {bytes} bytes", lz4.max_pcluster_blocks);
            self.findings.image(Rule::AlgorithmBlocks, at, value);
        }
    }

    fn prefixes(&mut self, stored: &RawSuperblock) {
        let superblock = self.image.superblock();
        let at = superblock.xattr_prefix_start.0;
        for (number, prefix) in self.image.xattr_prefixes().iter().enumerate() {
            let shown = match Prefix::from_value(prefix.base) {
                None | Some(Prefix::Lustre) => false,
                // The prefix of fingerprints has no namespace, since nobody asks for them by name.
                Some(Prefix::None) => {
                    superblock.inode_share_prefix.map(usize::from) == Some(number)
                }
                Some(_) => true,
            };
            if !shown {
                let value = format!(
                    "prefix {number}: base {}, \"{}\"",
                    prefix.base,
                    prefix.infix.escape_ascii()
                );
                self.findings.image(Rule::PrefixBase, at, value);
            }
        }
        let plain = superblock.compat.contains(FeatureCompat::PLAIN_XATTR_PFX);
        if stored.xattr_prefix_count > 0 && plain && superblock.packed.is_some() {
            let value = "on the device, beside a packed inode";
            self.findings.image(Rule::PrefixPlace, at, value);
        }
    }

    /// What can be said when every inode was looked at; `complete` when nothing was left out on the way.
    pub(super) fn whole_tree(&mut self, complete: bool) {
        let superblock = self.image.superblock();
        if complete && superblock.inodes != self.statistics.inodes {
            let value = format!(
                "{}, {} can be reached",
                superblock.inodes, self.statistics.inodes
            );
            self.findings
                .image(Rule::SuperblockInodes, SUPERBLOCK_OFFSET + 16, value);
        }
        let listed = superblock
            .incompat
            .contains(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER);
        // Files in the packed inode count as compressed, and need a listed algorithm even when nothing is encoded.
        let only_fragments = self.algorithms == 0 && superblock.packed.is_some();
        if !complete || !listed || only_fragments {
            return;
        }
        for algorithm in Algorithm::ALL {
            if superblock.algorithms() & algorithm.bit() & !self.algorithms != 0 {
                self.findings.image(
                    Rule::AlgorithmUnused,
                    SUPERBLOCK_OFFSET + 84,
                    algorithm.name(),
                );
            }
        }
    }
}
