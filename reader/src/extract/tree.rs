//! Walks what was selected and makes it.

use super::attributes::{Handle, describe};
use super::content::PIECE;
use super::directories::{Directories, DirectoryId, component};
use super::error::ExtractError;
use super::node::{Place, make_file, make_link, make_special};
use super::shared::Shared;
use crate::error::Error;
use crate::inode::Inode;
use crate::walk::WalkEntry;
use erofs_format::Nid;
use erofs_format::inode::FileType;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Regular files that wait for a worker; each keeps its directory open.
const QUEUE: usize = 64;

/// A regular file for a worker to make.
struct Job {
    inode: Inode,
    directory: Arc<OwnedFd>,
    name: Vec<u8>,
    path: Vec<u8>,
    replace: bool,
    /// Told when the file stands under its name; dropped when it does not.
    done: Option<SyncSender<()>>,
}

/// A file with several names.
struct Linked {
    directory: DirectoryId,
    name: Vec<u8>,
    /// A worker may still be at it.
    pending: Option<Receiver<()>>,
}

/// A directory on the way to the current entry.
struct Level {
    id: DirectoryId,
    name: Vec<u8>,
    inode: Inode,
    /// Name of the last entry: names ascend, so one that does not may have been there before, and might replace itself.
    last: Vec<u8>,
}

/// Makes what is selected. Directories get their attributes later.
pub(super) fn make(
    shared: &Shared<'_>,
    directories: &mut Directories,
    root: &Inode,
    selection: &[Vec<u8>],
) {
    thread::scope(|scope| {
        let (jobs, queue) = sync_channel(QUEUE);
        // Held by the workers alone: without them, sending fails.
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..shared.options.workers.get() {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(shared, &queue));
        }
        drop(queue);
        let mut making = Making {
            shared,
            directories,
            jobs,
            linked: HashMap::new(),
            levels: vec![Level {
                id: DirectoryId::ROOT,
                name: Vec::new(),
                inode: *root,
                last: Vec::new(),
            }],
        };
        for selected in normalized(shared, selection) {
            if let Err(error) = making.selected(&selected) {
                shared.problem(&selected.join(&b'/'), error);
            }
        }
    });
}

/// Gives all directories their attributes, children first, since a directory may be closed to us afterwards.
pub(super) fn describe_directories(
    shared: &Shared<'_>,
    directories: &mut Directories,
    root: &Inode,
) {
    for (id, nid) in directories.children_first() {
        if shared.is_stopped() {
            return;
        }
        let result = directories.open(id).and_then(|directory| {
            describe(
                shared,
                Handle::Open(directory.as_fd()),
                &shared.image.inode(nid)?,
            )
        });
        if let Err(error) = result {
            shared.problem(&directories.path(id), error);
        }
    }
    if directories.root_is_new() || shared.options.replace {
        let result = directories
            .open(DirectoryId::ROOT)
            .and_then(|directory| describe(shared, Handle::Open(directory.as_fd()), root));
        if let Err(error) = result {
            shared.problem(b"", error);
        }
    }
}

fn work(shared: &Shared<'_>, queue: &Mutex<Receiver<Job>>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if shared.is_stopped() {
            continue;
        }
        let place = Place {
            directory: &job.directory,
            name: &job.name,
            replace: job.replace,
        };
        match make_file(shared, &job.inode, place, &mut buffer) {
            Ok(()) => {
                if let Some(done) = job.done {
                    // Nobody listens once the walk is over.
                    let _ = done.send(());
                }
            }
            Err(error) => shared.problem(&job.path, error),
        }
    }
}

/// Components of the selected paths in order, each tree once; the whole image without any.
fn normalized(shared: &Shared<'_>, selection: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    if selection.is_empty() {
        return vec![Vec::new()];
    }
    let mut paths: Vec<Vec<Vec<u8>>> = Vec::new();
    for path in selection {
        let names = path
            .split(|byte| *byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."));
        match names
            .map(|name| component(name).map(<[u8]>::to_vec))
            .collect()
        {
            Ok(names) => paths.push(names),
            Err(error) => shared.problem(path, error),
        }
    }
    paths.sort();
    // What a path selects begins with it, and stands right behind it.
    paths.dedup_by(|later, earlier| later.starts_with(earlier));
    paths
}

struct Making<'s, 'd> {
    shared: &'s Shared<'s>,
    directories: &'d mut Directories,
    jobs: SyncSender<Job>,
    linked: HashMap<Nid, Linked>,
    /// From the root on; never empty.
    levels: Vec<Level>,
}

impl Making<'_, '_> {
    /// Makes one selected tree and the directories that lead to it.
    fn selected(&mut self, names: &[Vec<u8>]) -> Result<(), ExtractError> {
        let image = self.shared.image;
        let common = self
            .levels
            .iter()
            .skip(1)
            .zip(names)
            .take_while(|(level, name)| level.name == **name)
            .count();
        self.levels.truncate(common + 1);
        let Some(mut start) = self.levels.last().map(|level| level.inode) else {
            return Ok(());
        };
        for (index, name) in names.iter().enumerate().skip(common) {
            let nid = image.lookup(&start, name)?;
            let nid = nid.ok_or_else(|| Error::NotFound { name: name.clone() })?;
            start = image.inode(nid)?;
            if index + 1 < names.len() {
                if !start.is_directory() {
                    return Err(Error::NotADirectory(nid).into());
                }
                self.entry(
                    name,
                    &names.get(..=index).unwrap_or(names).join(&b'/'),
                    &start,
                )?;
            }
        }
        let prefix = names.join(&b'/');
        let depth_left = self.shared.options.max_depth.saturating_sub(names.len());
        let mut walk = image.walk_from(&start, depth_left);
        while let Some(entry) = walk.next() {
            if self.shared.is_stopped() {
                break;
            }
            match entry {
                Ok(entry) => self.walked(&prefix, names.len(), &entry),
                Err(error) => {
                    let path = joined(&prefix, walk.path());
                    self.shared.problem(&path, error.into());
                }
            }
        }
        Ok(())
    }

    fn walked(&mut self, prefix: &[u8], prefix_depth: usize, entry: &WalkEntry) {
        let depth = prefix_depth + entry.depth;
        // Above, and not the root itself.
        self.levels.truncate(depth.max(1));
        if depth == 0 || self.levels.len() < depth {
            // The root is there; below a directory that could not be made nothing can be.
            return;
        }
        let path = joined(prefix, &entry.path);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path);
        if let Err(error) = self.entry(name, &path, &entry.inode) {
            self.shared.problem(&path, error);
        }
    }

    /// Makes an entry of the innermost level.
    fn entry(&mut self, name: &[u8], path: &[u8], inode: &Inode) -> Result<(), ExtractError> {
        let name = component(name)?;
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        if name <= level.last.as_slice() {
            return Err(ExtractError::Unordered);
        }
        level.last = name.to_vec();
        let replace = self.shared.options.replace;
        let parent = level.id;
        if inode.is_directory() {
            let id = self.directories.make(parent, name, inode.nid(), replace)?;
            self.levels.push(Level {
                id,
                name: name.to_vec(),
                inode: *inode,
                last: Vec::new(),
            });
            self.shared.made.directories.add();
            return Ok(());
        }
        let directory = self.directories.open(parent)?;
        let place = Place {
            directory: &directory,
            name,
            replace,
        };
        if inode.nlink > 1 && self.link(inode.nid(), place)? {
            return Ok(());
        }
        let mut linked = Linked {
            directory: parent,
            name: name.to_vec(),
            pending: None,
        };
        if inode.file_type == FileType::Regular {
            let mut job = Job {
                inode: *inode,
                directory: Arc::clone(&directory),
                name: name.to_vec(),
                path: path.to_vec(),
                replace,
                done: None,
            };
            if inode.nlink > 1 {
                let (done, pending) = sync_channel(1);
                job.done = Some(done);
                linked.pending = Some(pending);
            }
            // Fails only when the workers have panicked, which the end of the scope reports.
            let _ = self.jobs.send(job);
        } else if !make_special(self.shared, inode, place)? {
            self.shared.skipped.device_nodes.add();
            return Ok(());
        }
        if inode.nlink > 1 {
            self.linked.insert(inode.nid(), linked);
        }
        Ok(())
    }

    /// Makes one more name of a file that was made before. `false` if none was, or not successfully.
    fn link(&mut self, nid: Nid, place: Place<'_>) -> Result<bool, ExtractError> {
        let Some(linked) = self.linked.get_mut(&nid) else {
            return Ok(false);
        };
        if let Some(pending) = linked.pending.take()
            && pending.recv().is_err()
        {
            self.linked.remove(&nid);
            return Ok(false);
        }
        let directory = self.directories.open(linked.directory)?;
        make_link(&directory, &linked.name, place)?;
        self.shared.made.hard_links.add();
        Ok(true)
    }
}

fn joined(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    if prefix.is_empty() || path.is_empty() {
        return [prefix, path].concat();
    }
    [prefix, b"/", path].concat()
}
