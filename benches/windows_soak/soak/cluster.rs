//! Three nodes that are one cluster, and the time in which clients are at work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use rmbd::status::{NamedSketchStatus, Status};
use rmbd_client::{Client, ClientError, ClientOptions};
use rmbd_cluster::seal::generate_key_text;
use rmbd_testkit::proxy::Harm;
use rustix::process::Signal;

use super::Clock;
use super::load::{self, Added, Stream};
use super::node::{PATIENCE, Place};
use super::plan::{NODES, Plan, SketchPlan};
use super::questions::{self, Asked};

/// Options of all nodes: each sketch has two writers.
const OPTIONS: [&str; 3] = ["--threads=2", "--log=warn", "--http=127.0.0.1:0"];
/// The clients' timeout, longer than any stop: every add is acknowledged at last.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
/// The node that is stopped.
const STOPPED: usize = 1;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Three nodes that are one cluster.
pub(super) struct Cluster {
    places: Vec<Place>,
    folder: PathBuf,
}

/// What clients have done and heard.
pub(super) struct Course {
    /// By sketch, and by node.
    pub(super) added: Vec<Vec<Added>>,
    /// By sketch.
    pub(super) asked: Vec<Asked>,
    pub(super) stopped_ns: Option<(u64, u64)>,
    /// When the last add was acknowledged.
    pub(super) ended_ns: u64,
}

impl Cluster {
    /// Starts all nodes, and waits until they are one.
    pub(super) fn start(plan: &Plan) -> Self {
        let name = format!("rmbd-windows-soak-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let keys = folder.join("keys");
        let key = generate_key_text(std::array::from_fn(|at| at as u8));
        std::fs::write(&keys, key).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Nodes of another run of these may be on the first addresses.
        let first = 10 + (std::process::id() % 60) as u8 * NODES as u8;
        let sketches: Vec<String> = plan.sketches.iter().map(SketchPlan::option).collect();
        let options: Vec<&str> = (OPTIONS.into_iter())
            .chain(sketches.iter().map(String::as_str))
            .collect();
        let mut places: Vec<Place> = Vec::new();
        for node in 0..NODES as u8 {
            let mut place = Place::new(first + node, Harm::NONE, plan.seed + u64::from(node));
            let others: Vec<SocketAddr> = places.iter().map(Place::cluster).collect();
            place.is_to_directly(&folder, keys.to_str().unwrap(), &others, &options);
            place.start();
            places.push(place);
        }
        let cluster = Self { places, folder };
        wait(|| cluster.check_members()).unwrap();
        cluster
    }

    pub(super) fn client(&self, node: usize) -> Client {
        let options = ClientOptions {
            timeout: CLIENT_TIMEOUT,
            ..ClientOptions::default()
        };
        Client::connect(self.places[node].udp(), options).unwrap()
    }

    /// Has clients add and ask for the time of the plan, and stops a node in the middle.
    pub(super) fn drive(
        &mut self,
        plan: &Plan,
        streams: &[Stream],
        clock: &Clock,
    ) -> Result<Course, String> {
        std::thread::scope(|scope| {
            // Whatever happens, clients end.
            let over = Over(clock);
            let mut adding = Vec::new();
            let mut asking = Vec::new();
            for (node, stream) in streams.iter().enumerate() {
                let [mut adder, mut asker] = [self.client(node), self.client(node)];
                adding.push(scope.spawn(move || {
                    let added = load::run(&mut adder, node, plan, stream, clock);
                    added.inspect_err(|_| clock.end())
                }));
                asking.push(scope.spawn(move || {
                    let asked = questions::run(&mut asker, node, plan, clock);
                    asked.inspect_err(|_| clock.end())
                }));
            }
            let stopped_ns = self.stop_in_the_middle(plan, clock);
            drop(over);
            let added = join(adding, "adds")?;
            let ended_ns = clock.now_ns();
            let asked = join(asking, "questions")?;
            Ok(Course {
                added: by_sketch(added),
                asked: (by_sketch(asked).into_iter())
                    .map(Asked::together)
                    .collect(),
                stopped_ns,
                ended_ns,
            })
        })
    }

    /// Waits for the end of the time. Returns from when until when a node was stopped.
    fn stop_in_the_middle(&mut self, plan: &Plan, clock: &Clock) -> Option<(u64, u64)> {
        sleep_until(plan.time / 2, clock);
        let stopped_ns = (plan.stop > Duration::ZERO).then(|| {
            let from_ns = clock.now_ns();
            self.places[STOPPED].signal(Signal::STOP);
            std::thread::sleep(plan.stop);
            self.places[STOPPED].signal(Signal::CONT);
            (from_ns, clock.now_ns())
        });
        sleep_until(plan.time, clock);
        stopped_ns
    }

    pub(super) fn statuses(&self) -> Vec<Status> {
        self.places.iter().filter_map(Place::status).collect()
    }

    fn check_members(&self) -> Result<(), String> {
        for status in self.statuses() {
            let members = &status.cluster.members;
            let alive = members.iter().filter(|member| member.state == "alive");
            if alive.count() != NODES - 1 || !status.is_ready() {
                return Err(format!("{members:#?}"));
            }
        }
        Ok(())
    }

    /// Waits until all nodes hold the same, and each has counted what it has acknowledged: no less, and no more.
    pub(super) fn settle(&self, plan: &Plan, course: &Course) -> Result<(), String> {
        wait(|| {
            let statuses = self.statuses();
            for (sketch, added) in plan.sketches.iter().zip(&course.added) {
                check_weights(&statuses, sketch, added)?;
            }
            Ok(())
        })
    }

    /// Panics and errors in the nodes' logs.
    pub(super) fn complaints(&self) -> Vec<String> {
        let logs = (self.places.iter()).map(|place| place.log.lock().unwrap().clone());
        let lines: Vec<String> = (logs.collect::<String>().lines())
            .filter(|line| line.contains("panicked") || line.contains(" ERROR "))
            .map(str::to_owned)
            .collect();
        lines
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.places.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a node says of a sketch.
pub(super) fn named<'s>(status: &'s Status, sketch: &SketchPlan) -> &'s NamedSketchStatus {
    let mut sketches = status.sketches.iter();
    sketches.find(|it| it.name == sketch.name).unwrap()
}

/// Checks that each node has counted what it has acknowledged, knows all, and holds what others hold.
fn check_weights(statuses: &[Status], sketch: &SketchPlan, added: &[Added]) -> Result<(), String> {
    let name = sketch.name;
    let truth: u64 = added.iter().map(|added| added.weight).sum();
    for (node, (status, added)) in statuses.iter().zip(added).enumerate() {
        let of_sketch = named(status, sketch);
        let (known, own) = (of_sketch.known_weight, of_sketch.sketch.total_weight);
        if own != added.weight {
            let acknowledged = added.weight;
            return Err(format!(
                "node {node} has counted {own} in {name}, and acknowledged {acknowledged}"
            ));
        }
        if known != truth {
            return Err(format!(
                "N of {name} at node {node} is {known}, not {truth}"
            ));
        }
    }
    check_copies(statuses, named(&statuses[0], sketch).number)
}

/// Checks that all copies of each slice are equal.
fn check_copies(statuses: &[Status], sketch: u32) -> Result<(), String> {
    let mut copies = BTreeMap::new();
    let slices = statuses.iter().flat_map(|status| &status.cluster.slices);
    for slice in slices.filter(|slice| slice.sketch == sketch && slice.weight > 0) {
        let copy = (slice.version, &slice.root, slice.weight);
        let first = *copies.entry(&slice.writer).or_insert(copy);
        if copy != first {
            return Err(format!("copies of a slice: {first:?} and {copy:?}"));
        }
    }
    Ok(())
}

/// Ends the clients when it is dropped.
struct Over<'c>(&'c Clock);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn sleep_until(time: Duration, clock: &Clock) {
    while clock.now_ns() < time.as_nanos() as u64 && !clock.is_over() {
        std::thread::sleep(LOOK_EVERY);
    }
}

fn join<T>(
    clients: Vec<ScopedJoinHandle<'_, Result<T, ClientError>>>,
    what: &str,
) -> Result<Vec<T>, String> {
    let results = clients.into_iter().map(|client| client.join().unwrap());
    let results = results.enumerate().map(|(node, result)| {
        result.map_err(|error| format!("{what} of node {node}: {error}, {error:?}"))
    });
    results.collect()
}

/// Turns lists by node of lists by sketch around.
fn by_sketch<T>(by_node: Vec<Vec<T>>) -> Vec<Vec<T>> {
    let mut sketches: Vec<Vec<T>> = Vec::new();
    for of_node in by_node {
        for (at, it) in of_node.into_iter().enumerate() {
            if sketches.len() == at {
                sketches.push(Vec::new());
            }
            sketches[at].push(it);
        }
    }
    sketches
}

/// Waits until there is no complaint. Returns the last one where there always is one.
fn wait(look: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let start = Instant::now();
    loop {
        match look() {
            Err(complaint) if start.elapsed() > PATIENCE => return Err(complaint),
            Err(_) => std::thread::sleep(LOOK_EVERY),
            Ok(()) => return Ok(()),
        }
    }
}
