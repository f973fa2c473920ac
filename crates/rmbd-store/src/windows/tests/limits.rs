//! Takes, several questions at once, and when to come back.

use rmbd_testkit::random::random;

use super::*;
use crate::{Batch, Estimate, Passed, Terms, Way};

fn to(limit: u64) -> Terms {
    Terms {
        limit,
        credit: 0,
        takes: true,
    }
}

#[test]
fn a_take_adds_only_what_is_within_the_limit() {
    for way in [Way::Direct, Way::Pipelined] {
        for (fold, threads) in [(1, 1), (8, 2)] {
            let mut node = Node::start(1 << 12, fold, &[(1_000, 100)], threads);
            let mut batch = Batch::with_way(Arc::clone(&node.replica), way);
            for round in 0..3 {
                let question = node.question(1_000, Reading::Bound);
                let mut answers = Vec::new();
                let mut answer =
                    |token: u32, it: Estimate| answers.push((token, it.count, it.passed.is_some()));
                // What is absorbed counts, and so does what was taken before.
                batch.add(b"key", 40.into(), &mut answer).unwrap();
                for (token, weight) in [(1, 50_u16), (2, 11), (3, 10), (4, 1), (5, 0)] {
                    let take = (Weight::from(weight), &to(100));
                    batch
                        .take(b"key", take, Some(&question), token, &mut answer)
                        .unwrap();
                }
                batch
                    .hit_in(b"key", (7.into(), 9), question, 6, &mut answer)
                    .unwrap();
                batch.count_in(b"key", question, 7, &mut answer);
                batch.count(b"key", 8, &mut answer);
                assert_eq!(batch.weight(&mut answer), 107);
                batch.finish(&mut answer);
                let all_time = 107 * (round + 1);
                let expected = [
                    (1, 40, false),
                    (2, 90, true),
                    (3, 90, false),
                    (4, 100, true),
                    (5, 100, false),
                    (6, 107, false),
                    (7, 107, false),
                    (8, all_time, false),
                ];
                assert_eq!(answers, expected, "{way:?} {fold}");
                assert_eq!(node.replica.total_weight(), all_time);
                for _ in 0..12 {
                    node.wait(ms(100));
                    node.snapshot_all();
                }
            }
            let mut last = Estimate::default();
            let take = (Weight::ONE, &to(321));
            batch
                .take(b"key", take, None, 1, &mut |_, it| last = it)
                .unwrap();
            batch.finish(&mut |_, it| last = it);
            assert_eq!((last.count, last.passed.is_some()), (321, true));
        }
    }
}

/// What waits in a batch is answered as if each operation had been done at once, by the calls for keys that were looked
/// up.
#[test]
fn takes_that_wait_are_answered_like_those_that_are_done_at_once() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut state = 0x7A4E + seed;
        let mut random = move |end: u64| random(&mut state) % end;
        let way = [Way::Direct, Way::Pipelined][random(2) as usize];
        let (fold, threads) = [(1, 1), (8, 1), (8, 2), (2, 1)][random(4) as usize];
        // Keys collide, so that limits are passed by others, too.
        let width = 1 << (4 + random(6));
        let start = || Node::start(width, fold, &[(1_000, 100), (200, 50)], threads);
        let (mut waiting, mut at_once) = (start(), start());
        let mut batch = Batch::with_way(Arc::clone(&waiting.replica), way);
        let mut batch_at_once = Batch::<u32>::new(Arc::clone(&at_once.replica));
        let (mut answers, mut expected) = (Vec::new(), Vec::new());
        for token in 0..400_u32 {
            let key = random(9).to_le_bytes();
            let weight = Weight::from(random(6) as u16);
            let span_ms = [1_000, 300, 200, 100][random(4) as usize];
            let reading = [Reading::Smooth, Reading::Bound][random(2) as usize];
            let question = waiting.question(span_ms, reading);
            let question = Some(question).filter(|_| random(4) > 0);
            let terms = Terms {
                limit: random(60),
                credit: random(3) * random(20),
                takes: random(4) > 0,
            };
            let mut answer = |token, estimate| answers.push((token, estimate));
            let mut none = |_, _| {};
            match random(8) {
                0 | 1 => {
                    batch.add(&key, weight, &mut answer).unwrap();
                    batch_at_once.add(&key, weight, &mut none).unwrap();
                }
                2 => {
                    let looked = batch_at_once.look(&key, &mut none);
                    let estimate = match question {
                        None => {
                            batch.count(&key, token, &mut answer);
                            batch_at_once.estimate(&looked)
                        }
                        Some(question) => {
                            batch.count_in(&key, question, token, &mut answer);
                            batch_at_once.estimate_in(&looked, &question)
                        }
                    };
                    expected.push((token, estimate));
                }
                3 => {
                    let waits = waiting.replica.total_weight() + batch.weight(&mut answer);
                    let waits_at_once = batch_at_once.weight(&mut none);
                    let done = at_once.replica.total_weight() + waits_at_once;
                    assert_eq!(waits, done);
                }
                4 if random(8) == 0 => {
                    batch.finish(&mut answer);
                    batch_at_once.finish(&mut none);
                    let time = ms(random(80));
                    for node in [&mut waiting, &mut at_once] {
                        node.wait(time);
                        node.snapshot_all();
                    }
                }
                _ => {
                    batch
                        .take(
                            &key,
                            (weight, &terms),
                            question.as_ref(),
                            token,
                            &mut answer,
                        )
                        .unwrap();
                    let it = take_at_once(&mut batch_at_once, &key, weight, &terms, question);
                    expected.push((token, it));
                }
            }
        }
        batch.finish(&mut |token, estimate| answers.push((token, estimate)));
        batch_at_once.finish(&mut |_, _| {});
        assert_eq!(answers, expected);
        assert!(answers.iter().any(|(_, it)| it.passed.is_some()));
        let total = |node: &Node| node.replica.total_weight();
        assert_eq!(total(&waiting), total(&at_once));
    }
}

fn take_at_once(
    batch: &mut Batch<u32>,
    key: &[u8],
    weight: Weight,
    terms: &Terms,
    question: Option<WindowQuestion>,
) -> Estimate {
    let looked = batch.look(key, &mut |_, _| {});
    let mut estimate = match &question {
        None => batch.estimate(&looked),
        Some(question) => batch.estimate_in(&looked, question),
    };
    let counts = estimate.count.saturating_sub(terms.credit);
    if counts + u64::from(weight) > terms.limit {
        let (replica, limit) = (batch.replica(), terms.limit + terms.credit);
        let after = |question| batch.retry_after(&looked, question, weight, limit);
        estimate.passed = Some(Passed {
            retry_after: question.as_ref().and_then(after),
            error: question.map_or_else(|| replica.error(), |question| replica.error_in(&question)),
        });
    }
    if !(terms.takes && estimate.passed.is_some()) {
        batch.add_looked(&looked, weight).unwrap();
    }
    estimate
}

#[test]
fn all_questions_about_a_key_are_answered_before_anything_is_added() {
    for way in [Way::Direct, Way::Pipelined] {
        let windows = [(1_000, 100), (10_000, 1_000)];
        let mut node = Node::start(1 << 12, 8, &windows, 1);
        let mut batch = Batch::<()>::with_way(Arc::clone(&node.replica), way);
        batch.add(b"key", 5.into(), &mut |(), _| {}).unwrap();
        batch.finish(&mut |(), _| {});
        for _ in 0..20 {
            node.wait(ms(100));
            node.snapshot_all();
        }
        let (mut answered, mut none) = (0, |(), _| {});
        batch.add(b"key", 2.into(), &mut none).unwrap();
        batch.count(b"key", (), &mut |(), it| answered += it.count);
        batch.add(b"key", 1.into(), &mut none).unwrap();
        let looked = batch.look(b"key", &mut |(), it| answered += it.count);
        assert_eq!(answered, 7);
        for add in 0..2 {
            let [short, long] = windows.map(|(span_ms, _)| {
                let question = node.question(span_ms, Reading::Smooth);
                batch.prefetch_in(&looked, &question);
                batch.estimate_in(&looked, &question).count
            });
            let all = batch.estimate(&looked).count;
            assert_eq!((short, long, all), (3 + add * 4, 8 + add * 4, 8 + add * 4));
            batch.add_looked(&looked, 4.into()).unwrap();
        }
        batch.finish(&mut none);
        assert_eq!(node.replica.total_weight(), 16);
    }
}

/// Who waits as long as is said, and is alone, gets in; who comes earlier does not, where the snapshots are there.
#[test]
fn who_comes_back_in_time_gets_in_and_not_much_earlier() {
    for seed in 0..300 {
        let mut state = 0x11E + seed;
        let mut random = move || random(&mut state);
        let steps = 1 + random() % 12;
        let mut node = Node::start(1 << 10, 8, &[(steps * 100, 100)], 1);
        let mut batch = Batch::<()>::new(Arc::clone(&node.replica));
        for _ in 0..random() % 60 {
            node.wait(ms(random() % 40));
            node.add(b"key", (random() % 20) as u32);
            let _ = node.snapshot(1 + random() as usize % 4_096);
        }
        let reading = [Reading::Smooth, Reading::Bound][random() as usize % 2];
        let span_ms = 100 * (1 + random() % steps);
        let question = node.question(span_ms, reading);
        let looked = batch.look(b"key", &mut |(), _| {});
        let (limit, weight) = (random() % 200, Weight::from((random() % 30) as u16));
        let fits = |node: &Node, now: Duration| {
            let question = WindowQuestion { now, ..question };
            let count = node.replica.estimate_in(b"key", &question).count;
            count + u64::from(weight) <= limit
        };
        let after = batch.retry_after(&looked, &question, weight, limit);
        let Some(after) = after else {
            assert!(u64::from(weight) > limit);
            continue;
        };
        assert_eq!(after.is_zero(), fits(&node, node.now()), "{seed}");
        let back = node.now() + after;
        let last_by = back.saturating_sub(ms(span_ms));
        let is_of_old = node.replica.windows.rings[0].numbers().1;
        let is_of_old = node.replica.windows.rings[0].ended_ns(is_of_old) >= ns(last_by);
        // Time goes on in small steps, with snapshots on their way.
        while node.now() + ms(7) < back {
            node.wait(ms(7));
            let _ = node.snapshot(1_024);
        }
        node.clock.set(back);
        assert!(fits(&node, back), "{seed}: {after:?} {question:?}");
        let earlier = back.checked_sub(Duration::from_nanos(1)).unwrap();
        if is_of_old && !after.is_zero() {
            assert!(!fits(&node, earlier), "{seed}: {after:?} {question:?}");
        }
    }
}
