//! How two manifests differ, in words.

use std::fmt;

use super::{Manifest, Node, Type};
use crate::listing::hexadecimal;

/// One thing that a comparison looks at, and that it can be told to ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Whether the name exists; cannot be ignored.
    Presence,
    /// File type.
    Type,
    /// Mode bits.
    Mode,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// Link count of everything but directories.
    Links,
    /// Link count of directories: btrfs and overlayfs say 1 where others count the subdirectories.
    DirectoryLinks,
    /// Length of content or target.
    Size,
    /// Modification time, whole seconds.
    Seconds,
    /// Modification time, the rest.
    Nanoseconds,
    /// Device number.
    Device,
    /// Target of a symlink.
    Target,
    /// Content of a regular file.
    Content,
    /// Extended attributes.
    Xattrs,
    /// Which names share an inode.
    HardLinks,
}

/// A difference in one field of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path below the root; empty for the root.
    pub path: Vec<u8>,
    /// What differs.
    pub field: Field,
    /// The expected value, readable.
    pub expected: String,
    /// The actual one.
    pub actual: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            field,
            expected,
            actual,
        } = self;
        write!(
            f,
            "/{}: {field:?}: {expected} -> {actual}",
            path.escape_ascii()
        )
    }
}

pub(super) fn between(expected: &Manifest, actual: &Manifest, ignore: &[Field]) -> Vec<Difference> {
    let mut all = Vec::new();
    for (path, node) in &expected.nodes {
        match actual.nodes.get(path) {
            Some(other) if node == other => {}
            Some(other) => compare(path, node, other, &mut all),
            None => all.push(presence(path, "there", "missing")),
        }
    }
    let surplus = actual
        .nodes
        .keys()
        .filter(|path| !expected.nodes.contains_key(*path));
    all.extend(surplus.map(|path| presence(path, "nothing", "there")));
    all.retain(|difference| {
        difference.field == Field::Presence || !ignore.contains(&difference.field)
    });
    all
}

fn presence(path: &[u8], expected: &str, actual: &str) -> Difference {
    Difference {
        path: path.to_vec(),
        field: Field::Presence,
        expected: expected.into(),
        actual: actual.into(),
    }
}

fn compare(path: &[u8], expected: &Node, actual: &Node, all: &mut Vec<Difference>) {
    let mut note = |field, expected: String, actual: String| {
        if expected != actual {
            all.push(Difference {
                path: path.to_vec(),
                field,
                expected,
                actual,
            });
        }
    };
    let (e, a) = (expected, actual);
    let directory = e.kind == Type::Directory && a.kind == Type::Directory;
    let links = if directory {
        Field::DirectoryLinks
    } else {
        Field::Links
    };
    note(
        Field::Type,
        format!("{:?}", e.kind),
        format!("{:?}", a.kind),
    );
    note(
        Field::Mode,
        format!("{:04o}", e.mode),
        format!("{:04o}", a.mode),
    );
    note(Field::Uid, e.uid.to_string(), a.uid.to_string());
    note(Field::Gid, e.gid.to_string(), a.gid.to_string());
    note(links, e.links.to_string(), a.links.to_string());
    note(Field::Size, e.size.to_string(), a.size.to_string());
    note(
        Field::Seconds,
        e.mtime.seconds.to_string(),
        a.mtime.seconds.to_string(),
    );
    note(
        Field::Nanoseconds,
        e.mtime.nanoseconds.to_string(),
        a.mtime.nanoseconds.to_string(),
    );
    note(
        Field::Device,
        format!("{:?}", e.device),
        format!("{:?}", a.device),
    );
    note(
        Field::Target,
        bytes(e.target.as_deref()),
        bytes(a.target.as_deref()),
    );
    note(Field::Content, digest(e.digest), digest(a.digest));
    note(Field::Xattrs, xattrs(e, a), xattrs(a, e));
    note(
        Field::HardLinks,
        bytes(e.shared_with.as_deref()),
        bytes(a.shared_with.as_deref()),
    );
}

fn bytes(value: Option<&[u8]>) -> String {
    value.map_or("none".into(), |value| {
        format!("\"{}\"", value.escape_ascii())
    })
}

fn digest(digest: Option<[u8; 32]>) -> String {
    digest.map_or("none".into(), |digest| hexadecimal(&digest))
}

/// The attributes of `node` that `other` has not, or not so.
fn xattrs(node: &Node, other: &Node) -> String {
    let own = node
        .xattrs
        .iter()
        .filter(|(key, value)| other.xattrs.get(*key) != Some(value));
    own.map(|(key, value)| format!("{}=\"{}\"", key.escape_ascii(), value.escape_ascii()))
        .collect::<Vec<_>>()
        .join(" ")
}
