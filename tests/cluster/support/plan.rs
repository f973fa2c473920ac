//! What a seed means: how many nodes, which weather, what befalls whom and when.

use std::time::Duration;

use rmbd::sketch::{Geometry, HashFamily};

use super::network::{Place, Weather};
use super::random::Random;
use super::world::{Identity, Terms};

/// Something that befalls the world.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    Start(Place),
    Crash(Place),
    Restart(Place, Identity),
    Move {
        from: Place,
        to: Place,
    },
    Leave(Place),
    Pause(Place, Duration),
    Clock {
        place: Place,
        ahead: Duration,
        behind: Duration,
    },
    WallClock(Place, Duration),
    Cut(Place, Place),
    CutOneWay(Place, Place),
    /// Those on the list on one side, all others on the other.
    Split(Vec<Place>),
    HealAll,
    Weather(Weather),
    Link(Place, Place, Weather),
    PushTo(Place, Place),
    Join(Place, Place),
}

/// Who is no part of the cluster, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    WrongKey,
    OtherFingerprint,
    OtherGeometry,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) terms: Terms,
    /// Places 0 and on.
    pub(crate) nodes: usize,
    /// Places after them: empty, for nodes that move.
    pub(crate) spares: usize,
    /// After them: run by others, told of by `peer` orders.
    pub(crate) receivers: usize,
    /// After them.
    pub(crate) strangers: Vec<Stranger>,
    /// Key files: the same keys in another order.
    pub(crate) rotates_keys: bool,
    pub(crate) acts: Vec<(Duration, Act)>,
    pub(crate) adds_per_s: f64,
    /// Some adds are as heavy as may be, so that cells fill.
    pub(crate) is_heavy: bool,
    pub(crate) span: Duration,
    /// What stays when all else is quiet.
    pub(crate) quiet_weather: Weather,
    pub(crate) quiet_cuts: Vec<Act>,
}

impl Plan {
    /// `one_way` and `strangers`: whether the machine knows such things.
    pub(crate) fn new(seed: u64, one_way: bool) -> Self {
        let mut random = Random::stream(seed, "plan");
        let nodes = match random.below(200) {
            0 => random.between(60, 100),
            1..=6 => random.between(16, 40),
            7..=30 => random.between(9, 14),
            _ => random.between(2, 7),
        };
        let is_large = nodes > 14;
        let widths: &[u64] = if is_large {
            &[64, 100]
        } else {
            &[1, 64, 100, 300, 700, 2048]
        };
        let width = random.pick(widths).unwrap_or(64);
        let depth = random.between(1, 4) as u64;
        let mut plan = Self {
            seed,
            terms: Terms {
                geometry: Geometry::new(width, depth).unwrap(),
                family: HashFamily::Xxh3 { seed: 11 },
                interval: Duration::from_millis(random.between(100, 1000) as u64),
                keys: if random.chance(0.1) {
                    Vec::new()
                } else {
                    vec![1]
                },
                ..Terms::default()
            },
            nodes,
            spares: random.below(3),
            receivers: if one_way && random.chance(0.3) {
                random.between(1, 2)
            } else {
                0
            },
            strangers: Vec::new(),
            rotates_keys: random.chance(0.2),
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
        plan.draw_acts(&mut random);
        plan.draw_quiet(&mut random);
        plan
    }

    pub(crate) fn hosts(&self) -> usize {
        self.nodes + self.spares + self.receivers + self.strangers.len()
    }

    pub(crate) fn spare_places(&self) -> std::ops::Range<Place> {
        self.nodes..self.nodes + self.spares
    }

    pub(crate) fn receiver_places(&self) -> std::ops::Range<Place> {
        let from = self.spare_places().end;
        from..from + self.receivers
    }

    pub(crate) fn stranger_places(&self) -> std::ops::Range<Place> {
        let from = self.receiver_places().end;
        from..from + self.strangers.len()
    }

    fn draw_acts(&mut self, random: &mut Random) {
        let startup = self.span.mul_f64(random.share() * 0.3);
        for place in 0..self.nodes {
            let at = random.time(Duration::ZERO, startup);
            self.acts.push((at, Act::Start(place)));
        }
        for place in self.receiver_places().chain(self.stranger_places()) {
            let at = random.time(Duration::ZERO, self.span.mul_f64(0.8));
            self.acts.push((at, Act::Start(place)));
        }
        let first = Weather::random(random);
        self.acts.push((Duration::ZERO, Act::Weather(first)));
        let many = if random.chance(0.1) {
            0
        } else {
            random.between(1, 14)
        };
        for _ in 0..many {
            let at = random.time(Duration::ZERO, self.span);
            let act = self.draw_act(random);
            if let Act::Split(_) | Act::Cut(..) | Act::CutOneWay(..) = act {
                let healed = random.time(at, self.span);
                self.acts.push((healed, Act::HealAll));
            }
            self.acts.push((at, act));
        }
        for receiver in self.receiver_places() {
            for _ in 0..random.between(1, 3) {
                let at = random.time(Duration::ZERO, self.span);
                let pusher = random.below(self.nodes);
                self.acts.push((at, Act::PushTo(pusher, receiver)));
            }
            if random.chance(0.3) {
                let at = random.time(Duration::ZERO, self.span);
                self.acts.push((at, Act::Join(receiver, 0)));
            }
            if random.chance(0.4) {
                let at = random.time(Duration::ZERO, self.span);
                self.acts.push((at, Act::Restart(receiver, Identity::Same)));
            }
        }
        self.acts.sort_by_key(|&(at, _)| at);
    }

    fn draw_act(&self, random: &mut Random) -> Act {
        let place = random.below(self.nodes);
        let other = random.below(self.nodes);
        let to = self.spare_places().start + random.below(self.spares.max(1));
        match random.below(17) {
            0 | 1 => Act::Crash(place),
            2 | 3 => Act::Restart(place, Identity::Same),
            4 => Act::Restart(place, Identity::Another),
            5 if self.spares > 0 => Act::Move { from: place, to },
            5 | 6 => Act::Leave(place),
            7 => Act::Pause(place, random.time(Duration::from_millis(50), self.span / 2)),
            8 => Act::Clock {
                place,
                ahead: random.time(Duration::ZERO, Duration::from_secs(100_000)),
                behind: Duration::ZERO,
            },
            9 => Act::Clock {
                place,
                ahead: Duration::ZERO,
                behind: random.time(Duration::ZERO, Duration::from_secs(3)),
            },
            10 => Act::WallClock(
                place,
                random.time(Duration::ZERO, Duration::from_secs(100_000)),
            ),
            11 => Act::Cut(place, other),
            12 => Act::CutOneWay(place, other),
            13 => Act::Split(self.draw_side(random)),
            14 => Act::Weather(Weather::random(random)),
            15 => Act::Link(place, other, Weather::random(random)),
            _ => Act::PushTo(place, other),
        }
    }

    fn draw_side(&self, random: &mut Random) -> Vec<Place> {
        let all = 0..self.nodes + self.spares;
        all.filter(|_| random.chance(0.5)).collect()
    }

    fn draw_quiet(&mut self, random: &mut Random) {
        if random.chance(0.4) {
            let storm = Weather::random(random);
            self.quiet_weather = Weather {
                loss: storm.loss / 2.0,
                ..storm
            };
        }
        if self.nodes >= 3 && random.chance(0.3) {
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
}
