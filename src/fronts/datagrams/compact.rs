//! Requests in the compact format: one reply for each that is owed one.

use std::time::Duration;

use super::{ClientPort, Desk};
use crate::engine::limits::AMOUNTS_MAX;
use crate::engine::{Admitted, Numbered, REQUEST_WEIGHT_MAX, Refusal, Turn};
use rmbd_proto::compact::{
    self, COOKIE_ANSWER_BYTES_MAX, Once, Operation, PREFIX_BYTES, Problem, REPLY_HEAD_BYTES,
    Rejected, ReplyHead, Request, encode_cookie,
};
use rmbd_sketch::Weight;
use rmbd_store::once::{self, Caller};

// What the format promises to clients is what the table keeps.
const _: () = assert!(once::WINDOW == compact::ONCE_WINDOW);
const _: () = assert!(AMOUNTS_MAX == compact::LIMIT_PARTS_MAX);
const _: () = assert!(once::RETRY_LIMIT.as_secs() == compact::ONCE_RETRY_S_MAX);
const _: () = assert!(once::COOKIE_BYTES == compact::COOKIE_BYTES_MAX);
// The shortest request that is asked for a cookie has room for it in its reply.
const _: () = assert!(
    COOKIE_ANSWER_BYTES_MAX + REPLY_HEAD_BYTES <= compact::reply_bytes_max(ONCE_REQUEST_BYTES_MIN)
);

/// Prefix, sketch, boot, client, and the sequence.
const ONCE_REQUEST_BYTES_MIN: usize = PREFIX_BYTES + 1 + 8 + 8 + 1;

impl Desk {
    pub(super) fn compact(&mut self, port: &ClientPort, datagram: &[u8]) {
        self.tally.requests += 1;
        match self.admit(port, datagram) {
            Ok((request, admitted)) => self.perform(port, &request, admitted, datagram.len()),
            Err(Rejected { problem, id }) => {
                self.tally.problem(problem);
                if let Some(id) = id {
                    self.answers.begin_compact(datagram.len());
                    if problem == Problem::AddressUnproven {
                        self.give_cookie(port);
                    }
                    self.answers.end_compact(Some(ReplyHead {
                        id,
                        code: problem.code(),
                        ..ReplyHead::default()
                    }));
                }
            }
        }
    }

    /// The request, and whether it is to be applied.
    #[inline]
    fn admit<'a>(
        &mut self,
        port: &ClientPort,
        datagram: &'a [u8],
    ) -> Result<(Request<'a>, Admitted), Rejected> {
        let request = compact::request(datagram)?;
        match self.judge(port, &request, datagram.len() as u64) {
            Ok(admitted) => Ok((request, admitted)),
            Err(refused) => Err(Rejected {
                problem: problem(refused),
                id: Some(request.id),
            }),
        }
    }

    #[inline]
    fn judge(
        &mut self,
        port: &ClientPort,
        request: &Request<'_>,
        request_bytes: u64,
    ) -> Result<Admitted, Refusal> {
        let sketch = self.session.open(request.sketch)?;
        // Before it is marked as applied: all of it is, or nothing.
        let bound = request_bytes * self.byte_weight;
        let sum = || sum_of_weights(request);
        self.session.provide(sketch, bound, sum)?;
        let Some(once) = request.once else {
            return Ok(Admitted::to(sketch));
        };
        self.prepare_once(request)?;
        Ok(Admitted {
            sketch,
            turn: self.admit_once(port, once, request.cookie)?,
            once: Some((once.client, once.sequence)),
        })
    }

    /// What else has to hold before a request is marked as applied: it takes once at most, and all that it adds in
    /// other sketches may be added.
    #[cold]
    fn prepare_once(&mut self, request: &Request<'_>) -> Result<(), Refusal> {
        let (all, mut takes) = (sum_of_weights(request), 0);
        for operation in request.operations().map_while(Result::ok) {
            takes += u32::from(operation.may_take());
            match operation {
                Operation::Limits(limits) => {
                    for part in limits.parts() {
                        let sketch = self.session.open(part.sketch)?;
                        self.session.provide(sketch, all, || all)?;
                    }
                }
                Operation::HitByName { name, .. } => self.session.provide_named(name)?,
                _ => {}
            }
        }
        if takes > 1 {
            return Err(Refusal::TakesOnce);
        }
        Ok(())
    }

    fn admit_once(
        &mut self,
        port: &ClientPort,
        once: Once,
        cookie: Option<&[u8]>,
    ) -> Result<Turn, Refusal> {
        let caller = Caller {
            client: once.client,
            ip: self.from,
            cookie,
        };
        let numbered = Numbered {
            boot: once.boot,
            caller,
            sequence: once.sequence,
        };
        let now = self.now(port);
        self.session.admit(numbered, now)
    }

    fn give_cookie(&mut self, port: &ClientPort) {
        let now = self.now(port);
        let cookie = self.session.cookie(self.from, now);
        if let Ok(at) = self.reserve(COOKIE_ANSWER_BYTES_MAX) {
            self.answers.write(at, &encode_cookie(&cookie));
        }
    }

    pub(super) fn now(&mut self, port: &ClientPort) -> Duration {
        *self.now.get_or_insert_with(|| port.shared().now())
    }

    #[inline]
    fn perform(
        &mut self,
        port: &ClientPort,
        request: &Request<'_>,
        admitted: Admitted,
        request_bytes: usize,
    ) {
        let mut is_owed = request.acknowledge || request.once.is_some();
        // No datagram holds more: an operation that needs no room in the reply has two bytes.
        let mut done = 0_u16;
        let mut stopped_by = None;
        self.answers.begin_compact(request_bytes);
        for operation in request.operations() {
            let place = self.answers.place();
            let performed = match operation {
                Ok(operation) => {
                    is_owed |= operation.has_answer();
                    self.apply(port, operation, admitted)
                }
                Err(stopped) => {
                    is_owed |= stopped.asks;
                    Err(stopped.problem)
                }
            };
            if let Err(problem) = performed {
                self.answers.back_to(place);
                self.tally.problem(problem);
                stopped_by = Some(problem);
                break;
            }
            done = done.saturating_add(1);
        }
        self.answers.end_compact(is_owed.then_some(ReplyHead {
            id: request.id,
            repeated: admitted.turn == Turn::Repeat,
            done,
            code: stopped_by.map_or(0, Problem::code),
        }));
    }

    /// Room for an answer.
    #[inline]
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<usize, Problem> {
        self.answers.reserve(bytes).ok_or(Problem::ReplyTooLarge)
    }
}

/// How the format says it.
#[cold]
pub(super) fn problem(refused: Refusal) -> Problem {
    match refused {
        Refusal::UnknownSketch => Problem::UnknownSketch,
        Refusal::UnknownWindow => Problem::UnknownWindow,
        Refusal::NoTopList => Problem::NoTopList,
        Refusal::UnknownLimit => Problem::UnknownLimit,
        Refusal::TakesOnce => Problem::TakesOnce,
        Refusal::WeightTooLarge => Problem::WeightTooLarge,
        Refusal::WrongBoot => Problem::WrongBoot,
        Refusal::SequenceTooOld => Problem::SequenceTooOld,
        Refusal::AddressUnproven => Problem::AddressUnproven,
        Refusal::OnceNetworkFull => Problem::OnceNetworkFull,
        Refusal::OnceTableFull => Problem::OnceTableFull,
        Refusal::Exhausted(_) | Refusal::Undecided | Refusal::TooManyPardons => Problem::Busy,
        Refusal::TooHeavy => Problem::RequestTooHeavy,
    }
}

/// What a byte of a request may weigh at most: an operation has one for its kind, one for the length of its key, and
/// those of its weight.
pub(super) fn byte_weight(max_weight: Weight) -> u64 {
    let (max_weight, mut bytes) = (u64::from(max_weight), 2);
    let mut rest = max_weight >> 7;
    while rest > 0 {
        rest >>= 7;
        bytes += 1;
    }
    max_weight.div_ceil(bytes).max(1)
}

/// All that a request would add, as far as it is understood; what is above the limit of a request is cut.
#[cold]
fn sum_of_weights(request: &Request<'_>) -> u64 {
    let mut sum = 0_u64;
    for operation in request.operations() {
        let Ok(operation) = operation else {
            break;
        };
        sum = sum.saturating_add(operation.weight());
        if sum > REQUEST_WEIGHT_MAX {
            break;
        }
    }
    sum
}
