//! A whole run: one phase after the other against one server or the nodes of a cluster, and then the checks. All of
//! it ends up in a [`Record`]. An error on the way ends the run early and keeps the results so far.

pub(crate) mod ceiling;
mod course;
mod event;
mod phase;
mod traffic;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rmbd_client::Top;
use rmbd_io::cpu;

pub use self::event::Event;
use self::phase::PhaseEnd;
use self::traffic::Route;
use crate::judge::{self, Findings, LISTED_KEYS, Promise, Replayed, Sample, SentKeys};
use crate::machine::Environment;
use crate::plan::{Load, LoadError};
use crate::record::{ListFigures, Phase, Record, SCHEMA, Server, Truth};
use crate::server::{ServerUnderLoad, Servers, total_weight};

/// Default number of keys that are checked besides the hottest ones.
pub(crate) const DEFAULT_CHECKED_KEYS: usize = 1000;

/// The longest time to wait for a list with all that was sent: nodes make lists twice a second, and others learn of
/// them by gossip.
const LISTED_WITHIN: Duration = Duration::from_secs(5);
/// Time between two looks meanwhile.
const LIST_STEP: Duration = Duration::from_millis(50);

/// The plan of a run.
#[derive(Debug)]
pub struct Session {
    /// The loads, one after the other.
    pub loads: Vec<Load>,
    /// Number of keys to check in each phase besides the hottest ones; 0 means no check.
    pub checked_keys: usize,
}

impl Session {
    /// Checks all loads.
    ///
    /// # Errors
    /// Fails with the [`LoadError`] of the first load that is not possible.
    pub fn check(&self) -> Result<(), LoadError> {
        self.loads.iter().try_for_each(Load::check)
    }

    fn check_servers(&self, servers: Servers<'_>) -> Result<(), LoadError> {
        let number = servers.number();
        (self.loads.iter()).try_for_each(|load| load.check_servers(number))?;
        for server in servers.iter() {
            self.check_node(server)?;
        }
        Ok(())
    }

    fn check_node(&self, server: &ServerUnderLoad) -> Result<(), LoadError> {
        let asking = self
            .loads
            .iter()
            .filter(|load| load.names_sketch_or_window());
        if let Some(why) = asking.filter_map(|load| server.refusal(load)).next() {
            let server = server.name().to_owned();
            return Err(LoadError::RefusedByServer { server, why });
        }
        let weights = self.loads.iter().map(|load| load.weight);
        match weights.max().filter(|&weight| weight > 1) {
            None => Ok(()),
            Some(weight) => match server.weight_max() {
                Some(most) if weight > most => Err(LoadError::WeightOfNode { weight, most }),
                _ => Ok(()),
            },
        }
    }

    /// Runs all phases, until the end or until `stop` is set.
    ///
    /// # Errors
    /// Fails if a load is not possible; nothing was sent then. All later errors are in the record.
    pub fn run(
        &self,
        server: &ServerUnderLoad,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Record, LoadError> {
        self.run_over(std::slice::from_ref(server), stop, observe)
    }

    /// Does the same with several servers, the nodes of one cluster, which get equal shares.
    ///
    /// # Errors
    /// Fails as [`Self::run`] does.
    ///
    /// # Panics
    /// Panics if there is no server.
    pub fn run_over(
        &self,
        servers: &[ServerUnderLoad],
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Record, LoadError> {
        let servers = Servers::new(servers);
        let server = servers.first();
        self.check()?;
        self.check_servers(servers)?;
        let environment = Environment::capture();
        let status = server.status().ok();
        let mut runner = Runner {
            servers,
            route: Route {
                servers: servers.addresses(),
                cpus: generator_cpus(server, status.as_ref()),
            },
            stop,
            observe,
            checked_keys: self.checked_keys,
            phases: Vec::new(),
            samples: Vec::new(),
            sampled: Vec::new(),
            sent_keys: None,
            findings: Findings::of_servers(
                servers.are_here(),
                servers.number(),
                status.as_ref().map(|status| status.io.threads.len()),
            ),
            ended_early: None,
        };
        runner.note_about_circumstances(&environment, status.as_ref());
        for load in &self.loads {
            runner.phase(load);
            if runner.ended_early.is_some() {
                break;
            }
        }
        let truth = runner.compare();
        let end = server.status().ok();
        let mut server = servers.describe(status.as_ref());
        server.threads_with_traffic = threads_with_traffic(status.as_ref(), end.as_ref());
        runner.note_about_threads(&server);
        let lists = runner.compare_lists();
        if let Some(why) = runner.sent_keys.as_ref().and_then(SentKeys::why_not) {
            let note = format!("Lists of the largest keys are not judged: {why}.");
            runner.findings.note(note);
        }
        let checks = runner.findings.checks(truth.as_ref(), &lists);
        Ok(Record {
            schema: SCHEMA,
            environment,
            server,
            ended_early: runner.ended_early,
            phases: runner.phases,
            truth,
            lists,
            checks,
            notes: runner.findings.into_notes(),
        })
    }
}

struct Runner<'a> {
    servers: Servers<'a>,
    route: Route,
    stop: &'a AtomicBool,
    observe: &'a mut dyn FnMut(Event<'_>),
    checked_keys: usize,
    phases: Vec<Phase>,
    /// The samples, each of the load at the same place in `sampled`.
    samples: Vec<Sample>,
    sampled: Vec<Load>,
    /// All keys that were sent, where lists are judged.
    sent_keys: Option<SentKeys>,
    findings: Findings,
    ended_early: Option<String>,
}

impl Runner<'_> {
    fn phase(&mut self, load: &Load) {
        let mut sample = self.sample_before(load);
        self.look_before(load);
        let ran = phase::run(
            self.servers,
            &self.route,
            load,
            self.checked_keys,
            self.stop,
            self.observe,
        );
        match ran {
            Ok(PhaseEnd {
                phase,
                accounts,
                scripted,
                failure,
                restarted,
            }) => {
                if sample.is_some() || self.sent_keys.is_some() {
                    (self.observe)(Event::Doing("telling what was sent of each checked key"));
                }
                let sent = self.sent_keys.as_mut();
                let sent = sent.filter(|sent| sent.why_not().is_none());
                let replayed = sent.as_ref().and_then(|_| Replayed::of(load, &scripted));
                if let Some(sent) = sent {
                    sent.enter(load, replayed.as_ref(), accounts.lost());
                    if restarted {
                        sent.unjudged("the server was started again");
                    }
                }
                if let Some(sample) = &mut sample {
                    match &replayed {
                        Some(replayed) => sample.take(load, replayed),
                        None => sample.replay(load, &scripted),
                    }
                    sample.adds = accounts.sent.adding();
                    sample.weight = sample.adds * u64::from(load.weight);
                    sample.lost = accounts.lost();
                }
                self.findings
                    .phase(phase.as_ref(), &accounts, load, restarted);
                self.ended_early = failure;
                if phase.is_none() {
                    self.ended_early.get_or_insert_with(|| {
                        format!(
                            "stopped by a signal before the measured part of \"{}\", which is left out",
                            load.name
                        )
                    });
                }
                self.phases.extend(phase);
            }
            Err(failure) => self.ended_early = Some(failure),
        }
        if let Some(sample) = sample {
            self.samples.push(sample);
            self.sampled.push(load.clone());
        }
        if self.stop.load(Ordering::Relaxed) && self.ended_early.is_none() {
            self.ended_early = Some("stopped by a signal".to_owned());
        }
    }

    /// Draws the keys to check, and asks for the server's estimates of them before the phase.
    fn sample_before(&mut self, load: &Load) -> Option<Sample> {
        if self.checked_keys == 0 || load.mode.count_share() >= 1.0 || load.mode.takes() {
            return None;
        }
        let Some(server) = self.servers.only() else {
            let name = &load.name;
            self.findings.note(format!(
                "{name}: estimates of all time are not compared: that is done with one server only."
            ));
            return None;
        };
        let mut sample = Sample::draw(load, self.checked_keys);
        match sample.count_before(load, server) {
            Ok(()) => Some(sample),
            Err(error) => {
                let name = &load.name;
                self.findings
                    .note(format!("{name}: its keys are not checked: {error}."));
                None
            }
        }
    }

    /// Whether lists can be judged is seen before the first load that adds.
    fn look_before(&mut self, load: &Load) {
        if self.checked_keys == 0 || load.mode.count_share() >= 1.0 || self.sent_keys.is_some() {
            return;
        }
        let sketch = load.sketch.number();
        let weights = self.servers.iter().map(|server| {
            let status = server.status().ok();
            status.map(|status| total_weight(&status, sketch))
        });
        let before: Option<Vec<u64>> = weights.collect();
        let before = before.and_then(|all| all.into_iter().max());
        self.sent_keys = Some(SentKeys::to_sketch(&load.sketch, before));
    }

    /// Compares the lists of all servers, when they have in them all that was sent.
    fn compare_lists(&mut self) -> Vec<ListFigures> {
        let Some(sent) = self.sent_keys.as_mut().filter(|it| it.why_not().is_none()) else {
            return Vec::new();
        };
        (self.observe)(Event::Doing("comparing lists of the largest keys"));
        let mut lists = Vec::new();
        for server in self.servers.iter() {
            match list_with_all(server, sent) {
                Ok(top) => lists.push(sent.compare(server.name(), &top)),
                Err(why) => {
                    sent.unjudged(&format!("no list of {}: {why}", server.name()));
                    return Vec::new();
                }
            }
        }
        lists
    }

    fn compare(&mut self) -> Option<Truth> {
        if self.samples.is_empty() {
            return None;
        }
        (self.observe)(Event::Doing("comparing answers with the truth"));
        for (sample, load) in self.samples.iter_mut().zip(&self.sampled) {
            if let Err(error) = sample.count_after(load, self.servers.first()) {
                self.findings.unchecked(&error);
                return None;
            }
        }
        self.findings.comparable = self.samples.iter().any(|sample| sample.lost == Some(0));
        // The loads of a run all have the same sketch.
        let sketch = self.sampled.first()?.sketch.number();
        match self.servers.first().status() {
            Ok(status) => {
                let mut named = status.sketches.iter();
                let named = named.find(|named| named.number == sketch.0);
                let about = named.map_or(&status.sketch, |named| &named.sketch);
                Some(judge::compare(
                    &self.samples,
                    Promise {
                        epsilon: about.epsilon,
                        delta: 1.0 - about.confidence,
                        total_weight: total_weight(&status, sketch),
                    },
                ))
            }
            Err(detail) => {
                self.findings.unchecked(&format!(
                    "without the server's status its error bound is not known ({detail})"
                ));
                None
            }
        }
    }

    fn note_about_circumstances(&mut self, environment: &Environment, status: Option<&Status>) {
        if environment.build.contains("debug") {
            self.findings.note(
                "This is a debug build: all figures are far from what a release build does."
                    .to_owned(),
            );
        }
        if status.is_none() {
            self.findings.note(
                "The server's status is not to be had over HTTP: what it received, its losses and its error bound are not known."
                    .to_owned(),
            );
        }
        if let [one] = *self.route.cpus {
            self.findings.note(format!(
                "All of the generator's threads share CPU {one}; the node's data threads have the others."
            ));
        }
        if self.servers.are_here() {
            self.findings.note(
                "On loopback the kernel does a part of the receiving in the sender's system call; the server's CPU time does not contain that part."
                    .to_owned(),
            );
        }
    }

    fn note_about_threads(&mut self, server: &Server) {
        if let (Some(threads), Some(with_traffic)) = (server.threads, server.threads_with_traffic)
            && with_traffic < threads
        {
            self.findings.note(format!(
                "Only {with_traffic} of the server's {threads} data threads got traffic: use more --sockets."
            ));
        }
    }
}

/// A server's list, when its N is that of all that was sent, or after some seconds: others may have lost some.
fn list_with_all(server: &ServerUnderLoad, sent: &SentKeys) -> Result<Top, String> {
    let total_weight = sent.total_weight();
    let deadline = Instant::now() + LISTED_WITHIN;
    loop {
        let top = server.top(sent.sketch(), LISTED_KEYS)?;
        if top.total_weight >= total_weight || Instant::now() >= deadline {
            return Ok(top);
        }
        thread::sleep(LIST_STEP);
    }
}

/// The generator's CPUs. A node inside pins its data threads to the first CPUs, and the generator uses the others.
/// With a server elsewhere the kernel decides.
fn generator_cpus(server: &ServerUnderLoad, status: Option<&Status>) -> Vec<usize> {
    if !server.is_inside() {
        return Vec::new();
    }
    let taken: Vec<usize> = status.map_or_else(Vec::new, |status| {
        status.io.threads.iter().filter_map(|t| t.cpu).collect()
    });
    let mut free = cpu::allowed();
    free.retain(|cpu| !taken.contains(cpu));
    free
}

fn threads_with_traffic(before: Option<&Status>, after: Option<&Status>) -> Option<usize> {
    let threads = before?.io.threads.iter().zip(&after?.io.threads);
    let with_traffic = threads.filter(|(before, after)| after.datagrams > before.datagrams);
    Some(with_traffic.count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::plan::testing;
    use crate::record::{Gaps, Pace};

    fn node() -> ServerUnderLoad {
        ServerUnderLoad::inside(rmbd::config::NodeConfig {
            threads: Some(1),
            ..rmbd::config::NodeConfig::at("127.0.0.1:0")
        })
        .unwrap()
    }

    #[test]
    fn what_the_server_received_is_told_over_time() {
        let load = Load {
            pace: Pace::Rate {
                per_s: 1000.0,
                gaps: Gaps::Constant,
            },
            duration: Duration::from_millis(1500),
            ..testing::load("add", "uniform:10")
        };
        let session = Session {
            loads: vec![load],
            checked_keys: 0,
        };
        let record = session
            .run(&node(), &AtomicBool::new(false), &mut |_| {})
            .unwrap();
        let phase = &record.phases[0];
        let received: Vec<u64> = phase.series.iter().map(|i| i.received.unwrap()).collect();
        assert_eq!(received.len(), 2);
        assert_eq!(
            received.iter().sum::<u64>(),
            phase.received.unwrap().messages()
        );
        // The numbers are about 1000 and 500; a busy machine may be late.
        assert!(received[0] > received[1], "{received:?}");
    }

    #[test]
    fn a_phase_that_was_stopped_before_it_was_measured_is_left_out() {
        let server = node();
        let load = Load {
            warmup: Duration::from_secs(5),
            ..testing::load("add", "uniform:10")
        };
        let session = Session {
            loads: vec![load.clone(), load],
            checked_keys: 0,
        };
        let stop = AtomicBool::new(false);
        let record = session
            .run(&server, &stop, &mut |event| {
                if matches!(event, Event::Progress { totals, .. } if totals.messages > 0) {
                    stop.store(true, Ordering::Relaxed);
                }
            })
            .unwrap();
        assert!(record.phases.is_empty());
        let why = record.ended_early.unwrap();
        assert!(why.contains("\"test\", which is left out"), "{why}");
        // Messages of the warm-up are accounted for all the same.
        let accounts = record
            .checks
            .iter()
            .find(|check| check.name.contains("accounted"));
        assert!(!accounts.unwrap().detail.starts_with("0 "));
    }
}
