//! Nodes of a cluster that are stopped and started in turn, while clients add exactly once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rmbd_client::{Client, ClientError, ClientOptions};
use rmbd_testkit::random::Random;
use rustix::process::Signal;

use super::nodes::{NODES, Nodes};
use super::python::PythonClient;
use super::{Findings, median_and_most, wait};

const OPTIONS: [&str; 4] = [
    "--threads=1",
    "--log=warn",
    "--http=127.0.0.1:0",
    "-x=16384",
];
const ADDS: usize = 200;
const KEYS: u64 = 1_000;
/// Longer than any restart takes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The shortest and longest time between two restarts.
const PAUSE_MS: (u64, u64) = (100, 700);

/// Stops and starts nodes so many times.
pub(crate) fn run(seed: u64, rounds: u64) -> Findings {
    let mut nodes = Nodes::start("clean", seed, &OPTIONS);
    let (mut findings, mut random) = (Findings::default(), Random(seed));
    let is_over = AtomicBool::new(false);
    let (mut ends, mut starts) = (Vec::new(), Vec::new());
    let mut added = 0;
    std::thread::scope(|scope| {
        let servers: Vec<_> = nodes.places.iter().map(|place| place.udp()).collect();
        let mut python: Vec<_> = (servers.iter())
            .map(|&server| PythonClient::start(server, random.next()))
            .collect();
        let (begun, all_begun) = mpsc::channel();
        let rust: Vec<_> = (servers.iter())
            .map(|&server| {
                let (seed, is_over, begun) = (random.next(), &is_over, begun.clone());
                scope.spawn(move || {
                    let options = ClientOptions {
                        timeout: TIMEOUT,
                        ..ClientOptions::default()
                    };
                    add(
                        Client::connect(server, options).unwrap(),
                        Random(seed),
                        begun,
                        is_over,
                    )
                })
            })
            .collect();
        // A client that has never heard of its node says at once that nobody is there.
        drop(begun);
        all_begun.iter().for_each(drop);
        python.iter_mut().for_each(PythonClient::wait_until_it_adds);
        for round in 0..rounds {
            let pause = PAUSE_MS.0 + random.below(PAUSE_MS.1 - PAUSE_MS.0);
            std::thread::sleep(Duration::from_millis(pause));
            let place = &mut nodes.places[round as usize % NODES];
            let (code, took) = place.end(Signal::TERM);
            ends.push(took);
            if code != Some(0) {
                findings
                    .faults
                    .push(format!("round {round}: ended with {code:?}"));
            }
            let began = Instant::now();
            place.start();
            starts.push(began.elapsed());
        }
        is_over.store(true, SeqCst);
        for (node, client) in rust.into_iter().enumerate() {
            match client.join().unwrap() {
                Ok(weight) => added += weight,
                Err(error) => findings
                    .faults
                    .push(format!("a client in Rust of node {node}: {error}")),
            }
        }
        for (node, client) in python.into_iter().enumerate() {
            match client.end() {
                Ok(weight) => added += weight,
                Err(error) => findings
                    .faults
                    .push(format!("a client in Python of node {node}: {error}")),
            }
        }
    });
    let settled = nodes.wait_until_one().and_then(|()| {
        wait(|| {
            let known = nodes.known();
            let is_all = known.iter().all(|&known| known == added);
            is_all
                .then_some(())
                .ok_or_else(|| format!("N is {known:?}, and {added} was acknowledged"))
        })
    });
    findings.faults.extend(settled.err());
    findings.faults.extend(check_slices(&nodes).err());
    findings.faults.extend(nodes.complaints());
    findings.note("restarts", rounds);
    findings.note("weight acknowledged, and N of every node", added);
    findings.note("ends, median and longest, ms", median_and_most(&ends));
    findings.note(
        "starts until ready, median and longest, ms",
        median_and_most(&starts),
    );
    findings
}

/// Adds until it is told to stop, and drops `begun` once its first adds were acknowledged. Returns the weight, all of
/// which was acknowledged.
fn add(
    mut client: Client,
    mut random: Random,
    begun: mpsc::Sender<()>,
    is_over: &AtomicBool,
) -> Result<u64, ClientError> {
    let (mut weight, mut begun) = (0, Some(begun));
    while !is_over.load(SeqCst) {
        let adds: Vec<_> = (0..ADDS)
            .map(|_| (random.below(KEYS).to_be_bytes(), 1 + random.below(9)))
            .collect();
        client.add_many(adds.iter().copied())?;
        drop(begun.take());
        weight += adds.iter().map(|(_, weight)| weight).sum::<u64>();
    }
    Ok(weight)
}

/// Checks that each node has written one slice.
fn check_slices(nodes: &Nodes) -> Result<(), String> {
    for (number, place) in nodes.places.iter().enumerate() {
        let mut writers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let slices = place.status().unwrap().cluster.slices;
        for slice in slices.into_iter().filter(|slice| slice.weight > 0) {
            writers.entry(slice.node).or_default().push(slice.writer);
        }
        if writers.len() != NODES || writers.values().any(|writers| writers.len() != 1) {
            return Err(format!("slices at node {number}: {writers:#?}"));
        }
    }
    Ok(())
}
