//! Times of answers, by the interval in which they came. Each receiving thread has its own, and they are merged at
//! the end. Recording allocates nothing.

use hdrhistogram::Histogram;

use super::questions::Question;
use crate::plan::Window;
use crate::record::{Answers, InWindow, LATENCY_MAX_NS, Once, Verdicts, latency_histogram};

/// Outcomes of requests, with their times.
#[derive(Debug)]
pub(crate) struct Times {
    window: Window,
    pub(crate) answers: Answers,
    pub(crate) verdicts: Verdicts,
    pub(crate) once: Once,
    /// The outcomes by node.
    pub(crate) nodes: Vec<NodeAnswers>,
    pub(crate) response: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    pub(crate) intervals: Vec<IntervalTimes>,
}

/// Outcomes of requests to one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeAnswers {
    pub(crate) answers: Answers,
    pub(crate) in_window: InWindow,
}

/// Times of requests that ended in one interval.
#[derive(Debug)]
pub(crate) struct IntervalTimes {
    pub(crate) answered: u64,
    pub(crate) timed_out: u64,
    pub(crate) response: Histogram<u32>,
    pub(crate) service: Histogram<u32>,
}

impl Times {
    /// Nothing yet, of so many nodes.
    pub(crate) fn new(window: Window, nodes: usize) -> Self {
        Self {
            window,
            answers: Answers::default(),
            verdicts: Verdicts::NONE,
            once: Once::default(),
            nodes: vec![NodeAnswers::default(); nodes],
            response: latency_histogram(),
            service: latency_histogram(),
            intervals: (0..window.intervals())
                .map(|_| IntervalTimes::new())
                .collect(),
        }
    }

    pub(crate) fn answered(&mut self, question: &Question, now_ns: u64) {
        let response_ns = now_ns.saturating_sub(question.planned_ns);
        let service_ns = now_ns.saturating_sub(question.sent_ns);
        self.answers.answered += 1;
        self.response.saturating_record(response_ns);
        self.service.saturating_record(service_ns);
        let interval = &mut self.intervals[self.window.interval(now_ns)];
        interval.answered += 1;
        interval.response.saturating_record(response_ns);
        interval.service.saturating_record(service_ns);
    }

    /// Records a request that timed out. It counts with the timeout, and with more if it had left late.
    pub(crate) fn timed_out(&mut self, question: &Question) {
        let end_ns = question.sent_ns + self.window.timeout_ns;
        let response_ns = end_ns.saturating_sub(question.planned_ns);
        self.answers.timed_out += 1;
        self.response.saturating_record(response_ns);
        let interval = &mut self.intervals[self.window.interval(end_ns)];
        interval.timed_out += 1;
        interval.response.saturating_record(response_ns);
    }

    /// The answers about windows, of all nodes.
    pub(crate) fn in_window(&self) -> InWindow {
        let mut all = InWindow::default();
        self.nodes.iter().for_each(|node| all.add(&node.in_window));
        all
    }

    pub(crate) fn unexpected(&mut self) {
        self.answers.unexpected += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.answers.add(&other.answers);
        self.verdicts.add(&other.verdicts);
        self.once.add(&other.once);
        for (ours, theirs) in self.nodes.iter_mut().zip(&other.nodes) {
            ours.answers.add(&theirs.answers);
            ours.in_window.add(&theirs.in_window);
        }
        const SAME: &str = "histograms of the same bounds";
        self.response.add(&other.response).expect(SAME);
        self.service.add(&other.service).expect(SAME);
        for (ours, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            ours.answered += theirs.answered;
            ours.timed_out += theirs.timed_out;
            ours.response.add(&theirs.response).expect(SAME);
            ours.service.add(&theirs.service).expect(SAME);
        }
    }
}

impl IntervalTimes {
    /// The histogram has two significant digits: a plot shows no more, and there are hundreds of these.
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2)
                .expect("constant bounds that are in order")
        };
        Self {
            answered: 0,
            timed_out: 0,
            response: histogram(),
            service: histogram(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Claim;
    use crate::plan::testing::load;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn question(planned_ns: u64, sent_ns: u64) -> Question {
        Question {
            planned_ns,
            sent_ns,
            check: 0,
            covers: 1,
            claim: Claim::NONE,
        }
    }

    fn window(seconds: u64) -> Window {
        let mut load = load("count", "uniform:10");
        load.duration = Duration::from_secs(seconds);
        load.timeout = Duration::from_secs(1);
        Window::new(5 * SECOND, &load)
    }

    #[test]
    fn a_late_question_is_late_in_the_response_time_only() {
        let mut times = Times::new(window(10), 1);
        times.answered(&question(6 * SECOND, 8 * SECOND), 8 * SECOND + 1000);
        assert!(times.response.min() > 19 * SECOND / 10);
        assert!(times.service.max() < 1010);
        assert_eq!(times.intervals[3].answered, 1);
    }

    #[test]
    fn a_timeout_stands_in_the_response_time_only() {
        let mut times = Times::new(window(10), 1);
        times.timed_out(&question(6 * SECOND, 6 * SECOND));
        assert!(times.response.min() > 99 * SECOND / 100);
        assert!(times.service.is_empty());
        assert_eq!(times.intervals[2].timed_out, 1);
    }

    #[test]
    fn what_ends_after_the_end_is_in_the_last_interval() {
        let mut times = Times::new(window(2), 1);
        times.answered(&question(0, 0), 100 * SECOND);
        times.answered(&question(0, 0), 0);
        assert_eq!(times.intervals.len(), 3);
        assert_eq!(times.intervals[2].answered, 1);
        assert_eq!(times.intervals[0].answered, 1);
    }

    #[test]
    fn long_phases_have_long_intervals() {
        let day = window(24 * 3600);
        assert_eq!(day.interval_ns, 288 * SECOND);
        assert!(day.intervals() <= 301);
    }

    #[test]
    fn merged_times_are_those_of_both() {
        let (mut a, mut b) = (Times::new(window(2), 1), Times::new(window(2), 1));
        a.answered(&question(0, 0), 10);
        b.timed_out(&question(0, 0));
        b.unexpected();
        a.merge(&b);
        let all = Answers {
            answered: 1,
            timed_out: 1,
            unexpected: 1,
        };
        assert_eq!(a.answers, all);
        assert_eq!(a.response.len(), 2);
    }
}
