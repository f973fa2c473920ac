//! Requests in the compact format: one reply for each that is owed one.

use std::time::Duration;

use super::Desk;
use super::answers::Place;
use crate::node::shared::Shared;
use crate::replica::once::{self, Admission, Caller};
use crate::sketch::HashFamily;
use crate::wire::SketchNumber;
use crate::wire::compact::{
    self, BOUNDS_ANSWER_BYTES, COOKIE_ANSWER_BYTES_MAX, COUNT_ANSWER_BYTES, HASH_FNV, HASH_XXH3,
    INFO_BEHIND_COOKIE_BYTES, Info, Once, Operation, PREFIX_BYTES, Problem, REPLY_HEAD_BYTES,
    Rejected, ReplyHead, Request, encode_cookie,
};

// What the format promises to clients is what the table keeps.
const _: () = assert!(once::WINDOW == compact::ONCE_WINDOW);
const _: () = assert!(once::RETRY_LIMIT.as_secs() == compact::ONCE_RETRY_S_MAX);
const _: () = assert!(once::COOKIE_BYTES == compact::COOKIE_BYTES_MAX);
// The shortest request that is asked for a cookie has room for it in its reply.
const _: () = assert!(
    COOKIE_ANSWER_BYTES_MAX + REPLY_HEAD_BYTES <= compact::reply_bytes_max(ONCE_REQUEST_BYTES_MIN)
);

/// Prefix, sketch, boot, client, and the sequence.
const ONCE_REQUEST_BYTES_MIN: usize = PREFIX_BYTES + 1 + 8 + 8 + 1;

/// The answer to info, which stays the same, but for the cookie.
pub(super) fn encode_info(shared: &Shared) -> Box<[u8]> {
    let own = shared.replica().own();
    let info = Info {
        boot: shared.boot(),
        fingerprint: shared.fingerprint(),
        width: own.geometry().width() as u64,
        max_weight: shared.max_weight(),
        // At most 32.
        depth: own.geometry().depth() as u8,
        hash: match own.family() {
            HashFamily::Xxh3 { .. } => HASH_XXH3,
            HashFamily::Fnv => HASH_FNV,
        },
        version: env!("CARGO_PKG_VERSION").as_bytes(),
        cluster_port: shared.cluster_port(),
        cookie: &[0; once::COOKIE_BYTES],
        writer: shared.replica().own_slice().writer,
    };
    compact::encode_info(&info).into_boxed_slice()
}

impl Desk {
    pub(super) fn compact(&mut self, shared: &Shared, datagram: &[u8]) {
        self.tally.compact += 1;
        match self.admit(shared, datagram) {
            Ok((request, repeated)) => self.perform(shared, &request, repeated, datagram.len()),
            Err(Rejected { problem, id }) => {
                self.tally.problem(problem);
                if let Some(id) = id {
                    self.answers.begin_compact(datagram.len());
                    if problem == Problem::AddressUnproven {
                        self.give_cookie(shared);
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

    /// The request, and whether it was applied before.
    #[inline]
    fn admit<'a>(
        &mut self,
        shared: &Shared,
        datagram: &'a [u8],
    ) -> Result<(Request<'a>, bool), Rejected> {
        let request = compact::request(datagram)?;
        let admitted = match (request.sketch, request.once) {
            (SketchNumber::DEFAULT, None) => Ok(false),
            (SketchNumber::DEFAULT, Some(once)) => self.admit_once(shared, once, request.cookie),
            _ => Err(Problem::UnknownSketch),
        };
        match admitted {
            Ok(repeated) => Ok((request, repeated)),
            Err(problem) => Err(Rejected {
                problem,
                id: Some(request.id),
            }),
        }
    }

    fn admit_once(
        &mut self,
        shared: &Shared,
        once: Once,
        cookie: Option<&[u8]>,
    ) -> Result<bool, Problem> {
        if once.boot != shared.boot() {
            return Err(Problem::WrongBoot);
        }
        let caller = Caller {
            client: once.client,
            ip: self.from,
            cookie,
        };
        let now = self.now(shared);
        match shared.once().admit(caller, once.sequence, now) {
            Admission::New => Ok(false),
            Admission::Repeat => {
                self.tally.repeats += 1;
                Ok(true)
            }
            Admission::TooOld => Err(Problem::SequenceTooOld),
            Admission::Unproven => Err(Problem::AddressUnproven),
            Admission::NetworkFull => Err(Problem::OnceNetworkFull),
            Admission::Full => Err(Problem::OnceTableFull),
        }
    }

    fn give_cookie(&mut self, shared: &Shared) {
        let cookie = self.cookie(shared);
        if let Ok(at) = self.reserve(COOKIE_ANSWER_BYTES_MAX) {
            self.answers.write(at, &encode_cookie(&cookie));
        }
    }

    /// For whom the train at hand is from: made once a train.
    fn cookie(&mut self, shared: &Shared) -> [u8; once::COOKIE_BYTES] {
        let now = self.now(shared);
        let fresh = || shared.once().cookie(self.from, now);
        *self.cookie.get_or_insert_with(fresh)
    }

    fn now(&mut self, shared: &Shared) -> Duration {
        *self.now.get_or_insert_with(|| shared.now())
    }

    #[inline]
    fn perform(
        &mut self,
        shared: &Shared,
        request: &Request<'_>,
        repeated: bool,
        request_bytes: usize,
    ) {
        let mut is_owed = request.acknowledge || request.once.is_some();
        // No datagram holds more: an operation that needs no room in the reply has two bytes.
        let mut done = 0_u16;
        let mut stopped_by = None;
        self.answers.begin_compact(request_bytes);
        for operation in request.operations() {
            let performed = match operation {
                Ok(Operation::Add { key, weight }) => {
                    self.add_compact(shared, key, weight, repeated)
                }
                Ok(question) => {
                    is_owed = true;
                    self.answer(shared, question, repeated)
                }
                Err(stopped) => {
                    is_owed |= stopped.asks;
                    Err(stopped.problem)
                }
            };
            if let Err(problem) = performed {
                self.tally.problem(problem);
                stopped_by = Some(problem);
                break;
            }
            done = done.saturating_add(1);
        }
        self.answers.end_compact(is_owed.then_some(ReplyHead {
            id: request.id,
            repeated,
            done,
            code: stopped_by.map_or(0, Problem::code),
        }));
    }

    #[inline]
    fn add_compact(
        &mut self,
        shared: &Shared,
        key: &[u8],
        weight: u64,
        repeated: bool,
    ) -> Result<(), Problem> {
        let weight = self.checked(weight)?;
        if !repeated {
            self.tally.add += 1;
            self.add(shared, key, weight);
        }
        Ok(())
    }

    #[inline]
    fn answer(
        &mut self,
        shared: &Shared,
        question: Operation<'_>,
        repeated: bool,
    ) -> Result<(), Problem> {
        match question {
            Operation::Add { key, weight } => {
                return self.add_compact(shared, key, weight, repeated);
            }
            Operation::Count { key } => {
                let at = self.reserve(COUNT_ANSWER_BYTES)?;
                self.tally.count += 1;
                self.count(shared, key, Place::Count { at });
            }
            Operation::Hit {
                key,
                weight,
                limit,
                window_ms,
            } => {
                let weight = self.checked(weight)?;
                if window_ms != 0 {
                    return Err(Problem::UnknownWindow);
                }
                let at = self.reserve(COUNT_ANSWER_BYTES)?;
                self.tally.hit += 1;
                let weight = if repeated { 0 } else { weight };
                self.hit(shared, key, weight, Place::Hit { at, limit });
            }
            Operation::Bounds { key } => {
                let at = self.reserve(BOUNDS_ANSWER_BYTES)?;
                self.tally.bounds += 1;
                // What other threads have under way may be in cells already and not in N yet.
                let total_weight = shared.replica().total_weight();
                let total_weight = total_weight.saturating_add(self.batch.weight());
                self.count(shared, key, Place::Bounds { at, total_weight });
            }
            Operation::Info => {
                let at = self.reserve(self.info.len())?;
                self.tally.info += 1;
                let cookie = self.cookie(shared);
                let behind = self.info.len().saturating_sub(INFO_BEHIND_COOKIE_BYTES);
                if let Some(out) = self.info[..behind].last_chunk_mut() {
                    *out = cookie;
                }
                self.answers.write(at, &self.info);
            }
        }
        Ok(())
    }

    /// The weight, if this node takes it.
    #[inline]
    fn checked(&self, weight: u64) -> Result<u32, Problem> {
        match u32::try_from(weight) {
            Ok(weight) if weight <= self.max_weight => Ok(weight),
            _ => Err(Problem::WeightTooLarge),
        }
    }

    #[inline]
    fn reserve(&mut self, bytes: usize) -> Result<usize, Problem> {
        self.answers.reserve(bytes).ok_or(Problem::ReplyTooLarge)
    }
}
