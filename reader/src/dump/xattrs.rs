//! The extended attributes of an inode as stored, also those that the kernel does not show.

use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Area;
use erofs_format::ByteOffset;
use erofs_format::xattr::{
    BODY_HEADER_SIZE, NameIndex, XattrBody, XattrEntry, body_size, decode_entry,
};

/// An inode's xattr body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XattrBodyRecord {
    /// Which area it is in.
    pub area: Area,
    /// First byte in the area.
    pub offset: ByteOffset,
    /// Size in bytes.
    pub size: u64,
    /// Name filter as stored.
    pub filter: u32,
    /// Attributes in stored order: inline ones, then shared ones.
    pub entries: Vec<XattrRecord>,
}

/// An attribute as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XattrRecord {
    /// Its shared id; `None` for an inline one.
    pub shared: Option<u32>,
    /// Which area it is in.
    pub area: Area,
    /// First byte in the area.
    pub offset: ByteOffset,
    /// Size in bytes with padding.
    pub size: u64,
    /// Prefix of the name.
    pub index: NameIndex,
    /// Name behind the prefix.
    pub suffix: Vec<u8>,
    /// Full name, unless the kernel does not show the attribute.
    pub name: Option<Vec<u8>>,
    /// Value.
    pub value: Vec<u8>,
}

impl Image {
    /// The xattr body of an inode, or `None` when it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when body or entries break a rule; I/O errors.
    pub fn xattr_record(&self, inode: &Inode) -> Result<Option<XattrBodyRecord>, Error> {
        if inode.xattr_icount == 0 {
            return Ok(None);
        }
        let area = inode.position().0;
        let start = inode.xattr_offset()?;
        let size = body_size(inode.xattr_icount);
        // At most 262148 bytes: the count has 16 bits.
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_metadata(Some(inode.nid()), area, start, &mut bytes)?;
        let corrupt = |error| inode.corrupt(Rule::Xattr(error), start);
        let body = XattrBody::new(&bytes).map_err(corrupt)?;
        let mut entries = Vec::new();
        let mut at = BODY_HEADER_SIZE + 4 * body.shared_ids().count();
        for entry in body.inline_entries() {
            let entry = entry.map_err(corrupt)?;
            // Padding reads as entries without a name.
            if !(entry.name.is_empty() && entry.value.is_empty() && entry.index.value() == 0) {
                let offset = start
                    .checked_add(at as u64)
                    .ok_or_else(|| inode.corrupt(Rule::Overflow, start))?;
                entries.push(self.xattr_entry(None, area, offset, &entry));
            }
            at += entry.stored_size();
        }
        for id in body.shared_ids() {
            let (offset, bytes) = self.shared_entry(inode, id)?;
            let (entry, _) = decode_entry(&bytes, 0).map_err(corrupt)?;
            entries.push(self.xattr_entry(Some(id), self.shared_xattr_area(), offset, &entry));
        }
        Ok(Some(XattrBodyRecord {
            area,
            offset: start,
            size,
            filter: body.name_filter(),
            entries,
        }))
    }

    fn xattr_entry(
        &self,
        shared: Option<u32>,
        area: Area,
        offset: ByteOffset,
        entry: &XattrEntry<'_>,
    ) -> XattrRecord {
        XattrRecord {
            shared,
            area,
            offset,
            size: entry.stored_size() as u64,
            index: entry.index,
            suffix: entry.name.to_vec(),
            name: self.full_name(entry),
            value: entry.value.to_vec(),
        }
    }
}
