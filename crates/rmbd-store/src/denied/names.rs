//! The names of denied keys: those that wait in a queue, and those that were taken over.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_queue::ArrayQueue;
use rmbd_proto::compact::KEY_BYTES_MAX;

/// Names that may wait. They are taken over twice a second; of a key that is denied often one gets through.
const WAITING_MAX: usize = 256;
/// Bytes of all names together. Above half of it, those of keys that are in no table are forgotten.
const NAMES_BYTES_MAX: usize = 4 << 20;
/// Bytes that a name costs beside its own: its place in the map, and what the allocator takes.
const NAME_COSTS_BYTES: usize = 96;

/// The number of a limit, and the hash of a key.
type Key = (u64, u64);

#[derive(Debug)]
pub(super) struct Names {
    waiting: ArrayQueue<Told>,
    taken: Mutex<Taken>,
}

/// A name on its way.
#[derive(Debug)]
struct Told {
    key: Key,
    len: u16,
    bytes: [u8; KEY_BYTES_MAX],
}

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);

#[derive(Debug, Default)]
struct Taken {
    names: HashMap<Key, Box<[u8]>>,
    bytes: usize,
}

impl Names {
    /// Bytes that they need at most.
    pub(super) const MEMORY_BYTES: u64 = (WAITING_MAX * size_of::<Told>() + NAMES_BYTES_MAX) as u64;

    pub(super) fn new() -> Self {
        Self {
            waiting: ArrayQueue::new(WAITING_MAX),
            taken: Mutex::default(),
        }
    }

    /// Whether a name is short enough.
    pub(super) fn takes(name: &[u8]) -> bool {
        name.len() <= KEY_BYTES_MAX
    }

    /// Tells a name, and returns whether there was room for it.
    pub(super) fn tell(&self, key: Key, name: &[u8]) -> bool {
        // Nothing is copied where there is no room.
        if self.waiting.is_full() {
            return false;
        }
        let mut bytes = [0; KEY_BYTES_MAX];
        let Some(place) = bytes.get_mut(..name.len()) else {
            return false;
        };
        place.copy_from_slice(name);
        let len = name.len() as u16;
        self.waiting.push(Told { key, len, bytes }).is_ok()
    }

    /// Takes over the names that wait, and returns whether they are many now.
    pub(super) fn take(&self) -> bool {
        let mut taken = self.lock();
        // As many as may wait: others may come all the time.
        for _ in 0..WAITING_MAX {
            let Some(told) = self.waiting.pop() else {
                break;
            };
            taken.keep(&told);
        }
        taken.bytes > NAMES_BYTES_MAX / 2
    }

    /// Forgets the names of all keys but these.
    pub(super) fn retain(&self, stays: impl Fn(Key) -> bool) {
        let mut taken = self.lock();
        taken.names.retain(|&key, _| stays(key));
        taken.bytes = taken.names.values().map(|name| costs(name)).sum();
        taken.names.shrink_to_fit();
    }

    /// The names of these keys.
    pub(super) fn find(&self, keys: impl Iterator<Item = Key>) -> Vec<Option<Box<[u8]>>> {
        let taken = self.lock();
        keys.map(|key| taken.names.get(&key).cloned()).collect()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().names.len()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // It is valid even if a holder panicked: its bytes are summed up anew now and then.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn keep(&mut self, told: &Told) {
        let name = &told.bytes[..usize::from(told.len)];
        if self.bytes + costs(name) <= NAMES_BYTES_MAX {
            self.bytes += costs(name);
            let before = self.names.insert(told.key, name.into());
            self.bytes -= before.map_or(0, |before| costs(&before));
        }
    }
}

fn costs(name: &[u8]) -> usize {
    name.len() + NAME_COSTS_BYTES
}
