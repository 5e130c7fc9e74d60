//! Content held against the digests in the attributes of an image: `fsck.erofs --xattr-inode-digest`.

use crate::names::Printable;
use anyhow::bail;
use erofs_format::inode::FileType;
use erofs_reader::dump::manifest::{ManifestEntry, ManifestOptions, ManifestSink};
use erofs_reader::{Error, Image, Inode};
use std::io;
use std::sync::atomic::AtomicU64;
use std::thread::available_parallelism;

/// What mkfs.erofs 1.9 writes in front of a digest.
const ALGORITHM: &[u8] = b"sha256:";

/// Whether the regular files from `start` on have the content that their digests name. Says on standard error which have not,
/// from verbosity 1 on, and from 2 on which have no digest.
///
/// # Errors
/// The image has no such digests.
pub(super) fn verify(image: &Image, start: &Inode, verbosity: u8) -> anyhow::Result<bool> {
    if image.superblock().inode_share_prefix.is_none() {
        bail!("the image has no digests of inodes, see --xattr-inode-digest of mkfs.erofs");
    }
    let options = ManifestOptions {
        workers: available_parallelism().map_or(1, usize::from),
        content_limit: None,
    };
    let mut verdicts = Verdicts {
        image,
        verbosity,
        fine: true,
    };
    image.manifest(start, options, &AtomicU64::new(0), &mut verdicts)?;
    Ok(verdicts.fine)
}

struct Verdicts<'a> {
    image: &'a Image,
    verbosity: u8,
    fine: bool,
}

impl Verdicts<'_> {
    fn wrong(&mut self, path: &[u8], what: &str) {
        self.fine = false;
        self.tell(1, path, what);
    }

    fn tell(&self, from: u8, path: &[u8], what: &str) {
        if self.verbosity >= from {
            complain!("fsck.erofs: /{}: {what}", Printable(path));
        }
    }
}

impl ManifestSink for Verdicts<'_> {
    fn entry(&mut self, entry: ManifestEntry) -> io::Result<()> {
        let path = &entry.path;
        if let Some(problem) = entry.problem {
            self.wrong(path, &problem.to_string());
            return Ok(());
        }
        if entry.inode.file_type != FileType::Regular || entry.linked_to.is_some() {
            return Ok(());
        }
        match self.image.fingerprint(&entry.inode) {
            Err(error) => self.wrong(path, &error.to_string()),
            Ok(None) => self.tell(2, path, "no digest, not verified"),
            Ok(Some(value)) => match value.strip_prefix(ALGORITHM) {
                Some(digest) if entry.digest.is_some_and(|own| own == digest) => {}
                Some(digest) if digest.len() == 32 => {
                    self.wrong(path, "the content has another digest")
                }
                _ => self.wrong(path, "unknown form of digest"),
            },
        }
        Ok(())
    }

    fn problem(&mut self, path: &[u8], error: &Error) {
        self.wrong(path, &error.to_string());
    }
}
