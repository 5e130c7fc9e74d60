//! Layers are mounted once, whoever uses them: so all containers share their pages.

use crate::error::Error;
use crate::fault::{self, Step};
use crate::locks::Locks;
use crate::metadata::Number;
use crate::mounts::Lower;
use erofs_mount::umount::UmountError;
use erofs_mount::{
    Capabilities, DirectIo, FuseRequest, MountError, MountOptions, MountRequest, PreparedMount,
    Requirements, Via, Way, table, umount,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which layers are mounted.
#[derive(Debug)]
pub(crate) struct LayerMounts {
    /// Whether each is, behind a lock that is held while that changes.
    mounted: Locks<bool>,
    capabilities: Capabilities,
    via: Via,
    server: FuseServer,
}

/// Serves an image where the kernel cannot.
pub type FuseServer = fn(&FuseRequest<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl LayerMounts {
    /// Finds out what this machine can do, and which of these mount points are taken: mounts outlive the process.
    ///
    /// # Errors
    /// [`Error::File`] where mounts cannot be listed.
    pub(crate) fn new(
        points: impl Iterator<Item = (Number, PathBuf)>,
        via: Via,
        server: FuseServer,
    ) -> Result<Self, Error> {
        let proc = Path::new("/proc/self/mountinfo");
        let taken = table::list().map_err(Error::file("reading", proc))?;
        let is_taken = |point: &Path| taken.iter().any(|mounted| mounted.mount_point == point);
        let mounted = points
            .filter(|(_, point)| is_taken(point))
            .map(|(number, _)| (number, true));
        Ok(Self {
            mounted: Locks::knowing(mounted),
            capabilities: Capabilities::detect()
                .map_err(|error| Error::file("reading", proc)(io::Error::other(error)))?,
            via,
            server,
        })
    }

    /// How an image with these needs is to be mounted.
    fn plan(&self, requirements: Requirements, lower: &Lower) -> Result<PreparedMount, MountError> {
        let request = MountRequest {
            image: lower.image.clone(),
            target: lower.point.clone(),
            options: MountOptions {
                // The pages of files are cached once already.
                direct_io: DirectIo::Auto,
                devices: lower.devices.clone(),
                via: self.via,
                ..MountOptions::default()
            },
        };
        request.prepare_with(requirements, self.capabilities.clone(), true)
    }

    /// Whether an image with these needs can be mounted here, at any folder as its point.
    ///
    /// # Errors
    /// [`Error::Mount`].
    pub(crate) fn check(&self, requirements: Requirements, lower: &Lower) -> Result<(), Error> {
        let plan = self.plan(requirements, lower);
        plan.map(drop).map_err(|source| Error::Mount {
            image: lower.image.clone(),
            source: Box::new(source),
        })
    }

    /// Whether the kernel would read this image from its files; `folder` is any that exists.
    pub(crate) fn is_read_from_files(&self, lower: &Lower, folder: &Path) -> bool {
        let Ok(requirements) = Requirements::read(&lower.image, 0) else {
            return false;
        };
        let lower = Lower {
            point: folder.to_path_buf(),
            ..lower.clone()
        };
        let plan = self.plan(requirements, &lower).map(|planned| planned.plan);
        plan.is_ok_and(|plan| plan.steps.first().is_some_and(|step| step.way == Way::File))
    }

    /// Whether an image is mounted, and nobody is about to change that.
    pub(crate) fn is_mounted(&self, number: Number) -> bool {
        self.mounted.at_rest(number).unwrap_or_default()
    }

    /// Mounts an image at its point, unless it is. `check` tells whether somebody still asks for it: whoever stops that
    /// before asks for [`LayerMounts::unmount`], which waits for this.
    ///
    /// # Errors
    /// [`Error::Mount`], [`Error::File`], those of `check`.
    pub(crate) fn mount(
        &self,
        number: Number,
        lower: &Lower,
        check: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.mounted.with(number, |is_mounted| {
            if *is_mounted {
                return Ok(());
            }
            check()?;
            let point = &lower.point;
            match fs::create_dir(point) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::file("making", point)(error));
                }
                _ => {}
            }
            fault::at(Step::MountFolder)?;
            self.mount_at(lower).inspect_err(|_| {
                // Whoever takes it for the layer finds nothing, rather than an empty folder.
                let _ = fs::remove_dir(point);
            })?;
            *is_mounted = true;
            fault::at(Step::MountDone)
        })
    }

    fn mount_at(&self, lower: &Lower) -> Result<(), Error> {
        let failed = |source| Error::Mount {
            image: lower.image.clone(),
            source: Box::new(source),
        };
        let requirements =
            Requirements::read(&lower.image, 0).map_err(|error| failed(error.into()))?;
        let prepared = self.plan(requirements, lower).map_err(failed)?;
        let mut server = self.server;
        prepared.execute(Some(&mut server)).map_err(failed)?;
        Ok(())
    }

    /// Removes a mount point at which nothing is mounted, for the same reason.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn clear(&self, number: Number, point: &Path) -> Result<(), Error> {
        self.mounted.with(number, |is_mounted| match *is_mounted {
            true => Ok(()),
            false => remove_point(point),
        })
    }

    /// Unmounts a layer that nobody asks for any more; containers that still run keep it.
    ///
    /// # Errors
    /// [`Error::Unmount`], [`Error::File`].
    pub(crate) fn unmount(&self, number: Number, point: &Path) -> Result<(), Error> {
        self.mounted.with(number, |is_mounted| {
            if *is_mounted {
                match umount(point, true) {
                    // Somebody else did it.
                    Ok(_) | Err(UmountError::NotMounted(_)) => {}
                    Err(source) => {
                        return Err(Error::Unmount {
                            folder: point.to_path_buf(),
                            source: Box::new(source),
                        });
                    }
                }
                *is_mounted = false;
            }
            fault::at(Step::CleanupUnmounted)?;
            remove_point(point)
        })
    }
}

fn remove_point(point: &Path) -> Result<(), Error> {
    match fs::remove_dir(point) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("removing", point)(error))
        }
        _ => Ok(()),
    }
}
