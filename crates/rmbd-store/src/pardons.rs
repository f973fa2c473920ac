//! Pardons: keys that are forgiven for a while what they have in the windows of a limit.
//!
//! Counts cannot be taken back, so a pardon is a credit: what the windows held when it was given counts no more towards
//! the limit, as long as the pardon lasts. There are few, an operator gives them, and they go by themselves.
//!
//! A [`PardonBook`] holds the pardons of all nodes of a cluster. Threads give pardons and look at them; the cluster
//! tells others of them, and merges what others tell, in any order and any number of times:
//!
//! ```text
//!   of each (limit, key) the pardon with the highest stamp        stamp = (count, giver)
//!   of the same stamp the earliest end
//! ```
//!
//! Who gives a pardon counts on from the highest count that it has seen. So a later pardon of a key replaces the
//! earlier one everywhere. Of two that were given at the same time, when neither giver knew of the other's, one holds
//! on all nodes: the one with the higher count, or else of the giver with the higher number.
//!
//! A pardon that is over is remembered for a minute, and at least as long as those that it has replaced would have
//! been, so that neither it nor they come back from a node that lags behind. Times are this node's own: others are told
//! what is left of them.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use crate::editions::{Editions, Seen};
use rmbd_proto::cluster::{
    PARDON_BUCKETS, PARDON_COUNT_MAX, PARDON_CREDITS_MAX, PARDON_KEY_BYTES_MAX, PardonEntry,
    pardon_bucket, pardon_hash, pardon_place,
};
use rmbd_proto::{Boot, LimitNumber};

/// Largest number of pardons in force at the same time: they are meant for mistakes, and each hit by name looks among
/// them.
pub const PARDONS_MAX: usize = 1_024;
/// Largest number of pardons, those that are over included. With the longest keys they take 2.4 MiB.
const REMEMBERED_MAX: usize = 2 * PARDONS_MAX;
/// So long a pardon is remembered after its end: longer than a datagram is under way.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// What is remembered for less than this is not told any more. Otherwise nodes whose ends lie a delivery apart could
/// tell it each other for ever.
const TOLD_FOR_MIN: Duration = Duration::from_secs(1);

/// What each amount of a limit is forgiven, in the order of the amounts.
pub type Credits = [u64; PARDON_CREDITS_MAX];

/// All pardons that a node knows of. Any thread may give one, and every session looks at them.
#[derive(Debug, Default)]
pub struct PardonBook {
    giver: Boot,
    pardons: Editions<Pardons>,
}

/// A session's view of a [`PardonBook`].
#[derive(Debug, Default)]
pub struct PardonView(Seen<Pardons>);

/// The pardons of a [`PardonBook`] at some moment.
#[derive(Debug, Default)]
pub struct Pardons {
    /// Ascending by limit and key.
    all: Vec<Arc<Pardon>>,
    /// The highest count that was seen.
    count: u64,
}

/// One pardon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pardon {
    limit: LimitNumber,
    key: Box<[u8]>,
    /// It follows from limit and key.
    place: u64,
    stamp: Stamp,
    until: Duration,
    remembered_until: Duration,
    credits: Credits,
}

/// Which of two pardons of a key holds: the higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    count: u64,
    giver: Boot,
}

/// Why a pardon is not given. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PardonRefused {
    /// There are as many as there may be.
    #[error("{PARDONS_MAX} pardons are in force, which is the most: wait until one is over")]
    Full,
    /// Its key is too long.
    #[error("a key of more than {PARDON_KEY_BYTES_MAX} bytes: pardon a hash of such keys")]
    KeyTooLong,
}

impl PardonBook {
    /// A book without pardons, of this start of a node.
    #[must_use]
    pub fn new(giver: Boot) -> Self {
        Self {
            giver,
            pardons: Editions::default(),
        }
    }

    /// The start of a node whose book it is.
    #[must_use]
    pub fn giver(&self) -> Boot {
        self.giver
    }

    /// Gives a pardon for so long, in the place of one before of the same limit and key.
    ///
    /// # Errors
    /// As [`PardonRefused`] says.
    pub fn give(
        &self,
        (limit, key): (LimitNumber, &[u8]),
        credits: Credits,
        time: Duration,
        now: Duration,
    ) -> Result<(), PardonRefused> {
        if key.len() > PARDON_KEY_BYTES_MAX {
            return Err(PardonRefused::KeyTooLong);
        }
        self.pardons.change(|pardons| {
            let mut pardons = pardons.remembered(now);
            let until = now.saturating_add(time);
            let replaced = pardons.find(limit, key).ok();
            let replaced = replaced.map_or(now, |at| pardons.all[at].remembered_until);
            let count = (pardons.count + 1).min(PARDON_COUNT_MAX);
            let given = Pardon {
                limit,
                key: key.into(),
                place: pardon_place(limit, key),
                stamp: Stamp {
                    count,
                    giver: self.giver,
                },
                until,
                remembered_until: until.saturating_add(REMEMBERED_FOR).max(replaced),
                credits,
            };
            let changed = pardons.merge(given, now);
            changed.map(|_| Arc::new(pardons))
        })
    }

    /// Merges what another node tells; `now` was read after it had come. Returns how many were not taken, for want of
    /// room or since nobody can have given them.
    pub fn merge<'e>(
        &self,
        entries: impl IntoIterator<Item = PardonEntry<'e>>,
        now: Duration,
    ) -> u64 {
        let mut refused = 0;
        let unchanged = self.pardons.change(|pardons| {
            let mut pardons = pardons.remembered(now);
            let mut is_changed = false;
            for entry in entries {
                let can_be =
                    entry.count <= PARDON_COUNT_MAX && entry.key.len() <= PARDON_KEY_BYTES_MAX;
                let merged = can_be.then(|| pardons.merge(Pardon::told(&entry, now), now));
                match merged {
                    Some(Ok(changes)) => is_changed |= changes,
                    Some(Err(_)) | None => refused += 1,
                }
            }
            if is_changed {
                Ok(Arc::new(pardons))
            } else {
                Err(())
            }
        });
        // Sessions need not look again then.
        let _: Result<(), ()> = unchanged;
        refused
    }

    /// The pardons as they are now.
    #[must_use]
    pub fn pardons(&self) -> Arc<Pardons> {
        self.pardons.get()
    }

    /// It grows with each change.
    #[must_use]
    pub fn edition(&self) -> u64 {
        self.pardons.number()
    }
}

impl PardonView {
    /// What a key is forgiven now.
    pub fn credits(
        &mut self,
        book: &PardonBook,
        (limit, key): (LimitNumber, &[u8]),
        now: Duration,
    ) -> Credits {
        let pardons = self.0.current(&book.pardons);
        let found = pardons.find(limit, key).ok();
        let pardon = found.map(|at| &pardons.all[at]);
        pardon
            .filter(|pardon| pardon.is_in_force(now))
            .map(|pardon| pardon.credits)
            .unwrap_or_default()
    }
}

impl Pardons {
    /// The number of those in force.
    #[must_use]
    pub fn in_force(&self, now: Duration) -> usize {
        self.all.iter().filter(|it| it.is_in_force(now)).count()
    }

    /// All that are remembered, those that are over included.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pardon>> {
        self.all.iter()
    }

    /// All of them, those that are over included, as long as they are to be told.
    pub fn told(&self, now: Duration) -> impl Iterator<Item = &Arc<Pardon>> {
        self.all.iter().filter(move |it| it.is_told(now))
    }

    /// The sum of each bucket; 0 for one that has none.
    #[must_use]
    pub fn sums(&self, now: Duration) -> [u64; PARDON_BUCKETS] {
        let mut sums = [0; PARDON_BUCKETS];
        for pardon in self.told(now) {
            let sum: &mut u64 = &mut sums[pardon.bucket()];
            *sum = sum.wrapping_add(pardon.hash());
        }
        sums
    }

    fn find(&self, limit: LimitNumber, key: &[u8]) -> Result<usize, usize> {
        (self.all).binary_search_by(|it| (it.limit, &*it.key).cmp(&(limit, key)))
    }

    /// A copy without what need not be remembered any more.
    fn remembered(&self, now: Duration) -> Self {
        let remembered = self.all.iter().filter(|it| it.remembered_until > now);
        Self {
            all: remembered.cloned().collect(),
            count: self.count,
        }
    }

    /// Puts a pardon where it belongs, and says whether that changes anything.
    fn merge(&mut self, pardon: Pardon, now: Duration) -> Result<bool, PardonRefused> {
        let stamp = pardon.stamp;
        let is_changed = match self.find(pardon.limit, &pardon.key) {
            Ok(at) => self.merge_at(at, pardon, now)?,
            Err(at) => {
                let at = at - self.make_room(at, &pardon, now)?;
                self.all.insert(at, Arc::new(pardon));
                true
            }
        };
        self.count = self.count.max(stamp.count);
        Ok(is_changed)
    }

    /// Merges a pardon with the one of its limit and key.
    fn merge_at(
        &mut self,
        at: usize,
        pardon: Pardon,
        now: Duration,
    ) -> Result<bool, PardonRefused> {
        let before = &self.all[at];
        let merged = match pardon.stamp.cmp(&before.stamp) {
            Ordering::Less => return Ok(false),
            Ordering::Equal => before.ending_earlier(&pardon),
            Ordering::Greater => {
                self.check_room(pardon.is_in_force(now) && !before.is_in_force(now), now)?;
                pardon
            }
        };
        let is_changed = merged != *self.all[at];
        self.all[at] = Arc::new(merged);
        Ok(is_changed)
    }

    /// Makes room for a pardon of a key that has none, which is to stand at a place. Of those that are over, the one
    /// that is remembered for the shortest time goes; returns how many went from before the place.
    fn make_room(
        &mut self,
        at: usize,
        pardon: &Pardon,
        now: Duration,
    ) -> Result<usize, PardonRefused> {
        let is_in_force = pardon.is_in_force(now);
        self.check_room(is_in_force, now)?;
        if self.all.len() < REMEMBERED_MAX {
            return Ok(0);
        }
        let over = self.all.iter().enumerate();
        let over = over.filter(|(_, it)| is_in_force && !it.is_in_force(now));
        let first = over.min_by_key(|(_, it)| it.remembered_until);
        let (gone, _) = first.ok_or(PardonRefused::Full)?;
        self.all.remove(gone);
        Ok(usize::from(gone < at))
    }

    fn check_room(&self, is_one_more: bool, now: Duration) -> Result<(), PardonRefused> {
        let is_full = is_one_more && self.in_force(now) >= PARDONS_MAX;
        if is_full {
            Err(PardonRefused::Full)
        } else {
            Ok(())
        }
    }
}

impl Pardon {
    /// What another node tells at this moment.
    fn told(entry: &PardonEntry<'_>, now: Duration) -> Self {
        let until = now.saturating_add(Duration::from_millis(entry.left_ms));
        let remembered_until = now.saturating_add(Duration::from_millis(entry.kept_ms));
        Self {
            limit: entry.limit,
            key: entry.key.into(),
            place: pardon_place(entry.limit, entry.key),
            stamp: Stamp {
                count: entry.count,
                giver: entry.giver,
            },
            until,
            remembered_until: remembered_until.max(until),
            credits: entry.credits,
        }
    }

    /// What others are told at this moment; `None` where it is not worth it any more.
    #[must_use]
    pub fn entry(&self, now: Duration) -> Option<PardonEntry<'_>> {
        self.is_told(now).then(|| PardonEntry {
            limit: self.limit,
            key: &self.key,
            count: self.stamp.count,
            giver: self.stamp.giver,
            left_ms: whole_ms(self.until.saturating_sub(now)),
            kept_ms: whole_ms(self.remembered_until.saturating_sub(now)),
            credits: self.credits,
        })
    }

    /// The number that its giver gave it, which grows with each that it gives.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.stamp.count
    }

    /// The start of the node that gave it.
    #[must_use]
    pub fn giver(&self) -> Boot {
        self.stamp.giver
    }

    /// The part in which it is compared.
    #[must_use]
    pub fn bucket(&self) -> usize {
        pardon_bucket(self.place)
    }

    fn hash(&self) -> u64 {
        pardon_hash(self.place, self.stamp.count, self.stamp.giver)
    }

    fn is_in_force(&self, now: Duration) -> bool {
        self.until > now
    }

    fn is_told(&self, now: Duration) -> bool {
        self.remembered_until.saturating_sub(now) >= TOLD_FOR_MIN
    }

    /// Of two that say that they are the same, the earlier ends hold.
    fn ending_earlier(&self, other: &Self) -> Self {
        Self {
            until: self.until.min(other.until),
            remembered_until: self.remembered_until.min(other.remembered_until),
            ..self.clone()
        }
    }
}

/// Whole milliseconds, rounded down.
fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
