//! A test that windows allocate nothing once their replica is made: neither questions, nor takes, nor snapshots.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{
    Batch, Reading, Replica, ReplicaOptions, Slices, Terms, WindowPlan, WindowQuestion,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[allow(unsafe_code)]
// SAFETY: every call goes to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|number| number.set(number.get() + 1));
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn windows_allocate_nothing_after_the_start() {
    let geometry = Geometry::new(1 << 16, 4).unwrap();
    let family = HashFamily::Xxh3 { seed: 7 };
    let plan = |span_ms| WindowPlan::new(span_ms, None, Some(1 << 13), geometry, family).unwrap();
    let options = ReplicaOptions {
        windows: vec![plan(1_000), plan(60_000)],
        max_origins: 1,
        ..ReplicaOptions::new(geometry, family)
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    let mut batch = Batch::<()>::new(Arc::clone(&replica));
    let windows = [1_000, 60_000].map(|span_ms| replica.window(span_ms).unwrap());
    let before = ALLOCATIONS.get();
    let mut answer = |(), _| {};
    for step in 0..500_u64 {
        let now = Duration::from_millis(step * 100);
        while slices.snapshot(&|| now, 10_000).is_some() {}
        let _ = slices.next_snapshot();
        let key = (step % 20).to_le_bytes();
        for window in windows {
            for reading in [Reading::Bound, Reading::Smooth] {
                let question = WindowQuestion {
                    window,
                    reading,
                    now,
                };
                let terms = Terms {
                    limit: 10,
                    credit: 1,
                    takes: true,
                };
                batch
                    .hit_in(&key, (Weight::ONE, 9), question, (), &mut answer)
                    .unwrap();
                batch
                    .take(
                        &key,
                        (Weight::ONE, &terms),
                        Some(&question),
                        (),
                        &mut answer,
                    )
                    .unwrap();
                batch.count_in(&key, question, (), &mut answer);
                let looked = batch.look(&key, &mut answer);
                let _ = batch.estimate_in(&looked, &question);
                let _ = batch.retry_after(&looked, &question, Weight::ONE, 10);
                batch.add_looked(&looked, Weight::ONE).unwrap();
            }
        }
        batch.finish(&mut answer);
    }
    assert_eq!(ALLOCATIONS.get(), before);
}
