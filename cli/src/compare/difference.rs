//! What differs at a path.

use super::side::{Location, Node, Side, SideError, Xattrs};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, Timestamp};

/// What is not compared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ignored {
    pub(crate) mode: bool,
    pub(crate) owner: bool,
    pub(crate) mtime: bool,
    /// The part of a time below a second.
    pub(crate) nanoseconds: bool,
    pub(crate) xattrs: bool,
    /// Which names are hard links to one file.
    pub(crate) links: bool,
}

/// A value on side A and on side B.
pub(crate) type Change<T> = Option<(T, T)>;

/// What differs between two entries; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    pub(crate) file_type: Change<FileType>,
    pub(crate) mode: Change<u16>,
    /// User and group.
    pub(crate) owner: Change<(u32, u32)>,
    pub(crate) mtime: Change<Timestamp>,
    /// By name, in byte order.
    pub(crate) xattrs: Vec<XattrChange>,
    pub(crate) target: Change<Vec<u8>>,
    pub(crate) device: Change<DeviceNumber>,
    pub(crate) content: Option<ContentChange>,
    pub(crate) links: Vec<LinkChange>,
}

/// An attribute that only one side has, or that has another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct XattrChange {
    pub(crate) name: Vec<u8>,
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) to: Option<Vec<u8>>,
}

/// Another content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentChange {
    /// Sizes in bytes.
    pub(crate) sizes: (u64, u64),
    /// The first byte that differs, where both files were read.
    pub(crate) first: Option<u64>,
}

/// Another place among hard links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// On side A it is the same file as this path, on side B it is not.
    Parted(Vec<u8>),
    /// The other way round.
    Joined(Vec<u8>),
}

impl Changes {
    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Compares all but contents and links.
    pub(crate) fn between(
        [a, b]: [(&dyn Side, &Node, Location<'_>); 2],
        ignored: &Ignored,
    ) -> Result<Self, (usize, SideError)> {
        let (left, right) = (a.1, b.1);
        let mut changes = Self {
            file_type: changed(left.file_type, right.file_type),
            ..Self::default()
        };
        if !ignored.mode {
            changes.mode = changed(left.permissions, right.permissions);
        }
        if !ignored.owner {
            changes.owner = changed((left.uid, left.gid), (right.uid, right.gid));
        }
        if !ignored.mtime {
            changes.mtime = changed(left.mtime, right.mtime)
                .filter(|(from, to)| !ignored.nanoseconds || from.seconds != to.seconds);
        }
        if !ignored.xattrs {
            let from = a.0.xattrs(a.2, left).map_err(|error| (0, error))?;
            let to = b.0.xattrs(b.2, right).map_err(|error| (1, error))?;
            changes.xattrs = xattr_changes(from, to);
        }
        if left.file_type == right.file_type {
            changes.device = changed(left.device, right.device);
            if left.file_type == FileType::Symlink {
                let from = a.0.target(a.2, left).map_err(|error| (0, error))?;
                let to = b.0.target(b.2, right).map_err(|error| (1, error))?;
                changes.target = changed(from, to);
            }
        }
        Ok(changes)
    }

    /// Bytes that keeping it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        let xattrs = self.xattrs.iter().map(|change| {
            let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
            change.name.len() + value(&change.from) + value(&change.to)
        });
        let target = self.target.as_ref();
        size_of::<Self>()
            + xattrs.sum::<usize>()
            + target.map_or(0, |(from, to)| from.len() + to.len())
    }
}

fn changed<T: PartialEq>(from: T, to: T) -> Change<T> {
    (from != to).then_some((from, to))
}

/// Merges two sorted lists.
fn xattr_changes(from: Xattrs, to: Xattrs) -> Vec<XattrChange> {
    if from == to {
        return Vec::new();
    }
    let mut changes = Vec::new();
    let mut left = from.into_iter().peekable();
    let mut right = to.into_iter().peekable();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return changes,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(&b.0),
        };
        let a = order.is_le().then(|| left.next()).flatten();
        let b = order.is_ge().then(|| right.next()).flatten();
        let (from, to) = match (a, b) {
            (Some((name, from)), Some((_, to))) if from == to => {
                drop(name);
                continue;
            }
            (Some((name, from)), to) => ((name, Some(from)), to.map(|(_, value)| value)),
            (None, Some((name, to))) => ((name, None), Some(to)),
            (None, None) => return changes,
        };
        changes.push(XattrChange {
            name: from.0,
            from: from.1,
            to,
        });
    }
}

/// A difference between the sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Where: on side B unless it is there no more.
    pub(crate) path: Vec<u8>,
    /// What.
    pub(crate) kind: Kind,
}

/// Kinds of differences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only on side B.
    Added(Lone),
    /// Only on side A.
    Removed(Lone),
    /// On both sides, not the same.
    Modified(Box<Changes>),
    /// One more name of a file that is told to be modified.
    ModifiedAs {
        /// The name by which it was told.
        first: Vec<u8>,
    },
    /// A file of another name on side A with the same content.
    Renamed {
        /// Its path there.
        from: Vec<u8>,
        /// Size in bytes.
        size: u64,
        /// What else differs.
        changes: Box<Changes>,
    },
}

/// An entry that the other side has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lone {
    pub(crate) file_type: FileType,
    /// Size of a regular file in bytes, otherwise 0.
    pub(crate) size: u64,
    /// The first name that both sides have of this file, if it has one.
    pub(crate) link_to: Option<Vec<u8>>,
}

/// An entry that could not be compared.
#[derive(Debug)]
pub(crate) struct Problem {
    /// Side A is 0, side B is 1.
    pub(crate) side: usize,
    pub(crate) path: Vec<u8>,
    pub(crate) error: SideError,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(pairs: &[(&str, &str)]) -> Xattrs {
        let bytes = |text: &str| text.as_bytes().to_vec();
        pairs
            .iter()
            .map(|(name, value)| (bytes(name), bytes(value)))
            .collect()
    }

    #[test]
    fn attributes_are_merged_by_name() {
        let changes = xattr_changes(
            xattrs(&[("a", "1"), ("b", "1"), ("d", "")]),
            xattrs(&[("b", "2"), ("c", ""), ("d", "")]),
        );
        let told: Vec<_> = changes
            .iter()
            .map(|change| {
                let text = |value: &Option<Vec<u8>>| {
                    value
                        .as_ref()
                        .map(|value| String::from_utf8_lossy(value).into_owned())
                };
                (
                    String::from_utf8_lossy(&change.name).into_owned(),
                    text(&change.from),
                    text(&change.to),
                )
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("a".to_owned(), some("1"), None),
                ("b".to_owned(), some("1"), some("2")),
                ("c".to_owned(), None, some("")),
            ]
        );
    }
}
