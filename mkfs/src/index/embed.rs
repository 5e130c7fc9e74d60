//! The files of an index in the index's own file.
//!
//! Whoever mounts an image of several devices and names none gets all of them from the image's own file, each where its slot
//! says (format reference §10; `erofs_scan_devices` in fs/erofs/super.c since Linux 6.4):
//! ```text
//! index, padded to a block │ device 1, padded │ device 2, padded │ …
//! ```

use super::{BuildError, IndexError};
use crate::data::output::Output;
use crate::image::ImageError;
use crate::source::layers::{LayerContent, OpenLayer};
use erofs_format::BlockBits;
use erofs_format::device::{DeviceSlot, TAG_SIZE};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are copied between two looks at progress.
const PIECE: u64 = 64 << 20;

/// A file that becomes a device.
pub(super) struct Blob {
    /// Its path, for messages.
    pub(super) path: PathBuf,
    /// The file, from its first byte on.
    pub(super) file: Arc<File>,
}

impl Blob {
    /// The files of all layers, in the order of the device table: each layer, then its own devices.
    pub(super) fn of_layers(content: &LayerContent) -> Result<Vec<Self>, IndexError> {
        let mut blobs = Vec::new();
        for (path, layer) in &content.layers {
            match layer {
                OpenLayer::Image { devices, .. } => {
                    blobs.push(Self::open(path)?);
                    for device in devices {
                        blobs.push(Self::open(device)?);
                    }
                }
                OpenLayer::Tar(Some(file)) => blobs.push(Self {
                    path: path.clone(),
                    file: Arc::clone(file),
                }),
                OpenLayer::Tar(None) => blobs.push(Self::open(path)?),
            }
        }
        Ok(blobs)
    }

    fn open(path: &Path) -> Result<Self, IndexError> {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
        })
    }

    fn failed(&self, source: io::Error) -> BuildError {
        unreadable(&self.path, source).into()
    }
}

fn unreadable(path: &Path, source: io::Error) -> IndexError {
    IndexError::Read {
        path: path.as_os_str().as_bytes().to_vec(),
        source,
    }
}

/// Numbers the tags: they name nothing outside then, and the file does not depend on names.
pub(super) fn name(devices: &mut [DeviceSlot]) {
    for (number, device) in (1u32..).zip(devices) {
        device.tag = [0; TAG_SIZE];
        for (to, from) in device
            .tag
            .iter_mut()
            .zip(format!("embedded-{number}").bytes())
        {
            *to = from;
        }
    }
}

/// Copies each blob to the place that its slot says, and pads it to a block.
pub(super) fn write(
    blobs: &[Blob],
    devices: &[DeviceSlot],
    block_bits: BlockBits,
    out: &Output,
    progress: &AtomicU64,
) -> Result<(), BuildError> {
    for (blob, device) in blobs.iter().zip(devices) {
        let start = device.unified_start.0 << block_bits.bits();
        let room = device.blocks << block_bits.bits();
        let size = (&*blob.file)
            .seek(SeekFrom::End(0))
            .map_err(|source| blob.failed(source))?;
        let length = size.min(room);
        (&*blob.file)
            .seek(SeekFrom::Start(0))
            .map_err(|source| blob.failed(source))?;
        let mut copied = 0;
        while copied < length {
            let mut piece = (&*blob.file).take(PIECE.min(length - copied));
            let count = out
                .copy_at(start + copied, &mut piece)
                .map_err(ImageError::from)?;
            if count == 0 {
                let shorter = io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter");
                return Err(blob.failed(shorter));
            }
            copied += count;
            progress.fetch_add(count, Ordering::Relaxed);
        }
        let padding = vec![0; usize::try_from(room - length).unwrap_or_default()];
        out.write_at(start + length, &padding)
            .map_err(ImageError::from)?;
    }
    Ok(())
}
