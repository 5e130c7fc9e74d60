//! A lock for each layer or snapshot that somebody changes.

use crate::metadata::Number;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is known of each, behind a lock of its own. What is as it is by default takes no room once nobody holds it.
#[derive(Debug, Default)]
pub(crate) struct Locks<T> {
    entries: Mutex<HashMap<Number, Arc<Mutex<T>>>>,
}

impl<T: Default + PartialEq> Locks<T> {
    /// Where this is known.
    pub(crate) fn knowing(known: impl Iterator<Item = (Number, T)>) -> Self {
        let entries = known.map(|(number, value)| (number, Arc::new(Mutex::new(value))));
        Self {
            entries: Mutex::new(entries.collect()),
        }
    }

    /// Does something while nobody else does anything with the same number.
    pub(crate) fn with<R>(&self, number: Number, change: impl FnOnce(&mut T) -> R) -> R {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = Arc::clone(entries.entry(number).or_default());
        drop(entries);
        let mut value = entry.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut value);
        let is_default = *value == T::default();
        drop(value);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits for it has it already, and looks here again.
        if is_default && Arc::strong_count(&entry) == 2 {
            entries.remove(&number);
        }
        result
    }

    /// What is there under a number, unless somebody works with it.
    pub(crate) fn at_rest(&self, number: Number) -> Option<T>
    where
        T: Copy,
    {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let value = entries.get(&number)?.try_lock();
        value.ok().map(|value| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn one_works_at_a_time_and_nothing_is_left() {
        let locks = Locks::<u32>::knowing([(Number(7), 0)].into_iter());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        for number in [7, 8].map(Number) {
                            locks.with(number, |holders| {
                                assert_eq!(*holders, 0);
                                *holders += 1;
                                thread::yield_now();
                                *holders -= 1;
                            });
                        }
                    }
                });
            }
        });
        let left = || locks.entries.lock().expect("not poisoned").len();
        assert_eq!(left(), 0);
        locks.with(Number(9), |value| *value = 1);
        assert_eq!(left(), 1);
        locks.with(Number(9), |value| *value = 0);
        assert_eq!(left(), 0);
    }
}
