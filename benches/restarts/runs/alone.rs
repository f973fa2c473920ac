//! One node that is killed again and again.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rmbd_client::{Client, ClientOptions};
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_testkit::proxy::Harm;
use rmbd_testkit::random::Random;
use rustix::process::Signal;

use super::folder::Folder;
use super::node::Place;
use super::truth::{KEYS, Truth};
use super::{Findings, median_and_most};

const WIDTH: u64 = 1 << 14;
const SEED: u64 = 7;
const OPTIONS: [&str; 7] = [
    "--threads=1",
    "--log=warn",
    "--http=127.0.0.1:0",
    "-x=16384",
    "--seed=7",
    "--snapshot-interval=1s",
    "--max-origins=1000",
];
/// Adds of a call.
const ADDS: usize = 500;
const WEIGHT_MAX: u64 = 50;
/// A client gives up soon where nobody is there.
const TIMEOUT: Duration = Duration::from_millis(300);
/// The shortest and longest time from a start to the kill.
const LIFE_MS: (u64, u64) = (50, 2_600);

/// Kills the node so many times.
pub(crate) fn run(seed: u64, rounds: u64) -> Findings {
    let folder = Folder::new("alone");
    let mut place = Place::new(200 + (std::process::id() % 50) as u8, Harm::NONE, seed);
    place.is_to_be_alone(folder.path(), &OPTIONS);
    let data_dir = place.data_dir(folder.path());
    let sketch = (
        Geometry::new(WIDTH, 4).unwrap(),
        HashFamily::Xxh3 { seed: SEED },
    );
    let (mut findings, mut random) = (Findings::default(), Random(seed));
    let truth = Mutex::new(Truth::new());
    let (mut starts, mut files) = (Vec::new(), 0);
    let mut last_file = 0;
    for round in 0..rounds {
        let file = truth.lock().unwrap().check_file(&data_dir, sketch);
        let file = file.unwrap_or_else(|fault| {
            findings.faults.push(format!("round {round}: {fault}"));
            None
        });
        // Without a file all is gone.
        let file_ms = file.as_ref().map_or(0, |file| file.wall_ms);
        truth.lock().unwrap().note_kill(file_ms);
        let began = Instant::now();
        place.start();
        starts.push(began.elapsed());
        if let Some(file) = file {
            files += u64::from(file.file != last_file);
            last_file = file.file;
            let least = truth.lock().unwrap().kept();
            let faults = look(&place, &least, truth.lock().unwrap().sent_weight());
            findings.faults.extend(
                faults
                    .into_iter()
                    .map(|fault| format!("round {round}: {fault}")),
            );
        }
        let life = LIFE_MS.0 + random.below(LIFE_MS.1 - LIFE_MS.0);
        let life = Duration::from_millis(life);
        live(&mut place, &truth, &mut random, life);
    }
    if files == 0 {
        findings
            .faults
            .push("no file was ever there: nothing was checked".to_owned());
    }
    findings.note("kills", rounds);
    findings.note("of them after a new file", files);
    findings.note("weight sent", truth.lock().unwrap().sent_weight());
    findings.note(
        "starts until ready, median and longest, ms",
        median_and_most(&starts),
    );
    findings
}

/// Adds for a while, and kills the node meanwhile.
fn live(place: &mut Place, truth: &Mutex<Truth>, random: &mut Random, life: Duration) {
    let is_over = AtomicBool::new(false);
    let server = place.udp();
    std::thread::scope(|scope| {
        let (seed, is_over) = (random.next(), &is_over);
        scope.spawn(move || add(server, truth, Random(seed), is_over));
        std::thread::sleep(life);
        place.end(Signal::KILL);
        is_over.store(true, SeqCst);
    });
}

fn add(server: SocketAddr, truth: &Mutex<Truth>, mut random: Random, is_over: &AtomicBool) {
    let options = ClientOptions {
        timeout: TIMEOUT,
        ..ClientOptions::default()
    };
    let Ok(mut client) = Client::connect(server, options) else {
        return;
    };
    while !is_over.load(SeqCst) {
        let adds: Vec<(usize, u64)> = (0..ADDS)
            .map(|_| {
                (
                    random.below(KEYS as u64) as usize,
                    1 + random.below(WEIGHT_MAX),
                )
            })
            .collect();
        truth.lock().unwrap().note_sent(&adds);
        let keys = adds.iter().map(|&(key, weight)| (Truth::key(key), weight));
        if client.add_many(keys).is_err() {
            return;
        }
        truth.lock().unwrap().note_acknowledged(&adds);
    }
}

/// Checks what a node that has just started knows.
fn look(place: &Place, least: &[u64], sent: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let mut client = Client::connect(place.udp(), ClientOptions::default()).unwrap();
    for (number, &least) in least.iter().enumerate() {
        let count = client.count(Truth::key(number)).unwrap().estimate;
        if count < least {
            faults.push(format!(
                "key {number}: {count}, and {least} was acknowledged before the file"
            ));
        }
    }
    let known = place.status().unwrap().sketches[0].known_weight;
    if known > sent {
        faults.push(format!("N is {known}, and {sent} was sent"));
    }
    faults
}
