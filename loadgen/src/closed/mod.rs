//! The closed loop: so many messages on their way, and the next ones leave as soon as others are
//! answered. One thread sends and receives, since here the one waits for the other anyway.
//!
//! Adds have no answer. So each train with adds that no answer comes after ends in a fence (a legacy count,
//! or a compact request for nothing but an acknowledgement): its answer says that the server has read
//! them. That makes it the way to add as fast as the server takes it and lose nothing.

pub(crate) mod once;

use crate::flight::progress::Progress;
use crate::flight::times::Times;
use crate::plan::script::Script;
use crate::receive::Answers;
use crate::record::Pace;
use crate::send::outgoing::{Link, Outgoing};
use crate::send::sender::{SenderReport, Shared, precise_sleep, thread_cpu_time};

/// One thread of it.
pub(crate) struct ClosedLoop<'a> {
    shared: &'a Shared<'a>,
    links: &'a [Link],
    script: Script,
    progress: &'a Progress,
    outgoing: Outgoing<'a>,
    answers: Answers<'a>,
    next_link: usize,
    window: u64,
    on_their_way: u64,
    messages_left: u64,
    report: SenderReport,
}

impl<'a> ClosedLoop<'a> {
    /// Thread `part`, which has the links to itself.
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        part: usize,
        links: &'a [Link],
        script: Script,
        progress: &'a Progress,
    ) -> Self {
        Self {
            shared,
            links,
            script,
            progress,
            outgoing: Outgoing::new(shared.load, shared.ledger),
            answers: Answers::new(shared, links),
            next_link: 0,
            window: window(shared, part),
            on_their_way: 0,
            messages_left: shared.messages_of(part),
            report: SenderReport::new(&shared.window),
        }
    }

    /// Runs until the time is over and nothing waits any more; gives back what it did, the script
    /// as far as it came, and the times. From the first message on it allocates nothing.
    pub(crate) fn run(mut self) -> (SenderReport, Script, Times) {
        precise_sleep();
        let before = thread_cpu_time();
        self.shared.wait_for_start();
        self.work();
        self.report.cpu = thread_cpu_time().saturating_sub(before);
        (self.report, self.script, self.answers.times)
    }

    fn work(&mut self) {
        loop {
            let over = self.is_over();
            while !over && self.may_send() && self.send() {}
            let taken = self.answers.take();
            let expired = self.answers.expire();
            self.on_their_way = self.on_their_way.saturating_sub(taken + expired);
            self.answers.publish(self.progress);
            if over && self.shared.is_stopped() {
                self.answers.abandon();
            }
            if over && self.answers.is_settled() {
                break;
            }
            if taken == 0 && (over || !self.may_send()) {
                self.answers.wait();
            }
        }
        self.answers.publish(self.progress);
    }

    fn is_over(&self) -> bool {
        self.messages_left == 0
            || self.report.failure.is_some()
            || self.shared.is_stopped()
            || self.shared.clock.now_ns() >= self.shared.window.end_ns
    }

    /// With many messages on their way a train of half of them is waited for: one by one they
    /// would cost a system call each.
    fn may_send(&self) -> bool {
        let free = self.free();
        let worth_it = (self.window / 2).min(self.outgoing.messages_before_fence() as u64 / 2);
        free >= worth_it.max(1) && self.messages_left > 0
    }

    /// How many more may be on their way. Counts that were only asked to cover adds may exceed the
    /// window by one a train.
    fn free(&self) -> u64 {
        self.window.saturating_sub(self.on_their_way)
    }

    /// Sends a train; false where that failed.
    fn send(&mut self) -> bool {
        let free = self.free().min(self.messages_left);
        let mut messages = free.min(self.outgoing.messages_before_fence() as u64);
        let now_ns = self.shared.clock.now_ns();
        while messages > 0 && self.outgoing.has_room() {
            let written =
                self.outgoing
                    .datagram(&mut self.script, messages as usize, now_ns) as u64;
            messages -= written;
            self.messages_left -= written;
        }
        if self.outgoing.needs_fence() {
            self.outgoing.fence(&self.script, now_ns);
        }
        let link = &self.links[self.next_link];
        self.next_link = (self.next_link + 1) % self.links.len();
        if link.flight.room() < self.outgoing.questions() {
            // Cannot be: there is room for more than the window.
            self.report.stranded(self.outgoing.abandon());
            return false;
        }
        match self
            .outgoing
            .send(link, self.shared.clock, || self.shared.is_stopped())
        {
            Ok(departed) => {
                self.on_their_way += departed.contents.messages();
                self.report.departed(&self.shared.window, &departed);
                self.progress.sent(&self.report.sent);
                true
            }
            Err(stranded) => {
                self.report.stranded(stranded);
                false
            }
        }
    }
}

/// Messages of this thread that may be on their way.
pub(crate) fn window(shared: &Shared<'_>, part: usize) -> u64 {
    let Pace::Outstanding { requests } = shared.load.pace else {
        return 0;
    };
    let threads = shared.load.threads;
    (requests / threads + usize::from(part < requests % threads)) as u64
}
