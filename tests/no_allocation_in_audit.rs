//! A test that keys are counted exactly, dropped and judged without an allocation once their replica is made.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{AuditReader, Batch, Replica, ReplicaOptions, Terms};

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
fn audited_adds_allocate_nothing_after_the_start() {
    let geometry = Geometry::new(1 << 10, 4).unwrap();
    let options = ReplicaOptions {
        audit: true,
        ..ReplicaOptions::new(geometry, HashFamily::Xxh3 { seed: 7 })
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    let mut batch = Batch::<()>::new(Arc::clone(&replica));
    let terms = Terms {
        limit: 10,
        credit: 1,
        takes: true,
    };
    let before = ALLOCATIONS.get();
    let mut answer = |(), _| {};
    for number in 0..100_000_u64 {
        let key = number.to_le_bytes();
        batch.add(&key, Weight::ONE, &mut answer).unwrap();
        batch.hit(&key, (Weight::ONE, 9), (), &mut answer).unwrap();
        batch
            .take(&key, (Weight::ONE, &terms), None, (), &mut answer)
            .unwrap();
        if number % 1_000 == 0 {
            batch.finish(&mut answer);
        }
    }
    batch.finish(&mut answer);
    assert_eq!(ALLOCATIONS.get(), before);
    // It was halved once at least.
    let mut reader = AuditReader::new();
    let mut look = reader.begin(&replica).unwrap();
    while look.read_piece() {}
    let audit = replica.audit().unwrap();
    assert!(audit.figures.unwrap().share <= 1.0 / 128.0, "{audit:?}");
    assert!(audit.verdicts.wrong > 100, "{audit:?}");
}
