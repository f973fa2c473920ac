//! Making the node's sketches within the limits of the process.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{NodeError, room};
use crate::config::{NodeConfig, SketchConfig};
use rmbd_io::cgroup::{GroupLimit, Groups};
use rmbd_io::huge_pages;
use rmbd_proto::{SketchNumber, Writer};
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_store::{Memory, NamedSketch, Registry, Replica, ReplicaOptions, SliceId};

/// Bytes of a node beside its sketches and data threads, and of its program.
const REST_BYTES: u64 = 16 << 20;
/// Bytes of a data thread: buffers, the batch of each protocol, and what the kernel keeps in its socket.
const REST_BYTES_A_THREAD: u64 = 12 << 20;
/// Memory from which on a node uses huge pages. The allocator's alone take some 80 MiB.
const HUGE_PAGES_FROM_BYTES: u64 = 512 << 20;
/// The smallest width that is told as one that fits: a smaller sketch errs too much to be of use.
const WIDTH_TOLD_MIN: u64 = 1 << 10;

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
    let usable = Usable::of_this_process();
    usable.spare_pages();
    let plan = Plan {
        config,
        threads,
        learns_slices,
    };
    let needed_bytes = plan.needed_bytes(&sketches);
    let max_memory_bytes = max_memory_bytes(&plan, needed_bytes, usable)?;
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

/// What memory is planned for.
struct Plan<'c> {
    config: &'c NodeConfig,
    threads: usize,
    learns_slices: bool,
}

impl Plan<'_> {
    fn needed_bytes(&self, sketches: &[SketchConfig]) -> u64 {
        room::cell_bytes(
            sketches,
            self.config.family,
            self.threads,
            self.learns_slices,
        )
    }

    /// Bytes of all but the sketches.
    fn rest_bytes(&self) -> u64 {
        REST_BYTES + self.threads as u64 * REST_BYTES_A_THREAD
    }

    /// The largest power of two below the configured width with which the default sketch, and what else there is, fit
    /// into so many bytes; `None` where there is none.
    fn fitting_width(&self, usable_bytes: u64) -> Option<u64> {
        let geometry = self.config.geometry;
        let told = |width: u64| Some(width).filter(|&width| width >= WIDTH_TOLD_MIN);
        let first = (geometry.width() as u64).next_power_of_two() / 2;
        let mut widths = std::iter::successors(told(first), |width| told(width / 2));
        widths.find(|&width| {
            let Ok(geometry) = Geometry::new(width, geometry.depth() as u64) else {
                return false;
            };
            let smaller = NodeConfig {
                geometry,
                ..self.config.clone()
            };
            let sketches = smaller.all_sketches();
            sketches.is_ok_and(|sketches| {
                self.needed_bytes(&sketches) + self.rest_bytes() <= usable_bytes
            })
        })
    }
}

/// The most bytes that all cells may take.
fn max_memory_bytes(plan: &Plan<'_>, needed_bytes: u64, usable: Usable) -> Result<u64, NodeError> {
    // Without this check the kernel would promise more memory than it has, and kill the process when it uses it.
    if needed_bytes.saturating_add(plan.rest_bytes()) > usable.bytes {
        return Err(NodeError::TooLarge {
            needed_bytes,
            rest_bytes: plan.rest_bytes(),
            usable_bytes: usable.bytes,
            bound: usable.bound,
            fitting_width: plan.fitting_width(usable.bytes),
        });
    }
    let max_bytes = plan
        .config
        .cluster
        .max_memory_bytes
        .unwrap_or_else(|| room::default_max_memory_bytes(usable.bytes, needed_bytes));
    if needed_bytes > max_bytes {
        return Err(NodeError::MaxMemory {
            needed_bytes,
            max_bytes,
        });
    }
    Ok(max_bytes)
}

/// Memory that this process may use.
struct Usable {
    bytes: u64,
    /// The limit that says so.
    bound: String,
}

impl Usable {
    /// That of the machine, or of our control groups if those allow less.
    fn of_this_process() -> Self {
        let system = rustix::system::sysinfo();
        let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
        let (bytes, bound) = match Groups::of_this_process().memory_bytes() {
            Some(GroupLimit { most, file }) if most < machine => (most, file.display().to_string()),
            _ => (machine, "the machine's memory".to_owned()),
        };
        Self { bytes, bound }
    }

    /// Does without huge pages where there is little memory.
    fn spare_pages(&self) {
        if self.bytes < HUGE_PAGES_FROM_BYTES {
            // Without, the node needs more memory, and says nothing of it.
            let _ = huge_pages::forgo();
        }
    }
}
