//! From a path to an inode, inside of the image.

use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::inode::FileType;

/// Most symbolic links that are followed for one path, as in Linux (`MAXSYMLINKS`).
pub const MAX_LINKS_FOLLOWED: usize = 40;

/// What happens to symbolic links on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Symlinks {
    /// None is followed: one at the end is the result, one before the end is not a directory.
    #[default]
    Keep,
    /// All are followed, inside of the image: an absolute target begins at its root.
    Follow,
}

impl Image {
    /// Finds the inode of a path from the root of the image on. Leading, double and trailing slashes and `.` mean
    /// nothing; `..` leads to the directory that one came from and never out of the root.
    ///
    /// # Errors
    /// [`Error::NotFound`] names the component; [`Error::NotADirectory`]; [`Error::SymlinkLoop`]; as [`Image::lookup`].
    pub fn resolve(&self, path: &[u8], symlinks: Symlinks) -> Result<Inode, Error> {
        let mut parents: Vec<Inode> = Vec::new();
        let mut current = self.root()?;
        let mut links = 0;
        // Components still to go, last first.
        let mut pending: Vec<Vec<u8>> = components(path);
        while let Some(name) = pending.pop() {
            if !current.is_directory() {
                return Err(Error::NotADirectory(current.nid()));
            }
            if name == b".." {
                current = parents.pop().unwrap_or(current);
                continue;
            }
            let Some(nid) = self.lookup(&current, &name)? else {
                return Err(Error::NotFound { name });
            };
            let found = self.inode(nid)?;
            if found.file_type == FileType::Symlink && symlinks == Symlinks::Follow {
                links += 1;
                if links > MAX_LINKS_FOLLOWED {
                    return Err(Error::SymlinkLoop {
                        path: path.to_vec(),
                    });
                }
                let target = self.read_link(&found)?;
                if target.starts_with(b"/") {
                    parents.clear();
                    current = self.root()?;
                }
                pending.append(&mut components(&target));
                continue;
            }
            parents.push(std::mem::replace(&mut current, found));
        }
        Ok(current)
    }
}

/// Components of a path, last first, without empty ones and `.`.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .rev()
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}
