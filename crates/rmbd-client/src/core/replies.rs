//! Replies and what they mean, and copies without one.

use std::cmp::Ordering;
use std::time::Duration;

use super::cookie::{Cookie, cookie_of};
use super::lane::Batch;
use super::recovery::REORDERING_MAX;
use super::{Copy, Core, Failure, Flying, Kind, Node, Reason, Sink};
use rmbd_proto::SketchNumber;
use rmbd_proto::compact::{self, Answer, Operation, Problem, Reply};

impl<T> Core<T> {
    /// Takes a flight out, and what was under way of it.
    pub(super) fn land(&mut self, flight: u64) -> Option<Flying<T>> {
        let flying = self.flying.remove(&flight)?;
        for id in &flying.ids {
            self.copies.remove(id);
        }
        if let Some(number) = flying.under_way
            && let Ok(at) = self.sent.binary_search_by_key(&number, |copy| copy.number)
        {
            // Near the front: replies come in order.
            self.sent.remove(at);
        }
        Some(flying)
    }

    /// Copies that were sent well before one that has a reply are lost.
    pub(super) fn find_overtaken(&mut self) {
        while let Some(&copy) = self.sent.front()
            && copy.number + REORDERING_MAX <= self.replied_max
        {
            self.lose_first(copy);
        }
    }

    /// Copies that were waited for long enough are lost.
    pub(super) fn find_late(&mut self, now: Duration) {
        let patience = self.recovery.patience();
        let mut ran_out = false;
        while let Some(&copy) = self.sent.front()
            && copy.sent_at + patience <= now
        {
            self.lose_first(copy);
            ran_out = true;
        }
        if ran_out {
            self.recovery.ran_out();
        }
    }

    fn lose_first(&mut self, copy: Copy) {
        self.sent.pop_front();
        self.recovery.lost(copy.number, self.next_copy);
        if let Some(flying) = self.flying.get_mut(&copy.flight) {
            flying.under_way = None;
            self.lost.push_back(copy.flight);
        }
    }

    /// A reply has come that fits.
    pub(super) fn settle(
        &mut self,
        flying: Flying<T>,
        reply: &Reply<'_>,
        now: Duration,
        sink: &mut Sink<'_, T>,
    ) {
        let code = reply.head.code;
        if flying.kind == Kind::Adding && !refuses_client(code) {
            self.is_known = true;
        }
        match flying.kind {
            Kind::Handshake => self.settle_handshake(reply, sink),
            _ if stops_whole_request(code, reply.head.done, flying.batch.sketch) => {
                if code == Problem::WrongBoot.code()
                    && self.node.is_some_and(|node| node.boot == flying.boot)
                {
                    self.node = None;
                }
                let uncertain = flying.is_uncertain_after(code);
                flying.fail(Reason::Code(code), uncertain, sink);
            }
            _ => self.settle_operations(flying, reply, now, sink),
        }
    }

    fn settle_handshake(&mut self, reply: &Reply<'_>, sink: &mut Sink<'_, T>) {
        if let Some(Ok(Answer::Info(info))) = reply.answers().next() {
            self.node = Some(Node {
                boot: info.boot,
                weight_max: info.max_weight,
            });
            self.cookie = Cookie::of(info.cookie);
            self.is_known = false;
        } else {
            for batch in self.adding.sealed.drain(..) {
                batch.fail(Reason::Code(reply.head.code), false, sink);
            }
        }
    }

    fn settle_operations(
        &mut self,
        flying: Flying<T>,
        reply: &Reply<'_>,
        now: Duration,
        sink: &mut Sink<'_, T>,
    ) {
        let Batch {
            datagram,
            tokens,
            asks,
            sequence,
            sketch,
            ..
        } = flying.batch;
        if !asks && reply.head.code == 0 {
            return tokens.into_iter().for_each(|token| sink(token, Ok(None)));
        }
        let mut answers = reply.answers().flatten();
        let done = usize::from(reply.head.done);
        for (index, (operation, token)) in operations(&datagram).zip(tokens).enumerate() {
            match index.cmp(&done) {
                Ordering::Less if operation.has_answer() => sink(token, Ok(answers.next())),
                Ordering::Less => sink(token, Ok(None)),
                Ordering::Equal => sink(token, Err(Failure::refused(reply.head.code))),
                // Nobody looked at it: it goes again, with others or alone.
                Ordering::Greater => {
                    let lanes = match sequence {
                        Some(_) => &mut self.adding,
                        None => &mut self.asking,
                    };
                    match lanes.place(sketch, operation, || now) {
                        Ok(()) => lanes.push_token(token),
                        // It fitted before.
                        Err(_) => sink(token, Err(Failure::of(Reason::Abandoned, false))),
                    }
                }
            }
        }
        self.flush();
    }
}

impl Failure {
    fn of(reason: Reason, uncertain: bool) -> Self {
        Self { reason, uncertain }
    }

    /// An operation that the node understood well enough not to apply it.
    fn refused(code: u8) -> Self {
        Self::of(Reason::Code(code), false)
    }
}

impl<T> Batch<T> {
    pub(super) fn fail(self, reason: Reason, uncertain: bool, sink: &mut Sink<'_, T>) {
        let failure = Failure::of(reason, uncertain && self.adds);
        for token in self.tokens {
            sink(token, Err(failure));
        }
    }
}

impl<T> Flying<T> {
    pub(super) fn fail(self, reason: Reason, uncertain: bool, sink: &mut Sink<'_, T>) {
        self.batch.fail(reason, uncertain, sink);
    }

    /// Whether it may have been applied although the node refused it as a whole: in an earlier boot,
    /// or another copy of it. (Not considered: that the network doubled the only copy, that one of the
    /// two was refused because the table of clients was full, and that the other came when it was not any more.)
    fn is_uncertain_after(&self, code: u8) -> bool {
        match Problem::from_code(code) {
            None | Some(Problem::WrongBoot | Problem::SequenceTooOld) => true,
            Some(_) => self.ids.len() > 1,
        }
    }

    /// Whether a reply has the answers that the operations ask for.
    pub(super) fn fits(&self, reply: &Reply<'_>) -> bool {
        let done = usize::from(reply.head.done);
        let total = operations(&self.batch.datagram).count();
        if (reply.head.code == 0 && done != total) || (reply.head.code != 0 && done >= total) {
            return false;
        }
        if reply.head.code == Problem::AddressUnproven.code() {
            return done == 0 && self.kind == Kind::Adding && cookie_of(reply).is_some();
        }
        let mut answers = reply.answers();
        self.batch.asks_before(done).all(|operation| {
            let answer = answers.next();
            answer
                .is_some_and(|answer| answer.is_ok_and(|answer| operation.is_answered_by(&answer)))
        }) && answers.next().is_none()
    }
}

impl<T> Batch<T> {
    /// The operations with answers among the first `done`.
    fn asks_before(&self, done: usize) -> impl Iterator<Item = Operation<'_>> {
        let done = if self.asks { done } else { 0 };
        let operations = operations(&self.datagram).take(done);
        operations.filter(Operation::has_answer)
    }
}

/// The operations of a request that this client wrote.
fn operations(datagram: &[u8]) -> impl Iterator<Item = Operation<'_>> {
    let request = compact::request(datagram).ok();
    request
        .into_iter()
        .flat_map(|request| request.operations().flatten())
}

/// Whether a code says that the node does not know the client, or may not.
fn refuses_client(code: u8) -> bool {
    match Problem::from_code(code) {
        None => code != 0,
        Some(problem) => matches!(
            problem,
            Problem::WrongBoot
                | Problem::OnceTableFull
                | Problem::OnceNetworkFull
                | Problem::AddressUnproven
        ),
    }
}

/// Whether a code stops a request for this sketch before its first operation.
fn stops_whole_request(code: u8, done: u16, sketch: SketchNumber) -> bool {
    match Problem::from_code(code) {
        None => code != 0 && done == 0,
        // Every node has the default one: it is that of a limit.
        Some(Problem::UnknownSketch) => sketch != SketchNumber::DEFAULT,
        Some(
            Problem::Short
            | Problem::UnknownVersion
            | Problem::UnknownFlags
            | Problem::Header
            | Problem::WrongBoot
            | Problem::OnceTableFull
            | Problem::SequenceTooOld
            | Problem::AddressUnproven
            | Problem::OnceNetworkFull
            | Problem::Busy
            | Problem::RequestTooHeavy,
        ) => true,
        Some(_) => false,
    }
}
