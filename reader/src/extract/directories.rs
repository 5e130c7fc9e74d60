//! The directories of the target: made, opened one component at a time without following anything, described at the end.

use super::error::ExtractError;
use erofs_format::Nid;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Directories that are kept open; deeper trees are opened again from the root.
const MOST_OPEN: usize = 64;

/// A directory of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryId(usize);

impl DirectoryId {
    pub(super) const ROOT: Self = Self(0);
}

/// Every directory that was made, parents before children.
pub(super) struct Directories {
    root: Arc<OwnedFd>,
    root_is_new: bool,
    /// Below the root: directory `i + 1`.
    made: Vec<Made>,
    /// The last ones used, the newest last.
    open: VecDeque<(DirectoryId, Arc<OwnedFd>)>,
}

struct Made {
    parent: DirectoryId,
    name: Box<[u8]>,
    nid: Nid,
}

impl Directories {
    /// Opens `target`, which may be a symbolic link since the user named it, or makes it with its parents.
    pub(super) fn new(target: &Path) -> Result<Self, ExtractError> {
        let open = || openat(CWD, target, directory_flags(), Mode::empty());
        let (root, root_is_new) = match open() {
            Ok(root) => (root, false),
            Err(Errno::NOENT) => {
                if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
                    std::fs::create_dir_all(parent).map_err(|error| ExtractError::System {
                        action: "make the parents",
                        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
                    })?;
                }
                mkdirat(CWD, target, Mode::RWXU)
                    .map_err(ExtractError::system("make the directory"))?;
                let root = open().map_err(ExtractError::system("open the directory"))?;
                (root, true)
            }
            Err(errno) => return Err(ExtractError::system("open the directory")(errno)),
        };
        Ok(Self {
            root: Arc::new(root),
            root_is_new,
            made: Vec::new(),
            open: VecDeque::new(),
        })
    }

    /// Whether the root was made, not found.
    pub(super) const fn root_is_new(&self) -> bool {
        self.root_is_new
    }

    /// Makes the directory `name`, for now accessible to its owner alone. With `replace` one that exists is taken, and
    /// anything else but a directory is removed.
    pub(super) fn make(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        nid: Nid,
        replace: bool,
    ) -> Result<DirectoryId, ExtractError> {
        let at = self.open(parent)?;
        let make = || {
            mkdirat(&at, name, Mode::RWXU)?;
            open_below(&at, name)
        };
        let opened = match make() {
            Err(Errno::EXIST) if replace => match open_below(&at, name) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    unlinkat(&at, name, AtFlags::empty()).and_then(|()| make())
                }
                opened => opened,
            },
            opened => opened,
        };
        let opened = opened.map_err(ExtractError::system("make the directory"))?;
        self.made.push(Made {
            parent,
            name: name.into(),
            nid,
        });
        let id = DirectoryId(self.made.len());
        self.remember(id, &Arc::new(opened));
        Ok(id)
    }

    /// Opens a directory that was made before.
    pub(super) fn open(&mut self, id: DirectoryId) -> Result<Arc<OwnedFd>, ExtractError> {
        let (mut missing, mut current) = (Vec::new(), id);
        let mut opened = loop {
            let Some(made) = self.made(current) else {
                break Arc::clone(&self.root);
            };
            if let Some((_, opened)) = self.open.iter().rev().find(|(open, _)| *open == current) {
                break Arc::clone(opened);
            }
            missing.push(current);
            current = made.parent;
        };
        for id in missing.into_iter().rev() {
            if let Some(made) = self.made(id) {
                let below = open_below(&opened, &made.name)
                    .map_err(ExtractError::system("open the directory again"))?;
                opened = Arc::new(below);
                self.remember(id, &opened);
            }
        }
        Ok(opened)
    }

    /// All directories but the root, children before parents, with their inodes.
    pub(super) fn children_first(&self) -> impl Iterator<Item = (DirectoryId, Nid)> + use<> {
        let ids: Vec<_> = self
            .made
            .iter()
            .enumerate()
            .map(|(index, made)| (DirectoryId(index + 1), made.nid))
            .collect();
        ids.into_iter().rev()
    }

    /// Path of a directory from the root, for messages.
    pub(super) fn path(&self, id: DirectoryId) -> Vec<u8> {
        let (mut names, mut current) = (Vec::new(), id);
        while let Some(made) = self.made(current) {
            names.push(&*made.name);
            current = made.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn made(&self, id: DirectoryId) -> Option<&Made> {
        self.made.get(id.0.checked_sub(1)?)
    }

    fn remember(&mut self, id: DirectoryId, opened: &Arc<OwnedFd>) {
        if self.open.len() >= MOST_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((id, Arc::clone(opened)));
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Opens the directory `name`, one component, not through a symbolic link.
fn open_below(at: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(
        at,
        name,
        directory_flags() | OFlags::NOFOLLOW,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_directories_are_found_again() {
        let target = tempfile::tempdir().unwrap();
        let mut directories = Directories::new(target.path()).unwrap();
        assert!(!directories.root_is_new());
        let mut ids = vec![DirectoryId::ROOT];
        for depth in 0..3 * MOST_OPEN {
            let name = format!("{depth}");
            let parent = *ids.last().unwrap();
            ids.push(
                directories
                    .make(parent, name.as_bytes(), Nid(depth as u64), false)
                    .unwrap(),
            );
        }
        for id in ids.iter().rev() {
            let fd = directories.open(*id).unwrap();
            let expected = target
                .path()
                .join(std::str::from_utf8(&directories.path(*id)).unwrap());
            let (found, expected) = (
                rustix::fs::fstat(&*fd).unwrap(),
                rustix::fs::stat(&expected).unwrap(),
            );
            assert_eq!(found.st_ino, expected.st_ino);
            assert!(directories.open.len() <= MOST_OPEN);
        }
        let first = directories.children_first().next().unwrap();
        assert_eq!(first.0, *ids.last().unwrap());
    }

    #[test]
    fn links_are_replaced_but_never_entered() {
        let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), target.path().join("x")).unwrap();
        let mut directories = Directories::new(target.path()).unwrap();
        let refused = directories.make(DirectoryId::ROOT, b"x", Nid(1), false);
        assert!(matches!(refused, Err(ExtractError::Exists)));
        let made = directories
            .make(DirectoryId::ROOT, b"x", Nid(1), true)
            .unwrap();
        directories.make(made, b"y", Nid(2), true).unwrap();
        assert!(target.path().join("x/y").is_dir());
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    }
}
