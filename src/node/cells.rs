//! The node's cells, made within the limits of the process.

use super::{NodeError, room};
use crate::config::NodeConfig;
use rmbd_io::cgroup::{GroupLimit, Groups};
use rmbd_io::huge_pages;
use rmbd_store::{Replica, ReplicaLimits, SliceId};

/// What so many data threads add to, empty.
///
/// # Errors
/// Its cells are more than the process may have, or than `--max-memory`, or the allocator refuses.
pub(super) fn make_replica(
    config: &NodeConfig,
    threads: usize,
    own: SliceId,
    is_in_cluster: bool,
) -> Result<Replica, NodeError> {
    let needed_bytes = room::cell_bytes(config, threads, is_in_cluster);
    let (usable_bytes, bound) = usable_memory(&Groups::of_this_process());
    // The kernel would promise more than it has, and kill us when we come for it.
    if needed_bytes > usable_bytes {
        return Err(NodeError::TooLarge {
            needed_bytes,
            usable_bytes,
            bound,
        });
    }
    let max_memory_bytes = config
        .cluster
        .max_memory_bytes
        .unwrap_or_else(|| room::default_max_memory_bytes(usable_bytes, needed_bytes));
    if needed_bytes > max_memory_bytes {
        return Err(NodeError::MaxMemory {
            needed_bytes,
            max_bytes: max_memory_bytes,
        });
    }
    let limits = ReplicaLimits {
        max_peers: config.max_peers,
        max_origins: if is_in_cluster {
            config.cluster.max_origins
        } else {
            0
        },
        max_memory_bytes,
    };
    let replica = Replica::try_with_threads(config.geometry, config.family, own, limits, threads)?;
    replica.own().memory_parts().for_each(|part| {
        huge_pages::advise(part);
    });
    Ok(replica)
}

/// Bytes of the machine, or of our control groups where those have less, and which of them it is.
fn usable_memory(groups: &Groups) -> (u64, String) {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
    match groups.memory_bytes() {
        Some(GroupLimit { most, file }) if most < machine => (most, file.display().to_string()),
        _ => (machine, "the machine's memory".to_owned()),
    }
}
