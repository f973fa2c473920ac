//! The number of messages that the server had received, over the time of a phase.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::record::Interval;

/// Time between two looks at the server's status.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Seconds between two looks above which nothing is shown: a line between them would hide what happened.
const GAP_MAX_S: f64 = 2.5;

/// Looks at the server's counters. They come a little after the ends of intervals, and are interpolated.
#[derive(Debug)]
pub(super) struct Course {
    /// Seconds of the measured part, with the number of messages so far; both ascend.
    points: Vec<(f64, u64)>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            points: vec![(0.0, 0)],
        }
    }
}

/// Looks that go on beside a load, on a thread of their own, so that a server that does not answer delays nothing
/// else.
#[derive(Debug, Default)]
pub(super) struct Looks {
    course: Mutex<Course>,
    began: OnceLock<Instant>,
    over: AtomicBool,
}

impl Looks {
    /// Notes that the measured part has been going on for this long.
    pub(super) fn began(&self, elapsed: Duration) {
        self.began.get_or_init(|| {
            let now = Instant::now();
            now.checked_sub(elapsed).unwrap_or(now)
        });
    }

    /// Ends the looks. The thread that [`watch`](Self::watch)es must be unparked.
    pub(super) fn end(&self) {
        self.over.store(true, Relaxed);
    }

    /// Looks once a second until the [`end`](Self::end). `look` returns how many messages the server has received, if
    /// that is known. After a slow answer it is not asked more often.
    pub(super) fn watch(&self, look: impl Fn() -> Option<u64>) {
        loop {
            thread::park_timeout(LOOK_EVERY);
            if self.over.load(Relaxed) {
                return;
            }
            let asked = Instant::now();
            if let (Some(began), Some(messages)) = (self.began.get(), look()) {
                let at = (asked + asked.elapsed() / 2).saturating_duration_since(*began);
                self.course().sample(at, messages);
            }
        }
    }

    pub(super) fn into_course(self) -> Course {
        self.course
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    /// Enters the result of a look.
    pub(super) fn sample(&mut self, at: Duration, messages: u64) {
        let (latest_s, latest) = self.latest();
        let at_s = at.as_secs_f64();
        if at_s > latest_s {
            self.points.push((at_s, messages.max(latest)));
        }
    }

    /// Enters the number of messages when the server had read everything. Looks past the end know less.
    pub(super) fn end(&mut self, at: Duration, messages: u64) {
        let at_s = at.as_secs_f64();
        self.points
            .retain(|&(point_s, _)| point_s == 0.0 || point_s < at_s);
        self.sample(at, messages);
    }

    /// Enters into each interval of a series how many messages were received.
    pub(super) fn fill(&self, series: &mut [Interval]) {
        for interval in series {
            let start = self.at(interval.end_s - interval.seconds);
            interval.received = start
                .zip(self.at(interval.end_s))
                .map(|(start, end)| end.saturating_sub(start));
        }
    }

    fn at(&self, at_s: f64) -> Option<u64> {
        let next = self.points.partition_point(|&(point_s, _)| point_s < at_s);
        let Some(&(end_s, end)) = self.points.get(next) else {
            return Some(self.latest().1);
        };
        let Some(&(start_s, start)) = next.checked_sub(1).and_then(|i| self.points.get(i)) else {
            return Some(end);
        };
        let gap_s = end_s - start_s;
        let share = (at_s - start_s) / gap_s;
        (gap_s <= GAP_MAX_S).then(|| start + ((end - start) as f64 * share).round() as u64)
    }

    fn latest(&self) -> (f64, u64) {
        self.points.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(course: &Course, ends_s: &[f64]) -> Vec<Option<u64>> {
        let mut start_s = 0.0;
        let mut series: Vec<Interval> = ends_s
            .iter()
            .map(|&end_s| {
                let seconds = end_s - start_s;
                start_s = end_s;
                Interval {
                    end_s,
                    seconds,
                    ..Interval::default()
                }
            })
            .collect();
        course.fill(&mut series);
        series.iter().map(|interval| interval.received).collect()
    }

    fn course(looks: &[(f64, u64)], end: (f64, u64)) -> Course {
        let mut course = Course::default();
        for &(at_s, messages) in looks {
            course.sample(Duration::from_secs_f64(at_s), messages);
        }
        course.end(Duration::from_secs_f64(end.0), end.1);
        course
    }

    #[test]
    fn late_looks_are_interpolated_and_add_up() {
        let course = course(&[(1.25, 125), (2.25, 325)], (3.0, 400));
        // The rate is 100 a second, then 200, then 100; the last interval is after the end.
        assert_eq!(
            received(&course, &[1.0, 2.0, 3.0, 4.0]),
            [Some(100), Some(175), Some(125), Some(0)]
        );
    }

    #[test]
    fn a_look_past_the_end_does_not_lower_what_was_received() {
        let course = course(&[(1.0, 10), (2.5, 12)], (2.0, 30));
        assert_eq!(received(&course, &[1.0, 2.0]), [Some(10), Some(20)]);
    }

    #[test]
    fn without_looks_for_long_nothing_is_said() {
        let course = course(&[(1.0, 10)], (5.0, 50));
        assert_eq!(received(&course, &[1.0, 2.0, 5.0]), [Some(10), None, None]);
    }

    #[test]
    fn looks_end_when_they_are_told_and_wait_for_the_beginning() {
        let looks = Looks::default();
        thread::scope(|scope| {
            let watching = scope.spawn(|| looks.watch(|| Some(7)));
            looks.end();
            watching.thread().unpark();
        });
        assert_eq!(looks.into_course().points, [(0.0, 0)]);
    }
}
