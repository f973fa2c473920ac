//! The results of sending threads.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::train_writer::{Departed, Stranded};
use crate::plan::Window;
use crate::record::{Sent, latency_histogram};

/// The results of one sending thread, or of several together.
pub(crate) struct SenderReport {
    pub(crate) sent: Sent,
    /// The same by node.
    pub(crate) nodes: Vec<Sent>,
    /// Number of messages of the script that were sent.
    pub(crate) scripted: u64,
    /// Number of messages planned for the measured part, sent or not.
    pub(crate) planned: u64,
    /// How much later than planned each message left.
    pub(crate) lateness: Histogram<u64>,
    /// Number of messages sent in each interval.
    pub(crate) intervals: Vec<u64>,
    /// Time at which the last message left.
    pub(crate) last_sent_ns: u64,
    /// CPU time of the thread.
    pub(crate) cpu: Duration,
    /// The error that ended the thread before its time.
    pub(crate) failure: Option<io::Error>,
    /// The code with which the node refused an exactly-once request.
    pub(crate) refused: Option<u8>,
}

impl SenderReport {
    pub(crate) fn new(window: &Window, nodes: usize) -> Self {
        Self {
            sent: Sent::default(),
            nodes: vec![Sent::default(); nodes],
            scripted: 0,
            planned: 0,
            lateness: latency_histogram(),
            intervals: vec![0; window.intervals()],
            last_sent_ns: window.start_ns,
            cpu: Duration::ZERO,
            failure: None,
            refused: None,
        }
    }

    pub(crate) fn departed(&mut self, window: &Window, departed: &Departed) {
        self.sent.add(&departed.contents);
        if let Some(node) = self.nodes.get_mut(usize::from(departed.node)) {
            node.add(&departed.contents);
        }
        self.scripted += departed.scripted;
        self.last_sent_ns = departed.sent_ns;
        self.intervals[window.interval(departed.sent_ns)] += departed.contents.messages();
    }

    pub(crate) fn stranded(&mut self, stranded: Stranded) {
        self.sent.refused_by_kernel += stranded.contents.messages();
        if stranded.source.kind() != io::ErrorKind::Interrupted {
            self.failure = Some(stranded.source);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sent.add(&other.sent);
        for (ours, theirs) in self.nodes.iter_mut().zip(&other.nodes) {
            ours.add(theirs);
        }
        self.scripted += other.scripted;
        self.planned += other.planned;
        self.lateness
            .add(&other.lateness)
            .expect("histograms of the same bounds");
        for (ours, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            *ours += theirs;
        }
        self.last_sent_ns = self.last_sent_ns.max(other.last_sent_ns);
        self.cpu += other.cpu;
        self.failure = self.failure.take().or(other.failure);
        self.refused = self.refused.or(other.refused);
    }
}
