//! Reading windows.
//!
//! *The snapshot first, then the cell.* An add that a reader has to see was made before it asked, so the cell has it.
//! What is in the snapshot is in the cell that is read afterwards (`turns`). So a difference is never negative, and the
//! truth mod 2^32 or more.
//!
//! *Of two snapshots the older one first.* A booking raises the younger first, so the younger one is read with all that
//! the older one has.
//!
//! *What a question comes to is found once* for all keys that are asked about with it, before their cells are fetched.
//! It holds for a key that is read later as long as its snapshot is in its slot and no other one was completed, and
//! each read looks for both behind its cells.

use std::sync::atomic::{AtomicU32, Ordering::Acquire};
use std::time::Duration;

use rmbd_sketch::{CellIndexes, MAX_DEPTH, Weight};

use super::copier::slack_ns;
use super::question::{Reading, UnknownWindow, Window, WindowQuestion};
use super::ring::Ring;
use super::{WindowPlan, Windows, ns, ns_of_ms};
use crate::{Estimate, Passed, Replica};

/// How often a reader asks again whose snapshot was reused, or while growth was booked. Both take microseconds, and
/// the first happens once in a step.
const TRIES: usize = 8;
/// The most that is allowed for a snapshot to be begun late, copied and completed, where a sender is told when to come
/// back: half a second, or half a step.
const COPYING_NS_MAX: i64 = 500_000_000;

/// Windows.
impl Replica {
    /// The window of this length in milliseconds: a multiple of the step of a ring, and at most as long as the ring.
    /// Of several rings the one with the shortest step answers.
    ///
    /// # Errors
    /// [`UnknownWindow`] names the lengths that are possible.
    pub fn window(&self, span_ms: u64) -> Result<Window, UnknownWindow> {
        self.windows.window(span_ms)
    }

    /// Like [`window`](Self::window), for who has no use for the reason and must not allocate.
    #[inline]
    #[must_use]
    pub fn find_window(&self, span_ms: u64) -> Option<Window> {
        self.windows.find(span_ms)
    }

    /// The plans of all windows, in the order in which they were given.
    pub fn window_plans(&self) -> impl Iterator<Item = &WindowPlan> + Clone {
        self.windows.plans()
    }

    /// An estimate of the weight that was added to `key` in a window, here and on all nodes that slices came from. It
    /// is at most the estimate of all time.
    #[must_use]
    pub fn estimate_in(&self, key: &[u8], question: &WindowQuestion) -> Estimate {
        let asked = Question::resolve(&self.windows, question);
        self.estimate_of(&self.own.cells_of(key), &asked)
    }

    /// The same for a key with these cells.
    pub(crate) fn estimate_in_at(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        resolved: &mut Resolved,
    ) -> Estimate {
        let kept = resolved.keep(&self.windows, question);
        self.estimate_of(cells, resolved.get(kept))
    }

    /// An estimate for the key with these cells, where the question was resolved some time ago.
    #[inline]
    pub(crate) fn estimate_of(&self, cells: &CellIndexes, asked: &Question) -> Estimate {
        match self.read(cells, asked) {
            Some(read) => self.estimate_with(&read),
            None => self.estimate_again(cells, &asked.question),
        }
    }

    #[cold]
    #[inline(never)]
    fn estimate_again(&self, cells: &CellIndexes, question: &WindowQuestion) -> Estimate {
        self.estimate_with(&self.read_again(cells, question))
    }

    #[inline(always)]
    fn estimate_with(&self, read: &Read) -> Estimate {
        let has_legacy_peers = self.has_legacy_peers();
        Estimate {
            count: read.count.min(read.all_time),
            covered_ms: read.covered_ms,
            incomplete: self.is_incomplete() || read.incomplete || has_legacy_peers,
            overflowed: read.overflowed,
            passed: None,
        }
    }

    /// How long after the question's time the weight may be added to the key with these cells, so that the estimate is
    /// at most `limit`, if nobody else adds to the key. `None` where the weight alone is above the limit.
    #[must_use]
    pub(crate) fn retry_after(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        weight: Weight,
        limit: u64,
    ) -> Option<Duration> {
        let estimate = self.estimate_of(cells, &Question::resolve(&self.windows, question));
        self.wait(cells, question, (estimate.count, weight), limit)
    }

    /// The same where the estimate is known.
    fn wait(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        (estimate, weight): (u64, Weight),
        limit: u64,
    ) -> Option<Duration> {
        let most = limit.checked_sub(weight.into())?;
        if estimate <= most {
            return Some(Duration::ZERO);
        }
        let ring = self.windows.ring(question.window)?;
        let span_ns = ns_of_ms(question.window.span_ms());
        let enough_ns = match ring.find(question.begins_ns(), question.window.steps()) {
            Some(found) => self.enough_gone_ns(cells, question, ring, found.number, most),
            // Nothing is as old as the window: all of it will have gone a window from now on.
            None => ns(question.now),
        };
        let wait_ns = enough_ns
            .saturating_add(span_ns)
            .saturating_sub(ns(question.now));
        Some(Duration::from_nanos(wait_ns.max(0) as u64))
    }

    /// What is found out where the weight and this estimate of the key with these cells pass a limit; `None` is all
    /// time.
    pub(crate) fn passed(
        &self,
        cells: &CellIndexes,
        asked: Option<&Question>,
        (estimate, weight): (u64, Weight),
        limit: u64,
    ) -> Passed {
        match asked {
            Some(Question { question, .. }) => Passed {
                retry_after: self.wait(cells, question, (estimate, weight), limit),
                error: self.error_in(question),
            },
            None => Passed {
                retry_after: None,
                error: self.error(),
            },
        }
    }

    /// Starts to fetch what [`estimate_of`](Self::estimate_of) reads, beside the cells themselves.
    #[inline]
    pub(crate) fn prefetch_window(&self, cells: &CellIndexes, asked: &Question) {
        let (Some(ring), Some(slots)) = (self.windows.ring(asked.question.window), &asked.slots)
        else {
            return;
        };
        self.own.prefetch_neighbours(cells, ring.plan().fold());
        ring.prefetch(slots.older, cells);
        if slots.younger != slots.older {
            ring.prefetch(slots.younger, cells);
        }
    }

    /// Reads a window, if it can be read at the first try: nothing was reused, completed or booked meanwhile.
    #[inline]
    fn read(&self, cells: &CellIndexes, asked: &Question) -> Option<Read> {
        let ring = self.windows.ring(asked.question.window)?;
        let (read, is_calm) = self.try_read(cells, ring, asked.slots.as_ref()?)?;
        is_calm.then_some(read)
    }

    /// Reads a window. Where it cannot be read, the count of all time has to do.
    fn read_again(&self, cells: &CellIndexes, question: &WindowQuestion) -> Read {
        let mut read = Read::nothing(self.estimate_at(cells).count);
        let Some(ring) = self.windows.ring(question.window) else {
            return read;
        };
        for _ in 0..TRIES {
            // Where nothing is old enough any more, the numbers were those of a moment ago.
            let slots = Slots::find(ring, question);
            let tried = slots.and_then(|slots| self.try_read(cells, ring, &slots));
            if let Some((tried, is_calm)) = tried {
                // It is too high at most from here on.
                read = tried;
                if is_calm {
                    break;
                }
            }
        }
        read
    }

    /// Reads a window from these slots, and says whether nothing was booked meanwhile. `None` where a slot was reused
    /// or a snapshot was completed.
    #[inline(always)]
    fn try_read(&self, cells: &CellIndexes, ring: &Ring, slots: &Slots) -> Option<(Read, bool)> {
        let bookings = self.windows.bookings.number();
        let (count, all_time) = if slots.older == slots.younger {
            self.since(ring, slots.older, cells)
        } else {
            self.smooth(ring, slots, cells)
        };
        let overflowed = ring.may_have_passed_2_to_32(slots.noted);
        // Behind the fence in the first of them.
        if !ring.still_has(slots.number) || !ring.is_youngest(slots.youngest) {
            return None;
        }
        let read = Read {
            count,
            all_time: self.with_legacy_peers(all_time, cells),
            covered_ms: slots.covered_ms,
            incomplete: self.windows.lacks_since(slots.from_ns),
            overflowed,
        };
        Some((read, self.windows.bookings.were_none_since(bookings)))
    }

    /// The least row of what was counted since the snapshot in a slot, and the estimate of all time (without legacy
    /// peers). It holds if the snapshot is still there afterwards.
    #[inline]
    pub(crate) fn since(&self, ring: &Ring, slot: usize, cells: &CellIndexes) -> (u64, u64) {
        let slot = ring.slot_at(slot);
        let before = |number: usize| slot[number].load(Acquire);
        let least = |least: u32, before, now: u32| least.min(now.wrapping_sub(before));
        let fold = ring.plan().fold();
        let (least, all_time) = self.own.fold_rows(cells, fold, u32::MAX, before, least);
        (least.into(), all_time)
    }

    /// The least row of what was counted since the younger of two snapshots, and a part of what the least row since
    /// the older one has more; and the estimate of all time.
    #[inline]
    fn smooth(&self, ring: &Ring, slots: &Slots, cells: &CellIndexes) -> (u64, u64) {
        let (older, younger) = (ring.slot_at(slots.older), ring.slot_at(slots.younger));
        let before = |number: usize| {
            let older = older[number].load(Acquire);
            (older, younger[number].load(Acquire))
        };
        let least = |least: (u32, u32), (older, younger), now: u32| {
            let (since_older, since_younger) = (now.wrapping_sub(older), now.wrapping_sub(younger));
            (least.0.min(since_older), least.1.min(since_younger))
        };
        let (fold, most) = (ring.plan().fold(), (u32::MAX, u32::MAX));
        let (least, all_time) = self.own.fold_rows(cells, fold, most, before, least);
        let (older, younger) = least;
        let count = u64::from(younger) + slots.part.of(older.saturating_sub(younger));
        (count, all_time)
    }

    /// What was counted until now in the folded cells of a key.
    fn folded_rows(&self, ring: &Ring, cells: &CellIndexes) -> FoldedRows {
        let fold = ring.plan().fold();
        let mut rows = [(0, 0); MAX_DEPTH];
        for (row, &cell) in rows.iter_mut().zip(cells.as_slice()) {
            let number = cell / fold as u32;
            *row = (number, self.own.folded(number, fold));
        }
        FoldedRows {
            rows,
            depth: cells.as_slice().len(),
        }
    }

    /// The latest beginning of a window that has too much in it, as a time: of the windows that begin from then on
    /// none has more than `most`. The window that begins at the snapshot `first` has.
    fn enough_gone_ns(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        ring: &Ring,
        first: u64,
        most: u64,
    ) -> i64 {
        let rows = self.folded_rows(ring, cells);
        let since = |number| rows.since(ring.slot(number));
        let (_, youngest) = ring.numbers();
        // Since `low` there is too much, since `high` there is not; the snapshot after the youngest will have all.
        let (mut low, mut high) = (first, youngest + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if since(middle) > most {
                low = middle;
            } else {
                high = middle;
            }
        }
        let now_ns = ns(question.now);
        let copying_ns = slack_ns(ring).min(COPYING_NS_MAX);
        let mut low_ns = ring.ended_ns(low);
        let (mut high_ns, mut left) = (ring.ended_ns(high), 0);
        if high > youngest {
            high_ns = ring.due_ns().max(now_ns).saturating_add(copying_ns);
            // The snapshot at hand may have none of it, and then counts like the one before it.
            if ring.is_at_hand() {
                low_ns = low_ns.max(now_ns.saturating_add(copying_ns).min(high_ns));
            }
        } else {
            left = since(high);
        }
        match question.reading {
            Reading::Bound => high_ns,
            Reading::Smooth => {
                let between = since(low).saturating_sub(left);
                let gap_ns = (high_ns - low_ns).max(0);
                high_ns - share_of(gap_ns, most.saturating_sub(left), between)
            }
        }
    }
}

/// The folded cells of a key, each with what was counted until it was read, so that many snapshots can be compared.
#[derive(Debug, Clone, Copy)]
struct FoldedRows {
    rows: [(u32, u32); MAX_DEPTH],
    depth: usize,
}

impl FoldedRows {
    /// The least row of what was counted since the snapshot in this slot. Where a snapshot has more, that was booked to
    /// it after the cell was read.
    fn since(&self, slot: &[AtomicU32]) -> u64 {
        let rows = self.rows[..self.depth].iter();
        let since = rows.map(|&(number, now)| {
            let since = now.wrapping_sub(slot[number as usize].load(Acquire));
            if since > u32::MAX / 2 { 0 } else { since }
        });
        since.min().unwrap_or_default().into()
    }
}

/// A window as it was read.
#[derive(Debug, Clone, Copy)]
struct Read {
    count: u64,
    /// The estimate of all time.
    all_time: u64,
    covered_ms: u32,
    incomplete: bool,
    overflowed: bool,
}

impl Read {
    /// Nothing is known of the window.
    fn nothing(all_time: u64) -> Self {
        Self {
            count: u64::MAX,
            all_time,
            covered_ms: 0,
            incomplete: true,
            overflowed: false,
        }
    }
}

/// The questions that were asked last, and what they come to. Finding that takes as long as reading a window, so it is
/// found once for all keys that are asked about with one question. It belongs to one replica.
#[derive(Debug)]
pub(crate) struct Resolved {
    questions: [Question; RESOLVED],
    /// The place of the question that was resolved last.
    last: usize,
}

/// A question, and what it came to when it was resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    question: WindowQuestion,
    /// `None` where nothing was old enough, or there are no such windows.
    slots: Option<Slots>,
}

/// The place of a question in [`Resolved`]. It holds until [`RESOLVED_KEPT`] others were resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept(u8);

/// Number of questions that are kept; a power of two.
const RESOLVED: usize = 32;
/// Number of questions that are asked in turn without being resolved anew.
const IN_TURN: usize = 4;
/// Number of questions that may be resolved after one was kept, until that one is gone.
pub(crate) const RESOLVED_KEPT: usize = RESOLVED - IN_TURN;

/// The slots that a question reads.
#[derive(Debug, Clone, Copy)]
struct Slots {
    /// The number of the youngest snapshot at that time.
    youngest: u64,
    from_ns: i64,
    /// The snapshot from which the window reaches, and its slot.
    number: u64,
    older: usize,
    /// The slot of the next younger snapshot, or the same one where nothing is weighted.
    younger: usize,
    part: Part,
    covered_ms: u32,
    /// The growth that was noted from there to the youngest snapshot.
    noted: u64,
}

impl Default for Resolved {
    fn default() -> Self {
        Self {
            questions: [Question::NONE; RESOLVED],
            last: 0,
        }
    }
}

impl Resolved {
    /// Resolves a question, if it is not resolved.
    #[inline]
    pub(crate) fn keep(&mut self, windows: &Windows, question: &WindowQuestion) -> Kept {
        for back in 0..IN_TURN {
            let place = self.last.wrapping_sub(back) % RESOLVED;
            if self.questions[place].is(windows, question) {
                return Kept(place as u8);
            }
        }
        self.resolve(windows, question)
    }

    #[inline(never)]
    fn resolve(&mut self, windows: &Windows, question: &WindowQuestion) -> Kept {
        self.last = (self.last + 1) % RESOLVED;
        self.questions[self.last] = Question::resolve(windows, question);
        Kept(self.last as u8)
    }

    #[inline]
    pub(crate) fn get(&self, Kept(place): Kept) -> &Question {
        &self.questions[usize::from(place) % RESOLVED]
    }
}

impl Question {
    const NONE: Self = Self {
        question: WindowQuestion {
            window: Window::NONE,
            reading: Reading::Bound,
            now: Duration::ZERO,
        },
        slots: None,
    };

    fn resolve(windows: &Windows, question: &WindowQuestion) -> Self {
        let ring = windows.ring(question.window);
        Self {
            question: *question,
            slots: ring.and_then(|ring| Slots::find(ring, question)),
        }
    }

    /// Whether this question was resolved, and comes to the same now.
    #[inline]
    fn is(&self, windows: &Windows, question: &WindowQuestion) -> bool {
        let Some(slots) = self.slots.as_ref().filter(|_| self.question == *question) else {
            return false;
        };
        let ring = windows.ring(question.window);
        ring.is_some_and(|ring| ring.is_youngest(slots.youngest))
    }
}

impl Slots {
    #[inline(never)]
    fn find(ring: &Ring, question: &WindowQuestion) -> Option<Self> {
        let ((_, youngest), from_ns) = (ring.numbers(), question.begins_ns());
        let found = ring.find(from_ns, question.window.steps())?;
        let covered_ns = ns(question.now).saturating_sub(found.ended_ns).max(0) as u64;
        let older = ring.slot_number(found.number);
        let (younger, part) = match (question.reading, found.younger) {
            (Reading::Smooth, Some(younger)) => (
                ring.slot_number(younger.number),
                Part::new(
                    younger.ended_ns - from_ns,
                    younger.ended_ns - found.ended_ns,
                ),
            ),
            _ => (older, Part::new(1, 1)),
        };
        Some(Self {
            youngest,
            from_ns,
            number: found.number,
            older,
            younger,
            part,
            covered_ms: u32::try_from(covered_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX),
            noted: ring.growth_between(found.number, youngest),
        })
    }
}

/// A part of a weight: the time that is left of a gap. It multiplies, since a division takes longer than the rest of an
/// answer.
#[derive(Debug, Clone, Copy)]
struct Part {
    left: u64,
    gap: u64,
    /// `left / gap` in units of 2^-64, rounded down.
    ratio: u64,
}

impl Part {
    fn new(left_ns: i64, gap_ns: i64) -> Self {
        let (left, gap) = (left_ns.max(0) as u64, gap_ns.max(1) as u64);
        let ratio = (u128::from(left) << 64) / u128::from(gap);
        Self {
            left,
            gap,
            ratio: u64::try_from(ratio).unwrap_or(u64::MAX),
        }
    }

    /// The part of a weight, rounded up.
    #[inline]
    fn of(&self, weight: u32) -> u64 {
        let product = |one: u64, other: u64| u128::from(one) * u128::from(other);
        // This is too small by less than 2.
        let mut part = (product(weight.into(), self.ratio) >> 64) as u64;
        let exact = product(weight.into(), self.left);
        while product(part, self.gap) < exact {
            part += 1;
        }
        part
    }
}

/// The longest time that is left in the window if at most `room` of the weight may count, out of a gap in which the
/// weight was counted.
fn share_of(gap_ns: i64, room: u64, weight: u64) -> i64 {
    let share = u128::from(gap_ns as u64) * u128::from(room) / u128::from(weight.max(1));
    i64::try_from(share).unwrap_or(gap_ns).min(gap_ns)
}
