//! What is added to which sketches, and which keys are judged.

use std::time::Duration;

/// Number of nodes.
pub(crate) const NODES: usize = 3;
/// The largest weight of one add that a node takes where nothing else is said (`--max-weight`).
pub(crate) const WEIGHT_MAX: u64 = 1 << 20;
/// A window in which a cell may have grown by 2^32 says so, and is not judged. A node says so from about half of that
/// on, since it knows what was added only after a pass. The hottest key's weight stays below that.
const HOTTEST_IN_A_WINDOW: u64 = (1 << 31) / 10 * 6;
/// Weight that all nodes together add at once to the key that is hot in bursts.
const BURST: u64 = (1 << 31) / 10;
/// What a node adds at once to the key of a flood: four times what it takes between two passes.
const FLOOD_OF_A_NODE: u64 = 1 << 33;
/// Ranks of keys of the stream that are judged: the hottest ones, and ever rarer ones.
const RANKS: [u64; 16] = [
    0, 1, 2, 5, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 200_000, 500_000, 999_999,
];

/// A key of a message.
pub(crate) type Key = [u8; 16];

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// For how long one node is stopped in the middle; zero is not at all.
    pub(crate) stop: Duration,
    pub(crate) sketches: Vec<SketchPlan>,
    /// Number of keys after which a client's stream begins anew.
    pub(crate) stream_keys: usize,
}

/// One sketch, its window, and its load.
#[derive(Debug, Clone)]
pub(crate) struct SketchPlan {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) window_ms: u64,
    pub(crate) step_ms: u64,
    /// Whether it gets the stream of keys by Zipf, at full rate.
    pub(crate) has_stream: bool,
    /// For each hot key, the weight that all nodes together add in a second.
    pub(crate) hot_a_second: Vec<u64>,
    /// The weight that each node adds at once to the key that is hot in bursts, and the time between two bursts.
    pub(crate) burst: u64,
    pub(crate) burst_every_ms: u64,
}

impl Plan {
    /// The whole run: a minute by 5 s, and 5 s by 250 ms.
    pub(crate) fn full(seed: u64, time: Duration, stop: Duration) -> Self {
        Self {
            time,
            seed,
            stop,
            sketches: vec![
                SketchPlan::stream("default", 1 << 20, 60_000, 5_000),
                SketchPlan::stream("short", 1 << 18, 5_000, 250),
                SketchPlan::flood(2_000, 200),
            ],
            stream_keys: 1 << 20,
        }
    }

    /// The same in little, with steps of 100 ms.
    // The bench has no use for it.
    #[allow(dead_code)]
    pub(crate) fn little(seed: u64, time: Duration, stop: Duration) -> Self {
        Self {
            sketches: vec![
                SketchPlan::stream("default", 1 << 16, 2_000, 200),
                SketchPlan::stream("short", 1 << 16, 1_000, 100),
                SketchPlan::flood(500, 100),
            ],
            stream_keys: 1 << 14,
            ..Self::full(seed, time, stop)
        }
    }
}

impl SketchPlan {
    /// A sketch at full rate, whose hot keys stay within what a window holds.
    fn stream(name: &'static str, width: u32, window_ms: u64, step_ms: u64) -> Self {
        let hottest = HOTTEST_IN_A_WINDOW * 1_000 / (window_ms + 2 * step_ms);
        Self {
            name,
            width,
            window_ms,
            step_ms,
            has_stream: true,
            hot_a_second: vec![hottest, hottest / 2, hottest / 4],
            burst: BURST / NODES as u64,
            // The window falls to nothing in between.
            burst_every_ms: window_ms + window_ms / 2 + 4_000,
        }
    }

    /// A sketch that gets more at once than nodes take between two passes, and more than a window holds.
    fn flood(window_ms: u64, step_ms: u64) -> Self {
        Self {
            name: "flood",
            width: 1 << 16,
            window_ms,
            step_ms,
            has_stream: false,
            hot_a_second: vec![1 << 24],
            burst: FLOOD_OF_A_NODE,
            burst_every_ms: 3 * window_ms,
        }
    }

    /// The option of a node for this sketch.
    pub(crate) fn option(&self) -> String {
        let Self {
            name,
            width,
            window_ms,
            step_ms,
            ..
        } = self;
        format!("--sketch=name={name},width={width},depth=4,windows={window_ms}ms/{step_ms}ms")
    }

    /// The windows that are asked for: all that there is, and the last quarter of it in whole steps.
    pub(crate) fn spans_ms(&self) -> [u64; 2] {
        let quarter = (self.window_ms / 4).next_multiple_of(self.step_ms);
        [self.window_ms, quarter]
    }

    /// The keys that are judged: hot ones, the one that is hot in bursts, and some of the stream.
    pub(crate) fn judged(&self) -> Vec<Key> {
        let hot = (0..self.hot_a_second.len()).map(|at| key(&format!("hot {at}")));
        let ranks = RANKS.iter().filter(|_| self.has_stream);
        let sampled = ranks.map(|&rank| of_stream(rank));
        hot.chain([key("bursts")]).chain(sampled).collect()
    }

    /// The place of the key that is hot in bursts among the judged ones.
    pub(crate) fn bursts_at(&self) -> usize {
        self.hot_a_second.len()
    }
}

fn key(text: &str) -> Key {
    let text = format!("{text:16}");
    *text.as_bytes().first_chunk().unwrap()
}

/// A key of the stream (`support/keys.rs`).
fn of_stream(rank: u64) -> Key {
    key(&format!("user:{rank:011}"))
}
