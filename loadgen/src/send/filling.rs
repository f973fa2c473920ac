//! A train that is being filled.

use super::train::Train;
use crate::flight::Question;
use crate::plan::Load;
use crate::record::Sent;

/// A train, and what is in it.
pub(super) struct Filling {
    pub(super) train: Train,
    pub(super) contents: Sent,
    /// Messages that came from the script; fences do not.
    pub(super) scripted: u64,
    /// In the order of their messages; their `sent_ns` is set when they leave.
    pub(super) questions: Vec<Question>,
    /// How many of them there are up to the end of each datagram.
    pub(super) question_ends: Vec<usize>,
    /// Adds since the last question.
    pub(super) adds_uncovered: u32,
}

impl Filling {
    /// A train for a load, with room for all that it may ask.
    pub(super) fn of(load: &Load) -> Self {
        let train = Train::of(load);
        // A fence may come behind a full train.
        let datagrams_max = train.datagrams_max() + 1;
        Self {
            train,
            contents: Sent::default(),
            scripted: 0,
            questions: Vec::with_capacity(datagrams_max * load.pack + 1),
            question_ends: Vec::with_capacity(datagrams_max),
            adds_uncovered: 0,
        }
    }

    /// Writing into the train's datagram has come to its end.
    pub(super) fn end_datagram(&mut self) {
        self.train.end_datagram();
        self.count_datagram();
    }

    /// Adds a datagram that was written elsewhere.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        self.train.push(datagram);
        self.count_datagram();
    }

    fn count_datagram(&mut self) {
        self.contents.datagrams += 1;
        self.question_ends.push(self.questions.len());
    }

    /// More will be written into the last datagram.
    pub(super) fn reopen_datagram(&mut self) {
        self.train.reopen_datagram();
        self.contents.datagrams -= 1;
        self.question_ends.pop();
    }

    pub(super) fn empty(&mut self) -> Sent {
        self.train.clear();
        self.scripted = 0;
        self.questions.clear();
        self.question_ends.clear();
        self.adds_uncovered = 0;
        std::mem::take(&mut self.contents)
    }
}
