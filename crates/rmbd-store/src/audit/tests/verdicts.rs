//! Verdicts are wrong where an exact count of all keys says so.

use std::collections::VecDeque;

use super::*;

/// An operation, in the order in which it was given.
#[derive(Debug, Clone, Copy)]
struct Operation {
    key: [u8; 8],
    weight: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Add,
    Count,
    Hit { limit: u64 },
    Take { terms: Terms },
}

/// Applies what was given in order, and counts what should be found.
struct Oracle {
    truth: Truth,
    given: VecDeque<Operation>,
    replica: Arc<Replica>,
    below: u64,
    expected: AuditVerdicts,
}

impl Oracle {
    /// An answer has come: to the first operation that has one.
    fn hear(&mut self, estimate: Estimate) {
        while let Some(operation) = self.given.pop_front() {
            let Operation { key, weight, kind } = operation;
            let is_audited = tag_of(self.replica.own.hash(&key).unwrap().halves()) < self.below;
            let before = self.truth.of(&key);
            let (is_over, is_truly_over) = match kind {
                Kind::Add | Kind::Count => (false, false),
                Kind::Hit { limit } => (estimate.count > limit, before + weight > limit),
                Kind::Take { terms } => {
                    let passes =
                        |count: u64| count.saturating_sub(terms.credit) + weight > terms.limit;
                    assert_eq!(estimate.passed.is_some(), passes(estimate.count));
                    (passes(estimate.count), passes(before))
                }
            };
            assert!(is_over || !is_truly_over, "{operation:?}");
            let is_refused = matches!(kind, Kind::Take { terms } if terms.takes && is_over);
            if !is_refused {
                self.truth.add(&key, weight);
            }
            if is_audited && matches!(kind, Kind::Hit { .. } | Kind::Take { .. }) {
                self.expected.judged += 1;
                self.expected.refused += u64::from(is_over);
                self.expected.wrong += u64::from(is_over && !is_truly_over);
            }
            if kind != Kind::Add {
                return;
            }
        }
    }
}

fn play(shape: Shape, way: Way, seed: u64) -> AuditVerdicts {
    let replica = replica(shape);
    let mut random = Random(seed);
    let mut oracle = Oracle {
        truth: Truth::default(),
        given: VecDeque::new(),
        below: Sample::new().below(),
        replica: Arc::clone(&replica),
        expected: AuditVerdicts::default(),
    };
    let mut batch = Batch::with_way(Arc::clone(&replica), way);
    for _ in 0..60_000 {
        let key = random.below(2_000).to_le_bytes();
        let kind = match random.below(8) {
            0 | 1 => Kind::Add,
            2 => Kind::Count,
            3 | 4 => Kind::Hit {
                limit: random.below(600),
            },
            _ => Kind::Take {
                terms: Terms {
                    limit: random.below(600),
                    credit: random.below(2) * random.below(50),
                    takes: random.below(4) > 0,
                },
            },
        };
        let weight = if kind == Kind::Count {
            0
        } else {
            1 + random.below(3)
        };
        oracle.given.push_back(Operation { key, weight, kind });
        let of = Weight::new(weight as u32).unwrap();
        let mut answer = |(), estimate| oracle.hear(estimate);
        match kind {
            Kind::Add => batch.add(&key, of, &mut answer).unwrap(),
            Kind::Count => batch.count(&key, (), &mut answer),
            Kind::Hit { limit } => batch.hit(&key, (of, limit), (), &mut answer).unwrap(),
            Kind::Take { terms } => batch
                .take(&key, (of, &terms), None, (), &mut answer)
                .unwrap(),
        }
        if random.below(500) == 0 {
            batch.finish(&mut |(), estimate| oracle.hear(estimate));
        }
    }
    batch.finish(&mut |(), estimate| oracle.hear(estimate));
    let verdicts = replica.audit().unwrap().verdicts;
    assert_eq!(verdicts, oracle.expected, "seed {seed:#x}");
    verdicts
}

#[test]
fn verdicts_are_judged_as_exact_counts_would() {
    for (seed, width) in (0x0E4D_1C70..).zip([64, 256]) {
        for way in [Way::Direct, Way::Pipelined] {
            let shape = Shape { width, ..SHAPE };
            let verdicts = play(shape, way, seed);
            assert!(verdicts.wrong > 10, "{verdicts:?}");
            assert!(verdicts.refused > verdicts.wrong && verdicts.judged > verdicts.refused);
        }
    }
    // In a sketch that has room for all of them none is wrong.
    let shape = Shape {
        width: 1 << 18,
        depth: 4,
        ..SHAPE
    };
    assert_eq!(play(shape, Way::Pipelined, 0x0E4D_1C80).wrong, 0);
}

/// Where several limits are asked at once, the caller tells of its verdicts.
#[test]
fn a_verdict_on_a_key_that_was_looked_up_is_judged() {
    let replica = replica(Shape {
        width: 1,
        depth: 1,
        ..SHAPE
    });
    let below = Sample::new().below();
    let tag = |key: &[u8; 8]| tag_of(replica.own.hash(key).unwrap().halves());
    let key = (0_u64..)
        .map(u64::to_le_bytes)
        .find(|key| tag(key) < below)
        .unwrap();
    let mut batch = Batch::new(Arc::clone(&replica));
    add(&mut batch, &key, 4, 3);
    add(&mut batch, b"stranger", 10, 3);
    batch.finish(&mut no_answer);
    let looked = batch.look(&key, &mut no_answer);
    let estimate = batch.estimate(&looked).count;
    assert_eq!(estimate, 14);
    for limit in [3, 4, 13, 14] {
        batch.judge(&looked, estimate, |count| count > limit);
    }
    let expected = AuditVerdicts {
        judged: 4,
        refused: 3,
        wrong: 2,
    };
    assert_eq!(replica.audit().unwrap().verdicts, expected);
}
