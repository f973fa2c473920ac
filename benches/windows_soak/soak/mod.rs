//! The run: three nodes as processes, for each a client that adds and one that asks, and the judgement afterwards.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use self::cluster::Cluster;
use self::findings::Findings;
use self::load::Stream;
use self::plan::{NODES, Plan};
use self::rest::Rest;

mod cluster;
pub(crate) mod findings;
mod load;
// Another bench uses the rest of this module.
#[allow(dead_code)]
#[path = "../../soak/node.rs"]
mod node;
pub(crate) mod plan;
mod questions;
mod rest;
#[path = "../../support/mod.rs"]
pub(crate) mod support;
mod verdict;

/// The time of a run, and its end.
pub(crate) struct Clock {
    zero: Instant,
    is_over: AtomicBool,
}

impl Clock {
    fn start() -> Self {
        Self {
            zero: Instant::now(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the clients began.
    fn now_ns(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }

    fn seconds_since(&self, ns: u64) -> f64 {
        self.now_ns().saturating_sub(ns) as f64 / 1e9
    }

    fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    fn end(&self) {
        self.is_over.store(true, SeqCst);
    }
}

/// Runs it all, and judges it.
pub(crate) fn run(plan: &Plan) -> Findings {
    let mut cluster = Cluster::start(plan);
    let streams: Vec<Stream> = (0..NODES).map(|node| load::stream(plan, node)).collect();
    let clock = Clock::start();
    let course = match cluster.drive(plan, &streams, &clock) {
        Ok(course) => course,
        Err(fault) => return Findings::of_fault(fault),
    };
    let mut findings = Findings {
        took_s: course.ended_ns as f64 / 1e9,
        stopped_s: (course.stopped_ns).map(|(from_ns, to_ns)| (to_ns - from_ns) as f64 / 1e9),
        ..Findings::default()
    };
    findings.faults.extend(cluster.settle(plan, &course).err());
    findings.settled_s = clock.seconds_since(course.ended_ns);
    let rest = Rest::watch(&cluster, plan, &course, &clock);
    let (sketches, faults) = verdict::of_all(&cluster, plan, course, rest);
    findings.sketches = sketches;
    findings.faults.extend(faults);
    findings.faults.extend(cluster.complaints());
    findings
}
