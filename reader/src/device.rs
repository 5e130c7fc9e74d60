//! The image's devices: slots of its table, and which device a block address leads to.

use crate::error::{Error, Rule};
use crate::source::ByteSource;
use erofs_format::chunk::mask_device;
use erofs_format::device::DeviceSlot;
use erofs_format::{BlockBits, ByteOffset, DeviceId, Nid};
use std::io::ErrorKind;

/// The image itself and its extra devices.
pub(crate) struct Devices {
    /// The image, then one source per slot; only the image in flat mode.
    sources: Vec<Source>,
    slots: Vec<DeviceSlot>,
    /// Unified ranges in bytes, by slot in ascending order. Empty in flat mode.
    unified: Vec<UnifiedRange>,
    block_bits: BlockBits,
}

struct Source {
    bytes: Box<dyn ByteSource>,
    size: u64,
}

struct UnifiedRange {
    device: DeviceId,
    start: u64,
    end: u64,
}

/// Where a byte range begins on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) device: DeviceId,
    pub(crate) offset: ByteOffset,
    /// Bytes from there on that lie on this device; what follows must be resolved anew.
    pub(crate) length: u64,
}

impl Devices {
    /// `extra` holds one source per slot, or none at all: then the devices follow the image in the primary source
    /// ("flat" mode of `erofs_scan_devices`, fs/erofs/super.c).
    pub(crate) fn new(
        primary: Box<dyn ByteSource>,
        extra: Vec<Box<dyn ByteSource>>,
        slots: Vec<DeviceSlot>,
        block_bits: BlockBits,
    ) -> Self {
        let flat = extra.is_empty();
        let unified = slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !flat && slot.unified_start.0 != 0)
            .filter_map(|(index, slot)| {
                let start = slot.unified_start.checked_offset(block_bits)?.0;
                Some(UnifiedRange {
                    device: DeviceId::from_slot(index)?,
                    start,
                    end: start.saturating_add(slot.blocks.saturating_mul(block_bits.bytes())),
                })
            })
            .collect();
        let sources = std::iter::once(primary)
            .chain(extra)
            .map(|bytes| Source {
                size: bytes.size(),
                bytes,
            })
            .collect();
        Self {
            sources,
            slots,
            unified,
            block_bits,
        }
    }

    pub(crate) fn slots(&self) -> &[DeviceSlot] {
        &self.slots
    }

    /// Size of a device in bytes.
    pub(crate) fn size(&self, device: DeviceId) -> u64 {
        self.sources
            .get(usize::from(device.0))
            .map_or(0, |source| source.size)
    }

    /// Size of all devices in bytes.
    pub(crate) fn total_size(&self) -> u64 {
        self.sources
            .iter()
            .fold(0, |sum, source| sum.saturating_add(source.size))
    }

    /// Finds the device of a data range as `erofs_map_dev` (fs/erofs/data.c) does: `device` is masked, an id of its own
    /// leads to its slot, and a byte `position` on device 0 to the first slot whose unified range holds it.
    pub(crate) fn resolve(
        &self,
        device: DeviceId,
        position: ByteOffset,
        length: u64,
    ) -> Result<Resolved, Rule> {
        let slot_count = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
        let device = mask_device(device, slot_count);
        if let Some(index) = device.slot() {
            let slot = self.slots.get(index).ok_or(Rule::NoSuchDevice {
                device,
                slots: self.slots.len(),
            })?;
            if self.sources.len() > 1 {
                return Ok(Resolved {
                    device,
                    offset: position,
                    length,
                });
            }
            let offset = slot
                .unified_start
                .checked_offset(self.block_bits)
                .and_then(|start| start.checked_add(position.0))
                .ok_or(Rule::Overflow)?;
            return Ok(Resolved {
                device: DeviceId::PRIMARY,
                offset,
                length,
            });
        }
        let within = |range: &&UnifiedRange| (range.start..range.end).contains(&position.0);
        if let Some(range) = self.unified.iter().find(within) {
            return Ok(Resolved {
                device: range.device,
                offset: ByteOffset(position.0 - range.start),
                length: length.min(range.end - position.0),
            });
        }
        let next = self
            .unified
            .iter()
            .filter(|range| range.start > position.0 && range.start < range.end)
            .map(|range| range.start - position.0)
            .min();
        Ok(Resolved {
            device: DeviceId::PRIMARY,
            offset: position,
            length: next.map_or(length, |next| length.min(next)),
        })
    }

    /// Fills `buffer` from byte `offset` of a device; `nid` is the inode that is being read.
    pub(crate) fn read_exact(
        &self,
        nid: Option<Nid>,
        device: DeviceId,
        offset: ByteOffset,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let length = buffer.len();
        let filled = self.read_up_to(device, offset, buffer)?;
        if filled == length {
            return Ok(());
        }
        Err(Error::Corrupt {
            rule: Rule::BeyondDevice {
                device,
                start: offset.0,
                length: length as u64,
                size: self.size(device),
            },
            nid,
            offset,
        })
    }

    /// Reads until `buffer` is full or the device ends, and returns the number of bytes.
    pub(crate) fn read_up_to(
        &self,
        device: DeviceId,
        offset: ByteOffset,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        // Behind its end a file answers with an error, not with 0 bytes, from 2^63 on.
        let source = self.sources.get(usize::from(device.0));
        let Some(source) = source.filter(|source| offset.0 < source.size) else {
            return Ok(0);
        };
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let Some(position) = offset.checked_add(filled as u64) else {
                break;
            };
            match source.bytes.read_at(position, rest) {
                Ok(0) => break,
                Ok(count) => filled += count.min(rest.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::Io {
                        device,
                        offset: position,
                        source: error,
                    });
                }
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileSource;

    #[test]
    fn a_file_ends_quietly_where_no_offset_reaches() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let source = Box::new(FileSource::new(file).unwrap());
        let devices = Devices::new(source, Vec::new(), Vec::new(), BlockBits::B4096);
        for offset in [8192, i64::MAX as u64, 1 << 63, u64::MAX - 3] {
            let read = |buffer: &mut [u8]| {
                devices.read_exact(None, DeviceId::PRIMARY, ByteOffset(offset), buffer)
            };
            let error = read(&mut [0; 10]).unwrap_err();
            let beyond = matches!(
                error,
                Error::Corrupt {
                    rule: Rule::BeyondDevice { .. },
                    ..
                }
            );
            assert!(beyond, "{error}");
        }
    }
}
