//! Many seeds, each a small history of a cluster in which much goes wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::support::network::Faults;
use crate::support::node::Node;
use crate::support::run::{Outcome, run};

/// What is played where nothing is said.
const SEEDS: u64 = 500;
/// From so many on, each kind of fault must have happened.
const SEEDS_OF_EVERY_FAULT: u64 = 200;
/// Failures that are shown; then it ends.
const FAILURES_MAX: usize = 3;

/// What came of all of them.
#[derive(Default)]
struct Sum {
    faults: Faults,
    rounds: Vec<f64>,
    events: u64,
    failures: Vec<(u64, String)>,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok();
    let text = text.filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

#[test]
fn seeds() {
    let first = number("RMBD_SIM_FIRST").unwrap_or(0);
    let count = number("RMBD_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while sum.lock().unwrap().failures.len() < FAILURES_MAX {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = play(seed, false);
                    note(&mut sum.lock().unwrap(), seed, outcome);
                }
            });
        }
    });
    report(sum.into_inner().unwrap(), count);
}

fn play(seed: u64, trace: bool) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run::<Node>(seed, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn note(sum: &mut Sum, seed: u64, outcome: Result<Outcome, String>) {
    match outcome {
        Ok(outcome) => {
            sum.faults += outcome.faults;
            sum.rounds.push(outcome.rounds);
            sum.events += outcome.events;
        }
        Err(why) => {
            eprintln!("{}", failure(seed, &why));
            sum.failures.push((seed, why));
        }
    }
}

fn failure(seed: u64, why: &str) -> String {
    format!(
        "seed {seed} failed: {why}\n    RMBD_SIM_SEED={seed} cargo test --test cluster one_seed -- --nocapture"
    )
}

fn report(mut sum: Sum, count: u64) {
    assert!(
        sum.failures.is_empty(),
        "seeds {:?} failed, see above",
        sum.failures
            .iter()
            .map(|(seed, _)| seed)
            .collect::<Vec<_>>()
    );
    sum.rounds.sort_by(f64::total_cmp);
    let at = |share: f64| sum.rounds[((sum.rounds.len() - 1) as f64 * share) as usize];
    println!("{count} seeds, {} events; equal after rounds:", sum.events);
    println!(
        "    half {:.1}, 90 % {:.1}, 99 % {:.1}, all {:.1}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    for (name, times) in sum.faults.named() {
        println!("    {name}: {times}");
        assert!(times > 0 || count < SEEDS_OF_EVERY_FAULT, "no {name}");
    }
}

/// Replays the seed in `RMBD_SIM_SEED` and prints what happens; without it, shows that a seed always
/// makes the same history.
#[test]
fn one_seed() {
    if let Some(seed) = number("RMBD_SIM_SEED") {
        match play(seed, true) {
            Ok(outcome) => println!("{outcome:?}"),
            Err(why) => panic!("{}", failure(seed, &why)),
        }
        return;
    }
    for seed in 0..5 {
        let once = run::<Node>(seed, false).unwrap();
        assert_eq!(once, run::<Node>(seed, false).unwrap(), "seed {seed}");
    }
}
