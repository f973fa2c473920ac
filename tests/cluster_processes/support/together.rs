//! What nodes of one cluster hold, side by side.

use std::collections::{BTreeMap, BTreeSet};

use rmbd::status::Status;

use super::running::{Running, wait_until};

/// Version, root and weight of every slice with something in it, by node and start.
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

/// Waits until all hold the same slices, the one that each writes included, cell for cell.
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

/// Waits until each sees all others, and nobody else, as alive.
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
