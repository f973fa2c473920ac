//! Legacy messages: 141 bytes each, back to back; an answer carries its key.

use rmbd::wire::legacy::{MESSAGE_BYTES, write_add, write_count};

use super::Train;
use crate::flight::queue::{Question, check};
use crate::judge::ledger::Claim;
use crate::plan::script::{Kind, Script};

/// Adds a datagram of the next `messages` messages, and returns how many those are.
pub(super) fn datagram(
    train: &mut Train,
    script: &mut Script,
    messages: usize,
    planned_ns: u64,
) -> usize {
    for _ in 0..messages {
        let (kind, key) = script.next();
        message(train, kind, key, planned_ns);
    }
    train.end_datagram();
    messages
}

/// Adds a count, into the last datagram if that is not full.
pub(super) fn fence(train: &mut Train, pack: usize, key: &[u8], planned_ns: u64) {
    // Only the last datagram of a train may be shorter than the others.
    let full_bytes = train.ends.len() * pack * MESSAGE_BYTES;
    if train.len < full_bytes {
        train.ends.pop();
        train.contents.datagrams -= 1;
    }
    message(train, Kind::Count, key, planned_ns);
    train.end_datagram();
}

#[inline]
fn message(train: &mut Train, kind: Kind, key: &[u8], planned_ns: u64) {
    let Some(slot) = train.bytes[train.len..].first_chunk_mut() else {
        debug_assert!(false, "a train has room for its datagrams");
        return;
    };
    train.len += MESSAGE_BYTES;
    match kind {
        Kind::Add => {
            write_add(key, slot);
            train.contents.adds += 1;
            train.adds_uncovered += 1;
        }
        Kind::Count => {
            write_count(key, slot);
            train.contents.counts += 1;
            train.questions.push(Question {
                planned_ns,
                sent_ns: 0,
                check: check(key),
                covers: train.adds_uncovered + 1,
                claim: Claim::NONE,
            });
            train.adds_uncovered = 0;
        }
        // No such load begins.
        Kind::Hit => debug_assert!(false, "the legacy format has no hits"),
    }
}
