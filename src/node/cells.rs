//! Making the node's sketches within the limits of the process.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{NodeError, room};
use crate::config::{NodeConfig, SketchConfig};
use rmbd_io::cgroup::{GroupLimit, Groups};
use rmbd_io::huge_pages;
use rmbd_proto::{SketchNumber, Writer};
use rmbd_sketch::HashFamily;
use rmbd_store::{Memory, NamedSketch, Registry, Replica, ReplicaOptions, SliceId};

/// Who writes the slices of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author {
    pub(super) node: u64,
    pub(super) writer: Writer,
}

/// Empty sketches for this many data threads.
///
/// # Errors
/// Fails if all cells together need more than the process may have, or more than `--max-memory`, or if the allocator
/// refuses.
pub(super) fn make_registry(
    config: &NodeConfig,
    threads: usize,
    author: Author,
    learns_slices: bool,
) -> Result<Registry, NodeError> {
    let sketches = config.all_sketches()?;
    let needed_bytes = room::cell_bytes(&sketches, config.family, threads, learns_slices);
    let max_memory_bytes = max_memory_bytes(config, needed_bytes)?;
    let memory = Memory::new(max_memory_bytes);
    let make = |sketch: SketchConfig| {
        warn_of_no_lists(&sketch, config.family, threads);
        let name = sketch.name;
        let is_default = name.number() == SketchNumber::DEFAULT;
        let options = ReplicaOptions {
            geometry: sketch.geometry,
            family: config.family,
            own: SliceId {
                sketch: name.number(),
                node: author.node,
                writer: author.writer,
            },
            // Their rows are of the sketch that every node has.
            max_peers: if is_default { config.max_peers } else { 0 },
            max_origins: if learns_slices {
                config.cluster.max_origins
            } else {
                0
            },
            memory: memory.clone(),
            threads,
            windows: sketch.windows,
            top: sketch.top,
            audit: true,
            started: Duration::ZERO,
        };
        let replica = Replica::try_open(options)?;
        replica.own().memory_parts().for_each(|part| {
            huge_pages::advise(part);
        });
        Ok(NamedSketch::new(name, Arc::new(replica)))
    };
    let sketches = sketches.into_iter().map(make);
    Ok(Registry::new(sketches.collect::<Result<_, NodeError>>()?)?)
}

/// Says so where lists of the largest keys were asked for that there cannot be.
fn warn_of_no_lists(sketch: &SketchConfig, family: HashFamily, threads: usize) {
    if sketch.top > 0 && !sketch.top_plan(family, threads).has_lists() {
        warn!(
            "the sketch {} lists no keys, although a top of {} was asked for: {} with {} rows cannot; use at most 4 \
             rows or another --hash, or leave top out",
            sketch.name,
            sketch.top,
            family.name(),
            sketch.geometry.depth()
        );
    }
}

/// The most bytes that all cells may take.
fn max_memory_bytes(config: &NodeConfig, needed_bytes: u64) -> Result<u64, NodeError> {
    let (usable_bytes, bound) = usable_memory(&Groups::of_this_process());
    // Without this check the kernel would promise more memory than it has, and kill the process when it uses it.
    if needed_bytes > usable_bytes {
        return Err(NodeError::TooLarge {
            needed_bytes,
            usable_bytes,
            bound,
        });
    }
    let max_bytes = config
        .cluster
        .max_memory_bytes
        .unwrap_or_else(|| room::default_max_memory_bytes(usable_bytes, needed_bytes));
    if needed_bytes > max_bytes {
        return Err(NodeError::MaxMemory {
            needed_bytes,
            max_bytes,
        });
    }
    Ok(max_bytes)
}

/// Bytes of memory of the machine, or of our control groups if those allow less, and the name of that limit.
fn usable_memory(groups: &Groups) -> (u64, String) {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
    match groups.memory_bytes() {
        Some(GroupLimit { most, file }) if most < machine => (most, file.display().to_string()),
        _ => (machine, "the machine's memory".to_owned()),
    }
}
