//! The extra devices of an image: what its slots say, and the blobs that an index finds beside it.
//!
//! A tag names the blob's file relative to the folder of the index, or is its digest, as `sha256:HEX`, `sha256-HEX` or
//! `HEX`: such a blob may also be called `sha256-HEX` or `HEX` and stand in `blobs/` or `blobs/sha256/` (OCI layouts, model
//! caches). Tags come with the image and are not trusted: they never lead out of the folder by themselves, though they may
//! name a symbolic link that its owner put there.

use erofs_format::BlockBits;
use erofs_format::address::DeviceId;
use erofs_format::device::{DeviceSlot, TAG_SIZE};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Length of a tag whose writer had to cut it: one NUL is kept.
const CUT: usize = TAG_SIZE - 1;
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// What a slot of the device table says about its blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The device that it describes.
    pub device: DeviceId,
    /// Name, digest or path; may be empty.
    pub tag: Vec<u8>,
    /// Fewest bytes that the blob can have: all its blocks but the last one, whose data may be inlined in the index. 0 where
    /// the slot does not tell.
    pub least_bytes: u64,
}

impl Slot {
    pub(crate) fn new(device: DeviceId, slot: &DeviceSlot, block_bits: BlockBits) -> Self {
        Self {
            device,
            tag: slot.tag_bytes().to_vec(),
            least_bytes: slot
                .blocks
                .saturating_sub(1)
                .saturating_mul(block_bits.bytes()),
        }
    }

    /// Whether a blob of this many bytes can be the slot's.
    ///
    /// # Errors
    /// [`DeviceError::TooSmall`].
    pub fn check(&self, path: &Path, bytes: u64) -> Result<(), DeviceError> {
        if bytes < self.least_bytes {
            return Err(DeviceError::TooSmall {
                device: self.device,
                path: path.to_owned(),
                bytes,
                least: self.least_bytes,
            });
        }
        Ok(())
    }

    fn printable_tag(&self) -> String {
        String::from_utf8_lossy(&self.tag).into_owned()
    }
}

/// Why there is no blob for a slot.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An absolute tag, or one with `..`.
    #[error("the tag {tag:?} of device slot {device} is not a path below the folder of the image")]
    Outside {
        /// The device.
        device: DeviceId,
        /// As stored.
        tag: String,
    },
    /// No such file.
    #[error("the blob of device slot {device}, {tag:?}, is not in {folder}", folder = folder.display())]
    Missing {
        /// The device.
        device: DeviceId,
        /// Its tag.
        tag: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The tag was cut, and several names begin like it.
    #[error(
        "the blob of device slot {device} may be {first} or {second}: its tag {tag:?} holds only the beginning of the name",
        first = first.display(), second = second.display()
    )]
    Ambiguous {
        /// The device.
        device: DeviceId,
        /// Its tag.
        tag: String,
        /// One of the files.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// Not the blob that was indexed.
    #[error(
        "{path} has {bytes} bytes, but the blob of device slot {device} has at least {least}: it was cut off, or is another one",
        path = path.display()
    )]
    TooSmall {
        /// The device.
        device: DeviceId,
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// See [`Slot::least_bytes`].
        least: u64,
    },
    /// The folder or a file in it.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why it cannot be looked at.
        #[source]
        error: io::Error,
    },
}

/// Finds the blobs of all `slots` in `folder`, the one that holds the image, by their tags and in their order.
///
/// # Errors
/// [`DeviceError`] for the first slot without a fitting blob.
pub fn find(folder: &Path, slots: &[Slot]) -> Result<Vec<PathBuf>, DeviceError> {
    slots.iter().map(|slot| find_one(folder, slot)).collect()
}

fn find_one(folder: &Path, slot: &Slot) -> Result<PathBuf, DeviceError> {
    let names = candidates(&slot.tag);
    if names.is_empty() {
        return Err(DeviceError::Outside {
            device: slot.device,
            tag: slot.printable_tag(),
        });
    }
    for name in names {
        let path = folder.join(&name);
        let found = match file_size(&path)? {
            Some(bytes) => Some((path, bytes)),
            None if slot.tag.len() == CUT => completed(&path, slot)?,
            None => None,
        };
        if let Some((path, bytes)) = found {
            slot.check(&path, bytes)?;
            return Ok(path);
        }
    }
    Err(DeviceError::Missing {
        device: slot.device,
        tag: slot.printable_tag(),
        folder: folder.to_owned(),
    })
}

/// Relative paths at which the blob of a tag may stand, the likeliest first; none for a tag that is no such path.
fn candidates(tag: &[u8]) -> Vec<PathBuf> {
    let path = Path::new(OsStr::from_bytes(tag));
    let mut parts = path.components();
    if tag.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Vec::new();
    }
    let mut paths = vec![path.to_owned()];
    if let Some(digits) = digest(tag) {
        for folder in ["", "blobs", "blobs/sha256"] {
            for name in [format!("sha256-{digits}"), digits.to_owned()] {
                paths.push(Path::new(folder).join(name));
            }
        }
    }
    paths
}

/// The digits of a digest, of one that was cut to fit behind its prefix too.
fn digest(tag: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(tag).ok()?;
    let prefixed = text
        .strip_prefix("sha256:")
        .or_else(|| text.strip_prefix("sha256-"));
    let digits = prefixed.unwrap_or(text);
    let whole = digits.len() == DIGITS || prefixed.is_some() && tag.len() == CUT;
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (whole && hexadecimal).then_some(digits)
}

/// Size in bytes of the regular file at `path`, if there is one.
fn file_size(path: &Path) -> Result<Option<u64>, DeviceError> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(DeviceError::Io {
            path: path.to_owned(),
            error,
        }),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The one file whose name begins with that of `path`.
fn completed(path: &Path, slot: &Slot) -> Result<Option<(PathBuf, u64)>, DeviceError> {
    let (Some(folder), Some(beginning)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let unreadable = |error| DeviceError::Io {
        path: folder.to_owned(),
        error,
    };
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found: Option<(PathBuf, u64)> = None;
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if !entry
            .file_name()
            .as_bytes()
            .starts_with(beginning.as_bytes())
        {
            continue;
        }
        let Some(bytes) = file_size(&entry.path())? else {
            continue;
        };
        if let Some((other, _)) = found {
            // In the same order on every machine.
            let mut both = [other, entry.path()];
            both.sort();
            let [first, second] = both;
            return Err(DeviceError::Ambiguous {
                device: slot.device,
                tag: slot.printable_tag(),
                first,
                second,
            });
        }
        found = Some((entry.path(), bytes));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(tag: impl AsRef<[u8]>, least_bytes: u64) -> Slot {
        Slot {
            device: DeviceId(1),
            tag: tag.as_ref().to_vec(),
            least_bytes,
        }
    }

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temporary folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
            std::fs::write(path, [7; 100]).expect("written");
        }
        folder
    }

    #[test]
    fn blobs_stand_where_tags_say() {
        let digits = "0123456789abcdef".repeat(4);
        let prefixed = format!("sha256-{digits}");
        let cut = |text: &str| text[..CUT].to_owned();
        let long = "n".repeat(100);
        let in_blobs = |name: &str| format!("blobs/{name}");
        for (tag, file) in [
            ("layer.tar".to_owned(), "layer.tar".to_owned()),
            ("a/b/c.blob".to_owned(), "a/b/c.blob".to_owned()),
            (digits.clone(), digits.clone()),
            (digits.clone(), in_blobs(&prefixed)),
            (digits.clone(), in_blobs(&format!("sha256/{digits}"))),
            (cut(&format!("sha256:{digits}")), in_blobs(&prefixed)),
            (cut(&format!("sha256:{digits}")), digits.clone()),
            (cut(&prefixed), prefixed.clone()),
            (cut(&long), long.clone()),
        ] {
            let folder = folder_with(&["other", &file]);
            let found = find(folder.path(), &[slot(&tag, 100)]);
            assert_eq!(
                found.unwrap_or_else(|error| panic!("{tag}: {error}")),
                [folder.path().join(&file)],
                "{tag}"
            );
        }
    }

    #[test]
    fn slots_keep_their_order() {
        let folder = folder_with(&["a", "b"]);
        let found = find(folder.path(), &[slot("b", 1), slot("a", 1)]).expect("found");
        assert_eq!(found, [folder.path().join("b"), folder.path().join("a")]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let long = "n".repeat(CUT);
        let folder = folder_with(&["blob", &format!("{long}-1"), &format!("{long}-2"), "sub/x"]);
        for (slot, expected) in [
            (
                slot("absent", 0),
                "the blob of device slot 1, \"absent\", is not in ",
            ),
            (slot("blob/x", 0), "is not in "),
            (slot("sub", 0), "is not in "),
            (slot("/etc/passwd", 0), "is not a path below the folder"),
            (slot("../blob", 0), "is not a path below the folder"),
            (slot("sub/../blob", 0), "is not a path below the folder"),
            (slot(b"blob\xff", 0), "is not in "),
            (
                slot("blob", 101),
                "has 100 bytes, but the blob of device slot 1 has at least 101",
            ),
            (slot(&long, 0), "holds only the beginning of the name"),
        ] {
            let error = find(folder.path(), &[slot])
                .expect_err(expected)
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_last_block_may_be_missing() {
        let stored = |blocks| DeviceSlot {
            tag: [0; TAG_SIZE],
            blocks,
            unified_start: Default::default(),
        };
        for (blocks, least) in [(0, 0), (1, 0), (3, 8192), (u64::MAX, u64::MAX)] {
            let slot = Slot::new(DeviceId(1), &stored(blocks), BlockBits::B4096);
            assert_eq!(slot.least_bytes, least, "{blocks} blocks");
        }
    }

    proptest! {
        #[test]
        fn no_tag_leads_out(tag in proptest::collection::vec(any::<u8>(), 0..TAG_SIZE)) {
            for path in candidates(&tag) {
                prop_assert!(path.is_relative());
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
