//! Results in the order of the walk, whoever has them first.

use super::difference::{Difference, Kind, Problem};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Results that may wait for earlier ones.
const MOST_WAITING: usize = 64 << 10;
/// Bytes that they may take.
const MOST_BYTES: usize = 16 << 20;

/// Takes what a comparison finds.
pub(crate) trait Sink: Send {
    /// Takes a difference; `Break` ends the comparison.
    ///
    /// # Errors
    /// Whatever went wrong with it; that ends the comparison too.
    fn difference(&mut self, difference: &Difference) -> io::Result<ControlFlow<()>>;

    /// Takes an entry that could not be compared.
    fn problem(&mut self, problem: &Problem);
}

/// A place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(u64);

/// What became of one entry.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) difference: Option<Difference>,
    pub(super) problem: Option<Problem>,
    /// It counts only when what was found at this place is a difference.
    pub(super) only_if: Option<Place>,
    /// Others depend on it.
    pub(super) remembered: bool,
}

/// Brings results into order.
pub(super) struct Ordered<'s> {
    state: Mutex<State<'s>>,
    room: Condvar,
    stopped: AtomicBool,
}

struct State<'s> {
    sink: &'s mut dyn Sink,
    given: u64,
    next: u64,
    waiting: BTreeMap<u64, (Found, usize)>,
    bytes: usize,
    different: HashSet<Place>,
    changed: u64,
    problems: u64,
    failure: Option<io::Error>,
}

impl<'s> Ordered<'s> {
    pub(super) fn new(sink: &'s mut dyn Sink) -> Self {
        Self {
            state: Mutex::new(State {
                sink,
                given: 0,
                next: 0,
                waiting: BTreeMap::new(),
                bytes: 0,
                different: HashSet::new(),
                changed: 0,
                problems: 0,
                failure: None,
            }),
            room: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'s>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next place. Waits while too much waits already, so only one thread may ask.
    pub(super) fn place(&self) -> Place {
        let mut state = self.state();
        while (state.waiting.len() >= MOST_WAITING || state.bytes >= MOST_BYTES) && !self.stopped()
        {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.given += 1;
        Place(state.given - 1)
    }

    /// Whether nobody wants more results.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Takes what was found at a place, once for each.
    pub(super) fn take(&self, place: Place, found: Found) {
        let weight = found.difference.as_ref().map_or(0, weight);
        let mut state = self.state();
        state.bytes += weight;
        state.waiting.insert(place.0, (found, weight));
        loop {
            let next = state.next;
            let Some((found, weight)) = state.waiting.remove(&next) else {
                break;
            };
            state.next += 1;
            state.bytes -= weight;
            if !self.stopped() && state.tell(Place(next), found).is_break() {
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
        self.room.notify_one();
    }

    /// Entries that are on both sides and differ, entries that could not be compared; or why results could not be told.
    pub(super) fn finish(&self) -> io::Result<(u64, u64)> {
        let mut state = self.state();
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok((state.changed, state.problems)),
        }
    }
}

impl State<'_> {
    fn tell(&mut self, place: Place, found: Found) -> ControlFlow<()> {
        if let Some(problem) = &found.problem {
            self.problems += 1;
            self.sink.problem(problem);
        }
        let counts = found
            .only_if
            .is_none_or(|other| self.different.contains(&other));
        let Some(difference) = found.difference.filter(|_| counts) else {
            return ControlFlow::Continue(());
        };
        if found.remembered {
            self.different.insert(place);
        }
        if matches!(difference.kind, Kind::Modified(_) | Kind::ModifiedAs { .. }) {
            self.changed += 1;
        }
        match self.sink.difference(&difference) {
            Ok(flow) => flow,
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

fn weight(difference: &Difference) -> usize {
    difference.path.len()
        + match &difference.kind {
            Kind::Modified(changes) => changes.weight(),
            Kind::Renamed { from, changes, .. } => from.len() + changes.weight(),
            Kind::ModifiedAs { first } => first.len(),
            Kind::Added(_) | Kind::Removed(_) => size_of::<Difference>(),
        }
}
