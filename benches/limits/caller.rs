//! Callers near their limit among other keys, at one node in virtual time.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{
    Batch, Estimate, Reading, Replica, ReplicaLimits, ReplicaOptions, SliceId, Slices, Terms,
    WindowPlan, WindowQuestion,
};

use crate::support::keys::{Key, uniform, zipf};
use crate::{LIMIT, STEP, WINDOW};

/// Each caller makes so many calls in a window, evenly.
const CALLS: u32 = 95;
const CALLERS: u32 = 200;
/// What all others count in a window.
const OTHERS: u32 = 1_000_000;
const WINDOWS: u32 = 3;
const WIDTH: u64 = 1 << 20;

/// Prints how often callers are refused that keep below their limit.
pub(crate) fn near_its_limit() {
    println!(
        "\n{CALLERS} callers that make {CALLS} calls in {} s, evenly, with a limit of {LIMIT} (*smooth*), among {OTHERS} \
         others in a window; the sketch is 4 x 2^20:\n",
        WINDOW.as_secs()
    );
    println!("| others | width of the window | refused, % of the calls | snapshots, MiB |");
    println!("|---|---|---|---|");
    for (name, is_zipf) in [("Zipf 1.1 of 1 M", true), ("uniform of 100 M", false)] {
        for width in [1 << 17, 1 << 18, 1 << 20] {
            let (refused, calls, bytes) = if is_zipf {
                refused(width, zipf(7))
            } else {
                refused(width, uniform(7))
            };
            println!(
                "| {name} | 2^{} | {:.2} | {} |",
                width.ilog2(),
                100.0 * f64::from(refused) / f64::from(calls),
                bytes >> 20
            );
        }
    }
}

fn refused(width: u64, mut others: impl Iterator<Item = Key>) -> (u32, u32, u64) {
    let (geometry, family) = (
        Geometry::new(WIDTH, 4).unwrap(),
        HashFamily::Xxh3 { seed: 7 },
    );
    let (span_ms, step_ms) = (WINDOW.as_millis() as u64, STEP.as_millis() as u64);
    let plan = WindowPlan::new(span_ms, Some(step_ms), Some(width), geometry, family).unwrap();
    let limits = ReplicaLimits {
        max_peers: 0,
        max_origins: 0,
        max_memory_bytes: u64::MAX,
    };
    let options = ReplicaOptions {
        windows: vec![plan],
        ..ReplicaOptions::of(geometry, family, SliceId::default(), limits)
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    let mut batch = Batch::new(Arc::clone(&replica));
    let window = replica.find_window(span_ms).unwrap();
    let terms = Terms {
        limit: LIMIT,
        credit: 0,
        takes: true,
    };
    // One of the callers calls in each tick, in turn, so that each calls evenly.
    let ticks = CALLS * CALLERS;
    let clock = Cell::new(Duration::from_secs(1));
    let (mut refused, mut calls) = (0, 0);
    for tick in 0..ticks * WINDOWS {
        clock.set(clock.get() + WINDOW / ticks);
        while slices.snapshot(&|| clock.get(), usize::MAX).is_some() {}
        let share = |tick: u32| u64::from(OTHERS) * u64::from(tick) / u64::from(ticks);
        for key in others
            .by_ref()
            .take((share(tick + 1) - share(tick)) as usize)
        {
            batch.add(&key, Weight::ONE, &mut |(), _| {}).unwrap();
        }
        let question = WindowQuestion {
            window,
            reading: Reading::Smooth,
            now: clock.get(),
        };
        let caller = format!("caller {}", tick % CALLERS);
        let mut is_refused = false;
        let mut answer = |(), estimate: Estimate| is_refused |= estimate.passed.is_some();
        let take = (Weight::ONE, &terms);
        (batch.take(caller.as_bytes(), take, Some(&question), (), &mut answer)).unwrap();
        batch.finish(&mut answer);
        // Judged in the last window, when each has as many calls behind it as it ever will.
        if tick >= ticks * (WINDOWS - 1) {
            refused += u32::from(is_refused);
            calls += 1;
        }
        if tick % 1_000 == 0 {
            while slices.publish(usize::MAX) == rmbd_store::Published::Partly {}
        }
    }
    (refused, calls, plan.memory_bytes())
}
