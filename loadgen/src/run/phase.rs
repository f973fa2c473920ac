//! A phase: its warm-up, its measured part, and the server's counters around each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rmbd::status::Status;
use rmbd_proto::compact::Problem;

use super::course::{Course, Looks};
use super::event::Event;
use super::traffic::{self, Judged, Route, Traffic};
use crate::flight::{IntervalTimes, NodeAnswers, Times};
use crate::judge::{Accounts, Chosen, Circumstances, Ledger, Notebook, judge_windows};
use crate::plan::{Load, Mode, Reading, Script, nanoseconds};
use crate::record::{Interval, Latency, NodeShare, Pace, Phase, Received, Schedule, WindowTruth};
use crate::send::SenderReport;
use crate::server::{
    CpuUse, Servers, has_restarted, received_of_each, received_together, window_for,
};

/// If the 99th percentile of lateness is above this, the generator has not kept its schedule.
const LATE_P99_NS: u64 = 1_000_000;
/// If its latest message is later than this, the generator has not kept its schedule, either.
const LATE_MAX_NS: u64 = 100_000_000;
/// The time until what one node of a cluster was told is at all others: several rounds of gossip.
const DELIVERY_MS: u64 = 2000;
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
    /// The same by node.
    received_by_node: Option<Vec<Received>>,
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
            in_window: times.map(Times::in_window).unwrap_or_default(),
        }
    }
}

/// Runs both parts of a phase.
pub(super) fn run(
    servers: Servers<'_>,
    route: &Route,
    load: &Load,
    checked_keys: usize,
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
    let chosen = Chosen::of(load, checked_keys);
    let judged = Judged {
        ledger: ledger.as_ref(),
        chosen: chosen.as_ref(),
    };
    let mut kept = Kept::default();
    let mut end = PhaseEnd {
        phase: None,
        accounts: Accounts {
            received: servers.have_status().then_some(Received::none()),
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
        let mut part = run_part(servers, route, load, judged, &mut scripts, stop, observe)?;
        if let Some(chosen) = &chosen {
            kept.take(&mut part.traffic, chosen);
        }
        end.accounts.add(&part.accounts());
        for (sum, &messages) in end.scripted.iter_mut().zip(&part.traffic.scripted) {
            *sum += messages;
        }
        end.restarted |= part.restarted;
        end.failure = failure(&part, load);
        if is_measured {
            end.phase = Some(measured(servers, load, part));
        }
    }
    if let Some(phase) = &mut end.phase
        && chosen.is_some()
    {
        observe(Event::Doing("comparing windows with the truth"));
        phase.window_truth = Some(kept.judge(servers, load));
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

/// What was kept of both parts for the judgement of windows.
#[derive(Default)]
struct Kept {
    notebook: Notebook,
    zero: Option<Instant>,
    /// When the latest part began, in the time of the first one.
    began_ns: u64,
}

impl Kept {
    fn take(&mut self, traffic: &mut Traffic, chosen: &Chosen) {
        let zero = *self.zero.get_or_insert(traffic.zero);
        let later_ns = nanoseconds(traffic.zero.saturating_duration_since(zero));
        self.began_ns = later_ns + traffic.window.start_ns;
        let notebook = std::mem::take(&mut traffic.notebook);
        self.notebook.append(notebook, later_ns, chosen);
    }

    fn judge(self, servers: Servers<'_>, load: &Load) -> WindowTruth {
        let window_ms = load.mode.window_ms().unwrap_or(0);
        let status = servers.first().status().ok();
        let window = (status.as_ref())
            .and_then(|status| window_for(status, load.sketch.number(), window_ms));
        let circumstances = Circumstances {
            window_ms,
            step_ms: window.map(|window| window.step_ms),
            epsilon: window.map(|window| window.epsilon),
            delivery_ms: if servers.number() > 1 { DELIVERY_MS } else { 0 },
            stopped_ns: None,
            bound: load.reading() == Reading::Bound,
            limit: load.mode.limit().filter(|_| load.mode.takes()),
            weight: load.weight.into(),
            distinct: load.keys.distinct(),
            measured_ns: self.began_ns,
        };
        judge_windows(self.notebook, &circumstances)
    }
}

fn run_part(
    servers: Servers<'_>,
    route: &Route,
    load: &Load,
    judged: Judged<'_>,
    scripts: &mut [Script],
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Observed, String> {
    // This comes before any counters are read, since the node counts the question.
    let boot = match load.exactly_once {
        false => None,
        true => Some(
            (servers.first().boot())
                .map_err(|error| format!("{}: can't ask for the boot: {error}", load.name))?,
        ),
    };
    let before = servers.statuses().ok();
    let cpu_use = |statuses: Option<&Vec<Status>>| {
        let status = statuses.and_then(|statuses| statuses.first());
        servers.only()?.cpu_use(status)
    };
    let used_before = cpu_use(before.as_ref());
    let asked = Instant::now();
    observe(Event::Part {
        name: &load.name,
        planned: load.duration,
    });
    let looks = Looks::default();
    let traffic = thread::scope(|scope| {
        let looking = before.as_ref().map(|before| {
            scope.spawn(|| {
                looks.watch(|| {
                    let now = servers.statuses().ok()?;
                    let each = received_of_each(before, &now, load);
                    Some(received_together(&each).messages())
                });
            })
        });
        let traffic = traffic::run(
            load,
            judged,
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
        Some(before) => servers
            .settle(before, &traffic.report.nodes, load)
            .map(Some),
        None => Ok(None),
    };
    let (after, silent) = match after {
        Ok(after) => (after, None),
        Err(detail) => (None, Some(detail)),
    };
    let used_after = cpu_use(after.as_ref());
    let both = before.as_ref().zip(after.as_ref());
    let restarted = both.is_some_and(|(before, after)| {
        let mut each = before.iter().zip(after);
        each.any(|(before, after)| has_restarted(before, after, asked.elapsed()))
    });
    let received = both
        .filter(|_| !restarted)
        .map(|(before, after)| received_of_each(before, after, load));
    Ok(Observed {
        received: received.as_deref().map(received_together),
        received_by_node: received,
        used: used_before
            .zip(used_after)
            .and_then(|(before, after)| after.since(&before)),
        course,
        traffic,
        restarted,
        silent,
    })
}

fn measured(servers: Servers<'_>, load: &Load, part: Observed) -> Phase {
    let nodes = match servers.only() {
        Some(_) => Vec::new(),
        None => shares(servers, &part),
    };
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
    let hits = matches!(load.mode, Mode::Hit { .. });
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
        in_window: (times.as_ref())
            .filter(|_| load.mode.window_ms().is_some())
            .map(Times::in_window),
        window_truth: None,
        nodes,
        received,
        response_time: times.as_ref().and_then(|t| Latency::of(&t.response)),
        service_time: times.as_ref().and_then(|t| Latency::of(&t.service)),
        schedule: schedule(report, load, seconds),
        cost: used.map(|used| {
            let messages = received.map(|received| received.messages());
            used.cost(messages, servers.first().peak_memory_bytes())
        }),
        generator_cpu_s: Some(traffic.cpu.as_secs_f64()),
        series,
    }
}

/// The share of each node.
fn shares(servers: Servers<'_>, part: &Observed) -> Vec<NodeShare> {
    let Traffic { report, times, .. } = &part.traffic;
    let each = servers.iter().zip(&report.nodes).enumerate();
    each.map(|(node, (server, &sent))| {
        let answers = times
            .as_ref()
            .and_then(|times| times.nodes.get(node).copied());
        let NodeAnswers { answers, in_window } = answers.unwrap_or_default();
        let received = part.received_by_node.as_ref();
        NodeShare {
            address: server.name().to_owned(),
            sent,
            answered: answers.answered,
            timed_out: answers.timed_out,
            in_window,
            received: received.and_then(|received| received.get(node).copied()),
        }
    })
    .collect()
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
