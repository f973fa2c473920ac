//! Acts: what happens to which node, and when.

use std::time::Duration;

use super::super::network::{Place, Weather};
use super::super::random::Random;
use super::super::world::{DiskFault, Identity};
use super::Plan;

/// Something that happens to the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Start(Place),
    Crash(Place),
    Restart(Place, Identity),
    Move {
        from: Place,
        to: Place,
    },
    /// A second process of one node, or of one address, starts.
    Twin {
        of: Place,
        at: Place,
    },
    Shadow {
        of: Place,
        at: Place,
    },
    Leave(Place),
    Pause(Place, Duration),
    Flood(Place, Duration),
    Clock {
        place: Place,
        ahead: Duration,
        behind: Duration,
    },
    WallClock(Place, Duration),
    Cut(Place, Place),
    CutOneWay(Place, Place),
    /// The listed places are on one side of a cut, and all others on the other.
    Split(Vec<Place>),
    HealAll,
    Weather(Weather),
    Link(Place, Place, Weather),
    PushTo(Place, Place),
    Join(Place, Place),
    /// An old datagram comes to every node.
    MisdeliverToAll,
    /// A node ends as it should, and starts again after this time.
    CleanRestart(Place, Duration),
    Disk(Place, DiskFault),
    /// A disk is copied, and (below) a process starts with the copy.
    CopyDisk(Place),
    StartOnCopy {
        of: Place,
        at: Place,
    },
}

impl Plan {
    pub(super) fn draw_acts(&mut self, random: &mut Random) {
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
            random.between(1, 16)
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
        self.draw_acts_of_disks(&mut Random::stream(self.seed, "disks"));
        self.acts.sort_by_key(|&(at, _)| at);
    }

    /// Half of all histories keep what they count. The acts have a stream of their own, so that all others are the same
    /// with and without disks.
    fn draw_acts_of_disks(&mut self, random: &mut Random) {
        if self.terms.disks.is_none() {
            return;
        }
        for _ in 0..random.between(1, 10) {
            let at = random.time(Duration::ZERO, self.span);
            let act = self.draw_act_of_disk(random);
            self.acts.push((at, act));
        }
    }

    fn draw_act_of_disk(&self, random: &mut Random) -> Act {
        let place = random.below(self.nodes);
        let spare = self.spare_places().start + random.below(self.spares.max(1));
        let at = if self.spares > 0 && random.chance(0.5) {
            spare
        } else {
            place
        };
        let are_copied = self.terms.disks.is_some_and(|disks| disks.are_copied);
        match random.below(10) {
            0 => Act::Crash(place),
            1 => Act::Disk(place, DiskFault::Torn),
            2 if random.chance(0.3) => Act::Disk(place, DiskFault::Lost),
            3 | 4 if are_copied => Act::CopyDisk(place),
            5 | 6 if are_copied => Act::StartOnCopy { of: place, at },
            _ => Act::CleanRestart(place, random.time(Duration::ZERO, Duration::from_secs(2))),
        }
    }

    fn draw_act(&self, random: &mut Random) -> Act {
        let place = random.below(self.nodes);
        let other = random.below(self.nodes);
        let spare = self.spare_places().start + random.below(self.spares.max(1));
        let has_spare = self.spares > 0;
        match random.below(21) {
            0 | 1 => Act::Crash(place),
            2 | 3 => Act::Restart(place, Identity::Same),
            4 => Act::Restart(place, Identity::Another),
            5 if has_spare => Act::Move {
                from: place,
                to: spare,
            },
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
            16 => Act::Flood(place, random.time(Duration::from_millis(50), self.span / 2)),
            17 if has_spare => Act::Twin {
                of: place,
                at: spare,
            },
            18 if has_spare => Act::Shadow {
                of: place,
                at: spare,
            },
            17..=19 => Act::MisdeliverToAll,
            _ => Act::PushTo(place, other),
        }
    }

    fn draw_side(&self, random: &mut Random) -> Vec<Place> {
        let all = 0..self.nodes + self.spares;
        all.filter(|_| random.chance(0.5)).collect()
    }
}
