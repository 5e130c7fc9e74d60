//! Walking a whole tree, without recursion and without trust.

use crate::directory::DirectoryEntries;
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::{ByteOffset, Nid};
use std::collections::HashSet;

/// Depth at which a walk gives up unless told otherwise: more than any path of Linux has components.
pub const DEFAULT_MAX_DEPTH: usize = 4096;

/// A file that a walk came to.
#[derive(Debug, Clone)]
pub struct WalkEntry {
    /// Path from where the walk began, without a leading slash; empty for that directory itself.
    pub path: Vec<u8>,
    /// Number of components of `path`.
    pub depth: usize,
    /// The inode.
    pub inode: Inode,
}

/// Iterator over a tree, parents before children, children in stored order.
///
/// It ends on every image: a directory that was entered before, by whatever name, is not entered again but reported
/// ([`Rule::DirectoryCycle`], [`Rule::DirectoryAlias`]), and where there are more entries than any image of this size can
/// mean, `.` and `..` counted, it ends with [`Rule::TooManyEntries`]. After other errors the walk goes on with the next file
/// that does not depend on what is broken.
#[derive(Debug)]
pub struct Walk<'a> {
    image: &'a Image,
    /// Directory to begin with, until the first call.
    start: Option<Inode>,
    stack: Vec<Level<'a>>,
    path: Vec<u8>,
    /// Where the last component of `path` begins.
    name_start: usize,
    entered: HashSet<Nid>,
    /// Entries that were come to, and how many at most.
    entries: u64,
    limit: u64,
    max_depth: usize,
    any_names: bool,
}

#[derive(Debug)]
struct Level<'a> {
    entries: DirectoryEntries<'a>,
    /// Length of the directory's own path.
    path_length: usize,
}

impl Image {
    /// Walks the whole image.
    ///
    /// # Errors
    /// As [`Image::root`]; the iterator yields the errors met on the way.
    pub fn walk(&self) -> Result<Walk<'_>, Error> {
        Ok(self.walk_from(&self.root()?, DEFAULT_MAX_DEPTH))
    }

    /// Walks the tree below `start`, at most `max_depth` components deep ([`Rule::TooDeep`] for each directory below).
    pub fn walk_from(&self, start: &Inode, max_depth: usize) -> Walk<'_> {
        Walk {
            image: self,
            start: Some(*start),
            stack: Vec::new(),
            path: Vec::new(),
            name_start: 0,
            entered: HashSet::new(),
            entries: 0,
            limit: self.entry_limit(),
            max_depth,
            any_names: false,
        }
    }
}

impl Walk<'_> {
    /// Lets names pass that contain NUL or slash, see [`DirectoryEntries::with_any_names`]: paths are then ambiguous, and
    /// [`Walk::name`] is not.
    #[must_use]
    pub const fn with_any_names(mut self) -> Self {
        self.any_names = true;
        self
    }

    /// Leaves out what is below the directory that the last call yielded. Without effect after anything else.
    pub fn skip_directory(&mut self) {
        let entered = self.stack.last();
        if entered.is_some_and(|level| level.path_length == self.path.len()) {
            self.stack.pop();
        }
    }

    /// Name of what the last call yielded: the last component of its path, empty where the walk began.
    pub fn name(&self) -> &[u8] {
        self.path.get(self.name_start..).unwrap_or_default()
    }

    /// Path of what the last call was about, also where that was an error: the entry, or the directory whose list broke.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Remembers to list `directory`, whose path is in `self.path`, next.
    fn enter(&mut self, directory: &Inode) -> Result<(), Error> {
        let nid = directory.nid();
        let refuse = |rule| Err(directory.corrupt(rule, ByteOffset(0)));
        if self.stack.len() >= self.max_depth {
            return refuse(Rule::TooDeep {
                limit: self.max_depth,
            });
        }
        if !self.entered.insert(nid) {
            let on_path = |level: &Level<'_>| level.entries.directory().nid() == nid;
            return refuse(if self.stack.iter().any(on_path) {
                Rule::DirectoryCycle(nid)
            } else {
                Rule::DirectoryAlias(nid)
            });
        }
        if let Some(parent) = self.stack.last_mut() {
            parent.entries.release();
        }
        let entries = self.image.read_directory(directory)?;
        self.stack.push(Level {
            entries: if self.any_names {
                entries.with_any_names()
            } else {
                entries
            },
            path_length: self.path.len(),
        });
        Ok(())
    }

    fn arrive(&mut self, inode: Inode) -> Result<WalkEntry, Error> {
        let depth = self.stack.len();
        if inode.is_directory() {
            self.enter(&inode)?;
        }
        Ok(WalkEntry {
            path: self.path.clone(),
            depth,
            inode,
        })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<WalkEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(start) = self.start.take() {
            return Some(self.arrive(start));
        }
        loop {
            let level = self.stack.last_mut()?;
            let path_length = level.path_length;
            if self.entries >= self.limit {
                let rule = Rule::TooManyEntries { limit: self.limit };
                let error = level.entries.directory().corrupt(rule, ByteOffset(0));
                self.path.truncate(path_length);
                self.stack.clear();
                return Some(Err(error));
            }
            let entry = match level.entries.next() {
                None => {
                    self.stack.pop();
                    continue;
                }
                Some(Err(error)) => {
                    self.path.truncate(path_length);
                    return Some(Err(error));
                }
                Some(Ok(entry)) => entry,
            };
            self.entries += 1;
            if entry.is_dot_or_dot_dot() {
                continue;
            }
            self.path.truncate(path_length);
            if path_length > 0 {
                self.path.push(b'/');
            }
            self.name_start = self.path.len();
            self.path.extend_from_slice(&entry.name);
            let result = self.image.inode(entry.nid);
            return Some(result.and_then(|inode| self.arrive(inode)));
        }
    }
}
