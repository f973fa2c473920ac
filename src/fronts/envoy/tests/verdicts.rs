//! Random requests against exact counts.

use std::collections::HashMap;

use super::*;
use rmbd_rules::counter_key;
use rmbd_testkit::random::Random;

/// Counts exactly, in windows that do not end while a test runs.
#[derive(Default)]
struct Oracle {
    counts: HashMap<Vec<u8>, u64>,
}

/// What is asked in one descriptor.
#[derive(Debug, Clone)]
struct One {
    /// The user, perhaps below a network.
    user: u64,
    has_net: bool,
    hits: Option<u64>,
    own_limit: Option<u32>,
}

impl One {
    fn descriptor(&self) -> RateLimitDescriptor {
        let user = format!("u{}", self.user);
        let pairs = [("net", "10.0.0.0/8"), ("user", &*user)];
        RateLimitDescriptor {
            hits_addend: self.hits.map(|value| HitsAddend { value }),
            limit: self.own_limit.map(|requests_per_unit| Override {
                requests_per_unit,
                unit: Unit::Hour.into(),
            }),
            ..descriptor(&pairs[usize::from(!self.has_net)..])
        }
    }

    /// The limit by the rules above, read by a person.
    fn limit(&self) -> u64 {
        match (self.own_limit, self.has_net) {
            (Some(own), _) => own.into(),
            (None, true) => 50,
            (None, false) => 3,
        }
    }
}

impl Oracle {
    /// Whether it is over, and how much is left; and counts.
    fn ask(&mut self, one: &One, hits: u64) -> (bool, u64) {
        let descriptor = one.descriptor();
        let entries = descriptor.entries.iter().map(|it| rmbd_rules::Entry {
            key: &it.key,
            value: &it.value,
        });
        let mut key = Vec::new();
        counter_key("edge", &entries.collect::<Vec<_>>(), &mut key);
        let count = self.counts.entry(key).or_default();
        let is_over = *count + hits > one.limit();
        if !is_over {
            *count += hits;
        }
        (is_over, one.limit().saturating_sub(*count))
    }
}

#[test]
fn verdicts_are_those_of_exact_counts() {
    let seed = 0x0e17;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let (front, mut oracle) = (front(), Oracle::default());
    for round in 0..400 {
        let all: Vec<_> = (0..1 + random.below(20) * random.below(2))
            .map(|_| One {
                user: random.below(8),
                has_net: random.below(2) == 0,
                hits: (random.below(3) == 0).then(|| random.below(4)),
                own_limit: (random.below(4) == 0).then(|| random.below(60) as u32),
            })
            .collect();
        let request = RateLimitRequest {
            hits_addend: random.below(3) as u32,
            ..request(all.iter().map(One::descriptor).collect())
        };
        let told = ask(&front, &request).unwrap();
        let mut any_is_over = false;
        for (one, status) in all.iter().zip(&told.statuses) {
            let hits = one
                .hits
                .unwrap_or_else(|| request.hits_addend.max(1).into());
            let (is_over, left) = oracle.ask(one, hits);
            let case = format!("round {round}: {one:?}, {hits} hits: {status:?}");
            assert_eq!(status.is_over(), is_over, "{case}");
            assert_eq!(u64::from(status.limit_remaining), left, "{case}");
            let limit = status.current_limit.as_ref().unwrap();
            assert_eq!(u64::from(limit.requests_per_unit), one.limit(), "{case}");
            any_is_over |= is_over;
        }
        assert_eq!(told.is_over(), any_is_over);
        assert_eq!(told.statuses.len(), all.len());
    }
}
