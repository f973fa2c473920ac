//! Trials that are made once all nodes are equal, when the expected outcome is known.

use std::collections::BTreeMap;
use std::time::Duration;

use rmbd_proto::Boot;
use rmbd_proto::cluster::SliceId;
use rmbd_store::Estimate;

use super::super::check;
use super::super::machine::{Copies, Machine};
use super::super::network::{Datagram, Place, Weather};
use super::super::pace;
use super::super::plan::Trial;
use super::super::world::{Identity, LEAVE_LIMIT, Terms};
use super::{Play, none};

/// Windows of each key that are asked for at a node that has joined.
const WINDOWS_OF_A_JOINER: usize = 8;
/// Number of old datagrams that come again, and of forged ones for each.
const REPLAYS: usize = 24;
/// The longest time until a node that could not be reached is tried again.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Time in which all nodes must find each other again, ...
const MEETING_LIMIT: Duration = Duration::from_secs(60);
/// ... and additional time for each member: a node that missed the news of a death finds it when it probes the dead
/// member itself, one member a second.
const MEETING_LIMIT_A_MEMBER: Duration = Duration::from_millis(2_500);
/// Time in which a seed that has moved must be found, by the next look-up or the one after it.
const MOVED_LIMIT: Duration = Duration::from_secs(12);
/// Time for which a single node is watched.
const ALONE_TIME: Duration = Duration::from_secs(15);
/// Time between two checks for something that may be over soon.
const STEP: Duration = Duration::from_millis(20);

impl<M: Machine> Play<M> {
    pub(super) fn trials(&mut self) -> Result<(), String> {
        if !M::PACED {
            return Ok(());
        }
        let trials = std::mem::take(&mut self.plan.trials);
        for trial in trials {
            if !matches!(trial, Trial::Attack) {
                self.calm()?;
            }
            self.world.tell(|| format!("trial: {trial:?}"));
            self.trial(trial)
                .and_then(|()| none(self.world.violations.first().cloned()))
                .map_err(|why| format!("{trial:?}: {why}"))?;
        }
        Ok(())
    }

    fn trial(&mut self, trial: Trial) -> Result<(), String> {
        match trial {
            Trial::Attack => self.attack(),
            Trial::LastAdds => self.last_adds(),
            Trial::ShortLife => self.short_life(),
            Trial::Joiner => self.joiner(),
            Trial::LoneHearer { dies } => self.lone_hearer(dies),
            Trial::SeedMoves => self.seed_moves(),
            Trial::AloneAmongGhosts => self.alone_among_ghosts(),
        }
    }

    /// Ends all faults, and runs until all nodes know each other and have the same.
    fn calm(&mut self) -> Result<(), String> {
        self.world.network.heal_all();
        self.world.network.weather = Weather::CLEAR;
        self.plan.quiet_weather = Weather::CLEAR;
        if !std::mem::replace(&mut self.is_calm, true) {
            self.world.run_for(PROBE_TIMEOUT_MAX);
        }
        self.meet(MEETING_LIMIT)?;
        self.become_equal()?;
        Ok(())
    }

    fn meet(&mut self, limit: Duration) -> Result<Duration, String> {
        let company = self.company();
        let limit = limit + MEETING_LIMIT_A_MEMBER * company.len() as u32;
        let groups = check::expected(&self.world, &company);
        let met = self.world.run_until(STEP * 5, limit, |world| {
            groups.iter().all(|group| check::has_met(world, group))
        });
        met.ok_or_else(|| {
            let mut groups = groups.iter();
            let why = groups.find_map(|group| check::unmet(&self.world, group));
            format!("not all know each other after {limit:?}: {why:?}")
        })
    }

    /// Runs until all present members are equal, within the time that this may take.
    fn become_equal(&mut self) -> Result<Duration, String> {
        let members = self.members();
        let mut groups = check::expected(&self.world, &members);
        let mut new_writers = self.world.network.faults.new_writers;
        let may_take = pace::until_equal(&self.world, &self.plan, &groups);
        let step = self.plan.terms.interval / 2;
        let took = self.world.run_until(step, may_take, |world| {
            let now = world.network.faults.new_writers;
            if std::mem::replace(&mut new_writers, now) != now {
                groups = check::expected(world, &members);
            }
            groups.iter().all(|group| check::is_equal(world, group))
        });
        self.look();
        took.ok_or_else(|| {
            let why = groups
                .iter()
                .find_map(|group| check::difference(&self.world, group));
            format!("not equal after {may_take:?}: {}", why.unwrap_or_default())
        })
    }

    fn rate_binds(&self) -> bool {
        self.plan.terms.rate_bytes_per_s < Terms::default().rate_bytes_per_s
    }

    /// Members with room for everything.
    fn free_members(&self) -> Vec<Place> {
        let mut members = self.members();
        members.retain(|&place| !self.world.hosts[place].is_limited());
        members
    }

    /// Names that lead to a node that can be joined.
    fn seeds(&self) -> Vec<Place> {
        let members = self.members();
        let mut names = vec![0, 1];
        names.retain(|&name| members.contains(&self.world.resolve(name)));
        names
    }

    /// Checks that old and forged datagrams change nothing.
    fn attack(&mut self) -> Result<(), String> {
        let is_calm = self.plan.quiet_weather == Weather::CLEAR && !self.world.network.has_cuts();
        if is_calm {
            // A node that has just died may still count as live.
            self.meet(MEETING_LIMIT)?;
        }
        // The wait for equal nodes does not include nodes without room for everything.
        let earlier = self.picture(is_calm);
        self.world.run_for(self.plan.terms.interval * 10);
        let mut before = self.picture(is_calm);
        before.retain(|place, now| {
            let was = earlier.get(place);
            let is_still = was.is_some_and(|was| was.changed_to(now).is_none());
            is_still || !self.world.hosts[*place].is_limited()
        });
        let archive = self.world.network.archive().to_vec();
        if archive.is_empty() {
            return Ok(());
        }
        let aloof = self.world.network.aloof.clone();
        let mut victims: Vec<Place> = self.world.running();
        victims.retain(|place| !aloof.contains(place));
        for _ in 0..REPLAYS {
            let at = self.random.below(archive.len());
            let old = &archive[at];
            for _ in 0..victims.len().min(8) {
                let victim = self.random.pick(&victims).unwrap_or(0);
                // A datagram that was lost on its way to this very start, and comes now, is no replay but late.
                if old.to != victim || self.world.has_come(old) {
                    self.world.forge(old.from, victim, old.bytes.clone());
                    self.world.network.faults.late_replays += 1;
                }
                let forged = self.forged(old, &archive);
                self.world.forge(old.from, victim, forged);
                self.world.network.faults.late_forgeries += 1;
            }
            self.world.run_for(STEP);
        }
        let rounds = self.plan.terms.interval * 4;
        self.world.run_for(rounds + Duration::from_secs(1));
        self.look();
        let after = self.picture(is_calm);
        before
            .iter()
            .find_map(|(place, before)| Some((place, before.changed_to(after.get(place)?)?)))
            .map_or(Ok(()), |(place, what)| Err(format!("{place}: {what}")))
    }

    /// What must not change: answers, copies, and, if nothing else touches them, members.
    fn picture(&self, is_calm: bool) -> BTreeMap<Place, Picture> {
        let running = self.world.running().into_iter();
        let picture = |place: Place| {
            let machine = self.world.machine(place);
            let mut live: Vec<Boot> = machine
                .live(self.world.clock(place))
                .iter()
                .map(|&(boot, _)| boot)
                .collect();
            live.sort_unstable();
            let setup = &self.world.process(place).setup;
            let mut roots = machine.roots();
            // A node's own slice gets its root when there is a node to send it to, perhaps late.
            setup.slices().for_each(|own| {
                roots.remove(&own);
            });
            let answers = setup.sketches.iter().flat_map(|spec| {
                let keys = self.world.keys.iter();
                keys.map(|key| machine.estimate(spec.number, key))
            });
            Picture {
                answers: answers.collect(),
                own: self.world.own_copies(place).collect(),
                roots,
                live: is_calm.then_some(live),
            }
        };
        running
            .filter(|&place| !self.is_late_receiver(place))
            .map(|place| (place, picture(place)))
            .collect()
    }

    /// Whether a receiver may still get what was ordered to be pushed to it before it was quiet. If all members have
    /// limits, nobody has waited for that.
    fn is_late_receiver(&self, place: Place) -> bool {
        let is_receiver = self.plan.receiver_places().contains(&place);
        let is_limited = |member: Place| self.world.hosts[member].is_limited();
        is_receiver && !self.joined.contains(&place) && self.members().into_iter().all(is_limited)
    }

    fn forged(&mut self, old: &Datagram, archive: &[Datagram]) -> Vec<u8> {
        let random = &mut self.random;
        let mut bytes = old.bytes.clone();
        match random.below(5) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                bytes = (0..random.below(1_400))
                    .map(|_| random.next() as u8)
                    .collect();
            }
            2 => {
                let other = &archive[random.below(archive.len())].bytes;
                let from = random.below(bytes.len().min(other.len()));
                bytes.truncate(from);
                bytes.extend_from_slice(&other[from..]);
                bytes.push(1);
            }
            // The number, boot or channel is changed.
            3 => bytes[random.below(33.min(old.bytes.len()))] ^= 1 << random.below(8),
            _ => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        bytes
    }

    /// Checks that a node that is told to end hands over its last adds.
    fn last_adds(&mut self) -> Result<(), String> {
        let members = self.members();
        let Some(place) = self.random.pick(&members) else {
            return Ok(());
        };
        if members.len() < 2 || self.rate_binds() {
            return Ok(());
        }
        for sketch in self.plan.terms.sketches() {
            for key in 0..4 {
                self.world.add_to(place, sketch.number, key, 100);
            }
        }
        self.end_and_be_inherited(place)
    }

    fn short_life(&mut self) -> Result<(), String> {
        let seeds = self.seeds();
        if seeds.is_empty() || self.rate_binds() {
            return Ok(());
        }
        let place = self.new_host(seeds);
        self.world.start(place);
        self.world.add(place, 3, 77);
        let life = self.random.time(Duration::ZERO, Duration::from_millis(300));
        if self.random.chance(0.5) {
            self.world.run_for(life);
        }
        self.world.add(place, 4, 78);
        self.world.network.faults.lives_before_contact += 1;
        self.end_and_be_inherited(place)
    }

    fn new_host(&mut self, seeds: Vec<Place>) -> Place {
        let place = self.world.host();
        self.world.hosts[place].seeds = seeds;
        self.world.hosts[place].keys = self.world.hosts[0].keys.clone();
        place
    }

    fn end_and_be_inherited(&mut self, place: Place) -> Result<(), String> {
        let sketches = self.world.hosts[place].sketches.clone();
        let setup = self.world.process(place).setup.clone();
        self.world.leave(place);
        let gone = self
            .world
            .run_until(STEP, LEAVE_LIMIT * 3, |world| !world.runs(place));
        if gone.is_none() {
            return Err(format!("{place} does not end"));
        }
        for spec in sketches {
            let slice = setup.slice_of(spec.number);
            let written = self.world.written[&slice].clone();
            let mut heirs = self.free_members();
            heirs.retain(|&heir| self.world.process(heir).setup.sketches.contains(&spec));
            for heir in heirs {
                let held = self.world.machine(heir).cells(&slice);
                if held.unwrap_or_else(|| vec![0; written.len()]) != written {
                    return Err(format!(
                        "{place} has left, and {heir} lacks what it counted"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks that a joining node is soon ready, and has everything then.
    fn joiner(&mut self) -> Result<(), String> {
        let seeds = self.seeds();
        let members = self.members();
        if seeds.is_empty() {
            return Ok(());
        }
        let owed = self.world.complete_copies(&members);
        let place = self.new_host(seeds);
        self.world.owe_when_ready(place, owed);
        self.world.start(place);
        let ready = self
            .world
            .run_until(STEP, Duration::from_secs(12), |world| {
                world.machine(place).is_ready()
            });
        if ready.is_none() {
            return Err(format!("{place} is not ready"));
        }
        self.meet(MEETING_LIMIT)?;
        self.become_equal()?;
        // By then the node has its windows, and what is old is not in them.
        self.world.run_for(Duration::from_secs(2));
        for key in 0..self.world.keys.len() {
            for _ in 0..WINDOWS_OF_A_JOINER {
                let (sketch, steps) = (self.window_random.next(), self.window_random.next());
                (self.world).look_at_any_window(place, key, sketch, steps);
            }
        }
        Ok(())
    }

    /// Checks that all nodes get the slice of a writer that is heard by one other node only, from that node.
    fn lone_hearer(&mut self, dies: bool) -> Result<(), String> {
        let members = self.free_members();
        if members.len() < 3 || members.len() < self.members().len() || self.rate_binds() {
            return Ok(());
        }
        let at = self.random.below(members.len());
        let writer = members[at];
        let hearer = members[(at + 1 + self.random.below(members.len() - 1)) % members.len()];
        for &other in &members {
            if other != writer && other != hearer {
                self.world.network.cut(writer, other);
            }
        }
        self.world.add(writer, 2, 1_000);
        let slice = self.world.process(writer).slice();
        let cells = self.world.machine(writer).own_cells(slice.sketch);
        let has = |world: &super::World<M>, place: Place| {
            world.machine(place).cells(&slice).as_ref() == Some(&cells)
        };
        let interval = self.plan.terms.interval;
        let step = interval / 5;
        let heard = self
            .world
            .run_until(step, interval * 8 + Duration::from_secs(1), |world| {
                has(world, hearer)
            });
        if heard.is_none() {
            return Err(format!("{hearer} does not hear {writer}"));
        }
        if dies {
            self.world.crash(writer);
            self.world.network.faults.lone_heirs += 1;
        } else {
            self.world.network.faults.lone_hearers += 1;
        }
        let others: Vec<Place> = members.into_iter().filter(|&p| p != writer).collect();
        let may_take = pace::until_all_have_it(&self.plan, self.world.truth.len(), others.len());
        let took = self.world.run_until(step, may_take, |world| {
            others.iter().all(|&place| has(world, place))
        });
        let Some(took) = took else {
            let late = others.iter().filter(|&&place| !has(&self.world, place));
            let late: Vec<_> = late.collect();
            return Err(format!(
                "{writer} was heard by {hearer} only; after {may_take:?} ({:.1} rounds) {late:?} of {others:?} do not have it",
                self.rounds(may_take)
            ));
        };
        self.lone.push((others.len(), self.rounds(took)));
        self.is_calm = false;
        self.world.network.heal_all();
        if dies {
            self.world.restart(writer, Identity::Same);
        }
        Ok(())
    }

    /// Checks that the others find a seed that moves, by its name.
    fn seed_moves(&mut self) -> Result<(), String> {
        let seeds = self.seeds();
        let Some(name) = self.random.pick(&seeds) else {
            return Ok(());
        };
        let from = self.world.resolve(name);
        let to = self.new_host(Vec::new());
        let members = self.members();
        // A node that does not know the name cannot look it up.
        let knows =
            |place: &&Place| **place != from && self.world.hosts[**place].seeds.contains(&name);
        if members.iter().filter(knows).count() == 0 {
            return Ok(());
        }
        self.world.move_to(from, to);
        // Ninety nodes take half a minute to hear of each other.
        self.meet(MOVED_LIMIT + MEETING_LIMIT)?;
        self.become_equal()?;
        Ok(())
    }

    /// Checks that a node that knows no other, and gets what was sent when others lived, stays alone.
    fn alone_among_ghosts(&mut self) -> Result<(), String> {
        let members = self.members();
        let Some(place) = self.random.pick(&members) else {
            return Ok(());
        };
        for other in self.world.running() {
            self.world.crash(other);
        }
        self.world.lose_what_cannot_be_under_way();
        self.world.hosts[place].seeds.clear();
        self.world.restart(place, Identity::Same);
        self.world.run_for(Duration::from_secs(1));
        let process = self.world.process(place);
        let (in_before, out_before) = (process.bytes_in, process.bytes_out);
        for old in self.world.network.archive().to_vec() {
            self.world.forge(old.from, place, old.bytes);
            self.world.network.faults.replays_to_one_alone += 1;
        }
        let haunted = self.world.run_until(STEP * 5, ALONE_TIME, |world| {
            !world.machine(place).is_alone()
        });
        if let Some(after) = haunted {
            return Err(format!(
                "{place} is alone, and takes the dead for members {after:?} after old datagrams came"
            ));
        }
        let process = self.world.process(place);
        let came = process.bytes_in - in_before;
        let sent = process.bytes_out - out_before;
        if sent > came {
            return Err(format!(
                "{place} is alone, and answered {came} old bytes with {sent}"
            ));
        }
        Ok(())
    }
}

/// A node's state as others see it.
#[derive(Debug)]
struct Picture {
    answers: Vec<Estimate>,
    own: Copies,
    roots: BTreeMap<SliceId, u64>,
    live: Option<Vec<Boot>>,
}

impl Picture {
    fn changed_to(&self, other: &Self) -> Option<String> {
        let (answers, roots) = (&other.answers, &other.roots);
        if self.answers != *answers {
            return Some(format!(
                "answers were {:?}, and are {answers:?}",
                self.answers
            ));
        }
        if self.own != other.own {
            return Some("its own cells have changed".to_owned());
        }
        if self.roots != *roots {
            return Some(format!("roots were {:?}, and are {roots:?}", self.roots));
        }
        let live = &other.live;
        (self.live != *live).then(|| format!("members were {:?}, and are {live:?}", self.live))
    }
}
