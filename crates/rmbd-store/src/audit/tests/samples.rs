//! Which keys are in the sample, and where they are in a table.

use std::collections::HashMap;

use super::*;

/// Hashes with the tags 0 to 9 999: multiplication by an odd number can be undone.
fn hash_with_tag(tag: u64) -> [u64; 2] {
    let factor = 0x9e37_79b9_7f4a_7c15_u64;
    // Newton: each round doubles the bits that are right.
    let inverse = (0..6).fold(1_u64, |inverse, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(inverse)))
    });
    let hash = [tag.wrapping_mul(inverse) ^ 77, 77];
    assert_eq!(tag_of(hash), tag);
    hash
}

/// A table of few places against a map, with keys that come, are counted, and leave in any order.
#[test]
fn a_table_has_what_a_map_has() {
    for seed in 0..40 {
        let mut random = Random(0x07AB_1E00 + seed);
        let (table, mut map) = (Table::try_new(16).unwrap(), HashMap::new());
        // Some of them begin their search at one place.
        let hashes: Vec<[u64; 2]> = (0..30)
            .map(|_| hash_with_tag(random.next() & 0xffff_0003_0000_0000))
            .collect();
        for _ in 0..400 {
            let hash = hashes[random.below(30) as usize];
            match table.begin(hash, 3) {
                Some(place) => {
                    table.end(place, 3);
                    *map.entry(hash).or_insert(0) += 3;
                }
                None => {
                    assert!(map.len() == 12 && !map.contains_key(&hash));
                    let below = random.next();
                    table.keep(below);
                    map.retain(|&hash, _| tag_of(hash) < below);
                }
            }
            for hash in &hashes {
                let expected = map.get(hash).copied().unwrap_or_default();
                assert_eq!(table.done(*hash), Some(expected), "seed {seed}");
                assert_eq!(table.begun(*hash), Some(expected));
            }
            let mut found = Vec::new();
            assert!(table.for_each(|hash| found.push(hash)));
            found.sort_unstable();
            let mut expected: Vec<_> = map.keys().copied().collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}

/// Keys that were made to be in every sample empty it in the end, and nobody hangs.
#[test]
fn a_sample_that_somebody_fills_becomes_empty() {
    let replica = replica(SHAPE);
    let seat = replica.seats.take(None).unwrap();
    let mut auditor = Auditor::new(&replica, Some(&seat));
    for tag in 0..10_000 {
        let hash = KeyHash::of_halves(hash_with_tag(tag));
        if let Some(place) = auditor.begin(&replica, hash, Weight::ONE) {
            auditor.end(place, Weight::ONE);
        }
    }
    let below = replica.audit.as_ref().unwrap().sample.below();
    assert!((1..=1 << 10).contains(&below), "{below}");
    let figures = look(&replica).unwrap();
    assert!(figures.keys <= below);
}

/// Of many keys every 64th is in the sample, whatever the cells, the absorber's set and the other bits of its hash
/// are.
#[test]
fn the_sample_is_fair() {
    let below = Sample::new().below();
    let geometry = Geometry::DEFAULT;
    for family in [XXH3, HashFamily::Fnv] {
        let keys = (0..400_000_u64).map(|key| format!("key {key}").into_bytes());
        let hashes: Vec<KeyHash> = keys
            .map(|key| family.hash(&key, geometry).unwrap())
            .collect();
        let parts: [fn(&KeyHash) -> u64; 4] = [
            |hash| hash.halves()[0] >> 62,
            |hash| hash.halves()[0] & 3,
            |hash| hash.halves()[1] >> 62,
            |hash| hash.halves()[1] & 3,
        ];
        for part in parts {
            for number in 0..4 {
                let all = hashes.iter().filter(|hash| part(hash) == number);
                let (all, sampled) = all.fold((0.0, 0.0), |(all, sampled), hash| {
                    let is_in = tag_of(hash.halves()) < below;
                    (all + 1.0, sampled + f64::from(u8::from(is_in)))
                });
                let expected: f64 = all / 64.0;
                assert!(
                    (sampled - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                    "{family:?}: {sampled} of {all}"
                );
            }
        }
    }
}
