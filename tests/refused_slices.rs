//! A slice that is refused, or that raises nothing, allocates nothing of its size.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rmbd::replica::{LegacyRows, Replica, ReplicaLimits, SliceId, SliceRefused, Slices};
use rmbd::sketch::{Geometry, HashFamily};
use rmbd::wire::Writer;

thread_local! {
    /// The largest allocation of this thread since it was last looked at.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

#[allow(unsafe_code)]
// SAFETY: every call goes to `System` unchanged; noting a size allocates nothing.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn note(bytes: usize) {
    LARGEST.set(LARGEST.get().max(bytes));
}

/// What `work` returns, and its largest allocation in bytes.
fn watch<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let done = work();
    (done, LARGEST.get())
}

const SLICE_BYTES: usize = 4 * 4 * 10_000;
/// A name in the set of refused slices.
const NAME_BYTES_MAX: usize = 2048;

fn one_cell(value: u32) -> impl Iterator<Item = (u32, u32)> {
    [(7, value)].into_iter()
}

fn replica(max_origins: usize, max_slices: usize) -> Replica {
    let limits = ReplicaLimits {
        max_peers: 5,
        max_origins,
        max_memory_bytes: (max_slices * SLICE_BYTES) as u64,
    };
    let family = HashFamily::Xxh3 { seed: 7 };
    let geometry = Geometry::new(10_000, 4).unwrap();
    Replica::try_with(geometry, family, SliceId::of(1, Writer(1)), limits).unwrap()
}

#[test]
fn what_is_refused_allocates_nothing() {
    let (a, b) = (SliceId::of(2, Writer(1)), SliceId::of(3, Writer(1)));
    // By their number, and by memory: live, published, and one learnt.
    for (max_origins, max_slices) in [(1, 100), (100, 3)] {
        let replica = replica(max_origins, max_slices);
        let mut slices = Slices::try_new(&replica).unwrap();
        // All zero: nothing.
        let (merged, bytes) = watch(|| slices.merge(&replica, &a, one_cell(0)));
        assert_eq!((merged, bytes), (Ok(0), 0));
        // The watch sees a slice.
        let (merged, bytes) = watch(|| slices.merge(&replica, &a, one_cell(5)));
        assert_eq!(merged, Ok(1));
        assert!(bytes >= SLICE_BYTES, "{bytes}");
        // Nothing that rises.
        let (merged, bytes) = watch(|| slices.merge(&replica, &a, one_cell(5)));
        assert_eq!((merged, bytes), (Ok(0), 0));
        for _ in 0..3 {
            let (merged, bytes) = watch(|| slices.merge(&replica, &b, one_cell(5)));
            let is_expected = match merged {
                Err(SliceRefused::TooManyOrigins { max }) => max == 1 && max_origins == 1,
                Err(SliceRefused::Memory { .. }) => max_slices == 3,
                _ => false,
            };
            assert!(is_expected, "{merged:?}");
            assert!(bytes <= NAME_BYTES_MAX, "{bytes}");
        }
    }
}

#[test]
fn a_legacy_peer_without_memory_allocates_its_row_at_most() {
    let replica = replica(0, 2);
    let mut rows = LegacyRows::new(5);
    let from = ([127, 0, 0, 1], 8000).into();
    let (merged, bytes) = watch(|| {
        let counters = (0..10_000).map(|_| 1);
        rows.merge(&replica, from, 0, counters)
    });
    assert!(merged.is_err());
    assert!(bytes <= SLICE_BYTES / 4, "{bytes}");
    assert_eq!(replica.legacy_peers().count(), 0);
}
