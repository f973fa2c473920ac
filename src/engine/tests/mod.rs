//! Sessions against a naive node: a map that counts exactly, and a set of all requests that were applied.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

mod denied;
mod limits;
mod restart;

use super::*;
use rmbd_proto::{SketchName, SketchNumber};
use rmbd_sketch::MAX_WEIGHT;
use rmbd_store::once::WINDOW;
use rmbd_store::{Estimate, NamedSketch};
use rmbd_testkit::random::random;

const BOOT: Boot = Boot(0xB007);
const MAX: u32 = 1000;
const FIRST: Admitted = Admitted::to(SketchIndex::DEFAULT);
const XXH3: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };

fn engine(width: u64, family: HashFamily, max_weight: u32) -> Arc<Engine> {
    engine_of(&[width], family, max_weight)
}

/// An engine of as many sketches as there are widths.
fn engine_of(widths: &[u64], family: HashFamily, max_weight: u32) -> Arc<Engine> {
    let sketches = widths.iter().enumerate().map(|(at, &width)| {
        let geometry = Geometry::new(width, 4).unwrap();
        let replica = Arc::new(Replica::try_new(geometry, family, 1).unwrap());
        let name = match at {
            0 => SketchName::default(),
            _ => format!("sketch-{at}").parse().unwrap(),
        };
        NamedSketch::new(name, replica)
    });
    let registry = Registry::new(sketches.collect()).unwrap();
    let options = EngineOptions {
        boot: BOOT,
        earlier: BootChain::default(),
        max_weight: Weight::new(max_weight).unwrap(),
        once: Arc::new(OnceTable::new(100, &[7; 32])),
    };
    Arc::new(Engine::new(registry, &options))
}

fn address(client: u64) -> IpAddr {
    [192, 0, client as u8, 7].into()
}

fn numbered(client: u64, sequence: u64, cookie: Option<&[u8]>) -> Numbered<'_> {
    let caller = Caller {
        client,
        ip: address(client),
        cookie,
    };
    Numbered {
        boot: BOOT,
        caller,
        sequence,
    }
}

/// What a naive node knows of an exactly-once client.
#[derive(Debug, Default)]
struct Client {
    highest: u64,
    applied: HashSet<u64>,
}

impl Client {
    fn admit(&mut self, sequence: u64) -> Result<Turn, Refusal> {
        self.highest = self.highest.max(sequence);
        if self.highest - sequence >= WINDOW {
            return Err(Refusal::SequenceTooOld);
        }
        Ok(match self.applied.insert(sequence) {
            true => Turn::First,
            false => Turn::Repeat,
        })
    }
}

/// What an answer has to be, in the order of the questions.
#[derive(Debug, Clone, Copy)]
struct Expected {
    token: u64,
    key: Key,
    /// Added to the key by this session before: no less and no more may be seen.
    own: u64,
    /// And what others had added and shown before.
    shown: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Count,
    Hit { limit: u64 },
    Bounds { total_weight: u64, error: u64 },
}

impl Expected {
    /// `added` is what others have added meanwhile, shown or not.
    fn check(self, token: u64, answer: Answer, added: u64) {
        assert_eq!(token, self.token, "{self:?}: {answer:?}");
        let Estimate {
            count, incomplete, ..
        } = answer.estimate();
        // So few keys never share all cells.
        let possible = self.own + self.shown..=self.own + added;
        assert!(
            possible.contains(&count) && !incomplete,
            "{self:?}: {answer:?}"
        );
        match (self.kind, answer) {
            (Kind::Count, Answer::Count(_)) => {}
            (Kind::Hit { limit }, Answer::Hit { verdict, .. }) => {
                assert_eq!(verdict == Verdict::Within, count <= limit, "{self:?}");
            }
            (
                Kind::Bounds {
                    total_weight,
                    error,
                },
                Answer::Bounds(bounds),
            ) => {
                assert_eq!(bounds.total_weight, total_weight, "{self:?}");
                assert_eq!(
                    bounds.certain_lower,
                    count.saturating_sub(error),
                    "{self:?}"
                );
            }
            _ => panic!("{self:?}: {answer:?}"),
        }
    }
}

/// A session and what a naive one knows.
struct Pair {
    session: Session<u64>,
    expected: VecDeque<Expected>,
    tally: Tally,
}

/// The same bytes are another key in another sketch.
type Key = (SketchIndex, u64);

/// By session and key: all that was added, and what of it others must see.
struct Truth {
    added: Vec<BTreeMap<Key, u64>>,
    shown: Vec<BTreeMap<Key, u64>>,
}

impl Truth {
    fn own(&self, at: usize, key: Key) -> u64 {
        self.added[at].get(&key).copied().unwrap_or_default()
    }

    fn others(of: &[BTreeMap<Key, u64>], at: usize, key: Key) -> u64 {
        let others = of.iter().enumerate().filter(|(other, _)| *other != at);
        others.filter_map(|(_, weights)| weights.get(&key)).sum()
    }

    /// N of a sketch as one session sees it: its own adds, and what others have shown.
    fn total_weight(&self, at: usize, sketch: SketchIndex) -> u64 {
        let of = |from: &Vec<BTreeMap<Key, u64>>, session: usize| {
            let of_sketch = from[session].iter().filter(|((it, _), _)| *it == sketch);
            of_sketch.map(|(_, weight)| weight).sum::<u64>()
        };
        (0..self.added.len())
            .map(|session| match session == at {
                true => of(&self.added, session),
                false => of(&self.shown, session),
            })
            .sum()
    }
}

struct World {
    state: u64,
    engine: Arc<Engine>,
    pairs: Vec<Pair>,
    truth: Truth,
    clients: HashMap<u64, Client>,
    now: Duration,
    tokens: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut state = seed;
        // Direct and pipelined, with hashes that say all and with others.
        let sketches = 1 + random(&mut state) as usize % 3;
        let widths: Vec<u64> = (0..sketches)
            .map(|_| 1 << [12, 17][random(&mut state) as usize % 2])
            .collect();
        let family = [XXH3, HashFamily::Fnv][random(&mut state) as usize % 2];
        let engine = engine_of(&widths, family, MAX);
        let sessions = 1 + random(&mut state) as usize % 2;
        let pair = |_| Pair {
            session: Session::new(Arc::clone(&engine)),
            expected: VecDeque::new(),
            tally: Tally::default(),
        };
        Self {
            state,
            pairs: (0..sessions).map(pair).collect(),
            engine,
            truth: Truth {
                added: vec![BTreeMap::new(); sessions],
                shown: vec![BTreeMap::new(); sessions],
            },
            clients: HashMap::new(),
            now: Duration::from_secs(1000),
            tokens: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        random(&mut self.state) % below
    }

    /// A request of one client, or of somebody who does not ask for exactly-once, to one session.
    fn request(&mut self) {
        let at = self.draw(self.pairs.len() as u64) as usize;
        let turn = match self.draw(2) {
            0 => Some(Turn::First),
            _ => self.admit(at),
        };
        if let Some(turn) = turn {
            for _ in 0..self.draw(5) {
                self.operation(at, turn);
            }
        }
        if self.draw(4) == 0 {
            self.finish(at);
        }
        let later = self.draw(20);
        self.now += Duration::from_millis(later);
    }

    /// Clients go on by one, by many, and repeat what they have sent.
    fn admit(&mut self, at: usize) -> Option<Turn> {
        let id = self.draw(5);
        let known = self.clients.get(&id).map(|client| client.highest);
        let sequence = match (known, self.draw(8)) {
            (Some(highest), 0) => highest + self.draw(2 * WINDOW),
            (Some(highest), 1..4) => highest.saturating_sub(self.draw(WINDOW + 10)),
            (Some(highest), 4..6) => highest,
            (highest, _) => highest.map_or(0, |highest| highest + 1),
        };
        let cookie = self.engine.once().cookie(address(id), self.now);
        let shows = self.draw(2) == 0;
        let request = numbered(id, sequence, shows.then_some(&cookie[..]));
        let (now, is_other_start) = (self.now, self.draw(10) == 0);
        let pair = &mut self.pairs[at];
        if is_other_start {
            let request = Numbered {
                boot: Boot(BOOT.0 + 1),
                ..request
            };
            assert_eq!(pair.session.admit(request, now), Err(Refusal::WrongBoot));
            return None;
        }
        let admitted = pair.session.admit(request, now);
        if known.is_none() && !shows {
            assert_eq!(admitted, Err(Refusal::AddressUnproven));
            assert_eq!(pair.session.cookie(address(id), now), cookie);
            return None;
        }
        let expected = self.clients.entry(id).or_default().admit(sequence);
        assert_eq!(admitted, expected, "client {id}, sequence {sequence}");
        pair.tally.repeats += u64::from(admitted == Ok(Turn::Repeat));
        admitted.ok()
    }

    fn operation(&mut self, at: usize, turn: Turn) {
        let sketches = self.engine.registry().sketches().len() as u64;
        let sketch = self.draw(sketches) as usize;
        let (sketch, named) = self.engine.registry().iter().nth(sketch).unwrap();
        let opened = self.pairs[at].session.open(named.name.number());
        assert_eq!(opened, Ok(sketch));
        let key = (sketch, self.draw(20));
        match self.draw(6) {
            0..3 => self.add(at, turn, key),
            3 => self.hit(at, turn, key),
            4 => self.count(at, key),
            _ => self.bounds(at, key),
        }
    }

    /// Small ones, those at the limit, and those above it.
    fn weight(&mut self, at: usize) -> Option<(u64, Allowed)> {
        let max = u64::from(MAX);
        let weight = match self.draw(12) {
            0 => 0,
            1 => max,
            2 => max + 1,
            3 => [u32::MAX.into(), 1 << 32, u64::MAX][self.draw(3) as usize],
            _ => self.draw(5),
        };
        let weighed = self.pairs[at].session.weigh(weight);
        assert_eq!(weighed.is_ok(), weight <= max, "{weight}");
        Some((weight, weighed.ok()?))
    }

    fn add(&mut self, at: usize, turn: Turn, key: Key) {
        let Some((weight, allowed)) = self.weight(at) else {
            return;
        };
        self.note(at, turn, key, weight);
        self.pairs[at].tally.add += u64::from(turn == Turn::First);
        let (session, mut answer) = self.parts(at);
        let (sketch, key) = (key.0, key.1.to_le_bytes());
        let added = session.add(
            Admitted {
                turn,
                ..Admitted::to(sketch)
            },
            &key,
            allowed,
            &mut answer,
        );
        added.unwrap();
    }

    fn hit(&mut self, at: usize, turn: Turn, key: Key) {
        let Some((weight, allowed)) = self.weight(at) else {
            return;
        };
        self.note(at, turn, key, weight);
        // Near what there is, so that both verdicts come.
        let near = self.truth.own(at, key) + self.draw(3);
        let limit = near.saturating_sub(1);
        let token = self.expect(at, key, Kind::Hit { limit });
        self.pairs[at].tally.hit += 1;
        let (session, mut answer) = self.parts(at);
        let limit = Limit::total(limit);
        let (sketch, key) = (key.0, key.1.to_le_bytes());
        let hit = session.hit(
            Admitted {
                turn,
                ..Admitted::to(sketch)
            },
            &key,
            allowed,
            limit,
            token,
            &mut answer,
        );
        hit.unwrap();
    }

    fn count(&mut self, at: usize, key: Key) {
        let token = self.expect(at, key, Kind::Count);
        self.pairs[at].tally.count += 1;
        let (session, mut answer) = self.parts(at);
        session.count(key.0, &key.1.to_le_bytes(), token, &mut answer);
    }

    fn bounds(&mut self, at: usize, key: Key) {
        let total_weight = self.truth.total_weight(at, key.0);
        let epsilon = self
            .engine
            .registry()
            .replica(key.0)
            .own()
            .geometry()
            .epsilon();
        let kind = Kind::Bounds {
            total_weight,
            error: (epsilon * total_weight as f64).ceil() as u64,
        };
        let token = self.expect(at, key, kind);
        self.pairs[at].tally.bounds += 1;
        let (session, mut answer) = self.parts(at);
        session.bounds(key.0, &key.1.to_le_bytes(), token, &mut answer);
    }

    fn note(&mut self, at: usize, turn: Turn, key: Key, weight: u64) {
        if turn == Turn::First {
            *self.truth.added[at].entry(key).or_default() += weight;
        }
    }

    /// The token of a question that is asked now.
    fn expect(&mut self, at: usize, key: Key, kind: Kind) -> u64 {
        self.tokens += 1;
        self.pairs[at].expected.push_back(Expected {
            token: self.tokens,
            key,
            own: self.truth.own(at, key),
            shown: Truth::others(&self.truth.shown, at, key),
            kind,
        });
        self.tokens
    }

    fn parts(&mut self, at: usize) -> (&mut Session<u64>, impl FnMut(u64, Answer)) {
        let (pair, added) = (&mut self.pairs[at], &self.truth.added);
        let expected = &mut pair.expected;
        let answer = move |token, answer| {
            // Answers of one sketch come in the order of the questions.
            let of_token = |it: &Expected| it.token == token;
            let place = expected.iter().position(of_token).unwrap();
            let sketch = expected[place].key.0;
            let first = expected.iter().position(|it| it.key.0 == sketch);
            assert_eq!(first, Some(place), "{expected:?}");
            let expected = expected.remove(place).unwrap();
            expected.check(token, answer, Truth::others(added, at, expected.key));
        };
        (&mut pair.session, answer)
    }

    fn finish(&mut self, at: usize) {
        let (session, mut answer) = self.parts(at);
        session.finish(&mut answer);
        drop(answer);
        self.truth.shown[at] = self.truth.added[at].clone();
        let pair = &self.pairs[at];
        assert!(pair.expected.is_empty(), "{:?}", pair.expected);
        assert_eq!(*pair.session.tally(), pair.tally);
    }

    /// All is exact at the end.
    fn check(&mut self) {
        (0..self.pairs.len()).for_each(|at| self.finish(at));
        for (sketch, NamedSketch { replica, .. }) in self.engine.registry().iter() {
            let mut all = 0;
            for key in 0..20_u64 {
                let weights = self.truth.added.iter();
                let weights = weights.filter_map(|weights| weights.get(&(sketch, key)));
                let weight = weights.sum::<u64>();
                assert_eq!(replica.estimate(&key.to_le_bytes()).count, weight, "{key}");
                all += weight;
            }
            assert_eq!(replica.total_weight(), all);
        }
    }
}

#[test]
fn sessions_do_what_a_naive_node_does() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.request();
        }
        world.check();
    }
}

#[test]
fn a_weight_is_taken_up_to_the_engines_limit_and_that_of_an_add() {
    for max in [0, 1, MAX, MAX_WEIGHT] {
        let session = Session::<()>::new(engine(16, XXH3, max));
        for weight in [0, 1, u64::from(max), u64::from(max) + 1, u64::MAX] {
            let expected = weight <= u64::from(max);
            assert_eq!(session.weigh(weight).is_ok(), expected, "{weight} of {max}");
        }
    }
}

#[test]
fn only_sketch_0_is_here() {
    let session = Session::<()>::new(engine(16, XXH3, MAX));
    assert_eq!(
        session.open(SketchNumber::DEFAULT),
        Ok(SketchIndex::DEFAULT)
    );
    for number in [1, u32::MAX].map(SketchNumber) {
        assert_eq!(session.open(number), Err(Refusal::UnknownSketch));
    }
}

/// What is provided is there, whatever others take meanwhile; what is refused has changed nothing.
#[test]
fn a_request_is_provided_for_as_a_whole() {
    let engine = engine(16, XXH3, MAX);
    let limit = || panic!("its bound was small enough");
    let mut sessions = [(); 3].map(|()| Session::<()>::new(Arc::clone(&engine)));
    for session in &mut sessions {
        assert_eq!(
            session.provide(SketchIndex::DEFAULT, 1 << 20, limit),
            Ok(())
        );
    }
    let [one, other, _] = &mut sessions;
    assert_eq!(
        one.provide(SketchIndex::DEFAULT, u64::MAX, || REQUEST_WEIGHT_MAX + 1),
        Err(Refusal::TooHeavy)
    );
    assert_eq!(
        one.provide(SketchIndex::DEFAULT, u64::MAX, || REQUEST_WEIGHT_MAX),
        Ok(())
    );
    // All that is left goes to the other one.
    let mut added = 0;
    while other
        .add(FIRST, b"other", Allowed(Weight::MAX), &mut |(), _| {})
        .is_ok()
    {
        added += u64::from(MAX_WEIGHT);
    }
    let exhausted = Err(Refusal::Exhausted(Exhausted));
    assert_eq!(
        other.provide(SketchIndex::DEFAULT, 1 << 20, || 1 << 20),
        exhausted
    );
    assert_eq!(other.tally().add, added >> 20);
    for _ in 0..REQUEST_WEIGHT_MAX >> 20 {
        let weight = Allowed(Weight::MAX);
        assert_eq!(one.add(FIRST, b"one", weight, &mut |(), _| {}), Ok(()));
    }
    sessions
        .iter_mut()
        .for_each(|session| session.finish(&mut |(), _| {}));
    let replica = engine.replica();
    assert_eq!(replica.estimate(b"one").count, REQUEST_WEIGHT_MAX);
    assert_eq!(replica.estimate(b"other").count, added);
    assert_eq!(replica.total_weight(), added + REQUEST_WEIGHT_MAX);
}

#[test]
fn what_a_session_had_under_way_is_there_when_it_is_gone() {
    let engine = engine(1 << 18, XXH3, MAX);
    let mut session = Session::<()>::new(Arc::clone(&engine));
    for key in 0..100_u8 {
        let added = session.add(FIRST, &[key], Allowed::ONE, &mut |(), _| {});
        added.unwrap();
    }
    drop(session);
    assert_eq!(engine.replica().total_weight(), 100);
    assert!((0..100_u8).all(|key| engine.replica().estimate(&[key]).count == 1));
}

#[test]
fn a_cookie_is_of_its_address_and_time() {
    let engine = engine(16, XXH3, MAX);
    let mut session = Session::<()>::new(Arc::clone(&engine));
    for (client, seconds) in [(1, 0), (1, 0), (2, 0), (2, 60), (1, 60), (1, 61)] {
        let now = Duration::from_secs(seconds);
        let cookie = engine.once().cookie(address(client), now);
        assert_eq!(session.cookie(address(client), now), cookie);
    }
}
