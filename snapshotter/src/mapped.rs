//! Layers as a container sees them whose users have other numbers outside.
//!
//! containerd would map the folder in which all layers are, without what is mounted in it, so this is done here: each layer is shown
//! once more below a folder of the snapshot.

use crate::error::Error;
use crate::mounts::{Lower, Owners};
use erofs_mount::umount::{UmountError, umount};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Shows `lower`, which are mounted, below `folder` with the owners of a snapshot, and says so in them. What is shown already stays.
///
/// # Errors
/// [`Error::File`], of FUSE too, which shows no other owners.
pub(crate) fn show(lower: &mut [Lower], folder: &Path, owners: &Owners) -> Result<(), Error> {
    let mut mapping = None;
    for (index, lower) in lower.iter_mut().enumerate() {
        let point = folder.join(index.to_string());
        fs::create_dir_all(&point).map_err(Error::file("making", &point))?;
        let device = |path: &Path| {
            let metadata = fs::metadata(path).map_err(Error::file("looking at", path));
            metadata.map(|metadata| metadata.dev())
        };
        if device(&point)? != device(&lower.point)? {
            let made = match mapping.take() {
                Some(made) => Ok(made),
                None => owners.mapping(),
            };
            let shown = made.and_then(|made| mapping.insert(made).show(&lower.point, &point));
            shown.map_err(|error| {
                let error = match error.raw_os_error() {
                    Some(code) if code == Errno::INVAL.raw_os_error() => io::Error::other(
                        "what is mounted cannot show other owners: FUSE does not, and EROFS does since Linux 5.19",
                    ),
                    _ => error,
                };
                Error::file("mapping owners at", &point)(error)
            })?;
        }
        lower.point = point;
    }
    Ok(())
}

/// Takes down what is shown below `folder`, and the folder.
///
/// # Errors
/// [`Error::Unmount`], [`Error::File`].
pub(crate) fn hide(folder: &Path) -> Result<(), Error> {
    let failed = Error::file("reading", folder);
    let points = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        points => points.map_err(failed)?,
    };
    for point in points {
        let point = point.map_err(Error::file("reading", folder))?.path();
        match umount(&point, true) {
            Ok(_) | Err(UmountError::NotMounted(_)) => {}
            Err(source) => {
                return Err(Error::Unmount {
                    folder: point,
                    source: Box::new(source),
                });
            }
        }
        fs::remove_dir(&point).map_err(Error::file("removing", &point))?;
    }
    fs::remove_dir(folder).map_err(Error::file("removing", folder))
}
