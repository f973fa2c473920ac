//! Taking answers: on a thread of its own beside an open loop's sender, so that a sender that is
//! held up does not make answers look late; in the closed loop between sends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmbd::io::{Receiver, TRAIN_BYTES_MAX};
use rmbd::wire::compact::{self, Answer};
use rmbd::wire::legacy::replies;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::flight::clock::Clock;
use crate::flight::progress::Progress;
use crate::flight::queue::{Match, Question, Waiting, check};
use crate::flight::times::Times;
use crate::judge::ledger::{Ledger, Verdict};
use crate::plan::format::Format;
use crate::send::outgoing::Link;
use crate::send::sender::{Shared, precise_sleep, thread_cpu_time};

/// Trains of answers that one system call takes.
const TRAINS: usize = 16;
/// How long to wait for answers before what has timed out is looked for.
const WAIT: Duration = Duration::from_millis(2);

/// Takes the answers on some links.
pub(crate) struct Answers<'a> {
    links: Box<[(&'a Link, Waiting<'a>)]>,
    polled: Box<[PollFd<'a>]>,
    receiver: Receiver,
    format: Format,
    ledger: Option<&'a Ledger>,
    clock: Clock<'a>,
    timeout_ns: u64,
    pub(crate) times: Times,
}

impl<'a> Answers<'a> {
    pub(crate) fn new(shared: &Shared<'a>, links: &'a [Link]) -> Self {
        Self {
            links: links
                .iter()
                .map(|link| (link, Waiting::new(&link.flight)))
                .collect(),
            polled: links
                .iter()
                .map(|link| PollFd::new(&link.socket, PollFlags::IN))
                .collect(),
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
            format: shared.load.format,
            ledger: shared.ledger,
            clock: shared.clock,
            timeout_ns: shared.window.timeout_ns(),
            times: Times::new(shared.window),
        }
    }

    /// Takes what is there; returns how many messages are accounted for by that.
    pub(crate) fn take(&mut self) -> u64 {
        let mut covered = 0;
        for (link, waiting) in &mut self.links {
            loop {
                let trains = match self.receiver.receive(&link.socket) {
                    Ok(0) => break,
                    Ok(trains) => trains,
                    // A refusal of something sent earlier is reported here too: look again.
                    Err(error) if is_refusal(&error) => continue,
                    Err(_) => break,
                };
                let now_ns = self.clock.now_ns();
                for train in (0..trains).filter_map(|index| self.receiver.train(index)) {
                    for datagram in train.datagrams() {
                        let mut answers = Arrived {
                            waiting,
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
                    }
                }
                if trains < TRAINS {
                    break;
                }
            }
        }
        covered
    }

    /// Gives up what has waited for too long; returns how many messages are accounted for by that.
    pub(crate) fn expire(&mut self) -> u64 {
        let before_ns = self.clock.now_ns().saturating_sub(self.timeout_ns);
        self.expire_before(before_ns)
    }

    /// Gives up what has no answer yet: the run was stopped. It stands at the timeout.
    pub(crate) fn abandon(&mut self) -> u64 {
        self.expire_before(u64::MAX)
    }

    fn expire_before(&mut self, before_ns: u64) -> u64 {
        let mut covered = 0;
        let times = &mut self.times;
        for (_, waiting) in &mut self.links {
            waiting.expire(before_ns, |question: Question| {
                times.timed_out(&question);
                covered += u64::from(question.covers);
            });
        }
        covered
    }

    /// Whether nothing waits any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.links.iter().all(|(_, waiting)| waiting.is_settled())
    }

    /// Sleeps until there is something to take, or for a short while.
    pub(crate) fn wait(&mut self) {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: WAIT.subsec_nanos().into(),
        };
        // Interrupted, or refused for want of memory: the caller looks again anyway.
        let _ = poll(&mut self.polled, Some(&wait));
    }

    pub(crate) fn publish(&self, progress: &Progress) {
        let answers = &self.times.answers;
        progress.ended(answers.answered, answers.timed_out);
    }
}

/// A datagram of answers, and whose they are.
struct Arrived<'a, 'b> {
    waiting: &'a mut Waiting<'b>,
    ledger: Option<&'a Ledger>,
    now_ns: u64,
    times: &'a mut Times,
    /// Messages that it accounts for.
    covered: u64,
}

impl Arrived<'_, '_> {
    fn legacy(&mut self, datagram: &[u8]) {
        for (key, _) in replies(datagram) {
            self.answer(check(key), None);
        }
    }

    /// Answers belong to the questions of the request with this number, in order; a reply without any is
    /// an acknowledgement. What a problem kept from being answered times out.
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
        match self.waiting.answer(check) {
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

pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::INTR)
    )
}

/// Runs until `sender_ended` and nothing waits any more. Gives back the times and the CPU time.
pub(crate) fn run(
    mut answers: Answers<'_>,
    shared: &Shared<'_>,
    sender_ended: &AtomicBool,
    progress: &Progress,
) -> (Times, Duration) {
    precise_sleep();
    let before = thread_cpu_time();
    loop {
        // Acquire, and before looking: what was sent before the end is seen to be waiting.
        let ended = sender_ended.load(Ordering::Acquire);
        answers.wait();
        answers.take();
        answers.expire();
        answers.publish(progress);
        if ended && shared.is_stopped() {
            answers.abandon();
        }
        if ended && answers.is_settled() {
            break;
        }
    }
    answers.publish(progress);
    (answers.times, thread_cpu_time().saturating_sub(before))
}
