//! Deletions in the layers of container images (OCI image specification, "Layers"): `.wh.NAME` hides NAME of the layers
//! below, `.wh..wh..opq` hides all that they have in its directory.
//!
//! Both speak of the layers below only. So they are applied when all members are known, and what the layer itself has
//! survives wherever it stands in the archive.

use super::error::{MemberError, TarError};
use crate::source::{Rules, Whiteouts};
use crate::tree::{Body, Metadata, Tree, TreeError, components};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::{FileType, Timestamp};

const PREFIX: &[u8] = b".wh.";
/// Names of AUFS' own bookkeeping, which no file system but AUFS reads.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the name of a member asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker<'p> {
    /// AUFS bookkeeping.
    Bookkeeping,
    /// The directory hides what is below.
    Opaque {
        /// The directory's path.
        directory: &'p [u8],
    },
    /// The file of this name is hidden.
    Whiteout {
        /// Path of the directory, with its slash.
        directory: &'p [u8],
        /// The file's name.
        name: &'p [u8],
    },
}

/// Reads the marker from a path; `None` for an ordinary member.
fn marker(path: &[u8]) -> Result<Option<Marker<'_>>, MemberError> {
    let path = trim_slashes(path);
    let start = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (directory, last) = path.split_at(start);
    for part in directory.split(|byte| *byte == b'/') {
        if part.starts_with(AUFS_PREFIX) {
            return Ok(Some(Marker::Bookkeeping));
        }
        if part.starts_with(PREFIX) {
            return Err(MemberError::Whiteout(
                "it is below a whiteout, which holds nothing",
            ));
        }
    }
    let Some(name) = last.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    Ok(Some(match name {
        _ if last == OPAQUE => Marker::Opaque { directory },
        _ if last.starts_with(AUFS_PREFIX) => Marker::Bookkeeping,
        b"" | b"." | b".." => {
            return Err(MemberError::Whiteout("it is a whiteout without a name"));
        }
        _ => Marker::Whiteout { directory, name },
    }))
}

fn trim_slashes(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// A whiteout to be made.
#[derive(Debug)]
struct Deletion {
    directory: Vec<u8>,
    path: Vec<u8>,
    mtime: Timestamp,
}

/// Collects markers until all members are known.
#[derive(Debug)]
pub(super) struct Markers {
    whiteouts: Whiteouts,
    deletions: Vec<Deletion>,
    opaque: Vec<Vec<u8>>,
}

impl Markers {
    pub(super) const fn new(whiteouts: Whiteouts) -> Self {
        Self {
            whiteouts,
            deletions: Vec::new(),
            opaque: Vec::new(),
        }
    }

    /// Whether the member is a marker, which then is remembered or dropped and becomes no entry.
    ///
    /// # Errors
    /// [`MemberError::Whiteout`].
    pub(super) fn take(&mut self, path: &[u8], mtime: Timestamp) -> Result<bool, MemberError> {
        let may_be_marker = path.windows(PREFIX.len()).any(|window| window == PREFIX);
        if self.whiteouts == Whiteouts::Keep || !may_be_marker {
            return Ok(false);
        }
        let Some(marker) = marker(path)? else {
            return Ok(false);
        };
        if self.whiteouts == Whiteouts::Strip {
            return Ok(true);
        }
        match marker {
            Marker::Bookkeeping => {}
            Marker::Opaque { directory } => self.opaque.push(directory.to_vec()),
            Marker::Whiteout { directory, name } => self.deletions.push(Deletion {
                directory: directory.to_vec(),
                path: [directory, name].concat(),
                mtime,
            }),
        }
        Ok(true)
    }

    /// Puts the markers into the tree, as overlayfs wants them: whiteouts are character devices 0:0, and `origin` on
    /// their directory makes overlayfs look for them when it lists a layer that lies alone.
    ///
    /// # Errors
    /// [`TarError::Whiteout`].
    pub(super) fn apply(self, tree: &mut Tree, rules: &Rules) -> Result<(), TarError> {
        let (opaque, origin): (&[u8], &[u8]) = match self.whiteouts {
            Whiteouts::Overlay => (b"trusted.overlay.opaque", b"trusted.overlay.origin"),
            Whiteouts::OverlayUser => (b"user.overlay.opaque", b"user.overlay.origin"),
            Whiteouts::Keep | Whiteouts::Strip => return Ok(()),
        };
        let is_excluded = |path: &[u8]| components(path).is_ok_and(|parts| rules.excludes(&parts));
        for directory in &self.opaque {
            if !is_excluded(directory) {
                set(tree, directory, opaque, b"y")?;
            }
        }
        for deletion in &self.deletions {
            if is_excluded(&deletion.path) {
                continue;
            }
            match tree.lookup(&deletion.path) {
                // Deleted below and made anew: nothing of the old directory may shine through.
                Some(inode) if tree.inode(inode).body.file_type() == FileType::Directory => {
                    set(tree, &deletion.path, opaque, b"y")?;
                }
                Some(_) => {}
                None => {
                    let mut metadata = Metadata {
                        permissions: 0,
                        uid: 0,
                        gid: 0,
                        mtime: deletion.mtime,
                        xattrs: Vec::new(),
                    };
                    rules.apply(&deletion.path, FileType::CharDevice, &mut metadata);
                    let nothing = Body::CharDevice(DeviceNumber::default());
                    tree.insert(&deletion.path, metadata, nothing)
                        .map_err(TarError::Whiteout)?;
                    set(tree, &deletion.directory, origin, b"")?;
                }
            }
        }
        Ok(())
    }
}

fn set(tree: &mut Tree, directory: &[u8], name: &[u8], value: &[u8]) -> Result<(), TarError> {
    let mut set = || -> Result<(), TreeError> {
        let inode = tree.directory(directory)?;
        tree.set_xattr(directory, inode, name, value)
    };
    set().map_err(TarError::Whiteout)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'p> = (&'p [u8], Result<Option<Marker<'p>>, ()>);

    #[test]
    fn names_say_what_is_deleted() {
        let whiteout = |directory, name| Ok(Some(Marker::Whiteout { directory, name }));
        let cases: [Case<'_>; 15] = [
            (b"a/b", Ok(None)),
            (b"a/b.wh.c", Ok(None)),
            (b".wh.a", whiteout(b"", b"a")),
            (b"./a/.wh.b", whiteout(b"./a/", b"b")),
            (b"a/.wh.b/", whiteout(b"a/", b"b")),
            (b"a/.wh..b", whiteout(b"a/", b".b")),
            (
                b"a/.wh..wh..opq",
                Ok(Some(Marker::Opaque { directory: b"a/" })),
            ),
            (b".wh..wh..opq", Ok(Some(Marker::Opaque { directory: b"" }))),
            (b".wh..wh.plnk", Ok(Some(Marker::Bookkeeping))),
            (b".wh..wh.plnk/12.34", Ok(Some(Marker::Bookkeeping))),
            (b".wh..wh.aufs", Ok(Some(Marker::Bookkeeping))),
            (b"a/.wh.b/c", Err(())),
            (b"a/.wh.", Err(())),
            (b"a/.wh..", Err(())),
            (b"a/.wh...", Err(())),
        ];
        for (path, expected) in cases {
            assert_eq!(
                marker(path).map_err(|_| ()),
                expected,
                "{}",
                String::from_utf8_lossy(path)
            );
        }
    }
}
