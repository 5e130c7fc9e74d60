//! Paths that go through symlinks, which are followed inside the tree alone.

use super::path::components;
use super::{Body, InodeId, Tree};

/// Most symlinks on the way of a path, as Linux has it (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// A directory on the way, and its inode if it is there.
type Step = (Vec<u8>, Option<InodeId>);

impl Tree {
    /// Where `path` leads when the symlinks before its last component are followed, as if the tree's root were that of the system: `..`
    /// does not lead out of it. `None` where no symlink that is there yet is on its way, or too many are.
    pub fn through_links(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.name_below_last_parent(path).is_some() {
            return None;
        }
        let parts = components(path).ok()?;
        let (name, parents) = parts.split_last()?;
        let mut left: Vec<Vec<u8>> = parents.iter().rev().map(|part| part.to_vec()).collect();
        let mut done: Vec<Step> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            let directory = done.last().map_or(Some(InodeId::ROOT), |(_, inode)| *inode);
            let inode = directory.and_then(|directory| self.child(directory, &part));
            let Some(Body::Symlink(target)) = inode.map(|inode| self.inode(inode).body) else {
                done.push((part, inode));
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            let target = self.names.get(target);
            if target.starts_with(b"/") {
                done.clear();
            }
            left.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
        }
        let steps = done.iter().map(|(part, _)| part.as_slice());
        let resolved: Vec<&[u8]> = steps.chain([*name]).collect();
        (links > 0).then(|| resolved.join(&b'/'))
    }
}
