//! Generated messages beside a naive counter.

use std::collections::HashMap;

use rmbd_testkit::random::Random;

use super::*;

/// Takes and hits of few keys, so that the sketch has no collisions; one that fails prints its seed.
#[test]
fn verdicts_are_those_of_exact_counts() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let agent = agent();
        let mut counts: HashMap<(bool, i64), u64> = HashMap::new();
        for step in 0..100 {
            let (takes, of_other) = (random.below(2) == 0, random.below(2) == 0);
            let (key, weight, limit) = (random.below(6) as i64, random.below(9), random.below(40));
            let mut args = vec![
                ("key", Arg::Number(key)),
                ("limit", Arg::Number(limit as i64)),
                // HAProxy keeps some numbers as texts.
                ("weight", Arg::Text(weight.to_string().into())),
            ];
            if of_other {
                args.push(("sketch", "other".into()));
            } else if random.below(2) == 0 {
                args.push(("window", "60s".into()));
            }
            let told = ask(&agent, if takes { "rmbd-take" } else { "rmbd-hit" }, &args);
            let count = counts.entry((of_other, key)).or_default();
            let is_over = *count + weight > limit;
            if !(takes && is_over) {
                *count += weight;
            }
            let left = limit.saturating_sub(*count);
            let expected = format!("{} {is_over} {count} {left} -", !is_over);
            assert_eq!(
                in_short(&told),
                expected,
                "seed {seed}, step {step}: {args:?}"
            );
            let waits =
                is_over && args.iter().any(|(name, _)| *name == "window") && weight <= limit;
            assert_eq!(
                told["retry_after_ms"] == "-",
                is_over && !waits,
                "seed {seed}, step {step}"
            );
        }
    }
}
