//! Three nodes that are one cluster.

use std::net::SocketAddr;

use rmbd_testkit::proxy::Harm;

use super::folder::Folder;
use super::node::Place;
use super::wait;

pub(super) const NODES: usize = 3;

pub(super) struct Nodes {
    pub(super) places: Vec<Place>,
    /// What the nodes keep; it goes when this does, after them.
    _folder: Folder,
}

impl Nodes {
    /// Starts all, and waits until they are one. Each joins all others whenever it is started again.
    pub(super) fn start(name: &str, seed: u64, options: &[&str]) -> Self {
        let folder = Folder::new(name);
        let keys = folder.keys();
        // Nodes of another run of these may be on the first addresses.
        let first = 10 + (std::process::id() % 60) as u8 * NODES as u8;
        let mut places: Vec<Place> = Vec::new();
        for node in 0..NODES as u8 {
            let mut place = Place::new(first + node, Harm::NONE, seed + u64::from(node));
            let others: Vec<SocketAddr> = places.iter().map(Place::cluster).collect();
            place.is_to_directly(folder.path(), &keys, &others, options);
            place.start();
            places.push(place);
        }
        let all: Vec<SocketAddr> = places.iter().map(Place::cluster).collect();
        for (node, place) in places.iter_mut().enumerate() {
            let others = all.iter().copied().enumerate();
            let others: Vec<SocketAddr> = others
                .filter(|&(other, _)| other != node)
                .map(|(_, address)| address)
                .collect();
            place.is_to_stay(&others);
        }
        let nodes = Self {
            places,
            _folder: folder,
        };
        nodes.wait_until_one().unwrap();
        nodes
    }

    /// Waits until each node that runs knows all others that do, and has everything.
    pub(super) fn wait_until_one(&self) -> Result<(), String> {
        wait(|| {
            for status in self.places.iter().filter_map(Place::status) {
                let members = &status.cluster.members;
                let alive = members.iter().filter(|member| member.state == "alive");
                if alive.count() != NODES - 1 || !status.is_ready() {
                    return Err(format!("{members:#?}"));
                }
            }
            Ok(())
        })
    }

    /// N of all that each node knows.
    pub(super) fn known(&self) -> Vec<u64> {
        let statuses = self.places.iter().filter_map(Place::status);
        statuses
            .map(|status| status.sketches[0].known_weight)
            .collect()
    }

    /// Panics and errors in the nodes' logs.
    pub(super) fn complaints(&self) -> Vec<String> {
        let logs = self
            .places
            .iter()
            .map(|place| place.log.lock().unwrap().clone());
        (logs.collect::<String>().lines())
            .filter(|line| line.contains("panicked") || line.contains(" ERROR "))
            .map(str::to_owned)
            .collect()
    }
}
