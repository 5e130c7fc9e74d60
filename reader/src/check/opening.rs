//! Opening an image whatever its superblock says: what the kernel would refuse is noted and mended in memory, so that the
//! rest can be looked at.

use super::CheckError;
use super::finding::{At, Finding, Findings};
use super::rule::Rule;
use crate::error::{Error, OpenError};
use crate::image::{Image, ImageOptions};
use crate::source::ByteSource;
use erofs_format::device::DeviceSlot;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::superblock::{
    EXTENSION_SLOT_SIZE, MAGIC, RawSuperblock, RawSuperblockExtension, SUPERBLOCK_OFFSET,
    SUPERBLOCK_SIZE, Superblock, checksum_length, image_checksum,
};
use erofs_format::{BlockBits, ByteOffset, Nid, record};
use std::io;
use std::sync::Arc;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

/// Smallest page of Linux in bytes; the superblock must lie in the first page.
const SMALLEST_PAGE: usize = 4096;

/// Most bytes of metadata to keep. Inodes are read twice, by name and in stored order: reading them again takes less than
/// fresh memory for all of them would.
const METADATA_CACHE: usize = 1 << 20;

/// An open image, and what of it cannot be judged.
pub(super) struct Opened {
    pub(super) image: Image,
    /// The superblock as stored.
    pub(super) stored: RawSuperblock,
    /// The algorithms' configurations are broken, so nothing can be said about compressed files.
    pub(super) without_algorithms: bool,
    /// Extra devices have sources of their own.
    pub(super) own_devices: bool,
    /// Extra devices are not at hand.
    pub(super) without_devices: bool,
}

/// Opens the image; `None` when nothing more can be said about it.
pub(super) fn open(
    primary: &Arc<dyn ByteSource>,
    devices: &[Arc<dyn ByteSource>],
    verify_checksum: bool,
    findings: &mut Findings,
) -> Result<Option<Opened>, CheckError> {
    let Some((stored, bits)) = read(primary.as_ref(), findings) else {
        return Ok(None);
    };
    if !devices.is_empty() && devices.len() != usize::from(stored.slots()) {
        return Err(CheckError::DeviceCount {
            given: devices.len(),
            slots: stored.slots(),
        });
    }
    Ok(open_draft(
        stored,
        bits,
        primary,
        devices,
        verify_checksum,
        findings,
    ))
}

fn open_draft(
    stored: Draft,
    bits: BlockBits,
    primary: &Arc<dyn ByteSource>,
    devices: &[Arc<dyn ByteSource>],
    verify_checksum: bool,
    findings: &mut Findings,
) -> Option<Opened> {
    if verify_checksum {
        check_checksum(primary.as_ref(), &stored.raw, bits, findings)?;
    }
    let mut draft = stored;
    let without_prefixes = draft.mend(findings);
    draft.check_blocks(bits, primary.size(), findings);
    let (mut image, without_algorithms) = draft.open(primary, devices, findings)?;
    if stored.raw.xattr_prefix_count != 0 {
        // The prefixes come last, so that what breaks before is not taken for them.
        draft.raw.xattr_prefix_count = stored.raw.xattr_prefix_count;
        if !without_prefixes {
            draft.raw.feature_compat |= stored.raw.feature_compat & share_bit();
        }
        match draft.attempt(primary, devices) {
            Ok(with_prefixes) => image = with_prefixes,
            Err(error) => {
                let at = u64::from(draft.raw.xattr_prefix_start.get()) * 4;
                findings.image(Rule::PrefixTable, at, error.to_string());
                draft.raw.xattr_prefix_count = 0;
                draft.raw.feature_compat &= !share_bit();
            }
        }
    }
    let without_devices = devices.is_empty()
        && !image.device_slots().is_empty()
        && !follow(image.device_slots(), bits, primary.size());
    if without_devices {
        let absent: Vec<Arc<dyn ByteSource>> = image
            .device_slots()
            .iter()
            .map(|slot| Arc::new(Absent::new(slot, bits)) as Arc<dyn ByteSource>)
            .collect();
        image = draft.attempt(primary, &absent).ok()?;
    }
    Some(Opened {
        image,
        stored: stored.raw,
        without_algorithms,
        own_devices: !devices.is_empty(),
        without_devices,
    })
}

const fn share_bit() -> U32 {
    U32::new(FeatureCompat::ISHARE_XATTRS.bits())
}

/// A superblock with its extension.
#[derive(Clone, Copy)]
struct Draft {
    raw: RawSuperblock,
    extension: RawSuperblockExtension,
}

/// Reads the superblock, and holds its fields to their rules.
fn read(primary: &dyn ByteSource, findings: &mut Findings) -> Option<(Draft, BlockBits)> {
    let bytes = read_up_to(
        primary,
        SUPERBLOCK_OFFSET,
        SUPERBLOCK_SIZE + EXTENSION_SLOT_SIZE,
        findings,
    )?;
    let Ok(raw) = record::read::<RawSuperblock>(&bytes, "superblock") else {
        let value = format!("the image has {} bytes", primary.size());
        findings.image(Rule::SuperblockTruncated, SUPERBLOCK_OFFSET, value);
        return None;
    };
    let extension = bytes.get(SUPERBLOCK_SIZE..).unwrap_or_default();
    let draft = Draft {
        raw,
        extension: record::read(extension, "superblock extension").unwrap_or_default(),
    };
    let bits = check_fields(&draft, findings)?;
    Some((draft, bits))
}

/// Reads until the source ends; `None` when that fails.
fn read_up_to(
    source: &dyn ByteSource,
    offset: u64,
    length: usize,
    findings: &mut Findings,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(ByteOffset(offset + filled as u64), rest) {
            Ok(0) => break,
            Ok(count) => filled += count.min(rest.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                findings.image(Rule::Io, offset, error.to_string());
                return None;
            }
        }
    }
    bytes.truncate(filled);
    Some(bytes)
}

/// Fields that say nothing about the rest of the image, and the two without which nothing can be read.
fn check_fields(stored: &Draft, findings: &mut Findings) -> Option<BlockBits> {
    let raw = &stored.raw;
    let mut found =
        |rule, field: u64, value| findings.image(rule, SUPERBLOCK_OFFSET + field, value);
    if raw.magic.get() != MAGIC {
        let value = format!("{:#010x}", raw.magic.get());
        found(Rule::SuperblockMagic, 0, value);
        return None;
    }
    let Ok(bits) = BlockBits::new(raw.blkszbits) else {
        found(
            Rule::SuperblockBlockSize,
            12,
            format!("2^{} bytes", raw.blkszbits),
        );
        return None;
    };
    if bits > BlockBits::B4096 {
        found(
            Rule::SuperblockPageSize,
            12,
            format!("{} bytes", bits.bytes()),
        );
    }
    let size = SUPERBLOCK_SIZE + EXTENSION_SLOT_SIZE * usize::from(raw.sb_extslots);
    if size > SMALLEST_PAGE - SUPERBLOCK_OFFSET as usize {
        found(Rule::SuperblockSize, 13, format!("{size} bytes"));
    }
    if raw.fixed_nsec.get() >= 1_000_000_000 {
        found(
            Rule::SuperblockNanoseconds,
            32,
            raw.fixed_nsec.get().to_string(),
        );
    }
    if !raw.volume_name.contains(&0) {
        let value = format!("\"{}\"", raw.volume_name.escape_ascii());
        found(Rule::SuperblockLabel, 64, value);
    }
    let extension = if raw.sb_extslots > 0 {
        stored.extension.reserved.get()
    } else {
        0
    };
    for (field, value) in [
        (104, u64::from(raw.xattr_filter_reserved)),
        (106, raw.reserved.get().into()),
        (120, raw.reserved2.get()),
        (136, extension),
    ] {
        if value != 0 {
            found(Rule::SuperblockReserved, field, format!("{value:#x}"));
        }
    }
    Some(bits)
}

fn check_checksum(
    primary: &dyn ByteSource,
    raw: &RawSuperblock,
    bits: BlockBits,
    findings: &mut Findings,
) -> Option<()> {
    let compat = FeatureCompat::from_bits_retain(raw.feature_compat.get());
    if compat.contains(FeatureCompat::SB_CHKSUM) {
        let length = checksum_length(bits);
        let mut covered = read_up_to(primary, SUPERBLOCK_OFFSET, length, findings)?;
        covered.resize(length, 0);
        let (computed, stored) = (image_checksum(&covered), raw.checksum.get());
        if computed != stored {
            let value = format!("{stored:#010x}, computed {computed:#010x}");
            findings.image(Rule::SuperblockChecksum, SUPERBLOCK_OFFSET + 4, value);
        }
    }
    Some(())
}

impl Draft {
    /// Number of extra devices.
    fn slots(&self) -> u16 {
        let incompat = FeatureIncompat::from_bits_retain(self.raw.feature_incompat.get());
        if incompat.contains(FeatureIncompat::DEVICE_TABLE_OR_COMPR_HEAD2) {
            self.raw.extra_devices.get()
        } else {
            0
        }
    }

    /// Takes out what the kernel refuses at mount. Tells whether the inode-sharing prefix was among it.
    /// The long prefixes are left for later.
    fn mend(&mut self, findings: &mut Findings) -> bool {
        let raw = &mut self.raw;
        let mut found =
            |rule, field: u64, value| findings.image(rule, SUPERBLOCK_OFFSET + field, value);
        let compat = FeatureCompat::from_bits_retain(raw.feature_compat.get());
        let incompat = FeatureIncompat::from_bits_retain(raw.feature_incompat.get());
        if raw.dirblkbits != 0 {
            let value = raw.dirblkbits.to_string();
            found(Rule::SuperblockDirectoryBlocks, 90, value);
            raw.dirblkbits = 0;
        }
        if !incompat.unknown().is_empty() {
            let value = format!("{:#x}", incompat.unknown().bits());
            found(Rule::SuperblockFeatures, 80, value);
            raw.feature_incompat = U32::new(incompat.intersection(FeatureIncompat::KNOWN).bits());
        }
        if incompat.contains(FeatureIncompat::METABOX) {
            let metabox = Nid(self.extension.metabox_nid.get());
            let problem = if raw.sb_extslots == 0 {
                Some((13, "no extension slot".to_owned()))
            } else if metabox.in_metabox() {
                Some((128, format!("{:#x}", metabox.0)))
            } else {
                None
            };
            if let Some((field, value)) = problem {
                found(Rule::SuperblockMetabox, field, value);
                raw.feature_incompat &= !U32::new(FeatureIncompat::METABOX.bits());
            }
        }
        if incompat.contains(FeatureIncompat::FRAGMENTS_OR_DEDUPE)
            && Nid(raw.packed_nid.get()).in_metabox()
        {
            let value = format!("{:#x}", raw.packed_nid.get());
            found(Rule::SuperblockPacked, 96, value);
            raw.packed_nid = U64::new(0);
        }
        let bad_share = compat.contains(FeatureCompat::ISHARE_XATTRS)
            && raw.ishare_xattr_prefix_id >= raw.xattr_prefix_count;
        if bad_share {
            let value = format!(
                "{} of {}",
                raw.ishare_xattr_prefix_id, raw.xattr_prefix_count
            );
            found(Rule::SuperblockSharePrefix, 105, value);
        }
        raw.feature_compat &= !share_bit();
        raw.xattr_prefix_count = 0;
        bad_share
    }

    /// Whether all of the image is there, which may be why the rest cannot be read.
    fn check_blocks(&self, bits: BlockBits, size: u64, findings: &mut Findings) {
        let blocks = bits.blocks_for(size);
        if let Ok(superblock) = Superblock::decode(&self.bytes())
            && blocks < superblock.blocks
        {
            let value = format!("{} blocks, the image has {blocks}", superblock.blocks);
            findings.image(Rule::SuperblockBlocks, SUPERBLOCK_OFFSET + 36, value);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.raw.as_bytes().to_vec();
        if self.raw.sb_extslots > 0 {
            bytes.extend_from_slice(self.extension.as_bytes());
        }
        bytes
    }

    fn attempt(
        &self,
        primary: &Arc<dyn ByteSource>,
        devices: &[Arc<dyn ByteSource>],
    ) -> Result<Image, OpenError> {
        let source = Mended {
            inner: Arc::clone(primary),
            superblock: self.bytes(),
        };
        let devices = if self.slots() == 0 { &[] } else { devices };
        let options = ImageOptions {
            devices: devices
                .iter()
                .map(|device| Box::new(Arc::clone(device)) as Box<dyn ByteSource>)
                .collect(),
            checksum: false,
            metadata_cache: METADATA_CACHE,
            ..ImageOptions::default()
        };
        Image::open(source, options)
    }

    /// Opens the image, leaving out what cannot be read. Each failure takes something away, so this ends. Tells whether
    /// the algorithms were taken away.
    fn open(
        &mut self,
        primary: &Arc<dyn ByteSource>,
        devices: &[Arc<dyn ByteSource>],
        findings: &mut Findings,
    ) -> Option<(Image, bool)> {
        let mut without_algorithms = false;
        loop {
            let error = match self.attempt(primary, devices) {
                Ok(image) => return Some((image, without_algorithms)),
                Err(error) => error,
            };
            let text = error.to_string();
            let (nid, offset) = match error {
                OpenError::Algorithms(_) if !without_algorithms => {
                    let size = EXTENSION_SLOT_SIZE * usize::from(self.raw.sb_extslots);
                    let at = SUPERBLOCK_OFFSET + (SUPERBLOCK_SIZE + size) as u64;
                    findings.image(Rule::AlgorithmConfig, at, text);
                    // Compressed inodes can still be told from broken ones.
                    self.raw.feature_incompat &=
                        !U32::new(FeatureIncompat::COMPR_CFGS_OR_BIG_PCLUSTER.bits());
                    self.raw.feature_incompat |= U32::new(FeatureIncompat::ZERO_PADDING.bits());
                    without_algorithms = true;
                    continue;
                }
                OpenError::Read(Error::Corrupt { nid, offset, .. }) => (nid, offset.0),
                OpenError::Read(Error::Io { offset, .. }) => {
                    findings.image(Rule::Io, offset.0, text);
                    return None;
                }
                _ => (None, SUPERBLOCK_OFFSET),
            };
            let known = Superblock::decode(&self.bytes()).ok();
            let is = |special: Option<Nid>| nid.is_some() && special == nid;
            if nid.is_none() && self.slots() != 0 {
                findings.image(Rule::DeviceTable, offset, text);
                self.raw.extra_devices = U16::new(0);
                self.raw.devt_slotoff = U16::new(0);
            } else if is(known.as_ref().and_then(|known| known.metabox)) {
                findings.image(Rule::MetaboxInode, offset, text);
                self.raw.feature_incompat &= !U32::new(FeatureIncompat::METABOX.bits());
            } else if is(known.as_ref().and_then(|known| known.packed)) {
                // Without its algorithm nobody can tell.
                if !without_algorithms {
                    findings.image(Rule::PackedInode, offset, text);
                }
                self.raw.packed_nid = U64::new(0);
            } else {
                findings.add(Rule::Root, || Finding {
                    rule: Rule::Root,
                    nid,
                    path: Some(Vec::new()),
                    at: At::Image(offset),
                    value: text,
                });
                return None;
            }
        }
    }
}

/// Whether the devices follow the image in its source, each at its place in the unified address space. Of the last block
/// one byte is enough.
fn follow(slots: &[DeviceSlot], bits: BlockBits, size: u64) -> bool {
    slots.iter().all(|slot| {
        let last = slot
            .blocks
            .checked_sub(1)
            .filter(|_| slot.unified_start.0 != 0)
            .and_then(|blocks| slot.unified_start.checked_add(blocks))
            .and_then(|last| last.checked_offset(bits));
        last.is_some_and(|last| last.0 < size)
    })
}

/// A source with another superblock.
struct Mended {
    inner: Arc<dyn ByteSource>,
    superblock: Vec<u8>,
}

impl ByteSource for Mended {
    fn read_at(&self, offset: ByteOffset, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read_at(offset, buffer)?;
        let end = SUPERBLOCK_OFFSET + self.superblock.len() as u64;
        if offset.0 < end {
            for (position, byte) in (offset.0..end).zip(buffer.iter_mut().take(count)) {
                let at = position.checked_sub(SUPERBLOCK_OFFSET);
                let at = at.and_then(|at| usize::try_from(at).ok());
                if let Some(mended) = at.and_then(|at| self.superblock.get(at)) {
                    *byte = *mended;
                }
            }
        }
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }
}

/// A device that is not at hand: as large as its slot says, without a readable byte.
struct Absent(u64);

impl Absent {
    fn new(slot: &DeviceSlot, bits: BlockBits) -> Self {
        // Some tools leave 0 in the slot.
        let size = slot.blocks.saturating_mul(bits.bytes());
        Self(if size == 0 { i64::MAX as u64 } else { size })
    }
}

impl ByteSource for Absent {
    fn read_at(&self, _: ByteOffset, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the device is not at hand",
        ))
    }

    fn size(&self) -> u64 {
        self.0
    }
}
