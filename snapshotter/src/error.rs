//! What goes wrong, and as which gRPC code containerd learns of it.

use erofs_mkfs::options::BuildError;
use erofs_mkfs::source::tar::TarError;
use erofs_mount::MountError;
use erofs_mount::ext4::Ext4Error;
use erofs_mount::umount::UmountError;
use std::io;
use std::path::{Path, PathBuf};
use tonic::Status;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such snapshot, blob or parent.
    #[error("{what} {name}: not found")]
    NotFound {
        /// `snapshot`, `parent`, `blob`.
        what: &'static str,
        /// Its key, name or digest.
        name: String,
    },
    /// The key or name is taken.
    #[error("snapshot {0}: already exists")]
    Exists(String),
    /// The snapshot is not in the state that the call needs.
    #[error("snapshot {name}: {reason}")]
    State {
        /// Its key or name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Argument(String),
    /// Somebody else may do it.
    #[error("{0}")]
    NotOurs(String),
    /// A layer is not what its descriptor or label says.
    #[error("layer {digest}: {reason}")]
    Layer {
        /// Digest of the blob.
        digest: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer is not any more what was written.
    #[error(
        "layer {digest}: {} is damaged: {reason}; remove the images that have it, run `erofs snapshotter gc` and pull them again",
        path.display()
    )]
    Damaged {
        /// Digest of its tar.
        digest: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was merged of layers is not any more what was written.
    #[error(
        "{} is damaged, which was merged of layers: {reason}; remove the containers over it and run `erofs snapshotter scrub`, \
         which has it made anew",
        path.display()
    )]
    DamagedMerged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer could not become an image.
    #[error("layer {digest}: {source}")]
    Convert {
        /// Digest of the blob, or the key of the snapshot.
        digest: String,
        /// Why.
        source: Box<BuildError>,
    },
    /// A layer could not be mounted.
    #[error("mounting {}: {source}", image.display())]
    Mount {
        /// The image.
        image: PathBuf,
        /// Why.
        source: Box<MountError>,
    },
    /// A layer could not be unmounted.
    #[error("unmounting {}: {source}", folder.display())]
    Unmount {
        /// Where it is mounted.
        folder: PathBuf,
        /// Why.
        source: Box<UmountError>,
    },
    /// The filesystem to which a container writes could not be made.
    #[error("mkfs.ext4 {}: {reason}", path.display())]
    Format {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// That filesystem could not be mounted or unmounted.
    #[error("what the container writes: {0}")]
    Writable(#[from] Ext4Error),
    /// A file of the store.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was done with it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The root folder cannot be used.
    #[error("root {}: its path {reason}: take another one", path.display())]
    Root {
        /// The folder, without links.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The root folder is served already.
    #[error("root {}: another process has its database open: stop that one, or take another root", .0.display())]
    Taken(PathBuf),
    /// What was written to a snapshot cannot become a layer.
    #[error("{0}")]
    Changes(String),
    /// containerd, when it was called in turn.
    #[error("{what} {name}: containerd: {}", status.message())]
    Containerd {
        /// What was done.
        what: &'static str,
        /// Digest or name of the blob.
        name: String,
        /// What it answered.
        status: Box<Status>,
    },
    /// The database.
    #[error("database: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A record of the database that this version does not understand.
    #[error("database: record of {name}: {source}")]
    Record {
        /// Its key.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// An error of a file, for `map_err`.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            what,
            path: path.to_path_buf(),
            source,
        }
    }

    /// An error of containerd, for `map_err`.
    pub(crate) fn containerd(what: &'static str, name: &str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Containerd {
            what,
            name: name.to_owned(),
            status: Box::new(status),
        }
    }

    /// An error of making an image of the layer `name`.
    pub(crate) fn convert(name: &str) -> impl FnOnce(BuildError) -> Self {
        move |source| Self::Convert {
            digest: name.to_owned(),
            source: Box::new(source),
        }
    }

    /// An error of opening a layer's blob as a tar.
    pub(crate) fn tar(digest: &str) -> impl FnOnce(TarError) -> Self {
        move |source| Self::Convert {
            digest: digest.to_owned(),
            source: Box::new(source.into()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => Self::not_found(text),
            Error::Exists(_) => Self::already_exists(text),
            Error::State { .. } | Error::Format { .. } => Self::failed_precondition(text),
            Error::Argument(_) | Error::Layer { .. } => Self::invalid_argument(text),
            Error::Damaged { .. } | Error::DamagedMerged { .. } => Self::data_loss(text),
            Error::NotOurs(_) => Self::unimplemented(text),
            Error::Changes(_) => Self::failed_precondition(text),
            Error::Containerd { status, .. } => Self::new(status.code(), text),
            Error::Convert { source, .. } if is_full(&*source) => Self::resource_exhausted(text),
            Error::File { source, .. } if is_full(&source) => Self::resource_exhausted(text),
            Error::Database(source) if matches!(&*source, redb::Error::Io(io) if is_full(io)) => {
                Self::resource_exhausted(text)
            }
            Error::Convert { .. } => Self::invalid_argument(text),
            _ => Self::internal(text),
        }
    }
}

/// Whether there is no room left behind an error.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::StorageFull)
    })
}

/// Errors of redb have a type for each kind of call.
macro_rules! from_redb {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);
