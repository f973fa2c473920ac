//! The largest keys of all slices together.
//!
//! Each node lists the keys of which it has counted most itself (`candidates`). It tells others this list of its slice,
//! and they keep it with the slice ([`SliceTop`]): whoever holds a slice has its list, also when its writer is gone.
//!
//! # Complete above the sum
//!
//! A list has a *bound*: every key of which more was counted in the slice, of the first `weight` that were, is in the
//! list. What was counted in it since then may all be of one key. So of each slice
//!
//! ```text
//!    missed = bound + (weight of the slice as it is known here - weight of the list)
//! ```
//!
//! is the most that may have been counted of a key that its list lacks; without a list it is the whole weight. A key
//! that is in none of the lists has at most the sum of all these, and what legacy peers have counted. So the lists
//! together are complete above that sum. It is never above N.
//!
//! In a window the bound of a list that was told is about the window that ended then, and what was counted since is in
//! the weight that came since. Of a slice that has not grown for as long as the window, and two steps, nothing counts.
//!
//! # What is certain
//!
//! What is certain of a key in each slice adds up, for slices count different things. In windows only what was counted
//! here is certain, since nobody knows how long a datagram was under way.

mod own_top;
mod slice_top;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::cluster::{
    SliceId, TopEntries, TopEntry, TopHead, TopList as ToldTop, TopVersion, top_hash,
};
use rmbd_sketch::{CellIndexes, KeyHash};

use self::own_top::{Found, FoundKey};
use self::slice_top::SliceTop;
use crate::candidates::{CertainIn, Merged, TopKey, TopKeys, TopList};
use crate::slices::Slices;
use crate::windows::{Resolved, Ring, Window};
use crate::{Estimate, Reading, Replica, ToldKey, ToldList, ToldLists, WindowPlan, WindowQuestion};

/// Time between two lists of our own slice that others are told.
const INTERVAL: Duration = Duration::from_secs(1);
/// Our own list goes on with a version so much above that of a snapshot file: above all that was told since the file
/// was written.
const VERSIONS_A_START: u64 = 1 << 28;

/// The lists of all slices of one sketch.
#[derive(Debug)]
pub(crate) struct Tops {
    keys: TopKeys,
    own: SliceTop,
    /// The list of what an earlier start had counted in our own slice.
    base: Option<SliceTop>,
    learnt: BTreeMap<SliceId, SliceTop>,
    /// The weights of learnt slices, and since when they are so.
    weights: HashMap<SliceId, (u64, Duration)>,
    /// All of the base was counted before this.
    started: Option<Duration>,
    /// When our own list was made last.
    made: Option<Duration>,
    /// Of what: weight, candidates that had come, names, and snapshots that were begun.
    made_of: Option<MadeOf>,
    /// It was made of that twice.
    is_settled: bool,
}

type MadeOf = (u64, u64, usize, u64);

impl Tops {
    /// No lists of others yet. `None` where the sketch lists nothing.
    pub(crate) fn new(replica: &Arc<Replica>) -> Option<Self> {
        (replica.top() > 0).then(|| Self {
            keys: TopKeys::new(Arc::clone(replica)),
            own: SliceTop::default(),
            base: None,
            learnt: BTreeMap::new(),
            weights: HashMap::new(),
            started: None,
            made: None,
            made_of: None,
            is_settled: false,
        })
    }

    /// What was counted by an earlier start is a slice of its own from now on.
    fn leave_base(&mut self, old: SliceId) {
        // What was told as certain was of both.
        self.own = SliceTop::beginning_at(self.own.version());
        self.made_of = None;
        if let Some(base) = self.base.take() {
            self.learnt.insert(old, base);
        }
    }
}

/// The lists of the largest keys.
impl Slices {
    /// Takes the names of large keys that threads have met, asks for those that lack, and now and then makes the list
    /// of our own slice anew that others are told. To be called some times a second.
    pub fn update_top(&mut self, now: Duration) {
        let Some(mut tops) = self.tops.take() else {
            return;
        };
        tops.keys.update();
        tops.started.get_or_insert(now);
        self.note_weights(&mut tops, now);
        if tops
            .made
            .is_none_or(|made| now.saturating_sub(made) >= INTERVAL)
        {
            tops.made = Some(now);
            self.make_own(&mut tops, now);
        }
        self.tops = Some(tops);
    }

    /// Takes the names of large keys that threads have met, and asks for those that lack, without making a list anew.
    /// To be called where [`Replica::has_names_told`], so that the next names find room.
    pub fn take_names(&mut self) {
        if let Some(tops) = &mut self.tops {
            tops.keys.update();
        }
    }

    /// Whether this sketch lists its largest keys.
    #[must_use]
    pub fn has_top(&self) -> bool {
        self.tops.is_some()
    }

    /// The largest keys of all time, at most `most` of them.
    #[must_use]
    pub fn top(&self, most: usize) -> TopList<'_> {
        let Some(tops) = &self.tops else {
            return TopList::unknown();
        };
        let (own, above) = tops.keys.candidates();
        let estimate = |cells: &CellIndexes| self.replica().estimate_at(cells);
        self.together(tops, 0, own, above, estimate, most)
    }

    /// The largest keys of a window, at most `most` of them.
    #[must_use]
    pub fn top_in(&self, question: &WindowQuestion, most: usize) -> TopList<'_> {
        let Some(tops) = &self.tops else {
            return TopList::unknown();
        };
        let (own, above) = tops.keys.candidates_in(&CertainIn::Question(*question));
        let mut resolved = Resolved::default();
        let estimate =
            |cells: &CellIndexes| (self.replica()).estimate_in_at(cells, question, &mut resolved);
        let list = self.together(tops, question.window.span_ms(), own, above, estimate, most);
        let weight = self.replica().weight_in(question);
        TopList {
            complete_above: list.complete_above.min(weight),
            ..list
        }
    }

    /// All lists, for whoever answers questions: that of all time, and that of each window.
    #[must_use]
    pub fn told_lists(&self, now: Duration) -> ToldLists {
        let Some(tops) = &self.tops else {
            return ToldLists::default();
        };
        let (replica, most) = (self.replica(), tops.keys.top());
        let (own, _) = tops.keys.candidates();
        let own = own.into_iter().map(|it| (it.hash, it.certain)).collect();
        let lacks = |key: &TopKey<'_>| key.estimate.incomplete;
        let told = |span_ms: Option<u64>, total_weight: u64, list: &TopList<'_>| ToldList {
            span_ms,
            total_weight,
            keys: (list.keys.iter())
                .map(|key| self.told_key(tops, &own, key, span_ms))
                .collect(),
            complete_above: list.complete_above,
            is_incomplete: replica.is_incomplete() || list.keys.iter().any(lacks),
        };
        // N is read behind the counts, so that it is not below any of them.
        let list = self.top(most);
        let mut lists = vec![told(None, replica.total_weight(), &list)];
        for (_, span_ms) in replica.ring_spans() {
            let Some(window) = replica.find_window(span_ms) else {
                continue;
            };
            let question = bound_question(window, now);
            let list = self.top_in(&question, most);
            lists.push(told(Some(span_ms), replica.weight_in(&question), &list));
        }
        ToldLists { made: now, lists }
    }

    fn told_key(
        &self,
        tops: &Tops,
        own: &HashMap<KeyHash, u64>,
        key: &TopKey<'_>,
        span_ms: Option<u64>,
    ) -> ToldKey {
        let node = self.own_slice().node;
        let by_node = match span_ms {
            None => {
                let own = own.get(&key.hash).copied().unwrap_or_default();
                tops.certain_by_node(node, own, key.hash)
            }
            Some(_) if key.certain > 0 => vec![(node, key.certain)],
            Some(_) => Vec::new(),
        };
        ToldKey {
            hash: key.hash,
            name: key.name.map(Into::into),
            estimate: key.estimate.count,
            certain: key.certain,
            by_node,
        }
    }

    fn together<'s>(
        &'s self,
        tops: &'s Tops,
        span_ms: u64,
        own: Vec<Merged>,
        above: u64,
        mut estimate: impl FnMut(&CellIndexes) -> Estimate,
        most: usize,
    ) -> TopList<'s> {
        let mut keys: HashMap<KeyHash, TopKey<'s>> = HashMap::new();
        for it in own {
            let key = TopKey::of(it.hash, tops.keys.name(it.hash), it.certain);
            keys.insert(it.hash, key);
        }
        let now = tops.made.unwrap_or_default();
        let counts = |since| !self.is_over(span_ms, since, now);
        let base = tops.base.iter().filter(|_| counts(tops.base_until()));
        let learnt = tops.learnt.iter();
        let learnt =
            learnt.filter(|(slice, _)| counts(tops.grown_at(slice, self.weight_of(slice))));
        let tops_elsewhere: Vec<&SliceTop> = base.chain(learnt.map(|(_, top)| top)).collect();
        for top in &tops_elsewhere {
            for key in top.keys_of(span_ms) {
                let all = keys.entry(key.hash);
                let all = all.or_insert_with(|| TopKey::of(key.hash, None, 0));
                all.name = all.name.or(key.name.as_deref());
            }
        }
        for key in keys.values_mut().filter(|_| span_ms == 0) {
            let elsewhere = tops_elsewhere.iter().filter_map(|top| top.key(key.hash));
            let certain = elsewhere.map(|it| it.certain);
            key.certain = certain.fold(key.certain, u64::saturating_add);
        }
        let missed = self.missed_elsewhere(tops, span_ms, now);
        let complete_above = above.saturating_add(missed);
        let sketch = self.replica().own();
        let mut cells = CellIndexes::NONE;
        let mut keys: Vec<TopKey<'s>> = keys.into_values().collect();
        for key in &mut keys {
            sketch.cells_of_into(key.hash, &mut cells);
            key.estimate = estimate(&cells);
            key.certain = key.certain.min(key.estimate.count);
        }
        let mut list = TopList {
            keys,
            complete_above: complete_above.min(self.replica().total_weight()),
        };
        list.sort(most);
        list
    }

    /// What may have been counted elsewhere, and by earlier starts, of a key that is in none of their lists.
    fn missed_elsewhere(&self, tops: &Tops, span_ms: u64, now: Duration) -> u64 {
        let missed = |top: Option<&SliceTop>, weight: u64, since: Duration| match self
            .is_over(span_ms, since, now)
        {
            true => 0,
            false => missed_of(top, span_ms, weight),
        };
        let base = self.base_weight();
        let base = (base > 0).then(|| missed(tops.base.as_ref(), base, tops.base_until()));
        let learnt = self.learnt().map(|learnt| {
            let since = tops.grown_at(&learnt.slice, learnt.weight);
            missed(tops.learnt.get(&learnt.slice), learnt.weight, since)
        });
        let legacy = self.replica().legacy_weight();
        base.into_iter()
            .chain(learnt)
            .fold(legacy, u64::saturating_add)
    }

    /// Whether nothing counts in a window of what was counted until `since`. Of all time everything does.
    fn is_over(&self, span_ms: u64, since: Duration, now: Duration) -> bool {
        let window = (span_ms > 0).then(|| self.replica().covering(span_ms));
        let covered = window.flatten();
        covered.is_some_and(|covered| now.saturating_sub(since) > covered)
    }

    fn note_weights(&self, tops: &mut Tops, now: Duration) {
        for learnt in self.learnt() {
            let noted = (tops.weights.entry(learnt.slice)).or_insert((0, now));
            if noted.0 != learnt.weight {
                *noted = (learnt.weight, now);
            }
        }
    }

    /// Makes the list of our own slice, as others are told of it.
    fn make_own(&self, tops: &mut Tops, now: Duration) {
        // Behind this weight all is read that was noted of its keys.
        let weight = self.weight_of(&self.own_slice());
        let made_of = (
            weight,
            tops.keys.entered(),
            tops.keys.names(),
            self.replica().snapshots_begun(),
        );
        let is_same = tops.made_of == Some(made_of);
        // Nobody else knows a slice without cells.
        if weight == 0 || is_same && tops.is_settled {
            return;
        }
        // Made twice of the same, it tells all that is certain.
        (tops.made_of, tops.is_settled) = (Some(made_of), is_same);
        let mut found = vec![self.found(tops, 0, tops.keys.candidates(), now)];
        for (ring, span_ms) in self.replica().ring_spans() {
            let own = tops.keys.candidates_in(&CertainIn::Nothing { ring });
            found.push(self.found(tops, span_ms, own, now));
        }
        own_top::tell(&mut tops.own, weight, &found);
    }

    /// A list of our own slice: what this start has counted, and what earlier ones have.
    fn found(
        &self,
        tops: &Tops,
        span_ms: u64,
        (own, above): (Vec<Merged>, u64),
        now: Duration,
    ) -> Found {
        let is_over = self.is_over(span_ms, tops.base_until(), now);
        let base = tops.base.as_ref().filter(|_| !is_over);
        let mut keys: HashMap<KeyHash, FoundKey> = HashMap::new();
        let mut cells = CellIndexes::NONE;
        let window = self.replica().find_window(span_ms).filter(|_| span_ms > 0);
        let mut resolved = Resolved::default();
        // In a window what others have counted is in it, too.
        let mut estimate = |hash: KeyHash| {
            self.replica().own().cells_of_into(hash, &mut cells);
            let all_time = self.own_estimate_at(&cells);
            let in_window = window.map(|window| {
                let question = bound_question(window, now);
                let estimate = (self.replica()).estimate_in_at(&cells, &question, &mut resolved);
                estimate.count
            });
            in_window.map_or(all_time, |in_window| in_window.min(all_time))
        };
        for it in own {
            let key = FoundKey {
                hash: it.hash,
                name: tops.keys.shared_name(it.hash),
                estimate: estimate(it.hash),
                certain: if span_ms == 0 { it.certain } else { 0 },
            };
            keys.insert(it.hash, key);
        }
        for key in base.into_iter().flat_map(|base| base.keys_of(span_ms)) {
            let certain = if span_ms == 0 { key.certain } else { 0 };
            let all = keys.entry(key.hash).or_insert_with(|| FoundKey {
                hash: key.hash,
                name: key.name.clone(),
                estimate: 0,
                certain: 0,
            });
            all.estimate = estimate(key.hash);
            all.certain = all.certain.saturating_add(certain);
        }
        let missed = match self.base_weight() {
            0 => 0,
            _ if is_over => 0,
            weight => missed_of(base, span_ms, weight),
        };
        Found {
            span_ms,
            above: above.saturating_add(missed),
            keys: keys.into_values().collect(),
        }
    }
}

/// What goes from node to node.
impl Slices {
    /// The versions of all lists that are held, by their slices.
    pub fn top_versions(&self) -> impl Iterator<Item = TopVersion> + '_ {
        let own = self.own_slice();
        self.tops.iter().flat_map(move |tops| {
            let learnt = tops.learnt.iter().map(|(slice, top)| (*slice, top));
            let all = std::iter::once((own, &tops.own)).chain(learnt);
            let all = all.map(|(slice, top)| version_of(slice, top));
            all.filter(|it| it.version > 0)
        })
    }

    /// The sum over all lists, which two nodes compare.
    #[must_use]
    pub fn top_sum(&self) -> u64 {
        let hashes = self
            .top_versions()
            .map(|it| top_hash(&it.slice, it.version));
        hashes.fold(0, u64::wrapping_add)
    }

    /// The version of a slice's list that is here; 0 if there is none.
    #[must_use]
    pub fn top_version(&self, slice: &SliceId) -> TopVersion {
        let empty = SliceTop::default();
        version_of(*slice, self.top_of(slice).unwrap_or(&empty))
    }

    /// Whether another node has a later version of a slice's list, which would be taken.
    #[must_use]
    pub fn lacks_of_top(&self, theirs: &TopVersion) -> bool {
        let slice = &theirs.slice;
        let is_learnt = *slice != self.own_slice() && self.has(slice);
        is_learnt && self.has_top() && self.top_version(slice).version < theirs.version
    }

    /// What has changed of a slice's list for somebody who has it in this version; `None` if nothing has.
    #[must_use]
    pub fn top_changes(&self, theirs: &TopVersion) -> Option<(TopHead, Vec<TopEntry<'_>>)> {
        let since = theirs.version;
        let top = self
            .top_of(&theirs.slice)
            .filter(|top| top.version() > since)?;
        Some((top.head(since), top.changed_since(since, theirs.complete)))
    }

    /// Takes what another node tells of a slice's list. Returns false, and nothing has changed, where it does not go on
    /// from what is here, or nobody may tell it: of our own slice, of one that is not known, or for want of memory.
    pub fn follow_top(&mut self, slice: &SliceId, head: TopHead, entries: TopEntries<'_>) -> bool {
        let is_learnt = *slice != self.own_slice() && self.has(slice);
        let replica = Arc::clone(self.replica());
        let Some(tops) = self.tops.as_mut().filter(|_| is_learnt) else {
            return false;
        };
        let top = tops.learnt.entry(*slice).or_default();
        let before = top.memory_bytes();
        let followed = top.follow(head, entries, |name| replica.own().hash(name));
        let after = top.memory_bytes();
        replica.release_top(before);
        if !replica.reserve_top(after) {
            tops.learnt.remove(slice);
            return false;
        }
        followed.is_ok()
    }

    pub(crate) fn leave_top_base(&mut self, old: SliceId) {
        if let Some(tops) = &mut self.tops {
            tops.leave_base(old);
        }
    }

    /// Takes over a part of a list that a snapshot file has, of a slice of which the file has told before.
    pub fn restore_top(&mut self, slice: &SliceId, list: ToldTop<'_>) {
        if self.base_name() != Some(*slice) {
            self.follow_top(slice, list.head(), list.entries());
            return;
        }
        let replica = Arc::clone(self.replica());
        if let Some(tops) = &mut self.tops {
            let base = tops.base.get_or_insert_default();
            // One that does not go on from what is here is left out, as if the file had ended before it.
            let hash_of = |name: &[u8]| replica.own().hash(name);
            if base.follow(list.head(), list.entries(), hash_of).is_ok() {
                tops.own = SliceTop::beginning_at(base.version() + VERSIONS_A_START);
            }
        }
    }

    fn top_of(&self, slice: &SliceId) -> Option<&SliceTop> {
        let tops = self.tops.as_ref()?;
        match *slice == self.own_slice() {
            true => Some(&tops.own),
            false => tops.learnt.get(slice),
        }
    }
}

impl Tops {
    /// The parts of what is certain of a key, of all time, by the nodes that counted them, where ours has so much
    /// since its start.
    fn certain_by_node(&self, node: u64, own: u64, hash: KeyHash) -> Vec<(u64, u64)> {
        let mut nodes = BTreeMap::from([(node, own)]);
        let base = self.base.iter().map(|base| (node, base));
        let learnt = self.learnt.iter().map(|(slice, top)| (slice.node, top));
        for (node, top) in base.chain(learnt) {
            let certain = top.key(hash).map_or(0, |key| key.certain);
            let sum = nodes.entry(node).or_default();
            *sum = sum.saturating_add(certain);
        }
        nodes.retain(|_, certain| *certain > 0);
        nodes.into_iter().collect()
    }

    /// When the base had been counted.
    fn base_until(&self) -> Duration {
        self.started.or(self.made).unwrap_or_default()
    }

    /// When a slice has grown last that has this weight now.
    fn grown_at(&self, slice: &SliceId, weight: u64) -> Duration {
        let noted = self.weights.get(slice).filter(|noted| noted.0 == weight);
        // What was not noted yet has just come.
        noted
            .map(|&(_, since)| since)
            .or(self.made)
            .unwrap_or_default()
    }
}

impl Replica {
    /// The longest window of each ring, with the length of it in milliseconds.
    fn ring_spans(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let plans = self.window_plans().map(WindowPlan::span_ms);
        plans.enumerate()
    }

    /// The time after which nothing counts in a window: its length, and two steps.
    fn covering(&self, span_ms: u64) -> Option<Duration> {
        let window = self.find_window(span_ms)?;
        let (_, plan) = self
            .window_plans()
            .enumerate()
            .find(|(ring, _)| *ring == window.ring())?;
        Some(Duration::from_millis(
            span_ms.saturating_add(2 * plan.step_ms()),
        ))
    }

    /// Weight that legacy peers have added, whose keys nobody lists.
    fn legacy_weight(&self) -> u64 {
        self.total_weight().saturating_sub(self.slices_weight())
    }

    fn snapshots_begun(&self) -> u64 {
        let rings = self.windows.rings().iter();
        rings.map(Ring::begun).fold(0, u64::wrapping_add)
    }

    fn reserve_top(&self, bytes: u64) -> bool {
        self.memory.reserve(bytes).is_ok()
    }

    fn release_top(&self, bytes: u64) {
        self.memory.release(bytes);
    }
}

fn bound_question(window: Window, now: Duration) -> WindowQuestion {
    WindowQuestion {
        window,
        reading: Reading::Bound,
        now,
    }
}

fn version_of(slice: SliceId, top: &SliceTop) -> TopVersion {
    TopVersion {
        slice,
        version: top.version(),
        complete: top.complete_version(),
    }
}

/// What may have been counted in a slice of so much weight of a key that its list lacks.
fn missed_of(top: Option<&SliceTop>, span_ms: u64, weight: u64) -> u64 {
    let Some(top) = top else {
        return weight;
    };
    let later = weight.saturating_sub(top.weight());
    let missed = top
        .bound_of(span_ms)
        .map(|(_, above)| above.saturating_add(later));
    missed.map_or(weight, |missed| missed.min(weight))
}
