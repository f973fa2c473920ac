//! Nodes of a cluster that are killed again and again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rmbd_client::{Client, ClientOptions};
use rmbd_testkit::random::Random;
use rustix::process::Signal;

use super::node::Place;
use super::nodes::{NODES, Nodes};
use super::{Findings, median_and_most, wait};

const OPTIONS: [&str; 5] = [
    "--threads=1",
    "--log=warn",
    "--http=127.0.0.1:0",
    "-x=16384",
    "--snapshot-interval=1s",
];
const ADDS: usize = 300;
const KEYS: u64 = 1_000;
/// A client of a node that is killed gives up soon.
const TIMEOUT: Duration = Duration::from_millis(300);
/// The shortest and longest time between two kills.
const LIFE_MS: (u64, u64) = (50, 1_500);

/// Kills one node or two so many times.
pub(crate) fn run(seed: u64, rounds: u64) -> Findings {
    let mut nodes = Nodes::start("cluster", seed, &OPTIONS);
    let (mut findings, mut random) = (Findings::default(), Random(seed));
    let mut recoveries = Vec::new();
    for round in 0..rounds {
        let killed = choose(&mut random);
        let life = LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0);
        add_and_kill(
            &mut nodes,
            &killed,
            &mut random,
            Duration::from_millis(life),
        );
        // Whatever those have who were not killed is with everybody afterwards.
        let survivors = (0..NODES).filter(|node| !killed.contains(node));
        let had = survivors.map(|node| nodes.places[node].held());
        let mut least: BTreeMap<String, u64> = BTreeMap::new();
        for (writer, weight) in had.flatten() {
            let most = least.entry(writer).or_default();
            *most = weight.max(*most);
        }
        let began = Instant::now();
        killed.iter().for_each(|&node| nodes.places[node].start());
        let outcome = nodes
            .wait_until_one()
            .and_then(|()| wait(|| all_have(&nodes, &least)));
        recoveries.push(began.elapsed());
        if let Err(lacking) = outcome {
            findings
                .faults
                .push(format!("round {round}, {killed:?} killed: {lacking}"));
            break;
        }
    }
    findings.faults.extend(nodes.complaints());
    let known = nodes.known();
    findings.note("kills", rounds);
    findings.note("N at the end", format!("{known:?}"));
    let what = "from the start until all have all that survived, median and longest, ms";
    findings.note(what, median_and_most(&recoveries));
    findings
}

/// One node, or two.
fn choose(random: &mut Random) -> Vec<usize> {
    let first = random.below(NODES as u64) as usize;
    let second = (first + 1 + random.below(NODES as u64 - 1) as usize) % NODES;
    match random.below(3) {
        0 => vec![first, second],
        _ => vec![first],
    }
}

fn add_and_kill(nodes: &mut Nodes, killed: &[usize], random: &mut Random, life: Duration) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for place in &nodes.places {
            let (server, seed, is_over) = (place.udp(), random.next(), &is_over);
            scope.spawn(move || {
                let options = ClientOptions {
                    timeout: TIMEOUT,
                    ..ClientOptions::default()
                };
                let (mut client, mut random) =
                    (Client::connect(server, options).unwrap(), Random(seed));
                while !is_over.load(SeqCst) {
                    let keys =
                        (0..ADDS).map(|_| (random.below(KEYS).to_be_bytes(), 1 + random.below(9)));
                    if client.add_many(keys).is_err() {
                        return;
                    }
                }
            });
        }
        std::thread::sleep(life);
        // In this thread, which has the places for itself.
        let ids = killed.iter().map(|&node| nodes.places[node].process_id());
        ids.for_each(kill);
        is_over.store(true, SeqCst);
    });
    for &node in killed {
        nodes.places[node].end(Signal::KILL);
    }
}

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(id as i32).unwrap();
    rustix::process::kill_process(id, Signal::KILL).unwrap();
}

fn all_have(nodes: &Nodes, least: &BTreeMap<String, u64>) -> Result<(), String> {
    for (node, held) in nodes.places.iter().map(Place::held).enumerate() {
        for (writer, least) in least {
            let has = held.get(writer).copied().unwrap_or_default();
            if has < *least {
                return Err(format!(
                    "node {node} has {has} of {writer}, and {least} were with others"
                ));
            }
        }
    }
    Ok(())
}
