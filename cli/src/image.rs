//! The image that a reading command reads: its file, its extra devices, where it begins.

use crate::error::one_line;
use crate::{mounting, values};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use erofs_format::ByteOffset;
use erofs_format::superblock::{SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock, SuperblockError};
use erofs_mount::{MountOptions, Requirements, Sources};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, OffsetSource, OpenError};
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
        complain!(
            "erofs: {}; going on without the extra devices",
            one_line(&error)
        );
        Ok(image)
    }
}

impl ImageInput {
    /// Opens the image although `error` says that its superblock has another checksum than it should have, which is told on
    /// standard error. Any other error is given back.
    pub(crate) fn open_despite_checksum(&self, error: anyhow::Error) -> anyhow::Result<Image> {
        if !is_wrong_checksum(&error) {
            return Err(error);
        }
        let devices = device_paths(&self.image, &self.devices, self.offset).unwrap_or_default();
        let options = ImageOptions {
            devices: open_all(&devices)?,
            offset: ByteOffset(self.offset),
            checksum: false,
            ..ImageOptions::default()
        };
        let image = Image::open(open(&self.image)?, options)
            .with_context(|| self.image.display().to_string())?;
        complain!(
            "erofs: {}; going on, although Linux would not mount it",
            one_line(&error)
        );
        Ok(image)
    }
}

fn is_wrong_checksum(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(OpenError::Superblock(SuperblockError::Checksum { .. }))
        )
    })
}

/// What is left of an image that does not open.
pub(crate) struct Ruin {
    /// Its superblock, with what belongs to it but for prefixes of attributes.
    pub(crate) image: Image,
    /// Why it does not open.
    pub(crate) error: anyhow::Error,
}

impl ImageInput {
    /// Opens the image for its superblock alone after [`Self::open_for_metadata`] gave `error`, which is given back when that
    /// fails too.
    pub(crate) fn open_superblock(&self, error: anyhow::Error) -> anyhow::Result<Ruin> {
        let options = ImageOptions {
            offset: ByteOffset(self.offset),
            checksum: false,
            superblock_only: true,
            ..ImageOptions::default()
        };
        match Image::open(open(&self.image)?, options) {
            Ok(image) => Ok(Ruin { image, error }),
            Err(_) => Err(error),
        }
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
            Err(error) => complain!("erofs: {error:#}; going on without the extra devices"),
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
    Image::open(open(image)?, options).with_context(|| match cut_off(image, offset) {
        Some(cut_off) => format!("{}: {cut_off}", image.display()),
        None => image.display().to_string(),
    })
}

/// Whether the file ends before the image in it does, which explains most that may be wrong with it.
pub(crate) fn cut_off(image: &Path, offset: u64) -> Option<String> {
    let file = OffsetSource::new(FileSource::open(image).ok()?, ByteOffset(offset));
    let mut superblock = [0; SUPERBLOCK_SIZE];
    file.read_at(ByteOffset(SUPERBLOCK_OFFSET), &mut superblock)
        .ok()?;
    let superblock = Superblock::decode(&superblock).ok()?;
    let (bits, size) = (superblock.block_bits, file.size());
    (bits.blocks_for(size) < superblock.blocks).then(|| {
        let whole = superblock.blocks.saturating_mul(bits.bytes());
        format!(
            "the image has {whole} bytes, of which {size} are here: it was cut off; copy it again"
        )
    })
}

/// Opens an image with the extra devices given or those that are found beside it, and tells where these are.
pub(crate) fn open_with_devices(
    image: &Path,
    devices: &[PathBuf],
) -> anyhow::Result<(Image, Vec<PathBuf>)> {
    let devices = device_paths(image, devices, 0)?;
    let opened = open_image(image, &devices, 0)?;
    Ok((opened, devices))
}

/// What the image at byte `offset` of its file needs; an error says what to do about it.
pub(crate) fn requirements(image: &Path, offset: u64) -> anyhow::Result<Requirements> {
    Requirements::read(image, offset).map_err(|error| anyhow!(mounting::explained(&error.into())))
}

/// The extra devices of an image: those given, or those found beside it.
fn device_paths(image: &Path, devices: &[PathBuf], offset: u64) -> anyhow::Result<Vec<PathBuf>> {
    let requirements = requirements(image, offset)?;
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
    if path.is_dir() {
        bail!("{}: is a directory, not an image", path.display());
    }
    FileSource::open(path).with_context(|| path.display().to_string())
}
