//! What happens to a layer behind its conversion, while nobody waits: its digest is noted, and it is protected from changes.
//!
//! The thread has the lowest priority, so that unpacking the next layers comes first.

use crate::config::Verity;
use crate::digest;
use crate::error::Error;
use crate::metadata::Number;
use crate::snapshotter::Snapshotter;
use erofs_mount::fs_verity;
use rustix::fs::{Advice, IFlags, fadvise, ioctl_getflags, ioctl_setflags};
use rustix::process::setpriority_process;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Priority of a thread for which nobody waits.
const LOWEST: i32 = 19;
/// That of all others.
const NORMAL: i32 = 0;
/// How long layers are waited for that come together, so that one change of the database notes them all.
const PAUSE: Duration = Duration::from_millis(200);
/// Most of them.
const AT_ONCE: usize = 64;

/// Layers that are to be sealed.
#[derive(Debug, Default)]
pub(crate) struct Unsealed {
    layers: Mutex<Vec<Number>>,
    came: Condvar,
}

impl Unsealed {
    pub(crate) fn add(&self, layer: Number) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.push(layer);
        self.came.notify_one();
    }

    /// Those that came since.
    fn rest(&self) -> Vec<Number> {
        std::mem::take(&mut *self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that came since they were taken last, as soon as there are any.
    fn take(&self) -> Vec<Number> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = self.came.wait_while(layers, |layers| layers.is_empty());
        std::mem::take(&mut *layers.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Seals layers as long as the process lives, beginning with those that one before left.
///
/// # Errors
/// No thread can be started.
pub(crate) fn start(snapshotter: Arc<Snapshotter>) -> io::Result<()> {
    let thread = thread::Builder::new().name("layer seal".to_owned());
    thread.spawn(move || {
        // Of this thread alone. Without it the layers are sealed just as well.
        let _ = setpriority_process(None, LOWEST);
        let mut layers = snapshotter.find_unsealed();
        loop {
            // Those that could not be sealed are tried again with the next.
            layers = snapshotter.seal(&layers);
            layers.extend(snapshotter.unsealed.take());
            thread::sleep(PAUSE);
            layers.extend(snapshotter.unsealed.rest());
        }
    })?;
    Ok(())
}

/// Tries fs-verity on a file in this folder.
///
/// # Errors
/// [`Error::File`]: the filesystem or the kernel has none.
pub(crate) fn require_verity(folder: &Path) -> Result<(), Error> {
    let path = folder.join("verity");
    let tried =
        std::fs::write(&path, "verity").and_then(|()| fs_verity::enable(File::open(&path)?));
    let removed = std::fs::remove_file(&path);
    tried.and(removed).map_err(Error::file(
        "enabling fs-verity, as the configuration wants, on",
        &path,
    ))
}

/// A layer that was read.
struct Digested {
    number: Number,
    path: PathBuf,
    file: File,
    /// Whether nobody else has it.
    is_ours: bool,
    digest: String,
}

impl Snapshotter {
    /// Layers that the process before this one left. Where they cannot be found it is told why.
    fn find_unsealed(&self) -> Vec<Number> {
        let found = self.metadata.layers().map(|layers| {
            let unsealed = layers
                .into_iter()
                .filter(|(_, layer)| layer.image.is_none());
            unsealed.map(|(number, _)| number).collect()
        });
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "looking for layers to seal");
            Vec::new()
        })
    }

    /// Seals layers, if they are there and are not sealed yet. Returns those for which that could not be done: why is told.
    pub(crate) fn seal(&self, layers: &[Number]) -> Vec<Number> {
        let mut left = Vec::new();
        for layers in layers.chunks(AT_ONCE) {
            let mut digested = Vec::new();
            for number in layers {
                match self.digest_layer(*number) {
                    Ok(layer) => digested.extend(layer),
                    Err(error) => {
                        tracing::warn!(layer = number.0, %error, "sealing a layer");
                        left.push(*number);
                    }
                }
            }
            // Others wait for what is held from here on.
            let _ = setpriority_process(None, NORMAL);
            left.extend(self.note_sealed(&digested));
            let _ = setpriority_process(None, LOWEST);
        }
        left
    }

    /// Reads a layer, unless it is gone or sealed, and has the kernel check it from now on.
    fn digest_layer(&self, number: Number) -> Result<Option<Digested>, Error> {
        let path = match self.metadata.layer(number) {
            Ok(layer) if layer.image.is_none() => self.store.layer(number, &layer)?,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let failed = || Error::file("sealing", &path);
        let file = match File::open(&path) {
            // It was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed())?,
        };
        let digest = digest::of_file(&file, |_| Ok(())).map_err(failed())?;
        // Containers read it past these pages. Where they are kept nothing is lost but memory.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        // A file with several names is also that of somebody else.
        let is_ours = file.metadata().is_ok_and(|file| file.nlink() == 1);
        if is_ours && self.integrity.fs_verity != Verity::Off {
            self.enable_verity(&file).map_err(failed())?;
        }
        Ok(Some(Digested {
            number,
            path,
            file,
            is_ours,
            digest,
        }))
    }

    /// Returns those that could not be noted.
    fn note_sealed(&self, layers: &[Digested]) -> Vec<Number> {
        // Nobody replaces or removes one while its record says that it is sealed.
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut noted, mut left) = (Vec::new(), Vec::new());
        for layer in layers {
            match self.protect(layer) {
                Ok(true) => noted.push((layer.number, layer.digest.as_str())),
                // Its successor is among those that came meanwhile.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(layer = layer.number.0, %error, "sealing a layer");
                    left.push(layer.number);
                }
            }
        }
        if let Err(error) = self.metadata.note_images(&noted) {
            tracing::warn!(%error, "sealing layers");
            left.extend(noted.iter().map(|(number, _)| number));
        }
        left
    }

    /// Keeps a layer from being changed, if that is wanted. Returns whether it is still the one that was read.
    fn protect(&self, layer: &Digested) -> Result<bool, Error> {
        let failed = |source| Error::file("sealing", &layer.path)(source);
        let inode = |file: std::fs::Metadata| (file.dev(), file.ino());
        let opened = inode(layer.file.metadata().map_err(failed)?);
        if layer.path.metadata().map(inode).ok() != Some(opened) {
            return Ok(false);
        }
        if layer.is_ours && self.integrity.immutable {
            let flags = ioctl_getflags(&layer.file).map_err(io::Error::from);
            flags
                .and_then(|flags| Ok(ioctl_setflags(&layer.file, flags | IFlags::IMMUTABLE)?))
                .map_err(failed)?;
        }
        Ok(true)
    }

    /// Lets the kernel check a file whenever it reads it.
    fn enable_verity(&self, file: &File) -> io::Result<()> {
        match fs_verity::enable(file) {
            Err(error)
                if self.integrity.fs_verity == Verity::Auto
                    && fs_verity::is_unsupported(&error) =>
            {
                Ok(())
            }
            done => done,
        }
    }
}
