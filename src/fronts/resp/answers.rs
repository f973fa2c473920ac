//! Replies in the order of their commands. What is known is written at once; a place is kept where an answer is
//! awaited, and answers come in any order.

use crate::engine::{Answer, LimitsAnswer};
use rmbd_proto::resp::{INTEGER_REPLY_BYTES_MAX, ReplyWriter, Version};

/// Answers that may be awaited at once. More do not make the pipeline of the sketch fuller.
pub(super) const AWAITED_MAX: usize = 1_024;
/// Bytes of replies that are known, for which there is room from the start.
const TEXT_BYTES: usize = 16 << 10;
/// Bytes of a reply to a verdict at most: a list of five numbers.
const VERDICT_BYTES_MAX: usize = 4 + 5 * INTEGER_REPLY_BYTES_MAX;

/// Which answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Number(u32),
    Verdict(u32),
}

/// How a verdict is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Allowed, estimate, what is left, and milliseconds to wait.
    Verdict,
    /// As `CL.THROTTLE` has it, of a limit and its window.
    Throttle { limit: u64, window_s: u64 },
}

/// Too much was added. The first word is what clients know as: try again.
pub(super) const TRY_AGAIN: &[u8] =
    b"TRYAGAIN more weight came than can be taken over at once: send it again in a moment";

/// Answers among the replies, which stand before byte `at` of the text.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    what: Awaited,
}

#[derive(Debug, Clone, Copy)]
enum Awaited {
    /// So many numbers, one behind the other.
    Numbers(u32),
    Verdict,
}

/// The replies of one connection that are not sent yet.
#[derive(Debug)]
pub(super) struct Answers {
    text: Vec<u8>,
    places: Vec<Place>,
    numbers: Vec<u64>,
    verdicts: Vec<(Form, Option<LimitsAnswer>)>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            text: Vec::with_capacity(TEXT_BYTES),
            places: Vec::with_capacity(AWAITED_MAX),
            numbers: Vec::with_capacity(AWAITED_MAX),
            verdicts: Vec::with_capacity(AWAITED_MAX),
        }
    }
}

impl Answers {
    /// Writes what is known.
    #[inline]
    pub(super) fn reply(&mut self, version: Version) -> ReplyWriter<'_> {
        ReplyWriter::new(&mut self.text, version)
    }

    /// Keeps a place for a number.
    #[inline]
    pub(super) fn await_number(&mut self) -> Slot {
        let slot = Slot::Number(self.numbers.len() as u32);
        self.numbers.push(0);
        match self.places.last_mut() {
            Some(Place {
                at,
                what: Awaited::Numbers(count),
            }) if *at == self.text.len() => *count += 1,
            _ => self.keep(Awaited::Numbers(1)),
        }
        slot
    }

    /// Keeps a place for a verdict.
    pub(super) fn await_verdict(&mut self, form: Form) -> Slot {
        let slot = Slot::Verdict(self.verdicts.len() as u32);
        self.verdicts.push((form, None));
        self.keep(Awaited::Verdict);
        slot
    }

    #[inline]
    fn keep(&mut self, what: Awaited) {
        let at = self.text.len();
        self.places.push(Place { at, what });
    }

    /// What was awaited last was not asked, since too much was added.
    #[cold]
    pub(super) fn fail_last(&mut self) {
        match self.places.last_mut().map(|place| &mut place.what) {
            Some(Awaited::Numbers(count @ 2..)) => {
                *count -= 1;
                self.numbers.pop();
            }
            Some(Awaited::Numbers(_)) => {
                self.places.pop();
                self.numbers.pop();
            }
            Some(Awaited::Verdict) => {
                self.places.pop();
                self.verdicts.pop();
            }
            None => {}
        }
        // It is written alike in both versions.
        self.reply(Version::Resp2).error(TRY_AGAIN);
    }

    /// Whether no more should be awaited.
    #[inline]
    pub(super) fn are_many(&self) -> bool {
        self.numbers.len() + self.verdicts.len() >= AWAITED_MAX
    }

    /// Bytes of all that waits here, at most.
    #[inline]
    pub(super) fn bytes_max(&self) -> usize {
        let numbers = self.numbers.len() * INTEGER_REPLY_BYTES_MAX;
        self.text.len() + numbers + self.verdicts.len() * VERDICT_BYTES_MAX
    }

    /// Takes an answer.
    #[inline]
    pub(super) fn fill(&mut self, slot: Slot, answer: &Answer) {
        match (slot, answer) {
            (Slot::Number(at), answer) => {
                if let Some(number) = self.numbers.get_mut(at as usize) {
                    *number = answer.estimate().count;
                }
            }
            (Slot::Verdict(at), Answer::Limits(verdict)) => {
                if let Some(place) = self.verdicts.get_mut(at as usize) {
                    place.1 = Some(*verdict);
                }
            }
            _ => {}
        }
    }

    /// Writes all replies behind `out`, and begins anew. All that was awaited must have come.
    #[inline]
    pub(super) fn move_to(&mut self, out: &mut Vec<u8>) {
        let mut start = 0;
        let mut numbers = self.numbers.iter();
        let mut verdicts = self.verdicts.iter();
        for place in &self.places {
            out.extend_from_slice(&self.text[start..place.at]);
            start = place.at;
            // Both are written alike in both versions.
            let mut reply = ReplyWriter::new(out, Version::Resp2);
            match place.what {
                Awaited::Numbers(count) => {
                    let numbers = numbers.by_ref().take(count as usize);
                    numbers.for_each(|&number| reply.integer(number));
                }
                Awaited::Verdict => match verdicts.next() {
                    Some(&(form, Some(verdict))) => write_verdict(&verdict, form, &mut reply),
                    _ => reply.error(TRY_AGAIN),
                },
            }
        }
        out.extend_from_slice(&self.text[start..]);
        self.text.clear();
        self.places.clear();
        self.numbers.clear();
        self.verdicts.clear();
    }
}

fn write_verdict(verdict: &LimitsAnswer, form: Form, reply: &mut ReplyWriter<'_>) {
    let is_allowed = !verdict.is_over;
    let wait_ms = |unit_ms: u64| {
        let wait = verdict.retry_after?;
        u64::try_from(wait.as_nanos().div_ceil(u128::from(unit_ms) * 1_000_000)).ok()
    };
    match form {
        Form::Throttle { limit, window_s } => {
            reply.array(5);
            reply.integer(u64::from(!is_allowed));
            reply.integer(limit);
            reply.integer(verdict.remaining);
            // Rounded up, so that nobody comes too early.
            match wait_ms(1_000).filter(|_| !is_allowed) {
                Some(seconds) => reply.integer(seconds),
                None => reply.signed(-1),
            }
            // What was counted last is forgotten when the window has passed.
            reply.integer(if verdict.estimate > 0 { window_s } else { 0 });
        }
        _ => {
            reply.array(4);
            reply.integer(u64::from(is_allowed));
            reply.integer(verdict.estimate);
            reply.integer(verdict.remaining);
            match wait_ms(1) {
                _ if is_allowed => reply.integer(0),
                Some(ms) => reply.integer(ms),
                None => reply.signed(-1),
            }
        }
    }
}
