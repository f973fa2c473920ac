//! A seed from its start to its verdict.

use std::time::Duration;

use rmbd::sketch::{Geometry, MAX_WEIGHT};

use super::check::{self, Expected};
use super::machine::{Machine, estimate};
use super::network::{Faults, Place};
use super::plan::{Act, Plan, Stranger};
use super::random::Random;
use super::world::{Identity, LEAVE_LIMIT, World};

/// A node is ready after so long, whatever it lacks.
const READY_LIMIT: Duration = Duration::from_secs(12);
/// Rounds that it must stay so.
const ROUNDS_AFTER: u32 = 6;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) faults: Faults,
    /// From the start of quiet until all were equal, in rounds.
    pub(crate) rounds: f64,
    pub(crate) events: u64,
    /// Of everything that everybody held and had sent in the end.
    pub(crate) history: u64,
}

/// Plays a seed. An error says what did not hold.
pub(crate) fn run<M: Machine>(seed: u64, trace: bool) -> Result<Outcome, String> {
    let mut plan = Plan::new(seed, M::ONE_WAY);
    plan.terms.trace = trace;
    plan.terms.limits_datagrams = M::LIMITS_DATAGRAMS;
    let mut play = Play::<M>::new(plan);
    play.noise();
    play.end_noise();
    let rounds = play.quiet()?;
    let world = play.world;
    Ok(Outcome {
        faults: world.network.faults,
        rounds,
        events: world.events,
        history: history(&world),
    })
}

struct Play<M> {
    world: World<M>,
    plan: Plan,
    random: Random,
    /// Receivers that have joined.
    joined: Vec<Place>,
}

impl<M: Machine> Play<M> {
    fn new(plan: Plan) -> Self {
        let mut world = World::<M>::new(plan.seed, plan.terms.clone());
        let mut random = Random::stream(plan.seed, "play");
        for _ in 0..plan.hosts() {
            let place = world.host();
            if plan.rotates_keys && !plan.terms.keys.is_empty() {
                world.hosts[place].keys = if random.chance(0.5) {
                    vec![1, 2]
                } else {
                    vec![2, 1]
                };
            }
        }
        world.network.aloof = plan.receiver_places().collect();
        let seeds = if M::SEEDS_ALL {
            plan.nodes
        } else {
            plan.nodes.min(2)
        };
        for place in 0..plan.spare_places().end {
            world.hosts[place].seeds = (0..seeds).filter(|&seed| seed != place).collect();
        }
        for (place, &kind) in plan.stranger_places().zip(&plan.strangers) {
            let host = &mut world.hosts[place];
            host.seeds = (0..seeds).collect();
            match kind {
                Stranger::WrongKey => host.keys = vec![9],
                Stranger::OtherFingerprint => host.fingerprint = Some(random.next()),
                Stranger::OtherGeometry => host.geometry = Geometry::new(77, 5).unwrap(),
            }
            world.network.faults.strangers += 1;
        }
        world.tell(|| format!("{} nodes, {:?}", plan.nodes, plan.terms));
        Self {
            world,
            plan,
            random,
            joined: Vec::new(),
        }
    }

    /// Everything goes wrong, and all the time something is added.
    fn noise(&mut self) {
        let start = self.world.now;
        let mut acts = std::mem::take(&mut self.plan.acts).into_iter().peekable();
        while self.world.now - start < self.plan.span {
            let step = self
                .random
                .time(Duration::from_millis(5), Duration::from_millis(150));
            self.world.run_for(step);
            let elapsed = self.world.now - start;
            while let Some((_, act)) = acts.next_if(|&(at, _)| at <= elapsed) {
                self.act(act);
            }
            self.add(step);
            self.world.look_at_counts();
            self.world.look_at_bounds();
        }
    }

    fn act(&mut self, act: Act) {
        self.world.tell(|| format!("{act:?}"));
        let world = &mut self.world;
        let runs = |world: &World<M>, place: Place| world.hosts[place].process.is_some();
        match act {
            Act::Start(place) if !runs(world, place) => world.start(place),
            Act::Start(_) => {}
            Act::Crash(place) => world.crash(place),
            Act::Restart(place, identity) => world.restart(place, identity),
            Act::Move { from, to } if runs(world, from) && !runs(world, to) => {
                world.move_to(from, to);
            }
            Act::Move { .. } => {}
            Act::Leave(place) => world.leave(place),
            Act::Pause(place, time) => world.pause(place, time),
            Act::Clock {
                place,
                ahead,
                behind,
            } => world.jump_clock(place, ahead, behind),
            Act::WallClock(place, behind) => world.jump_wall_clock(place, behind),
            Act::Cut(a, b) => world.network.cut(a, b),
            Act::CutOneWay(a, b) => world.network.cut_one_way(a, b),
            Act::Split(side) => {
                for a in 0..world.hosts.len() {
                    for &b in side.iter().filter(|_| !side.contains(&a)) {
                        world.network.cut(a, b);
                    }
                }
            }
            Act::HealAll => world.network.heal_all(),
            Act::Weather(weather) => world.network.weather = weather,
            Act::Link(from, to, weather) => world.network.set_link(from, to, weather),
            Act::PushTo(place, target) => world.push_to(place, target),
            Act::Join(place, seed) => {
                self.joined.push(place);
                world.join(place, seed);
            }
        }
    }

    fn add(&mut self, step: Duration) {
        let running = self.world.running();
        let adds = self.plan.adds_per_s * step.as_secs_f64() + self.random.share();
        for _ in 0..adds as usize {
            let Some(place) = self.random.pick(&running) else {
                return;
            };
            let key = self.random.skewed(self.world.keys.len());
            let weight = match self.random.below(20) {
                0 => 0,
                1 | 2 => self.random.between(1, MAX_WEIGHT as usize),
                _ => self.random.between(1, 300),
            };
            self.world.add(place, key, weight as u32);
        }
        if self.plan.is_heavy
            && self.random.chance(0.05)
            && let Some(place) = self.random.pick(&running)
        {
            for _ in 0..1_500 {
                self.world.add(place, 0, MAX_WEIGHT);
            }
        }
    }

    /// Whoever stands still goes on, whoever leaves is gone; somebody is there to be met.
    fn end_noise(&mut self) {
        let is_busy = |world: &World<M>| {
            let mut running = world.running().into_iter();
            running.any(|place| world.is_paused(place) || world.is_leaving(place))
        };
        let limit = self.plan.span + LEAVE_LIMIT * 2;
        let step = Duration::from_millis(100);
        self.world.run_until(step, limit, |world| !is_busy(world));
        self.world.network.heal_all();
        self.world.network.clear_links();
        self.world.network.weather = self.plan.quiet_weather;
        if self.world.hosts[0].process.is_none() {
            self.world.restart(0, Identity::Same);
        }
        self.cut_for_good();
        self.world.lose_what_cannot_be_under_way();
        self.world.tell(|| "quiet".to_owned());
    }

    /// Some links stay cut; so that nobody is left without a way for want of an address, all are told of
    /// all.
    fn cut_for_good(&mut self) {
        let cuts = std::mem::take(&mut self.plan.quiet_cuts);
        if cuts.is_empty() {
            return;
        }
        for cut in cuts {
            self.act(cut);
        }
        let members = self.members();
        for &place in &members {
            for &other in members.iter().filter(|&&other| other != place) {
                self.world.join(place, other);
            }
        }
    }

    fn members(&self) -> Vec<Place> {
        let mut members = self.world.running();
        let receivers = self.plan.receiver_places();
        let strangers = self.plan.stranger_places();
        members.retain(|place| {
            let is_receiver = receivers.contains(place) && !self.joined.contains(place);
            !is_receiver && !strangers.contains(place)
        });
        members
    }

    /// Runs until all are equal, and some rounds more; after how many rounds they were.
    fn quiet(&mut self) -> Result<f64, String> {
        none(check::excess(&self.world))?;
        let mut groups = check::expected(&self.world, &self.members());
        let running = self.world.running();
        let alone = |place: &Place| self.plan.stranger_places().contains(place);
        for &place in running.iter().filter(|place| alone(place)) {
            groups.extend(check::expected(&self.world, &[place]));
        }
        let pushed = self.push_to_receivers(&groups);
        let equal = |world: &World<M>| {
            groups.iter().all(|group| check::is_equal(world, group))
                && pushed.iter().all(|(place, group)| {
                    check::lacks(world, *place, &groups[*group].copies).is_none()
                })
        };
        let step = self.plan.terms.interval / 2;
        let took = self.world.run_until(step, M::QUIET_LIMIT, equal);
        self.world.look_at_counts();
        self.world.look_at_bounds();
        let Some(took) = took else {
            return Err(self.why_not(&groups, &pushed));
        };
        self.world.tell(|| format!("equal after {took:?}"));
        self.verdict(&groups)?;
        self.world.run_for(self.plan.terms.interval * ROUNDS_AFTER);
        self.world.look_at_counts();
        self.verdict(&groups)?;
        Ok(took.as_secs_f64() / self.plan.terms.interval.as_secs_f64())
    }

    /// Says once more who is to be pushed to, in vain for those who have joined.
    fn push_to_receivers(&mut self, groups: &[Expected]) -> Vec<(Place, usize)> {
        let mut pushed = Vec::new();
        for receiver in self.plan.receiver_places() {
            let Some(pusher) = self.members().first().copied() else {
                continue;
            };
            if self.world.hosts[receiver].process.is_none() || self.joined.contains(&receiver) {
                continue;
            }
            self.world.push_to(pusher, receiver);
            let group = groups
                .iter()
                .position(|group| group.places.contains(&pusher));
            pushed.extend(group.map(|group| (receiver, group)));
        }
        pushed
    }

    fn why_not(&self, groups: &[Expected], pushed: &[(Place, usize)]) -> String {
        let mut why = format!("not equal after {:?} of quiet\n", M::QUIET_LIMIT);
        let unequal = groups
            .iter()
            .filter_map(|group| check::difference(&self.world, group));
        why.extend(unequal.map(|what| what + "\n"));
        for (place, group) in pushed {
            why.extend(check::lacks(&self.world, *place, &groups[*group].copies));
        }
        for group in groups {
            why += &format!("group {:?}\n", group.places);
        }
        for place in self.world.running() {
            let process = self.world.process(place);
            let what = process.machine.describe(self.world.clock(place));
            let name = check::name(&process.slice());
            why += &format!("{place} ({name}): {what}\n");
        }
        why
    }

    fn verdict(&self, groups: &[Expected]) -> Result<(), String> {
        for group in groups {
            none(check::difference(&self.world, group))?;
            if !self.plan.stranger_places().contains(&group.places[0]) {
                none(check::wrong_count(&self.world, group))?;
            }
        }
        none(check::excess(&self.world))?;
        for place in self.world.running() {
            let process = self.world.process(place);
            let setup = &process.setup;
            let mut copies = process.machine.copies();
            copies.extend(self.world.own_copy(place));
            for key in &self.world.keys {
                let right = estimate(copies.iter(), setup.geometry, setup.family, key);
                if process.machine.estimate(key) != right {
                    return Err(format!("{place}: its answers are not those of its cells"));
                }
            }
            if self.world.age(place) > READY_LIMIT && !process.machine.is_ready() {
                return Err(format!("{place} is not ready"));
            }
        }
        none(self.world.violations.first().cloned())
    }
}

fn none(what: Option<String>) -> Result<(), String> {
    what.map_or(Ok(()), Err)
}

fn history<M: Machine>(world: &World<M>) -> u64 {
    let mut hash = Random::new(world.events);
    let mut take = |number: u64| hash = Random::new(hash.next() ^ number);
    for place in world.running() {
        let process = world.process(place);
        take(process.bytes_out);
        take(process.bytes_in);
        for (slice, root) in process.machine.roots() {
            take(slice.boot);
            take(root);
        }
    }
    hash.next()
}
