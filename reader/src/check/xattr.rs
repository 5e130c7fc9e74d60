//! Extended attributes of an inode.

use super::Checker;
use super::finding::At;
use super::inode::space_of;
use super::range::{Kind, Range};
use super::rule::Rule;
use super::work::Work;
use crate::inode::Inode;
use crate::metadata::Area;
use erofs_format::feature::{FeatureCompat, FeatureIncompat};
use erofs_format::xattr::{
    BODY_HEADER_SIZE, NameIndex, Prefix, XattrBody, XattrEntry, body_size, decode_entry, filter_bit,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

/// What is remembered of a shared attribute, so that it is looked at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    /// Bit of its name in the filter; `None` for one that is not shown or not readable.
    bit: Option<u32>,
    /// Hash of its full name.
    name: u64,
}

impl Checker<'_> {
    /// Looks at all attributes. Tells whether there is something left of the budget.
    pub(super) fn xattrs(&mut self, inode: &Inode) -> io::Result<bool> {
        if inode.xattr_icount == 0 {
            return Ok(true);
        }
        let size = body_size(inode.xattr_icount);
        if !self.work.charge(size) {
            return Ok(false);
        }
        let (area, offset) = (inode.position().0, inode.xattr_offset());
        let offset = match offset {
            Ok(offset) => offset,
            Err(error) => {
                self.broken(inode, &error);
                return Ok(true);
            }
        };
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        if let Err(error) = self
            .image
            .read_metadata(Some(inode.nid()), area, offset, &mut bytes)
        {
            self.broken(inode, &error);
            return Ok(true);
        }
        let at = At::area(area, offset);
        let body = match XattrBody::new(&bytes) {
            Ok(body) => body,
            Err(error) => {
                self.found(inode, Rule::XattrBody, at, || error.to_string());
                return Ok(true);
            }
        };
        let reserved = bytes.get(5..BODY_HEADER_SIZE).unwrap_or_default();
        if let Some(byte) = reserved.iter().find(|byte| **byte != 0) {
            let value = format!("{byte:#04x}");
            self.found(inode, Rule::XattrReserved, at, || value);
        }
        let (mut bits, mut names) = (0u32, Vec::new());
        for entry in body.inline_entries() {
            if !self.work.charge(Work::RECORD) {
                return Ok(false);
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.found(inode, Rule::XattrEntry, at, || error.to_string());
                    break;
                }
            };
            let shared = self.attribute(inode, at, &entry);
            bits |= shared.bit.map_or(0, |bit| 1 << bit);
            if shared.bit.is_some() {
                names.push(shared.name);
            }
        }
        for id in body.shared_ids() {
            if !self.work.charge(Work::RECORD) {
                return Ok(false);
            }
            let shared = match self.shared.get(&id) {
                Some(shared) => *shared,
                None => {
                    let shared = self.shared_attribute(inode, id)?;
                    self.shared.insert(id, shared);
                    shared
                }
            };
            bits |= shared.bit.map_or(0, |bit| 1 << bit);
            if shared.bit.is_some() {
                names.push(shared.name);
            }
        }
        let (count, filter) = (names.len(), body.name_filter());
        names.sort_unstable();
        names.dedup();
        if names.len() < count {
            let value = format!("{count} attributes, {} names", names.len());
            self.found(inode, Rule::XattrDuplicate, at, || value);
        }
        let compat = self.image.superblock().compat;
        if self.image.superblock().xattr_filter && filter & bits != 0 {
            let value = format!("{filter:#010x} hides {:#010x}", filter & bits);
            self.found(inode, Rule::XattrFilter, at, || value);
        } else if !compat.contains(FeatureCompat::XATTR_FILTER) && filter != 0 {
            let value = format!("{filter:#010x}");
            self.found(inode, Rule::XattrFilterUnused, at, || value);
        }
        Ok(true)
    }

    /// Looks at a shared attribute that was not met before.
    fn shared_attribute(&mut self, inode: &Inode, id: u32) -> io::Result<Shared> {
        let nothing = Shared { bit: None, name: 0 };
        let (offset, bytes) = match self.image.shared_entry(inode, id) {
            Ok(found) => found,
            Err(error) => {
                let mut finding = super::broken::finding(&error, inode.nid());
                finding.rule = Rule::XattrEntry;
                self.findings.add(Rule::XattrEntry, || finding);
                return Ok(nothing);
            }
        };
        let in_metabox = FeatureCompat::SHARED_EA_IN_METABOX;
        let area = if self.image.superblock().compat.contains(in_metabox) {
            Area::Metabox
        } else {
            Area::Primary
        };
        self.ranges.push(Range {
            space: space_of(area),
            start: offset.0,
            length: bytes.len() as u64,
            kind: Kind::Metadata,
            nid: inode.nid(),
            logical: 0,
            more: 0,
            early: false,
        })?;
        let at = At::area(area, offset);
        Ok(match decode_entry(&bytes, 0) {
            Ok((entry, _)) => self.attribute(inode, at, &entry),
            Err(error) => {
                self.found(inode, Rule::XattrEntry, at, || error.to_string());
                nothing
            }
        })
    }

    /// Looks at one attribute.
    fn attribute(&mut self, inode: &Inode, at: At, entry: &XattrEntry<'_>) -> Shared {
        let nothing = Shared { bit: None, name: 0 };
        let stored = || {
            format!(
                "prefix {:#04x}, \"{}\"",
                entry.index.value(),
                entry.name.escape_ascii()
            )
        };
        let (base, infix) = match entry.index {
            NameIndex::Base(prefix) => (prefix, Vec::new()),
            NameIndex::Long(number) => {
                self.needs_feature(inode, FeatureIncompat::XATTR_PREFIXES);
                let long = self.image.xattr_prefixes().get(usize::from(number));
                let base = long.map(|long| (Prefix::from_value(long.base), long.infix.clone()));
                match base {
                    Some((Some(prefix), infix)) => (prefix, infix),
                    _ => {
                        if !self.findings.found(Rule::PrefixTable) {
                            self.found(inode, Rule::XattrIndex, at, stored);
                        }
                        return nothing;
                    }
                }
            }
            NameIndex::Unknown(_) => {
                self.found(inode, Rule::XattrIndex, at, stored);
                return nothing;
            }
        };
        self.fingerprint(inode, at, entry);
        if matches!(base, Prefix::None | Prefix::Lustre) {
            // A zero word is padding.
            let padding = entry.name.is_empty() && entry.value.is_empty();
            let fingerprint = matches!(entry.index, NameIndex::Long(_));
            if !padding && !fingerprint {
                self.found(inode, Rule::XattrHidden, at, stored);
            }
            return nothing;
        }
        let suffix = [&infix, entry.name].concat();
        let mut hasher = DefaultHasher::new();
        (base, &suffix).hash(&mut hasher);
        Shared {
            bit: Some(filter_bit(base, &suffix)),
            name: hasher.finish(),
        }
    }

    /// The attribute that names the content of a file for page-cache sharing (Linux 7.0).
    fn fingerprint(&mut self, inode: &Inode, at: At, entry: &XattrEntry<'_>) {
        let superblock = self.image.superblock();
        let block = superblock.block_bits.len();
        let is_fingerprint = superblock
            .inode_share_prefix
            .is_some_and(|prefix| entry.index == NameIndex::Long(prefix) && entry.name.is_empty());
        if is_fingerprint && !(1..=block).contains(&entry.value.len()) {
            let value = format!("{} bytes", entry.value.len());
            self.found(inode, Rule::XattrFingerprint, at, || value);
        }
    }
}
