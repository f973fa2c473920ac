//! What the surrounding program asks of one sketch of its node, without the network.

use std::time::Duration;

use super::Node;
use crate::engine::{
    Admitted, Allowed, Answer, Limit, LimitPart, LimitParts, LimitsAnswer, Refusal, Session,
    Verdict,
};
use rmbd_sketch::{Exhausted, WeightError};
use rmbd_store::{Estimate, Reading, SketchIndex, UnknownWindow, WindowQuestion};

/// One sketch of a [`Node`], for the program around it.
///
/// ```
/// use std::time::Duration;
///
/// use rmbd::config::{NodeConfig, SketchWish};
/// use rmbd::node::Node;
/// use rmbd_store::Reading;
///
/// let config = NodeConfig { threads: Some(1), ..NodeConfig::at("127.0.0.1:0") };
/// let wish: SketchWish = "name=logins,width=65536,windows=60s/5s".parse()?;
/// let logins = wish.plan(config.family)?;
/// let node = Node::start(NodeConfig { sketches: vec![logins], ..config })?;
///
/// let (logins, minute) = (node.sketch("logins")?, Duration::from_secs(60));
/// logins.add(b"10.0.0.7", 2)?;
/// assert_eq!(logins.estimate_in(b"10.0.0.7", minute, Reading::Bound)?.count, 2);
/// // At most 3 in a minute: the first one is added, and the second one is not.
/// assert!(!logins.take(b"10.0.0.7", 1, 3, minute)?.is_over);
/// assert!(logins.take(b"10.0.0.7", 1, 3, minute)?.is_over);
/// assert_eq!(logins.estimate(b"10.0.0.7").count, 3);
/// assert_eq!(node.estimate(b"10.0.0.7").count, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SketchHandle<'n> {
    node: &'n Node,
    sketch: SketchIndex,
}

/// A node has no sketch of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node has no sketch {name:?}, it has {known}")]
pub struct UnknownSketch {
    /// The name that was asked for.
    pub name: String,
    /// The names of its sketches, with commas.
    pub known: String,
}

/// Why an add without the network failed. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The weight is above the limit.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// More was added than can be taken over at once.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// Why a question about a window or a limit was not answered. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The weight is above the limit.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The sketch keeps no window that can answer.
    #[error(transparent)]
    Window(#[from] UnknownWindow),
    /// The engine refused: there is no limit of this name, its cost makes the weight too large, or more was added than
    /// can be taken over at once.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Node {
    /// One of the node's sketches by its name.
    ///
    /// # Errors
    /// Fails if the node has none of this name.
    pub fn sketch(&self, name: &str) -> Result<SketchHandle<'_>, UnknownSketch> {
        let registry = self.port.shared().engine().registry();
        let unknown = || {
            let names = registry.sketches().iter().map(|it| it.name.as_str());
            UnknownSketch {
                name: name.to_owned(),
                known: names.collect::<Vec<_>>().join(", "),
            }
        };
        let sketch = registry.by_name(name).ok_or_else(unknown)?;
        Ok(SketchHandle { node: self, sketch })
    }

    /// The sketch `default`.
    pub fn default_sketch(&self) -> SketchHandle<'_> {
        let sketch = SketchIndex::DEFAULT;
        SketchHandle { node: self, sketch }
    }

    /// Adds a weight to a key as a limit of the node's configuration says, without the network, and tells whether that
    /// is within it. The limit names the sketch, and whether a hit that is over it is added.
    ///
    /// # Errors
    /// Fails if there is no limit of this name, if the weight with the limit's cost is above
    /// [`max_weight`](crate::config::NodeConfig::max_weight), or if more was added than can be taken over at once.
    pub fn hit_by_name(
        &self,
        limit: &str,
        key: &[u8],
        weight: u32,
    ) -> Result<LimitsAnswer, AskError> {
        let now = || self.port.shared().now();
        self.ask(|session, mut answer| {
            let named = (limit.as_bytes(), key);
            let admitted = Admitted::to(SketchIndex::DEFAULT);
            session.hit_by_name(admitted, named, weight.into(), now, (), &mut answer)
        })
    }

    /// Asks what is answered by a verdict.
    fn ask(
        &self,
        question: impl FnOnce(&mut Session<()>, &mut dyn FnMut((), Answer)) -> Result<(), Refusal>,
    ) -> Result<LimitsAnswer, AskError> {
        let mut told = LimitsAnswer::NO_LIMIT;
        let mut answer = |(), answer: Answer| {
            if let Answer::Limits(answer) | Answer::NamedLimit(answer) = answer {
                told = answer;
            }
        };
        let asked = {
            let mut session = self.own_session();
            let asked = question(&mut session, &mut answer);
            session.finish(&mut answer);
            asked
        };
        self.port.shared().call_control_if_due();
        asked?;
        Ok(told)
    }
}

impl SketchHandle<'_> {
    /// Adds a weight to a key.
    ///
    /// # Errors
    /// Fails if the weight is above [`max_weight`](crate::config::NodeConfig::max_weight), or if more was added than
    /// can be taken over at once; nothing has changed then.
    pub fn add(&self, key: &[u8], weight: u32) -> Result<(), AddError> {
        let mut session = self.node.own_session();
        let weight = weigh(&session, weight)?;
        let added = session.add(self.admitted(), key, weight, &mut |(), _| {});
        session.finish(&mut |(), _| {});
        self.node.port.shared().call_control_if_due();
        Ok(added?)
    }

    /// How often a key was added, in all the cluster, as far as it is known here; never too low for that.
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        self.count(|session, mut answer| session.count(self.sketch, key, (), &mut answer))
    }

    /// How often a key was added in the last `span`; zero is all time. Parts of a millisecond are rounded up.
    ///
    /// # Errors
    /// Fails if the sketch keeps no window of which this is a part.
    pub fn estimate_in(
        &self,
        key: &[u8],
        span: Duration,
        reading: Reading,
    ) -> Result<Estimate, UnknownWindow> {
        let window = self.window(span, reading)?;
        Ok(self.count(|session, mut answer| {
            session.count_in(self.sketch, key, window, (), &mut answer);
        }))
    }

    /// Adds a weight to a key, and counts, over all time. The estimate includes the weight, and the verdict says
    /// whether it is at most `limit`.
    ///
    /// # Errors
    /// Fails like [`add`](Self::add).
    pub fn hit(
        &self,
        key: &[u8],
        weight: u32,
        limit: u64,
    ) -> Result<(Estimate, Verdict), AddError> {
        let mut told = (Estimate::default(), Verdict::Over);
        let mut session = self.node.own_session();
        let weight = weigh(&session, weight)?;
        let mut answer = |(), answer: Answer| {
            if let Answer::Hit { estimate, verdict } = answer {
                told = (estimate, verdict);
            }
        };
        let limit = Limit::total(limit);
        let hit = session.hit(self.admitted(), key, weight, limit, (), &mut answer);
        session.finish(&mut answer);
        self.node.port.shared().call_control_if_due();
        hit?;
        Ok(told)
    }

    /// Adds a weight to a key, and tells whether at most `limit` came within the last `span` (zero is all time). It is
    /// added also where that is too much: who is over the limit stays over it for as long as it goes on.
    ///
    /// # Errors
    /// Fails if the weight is too large, if the sketch keeps no such window, or if more was added than can be taken
    /// over at once.
    pub fn hit_in(
        &self,
        key: &[u8],
        weight: u32,
        limit: u64,
        span: Duration,
    ) -> Result<LimitsAnswer, AskError> {
        self.keep(key, weight, limit, span, false)
    }

    /// Adds a weight to a key only if at most `limit` come within the last `span` with it (zero is all time), and tells
    /// whether it did. Several threads may each take at the same moment, and pass the limit together.
    ///
    /// # Errors
    /// As [`hit_in`](Self::hit_in).
    pub fn take(
        &self,
        key: &[u8],
        weight: u32,
        limit: u64,
        span: Duration,
    ) -> Result<LimitsAnswer, AskError> {
        self.keep(key, weight, limit, span, true)
    }

    fn keep(
        &self,
        key: &[u8],
        weight: u32,
        limit: u64,
        span: Duration,
        takes: bool,
    ) -> Result<LimitsAnswer, AskError> {
        let weight = weigh(&self.node.own_session(), weight)?;
        let window = self.window(span, Reading::Smooth)?;
        let mut parts = LimitParts::default();
        // There is room for 8.
        let _ = parts.push(LimitPart {
            sketch: self.sketch,
            key,
            weight,
            limit,
            window,
            credit: 0,
        });
        let admitted = self.admitted();
        self.node
            .ask(|session, mut answer| session.limits(admitted, &parts, takes, (), &mut answer))
    }

    fn count(
        &self,
        question: impl FnOnce(&mut Session<()>, &mut dyn FnMut((), Answer)),
    ) -> Estimate {
        let mut estimate = Estimate::default();
        let mut answer = |(), answer: Answer| estimate = answer.estimate();
        let mut session = self.node.own_session();
        question(&mut session, &mut answer);
        session.finish(&mut answer);
        estimate
    }

    /// A question about the time until now; `None` is all time.
    fn window(
        &self,
        span: Duration,
        reading: Reading,
    ) -> Result<Option<WindowQuestion>, UnknownWindow> {
        if span.is_zero() {
            return Ok(None);
        }
        let shared = self.node.port.shared();
        let replica = shared.engine().registry().replica(self.sketch);
        let span_ms = span.as_nanos().div_ceil(1_000_000);
        Ok(Some(WindowQuestion {
            window: replica.window(u64::try_from(span_ms).unwrap_or(u64::MAX))?,
            reading,
            now: shared.now(),
        }))
    }

    fn admitted(&self) -> Admitted {
        Admitted::to(self.sketch)
    }
}

fn weigh(session: &Session<()>, weight: u32) -> Result<Allowed, WeightError> {
    let limit = session.max_weight().get();
    let allowed = session.weigh(weight.into());
    allowed.map_err(|_| WeightError { weight, limit })
}
