//! What is asked of the sketches, and decided about them: below every protocol, above the store.
//!
//! ```text
//!    datagrams ──┐                           ┌── batch ──> replica
//!    a program ──┼──> Session (a thread's) ──┤
//!    ...       ──┘     weigh, admit, add,    └── exactly-once table, limits ──> Engine (shared)
//!                      count, hit, bounds
//! ```
//!
//! Whoever lets clients in parses what they send, asks a [`Session`], and writes what it yields; whether a weight
//! is taken, a request was applied before, or a hit is within its limit is decided here, once for all of them.

mod answer;
mod batches;
mod denied;
pub mod limits;
mod session;
#[cfg(test)]
mod tests;
mod top;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

pub use self::answer::{Answer, Bounds, Verdict};
pub use self::denied::DeniedAnswer;
use self::limits::LimitBook;
pub use self::limits::{LimitsAnswer, NamedLimits, Rule};
pub use self::session::{LimitPart, LimitParts, Session, Tally};
pub use self::top::TopAnswer;
use rmbd_sketch::{Exhausted, Geometry, HashFamily, PASS_WEIGHT_MAX, Weight};
use rmbd_store::once::{BootChain, COOKIE_BYTES, Caller, OnceTable};
use rmbd_store::{
    Boot, DeniedBook, PardonBook, Registry, Replica, SketchIndex, TopBoard, WindowQuestion,
};

/// What an engine starts with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Random number of this start.
    pub boot: Boot,
    /// Earlier starts of this node that exactly-once requests may name, once their table has
    /// [come back](OnceTable::came_back).
    pub earlier: BootChain,
    /// The largest weight of one operation.
    pub max_weight: Weight,
    /// Which requests of which clients have been applied: a new table, or one that has come back.
    pub once: Arc<OnceTable>,
}

/// What all sessions of a process share.
#[derive(Debug)]
pub struct Engine {
    registry: Registry,
    boot: Boot,
    earlier: BootChain,
    max_weight: Weight,
    once: Arc<OnceTable>,
    limits: LimitBook,
    denied: Arc<DeniedBook>,
    pardons: Arc<PardonBook>,
    top: TopBoard,
}

/// Whether a request is to be applied. Requests that do not ask for exactly-once always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is, and was marked as applied.
    First,
    /// It was applied before: adds are left out, questions are answered.
    Repeat,
}

/// A request that may be applied: to which sketch, and whether its weights count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The sketch that it is about.
    pub sketch: SketchIndex,
    /// Whether it came for the first time.
    pub turn: Turn,
    /// The client and its number of the request, where it asked for exactly-once: a verdict is remembered under it.
    pub once: Option<(u64, u64)>,
}

impl Admitted {
    /// A request to this sketch that does not ask for exactly-once.
    #[must_use]
    pub const fn to(sketch: SketchIndex) -> Self {
        Self {
            sketch,
            turn: Turn::First,
            once: None,
        }
    }
}

/// A weight that the engine takes: [`Session::weigh`] makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed(Weight);

/// Up to where a hit is within its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    limit: u64,
    /// `None` is all time.
    window: Option<WindowQuestion>,
}

/// A request that asks for exactly-once.
#[derive(Debug, Clone, Copy)]
pub struct Numbered<'a> {
    /// The start that the client means: this one, or an earlier one whose requests are known here.
    pub boot: Boot,
    /// The client that asks.
    pub caller: Caller<'a>,
    /// The client's number of it.
    pub sequence: u64,
}

/// What an engine is, for whoever talks to it.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    /// Random number of this start.
    pub boot: Boot,
    /// Equal for all nodes that count alike: [`fingerprint`](rmbd_store::fingerprint).
    pub fingerprint: u64,
    /// Width and depth of the sketch.
    pub geometry: Geometry,
    /// How it hashes.
    pub family: HashFamily,
    /// The largest weight of one operation.
    pub max_weight: Weight,
}

/// Why something was not done. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is about a sketch that is not here.
    #[error("there is no sketch of this number here")]
    UnknownSketch,
    /// A window that no ring of the sketch covers.
    #[error("the sketch keeps no window of which this is a part: ask which it keeps")]
    UnknownWindow,
    /// The sketch lists none of its keys.
    #[error("the sketch lists no keys: give it a top")]
    NoTopList,
    /// There is no limit of this name.
    #[error("there is no limit of this name here")]
    UnknownLimit,
    /// A request that asks for exactly-once takes more than once: one verdict is remembered for it.
    #[error("a request that asks for exactly-once takes once at most")]
    TakesOnce,
    /// There are as many pardons as there may be.
    #[error("there are as many pardons as there may be: wait until one is over")]
    TooManyPardons,
    /// A request that takes came again while the first one is under way.
    #[error("the same request is under way: ask again in a moment")]
    Undecided,
    /// A weight is above the largest that is taken.
    #[error("a weight is above the largest that one operation may have here")]
    WeightTooLarge,
    /// A request that asks for exactly-once means another start, of which it is not known here what was applied.
    #[error("this process has started anew since: what it had applied before is not known")]
    WrongBoot,
    /// A request that asks for exactly-once is too old to tell whether it was applied.
    #[error("too many later requests of the same client came before")]
    SequenceTooOld,
    /// A new exactly-once client has not shown that it receives at its address.
    #[error("a new client has to show a cookie first")]
    AddressUnproven,
    /// A new exactly-once client, whose network holds as many places as one may.
    #[error("the client's network holds as many places as one may")]
    OnceNetworkFull,
    /// A new exactly-once client, and there is no place.
    #[error("all places of exactly-once clients are held")]
    OnceTableFull,
    /// More weight came than can be taken over.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The weights of a request are more than may be added at once.
    #[error("all weights of a request together are above 2^29")]
    TooHeavy,
}

/// The most that the weights of one request may be together: several such may always be under way.
pub const REQUEST_WEIGHT_MAX: u64 = PASS_WEIGHT_MAX / 4;

impl Engine {
    /// An engine over sketches.
    #[must_use]
    pub fn new(registry: Registry, options: &EngineOptions) -> Self {
        let threads = registry.replica(SketchIndex::DEFAULT).threads();
        let denied = DeniedBook::new(threads, secret(&options.once));
        Self {
            boot: options.boot,
            earlier: options.earlier.clone(),
            max_weight: options.max_weight,
            once: Arc::clone(&options.once),
            top: TopBoard::new(&registry),
            denied: Arc::new(denied),
            registry,
            limits: LimitBook::default(),
            pardons: Arc::new(PardonBook::new(options.boot)),
        }
    }

    /// All sketches.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The sketch that every node has.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        self.registry.replica(SketchIndex::DEFAULT)
    }

    /// Which requests of which clients have been applied.
    #[must_use]
    pub fn once(&self) -> &Arc<OnceTable> {
        &self.once
    }

    /// Random number of this start.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// The starts whose exactly-once requests are known here, this one first: what the next start of this node is to
    /// be given as [`earlier`](EngineOptions::earlier), with the [saved](OnceTable::save) table.
    #[must_use]
    pub fn chain(&self) -> BootChain {
        let mut chain = match self.once.came_back() {
            true => self.earlier.clone(),
            false => BootChain::default(),
        };
        chain.push(self.boot);
        chain
    }

    /// Whether the requests of an earlier start are known here.
    fn knows_earlier(&self, boot: Boot) -> bool {
        self.earlier.contains(boot) && self.once.came_back()
    }

    /// The largest weight of one operation.
    #[must_use]
    pub fn max_weight(&self) -> Weight {
        self.max_weight
    }

    /// Puts other limits with names into the place of those before. Counters of limits that keep their name go on, and
    /// so do lists of denied keys where a limit stays a shadow, or none. Lists of others are gone.
    pub fn set_limits(&self, rules: Vec<Rule>) {
        self.limits.replace(rules, &self.denied);
        let limits = self.limits();
        self.denied
            .forget_others(limits.iter().map(|it| &*it.denied));
    }

    /// The limits with names as they are now.
    #[must_use]
    pub fn limits(&self) -> Arc<NamedLimits> {
        self.limits.limits()
    }

    /// The keys that the limit of this name denied most often of late on this node, at most `most` of them, as they are
    /// at this time of the node's clock; `None` where there is no such limit.
    #[must_use]
    pub fn denied(&self, name: &[u8], most: usize, now: Duration) -> Option<DeniedAnswer> {
        let limits = self.limits();
        let limit = limits.find(name)?;
        Some(DeniedAnswer::of(&self.denied, limit, most, now))
    }

    /// Takes over names of denied keys that wait, so that there is room for others. The control thread calls this
    /// again and again.
    pub fn take_denied_names(&self) {
        let limits = self.limits();
        self.denied.take_names(limits.iter().map(|it| &*it.denied));
    }

    /// The pardons of all nodes, as far as they are known here.
    #[must_use]
    pub fn pardons(&self) -> &Arc<PardonBook> {
        &self.pardons
    }

    /// The lists of the largest keys, as the control thread told them last.
    #[must_use]
    pub fn top(&self) -> &TopBoard {
        &self.top
    }

    /// What it is, for whoever talks to it about this sketch.
    #[must_use]
    pub fn info(&self, sketch: SketchIndex) -> Info {
        let named = self.registry.named(sketch);
        let own = named.replica.own();
        let (geometry, family) = (own.geometry(), own.family());
        Info {
            boot: self.boot,
            fingerprint: named.fingerprint(),
            geometry,
            family,
            max_weight: self.max_weight,
        }
    }
}

/// A number that is known here only: the cookie of an address that nobody has is told to nobody.
fn secret(once: &OnceTable) -> u64 {
    let cookie = once.cookie(Ipv4Addr::UNSPECIFIED.into(), Duration::ZERO);
    let bytes = cookie.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}

impl Allowed {
    /// What an add weighs where nothing is said: taken whatever the largest weight is.
    pub const ONE: Self = Self(Weight::ONE);
}

impl Limit {
    /// A limit of all that is counted, since ever.
    #[inline]
    #[must_use]
    pub const fn total(limit: u64) -> Self {
        Self {
            limit,
            window: None,
        }
    }

    /// A limit of what is counted in a window; `None` is all time.
    #[inline]
    #[must_use]
    pub const fn of_window(limit: u64, window: Option<WindowQuestion>) -> Self {
        Self { limit, window }
    }
}

/// A cookie, and for whom and when it was made: whoever sends many datagrams at once is given the same one.
#[derive(Debug, Clone, Copy)]
struct MadeCookie {
    ip: IpAddr,
    now: Duration,
    bytes: [u8; COOKIE_BYTES],
}
