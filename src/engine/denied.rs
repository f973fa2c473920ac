//! Keys that limits with names deny: those of hits that wait for their verdicts, and what is told of them.

use std::sync::Arc;
use std::time::Duration;

use super::limits::NamedLimit;
use rmbd_store::{DeniedBook, DeniedList, DeniedSeat, KEY_BYTES_MAX};

/// A list tells of this span and the one before it, so that it covers 5 to 10 minutes: long enough for a client that
/// comes back now and then, short enough to say who is denied at present.
const SPAN: Duration = Duration::from_secs(300);

/// Hits of a session that may wait for their verdicts: as many as wait in some batches, each of which holds 16.
const WAITING_MAX: usize = 64;

/// Notes the keys of a session's denied hits. A verdict comes some hits later, when nobody has the key's bytes any
/// more, so they are kept until then.
#[derive(Debug)]
pub(super) struct Denier {
    seat: DeniedSeat,
    waiting: Box<[WaitingKey]>,
    next: usize,
}

/// The place of a key that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyPlace(u16);

#[derive(Debug, Clone)]
struct WaitingKey {
    is_taken: bool,
    /// A key that is longer than what is kept is noted without its bytes.
    len: usize,
    span: u64,
    bytes: [u8; KEY_BYTES_MAX + 1],
}

/// The keys that a limit denied most often of late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedAnswer {
    /// The keys, and what is known of all others.
    pub list: DeniedList,
    /// How long ago the list begins; at the start of the node's clock at the earliest.
    pub covered: Duration,
}

impl Denier {
    pub(super) fn new(book: &Arc<DeniedBook>) -> Self {
        let none = WaitingKey {
            is_taken: false,
            len: 0,
            span: 0,
            bytes: [0; KEY_BYTES_MAX + 1],
        };
        Self {
            seat: book.seat(),
            waiting: vec![none; WAITING_MAX].into(),
            next: 0,
        }
    }

    /// Whether another key may wait. Else the hits that wait are to be answered first.
    pub(super) fn has_room(&self) -> bool {
        !self.waiting[self.next].is_taken
    }

    /// Keeps the key of a hit until its verdict is there.
    pub(super) fn wait(&mut self, key: &[u8], now: Duration) -> KeyPlace {
        let at = self.next;
        self.next = (at + 1) % WAITING_MAX;
        let place = &mut self.waiting[at];
        place.is_taken = true;
        place.span = span_of(now);
        // One byte more than a key may have says that it is too long.
        place.len = key.len().min(KEY_BYTES_MAX + 1);
        place.bytes[..place.len].copy_from_slice(&key[..place.len]);
        KeyPlace(at as u16)
    }

    /// The verdict on a hit that waited is there.
    pub(super) fn decide(&mut self, KeyPlace(at): KeyPlace, limit: &NamedLimit, is_over: bool) {
        let Some(place) = self.waiting.get_mut(usize::from(at)) else {
            return;
        };
        place.is_taken = false;
        if is_over {
            self.seat
                .note(&limit.denied, &place.bytes[..place.len], place.span);
        }
    }

    /// A hit was not made.
    pub(super) fn forget(&mut self, KeyPlace(at): KeyPlace) {
        if let Some(place) = self.waiting.get_mut(usize::from(at)) {
            place.is_taken = false;
        }
    }

    /// The verdict on a hit that did not wait.
    pub(super) fn note(&mut self, key: &[u8], limit: &NamedLimit, is_over: bool, now: Duration) {
        if is_over {
            self.seat.note(&limit.denied, key, span_of(now));
        }
    }
}

impl DeniedAnswer {
    pub(super) fn of(book: &DeniedBook, limit: &NamedLimit, most: usize, now: Duration) -> Self {
        let list = book.list(&limit.denied, span_of(now), most);
        let begins = list.span.saturating_sub(1).saturating_mul(SPAN.as_secs());
        let covered = now.saturating_sub(Duration::from_secs(begins));
        Self { list, covered }
    }
}

fn span_of(now: Duration) -> u64 {
    now.as_secs() / SPAN.as_secs()
}
