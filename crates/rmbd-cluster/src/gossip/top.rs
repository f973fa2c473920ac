//! Lists of the largest keys that wait to go to one member.
//!
//! A member asks for what has changed of a list since the version that it has. What it is told is read when it is
//! written, entry by entry in the order of versions, so that it has all until some version whatever is lost behind it.

use std::collections::VecDeque;

use super::sketches::Sketches;
use rmbd_proto::cluster::{FrameWriter, SliceId, TopVersion};

/// Most bytes of lists that go to one member in a round, but for the rest of a datagram.
const BYTES_A_ROUND: usize = 16 << 10;
/// Lists that wait for one member at most. For others it asks again.
const LISTS_MAX: usize = 64;

/// The lists that a member has asked for.
#[derive(Debug, Default)]
pub(crate) struct TopQueue {
    /// What it has of them. The version moves on with what is written.
    waiting: VecDeque<TopVersion>,
    bytes_of_round: usize,
}

impl TopQueue {
    /// It has this version of a list, and asks for what has changed since.
    pub(crate) fn ask(&mut self, theirs: TopVersion) {
        let is_full = self.waiting.len() >= LISTS_MAX;
        let mut waiting = self.waiting.iter_mut();
        match waiting.find(|it| it.slice == theirs.slice) {
            Some(before) => *before = theirs,
            None if is_full => {}
            None => self.waiting.push_back(theirs),
        }
    }

    /// As many bytes may go as in a round.
    pub(crate) fn begin_round(&mut self) {
        self.bytes_of_round = 0;
    }

    /// Something may go now.
    pub(crate) fn has_some(&self) -> bool {
        !self.waiting.is_empty() && self.bytes_of_round < BYTES_A_ROUND
    }

    /// Writes as much as fits, and returns its bytes.
    pub(crate) fn write(&mut self, sketches: &Sketches, writer: &mut FrameWriter<'_>) -> usize {
        let before = writer.room();
        while self.has_some() {
            let Some(theirs) = self.waiting.front_mut() else {
                break;
            };
            let slices = sketches.get(theirs.slice.sketch);
            let changes = slices.and_then(|slices| slices.top_changes(theirs));
            let Some((head, entries)) = changes else {
                self.waiting.pop_front();
                continue;
            };
            let room = writer.room();
            let Some((to, is_all)) = writer.top(&theirs.slice, &head, entries.into_iter()) else {
                break;
            };
            self.bytes_of_round += room - writer.room();
            theirs.version = to;
            if is_all {
                self.waiting.pop_front();
            }
        }
        before - writer.room()
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// The lines that tell our versions of these lists, also where we have none.
pub(crate) fn versions(sketches: &Sketches, slices: &[SliceId]) -> Vec<TopVersion> {
    let version = |slice: &SliceId| {
        let of_sketch = sketches.get(slice.sketch);
        of_sketch.map(|slices| slices.top_version(slice))
    };
    slices.iter().filter_map(version).collect()
}
