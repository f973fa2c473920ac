//! Legacy messages: 141 bytes each, back to back; an answer carries its key.

use rmbd_proto::legacy::{MESSAGE_BYTES, write_add, write_count};

use super::filling::Filling;
use crate::flight::{Question, check};
use crate::judge::Claim;
use crate::plan::{Kind, Script};

/// Adds a datagram of the next `messages` messages, and returns their number.
pub(super) fn datagram(
    filling: &mut Filling,
    script: &mut Script,
    messages: usize,
    planned_ns: u64,
) -> usize {
    for _ in 0..messages {
        let (kind, key) = script.next();
        message(filling, kind, key, planned_ns);
    }
    filling.end_datagram();
    messages
}

/// Adds a count, into the last datagram if that is not full.
pub(super) fn fence(filling: &mut Filling, pack: usize, key: &[u8], planned_ns: u64) {
    // Only the last datagram of a train may be shorter than the others.
    let full_bytes = filling.contents.datagrams as usize * pack * MESSAGE_BYTES;
    if filling.train.bytes() < full_bytes {
        filling.reopen_datagram();
    }
    message(filling, Kind::Count, key, planned_ns);
    filling.end_datagram();
}

#[inline]
fn message(filling: &mut Filling, kind: Kind, key: &[u8], planned_ns: u64) {
    let Some(slot) = filling.train.append() else {
        return;
    };
    match kind {
        Kind::Add => {
            write_add(key, slot);
            filling.contents.adds += 1;
            filling.adds_uncovered += 1;
        }
        Kind::Count => {
            write_count(key, slot);
            filling.contents.counts += 1;
            filling.questions.push(Question {
                planned_ns,
                sent_ns: 0,
                check: check(key),
                covers: filling.adds_uncovered + 1,
                claim: Claim::NONE,
            });
            filling.adds_uncovered = 0;
        }
        // Loads with legacy hits are refused at the start.
        Kind::Hit => debug_assert!(false, "the legacy format has no hits"),
    }
}
