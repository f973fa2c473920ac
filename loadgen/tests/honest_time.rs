//! Who is late shows in the right place: a server that stops, in both times; a generator that
//! stops, in the response time only, and it says so.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use loadgen::plan::{HoldUp, Load};
use loadgen::report::table;
use loadgen::run::Event;
use rustix::process::Signal;
use support::{NodeProcess, at_rate, load, node, only_phase, run, run_watched};

const SECOND_NS: u64 = 1_000_000_000;
const PER_S: f64 = 2000.0;

/// Counts at a fixed rate for three seconds.
fn counts() -> Load {
    Load {
        pace: at_rate(PER_S),
        duration: Duration::from_secs(3),
        ..load("count", "uniform:1000")
    }
}

/// Stops the server from second 1 to second 2.
fn stop_for_a_second(server: &NodeProcess) -> impl FnMut(Event<'_>) {
    let mut steps = [
        (Duration::from_secs(1), Signal::STOP),
        (Duration::from_secs(2), Signal::CONT),
    ]
    .into_iter()
    .peekable();
    move |event| {
        if let Event::Progress { elapsed, .. } = event
            && let Some((_, signal)) = steps.next_if(|(at, _)| elapsed >= *at)
        {
            server.signal(signal);
        }
    }
}

#[test]
fn a_server_that_stops_shows_in_both_times() {
    let server = NodeProcess::start("127.0.0.1:0");
    let target = server.target();
    let record = run_watched(&target, counts(), 0, &mut stop_for_a_second(&server));
    let phase = only_phase(&record);
    let (response, service) = (
        phase.response_time.as_ref().unwrap(),
        phase.service_time.as_ref().unwrap(),
    );
    // A third of all requests were planned while it stood: their times are spread over a second.
    for (name, time) in [("response", response), ("service", service)] {
        assert!(time.max_ns > 9 * SECOND_NS / 10, "{name}: {time:?}");
        assert!(time.p90_ns > SECOND_NS / 2, "{name}: {time:?}");
        assert_eq!(time.count, (3.0 * PER_S) as u64, "{name}");
    }
    let answers = phase.answers.unwrap();
    assert_eq!((answers.timed_out, answers.unexpected), (0, 0));
    // And in the right place.
    let stalled = &phase.series[1];
    assert!(stalled.response_max_ns < Some(SECOND_NS / 2) || stalled.answered < 1000);
    assert!(phase.series[2].response_max_ns > Some(SECOND_NS * 9 / 10));
}

#[test]
fn what_a_stopped_server_answers_too_late_stands_at_the_timeout() {
    let server = NodeProcess::start("127.0.0.1:0");
    let target = server.target();
    let mut load = counts();
    load.timeout = Duration::from_millis(300);
    // Few keys: a late answer must not be taken for that of a younger request.
    load.keys = self::load("count", "uniform:3").keys;
    let record = run_watched(&target, load, 0, &mut stop_for_a_second(&server));
    let phase = only_phase(&record);
    let answers = phase.answers.unwrap();
    assert_eq!(answers.answered + answers.timed_out, phase.sent.counts);
    // Those of the first 700 ms of its second.
    assert!((1000..1900).contains(&answers.timed_out), "{answers:?}");
    assert_eq!(answers.unexpected, answers.timed_out, "all came late");
    let response = phase.response_time.as_ref().unwrap();
    assert_eq!(response.count, phase.sent.counts, "none left out");
    assert!(response.max_ns >= 3 * SECOND_NS / 10 - SECOND_NS / 1000);
    let service = phase.service_time.as_ref().unwrap();
    assert_eq!(service.count, answers.answered);
    assert!(service.max_ns < 4 * SECOND_NS / 10, "{service:?}");
}

#[test]
fn a_generator_that_is_held_up_shows_in_the_response_time_only() {
    let target = loadgen::server::ServerUnderLoad::inside(node()).unwrap();
    let mut load = counts();
    load.hold_up = Some(HoldUp {
        after: Duration::from_secs(1),
        lasting: Duration::from_secs(1),
    });
    let record = run(&target, load, 0);
    let phase = only_phase(&record);
    let response = phase.response_time.as_ref().unwrap();
    let service = phase.service_time.as_ref().unwrap();
    assert!(response.max_ns > 9 * SECOND_NS / 10, "{response:?}");
    assert!(response.p90_ns > SECOND_NS / 2, "{response:?}");
    assert!(service.p99_ns < SECOND_NS / 4, "{service:?}");
    assert_eq!(
        response.count,
        (3.0 * PER_S) as u64,
        "the plan did not slip"
    );
    let schedule = phase.schedule.unwrap();
    assert!(!schedule.kept);
    assert!(schedule.late_max_ns > 9 * SECOND_NS / 10, "{schedule:?}");
    assert_eq!(schedule.planned, (3.0 * PER_S) as u64);
    let said = "the generator did not keep its own schedule";
    assert!(
        record.notes.iter().any(|note| note.contains(said)),
        "{:?}",
        record.notes
    );
    assert!(table::text(&record).contains(said));
}

#[test]
fn a_rate_out_of_reach_is_said_and_by_how_much() {
    let target = loadgen::server::ServerUnderLoad::inside(node()).unwrap();
    let mut load = load("add", "uniform:1000");
    load.pace = at_rate(1e9);
    load.gso = false;
    load.duration = Duration::from_millis(200);
    let record = run(&target, load, 0);
    let phase = only_phase(&record);
    let schedule = phase.schedule.unwrap();
    assert!(!schedule.kept);
    assert!(
        schedule.planned.abs_diff(200_000_000) < 10,
        "{}",
        schedule.planned
    );
    assert!(phase.sent.adds < schedule.planned);
    assert!(
        record
            .notes
            .iter()
            .any(|note| note.contains("planned messages never left")),
        "{:?}",
        record.notes
    );
}
