//! What was written to a snapshot becomes a layer.
//!
//! ```text
//! upper directory ─► tree ─► tar ─┬──────────┬─┬─► SHA-256              the diffID
//!                                 └─► image ─┘ └─► packing ─┬─► SHA-256  the blob's digest
//!                                                           └─► upload
//! ```

mod image;
mod mounts;
mod owners;
mod packing;
mod tree;

#[cfg(test)]
pub(crate) use tree::{Written, write as tar_of};

use crate::api::diff::v1::DiffRequest;
use crate::api::types::Descriptor;
use crate::content::{Content, Upload, unique_name};
use crate::digest::{Both, Hasher};
use crate::error::Error;
use crate::snapshotter::Snapshotter;
use erofs_format::inode::Timestamp;
use packing::{Content as Made, Format, Packer};

/// Label of a blob with the digest of what it is without compression.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// Makes a layer of what the snapshot of the mounts `right` has over that of `left`, and describes its blob.
///
/// # Errors
/// [`Error`]; nothing is left in the content store then. [`Error::NotOurs`]: the walking differ can do it.
pub(crate) fn diff(
    snapshotter: &Snapshotter,
    content: &Content,
    request: DiffRequest,
) -> Result<Descriptor, Error> {
    let format = Format::of(&request.media_type)?;
    let written = mounts::written(snapshotter, &request.left, &request.right)?;
    let latest = request.source_date_epoch.map(|time| Timestamp {
        seconds: time.seconds,
        nanoseconds: u32::try_from(time.nanos).unwrap_or(0),
    });
    let reference = match request.r#ref.as_str() {
        "" => unique_name(),
        reference => reference.to_owned(),
    };
    let failed = |source| Error::File {
        what: "starting a thread for",
        path: reference.as_str().into(),
        source,
    };
    let (hasher, digested) = Hasher::new();
    let (blob_hasher, blob_digested) = Hasher::new();
    let upload = Upload::start(content, reference.clone())?;
    let packer = Packer::new(format.packing, Both(upload, blob_hasher)).map_err(failed)?;
    let out = Both(packer, hasher);
    let Both(packer, hasher) = match format.content {
        Made::Tar => tree::write(&written, latest, out)?,
        Made::Image => image::write(snapshotter, &written, latest, out)?,
    };
    drop(hasher);
    let writing = |error| Error::file("writing", reference.as_ref())(error);
    let Both(upload, blob_hasher) = packer.finish().map_err(writing)?;
    drop(blob_hasher);
    let [diff_id, blob] = [digested, blob_digested].map(|told| told.recv().unwrap_or_default());
    let mut labels = request.labels;
    labels.insert(UNCOMPRESSED.to_owned(), diff_id.digest);
    let size = upload.commit(&blob.digest, labels)?;
    Ok(Descriptor {
        media_type: format.media_type.to_owned(),
        digest: blob.digest,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..Descriptor::default()
    })
}
