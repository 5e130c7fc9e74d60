//! One layer over what lies below it, with the meaning that overlayfs gives to whiteouts and attributes
//! (kernel `Documentation/filesystems/overlayfs.rst`).

use super::LayerError;
use super::content::{FileSource, LayerFile, StoredRanges};
use crate::source::Rules;
use crate::tree::{Body, FrozenTree, InodeId, Location, Metadata, Tree, TreeError, Xattr};
use erofs_format::device::DeviceNumber;
use erofs_format::inode::FileType;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Namespaces of overlayfs' attributes: of ordinary mounts and of those with `userxattr`.
const NAMESPACES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// How layers are merged.
#[derive(Debug, Clone, Copy)]
pub struct LayerRules<'r> {
    /// Changes to every entry.
    pub rules: &'r Rules,
    /// Leave out whiteouts and overlayfs' attributes: nothing will lie below the image.
    pub strip: bool,
}

/// What a layer says of a directory for those above that say nothing of it: all but what is about the layers below.
pub(super) fn inherited(mut metadata: Metadata) -> Metadata {
    metadata
        .xattrs
        .retain(|xattr| overlay_name(xattr).is_none());
    metadata
}

/// Puts the tree of a layer over `lower` and returns both as one.
pub(super) fn lay_over(
    lower: Tree,
    upper: &FrozenTree,
    rules: &LayerRules<'_>,
    number: u32,
    layer: &Path,
    files: &mut Vec<LayerFile>,
) -> Result<Tree, LayerError> {
    let mut overlay = Overlay {
        tree: lower,
        upper,
        rules,
        number,
        layer,
        files,
        linked: HashMap::new(),
    };
    overlay.root()?;
    Ok(overlay.tree)
}

struct Overlay<'a> {
    tree: Tree,
    upper: &'a FrozenTree,
    rules: &'a LayerRules<'a>,
    number: u32,
    layer: &'a Path,
    files: &'a mut Vec<LayerFile>,
    /// For files with several names, what they are in the merged tree.
    linked: HashMap<InodeId, InodeId>,
}

/// A directory whose entries are still to come.
struct Directory {
    upper: InodeId,
    merged: InodeId,
    path: Vec<u8>,
    /// Its whiteouts may be files with an attribute.
    marked_whiteouts: bool,
}

impl Overlay<'_> {
    fn root(&mut self) -> Result<(), LayerError> {
        let markers = self.markers(b"", InodeId::ROOT)?;
        let mut metadata = self.upper.metadata(InodeId::ROOT);
        self.keep_hiding(InodeId::ROOT, &mut metadata);
        self.clean(&mut metadata);
        let rules = self.rules.rules;
        rules.apply(b"", FileType::Directory, &mut metadata);
        let layer = self.layer;
        let refused = |source| refused(layer, source);
        if markers.is_opaque {
            self.tree = Tree::new(metadata).map_err(refused)?;
            if self.rules.rules.separate_links {
                self.tree.separate_links();
            }
        } else {
            let insert = self.tree.insert(b"", metadata, Body::Directory);
            insert.map_err(refused)?;
        }
        let mut left = vec![Directory {
            upper: InodeId::ROOT,
            merged: InodeId::ROOT,
            path: Vec::new(),
            marked_whiteouts: markers.marked_whiteouts,
        }];
        while let Some(directory) = left.pop() {
            for child in self.upper.children(directory.upper) {
                let path = match &*directory.path {
                    [] => child.name.to_vec(),
                    parent => [parent, b"/", child.name].concat(),
                };
                if self.is_excluded(&path) {
                    continue;
                }
                left.extend(self.entry(&directory, child.name, path, child.inode)?);
            }
        }
        Ok(())
    }

    /// Lays one entry over what has its name. Returns it when it is a directory.
    fn entry(
        &mut self,
        directory: &Directory,
        name: &[u8],
        path: Vec<u8>,
        id: InodeId,
    ) -> Result<Option<Directory>, LayerError> {
        let layer = self.layer;
        if self.is_whiteout(id, directory.marked_whiteouts) {
            self.tree.remove_child(directory.merged, name);
            if self.rules.strip {
                return Ok(None);
            }
        }
        if let Some(known) = self.linked.get(&id) {
            let link = self.tree.link_child(directory.merged, name, *known);
            return link.map(|()| None).map_err(|source| refused(layer, source));
        }
        let markers = self.markers(&path, id)?;
        let inode = *self.upper.inode(id);
        let mut metadata = self.upper.metadata(id);
        let below = self.tree.child(directory.merged, name);
        // Nobody said anything of such a directory: what is below counts.
        let inherits = below.filter(|below| {
            self.upper.is_implied(id)
                && self.tree.inode(*below).body.file_type() == FileType::Directory
        });
        if let Some(below) = inherits {
            let overlay = std::mem::take(&mut metadata.xattrs);
            metadata = self.tree.metadata(below);
            metadata.xattrs.extend(overlay);
        }
        if let Some(below) = below
            && inode.body.file_type() == FileType::Directory
        {
            self.keep_hiding(below, &mut metadata);
        }
        self.clean(&mut metadata);
        if inherits.is_none() {
            let rules = self.rules.rules;
            rules.apply(&path, inode.body.file_type(), &mut metadata);
        }
        if markers.is_opaque {
            self.tree.remove_child(directory.merged, name);
        }
        let body = self.body(inode.body)?;
        let merged = self
            .tree
            .insert_child(directory.merged, name, &path, metadata, body)
            .map_err(|source| refused(layer, source))?;
        if inode.body.file_type() != FileType::Directory {
            if inode.nlink > 1 {
                self.linked.insert(id, merged);
            }
            return Ok(None);
        }
        Ok(Some(Directory {
            upper: id,
            merged,
            path,
            marked_whiteouts: markers.marked_whiteouts,
        }))
    }

    fn body(&mut self, body: Body) -> Result<Body, LayerError> {
        Ok(match body {
            Body::Symlink(target) => {
                let target = self.tree.intern(self.upper.target(target));
                Body::Symlink(target.map_err(|source| refused(self.layer, source))?)
            }
            Body::Regular {
                size,
                location: Location::Archive { offset, sparse },
            } => {
                let ranges =
                    sparse.map(|id| Arc::new(StoredRanges::new(self.upper.sparse_map(id))));
                let file = LayerFile {
                    layer: self.number,
                    source: FileSource::Archive { offset, ranges },
                };
                Body::Regular {
                    size,
                    location: file.push(self.files)?,
                }
            }
            body => body,
        })
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        let rules = self.rules.rules;
        rules.excludes_any()
            && rules.excludes(&path.split(|byte| *byte == b'/').collect::<Vec<_>>())
    }

    fn is_whiteout(&self, id: InodeId, marked_whiteouts: bool) -> bool {
        let inode = self.upper.inode(id);
        match inode.body {
            Body::CharDevice(number) => number == DeviceNumber::default(),
            Body::Regular { size: 0, .. } if marked_whiteouts => self
                .upper
                .xattrs
                .get(inode.xattrs)
                .iter()
                .any(|xattr| overlay_name(xattr) == Some(b"whiteout")),
            _ => false,
        }
    }

    /// What the attributes of an entry mean.
    fn markers(&self, path: &[u8], id: InodeId) -> Result<Markers, LayerError> {
        let inode = self.upper.inode(id);
        let is_directory = inode.body.file_type() == FileType::Directory;
        let mut markers = Markers::default();
        for xattr in self.upper.xattrs.get(inode.xattrs) {
            match overlay_name(xattr) {
                Some(b"opaque") if is_directory => match &*xattr.value {
                    b"y" => markers.is_opaque = true,
                    b"x" => markers.marked_whiteouts = true,
                    _ => {}
                },
                // A file whose data lies elsewhere keeps that while its attributes stay.
                Some(b"redirect") if is_directory || self.rules.strip => {
                    return Err(self.redirected(path, xattr));
                }
                Some(b"metacopy") if self.rules.strip => return Err(self.redirected(path, xattr)),
                _ => {}
            }
        }
        Ok(markers)
    }

    fn redirected(&self, path: &[u8], xattr: &Xattr) -> LayerError {
        LayerError::Redirected {
            layer: self.layer.to_path_buf(),
            path: path.to_vec(),
            attribute: xattr.name.to_vec(),
        }
    }

    /// What hides the layers below all of these still does when a directory comes over it: an opaque directory, and whatever
    /// is no directory.
    fn keep_hiding(&self, below: InodeId, metadata: &mut Metadata) {
        let inode = self.tree.inode(below);
        let is_opaque = |xattr: &Xattr| overlay_name(xattr) == Some(b"opaque");
        if metadata.xattrs.iter().any(is_opaque) {
            return;
        }
        if inode.body.file_type() == FileType::Directory {
            let own = self.tree.metadata(below).xattrs;
            metadata.xattrs.extend(own.into_iter().find(is_opaque));
        } else {
            metadata.xattrs.push(Xattr {
                name: b"trusted.overlay.opaque".as_slice().into(),
                value: b"y".as_slice().into(),
            });
        }
    }

    /// Leaves out overlayfs' own attributes, if asked to.
    fn clean(&self, metadata: &mut Metadata) {
        if self.rules.strip {
            metadata
                .xattrs
                .retain(|xattr| overlay_name(xattr).is_none());
        }
    }
}

/// What overlayfs' attributes say of a directory.
#[derive(Debug, Default, Clone, Copy)]
struct Markers {
    /// It hides what is below.
    is_opaque: bool,
    /// Files with an attribute in it are whiteouts.
    marked_whiteouts: bool,
}

/// The name of an attribute within overlayfs' namespaces. Those of a nested overlayfs ("overlay.overlay.") are not its own.
fn overlay_name(xattr: &Xattr) -> Option<&[u8]> {
    let name = NAMESPACES
        .iter()
        .find_map(|namespace| xattr.name.strip_prefix(*namespace))?;
    (!name.starts_with(b"overlay.")).then_some(name)
}

fn refused(layer: &Path, source: TreeError) -> LayerError {
    LayerError::Tree {
        layer: layer.to_path_buf(),
        source,
    }
}
