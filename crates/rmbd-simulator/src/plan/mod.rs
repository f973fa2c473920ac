//! The plan that follows from a seed: how many nodes there are, which weather, and which acts when.

mod acts;
mod terms;

use std::time::Duration;

use super::network::{Place, Weather};
use super::random::Random;
use super::world::Terms;
pub use acts::Act;

/// A node whose counts are no part of the cluster's, by the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    WrongKey,
    /// The node is a member with which nothing is exchanged, and so is the next kind.
    OtherFingerprint,
    OtherGeometry,
}

/// How a node differs from the others in one sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    Lacks,
    OtherSeed(u64),
    OtherGeometry,
}

/// A limit of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The node has memory for this many slices besides its own.
    Memory(u64),
    Origins(usize),
}

/// A trial that is made when all nodes are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Old datagrams of live and dead nodes, and forged ones, come to every node.
    Attack,
    /// One node adds, and is told to end at once.
    LastAdds,
    /// One node starts, adds, and is told to end before it can have met another one.
    ShortLife,
    /// One node starts; it must have everything when it reports that it is ready.
    Joiner,
    /// One writer is heard by a single other node only, which may die after that.
    LoneHearer { dies: bool },
    /// The seed starts again at another address.
    SeedMoves,
    /// All nodes end but one, which starts again and gets old datagrams.
    AloneAmongGhosts,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub terms: Terms,
    /// Number of nodes, at the places from 0 on.
    pub nodes: usize,
    /// Number of empty places after them, for nodes that move.
    pub spares: usize,
    /// Number of receivers after them, which `peer` orders name; they are run by others.
    pub receivers: usize,
    /// The strangers, at the places after them.
    pub strangers: Vec<Stranger>,
    /// Whether key files have the same keys in another order.
    pub rotates_keys: bool,
    pub limits: Vec<(Place, Limit)>,
    /// Nodes that lack the sketch at a position, or have it otherwise.
    pub differences: Vec<(Place, usize, Difference)>,
    /// Clocks that run fast or slow.
    pub drifts: Vec<(Place, f64)>,
    /// The servers of the clients.
    pub clients: Vec<Place>,
    pub client_timeout: Duration,
    pub acts: Vec<(Duration, Act)>,
    pub adds_per_s: f64,
    /// Whether some adds have the largest weight, so that cells fill.
    pub is_heavy: bool,
    pub span: Duration,
    /// The weather that stays when all else is quiet.
    pub quiet_weather: Weather,
    pub quiet_cuts: Vec<Act>,
    pub trials: Vec<Trial>,
}

impl Plan {
    /// The plan of a seed. `one_way` tells whether the machine supports one-way pushes and strangers.
    pub fn new(seed: u64, one_way: bool) -> Self {
        let mut random = Random::stream(seed, "plan");
        let nodes = match random.below(200) {
            0 => random.between(60, 100),
            1..=6 => random.between(16, 40),
            7..=30 => random.between(9, 14),
            _ => random.between(2, 7),
        };
        let is_large = nodes > 14;
        let mut plan = Self {
            seed,
            terms: terms::draw(&mut random, nodes, one_way),
            nodes,
            spares: random.below(3),
            receivers: if one_way && random.chance(0.3) {
                random.between(1, 2)
            } else {
                0
            },
            strangers: Vec::new(),
            rotates_keys: random.chance(0.2),
            limits: Vec::new(),
            differences: Vec::new(),
            drifts: Vec::new(),
            clients: Vec::new(),
            client_timeout: random.time(Duration::from_millis(300), Duration::from_secs(5)),
            acts: Vec::new(),
            adds_per_s: 5.0 + 60.0 * random.share(),
            is_heavy: random.chance(0.05),
            span: if is_large {
                Duration::from_secs(12)
            } else {
                random.time(Duration::from_secs(5), Duration::from_secs(40))
            },
            quiet_weather: Weather::CLEAR,
            quiet_cuts: Vec::new(),
            trials: Vec::new(),
        };
        if random.chance(0.3) {
            let kinds = [
                Stranger::WrongKey,
                Stranger::OtherFingerprint,
                Stranger::OtherGeometry,
            ];
            let strangers = (0..random.between(1, 2)).filter_map(|_| random.pick(&kinds));
            plan.strangers = strangers.collect();
        }
        // A stream of their own: the other histories stay as they are.
        terms::draw_windows(&mut Random::stream(seed, "windows"), &mut plan.terms);
        plan.terms.disks = terms::draw_disks(&mut Random::stream(seed, "terms of disks"));
        plan.draw_nodes(&mut random);
        plan.draw_acts(&mut random);
        plan.draw_quiet(&mut random);
        plan.draw_trials(&mut random);
        plan
    }

    pub fn hosts(&self) -> usize {
        self.nodes + self.spares + self.receivers + self.strangers.len()
    }

    pub fn spare_places(&self) -> std::ops::Range<Place> {
        self.nodes..self.nodes + self.spares
    }

    pub fn receiver_places(&self) -> std::ops::Range<Place> {
        let from = self.spare_places().end;
        from..from + self.receivers
    }

    pub fn stranger_places(&self) -> std::ops::Range<Place> {
        let from = self.receiver_places().end;
        from..from + self.strangers.len()
    }

    fn draw_nodes(&mut self, random: &mut Random) {
        let members = self.spare_places().end;
        if random.chance(0.2) {
            for _ in 0..random.between(1, self.nodes.min(3)) {
                let limit = if random.chance(0.5) {
                    Limit::Memory(random.below(self.nodes) as u64)
                } else {
                    Limit::Origins(random.between(1, self.nodes))
                };
                self.limits.push((random.below(members), limit));
            }
        }
        if random.chance(0.2) {
            for _ in 0..random.between(1, 3) {
                let rate = 0.5 + 1.5 * random.share();
                self.drifts.push((random.below(members), rate));
            }
        }
        if !self.terms.others.is_empty() && random.chance(0.5) {
            for _ in 0..random.between(1, 3) {
                let at = random.between(1, self.terms.others.len());
                let difference = match random.below(4) {
                    0 | 1 => Difference::Lacks,
                    2 => Difference::OtherSeed(random.between(1, 2) as u64),
                    _ => Difference::OtherGeometry,
                };
                self.differences
                    .push((random.below(members), at, difference));
            }
        }
        // A key for each add must be alone in a row, or it shows nothing.
        if self.terms.geometry.width() >= 300 && random.chance(0.4) {
            let clients = random.between(1, 3);
            self.clients = (0..clients).map(|_| random.below(self.nodes)).collect();
        }
    }

    fn draw_quiet(&mut self, random: &mut Random) {
        if random.chance(0.4) {
            let storm = Weather::random(random);
            self.quiet_weather = Weather {
                loss: storm.loss / 2.0,
                ..storm
            };
        }
        // A node does not pass on slices that it has refused, so no way may lead only through such a node.
        if self.nodes >= 3 && self.limits.is_empty() && random.chance(0.3) {
            for _ in 0..random.between(1, self.nodes / 2) {
                let (a, b) = (random.below(self.nodes), random.below(self.nodes));
                if a != b {
                    let cut = if random.chance(0.7) {
                        Act::Cut(a, b)
                    } else {
                        Act::CutOneWay(a, b)
                    };
                    self.quiet_cuts.push(cut);
                }
            }
        }
    }

    fn draw_trials(&mut self, random: &mut Random) {
        let trials = [
            (0.3, Trial::Attack),
            (0.2, Trial::LastAdds),
            (0.2, Trial::ShortLife),
            (0.2, Trial::Joiner),
            (0.15, Trial::LoneHearer { dies: false }),
            (0.15, Trial::LoneHearer { dies: true }),
            (0.1, Trial::SeedMoves),
            (0.1, Trial::AloneAmongGhosts),
        ];
        for (chance, trial) in trials {
            if random.chance(chance) {
                self.trials.push(trial);
            }
        }
    }
}
