//! Layers are read again, and compared with what was noted when they were written.

use crate::api::operator::{ScrubResponse, ScrubbedLayer};
use crate::cache::checked;
use crate::digest;
use crate::error::Error;
use crate::metadata::Form;
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
            // What came as it is has the layer's own digest.
            let noted = match layer.form {
                Form::Native => layer.digest.as_deref(),
                Form::Converted | Form::Index => layer.image.as_deref(),
            };
            let mut read = read(&image, tar.as_deref(), noted, &mut progress);
            let mut path = &image;
            if let (Ok(()), Some(tar)) = (&read, &tar) {
                read = compare(tar, layer.digest.as_deref(), &mut progress).map(drop);
                if read.is_err() {
                    path = tar;
                }
            }
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
                path: path.display().to_string(),
                bytes: done - began,
                damaged: read.is_err(),
                recorded: noted.is_some(),
                reason: read
                    .err()
                    .map(|error| error.to_string())
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

/// Reads an image from the disk, and compares its digest, or checks its structure where none was noted. `tar` is its device.
/// `progress` learns of bytes, and may end it.
fn read(
    image: &Path,
    tar: Option<&Path>,
    noted: Option<&str>,
    progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let file = compare(image, noted, progress)?;
    match noted {
        Some(_) => Ok(()),
        None => checked(file, tar).map(drop),
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
    match noted {
        Some(noted) if noted != found => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("its digest is {found}; what was written had {noted}"),
        )),
        _ => Ok(file),
    }
}
