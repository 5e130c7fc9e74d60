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
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Priority of a thread for which nobody waits.
const LOWEST: i32 = 19;
/// That of all others.
const NORMAL: i32 = 0;

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
    let thread = std::thread::Builder::new().name("layer seal".to_owned());
    thread.spawn(move || {
        // Of this thread alone. Without it the layers are sealed just as well.
        let _ = setpriority_process(None, LOWEST);
        let mut layers = snapshotter.find_unsealed();
        loop {
            // Those that could not be sealed are tried again with the next.
            layers.retain(|layer| !snapshotter.seal(*layer));
            layers.extend(snapshotter.unsealed.take());
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

    /// Seals a layer, if it is there and is not sealed yet. Whether that is done: why it is not is told.
    pub(crate) fn seal(&self, number: Number) -> bool {
        let sealed = match self.metadata.layer(number) {
            Ok(layer) if layer.image.is_none() => self
                .store
                .layer(number, &layer)
                .and_then(|path| self.seal_layer(number, &path)),
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = &sealed {
            tracing::warn!(layer = number.0, %error, "sealing a layer");
        }
        sealed.is_ok()
    }

    fn seal_layer(&self, number: Number, path: &Path) -> Result<(), Error> {
        let failed = || Error::file("sealing", path);
        let file = match File::open(path) {
            // It was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
        // Others wait for what is held from here on.
        let _ = setpriority_process(None, NORMAL);
        let noted = self.note_sealed(number, path, &file, is_ours, &digest);
        let _ = setpriority_process(None, LOWEST);
        noted
    }

    fn note_sealed(
        &self,
        number: Number,
        path: &Path,
        file: &File,
        is_ours: bool,
        digest: &str,
    ) -> Result<(), Error> {
        let failed = || Error::file("sealing", path);
        // Nobody replaces or removes it while its record says that it is sealed.
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = |file: std::fs::Metadata| (file.dev(), file.ino());
        let opened = inode(file.metadata().map_err(failed())?);
        if path.metadata().map(inode).ok() != Some(opened) {
            // Its successor is among those that came meanwhile.
            return Ok(());
        }
        if is_ours && self.integrity.immutable {
            let flags = ioctl_getflags(file).map_err(io::Error::from);
            flags
                .and_then(|flags| Ok(ioctl_setflags(file, flags | IFlags::IMMUTABLE)?))
                .map_err(failed())?;
        }
        self.metadata.note_image(number, digest)
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
