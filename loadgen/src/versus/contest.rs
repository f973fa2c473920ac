//! The contest: servers are started, take turns, are asked, and are ended.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use rmbd_console as console;
use rmbd_io::cpu;
use rmbd_sketch::Geometry;

use super::adapter::AdapterError;
use super::contender::{Contender, Starter};
use super::error::VersusError;
use super::markdown::{markdown, table};
use super::options::VersusOptions;
use super::process::{cpu_seconds, resident_bytes};
use super::record::{COMPARISON_SCHEMA, Checked, Comparison, Memory, Score, Turn};
use super::rival::RivalKind;
use crate::machine::{CpuTime, Environment};
use crate::output::{check_directory, exact, make_directory, thousands, write_json, write_text};
use crate::plan::{Format, KeySet, KeySpec, LineEnd};
use crate::record::{Latency, latency_histogram, slug};

/// Number of keys whose counts are compared with the truth.
const CHECKED_KEYS: u64 = 1000;
/// The format that limits the length of keys: both of our formats carry keys of this length, so that runs of both
/// compare.
const KEYS_AS_IN: Format = Format::Legacy;
/// The warm-up before the first turn has 1 in this many of a turn's adds.
const WARM_UP_PART: u64 = 10;

/// Compares, prints the table on standard output, and writes the record. `program` is this program, which runs the
/// node; `say` gets a line for each step. If a step fails after the first round, the results so far are printed and
/// written, with a note that says so.
/// round, what there is is printed and written, and says so.
///
/// # Errors
/// Fails with [`VersusError`].
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
        // A signal may end a system call first, which looks like a server that has gone.
        if stop.load(Ordering::Relaxed) {
            error = AdapterError::Interrupted.into();
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
    stop: &'a AtomicBool,
    starter: Starter<'a>,
    keys: KeySet,
    generator_cpu: Option<usize>,
    environment: Environment,
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
        // This comes before this thread is pinned, since a pinned thread sees a machine of one CPU.
        let environment = Environment::capture();
        let cpus = cpu::allowed();
        let (server_cpu, generator_cpu) = match *cpus {
            [first, second, ..] => (Some(first), Some(second)),
            _ => (None, None),
        };
        Ok(Self {
            options,
            stop,
            starter: Starter {
                options,
                program,
                stop,
                geometry: Geometry::new(options.width, options.depth)?,
                cpu: server_cpu,
            },
            keys: KeySet::open_with(
                &options.keys,
                options.key_len,
                "",
                KEYS_AS_IN,
                LineEnd::with_cr(options.keep_cr),
            )?,
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
        let mut ours = self.starter.start_ours()?;
        let mut theirs = self.starter.start_theirs()?;
        ours.introduce(&mut found.ours);
        theirs.introduce(&mut found.theirs);
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

    fn turn(&self, contender: &mut Contender<'_>, adds: u64) -> Result<Turn, VersusError> {
        let mut keys = self.keys.stream(self.options.seed, 0, 1);
        let server_before = contender.pid.and_then(cpu_seconds);
        let own = CpuTime::from_now();
        let begin = Instant::now();
        let received = contender.adapter.add(&mut keys, adds)?;
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
                return Err(AdapterError::Interrupted.into());
            }
            let key = keys.next_key();
            let begin = Instant::now();
            contender.adapter.count(key)?;
            histogram.saturating_record(begin.elapsed().as_nanos() as u64);
        }
        Ok(Latency::of(&histogram))
    }

    /// The keys to check, with the number of adds of each in the warm-up and all turns together.
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
        let counts = counts.map(|(number, _)| contender.adapter.count(&self.keys.key(*number)));
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

    /// Measures servers that are started for this. A server that runs already has seen other keys, and is left out.
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
        let mut contenders = vec![(self.starter.start_ours()?, &mut found.ours)];
        if self.options.start {
            contenders.push((self.starter.start_theirs()?, &mut found.theirs));
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
                    .adapter
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
