#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use rmbd_testkit::random::Random;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const API: LimitNumber = LimitNumber(7);
const LOGIN: LimitNumber = LimitNumber(9);

fn credits(credit: u64) -> Credits {
    [credit; PARDON_CREDITS_MAX]
}

fn book(giver: u64) -> PardonBook {
    PardonBook::new(Boot(giver))
}

fn give(book: &PardonBook, key: &[u8], credit: u64, time: Duration, now: Duration) {
    let given = book.give((API, key), credits(credit), time, now);
    given.unwrap();
}

/// What a key is forgiven.
fn credit(book: &PardonBook, (limit, key): (LimitNumber, &[u8]), now: Duration) -> u64 {
    PardonView::default().credits(book, (limit, key), now)[0]
}

/// One tells another one all that it has, which comes later.
fn tell(from: &PardonBook, to: &PardonBook, now: Duration, arrival: Duration) -> u64 {
    let pardons = from.pardons();
    to.merge(pardons.told(now).filter_map(|it| it.entry(now)), arrival)
}

#[test]
fn a_pardon_is_for_its_limit_and_key_and_ends() {
    let (book, mut view) = (book(1), PardonView::default());
    let alice = (API, &b"alice"[..]);
    assert_eq!(view.credits(&book, alice, SECOND)[0], 0);
    give(&book, b"alice", 7, SECOND * 59, SECOND);
    let mut seen = |of, at| view.credits(&book, of, SECOND * at)[0];
    assert_eq!(seen(alice, 1), 7);
    for other in [(API, &b"bob"[..]), (LOGIN, b"alice")] {
        assert_eq!(seen(other, 1), 0);
    }
    assert_eq!((seen(alice, 59), seen(alice, 60)), (7, 0));
    // Another one takes the place of the first.
    give(&book, b"alice", 9, SECOND * 30, SECOND * 61);
    assert_eq!((seen(alice, 90), seen(alice, 91)), (9, 0));
}

#[test]
fn there_are_few_and_those_that_are_over_make_room() {
    let book = book(1);
    for n in 0..PARDONS_MAX as u64 {
        let time = SECOND * if n == 0 { 10 } else { 60 };
        give(&book, &n.to_le_bytes(), 1, time, SECOND);
    }
    let one_more = |now| book.give((API, b"one more"), credits(1), SECOND * 60, now);
    assert_eq!(one_more(SECOND), Err(PardonRefused::Full));
    assert_eq!(one_more(SECOND * 20), Ok(()));
    // In the place of one that is in force, and of one that is over.
    give(&book, &7_u64.to_le_bytes(), 5, SECOND * 90, SECOND * 20);
    let again = book.give((API, &0_u64.to_le_bytes()), credits(1), SECOND, SECOND * 20);
    assert_eq!(again, Err(PardonRefused::Full));
    assert_eq!(book.pardons().in_force(SECOND * 20), PARDONS_MAX);
    let long = book.give(
        (API, &[0; PARDON_KEY_BYTES_MAX + 1]),
        credits(1),
        SECOND,
        SECOND,
    );
    assert_eq!(long, Err(PardonRefused::KeyTooLong));
}

/// Limit, key, count, giver, milliseconds that are left and kept, and credit.
type Told = (u64, Vec<u8>, u64, u64, u64, u64, u64);

fn entry(told: &Told) -> PardonEntry<'_> {
    let &(limit, ref key, count, giver, left_ms, kept_ms, credit) = told;
    PardonEntry {
        limit: LimitNumber(limit),
        key,
        count,
        giver: Boot(giver),
        left_ms,
        kept_ms,
        credits: credits(credit),
    }
}

fn content(book: &PardonBook, now: Duration) -> Vec<Told> {
    let pardons = book.pardons();
    let entries = pardons.told(now).filter_map(|it| it.entry(now));
    let told = entries.map(|it| {
        let (limit, key, giver) = (it.limit.0, it.key.to_vec(), it.giver.0);
        (
            limit,
            key,
            it.count,
            giver,
            it.left_ms,
            it.kept_ms,
            it.credits[0],
        )
    });
    told.collect()
}

/// Of each limit and key the highest stamp, and of that the earliest ends. One giver gives the same credit.
fn naive(all: &[Told]) -> Vec<Told> {
    let mut held: BTreeMap<(u64, Vec<u8>), Told> = BTreeMap::new();
    for told in all {
        let place = held
            .entry((told.0, told.1.clone()))
            .or_insert_with(|| told.clone());
        match (told.2, told.3).cmp(&(place.2, place.3)) {
            Ordering::Less => {}
            Ordering::Equal => (place.4, place.5) = (place.4.min(told.4), place.5.min(told.5)),
            Ordering::Greater => *place = told.clone(),
        }
    }
    held.into_values().collect()
}

fn random_pardon(random: &mut Random) -> Told {
    let (count, giver) = (1 + random.below(4), random.below(3));
    let left_ms = random.below(3) * 1_000;
    let kept_ms = left_ms + 2_000 + random.below(2_000);
    let key = vec![b'k'; random.below(3) as usize];
    (
        random.below(2),
        key,
        count,
        giver,
        left_ms,
        kept_ms,
        count * 10 + giver,
    )
}

#[test]
fn whatever_the_order_the_doubles_and_the_relays_the_same_pardons_hold() {
    let now = SECOND * 100;
    for seed in 0..300 {
        let mut random = Random(seed);
        let all: Vec<Told> = (0..1 + random.below(40))
            .map(|_| random_pardon(&mut random))
            .collect();
        let expected = naive(&all);
        let (one, two) = (book(50), book(51));
        // Some come to one, some to the other, some to both or twice; then each tells the other.
        for _ in 0..2 {
            let mut left = all.clone();
            while !left.is_empty() {
                let at = random.below(left.len() as u64) as usize;
                let told = left.swap_remove(at);
                let to = if random.below(2) == 0 { &one } else { &two };
                assert_eq!(
                    to.merge([entry(&told), entry(&told)], now),
                    0,
                    "seed {seed}"
                );
            }
        }
        tell(&one, &two, now, now);
        tell(&two, &one, now, now);
        for book in [&one, &two] {
            assert_eq!(content(book, now), expected, "seed {seed}");
            let edition = book.edition();
            tell(&one, book, now, now);
            tell(&two, book, now, now);
            assert_eq!(book.edition(), edition, "seed {seed}: nothing is new");
        }
        let sums = [&one, &two].map(|book| book.pardons().sums(now));
        assert_eq!(sums[0], sums[1], "seed {seed}");
    }
}

#[test]
fn of_two_that_are_given_at_the_same_time_one_holds_everywhere_and_a_later_one_replaces_it() {
    let (low, high) = (book(1), book(2));
    give(&low, b"alice", 10, SECOND * 60, SECOND);
    give(&high, b"alice", 20, SECOND * 30, SECOND);
    tell(&low, &high, SECOND, SECOND);
    tell(&high, &low, SECOND, SECOND);
    let alice = (API, &b"alice"[..]);
    assert_eq!(
        [&low, &high].map(|book| credit(book, alice, SECOND * 2)),
        [20, 20]
    );
    assert_eq!(
        [&low, &high].map(|book| credit(book, alice, SECOND * 40)),
        [0, 0]
    );
    give(&low, b"alice", 5, SECOND * 60, SECOND * 3);
    tell(&high, &low, SECOND * 4, SECOND * 4);
    tell(&low, &high, SECOND * 4, SECOND * 4);
    assert_eq!(
        [&low, &high].map(|book| credit(book, alice, SECOND * 5)),
        [5, 5]
    );
}

/// Who gives a short pardon takes a long one back.
#[test]
fn one_that_was_replaced_does_not_come_back_when_the_other_is_over() {
    let (one, late) = (book(1), book(2));
    give(&one, b"alice", 10, SECOND * 3_600, SECOND);
    tell(&one, &late, SECOND, SECOND);
    give(&one, b"alice", 0, MS, SECOND * 2);
    let alice = (API, &b"alice"[..]);
    for at in [3, 600, 3_599, 3_700] {
        tell(&late, &one, SECOND * at, SECOND * at);
        assert_eq!(credit(&one, alice, SECOND * at), 0, "{at}");
    }
    tell(&one, &late, SECOND * 3, SECOND * 3);
    assert_eq!(credit(&late, alice, SECOND * 4), 0);
    // At last it is forgotten.
    assert_eq!(content(&one, SECOND * 3_661), []);
    give(&one, b"bob", 1, SECOND, SECOND * 3_662);
    assert_eq!(one.pardons().all().count(), 1);
}

/// Everybody tells everybody all that he has, again and again, over ways that take up to 900 ms.
#[test]
fn relays_do_not_prolong_a_pardon() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let books = [1, 2, 3, 4].map(book);
        give(&books[0], b"alice", 7, SECOND * 20, SECOND);
        let end = SECOND * 21 + MS * 900 * 3;
        let mut under_way: Vec<(Duration, usize, Vec<Told>)> = Vec::new();
        for now in (10..2_000).map(|tenths| MS * 100 * tenths) {
            let from = random.below(4) as usize;
            let told = content(&books[from], now);
            let arrival = now + MS * random.below(900) as u32;
            under_way.push((arrival, random.below(4) as usize, told));
            for (_, to, told) in under_way.extract_if(.., |it| it.0 <= now) {
                books[to].merge(told.iter().map(entry), now);
            }
            let alice = (API, &b"alice"[..]);
            let is_over = |book| now < end || credit(book, alice, now) == 0;
            assert!(books.iter().all(is_over), "seed {seed} at {now:?}");
        }
        let forgotten = books
            .iter()
            .all(|book| content(book, SECOND * 85).is_empty());
        assert!(forgotten, "seed {seed}");
    }
}

#[test]
fn what_others_tell_is_bounded() {
    let (book, now) = (book(1), SECOND * 10);
    give(&book, b"ours", 1, SECOND * 60, now);
    let mut refused = 0;
    for n in 0..10_000_u64 {
        let left_ms = if n % 3 == 0 { 0 } else { 60_000 };
        let told = (
            n % 5,
            n.to_le_bytes().to_vec(),
            1 + n,
            3,
            left_ms,
            60_000 + n,
            1,
        );
        refused += book.merge([entry(&told)], now);
        let pardons = book.pardons();
        assert!(pardons.in_force(now) <= PARDONS_MAX && pardons.all().count() <= REMEMBERED_MAX);
    }
    let held = book.pardons().all().count() as u64;
    assert_eq!((held, refused), (REMEMBERED_MAX as u64, 10_001 - held));
    assert_eq!(credit(&book, (API, b"ours"), now), 1);
    assert_eq!(
        book.give((API, b"more"), credits(1), SECOND, now),
        Err(PardonRefused::Full)
    );
    // A later one of a key that is here needs no room. One that is in force pushes out one that is over.
    give(&book, b"ours", 2, SECOND, now);
    assert_eq!(credit(&book, (API, b"ours"), now), 2);
    let later = now + SECOND * 2;
    give(&book, b"more", 3, SECOND, later);
    assert_eq!(credit(&book, (API, b"more"), later), 3);
    assert_eq!(book.pardons().all().count() as u64, held);
}

#[test]
fn numbers_that_nobody_gives_are_harmless() {
    let (book, now) = (book(1), SECOND);
    let forged = (
        7,
        b"alice".to_vec(),
        u64::MAX,
        u64::MAX,
        u64::MAX,
        u64::MAX,
        u64::MAX,
    );
    assert_eq!(book.merge([entry(&forged)], now), 1);
    let mut highest = forged;
    highest.2 = PARDON_COUNT_MAX;
    assert_eq!(book.merge([entry(&highest)], Duration::MAX - SECOND), 0);
    let alice = (API, &b"alice"[..]);
    assert_eq!(credit(&book, alice, Duration::MAX - SECOND), u64::MAX);
    give(&book, b"bob", 1, Duration::MAX, now);
    give(&book, b"bob", 1, Duration::MAX, now);
    assert!(
        content(&book, now)
            .iter()
            .all(|it| it.2 <= PARDON_COUNT_MAX)
    );
}
