//! Extended attributes: the body behind an inode, shared entries, long name prefixes, the name filter.
//!
//! ```text
//! body:  filter u32, shared_count u8, 7 zeros | shared id u32 … | entry | entry | …
//! entry: name_len u8, name_index u8, value_size u16, name, value, padding to 4 bytes
//! ```

use crate::address::ByteOffset;
use crate::record::{self, Truncated};
use xxhash_rust::xxh32::xxh32;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of the body's header in bytes.
pub const BODY_HEADER_SIZE: usize = 12;
/// Size of an entry's header in bytes.
pub const ENTRY_HEADER_SIZE: usize = 4;
/// Largest body in bytes: what `i_xattr_icount` can count.
pub const MAX_BODY_SIZE: usize = 12 + 4 * (u16::MAX as usize - 1);
/// Most shared attributes of an inode.
pub const MAX_SHARED: usize = 255;
/// Longest name behind its prefix, in bytes.
pub const MAX_NAME_LENGTH: usize = 255;
/// Longest value in bytes.
pub const MAX_VALUE_SIZE: usize = u16::MAX as usize;
/// Most long prefixes of an image.
pub const MAX_LONG_PREFIXES: usize = 128;
/// Seed of the name filter's hash (`EROFS_XATTR_FILTER_SEED`).
pub const FILTER_SEED: u32 = 0x25BB_E08F;
/// Name filter of an inode of which nothing is known.
pub const FILTER_OFF: u32 = 0;

/// The body's header as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawXattrHeader {
    /// Name filter: a set bit says that no name hashes to it.
    pub name_filter: U32,
    /// Number of shared ids that follow.
    pub shared_count: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// An entry's header as stored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RawXattrEntry {
    /// Length of the name behind its prefix.
    pub name_len: u8,
    /// Prefix, see [`Prefix`].
    pub name_index: u8,
    /// Size of the value.
    pub value_size: U16,
}

const _: () = assert!(size_of::<RawXattrHeader>() == BODY_HEADER_SIZE);
const _: () = assert!(size_of::<RawXattrEntry>() == ENTRY_HEADER_SIZE);

/// Size of an inode's xattr body in bytes, from `i_xattr_icount`.
pub const fn body_size(icount: u16) -> u64 {
    if icount == 0 {
        0
    } else {
        12 + 4 * (icount as u64 - 1)
    }
}

/// `i_xattr_icount` for a body of `size` bytes (0, or 12 plus a multiple of 4), or `None` when it is too large.
pub fn icount(size: u64) -> Option<u16> {
    match size.checked_sub(12) {
        None => Some(0),
        Some(rest) => u16::try_from(rest / 4 + 1).ok(),
    }
}

/// Well-known prefixes of attribute names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// None: the whole name is stored (the kernel shows no such attribute).
    None,
    /// `user.`
    User,
    /// `system.posix_acl_access`, the whole name.
    PosixAclAccess,
    /// `system.posix_acl_default`, the whole name.
    PosixAclDefault,
    /// `trusted.`
    Trusted,
    /// `lustre.`, never used.
    Lustre,
    /// `security.`
    Security,
}

impl Prefix {
    const ALL: [Self; 7] = [
        Self::None,
        Self::User,
        Self::PosixAclAccess,
        Self::PosixAclDefault,
        Self::Trusted,
        Self::Lustre,
        Self::Security,
    ];

    /// Stored value.
    pub const fn value(self) -> u8 {
        match self {
            Self::None => 0,
            Self::User => 1,
            Self::PosixAclAccess => 2,
            Self::PosixAclDefault => 3,
            Self::Trusted => 4,
            Self::Lustre => 5,
            Self::Security => 6,
        }
    }

    /// From the stored value.
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The text it stands for.
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::User => b"user.",
            Self::PosixAclAccess => b"system.posix_acl_access",
            Self::PosixAclDefault => b"system.posix_acl_default",
            Self::Trusted => b"trusted.",
            Self::Lustre => b"lustre.",
            Self::Security => b"security.",
        }
    }

    /// Splits a full attribute name, or `None` when the kernel could not show it: another namespace, or nothing behind
    /// the prefix.
    pub fn split(full: &[u8]) -> Option<(Self, &[u8])> {
        match full {
            b"system.posix_acl_access" => return Some((Self::PosixAclAccess, b"")),
            b"system.posix_acl_default" => return Some((Self::PosixAclDefault, b"")),
            _ => {}
        }
        [Self::User, Self::Trusted, Self::Security]
            .into_iter()
            .find_map(|prefix| {
                let suffix = full.strip_prefix(prefix.text())?;
                (!suffix.is_empty()).then_some((prefix, suffix))
            })
    }
}

/// How an entry names its attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameIndex {
    /// A well-known prefix.
    Base(Prefix),
    /// Long prefix `n` of the image.
    Long(u8),
    /// A value without a meaning; the kernel does not show such attributes.
    Unknown(u8),
}

impl NameIndex {
    /// From the stored value.
    pub fn from_value(value: u8) -> Self {
        if value & 0x80 != 0 {
            return Self::Long(value & 0x7F);
        }
        Prefix::from_value(value).map_or(Self::Unknown(value), Self::Base)
    }

    /// Stored value.
    pub const fn value(self) -> u8 {
        match self {
            Self::Base(prefix) => prefix.value(),
            Self::Long(number) => 0x80 | number,
            Self::Unknown(value) => value,
        }
    }
}

/// An entry: its name behind the prefix, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XattrEntry<'a> {
    /// Which prefix.
    pub index: NameIndex,
    /// Name behind the prefix.
    pub name: &'a [u8],
    /// Value.
    pub value: &'a [u8],
}

/// Why a body or entry cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XattrError {
    /// A header does not fit.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// A header without any attribute.
    #[error("xattr body of 12 bytes holds nothing")]
    Empty,
    /// More shared ids than the body can hold.
    #[error("{count} shared xattr ids do not fit a body of {size} bytes")]
    SharedCount {
        /// As stored.
        count: u8,
        /// Size of the body in bytes.
        size: usize,
    },
    /// An entry leaves the body.
    #[error("xattr entry at {offset} needs {needed} bytes, {available} are left in the body")]
    EntryTooLong {
        /// Offset of the entry in the body.
        offset: usize,
        /// Size of the entry in bytes.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
}

impl XattrEntry<'_> {
    /// Size of the stored form in bytes, padding included.
    pub fn stored_size(&self) -> usize {
        entry_size(self.name.len(), self.value.len())
    }

    /// Appends the stored form; `None` when name or value are too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        let raw = RawXattrEntry {
            name_len: u8::try_from(self.name.len()).ok()?,
            name_index: self.index.value(),
            value_size: U16::new(u16::try_from(self.value.len()).ok()?),
        };
        let end = out.len() + self.stored_size();
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.value);
        out.resize(end, 0);
        Some(())
    }
}

/// Size of an entry in bytes, padding included.
pub const fn entry_size(name_length: usize, value_length: usize) -> usize {
    (ENTRY_HEADER_SIZE + name_length + value_length).next_multiple_of(4)
}

/// Decodes the entry at `offset` of `bytes`, and the offset behind it.
///
/// # Errors
/// [`XattrError`] when it leaves `bytes`.
pub fn decode_entry(bytes: &[u8], offset: usize) -> Result<(XattrEntry<'_>, usize), XattrError> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let raw: RawXattrEntry = record::read(rest, "xattr entry")?;
    let name_end = ENTRY_HEADER_SIZE + usize::from(raw.name_len);
    let value_end = name_end + usize::from(raw.value_size.get());
    let too_long = XattrError::EntryTooLong {
        offset,
        needed: value_end,
        available: rest.len(),
    };
    let name = rest.get(ENTRY_HEADER_SIZE..name_end).ok_or(too_long)?;
    let value = rest.get(name_end..value_end).ok_or(too_long)?;
    let entry = XattrEntry {
        index: NameIndex::from_value(raw.name_index),
        name,
        value,
    };
    Ok((entry, offset + value_end.next_multiple_of(4)))
}

/// An inode's xattr body.
#[derive(Debug, Clone, Copy)]
pub struct XattrBody<'a> {
    bytes: &'a [u8],
    header: RawXattrHeader,
}

impl<'a> XattrBody<'a> {
    /// Looks at a body of [`body_size`] bytes.
    ///
    /// # Errors
    /// [`XattrError`] when the header is inconsistent.
    pub fn new(bytes: &'a [u8]) -> Result<Self, XattrError> {
        let header: RawXattrHeader = record::read(bytes, "xattr header")?;
        if bytes.len() == BODY_HEADER_SIZE {
            return Err(XattrError::Empty);
        }
        if BODY_HEADER_SIZE + 4 * usize::from(header.shared_count) > bytes.len() {
            return Err(XattrError::SharedCount {
                count: header.shared_count,
                size: bytes.len(),
            });
        }
        Ok(Self { bytes, header })
    }

    /// The name filter.
    pub fn name_filter(&self) -> u32 {
        self.header.name_filter.get()
    }

    /// Ids of the shared attributes, in stored order.
    pub fn shared_ids(&self) -> impl Iterator<Item = u32> + 'a {
        let bytes = self.bytes;
        (0..usize::from(self.header.shared_count)).filter_map(move |index| {
            let at = BODY_HEADER_SIZE + 4 * index;
            record::read::<U32>(bytes.get(at..)?, "shared xattr id")
                .ok()
                .map(|id| id.get())
        })
    }

    /// Inline entries in stored order. Padding words come out as entries without a name. Ends after the first error.
    pub fn inline_entries(&self) -> impl Iterator<Item = Result<XattrEntry<'a>, XattrError>> + 'a {
        let bytes = self.bytes;
        let mut offset = BODY_HEADER_SIZE + 4 * usize::from(self.header.shared_count);
        std::iter::from_fn(move || {
            if offset >= bytes.len() {
                return None;
            }
            Some(match decode_entry(bytes, offset) {
                Ok((entry, next)) => {
                    offset = next;
                    Ok(entry)
                }
                Err(error) => {
                    offset = bytes.len();
                    Err(error)
                }
            })
        })
    }
}

/// Appends the header of a body and its shared ids; inline entries follow.
///
/// `shared_ids` holds at most [`MAX_SHARED`] ids (`None` otherwise).
pub fn encode_body_header(name_filter: u32, shared_ids: &[u32], out: &mut Vec<u8>) -> Option<()> {
    let raw = RawXattrHeader {
        name_filter: U32::new(name_filter),
        shared_count: u8::try_from(shared_ids.len()).ok()?,
        reserved: [0; 7],
    };
    out.extend_from_slice(raw.as_bytes());
    for id in shared_ids {
        out.extend_from_slice(&id.to_le_bytes());
    }
    Some(())
}

/// Byte position of a shared attribute in its area, which begins at `area`.
pub fn shared_offset(area: ByteOffset, id: u32) -> Option<ByteOffset> {
    area.checked_add(u64::from(id) * 4)
}

/// Bit of the name filter that belongs to an attribute: `suffix` is the full name without its base prefix.
pub fn filter_bit(prefix: Prefix, suffix: &[u8]) -> u32 {
    xxh32(suffix, FILTER_SEED.wrapping_add(prefix.value().into())) & 31
}

/// Name filter of an inode with these attributes.
pub fn name_filter<'a>(names: impl IntoIterator<Item = (Prefix, &'a [u8])>) -> u32 {
    !names.into_iter().fold(0, |bits, (prefix, suffix)| {
        bits | 1 << filter_bit(prefix, suffix)
    })
}

/// A long name prefix: a base prefix and more text behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LongPrefix {
    /// Stored base index (bit 7 ignored).
    pub base: u8,
    /// Text behind the base prefix, up to 255 bytes.
    pub infix: Vec<u8>,
}

/// Why a long prefix cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LongPrefixError {
    /// Fewer bytes than it says.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// Length outside of 1 … 256.
    #[error("long xattr prefix of {0} bytes, must be 1 to 256")]
    Length(u16),
}

impl LongPrefix {
    /// Decodes the item at the start of `bytes`, and its size with padding to 4 bytes.
    ///
    /// # Errors
    /// [`LongPrefixError`] for what the kernel refuses.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), LongPrefixError> {
        let length: U16 = record::read(bytes, "long xattr prefix")?;
        let length = length.get();
        if !(1..=256).contains(&length) {
            return Err(LongPrefixError::Length(length));
        }
        let end = 2 + usize::from(length);
        let item = bytes
            .get(2..end)
            .and_then(<[u8]>::split_first)
            .ok_or(Truncated {
                record: "long xattr prefix",
                needed: end,
                available: bytes.len(),
            })?;
        Ok((
            Self {
                base: item.0 & 0x7F,
                infix: item.1.to_vec(),
            },
            end.next_multiple_of(4),
        ))
    }

    /// Appends the stored form, padded to 4 bytes; `None` when the infix is longer than 255 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        let length = u16::try_from(self.infix.len() + 1)
            .ok()
            .filter(|length| *length <= 256)?;
        let end = out.len() + (2 + usize::from(length)).next_multiple_of(4);
        out.extend_from_slice(&length.to_le_bytes());
        out.push(self.base);
        out.extend_from_slice(&self.infix);
        out.resize(end, 0);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_filter_follows_the_reference_vectors() {
        assert_eq!(xxh32(b"abc", 0), 0x32D1_53FF);
        let names = |list: &[&'static [u8]]| {
            name_filter(list.iter().map(|name| Prefix::split(name).unwrap()))
        };
        assert_eq!(
            names(&[b"user.a", b"user.zzz", b"system.posix_acl_access"]),
            0x3FDF_FFFF
        );
        assert_eq!(names(&[b"trusted.overlay.opaque"]), 0xFFEF_FFFF);
        assert_eq!(filter_bit(Prefix::PosixAclAccess, b""), 30);
        assert_eq!(filter_bit(Prefix::PosixAclDefault, b""), 21);
    }

    #[test]
    fn long_prefix_follows_the_reference_vector() {
        let prefix = LongPrefix {
            base: Prefix::Trusted.value(),
            infix: b"overlay.".to_vec(),
        };
        let mut bytes = Vec::new();
        prefix.encode(&mut bytes).unwrap();
        assert_eq!(bytes, *b"\x09\x00\x04overlay.\0");
        assert_eq!(LongPrefix::decode(&bytes), Ok((prefix, 12)));
        assert_eq!(
            LongPrefix::decode(&[0, 0, 1]),
            Err(LongPrefixError::Length(0))
        );
        assert_eq!(
            LongPrefix::decode(&[1, 1, 1]),
            Err(LongPrefixError::Length(257))
        );
        assert!(LongPrefix::decode(&bytes[..10]).is_err());
    }

    #[test]
    fn names_split_into_prefix_and_suffix() {
        assert_eq!(
            Prefix::split(b"user.x.y"),
            Some((Prefix::User, &b"x.y"[..]))
        );
        assert_eq!(Prefix::split(b"user."), None);
        assert_eq!(Prefix::split(b"system.nfs4_acl"), None);
        assert_eq!(
            Prefix::split(b"system.posix_acl_default"),
            Some((Prefix::PosixAclDefault, &b""[..]))
        );
        for value in 0..=255 {
            assert_eq!(NameIndex::from_value(value).value(), value);
        }
    }

    #[test]
    fn bodies_round_trip_and_refuse_hostile_headers() {
        let entry = |name, value| XattrEntry {
            index: NameIndex::Base(Prefix::User),
            name,
            value,
        };
        let entries = [entry(&b"a"[..], &b"12345"[..]), entry(b"bb", b"")];
        let mut body = Vec::new();
        encode_body_header(7, &[1, 99], &mut body).unwrap();
        for entry in &entries {
            entry.encode(&mut body).unwrap();
        }
        assert_eq!(
            body_size(icount(body.len() as u64).unwrap()),
            body.len() as u64
        );
        let parsed = XattrBody::new(&body).unwrap();
        assert_eq!(parsed.name_filter(), 7);
        assert_eq!(parsed.shared_ids().collect::<Vec<_>>(), [1, 99]);
        assert_eq!(
            parsed
                .inline_entries()
                .collect::<Result<Vec<_>, _>>()
                .unwrap(),
            entries
        );

        assert_eq!(XattrBody::new(&[0; 12]).err(), Some(XattrError::Empty));
        assert!(matches!(
            XattrBody::new(&[0; 11]),
            Err(XattrError::Truncated(_))
        ));
        let mut bad = body.clone();
        bad[4] = 200;
        assert!(matches!(
            XattrBody::new(&bad),
            Err(XattrError::SharedCount { .. })
        ));
        let mut bad = body.clone();
        bad[22] = 0xFF;
        let results: Vec<_> = XattrBody::new(&bad).unwrap().inline_entries().collect();
        assert!(matches!(
            results[..],
            [Err(XattrError::EntryTooLong { .. })]
        ));
    }

    #[test]
    fn padding_words_decode_as_nameless_entries() {
        let mut body = Vec::new();
        encode_body_header(0, &[], &mut body).unwrap();
        body.extend_from_slice(&[0; 8]);
        let entries: Vec<_> = XattrBody::new(&body)
            .unwrap()
            .inline_entries()
            .map(Result::unwrap)
            .collect();
        assert_eq!(entries.len(), 2);
        assert!(
            entries
                .iter()
                .all(|entry| entry.name.is_empty() && entry.index == NameIndex::Base(Prefix::None))
        );
    }

    #[test]
    fn icount_refuses_bodies_over_the_maximum() {
        assert_eq!(icount(0), Some(0));
        assert_eq!(icount(262_148), Some(65535));
        assert_eq!(icount(262_152), None);
    }
}
