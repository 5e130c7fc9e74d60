//! Files that wait to be made, and the order in which that is done.

use super::directories::DirectoryId;
use super::large::Large;
use crate::disk_order::DiskPosition;
use crate::image::Image;
use crate::inode::Inode;
use erofs_format::Nid;
use erofs_format::inode::FileType;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Most files in a window: a few hundred bytes each.
const LARGEST: usize = 32 << 10;
/// Files of the first window; each has twice as many as the one before, so that there is work for all soon.
const FIRST: usize = 1 << 10;
/// Files of this size, in bytes, and larger ones are made by all workers together.
pub(super) const LARGE: u64 = 8 << 20;
/// Small files that one worker takes at once: so many bytes, so many files at most.
const BATCH_BYTES: u64 = 256 << 10;
const BATCH_FILES: usize = 32;

/// A file for a worker to make.
pub(super) struct Waiting {
    pub(super) inode: Inode,
    pub(super) directory: DirectoryId,
    pub(super) name: Box<[u8]>,
    position: DiskPosition,
    /// Stands under its name.
    pub(super) made: AtomicBool,
}

/// One more name of a file.
pub(super) struct Link {
    pub(super) inode: Inode,
    pub(super) directory: DirectoryId,
    pub(super) name: Box<[u8]>,
}

/// Files and links that are made together.
pub(super) struct Window {
    pub(super) files: Vec<Waiting>,
    /// Made when all files are there.
    pub(super) links: Vec<Link>,
    limit: usize,
}

/// What a worker does next.
pub(super) enum Job {
    /// Whole files, by index.
    Files(Range<usize>),
    /// A share of a large file.
    Share(Arc<Large>),
}

/// The jobs of a window, taken one after the other.
pub(super) struct Jobs {
    jobs: Vec<Job>,
    next: AtomicUsize,
}

impl Window {
    pub(super) const fn first() -> Self {
        Self::with_limit(FIRST)
    }

    const fn with_limit(limit: usize) -> Self {
        Self {
            files: Vec::new(),
            links: Vec::new(),
            limit,
        }
    }

    /// An empty window to come after this one.
    pub(super) fn successor(&self) -> Self {
        Self::with_limit((self.limit * 2).min(LARGEST))
    }

    pub(super) const fn is_full(&self) -> bool {
        self.files.len() + self.links.len() >= self.limit
    }

    pub(super) fn push(
        &mut self,
        image: &Image,
        inode: &Inode,
        directory: DirectoryId,
        name: &[u8],
    ) {
        self.files.push(Waiting {
            inode: *inode,
            directory,
            name: name.into(),
            position: match inode.file_type {
                FileType::Regular => DiskPosition::of(image, inode),
                _ => DiskPosition::Metadata(inode.position().1),
            },
            made: AtomicBool::new(false),
        });
    }

    /// Puts the files in the order in which their data lies on disk, and divides them among `workers`.
    pub(super) fn schedule(&mut self, workers: usize) -> Jobs {
        // Stable: files without data of their own keep the order of the tree.
        self.files.sort_by_key(|file| file.position);
        let mut jobs = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (index, file) in self.files.iter().enumerate() {
            let size = file.inode.data_size();
            let is_large = file.inode.file_type == FileType::Regular && size >= LARGE;
            if is_large || index - start >= BATCH_FILES || bytes >= BATCH_BYTES {
                if start < index {
                    jobs.push(Job::Files(start..index));
                }
                (start, bytes) = (index, 0);
            }
            if is_large {
                let large = Arc::new(Large::new(index, workers));
                jobs.extend(
                    std::iter::repeat_with(|| Job::Share(Arc::clone(&large))).take(workers),
                );
                start = index + 1;
            } else {
                bytes += size;
            }
        }
        if start < self.files.len() {
            jobs.push(Job::Files(start..self.files.len()));
        }
        Jobs {
            jobs,
            next: AtomicUsize::new(0),
        }
    }
}

impl Jobs {
    pub(super) fn take(&self) -> Option<&Job> {
        self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Waiting {
    pub(super) const fn nid(&self) -> Nid {
        self.inode.nid()
    }
}
