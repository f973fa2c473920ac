//! Finding out whether everything is here that the cluster had when this node joined it.
//!
//! A node that joins asks every live member for its catalogue, page by page: one line for each slice that the
//! member holds of the sketches that both have. It is complete when it has read all of all catalogues to their
//! ends, and holds every slice in the highest version that any of them names. Members that it gets to know
//! meanwhile are asked, too.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gossip::peers::Ourselves;
use crate::gossip::sketches::Sketches;
use crate::gossip::state::{ClusterEvent, ReadyState};
use rmbd_proto::Boot;
use rmbd_proto::cluster::{CatalogueLine, SliceId};
use rmbd_store::KnownSince;

/// A node that joins is ready after this time at the latest, whatever it lacks.
pub const READY_LIMIT: Duration = Duration::from_secs(10);
/// A page that does not come within this time is asked for again.
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// The first members tell of others, so a node is complete only when it has met no new one for this long.
const SETTLING: Duration = Duration::from_millis(500);

/// The catalogues and slices that a node waits for before it says that it is ready.
#[derive(Debug)]
pub(crate) struct Readiness {
    since: Duration,
    is_complete: bool,
    has_waited_long: bool,
    /// When a member was met that had not been known.
    met_at: Option<Duration>,
    catalogues: BTreeMap<Boot, Catalogue>,
    /// Some members have no sketch of ours, and nothing to tell; and none has gone before it had told.
    has_excused: bool,
    /// Since when a member knows all that was counted, the one that knows it longest.
    known_since: Option<KnownSince>,
    /// Slices that catalogues name, with the version that is not here yet.
    missing: BTreeMap<SliceId, u64>,
}

/// How much a member has told of what it holds.
#[derive(Debug, Default)]
struct Catalogue {
    /// All lines before this one have come.
    next: CatalogueLine,
    is_whole: bool,
    asked_at: Option<Duration>,
}

impl Readiness {
    pub(crate) fn new(now: Duration, joins: bool) -> Self {
        Self {
            since: now,
            is_complete: !joins,
            has_waited_long: false,
            met_at: None,
            catalogues: BTreeMap::new(),
            has_excused: false,
            known_since: None,
            missing: BTreeMap::new(),
        }
    }

    /// To all others this node is another start from now on: whom it waits for is asked again.
    pub(crate) fn begin_again(&mut self) {
        *self = Self {
            is_complete: self.is_complete,
            has_waited_long: self.has_waited_long,
            ..Self::new(self.since, true)
        };
    }

    /// Complete, or [`READY_LIMIT`] has passed.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_complete || self.has_waited_long
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(crate) fn state(&self) -> ReadyState {
        if self.is_complete {
            return ReadyState::Complete;
        }
        if self.met_at.is_none() {
            return ReadyState::Alone;
        }
        let whole = self.catalogues.values().filter(|it| it.is_whole).count();
        ReadyState::Syncing {
            members_asked: self.catalogues.len(),
            members_heard: whole,
            slices_missing: self.missing.len(),
        }
    }

    /// A member is up.
    pub(crate) fn met(&mut self, now: Duration, boot: Boot) {
        if !self.is_complete && !self.catalogues.contains_key(&boot) {
            self.catalogues.insert(boot, Catalogue::default());
            self.met_at = Some(now);
        }
    }

    /// A member has told that it has a sketch of ours: it can be asked.
    pub(crate) fn told(&mut self, boot: Boot) {
        if let Some(catalogue) = self.catalogues.get_mut(&boot) {
            catalogue.asked_at = None;
        }
    }

    /// A member has no sketch of ours: there is nothing to wait for.
    pub(crate) fn excuse(&mut self, boot: Boot) {
        self.has_excused |= self.catalogues.remove(&boot).is_some();
    }

    /// A member is down. What it had told counts on.
    pub(crate) fn lost(&mut self, boot: Boot) {
        let catalogue = self.catalogues.remove(&boot);
        self.has_excused &= catalogue.is_none_or(|catalogue| catalogue.is_whole);
    }

    /// A member knows for so long all that was counted. It is a part of its catalogue.
    pub(crate) fn take_history(&mut self, now: Duration, from: Boot, known_ms: u64) {
        if self.catalogues.contains_key(&from) {
            // It has become older on its way.
            let since = KnownSince::of_told(known_ms, now);
            self.known_since = Some(self.known_since.map_or(since, |it| it.min(since)));
        }
    }

    /// Since when all that was counted is here once this node is complete. `None` if no member has told: then it is
    /// since the start of this node.
    pub(crate) fn known_since(&self) -> Option<KnownSince> {
        self.known_since
    }

    /// A page of a member's catalogue has come: lines from `first` on, and where those behind them begin.
    pub(crate) fn take_page(
        &mut self,
        from: Boot,
        first: CatalogueLine,
        next: Option<CatalogueLine>,
        entries: impl Iterator<Item = (SliceId, u64)>,
    ) {
        let Some(catalogue) = self.catalogues.get_mut(&from) else {
            return;
        };
        // A page behind which the same comes again would be asked for again and again.
        let is_stuck = next.is_some_and(|next| next <= first);
        if catalogue.is_whole || catalogue.next != first || is_stuck {
            return;
        }
        for (slice, version) in entries {
            // A copy that is not complete up to any version is told of by those who have more of it.
            if version > 0 {
                let missing = self.missing.entry(slice).or_default();
                *missing = version.max(*missing);
            }
        }
        catalogue.is_whole = next.is_none();
        catalogue.next = next.unwrap_or(first);
        catalogue.asked_at = None;
    }

    /// Whom to ask for a page, from which line on.
    pub(crate) fn ask(&mut self, now: Duration, mut ask: impl FnMut(Boot, CatalogueLine)) {
        for (&boot, catalogue) in &mut self.catalogues {
            let due = catalogue.asked_at.map(|at| at + ANSWER_TIME);
            if !catalogue.is_whole && due.is_none_or(|due| due <= now) {
                catalogue.asked_at = Some(now);
                ask(boot, catalogue.next);
            }
        }
    }

    pub(crate) fn next_wake(&self) -> Option<Duration> {
        if self.is_complete {
            return None;
        }
        let open = self.catalogues.values().filter(|it| !it.is_whole);
        let asks = open.map(|it| it.asked_at.map_or(Duration::ZERO, |at| at + ANSWER_TIME));
        let settled = self.met_at.filter(|_| self.has_all());
        let settled = settled.map(|at| at + SETTLING);
        let limit = (!self.has_waited_long).then_some(self.since + READY_LIMIT);
        asks.chain(settled).chain(limit).min()
    }

    /// Looks whether it is complete now, or has taken too long; what a log should say of that.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        ourselves: &Ourselves,
        sketches: &Sketches,
    ) -> Option<ClusterEvent> {
        if self.is_complete {
            return None;
        }
        self.missing.retain(|slice, version| {
            let is_behind = sketches.version(slice) < *version;
            !ourselves.writes(slice) && is_behind && !sketches.is_refused(slice)
        });
        let waited = now.saturating_sub(self.since);
        let has_settled = self.met_at.is_some_and(|at| now >= at + SETTLING);
        if has_settled && self.has_all() {
            self.is_complete = true;
            let has_asked = !std::mem::take(&mut self.catalogues).is_empty();
            return has_asked.then_some(ClusterEvent::Synced { after: waited });
        }
        if waited < READY_LIMIT || self.has_waited_long {
            return None;
        }
        self.has_waited_long = true;
        let state = self.state();
        Some(ClusterEvent::NotSynced { state })
    }

    /// Everybody has told everything, and it is here.
    fn has_all(&self) -> bool {
        let is_told = self.catalogues.values().all(|it| it.is_whole);
        let has_asked = !self.catalogues.is_empty() || self.has_excused;
        is_told && has_asked && self.missing.is_empty()
    }
}
