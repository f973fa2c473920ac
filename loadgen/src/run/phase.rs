//! A phase: its warm-up, its measured part, and the server's counters around each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rmbd_proto::compact::Problem;

use super::course::{Course, Looks};
use super::event::Event;
use super::traffic::{self, Route, Traffic};
use crate::flight::IntervalTimes;
use crate::judge::{Accounts, Ledger};
use crate::plan::{Load, Mode, Script};
use crate::record::{Interval, Latency, Pace, Phase, Received, Schedule};
use crate::send::SenderReport;
use crate::server::{CpuUse, ServerUnderLoad, has_restarted, received};

/// If the 99th percentile of lateness is above this, the generator has not kept its schedule.
const LATE_P99_NS: u64 = 1_000_000;
/// If its latest message is later than this, the generator has not kept its schedule, either.
const LATE_MAX_NS: u64 = 100_000_000;
/// Share of the planned messages that must have been sent.
const SENT_SHARE: f64 = 0.999;

/// The results of a phase.
pub(super) struct PhaseEnd {
    /// The phase; `None` if it ended before its measured part.
    pub(super) phase: Option<Phase>,
    pub(super) accounts: Accounts,
    /// Number of messages of each thread's script that were sent, warm-up included.
    pub(super) scripted: Vec<u64>,
    /// The reason if nothing more can be sent.
    pub(super) failure: Option<String>,
    pub(super) restarted: bool,
}

/// The traffic of a part, and the server's counters for it.
struct Observed {
    traffic: Traffic,
    received: Option<Received>,
    /// The course over time by which the server reached `received`.
    course: Course,
    used: Option<CpuUse>,
    restarted: bool,
    /// The reason if the server could not be asked.
    silent: Option<String>,
}

impl Observed {
    fn accounts(&self) -> Accounts {
        let times = self.traffic.times.as_ref();
        Accounts {
            sent: self.traffic.report.sent,
            received: self.received,
            verdicts: times.map(|times| times.verdicts).unwrap_or_default(),
            once: times.map(|times| times.once).unwrap_or_default(),
        }
    }
}

/// Runs both parts of a phase.
pub(super) fn run(
    server: &ServerUnderLoad,
    route: &Route,
    load: &Load,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<PhaseEnd, String> {
    let mut scripts: Vec<Script> = (0..load.threads)
        .map(|part| Script::new(load, part))
        .collect();
    let ledger = match load.mode {
        Mode::Hit { limit } => Some(Ledger::new(limit, load.weight, load.keys.distinct())),
        _ => None,
    };
    let mut end = PhaseEnd {
        phase: None,
        accounts: Accounts {
            received: server.has_status().then_some(Received::none()),
            ..Accounts::default()
        },
        scripted: vec![0; load.threads],
        failure: None,
        restarted: false,
    };
    let warm = Load {
        name: format!("{}: warm-up", load.name),
        duration: load.warmup,
        messages: None,
        hold_up: None,
        ..load.clone()
    };
    for (load, is_measured) in [(&warm, false), (load, true)] {
        let ended = end.failure.is_some() || stop.load(Ordering::Relaxed);
        if load.duration.is_zero() || is_measured && ended {
            continue;
        }
        let part = run_part(
            server,
            route,
            load,
            ledger.as_ref(),
            &mut scripts,
            stop,
            observe,
        )?;
        end.accounts.add(&part.accounts());
        for (sum, &messages) in end.scripted.iter_mut().zip(&part.traffic.scripted) {
            *sum += messages;
        }
        end.restarted |= part.restarted;
        end.failure = failure(&part, load);
        if is_measured {
            end.phase = Some(measured(server, load, part));
        }
    }
    if let Some(phase) = &mut end.phase
        && stop.load(Ordering::Relaxed)
    {
        let planned = phase.sent.messages();
        phase.schedule = phase.schedule.map(|schedule| Schedule {
            planned,
            ..schedule
        });
    }
    Ok(end)
}

fn run_part(
    server: &ServerUnderLoad,
    route: &Route,
    load: &Load,
    ledger: Option<&Ledger>,
    scripts: &mut [Script],
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Observed, String> {
    // This comes before any counters are read, since the node counts the question.
    let boot = match load.exactly_once {
        false => None,
        true => Some(
            (server.boot())
                .map_err(|error| format!("{}: can't ask for the boot: {error}", load.name))?,
        ),
    };
    let before = server.status().ok();
    let used_before = server.cpu_use(before.as_ref());
    let asked = Instant::now();
    observe(Event::Part {
        name: &load.name,
        planned: load.duration,
    });
    let looks = Looks::default();
    let traffic = thread::scope(|scope| {
        let looking = before.as_ref().map(|before| {
            scope
                .spawn(|| looks.watch(|| Some(received(before, &server.status().ok()?).messages())))
        });
        let traffic = traffic::run(
            load,
            ledger,
            boot,
            route,
            scripts,
            stop,
            &mut |elapsed, totals| {
                looks.began(elapsed);
                observe(Event::Progress { elapsed, totals });
            },
        );
        looks.end();
        if let Some(looking) = looking {
            looking.thread().unpark();
        }
        traffic
    });
    let course = looks.into_course();
    let traffic = traffic.map_err(|error| {
        format!(
            "{}: can't send: {error}; use fewer --threads or --sockets",
            load.name
        )
    })?;
    let after = match &before {
        Some(before) => server
            .settle(before, traffic.report.sent.datagrams, load.weight)
            .map(Some),
        None => Ok(None),
    };
    let (after, silent) = match after {
        Ok(after) => (after, None),
        Err(detail) => (None, Some(detail)),
    };
    let used_after = server.cpu_use(after.as_ref());
    let both = before.as_ref().zip(after.as_ref());
    let restarted = both.is_some_and(|(before, after): (&Status, &Status)| {
        has_restarted(before, after, asked.elapsed())
    });
    Ok(Observed {
        received: both
            .filter(|_| !restarted)
            .map(|(before, after)| received(before, after)),
        used: used_before
            .zip(used_after)
            .and_then(|(before, after)| after.since(&before)),
        course,
        traffic,
        restarted,
        silent,
    })
}

fn measured(server: &ServerUnderLoad, load: &Load, part: Observed) -> Phase {
    let Observed {
        traffic,
        received,
        mut course,
        used,
        ..
    } = part;
    let seconds = seconds(&traffic, load);
    let mut series = series(&traffic, seconds);
    if let Some(received) = received {
        course.end(Duration::from_secs_f64(seconds), received.messages());
        course.fill(&mut series);
    }
    let Traffic { report, times, .. } = &traffic;
    let hits = load.mode.hit_share() > 0.0;
    Phase {
        name: load.name.clone(),
        load: load.describe(),
        warmup_s: load.warmup.as_secs_f64(),
        seconds,
        sent: report.sent,
        answers: times.as_ref().map(|times| times.answers),
        verdicts: times.as_ref().filter(|_| hits).map(|times| times.verdicts),
        once: (times.as_ref())
            .filter(|_| load.exactly_once)
            .map(|times| times.once),
        received,
        response_time: times.as_ref().and_then(|t| Latency::of(&t.response)),
        service_time: times.as_ref().and_then(|t| Latency::of(&t.service)),
        schedule: schedule(report, load, seconds),
        cost: used.map(|used| {
            let messages = received.map(|received| received.messages());
            used.cost(messages, server.peak_memory_bytes())
        }),
        generator_cpu_s: Some(traffic.cpu.as_secs_f64()),
        series,
    }
}

/// Seconds of the measured part: as planned, or longer if it took longer, or shorter if it ended by a number of
/// messages or by force.
fn seconds(traffic: &Traffic, load: &Load) -> f64 {
    let window = &traffic.window;
    let planned_ns = window.end_ns - window.start_ns;
    let sent_ns = traffic.report.last_sent_ns.saturating_sub(window.start_ns);
    let whole = load.messages.is_none() && traffic.report.failure.is_none();
    // The last message of a plan is at most one gap before its end.
    let ran_to_its_end = whole && sent_ns * 10 > planned_ns * 9;
    let ns = if ran_to_its_end {
        planned_ns.max(sent_ns)
    } else {
        sent_ns
    };
    (ns.max(1)) as f64 / 1e9
}

fn failure(part: &Observed, load: &Load) -> Option<String> {
    let name = &load.name;
    if let Some(error) = &part.traffic.report.failure {
        return Some(format!(
            "{name}: the kernel does not send ({error}); a smaller --pack or --no-gso may help"
        ));
    }
    if let Some(code) = part.traffic.report.refused {
        let why = Problem::from_code(code).map_or_else(
            || format!("code {code}, which this version does not know"),
            |problem| problem.to_string(),
        );
        return Some(format!("{name}: the server refused a request: {why}"));
    }
    if part.restarted {
        return Some(format!(
            "{name}: the server was started again during the phase, so nothing can be accounted for"
        ));
    }
    let detail = part.silent.as_ref()?;
    Some(format!("{name}: the server's status is gone: {detail}"))
}

fn schedule(report: &SenderReport, load: &Load, seconds: f64) -> Option<Schedule> {
    let Pace::Rate { .. } = load.pace else {
        return None;
    };
    let lateness = &report.lateness;
    let sent = report.sent.messages();
    let late = |quantile| lateness.value_at_quantile(quantile);
    let kept = late(0.99) <= LATE_P99_NS
        && lateness.max() <= LATE_MAX_NS
        && sent as f64 >= SENT_SHARE * report.planned as f64;
    Some(Schedule {
        planned: report.planned,
        late_p50_ns: late(0.5),
        late_p99_ns: late(0.99),
        late_max_ns: lateness.max(),
        reached_per_s: sent as f64 / seconds,
        kept,
    })
}

/// One entry for each interval of the measured part, and one for what came after it, if anything did.
fn series(traffic: &Traffic, seconds: f64) -> Vec<Interval> {
    let interval_s = traffic.window.interval_ns as f64 / 1e9;
    let sent = &traffic.report.intervals;
    let last = sent.len() - 1;
    let mut series = Vec::with_capacity(sent.len());
    for (index, &sent) in sent.iter().enumerate() {
        let start_s = index as f64 * interval_s;
        let times = traffic.times.as_ref().map(|times| &times.intervals[index]);
        let ended = times.map_or(0, |times| times.answered + times.timed_out);
        if (index == last || start_s >= seconds) && sent + ended == 0 {
            continue;
        }
        let end_s = if index < last {
            (start_s + interval_s).min(seconds.max(start_s + 1e-3))
        } else {
            start_s + interval_s
        };
        series.push(interval(start_s, end_s, sent, times));
    }
    series
}

fn interval(start_s: f64, end_s: f64, sent: u64, times: Option<&IntervalTimes>) -> Interval {
    let response = times.filter(|times| !times.response.is_empty());
    let service = times.filter(|times| !times.service.is_empty());
    Interval {
        end_s,
        seconds: end_s - start_s,
        sent,
        received: None,
        answered: times.map_or(0, |times| times.answered),
        timed_out: times.map_or(0, |times| times.timed_out),
        response_p50_ns: response.map(|times| times.response.value_at_quantile(0.5)),
        response_p99_ns: response.map(|times| times.response.value_at_quantile(0.99)),
        response_max_ns: response.map(|times| times.response.max()),
        service_p99_ns: service.map(|times| times.service.value_at_quantile(0.99)),
    }
}
