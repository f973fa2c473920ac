//! The control thread's side: lists of the largest keys, with their names.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rmbd_sketch::{CellIndexes, KeyHash};

use super::slot::{Candidate, Mark};
use super::{Lists, SPARE_MOMENTS, TOTAL};
use crate::windows::{Resolved, Ring};
use crate::{Estimate, Replica, WindowQuestion};

/// How often a window's candidates are read again where steps went by meanwhile.
const TRIES: usize = 3;

/// The names of the largest keys of a replica, and lists of them. Each replica has one at most.
///
/// ```
/// use std::sync::Arc;
///
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
/// use rmbd_store::{Batch, Replica, ReplicaOptions, TopKeys};
///
/// let (geometry, family) = (Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 });
/// let options = ReplicaOptions { top: 10, ..ReplicaOptions::new(geometry, family) };
/// let replica = Arc::new(Replica::try_open(options)?);
/// let mut top = TopKeys::new(Arc::clone(&replica));
/// let mut batch = Batch::<()>::new(replica);
/// for _ in 0..3 {
///     batch.add(b"apple", Weight::new(2)?, &mut |(), _| {})?;
///     batch.finish(&mut |(), _| {});
///     top.update(); // asks for the name, and takes it when it was told
/// }
/// let list = top.list(10);
/// assert_eq!((list.keys.len(), list.complete_above), (1, 0));
/// let apple = &list.keys[0];
/// assert_eq!((apple.name, apple.estimate.count, apple.certain), (Some(&b"apple"[..]), 6, 6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TopKeys {
    replica: Arc<Replica>,
    /// The names of candidates, each kept once.
    pub(super) names: HashMap<KeyHash, Arc<[u8]>>,
    /// Candidates of which the name is asked for.
    lacking: HashSet<KeyHash>,
    /// Keys that had become candidates when all of them were looked through.
    entered: u64,
    turn: usize,
}

/// The largest keys, of all time or in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopList<'n> {
    /// The keys, those with the largest estimates first.
    pub keys: Vec<TopKey<'n>>,
    /// Every key of which more than this was added (in the window), on this node by finished batches or (of
    /// [`Slices`](crate::Slices)) in all slices that are here, is among the candidates; it is in this list if its
    /// estimate is not below that of the last key here. [`u64::MAX`] if nothing is known.
    pub complete_above: u64,
}

/// A key of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopKey<'n> {
    /// Its hash.
    pub hash: KeyHash,
    /// Its bytes, of which there are at most [`KEY_BYTES_MAX`](rmbd_proto::compact::KEY_BYTES_MAX). `None` if it has
    /// more, or did not come again since it was asked for.
    pub name: Option<&'n [u8]>,
    /// Its count as it is now, in all the cluster, as far as it is known here.
    pub estimate: Estimate,
    /// What certainly was added to it (in the window), as far as whoever made the list knows. It is never above the
    /// truth.
    pub certain: u64,
}

/// A candidate as all threads together know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merged {
    pub(crate) hash: KeyHash,
    /// At least what was counted here.
    pub(crate) estimate: u64,
    /// At most what was.
    pub(crate) certain: u64,
}

/// A window of which candidates are asked for, and whether what is certain in it is.
#[derive(Debug)]
pub(crate) enum CertainIn {
    Question(WindowQuestion),
    /// Nothing is told as certain.
    Nothing {
        ring: usize,
    },
}

impl TopKeys {
    /// Knows no names yet.
    #[must_use]
    pub fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            names: HashMap::new(),
            lacking: HashSet::new(),
            entered: 0,
            turn: 0,
        }
    }

    /// Takes the names that were told, asks for those that lack, and forgets those of keys that are small by now. The
    /// control thread calls this every now and then, ten times a second for example; a name is there with the first
    /// call after an add of its key that followed the one by which it became large.
    pub fn update(&mut self) {
        let replica = Arc::clone(&self.replica);
        let Some(lists) = &replica.lists else {
            return;
        };
        // Before names are taken: keys that become candidates meanwhile are seen by the next call.
        let entered = lists.entered();
        let mut are_all_wanted = true;
        // Others may tell while these are taken.
        for _ in 0..lists.candidates {
            let Some(told) = lists.wanted.take() else {
                break;
            };
            are_all_wanted &= self.lacking.remove(&told.hash());
            self.names.insert(told.hash(), told.name().into());
        }
        if entered == self.entered && self.lacking.is_empty() && are_all_wanted {
            return;
        }
        self.entered = entered;
        let keep = self.named(lists);
        self.names.retain(|hash, _| keep.contains(hash));
        let lacks = |hash: &&KeyHash| !self.names.contains_key(*hash);
        self.lacking = keep.iter().filter(lacks).copied().collect();
        let mut lacking: Vec<KeyHash> = self.lacking.iter().copied().collect();
        lacking.sort_unstable();
        self.turn = self.turn.wrapping_add(1);
        lists.wanted.ask(&lacking, self.turn);
    }

    /// The largest keys of all time, at most `most` of them.
    #[must_use]
    pub fn list(&self, most: usize) -> TopList<'_> {
        let (merged, complete_above) = self.candidates();
        let estimate = |cells: &CellIndexes| self.replica.estimate_at(cells);
        self.told(merged, most, complete_above, estimate)
    }

    /// The largest keys of a window, at most `most` of them. The candidates are those of the longest window of the
    /// same ring, and what is told of them is about the one that is asked for.
    #[must_use]
    pub fn list_in(&self, question: &WindowQuestion, most: usize) -> TopList<'_> {
        let (merged, complete_above) = self.candidates_in(&CertainIn::Question(*question));
        let mut resolved = Resolved::default();
        let replica = &self.replica;
        let estimate = |cells: &CellIndexes| replica.estimate_in_at(cells, question, &mut resolved);
        self.told(merged, most, complete_above, estimate)
    }

    /// The candidates of all time, and the count above which they are complete.
    pub(crate) fn candidates(&self) -> (Vec<Merged>, u64) {
        let Some(lists) = &self.replica.lists else {
            return (Vec::new(), u64::MAX);
        };
        let merged = merged(lists, TOTAL, |candidate| candidate.certain);
        let complete_above = lists.complete_above(TOTAL, 0);
        (merged, complete_above)
    }

    /// The candidates of a window, and the count above which they are complete.
    pub(crate) fn candidates_in(&self, window: &CertainIn) -> (Vec<Merged>, u64) {
        let number = match window {
            CertainIn::Question(question) => question.window.ring(),
            CertainIn::Nothing { ring } => *ring,
        };
        let rings = self.replica.windows.rings();
        let (Some(lists), Some(ring)) = (&self.replica.lists, rings.get(number)) else {
            return (Vec::new(), u64::MAX);
        };
        let list = TOTAL + 1 + number;
        for _ in 0..TRIES {
            // Snapshots are counted first: more thresholds count at most.
            let begun = ring.begun();
            let certain = |candidate: &Candidate| match window {
                CertainIn::Question(question) => certain_in(ring, question, candidate),
                CertainIn::Nothing { .. } => 0,
            };
            let merged = merged(lists, list, certain);
            let complete_above = lists.complete_above(list, begun - ring.len());
            if ring.begun() < begun + SPARE_MOMENTS {
                return (merged, complete_above);
            }
        }
        (Vec::new(), u64::MAX)
    }

    /// The name of a key, if it is known.
    pub(crate) fn name(&self, hash: KeyHash) -> Option<&[u8]> {
        self.names.get(&hash).map(AsRef::as_ref)
    }

    /// The same, to be kept elsewhere, too.
    pub(crate) fn shared_name(&self, hash: KeyHash) -> Option<Arc<[u8]>> {
        self.names.get(&hash).cloned()
    }

    /// Number of names that are known.
    pub(crate) fn names(&self) -> usize {
        self.names.len()
    }

    /// Keys that became candidates so far.
    pub(crate) fn entered(&self) -> u64 {
        let lists = self.replica.lists.as_ref();
        lists.map_or(0, |lists| lists.entered())
    }

    /// Keys that a list tells.
    pub(crate) fn top(&self) -> usize {
        self.replica.top()
    }

    /// The keys whose names are kept: of each list the largest, as many as a table has places.
    fn named(&self, lists: &Lists) -> HashSet<KeyHash> {
        let mut keep = HashSet::new();
        for list in 0..=TOTAL + self.replica.windows.rings().len() {
            let mut merged = merged(lists, list, |candidate| candidate.certain);
            if merged.len() > lists.candidates {
                let by_estimate = |it: &Merged| Reverse((it.estimate, it.hash));
                merged.select_nth_unstable_by_key(lists.candidates, by_estimate);
                merged.truncate(lists.candidates);
            }
            keep.extend(merged.iter().map(|it| it.hash));
        }
        keep
    }

    fn told(
        &self,
        merged: Vec<Merged>,
        most: usize,
        complete_above: u64,
        mut estimate: impl FnMut(&CellIndexes) -> Estimate,
    ) -> TopList<'_> {
        let sketch = self.replica.own();
        let mut cells = CellIndexes::NONE;
        let keys = merged.into_iter().map(|it| {
            sketch.cells_of_into(it.hash, &mut cells);
            TopKey {
                hash: it.hash,
                name: self.names.get(&it.hash).map(AsRef::as_ref),
                estimate: estimate(&cells),
                certain: it.certain,
            }
        });
        let mut list = TopList {
            keys: keys.collect(),
            complete_above,
        };
        list.sort(most);
        list
    }
}

impl TopList<'_> {
    /// There are no lists.
    pub(crate) fn unknown() -> Self {
        Self {
            keys: Vec::new(),
            complete_above: u64::MAX,
        }
    }

    /// Puts keys in order, and keeps so many that count.
    pub(crate) fn sort(&mut self, most: usize) {
        self.keys.retain(|key| key.estimate.count > 0);
        (self.keys).sort_unstable_by_key(|key| (Reverse(key.estimate.count), key.hash));
        self.keys.truncate(most);
    }
}

impl<'n> TopKey<'n> {
    /// A key of which the estimate is still to be read.
    pub(crate) fn of(hash: KeyHash, name: Option<&'n [u8]>, certain: u64) -> Self {
        Self {
            hash,
            name,
            estimate: Estimate::default(),
            certain,
        }
    }
}

/// The candidates of a list, each once, with the largest of their estimates and the sum of what is certain.
fn merged(lists: &Lists, list: usize, certain: impl Fn(&Candidate) -> u64) -> Vec<Merged> {
    let candidates = lists.tables().flat_map(|table| table.candidates(list));
    let mut all: Vec<Merged> = candidates
        .map(|candidate| Merged {
            hash: KeyHash::of_halves(candidate.hash),
            estimate: candidate.estimate,
            certain: certain(&candidate),
        })
        .collect();
    all.sort_unstable_by_key(|it| it.hash);
    all.dedup_by(|next, first| {
        let is_same = next.hash == first.hash;
        if is_same {
            first.estimate = first.estimate.max(next.estimate);
            first.certain = first.certain.saturating_add(next.certain);
        }
        is_same
    });
    all
}

/// What certainly came in the window: since the earlier one of the marks that are in it.
fn certain_in(ring: &Ring, question: &WindowQuestion, candidate: &Candidate) -> u64 {
    let from_ns = question.begins_ns();
    let is_in = |mark: &&Mark| {
        // A moment is the number of begun snapshots. It came after the last of them began, so after the one before it
        // ended.
        let before = mark.moment.checked_sub(2);
        before.is_some_and(|number| {
            let ended_ns = ring.ended_ns(number);
            ring.has(number) && ended_ns >= from_ns
        })
    };
    let mark = candidate.marks.iter().find(is_in);
    mark.map_or(0, |mark| candidate.certain.saturating_sub(mark.certain))
}
