//! The state machine and a naive node, with a seeded network between them that loses, doubles, delays
//! and reorders, in virtual time.
#![allow(clippy::unwrap_used)]

mod limits;
mod restarts;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::*;
use rmbd_proto::Writer;
use rmbd_proto::compact::{
    BOUNDS_ANSWER_BYTES, BoundsAnswer, COOKIE_BYTES_MAX, Once, Problem, ReplyHead, encode_cookie,
    encode_info, write_bounds_answer, write_count_answer, write_hit_answer, write_reply_head,
};
use rmbd_testkit::random::Random;

const MS: Duration = Duration::from_millis(1);
const SETTINGS: Settings = Settings {
    timeout: Duration::from_secs(2),
    linger: MS,
};
const IDENTITY: ClientId = ClientId {
    client: 0xc11e,
    // Ids wrap on the way.
    first_id: u32::MAX - 100,
};

/// Counts exactly, and remembers every request that it applied.
#[derive(Debug)]
struct NaiveNode {
    boot: Boot,
    /// Earlier boots, of which it remembers what it applied.
    earlier: BTreeSet<Boot>,
    /// Requests that named one of them.
    named_earlier: u64,
    weight_max: u32,
    clients_max: usize,
    counts: BTreeMap<Vec<u8>, u64>,
    /// How often each key was added to, in all boots.
    applied: BTreeMap<Vec<u8>, u32>,
    clients: BTreeSet<u64>,
    seen: HashSet<(u64, u64)>,
    /// Of once-requests with an operation that takes.
    verdicts: BTreeMap<(u64, u64), compact::Verdict>,
    /// All it has besides the default one.
    sketches: Vec<SketchNumber>,
    highest: u64,
    repeats: u64,
    /// Whether new clients are to show a cookie.
    asks: bool,
    /// Where the client's datagrams come from now, and when: what a cookie is of.
    address: u8,
    epoch: u8,
    sent_back: u64,
    /// Datagrams with a cookie.
    shown: u64,
}

impl NaiveNode {
    fn new() -> Self {
        Self {
            boot: Boot(1),
            earlier: BTreeSet::new(),
            named_earlier: 0,
            weight_max: 1 << 20,
            clients_max: 10,
            counts: BTreeMap::new(),
            applied: BTreeMap::new(),
            clients: BTreeSet::new(),
            seen: HashSet::new(),
            verdicts: BTreeMap::new(),
            sketches: (1..4).map(SketchNumber).collect(),
            highest: 0,
            repeats: 0,
            asks: true,
            address: 0,
            epoch: 0,
            sent_back: 0,
            shown: 0,
        }
    }

    fn cookie(&self) -> Vec<u8> {
        let mut cookie = vec![0; if self.asks { COOKIE_BYTES_MAX } else { 0 }];
        for (byte, of) in cookie.iter_mut().zip([self.address, self.epoch]) {
            *byte = of;
        }
        cookie
    }

    fn is_proof(&self, cookie: Option<&[u8]>) -> bool {
        match cookie {
            _ if !self.asks => true,
            Some([address, epoch, ..]) => {
                *address == self.address && self.epoch.wrapping_sub(*epoch) <= 1
            }
            _ => false,
        }
    }

    /// Another start after a clean end, which forgets nothing.
    fn restart_cleanly(&mut self) {
        self.earlier.insert(self.boot);
        self.boot.0 += 1;
    }

    /// Another start after a crash.
    fn restart(&mut self) {
        self.boot.0 += 1;
        self.earlier.clear();
        self.counts.clear();
        self.clients.clear();
        self.seen.clear();
        self.verdicts.clear();
        self.highest = 0;
    }

    fn admit(&mut self, once: Once, cookie: Option<&[u8]>) -> Result<bool, Problem> {
        self.shown += u64::from(cookie.is_some());
        if once.boot != self.boot && !self.earlier.contains(&once.boot) {
            return Err(Problem::WrongBoot);
        }
        self.named_earlier += u64::from(once.boot != self.boot);
        if !self.clients.contains(&once.client) {
            if !self.is_proof(cookie) {
                self.sent_back += 1;
                return Err(Problem::AddressUnproven);
            }
            if self.clients.len() == self.clients_max {
                return Err(Problem::OnceTableFull);
            }
        }
        self.clients.insert(once.client);
        if once.sequence + ONCE_WINDOW <= self.highest {
            return Err(Problem::SequenceTooOld);
        }
        self.highest = self.highest.max(once.sequence);
        Ok(!self.seen.insert((once.client, once.sequence)))
    }

    fn add(&mut self, key: &[u8], weight: u64, repeated: bool) -> Result<(), Problem> {
        if weight > self.weight_max.into() {
            return Err(Problem::WeightTooLarge);
        }
        if !repeated {
            *self.counts.entry(key.to_vec()).or_default() += weight;
            *self.applied.entry(key.to_vec()).or_default() += 1;
        }
        Ok(())
    }

    fn count(&self, key: &[u8]) -> u64 {
        self.counts.get(key).copied().unwrap_or_default()
    }

    fn take(&mut self, datagram: &[u8]) -> Vec<u8> {
        let request = compact::request(datagram).unwrap();
        let mut head = ReplyHead {
            id: request.id,
            ..ReplyHead::default()
        };
        let mut answers = Vec::new();
        let admitted = (request.once).map(|once| self.admit(once, request.cookie));
        match admitted.transpose() {
            Err(problem) => {
                head.code = problem.code();
                if problem == Problem::AddressUnproven {
                    answers.extend(encode_cookie(&self.cookie().try_into().unwrap()));
                }
            }
            Ok(repeated) => {
                head.repeated = repeated == Some(true);
                self.repeats += u64::from(head.repeated);
                if !self.has(request.sketch) {
                    head.code = Problem::UnknownSketch.code();
                }
                let mut takes = 0;
                for operation in request.operations().filter(|_| head.code == 0) {
                    let operation = operation.unwrap();
                    takes += usize::from(operation.may_take());
                    assert!(
                        request.once.is_none() || takes <= 1,
                        "one verdict is remembered"
                    );
                    match self.perform(operation, &request, head.repeated) {
                        Ok(answer) => answers.extend(answer),
                        Err(problem) => {
                            head.code = problem.code();
                            break;
                        }
                    }
                    head.done += 1;
                }
            }
        }
        let mut reply = vec![0; 9];
        write_reply_head(head, reply.as_mut_array().unwrap());
        reply.extend(answers);
        assert!(reply.len() <= (3 * datagram.len()).min(1400));
        reply
    }

    fn perform(
        &mut self,
        operation: Operation<'_>,
        request: &compact::Request<'_>,
        repeated: bool,
    ) -> Result<Vec<u8>, Problem> {
        if let Some(answer) = self.perform_newer(operation, request, repeated) {
            return answer;
        }
        let key = &named(request.sketch, key_of(operation));
        let mut answer = [0; 9];
        match operation {
            Operation::Add { weight, .. } => {
                return self.add(key, weight, repeated).map(|()| Vec::new());
            }
            Operation::Count { .. } => write_count_answer(self.count(key), false, &mut answer),
            Operation::Hit { weight, limit, .. } => {
                if weight > 0 {
                    self.add(key, weight, repeated)?;
                }
                let count = self.count(key);
                write_hit_answer(count, false, count <= limit, &mut answer);
            }
            Operation::Bounds { .. } => {
                let mut answer = [0; BOUNDS_ANSWER_BYTES];
                let bounds = BoundsAnswer {
                    estimate: self.count(key),
                    incomplete: false,
                    likely_estimate: 0,
                    likely_lower: 0,
                    certain_lower: 0,
                    total_weight: self.counts.values().sum(),
                };
                write_bounds_answer(&bounds, &mut answer);
                return Ok(answer.to_vec());
            }
            Operation::Info => {
                return Ok(encode_info(&compact::Info {
                    boot: self.boot,
                    fingerprint: 0,
                    width: 1,
                    max_weight: self.weight_max,
                    depth: 1,
                    hash: 1,
                    version: b"",
                    cluster_port: 0,
                    cookie: &self.cookie(),
                    writer: Writer(0),
                }));
            }
            other => panic!("{other:?}"),
        }
        Ok(answer.to_vec())
    }
}

/// A key of a sketch, among those of all; of the default one it is the key alone.
fn named(sketch: SketchNumber, key: &[u8]) -> Vec<u8> {
    match sketch {
        SketchNumber::DEFAULT => key.to_vec(),
        SketchNumber(number) => [&number.to_le_bytes(), key].concat(),
    }
}

/// Empty where it has none, or several.
fn key_of(operation: Operation<'_>) -> &[u8] {
    match operation {
        Operation::Add { key, .. }
        | Operation::Count { key }
        | Operation::Hit { key, .. }
        | Operation::Bounds { key } => key,
        _ => b"",
    }
}

/// Per thousand, in each direction.
#[derive(Debug, Clone, Copy)]
struct Harm {
    lost: u64,
    doubled: u64,
    /// Delayed by up to 300 ms, longer than anybody's patience; all others by up to 2 ms.
    late: u64,
}

const NONE: Harm = Harm {
    lost: 0,
    doubled: 0,
    late: 0,
};
const MUCH: Harm = Harm {
    lost: 150,
    doubled: 80,
    late: 40,
};

#[derive(Debug, Clone, PartialEq)]
enum Result_ {
    Added,
    Answer(u64),
    /// Whether it is within, and the estimate.
    Verdict(bool, u64),
    Failed(Failure),
}

struct World {
    seed: u64,
    random: Random,
    harm: Harm,
    now: Duration,
    core: Core<u64>,
    node: NaiveNode,
    /// By arrival; to the node, or to the client.
    network: BTreeMap<(Duration, u64), (bool, Vec<u8>)>,
    sent: u64,
    results: BTreeMap<u64, Result_>,
    under_way_max: usize,
}

impl World {
    fn new(seed: u64, harm: Harm) -> Self {
        Self {
            seed,
            random: Random(seed),
            harm,
            now: Duration::from_secs(1),
            core: Core::new(SETTINGS, IDENTITY),
            node: NaiveNode::new(),
            network: BTreeMap::new(),
            sent: 0,
            results: BTreeMap::new(),
            under_way_max: 0,
        }
    }

    fn push<'q>(&mut self, question: impl Into<Question<'q>>, token: u64) {
        let now = self.now;
        self.core.push(question, token, || now).unwrap();
    }

    fn add(&mut self, token: u64, weight: u64) {
        let key = &token.to_le_bytes();
        self.push(Operation::Add { key, weight }, token);
    }

    fn post(&mut self, to_node: bool, datagram: &[u8]) {
        let fate = self.random.below(1000);
        let Harm {
            lost,
            doubled,
            late,
        } = self.harm;
        let copies = match fate {
            _ if fate < lost => 0,
            _ if fate < lost + doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay_us = match self.random.below(1000) < late {
                true => self.random.below(300_000),
                false => 100 + self.random.below(1_900),
            };
            self.sent += 1;
            let at = (self.now + Duration::from_micros(delay_us), self.sent);
            self.network.insert(at, (to_node, datagram.to_vec()));
        }
    }

    fn transmit(&mut self) {
        let mut train = Vec::new();
        while let Some(segment_bytes) = self.core.transmit(self.now, &mut train) {
            assert!(segment_bytes as usize <= DATAGRAM_BYTES && train.len() <= 65_507);
            for datagram in train.chunks(segment_bytes.into()) {
                self.post(true, datagram);
            }
        }
        self.under_way_max = self.under_way_max.max(self.core.sent.len());
    }

    /// Goes to the next thing that happens.
    fn step(&mut self) {
        self.transmit();
        let tick = self.core.next_tick();
        let arrival = self.network.first_key_value().map(|((at, _), _)| *at);
        let next = tick.into_iter().chain(arrival).min();
        let next = next.unwrap_or_else(|| panic!("nothing ever happens, seed {}", self.seed));
        self.now = self.now.max(next);
        let mut results = std::mem::take(&mut self.results);
        let seed = self.seed;
        let mut sink = |token, outcome: Outcome<'_>| {
            let result = match outcome {
                Ok(None) => Result_::Added,
                Ok(Some(Answer::Info(info))) => Result_::Answer(info.boot.0),
                Ok(Some(
                    Answer::Count { estimate, .. }
                    | Answer::Hit { estimate, .. }
                    | Answer::Bounds(BoundsAnswer { estimate, .. }),
                )) => Result_::Answer(estimate),
                Ok(Some(Answer::Window(window))) => Result_::Answer(window.estimate),
                Ok(Some(Answer::Limits(verdict) | Answer::HitByName(verdict))) => {
                    Result_::Verdict(!verdict.over, verdict.estimate)
                }
                Ok(Some(Answer::Pardon { credit })) => Result_::Answer(credit),
                Ok(Some(Answer::Sketches(sketches))) => Result_::Answer(sketches.total),
                Ok(Some(Answer::Top(top))) => Result_::Answer(top.head.listed),
                Ok(Some(other)) => panic!("{other:?} is nobody's answer"),
                Err(failure) => Result_::Failed(failure),
            };
            let before = results.insert(token, result);
            assert_eq!(before, None, "two outcomes of {token}, seed {seed}");
        };
        if arrival == Some(next) {
            let (_, (to_node, datagram)) = self.network.pop_first().unwrap();
            if to_node {
                let reply = self.node.take(&datagram);
                self.results = results;
                return self.post(false, &reply);
            }
            self.core.receive(&datagram, self.now, &mut sink);
        }
        self.core.tick(self.now, &mut sink);
        self.results = results;
    }

    fn run(&mut self) {
        self.core.flush();
        let end = self.now + Duration::from_secs(3_600);
        while !self.core.is_idle() {
            self.step();
            assert!(self.now < end, "never idle, seed {}", self.seed);
        }
    }

    /// What is still in the network arrives, too.
    fn settle(&mut self) {
        self.run();
        while self.network.values().any(|(to_node, _)| *to_node) {
            self.step();
        }
        assert!(self.core.flying.is_empty() || self.core.is_idle());
    }

    /// Whatever happened, no operation was applied twice, and what is said of each is true.
    fn check_adds(&self, adds: u64) -> (u64, u64) {
        let (mut confirmed, mut uncertain) = (0, 0);
        for token in 0..adds {
            let applied = self.node.applied.get(&token.to_le_bytes()[..]);
            let applied = applied.copied().unwrap_or_default();
            let context = format!("add {token}, seed {}", self.seed);
            match self.results.get(&token) {
                Some(Result_::Failed(Failure {
                    uncertain: true, ..
                })) => {
                    uncertain += 1;
                    assert!(applied <= 1, "{context}");
                }
                Some(Result_::Failed(_)) => assert_eq!(applied, 0, "{context}"),
                Some(_) => {
                    confirmed += 1;
                    assert_eq!(applied, 1, "{context}");
                }
                None => panic!("no outcome of {context}"),
            }
        }
        (confirmed, uncertain)
    }
}

#[test]
fn adds_through_any_harm_count_exactly_once() {
    const ADDS: u64 = 5_000;
    let mut repeats = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, MUCH);
        for token in 0..ADDS {
            world.add(token, 1 + token % 3);
            if world.random.below(100) == 0 {
                world.step();
            }
        }
        world.settle();
        assert_eq!(world.check_adds(ADDS), (ADDS, 0), "seed {seed}");
        let total: u64 = world.node.counts.values().sum();
        assert_eq!(total, (0..ADDS).map(|n| 1 + n % 3).sum::<u64>());
        repeats += world.node.repeats;
        assert!(world.core.copies.is_empty() && world.core.sent.is_empty());
    }
    assert!(repeats > 100, "hardly any harm was done: {repeats}");
}

#[test]
fn nothing_is_repeated_where_nothing_is_lost() {
    const ADDS: u64 = 100_000;
    let mut world = World::new(7, NONE);
    (0..ADDS).for_each(|token| world.add(token, 1));
    world.settle();
    assert_eq!(world.check_adds(ADDS), (ADDS, 0));
    // Datagrams come up to 2 ms later than others, so some look overtaken.
    let datagrams = world.sent;
    assert!(world.core.repeated() * 3 < datagrams, "{datagrams}");
    assert!(world.under_way_max <= recovery::WINDOW_MAX as usize);
}

#[test]
fn answers_come_back_to_those_who_asked() {
    for seed in 0..20 {
        let mut world = World::new(seed, MUCH);
        (0..300).for_each(|token| world.add(token, token));
        world.run();
        for token in 0..300_u64 {
            let key = &(token % 300).to_le_bytes();
            world.push(Operation::Count { key }, 1_000 + token);
            world.push(Operation::Bounds { key }, 2_000 + token);
            let hit = |weight| Operation::Hit {
                key,
                weight,
                limit: 10,
                window_ms: 0,
            };
            world.push(hit(0), 3_000 + token);
        }
        world.push(Operation::Info, 9_000);
        world.run();
        for token in 0..300 {
            for asked in [1_000, 2_000, 3_000] {
                let answer = &world.results[&(asked + token)];
                assert_eq!(*answer, Result_::Answer(token), "{asked} seed {seed}");
            }
        }
        assert_eq!(world.results[&9_000], Result_::Answer(1));
        // Adds once however often it is repeated, and is in its own answer.
        for token in 0..300_u64 {
            let key = &[&b"hit"[..], &token.to_le_bytes()].concat();
            let hit = Operation::Hit {
                key,
                weight: 5,
                limit: 4,
                window_ms: 0,
            };
            world.push(hit, 4_000 + token);
        }
        world.settle();
        for token in 4_000..4_300 {
            assert_eq!(world.results[&token], Result_::Answer(5), "seed {seed}");
        }
        let hits = world.node.applied.iter().filter(|(key, _)| key.len() > 8);
        assert!(hits.clone().count() == 300 && hits.clone().all(|(_, &times)| times == 1));
    }
}

#[test]
fn a_full_table_refuses_and_nothing_is_added() {
    let mut world = World::new(1, NONE);
    world.node.clients_max = 0;
    (0..100).for_each(|token| world.add(token, 1));
    world.settle();
    let refused = Result_::Failed(Failure {
        reason: Reason::Code(Problem::OnceTableFull.code()),
        uncertain: false,
    });
    assert!((0..100).all(|token| world.results[&token] == refused));
    assert_eq!(world.check_adds(100), (0, 0));
    // With lost copies nobody knows whether an earlier one had more luck.
    for seed in 0..20 {
        let mut world = World::new(seed, Harm { doubled: 0, ..MUCH });
        world.node.clients_max = 0;
        (0..500).for_each(|token| world.add(token, 1));
        for _ in 0..world.random.below(40) {
            if !world.core.is_idle() {
                world.step();
            }
        }
        world.node.clients_max = 1;
        world.settle();
        world.check_adds(500);
    }
}

#[test]
fn after_an_info_first_contact_takes_no_round_trip_more() {
    let mut world = World::new(1, NONE);
    world.add(0, 1);
    world.settle();
    assert_eq!(world.check_adds(1), (1, 0));
    // Info, add, and their replies.
    assert_eq!(
        (world.sent, world.node.shown, world.node.sent_back),
        (4, 1, 0)
    );
    // It is known: no cookie goes with the next one.
    world.add(1, 1);
    world.settle();
    assert_eq!((world.sent, world.node.shown), (6, 1));
    // A node that asks for none gives none, and gets none.
    let mut world = World::new(1, NONE);
    world.node.asks = false;
    world.add(0, 1);
    world.settle();
    assert_eq!((world.sent, world.node.shown), (4, 0));
}

/// A cookie that is too old, of an address that the client has left, or that the node has no use of any more.
#[test]
fn what_is_sent_back_goes_again_and_counts_once() {
    const ADDS: u64 = 20_000;
    let mut sent_back = 0;
    for seed in 0..30 {
        let harm = if seed % 3 == 0 { NONE } else { MUCH };
        let mut world = World::new(seed, harm);
        (0..ADDS).for_each(|token| world.add(token, 1));
        world.core.flush();
        let mut changes = 0;
        while !world.core.is_idle() {
            world.step();
            if changes < 10 && world.random.below(8) == 0 {
                changes += 1;
                match world.random.below(2) {
                    0 => world.node.address = world.random.below(3) as u8,
                    _ => world.node.epoch += 2,
                }
            }
        }
        world.settle();
        assert_eq!(world.check_adds(ADDS), (ADDS, 0), "seed {seed}");
        assert!(world.core.copies.is_empty() && world.core.sent.is_empty());
        sent_back += world.node.sent_back;
    }
    assert!(sent_back > 30, "hardly anything was sent back: {sent_back}");
}

#[test]
fn full_datagrams_that_are_sent_back_are_the_same_with_a_cookie() {
    let mut world = World::new(1, NONE);
    (0..1_000).for_each(|token| world.add(token, 1));
    // The boot is known, the cookie is of another address.
    while world.core.node.is_none() {
        world.step();
    }
    world.node.address = 9;
    world.settle();
    assert_eq!(world.check_adds(1_000), (1_000, 0));
    assert!(world.node.sent_back >= 4, "{}", world.node.sent_back);
    assert!(world.core.repeated() >= world.node.sent_back);
}

/// As behind a pool of addresses that gives each datagram another one.
#[test]
fn who_is_sent_back_for_ever_gives_up_without_a_flood() {
    let mut world = World::new(1, NONE);
    (0..3_000).for_each(|token| world.add(token, 1));
    world.core.flush();
    while !world.core.is_idle() {
        world.step();
        world.node.address = world.node.address.wrapping_add(1);
    }
    let failed = Result_::Failed(Failure {
        reason: Reason::Code(Problem::AddressUnproven.code()),
        uncertain: true,
    });
    assert!((0..3_000).all(|token| world.results[&token] == failed));
    assert_eq!(world.check_adds(3_000), (0, 3_000));
    // Two seconds: some hundred copies of each datagram, not as many as round trips.
    let datagrams = world.core.next_copy / (3_000 / 100);
    assert!(datagrams < 250, "{datagrams}");
    world.node.asks = false;
    world.add(3_000, 1);
    world.settle();
    assert_eq!(world.results[&3_000], Result_::Added);
}

#[test]
fn silence_ends_with_what_is_known() {
    // Nobody at all: nothing was sent but the question for the boot.
    let dead = Harm { lost: 1000, ..NONE };
    let mut world = World::new(1, dead);
    (0..500).for_each(|token| world.add(token, 1));
    world.push(Operation::Count { key: b"a" }, 1_000);
    let start = world.now;
    world.run();
    assert_eq!(world.check_adds(500), (0, 0));
    let silence = |uncertain| {
        Result_::Failed(Failure {
            reason: Reason::Silence,
            uncertain,
        })
    };
    assert_eq!(world.results[&0], silence(false));
    assert_eq!(world.results[&1_000], silence(false));
    let took = world.now - start;
    assert!(took <= SETTINGS.timeout + 200 * MS, "{took:?}");
    assert!(!world.core.has_heard());
    // Asked again less and less often.
    assert!(world.core.next_copy < 30, "{}", world.core.next_copy);

    // A node that falls silent: what was under way is uncertain, the rest was not sent.
    let mut world = World::new(2, NONE);
    (0..100_000).for_each(|token| world.add(token, 1));
    while world.results.len() < 1_000 {
        world.step();
    }
    world.harm = dead;
    world.settle();
    let (confirmed, uncertain) = world.check_adds(100_000);
    assert!(confirmed >= 1_000 && uncertain > 0 && confirmed + uncertain < 100_000);
    let heavy = world
        .results
        .values()
        .filter(|r| **r == silence(true))
        .count() as u64;
    assert_eq!(heavy, uncertain);

    // And comes back.
    world.harm = NONE;
    world.add(100_000, 1);
    world.settle();
    assert_eq!(world.results[&100_000], Result_::Added);
}

#[test]
fn operations_behind_a_refused_one_are_sent_again() {
    for harm in [NONE, MUCH] {
        let mut world = World::new(3, harm);
        world.node.weight_max = 10;
        for token in 0..200 {
            world.add(token, if token % 50 == 7 { 11 } else { 10 });
        }
        world.settle();
        let refused = Result_::Failed(Failure {
            reason: Reason::Code(Problem::WeightTooLarge.code()),
            uncertain: false,
        });
        for token in 0..200 {
            let expected = match token % 50 {
                7 => &refused,
                _ => &Result_::Added,
            };
            assert_eq!(world.results[&token], *expected, "{token}");
        }
        assert_eq!(world.check_adds(200), (196, 0));
        // Known by now.
        let add = Operation::Add {
            key: b"a",
            weight: 11,
        };
        let refused = world.core.push(add, 0, || Duration::ZERO);
        let too_large = Unsendable::WeightTooLarge {
            weight: 11,
            weight_max: 10,
        };
        assert_eq!(refused, Err(too_large));
    }
}

#[test]
fn keys_are_judged_before_they_are_sent() {
    let mut world = World::new(1, NONE);
    let key = vec![b'k'; 1025];
    let refused = world.core.push(Operation::Count { key: &key }, 0, || MS);
    assert_eq!(refused, Err(Unsendable::KeyTooLong { bytes: 1025 }));
    // The longest with the longest numbers fits, first and later.
    for token in 0..10 {
        let hit = Operation::Hit {
            key: &key[1..],
            weight: u64::MAX,
            limit: u64::MAX,
            window_ms: u64::MAX,
        };
        world.core.push(hit, token, || MS).unwrap();
    }
    world.settle();
    assert_eq!(world.results.len(), 10);
}

#[test]
fn a_lone_operation_leaves_after_the_linger() {
    let mut world = World::new(1, NONE);
    world.add(0, 1);
    let mut train = Vec::new();
    let start = world.now;
    assert_eq!(world.core.transmit(start, &mut train), None);
    assert_eq!(world.core.next_tick(), Some(start + MS));
    world
        .core
        .tick(start + MS, &mut |_, _| panic!("no outcome yet"));
    // The question for the boot goes first.
    assert!(world.core.transmit(start + MS, &mut train).is_some());
    assert_eq!(world.core.waiting(), 1);
    assert_eq!(world.core.transmit(start + MS, &mut train), None);
}

#[test]
fn what_is_abandoned_is_uncertain_only_if_it_was_sent() {
    let mut world = World::new(1, NONE);
    world.node.clients_max = 1;
    (0..60_000).for_each(|token| world.add(token, 1));
    while world
        .core
        .flying
        .values()
        .all(|f| f.batch.sequence.is_none())
    {
        world.step();
    }
    world.add(60_000, 1);
    let mut uncertain = BTreeSet::new();
    let mut all = world.results.keys().copied().collect::<BTreeSet<_>>();
    world
        .core
        .abandon(Reason::Abandoned, &mut |token, outcome| {
            assert!(all.insert(token));
            if outcome.unwrap_err().uncertain {
                uncertain.insert(token);
            }
        });
    assert!(world.core.is_idle());
    assert_eq!(all.len(), 60_001);
    assert!(!uncertain.is_empty() && !uncertain.contains(&60_000));
    // Late replies find nothing.
    let results = world.results.len();
    while !world.network.is_empty() {
        world.step();
    }
    assert_eq!(world.results.len(), results);
}

#[test]
fn strange_replies_are_ignored() {
    let mut world = World::new(1, NONE);
    world.push(Operation::Count { key: b"a" }, 0);
    world.core.flush();
    let mut train = Vec::new();
    world.core.transmit(world.now, &mut train).unwrap();
    let good = world.node.take(&train);
    let mut nothing = |_, _: Outcome<'_>| panic!("an outcome");
    for cut in 0..good.len() {
        world.core.receive(&good[..cut], world.now, &mut nothing);
    }
    let mut more = good.clone();
    more.extend([3; 9]);
    world.core.receive(&more, world.now, &mut nothing);
    // Every byte but the flags, the estimate and what makes the code one of a refusal.
    for at in (0..good.len()).filter(|at| ![1, 8].contains(at) && *at < 10) {
        let mut other = good.clone();
        other[at] ^= 0x11;
        world.core.receive(&other, world.now, &mut nothing);
    }
    let mut answered = 0;
    for _ in 0..2 {
        let mut sink = |_, outcome: Outcome<'_>| {
            assert!(outcome.is_ok());
            answered += 1;
        };
        world.core.receive(&good, world.now, &mut sink);
    }
    assert_eq!(answered, 1);
}
