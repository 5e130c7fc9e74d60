//! Layers are read again, and compared with what was noted when they were written.

use crate::api::operator::{ScrubResponse, ScrubbedLayer};
use crate::cache::checked;
use crate::digest;
use crate::error::Error;
use crate::metadata::{Form, Layer, Merged, Number, Removed};
use crate::snapshotter::Snapshotter;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Bytes between two reports.
const STEP: u64 = 64 << 20;

/// What is read: a layer with the snapshots that have it, or what was merged of layers.
enum Part {
    Layer(Number, Layer, Vec<String>),
    Merged(Merged),
}

/// Files, and what they were when they were written.
#[derive(Debug)]
pub(crate) struct Files {
    image: PathBuf,
    /// Digest of the image, if that was noted.
    noted: Option<String>,
    /// The tar below the image, if it is an index over one, and its digest.
    tar: Option<(PathBuf, Option<String>)>,
    /// All that the image needs.
    devices: Vec<PathBuf>,
}

impl Snapshotter {
    /// Reads all layers and what was merged of them, and reports how far it is and each of them, until it is told to stop. What is
    /// removed meanwhile is left out. A merged image that is damaged is thrown away, unless a snapshot lies over it: the next one
    /// that wants it makes it anew.
    ///
    /// # Errors
    /// [`Error`] of the database; what is wrong with layers is reported.
    pub(crate) fn scrub(
        &self,
        mut report: impl FnMut(ScrubResponse) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut parts = Vec::new();
        for (number, layer, users) in self.metadata.layers_with_users()? {
            let files = self.files(number, &layer)?;
            parts.push((Part::Layer(number, layer, users), files));
        }
        for merged in self.metadata.all_merged()? {
            // It may have been removed meanwhile.
            if let Ok(files) = self.merged_files(&merged) {
                parts.push((Part::Merged(merged), files));
            }
        }
        let mut total = 0;
        for (_, files) in &parts {
            total += files.size();
        }
        let mut done = 0;
        for (part, files) in parts {
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
            let read = files.read(&mut progress);
            let is_there = self.is_there(&part);
            if stopped {
                return Ok(());
            }
            if !is_there {
                continue;
            }
            let path = read.as_ref();
            let path = path.map_or_else(|wrong| wrong.0, |()| &*files.image);
            let layer = ScrubbedLayer {
                path: path.display().to_string(),
                bytes: done - began,
                damaged: read.is_err(),
                recorded: files.noted.is_some(),
                thrown_away: read.is_err() && self.throw_away_merged(&part)?,
                reason: read
                    .err()
                    .map(|(_, error)| error.to_string())
                    .unwrap_or_default(),
                ..part.described()
            };
            let layer = Some(layer);
            if report(ScrubResponse { done, total, layer }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether something was not removed, written anew, or just been noted since its record was read.
    fn is_there(&self, part: &Part) -> bool {
        match part {
            Part::Layer(number, layer, _) => {
                self.metadata.layer(*number).is_ok_and(|now| now == *layer)
            }
            Part::Merged(merged) => {
                let now = self.metadata.get(&merged.name);
                now.is_ok_and(|now| now.merged == Some(merged.number))
            }
        }
    }

    /// Throws a merged image away that nobody uses. Returns whether that was done.
    fn throw_away_merged(&self, part: &Part) -> Result<bool, Error> {
        let Part::Merged(merged) = part else {
            return Ok(false);
        };
        let is_out = self.metadata.forget_merged(merged)?;
        if is_out {
            self.leave(Removed {
                snapshot: None,
                layer: None,
                merged: Some(merged.number),
            });
            self.cleanup()?;
        }
        Ok(is_out)
    }

    /// The files of a layer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the database holds a digest that is none.
    pub(crate) fn files(&self, number: Number, layer: &Layer) -> Result<Files, Error> {
        let tar = self.store.tar(number, layer)?;
        let noted = match layer.form {
            // What came as it is has the layer's own digest.
            Form::Native => layer.digest.clone(),
            Form::Converted | Form::Index => layer.image.clone(),
        };
        Ok(Files {
            image: self.store.layer(number, layer)?,
            noted,
            devices: tar.iter().cloned().collect(),
            tar: tar.map(|tar| (tar, layer.digest.clone())),
        })
    }

    /// Those of what was merged of layers: these are read by themselves.
    ///
    /// # Errors
    /// [`Error::NotFound`] where its snapshot was removed.
    pub(crate) fn merged_files(&self, merged: &Merged) -> Result<Files, Error> {
        Ok(Files {
            image: self.store.merged(merged.number),
            noted: merged.digest.clone(),
            tar: None,
            devices: self.devices_of_merged(&merged.name)?,
        })
    }
}

impl Part {
    /// What is known of it without reading.
    fn described(self) -> ScrubbedLayer {
        match self {
            Self::Layer(_, layer, users) => ScrubbedLayer {
                digest: layer.digest.unwrap_or_default(),
                users,
                ..ScrubbedLayer::default()
            },
            Self::Merged(merged) => ScrubbedLayer {
                merged: true,
                users: merged.users,
                ..ScrubbedLayer::default()
            },
        }
    }
}

impl Files {
    /// Bytes of them.
    fn size(&self) -> u64 {
        let tar = self.tar.iter().map(|(tar, _)| tar);
        let sizes = [&self.image].into_iter().chain(tar);
        sizes
            .map(|file| file.metadata().map_or(0, |file| file.len()))
            .sum()
    }

    /// Reads them from the disk and compares their digests, or checks the structure of the image where none was noted. `progress`
    /// learns of bytes, and may end it.
    ///
    /// # Errors
    /// The file that is wrong, and `InvalidData`; or that could not be read.
    pub(crate) fn read(
        &self,
        mut progress: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<(), (&Path, io::Error)> {
        compare(&self.image, self.noted.as_deref(), &mut progress)
            .and_then(|file| match self.noted {
                Some(_) => Ok(()),
                None => checked(file, &self.devices).map(drop),
            })
            .map_err(|error| (&*self.image, error))?;
        match &self.tar {
            Some((tar, noted)) => compare(tar, noted.as_deref(), progress)
                .map(drop)
                .map_err(|error| (&**tar, error)),
            None => Ok(()),
        }
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
