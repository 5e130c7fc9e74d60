//! Ranges of stored bytes, each with what it is for, and what must not lie on top of what.

use super::finding::At;
use super::sorter::Record;
use erofs_format::compression::Algorithm;
use erofs_format::{DeviceId, Nid};

/// What the bytes of a range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Superblock, tables, inodes with their xattrs and indexes, inline data.
    Metadata,
    /// An encoded pcluster.
    Encoded {
        /// How.
        algorithm: Algorithm,
        /// It may decode to more than `decoded`.
        partial: bool,
        /// Whether it is inlined behind its inode.
        inline: bool,
    },
    /// Bytes as they are.
    Plain,
}

/// Where a range begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Space {
    /// On a device.
    Device(DeviceId),
    /// In the metabox inode's data.
    Metabox,
}

impl Space {
    pub(super) fn at(self, offset: u64) -> At {
        match self {
            Self::Device(device) => At::device(device, offset),
            Self::Metabox => At::Metabox(offset),
        }
    }
}

/// A range of stored bytes. Sorts by where it begins, then so that references to the same pcluster come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Range {
    pub(super) space: Space,
    /// First byte.
    pub(super) start: u64,
    /// Bytes, at least 1.
    pub(super) length: u64,
    pub(super) kind: Kind,
    /// The inode that refers to it; [`Range::NOBODY`] for what belongs to the image.
    pub(super) nid: Nid,
    /// First byte of the file that it holds.
    pub(super) logical: u64,
    /// Encoded: bytes of the file. Plain: bytes behind it, up to the end of the block, that should be zero.
    pub(super) more: u32,
    /// Encoded: given to be decoded as soon as it was met. Last, so that it does not change the order.
    pub(super) early: bool,
}

impl Range {
    /// In place of an inode number.
    pub(super) const NOBODY: Nid = Nid(u64::MAX);

    pub(super) const fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// Whether both are the same encoded pcluster.
    pub(super) fn same_pcluster(&self, other: &Self) -> bool {
        let algorithm = |range: &Self| match range.kind {
            Kind::Encoded { algorithm, .. } => Some(algorithm),
            _ => None,
        };
        self.space == other.space
            && self.start == other.start
            && self.length == other.length
            && algorithm(self).is_some()
            && algorithm(self) == algorithm(other)
    }
}

const METABOX: u32 = 1 << 16;
const INLINE: u8 = 1 << 6;
const PARTIAL: u8 = 1 << 5;
const EARLY: u8 = 1 << 7;

/// Space u32 with the kind in its high byte, start, length, inode, logical, more: 40 bytes.
impl Record for Range {
    const SIZE: usize = 40;

    fn encode(&self, out: &mut Vec<u8>) {
        let space = match self.space {
            Space::Device(device) => u32::from(device.0),
            Space::Metabox => METABOX,
        };
        let kind = match self.kind {
            Kind::Metadata => 4,
            Kind::Plain => 5,
            Kind::Encoded {
                algorithm,
                partial,
                inline,
            } => {
                algorithm.value()
                    | if partial { PARTIAL } else { 0 }
                    | if inline { INLINE } else { 0 }
                    | if self.early { EARLY } else { 0 }
            }
        };
        out.extend_from_slice(&(space | u32::from(kind) << 24).to_le_bytes());
        out.extend_from_slice(&self.more.to_le_bytes());
        for word in [self.start, self.length, self.nid.0, self.logical] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        let half = |at: usize| {
            let half = bytes.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_le_bytes(half.copied().unwrap_or_default())
        };
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
        let [low, high, metabox, kind] = half(0).to_le_bytes();
        Self {
            space: if metabox == 0 {
                Space::Device(DeviceId(u16::from_le_bytes([low, high])))
            } else {
                Space::Metabox
            },
            start: word(8),
            length: word(16),
            kind: match Algorithm::from_value(kind & !(PARTIAL | INLINE | EARLY)) {
                Some(algorithm) => Kind::Encoded {
                    algorithm,
                    partial: kind & PARTIAL != 0,
                    inline: kind & INLINE != 0,
                },
                None if kind == 4 => Kind::Metadata,
                None => Kind::Plain,
            },
            nid: Nid(word(24)),
            logical: word(32),
            more: half(4),
            early: kind & EARLY != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_stored_whole() {
        assert!(size_of::<Range>() <= 48, "{}", size_of::<Range>());
        let spaces = [
            Space::Device(DeviceId(0)),
            Space::Device(DeviceId(u16::MAX)),
            Space::Metabox,
        ];
        let mut kinds = vec![Kind::Metadata, Kind::Plain];
        for algorithm in Algorithm::ALL {
            for (partial, inline) in [(false, false), (true, false), (false, true), (true, true)] {
                kinds.push(Kind::Encoded {
                    algorithm,
                    partial,
                    inline,
                });
            }
        }
        for space in spaces {
            for kind in &kinds {
                let range = Range {
                    space,
                    start: u64::MAX - 7,
                    length: 1 << 45,
                    kind: *kind,
                    nid: Nid(1 << 63 | 5),
                    logical: 1 << 62,
                    more: u32::MAX,
                    early: false,
                };
                let encoded = matches!(kind, Kind::Encoded { .. });
                for early in [false, encoded] {
                    let range = Range { early, ..range };
                    let mut bytes = Vec::new();
                    range.encode(&mut bytes);
                    assert_eq!(bytes.len(), Range::SIZE);
                    assert_eq!(Range::decode(&bytes), range);
                }
            }
        }
    }
}
