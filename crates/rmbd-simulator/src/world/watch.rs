//! Checks of what must hold all the time, and of what nodes claim.

use std::collections::BTreeMap;

use rmbd_cluster::LEAVE_LIMIT as HAND_OVER_LIMIT;
use rmbd_proto::Boot;
use rmbd_proto::cluster::SliceId;

use super::super::machine::{Cells, Copies, Machine};
use super::super::network::Place;
use super::World;

/// Bytes of cells that are remembered of versions; more are not remembered.
const HISTORY_BYTES_MAX: usize = 16 << 20;
/// Slices with more cells are published in several steps, during which cells are ahead of the version.
const HISTORY_CELLS_MAX: usize = 1 << 14;

/// The cells that writers had published, version by version.
#[derive(Debug, Default)]
pub(super) struct History {
    versions: BTreeMap<(SliceId, u64), Cells>,
    bytes: usize,
    is_full: bool,
    /// How much was checked of what each boot holds of a slice: a cell only grows.
    seen: BTreeMap<(Boot, SliceId), u64>,
}

impl History {
    fn note(&mut self, slice: SliceId, version: u64, cells: Cells) {
        self.bytes += cells.len() * 4;
        self.is_full |= self.bytes > HISTORY_BYTES_MAX || cells.len() > HISTORY_CELLS_MAX;
        if self.is_full {
            return;
        }
        // Where two processes have gone on with one slice, a version stands for what both have at least.
        let known = self.versions.entry((slice, version));
        let known = known.or_insert_with(|| cells.clone());
        known
            .iter_mut()
            .zip(cells)
            .for_each(|(known, cell)| *known = cell.min(*known));
    }
}

impl History {
    /// What had been published under one name counts under another one, too.
    pub(super) fn name_anew(&mut self, old: SliceId, new: SliceId) {
        let versions = self.versions.range((old, 0)..=(old, u64::MAX));
        let versions: Vec<(u64, Cells)> = versions
            .map(|(&(_, version), cells)| (version, cells.clone()))
            .collect();
        for (version, cells) in versions {
            self.note(new, version, cells);
        }
    }
}

impl<M: Machine> World<M> {
    /// Checks a process after everything that it does.
    pub(super) fn watch(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        process.has_met |= !process.machine.is_alone();
        for slice in process.setup.slices().collect::<Vec<_>>() {
            let version = process.machine.own_version(slice.sketch);
            let noted = process.noted_versions.insert(slice.sketch, version);
            if noted.unwrap_or(0) != version {
                let (version, cells) = process.machine.published(slice.sketch);
                self.history.note(slice, version, cells);
            }
        }
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        if process.ready_at.is_none() && process.machine.is_ready() {
            process.ready_at = Some(now);
            self.look_at_readiness(place);
        }
    }

    /// Checks that a node has what it owes when it reports that it is ready, unless it only took too long.
    fn look_at_readiness(&mut self, place: Place) {
        let clock = self.clock(place);
        let Some(process) = &mut self.hosts[place].process else {
            return;
        };
        let Some(owed) = process.owed_when_ready.take() else {
            return;
        };
        let machine = &process.machine;
        if !machine.is_complete(clock) {
            return;
        }
        // Of a sketch that it does not have, or has otherwise, nothing is owed.
        let fingerprints = &self.fingerprints;
        let is_owed = |slice: &SliceId| {
            let ours = process
                .setup
                .spec(slice.sketch)
                .map(|spec| spec.fingerprint());
            ours.as_ref() == fingerprints.get(slice)
        };
        let mut owed = owed.iter().filter(|(slice, _)| is_owed(slice));
        let what = owed.find_map(|(slice, cells)| {
            let held = machine.cells(slice).unwrap_or_default();
            lacks(&held, cells).then(|| {
                let rest = machine
                    .vouched()
                    .into_iter()
                    .find(|(known, _)| known == slice);
                let (has, owes) = (held.iter().filter(|&&c| c > 0), cells.iter());
                let (has, owes) = (has.count(), owes.filter(|&&c| c > 0).count());
                format!("{slice:?}: has {has} cells of {owes}, and vouches for {rest:?}")
            })
        });
        if let Some(what) = what {
            let what = format!("{place} says that it is ready, and lacks some of {what}");
            self.violations.push(what);
        }
    }

    /// Sets what the next node on a host must hold when it is ready.
    pub fn owe_when_ready(&mut self, place: Place, owed: Copies) {
        self.network.faults.joins += 1;
        self.hosts[place].owed_when_ready = Some(owed);
    }

    /// The slices that one of these nodes claims to have completely, as they were in that version. Cells that are in
    /// no version (a writer died while it sent them) come, too, but nobody waits for them.
    pub fn complete_copies(&self, places: &[Place]) -> Copies {
        let mut versions = BTreeMap::<SliceId, u64>::new();
        for &place in places {
            let process = self.process(place);
            let own = process.setup.slices();
            let own = own.map(|slice| (slice, process.machine.own_version(slice.sketch)));
            for (slice, version) in process.machine.vouched().into_iter().chain(own) {
                let known = versions.entry(slice).or_default();
                *known = version.max(*known);
            }
        }
        let known = versions.into_iter().filter_map(|of| {
            let cells = self.history.versions.get(&of)?;
            Some((of.0, cells.clone()))
        });
        known.collect()
    }

    /// Checks a node that has left before its time was over: it must have handed over everything to all members that
    /// it knew, and it must have met a member if there was one.
    pub(super) fn look_at_hand_over(&mut self, place: Place) {
        let process = self.process(place);
        let Some(leaving) = process.leaving else {
            return;
        };
        let own: Copies = self.own_copies(place).collect();
        let has_added = process.since.values().flatten().any(|&weight| weight > 0);
        let took = self.clock(place).saturating_sub(leaving.since_clock);
        if took >= HAND_OVER_LIMIT || own.is_empty() || !process.machine.is_flushed() {
            return;
        }
        let (joins, has_met) = (process.setup.joins, process.has_met);
        let live = process.machine.live(self.clock(place));
        if joins && !has_met && has_added {
            let what = format!("{place} left after {took:?} with adds, and had not met anybody");
            self.violations.push(what);
        }
        let heirs: Vec<Place> = live
            .iter()
            .filter_map(|&(boot, _)| self.place_of(boot))
            .collect();
        for heir in heirs {
            for (slice, cells) in &own {
                let spec_of = |place| self.process(place).setup.spec(slice.sketch).copied();
                if spec_of(heir) != spec_of(place) {
                    // A member with another sketch has nothing to do with this node's counts.
                    continue;
                }
                self.network.faults.hand_overs += 1;
                let held = self.machine(heir).cells(slice).unwrap_or_default();
                if lacks(&held, cells) && !self.hosts[heir].is_limited() {
                    let what =
                        format!("{place} left, and {heir} does not have all that it counted");
                    self.violations.push(what);
                }
            }
        }
    }

    /// Checks that no answer is smaller than an earlier one.
    pub fn look_at_counts(&mut self) {
        for (place, host) in self.hosts.iter_mut().enumerate() {
            let Some(process) = &mut host.process else {
                continue;
            };
            for spec in &process.setup.sketches {
                for (number, key) in self.keys.iter().enumerate() {
                    let count = process.machine.estimate(spec.number, key).count;
                    let floor = process.floor.entry((spec.number, number)).or_default();
                    if count < *floor {
                        let what = format!("{place}: key {number} fell from {floor} to {count}");
                        self.violations.push(what);
                    }
                    *floor = count;
                }
            }
        }
    }

    /// Checks that no bound is broken.
    pub fn look_at_bounds(&mut self) {
        for (place, host) in self.hosts.iter().enumerate() {
            let Some(process) = &host.process else {
                continue;
            };
            let clock = process.clock(self.now);
            if let Some(what) = process.machine.broken_bound(clock, &process.setup) {
                self.violations.push(format!("{place}: {what}"));
            }
        }
    }

    /// Checks that no node holds anything of a sketch that it does not have, and that members with other sketches are
    /// named.
    pub fn look_at_sketches(&mut self) {
        for (place, host) in self.hosts.iter().enumerate() {
            let Some(process) = &host.process else {
                continue;
            };
            let vouched = process.machine.vouched().into_iter();
            let held = process.machine.roots().into_keys();
            let mut all = vouched.map(|(slice, _)| slice).chain(held);
            let other = all.find(|slice| {
                let ours = process
                    .setup
                    .spec(slice.sketch)
                    .map(|spec| spec.fingerprint());
                ours.is_none() || self.fingerprints.get(slice) != ours.as_ref()
            });
            if let Some(slice) = other {
                let what = format!("{place} has {slice:?}, which is of another sketch");
                self.violations.push(what);
            }
        }
    }

    /// Checks claims: a node that claims to have a slice completely up to a version holds the cells of that version.
    pub fn look_at_vouching(&mut self) {
        for (place, host) in self.hosts.iter().enumerate() {
            let Some(process) = &host.process else {
                continue;
            };
            for (slice, version) in process.machine.vouched() {
                let seen = &mut self.history.seen;
                let seen = seen.entry((process.setup.boot, slice)).or_default();
                if *seen >= version {
                    continue;
                }
                *seen = version;
                let Some(cells) = self.history.versions.get(&(slice, version)) else {
                    if !self.history.is_full {
                        let what = format!("{place} vouches for {slice:?} until {version}");
                        self.violations.push(what + ", which nobody has published");
                    }
                    continue;
                };
                let held = process.machine.cells(&slice).unwrap_or_default();
                if lacks(&held, cells) {
                    let lacked = |at: &usize| held.get(*at).unwrap_or(&0) < &cells[*at];
                    let lacked: Vec<usize> = (0..cells.len()).filter(lacked).collect();
                    let what = format!("{place} vouches for {slice:?} until {version}");
                    self.violations
                        .push(format!("{what}, and lacks some of cells {lacked:?}"));
                }
            }
        }
    }
}

pub(super) fn lacks(held: &[u64], cells: &[u64]) -> bool {
    let mut all = cells.iter().enumerate();
    all.any(|(at, cell)| held.get(at).copied().unwrap_or(0) < *cell)
}
