//! ACLs: from the text of PAX headers to the attribute that the kernel keeps (`linux/posix_acl_xattr.h`).

/// Why an ACL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// An entry that is none.
    #[error("{:?} is no ACL entry", String::from_utf8_lossy(.0))]
    Entry(Vec<u8>),
    /// A name instead of a number.
    #[error(
        "{:?} is a name, which may stand for another id elsewhere; archive ACLs as attributes (GNU tar: \
         --xattrs-include='*' instead of --acls), or leave attributes out",
        String::from_utf8_lossy(.0)
    )]
    Name(Vec<u8>),
    /// An entry given twice, or a necessary one missing.
    #[error(
        "it needs exactly one entry each for owner, group and others, and a mask when it names anybody"
    )]
    Incomplete,
}

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An entry; the kernel's order is that of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: u16,
    id: u32,
    permissions: u16,
}

/// Which of a file's two ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AclKind {
    /// For access to the file itself.
    Access,
    /// For what is made in the directory.
    Default,
}

/// An ACL as files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl {
    /// The attribute's value; `None` when the ACL says no more than the file mode does.
    pub(super) value: Option<Vec<u8>>,
    /// The permission bits that a file with this access ACL has: those of the group are the mask.
    pub(super) permissions: u16,
}

/// Parses an ACL; `None` when it has no entries.
///
/// # Errors
/// [`AclError`].
pub(super) fn parse(text: &[u8], kind: AclKind) -> Result<Option<Acl>, AclError> {
    let mut entries = Vec::new();
    for line in text.split(|byte| matches!(byte, b',' | b'\n' | 0)) {
        let line = line
            .split(|byte| *byte == b'#')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if !line.is_empty() {
            entries.push(entry(line)?);
        }
    }
    if entries.is_empty() {
        return Ok(None);
    }
    entries.sort_unstable();
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let names_anybody = count(USER) + count(GROUP) > 0;
    let complete = [OWNER, OWNING_GROUP, OTHER]
        .iter()
        .all(|tag| count(*tag) == 1)
        && count(MASK) <= 1
        && (count(MASK) == 1 || !names_anybody)
        && entries
            .windows(2)
            .all(|pair| (pair[0].tag, pair[0].id) != (pair[1].tag, pair[1].id));
    if !complete {
        return Err(AclError::Incomplete);
    }
    let bits = |tag| {
        let found = entries.iter().find(|entry| entry.tag == tag);
        found.map(|entry| entry.permissions)
    };
    let group = bits(MASK).or_else(|| bits(OWNING_GROUP));
    let permissions = [bits(OWNER), group, bits(OTHER)]
        .into_iter()
        .fold(0, |mode, bits| mode << 3 | bits.unwrap_or(0));
    let is_plain = kind == AclKind::Access && entries.len() == 3;
    Ok(Some(Acl {
        value: (!is_plain).then(|| encode(&entries)),
        permissions,
    }))
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        value.extend_from_slice(&entry.tag.to_le_bytes());
        value.extend_from_slice(&entry.permissions.to_le_bytes());
        value.extend_from_slice(&entry.id.to_le_bytes());
    }
    value
}

/// Parses `tag:qualifier:permissions[:id]`, with or without `default:` in front. star and bsdtar add the id.
fn entry(line: &[u8]) -> Result<Entry, AclError> {
    let malformed = || AclError::Entry(line.to_vec());
    let rest = line
        .strip_prefix(b"default:")
        .or_else(|| line.strip_prefix(b"d:"))
        .unwrap_or(line);
    let fields: Vec<&[u8]> = rest.split(|byte| *byte == b':').collect();
    let (tag, qualifier, permissions, id) = match fields.as_slice() {
        // The qualifier of mask and other may be left out altogether.
        [tag @ (b"mask" | b"m" | b"other" | b"o"), permissions] => {
            (*tag, &b""[..], *permissions, None)
        }
        [tag, qualifier, permissions] => (*tag, *qualifier, *permissions, None),
        [tag, qualifier, permissions, id] => (*tag, *qualifier, *permissions, Some(*id)),
        _ => return Err(malformed()),
    };
    let tag = match (tag, qualifier.is_empty() && id.is_none()) {
        (b"user" | b"u", true) => OWNER,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => OWNING_GROUP,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err(malformed()),
    };
    let id = match tag {
        USER | GROUP => {
            let text = id.unwrap_or(qualifier);
            std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|id| *id != NO_ID)
                .ok_or_else(|| AclError::Name(text.to_vec()))?
        }
        _ => NO_ID,
    };
    Ok(Entry {
        tag,
        id,
        permissions: bits(permissions.trim_ascii()).ok_or_else(malformed)?,
    })
}

/// Reads `rwx` letters (`-` for none, in any order), or one octal digit.
fn bits(text: &[u8]) -> Option<u16> {
    match text {
        [digit @ b'0'..=b'7'] => Some(u16::from(digit - b'0')),
        letters if (1..=3).contains(&letters.len()) => {
            letters.iter().try_fold(0, |bits, letter| match letter {
                b'r' => Some(bits | 4),
                b'w' => Some(bits | 2),
                b'x' => Some(bits | 1),
                b'-' => Some(bits),
                _ => None,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_the_kernels_attribute() {
        let expected = [
            &2u32.to_le_bytes()[..],
            &[1, 0, 7, 0, 255, 255, 255, 255],
            &[2, 0, 5, 0, 0xF5, 1, 0, 0],
            &[4, 0, 5, 0, 255, 255, 255, 255],
            &[8, 0, 4, 0, 7, 0, 0, 0],
            &[16, 0, 7, 0, 255, 255, 255, 255],
            &[32, 0, 4, 0, 255, 255, 255, 255],
        ]
        .concat();
        for text in [
            &b"user::rwx,user:501:r-x,group::r-x,group:7:r--,mask::rwx,other::r--"[..],
            b"user::rwx,user:lisa:r-x:501,group::r-x,group:staff:r--:7,mask::rwx,other::r--",
            b"other:r--\nmask:rwx #effective\n\ng:7:4\ngroup::5\nu:501:rx\nu::rwx\n",
        ] {
            let acl = parse(text, AclKind::Access)
                .expect("valid")
                .expect("entries");
            assert_eq!(acl.value.as_ref(), Some(&expected));
            assert_eq!(acl.permissions, 0o774);
        }
        let plain = b"user::rwx,group::r-x,other::r--";
        assert_eq!(
            parse(plain, AclKind::Access),
            Ok(Some(Acl {
                value: None,
                permissions: 0o754
            }))
        );
        let default = parse(plain, AclKind::Default)
            .expect("valid")
            .expect("entries");
        assert_eq!(default.value.map(|value| value.len()), Some(28));
        assert_eq!(parse(b"", AclKind::Default), Ok(None));
    }

    #[test]
    fn what_cannot_be_represented_is_an_error() {
        let with = |entry: &str| format!("user::rwx,group::r-x,other::r--,mask::rwx,{entry}");
        for (text, expected) in [
            (with("user:lisa:rwx"), AclError::Name(b"lisa".to_vec())),
            (
                with("user:4294967295:rwx"),
                AclError::Name(b"4294967295".to_vec()),
            ),
            (with("user:1:rwz"), AclError::Entry(b"user:1:rwz".to_vec())),
            (with("user:1"), AclError::Entry(b"user:1".to_vec())),
            (with("owner@:1:r"), AclError::Entry(b"owner@:1:r".to_vec())),
            (with("user:1:r,user:1:w"), AclError::Incomplete),
            (with("other::r"), AclError::Incomplete),
            (
                "user::rwx,group::rx,other::r,user:1:r".to_owned(),
                AclError::Incomplete,
            ),
            ("user::rwx,group::rx".to_owned(), AclError::Incomplete),
        ] {
            assert_eq!(
                parse(text.as_bytes(), AclKind::Access),
                Err(expected),
                "{text}"
            );
        }
    }
}
