//! Sketches, windows and limits, against the naive node.

use super::*;
use rmbd_proto::compact::{
    LIMITS_ANSWER_BYTES, LimitPart, Limits, PARDON_ANSWER_BYTES, SketchesWriter, TopHead,
    TopWriter, Verdict, WINDOW_ANSWER_BYTES, WindowAnswer, write_hit_by_name_answer,
    write_limits_answer, write_pardon_answer, write_window_answer,
};

/// Of the node's only limit of its own.
const LIMIT_NAME: &[u8] = b"five";
const LIMIT: u64 = 5;
/// The only window besides all time.
const WINDOW_MS: u64 = 60_000;

impl NaiveNode {
    pub(super) fn has(&self, sketch: SketchNumber) -> bool {
        sketch == SketchNumber::DEFAULT || self.sketches.contains(&sketch)
    }

    /// `None` is an operation that it has done for longer.
    pub(super) fn perform_newer(
        &mut self,
        operation: Operation<'_>,
        request: &compact::Request<'_>,
        repeated: bool,
    ) -> Option<Result<Vec<u8>, Problem>> {
        let sequence = request.once.map(|once| (once.client, once.sequence));
        let remembered = sequence
            .filter(|_| repeated && operation.may_take())
            .and_then(|sequence| self.verdicts.get(&sequence).copied());
        Some(match operation {
            Operation::Window { key, window_ms, .. } => {
                let estimate = self.count(&named(request.sketch, key));
                window(estimate, window_ms)
            }
            Operation::Limits(limits) => {
                let verdict = match remembered {
                    Some(verdict) => Ok(verdict),
                    None => self.judge(limits, sequence, repeated),
                };
                verdict.map(|verdict| {
                    let mut out = [0; LIMITS_ANSWER_BYTES];
                    write_limits_answer(&verdict, &mut out);
                    out.to_vec()
                })
            }
            Operation::HitByName { name, key, weight } => {
                let part = LimitPart {
                    sketch: SketchNumber(1),
                    key,
                    weight,
                    limit: LIMIT,
                    window_ms: WINDOW_MS,
                };
                let mut parts = Vec::new();
                let verdict = match (name, remembered) {
                    (_, Some(verdict)) => Ok(verdict),
                    (LIMIT_NAME, None) => {
                        let limits = Limits::write(true, false, &[part], &mut parts).unwrap();
                        self.judge(limits, sequence, repeated)
                    }
                    _ => Err(Problem::UnknownLimit),
                };
                verdict.map(|verdict| {
                    let mut out = [0; LIMITS_ANSWER_BYTES];
                    write_hit_by_name_answer(&verdict, &mut out);
                    out.to_vec()
                })
            }
            Operation::Pardon { key, .. } => {
                let mut out = [0; PARDON_ANSWER_BYTES];
                let credit = self.count(&named(SketchNumber(1), key));
                write_pardon_answer(credit, &mut out);
                Ok(out.to_vec())
            }
            Operation::Sketches { .. } => {
                let mut out = [0; 100];
                let writer = SketchesWriter::new(&mut out, 1 + self.sketches.len() as u64);
                let bytes = writer.unwrap().finish();
                Ok(out[..bytes].to_vec())
            }
            Operation::Top { most, .. } => {
                let mut out = [0; 100];
                let listed = most + 1;
                let head = TopHead {
                    listed,
                    ..TopHead::default()
                };
                let bytes = TopWriter::new(&mut out, &head).unwrap().finish();
                Ok(out[..bytes].to_vec())
            }
            _ => return None,
        })
    }

    fn judge(
        &mut self,
        limits: Limits<'_>,
        sequence: Option<(u64, u64)>,
        repeated: bool,
    ) -> Result<Verdict, Problem> {
        let mut over = false;
        for part in limits.parts() {
            if !self.has(part.sketch) {
                return Err(Problem::UnknownSketch);
            }
            if ![0, WINDOW_MS].contains(&part.window_ms) {
                return Err(Problem::UnknownWindow);
            }
            let now = self.count(&named(part.sketch, part.key));
            let added = if repeated { 0 } else { part.weight };
            over |= now + added > part.limit;
        }
        let mut estimate = 0;
        for part in limits.parts() {
            let key = named(part.sketch, part.key);
            if !(limits.take && over) && part.weight > 0 {
                self.add(&key, part.weight, repeated)?;
            }
            estimate = self.count(&key).max(estimate);
        }
        let verdict = Verdict {
            over,
            estimate,
            ..Verdict::default()
        };
        if let Some(sequence) = sequence.filter(|_| limits.take) {
            self.verdicts.insert(sequence, verdict);
        }
        Ok(verdict)
    }
}

fn window(estimate: u64, window_ms: u64) -> Result<Vec<u8>, Problem> {
    if ![0, WINDOW_MS].contains(&window_ms) {
        return Err(Problem::UnknownWindow);
    }
    let mut out = [0; WINDOW_ANSWER_BYTES];
    let answer = WindowAnswer {
        estimate,
        incomplete: false,
        overflowed: false,
        covered_ms: 0,
    };
    write_window_answer(&answer, &mut out);
    Ok(out.to_vec())
}

fn of(sketch: u32, operation: Operation<'_>) -> Question<'_> {
    Question {
        sketch: SketchNumber(sketch),
        ..operation.into()
    }
}

fn part(sketch: u32, key: &[u8], limit: u64) -> LimitPart<'_> {
    LimitPart {
        sketch: SketchNumber(sketch),
        key,
        weight: 1,
        limit,
        window_ms: WINDOW_MS,
    }
}

impl World {
    fn limits(&mut self, take: bool, once: bool, parts: &[LimitPart<'_>], token: u64) {
        let mut out = Vec::new();
        let limits = Limits::write(take, false, parts, &mut out).unwrap();
        let question = Question {
            once,
            ..Operation::Limits(limits).into()
        };
        self.push(question, token);
    }

    fn code(&self, token: u64) -> Option<Problem> {
        match &self.results[&token] {
            Result_::Failed(Failure {
                reason: Reason::Code(code),
                uncertain: false,
            }) => Problem::from_code(*code),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn adds_to_several_sketches_count_once_each_in_its_own() {
    const ADDS: u64 = 4_000;
    for seed in 0..20 {
        let mut world = World::new(seed, MUCH);
        for token in 0..ADDS {
            let (key, sketch) = (token.to_le_bytes(), (token % 4) as u32);
            let add = Operation::Add {
                key: &key,
                weight: 1 + token % 3,
            };
            world.push(of(sketch, add), token);
            if world.random.below(50) == 0 {
                world.step();
            }
        }
        world.settle();
        for token in 0..ADDS {
            assert_eq!(world.results[&token], Result_::Added, "seed {seed}");
            let sketch = SketchNumber((token % 4) as u32);
            let key = named(sketch, &token.to_le_bytes());
            assert_eq!(world.node.count(&key), 1 + token % 3, "seed {seed}");
            assert_eq!(world.node.applied[&key], 1, "seed {seed}");
        }
        for token in 0..100_u64 {
            let key = &token.to_le_bytes();
            let window_ms = WINDOW_MS;
            let count = Operation::Window {
                key,
                window_ms,
                smooth: false,
            };
            world.push(of((token % 4) as u32, count), ADDS + token);
            world.push(of(((token + 1) % 4) as u32, count), 2 * ADDS + token);
        }
        world.settle();
        for token in 0..100 {
            let here = &world.results[&(ADDS + token)];
            assert_eq!(*here, Result_::Answer(1 + token % 3), "seed {seed}");
            assert_eq!(world.results[&(2 * ADDS + token)], Result_::Answer(0));
        }
    }
}

/// However often a request comes, its verdict is the first one, and what it takes is taken once.
#[test]
fn as_many_take_as_the_limit_lets() {
    const TAKES: u64 = 400;
    for seed in 0..20 {
        let mut world = World::new(seed, MUCH);
        for token in 0..TAKES {
            match token % 4 {
                0 => {
                    let (name, key) = (LIMIT_NAME, &b"by name"[..]);
                    let hit = Operation::HitByName {
                        name,
                        key,
                        weight: 1,
                    };
                    world.push(hit, token);
                }
                1 => world.limits(true, true, &[part(2, b"one", 7)], token),
                2 => {
                    let parts = [part(2, b"both", 30), part(3, b"both", 20)];
                    world.limits(true, true, &parts, token);
                }
                _ => world.add(token, 1),
            }
            if world.random.below(10) == 0 {
                world.step();
            }
        }
        world.settle();
        for (kind, limit) in [(0, LIMIT), (1, 7), (2, 20)] {
            let verdicts = (0..TAKES).filter(|token| token % 4 == kind);
            let within = verdicts
                .filter(|token| matches!(world.results[token], Result_::Verdict(true, _)))
                .count();
            assert_eq!(within as u64, limit, "kind {kind}, seed {seed}");
        }
        for (sketch, key, count) in [
            (1, &b"by name"[..], LIMIT),
            (2, b"one", 7),
            (2, b"both", 20),
            (3, b"both", 20),
        ] {
            let key = named(SketchNumber(sketch), key);
            assert_eq!(world.node.count(&key), count, "seed {seed}");
        }
    }
}

/// What may be repeated shares datagrams, counts at least once, and says that it may have.
#[test]
fn what_is_repeatable_counts_at_least_once() {
    let mut world = World::new(1, NONE);
    for token in 0..100 {
        world.limits(true, false, &[part(0, b"k", 60)], token);
    }
    world.settle();
    let within = world.results.values();
    let within = within.filter(|verdict| matches!(verdict, Result_::Verdict(true, _)));
    assert_eq!((within.count(), world.node.count(b"k")), (60, 60));
    // Some of them in each datagram, no question for the boot.
    assert!(
        world.sent < 20 && world.node.clients.is_empty(),
        "{}",
        world.sent
    );

    for seed in 0..10 {
        let mut world = World::new(seed, MUCH);
        for token in 0..500 {
            world.limits(false, false, &[part(0, b"k", 60)], token);
        }
        world.settle();
        let counted = world.node.count(b"k");
        assert!((500..1_500).contains(&counted), "{counted}, seed {seed}");
    }
    let mut world = World::new(1, Harm { lost: 1000, ..NONE });
    world.limits(false, false, &[part(0, b"k", 60)], 0);
    world.push(Operation::Count { key: b"k" }, 1);
    world.settle();
    let silence = |uncertain| {
        Result_::Failed(Failure {
            reason: Reason::Silence,
            uncertain,
        })
    };
    assert_eq!(world.results[&0], silence(true));
}

#[test]
fn a_refusal_is_of_what_is_at_fault() {
    for seed in 0..10 {
        let mut world = World::new(seed, MUCH);
        for token in 0..40_u64 {
            let key = &token.to_le_bytes();
            let add = Operation::Add { key, weight: 1 };
            match token % 5 {
                // In the header, and in a limit.
                0 => world.push(of(77, add), token),
                1 => world.limits(true, true, &[part(0, key, 1), part(77, key, 1)], token),
                2 => {
                    let name = b"none";
                    world.push(
                        Operation::HitByName {
                            name,
                            key,
                            weight: 1,
                        },
                        token,
                    );
                }
                3 => {
                    let (window_ms, smooth) = (1, true);
                    world.push(
                        Operation::Window {
                            key,
                            window_ms,
                            smooth,
                        },
                        token,
                    );
                }
                _ => world.push(add, token),
            }
        }
        world.settle();
        for token in 0..40 {
            let expected = match token % 5 {
                0 if matches!(
                    world.results[&token],
                    Result_::Failed(Failure {
                        uncertain: true,
                        ..
                    })
                ) =>
                {
                    continue;
                }
                0 | 1 => Problem::UnknownSketch,
                2 => Problem::UnknownLimit,
                3 => Problem::UnknownWindow,
                _ => {
                    assert_eq!(world.results[&token], Result_::Added, "seed {seed}");
                    continue;
                }
            };
            assert_eq!(world.code(token), Some(expected), "{token}, seed {seed}");
        }
        let total: u64 = world.node.counts.values().sum();
        assert_eq!(total, 8, "seed {seed}");
    }
}

#[test]
fn what_only_looks_needs_no_place_at_the_node() {
    let mut world = World::new(1, NONE);
    let looks = LimitPart {
        weight: 0,
        ..part(2, b"k", 0)
    };
    world.limits(true, true, &[looks], 0);
    let (name, key) = (LIMIT_NAME, &b"k"[..]);
    world.push(
        Operation::HitByName {
            name,
            key,
            weight: 0,
        },
        1,
    );
    world.push(
        Operation::Pardon {
            name,
            key,
            for_ms: 7,
        },
        2,
    );
    world.push(Operation::Sketches { first: 0 }, 3);
    world.push(
        Operation::Top {
            window_ms: 0,
            first: 0,
            most: 10,
        },
        4,
    );
    world.settle();
    assert_eq!(world.results[&0], Result_::Verdict(true, 0));
    assert_eq!(world.results[&1], Result_::Verdict(true, 0));
    assert_eq!(world.results[&2], Result_::Answer(0));
    assert_eq!(world.results[&3], Result_::Answer(4));
    assert_eq!(world.results[&4], Result_::Answer(11));
    assert!(world.node.clients.is_empty());
}

#[test]
fn limits_that_do_not_fit_a_datagram_are_not_sent() {
    let mut world = World::new(1, NONE);
    let (key, mut out) = ([b'k'; 700], Vec::new());
    let limits = Limits::write(true, false, &[part(0, &key, 1); 2], &mut out).unwrap();
    let refused = world.core.push(Operation::Limits(limits), 0, || MS);
    assert_eq!(refused, Err(Unsendable::TooLong));
    // The largest weight is known by now.
    world.add(1, 1);
    world.settle();
    let heavy = LimitPart {
        weight: 1 << 21,
        ..part(0, b"k", 1)
    };
    let limits = Limits::write(true, false, &[part(0, b"k", 1), heavy], &mut out).unwrap();
    let refused = world.core.push(Operation::Limits(limits), 0, || MS);
    let (weight, weight_max) = (1 << 21, 1 << 20);
    assert_eq!(
        refused,
        Err(Unsendable::WeightTooLarge { weight, weight_max })
    );
}
