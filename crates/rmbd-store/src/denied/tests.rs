//! Denied keys against exact counts.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::thread::scope;

use rmbd_proto::compact::KEY_BYTES_MAX;
use rmbd_testkit::random::Random;

use super::*;

const ALL: usize = usize::MAX;

/// How often each key was denied in each span, exactly.
#[derive(Default)]
struct Truth(HashMap<(u64, Vec<u8>), u64>);

impl Truth {
    fn note(&mut self, key: &[u8], span: u64) {
        *self.0.entry((span, key.to_vec())).or_default() += 1;
    }

    /// What a list of this span is about.
    fn of_list(&self, span: u64) -> HashMap<&[u8], u64> {
        let mut counts = HashMap::<&[u8], u64>::new();
        for ((at, key), count) in &self.0 {
            if *at == span || Some(*at) == span.checked_sub(1) {
                *counts.entry(key).or_default() += count;
            }
        }
        counts
    }

    fn check(&self, list: &DeniedList, seed: u64) {
        let truth = self.of_list(list.span);
        assert_eq!(list.denied, truth.values().sum::<u64>(), "seed {seed}");
        assert!(list.keys.len() <= list.listed.min(DENIED_MAX));
        let mut told = HashSet::new();
        for key in &list.keys {
            assert!(key.at_least <= key.at_most, "seed {seed}: {key:?}");
            let Some(name) = key.name.as_deref() else {
                continue;
            };
            assert!(told.insert(name), "seed {seed}: {key:?} comes twice");
            let truth = truth.get(name).copied().unwrap_or_default();
            let between = key.at_least..=key.at_most;
            assert!(between.contains(&truth), "seed {seed}: {truth} {key:?}");
        }
        let nameless = list.keys.iter().filter(|key| key.name.is_none()).count();
        let above = truth
            .iter()
            .filter(|&(_, &count)| count > list.complete_above);
        let lacking = above.filter(|(name, _)| !told.contains(**name)).count();
        assert!(lacking <= nameless, "seed {seed}: {lacking} lack");
        assert!(list.keys.is_sorted_by_key(|key| Reverse(key.at_least)));
    }
}

fn book() -> Arc<DeniedBook> {
    Arc::new(DeniedBook::new(2, 7))
}

/// A key: few come often, and many seldom.
fn key(random: &mut Random) -> Vec<u8> {
    let keys = 1 << (1 + random.below(12));
    let number = random.below(keys);
    match number % 50 {
        // Bytes of all lengths.
        0 => vec![0xff; (number * 37 % (KEY_BYTES_MAX as u64 + 1)) as usize],
        _ => number.to_string().into_bytes(),
    }
}

#[test]
fn bounds_hold_for_any_stream_of_any_threads() {
    for seed in 0..12 {
        let (mut random, book) = (Random(seed), book());
        let (keys, others, mut truth) = (book.limit(), book.limit(), Truth::default());
        let mut seats = [book.seat(), book.seat(), book.seat()];
        let mut span = random.below(3);
        for number in 0..20_000_u64 {
            let key = key(&mut random);
            seats[random.below(3) as usize].note(&keys, &key, span);
            truth.note(&key, span);
            if random.below(10) == 0 {
                // Another limit has counts of its own.
                seats[0].note(&others, b"other", span);
            }
            if random.below(4_000) == 0 {
                span += 1 + random.below(3);
            }
            if number % 1_000 == 0 {
                book.take_names([&keys, &others].into_iter());
                truth.check(&book.list(&keys, span, ALL), seed);
            }
        }
        for most in [1, 10, ALL] {
            truth.check(&book.list(&keys, span, most), seed);
        }
    }
}

#[test]
fn few_keys_are_counted_exactly_with_names() {
    let (book, mut truth) = (book(), Truth::default());
    let (keys, mut seats) = (book.limit(), [book.seat(), book.seat()]);
    for number in 0..8_u8 {
        for time in 0..=number {
            seats[usize::from(time % 2)].note(&keys, &[number], 5);
            truth.note(&[number], 5);
        }
    }
    let list = book.list(&keys, 5, 3);
    let told = list.keys.iter().map(|key| {
        assert_eq!(key.at_least, key.at_most);
        (key.name.as_deref().unwrap(), key.at_least)
    });
    let expected = [(&[7][..], 8), (&[6], 7), (&[5], 6)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!((list.listed, list.denied, list.complete_above), (8, 36, 5));
    assert_eq!(book.list(&keys, 6, ALL).complete_above, 0);
    // Nothing is as young as that.
    let later = book.list(&keys, 7, ALL);
    assert_eq!((later.span, later.denied, later.keys.len()), (7, 0, 0));
}

#[test]
fn who_is_denied_most_is_found_in_a_flood() {
    let seed = 0x00F1_00D5;
    let (book, mut random) = (book(), Random(seed));
    let (keys, mut seat) = (book.limit(), book.seat());
    for number in 0..200_000_u64 {
        let key = match number % 50 {
            0 => b"attacker".to_vec(),
            _ => random.next().to_le_bytes().to_vec(),
        };
        seat.note(&keys, &key, 0);
        if number % 10_000 == 0 {
            book.take_names([&keys].into_iter());
        }
    }
    let list = book.list(&keys, 0, 10);
    let first = &list.keys[0];
    assert_eq!(first.name.as_deref(), Some(&b"attacker"[..]), "seed {seed}");
    assert!(
        first.at_least >= 3_000 && first.at_most >= 4_000,
        "{first:?}"
    );
    // All others together are in 256 places.
    assert!(list.complete_above <= 2 * 200_000 / 256, "{list:?}");
}

#[test]
fn names_take_bounded_memory_and_those_of_the_gone_are_forgotten() {
    let (book, mut random) = (book(), Random(3));
    let (keys, gone, mut seat) = (book.limit(), book.limit(), book.seat());
    for _ in 0..40 {
        for _ in 0..256 {
            seat.note(&keys, &random.bytes(KEY_BYTES_MAX), 0);
        }
        book.take_names([&keys, &gone].into_iter());
        assert!(book.names.bytes() <= Names::MEMORY_BYTES as usize);
    }
    seat.note(&gone, b"of a limit that is gone", 0);
    let _ = book.list(&gone, 0, 1);
    book.forget_others([&keys].into_iter());
    assert_eq!(book.list(&gone, 0, 1).keys[0].name, None);
    let hashes = keys.seats.iter().flat_map(Spans::hashes).count();
    assert!(book.names.count() <= hashes);
    book.forget_others([].into_iter());
    assert_eq!((book.names.bytes(), book.names.count()), (0, 0));
}

#[test]
fn who_has_no_seat_makes_bounds_wider() {
    let book = Arc::new(DeniedBook::new(0, 7));
    let keys = book.limit();
    let mut seats: Vec<_> = (0..=SPARE_SEATS).map(|_| book.seat()).collect();
    seats[0].note(&keys, b"a", 0);
    seats[SPARE_SEATS].note(&keys, b"b", 0);
    seats[0].note(&keys, &[0; KEY_BYTES_MAX + 1], 0);
    let list = book.list(&keys, 0, ALL);
    assert_eq!((list.denied, list.complete_above, list.listed), (3, 2, 1));
    assert_eq!((list.keys[0].at_least, list.keys[0].at_most), (1, 3));
    // A seat that was given back goes on with what is in its tables.
    seats.remove(0);
    let mut next = book.seat();
    next.note(&keys, b"a", 0);
    assert_eq!(book.list(&keys, 0, ALL).keys[0].at_least, 2);
}

#[test]
fn two_threads_count_while_others_read() {
    const NOTES: u64 = 100_000;
    let (book, is_over) = (book(), AtomicBool::new(false));
    let keys = book.limit();
    let mut truths = Vec::new();
    scope(|threads| {
        let notes = |seed: u64| {
            let (mut random, mut seat, mut truth) = (Random(seed), book.seat(), Truth::default());
            for number in 0..NOTES {
                let (key, span) = (key(&mut random), number * 3 / NOTES);
                seat.note(&keys, &key, span);
                truth.note(&key, span);
            }
            truth
        };
        let writers = [1, 2].map(|seed| threads.spawn(move || notes(seed)));
        let reader = threads.spawn(|| {
            while !is_over.load(Relaxed) {
                book.take_names([&keys].into_iter());
                let list = book.list(&keys, 0, ALL);
                assert!(list.keys.iter().all(|key| key.at_least <= key.at_most));
                assert!(list.denied <= 2 * NOTES);
            }
        });
        truths.extend(writers.map(|writer| writer.join().unwrap()));
        is_over.store(true, Relaxed);
        reader.join().unwrap();
    });
    let mut all = Truth::default();
    for (key, count) in truths.into_iter().flat_map(|truth| truth.0) {
        *all.0.entry(key).or_default() += count;
    }
    all.check(&book.list(&keys, 0, ALL), 1);
}
