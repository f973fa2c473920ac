//! An end in order and the next start of a whole node, by what is in the file.

use std::time::Instant;

use crate::support::figures::median_min_max;
use crate::whole::{FULL_KEYS, Folder, fill, node};

/// Prints a table: from the call that ends the node until it has ended, and from the call that starts it until it
/// serves.
pub(crate) fn table(rounds: usize) {
    println!("### An end in order and the next start, ms, medians [min-max] of {rounds} runs\n");
    println!("| different keys | file, MiB | end | start | both |\n|---|---|---|---|---|");
    for keys in [0, 10_000, 1_000_000, FULL_KEYS] {
        line(keys, rounds);
    }
    println!();
}

fn line(keys: u32, rounds: usize) {
    let folder = Folder::new();
    let mut running = node(&folder.0);
    fill(&running, keys);
    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        let began = Instant::now();
        running.stop().unwrap();
        let ended = began.elapsed();
        running = node(&folder.0);
        let both = began.elapsed();
        for (times, taken) in times.iter_mut().zip([ended, both - ended, both]) {
            times.push(taken.as_secs_f64() * 1e3);
        }
        assert!(running.estimate(b"new").count >= round as u64);
        // Where nothing is new no file is written.
        running.add(b"new", 1).unwrap();
    }
    running.stop().unwrap();
    let file = std::fs::metadata(folder.0.join(rmbd_snapshot::FILE_NAME)).unwrap();
    let [end, start, both] = times.map(|times| median_min_max(&times, 0));
    let mib = file.len() as f64 / f64::from(1 << 20);
    println!("| {keys} | {mib:.2} | {end} | {start} | {both} |");
}
