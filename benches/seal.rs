//! A bench of sealing and opening datagrams of a cluster, and of refusing those of strangers.
//!
//! `cargo bench --bench seal` prints Markdown. `RMBD_BENCH_ROUNDS` (default 25) sets the number of rounds, in which
//! the variants take turns. Each makes its datagrams before the clock starts. Times are CPU times of the thread, so
//! that other processes do not count. Words behind `--` choose the variants that have them in their names.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Duration;

use rmbd_cluster::seal::{
    Channel, KeyRing, OpenError, Openers, OpenersOptions, Sealer, TAG_BYTES, generate_key_text,
};
use rmbd_proto::Boot;

use support::command_line::{is_chosen, is_dry, rounds};
use support::cpu_time;
use support::figures::median_min_max;

mod support;

/// Bytes of a full datagram, header and tag included.
const DATAGRAM_BYTES: usize = 1200;
/// Number of datagrams of a variant in a round.
const BATCH: usize = 1000;
const NOW: Duration = Duration::from_secs(1);
/// Options with a budget that is never exhausted. Only the bench of the budget uses others.
const ENDLESS: OpenersOptions = OpenersOptions {
    max_channels: 1000,
    unknown_keys_per_s: u32::MAX,
};

/// A function that runs a batch, and returns the CPU time that it took.
type Variant = Box<dyn FnMut() -> Duration>;

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(25);
    let mut variants = variants();
    variants.retain(|(name, _)| is_chosen(name));
    let mut times = vec![Vec::new(); variants.len()];
    for _ in 0..rounds {
        for ((_, run), times) in variants.iter_mut().zip(&mut times) {
            times.push(run().as_nanos() as f64 / BATCH as f64);
        }
    }
    println!("### Seal, datagrams of {DATAGRAM_BYTES} bytes\n");
    println!("| what | ns of CPU, median [min-max] of {rounds} |");
    println!("|---|---|");
    for ((name, _), times) in variants.into_iter().zip(times) {
        println!("| {name} | {} |", median_min_max(&times, 0));
    }
}

fn variants() -> Vec<(&'static str, Variant)> {
    vec![
        ("seal", Box::new(seal_batch())),
        ("open", known(1, |_| {}, Ok(()))),
        ("open, 1000 channels known", known(1000, |_| {}, Ok(()))),
        ("refuse: wrong version", {
            known(1, |bytes| bytes[0] ^= 0x80, Err(OpenError::Version))
        }),
        ("refuse: too old", {
            known(1, |bytes| bytes[18..26].fill(0), Err(OpenError::TooOld))
        }),
        ("refuse: forged, known channel", {
            known(
                1,
                |bytes| bytes[DATAGRAM_BYTES - 1] ^= 1,
                Err(OpenError::Forged),
            )
        }),
        (
            "refuse: forged, unknown channel, 1 key",
            unknown(1, ENDLESS),
        ),
        (
            "refuse: forged, unknown channel, 2 keys",
            unknown(2, ENDLESS),
        ),
        (
            "refuse: forged, unknown channel, 8 keys",
            unknown(8, ENDLESS),
        ),
        ("refuse: unknown channel, budget used up", {
            let unknown_keys_per_s = 1;
            unknown(
                2,
                OpenersOptions {
                    unknown_keys_per_s,
                    ..ENDLESS
                },
            )
        }),
        ("enter a channel, 1 key", Box::new(enter_batch())),
    ]
}

fn ring(first: u8, keys: u8) -> KeyRing {
    let lines = (first..first + keys).map(|key| generate_key_text([key; 32]) + "\n");
    KeyRing::parse(&lines.collect::<String>()).unwrap()
}

fn channel(id: u64) -> Channel {
    Channel { boot: Boot(1), id }
}

fn sealer(id: u64) -> Sealer {
    Sealer::new(&ring(1, 1), channel(id))
}

fn plain() -> Vec<u8> {
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    datagram.resize(DATAGRAM_BYTES - TAG_BYTES, 7);
    datagram
}

fn seal(sealer: &mut Sealer) -> Vec<u8> {
    let mut datagram = plain();
    sealer.seal(&mut datagram).unwrap();
    datagram
}

/// The time for opening a batch, all of whose datagrams have the same result.
fn open_batch(
    openers: &mut Openers,
    mut datagrams: Vec<Vec<u8>>,
    expected: Result<(), OpenError>,
) -> Duration {
    let mut as_expected = 0;
    let start = cpu_time::of_this_thread();
    for datagram in &mut datagrams {
        let result = openers.open(NOW, black_box(datagram));
        let result = result.map(|opened| {
            black_box(opened.payload);
        });
        as_expected += usize::from(result == expected);
    }
    let time = cpu_time::of_this_thread() - start;
    assert_eq!(as_expected, datagrams.len());
    time
}

fn seal_batch() -> impl FnMut() -> Duration {
    let mut sealer = sealer(1);
    move || {
        let mut datagrams: Vec<_> = (0..BATCH).map(|_| plain()).collect();
        let start = cpu_time::of_this_thread();
        for datagram in &mut datagrams {
            sealer.seal(black_box(datagram)).unwrap();
        }
        cpu_time::of_this_thread() - start
    }
}

/// Datagrams of several known channels in turn, changed in some way.
fn known(channels: u64, change: fn(&mut [u8]), expected: Result<(), OpenError>) -> Variant {
    let mut openers = Openers::new(ring(1, 1), ENDLESS);
    let mut sealers: Vec<_> = (0..channels).map(sealer).collect();
    for sealer in &mut sealers {
        openers.open(NOW, &mut seal(sealer)).unwrap();
    }
    let mut turn = 0;
    Box::new(move || {
        let mut datagrams = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            turn = (turn + 1) % sealers.len();
            let mut datagram = seal(&mut sealers[turn]);
            change(&mut datagram);
            datagrams.push(datagram);
        }
        open_batch(&mut openers, datagrams, expected)
    })
}

/// Datagrams of unknown channels that none of `keys` keys opens.
fn unknown(keys: u8, options: OpenersOptions) -> Variant {
    let mut openers = Openers::new(ring(2, keys), options);
    let has_budget = options == ENDLESS;
    let mut next = 0;
    Box::new(move || {
        let mut datagram = || {
            next += 1;
            seal(&mut sealer(next))
        };
        if !has_budget {
            let _ = openers.open(NOW, &mut datagram());
        }
        let datagrams = (0..BATCH).map(|_| datagram()).collect();
        let refused = if has_budget {
            OpenError::Forged
        } else {
            OpenError::Budget
        };
        open_batch(&mut openers, datagrams, Err(refused))
    })
}

/// The first datagrams of as many channels as the table takes.
fn enter_batch() -> impl FnMut() -> Duration {
    assert_eq!(ENDLESS.max_channels, BATCH);
    let datagrams: Vec<_> = (0..BATCH as u64).map(|id| seal(&mut sealer(id))).collect();
    move || {
        let mut openers = Openers::new(ring(1, 1), ENDLESS);
        open_batch(&mut openers, datagrams.clone(), Ok(()))
    }
}
