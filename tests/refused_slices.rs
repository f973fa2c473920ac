//! Tests of allocations: a slice allocates only for its content, and one that is refused or raises nothing allocates
//! nothing.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use rmbd_proto::Writer;
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_store::{LegacyRows, Replica, ReplicaLimits, SliceId, SliceRefused, Slices};

thread_local! {
    /// The largest allocation of this thread since the value was last read.
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

/// The result of `work`, and its largest allocation in bytes.
fn watch<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let done = work();
    (done, LARGEST.get())
}

const TABLE_BYTES: usize = 4 * 4 * 10_000;
/// Bytes of own cells with those of the others beside them, of the parts of totals that these do not hold (one table
/// and two), and of the published copy.
const OWN_BYTES: usize = 6 * TABLE_BYTES;
/// A memory limit with room for a slice with one cell, and not for two such slices.
const ONE_SLICE_BYTES: usize = 500;
/// The largest allocation in bytes for a slice with one cell, and for a name in the set of refused slices.
const SLICE_BYTES_MAX: usize = 2048;

fn one_cell(value: u64) -> impl Iterator<Item = (u32, u64)> {
    [(7, value)].into_iter()
}

fn replica(max_origins: usize, max_memory_bytes: usize) -> Arc<Replica> {
    let limits = ReplicaLimits {
        max_peers: 5,
        max_origins,
        max_memory_bytes: max_memory_bytes as u64,
    };
    let family = HashFamily::Xxh3 { seed: 7 };
    let geometry = Geometry::new(10_000, 4).unwrap();
    Arc::new(Replica::try_with(geometry, family, SliceId::of(1, Writer(1)), limits).unwrap())
}

#[test]
fn what_is_refused_allocates_nothing() {
    let (a, b) = (SliceId::of(2, Writer(1)), SliceId::of(3, Writer(1)));
    // Slices are refused by their number, and by memory.
    for (max_origins, max_memory_bytes) in [
        (1, OWN_BYTES + TABLE_BYTES),
        (100, OWN_BYTES + ONE_SLICE_BYTES),
    ] {
        let replica = replica(max_origins, max_memory_bytes);
        let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
        // All values are zero, so nothing is allocated.
        let (merged, bytes) = watch(|| slices.merge(&a, one_cell(0)));
        assert_eq!((merged, bytes), (Ok(0), 0));
        // One cell is allocated, and the watch sees it.
        let (merged, bytes) = watch(|| slices.merge(&a, one_cell(5)));
        assert_eq!(merged, Ok(1));
        assert!((1..=SLICE_BYTES_MAX).contains(&bytes), "{bytes}");
        // No cell rises.
        let (merged, _) = watch(|| slices.merge(&a, one_cell(5)));
        assert_eq!(merged, Ok(0));
        for _ in 0..3 {
            let (merged, bytes) = watch(|| slices.merge(&b, one_cell(5)));
            let is_expected = match merged {
                Err(SliceRefused::TooManyOrigins { max }) => max == 1 && max_origins == 1,
                Err(SliceRefused::Memory { .. }) => max_origins == 100,
                _ => false,
            };
            assert!(is_expected, "{merged:?}");
            assert!(bytes <= SLICE_BYTES_MAX, "{bytes}");
        }
    }
}

#[test]
fn a_legacy_peer_without_memory_allocates_its_row_at_most() {
    let replica = replica(0, 3 * TABLE_BYTES);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 5);
    let from = ([127, 0, 0, 1], 8000).into();
    let (merged, bytes) = watch(|| {
        let counters = (0..10_000).map(|_| 1);
        rows.merge(from, 0, counters)
    });
    assert!(merged.is_err());
    // These are ten thousand numbers of 64 bits.
    assert!(bytes <= TABLE_BYTES / 2, "{bytes}");
    assert_eq!(replica.legacy_peers().count(), 0);
}
