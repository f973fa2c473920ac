//! Keys whose cells other members must learn before the next round, so that a limit holds in the whole cluster.
//!
//! A count that others do not know yet lets a limit be passed: each of m members may admit until it sees the limit
//! reached. So a data thread that is asked for a key with a limit looks how much of the key this node has added and
//! nobody was told (its *unsaid* weight). The key is urgent where the unsaid weight is not small against this member's
//! part of what is left of the limit, as long as others would let it in:
//!
//! ```text
//!    unsaid * n * m > limit - estimate,    while  estimate - unsaid < limit
//! ```
//!
//! Here n is 2 far from the limit: half of the part, since others may be as far at the same moment. From half of the
//! limit on n is 16: what is unsaid when the limit is reached adds to what is under way, and 2 lets in 4 more of 100
//! (`benches/limits.rs`). Where the others know already that the limit is reached, nothing is urgent; so a key far
//! above its limit costs nothing. The way to the limit takes some m ln(limit) messages at most, and never more than one
//! for each hit. A share of the limit that is too small to matter ([`TOLERATED_PART`]) is not urgent either.
//!
//! What is urgent stands in a bounded queue for the control thread. What was put there counts as said from then on,
//! until the next pass publishes it for good: a bounded table remembers the latest keys. A place of it that two keys
//! want, and a message that is lost, cost a message or the accuracy of a limit, and never a count.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;
use rmbd_sketch::{CellIndex, CellIndexes, Sketch};

/// The lowest 32 bits of our cells as they were published.
pub(super) type PublishedCells = Box<[AtomicU32]>;

/// Keys that wait for the control thread. It comes within a fraction of a millisecond; a key that finds no place is
/// tried again with its next hit.
const WAITING_MAX: usize = 256;

/// Keys of which is remembered how much was said: of those that are near a limit, what one round hits.
const SAID_KEYS: usize = 1 << 10;

/// Of its part of what is left, a member may keep one in so many unsaid: far from a limit, and near it.
const UNSAID_PART_FAR: u64 = 2;
const UNSAID_PART_NEAR: u64 = 16;

/// All members together may be a part in so many above a limit without anything being urgent. This keeps large limits,
/// at which every hit is as near as the one before, from making a message of each.
const TOLERATED_PART: u64 = 256;

/// Urgent keys of one replica.
#[derive(Debug)]
pub(super) struct Urgent {
    /// Members that keep limits together, with this one. 0 and 1: there is nobody to tell, or not now.
    members: AtomicU32,
    /// Passes that have ended. What was said before a pass says nothing of what is unpublished after it.
    passes: AtomicU32,
    said: Box<[AtomicU64]>,
    waiting: ArrayQueue<CellIndexes>,
    /// The published copy, once there is one.
    published: OnceLock<Arc<PublishedCells>>,
}

/// What is remembered of a key: some bits of its cells, the pass, and how much of its unpublished growth was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    tag: u32,
    pass: u8,
    growth: u32,
}

impl Urgent {
    pub(super) fn new() -> Self {
        Self {
            members: AtomicU32::new(0),
            passes: AtomicU32::new(0),
            said: (0..SAID_KEYS).map(|_| AtomicU64::new(0)).collect(),
            waiting: ArrayQueue::new(WAITING_MAX),
            published: OnceLock::new(),
        }
    }

    /// Whether a key with this estimate and limit may be urgent: far from the limit, only where it is if all of its
    /// estimate is unsaid. This is what most hits come to.
    #[inline]
    pub(super) fn may_be(&self, estimate: u64, limit: u64) -> bool {
        // Relaxed: an older number tells one message too many or too few.
        let members = u64::from(self.members.load(Relaxed));
        let parts = UNSAID_PART_FAR * members + 1;
        members > 1 && estimate.saturating_mul(parts) > limit
    }

    /// Puts a key into the queue, if it is urgent. `estimate` includes what was just added to it.
    #[inline(never)]
    pub(super) fn look(&self, own: &Sketch, cells: &CellIndexes, estimate: u64, limit: u64) {
        // A pass may be moving the copy meanwhile; then the growth is that before it or after it in each row.
        let growth = cells.iter().map(|cell| self.unpublished(own, cell));
        let growth = growth.min().unwrap_or_default();
        let (place, tag) = place_of(cells);
        let pass = self.passes.load(Relaxed) as u8;
        // The table is a hint that orders nothing: each entry stands for itself.
        let said = Said::of(self.said[place].load(Relaxed));
        let unsaid = said.unsaid(tag, pass, growth);
        let members = u64::from(self.members.load(Relaxed));
        if is_urgent(unsaid.into(), estimate, limit, members) && self.waiting.push(*cells).is_ok() {
            let said = Said { tag, pass, growth };
            self.said[place].store(said.bits(), Relaxed);
        }
    }

    /// Whether something waits that may be told now.
    #[inline]
    pub(super) fn is_any_waiting(&self) -> bool {
        self.members.load(Relaxed) > 1 && !self.waiting.is_empty()
    }

    /// The members that keep limits together from now on; below 2, nothing is urgent.
    pub(super) fn set_members(&self, members: u32) {
        self.members.store(members, Relaxed);
    }

    /// Takes at most `keys_max` keys that wait out of the queue, and tells those of their cells that hold more than was
    /// published. Returns how many keys these were.
    pub(super) fn take(
        &self,
        own: &Sketch,
        keys_max: usize,
        mut tell: impl FnMut(CellIndex),
    ) -> usize {
        let mut keys = 0;
        while keys < keys_max
            && let Some(cells) = self.waiting.pop()
        {
            keys += 1;
            let unpublished = cells.iter().filter(|&cell| self.unpublished(own, cell) > 0);
            unpublished.for_each(&mut tell);
        }
        keys
    }

    /// There is a published copy, which the control thread writes from now on.
    pub(super) fn compare_with(&self, published: Arc<PublishedCells>) {
        // A second writer would be a fault elsewhere; the first copy stands.
        let _ = self.published.set(published);
    }

    /// A pass has ended.
    pub(super) fn note_pass(&self) {
        // Only the control thread writes it.
        self.passes
            .store(self.passes.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl Urgent {
    /// What a cell holds beyond what was published; 0 where nothing ever was.
    fn unpublished(&self, own: &Sketch, cell: CellIndex) -> u32 {
        let published = self.published.get();
        published.map_or(0, |published| {
            let published = published[cell.get() as usize].load(Relaxed);
            own.own_value(cell).wrapping_sub(published)
        })
    }
}

/// The rule at the head of this file.
fn is_urgent(unsaid: u64, estimate: u64, limit: u64, members: u64) -> bool {
    let is_open_elsewhere = estimate.saturating_sub(unsaid) < limit;
    let left = limit.saturating_sub(estimate);
    let part = if estimate < left {
        UNSAID_PART_FAR
    } else {
        UNSAID_PART_NEAR
    };
    is_open_elsewhere
        && unsaid.saturating_mul(part * members) > left
        && unsaid.saturating_mul(TOLERATED_PART * members) > limit
}

/// The place of a key in the table of what was said, and bits that tell it from others there.
fn place_of(cells: &CellIndexes) -> (usize, u32) {
    // Fibonacci hashing: the cells are hashes already.
    let sum = (cells.as_slice().iter()).fold(0, |sum: u64, &cell| {
        (sum ^ u64::from(cell)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    let tag = (sum >> 32) as u32 & TAG_MAX;
    ((sum >> 56 ^ sum >> 20) as usize % SAID_KEYS, tag)
}

const TAG_MAX: u32 = (1 << 24) - 1;

impl Said {
    fn of(bits: u64) -> Self {
        Self {
            tag: (bits >> 40) as u32,
            pass: (bits >> 32) as u8,
            growth: bits as u32,
        }
    }

    fn bits(self) -> u64 {
        u64::from(self.tag) << 40 | u64::from(self.pass) << 32 | u64::from(self.growth)
    }

    /// What of this growth of a key was not said.
    fn unsaid(self, tag: u32, pass: u8, growth: u32) -> u32 {
        let is_said = (self.tag, self.pass) == (tag, pass);
        // Where less is unpublished than was said, a pass has just been here.
        let said = Some(self.growth).filter(|&said| is_said && said <= growth);
        growth - said.unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rmbd_sketch::{Geometry, HashFamily, Weight};

    use super::*;
    use crate::{Batch, Estimate, Replica, ReplicaLimits, SliceId, Slices};
    use rmbd_proto::Writer;

    const KEY: &[u8] = b"key";
    const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };

    fn member(node: u64, members: u32) -> (Arc<Replica>, Slices) {
        let limits = ReplicaLimits {
            max_peers: 0,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let geometry = Geometry::new(1 << 10, 4).unwrap();
        let own = SliceId::of(node, Writer(1));
        let replica = Arc::new(Replica::try_with(geometry, FAMILY, own, limits).unwrap());
        let slices = Slices::try_new(Arc::clone(&replica)).unwrap();
        slices.set_limit_members(members);
        (replica, slices)
    }

    fn hit(batch: &mut Batch<()>, key: &[u8], limit: u64) -> u64 {
        let mut count = 0;
        let mut answer = |(), estimate: Estimate| count = estimate.count;
        (batch.hit(key, (Weight::ONE, limit), (), &mut answer)).unwrap();
        batch.finish(&mut answer);
        count
    }

    fn hit_often(batch: &mut Batch<()>, key: &[u8], limit: u64, times: u32) {
        for _ in 0..times {
            hit(batch, key, limit);
        }
    }

    fn taken(slices: &Slices) -> Vec<(u32, u64)> {
        let mut cells = Vec::new();
        slices.take_urgent(usize::MAX, |cell| cells.push(cell));
        let cells = cells.into_iter();
        cells
            .map(|cell| (cell.get(), slices.live_cell(cell)))
            .collect()
    }

    /// Three members count one key up to a limit; each tells what is urgent, and it arrives some hits later.
    fn admitted(limit: u64, lag: usize) -> (u64, usize) {
        let (replicas, mut members): (Vec<_>, Vec<_>) = (1..=3).map(|node| member(node, 3)).unzip();
        let mut batches: Vec<_> = replicas.iter().cloned().map(Batch::new).collect();
        let mut under_way = std::collections::VecDeque::new();
        let (mut admitted, mut told) = (0, 0);
        for at in 0..limit as usize * 4 {
            let taker = at % 3;
            if replicas[taker].estimate(KEY).count < limit {
                hit(&mut batches[taker], KEY, limit);
                admitted += 1;
            }
            let cells = taken(&members[taker]);
            if !cells.is_empty() {
                told += 1;
                under_way.push_back((at + lag, members[taker].own_slice(), cells));
            }
            while under_way.front().is_some_and(|&(due, _, _)| due <= at) {
                let (_, slice, cells) = under_way.pop_front().unwrap();
                for other in members.iter_mut().filter(|it| it.own_slice() != slice) {
                    other.merge_live(&slice, cells.iter().copied()).unwrap();
                }
            }
        }
        (admitted, told)
    }

    #[test]
    fn what_is_urgent_keeps_a_limit_without_a_round() {
        for limit in [20, 100, 1_000, 10_000] {
            for lag in [0, 1, 15] {
                let (admitted, told) = admitted(limit, lag);
                // What is under way, and the share that does not matter.
                let most = limit + lag as u64 + 3 + limit / TOLERATED_PART;
                assert!(
                    (limit..=most).contains(&admitted),
                    "{admitted} of {limit}, {lag}"
                );
                let messages = 3.0 * 48.0 * (limit as f64).ln();
                assert!(
                    (told as f64) < messages,
                    "{told} messages for {limit}, {lag}"
                );
            }
        }
    }

    #[test]
    fn only_what_is_near_its_limit_is_told_and_only_as_long_as_others_let_it_in() {
        let (replica, mut slices) = member(1, 3);
        let mut batch = Batch::new(replica);
        // With what was unsaid, 14 of 100 are less than a sixth of what is left.
        hit_often(&mut batch, KEY, 100, 14);
        assert!(taken(&slices).is_empty());
        hit(&mut batch, KEY, 100);
        assert!(taken(&slices).iter().all(|&(_, value)| value == 15));
        // The same again is said already; a count has no limit.
        batch.count(KEY, (), &mut |(), _| {});
        batch.finish(&mut |(), _| {});
        assert!(taken(&slices).is_empty());
        // Far above the limit the others know it.
        hit_often(&mut batch, KEY, 100, 500);
        taken(&slices);
        hit_often(&mut batch, KEY, 100, 500);
        assert!(taken(&slices).is_empty());
        // Alone, and after a pass, there is nothing to tell.
        slices.publish(usize::MAX);
        slices.set_limit_members(1);
        hit_often(&mut batch, b"another", 100, 100);
        slices.set_limit_members(3);
        assert!(!slices.has_urgent());
    }

    #[test]
    fn the_queue_is_bounded_and_a_key_that_found_no_place_is_tried_again() {
        let (replica, slices) = member(1, 3);
        let mut batch = Batch::new(replica);
        let keys: Vec<[u8; 4]> = (0..2 * WAITING_MAX as u32).map(u32::to_le_bytes).collect();
        keys.iter().for_each(|key| hit_often(&mut batch, key, 1, 1));
        let mut told = 0;
        assert_eq!(slices.take_urgent(10, |_| ()), 10);
        told += 10;
        told += slices.take_urgent(usize::MAX, |_| ());
        assert_eq!(told, WAITING_MAX);
        keys.iter().for_each(|key| hit_often(&mut batch, key, 3, 1));
        assert!(slices.has_urgent());
    }

    #[test]
    fn what_was_said_before_a_pass_says_nothing_after_it() {
        let said = Said {
            tag: 5,
            pass: 3,
            growth: 10,
        };
        assert_eq!(Said::of(said.bits()), said);
        assert_eq!(said.unsaid(5, 3, 12), 2);
        assert_eq!(said.unsaid(5, 4, 12), 12);
        assert_eq!(said.unsaid(6, 3, 12), 12);
        assert_eq!(said.unsaid(5, 3, 9), 9, "the copy has just moved");
    }
}
