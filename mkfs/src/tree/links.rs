//! Hard links, whose targets may come after them.

use super::{Tree, TreeError, components};
use erofs_format::inode::FileType;
use std::collections::HashMap;

/// A hard link whose target had not been seen when it came.
#[derive(Debug)]
pub(super) struct PendingLink {
    pub(super) path: Vec<u8>,
    target: Vec<u8>,
}

impl Tree {
    /// Makes `path` a hard link to `target`, which may come later.
    ///
    /// # Errors
    /// [`TreeError`] names the entry.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        components(target).map_err(|source| TreeError::Name {
            path: target.to_vec(),
            source,
        })?;
        let Some((parent, name)) = self.parent_of(path)? else {
            return Err(TreeError::RootNotDirectory);
        };
        match self.lookup(target) {
            Some(inode) if self.inode(inode).body.file_type() == FileType::Directory => {
                Err(TreeError::LinkToDirectory {
                    path: path.to_vec(),
                    target: target.to_vec(),
                })
            }
            Some(inode) => self.link_child(parent, name, inode),
            None => {
                self.pending_links.push(PendingLink {
                    path: path.to_vec(),
                    target: target.to_vec(),
                });
                Ok(())
            }
        }
    }

    /// Resolves links whose target came after them. A target may be a late link itself, so each one that is resolved
    /// sees to those that wait for it.
    pub(super) fn resolve_links(&mut self) -> Result<(), TreeError> {
        let plain = |path: &[u8]| {
            components(path)
                .map(|parts| parts.join(&b'/'))
                .unwrap_or_default()
        };
        let pending = std::mem::take(&mut self.pending_links);
        let mut waiting: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (number, link) in pending.iter().enumerate() {
            waiting.entry(plain(&link.target)).or_default().push(number);
        }
        let mut resolved = vec![false; pending.len()];
        let mut ready: Vec<usize> = Vec::new();
        for first in 0..pending.len() {
            if self.lookup(&pending[first].target).is_some() {
                ready.extend(
                    waiting
                        .remove(&plain(&pending[first].target))
                        .unwrap_or_default(),
                );
            }
            while let Some(number) = ready.pop() {
                let PendingLink { path, target } = &pending[number];
                self.link(path, target)?;
                resolved[number] = true;
                ready.extend(waiting.remove(&plain(path)).unwrap_or_default());
            }
        }
        for (PendingLink { path, target }, _) in
            pending.into_iter().zip(resolved).filter(|(_, done)| !done)
        {
            if self.lookup(&target).is_none() {
                return Err(TreeError::LinkTarget { path, target });
            }
            // A directory that a late link implied.
            self.link(&path, &target)?;
        }
        Ok(())
    }
}
