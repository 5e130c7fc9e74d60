//! What happens to a layer behind its conversion, while nobody waits: its digest is noted, and it is protected from changes.
//!
//! The thread has the lowest priority, so that unpacking the next layers comes first.

use crate::config::Verity;
use crate::digest;
use crate::error::Error;
use crate::metadata::Number;
use crate::snapshotter::Snapshotter;
use erofs_mount::fs_verity;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::process::setpriority_process;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Tells that there are layers to seal.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let rung = self.heard.wait_while(rung, |rung| !*rung);
        *rung.unwrap_or_else(PoisonError::into_inner) = false;
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
        let _ = setpriority_process(None, 19);
        loop {
            if let Err(error) = snapshotter.seal() {
                tracing::warn!(%error, "sealing layers");
            }
            snapshotter.unsealed.wait();
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
    /// Seals all layers that are not.
    ///
    /// # Errors
    /// [`Error`] of the database; a layer that cannot be sealed is told of, and is tried again with the next.
    pub(crate) fn seal(&self) -> Result<(), Error> {
        for (number, layer) in self.metadata.layers()? {
            if layer.image.is_none() {
                let path = self.store.layer(number, &layer)?;
                if let Err(error) = self.seal_layer(number, &path) {
                    tracing::warn!(path = %path.display(), %error, "sealing a layer");
                }
            }
        }
        Ok(())
    }

    fn seal_layer(&self, number: Number, path: &Path) -> Result<(), Error> {
        let failed = || Error::file("sealing", path);
        let file = match File::open(path) {
            // It was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(failed())?,
        };
        let digest = digest::of_file(&file, |_| Ok(())).map_err(failed())?;
        // A file with several names is also that of somebody else.
        let is_ours = file.metadata().is_ok_and(|file| file.nlink() == 1);
        if is_ours && self.integrity.fs_verity != Verity::Off {
            self.enable_verity(&file).map_err(failed())?;
        }
        // Nobody replaces or removes it while its record says that it is sealed.
        let _held = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = |file: std::fs::Metadata| (file.dev(), file.ino());
        let opened = inode(file.metadata().map_err(failed())?);
        if path.metadata().map(inode).ok() != Some(opened) {
            // Its successor is sealed when the bell rings again.
            return Ok(());
        }
        if is_ours && self.integrity.immutable {
            let flags = ioctl_getflags(&file).map_err(io::Error::from);
            flags
                .and_then(|flags| Ok(ioctl_setflags(&file, flags | IFlags::IMMUTABLE)?))
                .map_err(failed())?;
        }
        self.metadata.note_image(number, &digest)
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
