//! A bounded cache of byte ranges: pages of metadata, and decoded extents, both found by where they begin.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What an entry costs on top of its bytes: key, queue slot, hash table slot, allocation.
const ENTRY_OVERHEAD: usize = 128;

/// Ranges by key, at most `capacity` bytes of them. Split into shards, each behind a lock of its own that is held only
/// to look up or to insert, never while reading or decoding.
///
/// Eviction is first in, first out, with a second chance for what was used since it came in.
pub(crate) struct Cache<K> {
    shards: Box<[Slot<K>]>,
    /// Faster than that of the standard library, and seeded by chance too: images do not choose what collides.
    hasher: DefaultHashBuilder,
    shard_capacity: usize,
}

struct Slot<K> {
    shard: Mutex<Shard<K>>,
    /// Told when a lead ends.
    ended: Condvar,
}

struct Shard<K> {
    /// Keys that somebody is making a range for: as many as threads at most.
    leads: Vec<K>,
    entries: HashTable<Entry<K>>,
    /// Hashes and keys in the order in which they came.
    queue: VecDeque<(u64, K)>,
    bytes: usize,
}

struct Entry<K> {
    hash: u64,
    key: K,
    data: Arc<[u8]>,
    used: bool,
}

/// What a cache has for a key.
pub(crate) enum Lookup<'a, K: Copy + Eq + Hash> {
    /// A range that is long enough.
    Found(Arc<[u8]>),
    /// Nothing; the caller is the one to make it.
    Lead(Lead<'a, K>),
}

/// The duty to make a range: others that want it wait until this is dropped.
pub(crate) struct Lead<'a, K: Copy + Eq + Hash> {
    cache: &'a Cache<K>,
    key: K,
}

impl<K: Copy + Eq + Hash> Lead<'_, K> {
    /// Keeps what was made.
    pub(crate) fn insert(self, data: &Arc<[u8]>) {
        self.cache.insert(self.key, data);
    }
}

impl<K: Copy + Eq + Hash> Drop for Lead<'_, K> {
    fn drop(&mut self) {
        let slot = self.cache.slot(self.cache.hash(&self.key));
        slot.lock().leads.retain(|key| *key != self.key);
        slot.ended.notify_all();
    }
}

impl<K> Slot<K> {
    fn lock(&self) -> MutexGuard<'_, Shard<K>> {
        // Nothing that can panic runs under the lock, and a cache is right in any state.
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Cache<K> {
    /// A cache of at most `capacity` bytes in at most 16 shards, each large enough for some ranges of `largest` bytes.
    pub(crate) fn new(capacity: usize, largest: usize) -> Self {
        let slot = || Slot {
            shard: Mutex::new(Shard {
                leads: Vec::new(),
                entries: HashTable::new(),
                queue: VecDeque::new(),
                bytes: 0,
            }),
            ended: Condvar::new(),
        };
        let count = (capacity / (largest + ENTRY_OVERHEAD)).clamp(1, 16);
        Self {
            shards: (0..count).map(|_| slot()).collect(),
            hasher: DefaultHashBuilder::default(),
            shard_capacity: capacity / count,
        }
    }

    /// Whether a range of `length` bytes can be kept at all.
    pub(crate) const fn admits(&self, length: usize) -> bool {
        length.saturating_add(ENTRY_OVERHEAD) <= self.shard_capacity
    }

    /// The range at `key`, if it has at least `length` bytes.
    pub(crate) fn get(&self, key: K, length: usize) -> Option<Arc<[u8]>> {
        let hash = self.hash(&key);
        self.slot(hash).lock().get(hash, key, length)
    }

    /// The range at `key`, if it has at least `length` bytes, or the duty to make it. Waits while somebody else has it.
    pub(crate) fn get_or_lead(&self, key: K, length: usize) -> Lookup<'_, K> {
        let hash = self.hash(&key);
        let slot = self.slot(hash);
        let mut shard = slot.lock();
        loop {
            if let Some(data) = shard.get(hash, key, length) {
                return Lookup::Found(data);
            }
            if !shard.leads.contains(&key) {
                shard.leads.push(key);
                return Lookup::Lead(Lead { cache: self, key });
            }
            shard = slot
                .ended
                .wait(shard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps `data` at `key` if it is not too large. A longer range replaces a shorter one.
    pub(crate) fn insert(&self, key: K, data: &Arc<[u8]>) {
        if !self.admits(data.len()) {
            return;
        }
        let hash = self.hash(&key);
        let mut shard = self.slot(hash).lock();
        let cost = data.len() + ENTRY_OVERHEAD;
        match shard.entries.find_mut(hash, |entry| entry.key == key) {
            Some(entry) if entry.data.len() >= data.len() => return,
            Some(entry) => {
                let grown = data.len() - entry.data.len();
                entry.data = Arc::clone(data);
                shard.bytes += grown;
            }
            None => {
                let entry = Entry {
                    hash,
                    key,
                    data: Arc::clone(data),
                    used: false,
                };
                shard.entries.insert_unique(hash, entry, |entry| entry.hash);
                shard.queue.push_back((hash, key));
                shard.bytes += cost;
            }
        }
        shard.shrink_to(self.shard_capacity);
    }

    fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    fn slot(&self, hash: u64) -> &Slot<K> {
        // Tables go by the first and the last bits.
        let [_, _, _, _, byte, ..] = hash.to_le_bytes();
        &self.shards[usize::from(byte) % self.shards.len()]
    }
}

impl<K: Copy + Eq + Hash> Shard<K> {
    fn get(&mut self, hash: u64, key: K, length: usize) -> Option<Arc<[u8]>> {
        let entry = self.entries.find_mut(hash, |entry| entry.key == key)?;
        if entry.data.len() < length {
            return None;
        }
        entry.used = true;
        Some(Arc::clone(&entry.data))
    }

    fn shrink_to(&mut self, capacity: usize) {
        while self.bytes > capacity {
            let Some((hash, key)) = self.queue.pop_front() else {
                return;
            };
            let found = self.entries.find_entry(hash, |entry| entry.key == key);
            let Ok(mut occupied) = found else {
                continue;
            };
            if std::mem::take(&mut occupied.get_mut().used) {
                self.queue.push_back((hash, key));
                continue;
            }
            let (entry, _) = occupied.remove();
            self.bytes = self.bytes.saturating_sub(entry.data.len() + ENTRY_OVERHEAD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn held(cache: &Cache<u64>) -> usize {
        cache.shards.iter().map(|slot| slot.lock().bytes).sum()
    }

    #[test]
    fn stays_below_its_capacity_and_keeps_what_is_used() {
        let capacity = 1 << 20;
        let cache = Cache::new(capacity, 4096);
        let data: Arc<[u8]> = vec![7; 4096].into();
        cache.insert(u64::MAX, &data);
        for key in 0..10_000u64 {
            cache.insert(key, &data);
            assert!(cache.get(u64::MAX, 1).is_some(), "used range lost at {key}");
        }
        assert!(held(&cache) <= capacity);
        assert!(held(&cache) > capacity / 2);
        assert!(cache.get(0, 1).is_none());
        assert!(cache.get(9_999, 1).is_some());
    }

    #[test]
    fn refuses_what_is_larger_than_a_shard() {
        let cache = Cache::new(1 << 20, 4096);
        let data: Arc<[u8]> = vec![0; 1 << 17].into();
        cache.insert(1, &data);
        assert!(cache.get(1, 1).is_none());
        assert_eq!(held(&cache), 0);
    }

    #[test]
    fn a_longer_range_replaces_a_shorter_one() {
        let cache = Cache::new(1 << 20, 4096);
        for length in [10usize, 30, 20] {
            cache.insert(1, &vec![0; length].into());
        }
        assert_eq!(cache.get(1, 30).map(|data| data.len()), Some(30));
        assert_eq!(held(&cache), 30 + ENTRY_OVERHEAD);
    }

    #[test]
    fn one_makes_what_many_want() {
        let cache = Cache::new(1 << 20, 4096);
        let made = AtomicUsize::new(0);
        let want = || match cache.get_or_lead(1u64, 10) {
            Lookup::Found(data) => assert_eq!(data.len(), 10),
            Lookup::Lead(lead) => {
                std::thread::sleep(Duration::from_millis(20));
                // The first one fails, the next makes it.
                if made.fetch_add(1, Ordering::Relaxed) > 0 {
                    lead.insert(&vec![0; 10].into());
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(want);
            }
        });
        assert_eq!(made.into_inner(), 2);
    }
}
