//! Contents compared by workers, large files by several at once.

use super::content::{Buffers, digest, first_difference};
use super::difference::{Changes, ContentChange, Difference, Kind, Problem};
use super::ordered::{Found, Ordered, Place};
use super::side::{Handle, Side, SideError};
use crossbeam_channel::{Receiver, Sender};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is compared at once, in bytes: a multiple of any compressed cluster. Longer in files that have more of these than
/// [`MOST_SEGMENTS`], which are mostly holes.
const SEGMENT: u64 = 16 << 20;
/// Segments of one file.
const MOST_SEGMENTS: u64 = 256;
/// Segments that wait for a worker.
const QUEUE: usize = 1024;
/// No difference was found.
const NOWHERE: u64 = u64::MAX;

/// Two files of the same size that may have different contents.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) place: Place,
    pub(super) path: Vec<u8>,
    pub(super) handles: [Handle; 2],
    /// In bytes, not 0.
    pub(super) size: u64,
    /// What differs already.
    pub(super) changes: Changes,
    pub(super) remembered: bool,
}

/// A pair that is being compared.
#[derive(Debug)]
struct Open {
    pair: Pair,
    segments_left: AtomicU64,
    /// The first byte that differs, as far as is known.
    first: AtomicU64,
    problem: Mutex<Option<(usize, SideError)>>,
}

struct Segment {
    file: Arc<Open>,
    range: Range<u64>,
}

/// The queue of files.
pub(super) struct Files<'c> {
    sides: [&'c dyn Side; 2],
    ordered: &'c Ordered<'c>,
    sender: Sender<Segment>,
}

/// What takes files from the queue.
pub(super) struct Worker<'c> {
    sides: [&'c dyn Side; 2],
    ordered: &'c Ordered<'c>,
    progress: &'c AtomicU64,
    receiver: Receiver<Segment>,
}

impl<'c> Files<'c> {
    /// A queue, and a worker to clone.
    pub(super) fn new(
        sides: [&'c dyn Side; 2],
        ordered: &'c Ordered<'c>,
        progress: &'c AtomicU64,
    ) -> (Self, Worker<'c>) {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE);
        let files = Self {
            sides,
            ordered,
            sender,
        };
        let worker = Worker {
            sides,
            ordered,
            progress,
            receiver,
        };
        (files, worker)
    }

    /// Has a pair compared.
    pub(super) fn compare(&self, pair: Pair) {
        let size = pair.size;
        // A digest is of the whole.
        let step = if self.sides.iter().any(|side| side.has_digests_only()) {
            size
        } else {
            size.div_ceil(SEGMENT * MOST_SEGMENTS).max(1) * SEGMENT
        };
        let file = Arc::new(Open {
            pair,
            segments_left: AtomicU64::new(size.div_ceil(step)),
            first: AtomicU64::new(NOWHERE),
            problem: Mutex::default(),
        });
        let mut start = 0;
        while start < size && !self.ordered.stopped() {
            let end = start.saturating_add(step).min(size);
            let segment = Segment {
                file: Arc::clone(&file),
                range: start..end,
            };
            if self.sender.send(segment).is_err() {
                // No worker is left: the results are not wanted any more.
                return;
            }
            start = end;
        }
    }
}

impl Clone for Worker<'_> {
    fn clone(&self) -> Self {
        Self {
            receiver: self.receiver.clone(),
            ..*self
        }
    }
}

impl Worker<'_> {
    /// Compares until the queue is closed.
    pub(super) fn run(&self) {
        let mut buffers = Buffers::default();
        for Segment { file, range } in &self.receiver {
            if self.ordered.stopped() {
                continue;
            }
            let length = range.end - range.start;
            if range.start < file.first.load(Ordering::Relaxed) {
                self.segment(&file, range, &mut buffers);
            }
            self.progress.fetch_add(length, Ordering::Relaxed);
            if file.segments_left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.finish(&file);
            }
        }
    }

    fn segment(&self, file: &Open, range: Range<u64>, buffers: &mut Buffers) {
        match self.first_difference(file, range, buffers) {
            Ok(None) => {}
            Ok(Some(at)) => {
                file.first.fetch_min(at, Ordering::Relaxed);
            }
            Err(problem) => {
                file.problem
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(problem);
            }
        }
    }

    fn first_difference(
        &self,
        file: &Open,
        range: Range<u64>,
        buffers: &mut Buffers,
    ) -> Result<Option<u64>, (usize, SideError)> {
        let content = |side: usize| {
            self.sides[side]
                .content(&file.pair.path, file.pair.handles[side])
                .map_err(|error| (side, error))
        };
        let (a, b) = (content(0)?, content(1)?);
        if !self.sides.iter().any(|side| side.has_digests_only()) {
            return first_difference([&a, &b], range, buffers);
        }
        let size = file.pair.size;
        let left = digest(&a, size, buffers).map_err(|error| (0, error))?;
        let right = digest(&b, size, buffers).map_err(|error| (1, error))?;
        // Where is not known: `finish` leaves it out.
        Ok((left != right).then_some(0))
    }

    fn finish(&self, file: &Open) {
        let Pair {
            place,
            path,
            size,
            changes,
            remembered,
            ..
        } = &file.pair;
        let mut changes = changes.clone();
        let first = file.first.load(Ordering::Relaxed);
        if first != NOWHERE {
            let by_digest = self.sides.iter().any(|side| side.has_digests_only());
            changes.content = Some(ContentChange {
                sizes: (*size, *size),
                first: (!by_digest).then_some(first),
            });
        }
        let problem = file
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let found = Found {
            difference: (!changes.is_empty()).then(|| Difference {
                path: path.clone(),
                kind: Kind::Modified(Box::new(changes)),
            }),
            problem: problem.map(|(side, error)| Problem {
                side,
                path: path.clone(),
                error,
            }),
            only_if: None,
            remembered: *remembered,
        };
        self.ordered.take(*place, found);
    }
}
