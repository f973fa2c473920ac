//! The comparison: servers are started, take turns, are asked, and are ended.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use rmbd::console;
use rmbd::io::cpu;
use rmbd::sketch::{Geometry, GeometryError};
use thiserror::Error;

use super::driver::{Driver, DriverError};
use super::markdown::{markdown, table};
use super::memcached::Memcached;
use super::options::VersusOptions;
use super::ours::Ours;
use super::process::{Server, StartError, cpu_seconds, free_address, resident_bytes};
use super::recipes::{addresses, memcached_arguments, redis_arguments};
use super::record::{COMPARISON_SCHEMA, Checked, Comparison, Memory, Score, Turn};
use super::redis::Redis;
use super::rival::{Rival, RivalError, RivalKind};
use crate::flight::CpuTime;
use crate::machine::Environment;
use crate::output::{
    OutputError, check_directory, exact, make_directory, thousands, write_json, write_text,
};
use crate::plan::{Format, KeySet, KeySpec, KeySpecError, KeysError, LineEnd};
use crate::record::{Latency, latency_histogram, slug};

/// Keys whose counts are compared with the truth.
const CHECKED_KEYS: u64 = 1000;
/// Keys are as long as either of our formats carries them, so that runs of both compare.
const KEYS_AS_IN: Format = Format::Legacy;
/// A part of a turn's adds, before the first turn, to warm up both sides.
const WARM_UP_PART: u64 = 10;
/// Somebody else had the port first: try another one.
const START_TRIES: usize = 3;

/// A comparison that could not be made. Servers that were started have been ended.
#[derive(Debug, Error)]
pub(super) enum VersusError {
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No stream of so many keys.
    #[error("--distinct: {0}")]
    Distinct(#[from] KeySpecError),
    /// No sketch.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// No other server.
    #[error(transparent)]
    Rival(#[from] RivalError),
    /// memcached and `--cms`.
    #[error("memcached has no count-min sketch: --cms goes with redis://")]
    NoSketch,
    /// A server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A server does not do what it should.
    #[error(transparent)]
    Target(#[from] DriverError),
    /// The record can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The table can't be printed; the record, if there is to be one, is written.
    #[error("cannot print the table")]
    Table(#[source] io::Error),
}

/// Compares, prints the table on standard output, and writes the record. `program` is this program,
/// which runs the node; `say` is given a line for each step. Where a step fails after the first
/// round, what there is is printed and written, and says so.
///
/// # Errors
/// [`VersusError`].
pub(super) fn run(
    options: &VersusOptions,
    program: &Path,
    stop: &AtomicBool,
    say: &mut dyn FnMut(&str),
) -> Result<Comparison, VersusError> {
    let contest = Contest::new(options, program, stop)?;
    let directory = options.record_directory();
    if let Some(directory) = &directory {
        check_directory("the record", directory)?;
    }
    let mut comparison = contest.empty();
    let done = contest.hold(&mut comparison, say);
    if let Err(mut error) = done {
        // A signal may end a system call first, and that looks like a server that went away.
        if stop.load(Ordering::Relaxed) {
            error = DriverError::Interrupted.into();
        }
        if comparison.theirs.turns.is_empty() {
            return Err(error);
        }
        say(&format!("ended early: {error}"));
        comparison.ended_early = Some(error.to_string());
    }
    let printed = console::result(&table(&comparison).to_string());
    match directory {
        Some(directory) => write(&comparison, &directory, say)?,
        None => say("no record was written: give --record DIRECTORY"),
    }
    printed.map_err(VersusError::Table)?;
    Ok(comparison)
}

fn write(
    comparison: &Comparison,
    directory: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<(), VersusError> {
    let day = comparison.environment.started.split('T').next();
    let versus = slug(&comparison.theirs.name);
    let name = format!("versus-{versus}-{}", day.unwrap_or_default());
    let json = directory.join(format!("{name}.json"));
    let text = directory.join(format!("{name}.md"));
    make_directory("the record", directory)?;
    write_json(comparison, &json)?;
    write_text("the record", &text, markdown(comparison).as_bytes())?;
    say(&format!(
        "record: {} and {}",
        text.display(),
        json.display()
    ));
    Ok(())
}

struct Contest<'a> {
    options: &'a VersusOptions,
    program: &'a Path,
    stop: &'a AtomicBool,
    geometry: Geometry,
    keys: KeySet,
    server_cpu: Option<usize>,
    generator_cpu: Option<usize>,
    environment: Environment,
}

/// A server with a connection to it.
struct Contender<'a> {
    driver: Box<dyn Driver + 'a>,
    address: SocketAddr,
    /// Where its CPU time and memory can be read.
    pid: Option<u32>,
    /// Ended when dropped, after the connection.
    server: Option<Server>,
}

impl<'a> Contest<'a> {
    fn new(
        options: &'a VersusOptions,
        program: &'a Path,
        stop: &'a AtomicBool,
    ) -> Result<Self, VersusError> {
        if options.cms && options.rival.kind == RivalKind::Memcached {
            return Err(VersusError::NoSketch);
        }
        // Before this thread is pinned, which it would show as a machine of one CPU.
        let environment = Environment::capture();
        let cpus = cpu::allowed();
        let (server_cpu, generator_cpu) = match *cpus {
            [first, second, ..] => (Some(first), Some(second)),
            _ => (None, None),
        };
        Ok(Self {
            options,
            program,
            stop,
            geometry: Geometry::new(options.width, options.depth)?,
            keys: KeySet::open_with(
                &options.keys,
                options.key_len,
                "",
                KEYS_AS_IN,
                LineEnd::with_cr(options.keep_cr),
            )?,
            server_cpu,
            generator_cpu: generator_cpu.filter(|cpu| cpu::pin_to(*cpu).is_ok()),
            environment,
        })
    }

    fn empty(&self) -> Comparison {
        let score = || Score {
            name: String::new(),
            address: String::new(),
            server_command: None,
            adds_as: String::new(),
            counts_as: String::new(),
            cpu: None,
            turns: Vec::new(),
            counts: None,
            memory: Vec::new(),
            checked: None,
        };
        Comparison {
            schema: COMPARISON_SCHEMA,
            environment: self.environment.clone(),
            keys: self.options.keys.to_string(),
            key_bytes: self.keys.key_bytes(),
            seed: self.options.seed,
            adds_per_turn: self.options.adds,
            generator_cpu: self.generator_cpu,
            ours: score(),
            theirs: score(),
            ended_early: None,
        }
    }

    fn hold(&self, found: &mut Comparison, say: &mut dyn FnMut(&str)) -> Result<(), VersusError> {
        let mut ours = self.start_ours()?;
        let mut theirs = self.start_theirs()?;
        self.introduce(&ours, &mut found.ours);
        self.introduce(&theirs, &mut found.theirs);
        say(&format!(
            "{} against {}: {} rounds of {} adds",
            found.ours.name,
            found.theirs.name,
            self.options.rounds,
            exact(self.options.adds),
        ));
        let sample = self.sample();
        let before = self.counts_of(&mut theirs, &sample)?;
        for contender in [&mut ours, &mut theirs] {
            self.turn(contender, self.options.adds / WARM_UP_PART)?;
        }
        for round in 0..self.options.rounds {
            let mut order = [
                (&mut ours, &mut found.ours),
                (&mut theirs, &mut found.theirs),
            ];
            if round % 2 == 1 {
                order.reverse();
            }
            for (contender, score) in order {
                score.turns.push(self.turn(contender, self.options.adds)?);
            }
            say(&round_line(round, found));
        }
        found.ours.counts = self.round_trips(&mut ours)?;
        found.theirs.counts = self.round_trips(&mut theirs)?;
        let nothing = vec![0; sample.len()];
        found.ours.checked = Some(self.check(&mut ours, &sample, &nothing)?);
        found.theirs.checked = Some(self.check(&mut theirs, &sample, &before)?);
        drop((ours, theirs));
        self.measure_memory(found, say)
    }

    fn introduce(&self, contender: &Contender<'_>, score: &mut Score) {
        let server = contender.server.as_ref();
        score.name = contender.driver.name();
        score.address = contender.address.to_string();
        score.server_command = server.map(|server| server.command().to_owned());
        score.adds_as = contender.driver.adds_as();
        score.counts_as = contender.driver.counts_as();
        score.cpu = server.and(self.server_cpu);
    }

    fn start_ours(&self) -> Result<Contender<'a>, VersusError> {
        let (width, depth) = (self.geometry.width(), self.geometry.depth());
        let (width, depth) = (width.to_string(), depth.to_string());
        let words = [
            "node",
            "127.0.0.1:0",
            "--threads",
            "1",
            "--width",
            &width,
            "--depth",
            &depth,
        ];
        let arguments = words.map(str::to_owned);
        let mut server = Server::start(self.program, "", &arguments, self.server_cpu)?;
        let (address, http) = server.await_ready(addresses)?;
        let driver = Ours::connect(address, http, self.options.format, self.stop)?;
        Ok(Contender {
            driver: Box::new(driver),
            address,
            pid: Some(server.pid()),
            server: Some(server),
        })
    }

    fn start_theirs(&self) -> Result<Contender<'a>, VersusError> {
        if !self.options.start {
            return self.connect(self.options.rival.resolve()?, None);
        }
        let mut tries = 1;
        loop {
            match self.start_rival() {
                Err(StartError::Failed { .. }) if tries < START_TRIES => tries += 1,
                Err(error) => return Err(error.into()),
                Ok((server, address)) => return self.connect(address, Some(server)),
            }
        }
    }

    fn start_rival(&self) -> Result<(Server, SocketAddr), StartError> {
        let Rival { kind, .. } = self.options.rival;
        let address = free_address().map_err(|source| StartError::System {
            program: "a server on a free port".to_owned(),
            source,
        })?;
        // Debian calls the packages as their programs.
        let (package, arguments) = match kind {
            RivalKind::Redis => ("redis-server", redis_arguments(address)),
            RivalKind::Memcached => ("memcached", memcached_arguments(address)),
        };
        let program = self.options.server_program.clone();
        let program = program.unwrap_or_else(|| PathBuf::from(package));
        let arguments: Vec<_> = arguments
            .into_iter()
            .chain(self.options.server_arg.iter().cloned())
            .collect();
        let mut server = Server::start(&program, package, &arguments, self.server_cpu)?;
        server.await_ready(|_| {
            let ready = match kind {
                RivalKind::Redis => Redis::is_ready(address),
                RivalKind::Memcached => Memcached::is_ready(address),
            };
            ready.then_some(())
        })?;
        Ok((server, address))
    }

    fn connect(
        &self,
        address: SocketAddr,
        server: Option<Server>,
    ) -> Result<Contender<'a>, VersusError> {
        let sketch = self.options.cms.then_some(self.geometry);
        let (driver, said): (Box<dyn Driver + 'a>, _) = match self.options.rival.kind {
            RivalKind::Redis => {
                let redis = Redis::connect(address, sketch, self.stop)?;
                let pid = redis.pid;
                (Box::new(redis), pid)
            }
            RivalKind::Memcached => {
                let memcached = Memcached::connect(address, self.stop)?;
                let pid = memcached.pid;
                (Box::new(memcached), pid)
            }
        };
        // What a server elsewhere says of itself names no process of this machine.
        let said = said.filter(|_| address.ip().is_loopback());
        Ok(Contender {
            driver,
            address,
            pid: server.as_ref().map(Server::pid).or(said),
            server,
        })
    }

    fn turn(&self, contender: &mut Contender<'_>, adds: u64) -> Result<Turn, VersusError> {
        let mut keys = self.keys.stream(self.options.seed, 0, 1);
        let server_before = contender.pid.and_then(cpu_seconds);
        let own = CpuTime::from_now();
        let begin = Instant::now();
        let received = contender.driver.add(&mut keys, adds)?;
        let seconds = begin.elapsed().as_secs_f64();
        let since = |before: Option<f64>, now: Option<f64>| Some(now? - before?);
        Ok(Turn {
            sent: adds,
            received,
            seconds,
            server_cpu_s: since(server_before, contender.pid.and_then(cpu_seconds)),
            generator_cpu_s: Some(own.spent().as_secs_f64()),
        })
    }

    fn round_trips(&self, contender: &mut Contender<'_>) -> Result<Option<Latency>, VersusError> {
        let mut keys = self.keys.stream(self.options.seed, 0, 1);
        let mut histogram: Histogram<u64> = latency_histogram();
        for _ in 0..self.options.counts {
            if self.stop.load(Ordering::Relaxed) {
                return Err(DriverError::Interrupted.into());
            }
            let key = keys.next_key();
            let begin = Instant::now();
            contender.driver.count(key)?;
            histogram.saturating_record(begin.elapsed().as_nanos() as u64);
        }
        Ok(Latency::of(&histogram))
    }

    /// Keys to check, and how often the warm-up and all turns together add each.
    fn sample(&self) -> Vec<(u64, u64)> {
        let mut keys = self.keys.stream(self.options.seed, 0, 1);
        let warm_up = self.options.adds / WARM_UP_PART;
        let mut order = Vec::new();
        let mut truth: HashMap<u64, u64> = HashMap::new();
        for add in 0..self.options.adds {
            let number = keys.next_number();
            let times = u64::from(self.options.rounds) + u64::from(add < warm_up);
            if let Some(count) = truth.get_mut(&number) {
                *count += times;
            } else if (truth.len() as u64) < CHECKED_KEYS {
                truth.insert(number, times);
                order.push(number);
            }
        }
        order.into_iter().map(|n| (n, truth[&n])).collect()
    }

    fn counts_of(
        &self,
        contender: &mut Contender<'_>,
        sample: &[(u64, u64)],
    ) -> Result<Vec<u64>, VersusError> {
        let counts = sample.iter();
        let counts = counts.map(|(number, _)| contender.driver.count(&self.keys.key(*number)));
        Ok(counts.collect::<Result<_, _>>()?)
    }

    fn check(
        &self,
        contender: &mut Contender<'_>,
        sample: &[(u64, u64)],
        before: &[u64],
    ) -> Result<Checked, VersusError> {
        let counts = self.counts_of(contender, sample)?;
        let mut checked = Checked {
            keys: sample.len() as u64,
            exact: 0,
            below: 0,
            over_max: 0,
        };
        for ((count, before), (_, added)) in counts.iter().zip(before).zip(sample) {
            let truth = before + added;
            checked.exact += u64::from(*count == truth);
            checked.below += u64::from(*count < truth);
            checked.over_max = checked.over_max.max(count.saturating_sub(truth));
        }
        Ok(checked)
    }

    /// Of servers that have seen nothing else; one that runs already has.
    fn measure_memory(
        &self,
        found: &mut Comparison,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), VersusError> {
        let steps: Vec<u64> = self
            .options
            .distinct
            .iter()
            .copied()
            .filter(|n| *n > 0)
            .collect();
        let Some(most) = steps.iter().copied().max() else {
            return Ok(());
        };
        let keys = format!("sequential:{most}").parse::<KeySpec>()?;
        let keys = KeySet::open(&keys, self.options.key_len, "", KEYS_AS_IN)?;
        let mut contenders = vec![(self.start_ours()?, &mut found.ours)];
        if self.options.start {
            contenders.push((self.start_theirs()?, &mut found.theirs));
        }
        for (mut contender, score) in contenders {
            say(&format!(
                "memory of {} with up to {} keys",
                score.name,
                thousands(most as f64)
            ));
            let mut stream = keys.stream(0, 0, 1);
            let mut seen = 0;
            for step in &steps {
                contender
                    .driver
                    .add(&mut stream, step.saturating_sub(seen))?;
                seen = seen.max(*step);
                if let Some(resident_bytes) = contender.pid.and_then(resident_bytes) {
                    let distinct_keys = seen;
                    score.memory.push(Memory {
                        distinct_keys,
                        resident_bytes,
                    });
                }
            }
        }
        Ok(())
    }
}

fn round_line(round: u32, found: &Comparison) -> String {
    let rate = |score: &Score| {
        let turn = score.turns.last();
        turn.map_or_else(String::new, |turn| {
            format!(
                "{} {}/s",
                score.name,
                thousands(turn.received as f64 / turn.seconds)
            )
        })
    };
    format!(
        "round {}: {}, {}",
        round + 1,
        rate(&found.ours),
        rate(&found.theirs)
    )
}
