//! Tests of a node under every small limit of the system. Either it starts (perhaps with all threads on the simpler
//! back end) and lives, or it says in one line which limit to raise, and how far. There is no panic, no signal and no
//! hang.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod groups;
mod running;

use std::collections::BTreeSet;

use running::{Outcome, Program, is_root};

/// Numbers of data threads.
const THREADS: [u64; 4] = [1, 2, 8, 96];
/// Largest number of times that a limit must be raised: the next obstacle shows when the first is gone.
const RAISES_MAX: usize = 4;

/// Runs a node under each of the limits, judges its output, and raises limits as it says. Returns the outcomes: the
/// back ends, and `refused`.
fn check(
    user: u32,
    option: &str,
    name: &str,
    threads: u64,
    more: &[&str],
    limits: &[u64],
) -> BTreeSet<String> {
    let program = Program::for_user(user);
    let run = |limit: u64| program.node(&format!("--{option}={limit}"), threads, more);
    let mut kinds = BTreeSet::new();
    let mut advice = None;
    for &limit in limits {
        let place = format!("{name}={limit}, {threads} threads {more:?}");
        match run(limit) {
            Outcome::NotRun => {}
            Outcome::Lived { io, warnings, .. } => {
                // The node uses io_uring if there is room for it, and else gives one warning about what it lacks.
                let expected = usize::from(io == "mmsg");
                assert_eq!(warnings.len(), expected, "{place}: {warnings:?}");
                assert!(
                    warnings
                        .iter()
                        .all(|line| line.contains(name) || line.contains("RLIMIT_MEMLOCK")),
                    "{place}: {warnings:?}"
                );
                kinds.insert(io);
            }
            Outcome::Refused(line) => {
                assert!(line.contains(name), "{place}: {line}");
                advice.get_or_insert_with(|| needed(&line));
                kinds.insert("refused".to_owned());
            }
        }
    }
    println!("{name}, {threads} threads {more:?}: {kinds:?} over {limits:?}");
    let mut raises = 0;
    while let Some(limit) = advice.take() {
        raises += 1;
        assert!(raises <= RAISES_MAX, "{name}={limit}: raised in vain");
        match run(limit) {
            Outcome::Refused(line) => advice = Some(needed(&line)),
            Outcome::Lived { .. } => {}
            Outcome::NotRun => println!("{name} may not be raised to {limit} here"),
        }
    }
    kinds
}

/// The number that a line says is needed.
pub(crate) fn needed(line: &str) -> u64 {
    let (before, _) = line.split_once(" are needed").expect(line);
    before.rsplit(' ').next().unwrap().parse().expect(line)
}

/// Numbers from 0 to `most`.
fn steps(step: usize, most: u64) -> Vec<u64> {
    (0..=most).step_by(step).collect()
}

/// Tries all numbers of threads at once, each as another user, since the system counts by user.
fn for_all_threads(first_user: u32, each: impl Fn(u32, u64) + Sync) {
    std::thread::scope(|scope| {
        let each = &each;
        let runs: Vec<_> = (first_user..)
            .zip(THREADS)
            .map(|(user, threads)| scope.spawn(move || each(user, threads)))
            .collect();
        for run in runs {
            if let Err(panic) = run.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn open_files() {
    for_all_threads(61_000, |user, threads| {
        let step = if threads > 8 { 28 } else { 2 };
        let limits = steps(step, 40 + 2 * threads);
        let kinds = check(user, "nofile", "RLIMIT_NOFILE", threads, &[], &limits);
        // The step may miss the one number that makes the difference for one thread.
        assert!(
            threads == 1 || kinds.contains("mmsg"),
            "{threads} threads: {kinds:?}"
        );
    });
}

#[test]
fn processes() {
    for_all_threads(61_010, |user, threads| {
        let step = if threads > 8 { 24 } else { 1 };
        // Root's own limit would not apply, and a plain user has other processes besides.
        let others = if is_root() {
            0
        } else {
            running::tasks_of_this_user()
        };
        let mut limits = steps(step, threads + 6);
        limits.extend(steps(step, threads + 6).iter().map(|limit| others + limit));
        let limits: Vec<u64> = BTreeSet::from_iter(limits).into_iter().collect();
        check(user, "nproc", "RLIMIT_NPROC", threads, &[], &limits);
    });
}

#[test]
fn locked_memory() {
    for_all_threads(61_020, |user, threads| {
        let ring = 86_016;
        let limits = steps((ring * threads / 3) as usize, ring * (threads + 2));
        let kinds = check(user, "memlock", "RLIMIT_MEMLOCK", threads, &[], &limits);
        let fell_back = kinds.contains("mmsg") && !kinds.contains("refused");
        assert!(fell_back, "{threads} threads: {kinds:?}");
        let low = &limits[..2];
        check(
            user,
            "memlock",
            "RLIMIT_MEMLOCK",
            threads,
            &["--io", "uring"],
            low,
        );
    });
}

#[test]
fn address_space() {
    for_all_threads(61_030, |user, threads| {
        let mib = 1 << 20;
        // The allocator reserves 1 GiB if it can, or else 128 MiB: the limits include both edges.
        let mut limits = steps(
            (12 + 2 * threads as usize) * mib,
            (300 + 16 * threads) << 20,
        );
        limits.extend((1..5).map(|step| (1000 + step * 70) << 20));
        check(user, "as", "RLIMIT_AS", threads, &[], &limits);
    });
}

/// Here the cells are the largest allocations.
#[test]
fn address_space_for_a_large_sketch() {
    let limits: Vec<u64> = (1..24).map(|step| (step * 20) << 20).collect();
    let sketch = ["-x", "1048576", "-y", "4"];
    check(61_040, "as", "RLIMIT_AS", 1, &sketch, &limits);
    check(61_040, "data", "RLIMIT_DATA", 1, &sketch, &limits);
}
