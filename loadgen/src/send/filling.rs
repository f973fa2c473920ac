//! A train that is being filled.

use super::train::Train;
use crate::flight::Question;
use crate::plan::Load;
use crate::record::Sent;

/// A train that is being filled, with its content.
pub(super) struct Filling {
    pub(super) train: Train,
    pub(super) contents: Sent,
    /// Number of messages that came from the script; fences do not.
    pub(super) scripted: u64,
    /// The questions, in the order of their messages. Their `sent_ns` is set when they leave.
    pub(super) questions: Vec<Question>,
    /// Number of questions up to the end of each datagram.
    pub(super) question_ends: Vec<usize>,
    /// The keys of adds that go into a diary.
    pub(super) noted_adds: Vec<u32>,
    /// Number of adds since the last question.
    pub(super) adds_uncovered: u32,
}

impl Filling {
    /// A train for a load, with room for all that the load may ask.
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
            noted_adds: Vec::with_capacity(datagrams_max * load.pack),
            adds_uncovered: 0,
        }
    }

    /// Ends the datagram that is being written into the train.
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

    /// Opens the last datagram again, to write more into it.
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
        self.noted_adds.clear();
        self.adds_uncovered = 0;
        std::mem::take(&mut self.contents)
    }
}
