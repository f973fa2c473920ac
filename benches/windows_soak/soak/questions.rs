//! A client of one node that asks for windows all the time.

use std::time::Duration;

use loadgen::judge::{Entry, What};
use rmbd_client::{Client, ClientError, Window, WindowCount};
use rmbd_testkit::random::Random;

use super::Clock;
use super::plan::{Key, NODES, Plan, SketchPlan};

/// The longest pause between two requests, so that questions leave most of the machine to adds.
const PAUSE_MAX_US: u64 = 8_000;

/// The answers about one sketch.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Answers by the span that they are about.
    pub(crate) by_span: [Vec<Entry>; 2],
    /// Number of answers that a node called incomplete.
    pub(crate) incomplete: u64,
    /// Number of answers of which the node said that more than 2^32 may have come within the window.
    pub(crate) overflowed: u64,
    /// How often the key of the bursts was seen to fall after it had been hot.
    pub(crate) falls: u64,
    is_hot: bool,
}

/// Asks about one sketch after the other, and about all judged keys of it in one request.
pub(crate) fn run(
    client: &mut Client,
    node: usize,
    plan: &Plan,
    clock: &Clock,
) -> Result<Vec<Asked>, ClientError> {
    let mut random = Random(plan.seed ^ 0xa5 ^ (node as u64) << 32);
    let mut all: Vec<Asked> = plan.sketches.iter().map(|_| Asked::default()).collect();
    let judged: Vec<Vec<Key>> = plan.sketches.iter().map(SketchPlan::judged).collect();
    while !clock.is_over() {
        for ((sketch, keys), asked) in plan.sketches.iter().zip(&judged).zip(&mut all) {
            let span = random.below(2) as usize;
            asked.ask(client, node, sketch, keys, span, clock)?;
            std::thread::sleep(Duration::from_micros(random.below(PAUSE_MAX_US)));
        }
    }
    Ok(all)
}

impl Asked {
    /// Asks for one window of these keys.
    pub(crate) fn ask(
        &mut self,
        client: &mut Client,
        node: usize,
        sketch: &SketchPlan,
        keys: &[Key],
        span: usize,
        clock: &Clock,
    ) -> Result<Vec<WindowCount>, ClientError> {
        let window = Window::bound(Duration::from_millis(sketch.spans_ms()[span]));
        let sent_ns = clock.now_ns();
        let mut asked = client.sketch(sketch.name).unwrap();
        let counts = asked.count_many_in(keys, window)?;
        let ended_ns = clock.now_ns();
        for (key, count) in (0..).zip(&counts) {
            self.incomplete += u64::from(count.incomplete);
            self.overflowed += u64::from(count.overflowed);
            self.by_span[span].push(Entry {
                key,
                what: What::Counted {
                    estimate: count.estimate,
                    overflowed: count.overflowed,
                },
                node: node as u16,
                socket: node as u16,
                times: 1,
                sent_ns,
                last_ns: sent_ns,
                ended_ns,
            });
        }
        if span == 0 {
            self.watch_bursts(sketch, counts[sketch.bursts_at()].estimate);
        }
        Ok(counts)
    }

    fn watch_bursts(&mut self, sketch: &SketchPlan, estimate: u64) {
        let of_all = sketch.burst * NODES as u64;
        if estimate > of_all / 2 {
            self.is_hot = true;
        } else if self.is_hot && estimate < of_all / 1_000 {
            self.is_hot = false;
            self.falls += 1;
        }
    }

    /// The answers of several nodes together.
    pub(crate) fn together(nodes: Vec<Self>) -> Self {
        let mut all = Self::default();
        nodes.into_iter().for_each(|node| all.append(node));
        all
    }

    fn append(&mut self, mut other: Self) {
        for (all, more) in self.by_span.iter_mut().zip(&mut other.by_span) {
            all.append(more);
        }
        self.incomplete += other.incomplete;
        self.overflowed += other.overflowed;
        self.falls += other.falls;
    }
}
