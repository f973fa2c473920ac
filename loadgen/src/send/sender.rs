//! The sending half of an open loop or a flood: what is due leaves, whatever the server does.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use rmbd::wire::Boot;
use rustix::time::{ClockId, clock_gettime};

use crate::flight::clock::{Clock, nanoseconds};
use crate::flight::progress::Progress;
use crate::flight::times::Window;
use crate::judge::ledger::Ledger;
use crate::plan::load::Load;
use crate::plan::schedule::Schedule;
use crate::plan::script::Script;
use crate::record::{Pace, Sent, latency_histogram};
use crate::send::outgoing::{Departed, Link, Outgoing, Stranded};

/// How long after its end an open loop still sends what it owes.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Longest sleep: how soon a sender notices that it is to end.
const NAP: Duration = Duration::from_millis(20);
/// How long to wait for room where too many requests are on their way.
const ROOM_WAIT: Duration = Duration::from_micros(100);

/// What all threads of a phase share.
pub(crate) struct Shared<'a> {
    pub(crate) load: &'a Load,
    /// Of a load of hits.
    pub(crate) ledger: Option<&'a Ledger>,
    /// Of the node, for adds that count exactly once.
    pub(crate) boot: Option<Boot>,
    pub(crate) clock: Clock<'a>,
    pub(crate) window: Window,
    pub(crate) stop: &'a AtomicBool,
}

impl Shared<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        // Nothing is published with it.
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps until the measured part begins.
    pub(crate) fn wait_for_start(&self) {
        loop {
            let wait_ns = self.window.start_ns.saturating_sub(self.clock.now_ns());
            if wait_ns == 0 || self.is_stopped() {
                return;
            }
            thread::sleep(Duration::from_nanos(wait_ns).min(NAP));
        }
    }

    /// Messages that thread `part` may send.
    pub(crate) fn messages_of(&self, part: usize) -> u64 {
        let threads = self.load.threads as u64;
        self.load.messages.map_or(u64::MAX, |messages| {
            messages / threads + u64::from((part as u64) < messages % threads)
        })
    }
}

/// One sending thread.
pub(crate) struct Sender<'a> {
    shared: &'a Shared<'a>,
    links: &'a [Link],
    progress: &'a Progress,
    script: Script,
    plan: Option<Schedule>,
    outgoing: Outgoing<'a>,
    next_link: usize,
    messages_left: u64,
    held_up: bool,
    report: SenderReport,
}

/// What it did.
pub(crate) struct SenderReport {
    pub(crate) sent: Sent,
    /// Messages of the script that were sent.
    pub(crate) scripted: u64,
    /// Planned for the measured part, sent or not.
    pub(crate) planned: u64,
    /// How much later than planned each message left.
    pub(crate) lateness: Histogram<u64>,
    /// Messages sent in each interval.
    pub(crate) intervals: Vec<u64>,
    /// When the last one left.
    pub(crate) last_sent_ns: u64,
    /// CPU time of the thread.
    pub(crate) cpu: Duration,
    /// Why it ended before its time.
    pub(crate) failure: Option<io::Error>,
    /// The code with which the node refused an exactly-once request.
    pub(crate) refused: Option<u8>,
}

impl SenderReport {
    pub(crate) fn new(window: &Window) -> Self {
        Self {
            sent: Sent::default(),
            scripted: 0,
            planned: 0,
            lateness: latency_histogram(),
            intervals: vec![0; window.intervals()],
            last_sent_ns: window.start_ns,
            cpu: Duration::ZERO,
            failure: None,
            refused: None,
        }
    }

    pub(crate) fn departed(&mut self, window: &Window, departed: &Departed) {
        self.sent.add(&departed.contents);
        self.scripted += departed.scripted;
        self.last_sent_ns = departed.sent_ns;
        self.intervals[window.interval(departed.sent_ns)] += departed.contents.messages();
    }

    pub(crate) fn stranded(&mut self, stranded: Stranded) {
        self.sent.refused_by_kernel += stranded.contents.messages();
        if stranded.source.kind() != io::ErrorKind::Interrupted {
            self.failure = Some(stranded.source);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sent.add(&other.sent);
        self.scripted += other.scripted;
        self.planned += other.planned;
        self.lateness
            .add(&other.lateness)
            .expect("histograms of the same bounds");
        for (ours, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            *ours += theirs;
        }
        self.last_sent_ns = self.last_sent_ns.max(other.last_sent_ns);
        self.cpu += other.cpu;
        self.failure = self.failure.take().or(other.failure);
        self.refused = self.refused.or(other.refused);
    }
}

/// A train that can't leave, or nothing left to send.
struct Over;

impl<'a> Sender<'a> {
    /// Sender `part`, which has the links to itself.
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        part: usize,
        links: &'a [Link],
        script: Script,
        progress: &'a Progress,
    ) -> Self {
        let load = shared.load;
        let plan = match load.pace {
            Pace::Rate { per_s, gaps } => Some(Schedule::new(
                shared.window.start_ns,
                per_s / load.pack as f64,
                gaps,
                load.seed,
                part,
                load.threads,
            )),
            Pace::Flood | Pace::Outstanding { .. } => None,
        };
        Self {
            shared,
            links,
            progress,
            script,
            plan,
            outgoing: Outgoing::new(load, shared.ledger),
            next_link: 0,
            messages_left: shared.messages_of(part),
            held_up: false,
            report: SenderReport::new(&shared.window),
        }
    }

    /// Sends until the time is over; gives back what it did, and the script as far as it came. From
    /// the first message on it allocates nothing.
    pub(crate) fn run(mut self) -> (SenderReport, Script) {
        precise_sleep();
        let before = thread_cpu_time();
        self.shared.wait_for_start();
        while !self.shared.is_stopped() {
            self.hold_up_once();
            let step = if self.plan.is_some() {
                self.send_what_is_due()
            } else {
                self.send_at_once()
            };
            if step.is_err() {
                break;
            }
        }
        self.count_unsent();
        self.report.cpu = thread_cpu_time().saturating_sub(before);
        (self.report, self.script)
    }

    fn send_at_once(&mut self) -> Result<(), Over> {
        let now_ns = self.now_ns();
        if now_ns >= self.shared.window.end_ns {
            return Err(Over);
        }
        while self.outgoing.has_room() && self.messages_left > 0 {
            self.fill(now_ns);
        }
        self.send()
    }

    fn send_what_is_due(&mut self) -> Result<(), Over> {
        let window = &self.shared.window;
        let now_ns = self.now_ns();
        let Some(next_ns) = self.next_planned_ns() else {
            return Err(Over);
        };
        if now_ns > window.end_ns + nanoseconds(CATCH_UP) {
            return Err(Over);
        }
        if next_ns > now_ns {
            self.wait_until(next_ns);
            return Ok(());
        }
        while let Some(planned_ns) = self.next_planned_ns().filter(|&planned| planned <= now_ns)
            && self.outgoing.has_room()
        {
            let messages = self.fill(planned_ns);
            // Against the time at which the train began to be filled: 64 datagrams take some
            // microseconds.
            let late_ns = now_ns - planned_ns;
            self.report.lateness.saturating_record_n(late_ns, messages);
            self.advance_plan();
        }
        self.send()
    }

    /// `None` where all is sent that was planned.
    fn next_planned_ns(&self) -> Option<u64> {
        let plan = self.plan.as_ref()?;
        let next_ns = plan.next_ns();
        (next_ns < self.shared.window.end_ns && self.messages_left > 0).then_some(next_ns)
    }

    fn advance_plan(&mut self) {
        if let Some(plan) = &mut self.plan {
            plan.advance();
        }
    }

    /// Adds a datagram; returns its messages.
    fn fill(&mut self, planned_ns: u64) -> u64 {
        let messages = self.messages_left.min(self.shared.load.pack as u64);
        let messages =
            self.outgoing
                .datagram(&mut self.script, messages as usize, planned_ns) as u64;
        self.messages_left -= messages;
        self.report.planned += messages;
        messages
    }

    fn send(&mut self) -> Result<(), Over> {
        if self.outgoing.messages() == 0 {
            return Err(Over);
        }
        let link = &self.links[self.next_link];
        self.next_link = (self.next_link + 1) % self.links.len();
        let shared = self.shared;
        let deadline_ns = shared.window.end_ns + nanoseconds(CATCH_UP);
        let give_up = || shared.is_stopped() || shared.clock.now_ns() > deadline_ns;
        while link.flight.room() < self.outgoing.questions() && !give_up() {
            thread::sleep(ROOM_WAIT);
        }
        if link.flight.room() < self.outgoing.questions() {
            self.report.stranded(self.outgoing.abandon());
            return Err(Over);
        }
        match self.outgoing.send(link, shared.clock, give_up) {
            Ok(departed) => {
                self.report.departed(&shared.window, &departed);
                self.progress.sent(&self.report.sent);
                Ok(())
            }
            Err(stranded) => {
                self.report.stranded(stranded);
                Err(Over)
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.shared.clock.now_ns()
    }

    fn wait_until(&self, then_ns: u64) {
        let wait = Duration::from_nanos(then_ns.saturating_sub(self.now_ns()));
        if self.shared.load.spin && wait < NAP {
            std::hint::spin_loop();
        } else {
            thread::sleep(wait.min(NAP));
        }
    }

    fn hold_up_once(&mut self) {
        let Some(hold_up) = self.shared.load.hold_up.filter(|_| !self.held_up) else {
            return;
        };
        if self.now_ns() >= self.shared.window.start_ns + nanoseconds(hold_up.after) {
            self.held_up = true;
            thread::sleep(hold_up.lasting);
        }
    }

    /// What was planned and never sent counts as planned.
    fn count_unsent(&mut self) {
        if self.shared.is_stopped() {
            return;
        }
        if let (Some(plan), Some(_)) = (&self.plan, self.next_planned_ns()) {
            let datagrams = plan.left_before(self.shared.window.end_ns);
            let messages = datagrams.saturating_mul(self.shared.load.pack as u64);
            self.report.planned += messages.min(self.messages_left);
        }
    }
}

/// Sleeps of this thread end when they should, not up to 50 µs later (`PR_SET_TIMERSLACK`,
/// prctl(2)).
pub(crate) fn precise_sleep() {
    // A favour: without it the generator's lateness shows.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
