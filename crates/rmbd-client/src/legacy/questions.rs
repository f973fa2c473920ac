//! Counts that are asked for together, and their answers.

use super::MESSAGES_PER_DATAGRAM;
use rmbd_proto::legacy::encode_count;

/// Counts that are asked for together.
///
/// An answer carries its key, and any answer to a key will do for all who ask for that key: all
/// were asked in this call. So answers may be lost, doubled and reordered.
pub(super) struct Questions<'k, K> {
    keys: &'k [K],
    counts: Vec<Option<u64>>,
    answered: usize,
    /// Where the next answer belongs if nothing was lost.
    next: usize,
}

impl<'k, K: AsRef<[u8]>> Questions<'k, K> {
    pub(super) fn new(keys: &'k [K]) -> Self {
        Self {
            keys,
            counts: vec![None; keys.len()],
            answered: 0,
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    /// The counts that were answered, in the order of the keys.
    pub(super) fn counts(self) -> impl Iterator<Item = u64> {
        self.counts.into_iter().flatten()
    }

    /// What is not answered yet, packed.
    pub(super) fn datagrams(&self) -> Vec<Vec<u8>> {
        let open: Vec<_> = (self.keys.iter().zip(&self.counts))
            .filter(|(_, count)| count.is_none())
            .map(|(key, _)| encode_count(key.as_ref()))
            .collect();
        open.chunks(MESSAGES_PER_DATAGRAM)
            .map(|messages| messages.as_flattened().to_vec())
            .collect()
    }

    /// Takes an answer; one that answers nothing is ignored.
    pub(super) fn answer(&mut self, key: &[u8], count: u64) {
        let asked = |&at: &usize| self.counts[at].is_none() && self.keys[at].as_ref() == key;
        let mut from_next = (self.next..self.len()).chain(0..self.next);
        if let Some(at) = from_next.find(asked) {
            self.counts[at] = Some(count);
            self.answered += 1;
            self.next = at + 1;
        }
    }
}
