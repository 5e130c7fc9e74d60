//! Extracts an image, or parts of it, into a directory.
//!
//! ```text
//! selection → traverse ─┬─ tree:   directories at once; files → window, sorted by place on disk → workers; links
//!                       │          at last: directories get owner, attributes, mode and times, children first
//!                       └─ stream: members → workers, which decode ahead → one archive, in order
//! ```
//!
//! | module | question that it answers |
//! |---|---|
//! | [`selection`] | what is extracted? |
//! | [`names`] | what may it be called? |
//! | `traverse` | in which order is it told? |
//! | `tree` | who makes what in the target? |
//! | `window` | in which order are files made? |
//! | `large` | how do several workers make one file? |
//! | `directories` | how is a directory of the target reached? |
//! | `node` | how does a file get its name? |
//! | `content` | which bytes are written? |
//! | `attributes` | how does it get its owner, mode, attributes, times? |
//! | [`stream`] | how does a tar come of it? |
//! | [`tar`] | what does a tar look like? |
//!
//! The image is hostile. Nothing outside of the target is touched: every name is one component, looked up in an open
//! directory, and no symbolic link is ever followed. Files, links and special files are made under a temporary name and
//! moved when they are complete, so that nothing is written through what stands there. Memory grows with the number of
//! directories and of files with several names only.

mod attributes;
mod content;
mod directories;
mod error;
mod large;
pub mod names;
mod node;
pub mod selection;
mod shared;
pub mod stream;
pub mod tar;
mod traverse;
mod tree;
mod window;

pub use error::{ExtractError, Problem};
pub use names::HostileNames;
pub use selection::{GlobError, Globs};
pub use stream::{StreamError, extract_tar};

use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use crate::processors::processors;
use crate::walk::DEFAULT_MAX_DEPTH;
use directories::Directories;
use erofs_format::Nid;
use shared::Shared;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// How to extract.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// The directory that is taken for the root: paths begin there, and what is in it goes right into the target.
    pub start: Option<Nid>,
    /// Replace files that exist, and merge directories; otherwise each is a [`Problem`].
    pub replace: bool,
    /// Give files their owners. Without it set-id bits are kept only where the owner happens to be the right one.
    pub same_owner: bool,
    /// Give files exactly their permissions and set-id bits. Without it the former are cut by the umask, the latter
    /// dropped.
    pub same_permissions: bool,
    /// Give files their extended attributes.
    pub xattrs: bool,
    /// Make device nodes.
    pub devices: bool,
    /// What becomes of names that no directory can hold.
    pub hostile_names: HostileNames,
    /// Which of the selected paths are extracted.
    pub globs: Globs,
    /// Leave holes out of tars; otherwise they are written as zeros. In directories holes stay holes in any case.
    pub sparse_members: bool,
    /// Threads that write regular files; each has a buffer of 1 MiB.
    pub workers: NonZeroUsize,
    /// Deepest path, in components.
    pub max_depth: usize,
}

impl Default for ExtractOptions {
    /// What root wants: everything as in the image, existing files left alone, a worker for each processor, at most 8.
    fn default() -> Self {
        let processors = processors();
        Self {
            start: None,
            replace: false,
            same_owner: true,
            same_permissions: true,
            xattrs: true,
            devices: true,
            hostile_names: HostileNames::Refuse,
            globs: Globs::default(),
            sparse_members: true,
            workers: NonZeroUsize::new(8).map_or(processors, |most| processors.min(most)),
            max_depth: DEFAULT_MAX_DEPTH,
        }
    }
}

impl ExtractOptions {
    fn root(&self, image: &Image) -> Result<Inode, Error> {
        let root = match self.start {
            Some(start) => image.inode(start)?,
            None => image.root()?,
        };
        if root.is_directory() {
            Ok(root)
        } else {
            Err(Error::NotADirectory(root.nid()))
        }
    }
}

/// What was extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Regular files, further names not counted.
    pub files: u64,
    /// Their sizes, in bytes.
    pub bytes: u64,
    /// Bytes of them that were written: all but the holes.
    pub bytes_written: u64,
    /// Directories below the target.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Device nodes, named pipes and sockets.
    pub special_files: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// What was left out for want of rights, or because the target's filesystem cannot hold it.
    pub skipped: Skipped,
    /// Problems that were reported.
    pub problems: u64,
    /// Whether everything ended early: on a full disk for example, or after a million problems.
    pub stopped: bool,
}

/// Numbers of things left out; the files that they belong to were extracted, device nodes excepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Device nodes.
    pub device_nodes: u64,
    /// Files that did not get their owner though it was asked for.
    pub owners: u64,
    /// Extended attributes.
    pub xattrs: u64,
    /// Files whose set-user-id or set-group-id bit was dropped, since they belong to somebody else than in the image.
    pub set_id_bits: u64,
}

impl Skipped {
    /// Whether something is missing that was asked for. Set-id bits go with their owners.
    pub const fn is_any(&self) -> bool {
        self.device_nodes > 0 || self.owners > 0 || self.xattrs > 0
    }
}

/// Extracts what is at the paths of `selection`, with all below and with the directories that lead there, or the whole
/// image when there is none, into `target`, which is made if necessary. The target itself gets the attributes of the
/// image's root only if it was made or `options.replace` is set.
///
/// `progress` counts bytes written; `report` is called for each problem, from any thread. Problems do not end the work,
/// unless all that follows would fail too.
///
/// # Errors
/// [`Problem`] when nothing could be begun: the target or the root of the image is out of reach.
pub fn extract(
    image: &Image,
    target: &Path,
    selection: &[Vec<u8>],
    options: &ExtractOptions,
    progress: &AtomicU64,
    report: &(dyn Fn(&Problem) + Sync),
) -> Result<Summary, Problem> {
    let failed = |error| Problem {
        path: target.as_os_str().as_bytes().to_vec(),
        error,
    };
    let root = options.root(image).map_err(|error| failed(error.into()))?;
    let directories = Mutex::new(Directories::new(target).map_err(failed)?);
    let shared = Shared::new(image, options, progress, report);
    tree::make(&shared, &directories, &root, selection);
    let mut directories = directories
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    tree::describe_directories(&shared, &mut directories, &root);
    Ok(shared.summary())
}
