//! Data of known kinds, by seed.

/// xorshift64*: bytes that no codec shrinks.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Numbered lines with noise in them: shrinks about threefold.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = [
        "inode",
        "superblock",
        "cluster",
        "extent",
        "whiteout",
        "blob",
        "tail",
        "mount",
    ];
    let mut out = Vec::with_capacity(length + 64);
    for (line, pick) in noise(seed, length / 16 + 1).into_iter().enumerate() {
        let word = words[usize::from(pick) % words.len()];
        out.extend_from_slice(format!("{line:x} {word} {pick} ").as_bytes());
    }
    out.resize(length, b'.');
    out
}

/// Runs of text, noise, zeros and repeats in changing proportions.
pub(crate) fn mixed(seed: u64, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    for (i, pick) in (0u64..).zip(noise(seed, length / 512 + 1)) {
        let run = 600 + usize::from(pick) * 90;
        match pick % 5 {
            0 => out.extend(noise(seed + i, run)),
            1 => out.resize(out.len() + run, 0),
            2 => out.extend_from_within(out.len().saturating_sub(run)..),
            _ => out.extend(text(seed + i, run)),
        }
        if out.len() > length {
            break;
        }
    }
    out.resize(length, 7);
    out
}
