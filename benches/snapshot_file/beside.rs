//! Adds and counts through a node while it writes files, beside the same node that writes none.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::node::Node;
use rmbd_io::cpu;
use rmbd_proto::compact::{Header, RequestWriter, reply};

use crate::support::adds::datagrams;
use crate::support::cpu_time;
use crate::support::figures::{median, median_min_max, quantile_us};
use crate::support::flood::flood;
use crate::support::keys::{Key, traffic};
use crate::whole::{FULL_KEYS, Folder, fill, node};

/// Time for which each way is measured.
const MEASURE: Duration = Duration::from_secs(2);
const KEYS: usize = 1 << 18;
const DATAGRAM_BYTES_MAX: usize = 1_400;
const TRAIN_SEGMENTS: usize = 40;
/// Counts leave at planned times, whatever comes back.
const GAP: Duration = Duration::from_micros(50);
/// Every so many counts a key is added.
const COUNTS_AN_ADD: u32 = 20;
/// Answers that do not come in this time are given up.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// The figures of one run.
#[derive(Default)]
struct Run {
    add_ns: f64,
    count_ns: f64,
    p50_us: f64,
    p99_us: f64,
    files: f64,
    file_ms: f64,
}

/// Prints a table of both, in turns.
pub(crate) fn table(rounds: usize) {
    let mut runs: [Vec<Run>; 2] = Default::default();
    for _ in 0..rounds {
        for (writes, runs) in [false, true].into_iter().zip(&mut runs) {
            runs.push(measure(writes));
        }
    }
    println!("### A full node of 4 x 2^20 cells, medians [min-max] of {rounds} runs\n");
    println!(
        "| files | CPU ns an add | CPU ns a count | p50 us | p99 us | files written | ms a file |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, runs) in ["none", "one after the other"].into_iter().zip(&runs) {
        let of = |figure: fn(&Run) -> f64| {
            let figures: Vec<f64> = runs.iter().map(figure).collect();
            median_min_max(&figures, 1)
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            of(|run| run.add_ns),
            of(|run| run.count_ns),
            of(|run| run.p50_us),
            of(|run| run.p99_us),
            of(|run| run.files),
            of(|run| run.file_ms)
        );
    }
    let ratio = |figure: fn(&Run) -> f64| {
        let pairs = runs[1].iter().zip(&runs[0]);
        let ratios: Vec<f64> = pairs
            .map(|(with, without)| figure(with) / figure(without))
            .collect();
        median(&ratios)
    };
    println!(
        "\nRatios in pairs, medians: adds {:.3}, counts {:.3}.\n",
        ratio(|run| run.add_ns),
        ratio(|run| run.count_ns)
    );
}

fn measure(writes: bool) -> Run {
    let folder = Folder::new();
    let node = node(&folder.0);
    fill(&node, FULL_KEYS);
    let keys: Vec<Key> = traffic().take(KEYS).collect();
    let (mut run, done) = (Run::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let files = scope.spawn(|| {
            if writes {
                write_files(&node, &done)
            } else {
                Vec::new()
            }
        });
        run.add_ns = adds(&node, &keys);
        counts(&node, &mut run);
        done.store(true, Relaxed);
        let files = files.join().unwrap();
        run.files = files.len() as f64;
        run.file_ms = files.iter().sum::<f64>() / run.files.max(1.0);
    });
    node.stop().unwrap();
    run
}

/// Has files written until it is told to stop; how long each took, in milliseconds.
fn write_files(node: &Node, done: &AtomicBool) -> Vec<f64> {
    let url = format!("http://{}/snapshot", node.http_addr().unwrap());
    let mut times = Vec::new();
    while !done.load(Relaxed) {
        let began = Instant::now();
        let answer = ureq::post(&url).send_empty().unwrap();
        assert_eq!(answer.status(), 200);
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times
}

fn data_thread_ns() -> f64 {
    cpu_time::of_threads(std::process::id(), "rmbd-data-0")
}

/// The data thread's cost of an add under a flood.
fn adds(node: &Node, keys: &[Key]) -> f64 {
    let (bytes, datagram_bytes) = datagrams(keys);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let trains = bytes.chunks_exact(TRAIN_SEGMENTS * datagram_bytes);
        let trains = trains.map(move |train| (train, datagram_bytes as u16));
        scope.spawn(|| flood(node.udp_addr(), trains, &done));
        // This waits until the flow is steady.
        while node.status().messages.add < 2_000_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = (node.status().messages.add, data_thread_ns());
        std::thread::sleep(MEASURE);
        let after = (node.status().messages.add, data_thread_ns());
        done.store(true, Relaxed);
        (after.1 - before.1) / (after.0 - before.0) as f64
    })
}

/// Counts at planned times: their CPU time, and how long answers take from then.
fn counts(node: &Node, run: &mut Run) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(node.udp_addr()).unwrap();
    client.set_nonblocking(true).unwrap();
    let before = data_thread_ns();
    let measured = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
            ask(&client, node)
        });
        client.join().unwrap()
    });
    let (mut times, asked) = measured;
    run.count_ns = (data_thread_ns() - before) / f64::from(asked);
    times.sort_unstable();
    let at = |quantile| quantile_us(&times, quantile);
    (run.p50_us, run.p99_us) = (at(0.5), at(0.99));
}

/// The times from when each count was planned to its answer, and how often it asked.
fn ask(client: &UdpSocket, node: &Node) -> (Vec<Duration>, u32) {
    let mut times = Vec::new();
    let (mut writer, mut keys) = (RequestWriter::new(DATAGRAM_BYTES_MAX), traffic());
    let asks = (MEASURE.as_nanos() / GAP.as_nanos()) as u32;
    let start = Instant::now();
    let mut asked = 0;
    let mut answer = [0; 2_048];
    while start.elapsed() < MEASURE + LAST_ANSWERS && times.len() < asks as usize {
        if asked < asks && start.elapsed() >= GAP * asked {
            // Where nothing is new no file is written.
            if asked.is_multiple_of(COUNTS_AN_ADD) {
                node.add(b"new", 1).unwrap();
            }
            let header = Header {
                id: asked,
                ..Header::default()
            };
            writer.start(&header).unwrap();
            writer.count(&keys.next().unwrap()).unwrap();
            client.send(writer.finish()).unwrap();
            asked += 1;
        }
        while let Ok(length) = client.recv(&mut answer) {
            let id = reply(&answer[..length]).unwrap().head.id;
            times.push(start.elapsed().saturating_sub(GAP * id));
        }
    }
    (times, asked)
}
