//! What overlayfs leaves in a tree that was an upper layer, and what it wants in a lower one.

use super::{Body, Entry, InodeId, Tree, TreeError, Xattr};
use erofs_format::device::DeviceNumber;
use std::collections::HashMap;

impl Tree {
    /// Removes what overlayfs has to say about layers below: whiteouts, and the attributes `opaque` and `origin`.
    ///
    /// # Errors
    /// [`TreeError::TooMany`] past 2^32 sets of attributes.
    pub fn strip_overlay(&mut self) -> Result<(), TreeError> {
        let stripped = |attribute: &Xattr| {
            let name = [&b"trusted.overlay."[..], b"user.overlay."]
                .into_iter()
                .find_map(|prefix| attribute.name.strip_prefix(prefix));
            matches!(name, Some(b"opaque" | b"origin"))
        };
        let mut sets = HashMap::new();
        for index in 0..self.inodes.len() {
            let old = self.inodes[index].xattrs;
            let set = self.xattrs.get(old);
            if !set.iter().any(stripped) {
                continue;
            }
            let rest: Vec<Xattr> = set.iter().filter(|a| !stripped(a)).cloned().collect();
            let new = match sets.get(&old) {
                Some(new) => *new,
                None => self.xattrs.intern(b"", rest)?,
            };
            sets.insert(old, new);
            self.inodes[index].xattrs = new;
        }
        let whiteout = Body::CharDevice(DeviceNumber::default());
        let Self {
            inodes,
            entries,
            lookup,
            ..
        } = self;
        lookup.retain(|slot| {
            let entry = &mut entries[slot.entry.index()];
            let keep = inodes[entry.inode.index()].body != whiteout;
            if !keep {
                // Nobody's child: see `remove`.
                entry.parent = entry.inode;
            }
            keep
        });
        self.last_parent = (Vec::new(), InodeId::ROOT);
        Ok(())
    }

    /// Gives directories that hold overlayfs whiteouts the attribute `trusted.overlay.origin`.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn mark_whiteouts(&mut self) -> Result<(), TreeError> {
        const ORIGIN: &[u8] = b"trusted.overlay.origin";
        let whiteout = Body::CharDevice(DeviceNumber::default());
        for index in 0..self.entries.len() {
            let Entry { parent, inode, .. } = self.entries[index];
            let marked = self.xattrs.get(self.inode(parent).xattrs);
            if self.inode(inode).body == whiteout
                && parent != inode
                && !marked.iter().any(|attribute| &*attribute.name == ORIGIN)
            {
                self.set_xattr(b"", parent, ORIGIN, b"")?;
            }
        }
        Ok(())
    }
}
