//! PAX extended headers: records of `LENGTH KEY=VALUE\n`, and what they say about a member.
//!
//! Names are taken as bytes whatever `hdrcharset` says. Owner names, access and change times, inode numbers, file flags
//! and comments are ignored: an image has no place for them, or numeric ids say the same.

use super::acl::{self, AclError, AclKind};
use super::sparse::{SparseError, SparseRecords, decimal};
use super::xattr;
use crate::tree::{Xattr, display};
use erofs_format::inode::Timestamp;

/// Most bytes of names and values of attributes in all headers of a member: twice of all that an inode can have.
const MAX_XATTR_BYTES: usize = 1 << 20;

const ACL_ACCESS: &str = "SCHILY.acl.access";
const ACL_DEFAULT: &str = "SCHILY.acl.default";

/// Why a PAX header is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaxError {
    /// A record that is not `LENGTH KEY=VALUE\n`.
    #[error("the record at byte {0} is malformed")]
    Record(usize),
    /// A value that is not the number it should be.
    #[error("{key} is {:?}, which is not {limit}", String::from_utf8_lossy(value))]
    Number {
        /// Keyword.
        key: &'static str,
        /// Value.
        value: Vec<u8>,
        /// What is allowed.
        limit: &'static str,
    },
    /// An extended attribute that is not encoded as its keyword wants it.
    #[error("attribute {} is not encoded correctly", display(.0))]
    Xattr(Vec<u8>),
    /// More attributes than any file has.
    #[error("its attributes have more than {MAX_XATTR_BYTES} bytes")]
    TooManyXattrs,
    /// Attributes that only another kind of system has.
    #[error("{} cannot be represented on Linux; leave attributes out", display(.0))]
    Foreign(Vec<u8>),
    /// A keyword that makes no sense for all members at once.
    #[error("{} in a global header", display(.0))]
    Global(Vec<u8>),
    /// A sparse map that breaks the rules.
    #[error("sparse map: {0}")]
    Sparse(#[from] SparseError),
}

/// What extended headers say about a member; `None` leaves it to the header block.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    path: Option<Vec<u8>>,
    /// The name of a sparse file, whose `path` is made up.
    sparse_path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) device_major: Option<u32>,
    pub(super) device_minor: Option<u32>,
    pub(super) is_socket: bool,
    /// Part of a file that began in another volume.
    pub(super) is_continued: bool,
    pub(super) xattrs: Vec<Xattr>,
    /// Bytes of names and values of attributes so far.
    xattr_bytes: usize,
    acl_access: Option<Vec<u8>>,
    acl_default: Option<Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// Whether a header speaks of one member or of all that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Member,
    Global,
}

impl Attributes {
    /// The member's name.
    pub(super) fn take_path(&mut self) -> Option<Vec<u8>> {
        self.sparse_path.take().or_else(|| self.path.take())
    }

    /// Takes the records of a header; later ones replace earlier ones, an empty value takes the record back. Without
    /// `keep_xattrs` those of extended attributes and ACLs are not looked at.
    ///
    /// # Errors
    /// [`PaxError`].
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        scope: Scope,
        keep_xattrs: bool,
    ) -> Result<(), PaxError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (record, tail) =
                split_record(rest).ok_or(PaxError::Record(bytes.len() - rest.len()))?;
            rest = tail;
            self.take_record(record.0, record.1, scope, keep_xattrs)?;
        }
        Ok(())
    }

    fn take_record(
        &mut self,
        key: &[u8],
        value: &[u8],
        scope: Scope,
        keep_xattrs: bool,
    ) -> Result<(), PaxError> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            // One name for all members, which each of them would take a copy of.
            b"path" | b"linkpath" if scope == Scope::Global => {
                return Err(PaxError::Global(key.to_vec()));
            }
            b"path" => self.path = text(),
            b"linkpath" => self.link_path = text(),
            b"size" => self.size = number("size", value)?,
            b"uid" => self.uid = small_number("uid", value)?,
            b"gid" => self.gid = small_number("gid", value)?,
            b"SCHILY.devmajor" => {
                self.device_major = small_number("SCHILY.devmajor", value)?;
            }
            b"SCHILY.devminor" => {
                self.device_minor = small_number("SCHILY.devminor", value)?;
            }
            b"SCHILY.filetype" => self.is_socket = value == b"socket",
            b"mtime" => {
                self.mtime = match value {
                    b"" => None,
                    _ => Some(timestamp(value).ok_or_else(|| PaxError::Number {
                        key: "mtime",
                        value: value.to_vec(),
                        limit: "a time of 64 bits",
                    })?),
                }
            }
            b"GNU.volume.filename" | b"GNU.volume.offset" => self.is_continued = true,
            b"GNU.sparse.name" => self.sparse_path = text(),
            _ => {
                if let Some(sparse) = key.strip_prefix(b"GNU.sparse.") {
                    if scope == Scope::Global {
                        return Err(PaxError::Global(key.to_vec()));
                    }
                    self.sparse.take(sparse, value)?;
                } else if keep_xattrs {
                    self.take_xattr(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn take_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), PaxError> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let broken = || PaxError::Xattr(key.to_vec());
        match key {
            b"SCHILY.acl.access" => self.acl_access = text(),
            b"SCHILY.acl.default" => self.acl_default = text(),
            b"SCHILY.acl.ace" => return Err(PaxError::Foreign(key.to_vec())),
            // GNU tar's own keyword for the label, without the NUL that the attribute ends with.
            b"RHT.security.selinux" => {
                self.take_named(b"security.selinux".to_vec(), [value, b"\0"].concat())?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.take_named(xattr::gnu_name(name), value.to_vec())?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let name = xattr::url_decode(name).ok_or_else(broken)?;
                    self.take_named(name, xattr::base64_decode(value).ok_or_else(broken)?)?;
                }
            }
        }
        Ok(())
    }

    /// Adds an attribute of a header, of which there may be any number in front of a member.
    fn take_named(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), PaxError> {
        self.xattr_bytes += name.len() + value.len();
        if self.xattr_bytes > MAX_XATTR_BYTES {
            return Err(PaxError::TooManyXattrs);
        }
        self.add_xattr(name, value);
        Ok(())
    }

    fn add_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.xattrs.push(Xattr {
            name: name.into(),
            value: value.into(),
        });
    }

    /// Turns the ACL texts, once all records are known, into attributes; the permission bits that the access ACL asks
    /// for, since some archivers store others.
    ///
    /// # Errors
    /// [`AclError`] with the keyword.
    pub(super) fn resolve_acls(&mut self) -> Result<Option<u16>, (&'static str, AclError)> {
        let (access, default) = (self.acl_access.take(), self.acl_default.take());
        if let Some(text) = default {
            let acl = acl::parse(&text, AclKind::Default).map_err(|error| (ACL_DEFAULT, error))?;
            if let Some(value) = acl.and_then(|acl| acl.value) {
                self.add_xattr(b"system.posix_acl_default".to_vec(), value);
            }
        }
        let Some(text) = access else { return Ok(None) };
        let acl = acl::parse(&text, AclKind::Access).map_err(|error| (ACL_ACCESS, error))?;
        let Some(acl) = acl else { return Ok(None) };
        if let Some(value) = acl.value {
            self.add_xattr(b"system.posix_acl_access".to_vec(), value);
        }
        Ok(Some(acl.permissions))
    }
}

/// Key and value of a record.
type Record<'b> = (&'b [u8], &'b [u8]);

/// Splits off the first record; its length counts itself.
fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let digits = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..digits)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(digits + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let key = record.get(..equals).filter(|key| !key.is_empty())?;
    Some(((key, record.get(equals + 1..)?), rest))
}

fn number(key: &'static str, value: &[u8]) -> Result<Option<u64>, PaxError> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or_else(|| PaxError::Number {
        key,
        value: value.to_vec(),
        limit: "a number from 0 to 2^63 - 1",
    })
}

fn small_number(key: &'static str, value: &[u8]) -> Result<Option<u32>, PaxError> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value)
        .and_then(|number| u32::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| PaxError::Number {
            key,
            value: value.to_vec(),
            limit: "a number of 32 bits",
        })
}

/// Reads `[-]SECONDS[.FRACTION]`. Digits behind the ninth are cut off towards the past, as all file systems do.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(point) => (value.get(..point)?, value.get(point + 1..)?),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    // A magnitude of 2^63 exists on the negative side only.
    let seconds = match whole {
        b"" => 0,
        b"9223372036854775808" => 1 << 63,
        _ => i128::from(decimal(whole)?),
    };
    let nanoseconds = (0..9).fold(0, |sum, place| {
        sum * 10 + i128::from(fraction.get(place).map_or(0, |digit| digit - b'0'))
    });
    let inexact = fraction.iter().skip(9).any(|digit| *digit != b'0');
    let magnitude = seconds * 1_000_000_000 + nanoseconds;
    let total = if negative {
        -magnitude - i128::from(inexact)
    } else {
        magnitude
    };
    Some(Timestamp {
        seconds: i64::try_from(total.div_euclid(1_000_000_000)).ok()?,
        nanoseconds: u32::try_from(total.rem_euclid(1_000_000_000)).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_never_rounded() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("1700000000.1234567899", 1_700_000_000, 123_456_789),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            (".25", 0, 250_000_000),
            ("-1.5", -2, 500_000_000),
            ("-0.5", -1, 500_000_000),
            ("-1", -1, 0),
            ("-1.0000000001", -2, 999_999_999),
            ("-1.0000000000", -1, 0),
            ("5000000000.000000001", 5_000_000_000, 1),
            ("-9223372036854775808", i64::MIN, 0),
        ] {
            assert_eq!(
                timestamp(text.as_bytes()),
                Some(Timestamp {
                    seconds,
                    nanoseconds
                }),
                "{text}"
            );
        }
        for text in [
            "",
            "-",
            ".",
            "1e3",
            "1.5.5",
            "1,5",
            " 1",
            "+1",
            "9223372036854775808",
            "-9223372036854775808.1",
            "99999999999999999999",
        ] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn records_hold_any_bytes_and_count_themselves() {
        assert_eq!(
            split_record(b"13 key=a=b\n\0\nrest"),
            Some(((&b"key"[..], &b"a=b\n\0"[..]), &b"rest"[..]))
        );
        for broken in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"6 ab=x\n",
            b"6 =ab\n",
            b"6 abc\n",
            b"a=b\n",
            b" a=b\n",
            b"-6 a=b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"999999999999999999999 a=b\n",
            b"6",
        ] {
            assert_eq!(split_record(broken), None, "{broken:?}");
        }
    }
}
