//! Makes what is selected in a directory: directories at once, files by workers, window after window.

use super::attributes::{Handle, describe};
use super::content::Copier;
use super::directories::{Directories, DirectoryId};
use super::error::ExtractError;
use super::node::{self, Place, is_device, make_link};
use super::shared::Shared;
use super::traverse::{Entry, Maker, traverse};
use super::window::{Job, Jobs, Link, Waiting, Window};
use crate::inode::Inode;
use erofs_format::Nid;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// Makes what is selected. Directories get their attributes later.
pub(super) fn make(
    shared: &Shared<'_>,
    directories: &Mutex<Directories>,
    root: &Inode,
    selection: &[Vec<u8>],
) {
    std::thread::scope(|scope| {
        let mut planting = Planting {
            shared,
            directories,
            scope,
            levels: vec![DirectoryId::ROOT],
            filling: Window::first(),
            running: None,
            linked: HashMap::new(),
        };
        traverse(shared, root, selection, &mut planting);
        planting.start();
        planting.wait();
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

struct Planting<'scope, 'env> {
    shared: &'env Shared<'env>,
    directories: &'env Mutex<Directories>,
    scope: &'scope Scope<'scope, 'env>,
    /// From the root to the current directory.
    levels: Vec<DirectoryId>,
    filling: Window,
    running: Option<Running<'scope>>,
    /// Files with several names.
    linked: HashMap<Nid, Linked>,
}

/// A window in the hands of the workers.
struct Running<'scope> {
    window: Arc<Window>,
    workers: Vec<ScopedJoinHandle<'scope, ()>>,
}

enum Linked {
    /// In a window.
    Waiting,
    /// Under this name.
    Made(DirectoryId, Box<[u8]>),
}

impl Maker for Planting<'_, '_> {
    fn enter(&mut self, directory: &Entry<'_>) -> Result<(), ExtractError> {
        let (nid, replace) = (directory.inode.nid(), self.shared.options.replace);
        let parent = self.level();
        let id = lock(self.directories).make(parent, directory.name, nid, replace)?;
        self.levels.push(id);
        self.shared.made.directories.add();
        Ok(())
    }

    fn leave(&mut self) {
        self.levels.pop();
    }

    fn make(&mut self, entry: &Entry<'_>) -> Result<(), ExtractError> {
        let inode = entry.inode;
        if is_device(inode) && !self.shared.options.devices {
            return Ok(());
        }
        let directory = self.level();
        if inode.nlink > 1 {
            if self.linked.contains_key(&inode.nid()) {
                self.filling.links.push(Link {
                    inode: *inode,
                    directory,
                    name: entry.name.into(),
                });
                return Ok(());
            }
            self.linked.insert(inode.nid(), Linked::Waiting);
        }
        let image = self.shared.image;
        self.filling.push(image, inode, directory, entry.name);
        if self.filling.is_full() {
            self.start();
        }
        Ok(())
    }
}

impl Planting<'_, '_> {
    fn level(&self) -> DirectoryId {
        self.levels.last().copied().unwrap_or(DirectoryId::ROOT)
    }

    /// Hands the window that was filled to the workers, when they are done with the one before.
    fn start(&mut self) {
        self.wait();
        let next = self.filling.successor();
        let mut window = std::mem::replace(&mut self.filling, next);
        let count = self.shared.options.workers.get();
        let jobs = Arc::new(window.schedule(count));
        let window = Arc::new(window);
        let workers = (0..count).map(|_| {
            let worker = Worker {
                shared: self.shared,
                directories: self.directories,
                window: Arc::clone(&window),
                last: None,
            };
            let jobs = Arc::clone(&jobs);
            self.scope.spawn(move || worker.work(&jobs))
        });
        self.running = Some(Running {
            workers: workers.collect(),
            window,
        });
    }

    /// Waits for the workers, then makes the links that need their files.
    fn wait(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        for worker in running.workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
        let window = &running.window;
        for file in window.files.iter().filter(|file| file.inode.nlink > 1) {
            if file.made.load(Ordering::Relaxed) {
                let made = Linked::Made(file.directory, file.name.clone());
                self.linked.insert(file.nid(), made);
            }
        }
        for link in &window.links {
            if self.shared.is_stopped() {
                return;
            }
            if let Err(error) = self.link(link) {
                let path = path(self.directories, link.directory, &link.name);
                self.shared.problem(&path, error);
            }
        }
    }

    /// Makes one more name of a file, or the file itself if it could not be made under the names before.
    fn link(&mut self, link: &Link) -> Result<(), ExtractError> {
        let directory = lock(self.directories).open(link.directory)?;
        let place = Place {
            directory: &directory,
            name: &link.name,
            replace: self.shared.options.replace,
        };
        let nid = link.inode.nid();
        if let Some(Linked::Made(made_in, name)) = self.linked.get(&nid) {
            let made_in = lock(self.directories).open(*made_in)?;
            make_link(&made_in, name, place)?;
            self.shared.made.hard_links.add();
            return Ok(());
        }
        let mut copier = Copier::new(self.shared.image, self.shared.progress);
        if node::make(self.shared, &link.inode, place, &mut copier)? {
            let made = Linked::Made(link.directory, link.name.clone());
            self.linked.insert(nid, made);
        }
        Ok(())
    }
}

struct Worker<'env> {
    shared: &'env Shared<'env>,
    directories: &'env Mutex<Directories>,
    window: Arc<Window>,
    /// The directory of the last file: neighbours mostly have it in common.
    last: Option<(DirectoryId, Arc<OwnedFd>)>,
}

impl Worker<'_> {
    fn work(mut self, jobs: &Jobs) {
        let window = Arc::clone(&self.window);
        let mut copier = Copier::new(self.shared.image, self.shared.progress);
        while let Some(job) = jobs.take() {
            match job {
                Job::Files(range) => {
                    for file in window.files.get(range.clone()).unwrap_or_default() {
                        self.told(file, |worker, place, inode| {
                            node::make(worker.shared, inode, place, &mut copier)
                        });
                    }
                }
                Job::Share(large) => {
                    let Some(file) = window.files.get(large.index) else {
                        continue;
                    };
                    self.told(file, |_, place, inode| {
                        large
                            .copy_share(inode, place.directory, &mut copier)
                            .map(|()| false)
                    });
                    if let Some((whole, written)) = large.leave() {
                        self.told(file, |worker, place, inode| {
                            whole
                                .complete(worker.shared, inode, place, written)
                                .map(|()| true)
                        });
                    }
                }
            }
        }
    }

    /// Works on a file unless all has been stopped; notes that it was made, or reports why not.
    fn told(
        &mut self,
        file: &Waiting,
        work: impl FnOnce(&Self, Place<'_>, &Inode) -> Result<bool, ExtractError>,
    ) {
        if self.shared.is_stopped() {
            return;
        }
        let result = self.directory(file.directory).and_then(|directory| {
            let place = Place {
                directory: &directory,
                name: &file.name,
                replace: self.shared.options.replace,
            };
            work(self, place, &file.inode)
        });
        match result {
            Ok(true) => file.made.store(true, Ordering::Relaxed),
            Ok(false) => {}
            Err(error) => {
                let path = path(self.directories, file.directory, &file.name);
                self.shared.problem(&path, error);
            }
        }
    }

    fn directory(&mut self, id: DirectoryId) -> Result<Arc<OwnedFd>, ExtractError> {
        if let Some((last, open)) = &self.last
            && *last == id
        {
            return Ok(Arc::clone(open));
        }
        let open = lock(self.directories).open(id)?;
        self.last = Some((id, Arc::clone(&open)));
        Ok(open)
    }
}

fn lock(directories: &Mutex<Directories>) -> MutexGuard<'_, Directories> {
    // Only ever appended to, so a poisoned lock guards a good value.
    directories.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(directories: &Mutex<Directories>, directory: DirectoryId, name: &[u8]) -> Vec<u8> {
    let mut path = lock(directories).path(directory);
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
