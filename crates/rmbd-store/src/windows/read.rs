//! Reading windows.
//!
//! *The snapshot first, then the cell.* An add that a reader has to see was made before it asked, so the cell has it.
//! What is in the snapshot is in the cell that is read afterwards (`turns`). So a difference is never negative, and the
//! truth mod 2^32 or more.
//!
//! *Of two snapshots the older one first.* A booking raises the younger first, so the younger one is read with all that
//! the older one has.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use rmbd_sketch::{CellIndexes, Weight};

use super::copier::slack_ns;
use super::question::{Reading, UnknownWindow, Window, WindowQuestion};
use super::ring::Ring;
use super::{WindowPlan, ns, ns_of_ms};
use crate::{Estimate, Replica};

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
        self.estimate_in_at(&self.own.cells_of(key), question, &mut Resolved::default())
    }

    /// The same for a key with these cells. Who asks many questions keeps what was `resolved` of the last one.
    #[inline]
    pub(crate) fn estimate_in_at(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        resolved: &mut Resolved,
    ) -> Estimate {
        let window = self.read(cells, question, resolved);
        let all_time = self.estimate_at(cells);
        Estimate {
            count: window.count.min(all_time.count),
            covered_ms: window.covered_ms,
            incomplete: all_time.incomplete || window.incomplete || self.has_legacy_peers(),
            overflowed: window.overflowed,
            refused: false,
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
        let most = limit.checked_sub(weight.into())?;
        let estimate = self.estimate_in_at(cells, question, &mut Resolved::default());
        if estimate.count <= most {
            return Some(Duration::ZERO);
        }
        let ring = self.windows.ring(question.window)?;
        let span_ns = ns_of_ms(question.window.span_ms());
        let enough_ns = match ring.find(from_ns(question), question.window.steps()) {
            Some(found) => self.enough_gone_ns(cells, question, ring, found.number, most),
            // Nothing is as old as the window: all of it will have gone a window from now on.
            None => ns(question.now),
        };
        let wait_ns = enough_ns
            .saturating_add(span_ns)
            .saturating_sub(ns(question.now));
        Some(Duration::from_nanos(wait_ns.max(0) as u64))
    }

    /// Starts to fetch what an answer to this question reads.
    #[inline]
    pub(crate) fn prefetch_window(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        resolved: &mut Resolved,
    ) {
        let Some(ring) = self.windows.ring(question.window) else {
            return;
        };
        self.own.prefetch_folded(cells, ring.plan().fold());
        if let Some(slots) = resolved.get(ring, question) {
            ring.prefetch(slots.older, cells);
            if slots.younger != slots.older {
                ring.prefetch(slots.younger, cells);
            }
        }
    }

    /// Reads a window. Where it cannot be read, the count of all time has to do.
    #[inline]
    fn read(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
        resolved: &mut Resolved,
    ) -> Read {
        let mut read = Read::NOTHING;
        let Some(ring) = self.windows.ring(question.window) else {
            return read;
        };
        for _ in 0..TRIES {
            let bookings = self.windows.bookings.number();
            // Where nothing is old enough any more, the numbers were those of a moment ago.
            let Some(slots) = resolved.get(ring, question) else {
                continue;
            };
            let count = if slots.older == slots.younger {
                self.since(ring, slots.older, cells)
            } else {
                self.smooth(ring, slots, cells)
            };
            if !ring.still_has(slots.number) {
                continue;
            }
            // It is too high at most from here on.
            read = Read {
                count,
                covered_ms: slots.covered_ms,
                incomplete: self.windows.lacks_since(slots.from_ns),
                overflowed: ring.may_have_passed_2_to_32(slots.noted),
            };
            if self.windows.bookings.were_none_since(bookings) {
                break;
            }
        }
        read
    }

    /// The least row of what was counted since the snapshot in a slot.
    #[inline]
    fn since(&self, ring: &Ring, slot: usize, cells: &CellIndexes) -> u64 {
        let slot = ring.slot_at(slot);
        let before = |number: usize| slot[number].load(Acquire);
        let least = |least: u32, before, now: u32| least.min(now.wrapping_sub(before));
        let fold = ring.plan().fold();
        self.own
            .fold_rows(cells, fold, u32::MAX, before, least)
            .into()
    }

    /// The least row of what was counted since the younger of two snapshots, and a part of what the least row since
    /// the older one has more.
    #[inline]
    fn smooth(&self, ring: &Ring, slots: &Slots, cells: &CellIndexes) -> u64 {
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
        let (older, younger) = self.own.fold_rows(cells, fold, most, before, least);
        u64::from(younger) + slots.part.of(older.saturating_sub(younger))
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
        let since = |number| self.since(ring, ring.slot_number(number), cells);
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

/// A window as it was read.
#[derive(Debug, Clone, Copy)]
struct Read {
    count: u64,
    covered_ms: u32,
    incomplete: bool,
    overflowed: bool,
}

impl Read {
    /// Nothing is known of the window.
    const NOTHING: Self = Self {
        count: u64::MAX,
        covered_ms: 0,
        incomplete: true,
        overflowed: false,
    };
}

/// What questions come to, as long as no other snapshot is begun or completed. Finding it takes as long as reading a
/// window, so who asks many questions at one time keeps it, for some windows that are asked about in turn. It belongs
/// to one replica.
#[derive(Debug, Default)]
pub(crate) struct Resolved([Option<(WindowQuestion, Slots)>; RESOLVED]);

/// Number of questions that are kept resolved; a power of two.
const RESOLVED: usize = 4;

/// The slots that a question reads.
#[derive(Debug, Clone, Copy)]
struct Slots {
    /// The numbers of the oldest and the youngest snapshot at that time.
    numbers: (u64, u64),
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

impl Resolved {
    #[inline]
    fn get(&mut self, ring: &Ring, question: &WindowQuestion) -> Option<&Slots> {
        // Windows of one ring that are asked about in turn lie in different places, and so do neighbouring rings.
        let place = question.window.ring() + question.window.steps() as usize;
        let kept = &mut self.0[place % RESOLVED];
        let is_known = (kept.as_ref())
            .is_some_and(|(known, slots)| known == question && slots.numbers == ring.numbers());
        if !is_known {
            *kept = Slots::find(ring, question).map(|slots| (*question, slots));
        }
        kept.as_ref().map(|(_, slots)| slots)
    }
}

impl Slots {
    #[inline(never)]
    fn find(ring: &Ring, question: &WindowQuestion) -> Option<Self> {
        let (numbers, from_ns) = (ring.numbers(), from_ns(question));
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
            numbers,
            from_ns,
            number: found.number,
            older,
            younger,
            part,
            covered_ms: u32::try_from(covered_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX),
            noted: ring.growth_between(found.number, numbers.1),
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

/// The beginning of the window.
#[inline]
pub(super) fn from_ns(question: &WindowQuestion) -> i64 {
    ns(question.now).saturating_sub(ns_of_ms(question.window.span_ms()))
}

/// The longest time that is left in the window if at most `room` of the weight may count, out of a gap in which the
/// weight was counted.
fn share_of(gap_ns: i64, room: u64, weight: u64) -> i64 {
    let share = u128::from(gap_ns as u64) * u128::from(room) / u128::from(weight.max(1));
    i64::try_from(share).unwrap_or(gap_ns).min(gap_ns)
}
