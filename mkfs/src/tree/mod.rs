//! The tree that an image will hold, compact enough for millions of entries.
//!
//! Sources add entries in any order and may repeat themselves, as tars do; [`Tree::finish`] resolves what could only be
//! known at the end and yields a [`FrozenTree`] with sorted directories. Names and link targets live in one arena, xattr
//! sets are stored once, and an entry with its inode costs about 100 bytes.

mod error;
mod frozen;
mod inode;
mod links;
mod names;
mod overlay;
mod path;
mod through_links;
mod xattr_sets;

pub use error::TreeError;
pub use frozen::{Child, FrozenTree};
pub use inode::{Body, DataRange, InodeId, Location, Metadata, SparseId, TreeInode};
pub use names::NameRef;
pub use path::{NameError, components, display};
pub use xattr_sets::{Xattr, XattrSetId, XattrSets};

use erofs_format::inode::FileType;
use hashbrown::{DefaultHashBuilder, HashTable};
use links::PendingLink;
use names::NameArena;
use std::collections::HashSet;
use std::hash::BuildHasher;

/// A directory entry of a [`Tree`]; the root has entry 0 with an empty name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EntryId(u32);

impl EntryId {
    const ROOT: Self = Self(0);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    parent: InodeId,
    inode: InodeId,
    name: NameRef,
}

/// A slot of the lookup table. It keeps the hash, so that the table grows without looking at names again.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    entry: EntryId,
}

/// A tree under construction.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<TreeInode>,
    entries: Vec<Entry>,
    names: NameArena,
    lookup: HashTable<Slot>,
    /// Seeded anew in each process: no archive can aim at one bucket.
    hasher: DefaultHashBuilder,
    xattrs: XattrSets,
    sparse_maps: Vec<Box<[DataRange]>>,
    pending_links: Vec<PendingLink>,
    /// Directories that the source did not mention, only what is in them.
    implied: HashSet<InodeId>,
    /// Directory of the entry added last: members of an archive mostly share their parent.
    last_parent: (Vec<u8>, InodeId),
    /// Whether a hard link becomes a file of its own.
    separate_links: bool,
}

impl Tree {
    /// A tree with nothing but its root directory.
    pub fn new(root: Metadata) -> Result<Self, TreeError> {
        let mut tree = Self {
            inodes: Vec::new(),
            entries: Vec::new(),
            names: NameArena::default(),
            lookup: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            xattrs: XattrSets::default(),
            sparse_maps: Vec::new(),
            pending_links: Vec::new(),
            implied: HashSet::new(),
            last_parent: (Vec::new(), InodeId::ROOT),
            separate_links: false,
        };
        let inode = tree.new_inode(b"/", root, Body::Directory)?;
        let name = tree.names.push(b"")?;
        tree.entries.push(Entry {
            parent: inode,
            inode,
            name,
        });
        Ok(tree)
    }

    /// From now on every hard link becomes a file of its own, with the data of its target.
    pub fn separate_links(&mut self) {
        self.separate_links = true;
    }

    /// Number of inodes so far, replaced ones included.
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The inode.
    pub fn inode(&self, id: InodeId) -> &TreeInode {
        &self.inodes[id.index()]
    }

    /// Keeps a symlink target.
    ///
    /// # Errors
    /// [`TreeError::TooMany`] when the arena is full.
    pub fn intern(&mut self, bytes: &[u8]) -> Result<NameRef, TreeError> {
        self.names.push(bytes)
    }

    /// Keeps the map of a sparse file's data: ascending, not touching, inside the file.
    ///
    /// # Errors
    /// [`TreeError::TooMany`] past 2^32 maps.
    pub fn add_sparse_map(&mut self, ranges: Vec<DataRange>) -> Result<SparseId, TreeError> {
        self.sparse_maps.push(ranges.into_boxed_slice());
        u32::try_from(self.sparse_maps.len())
            .ok()
            .and_then(std::num::NonZeroU32::new)
            .map(SparseId)
            .ok_or(TreeError::TooMany("sparse files"))
    }

    /// The data ranges of a sparse file.
    pub fn sparse_map(&self, id: SparseId) -> &[DataRange] {
        &self.sparse_maps[id.0.get() as usize - 1]
    }

    /// Adds an entry by its path, or replaces what is there: a directory over a directory gets new metadata and keeps
    /// its entries, everything else takes the old entry's place. Missing parents are made: they get the owner and time of
    /// the closest existing one, mode 0755 and its parent's write bits for group and others.
    ///
    /// # Errors
    /// [`TreeError`] names the entry.
    pub fn insert(
        &mut self,
        path: &[u8],
        metadata: Metadata,
        body: Body,
    ) -> Result<InodeId, TreeError> {
        let Some((parent, name)) = self.parent_of(path)? else {
            if body.file_type() != FileType::Directory {
                return Err(TreeError::RootNotDirectory);
            }
            self.set_metadata(path, InodeId::ROOT, metadata)?;
            return Ok(InodeId::ROOT);
        };
        self.insert_child(parent, name, path, metadata, body)
    }

    /// Adds an entry to a directory that is known already; `path` is for messages only.
    ///
    /// # Errors
    /// [`TreeError`] names the entry.
    pub fn insert_child(
        &mut self,
        parent: InodeId,
        name: &[u8],
        path: &[u8],
        metadata: Metadata,
        body: Body,
    ) -> Result<InodeId, TreeError> {
        if let Some(entry) = self.find(parent, name) {
            let old = self.entries[entry.index()].inode;
            if matches!(
                (self.inode(old).body, body),
                (Body::Directory, Body::Directory)
            ) {
                self.set_metadata(path, old, metadata)?;
                return Ok(old);
            }
            let inode = self.new_inode(path, metadata, body)?;
            self.replace(entry, inode);
            return Ok(inode);
        }
        let inode = self.new_inode(path, metadata, body)?;
        self.add_entry(parent, name, inode)?;
        Ok(inode)
    }

    /// Adds one more name for an existing inode, or for its copy where links are to be separate.
    ///
    /// # Errors
    /// [`TreeError::TooMany`] past 2^32 entries.
    pub fn link_child(
        &mut self,
        parent: InodeId,
        name: &[u8],
        mut inode: InodeId,
    ) -> Result<(), TreeError> {
        if self.separate_links {
            inode = self.push_inode(*self.inode(inode))?;
        }
        match self.find(parent, name) {
            Some(entry) => self.replace(entry, inode),
            None => self.add_entry(parent, name, inode)?,
        }
        Ok(())
    }

    /// Removes the entry, with all below it.
    pub fn remove(&mut self, path: &[u8]) -> bool {
        let Some(parent) = self.existing_parent(path) else {
            return false;
        };
        let Ok(Some(name)) = components(path).map(|parts| parts.last().copied()) else {
            return false;
        };
        self.remove_child(parent, name)
    }

    /// Removes an entry of a directory, with all below it.
    pub fn remove_child(&mut self, parent: InodeId, name: &[u8]) -> bool {
        let hash = self.hash(parent, name);
        let Self {
            lookup,
            entries,
            names,
            ..
        } = self;
        let found = lookup.find_entry(wide(hash), |slot| {
            let entry = &entries[slot.entry.index()];
            slot.hash == hash && entry.parent == parent && names.get(entry.name) == name
        });
        let Ok(occupied) = found else { return false };
        let (Slot { entry: id, .. }, _) = occupied.remove();
        // An entry of its own parent is nobody's child, except for the root: see `FrozenTree`.
        let entry = &mut self.entries[id.index()];
        entry.parent = entry.inode;
        self.last_parent = (Vec::new(), InodeId::ROOT);
        true
    }

    /// Removes an inode that is no directory: the entries of all its names.
    pub fn remove_inode(&mut self, inode: InodeId) {
        let entries = self.entries.iter().filter(|entry| entry.inode == inode);
        let names: Vec<_> = entries
            .map(|entry| (entry.parent, self.names.get(entry.name).to_vec()))
            .collect();
        for (parent, name) in names {
            self.remove_child(parent, &name);
        }
    }

    /// The inode of an entry of a directory.
    pub fn child(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        let entry = self.find(parent, name)?;
        Some(self.entries[entry.index()].inode)
    }

    /// Owner, permissions, time and attributes of an inode.
    pub fn metadata(&self, id: InodeId) -> Metadata {
        self.inode(id).metadata(&self.xattrs)
    }

    /// The inode at `path`; links are not followed.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        let mut inode = InodeId::ROOT;
        for name in components(path).ok()? {
            inode = self.entries[self.find(inode, name)?.index()].inode;
        }
        Some(inode)
    }

    /// The directory at `path`, made like missing parents when there is none.
    ///
    /// # Errors
    /// [`TreeError`] names the path.
    pub fn directory(&mut self, path: &[u8]) -> Result<InodeId, TreeError> {
        let below = [path, b"/-"].concat();
        Ok(self
            .parent_of(&below)?
            .map_or(InodeId::ROOT, |(directory, _)| directory))
    }

    /// Gives an inode an extended attribute, in place of one with the same name.
    ///
    /// # Errors
    /// [`TreeError::Xattr`] names the entry by `path`.
    pub fn set_xattr(
        &mut self,
        path: &[u8],
        inode: InodeId,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), TreeError> {
        let mut xattrs = self.xattrs.get(self.inode(inode).xattrs).to_vec();
        xattrs.push(Xattr {
            name: name.into(),
            value: value.into(),
        });
        self.inodes[inode.index()].xattrs = self.xattrs.intern(path, xattrs)?;
        Ok(())
    }

    /// Points a regular file to where its data is now.
    pub fn set_location(&mut self, inode: InodeId, size: u64, location: Location) {
        self.inodes[inode.index()].body = Body::Regular { size, location };
    }

    /// Resolves late hard links, counts links, sorts directories and drops what was replaced.
    ///
    /// # Errors
    /// [`TreeError::LinkTarget`] and [`TreeError::LinkToDirectory`].
    pub fn finish(mut self) -> Result<FrozenTree, TreeError> {
        self.resolve_links()?;
        Ok(FrozenTree::new(
            self.inodes,
            self.entries,
            self.names,
            self.xattrs,
            self.sparse_maps,
            self.implied,
        ))
    }

    /// The directory that holds the last component of `path`, made when it is missing, and that component; `None` for
    /// the root itself.
    fn parent_of<'p>(&mut self, path: &'p [u8]) -> Result<Option<(InodeId, &'p [u8])>, TreeError> {
        if let Some(name) = self.name_below_last_parent(path) {
            return Ok(Some((self.last_parent.1, name)));
        }
        let parts = components(path).map_err(|source| TreeError::Name {
            path: path.to_vec(),
            source,
        })?;
        let Some((name, parents)) = parts.split_last() else {
            return Ok(None);
        };
        let mut directory = InodeId::ROOT;
        for (depth, part) in parents.iter().enumerate() {
            let found = self
                .find(directory, part)
                .map(|entry| self.entries[entry.index()].inode);
            directory = match found {
                None => self.imply_directory(directory, part)?,
                Some(inode) if self.inode(inode).body.file_type() == FileType::Directory => inode,
                Some(_) => {
                    let parent = parents[..=depth].join(&b'/');
                    return Err(TreeError::ParentNotDirectory {
                        path: path.to_vec(),
                        parent,
                    });
                }
            };
        }
        let mut prefix = parents.join(&b'/');
        prefix.push(b'/');
        self.last_parent = (prefix, directory);
        Ok(Some((directory, name)))
    }

    /// The name of `path` when everything before it is the directory used last, written the plain way.
    fn name_below_last_parent<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let (prefix, _) = &self.last_parent;
        let name = path
            .strip_prefix(prefix.as_slice())
            .filter(|_| prefix.len() > 1)?;
        path::check_name(name).ok().map(|()| name)
    }

    fn existing_parent(&self, path: &[u8]) -> Option<InodeId> {
        let parts = components(path).ok()?;
        let (_, parents) = parts.split_last()?;
        parents.iter().try_fold(InodeId::ROOT, |directory, part| {
            Some(self.entries[self.find(directory, part)?.index()].inode)
        })
    }

    fn imply_directory(&mut self, parent: InodeId, name: &[u8]) -> Result<InodeId, TreeError> {
        let model = *self.inode(parent);
        let inode = self.push_inode(TreeInode {
            body: Body::Directory,
            permissions: 0o755 | (model.permissions & 0o022),
            xattrs: XattrSetId::EMPTY,
            ..model
        })?;
        self.add_entry(parent, name, inode)?;
        self.implied.insert(inode);
        Ok(inode)
    }

    fn set_metadata(
        &mut self,
        path: &[u8],
        id: InodeId,
        metadata: Metadata,
    ) -> Result<(), TreeError> {
        let xattrs = self.xattrs.intern(path, metadata.xattrs)?;
        self.implied.remove(&id);
        let inode = &mut self.inodes[id.index()];
        inode.permissions = metadata.permissions;
        inode.uid = metadata.uid;
        inode.gid = metadata.gid;
        inode.mtime = metadata.mtime;
        inode.xattrs = xattrs;
        Ok(())
    }

    fn new_inode(
        &mut self,
        path: &[u8],
        metadata: Metadata,
        body: Body,
    ) -> Result<InodeId, TreeError> {
        let xattrs = self.xattrs.intern(path, metadata.xattrs)?;
        self.push_inode(TreeInode {
            body,
            mtime: metadata.mtime,
            uid: metadata.uid,
            gid: metadata.gid,
            nlink: 0,
            xattrs,
            permissions: metadata.permissions,
        })
    }

    fn push_inode(&mut self, inode: TreeInode) -> Result<InodeId, TreeError> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| TreeError::TooMany("inodes"))?;
        self.inodes.push(inode);
        Ok(InodeId(id))
    }

    fn add_entry(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<(), TreeError> {
        let id = u32::try_from(self.entries.len())
            .map(EntryId)
            .map_err(|_| TreeError::TooMany("entries"))?;
        let name_ref = self.names.push(name)?;
        self.entries.push(Entry {
            parent,
            inode,
            name: name_ref,
        });
        let hash = self.hash(parent, name);
        self.lookup
            .insert_unique(wide(hash), Slot { hash, entry: id }, |slot| wide(slot.hash));
        Ok(())
    }

    /// Puts another inode behind an entry. What was below a replaced directory is reachable no more.
    fn replace(&mut self, entry: EntryId, inode: InodeId) {
        self.entries[entry.index()].inode = inode;
        self.last_parent = (Vec::new(), InodeId::ROOT);
    }

    fn find(&self, parent: InodeId, name: &[u8]) -> Option<EntryId> {
        let hash = self.hash(parent, name);
        let found = self.lookup.find(wide(hash), |slot| {
            let entry = &self.entries[slot.entry.index()];
            slot.hash == hash && entry.parent == parent && self.names.get(entry.name) == name
        });
        found.map(|slot| slot.entry)
    }

    fn hash(&self, parent: InodeId, name: &[u8]) -> u32 {
        // The low half is as good as the whole.
        self.hasher.hash_one((parent.0, name)) as u32
    }
}

/// The hash as the table wants it: it looks at the highest bits and at the lowest.
const fn wide(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

#[cfg(test)]
mod tests;
