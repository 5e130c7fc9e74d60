//! Layers are read again, and compared with what was noted when they were written.

use crate::api::operator::{ScrubResponse, ScrubbedLayer};
use crate::cache::checked;
use crate::digest;
use crate::error::Error;
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
            let image = self.store.layer(*number, layer)?;
            total += image.metadata().map_or(0, |file| file.len());
        }
        let mut done = 0;
        for (number, layer, users) in layers {
            let path = self.store.layer(number, &layer)?;
            let began = done;
            let mut told = done;
            let mut stopped = false;
            let read = read(&path, layer.image.as_deref(), |bytes| {
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
            });
            // It may have been removed, written anew, or just been noted.
            let is_same = self.metadata.layer(number).is_ok_and(|now| now == layer);
            if stopped {
                return Ok(());
            }
            if !is_same {
                continue;
            }
            let layer = Some(ScrubbedLayer {
                digest: layer.digest.unwrap_or_default(),
                path: path.display().to_string(),
                bytes: done - began,
                damaged: read.is_err(),
                recorded: layer.image.is_some(),
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

/// Reads an image from the disk rather than from memory, and compares its digest, or checks its structure where none was
/// noted. `progress` learns of bytes, and may end it.
fn read(
    path: &Path,
    noted: Option<&str>,
    progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::open(path)?;
    // What cannot be forgotten is read from memory: nothing is wrong with that.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let found = digest::of_file(&file, progress)?;
    match noted {
        Some(noted) if noted != found => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("its digest is {found}; what was written had {noted}"),
        )),
        Some(_) => Ok(()),
        None => checked(file).map(drop),
    }
}
