//! Making the node's cells within the limits of the process.

use super::{NodeError, room};
use crate::config::NodeConfig;
use rmbd_io::cgroup::{GroupLimit, Groups};
use rmbd_io::huge_pages;
use rmbd_store::{Replica, ReplicaLimits, ReplicaOptions, SliceId};

/// An empty replica for this many data threads.
///
/// # Errors
/// Fails if its cells need more than the process may have, or more than `--max-memory`, or if the allocator refuses.
pub(super) fn make_replica(
    config: &NodeConfig,
    threads: usize,
    own: SliceId,
    is_in_cluster: bool,
) -> Result<Replica, NodeError> {
    let needed_bytes = room::cell_bytes(config, threads, is_in_cluster);
    let (usable_bytes, bound) = usable_memory(&Groups::of_this_process());
    // Without this check the kernel would promise more memory than it has, and kill the process when it uses it.
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
    let options = ReplicaOptions {
        threads,
        ..ReplicaOptions::of(config.geometry, config.family, own, limits)
    };
    let replica = Replica::try_open(options)?;
    replica.own().memory_parts().for_each(|part| {
        huge_pages::advise(part);
    });
    Ok(replica)
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
