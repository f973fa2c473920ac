//! Tests with many seeds, each of which makes a small history of a cluster with many faults.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd_simulator::faults::Faults;
use rmbd_simulator::node::Node;
use rmbd_simulator::run::{Outcome, run};
use rmbd_simulator::world::{Kind, WindowLook};

/// Default number of seeds.
const SEEDS: u64 = 500;
/// Number of seeds from which on each kind of fault must have happened.
const SEEDS_OF_EVERY_FAULT: u64 = 400;
/// Number of failures that are shown before the test ends.
const FAILURES_MAX: u64 = 3;

/// The least share of looks at windows that count nothing that is older than two steps and a delivery. Where clocks run
/// as no clock should, looks do not count.
const WITHIN_MIN: f64 = 0.981;
/// The same in a course of less than [`SEEDS_OF_SHARES`] seeds. One history has hundreds of looks, which are alike.
const WITHIN_OF_FEW_MIN: f64 = 0.95;
/// From so many seeds on chance moves the share of a kind by a few thousandths at most.
const SEEDS_OF_SHARES: u64 = 2_000;
/// From so many looks of a kind on their share counts.
const LOOKS_MIN: usize = 1_000;

/// The seeds that are played, and for how long.
#[derive(Debug)]
struct Course {
    /// The first of the seeds that are the same each time.
    first: u64,
    /// The first of the seeds that are drawn anew.
    fresh: u64,
    /// Number of fresh seeds in a hundred.
    fresh_percent: u64,
    seeds_min: u64,
    time_min: Duration,
    failures_max: u64,
}

impl Course {
    fn from_environment() -> Self {
        let seconds = number("RMBD_SIM_SECONDS").unwrap_or(0);
        let course = Self {
            first: number("RMBD_SIM_FIRST").unwrap_or(0),
            // The number is far from where people begin to count, and short enough to be read out.
            fresh: number("RMBD_SIM_BASE")
                .unwrap_or_else(|| (1 << 40) + (RandomState::new().hash_one(0) >> 24)),
            fresh_percent: number("RMBD_SIM_FRESH").unwrap_or(0).min(100),
            seeds_min: number("RMBD_SIM_SEEDS").unwrap_or(SEEDS),
            time_min: Duration::from_secs(seconds),
            failures_max: number("RMBD_SIM_FAILURES").unwrap_or(FAILURES_MAX),
        };
        if course.fresh_percent > 0 {
            let percent = course.fresh_percent;
            println!(
                "{percent} % of the seeds are fresh, from {} on",
                course.fresh
            );
        }
        course
    }

    /// The seed of the n-th history. Fresh seeds are spread evenly among the others.
    fn seed(&self, number: u64) -> u64 {
        let fresh_before = |number: u64| number * self.fresh_percent / 100;
        let fresh = fresh_before(number);
        if fresh_before(number + 1) > fresh {
            self.fresh + fresh
        } else {
            self.first + number - fresh
        }
    }

    fn is_over(&self, number: u64, since: Instant) -> bool {
        number >= self.seeds_min && since.elapsed() >= self.time_min
    }
}

/// The sum over all seeds.
#[derive(Default)]
struct Sum {
    seeds: u64,
    faults: Faults,
    rounds: Vec<f64>,
    /// Shares of the time that may pass until all are equal, with the seeds.
    shares: Vec<(f64, u64)>,
    lone: BTreeMap<usize, Vec<f64>>,
    /// The seeds that took longest.
    slow: Vec<(Duration, u64)>,
    events: u64,
    looks: BTreeMap<Kind, Vec<WindowLook>>,
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
    let course = Course::from_environment();
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while (sum.lock().unwrap().failures.len() as u64) < course.failures_max {
                    let number = next.fetch_add(1, Relaxed);
                    if course.is_over(number, start) {
                        break;
                    }
                    let seed = course.seed(number);
                    let began = Instant::now();
                    let outcome = play(seed, false);
                    let mut sum = sum.lock().unwrap();
                    sum.slow.push((began.elapsed(), seed));
                    note(&mut sum, seed, outcome);
                }
            });
        }
    });
    report(sum.into_inner().unwrap(), start);
}

fn play(seed: u64, trace: bool) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run::<Node>(seed, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn note(sum: &mut Sum, seed: u64, outcome: Result<Outcome, String>) {
    sum.seeds += 1;
    match outcome {
        Ok(outcome) => {
            sum.faults += outcome.faults;
            sum.rounds.push(outcome.rounds);
            sum.shares.push((outcome.share, seed));
            for (nodes, rounds) in outcome.lone {
                sum.lone.entry(nodes).or_default().push(rounds);
            }
            sum.events += outcome.events;
            for look in outcome.window_looks {
                sum.looks.entry(look.kind).or_default().push(look);
            }
        }
        Err(why) => {
            eprintln!("{}", failure(seed, &why));
            sum.failures.push((seed, why));
        }
    }
}

fn failure(seed: u64, why: &str) -> String {
    format!(
        "seed {seed} failed: {why}\n    RMBD_SIM_SEED={seed} cargo test -p rmbd-simulator --test cluster one_seed -- --nocapture"
    )
}

fn report(mut sum: Sum, start: Instant) {
    println!(
        "{} seeds, {} events, {:.0} s",
        sum.seeds,
        sum.events,
        start.elapsed().as_secs_f64()
    );
    println!("    equal after rounds: {}", spread(&mut sum.rounds));
    sum.shares.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!(
        "    most of the time that it may take: {:.3?}",
        &sum.shares[..sum.shares.len().min(5)]
    );
    for (nodes, rounds) in &mut sum.lone {
        println!(
            "    heard by one only, then by all {nodes}, after rounds: {}",
            spread(rounds)
        );
    }
    sum.slow.sort_by_key(|&(took, _)| std::cmp::Reverse(took));
    println!(
        "    slowest to play: {:.1?}",
        &sum.slow[..sum.slow.len().min(5)]
    );
    for (name, times) in sum.faults.named() {
        println!("    {name}: {times}");
    }
    let within = report_windows(&sum.looks);
    assert!(
        sum.failures.is_empty(),
        "{} seeds failed, see above: {:?}",
        sum.failures.len(),
        sum.failures
            .iter()
            .map(|(seed, _)| seed)
            .collect::<Vec<_>>()
    );
    for (name, times) in sum.faults.named() {
        assert!(times > 0 || sum.seeds < SEEDS_OF_EVERY_FAULT, "no {name}");
    }
    for (kind, within) in within {
        // A window covers the time of a stop, and that for which a machine was off, too; and what a node had no room
        // for comes when it comes.
        let is_longer = matches!(kind, Kind::Stops | Kind::Limits | Kind::Disks);
        let within_min = match sum.seeds {
            SEEDS_OF_SHARES.. if !is_longer => WITHIN_MIN,
            _ => WITHIN_OF_FEW_MIN,
        };
        assert!(
            within >= within_min || sum.seeds < SEEDS_OF_EVERY_FAULT,
            "{kind:?}: only {within} of the windows are within two steps and a delivery"
        );
    }
}

/// Prints by how many steps windows count too much, and returns the shares that are within the bound where they count.
fn report_windows(looks: &BTreeMap<Kind, Vec<WindowLook>>) -> Vec<(Kind, f64)> {
    let shares = looks.iter().map(|(&kind, looks)| {
        let within = looks.iter().filter(|look| look.is_within).count();
        let mut steps: Vec<f64> = looks.iter().map(|look| look.excess_steps).collect();
        let share = within as f64 / looks.len() as f64;
        println!(
            "    windows, {kind:?}: {:.2} % within, steps too many: {}",
            share * 100.0,
            spread(&mut steps)
        );
        (kind, share)
    });
    let shares: Vec<(Kind, f64)> = shares.collect();
    let counts = |&(kind, _): &(Kind, f64)| kind != Kind::Clocks && looks[&kind].len() > LOOKS_MIN;
    shares.into_iter().filter(counts).collect()
}

fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = values.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        values.get(at).copied().unwrap_or_default()
    };
    format!(
        "half {:.1}, 90 % {:.1}, 99 % {:.1}, all {:.1} ({} times)",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        values.len()
    )
}

/// Replays the seed in `RMBD_SIM_SEED`, and prints what happens. Without it, shows that a seed always makes the same
/// history.
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
        let once = run::<Node>(seed, false);
        assert_eq!(once, run::<Node>(seed, false), "seed {seed}");
    }
}

#[test]
fn fresh_seeds_are_spread_among_the_others_and_none_is_played_twice() {
    for fresh_percent in [0, 1, 50, 99, 100] {
        let course = Course {
            first: 7,
            fresh: 1_000_000,
            fresh_percent,
            seeds_min: 0,
            time_min: Duration::ZERO,
            failures_max: 1,
        };
        let mut seeds: Vec<u64> = (0..1_000).map(|number| course.seed(number)).collect();
        let fresh = seeds.iter().filter(|&&seed| seed >= 1_000_000).count() as u64;
        assert_eq!(fresh, fresh_percent * 10);
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1_000);
    }
}
