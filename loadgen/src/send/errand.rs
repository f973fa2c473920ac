//! The task of a sending thread.

use super::report::SenderReport;
use super::train_writer::{Departed, TrainWriter};
use crate::flight::{Connection, Part, Progress, precise_sleep};
use crate::judge::Diary;
use crate::machine::CpuTime;
use crate::plan::Script;

/// The task of one thread in a part of a phase: a script to send, over connections that it has to itself.
pub(crate) struct Errand<'a> {
    pub(crate) part: &'a Part<'a>,
    pub(crate) connections: &'a [Connection],
    pub(crate) script: Script,
    pub(crate) messages_left: u64,
    pub(crate) report: SenderReport,
    /// The diary of adds, in a load with windows.
    pub(crate) diary: Option<Diary<'a>>,
    progress: &'a Progress,
    next_connection: usize,
    cpu: CpuTime,
}

impl<'a> Errand<'a> {
    /// The task of thread `thread`.
    pub(crate) fn new(
        part: &'a Part<'a>,
        thread: usize,
        connections: &'a [Connection],
        script: Script,
        progress: &'a Progress,
    ) -> Self {
        Self {
            part,
            connections,
            script,
            messages_left: part.messages_of(thread),
            diary: part.diary(connections),
            report: SenderReport::new(&part.window, part.nodes),
            progress,
            next_connection: 0,
            cpu: CpuTime::from_now(),
        }
    }

    /// Waits until the measured part begins. The thread that does the task calls it; from then on the task allocates
    /// nothing.
    pub(crate) fn begin(&mut self) {
        precise_sleep();
        self.cpu = CpuTime::from_now();
        self.part.wait_for_start();
    }

    /// Ends the task. Returns the results, the script as far as it came, and the diary.
    pub(crate) fn end(mut self) -> (SenderReport, Script, Option<Diary<'a>>) {
        self.report.cpu = self.cpu.spent();
        (self.report, self.script, self.diary)
    }

    /// Whether a closed loop sends nothing new.
    pub(crate) fn is_over(&self) -> bool {
        self.messages_left == 0
            || self.report.failure.is_some()
            || self.report.refused.is_some()
            || self.part.is_stopped()
            || self.part.now_ns() >= self.part.window.end_ns
    }

    /// The connections, one after the other in turn.
    pub(crate) fn next_connection(&mut self) -> &'a Connection {
        let connection = &self.connections[self.next_connection];
        self.next_connection = (self.next_connection + 1) % self.connections.len();
        connection
    }

    /// Sends a train, or drops it if there is no room for its questions. Returns how many messages left, if it was
    /// sent.
    pub(crate) fn send(
        &mut self,
        train: &mut TrainWriter<'_>,
        connection: &Connection,
        give_up: impl Fn() -> bool,
    ) -> Option<u64> {
        let sent = match connection.in_flight.room() < train.questions() {
            true => Err(train.abandon()),
            false => {
                let diary = self.diary.as_mut();
                train.send(connection, self.part.clock, diary, give_up)
            }
        };
        match sent {
            Ok(departed) => {
                self.departed(&departed);
                Some(departed.contents.messages())
            }
            Err(stranded) => {
                self.report.stranded(stranded);
                None
            }
        }
    }

    pub(crate) fn departed(&mut self, departed: &Departed) {
        self.report.departed(&self.part.window, departed);
        self.progress.sent(&self.report.sent);
    }

    pub(crate) fn progress(&self) -> &'a Progress {
        self.progress
    }
}
