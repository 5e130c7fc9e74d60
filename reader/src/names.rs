//! Listing a tree by its names: each directory block is read once, nothing is allocated for an entry, and inodes are
//! read only when they are asked for.

use crate::directory::broken;
use crate::error::{Error, Rule};
use crate::image::Image;
use crate::inode::Inode;
use crate::walk::DEFAULT_MAX_DEPTH;
use erofs_format::directory::DirectoryBlock;
use erofs_format::inode::FileType;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::collections::HashSet;

/// Directories on the way down whose current block stays in memory; those deeper down read theirs again.
const BLOCKS_KEPT: usize = 64;
/// Entries that are listed of an image of any size.
const ENTRIES_GRANTED: u64 = 1 << 20;
/// Entries that are listed for each byte of the image. An entry takes 13 bytes, so real trees stay below that, however
/// well their directories are compressed; crafted ones repeat a block of entries without end.
const ENTRIES_PER_BYTE: u64 = 8;

/// A name that a listing came to.
#[derive(Debug, Clone, Copy)]
pub struct Name<'n> {
    /// Path from where the listing began, without a leading slash; empty for that directory itself.
    pub path: &'n [u8],
    /// Last component of `path`.
    pub name: &'n [u8],
    /// Number of components of `path`.
    pub depth: usize,
    /// The inode's number.
    pub nid: Nid,
    /// File type: of the inode if that was read, else as the directory entry says.
    pub file_type: FileType,
    /// The inode, with [`Names::with_inodes`] and where its type was not known without it.
    pub inode: Option<Inode>,
}

/// The names of a tree, parents before children, children in stored order. Call [`Names::next`] until it returns `None`.
///
/// It ends on every image: a directory that was entered before, by whatever name, is not entered again but reported, and
/// so are more entries than the image can hold ([`Rule::DirectoryCycle`], [`Rule::DirectoryAlias`],
/// [`Rule::TooManyEntries`]). After other errors it goes on with the next name that does not depend on what is broken.
#[derive(Debug)]
pub struct Names<'a> {
    image: &'a Image,
    start: Option<Inode>,
    stack: Vec<Level>,
    path: Vec<u8>,
    entered: HashSet<Nid>,
    /// The directory that was yielded last and is listed next.
    descend: Option<(Nid, Option<Inode>)>,
    with_inodes: bool,
    entries: u64,
    limit: u64,
}

#[derive(Debug)]
struct Level {
    directory: Inode,
    /// Length of the directory's own path.
    path_length: usize,
    /// First byte of the current block in the directory.
    start: u64,
    /// The current block, or empty.
    block: Vec<u8>,
    /// Next entry of the block.
    index: usize,
}

impl Image {
    /// Lists the tree below `start`, itself included.
    pub fn names_from(&self, start: &Inode) -> Names<'_> {
        Names {
            image: self,
            start: Some(*start),
            stack: Vec::new(),
            path: Vec::new(),
            entered: HashSet::new(),
            descend: None,
            with_inodes: false,
            entries: 0,
            limit: self.entry_limit(),
        }
    }

    /// Most directory entries that are listed.
    pub(crate) fn entry_limit(&self) -> u64 {
        self.devices()
            .size(DeviceId::PRIMARY)
            .saturating_mul(ENTRIES_PER_BYTE)
            .saturating_add(ENTRIES_GRANTED)
    }
}

impl Names<'_> {
    /// Reads the inode of each name, whose type then counts instead of that in the directory entry.
    #[must_use]
    pub const fn with_inodes(mut self) -> Self {
        self.with_inodes = true;
        self
    }

    /// Path of what the last call was about, also where that was an error: the name, or the directory whose list broke.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Does not list the directory that the last call yielded.
    pub const fn prune(&mut self) {
        self.descend = None;
    }

    /// The next name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a directory or inode that breaks a rule; I/O errors. The listing goes on behind them.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it yields borrows from it"
    )]
    pub fn next(&mut self) -> Option<Result<Name<'_>, Error>> {
        if let Some(start) = self.start.take() {
            return Some(Ok(self.arrive(
                0,
                start.nid(),
                start.file_type,
                Some(start),
            )));
        }
        if let Some((nid, inode)) = self.descend.take()
            && let Err(error) = self.enter(nid, inode)
        {
            return Some(Err(error));
        }
        match self.next_entry()? {
            Ok((nid, file_type)) => Some(self.look_at(nid, file_type)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Puts the path of the next entry into `self.path`.
    fn next_entry(&mut self) -> Option<Result<(Nid, Option<FileType>), Error>> {
        loop {
            let level = self.stack.last_mut()?;
            if self.entries >= self.limit {
                let rule = Rule::TooManyEntries { limit: self.limit };
                let error = level.directory.corrupt(rule, ByteOffset(level.start));
                self.stack.clear();
                return Some(Err(error));
            }
            self.path.truncate(level.path_length);
            match level.next(self.image, &mut self.path) {
                Ok(Some(_)) if is_dot_or_dot_dot(&self.path, level.path_length) => {
                    self.entries += 1;
                }
                Ok(Some(entry)) => {
                    self.entries += 1;
                    return Some(Ok(entry));
                }
                Ok(None) => {
                    self.stack.pop();
                }
                Err(error) => {
                    self.path.truncate(level.path_length);
                    self.stack.pop();
                    return Some(Err(error));
                }
            }
        }
    }

    fn look_at(&mut self, nid: Nid, file_type: Option<FileType>) -> Result<Name<'_>, Error> {
        let known = file_type.filter(|_| !self.with_inodes);
        let (file_type, inode) = match known {
            Some(file_type) => (file_type, None),
            None => {
                let inode = self.image.inode(nid)?;
                (inode.file_type, Some(inode))
            }
        };
        let start = self.stack.last().map_or(0, |level| level.path_length);
        Ok(self.arrive(start + usize::from(start > 0), nid, file_type, inode))
    }

    fn arrive(
        &mut self,
        name_start: usize,
        nid: Nid,
        file_type: FileType,
        inode: Option<Inode>,
    ) -> Name<'_> {
        if file_type == FileType::Directory {
            self.descend = Some((nid, inode));
        }
        Name {
            path: &self.path,
            name: self.path.get(name_start..).unwrap_or_default(),
            depth: self.stack.len(),
            nid,
            file_type,
            inode,
        }
    }

    /// Begins to list the directory whose path is in `self.path`.
    fn enter(&mut self, nid: Nid, inode: Option<Inode>) -> Result<(), Error> {
        let directory = match inode {
            Some(inode) => inode,
            None => self.image.inode(nid)?,
        };
        if !directory.is_directory() {
            return Err(Error::NotADirectory(nid));
        }
        let refuse = |rule| Err(directory.corrupt(rule, ByteOffset(0)));
        if self.stack.len() >= DEFAULT_MAX_DEPTH {
            return refuse(Rule::TooDeep {
                limit: DEFAULT_MAX_DEPTH,
            });
        }
        if !self.entered.insert(nid) {
            let on_path = |level: &Level| level.directory.nid() == nid;
            return refuse(if self.stack.iter().any(on_path) {
                Rule::DirectoryCycle(nid)
            } else {
                Rule::DirectoryAlias(nid)
            });
        }
        if self.stack.len() > BLOCKS_KEPT
            && let Some(parent) = self.stack.last_mut()
        {
            parent.block = Vec::new();
        }
        self.stack.push(Level {
            directory,
            path_length: self.path.len(),
            start: 0,
            block: Vec::new(),
            index: 0,
        });
        Ok(())
    }
}

impl Level {
    /// The next entry, its name appended to `path`; `None` at the end of the directory.
    fn next(
        &mut self,
        image: &Image,
        path: &mut Vec<u8>,
    ) -> Result<Option<(Nid, Option<FileType>)>, Error> {
        loop {
            if self.block.is_empty() {
                if self.start >= self.directory.size {
                    return Ok(None);
                }
                image.read_directory_block(&self.directory, self.start, &mut self.block)?;
            }
            let corrupt = |error| broken(&self.directory, self.start, error);
            let block = DirectoryBlock::new(&self.block).map_err(corrupt)?;
            if self.index < block.count() {
                let entry = block.entry(self.index).map_err(corrupt)?;
                self.index += 1;
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.name);
                return Ok(Some((entry.nid, entry.file_type)));
            }
            self.start = self
                .start
                .saturating_add(image.superblock().block_bits.bytes());
            self.index = 0;
            self.block.clear();
        }
    }
}

/// Whether the component of `path` behind the first `parent` bytes is `.` or `..`.
fn is_dot_or_dot_dot(path: &[u8], parent: usize) -> bool {
    let name = path.get(parent + usize::from(parent > 0)..);
    matches!(name, Some(b"." | b".."))
}
