//! The image that a reading command reads: its file, its extra devices, where it begins.

use crate::error::one_line;
use crate::values;
use anyhow::Context;
use clap::Args;
use erofs_format::ByteOffset;
use erofs_mount::{MountOptions, Requirements, Sources};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, OffsetSource};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where to read an image.
#[derive(Debug, Args)]
pub(crate) struct ImageInput {
    /// Image file or block device
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// An extra device of the image, in the order of its device table; may be repeated. By default the blobs of an index
    /// are looked for beside it
    #[arg(long = "device", value_name = "PATH")]
    pub(crate) devices: Vec<PathBuf>,

    /// Where the image begins in its file, in bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size, default_value = "0")]
    pub(crate) offset: u64,
}

impl ImageInput {
    /// The image and its extra devices, whatever is in them, see [`open_sources`].
    pub(crate) fn sources(&self) -> anyhow::Result<(Source, Vec<Source>)> {
        open_sources(&self.image, &self.devices, self.offset)
    }

    /// Opens the image and finds its devices as a mount would.
    pub(crate) fn open(&self) -> anyhow::Result<Image> {
        open_image(&self.image, &self.devices, self.offset)
    }

    /// Opens the image for commands that read no content of files: devices that are not found are done without, which is
    /// told on standard error.
    pub(crate) fn open_for_metadata(&self) -> anyhow::Result<Image> {
        let error = match self.open() {
            Err(error) if self.devices.is_empty() => error,
            result => return result,
        };
        let options = ImageOptions {
            offset: ByteOffset(self.offset),
            ..ImageOptions::default()
        };
        // What is wrong with the image itself is wrong again.
        let Ok(image) = Image::open(open(&self.image)?, options) else {
            return Err(error);
        };
        eprintln!(
            "erofs: {}; going on without the extra devices",
            one_line(&error)
        );
        Ok(image)
    }
}

/// Bytes that several threads read.
pub(crate) type Source = Arc<dyn ByteSource>;

/// The image that begins at byte `offset` of its file, and its extra devices: those given, or those found beside it. Devices
/// that are not found are done without, which is told on standard error.
pub(crate) fn open_sources(
    image: &Path,
    devices: &[PathBuf],
    offset: u64,
) -> anyhow::Result<(Source, Vec<Source>)> {
    let primary = OffsetSource::new(open(image)?, ByteOffset(offset));
    let mut paths = devices.to_vec();
    // Of an image that cannot be judged nothing can be found.
    if paths.is_empty()
        && let Ok(requirements) = Requirements::read(image, offset)
    {
        let wanted = MountOptions {
            offset,
            ..MountOptions::default()
        };
        match Sources::find(image, &wanted, &requirements) {
            Ok(found) => paths.extend(found.devices.into_iter().map(|device| device.path)),
            Err(error) => eprintln!("erofs: {error:#}; going on without the extra devices"),
        }
    }
    let devices = paths
        .iter()
        .map(|path| Ok(Arc::new(open(path)?) as Source))
        .collect::<anyhow::Result<_>>()?;
    Ok((Arc::new(primary), devices))
}

/// Opens an image that begins at byte `offset` of its file, with the extra devices given or those found beside it.
pub(crate) fn open_image(image: &Path, devices: &[PathBuf], offset: u64) -> anyhow::Result<Image> {
    let devices = device_paths(image, devices, offset)?;
    let options = ImageOptions {
        devices: open_all(&devices)?,
        offset: ByteOffset(offset),
        ..ImageOptions::default()
    };
    Image::open(open(image)?, options).with_context(|| image.display().to_string())
}

/// Opens an image with the extra devices that are found beside it, and tells where these are.
pub(crate) fn open_with_devices(image: &Path) -> anyhow::Result<(Image, Vec<PathBuf>)> {
    let devices = device_paths(image, &[], 0)?;
    let opened = open_image(image, &devices, 0)?;
    Ok((opened, devices))
}

/// The extra devices of an image: those given, or those found beside it.
fn device_paths(image: &Path, devices: &[PathBuf], offset: u64) -> anyhow::Result<Vec<PathBuf>> {
    let requirements = Requirements::read(image, offset)?;
    let wanted = MountOptions {
        devices: devices.to_vec(),
        offset,
        ..MountOptions::default()
    };
    let sources = Sources::find(image, &wanted, &requirements)?;
    Ok(sources
        .devices
        .into_iter()
        .map(|device| device.path)
        .collect())
}

fn open_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Box<dyn ByteSource>>> {
    paths
        .iter()
        .map(|path| Ok(Box::new(open(path)?) as Box<dyn ByteSource>))
        .collect()
}

fn open(path: &Path) -> anyhow::Result<FileSource> {
    FileSource::open(path).with_context(|| path.display().to_string())
}
