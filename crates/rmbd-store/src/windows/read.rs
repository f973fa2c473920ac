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
use super::ring::{Found, Ring, Younger, folded};
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

    /// The plans of all windows, in the order in which they were given.
    pub fn window_plans(&self) -> impl Iterator<Item = &WindowPlan> {
        self.windows.plans()
    }

    /// An estimate of the weight that was added to `key` in a window, here and on all nodes that slices came from. It
    /// is at most the estimate of all time.
    #[must_use]
    pub fn estimate_in(&self, key: &[u8], question: &WindowQuestion) -> Estimate {
        self.estimate_in_at(&self.own.cells_of(key), question)
    }

    #[inline]
    pub(crate) fn estimate_in_at(
        &self,
        cells: &CellIndexes,
        question: &WindowQuestion,
    ) -> Estimate {
        let (window, from_ns) = (self.read(cells, question), from_ns(question));
        let all_time = self.estimate_at(cells);
        let incomplete = all_time.incomplete
            || self.windows.lacks_since(from_ns)
            || self.shown_origins().next().is_some();
        let window = window.unwrap_or(Read {
            count: u64::MAX,
            ended_ns: None,
            overflowed: false,
        });
        Estimate {
            count: window.count.min(all_time.count),
            covered_ms: window.covered_ms(question),
            incomplete,
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
        if self.estimate_in_at(cells, question).count <= most {
            return Some(Duration::ZERO);
        }
        let ring = self.windows.ring(question.window)?;
        let span_ns = ns_of_ms(question.window.span_ms());
        let enough_ns = match find(ring, question) {
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
    pub(crate) fn prefetch_window(&self, cells: &CellIndexes, question: &WindowQuestion) {
        let Some(ring) = self.windows.ring(question.window) else {
            return;
        };
        self.own.prefetch_folded(cells, ring.plan().fold());
        if let Some(found) = find(ring, question) {
            ring.prefetch(found.number, cells);
            if let (Reading::Smooth, Some(younger)) = (question.reading, found.younger) {
                ring.prefetch(younger.number, cells);
            }
        }
    }

    /// Reads a window; `None` where it cannot be read, and the count of all time has to do.
    #[inline]
    fn read(&self, cells: &CellIndexes, question: &WindowQuestion) -> Option<Read> {
        let ring = self.windows.ring(question.window)?;
        let mut read = None;
        for _ in 0..TRIES {
            let bookings = self.windows.bookings.number();
            // Where nothing is old enough any more, the numbers were those of a moment ago.
            let Some(found) = find(ring, question) else {
                continue;
            };
            let count = match (question.reading, found.younger) {
                (Reading::Smooth, Some(younger)) => {
                    self.smooth(ring, cells, &found, younger, from_ns(question))
                }
                _ => self.since(ring, found.number, cells),
            };
            let overflowed = ring.may_have_passed_2_to_32(found.number);
            if !ring.still_has(found.number) {
                continue;
            }
            // It is too high at most from here on.
            read = Some(Read {
                count,
                ended_ns: Some(found.ended_ns),
                overflowed,
            });
            if self.windows.bookings.were_none_since(bookings) {
                break;
            }
        }
        read
    }

    /// The least row of what was counted since a snapshot.
    #[inline]
    fn since(&self, ring: &Ring, number: u64, cells: &CellIndexes) -> u64 {
        let (slot, fold) = (ring.slot(number), ring.plan().fold());
        let row = |&cell: &u32| {
            let cell = folded(cell, fold as u32);
            let old = slot[cell as usize].load(Acquire);
            self.own.folded(cell, fold).wrapping_sub(old)
        };
        let least = cells.as_slice().iter().map(row).fold(u32::MAX, u32::min);
        least.into()
    }

    /// The least row of what was counted since the younger of two snapshots, and a part of what the least row since
    /// the older one has more.
    #[inline]
    fn smooth(
        &self,
        ring: &Ring,
        cells: &CellIndexes,
        older: &Found,
        younger: Younger,
        from_ns: i64,
    ) -> u64 {
        let (old_slot, young_slot) = (ring.slot(older.number), ring.slot(younger.number));
        let fold = ring.plan().fold();
        let (mut since_older, mut since_younger) = (u32::MAX, u32::MAX);
        for &cell in cells.as_slice() {
            let cell = folded(cell, fold as u32);
            let old = old_slot[cell as usize].load(Acquire);
            let young = young_slot[cell as usize].load(Acquire);
            let now = self.own.folded(cell, fold);
            since_older = since_older.min(now.wrapping_sub(old));
            since_younger = since_younger.min(now.wrapping_sub(young));
        }
        let left_ns = younger.ended_ns - from_ns;
        let gap_ns = younger.ended_ns - older.ended_ns;
        let between = since_older.saturating_sub(since_younger);
        u64::from(since_younger) + part_of(between.into(), left_ns, gap_ns)
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
        let (_, youngest) = ring.numbers();
        // Since `low` there is too much, since `high` there is not; the snapshot after the youngest will have all.
        let (mut low, mut high) = (first, youngest + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.since(ring, middle, cells) > most {
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
            left = self.since(ring, high, cells);
        }
        match question.reading {
            Reading::Bound => high_ns,
            Reading::Smooth => {
                let between = self.since(ring, low, cells).saturating_sub(left);
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
    /// The end of the snapshot that was used.
    ended_ns: Option<i64>,
    overflowed: bool,
}

impl Read {
    /// Milliseconds from the end of the snapshot to the question; 0 where the count of all time has to do.
    #[inline]
    fn covered_ms(&self, question: &WindowQuestion) -> u32 {
        let Some(ended_ns) = self.ended_ns else {
            return 0;
        };
        let covered_ns = ns(question.now).saturating_sub(ended_ns).max(0) as u64;
        u32::try_from(covered_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }
}

/// The beginning of the window.
#[inline]
fn from_ns(question: &WindowQuestion) -> i64 {
    ns(question.now).saturating_sub(ns_of_ms(question.window.span_ms()))
}

#[inline]
fn find(ring: &Ring, question: &WindowQuestion) -> Option<Found> {
    let steps = question.window.span_ms() / ring.plan().step_ms().max(1);
    ring.find(from_ns(question), steps)
}

/// The part `left / gap` of a weight, rounded up.
#[inline]
fn part_of(weight: u64, left_ns: i64, gap_ns: i64) -> u64 {
    // `left` is above 0, and at most the gap.
    let (left, gap) = (left_ns.max(0) as u64, gap_ns.max(1) as u64);
    match weight.checked_mul(left) {
        Some(product) => product.div_ceil(gap),
        // The weight has at most 32 bits, and so has the part.
        None => (u128::from(weight) * u128::from(left)).div_ceil(u128::from(gap)) as u64,
    }
}

/// The longest time that is left in the window if at most `room` of the weight may count, out of a gap in which the
/// weight was counted.
fn share_of(gap_ns: i64, room: u64, weight: u64) -> i64 {
    let share = u128::from(gap_ns as u64) * u128::from(room) / u128::from(weight.max(1));
    i64::try_from(share).unwrap_or(gap_ns).min(gap_ns)
}
