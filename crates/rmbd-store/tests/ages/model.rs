//! What one node knows, and the rules by which it learns.

use std::collections::BTreeMap;

/// A time, in ticks.
pub(crate) type Tick = i64;
/// A start of a node, which writes a slice of its own.
pub(crate) type Writer = usize;

/// Ticks of the window.
pub(crate) const WINDOW: Tick = 40;
/// Ticks between two snapshots.
pub(crate) const STEP: Tick = 5;
/// Steps of the window.
const STEPS: Tick = WINDOW / STEP;
/// Ticks for which marks are kept.
const KEPT: Tick = WINDOW + 2 * STEP;
/// Ticks between two of the marks that learnt slices share.
const SHARED_GAP: Tick = WINDOW / 4;

/// What is sent of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parcels {
    /// The value and all marks, in one message.
    Whole,
    /// The value alone.
    NoAges,
    /// Old values in messages of their own, the oldest first, and then the value.
    Apart,
}

/// Which marks a writer sends of its own slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnMarks {
    EachStep,
    /// One mark only, so that there is an old part and a new one.
    Two,
}

/// Which marks a node keeps of the slices of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LearntMarks {
    All,
    /// A few, at times that all slices share.
    SharedFew,
}

/// When the clock is read for the time of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    ReadAfterwards,
    ReadBefore,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) parcels: Parcels,
    pub(crate) own: OwnMarks,
    pub(crate) learnt: LearntMarks,
    pub(crate) arrival: Arrival,
}

/// At this time the slice had this value at least.
pub(crate) type Mark = (Tick, u64);

/// What is known of one writer's counter.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    pub(crate) value: u64,
    /// Both times and values ascend.
    pub(crate) marks: Vec<Mark>,
}

impl Slice {
    fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
        self.marks.sort_unstable();
        let mut highest = None;
        self.marks.retain(|&(_, value)| {
            let is_higher = highest.is_none_or(|highest| value > highest);
            highest = highest.max(Some(value));
            is_higher
        });
    }

    /// Of the marks that no window reaches any more, one is left.
    fn forget(&mut self, now: Tick) {
        while self.marks.get(1).is_some_and(|&(at, _)| at <= now - KEPT) {
            self.marks.remove(0);
        }
    }

    /// Moves each mark to the next of these times that is not before it. What is behind all of them goes.
    fn round_up(&mut self, times: &[Tick]) {
        for (at, value) in std::mem::take(&mut self.marks) {
            if let Some(&at) = times.iter().find(|&&time| time >= at) {
                self.mark((at, value));
            }
        }
    }
}

/// What a node knows.
#[derive(Debug)]
pub(crate) struct Knowledge {
    rules: Rules,
    pub(crate) writer: Writer,
    pub(crate) slices: BTreeMap<Writer, Slice>,
    /// The sum of all slices.
    sum: u64,
    /// Time and sum of each, the oldest first.
    snapshots: Vec<(Tick, u64)>,
    next_snapshot: Tick,
    /// The times of the marks of all learnt slices, where they share them.
    shared: Vec<Tick>,
}

impl Knowledge {
    pub(crate) fn new(rules: Rules, writer: Writer, now: Tick) -> Self {
        let back = (0..STEPS + 2).rev().map(|steps| (now - steps * STEP, 0));
        Self {
            rules,
            writer,
            slices: BTreeMap::from([(writer, Slice::default())]),
            sum: 0,
            snapshots: back.collect(),
            next_snapshot: now + STEP,
            shared: (0..=6).rev().map(|gaps| now - gaps * SHARED_GAP).collect(),
        }
    }

    pub(crate) fn own(&self) -> &Slice {
        &self.slices[&self.writer]
    }

    pub(crate) fn value(&self, writer: Writer) -> u64 {
        self.slices.get(&writer).map_or(0, |slice| slice.value)
    }

    pub(crate) fn count(&mut self) {
        self.sum += 1;
        if let Some(own) = self.slices.get_mut(&self.writer) {
            own.value += 1;
        }
    }

    /// Takes a snapshot if it is time for one.
    pub(crate) fn take_snapshot(&mut self, now: Tick) {
        if now < self.next_snapshot {
            return;
        }
        self.next_snapshot = now + STEP;
        self.snapshots.push((now, self.sum));
        self.snapshots.remove(0);
    }

    /// A step of the histories has ended.
    pub(crate) fn end_step(&mut self, now: Tick) {
        if let Some(own) = self.slices.get_mut(&self.writer) {
            own.mark((now, own.value));
            own.forget(now);
        }
        if self.rules.learnt != LearntMarks::SharedFew {
            return;
        }
        self.shared.push(now);
        // One goes where its neighbours are near enough to each other.
        let mut at = 1;
        while at + 1 < self.shared.len() {
            if self.shared[at + 1] - self.shared[at - 1] <= SHARED_GAP {
                self.shared.remove(at);
            } else {
                at += 1;
            }
        }
        while self.shared.get(1).is_some_and(|&at| at <= now - KEPT) {
            self.shared.remove(0);
        }
        let learnt = self
            .slices
            .iter_mut()
            .filter(|(writer, _)| **writer != self.writer);
        for (_, slice) in learnt {
            slice.mark((now, slice.value));
            slice.round_up(&self.shared);
            slice.forget(now);
        }
    }

    /// Takes what somebody says of a slice: its value, and marks by our own clock.
    pub(crate) fn learn(&mut self, now: Tick, writer: Writer, value: u64, marks: &[Mark]) {
        let slice = self.slices.entry(writer).or_default();
        let known = slice.value;
        let grown = value.saturating_sub(known);
        self.sum += grown;
        slice.value += grown;
        for (at, sum) in &mut self.snapshots {
            let reached = marks.iter().filter(|(time, _)| time <= at);
            let old = reached.map(|&(_, reached)| reached.min(value)).max();
            *sum += old.unwrap_or(0).saturating_sub(known);
        }
        for &(at, reached) in marks {
            slice.mark((at, reached.min(slice.value)));
        }
        match self.rules.learnt {
            LearntMarks::All if grown > 0 => slice.mark((now, slice.value)),
            LearntMarks::SharedFew => slice.round_up(&self.shared),
            LearntMarks::All => {}
        }
        slice.forget(now);
    }

    /// The marks that are sent to somebody who has the slice up to `base`.
    pub(crate) fn marks_since(&self, now: Tick, writer: Writer, base: u64) -> Vec<Mark> {
        let Some(slice) = self.slices.get(&writer) else {
            return Vec::new();
        };
        let marks = slice.marks.iter().copied();
        let mut marks: Vec<Mark> = marks.filter(|&(_, value)| value > base).collect();
        if writer == self.writer && self.rules.own == OwnMarks::Two {
            let is_old = |&(at, _): &Mark| now - at >= WINDOW;
            let newest = marks.iter().copied().rfind(is_old);
            marks = newest.into_iter().collect();
        }
        marks
    }

    /// How much was counted in the window.
    pub(crate) fn answer(&self, now: Tick) -> u64 {
        let before = self.snapshots.iter().rfind(|(at, _)| *at <= now - WINDOW);
        self.sum - before.unwrap_or(&self.snapshots[0]).1
    }
}

/// By how much answers were too high, in ticks beyond the window, and how many were too low.
#[derive(Debug, Default)]
pub(crate) struct Excess {
    pub(crate) answers: u64,
    pub(crate) too_low: u64,
    by_ticks: BTreeMap<Tick, u64>,
}

impl Excess {
    /// Judges an answer by the times of all that it may count: those of each slice, ascending.
    pub(crate) fn judge(&mut self, now: Tick, answer: u64, slices: &[&[Tick]]) {
        let since = |start: Tick| -> u64 {
            let counts = slices
                .iter()
                .map(|times| times.len() - times.partition_point(|&at| at < start));
            counts.sum::<usize>() as u64
        };
        let truth = since(now - WINDOW + 1);
        self.answers += 1;
        self.too_low += u64::from(answer < truth);
        // The latest time since which as much was counted as the answer says.
        let (mut start, mut after) = (0, now + 1);
        while after - start > 1 {
            let middle = start.midpoint(after);
            if since(middle) >= answer {
                start = middle;
            } else {
                after = middle;
            }
        }
        let age = if answer > truth { now - start } else { WINDOW };
        *self.by_ticks.entry(age.max(WINDOW) - WINDOW).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.too_low += other.too_low;
        for (ticks, answers) in other.by_ticks {
            *self.by_ticks.entry(ticks).or_default() += answers;
        }
    }

    /// The excess that so many of 1 000 answers do not pass.
    pub(crate) fn quantile(&self, of_1000: u64) -> Tick {
        let mut left = self.answers * (1_000 - of_1000) / 1_000;
        for (&ticks, &answers) in self.by_ticks.iter().rev() {
            if answers > left {
                return ticks;
            }
            left -= answers;
        }
        0
    }

    pub(crate) fn max(&self) -> Tick {
        self.by_ticks.keys().next_back().copied().unwrap_or(0)
    }
}
