//! Large files, made by several workers at once: each takes the next segment until none is left, the last one to come
//! gives the file its name.

use super::content::Copier;
use super::error::ExtractError;
use super::node::NewFile;
use crate::inode::Inode;
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a segment.
const SEGMENT: u64 = 4 << 20;

/// A large file on its way.
pub(super) struct Large {
    /// Which of its window.
    pub(super) index: usize,
    /// Where the next segment begins.
    next: AtomicU64,
    written: AtomicU64,
    /// Workers that are not done with it.
    shares: AtomicUsize,
    state: Mutex<State>,
}

enum State {
    Waiting,
    Open(Arc<NewFile>),
    Failed,
}

impl Large {
    pub(super) const fn new(index: usize, shares: usize) -> Self {
        Self {
            index,
            next: AtomicU64::new(0),
            written: AtomicU64::new(0),
            shares: AtomicUsize::new(shares),
            state: Mutex::new(State::Waiting),
        }
    }

    /// Makes segments of the file in `directory` until all are taken. The error of a segment is that of the file: what
    /// the others have made of it is given up.
    pub(super) fn copy_share(
        &self,
        inode: &Inode,
        directory: &Arc<OwnedFd>,
        copier: &mut Copier<'_>,
    ) -> Result<(), ExtractError> {
        while let Some(file) = self.file(directory, inode)? {
            let start = self.next.fetch_add(SEGMENT, Ordering::Relaxed);
            let size = inode.data_size();
            if start >= size {
                break;
            }
            let end = size.min(start.saturating_add(SEGMENT));
            match copier.copy(inode, start..end, file.file()) {
                Ok((written, behind)) => {
                    self.written.fetch_add(written, Ordering::Relaxed);
                    // Nothing begins in a hole; its end may be in the middle of a segment.
                    let next = behind - behind % SEGMENT;
                    self.next.fetch_max(next, Ordering::Relaxed);
                }
                Err(error) => {
                    *self.state() = State::Failed;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Says that a worker is done with its share. The last one gets the file, if it is whole, and the number of bytes
    /// written.
    pub(super) fn leave(&self) -> Option<(Arc<NewFile>, u64)> {
        if self.shares.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        match std::mem::replace(&mut *self.state(), State::Failed) {
            State::Open(file) => Some((file, self.written.load(Ordering::Relaxed))),
            State::Waiting | State::Failed => None,
        }
    }

    /// The file, made by whoever comes first; `None` after a failure.
    fn file(
        &self,
        directory: &Arc<OwnedFd>,
        inode: &Inode,
    ) -> Result<Option<Arc<NewFile>>, ExtractError> {
        let mut state = self.state();
        match &*state {
            State::Open(file) => Ok(Some(Arc::clone(file))),
            State::Failed => Ok(None),
            State::Waiting => match NewFile::make(directory, inode.data_size()) {
                Ok(file) => {
                    let file = Arc::new(file);
                    *state = State::Open(Arc::clone(&file));
                    Ok(Some(file))
                }
                Err(error) => {
                    *state = State::Failed;
                    Err(error)
                }
            },
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Replaced as a whole, so a poisoned lock guards a good value.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
