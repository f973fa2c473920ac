//! The slices of the nodes of one cluster, compared with each other.

use std::collections::{BTreeMap, BTreeSet};

use rmbd::status::Status;

use super::running::{Running, wait_until};

/// Version, root and weight of every slice that is not empty, by node and start.
pub(crate) type Content = BTreeMap<(String, String), (u64, String, u64)>;

pub(crate) fn content(status: &Status) -> Content {
    let slices = status.cluster.slices.iter();
    let filled = slices.filter(|slice| slice.weight > 0);
    filled
        .map(|slice| {
            let name = (slice.node.clone(), slice.writer.clone());
            let root = slice.root.clone().unwrap();
            (name, (slice.version, root, slice.weight))
        })
        .collect()
}

/// Waits until all nodes hold the same slices, cell for cell, including each node's own.
pub(crate) fn wait_until_equal(nodes: &[&Running]) -> Content {
    let mut equal = Content::new();
    wait_until("equal nodes", || {
        let contents: Vec<_> = nodes.iter().map(|node| content(&node.status())).collect();
        let different = contents.iter().find(|content| **content != contents[0]);
        match different {
            Some(different) => Err(format!("{:#?}\n{different:#?}", contents[0])),
            None => {
                equal.clone_from(&contents[0]);
                Ok(())
            }
        }
    });
    equal
}

/// Starts of the members that are not down, as a node sees them.
pub(crate) fn live(status: &Status) -> BTreeSet<&str> {
    let members = status.cluster.members.iter();
    let up = members.filter(|member| member.state != "down");
    up.map(|member| member.boot.as_str()).collect()
}

/// Waits until each node sees all others, and no other node, as alive.
pub(crate) fn wait_until_one(nodes: &[&Running]) {
    let boots: Vec<_> = (nodes.iter())
        .map(|node| node.status().cluster.boot)
        .collect();
    for (node, own) in nodes.iter().zip(&boots) {
        let others = boots.iter().filter(|boot| *boot != own);
        let others: BTreeSet<&str> = others.map(String::as_str).collect();
        node.wait("one cluster", |status| live(status) == others);
    }
}
