//! The sending half of an open loop or a flood: messages that are due leave, whatever the server does.

use std::thread;
use std::time::Duration;

use super::errand::Errand;
use super::report::SenderReport;
use super::train_writer::TrainWriter;
use crate::judge::Diary;
use crate::plan::{Schedule, Script, nanoseconds};
use crate::record::Pace;

/// Time after its end in which an open loop still sends what it owes.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Longest sleep, after which a sender notices that it is to end.
const NAP: Duration = Duration::from_millis(20);
/// Time to wait for room if too many requests are on their way.
const ROOM_WAIT: Duration = Duration::from_micros(100);

/// One sending thread.
pub(crate) struct Sender<'a> {
    errand: Errand<'a>,
    schedule: Option<Schedule>,
    train: TrainWriter<'a>,
    held_up: bool,
}

/// The end of sending: a train cannot leave, or nothing is left to send.
struct Over;

impl<'a> Sender<'a> {
    /// The sender of thread `thread`.
    pub(crate) fn new(errand: Errand<'a>, thread: usize) -> Self {
        let part = errand.part;
        let load = part.load;
        let schedule = match load.pace {
            Pace::Rate { per_s, gaps } => Some(Schedule::new(
                part.window.start_ns,
                per_s / load.pack as f64,
                gaps,
                load.seed,
                thread,
                load.threads,
            )),
            Pace::Flood | Pace::Outstanding { .. } => None,
        };
        Self {
            errand,
            schedule,
            train: TrainWriter::new(load, part.ledger, part.chosen),
            held_up: false,
        }
    }

    /// Sends until the time is over. Returns the results, the script as far as it came, and the diary.
    pub(crate) fn run(mut self) -> (SenderReport, Script, Option<Diary<'a>>) {
        self.errand.begin();
        while !self.errand.part.is_stopped() {
            self.hold_up_once();
            let step = match self.schedule {
                Some(_) => self.send_what_is_due(),
                None => self.send_at_once(),
            };
            if step.is_err() {
                break;
            }
        }
        self.count_unsent();
        self.errand.end()
    }

    fn send_at_once(&mut self) -> Result<(), Over> {
        let now_ns = self.now_ns();
        if now_ns >= self.errand.part.window.end_ns {
            return Err(Over);
        }
        while self.train.has_room() && self.errand.messages_left > 0 {
            self.fill(now_ns);
        }
        self.send()
    }

    fn send_what_is_due(&mut self) -> Result<(), Over> {
        let now_ns = self.now_ns();
        let Some(next_ns) = self.next_planned_ns() else {
            return Err(Over);
        };
        if now_ns > self.deadline_ns() {
            return Err(Over);
        }
        if next_ns > now_ns {
            self.wait_until(next_ns);
            return Ok(());
        }
        while let Some(planned_ns) = self.next_planned_ns().filter(|&planned| planned <= now_ns)
            && self.train.has_room()
        {
            let messages = self.fill(planned_ns);
            // The time is that when the train began to be filled: 64 datagrams take some microseconds.
            let late_ns = now_ns - planned_ns;
            let lateness = &mut self.errand.report.lateness;
            lateness.saturating_record_n(late_ns, messages);
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
        }
        self.send()
    }

    /// The planned time of the next datagram; `None` if all that was planned is sent.
    fn next_planned_ns(&self) -> Option<u64> {
        let next_ns = self.schedule.as_ref()?.next_ns();
        let is_planned = next_ns < self.errand.part.window.end_ns && self.errand.messages_left > 0;
        is_planned.then_some(next_ns)
    }

    /// Adds a datagram, and returns the number of its messages.
    fn fill(&mut self, planned_ns: u64) -> u64 {
        let errand = &mut self.errand;
        let most = errand.messages_left.min(errand.part.load.pack as u64);
        let train = &mut self.train;
        let messages = train.datagram(&mut errand.script, most as usize, planned_ns) as u64;
        errand.messages_left -= messages;
        errand.report.planned += messages;
        messages
    }

    fn send(&mut self) -> Result<(), Over> {
        if self.train.messages() == 0 {
            return Err(Over);
        }
        let connection = self.errand.next_connection();
        let (part, deadline_ns) = (self.errand.part, self.deadline_ns());
        let give_up = || part.is_stopped() || part.now_ns() > deadline_ns;
        while connection.in_flight.room() < self.train.questions() && !give_up() {
            thread::sleep(ROOM_WAIT);
        }
        let sent = self.errand.send(&mut self.train, connection, give_up);
        sent.map(|_| ()).ok_or(Over)
    }

    fn now_ns(&self) -> u64 {
        self.errand.part.now_ns()
    }

    /// The time after which it sends no more, whatever is left.
    fn deadline_ns(&self) -> u64 {
        self.errand.part.window.end_ns + nanoseconds(CATCH_UP)
    }

    fn wait_until(&self, then_ns: u64) {
        let wait = Duration::from_nanos(then_ns.saturating_sub(self.now_ns()));
        if self.errand.part.load.spin && wait < NAP {
            std::hint::spin_loop();
        } else {
            thread::sleep(wait.min(NAP));
        }
    }

    fn hold_up_once(&mut self) {
        let part = self.errand.part;
        let Some(hold_up) = part.load.hold_up.filter(|_| !self.held_up) else {
            return;
        };
        if self.now_ns() >= part.window.start_ns + nanoseconds(hold_up.after) {
            self.held_up = true;
            thread::sleep(hold_up.lasting);
        }
    }

    /// Counts what was planned and never sent.
    fn count_unsent(&mut self) {
        let part = self.errand.part;
        if part.is_stopped() {
            return;
        }
        if let (Some(schedule), Some(_)) = (&self.schedule, self.next_planned_ns()) {
            let datagrams = schedule.left_before(part.window.end_ns);
            let messages = datagrams.saturating_mul(part.load.pack as u64);
            self.errand.report.planned += messages.min(self.errand.messages_left);
        }
    }
}
