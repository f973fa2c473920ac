//! A check of whether the limits of this process have room for a node, before any part of it exists.

use super::envoy;
use super::resp::{HEAP_BYTES_A_THREAD, buffers_bytes_a_thread};
use crate::config::{NodeConfig, RespConfig, SketchConfig};
use crate::fronts::spoe::{CONNECTION_BYTES_MAX, CONNECTIONS_MAX};
use rmbd_io::Backend;
use rmbd_io::limits::{LimitReached, memory_left_bytes, room_for_files, room_for_memory};
use rmbd_sketch::HashFamily;
use rmbd_store::DeniedBook;

/// Number of files beside those of the data threads: HTTP, the cluster's socket twice, the stop signal, the lock on
/// the node's id, and the control thread's epoll, its waker, a pair and a half for signals, and a ring.
const FILES_OF_CONTROL: u64 = 11;
/// Number of files of the thread of HTTP: its runtime's epoll, waker and copy.
const FILES_OF_HTTP: u64 = 3;
/// Number of files of the thread for snapshot files: a ring, its runtime's epoll, waker and copy, the file, and the
/// folder.
const FILES_OF_SNAPSHOTS: u64 = 6;
/// Number of files to spare: connections over HTTP, looking names up, reading `/proc`.
const FILES_TO_SPARE: u64 = 16;

/// Number of threads beside the data threads: control, HTTP, one that looks names up, one that writes the log, and one
/// that writes the ready line.
const OTHER_THREADS: u64 = 5;
/// Bytes that `std` gives a thread as its stack, with its guard and the stack for signal handlers.
const STACK_BYTES: u64 = (2 << 20) + (128 << 10);
/// Bytes of a ring, and of the receive buffers that the kernel is given.
const URING_BYTES: u64 = 5 << 20;
/// Number of blocks that a data thread allocates. It has 2 MiB of buffers for `recvmmsg`, 2 MiB for replies, its
/// batch and answers; the pages that the allocator leaves unused for each size take two or three times as much.
const HEAP_BLOCKS_A_THREAD: u64 = 16;
/// Bytes of one block; memory is allocated in pieces of at most this size.
const HEAP_BLOCK_BYTES: usize = 1 << 20;
/// Bytes that a data thread allocates for each sketch: what its batch absorbs, and its pipeline.
const BATCH_BYTES: usize = 100 << 10;
/// Bytes that a session has beside its batches: the keys of hits that wait for their verdicts.
const SESSION_BYTES: usize = 80 << 10;
/// Number of blocks that the node allocates beside cells: tables of clients, peers and slices, the queue of rare
/// messages, HTTP, members, rules, and datagrams under way.
const HEAP_BLOCKS_OF_NODE: u64 = 96;
/// Bytes to spare, for stacks of threads that come and go, and what is mapped in them.
const MAPPED_TO_SPARE_BYTES: u64 = 48 << 20;

/// Checks the limits for a node of this many data threads on this back end.
///
/// # Errors
/// The limit that leaves no room.
pub(super) fn check(
    config: &NodeConfig,
    threads: usize,
    backend: Backend,
) -> Result<(), LimitReached> {
    let blocks = allocated(&sketches(config), config, threads);
    let threads = threads as u64;
    let keeps = config.cluster.data_dir.is_some();
    let of_fronts = files_of_resp(&config.resp, threads, backend)
        + files_of_spoe(config)
        + envoy::files(config);
    room_for_files(files(threads, backend, keeps) + of_fronts)?;
    room_for_memory(&blocks, mapped(threads + u64::from(keeps), backend))
}

/// The sketches of a node. What is wrong with them is told where they are made.
fn sketches(config: &NodeConfig) -> Vec<SketchConfig> {
    config.all_sketches().unwrap_or_default()
}

fn files(threads: u64, backend: Backend, keeps: bool) -> u64 {
    let of_thread = match backend {
        Backend::Uring => 2,
        Backend::Mmsg => 1,
    };
    let of_snapshots = if keeps { FILES_OF_SNAPSHOTS } else { 0 };
    threads * of_thread + FILES_OF_CONTROL + FILES_OF_HTTP + of_snapshots + FILES_TO_SPARE
}

/// Files for clients of Redis's protocol: connections, listeners, and what waits for both.
fn files_of_resp(resp: &RespConfig, threads: u64, backend: Backend) -> u64 {
    let of_thread = match backend {
        Backend::Uring => 1,
        Backend::Mmsg => 2,
    };
    match resp.address {
        Some(_) => resp.connections as u64 + threads * of_thread,
        None => 0,
    }
}

/// Files for HAProxy: connections, and the listener.
fn files_of_spoe(config: &NodeConfig) -> u64 {
    match config.spoe {
        Some(_) => CONNECTIONS_MAX as u64 + 1,
        None => 0,
    }
}

/// Bytes that a data thread allocates for clients of Redis's protocol.
fn heap_bytes_of_resp(resp: &RespConfig) -> usize {
    match resp.address {
        Some(_) => buffers_bytes_a_thread(resp) + HEAP_BYTES_A_THREAD,
        None => 0,
    }
}

/// The blocks that are allocated. Cells and their copy come first, since they are the largest. Counts of denied keys
/// come last; a reload that brings limits makes more of them.
fn allocated(sketches: &[SketchConfig], config: &NodeConfig, threads: usize) -> Vec<usize> {
    let learns_slices = config.cluster.learns_slices();
    let tables = sketches
        .iter()
        .flat_map(|sketch| sketch.tables_bytes(config.family, threads, learns_slices));
    // The thread of HTTP has a batch for each, too; Envoy, HAProxy and clients of Redis's protocol have batches of
    // their own.
    let has_spoe = config.spoe.is_some();
    let sessions =
        2 + usize::from(has_spoe) + (threads << u32::from(config.resp.address.is_some()));
    let of_sessions = sessions * (sketches.len() * BATCH_BYTES + SESSION_BYTES);
    let of_resp = threads * heap_bytes_of_resp(&config.resp);
    let of_spoe = usize::from(has_spoe) * CONNECTIONS_MAX * CONNECTION_BYTES_MAX;
    let of_fronts = (of_sessions + of_resp + of_spoe).div_ceil(HEAP_BLOCK_BYTES);
    let blocks = HEAP_BLOCKS_OF_NODE + threads as u64 * HEAP_BLOCKS_A_THREAD + of_fronts as u64;
    let denied = DeniedBook::memory_bytes(threads, config.limits.len());
    tables
        .chain([denied])
        .map(|bytes| bytes as usize)
        .chain(std::iter::repeat_n(HEAP_BLOCK_BYTES, blocks as usize))
        .collect()
}

/// Bytes that are mapped for this many threads with a ring each.
fn mapped(threads: u64, backend: Backend) -> u64 {
    let rings = match backend {
        Backend::Uring => threads * URING_BYTES,
        Backend::Mmsg => 0,
    };
    (threads + OTHER_THREADS) * STACK_BYTES + rings + MAPPED_TO_SPARE_BYTES
}

/// Bytes of all tables of these sketches.
pub(super) fn cell_bytes(
    sketches: &[SketchConfig],
    family: HashFamily,
    threads: usize,
    learns_slices: bool,
) -> u64 {
    let planned = sketches
        .iter()
        .map(|sketch| sketch.planned_memory_bytes(family, threads, learns_slices));
    planned.fold(0, u64::saturating_add)
}

/// Bytes of all cells if `--max-memory` is not given: seven eighths of what the process may use, so that the rest of
/// the process has room, but never less than its own cells.
pub(super) fn default_max_memory_bytes(usable_bytes: u64, own_bytes: u64) -> u64 {
    let of_usable = usable_bytes - usable_bytes / 8;
    // The allocator reserves a part of the address space, and the spare part must stay.
    let left = memory_left_bytes().map_or(u64::MAX, |left| own_bytes.saturating_add(left / 2));
    of_usable.min(left).max(own_bytes)
}
