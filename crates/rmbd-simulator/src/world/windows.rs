//! Checks of windows against a ledger, in which each growth of a cell has its real time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_store::{Estimate, WindowPlan};

use super::super::machine::{Machine, SketchSpec};
use super::super::network::{Place, Weather};
use super::{Process, Terms, World};

/// A window is right for a node that has been here for so much longer than it; until then the node joins.
const JOINING: Duration = Duration::from_secs(2);
/// Nodes that come later than that find others that have counted.
const LATE: Duration = Duration::from_secs(3);
/// Rounds that it takes to tell others what was added: until the next one, and again where the first was lost.
const ROUNDS_OF_DELIVERY: u32 = 3;
/// Who joins learns from others than the writers, too, who know the ages of what they have learnt to a quarter of the
/// window.
const LEARNT_GAPS: u32 = 4;
/// The resolution of an excess, in parts of a step.
const PARTS: u32 = 4;

/// What was counted when, by slice and cell.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Times with what had been counted by then, which is no less than before.
    slices: BTreeMap<SliceId, BTreeMap<u32, Vec<(Duration, u64)>>>,
    /// When a clock that must not jump did so.
    jumped: Option<Duration>,
}

impl Ledger {
    /// Notes an add.
    pub(super) fn note(
        &mut self,
        now: Duration,
        (slice, spec): (SliceId, SketchSpec),
        key: &[u8],
        weight: u32,
    ) {
        for &cell in spec.family.cells(key, spec.geometry).as_slice() {
            self.grow(now, slice, cell, weight.into());
        }
    }

    /// Notes by what the cells of a slice differ.
    pub(super) fn note_growth(
        &mut self,
        now: Duration,
        slice: SliceId,
        before: &[u64],
        after: &[u64],
    ) {
        for (cell, (before, after)) in before.iter().zip(after).enumerate() {
            self.grow(now, slice, cell as u32, after - before);
        }
    }

    fn grow(&mut self, now: Duration, slice: SliceId, cell: u32, growth: u64) {
        if growth == 0 {
            return;
        }
        let times = self.slices.entry(slice).or_default();
        let times = times.entry(cell).or_default();
        let count = times.last().map_or(0, |last| last.1) + growth;
        match times.last_mut() {
            Some(last) if last.0 == now => last.1 = count,
            _ => times.push((now, count)),
        }
    }

    /// A slice goes on under another name.
    pub(super) fn goes_on(&mut self, before: SliceId, now: SliceId) {
        let times = self.of(&before);
        self.set(now, times);
    }

    pub(super) fn of(&self, slice: &SliceId) -> BTreeMap<u32, Vec<(Duration, u64)>> {
        self.slices.get(slice).cloned().unwrap_or_default()
    }

    pub(super) fn set(&mut self, slice: SliceId, times: BTreeMap<u32, Vec<(Duration, u64)>>) {
        self.slices.insert(slice, times);
    }

    pub(super) fn jumped(&mut self, now: Duration) {
        self.jumped = Some(now);
    }
}

/// What had been counted in a cell by a time.
fn by(times: &[(Duration, u64)], time: Duration) -> u64 {
    let at = times.partition_point(|&(at, _)| at <= time);
    at.checked_sub(1).map_or(0, |at| times[at].1)
}

/// What a node holds of a cell, and when its writer counted it.
struct Held<'l> {
    is_own: bool,
    value: u64,
    times: &'l [(Duration, u64)],
}

impl Held<'_> {
    fn since(&self, time: Duration) -> u64 {
        self.value.saturating_sub(by(self.times, time))
    }
}

/// The least row of what a node holds and was counted after a time.
fn least_since(rows: &[Vec<Held<'_>>], time: Duration, of: impl Fn(&Held<'_>) -> bool) -> u64 {
    let sum = |row: &Vec<Held<'_>>| {
        row.iter()
            .filter(|it| of(it))
            .map(|it| it.since(time))
            .sum()
    };
    rows.iter().map(sum).min().unwrap_or(0)
}

/// What may have gone wrong by the time of a look; the first that has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Clocks jumped, or ran faster or slower than clocks do.
    Clocks,
    Stops,
    /// There was no room, or too little rate.
    Limits,
    /// A machine has booted, and nobody knows for how long it was off; or disks were copied.
    Disks,
    /// The node came later than others, or again, and has not been here for the whole window.
    Joins,
    Restarts,
    Partitions,
    Loss,
    Quiet,
}

/// The outcome of a look at a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowLook {
    pub kind: Kind,
    /// By how many steps more than its length a window would have to have what the answer counts.
    pub excess_steps: f64,
    /// Whether that is within two steps and a delivery; of a node that joins, within a step, a quarter of the window,
    /// and a delivery.
    pub is_within: bool,
}

/// A question about a window of a node.
#[derive(Debug, Clone, Copy)]
struct Question<'a> {
    place: Place,
    spec: SketchSpec,
    plan: WindowPlan,
    span: Duration,
    key: &'a [u8],
}

impl<M: Machine> World<M> {
    /// Looks at one of the windows of a node, if it has some, for one of the keys. Any numbers choose the sketch, the
    /// ring, and the length in steps.
    pub fn look_at_any_window(&mut self, place: Place, key: usize, sketch: u64, steps: u64) {
        let sketches = &self.process(place).setup.sketches;
        let spec = sketches[(sketch % sketches.len() as u64) as usize];
        let plans: Vec<WindowPlan> = spec.plans().collect();
        let Some(plan) = plans.get(steps as usize % plans.len().max(1)) else {
            return;
        };
        let steps = 1 + (steps >> 8) % plan.steps() as u64;
        self.look_at_window(place, &spec, steps * plan.step_ms(), key);
    }

    /// Looks at a window of a node, and notes the outcome.
    pub fn look_at_window(&mut self, place: Place, spec: &SketchSpec, span_ms: u64, key: usize) {
        // The ring with the shortest step answers.
        let covering = spec.plans().filter(|plan| plan.covers(span_ms));
        let Some(plan) = covering.min_by_key(WindowPlan::step_ms) else {
            return;
        };
        let key = &self.keys[key].clone();
        let (spec, span) = (*spec, Duration::from_millis(span_ms));
        let question = Question {
            place,
            spec,
            plan,
            span,
            key,
        };
        if self.process(place).paused_until.is_some() {
            return;
        }
        match self.answer(question) {
            Some(Ok(look)) => self.window_looks.push(look),
            Some(Err(what)) => self.violations.push(what),
            None => {}
        }
    }

    fn answer(&self, question: Question<'_>) -> Option<Result<WindowLook, String>> {
        let Question {
            place, spec, key, ..
        } = question;
        let process = self.process(place);
        let (clock, span_ms) = (self.clock(place), question.span.as_millis() as u64);
        let answer = (process.machine).bound_in(clock, spec.number, span_ms, key)?;
        let all_time = process.machine.estimate(spec.number, key).count;
        let said = |what: String| {
            format!(
                "{place}: {what} was counted in {:?} of sketch {} at {:?}, and it says {answer:?}",
                question.span, spec.number.0, self.now
            )
        };
        if answer.count > all_time {
            return Some(Err(said(format!("at most {all_time}"))));
        }
        if answer.overflowed {
            return None;
        }
        let rows = self.held(question);
        let least = self.least(process, question.span, &rows).min(all_time);
        if answer.count < least {
            return Some(Err(said(format!("at least {least}"))));
        }
        Some(Ok(self.look(process, question, &rows, answer)))
    }

    /// What the node holds of all cells with which the key shares those of snapshots, by row.
    fn held(&self, question: Question<'_>) -> Vec<Vec<Held<'_>>> {
        let Question {
            place, spec, plan, ..
        } = question;
        let process = self.process(place);
        let own = process.setup.slice_of(spec.number);
        let is_own_sketch = |slice: &SliceId| {
            slice.sketch == spec.number && self.fingerprints[slice] == spec.fingerprint()
        };
        let cells = spec.family.cells(question.key, spec.geometry);
        let ranges: Vec<Range<u32>> = (cells.as_slice().iter())
            .map(|cell| {
                let fold = plan.fold() as u32;
                cell / fold * fold..cell / fold * fold + fold
            })
            .collect();
        let mut rows: Vec<Vec<Held<'_>>> = ranges.iter().map(|_| Vec::new()).collect();
        let mut own_cells = None;
        let slices = self.ledger.slices.iter();
        for (slice, ledger) in slices.filter(|(slice, _)| is_own_sketch(slice)) {
            let is_own = *slice == own;
            for (row, range) in rows.iter_mut().zip(&ranges) {
                let counted = ledger.range(range.clone());
                let (cells, times): (Vec<u32>, Vec<_>) = counted.unzip();
                let values = if is_own {
                    // All that was added here is in our cells at once.
                    let own =
                        own_cells.get_or_insert_with(|| process.machine.own_cells(spec.number));
                    cells.iter().map(|&cell| own[cell as usize]).collect()
                } else {
                    process.machine.some_cells(slice, &cells)
                };
                row.extend(values.into_iter().zip(times).map(|(value, times)| Held {
                    is_own,
                    value,
                    times,
                }));
            }
        }
        rows
    }

    /// The least that the answer may be. Of others only what clocks can tell counts.
    fn least(&self, process: &Process<M>, span: Duration, rows: &[Vec<Held<'_>>]) -> u64 {
        let mut from = self.now.saturating_sub(process.clock.takes(span));
        if process.clock.rate != 1.0 {
            // Times are rounded.
            from += Duration::from_micros(1);
        }
        let from = from.max(self.ledger.jumped.unwrap_or_default());
        let has_drifts = self.hosts.iter().any(|host| host.clock_rate != 1.0);
        least_since(rows, from, |held| held.is_own || !has_drifts)
    }

    fn look(
        &self,
        process: &Process<M>,
        question: Question<'_>,
        rows: &[Vec<Held<'_>>],
        answer: Estimate,
    ) -> WindowLook {
        let step = Duration::from_millis(question.plan.step_ms());
        let span = process.clock.takes(question.span);
        let is_enough = |more: Duration| {
            let from = self.now.checked_sub(span + more);
            from.is_none_or(|from| least_since(rows, from, |_| true) >= answer.count)
        };
        let parts = (0_u32..).find(|&parts| is_enough(step * parts / PARTS));
        let excess = step * parts.unwrap_or(0) / PARTS;
        let kind = self.kind(process, question.span + step * 2);
        // A step between snapshots, and what is between two marks.
        let between_marks = if kind == Kind::Joins {
            step.max(Duration::from_millis(question.plan.span_ms()) / LEARNT_GAPS)
        } else {
            step
        };
        let delivery = self.terms.interval * ROUNDS_OF_DELIVERY;
        WindowLook {
            kind,
            excess_steps: excess.as_secs_f64() / step.as_secs_f64(),
            is_within: excess <= step + between_marks + delivery,
        }
    }

    fn kind(&self, process: &Process<M>, span: Duration) -> Kind {
        let faults = &self.network.faults;
        let has_drifts = self.hosts.iter().any(|host| host.clock_rate != 1.0);
        let binds = self.terms.rate_bytes_per_s < Terms::default().rate_bytes_per_s;
        let limits = faults.memory_limits + faults.origin_limits;
        let ends = faults.crashes + faults.restarts + faults.leaves + faults.twins;
        let born = process.clock.born;
        let (is_late, is_young) = (born > LATE, self.now - born < span + JOINING);
        let kinds = [
            (has_drifts || faults.clock_jumps > 0, Kind::Clocks),
            (faults.pauses + faults.floods > 0, Kind::Stops),
            (binds || limits > 0, Kind::Limits),
            (
                faults.power_cuts + faults.old_copies + faults.new_writers > 0,
                Kind::Disks,
            ),
            (is_late && is_young, Kind::Joins),
            (ends + faults.shadows > 0, Kind::Restarts),
            (faults.cut > 0, Kind::Partitions),
            (self.network.weather != Weather::CLEAR, Kind::Loss),
            (faults.lost + faults.held_back > 0, Kind::Loss),
        ];
        let first = kinds.into_iter().find(|&(is, _)| is);
        first.map_or(Kind::Quiet, |(_, kind)| kind)
    }
}
