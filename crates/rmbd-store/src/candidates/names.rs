//! Which names are wanted, and those that were told.
//!
//! A thread that adds a key sees its bytes for a moment, before anybody knows whether the key is large: its weight
//! waits in the absorber. So a thread asks for the name of each key that becomes a candidate, by some bits of its hash,
//! and whoever meets such a key next copies its bytes into a queue. Where the queue is full, the name is still wanted.
//! The control thread takes what was told, and asks again for all that lack.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crossbeam_queue::ArrayQueue;
use rmbd_proto::compact::KEY_BYTES_MAX;
use rmbd_sketch::KeyHash;

/// A name that was told.
#[derive(Debug)]
pub(crate) struct Told {
    hash: KeyHash,
    len: u16,
    bytes: [u8; KEY_BYTES_MAX],
}

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);

/// Part of the places of a table for which names may wait to be taken. What is told between two rounds of the control
/// thread, and finds no place, is told later.
const WAITING_PART: usize = 4;

/// Places for keys that are asked for. Where two keys have one place, they are asked for one after the other.
pub(super) const TAGS: usize = 1 << 10;

/// The names that are wanted of one sketch. Threads that add read it for each key, and seldom does anybody write.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Whether any is. Mostly none is.
    are_any: AtomicBool,
    /// At the place of its hash stands the tag of each key that is asked for; 0 stands for none. In place, since a
    /// pointer more is felt with each add.
    tags: [AtomicU32; TAGS],
    told: ArrayQueue<Told>,
}

impl Wanted {
    /// No name is wanted yet. So many keys may lack one.
    pub(super) fn new(keys: usize) -> Self {
        Self {
            are_any: AtomicBool::new(false),
            tags: std::array::from_fn(|_| AtomicU32::new(0)),
            told: ArrayQueue::new(waiting(keys)),
        }
    }

    /// Bytes for asking for so many keys, and for keeping so many names of any length.
    pub(super) fn bytes_of(keys: usize, names: usize) -> u64 {
        let waiting = waiting(keys) * size_of::<Told>();
        let kept = names * (KEY_BYTES_MAX + size_of::<(KeyHash, Box<[u8]>)>());
        (size_of::<Self>() + waiting + kept) as u64
    }

    /// Whether a key's name may be wanted.
    #[inline]
    pub(crate) fn has(&self, hash: KeyHash) -> bool {
        // Tags stand for themselves. One that is seen too late or too long costs a message at most.
        self.are_any.load(Relaxed) && self.place(hash).load(Relaxed) == tag_of(hash)
    }

    /// Tells a name that may be wanted. A name above the longest key of a message is not told.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&self, hash: KeyHash, key: &[u8]) {
        let Some(name) = Told::of(hash, key) else {
            return;
        };
        if self.told.push(name).is_ok() {
            self.place(hash).store(0, Relaxed);
        }
    }

    /// Asks for the name of a key, beside those that are asked for already. A question that meets one of the control
    /// thread's may be lost: it asks again for all that lack.
    #[cold]
    pub(super) fn ask_too(&self, hash: KeyHash) {
        self.place(hash).store(tag_of(hash), Relaxed);
        self.are_any.store(true, Relaxed);
    }

    /// Whether names were told that nobody has taken.
    pub(super) fn are_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Takes a name that was told.
    pub(super) fn take(&self) -> Option<Told> {
        self.told.pop()
    }

    /// Asks for these names, and for no others. Where several of them have one place, one of them is asked for, in one
    /// turn another than in the next: it may be that one of them never comes again.
    pub(super) fn ask(&self, keys: &[KeyHash], turn: usize) {
        self.tags.iter().for_each(|tag| tag.store(0, Relaxed));
        let ask = |hash: &KeyHash| self.place(*hash).store(tag_of(*hash), Relaxed);
        // Of several the last one stays.
        let (earlier, later) = keys.split_at(turn % (keys.len() + 1));
        if turn.is_multiple_of(2) {
            later.iter().chain(earlier).for_each(ask);
        } else {
            later.iter().chain(earlier).rev().for_each(ask);
        }
        self.are_any.store(!keys.is_empty(), Relaxed);
    }

    #[inline]
    fn place(&self, hash: KeyHash) -> &AtomicU32 {
        // The bits that choose a set of the absorber are lower ones, so that not only keys of a few sets meet.
        let [_, high] = hash.halves();
        &self.tags[high as usize % TAGS]
    }
}

impl Told {
    fn of(hash: KeyHash, key: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self {
            hash,
            len: key.len() as u16,
            bytes,
        })
    }

    pub(super) fn hash(&self) -> KeyHash {
        self.hash
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn waiting(keys: usize) -> usize {
    (keys / WAITING_PART).max(1)
}

/// The bits by which a thread knows a key that is asked for, never 0. What it tells has the whole hash.
#[inline]
fn tag_of(hash: KeyHash) -> u32 {
    let [low, _] = hash.halves();
    (low >> 32) as u32 | 1
}
