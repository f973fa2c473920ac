//! Limits in windows: a clock by hand, snapshots as a control thread takes them, and an exact list of adds.

use super::*;
use crate::engine::limits::{Amount, KeyPattern, KeySet, LimitTally, Override};
use rmbd_store::{Reading, ReplicaOptions, Slices, Way, WindowPlan};

const STEP: Duration = Duration::from_secs(5);
const MINUTE_MS: u64 = 60_000;

/// An engine of two sketches with a window of a minute in twelve steps, and the writers of their snapshots.
struct Limits {
    engine: Arc<Engine>,
    session: Session<()>,
    slices: Vec<Slices>,
    now: Duration,
}

impl Limits {
    fn new() -> Self {
        Self::with(1 << 12, Way::Direct)
    }

    fn with(width: u64, way: Way) -> Self {
        let geometry = Geometry::new(width, 4).unwrap();
        let named = |name: &str| {
            let window = WindowPlan::new(MINUTE_MS, None, None, geometry, XXH3).unwrap();
            let options = ReplicaOptions {
                windows: vec![window],
                audit: true,
                ..ReplicaOptions::new(geometry, XXH3)
            };
            let replica = Arc::new(Replica::try_open(options).unwrap());
            NamedSketch::new(name.parse().unwrap(), replica)
        };
        let sketches = vec![named("default"), named("logins")];
        let slices = sketches.iter().map(|sketch| Arc::clone(&sketch.replica));
        let slices = slices.map(|replica| Slices::try_new(replica).unwrap());
        let slices = slices.collect();
        let options = EngineOptions {
            boot: BOOT,
            earlier: BootChain::default(),
            max_weight: Weight::new(MAX).unwrap(),
            once: Arc::new(OnceTable::new(100, &[7; 32])),
        };
        let registry = Registry::new(sketches).unwrap();
        let engine = Arc::new(Engine::new(registry, &options));
        Self {
            session: Session::with_way(Arc::clone(&engine), way),
            engine,
            slices,
            now: Duration::ZERO,
        }
    }

    /// With another session beside, whose answers carry tokens.
    fn with_token<T: Copy>(self, way: Way) -> (Self, Session<T>) {
        let engine = Arc::clone(&self.engine);
        let session = Session::with_way(engine, way);
        (self, session)
    }

    /// Time goes on, and snapshots are taken when they are due.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due = self.slices.iter().filter_map(Slices::next_snapshot).min();
            let Some(due) = due.filter(|&due| due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            let clock = || due;
            for slices in &mut self.slices {
                while slices.snapshot(&clock, usize::MAX).is_some() {}
            }
        }
        self.now = until;
    }

    fn sketch(&self, name: &str) -> SketchIndex {
        self.engine.registry().by_name(name).unwrap()
    }

    fn part<'k>(&self, sketch: &str, key: &'k [u8], limit: u64, window_ms: u64) -> LimitPart<'k> {
        let sketch = self.sketch(sketch);
        let window = self
            .session
            .window(sketch, window_ms, Reading::Smooth, || self.now);
        LimitPart {
            sketch,
            key,
            weight: Allowed::ONE,
            limit,
            window: window.unwrap(),
            credit: 0,
        }
    }

    fn ask(&mut self, admitted: Admitted, parts: &[LimitPart<'_>], takes: bool) -> LimitsAnswer {
        self.try_ask(admitted, parts, takes).unwrap()
    }

    fn try_ask(
        &mut self,
        admitted: Admitted,
        parts: &[LimitPart<'_>],
        takes: bool,
    ) -> Result<LimitsAnswer, Refusal> {
        let mut all = LimitParts::default();
        assert!(parts.iter().all(|&part| all.push(part)));
        let mut told = None;
        let mut answer = |(), answer| told = Some(answer);
        let asked = self.session.limits(admitted, &all, takes, (), &mut answer);
        self.session.finish(&mut answer);
        asked?;
        match told {
            Some(Answer::Limits(told)) => Ok(told),
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, key: &[u8], limit: u64) -> LimitsAnswer {
        let part = self.part("default", key, limit, MINUTE_MS);
        self.ask(FIRST, &[part], true)
    }

    fn hit_by_name(&mut self, name: &str, key: &[u8]) -> Result<LimitsAnswer, Refusal> {
        let (now, mut told) = (self.now, None);
        let mut answer = |(), answer| told = Some(answer);
        let named = (name.as_bytes(), key);
        let asked = (self.session).hit_by_name(FIRST, named, 1, || now, (), &mut answer);
        self.session.finish(&mut answer);
        asked?;
        match told {
            Some(Answer::NamedLimit(told)) => Ok(told),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_take_within_the_limit_is_counted_and_another_one_is_told_when_to_come_back() {
    let mut limits = Limits::new();
    limits.wait(2 * STEP);
    for left in (0..5).rev() {
        let told = limits.take(b"key", 5);
        assert!(!told.is_over);
        assert_eq!((told.estimate, told.remaining), (5 - left, left));
        limits.wait(Duration::from_secs(1));
    }
    let told = limits.take(b"key", 5);
    assert!(told.is_over && !told.unsure);
    assert_eq!((told.estimate, told.remaining), (5, 0));
    let wait = told.retry_after.unwrap();
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_secs(66),
        "{wait:?}"
    );
    // Whoever waits that long and is alone gets in; what was refused was not counted.
    limits.wait(wait);
    let told = limits.take(b"key", 5);
    assert!(!told.is_over, "{told:?}");
    // More than the limit never gets in.
    let never = limits.take(b"key", 0);
    assert_eq!((never.is_over, never.retry_after), (true, None));
}

#[test]
fn of_several_limits_all_are_kept_or_nothing_is_taken() {
    let mut limits = Limits::new();
    for n in 1..=3_u64 {
        let parts = [
            limits.part("default", b"10.0.0.7", 100, MINUTE_MS),
            limits.part("default", b"10.0.0.7", 1_000, 0),
            limits.part("logins", b"alice", 3, MINUTE_MS),
        ];
        let told = limits.ask(FIRST, &parts, true);
        // The key that two of them name is added once.
        assert_eq!((told.is_over, told.part, told.remaining), (false, 2, 3 - n));
        let registry = limits.engine.registry();
        let count = |sketch: &str, key: &[u8]| {
            let sketch = registry.by_name(sketch).unwrap();
            registry.replica(sketch).estimate(key).count
        };
        assert_eq!(
            (count("default", b"10.0.0.7"), count("logins", b"alice")),
            (n, n)
        );
    }
    for _ in 0..5 {
        let parts = [
            limits.part("default", b"10.0.0.7", 100, MINUTE_MS),
            limits.part("logins", b"alice", 3, MINUTE_MS),
        ];
        let told = limits.ask(FIRST, &parts, true);
        assert_eq!((told.is_over, told.part, told.estimate), (true, 1, 3));
    }
    let registry = limits.engine.registry();
    assert_eq!(
        registry
            .replica(SketchIndex::DEFAULT)
            .estimate(b"10.0.0.7")
            .count,
        3
    );
    // What counts always does so, also where it is over.
    let parts = [limits.part("logins", b"alice", 3, MINUTE_MS)];
    let told = limits.ask(FIRST, &parts, false);
    assert_eq!((told.is_over, told.estimate, told.remaining), (true, 4, 0));
}

/// A repeat that comes while the first one waits for its cells makes it be decided.
#[test]
fn a_repeat_of_a_take_that_waits_gets_its_verdict() {
    for way in [Way::Direct, Way::Pipelined] {
        let mut limits = Limits::with(1 << 12, way);
        let cookie = limits.session.cookie(address(1), limits.now);
        let mut session = Session::<u32>::with_way(Arc::clone(&limits.engine), way);
        let part = limits.part("default", b"key", 2, MINUTE_MS);
        let mut answers = Vec::new();
        let mut token = 0;
        for sequence in 1..=4 {
            for _ in 0..3 {
                let request = numbered(1, sequence, Some(&cookie));
                let admitted = Admitted {
                    turn: session.admit(request, limits.now).unwrap(),
                    once: Some((1, sequence)),
                    ..FIRST
                };
                let mut parts = LimitParts::default();
                assert!(parts.push(part));
                let mut answer = |token: u32, answer| answers.push((token, answer));
                session
                    .limits(admitted, &parts, true, token, &mut answer)
                    .unwrap();
                token += 1;
            }
        }
        session.finish(&mut |token, answer| answers.push((token, answer)));
        let told = answers.iter().map(|(token, answer)| match answer {
            Answer::Limits(told) => (*token, told.is_over, told.estimate),
            other => panic!("{other:?}"),
        });
        let expected = (0..12).map(|token| (token, token >= 6, if token < 3 { 1 } else { 2 }));
        assert!(told.eq(expected), "{answers:?}");
        limits.session.finish(&mut |(), _| {});
        assert_eq!(limits.engine.replica().total_weight(), 2);
    }
}

#[test]
fn a_repeat_gets_the_verdict_of_the_first_time() {
    let mut limits = Limits::new();
    let cookie = limits.session.cookie(address(1), limits.now);
    let admit = |limits: &mut Limits, sequence| {
        let request = numbered(1, sequence, Some(&cookie));
        let turn = limits.session.admit(request, limits.now).unwrap();
        Admitted {
            turn,
            once: Some((1, sequence)),
            ..FIRST
        }
    };
    let part = |limits: &Limits| [limits.part("default", b"key", 1, MINUTE_MS)];
    let (first, second) = (admit(&mut limits, 1), admit(&mut limits, 2));
    // The second one is under way: it has no verdict yet.
    let repeat = admit(&mut limits, 2);
    assert_eq!((first.turn, repeat.turn), (Turn::First, Turn::Repeat));
    let parts = part(&limits);
    assert_eq!(
        limits.try_ask(repeat, &parts, true),
        Err(Refusal::Undecided)
    );
    assert!(!limits.ask(first, &parts, true).is_over);
    assert!(limits.ask(second, &parts, true).is_over);
    for _ in 0..3 {
        let (first, second) = (admit(&mut limits, 1), admit(&mut limits, 2));
        let told = limits.ask(first, &parts, true);
        assert_eq!((told.is_over, told.estimate), (false, 1));
        let told = limits.ask(second, &parts, true);
        assert_eq!((told.is_over, told.estimate), (true, 1));
    }
    // Also when all of it has gone from the window.
    limits.wait(Duration::from_secs(80));
    let repeat = admit(&mut limits, 2);
    let parts = part(&limits);
    assert!(limits.ask(repeat, &parts, true).is_over);
    assert!(!limits.ask(FIRST, &parts, true).is_over);
}

#[test]
fn a_repeat_of_what_always_counts_is_judged_with_what_counts_already() {
    let mut limits = Limits::new();
    let cookie = limits.session.cookie(address(1), limits.now);
    for turn in [Turn::First, Turn::Repeat, Turn::Repeat] {
        let request = numbered(1, 1, Some(&cookie));
        let admitted = Admitted {
            turn: limits.session.admit(request, limits.now).unwrap(),
            once: Some((1, 1)),
            ..FIRST
        };
        let told = limits.ask(admitted, &[limits.part("default", b"key", 1, 0)], false);
        assert_eq!(admitted.turn, turn);
        assert_eq!((told.is_over, told.estimate, told.remaining), (false, 1, 0));
    }
}

#[test]
fn all_that_is_added_to_a_key_counts_towards_each_of_its_limits() {
    let mut limits = Limits::new();
    let parts = |limits: &Limits| {
        let heavy = LimitPart {
            weight: Allowed(Weight::new(2).unwrap()),
            ..limits.part("default", b"key", 100, MINUTE_MS)
        };
        [heavy, limits.part("default", b"key", 5, 0)]
    };
    for (is_over, estimate) in [(false, 2), (false, 4), (true, 4)] {
        let parts = parts(&limits);
        let told = limits.ask(FIRST, &parts, true);
        assert_eq!(
            (told.is_over, told.part, told.estimate),
            (is_over, 1, estimate)
        );
    }
}

fn amounts(limit: u64) -> Box<[Amount]> {
    let window_ms = MINUTE_MS;
    [Amount { limit, window_ms }].into()
}

fn rule(name: &str, limit: u64) -> Rule {
    Rule {
        name: name.into(),
        sketch: SketchIndex::DEFAULT,
        keys: "*".parse::<KeyPattern>().unwrap(),
        amounts: amounts(limit),
        cost: 1,
        takes: true,
        overrides: Box::default(),
        exempt: Box::default(),
        is_shadow: false,
    }
}

/// Requests with one limit wait for their cells. They get the answers of those that are decided at once, and so does
/// all that is asked between them.
#[test]
fn what_waits_is_answered_like_what_is_decided_at_once() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut state = 0x11E7 + seed;
        let mut random = move |end: u64| random(&mut state) % end;
        let way = [Way::Direct, Way::Pipelined][random(2) as usize];
        let width = 1 << (4 + random(7));
        let mut both = [(); 2].map(|()| Limits::with(width, way).with_token::<u32>(way));
        let mut answers = [Vec::new(), Vec::new()];
        let named = rule("api", random(30));
        let named = Rule {
            takes: random(2) == 0,
            is_shadow: random(3) == 0,
            cost: 1 + random(2) as u32,
            ..named
        };
        both[0].0.engine.set_limits(vec![named.clone()]);
        for token in 0..300_u32 {
            let key = random(7).to_le_bytes();
            let (what, weight) = (random(10), random(4));
            let (limit, credit, takes) = (random(40), random(3) * random(9), random(3) > 0);
            let window_ms = [0, 5_000, 30_000, MINUTE_MS][random(4) as usize];
            let reading = [Reading::Smooth, Reading::Bound][random(2) as usize];
            let (time, is_late, two) = (random(4_000), random(20) == 0, random(6) == 0);
            for (at, ((limits, session), answers)) in both.iter_mut().zip(&mut answers).enumerate()
            {
                let mut answer = |token, answer| answers.push((token, answer));
                let (sketch, now) = (SketchIndex::DEFAULT, limits.now);
                let window = |session: &Session<u32>| {
                    session.window(sketch, window_ms, reading, || now).unwrap()
                };
                let allowed = session.weigh(weight).unwrap();
                let part = LimitPart {
                    sketch,
                    key: &key,
                    weight: allowed,
                    limit,
                    window: window(session),
                    credit,
                };
                match what {
                    0 => session.add(FIRST, &key, allowed, &mut answer).unwrap(),
                    1 => session.count_in(sketch, &key, part.window, token, &mut answer),
                    2 => session.bounds(sketch, &key, token, &mut answer),
                    3 => {
                        let limit = Limit {
                            limit,
                            window: part.window,
                        };
                        session
                            .hit(FIRST, &key, allowed, limit, token, &mut answer)
                            .unwrap();
                    }
                    4 if at == 0 => {
                        let name = (&b"api"[..], &key[..]);
                        session
                            .hit_by_name(FIRST, name, weight, || now, token, &mut answer)
                            .unwrap();
                    }
                    _ => {
                        let (mut parts, mut takes, mut part) = (LimitParts::default(), takes, part);
                        if what == 4 {
                            // What a hit by name comes to.
                            takes = named.takes && !named.is_shadow;
                            part.limit = named.amounts[0].limit;
                            part.weight = session.weigh(weight * u64::from(named.cost)).unwrap();
                            part.credit = 0;
                            part.window = session
                                .window(sketch, MINUTE_MS, Reading::Smooth, || now)
                                .unwrap();
                        }
                        assert!(parts.push(part));
                        if two && what != 4 {
                            let key = &b"other"[..];
                            assert!(parts.push(LimitPart { key, ..part }));
                        }
                        if at == 0 {
                            let asked = session.limits(FIRST, &parts, takes, token, &mut answer);
                            asked.unwrap();
                        } else {
                            let told = session.keep(FIRST, &parts, takes, &mut answer);
                            answer(token, Answer::Limits(told.unwrap()));
                        }
                    }
                }
                if is_late {
                    session.finish(&mut answer);
                    limits.wait(Duration::from_millis(time));
                }
            }
        }
        for ((_, session), answers) in both.iter_mut().zip(&mut answers) {
            session.finish(&mut |token, answer| answers.push((token, answer)));
        }
        let [waited, at_once] = answers;
        assert_eq!(waited.len(), at_once.len());
        let mut hits = LimitTally::default();
        for (one, other) in waited.into_iter().zip(at_once) {
            let told = match one {
                (token, Answer::NamedLimit(told)) => {
                    hits.asked += 1;
                    hits.over += u64::from(told.is_over);
                    hits.shadow += u64::from(told.is_shadow);
                    let is_shadow = false;
                    (token, Answer::Limits(LimitsAnswer { is_shadow, ..told }))
                }
                other => other,
            };
            assert_eq!(told, other);
        }
        let tally = both[0].0.engine.limits().find(b"api").unwrap().tally();
        let counts = |tally: &LimitTally| (tally.asked, tally.over, tally.shadow);
        assert_eq!(counts(&tally), counts(&hits));
        let totals = [0, 1].map(|at: usize| both[at].0.engine.replica().total_weight());
        assert_eq!(totals[0], totals[1]);
    }
}

/// A hit that waits is judged by the limit that it was asked about.
#[test]
fn limits_that_change_do_not_change_what_waits() {
    let way = Way::Pipelined;
    let (limits, mut session) = Limits::with(1 << 12, way).with_token::<u32>(way);
    let mut overs = Vec::new();
    let mut answer = |token: u32, answer| match answer {
        Answer::NamedLimit(told) => overs.push((token, told.is_over)),
        other => panic!("{other:?}"),
    };
    for (token, limit) in [(0, 5), (1, 0), (2, 1), (3, 2)] {
        let rules = ["aa", "api"].map(|name| rule(name, limit));
        let skipped = usize::from(token % 2 == 0);
        limits
            .engine
            .set_limits(rules.into_iter().skip(skipped).collect());
        let named = (&b"api"[..], &b"key"[..]);
        session
            .hit_by_name(FIRST, named, 1, || limits.now, token, &mut answer)
            .unwrap();
    }
    session.finish(&mut answer);
    assert_eq!(overs, [(0, false), (1, true), (2, true), (3, false)]);
}

#[test]
fn limits_with_names_hold_for_their_keys() {
    let mut limits = Limits::new();
    assert_eq!(
        limits.hit_by_name("api", b"key"),
        Err(Refusal::UnknownLimit)
    );
    let engine = Arc::clone(&limits.engine);
    engine.set_limits(vec![
        Rule {
            overrides: [Override {
                keys: KeySet::Pattern("vip-*".parse::<KeyPattern>().unwrap()),
                amounts: amounts(1_000),
            }]
            .into(),
            exempt: [KeySet::Pattern("health".parse::<KeyPattern>().unwrap())].into(),
            ..rule("api", 2)
        },
        Rule {
            is_shadow: true,
            cost: 2,
            ..rule("shadow", 3)
        },
    ]);
    let over = |limits: &mut Limits, key: &[u8]| limits.hit_by_name("api", key).unwrap().is_over;
    for expected in [false, false, true, true] {
        assert_eq!(over(&mut limits, b"key"), expected);
        assert!(!over(&mut limits, b"vip-1"));
        let told = limits.hit_by_name("api", b"health").unwrap();
        assert_eq!(told, LimitsAnswer::NO_LIMIT);
    }
    for (estimate, is_shadow) in [(2, false), (4, true), (6, true)] {
        let told = limits.hit_by_name("shadow", b"other").unwrap();
        let is_over = is_shadow;
        assert_eq!(
            (told.estimate, told.is_over, told.is_shadow),
            (estimate, is_over, is_shadow)
        );
    }
    let tally = |name: &[u8]| engine.limits().find(name).unwrap().tally();
    let LimitTally { asked, over, .. } = tally(b"api");
    assert_eq!((asked, over), (8, 2));
    let LimitTally {
        asked,
        over,
        shadow,
        ..
    } = tally(b"shadow");
    assert_eq!((asked, over, shadow), (3, 2, 2));
}

#[test]
fn a_pardon_forgives_what_the_windows_hold() {
    let mut limits = Limits::new();
    limits.engine.set_limits(vec![rule("api", 2)]);
    let hit = |limits: &mut Limits| limits.hit_by_name("api", b"alice").unwrap();
    assert!(!hit(&mut limits).is_over && !hit(&mut limits).is_over);
    assert!(hit(&mut limits).is_over);
    let pardon = |limits: &mut Limits, name: &[u8]| {
        let (now, minute) = (limits.now, Duration::from_secs(60));
        let named = (name, &b"alice"[..]);
        limits.session.pardon(named, minute, now, &mut |(), _| {})
    };
    assert_eq!(pardon(&mut limits, b"other"), Err(Refusal::UnknownLimit));
    assert_eq!(pardon(&mut limits, b"api"), Ok(2));
    for (is_over, estimate) in [(false, 1), (false, 2), (true, 2)] {
        let told = hit(&mut limits);
        assert_eq!((told.is_over, told.estimate), (is_over, estimate));
    }
    // It is over, and what was counted under it goes with the window.
    limits.wait(Duration::from_secs(61));
    assert!(
        limits
            .hit_by_name("api", b"bob")
            .is_ok_and(|told| !told.is_over)
    );
    limits.wait(Duration::from_secs(20));
    assert_eq!(hit(&mut limits).estimate, 1);
}

#[test]
fn windows_that_are_not_kept_are_refused() {
    let limits = Limits::new();
    for window_ms in [1, 4_999, 7_000, 65_000, u64::MAX] {
        let window = |reading| {
            let sketch = SketchIndex::DEFAULT;
            limits
                .session
                .window(sketch, window_ms, reading, || limits.now)
        };
        for reading in [Reading::Smooth, Reading::Bound] {
            assert_eq!(window(reading), Err(Refusal::UnknownWindow), "{window_ms}");
        }
    }
}

/// Whoever keeps asking gets about as much as the limit in any window, and never less than nearly all of it.
#[test]
fn what_is_admitted_is_about_the_limit() {
    let limit = 100;
    for seed in 0..20 {
        println!("seed {seed}");
        let mut state = seed;
        let mut limits = Limits::new();
        let mut admitted: Vec<Duration> = Vec::new();
        while limits.now < Duration::from_secs(400) {
            if !limits.take(b"key", limit).is_over {
                admitted.push(limits.now);
            }
            limits.wait(Duration::from_millis(random(&mut state) % 200));
        }
        let minute = Duration::from_millis(MINUTE_MS);
        for (at, &first) in admitted.iter().enumerate() {
            let within = admitted[at..].iter().filter(|&&time| time < first + minute);
            // Smooth takes what is left of the oldest step for evenly spread.
            assert!(within.count() as u64 <= limit + limit / 5, "{first:?}");
        }
        assert!(admitted.len() as u64 >= limit * 6, "{}", admitted.len());
    }
}

/// Of several limits in one request each is judged by itself, once.
#[test]
fn verdicts_on_audited_keys_are_judged() {
    let mut limits = Limits::with(4, Way::Direct);
    for key in 0..2_000_u64 {
        let key = key.to_le_bytes();
        let all_time = limits.part("logins", &key, 1, 0);
        let minute = limits.part("logins", &key, 0, MINUTE_MS);
        let other = limits.part("default", &key, 9_999, 0);
        limits.ask(FIRST, &[all_time, minute, other], false);
    }
    let verdicts = |name| {
        let registry = limits.engine.registry();
        registry
            .replica(limits.sketch(name))
            .audit()
            .unwrap()
            .verdicts
    };
    let (logins, default) = (verdicts("logins"), verdicts("default"));
    assert!((15..60).contains(&logins.judged), "{logins:?}");
    assert_eq!((default.judged, default.refused), (logins.judged, 0));
    // Each key came once, and nearly all cells are full of others.
    assert_eq!(logins.refused, logins.wrong);
    assert!(logins.wrong > logins.judged / 2, "{logins:?}");
}
