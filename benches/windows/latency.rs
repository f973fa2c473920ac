//! Counts through a node whose snapshots are taken all the time, beside a node without windows: how long they take, and
//! their CPU time.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rmbd::engine::Admitted;
use rmbd_io::cpu;
use rmbd_proto::compact::{Header, RequestWriter, reply};
use rmbd_store::SketchIndex;

use crate::support::command_line::{is_chosen, rounds};
use crate::support::figures::{median_min_max, quantile_us};
use crate::support::keys::traffic;
use crate::{Kept, data_thread_ns, node};

/// Counts leave at planned times, whatever comes back.
const GAP: Duration = Duration::from_micros(50);
const MEASURE: Duration = Duration::from_secs(2);
/// Every so many counts a key is added, so that the sketch never stands still and each snapshot is copied.
const COUNTS_AN_ADD: u32 = 20;
/// Answers that do not come in this time are given up.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// The figures of one run.
struct Run {
    cpu_ns: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    unanswered: f64,
}

/// Prints a table of both nodes, in turns.
pub(crate) fn table() {
    let ways = [
        ("latency, node, off", Kept::Nothing),
        ("latency, node, often", Kept::Often),
    ];
    if !ways.iter().any(|(name, _)| is_chosen(name)) {
        return;
    }
    let mut runs = [Vec::new(), Vec::new()];
    let rounds = rounds(5);
    for _ in 0..rounds {
        for ((_, kept), runs) in ways.iter().zip(&mut runs) {
            runs.push(measure(*kept));
        }
    }
    println!(
        "### Counts of all time, one every {} us, sketch 4 x 2^20, medians [min-max] of {rounds} runs\n",
        GAP.as_micros()
    );
    println!("| way | CPU ns a count | p50 us | p99 us | p99.9 us | unanswered |");
    println!("|---|---|---|---|---|---|");
    for ((name, _), runs) in ways.iter().zip(&runs) {
        let of = |figure: fn(&Run) -> f64| {
            let figures: Vec<f64> = runs.iter().map(figure).collect();
            median_min_max(&figures, 0)
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            of(|run| run.cpu_ns),
            of(|run| run.p50_us),
            of(|run| run.p99_us),
            of(|run| run.p999_us),
            of(|run| run.unanswered)
        );
    }
    println!();
}

fn measure(kept: Kept) -> Run {
    let node = node(kept);
    // The keys are there, and so are the sketch's pages.
    let mut session = node.session::<()>();
    let (weight, to) = (
        session.weigh(1).unwrap(),
        Admitted::to(SketchIndex::DEFAULT),
    );
    let mut add = |key: &[u8]| {
        while session.add(to, key, weight, &mut |(), _| {}).is_err() {
            session.finish(&mut |(), _| {});
            std::thread::yield_now();
        }
        session.finish(&mut |(), _| {});
    };
    traffic().take(1 << 18).for_each(|key| add(&key));
    std::thread::sleep(Duration::from_millis(200));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(node.udp_addr()).unwrap();
    client.set_nonblocking(true).unwrap();
    let (before, measured) = (
        data_thread_ns(),
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
                ask(&client, &mut add)
            });
            client.join().unwrap()
        }),
    );
    let cpu_ns = data_thread_ns() - before;
    node.stop().unwrap();
    let (mut times, asked) = measured;
    times.sort_unstable();
    let at = |quantile| quantile_us(&times, quantile);
    Run {
        cpu_ns: cpu_ns / f64::from(asked),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        unanswered: f64::from(asked) - times.len() as f64,
    }
}

/// Asks at planned times; the times from then to the answers, and how often it asked.
fn ask(client: &UdpSocket, add: &mut impl FnMut(&[u8])) -> (Vec<Duration>, u32) {
    let mut times = Vec::new();
    let (mut writer, mut keys) = (RequestWriter::new(1_400), traffic());
    let asks = (MEASURE.as_nanos() / GAP.as_nanos()) as u32;
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < MEASURE + LAST_ANSWERS && times.len() < asks as usize {
        if asked < asks && start.elapsed() >= GAP * asked {
            let key = keys.next().unwrap();
            if asked.is_multiple_of(COUNTS_AN_ADD) {
                add(&key);
            }
            let header = Header {
                id: asked,
                ..Header::default()
            };
            writer.start(&header).unwrap();
            writer.count(&key).unwrap();
            client.send(writer.finish()).unwrap();
            asked += 1;
        }
        take_answers(client, |id| {
            times.push(start.elapsed().saturating_sub(GAP * id));
        });
    }
    (times, asked)
}

fn take_answers(client: &UdpSocket, mut came: impl FnMut(u32)) {
    let mut answer = [0; 256];
    while let Ok(bytes) = client.recv(&mut answer) {
        came(reply(&answer[..bytes]).unwrap().head.id);
    }
}
