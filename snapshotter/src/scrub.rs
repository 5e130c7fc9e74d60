//! Layers are read again, and compared with what was noted when they were written.

use crate::api::operator::{ScrubResponse, ScrubbedLayer};
use crate::cache::checked;
use crate::digest;
use crate::error::Error;
use crate::metadata::{Form, Layer};
use crate::snapshotter::Snapshotter;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

/// Bytes between two reports.
const STEP: u64 = 64 << 20;

impl Snapshotter {
    /// Reads all layers, and reports how far it is and each layer, until it is told to stop. A layer that is removed
    /// meanwhile is left out.
    ///
    /// # Errors
    /// [`Error`] of the database; what is wrong with layers is reported.
    pub(crate) fn scrub(
        &self,
        mut report: impl FnMut(ScrubResponse) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let layers = self.metadata.layers_with_users()?;
        let mut total = 0;
        for (number, layer, _) in &layers {
            for file in self.store.files(*number, layer)? {
                total += file.metadata().map_or(0, |file| file.len());
            }
        }
        let mut done = 0;
        for (number, layer, users) in layers {
            let image = self.store.layer(number, &layer)?;
            let tar = self.store.tar(number, &layer)?;
            let began = done;
            let mut told = done;
            let mut stopped = false;
            let mut progress = |bytes| {
                done += bytes;
                if done - told >= STEP {
                    told = done;
                    let layer = None;
                    stopped |= report(ScrubResponse { done, total, layer }).is_break();
                }
                match stopped {
                    true => Err(io::ErrorKind::Interrupted.into()),
                    false => Ok(()),
                }
            };
            let read = read(&layer, &image, tar.as_deref(), &mut progress);
            // It may have been removed, written anew, or just been noted.
            let is_same = self.metadata.layer(number).is_ok_and(|now| now == layer);
            if stopped {
                return Ok(());
            }
            if !is_same {
                continue;
            }
            let layer = Some(ScrubbedLayer {
                digest: layer.digest.clone().unwrap_or_default(),
                path: read
                    .as_ref()
                    .map_or_else(|wrong| wrong.0, |()| &*image)
                    .display()
                    .to_string(),
                bytes: done - began,
                damaged: read.is_err(),
                recorded: noted(&layer).is_some(),
                reason: read
                    .err()
                    .map(|(_, error)| error.to_string())
                    .unwrap_or_default(),
                users,
            });
            if report(ScrubResponse { done, total, layer }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The digest that a layer's image must have, if it is known.
fn noted(layer: &Layer) -> Option<&str> {
    match layer.form {
        // What came as it is has the layer's own digest.
        Form::Native => layer.digest.as_deref(),
        Form::Converted | Form::Index => layer.image.as_deref(),
    }
}

/// Reads the files of a layer from the disk, and compares their digests, or checks the structure of the image where none was
/// noted. `tar` is its device. `progress` learns of bytes, and may end it.
///
/// # Errors
/// The file that is wrong, and `InvalidData`; or that could not be read.
pub(crate) fn read<'p>(
    layer: &Layer,
    image: &'p Path,
    tar: Option<&'p Path>,
    mut progress: impl FnMut(u64) -> io::Result<()>,
) -> Result<(), (&'p Path, io::Error)> {
    let noted = noted(layer);
    compare(image, noted, &mut progress)
        .and_then(|file| match noted {
            Some(_) => Ok(()),
            None => checked(file, tar).map(drop),
        })
        .map_err(|error| (image, error))?;
    match tar {
        Some(tar) => compare(tar, layer.digest.as_deref(), progress)
            .map(drop)
            .map_err(|error| (tar, error)),
        None => Ok(()),
    }
}

/// Reads a file from the disk rather than from memory, and compares its digest.
fn compare(
    path: &Path,
    noted: Option<&str>,
    progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<File> {
    let file = File::open(path)?;
    // What cannot be forgotten is read from memory: nothing is wrong with that.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let found = digest::of_file(&file, progress)?;
    // Whoever mounts it reads it directly.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    match noted {
        Some(noted) if noted != found => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("its digest is {found}; what was written had {noted}"),
        )),
        _ => Ok(file),
    }
}
