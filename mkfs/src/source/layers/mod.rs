//! Layers: images and tars that lie over each other, read as overlayfs shows them.

mod content;
mod image;
mod overlay;

pub use content::{FileSource, LayerContent, LayerFile, LayerReader, OpenLayer};
pub use overlay::LayerRules;

use super::tar::{self, Archive, TarError};
use super::{Rules, Whiteouts, default_root};
use crate::tree::{FrozenTree, InodeId, Metadata, Tree, TreeError, display};
use erofs_format::inode::Timestamp;
use erofs_reader::Image;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A layer as it was given.
#[derive(Debug)]
pub struct Layer {
    /// Its path, for messages and tags.
    pub path: PathBuf,
    /// What it is.
    pub source: LayerSource,
}

impl Layer {
    /// All files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let devices = match &self.source {
            LayerSource::Image { devices, .. } => devices.as_slice(),
            LayerSource::Tar(_) => &[],
        };
        std::iter::once(self.path.as_path()).chain(devices.iter().map(PathBuf::as_path))
    }
}

/// What a layer is.
#[derive(Debug)]
pub enum LayerSource {
    /// An image, open with its devices.
    Image {
        /// The image.
        image: Box<Image>,
        /// Files of its extra devices, by slot.
        devices: Vec<PathBuf>,
    },
    /// A tar of a container image: its `.wh.` names are whiteouts.
    Tar(Archive),
}

/// Why layers cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A tar.
    #[error("{}: {source}", layer.display())]
    Tar {
        /// The layer.
        layer: PathBuf,
        /// What is wrong with it.
        source: TarError,
    },
    /// An image that cannot be read.
    #[error("{}: {}: {source}", layer.display(), display(path))]
    Image {
        /// The layer.
        layer: PathBuf,
        /// The entry, without a leading slash.
        path: Vec<u8>,
        /// What is wrong with it.
        source: erofs_reader::Error,
    },
    /// More entries than any image of this size has.
    #[error("{}: it lists more entries than it has bytes", .0.display())]
    TooManyEntries(PathBuf),
    /// An entry that no image can hold.
    #[error("{}: {source}", layer.display())]
    Tree {
        /// The layer.
        layer: PathBuf,
        /// The entry and what is wrong with it.
        source: TreeError,
    },
    /// Overlayfs would look for it under another name, or for its data elsewhere.
    #[error(
        "{}: {}: attribute {} points out of this layer, which merging does not follow",
        layer.display(), display(path), display(attribute)
    )]
    Redirected {
        /// The layer.
        layer: PathBuf,
        /// The entry.
        path: Vec<u8>,
        /// The attribute.
        attribute: Vec<u8>,
    },
    /// More layers or files than have numbers.
    #[error("more than 2^32 files in all layers")]
    TooManyFiles,
}

/// All layers as one tree, and where its files are.
#[derive(Debug)]
pub struct Merged {
    /// The tree; files are at [`crate::tree::Location::Layer`].
    pub tree: FrozenTree,
    /// Layers and files.
    pub content: LayerContent,
}

/// Root directory of an image, but for what overlayfs' attributes say of layers below it.
///
/// # Errors
/// [`LayerError::Image`].
pub fn root(image: &Image, path: &Path) -> Result<Metadata, LayerError> {
    let root = image.root().and_then(|root| image::metadata(image, &root));
    let root = root.map_err(|source| LayerError::Image {
        layer: path.to_path_buf(),
        path: Vec::new(),
        source,
    })?;
    Ok(overlay::inherited(root))
}

/// Lays the tree of a source, whose files are stored, over an image, whose files stay in their layer. With `strip` what the
/// source has of overlayfs is left out.
///
/// # Errors
/// [`LayerError`] names the entry.
pub fn lay_over_image(
    path: &Path,
    image: Arc<Image>,
    upper: &FrozenTree,
    strip: bool,
) -> Result<Merged, LayerError> {
    // Those of the source were applied when it was read, and none is about the image.
    let rules = LayerRules {
        rules: &Rules::default(),
        strip,
    };
    let refused = |source| LayerError::Tree {
        layer: path.to_path_buf(),
        source,
    };
    let mut content = LayerContent::default();
    let root = default_root(Timestamp::default());
    let mut tree = Tree::new(root).map_err(refused)?;
    // What it says of layers below it is its own business.
    image::scan(&image, path, 0, &mut tree, &mut content.files)?;
    let source = Path::new("the source");
    tree = overlay::lay_over(tree, upper, &rules, 1, source, &mut content.files)?;
    let devices = Vec::new();
    let layer = OpenLayer::Image { image, devices };
    content.layers.push((path.to_path_buf(), layer));
    let tree = tree.finish().map_err(refused)?;
    Ok(Merged { tree, content })
}

/// Merges `layers`, the lowest first. What an upper layer deletes or replaces is in the tree no more. Tars that cannot be
/// read in place are unpacked into nameless files in `folder`.
///
/// # Errors
/// [`LayerError`] names layer and entry.
pub fn merge(
    layers: Vec<Layer>,
    root: Tree,
    rules: &LayerRules<'_>,
    folder: &Path,
) -> Result<Merged, LayerError> {
    let mut tree = root;
    // As the layers have it: rules change it once, however many layers say nothing of it.
    let mut root_metadata = default_root(Timestamp::default());
    let mut content = LayerContent::default();
    for Layer { path, source } in layers {
        let failed = |source| LayerError::Tree {
            layer: path.clone(),
            source,
        };
        let mut own = Tree::new(root_metadata).map_err(failed)?;
        let number = content.next_layer()?;
        let opened = match source {
            LayerSource::Image { image, devices } => {
                image::scan(&image, &path, number, &mut own, &mut content.files)?;
                content::OpenLayer::Image {
                    image: Arc::from(image),
                    devices,
                }
            }
            LayerSource::Tar(archive) => {
                let failed = |source| LayerError::Tar {
                    layer: path.clone(),
                    source,
                };
                let archive = archive.in_place(folder).map_err(failed)?;
                let file = archive.file().cloned();
                // Rules are for the merged tree: here they would drop the markers.
                let none = Rules::default();
                let (whiteouts, data) = (Whiteouts::Overlay, tar::Data::InPlace);
                tar::scan(archive, &none, whiteouts, &mut own, data).map_err(failed)?;
                content::OpenLayer::Tar(file)
            }
        };
        let own = own.finish().map_err(failed)?;
        root_metadata = overlay::inherited(own.metadata(InodeId::ROOT));
        tree = overlay::lay_over(tree, &own, rules, number, &path, &mut content.files)?;
        content.layers.push((path, opened));
    }
    let tree = tree.finish().map_err(|source| LayerError::Tree {
        layer: PathBuf::new(),
        source,
    })?;
    Ok(Merged { tree, content })
}
