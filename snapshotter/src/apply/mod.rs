//! A layer's blob becomes the layer of a snapshot.
//!
//! | module | question that it answers |
//! |---|---|
//! | `tar` | how does a tar become an image, or get an index, in one pass? |
//! | `native` | when is an image from elsewhere fit to be mounted? |

mod native;
mod tar;
#[cfg(test)]
mod tests;

use crate::api::types::{Descriptor, Mount};
use crate::content::Blob;
use crate::error::Error;
use crate::fault::{self, Step};
use crate::media_type::{self, MediaType};
use crate::metadata::{Layer, Number};
use crate::snapshotter::Snapshotter;
use crate::store::{Draft, Store};
use erofs_mount::allocator;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Label of a snapshot with the digest that its layer must have.
pub(crate) const DIFF_ID: &str = "containerd.io/snapshot/diff-id";

/// Bytes of a blob up to which one thread reads and digests the files in it: several would wait for each other.
const SMALL: u64 = 1 << 20;

/// The snapshot that these mounts are of, as [`Snapshotter::prepare`] returned them.
///
/// # Errors
/// [`Error::NotOurs`].
pub(crate) fn target(store: &Store, mounts: &[Mount]) -> Result<Number, Error> {
    let upper = mounts.last().and_then(|mount| match mount.r#type.as_str() {
        "bind" => Some(mount.source.as_str()),
        "overlay" | "format/overlay" => mount
            .options
            .iter()
            .find_map(|option| option.strip_prefix("upperdir=")),
        _ => None,
    });
    upper
        .and_then(|upper| store.snapshot_of_upper(Path::new(upper)))
        .ok_or_else(|| Error::NotOurs("the mounts are not those of a snapshot here".to_owned()))
}

/// A layer whose files are written, and of which nobody knows yet. They are gone when this is.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) draft: Draft,
    pub(crate) layer: Layer,
}

/// Makes the blob that `layer` describes the layer of `snapshot`, and describes what it is without compression. `open` opens the
/// blob, from its start each time.
///
/// # Errors
/// [`Error`]; nothing is left then.
pub(crate) fn apply(
    snapshotter: &Snapshotter,
    snapshot: Number,
    layer: &Descriptor,
    gone: &Arc<AtomicBool>,
    open: &dyn Fn() -> Result<Blob, Error>,
) -> Result<Descriptor, Error> {
    let media_type = MediaType::parse(&layer.media_type)?;
    snapshotter.store.mark_applied(snapshot)?;
    let expected = snapshotter.metadata.label(snapshot, DIFF_ID)?;
    let plain = match media_type {
        MediaType::Tar => media_type::TAR,
        MediaType::Image { plain, .. } => plain,
    };
    let known = snapshotter.reuse(snapshot, expected.as_deref(), &layer.digest)?;
    let applied = if let Some(known) = known {
        known
    } else {
        let conversion = Conversion {
            snapshotter,
            digest: &layer.digest,
            size: u64::try_from(layer.size).unwrap_or_default(),
            open,
            gone,
        };
        let ahead = match media_type {
            MediaType::Tar => snapshotter.ahead.take(&layer.digest, gone),
            MediaType::Image { .. } => None,
        };
        let converted = match ahead {
            Some(converted) => {
                snapshotter.metrics.was_ahead();
                converted
            }
            None => conversion.run(media_type)?,
        };
        conversion.check(&converted, expected.as_deref())?;
        let Converted { draft, mut layer } = converted;
        layer.blobs.push(conversion.digest.to_owned());
        snapshotter.publish(snapshot, draft, layer)?
    };
    Ok(Descriptor {
        media_type: plain.to_owned(),
        digest: applied.digest.unwrap_or_default(),
        size: i64::try_from(applied.tar_size).unwrap_or(i64::MAX),
        ..Descriptor::default()
    })
}

/// Makes what [`apply`] makes of a tar before it is asked for, and syncs it. `gone` ends it.
///
/// # Errors
/// [`Error`]; nothing is left then.
pub(crate) fn convert_ahead(
    snapshotter: &Snapshotter,
    digest: &str,
    blob: &File,
    gone: &Arc<AtomicBool>,
) -> Result<Converted, Error> {
    let failed = |source| Error::file("reading", Path::new(digest))(source);
    let conversion = Conversion {
        snapshotter,
        digest,
        size: blob.metadata().map_err(failed)?.len(),
        open: &|| {
            let mut blob = blob.try_clone().map_err(failed)?;
            blob.rewind().map_err(failed)?;
            Ok(Blob::File(blob))
        },
        gone,
    };
    let mut converted = conversion.run(MediaType::Tar)?;
    converted.draft.sync(0)?;
    Ok(converted)
}

/// A blob that ends with an error once nobody waits any more for what becomes of it.
struct Wanted {
    blob: Box<dyn Read + Send>,
    gone: Arc<AtomicBool>,
}

impl Read for Wanted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(io::Error::other("the caller is gone"));
        }
        fault::at(Step::ApplyReading).map_err(io::Error::other)?;
        self.blob.read(out)
    }
}

/// A blob that becomes a layer.
struct Conversion<'a> {
    snapshotter: &'a Snapshotter,
    /// Of the blob.
    digest: &'a str,
    /// Its bytes.
    size: u64,
    open: &'a dyn Fn() -> Result<Blob, Error>,
    /// Whether nobody waits for it any more.
    gone: &'a Arc<AtomicBool>,
}

impl Conversion<'_> {
    /// # Errors
    /// [`Error`]; nothing is left then.
    fn run(&self, media_type: MediaType) -> Result<Converted, Error> {
        let began = Instant::now();
        let converted = match media_type {
            MediaType::Tar => tar::convert(self)?,
            MediaType::Image { is_compressed, .. } => native::convert(self, is_compressed)?,
        };
        self.snapshotter.metrics.took("convert", began.elapsed());
        if !self.is_small() {
            // What the layer took would be kept in many places, for layers to come.
            allocator::give_back();
        }
        Ok(converted)
    }

    /// Looks whether it is what the image says, as far as that is told.
    fn check(&self, converted: &Converted, expected: Option<&str>) -> Result<(), Error> {
        let digest = converted.layer.digest.as_deref().unwrap_or_default();
        match expected {
            Some(expected) if expected != digest => Err(self.refused(format!(
                "its content has digest {digest}; the image says {expected}"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether neither many threads nor much memory are worth it.
    const fn is_small(&self) -> bool {
        self.size <= SMALL
    }

    /// Its bytes, which end with an error once nobody waits for them.
    fn reader(&self, blob: Blob) -> Wanted {
        Wanted {
            blob: blob.into_reader(),
            gone: Arc::clone(self.gone),
        }
    }

    /// The layer is not what it should be.
    fn refused(&self, reason: String) -> Error {
        Error::Layer {
            digest: self.digest.to_owned(),
            reason,
        }
    }
}
