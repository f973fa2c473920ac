//! Taking answers. Beside an open loop's sender it runs on a thread of its own, so that a sender that is held up does
//! not make answers look late. In a closed loop it runs between sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmbd_proto::compact::{self, Answer, WindowAnswer};
use rmbd_proto::legacy::replies;

use super::inbox::Inbox;
use crate::flight::{
    Clock, Connection, Match, Matcher, Part, Progress, Question, Times, check, precise_sleep,
};
use crate::judge::{Diary, Entry, Ledger, Verdict, What};
use crate::machine::CpuTime;
use crate::plan::{Format, Mode};
use crate::record::InWindow;

/// Takes the answers on some connections.
pub(crate) struct Answers<'a> {
    connections: Box<[(&'a Connection, Matcher<'a>)]>,
    inbox: Inbox<'a>,
    format: Format,
    mode: Mode,
    ledger: Option<&'a Ledger>,
    /// The diary of answers, in a load with windows.
    pub(crate) diary: Option<Diary<'a>>,
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
            mode: part.load.mode,
            ledger: part.ledger,
            diary: part.diary(connections),
            clock: part.clock,
            timeout_ns: part.window.timeout_ns,
            times: Times::new(part.window, part.nodes),
        }
    }

    /// Takes all answers that are there. Returns how many messages are settled by them.
    pub(crate) fn take(&mut self) -> u64 {
        let mut covered = 0;
        for (connection, matcher) in &mut self.connections {
            self.inbox.take(connection, self.clock, |datagram, now_ns| {
                let mut answers = Arrived {
                    connection,
                    matcher,
                    mode: self.mode,
                    ledger: self.ledger,
                    diary: self.diary.as_mut(),
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
        let (is_hit, diary) = (self.mode.hit_share() > 0.0, &mut self.diary);
        for (connection, matcher) in &mut self.connections {
            matcher.expire(before_ns, |question: Question| {
                times.timed_out(&question);
                times.nodes[usize::from(connection.node)].answers.timed_out += 1;
                covered += u64::from(question.covers);
                if let (Some(diary), Some(key)) = (diary.as_mut(), question.claim.in_diary())
                    && is_hit
                {
                    diary.note(entry(
                        connection,
                        &question,
                        key,
                        What::Unanswered,
                        u64::MAX,
                    ));
                }
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

/// What happened to the key of a question.
fn entry(
    connection: &Connection,
    question: &Question,
    key: u32,
    what: What,
    ended_ns: u64,
) -> Entry {
    Entry {
        key,
        what,
        node: connection.node,
        socket: connection.number,
        times: 1,
        sent_ns: question.sent_ns,
        last_ns: question.sent_ns,
        ended_ns,
    }
}

/// A datagram of answers, with the connection that it came on.
struct Arrived<'a, 'b, 'c> {
    connection: &'a Connection,
    matcher: &'a mut Matcher<'b>,
    mode: Mode,
    ledger: Option<&'a Ledger>,
    diary: Option<&'a mut Diary<'c>>,
    now_ns: u64,
    times: &'a mut Times,
    /// Number of messages that it settles.
    covered: u64,
}

impl Arrived<'_, '_, '_> {
    fn legacy(&mut self, datagram: &[u8]) {
        for (key, _) in replies(datagram) {
            self.answer(check(key), Said::Nothing);
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
            self.answer(id, Said::Nothing);
        }
        for answer in answers {
            match (answer, self.mode) {
                (Ok(Answer::Count { .. }), Mode::Count | Mode::Mix(_)) => {
                    self.answer(id, Said::Nothing);
                }
                (
                    Ok(Answer::Hit {
                        estimate, within, ..
                    }),
                    Mode::Hit { .. },
                ) => self.answer(id, Said::Hit(Verdict { estimate, within })),
                (Ok(Answer::Window(count)), Mode::CountIn { .. } | Mode::MixIn { .. }) => {
                    self.answer(id, Said::counted(count));
                }
                (Ok(Answer::Limits(verdict)), Mode::Limit { .. }) => {
                    self.answer(id, Said::decided(verdict));
                }
                _ => self.times.unexpected(),
            }
        }
    }

    #[inline]
    fn answer(&mut self, check: u32, said: Said) {
        let question = match self.matcher.answer(check) {
            Match::Answered(question) => question,
            Match::Late | Match::Unknown => return self.times.unexpected(),
        };
        self.times.answered(&question, self.now_ns);
        self.covered += u64::from(question.covers);
        let node = &mut self.times.nodes[usize::from(self.connection.node)];
        node.answers.answered += 1;
        match said {
            Said::Nothing => {}
            Said::Hit(verdict) => {
                if let Some(ledger) = self.ledger {
                    ledger.judge(question.claim, verdict, &mut self.times.verdicts);
                }
            }
            Said::InWindow { tally, .. } => node.in_window.add(&tally),
        }
        if let Some(diary) = &mut self.diary {
            diary.answered(self.connection.number, question.sent_ns, self.now_ns);
            let Said::InWindow { what, tally } = said else {
                return;
            };
            diary.decided(&tally, question.sent_ns);
            if let Some(key) = question.claim.in_diary() {
                diary.note(entry(self.connection, &question, key, what, self.now_ns));
            }
        }
    }
}

/// What an answer said.
#[derive(Clone, Copy)]
enum Said {
    /// Nothing that is judged.
    Nothing,
    /// The verdict on a hit of all time.
    Hit(Verdict),
    /// Something about a window.
    InWindow {
        what: What,
        /// What it counts as.
        tally: InWindow,
    },
}

impl Said {
    fn counted(count: WindowAnswer) -> Self {
        let WindowAnswer {
            estimate,
            overflowed,
            ..
        } = count;
        Self::InWindow {
            what: What::Counted {
                estimate,
                overflowed,
            },
            tally: InWindow {
                counted: 1,
                incomplete: count.incomplete.into(),
                overflowed: overflowed.into(),
                ..InWindow::default()
            },
        }
    }

    fn decided(verdict: compact::Verdict) -> Self {
        let what = match verdict.over {
            true => What::Refused,
            false => What::Admitted,
        };
        Self::InWindow {
            what,
            tally: InWindow {
                counted: 0,
                admitted: (!verdict.over).into(),
                refused: verdict.over.into(),
                unsure: verdict.unsure.into(),
                incomplete: verdict.incomplete.into(),
                overflowed: verdict.overflowed.into(),
            },
        }
    }
}

/// Runs until `sender_ended` is set and no request waits. Returns the times, the CPU time and the diary.
pub(crate) fn run<'a>(
    mut answers: Answers<'a>,
    part: &Part<'_>,
    sender_ended: &AtomicBool,
    progress: &Progress,
) -> (Times, Duration, Option<Diary<'a>>) {
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
    (answers.times, cpu.spent(), answers.diary)
}
