//! The records of a file of encoded extents of an image that is continued: what they point at stays where it is.

use crate::data::StoredRecords;
use erofs_format::compression::Algorithm;
use erofs_format::compression::encoded_extent::{ExtentRecord, Piece};
use erofs_format::{ByteOffset, DeviceId};
use erofs_reader::Image;
use erofs_reader::map::{Form, Location, StoredExtent};

/// Records as the base has them.
#[derive(Debug, Default)]
pub(super) struct KeptRecords {
    records: Vec<ExtentRecord>,
    interlaced: bool,
    fragment: bool,
    /// Bytes that they lie in.
    stored: u64,
    /// First byte that any of them lies in.
    pub(super) lowest: Option<u64>,
}

impl KeptRecords {
    /// Takes the next extent of a file of `image`.
    ///
    /// # Errors
    /// Its form, when no record tells of it.
    pub(super) fn push(
        &mut self,
        extent: &StoredExtent,
        image: &Image,
    ) -> Result<(), &'static str> {
        let stored = |algorithm: Option<Algorithm>, partial| Piece::Stored {
            length: u32::try_from(extent.stored_length).unwrap_or(u32::MAX),
            algorithm,
            partial,
        };
        let (plen, address) = match (extent.form, extent.location) {
            (Form::Hole, _) => (Piece::Hole.encode(), 0),
            (Form::Fragment, Some(Location::Packed { offset })) => {
                self.fragment = true;
                (Some(offset as u32), offset >> 32)
            }
            (form, Some(Location::Device { device, offset })) if device == DeviceId::PRIMARY => {
                let piece = match form {
                    Form::Encoded { algorithm, partial } => stored(Some(algorithm), partial),
                    Form::Plain { interlaced } => {
                        self.interlaced |= interlaced;
                        stored(None, false)
                    }
                    _ => return Err("plain data in a compressed file"),
                };
                let superblock = image.superblock();
                let end = offset.0.saturating_add(extent.stored_length);
                if end > superblock.blocks << superblock.block_bits.bits() {
                    return Err("data behind the end of the image");
                }
                self.stored += extent.stored_length;
                self.lowest = Some(self.lowest.map_or(offset.0, |lowest| lowest.min(offset.0)));
                (piece.encode(), offset.0)
            }
            _ => return Err("data on a device"),
        };
        self.records.push(ExtentRecord {
            plen: plen.ok_or("a very long extent")?,
            address: ByteOffset(address),
            start: extent.logical,
        });
        Ok(())
    }

    /// All of them.
    pub(super) fn into_stored(self, image: &Image) -> StoredRecords {
        StoredRecords {
            records: self.records.into(),
            interlaced: self.interlaced,
            fragment: self.fragment,
            blocks: image.superblock().block_bits.blocks_for(self.stored),
        }
    }
}
