//! Metadata: where inodes, xattrs and indexes are read from, through a cache of pages.

use crate::cache::Cache;
use crate::error::{Error, Rule};
use crate::image::Image;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::sync::Arc;

/// Size of a cached page in bytes. Larger than a block, so that a walk over contiguous metadata needs few reads.
pub(crate) const PAGE_SIZE: usize = 16 << 10;

/// Which address space a metadata position counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// The image itself.
    Primary,
    /// The data of the metabox inode.
    Metabox,
}

/// A page of a device: device and page number.
pub(crate) type PageKey = (DeviceId, u64);

/// The page of the image that was read from last: what is near it needs no look into the cache.
#[derive(Debug, Default)]
pub(crate) struct Window(Option<(u64, Arc<[u8]>)>);

impl Window {
    /// The page `number`, which becomes the one that was read from last.
    fn page(&mut self, image: &Image, number: u64) -> Result<&[u8], Error> {
        let page = match self.0.take() {
            Some((last, page)) if last == number => page,
            _ => image.page(DeviceId::PRIMARY, number)?,
        };
        Ok(&self.0.insert((number, page)).1)
    }
}

impl Image {
    /// Fills `buffer` from byte `offset` of an area; `nid` is the inode that is being read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it ends behind the area; I/O errors.
    pub fn read_metadata(
        &self,
        nid: Option<Nid>,
        area: Area,
        offset: ByteOffset,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        match area {
            Area::Primary => self.read_pages(nid, DeviceId::PRIMARY, offset, buffer),
            Area::Metabox => {
                let corrupt = |rule| Error::Corrupt { rule, nid, offset };
                let metabox = self.metabox().ok_or_else(|| corrupt(Rule::NoMetabox))?;
                let length = buffer.len();
                let filled = self.read(metabox, offset.0, buffer)?;
                if filled == length {
                    return Ok(());
                }
                Err(corrupt(Rule::BeyondMetabox {
                    length: length as u64,
                    size: metabox.size,
                }))
            }
        }
    }

    /// As [`Image::read_metadata`], for who reads on near `offset`.
    pub(crate) fn read_through(
        &self,
        window: &mut Window,
        nid: Option<Nid>,
        area: Area,
        offset: ByteOffset,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        if area == Area::Primary {
            let page = window.page(self, offset.0 / PAGE_SIZE as u64)?;
            let bytes = usize::try_from(offset.0 % PAGE_SIZE as u64)
                .ok()
                .and_then(|start| page.get(start..)?.get(..buffer.len()));
            if let Some(bytes) = bytes {
                buffer.copy_from_slice(bytes);
                return Ok(());
            }
        }
        self.read_metadata(nid, area, offset, buffer)
    }

    /// Fills `buffer` from byte `offset` of a device, through the cache of pages.
    pub(crate) fn read_pages(
        &self,
        nid: Option<Nid>,
        device: DeviceId,
        offset: ByteOffset,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let (length, mut filled) = (buffer.len(), 0);
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let beyond = || Error::Corrupt {
                rule: Rule::BeyondDevice {
                    device,
                    start: offset.0,
                    length: length as u64,
                    size: self.devices().size(device),
                },
                nid,
                offset,
            };
            let position = offset.checked_add(filled as u64).ok_or_else(beyond)?;
            let page = self.page(device, position.0 / PAGE_SIZE as u64)?;
            let available = usize::try_from(position.0 % PAGE_SIZE as u64)
                .ok()
                .and_then(|start| page.get(start..))
                .filter(|available| !available.is_empty())
                .ok_or_else(beyond)?;
            let count = available.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..count), available.get(..count)) {
                to.copy_from_slice(from);
            }
            filled += count;
        }
        Ok(())
    }

    /// A page of a device, shorter at the device's end.
    fn page(&self, device: DeviceId, number: u64) -> Result<Arc<[u8]>, Error> {
        let cache: &Cache<PageKey> = self.pages();
        if let Some(page) = cache.get((device, number), 0) {
            return Ok(page);
        }
        let start = number * PAGE_SIZE as u64;
        let length = self
            .devices()
            .size(device)
            .saturating_sub(start)
            .min(PAGE_SIZE as u64);
        let length = usize::try_from(length).unwrap_or(0);
        // Read into where it stays.
        let mut page: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let bytes = Arc::get_mut(&mut page).expect("nobody else has it yet");
        let filled = self
            .devices()
            .read_up_to(device, ByteOffset(start), bytes)?;
        if filled < length {
            page = page.get(..filled).unwrap_or_default().into();
        }
        cache.insert((device, number), &page);
        Ok(page)
    }
}
