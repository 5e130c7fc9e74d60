//! Many layers become one: an image with their metadata, whose data stays in their files.

use crate::error::Error;
use crate::mounts::Lower;
use crate::store::RootDirectory;
use erofs_mkfs::index::{IndexOptions, IndexSource, Placement, index};
use erofs_mkfs::options::BuildError;
use erofs_mkfs::source::layers::{Layer, LayerError, LayerSource};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Whose the root directory of an image is.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn root_directory(lower: &Lower) -> Result<RootDirectory, Error> {
    let image = open(lower)?;
    let root = image.root();
    let root =
        root.map_err(|error| Error::file("reading", &lower.image)(io::Error::other(error)))?;
    Ok(RootDirectory {
        owner: root.uid,
        group: root.gid,
        mode: u32::from(root.mode) & 0o7777,
    })
}

/// Opens an image with its devices.
///
/// # Errors
/// [`Error::File`].
fn open(lower: &Lower) -> Result<Image, Error> {
    let source = |path: &Path| FileSource::open(path).map_err(Error::file("opening", path));
    let mut devices: Vec<Box<dyn ByteSource>> = Vec::new();
    for device in &lower.devices {
        devices.push(Box::new(source(device)?));
    }
    let options = ImageOptions {
        devices,
        ..ImageOptions::default()
    };
    Image::open(source(&lower.image)?, options)
        .map_err(|error| Error::file("opening", &lower.image)(io::Error::other(error)))
}

/// The devices of an image that was merged of `layers`, the topmost first: all their files, by slot.
pub(crate) fn devices(layers: &[Lower]) -> Vec<PathBuf> {
    let files = layers
        .iter()
        .rev()
        .flat_map(|lower| std::iter::once(&lower.image).chain(&lower.devices));
    files.cloned().collect()
}

/// Whether it is for what the layers are that there is no image over them: blocks of several sizes, compressed data, names or data
/// that overlayfs finds elsewhere. Then each is mounted.
pub(crate) fn is_impossible(error: &Error) -> bool {
    let Error::Convert { source, .. } = error else {
        return false;
    };
    matches!(
        &**source,
        BuildError::Index(_)
            | BuildError::Layer(LayerError::Redirected { .. } | LayerError::TooManyFiles)
    )
}

/// Writes the metadata of `layers`, the topmost first, at `output`.
///
/// # Errors
/// [`Error::Convert`], also of layers that cannot be merged; [`Error::File`].
pub(crate) fn merge(layers: &[Lower], output: &Path) -> Result<(), Error> {
    let opened = layers.iter().rev().map(|lower| {
        Ok(Layer {
            path: lower.image.clone(),
            source: LayerSource::Image {
                image: Box::new(open(lower)?),
                devices: lower.devices.clone(),
            },
        })
    });
    let source = IndexSource::Layers {
        layers: opened.collect::<Result<_, Error>>()?,
        strip: true,
    };
    let mut options = IndexOptions::default();
    // It is published, and synced, under another name.
    options.image.passing_name = true;
    let failed = |source: BuildError| Error::Convert {
        digest: format!("merging {} layers", layers.len()),
        source: Box::new(source),
    };
    index(source, output, &options, Placement::Apart)
        .map(drop)
        .map_err(failed)
}
