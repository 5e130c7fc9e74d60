//! The image that a reading command reads: its file, its extra devices, where it begins.

use crate::values;
use anyhow::Context;
use clap::Args;
use erofs_format::ByteOffset;
use erofs_mount::{MountOptions, Requirements, Sources};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions};
use std::path::{Path, PathBuf};

/// Where to read an image.
#[derive(Debug, Args)]
pub(crate) struct ImageInput {
    /// Image file or block device
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,

    /// An extra device of the image, in the order of its device table; may be repeated. By default the blobs of an index
    /// are looked for beside it
    #[arg(long = "device", value_name = "PATH")]
    devices: Vec<PathBuf>,

    /// Where the image begins in its file, in bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size, default_value = "0")]
    offset: u64,
}

impl ImageInput {
    /// Opens the image and finds its devices as a mount would.
    pub(crate) fn open(&self) -> anyhow::Result<Image> {
        let requirements = Requirements::read(&self.image, self.offset)?;
        let wanted = MountOptions {
            devices: self.devices.clone(),
            offset: self.offset,
            ..MountOptions::default()
        };
        let sources = Sources::find(&self.image, &wanted, &requirements)?;
        let mut devices: Vec<Box<dyn ByteSource>> = Vec::new();
        for device in &sources.devices {
            devices.push(Box::new(open(&device.path)?));
        }
        let options = ImageOptions {
            devices,
            offset: ByteOffset(self.offset),
            ..ImageOptions::default()
        };
        Image::open(open(&self.image)?, options).with_context(|| self.image.display().to_string())
    }
}

fn open(path: &Path) -> anyhow::Result<FileSource> {
    FileSource::open(path).with_context(|| path.display().to_string())
}
