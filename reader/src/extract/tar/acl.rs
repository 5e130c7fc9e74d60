//! ACLs as text: star's keywords, which bsdtar and `tar --acls` look for. The attributes themselves, which GNU tar and the
//! container engines take, say the same.

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The keyword for the attribute `name`, if that is an ACL.
pub(super) fn keyword(name: &[u8]) -> Option<&'static [u8]> {
    match name {
        b"system.posix_acl_access" => Some(b"SCHILY.acl.access"),
        b"system.posix_acl_default" => Some(b"SCHILY.acl.default"),
        _ => None,
    }
}

/// The entries of an ACL (`linux/posix_acl_xattr.h`: a version of 4 bytes, then tag, permissions and id of 2, 2 and 4
/// bytes each) with numbers for names; `None` for what is no ACL.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    let mut text = String::new();
    let mut rest = entries;
    while let Some((entry, tail)) = rest.split_first_chunk::<8>() {
        let [tag_low, tag_high, bits, 0, id @ ..] = entry else {
            return None;
        };
        let id = u32::from_le_bytes(*id);
        let who = match u16::from_le_bytes([*tag_low, *tag_high]) {
            OWNER => "user:".to_owned(),
            USER => format!("user:{id}"),
            OWNING_GROUP => "group:".to_owned(),
            GROUP => format!("group:{id}"),
            MASK => "mask:".to_owned(),
            OTHER => "other:".to_owned(),
            _ => return None,
        };
        if !text.is_empty() {
            text.push(',');
        }
        let letter = |bit: u8, letter| if bits & bit != 0 { letter } else { '-' };
        text.push_str(&who);
        text.push(':');
        text.extend([letter(4, 'r'), letter(2, 'w'), letter(1, 'x')]);
        rest = tail;
    }
    (rest.is_empty() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_text() {
        let value = [
            &2u32.to_le_bytes()[..],
            &[1, 0, 7, 0, 255, 255, 255, 255],
            &[2, 0, 5, 0, 0xF5, 1, 0, 0],
            &[4, 0, 5, 0, 255, 255, 255, 255],
            &[8, 0, 4, 0, 7, 0, 0, 0],
            &[16, 0, 7, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ]
        .concat();
        let expected = "user::rwx,user:501:r-x,group::r-x,group:7:r--,mask::rwx,other::---";
        assert_eq!(text(&value).as_deref(), Some(expected));
        for broken in [&value[..4], &value[..27], &value[4..], b""] {
            assert_eq!(text(broken), None);
        }
        let unknown = [&value[..], &[64, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(text(&unknown), None);
    }
}
