//! Deterministic content.

/// Bytes that no codec shrinks (xorshift64*), the same for the same seed.
pub fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes like those of a log: lines that share most of their words, about a fifth of it information.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "mount", "block", "inode", "extent", "cluster", "of", "the", "image",
    ];
    let picks = random(seed, length / 4 + 8);
    let mut bytes = Vec::with_capacity(length + 32);
    for (line, pick) in picks.chunks(8).enumerate().cycle() {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(format!("{:06}", line % 1_000_000).as_bytes());
        for byte in pick {
            bytes.push(b' ');
            bytes.extend_from_slice(WORDS[usize::from(byte % 8)].as_bytes());
        }
        bytes.push(b'\n');
    }
    bytes.truncate(length);
    bytes
}

/// The binary form of a POSIX ACL, as the kernel takes it in `system.posix_acl_*`: version 2, then
/// `(tag, permissions, id)` entries in the kernel's order.
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// The owner's entry of an [`acl`].
pub const ACL_USER_OBJ: u16 = 0x01;
/// The entry of a named user.
pub const ACL_USER: u16 = 0x02;
/// The group's entry.
pub const ACL_GROUP_OBJ: u16 = 0x04;
/// The entry of a named group.
pub const ACL_GROUP: u16 = 0x08;
/// The mask, which is also the group part of the mode.
pub const ACL_MASK: u16 = 0x10;
/// The entry of everybody else.
pub const ACL_OTHER: u16 = 0x20;
/// The id of entries that name nobody.
pub const ACL_NOBODY: u32 = u32::MAX;

/// `security.capability`, revision 2: a permitted set that is effective at exec.
pub fn capability(permitted: u32) -> Vec<u8> {
    let words = [0x0200_0001, permitted, 0, 0, 0];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
