//! Extended attributes: inline and shared, with long prefixes and the name filter.

use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Area;
use erofs_format::ByteOffset;
use erofs_format::feature::FeatureCompat;
use erofs_format::xattr::{
    ENTRY_HEADER_SIZE, LongPrefix, NameIndex, Prefix, XattrBody, XattrEntry, body_size,
    decode_entry, entry_size, filter_bit, shared_offset,
};

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Full name with its prefix, for example `user.mime_type`.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

impl Image {
    /// The attributes of an inode that the kernel would show to root: those of a known namespace, inline ones first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when body or entries break a rule; I/O errors.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, Error> {
        let mut found = Vec::new();
        self.each_xattr(inode, None, &mut |entry| {
            if let Some(name) = self.full_name(entry) {
                let value = entry.value.to_vec();
                found.push(Xattr { name, value });
            }
            true
        })?;
        Ok(found)
    }

    /// What names the content of a file, so that files of equal fingerprint and size may share memory; `None` for images or
    /// inodes without one. Linux 7.0 and newer use it (`erofs_ishare_fill_inode`, fs/erofs/ishare.c); mkfs.erofs writes
    /// `sha256:` and the digest.
    ///
    /// # Errors
    /// As [`Image::xattrs`], as far as was read.
    pub fn fingerprint(&self, inode: &Inode) -> Result<Option<Vec<u8>>, Error> {
        let Some(prefix) = self.superblock().inode_share_prefix else {
            return Ok(None);
        };
        let mut result = None;
        self.each_xattr(inode, None, &mut |entry| {
            if entry.index == NameIndex::Long(prefix) && entry.name.is_empty() {
                result = Some(entry.value.to_vec());
            }
            result.is_none()
        })?;
        let longest = self.superblock().block_bits.len();
        Ok(result.filter(|value| (1..=longest).contains(&value.len())))
    }

    /// The value of the attribute `name` (with its prefix), or `None`. Like the kernel it trusts the name filter.
    ///
    /// # Errors
    /// As [`Image::xattrs`], as far as was read.
    pub fn xattr(&self, inode: &Inode, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some((prefix, suffix)) = Prefix::split(name) else {
            return Ok(None);
        };
        let mut result = None;
        let bit = filter_bit(prefix, suffix);
        self.each_xattr(inode, Some(bit), &mut |entry| {
            if self.full_name(entry).is_some_and(|full| full == name) {
                result = Some(entry.value.to_vec());
            }
            result.is_none()
        })?;
        Ok(result)
    }

    /// Calls `visit` with each entry, inline ones first, until it returns `false`. Visits nothing when the name filter says
    /// that no name with bit `wanted` is there.
    fn each_xattr(
        &self,
        inode: &Inode,
        wanted: Option<u32>,
        visit: &mut dyn FnMut(&XattrEntry<'_>) -> bool,
    ) -> Result<(), Error> {
        if inode.xattr_icount == 0 {
            return Ok(());
        }
        let area = inode.position().0;
        let offset = inode.xattr_offset()?;
        // At most 262148 bytes: the count has 16 bits.
        let mut bytes = vec![0; usize::try_from(body_size(inode.xattr_icount)).unwrap_or(0)];
        self.read_metadata(Some(inode.nid()), area, offset, &mut bytes)?;
        let corrupt = |error| inode.corrupt(Rule::Xattr(error), offset);
        let body = XattrBody::new(&bytes).map_err(corrupt)?;
        if let Some(bit) = wanted
            && self.superblock().xattr_filter
            && body.name_filter() >> bit & 1 != 0
        {
            return Ok(());
        }
        for entry in body.inline_entries() {
            if !visit(&entry.map_err(corrupt)?) {
                return Ok(());
            }
        }
        for id in body.shared_ids() {
            let (offset, bytes) = self.shared_entry(inode, id)?;
            let (entry, _) = decode_entry(&bytes, 0)
                .map_err(|error| inode.corrupt(Rule::Xattr(error), offset))?;
            if !visit(&entry) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Which area shared attributes are in.
    pub(crate) const fn shared_xattr_area(&self) -> Area {
        if self
            .superblock()
            .compat
            .contains(FeatureCompat::SHARED_EA_IN_METABOX)
        {
            Area::Metabox
        } else {
            Area::Primary
        }
    }

    /// Reads the shared entry `id`: its position and its bytes.
    pub(crate) fn shared_entry(
        &self,
        inode: &Inode,
        id: u32,
    ) -> Result<(ByteOffset, Vec<u8>), Error> {
        let superblock = self.superblock();
        let area = self.shared_xattr_area();
        let offset = superblock
            .xattr_block
            .checked_offset(superblock.block_bits)
            .and_then(|start| shared_offset(start, id))
            .ok_or_else(|| inode.corrupt(Rule::Overflow, ByteOffset(0)))?;
        let mut header = [0; ENTRY_HEADER_SIZE];
        self.read_metadata(Some(inode.nid()), area, offset, &mut header)?;
        let [name_length, _, low, high] = header;
        let size = entry_size(name_length.into(), u16::from_le_bytes([low, high]).into());
        let mut bytes = vec![0; size];
        self.read_metadata(Some(inode.nid()), area, offset, &mut bytes)?;
        Ok((offset, bytes))
    }

    /// Full name of an entry, or `None` when the kernel would not show it.
    pub(crate) fn full_name(&self, entry: &XattrEntry<'_>) -> Option<Vec<u8>> {
        let (base, infix) = match entry.index {
            NameIndex::Base(prefix) => (prefix, &[][..]),
            NameIndex::Long(number) => {
                let long = self.xattr_prefixes().get(usize::from(number))?;
                (Prefix::from_value(long.base)?, long.infix.as_slice())
            }
            NameIndex::Unknown(_) => return None,
        };
        if matches!(base, Prefix::None | Prefix::Lustre) {
            return None;
        }
        Some([base.text(), infix, entry.name].concat())
    }

    /// Reads the table of long prefixes, from whichever place holds it (`erofs_xattr_prefixes_init`, fs/erofs/xattr.c).
    pub(crate) fn read_xattr_prefixes(&self) -> Result<Vec<LongPrefix>, Error> {
        let superblock = self.superblock();
        let plain = superblock.compat.contains(FeatureCompat::PLAIN_XATTR_PFX);
        let container = self.metabox().or_else(|| self.packed()).filter(|_| !plain);
        let read = |offset: ByteOffset, bytes: &mut [u8]| -> Result<(), Error> {
            let Some(inode) = container else {
                return self.read_metadata(None, Area::Primary, offset, bytes);
            };
            let length = bytes.len();
            if self.read(inode, offset.0, bytes)? < length {
                return Err(inode.corrupt(Rule::MapGap, offset));
            }
            Ok(())
        };
        let mut offset = superblock.xattr_prefix_start;
        let mut prefixes = Vec::new();
        for _ in 0..superblock.xattr_prefix_count {
            let corrupt = |rule| Error::Corrupt {
                rule,
                nid: container.map(Inode::nid),
                offset,
            };
            let mut length = [0; 2];
            read(offset, &mut length)?;
            // A length over 256 is refused below; nothing behind the longest item is needed for that.
            let mut item = vec![0; 2 + usize::from(u16::from_le_bytes(length).min(256))];
            read(offset, &mut item)?;
            let (prefix, size) =
                LongPrefix::decode(&item).map_err(|error| corrupt(Rule::XattrPrefix(error)))?;
            prefixes.push(prefix);
            offset = offset
                .checked_add(size as u64)
                .ok_or_else(|| corrupt(Rule::Overflow))?;
        }
        Ok(prefixes)
    }
}
