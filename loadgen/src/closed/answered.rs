//! The closed loop: a fixed number of messages is on the way, and the next ones leave as soon as others are answered.
//! One thread sends and receives, since one waits for the other anyway.
//!
//! Adds have no answer. So a train whose adds are followed by no answer ends in a fence (a legacy count, or a compact
//! request that asks only for an acknowledgement). The answer to the fence tells that the server has read the adds.
//! In this way adds go as fast as the server takes them, and none is lost.

use crate::flight::Times;
use crate::judge::Diary;
use crate::plan::Script;
use crate::receive::Answers;
use crate::send::{Errand, SenderReport, TrainWriter};

/// One thread of the closed loop.
pub(crate) struct AnsweredLoop<'a> {
    errand: Errand<'a>,
    train: TrainWriter<'a>,
    answers: Answers<'a>,
    window: u64,
    on_their_way: u64,
}

impl<'a> AnsweredLoop<'a> {
    /// The loop of thread `thread`.
    pub(crate) fn new(errand: Errand<'a>, thread: usize) -> Self {
        let part = errand.part;
        Self {
            train: TrainWriter::new(part.load, part.ledger, part.chosen),
            answers: Answers::new(part, errand.connections),
            window: part.outstanding_of(thread),
            on_their_way: 0,
            errand,
        }
    }

    /// Runs until the time is over and nothing waits any more. Returns its results, the script as far as it came, the
    /// times, and the diaries.
    pub(crate) fn run(mut self) -> (SenderReport, Script, Times, Vec<Diary<'a>>) {
        self.errand.begin();
        self.work();
        let (report, script, diary) = self.errand.end();
        let diaries = diary.into_iter().chain(self.answers.diary).collect();
        (report, script, self.answers.times, diaries)
    }

    fn work(&mut self) {
        loop {
            let over = self.errand.is_over();
            while !over && self.may_send() && self.send() {}
            let taken = self.answers.take();
            let expired = self.answers.expire();
            self.on_their_way = self.on_their_way.saturating_sub(taken + expired);
            self.answers.publish(self.errand.progress());
            if over && self.errand.part.is_stopped() {
                self.answers.abandon();
            }
            if over && self.answers.is_settled() {
                break;
            }
            if taken == 0 && (over || !self.may_send()) {
                self.answers.wait();
            }
        }
        self.answers.publish(self.errand.progress());
    }

    /// Whether a train may leave. With many messages on their way it waits for room for half of them: one by one they
    /// would cost a system call each.
    fn may_send(&self) -> bool {
        let free = self.free();
        let worth_it = (self.window / 2).min(self.train.messages_before_fence() as u64 / 2);
        free >= worth_it.max(1) && self.errand.messages_left > 0
    }

    /// Number of messages that may join those on their way. Counts that were only asked to cover adds may exceed the
    /// window by one for each train.
    fn free(&self) -> u64 {
        self.window.saturating_sub(self.on_their_way)
    }

    /// Sends a train; returns false if that failed.
    fn send(&mut self) -> bool {
        let free = self.free().min(self.errand.messages_left);
        let mut messages = free.min(self.train.messages_before_fence() as u64);
        let now_ns = self.errand.part.now_ns();
        while messages > 0 && self.train.has_room() {
            let written = self
                .train
                .datagram(&mut self.errand.script, messages as usize, now_ns)
                as u64;
            messages -= written;
            self.errand.messages_left -= written;
        }
        if self.train.needs_fence() {
            self.train.fence(&self.errand.script, now_ns);
        }
        let (part, connection) = (self.errand.part, self.errand.next_connection());
        // There is room for more than the window.
        let sent = (self.errand).send(&mut self.train, connection, || part.is_stopped());
        self.on_their_way += sent.unwrap_or(0);
        sent.is_some()
    }
}
