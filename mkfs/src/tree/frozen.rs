//! A finished tree: directories sorted, links counted, replaced entries gone.

use super::names::NameArena;
use super::{
    Body, DataRange, Entry, EntryId, InodeId, Location, Metadata, NameRef, SparseId, TreeError,
    TreeInode, Xattr, XattrSetId, XattrSets,
};
use erofs_format::inode::{FileType, Timestamp};
use std::collections::HashSet;

/// A finished tree.
#[derive(Debug)]
pub struct FrozenTree {
    inodes: Vec<TreeInode>,
    entries: Vec<Entry>,
    names: NameArena,
    /// Extended attributes.
    pub xattrs: XattrSets,
    sparse_maps: Vec<Box<[DataRange]>>,
    /// Directories that the source did not mention.
    implied: HashSet<InodeId>,
    /// Entries sorted by parent, then by name.
    children: Vec<EntryId>,
    /// For each inode the start of its entries in `children`; one more element than inodes.
    first_child: Vec<u32>,
    /// For each inode the entry by which it is reached first.
    first_entry: Vec<Option<EntryId>>,
    /// The inode that holds fragments of files, and that no entry reaches.
    packed: Option<InodeId>,
    /// The inode that holds other inodes, and that no entry reaches.
    metabox: Option<InodeId>,
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child<'t> {
    /// Name.
    pub name: &'t [u8],
    /// Inode.
    pub inode: InodeId,
}

impl FrozenTree {
    pub(super) fn new(
        mut inodes: Vec<TreeInode>,
        entries: Vec<Entry>,
        names: NameArena,
        xattrs: XattrSets,
        sparse_maps: Vec<Box<[DataRange]>>,
        implied: HashSet<InodeId>,
    ) -> Self {
        // A removed entry is its own parent, as the root is: neither is anybody's child.
        let is_child = |entry: &Entry| entry.parent != entry.inode;
        let mut first_child = vec![0u32; inodes.len() + 1];
        for entry in entries.iter().filter(|entry| is_child(entry)) {
            first_child[entry.parent.index() + 1] += 1;
        }
        for index in 1..first_child.len() {
            first_child[index] += first_child[index - 1];
        }
        let mut next = first_child.clone();
        let mut children =
            vec![EntryId::ROOT; first_child.last().map_or(0, |count| *count as usize)];
        for (id, entry) in (0u32..)
            .map(EntryId)
            .zip(&entries)
            .filter(|(_, entry)| is_child(entry))
        {
            let slot = &mut next[entry.parent.index()];
            children[*slot as usize] = id;
            *slot += 1;
        }
        let name_of = |id: &EntryId| names.get(entries[id.index()].name);
        for range in first_child.windows(2) {
            let directory = &mut children[range[0] as usize..range[1] as usize];
            if !directory.is_sorted_by_key(name_of) {
                directory.sort_unstable_by(|a, b| name_of(a).cmp(name_of(b)));
            }
        }
        for inode in &mut inodes {
            inode.nlink = 0;
        }
        let mut tree = Self {
            first_entry: vec![None; inodes.len()],
            inodes,
            entries,
            names,
            xattrs,
            sparse_maps,
            implied,
            children,
            first_child,
            packed: None,
            metabox: None,
        };
        tree.count_links();
        tree
    }

    /// Counts links of everything that can be reached from the root.
    fn count_links(&mut self) {
        self.first_entry[InodeId::ROOT.index()] = Some(EntryId::ROOT);
        self.inodes[InodeId::ROOT.index()].nlink = 2;
        let mut directories = vec![InodeId::ROOT];
        while let Some(directory) = directories.pop() {
            let mut subdirectories = 0;
            for slot in self.child_range(directory) {
                let id = self.children[slot];
                let inode = self.entries[id.index()].inode;
                self.first_entry[inode.index()].get_or_insert(id);
                if self.inode(inode).body.file_type() == FileType::Directory {
                    subdirectories += 1;
                    self.inodes[inode.index()].nlink = 2;
                    directories.push(inode);
                } else {
                    self.inodes[inode.index()].nlink += 1;
                }
            }
            self.inodes[directory.index()].nlink += subdirectories;
        }
    }

    fn child_range(&self, directory: InodeId) -> std::ops::Range<usize> {
        self.first_child[directory.index()] as usize
            ..self.first_child[directory.index() + 1] as usize
    }

    /// The inode.
    pub fn inode(&self, id: InodeId) -> &TreeInode {
        &self.inodes[id.index()]
    }

    /// Number of elements that a table with one element for each inode needs.
    pub fn inode_table_len(&self) -> usize {
        self.inodes.len()
    }

    /// Number of inodes and of entries (the root not counted) that can be reached.
    pub fn counts(&self) -> (u64, u64) {
        let mut entries = 0;
        let mut inodes = 0;
        for id in self.breadth_first() {
            inodes += 1;
            entries += self.child_range(id).len() as u64;
        }
        (inodes, entries)
    }

    /// Entries of a directory in byte order of their names.
    pub fn children(&self, directory: InodeId) -> impl ExactSizeIterator<Item = Child<'_>> {
        self.child_range(directory).map(|slot| {
            let entry = &self.entries[self.children[slot].index()];
            Child {
                name: self.names.get(entry.name),
                inode: entry.inode,
            }
        })
    }

    /// The directory that holds a directory; the root holds itself.
    pub fn parent(&self, directory: InodeId) -> InodeId {
        self.first_entry[directory.index()]
            .map_or(InodeId::ROOT, |entry| self.entries[entry.index()].parent)
    }

    /// Every inode once, the root first, parents before children, breadth first.
    pub fn breadth_first(&self) -> impl Iterator<Item = InodeId> {
        let mut seen = vec![false; self.inodes.len()];
        seen[InodeId::ROOT.index()] = true;
        let mut queue = std::collections::VecDeque::from([InodeId::ROOT]);
        std::iter::from_fn(move || {
            let id = queue.pop_front()?;
            for slot in self.child_range(id) {
                let child = self.entries[self.children[slot].index()].inode;
                if !std::mem::replace(&mut seen[child.index()], true) {
                    queue.push_back(child);
                }
            }
            Some(id)
        })
    }

    /// Every inode once, depth first: the files of a directory follow each other.
    pub fn depth_first(&self) -> impl Iterator<Item = InodeId> {
        let mut seen = vec![false; self.inodes.len()];
        let mut stack = vec![InodeId::ROOT];
        std::iter::from_fn(move || {
            loop {
                let id = stack.pop()?;
                if std::mem::replace(&mut seen[id.index()], true) {
                    continue;
                }
                stack.extend(
                    self.child_range(id)
                        .rev()
                        .map(|slot| self.entries[self.children[slot].index()].inode),
                );
                return Some(id);
            }
        })
    }

    /// Every inode that the image has, those that can be reached in the order of [`Self::breadth_first`].
    pub fn all_inodes(&self) -> impl Iterator<Item = InodeId> {
        self.breadth_first().chain(self.packed).chain(self.metabox)
    }

    /// The packed inode.
    pub const fn packed(&self) -> Option<InodeId> {
        self.packed
    }

    /// The metabox inode.
    pub const fn metabox(&self) -> Option<InodeId> {
        self.metabox
    }

    /// Adds the packed inode: a regular file of root's without a name.
    ///
    /// # Errors
    /// [`TreeError::TooLarge`] when there are as many inodes as can be numbered.
    pub fn add_packed(
        &mut self,
        size: u64,
        location: Location,
        mtime: Timestamp,
    ) -> Result<(), TreeError> {
        self.packed = Some(self.add_nameless(Body::Regular { size, location }, mtime)?);
        Ok(())
    }

    /// Adds the metabox inode, another such file, of which the size is known when all inodes have their places. A tree of its root
    /// alone, which stays outside, gets none.
    ///
    /// # Errors
    /// [`TreeError::TooLarge`] when there are as many inodes as can be numbered.
    pub fn add_metabox(&mut self, mtime: Timestamp) -> Result<(), TreeError> {
        if self.breadth_first().nth(1).is_none() {
            return Ok(());
        }
        let body = Body::Regular {
            size: 0,
            location: Location::Metabox,
        };
        self.metabox = Some(self.add_nameless(body, mtime)?);
        Ok(())
    }

    fn add_nameless(&mut self, body: Body, mtime: Timestamp) -> Result<InodeId, TreeError> {
        let index = u32::try_from(self.inodes.len()).map_err(|_| TreeError::TooMany("inodes"))?;
        self.inodes.push(TreeInode {
            body,
            mtime,
            uid: 0,
            gid: 0,
            nlink: 1,
            xattrs: XattrSetId::EMPTY,
            permissions: 0o644,
        });
        self.first_entry.push(None);
        self.first_child.extend(self.first_child.last().copied());
        Ok(InodeId(index))
    }

    /// Path of an inode from the root, by the entry that reaches it first; empty for the root.
    pub fn path(&self, inode: InodeId) -> Vec<u8> {
        if Some(inode) == self.packed {
            return b"the packed inode".to_vec();
        }
        if Some(inode) == self.metabox {
            return b"the metabox inode".to_vec();
        }
        let mut names = Vec::new();
        let mut at = inode;
        while at != InodeId::ROOT {
            let Some(entry) = self.first_entry[at.index()].map(|id| &self.entries[id.index()])
            else {
                break;
            };
            names.push(self.names.get(entry.name));
            at = entry.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Owner, permissions, time and attributes of an inode.
    pub fn metadata(&self, id: InodeId) -> Metadata {
        self.inode(id).metadata(&self.xattrs)
    }

    /// Whether the source did not mention this directory, only what is in it.
    pub fn is_implied(&self, id: InodeId) -> bool {
        self.implied.contains(&id)
    }

    /// A symlink's target.
    pub fn target(&self, target: NameRef) -> &[u8] {
        self.names.get(target)
    }

    /// The data ranges of a sparse file.
    pub fn sparse_map(&self, id: SparseId) -> &[DataRange] {
        &self.sparse_maps[id.0.get() as usize - 1]
    }

    /// Gives an inode another modification time.
    pub fn set_time(&mut self, inode: InodeId, mtime: Timestamp) {
        self.inodes[inode.index()].mtime = mtime;
    }

    /// Gives an inode other attributes.
    ///
    /// # Errors
    /// [`TreeError::Xattr`] for what EROFS cannot hold.
    pub fn set_xattrs(&mut self, inode: InodeId, xattrs: Vec<Xattr>) -> Result<(), TreeError> {
        let set = self.xattrs.intern(&self.path(inode), xattrs)?;
        self.inodes[inode.index()].xattrs = set;
        Ok(())
    }

    /// Points a regular file to where its data is now.
    pub fn set_location(&mut self, inode: InodeId, size: u64, location: Location) {
        self.inodes[inode.index()].body = Body::Regular { size, location };
    }
}
