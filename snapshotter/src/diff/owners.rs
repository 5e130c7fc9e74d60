//! Whose a file is, as the container knows it whose users have other numbers outside.

use crate::mounts::Owners;

/// Whom the kernel shows where a number is none of the container's (`kernel.overflowuid`).
const NOBODY: u32 = 65534;

/// Attributes with access control lists: a version, then entries of tag (`le16`), permissions (`le16`) and number (`le32`), as
/// `linux/posix_acl_xattr.h` has it.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// Bytes of their version.
const ACL_VERSION: usize = 4;
/// Bytes of an entry.
const ACL_ENTRY: usize = 8;
/// Tags of entries with the number of a user, and of a group.
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// What a program may do that is started from a file: revision and flags (`le32`), two sets of two `le32`, and with revision 3 whom
/// its user namespace has as root (`le32`), as `linux/capability.h` has it.
const CAPABILITY: &[u8] = b"security.capability";
/// Its revision.
const REVISION: u32 = 0xff00_0000;
const WITHOUT_ROOT: u32 = 0x0200_0000;
const WITH_ROOT: u32 = 0x0300_0000;
/// Bytes before the number of that root.
const CAPABILITY_SETS: usize = 20;

/// Owner and group.
pub(super) fn inside(owners: &Owners, user: u32, group: u32) -> (u32, u32) {
    (
        owners.user_inside(user).unwrap_or(NOBODY),
        owners.group_inside(group).unwrap_or(NOBODY),
    )
}

/// The value of an extended attribute, in which users and groups may be named. `None`: the container does not see it.
pub(super) fn xattr_inside(owners: &Owners, name: &[u8], value: Vec<u8>) -> Option<Vec<u8>> {
    match name {
        _ if !owners.are_others() => Some(value),
        CAPABILITY => capability_inside(owners, value),
        name if ACLS.contains(&name) => Some(acl_inside(owners, &value)),
        _ => Some(value),
    }
}

/// Without entries of those whom the container does not know.
fn acl_inside(owners: &Owners, value: &[u8]) -> Vec<u8> {
    let (version, entries) = value.split_at(value.len().min(ACL_VERSION));
    let mut known = version.to_vec();
    for entry in entries.chunks(ACL_ENTRY) {
        let &[t0, t1, p0, p1, ref number @ ..] = entry else {
            continue;
        };
        let number = number.try_into().map(u32::from_le_bytes).ok();
        let number = number.and_then(|number| match u16::from_le_bytes([t0, t1]) {
            ACL_USER => owners.user_inside(number),
            ACL_GROUP => owners.group_inside(number),
            _ => Some(number),
        });
        if let Some(number) = number {
            known.extend([t0, t1, p0, p1]);
            known.extend(number.to_le_bytes());
        }
    }
    known
}

/// What names the container's root is said without a name, as the container said it.
fn capability_inside(owners: &Owners, mut value: Vec<u8>) -> Option<Vec<u8>> {
    let first = value.first_chunk().copied().map(u32::from_le_bytes);
    let root = value.get(CAPABILITY_SETS..).map(<[u8; 4]>::try_from);
    let (Some(first), Some(Ok(root))) = (first, root) else {
        return Some(value);
    };
    if first & REVISION != WITH_ROOT {
        return Some(value);
    }
    value.truncate(CAPABILITY_SETS);
    match owners.user_inside(u32::from_le_bytes(root))? {
        0 => {
            let plain = first & !REVISION | WITHOUT_ROOT;
            value.splice(..4, plain.to_le_bytes());
        }
        root => value.extend(root.to_le_bytes()),
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Labels;

    /// Users from 100000 on, groups from 200000 on, 1000 of each.
    fn owners() -> Owners {
        let labels = [
            ("containerd.io/snapshot/uidmapping", "0:100000:1000"),
            ("containerd.io/snapshot/gidmapping", "0:200000:1000"),
        ];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        Owners::of(&Labels::from(labels)).expect("well said")
    }

    #[test]
    fn whom_the_container_does_not_know_is_nobody() {
        let owners = owners();
        assert_eq!(inside(&owners, 100_007, 200_008), (7, 8));
        assert_eq!(inside(&owners, 0, 201_000), (NOBODY, NOBODY));
        assert_eq!(inside(&Owners::default(), 5, 6), (5, 6));
    }

    #[test]
    fn access_control_lists_name_users_of_the_container() {
        let acl = |entries: &[(u16, u32)]| {
            let mut value = 2_u32.to_le_bytes().to_vec();
            for (tag, number) in entries {
                value.extend(tag.to_le_bytes());
                value.extend(6_u16.to_le_bytes());
                value.extend(number.to_le_bytes());
            }
            value
        };
        let owner = (0x01, u32::MAX);
        let outside = acl(&[
            owner,
            (ACL_USER, 100_007),
            (ACL_USER, 7),
            (ACL_GROUP, 200_008),
        ]);
        let expected = acl(&[owner, (ACL_USER, 7), (ACL_GROUP, 8)]);
        for name in ACLS {
            let seen = xattr_inside(&owners(), name, outside.clone());
            assert_eq!(seen.as_ref(), Some(&expected));
            let seen = xattr_inside(&Owners::default(), name, outside.clone());
            assert_eq!(seen.as_ref(), Some(&outside));
        }
        let seen = xattr_inside(&owners(), b"user.acl", outside.clone());
        assert_eq!(seen, Some(outside));
    }

    #[test]
    fn capabilities_are_those_of_the_containers_root() {
        let capability = |revision: u32, root: Option<u32>| {
            let mut value = (revision | 1).to_le_bytes().to_vec();
            value.extend([7; 16]);
            value.extend(root.into_iter().flat_map(u32::to_le_bytes));
            value
        };
        let seen = |value| xattr_inside(&owners(), CAPABILITY, value);
        let plain = capability(WITHOUT_ROOT, None);
        assert_eq!(
            seen(capability(WITH_ROOT, Some(100_000))),
            Some(plain.clone())
        );
        let nested = capability(WITH_ROOT, Some(3));
        assert_eq!(seen(capability(WITH_ROOT, Some(100_003))), Some(nested));
        assert_eq!(seen(capability(WITH_ROOT, Some(3))), None);
        assert_eq!(seen(plain.clone()), Some(plain));
        assert_eq!(seen(vec![1]), Some(vec![1]));
    }
}
