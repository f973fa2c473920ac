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

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Number,
    /// It was not asked, since too much was added.
    TooMuch,
    /// Allowed, estimate, what is left, and milliseconds to wait.
    Verdict,
    /// As `CL.THROTTLE` has it, of a limit and its window.
    Throttle {
        limit: u64,
        window_s: u64,
    },
}

/// Too much was added. The first word is what clients know as: try again.
pub(super) const TRY_AGAIN: &[u8] =
    b"TRYAGAIN more weight came than can be taken over at once: send it again in a moment";

/// An answer among the replies.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// It stands before this byte of the text.
    at: usize,
    slot: Slot,
    form: Form,
}

/// The replies of one connection that are not sent yet.
#[derive(Debug)]
pub(super) struct Answers {
    text: Vec<u8>,
    places: Vec<Place>,
    numbers: Vec<u64>,
    verdicts: Vec<Option<LimitsAnswer>>,
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
        self.keep(slot, Form::Number);
        slot
    }

    /// Keeps a place for a verdict.
    pub(super) fn await_verdict(&mut self, form: Form) -> Slot {
        let slot = Slot::Verdict(self.verdicts.len() as u32);
        self.verdicts.push(None);
        self.keep(slot, form);
        slot
    }

    #[inline]
    fn keep(&mut self, slot: Slot, form: Form) {
        let at = self.text.len();
        self.places.push(Place { at, slot, form });
    }

    /// What was awaited last does not come.
    #[cold]
    pub(super) fn fail_last(&mut self) {
        if let Some(place) = self.places.last_mut() {
            place.form = Form::TooMuch;
        }
    }

    /// Whether no more should be awaited.
    #[inline]
    pub(super) fn are_many(&self) -> bool {
        self.places.len() >= AWAITED_MAX
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
                    *place = Some(*verdict);
                }
            }
            _ => {}
        }
    }

    /// Writes all replies behind `out`, and begins anew. All that was awaited must have come.
    #[inline]
    pub(super) fn move_to(&mut self, out: &mut Vec<u8>) {
        let mut start = 0;
        for place in &self.places {
            out.extend_from_slice(&self.text[start..place.at]);
            start = place.at;
            // Numbers are written alike in both versions.
            let mut reply = ReplyWriter::new(out, Version::Resp2);
            match (place.form, place.slot) {
                (Form::Number, Slot::Number(at)) => reply.integer(self.numbers[at as usize]),
                (form, Slot::Verdict(at)) if form != Form::TooMuch => {
                    match self.verdicts[at as usize] {
                        Some(verdict) => write_verdict(&verdict, form, &mut reply),
                        None => reply.error(TRY_AGAIN),
                    }
                }
                _ => reply.error(TRY_AGAIN),
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
