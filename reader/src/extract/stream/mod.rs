//! An image, or parts of it, as a tar: members in the order of the tree, whoever decodes them.
//!
//! ```text
//! traverse → tasks ──┬→ workers ──┬→ archive → output
//!                    └─ in order ─┘
//! ```
//! Small files, with everything that has no data, are gathered in tasks of many members; large ones are cut into tasks of
//! one segment each. The tasks under way are bounded, and so is what each of them holds: memory does not depend on the
//! image.

mod members;
mod ranges;
mod worker;

use super::ExtractOptions;
use super::error::Problem;
use super::shared::Shared;
use super::tar::{Archive, ArchiveError, Encoded};
use super::traverse::traverse;
use crate::image::Image;
use crate::inode::Inode;
use members::Gathering;
use std::io::{BufWriter, Write};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// Bytes of data that a task hands on at once.
const PIECE: usize = 1 << 20;
/// Bytes that are written at once, longer data excepted.
const WRITE: usize = 256 << 10;

/// Why there is no whole tar.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The root of the image is out of reach.
    #[error(transparent)]
    Root(#[from] crate::error::Error),
    /// A file turned out to be unreadable when part of it had been written.
    #[error("the archive ends in the middle of a file: {0}")]
    Broken(Problem),
    /// More problems than anybody would look at.
    #[error("too many problems")]
    GivenUp,
    /// The output failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Part of an archive.
#[derive(Default)]
struct Piece {
    /// Headers, each with the number of bytes of `data` that follow at once.
    members: Vec<(Encoded, usize)>,
    /// What is left of it belongs to the last member.
    data: Vec<u8>,
    /// Why the last member cannot be continued.
    broken: Option<Problem>,
}

/// Writes what `selection` and `options.globs` select to `out` as a tar: the root of the image as `./`, directories before
/// what is in them, names in byte order. The same image and options give the same bytes, for any number of workers.
///
/// Files that cannot be read are [reported](Problem) and left out. `progress` counts bytes of file data; `report` is
/// called from any thread. What `options` say of the target directory (`replace`, `same_permissions`) means nothing here;
/// without `same_owner` everything belongs to 0:0.
///
/// # Errors
/// [`StreamError`]: what was written is no whole archive then, and lacks its end mark.
pub fn extract_tar(
    image: &Image,
    out: impl Write,
    selection: &[Vec<u8>],
    options: &ExtractOptions,
    progress: &AtomicU64,
    report: &(dyn Fn(&Problem) + Sync),
) -> Result<super::Summary, StreamError> {
    let root = options.root(image)?;
    let shared = Shared::new(image, options, progress, report);
    let mut archive = Archive::new(BufWriter::with_capacity(WRITE, out));
    thread::scope(|scope| {
        let under_way = 2 * options.workers.get() + 2;
        let (tasks, queue) = sync_channel(under_way);
        let (order, pieces) = sync_channel(under_way);
        // Held by the workers alone: without them, sending fails.
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..options.workers.get() {
            let (shared, queue) = (&shared, Arc::clone(&queue));
            scope.spawn(move || worker::work(shared, &queue));
        }
        drop(queue);
        let (shared, root) = (&shared, &root);
        scope.spawn(move || {
            gather(
                shared,
                root,
                selection,
                Gathering::new(shared, tasks, order),
            )
        });
        let result = write(&mut archive, pieces);
        if result.is_err() {
            shared.stop();
        }
        result
    })?;
    if shared.is_stopped() {
        return Err(StreamError::GivenUp);
    }
    archive.finish()?;
    Ok(shared.summary())
}

fn gather(shared: &Shared<'_>, root: &Inode, selection: &[Vec<u8>], mut gathering: Gathering<'_>) {
    gathering.root(root);
    traverse(shared, root, selection, &mut gathering);
    gathering.send();
}

/// Writes the pieces of all tasks in order.
fn write(
    archive: &mut Archive<impl Write>,
    tasks: Receiver<Receiver<Piece>>,
) -> Result<(), StreamError> {
    for piece in tasks.into_iter().flatten() {
        let mut rest = piece.data.as_slice();
        for (member, length) in &piece.members {
            archive.member(member)?;
            let (now, later) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
            archive.data(now)?;
            rest = later;
        }
        archive.data(rest)?;
        if let Some(problem) = piece.broken {
            return Err(StreamError::Broken(problem));
        }
    }
    Ok(())
}
