//! Exactly once: which requests of which clients have been applied.
//!
//! Each client numbers its requests. The table keeps, for each of a bounded number of clients, the
//! highest number (*sequence*) that came and one bit for each of the [`WINDOW`] sequences up to it:
//!
//! ```text
//!   too old to tell  |<------------- WINDOW ------------>|  ahead: moves the window
//!   ... 39   40   41 | 42   43   44   ...   1063   1064  1065 | 1066 ...
//!                    |  x         x           x      x    x   |      x: applied
//!                                                       highest
//! ```
//!
//! A client that has not been heard of for longer than [`IDLE_LIMIT`] has given up on all that it
//! had under way, and what the network still held of it is gone; so nothing of it can come twice any
//! more, and its place may go to another. Others are *live*, and keep their places whatever comes: a
//! full table refuses new clients.
//!
//! Whoever may ask a node for its boot can fill the table with clients that do not exist, at 200
//! datagrams a second; that keeps new clients out of exactly-once, and harms nothing else. `--allow`
//! says who may ask.
//!
//! Any thread may ask, since a client's datagrams reach another thread when its port changes. The
//! table is cut into 64 parts with a lock each, which is held for some ten nanoseconds once a
//! datagram. All memory is reserved at the start, and touched as clients come.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Sequences of a client that can be told apart.
pub const WINDOW: u64 = 1024;

/// How long a client may repeat a request.
pub const RETRY_LIMIT: Duration = Duration::from_secs(120);

/// How long a silent client keeps its place: it repeats a request for
/// [`RETRY_LIMIT`] at most, a datagram lives
/// for another 120 s at most (RFC 9293, 3.4.1), and a minute is for clocks that run apart. Longer would
/// keep places for short-lived clients: 65 536 places at 300 s serve some 200 new ones a second.
pub const IDLE_LIMIT: Duration = Duration::from_secs(RETRY_LIMIT.as_secs() + 120 + 60);

/// Clients that a node remembers: some 11 MiB if all places are taken.
pub const CLIENTS_MAX: usize = 1 << 16;

/// Parts of the table: with more than there are cores, two threads seldom want the same one.
const SHARDS: usize = 64;

/// A window's bits.
const WORDS: usize = (WINDOW / 64) as usize;

/// No place.
const NOWHERE: u32 = u32::MAX;

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Apply it. It is marked as applied, so the caller must.
    New,
    /// It was applied before: do not add its weights again.
    Repeat,
    /// Out of the client's window: nobody knows.
    TooOld,
    /// A new client, and there is no place for it.
    Full,
}

/// The clients that are remembered. Shared by all threads.
///
/// ```
/// use std::time::Duration;
/// use rmbd::replica::once::{Admission, OnceTable};
///
/// let table = OnceTable::new(1000, 7);
/// let now = Duration::ZERO;
/// assert_eq!(table.admit(0xc11e47, 1, now), Admission::New);
/// assert_eq!(table.admit(0xc11e47, 1, now), Admission::Repeat);
/// assert_eq!(table.admit(0xc11e47, 2, now), Admission::New);
/// ```
#[derive(Debug)]
pub struct OnceTable {
    shards: Box<[Mutex<Shard>]>,
    /// Clients choose their numbers; where they lie they shall not be able to choose.
    seed: u64,
}

impl OnceTable {
    /// A table for `clients` clients (at least one for each of its 64 parts; a part is full when its
    /// share is). The seed is to be random.
    #[must_use]
    pub fn new(clients: usize, seed: u64) -> Self {
        Self::with_shards(clients, seed, SHARDS)
    }

    fn with_shards(clients: usize, seed: u64, shards: usize) -> Self {
        let share = clients.div_ceil(shards).clamp(1, NOWHERE as usize);
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(share))).collect(),
            seed,
        }
    }

    /// Asks for request `sequence` of `client`, and marks it as applied where the answer is
    /// [`Admission::New`]. Of several threads that ask at once, one gets that answer.
    ///
    /// `now` is the time since any fixed moment.
    #[inline]
    pub fn admit(&self, client: u64, sequence: u64, now: Duration) -> Admission {
        let hash = xxh3_64_with_seed(&client.to_le_bytes(), self.seed);
        // Whole milliseconds: 2^64 of them last.
        let now_ms = now.as_millis() as u64;
        self.shard(hash).admit(client, hash, sequence, now_ms)
    }

    /// Clients that have a place, live or not.
    #[must_use]
    pub fn clients(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).entries.len()).sum()
    }

    #[inline]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The upper half chooses the part, the lower one the place in it.
        lock(&self.shards[(hash >> 32) as usize % self.shards.len()])
    }
}

/// Nothing in here panics while a lock is held; if it did, at worst a client's window would be lost.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hash table with chains, and a list of its clients by when they were heard of. Links are places
/// in `entries`, which is filled to its capacity and then reused.
#[derive(Debug)]
struct Shard {
    /// First of each chain.
    heads: Box<[u32]>,
    entries: Vec<Client>,
    /// Heard of last, and longest ago.
    newest: u32,
    oldest: u32,
}

#[derive(Debug, Clone)]
struct Client {
    id: u64,
    /// The chain that it is in.
    head: u32,
    next_in_chain: u32,
    newer: u32,
    older: u32,
    heard_ms: u64,
    highest: u64,
    /// Of sequence s, bit s % 64 of word s / 64 % WORDS.
    applied: [u64; WORDS],
}

impl Shard {
    fn new(clients: usize) -> Self {
        Self {
            heads: vec![NOWHERE; clients.next_power_of_two()].into_boxed_slice(),
            entries: Vec::with_capacity(clients),
            newest: NOWHERE,
            oldest: NOWHERE,
        }
    }

    fn admit(&mut self, id: u64, hash: u64, sequence: u64, now_ms: u64) -> Admission {
        // As many chains as a power of two below 2^32.
        let head = hash as u32 & (self.heads.len() - 1) as u32;
        let Some(place) = self.find(id, head) else {
            return self.admit_stranger(id, head, sequence, now_ms);
        };
        self.unlink_age(place);
        self.link_newest(place);
        let client = &mut self.entries[place as usize];
        // Threads read the clock before they wait for the lock.
        client.heard_ms = client.heard_ms.max(now_ms);
        client.mark(sequence)
    }

    fn find(&self, id: u64, head: u32) -> Option<u32> {
        let mut place = self.heads[head as usize];
        while place != NOWHERE {
            let client = &self.entries[place as usize];
            if client.id == id {
                return Some(place);
            }
            place = client.next_in_chain;
        }
        None
    }

    fn admit_stranger(&mut self, id: u64, head: u32, sequence: u64, now_ms: u64) -> Admission {
        let mut client = Client {
            id,
            head,
            next_in_chain: self.heads[head as usize],
            newer: NOWHERE,
            older: NOWHERE,
            heard_ms: now_ms,
            highest: sequence,
            applied: [0; WORDS],
        };
        let admission = client.mark(sequence);
        let place = if self.entries.len() < self.entries.capacity() {
            self.entries.push(client);
            (self.entries.len() - 1) as u32
        } else {
            let Some(place) = self.evict(now_ms) else {
                return Admission::Full;
            };
            // It may have been in the same chain.
            client.next_in_chain = self.heads[head as usize];
            self.entries[place as usize] = client;
            place
        };
        self.heads[head as usize] = place;
        self.link_newest(place);
        admission
    }

    /// Takes the place of the client that was heard of longest ago, if it is not live.
    fn evict(&mut self, now_ms: u64) -> Option<u32> {
        let place = self.oldest;
        let client = self.entries.get(place as usize)?;
        if now_ms.saturating_sub(client.heard_ms) <= IDLE_LIMIT.as_millis() as u64 {
            return None;
        }
        let (head, next) = (client.head as usize, client.next_in_chain);
        if self.heads[head] == place {
            self.heads[head] = next;
        } else {
            let mut before = self.heads[head];
            while self.entries[before as usize].next_in_chain != place {
                before = self.entries[before as usize].next_in_chain;
            }
            self.entries[before as usize].next_in_chain = next;
        }
        self.unlink_age(place);
        Some(place)
    }

    fn unlink_age(&mut self, place: u32) {
        let (newer, older) = {
            let client = &self.entries[place as usize];
            (client.newer, client.older)
        };
        match self.entries.get_mut(newer as usize) {
            Some(client) => client.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(client) => client.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let before = self.newest;
        match self.entries.get_mut(before as usize) {
            Some(client) => client.newer = place,
            None => self.oldest = place,
        }
        let client = &mut self.entries[place as usize];
        (client.newer, client.older) = (NOWHERE, before);
        self.newest = place;
    }
}

impl Client {
    fn mark(&mut self, sequence: u64) -> Admission {
        if sequence > self.highest {
            self.advance(sequence);
        } else if self.highest - sequence >= WINDOW {
            return Admission::TooOld;
        }
        let (word, bit) = place_of(sequence);
        let was_applied = self.applied[word] & bit != 0;
        self.applied[word] |= bit;
        if was_applied {
            Admission::Repeat
        } else {
            Admission::New
        }
    }

    /// Moves the window on: the bits of sequences that enter it were those of ones that leave.
    fn advance(&mut self, sequence: u64) {
        if sequence - self.highest >= WINDOW {
            self.applied = [0; WORDS];
        } else {
            for entering in self.highest + 1..=sequence {
                let (word, bit) = place_of(entering);
                self.applied[word] &= !bit;
            }
        }
        self.highest = sequence;
    }
}

fn place_of(sequence: u64) -> (usize, u64) {
    let word = (sequence / 64) as usize % WORDS;
    (word, 1 << (sequence % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_tells_new_from_repeated_from_too_old() {
        let table = OnceTable::new(1, 7);
        let admit = |sequence| table.admit(1, sequence, at(0));
        assert_eq!(admit(5000), Admission::New);
        for sequence in [4999, 5000 - 1023, 4500] {
            assert_eq!(admit(sequence), Admission::New);
            assert_eq!(admit(sequence), Admission::Repeat);
        }
        assert_eq!(admit(5000 - 1024), Admission::TooOld);
        assert_eq!(admit(0), Admission::TooOld);
        // The window moves by one: exactly one sequence leaves it.
        assert_eq!(admit(5001), Admission::New);
        assert_eq!(admit(5000 - 1023), Admission::TooOld);
        assert_eq!(admit(5000 - 1022), Admission::New);
        assert_eq!(admit(5000), Admission::Repeat);
        // A leap leaves nothing behind.
        assert_eq!(admit(u64::MAX), Admission::New);
        assert_eq!(admit(u64::MAX - 1023), Admission::New);
        assert_eq!(admit(u64::MAX), Admission::Repeat);
        assert_eq!(admit(5001), Admission::TooOld);
    }

    #[test]
    fn a_full_table_refuses_strangers_and_keeps_the_live() {
        let table = OnceTable::with_shards(100, 7, 1);
        for client in 0..100 {
            assert_eq!(table.admit(client, 1, at(client)), Admission::New);
        }
        assert_eq!(table.clients(), 100);
        assert_eq!(table.admit(100, 1, at(100)), Admission::Full);
        // The oldest is live until the limit has passed, and hearing of it keeps it so.
        assert_eq!(table.admit(0, 1, at(200)), Admission::Repeat);
        let limit = IDLE_LIMIT.as_secs();
        assert_eq!(table.admit(100, 1, at(1 + limit)), Admission::Full);
        assert_eq!(table.admit(100, 1, at(2 + limit)), Admission::New);
        // Client 1 lost its place, all others are where they were.
        assert_eq!(table.admit(101, 1, at(2 + limit)), Admission::Full);
        assert_eq!(table.admit(1, 1, at(2 + limit)), Admission::Full);
        for client in (2..101).chain([0]) {
            assert_eq!(table.admit(client, 1, at(2 + limit)), Admission::Repeat);
        }
        assert_eq!(table.clients(), 100);
    }

    #[test]
    fn a_clock_that_is_read_late_does_not_make_a_client_older() {
        let table = OnceTable::with_shards(1, 7, 1);
        assert_eq!(table.admit(1, 1, at(1000)), Admission::New);
        assert_eq!(table.admit(1, 2, at(10)), Admission::New);
        let limit = IDLE_LIMIT.as_secs();
        assert_eq!(table.admit(2, 1, at(1000 + limit)), Admission::Full);
        assert_eq!(table.admit(2, 1, at(0)), Admission::Full);
        assert_eq!(table.admit(2, 1, at(1001 + limit)), Admission::New);
    }

    #[test]
    fn threads_that_ask_at_once_apply_each_request_once() {
        const SEQUENCES: u64 = 20_000;
        let table = OnceTable::new(100, 7);
        let applied: u64 = std::thread::scope(|scope| {
            let ask = |_| {
                scope.spawn(|| {
                    let asks = (0..SEQUENCES).flat_map(|n| (0..3).map(move |client| (client, n)));
                    let new = asks.filter(|&(client, sequence)| {
                        table.admit(client, sequence, at(0)) == Admission::New
                    });
                    new.count() as u64
                })
            };
            let threads: Vec<_> = (0..4).map(ask).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        // Whoever asks for a sequence first is never too late: nobody went past it before.
        assert_eq!(applied, 3 * SEQUENCES);
        let repeats = (SEQUENCES - WINDOW..SEQUENCES)
            .filter(|&sequence| table.admit(0, sequence, at(0)) == Admission::Repeat);
        assert_eq!(repeats.count() as u64, WINDOW);
    }

    /// The table as words say it.
    #[derive(Default)]
    struct Naive {
        clients: BTreeMap<u64, (Duration, BTreeSet<u64>, u64)>,
    }

    impl Naive {
        fn admit(&mut self, id: u64, sequence: u64, now: Duration, max: usize) -> Admission {
            if !self.clients.contains_key(&id) && self.clients.len() == max {
                let (&oldest, _) = self
                    .clients
                    .iter()
                    .min_by_key(|(_, client)| client.0)
                    .expect("full");
                if now - self.clients[&oldest].0 <= IDLE_LIMIT {
                    return Admission::Full;
                }
                self.clients.remove(&oldest);
            }
            let client = self
                .clients
                .entry(id)
                .or_insert((now, BTreeSet::new(), sequence));
            client.0 = now;
            client.2 = client.2.max(sequence);
            if client.2 - sequence >= WINDOW {
                Admission::TooOld
            } else if client.1.insert(sequence) {
                Admission::New
            } else {
                Admission::Repeat
            }
        }
    }

    proptest! {
        #[test]
        fn same_as_the_naive_table(
            seed: u64,
            max in 1..6_usize,
            asks in prop::collection::vec(
                // Client, sequence, milliseconds since the ask before (never 0: ages differ).
                (0..8_u64, prop_oneof![0..20_u64, 0..3000_u64, any::<u64>()], prop_oneof![
                    8 => 1..50_u64, 1 => 1..400_000_u64
                ]),
                1..300,
            ),
        ) {
            let table = OnceTable::with_shards(max, seed, 1);
            let mut naive = Naive::default();
            let mut now = Duration::ZERO;
            for (client, sequence, later_ms) in asks {
                now += Duration::from_millis(later_ms);
                prop_assert_eq!(
                    table.admit(client, sequence, now),
                    naive.admit(client, sequence, now, max)
                );
            }
            prop_assert_eq!(table.clients(), naive.clients.len());
        }
    }
}
