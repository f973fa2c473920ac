//! Taking answers. Beside an open loop's sender it runs on a thread of its own, so that a sender that is held up does
//! not make answers look late. In a closed loop it runs between sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmbd_proto::compact::{self, Answer};
use rmbd_proto::legacy::replies;

use super::inbox::Inbox;
use crate::flight::{
    Clock, Connection, Match, Matcher, Part, Progress, Question, Times, check, precise_sleep,
};
use crate::judge::{Ledger, Verdict};
use crate::machine::CpuTime;
use crate::plan::Format;

/// Takes the answers on some connections.
pub(crate) struct Answers<'a> {
    connections: Box<[(&'a Connection, Matcher<'a>)]>,
    inbox: Inbox<'a>,
    format: Format,
    ledger: Option<&'a Ledger>,
    clock: Clock<'a>,
    timeout_ns: u64,
    pub(crate) times: Times,
}

impl<'a> Answers<'a> {
    pub(crate) fn new(part: &Part<'a>, connections: &'a [Connection]) -> Self {
        Self {
            connections: connections
                .iter()
                .map(|connection| (connection, Matcher::new(&connection.in_flight)))
                .collect(),
            inbox: Inbox::new(connections),
            format: part.load.format,
            ledger: part.ledger,
            clock: part.clock,
            timeout_ns: part.window.timeout_ns,
            times: Times::new(part.window),
        }
    }

    /// Takes all answers that are there. Returns how many messages are settled by them.
    pub(crate) fn take(&mut self) -> u64 {
        let mut covered = 0;
        for (connection, matcher) in &mut self.connections {
            self.inbox.take(connection, self.clock, |datagram, now_ns| {
                let mut answers = Arrived {
                    matcher,
                    ledger: self.ledger,
                    now_ns,
                    times: &mut self.times,
                    covered: 0,
                };
                match self.format {
                    Format::Legacy => answers.legacy(datagram),
                    Format::Compact => answers.compact(datagram),
                }
                covered += answers.covered;
            });
        }
        covered
    }

    /// Gives up requests that have waited for too long. Returns how many messages are settled by that.
    pub(crate) fn expire(&mut self) -> u64 {
        let before_ns = self.clock.now_ns().saturating_sub(self.timeout_ns);
        self.expire_before(before_ns)
    }

    /// Gives up all requests without an answer, because the run was stopped. They count with the timeout.
    pub(crate) fn abandon(&mut self) -> u64 {
        self.expire_before(u64::MAX)
    }

    fn expire_before(&mut self, before_ns: u64) -> u64 {
        let mut covered = 0;
        let times = &mut self.times;
        for (_, matcher) in &mut self.connections {
            matcher.expire(before_ns, |question: Question| {
                times.timed_out(&question);
                covered += u64::from(question.covers);
            });
        }
        covered
    }

    /// Whether no request waits any more.
    pub(crate) fn is_settled(&self) -> bool {
        let mut matchers = self.connections.iter().map(|(_, matcher)| matcher);
        matchers.all(Matcher::is_settled)
    }

    /// Sleeps until an answer is there, or for a short while.
    pub(crate) fn wait(&mut self) {
        self.inbox.wait();
    }

    pub(crate) fn publish(&self, progress: &Progress) {
        let answers = &self.times.answers;
        progress.ended(answers.answered, answers.timed_out);
    }
}

/// A datagram of answers, with the connection that it came on.
struct Arrived<'a, 'b> {
    matcher: &'a mut Matcher<'b>,
    ledger: Option<&'a Ledger>,
    now_ns: u64,
    times: &'a mut Times,
    /// Number of messages that it settles.
    covered: u64,
}

impl Arrived<'_, '_> {
    fn legacy(&mut self, datagram: &[u8]) {
        for (key, _) in replies(datagram) {
            self.answer(check(key), None);
        }
    }

    /// Takes a compact reply. Its answers belong to the questions of the request with its number, in order; a reply
    /// without answers is an acknowledgement. A question that a problem kept from being answered times out.
    fn compact(&mut self, datagram: &[u8]) {
        let Ok(reply) = compact::reply(datagram) else {
            return self.times.unexpected();
        };
        let id = reply.head.id;
        let mut answers = reply.answers().peekable();
        if reply.head.code != 0 {
            self.times.unexpected();
        } else if answers.peek().is_none() {
            self.answer(id, None);
        }
        for answer in answers {
            match (answer, self.ledger) {
                (Ok(Answer::Count { .. }), None) => self.answer(id, None),
                (
                    Ok(Answer::Hit {
                        estimate, within, ..
                    }),
                    Some(_),
                ) => self.answer(id, Some(Verdict { estimate, within })),
                _ => self.times.unexpected(),
            }
        }
    }

    #[inline]
    fn answer(&mut self, check: u32, verdict: Option<Verdict>) {
        match self.matcher.answer(check) {
            Match::Answered(question) => {
                self.times.answered(&question, self.now_ns);
                self.covered += u64::from(question.covers);
                if let (Some(ledger), Some(verdict)) = (self.ledger, verdict) {
                    ledger.judge(question.claim, verdict, &mut self.times.verdicts);
                }
            }
            Match::Late | Match::Unknown => self.times.unexpected(),
        }
    }
}

/// Runs until `sender_ended` is set and no request waits. Returns the times and the CPU time.
pub(crate) fn run(
    mut answers: Answers<'_>,
    part: &Part<'_>,
    sender_ended: &AtomicBool,
    progress: &Progress,
) -> (Times, Duration) {
    precise_sleep();
    let cpu = CpuTime::from_now();
    loop {
        // Acquire, and before the look: requests that were sent before the end are seen to be waiting.
        let ended = sender_ended.load(Ordering::Acquire);
        answers.wait();
        answers.take();
        answers.expire();
        answers.publish(progress);
        if ended && part.is_stopped() {
            answers.abandon();
        }
        if ended && answers.is_settled() {
            break;
        }
    }
    answers.publish(progress);
    (answers.times, cpu.spent())
}
