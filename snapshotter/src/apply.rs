//! A layer's blob becomes the layer of a snapshot, in one pass.

use crate::api::types::{Descriptor, Mount};
use crate::error::Error;
use crate::metadata::Number;
use crate::snapshotter::Snapshotter;
use crate::store::Store;
use erofs_mkfs::build::BuildSource;
use erofs_mkfs::source::Whiteouts;
use erofs_mkfs::source::tar::Archive;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Media type of what a layer is without compression.
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media types of tars, to which compressions are appended.
const TARS: [&str; 4] = [
    TAR,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// What is appended. How a tar is compressed is told by its content.
const COMPRESSIONS: [&str; 5] = ["", "+gzip", ".gzip", "+zstd", ".zstd"];
/// Label of a snapshot with the digest that its layer must have.
const DIFF_ID: &str = "containerd.io/snapshot/diff-id";
/// Pieces that wait to be digested.
const WAITING: usize = 32;

/// Whether layers of this media type can be applied.
///
/// # Errors
/// [`Error::NotOurs`].
pub(crate) fn check_media_type(media_type: &str) -> Result<(), Error> {
    let known = TARS.iter().any(|tar| {
        media_type
            .strip_prefix(tar)
            .is_some_and(|rest| COMPRESSIONS.contains(&rest))
    });
    match known {
        true => Ok(()),
        false => Err(Error::NotOurs(format!(
            "media type {media_type:?} is not that of a tar layer"
        ))),
    }
}

/// The snapshot that these mounts are of, as [`Snapshotter::prepare`] returned them.
///
/// # Errors
/// [`Error::NotOurs`].
pub(crate) fn target(store: &Store, mounts: &[Mount]) -> Result<Number, Error> {
    let upper = mounts.last().and_then(|mount| match mount.r#type.as_str() {
        "bind" => Some(mount.source.as_str()),
        "overlay" => mount
            .options
            .iter()
            .find_map(|option| option.strip_prefix("upperdir=")),
        _ => None,
    });
    upper
        .and_then(|upper| store.snapshot_of_upper(Path::new(upper)))
        .ok_or_else(|| Error::NotOurs("the mounts are not those of a snapshot here".to_owned()))
}

/// Makes `blob` the layer of `snapshot` and describes the tar that it is.
///
/// # Errors
/// [`Error`]; nothing is left then.
pub(crate) fn apply(
    snapshotter: &Snapshotter,
    snapshot: Number,
    digest: &str,
    blob: Box<dyn Read + Send>,
) -> Result<Descriptor, Error> {
    let expected = snapshotter.metadata.label(snapshot, DIFF_ID)?;
    let applied = snapshotter.store.applied(snapshot);
    File::create(&applied).map_err(Error::file("making", &applied))?;
    let (hasher, digested) = Hasher::start().map_err(|source| Error::File {
        what: "starting a thread for",
        path: digest.into(),
        source,
    })?;
    let archive = Archive::stream(blob)
        .map_err(Error::tar(digest))?
        .copied_to(hasher);
    let identity = || {
        // The archive is gone, and with it whoever sends.
        let (found, size) = digested.join().unwrap_or_default();
        match expected {
            Some(expected) if expected != found => Err(Error::Layer {
                digest: digest.to_owned(),
                reason: format!("its tar has digest {found}; the image says {expected}"),
            }),
            _ => Ok((Some(found), size)),
        }
    };
    let source = BuildSource::Tar(archive);
    let layer = snapshotter.convert(digest, snapshot, source, Whiteouts::Overlay, identity)?;
    Ok(Descriptor {
        media_type: TAR.to_owned(),
        digest: layer.digest.unwrap_or_default(),
        size: i64::try_from(layer.tar_size).unwrap_or(i64::MAX),
        ..Descriptor::default()
    })
}

/// Digests what is written to it, in a thread of its own.
struct Hasher(SyncSender<Vec<u8>>);

impl Hasher {
    /// A hasher, and who tells the digest and the number of bytes once it is dropped.
    fn start() -> io::Result<(Self, JoinHandle<(String, u64)>)> {
        let (sender, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let thread = std::thread::Builder::new()
            .name("layer digest".to_owned())
            .spawn(move || {
                let (mut sha256, mut size) = (Sha256::new(), 0);
                for piece in pieces {
                    sha256.update(&piece);
                    size += piece.len() as u64;
                }
                let mut digest = "sha256:".to_owned();
                for byte in sha256.finalize() {
                    write!(digest, "{byte:02x}").expect("a string takes everything");
                }
                (digest, size)
            })?;
        Ok((Self(sender), thread))
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .send(bytes.to_vec())
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
