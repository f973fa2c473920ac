//! A run of a seed, from its start to its verdict.

mod trials;

use std::time::Duration;

use rmbd_client::{ClientOptions, Fate};

use rmbd_sketch::{Geometry, HashFamily, MAX_WEIGHT};
use rmbd_store::{GROUP_CELLS, SECTION_GROUPS};

use super::check::{self, Expected};
use super::faults::Faults;
use super::machine::{Cells, Machine, estimate};
use super::network::Place;
use super::node::OWN_TABLES;
use super::pace;
use super::plan::{Act, Difference, Limit, Plan, Stranger};
use super::random::Random;
use super::world::{Identity, LEAVE_LIMIT, Terms, WindowLook, World};

/// Time after which a node is ready, whatever it lacks.
const READY_LIMIT: Duration = Duration::from_secs(12);
/// Number of cells whose hashes are compared at a time.
const SECTION_CELLS: usize = SECTION_GROUPS * GROUP_CELLS;
/// Rounds for which nodes must stay equal.
const ROUNDS_AFTER: u32 = 6;
/// Number of windows that are asked for when everything is looked at.
const WINDOWS_A_LOOK: usize = 1;

#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub faults: Faults,
    /// Rounds from the start of quiet until all nodes were equal.
    pub rounds: f64,
    /// The same time as a share of the longest allowed time.
    pub share: f64,
    /// For each writer that was heard by one node only: the number of nodes, and the rounds until all had its slice.
    pub lone: Vec<(usize, f64)>,
    pub events: u64,
    /// What was found when windows were looked at.
    pub window_looks: Vec<WindowLook>,
    /// Hash of everything that all nodes held and had sent in the end.
    pub history: u64,
}

/// Runs a seed. The error describes what did not hold.
pub fn run<M: Machine>(seed: u64, trace: bool) -> Result<Outcome, String> {
    let mut plan = Plan::new(seed, M::ONE_WAY);
    plan.terms.trace = trace;
    plan.terms.limits_datagrams = M::LIMITS_DATAGRAMS;
    let mut play = Play::<M>::new(plan);
    play.noise();
    play.end_noise();
    let (rounds, share) = play.quiet()?;
    play.trials()?;
    play.count_terms();
    let (mut world, lone) = (play.world, play.lone);
    let window_looks = std::mem::take(&mut world.window_looks);
    Ok(Outcome {
        faults: world.network.faults,
        rounds,
        share,
        lone,
        events: world.events,
        window_looks,
        history: history(&world),
    })
}

struct Play<M> {
    world: World<M>,
    plan: Plan,
    random: Random,
    window_random: Random,
    /// Places of receivers that have joined.
    joined: Vec<Place>,
    lone: Vec<(usize, f64)>,
    /// Whether all faults have ended.
    is_calm: bool,
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
            // They have no other sketch either.
            host.sketches.truncate(1);
            // No two strangers are alike, or they would be a cluster of their own.
            match kind {
                Stranger::WrongKey => host.keys = vec![100 + place as u8],
                Stranger::OtherFingerprint => {
                    let seed = random.next();
                    host.sketches[0].family = HashFamily::Xxh3 { seed };
                }
                Stranger::OtherGeometry => {
                    host.sketches[0].geometry = Geometry::new(77 + place as u64, 5).unwrap();
                }
            }
            match kind {
                Stranger::WrongKey => world.network.faults.strangers += 1,
                Stranger::OtherFingerprint | Stranger::OtherGeometry => {
                    world.network.faults.apart += 1;
                }
            }
        }
        world.tell(|| format!("{} nodes, {:?}", plan.nodes, plan.terms));
        let mut play = Self {
            world,
            window_random: Random::stream(plan.seed, "looks at windows"),
            plan,
            random,
            joined: Vec::new(),
            lone: Vec::new(),
            is_calm: false,
        };
        play.differ();
        play.limit();
        play
    }

    /// Lets single nodes lack sketches, or have them otherwise.
    fn differ(&mut self) {
        for &(place, at, difference) in &self.plan.differences {
            let sketches = &mut self.world.hosts[place].sketches;
            if let Some(spec) = sketches.get_mut(at) {
                match difference {
                    Difference::Lacks => {
                        sketches.remove(at);
                    }
                    Difference::OtherSeed(seed) => spec.family = HashFamily::Xxh3 { seed },
                    Difference::OtherGeometry => {
                        spec.geometry = Geometry::new(50, 2).unwrap();
                    }
                }
                self.world.network.faults.apart_in_one += 1;
            }
        }
    }

    /// Sets the limits of single nodes, and of clients.
    fn limit(&mut self) {
        let table_bytes = self.plan.terms.geometry.memory_bytes();
        for &(place, limit) in &self.plan.limits {
            let host = &mut self.world.hosts[place];
            match limit {
                // This has room for own cells with those of the others beside them, the published copy, and some
                // slices.
                Limit::Memory(slices) => {
                    // Windows would need more, which nobody reckons with.
                    host.sketches
                        .iter_mut()
                        .for_each(|spec| spec.windows = [None; 2]);
                    host.max_memory_bytes =
                        table_bytes * OWN_TABLES + slices * (300 + table_bytes / 4);
                }
                Limit::Origins(slices) => host.max_origins = slices,
            }
            let faults = &mut self.world.network.faults;
            match limit {
                Limit::Memory(_) => faults.memory_limits += 1,
                Limit::Origins(_) => faults.origin_limits += 1,
            }
        }
        for &(place, rate) in &self.plan.drifts {
            self.world.hosts[place].clock_rate = rate;
            self.world.network.faults.drifts += 1;
        }
        for &server in &self.plan.clients {
            let options = ClientOptions {
                timeout: self.plan.client_timeout,
                linger: Duration::ZERO,
            };
            self.world.client(server, options);
        }
    }

    /// Makes faults of all kinds while keys are added all the time.
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
            self.look();
        }
    }

    fn act(&mut self, act: Act) {
        self.world.tell(|| format!("{act:?}"));
        let world = &mut self.world;
        match act {
            Act::Start(place) if !world.runs(place) => world.start(place),
            Act::Start(_) => {}
            Act::Crash(place) => world.crash(place),
            Act::Restart(place, identity) => world.restart(place, identity),
            Act::Move { from, to } if world.runs(from) && !world.runs(to) => {
                world.move_to(from, to);
            }
            Act::Move { .. } => {}
            Act::Twin { of, at } if world.runs(of) && !world.runs(at) => world.twin(of, at),
            Act::Twin { .. } => {}
            Act::Shadow { of, at } if world.runs(of) && !world.runs(at) => world.shadow(of, at),
            Act::Shadow { .. } => {}
            Act::Leave(place) => world.leave(place),
            Act::Pause(place, time) => world.pause(place, time),
            Act::Flood(place, time) => world.flood(place, time),
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
            Act::CleanRestart(place, down) => world.restart_cleanly(place, down),
            Act::Disk(place, fault) => world.befall_disk(place, fault),
            Act::CopyDisk(place) => world.copy_disk(place),
            Act::StartOnCopy { of, at } => world.start_on_copy(of, at),
            Act::MisdeliverToAll => {
                let at = self.random.below(world.network.archive().len());
                if let Some(datagram) = world.network.archive().get(at).cloned() {
                    world.misdeliver_to_all(&datagram);
                }
            }
        }
    }

    /// Asks for some windows at random.
    fn look_at_windows(&mut self) {
        let running = self.world.running();
        for _ in 0..WINDOWS_A_LOOK {
            let random = &mut self.window_random;
            let Some(place) = random.pick(&running) else {
                return;
            };
            let key = random.below(self.world.keys.len());
            let (sketch, steps) = (random.next(), random.next());
            self.world.look_at_any_window(place, key, sketch, steps);
        }
    }

    /// Checks what must hold all the time.
    fn look(&mut self) {
        self.world.look_at_counts();
        self.world.look_at_bounds();
        self.world.look_at_vouching();
        self.world.look_at_sketches();
        self.look_at_windows();
    }

    fn add(&mut self, step: Duration) {
        for client in 0..self.plan.clients.len() {
            if self.random.chance(0.1) {
                let adds = self.random.between(1, 6);
                self.world.client_adds(client, adds);
            }
        }
        let running = self.world.running();
        let adds = self.plan.adds_per_s * step.as_secs_f64() + self.random.share();
        for _ in 0..adds as usize {
            let Some(place) = self.random.pick(&running) else {
                return;
            };
            let key = self.random.skewed(self.world.keys.len());
            let sketch = self.random.below(self.plan.terms.others.len() + 1);
            let sketch = self.plan.terms.sketches()[sketch].number;
            let weight = match self.random.below(20) {
                0 => 0,
                1 | 2 => self.random.between(1, MAX_WEIGHT as usize),
                _ => self.random.between(1, 300),
            };
            self.world.add_to(place, sketch, key, weight as u32);
        }
        if self.plan.is_heavy
            && self.random.chance(0.05)
            && let Some(place) = self.random.pick(&running)
        {
            // These weights make between one and three half turns of a cell.
            for _ in 0..self.random.between(1_500, 6_500) {
                self.world.add(place, 0, MAX_WEIGHT);
            }
        }
    }

    /// Ends the noise: paused nodes go on, and leaving nodes are gone. At least one node is there for others to meet.
    fn end_noise(&mut self) {
        let is_busy = |world: &World<M>| {
            let mut running = world.running().into_iter();
            let waits = running.any(|place| world.is_paused(place) || world.is_leaving(place));
            waits || world.is_any_to_start() || !world.are_clients_idle()
        };
        let limit = self.plan.span + LEAVE_LIMIT * 3 + self.plan.client_timeout * 2;
        let step = Duration::from_millis(100);
        self.world.run_until(step, limit, |world| !is_busy(world));
        self.world.network.heal_all();
        self.world.network.clear_links();
        self.world.network.weather = self.plan.quiet_weather;
        self.world.end_shadows();
        let seeds = [0, 1].map(|name| self.world.resolve(name));
        // Receivers were told only of the first one.
        let is_needed = !self.joined.is_empty() || !self.world.runs(seeds[1]);
        if is_needed && !self.world.runs(seeds[0]) {
            self.world.restart(seeds[0], Identity::Same);
        }
        self.cut_for_good();
        self.world.lose_what_cannot_be_under_way();
        self.world.tell(|| "quiet".to_owned());
    }

    /// Cuts some links for good. All nodes are told of all others, so that none is cut off for want of an address.
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

    /// All members, including those with other sketches.
    fn company(&self) -> Vec<Place> {
        let strangers = self.plan.stranger_places().zip(&self.plan.strangers);
        let apart = strangers.filter(|(_, kind)| **kind != Stranger::WrongKey);
        let running = apart
            .map(|(place, _)| place)
            .filter(|&place| self.world.runs(place));
        self.members().into_iter().chain(running).collect()
    }

    /// Runs until all nodes are equal, and some rounds more. Returns after how many rounds they were, and the share of
    /// the longest allowed time.
    fn quiet(&mut self) -> Result<(f64, f64), String> {
        none(self.world.violations.first().cloned())?;
        none(check::excess(&self.world))?;
        none(check::wrong_adds(&self.world))?;
        let mut groups = self.all_expected();
        let mut new_writers = self.world.network.faults.new_writers;
        let pushed = self.push_to_receivers(&groups);
        let may_take = M::PACED.then(|| pace::until_equal(&self.world, &self.plan, &groups));
        let step = self.plan.terms.interval / 2;
        let start = self.world.now;
        // Time counts while all nodes know each other; how long that takes is the membership's concern.
        let mut met = Duration::ZERO;
        loop {
            self.follow_new_writers(&mut new_writers, &mut groups);
            let world = &self.world;
            let is_over = groups.iter().all(|group| check::is_equal(world, group))
                && pushed.iter().all(|(place, group)| {
                    check::lacks(world, *place, &groups[*group].copies).is_none()
                });
            if is_over {
                break;
            }
            let is_late = may_take.is_some_and(|may_take| met > may_take);
            if is_late || world.now - start >= M::QUIET_LIMIT {
                self.look();
                return Err(self.why_not(&groups, &pushed, start, met));
            }
            if groups.iter().all(|group| check::has_met(world, group)) {
                met += step;
            }
            self.world.run_for(step);
        }
        self.look();
        let took = self.world.now - start;
        self.world.tell(|| format!("equal after {took:?}"));
        self.verdict(&groups)?;
        self.world.run_for(self.plan.terms.interval * ROUNDS_AFTER);
        self.let_in_what_comes_late(&groups);
        self.follow_new_writers(&mut new_writers, &mut groups);
        self.look();
        self.verdict(&groups)?;
        let share = may_take.map_or(0.0, |may_take| met.as_secs_f64() / may_take.as_secs_f64());
        Ok((self.rounds(took), share))
    }

    /// Where a node has taken another writer, what was one slice is two.
    fn follow_new_writers(&self, seen: &mut u64, groups: &mut Vec<Expected>) {
        let now = self.world.network.faults.new_writers;
        if std::mem::replace(seen, now) != now {
            *groups = self.all_expected();
        }
    }

    /// What members must come to hold, and what strangers do, each for itself.
    fn all_expected(&self) -> Vec<Expected> {
        let mut groups = check::expected(&self.world, &self.members());
        let running = self.world.running();
        let alone = |place: &Place| self.plan.stranger_places().contains(place);
        for &place in running.iter().filter(|place| alone(place)) {
            groups.extend(check::expected(&self.world, &[place]));
        }
        groups
    }

    /// Waits until a group is equal again after cells came into it over a link that works one way. All other groups
    /// must have stayed equal.
    fn let_in_what_comes_late(&mut self, groups: &[Expected]) {
        let open = |group: &&Expected| group.is_open;
        self.world
            .run_until(self.plan.terms.interval / 2, M::QUIET_LIMIT, |world| {
                let mut open = groups.iter().filter(open);
                open.all(|group| check::is_equal(world, group))
            });
    }

    fn rounds(&self, took: Duration) -> f64 {
        took.as_secs_f64() / self.plan.terms.interval.as_secs_f64()
    }

    /// Repeats the orders to push to receivers, in vain for those that have joined.
    fn push_to_receivers(&mut self, groups: &[Expected]) -> Vec<(Place, usize)> {
        let mut pushed = Vec::new();
        for receiver in self.plan.receiver_places() {
            // A node that pushes cannot pass on slices that it has refused.
            let is_free = |place: &Place| !self.world.hosts[*place].is_limited();
            let Some(pusher) = self.members().into_iter().find(is_free) else {
                continue;
            };
            if self.world.hosts[receiver].process.is_none() || self.joined.contains(&receiver) {
                continue;
            }
            self.world.push_to(pusher, receiver);
            // Of each sketch that both have.
            let sketches = &self.world.process(receiver).setup.sketches;
            let of_pusher = groups.iter().enumerate().filter(|(_, group)| {
                group.places.contains(&pusher) && sketches.contains(&group.sketch)
            });
            pushed.extend(of_pusher.map(|(group, _)| (receiver, group)));
        }
        pushed
    }

    fn why_not(
        &self,
        groups: &[Expected],
        pushed: &[(Place, usize)],
        start: Duration,
        met: Duration,
    ) -> String {
        let took = self.world.now - start;
        let mut why = format!(
            "not equal after {took:?} of quiet, {met:?} ({:.1} rounds) of which all knew each other\n",
            self.rounds(met)
        );
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
                none(check::wrong_top(&self.world, group))?;
            }
        }
        none(check::excess(&self.world))?;
        for place in self.world.running() {
            let process = self.world.process(place);
            let setup = &process.setup;
            let mut copies = process.machine.copies();
            copies.extend(self.world.own_copies(place));
            let copies = self.world.as_answered(place, copies);
            for spec in &setup.sketches {
                let own = setup.slice_of(spec.number);
                let of_sketch = copies
                    .iter()
                    .filter(|(slice, _)| slice.sketch == spec.number);
                for key in &self.world.keys {
                    let copies = of_sketch.clone();
                    let right = estimate(copies, &own, spec.geometry, spec.family, key);
                    if process.machine.estimate(spec.number, key).count != right.count {
                        return Err(format!("{place}: its answers are not those of its cells"));
                    }
                }
            }
            if self.world.age(place) > READY_LIMIT && !process.machine.is_ready() {
                return Err(format!("{place} is not ready"));
            }
        }
        none(self.world.violations.first().cloned())
    }

    fn count_terms(&mut self) {
        let world = &mut self.world;
        let terms = &world.terms;
        let slices = world.truth.len();
        let refused = world.running().into_iter().filter(|&place| {
            let clock = world.clock(place);
            let mut numbers = world.hosts[place].sketches.iter().map(|spec| spec.number);
            numbers.any(|number| world.machine(place).says_incomplete(clock, number))
        });
        let refused = refused.count() as u64;
        let is_wide = |cells: &&Cells| cells.iter().any(|&cell| cell > u32::MAX.into());
        let wide = world.written.values().filter(is_wide).count() as u64;
        let has = |is: bool| u64::from(is);
        let faults = &mut world.network.faults;
        faults.slices_refused += refused;
        faults.binding_rates += has(terms.rate_bytes_per_s < Terms::default().rate_bytes_per_s);
        faults.small_bounds += has(terms.limits != Terms::default().limits);
        faults.long_digests += has(slices > terms.limits.digest_lines_a_round);
        faults.many_sections += has(terms.geometry.cells() > SECTION_CELLS);
        faults.wide_slices += wide;
        faults.several_sketches += has(!terms.others.is_empty());
        let told = |fate| {
            let adds = world.clients().iter().flat_map(|client| &client.adds);
            adds.filter(|add| add.told == Some(fate)).count() as u64
        };
        let (confirmed, uncertain) = (told(Ok(())), told(Err(Fate::Uncertain)));
        world.network.faults.adds_confirmed += confirmed;
        world.network.faults.adds_uncertain += uncertain;
        for place in world.running() {
            let repeats = world.machine(place).repeats();
            world.network.faults.adds_repeated += repeats;
        }
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
            take(slice.writer.0);
            take(root);
        }
    }
    hash.next()
}
