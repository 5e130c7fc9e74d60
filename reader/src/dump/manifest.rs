//! The tree in an image with everything that a user can tell about it, content included: the same for images of the same
//! tree, however they store it.

use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use crate::names::Names;
use crate::xattr::Xattr;
use erofs_format::Nid;
use erofs_format::inode::FileType;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// Bytes that are read and digested at once.
const PIECE: usize = 1 << 20;
/// Most files that a worker takes at once.
const BATCH_FILES: usize = 64;
/// Bytes of content behind which a worker takes no more files.
const BATCH_BYTES: u64 = 4 << 20;
/// Batches on their way for each worker.
const BATCHES_AHEAD: usize = 4;
/// Content that is digested of an image of any size.
const CONTENT_GRANTED: u64 = 64 << 30;
/// Content that is digested for each byte of the image and its devices.
const CONTENT_PER_BYTE: u64 = 16;

/// How to make a manifest.
#[derive(Debug, Clone, Copy)]
pub struct ManifestOptions {
    /// Threads that read and digest; 0 counts as 1. The manifest is the same for any number.
    pub workers: usize,
    /// Most bytes of content to digest, files in listing order; `None` for 64 GiB or 16 times the size of the image with
    /// its devices, whichever is more. A crafted image may claim exabytes.
    pub content_limit: Option<u64>,
}

/// One name of the tree.
#[derive(Debug)]
pub struct ManifestEntry {
    /// Path from where the listing began, without a leading slash; empty for that directory itself.
    pub path: Vec<u8>,
    /// Its inode.
    pub inode: Inode,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// SHA-256 of the content of a regular file.
    pub digest: Option<[u8; 32]>,
    /// Attributes by name.
    pub xattrs: Vec<Xattr>,
    /// The path that came first of those that share this inode, on the others.
    pub linked_to: Option<Vec<u8>>,
    /// Why something is missing.
    pub problem: Option<ManifestProblem>,
}

/// Why an entry of a manifest is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ManifestProblem {
    /// Target, attributes or content cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
    /// More content than was to be digested.
    #[error("not digested: with its {size} bytes the content of all files exceeds {limit} bytes")]
    TooMuch {
        /// Size of the file in bytes.
        size: u64,
        /// [`ManifestOptions::content_limit`] or what it stands for.
        limit: u64,
    },
}

/// What becomes of a manifest as it is made.
pub trait ManifestSink {
    /// Takes the next entry, in listing order.
    ///
    /// # Errors
    /// The manifest then ends.
    fn entry(&mut self, entry: ManifestEntry) -> std::io::Result<()>;

    /// Learns of a path of which nothing can be told.
    fn problem(&mut self, path: &[u8], error: &Error);
}

impl Image {
    /// Lists the tree below `start` with all contents, in listing order. `progress` counts digested bytes.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn manifest(
        &self,
        start: &Inode,
        options: ManifestOptions,
        progress: &AtomicU64,
        sink: &mut dyn ManifestSink,
    ) -> std::io::Result<()> {
        let workers = options.workers.max(1);
        let (task_sender, tasks) = channel::<(u64, Vec<Task>)>();
        let (result_sender, results) = channel();
        let tasks = Mutex::new(tasks);
        std::thread::scope(|scope| {
            // Moved in here: the workers end when it is dropped, and the scope waits for them.
            let task_sender = task_sender;
            for _ in 0..workers {
                let (tasks, results) = (&tasks, result_sender.clone());
                scope.spawn(move || work(self, tasks, &results, progress));
            }
            drop(result_sender);
            let limit = options.content_limit.unwrap_or_else(|| {
                let size = self.devices().total_size();
                CONTENT_GRANTED.max(size.saturating_mul(CONTENT_PER_BYTE))
            });
            let mut listing = Listing {
                names: self.names_from(start).with_inodes(),
                first_paths: HashMap::new(),
                limit,
                left: limit,
            };
            let mut order = Order::default();
            loop {
                while order.sent - order.received < (workers * BATCHES_AHEAD) as u64 {
                    let batch = listing.batch();
                    if batch.is_empty() {
                        break;
                    }
                    // Workers are there as long as this sender is.
                    let _ = task_sender.send((order.sent, batch));
                    order.sent += 1;
                }
                if order.sent == order.received {
                    return Ok(());
                }
                let Ok((number, entries)) = results.recv() else {
                    return Err(std::io::Error::other("a thread that reads has died"));
                };
                order.take(number, entries, sink)?;
            }
        })
    }
}

/// A name on its way to a worker.
enum Task {
    Entry {
        path: Vec<u8>,
        inode: Inode,
        linked_to: Option<Vec<u8>>,
        /// Whether the content is digested, or why not.
        content: Result<bool, ManifestProblem>,
    },
    Problem {
        path: Vec<u8>,
        error: Error,
    },
}

/// A name on its way back.
enum Done {
    Entry(Box<ManifestEntry>),
    Problem { path: Vec<u8>, error: Error },
}

/// Puts names into batches.
struct Listing<'a> {
    names: Names<'a>,
    /// Of inodes with several links.
    first_paths: HashMap<Nid, Vec<u8>>,
    limit: u64,
    left: u64,
}

impl Listing<'_> {
    fn batch(&mut self) -> Vec<Task> {
        let mut batch = Vec::new();
        let mut bytes = 0u64;
        while batch.len() < BATCH_FILES && bytes < BATCH_BYTES {
            let (path, inode) = match self.names.next() {
                None => break,
                Some(Ok(name)) => match name.inode {
                    Some(inode) => (name.path.to_vec(), inode),
                    None => continue,
                },
                Some(Err(error)) => {
                    let path = self.names.path().to_vec();
                    batch.push(Task::Problem { path, error });
                    continue;
                }
            };
            let linked_to = self.first_path(&path, &inode);
            let content = if inode.file_type != FileType::Regular || linked_to.is_some() {
                Ok(false)
            } else if let Some(left) = self.left.checked_sub(inode.size) {
                self.left = left;
                bytes = bytes.saturating_add(inode.size);
                Ok(true)
            } else {
                Err(ManifestProblem::TooMuch {
                    size: inode.size,
                    limit: self.limit,
                })
            };
            batch.push(Task::Entry {
                path,
                inode,
                linked_to,
                content,
            });
        }
        batch
    }

    fn first_path(&mut self, path: &[u8], inode: &Inode) -> Option<Vec<u8>> {
        if inode.nlink < 2 || inode.is_directory() {
            return None;
        }
        if let Some(first) = self.first_paths.get(&inode.nid()) {
            return Some(first.clone());
        }
        self.first_paths.insert(inode.nid(), path.to_vec());
        None
    }
}

/// Hands results on in the order in which they were asked for.
#[derive(Default)]
struct Order {
    sent: u64,
    received: u64,
    waiting: BTreeMap<u64, Vec<Done>>,
    /// Digests of inodes with several links, for their other names.
    digests: HashMap<Nid, [u8; 32]>,
}

impl Order {
    fn take(
        &mut self,
        number: u64,
        entries: Vec<Done>,
        sink: &mut dyn ManifestSink,
    ) -> std::io::Result<()> {
        self.waiting.insert(number, entries);
        while let Some(entries) = self.waiting.remove(&self.received) {
            self.received += 1;
            for done in entries {
                match done {
                    Done::Problem { path, error } => sink.problem(&path, &error),
                    Done::Entry(mut entry) => {
                        let nid = entry.inode.nid();
                        if entry.linked_to.is_some() {
                            entry.digest = self.digests.get(&nid).copied();
                        } else if let Some(digest) = entry.digest
                            && entry.inode.nlink > 1
                        {
                            self.digests.insert(nid, digest);
                        }
                        sink.entry(*entry)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads and digests until there is nothing more to do.
fn work(
    image: &Image,
    tasks: &Mutex<Receiver<(u64, Vec<Task>)>>,
    results: &Sender<(u64, Vec<Done>)>,
    progress: &AtomicU64,
) {
    let mut buffer = Vec::new();
    loop {
        // Nothing that can panic runs under the lock.
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, batch)) = task else {
            return;
        };
        let done = batch
            .into_iter()
            .map(|task| finish(image, task, &mut buffer, progress))
            .collect();
        if results.send((number, done)).is_err() {
            return;
        }
    }
}

fn finish(image: &Image, task: Task, buffer: &mut Vec<u8>, progress: &AtomicU64) -> Done {
    let (path, inode, linked_to, content) = match task {
        Task::Entry {
            path,
            inode,
            linked_to,
            content,
        } => (path, inode, linked_to, content),
        Task::Problem { path, error } => return Done::Problem { path, error },
    };
    let mut entry = ManifestEntry {
        path,
        inode,
        target: None,
        digest: None,
        xattrs: Vec::new(),
        linked_to,
        problem: None,
    };
    let mut note = |problem: ManifestProblem| {
        entry.problem.get_or_insert(problem);
    };
    match image.xattrs(&inode) {
        Ok(mut xattrs) => {
            xattrs.sort();
            entry.xattrs = xattrs;
        }
        Err(error) => note(error.into()),
    }
    if inode.file_type == FileType::Symlink {
        match image.read_link(&inode) {
            Ok(target) => entry.target = Some(target),
            Err(error) => note(error.into()),
        }
    }
    match content {
        Ok(false) => {}
        Ok(true) => match digest(image, &inode, buffer, progress) {
            Ok(digest) => entry.digest = Some(digest),
            Err(error) => note(error.into()),
        },
        Err(problem) => note(problem),
    }
    Done::Entry(Box::new(entry))
}

/// SHA-256 of a regular file.
fn digest(
    image: &Image,
    inode: &Inode,
    buffer: &mut Vec<u8>,
    progress: &AtomicU64,
) -> Result<[u8; 32], Error> {
    let mut hash = Sha256::new();
    let mut position = 0;
    buffer.resize(PIECE, 0);
    while position < inode.size {
        let count = image.read(inode, position, buffer)?;
        hash.update(buffer.get(..count).unwrap_or_default());
        position += count as u64;
        progress.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(hash.finalize().into())
}
