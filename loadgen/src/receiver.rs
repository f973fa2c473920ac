//! Taking answers: on a thread of its own beside an open loop's sender, so that a sender that is
//! held up does not make answers look late; in the closed loop between sends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmbd::io::{Receiver, TRAIN_BYTES_MAX};
use rmbd::wire::legacy::replies;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::flight::{Match, Question, Waiting, check};
use crate::outgoing::Link;
use crate::progress::Progress;
use crate::sender::{Shared, precise_sleep, thread_cpu_time};
use crate::times::Times;

/// Trains of answers that one system call takes.
const TRAINS: usize = 16;
/// How long to wait for answers before what has timed out is looked for.
const WAIT: Duration = Duration::from_millis(2);

/// Takes the answers on some links.
pub(crate) struct Answers<'a> {
    links: Box<[(&'a Link, Waiting<'a>)]>,
    polled: Box<[PollFd<'a>]>,
    receiver: Receiver,
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
                        covered += answered(datagram, waiting, now_ns, &mut self.times);
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

fn answered(datagram: &[u8], waiting: &mut Waiting<'_>, now_ns: u64, times: &mut Times) -> u64 {
    let mut covered = 0;
    for (key, _) in replies(datagram) {
        match waiting.answer(check(key)) {
            Match::Answered(question) => {
                times.answered(&question, now_ns);
                covered += u64::from(question.covers);
            }
            Match::Late | Match::Unknown => times.unexpected(),
        }
    }
    covered
}

fn is_refusal(error: &io::Error) -> bool {
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
