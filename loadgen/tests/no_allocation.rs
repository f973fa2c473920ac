//! Sending and receiving allocate nothing.
//!
//! The allocator counts for each thread. The generator's threads are watched from their first
//! messages on; their counts must not move until the run nears its end.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use loadgen::plan::{Format, Load};
use loadgen::record::Pace;
use loadgen::run::Event;
use loadgen::server::ServerUnderLoad;
use support::{at_rate, load, node, only_phase, run_watched};

/// Allocations and deallocations by watched threads.
static BY_WATCHED: AtomicU64 = AtomicU64::new(0);
/// Threads whose allocations count; 0 is nobody.
static WATCHED: [AtomicI32; 8] = [const { AtomicI32::new(0) }; 8];

struct Counting;

#[allow(unsafe_code)]
// SAFETY: every call goes to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    if WATCHED
        .iter()
        .any(|watched| watched.load(Relaxed) == thread)
    {
        BY_WATCHED.fetch_add(1, Relaxed);
    }
}

/// Watches the threads that are now called so; returns how many.
fn watch(name: &[u8]) -> usize {
    for watched in &WATCHED {
        watched.store(0, Relaxed);
    }
    let mut found = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        // It may have ended since.
        let Ok(comm) = std::fs::read(task.path().join("comm")) else {
            continue;
        };
        if comm.starts_with(name) {
            let id = task.file_name().into_string().unwrap().parse().unwrap();
            WATCHED[found].store(id, Relaxed);
            found += 1;
        }
    }
    found
}

#[test]
fn sending_and_receiving_allocate_nothing() {
    let target = ServerUnderLoad::inside(node()).unwrap();
    let base = load("add", "uniform:1000000");
    let counts = load("mix:0.5", "zipf:1.1:1000");
    let compact = |mode: &str| Load {
        format: Format::Compact,
        ..load(mode, "zipf:1.1:1000")
    };
    for (threads, load) in [
        (
            1,
            Load {
                pack: 9,
                ..base.clone()
            },
        ),
        (1, Load { gso: false, ..base }),
        (
            4,
            Load {
                pace: at_rate(20_000.0),
                threads: 2,
                sockets: 3,
                ..counts.clone()
            },
        ),
        (
            1,
            Load {
                pace: Pace::Outstanding { requests: 64 },
                ..counts
            },
        ),
        (
            1,
            Load {
                pack: 77,
                ..compact("add")
            },
        ),
        (
            1,
            Load {
                pace: Pace::Outstanding { requests: 5000 },
                pack: 77,
                ..compact("mix:0.1")
            },
        ),
        (
            2,
            Load {
                pace: at_rate(20_000.0),
                ..compact("hit:100")
            },
        ),
        (
            2,
            Load {
                pace: at_rate(20_000.0),
                hot_change: Some(Duration::from_millis(100)),
                ..compact("mix:0.5/60s")
            },
        ),
        (
            1,
            Load {
                pace: Pace::Outstanding { requests: 500 },
                pack: 9,
                ..compact("take:100/60s")
            },
        ),
        (
            1,
            Load {
                pace: Pace::Outstanding { requests: 5000 },
                pack: 20,
                exactly_once: true,
                weight: 1000,
                ..compact("add")
            },
        ),
    ] {
        let pace = load.pace;
        // Diaries are kept of keys that are checked.
        let checked_keys = 10;
        let (mut watched, mut allocations) = (0, None);
        let record = run_watched(&target, load, checked_keys, &mut |event| {
            let Event::Progress { elapsed, totals } = event else {
                return;
            };
            if watched == 0 && totals.messages > 0 {
                watched = watch(b"loadgen-");
                BY_WATCHED.store(0, Relaxed);
            } else if elapsed < Duration::from_millis(800) {
                allocations = Some(BY_WATCHED.load(Relaxed));
            }
        });
        assert!(only_phase(&record).sent.messages() > 1000);
        assert_eq!(watched, threads, "{pace:?}");
        assert_eq!(allocations, Some(0), "{pace:?}");
        // The count itself works: ending does free memory on these threads.
        assert!(BY_WATCHED.load(Relaxed) > 0, "{pace:?}");
    }
}
